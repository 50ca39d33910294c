//! Reads the id of a created job from the answer to its creation. The answer may be large: some sources echo the request.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use bytes::BytesMut;
use futures_util::{StreamExt as _, stream};
use tokio::{sync::Semaphore, time::timeout};

use super::headers;
use crate::{
    model::job::JobId,
    util::json_slice::{Pointers, Raw, Scan},
};

/// The most bytes before the id.
const MAX_HEAD: usize = 16 << 20;

/// An answer that needs more memory than this waits for a place.
const SMALL: usize = 64 << 10;

/// The places for answers whose id comes late. They bound the memory.
static PLACES: Semaphore = Semaphore::const_new(4);

/// The longest wait for a place.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// The longest id, as written.
const MAX_ID: usize = 8 << 10;

/// Reads an answer until the id is found. Returns the id or the reason for its absence, and the whole answer.
pub(super) async fn read(answer: reqwest::Response, id_at: &str) -> (Result<JobId, String>, Response) {
    let (mut parts, body) = http::Response::from(answer).into_parts();
    headers::strip(&mut parts.headers);
    let mut rest = Body::new(body).into_data_stream();
    let mut head = BytesMut::new();
    let mut scan = Scan::new(&Arc::new(Pointers::new([(id_at, MAX_ID)])));
    let (mut broken, mut place) = (None, None);
    let none = || format!("the answer has no id at `{id_at}`");
    let found = loop {
        let pushed = match rest.next().await {
            Some(Ok(chunk)) => {
                head.extend_from_slice(&chunk);
                scan.push(&chunk)
            }
            Some(Err(error)) => {
                broken = Some(error);
                break Err("the answer was cut before the id of the job".to_owned());
            }
            None => {
                break scan
                    .finish()
                    .map_err(|error| format!("{}: {error}", none()))
                    .and_then(|()| id(&scan, id_at).ok_or_else(none));
            }
        };
        if scan.values().is_settled() {
            break id(&scan, id_at).ok_or_else(none);
        }
        if let Err(error) = pushed {
            break Err(format!("{}: it is no JSON: {error}", none()));
        }
        if head.len() > SMALL && place.is_none() {
            match timeout(MAX_WAIT, PLACES.acquire()).await {
                Ok(Ok(free)) => place = Some(free),
                _ => {
                    break Err(format!(
                        "{} within {} KiB, and too many such answers are being read",
                        none(),
                        SMALL >> 10
                    ));
                }
            }
        }
        if head.len() > MAX_HEAD {
            break Err(format!("{} within {} MiB", none(), MAX_HEAD >> 20));
        }
    };
    let id = found.and_then(|id| id.parse::<JobId>().map_err(|error| error.to_string()));
    let (length, head) = (head.len(), head.freeze());
    let part = move |from: usize| {
        // It is free again once the last part was taken.
        let _place = &place;
        Ok(head.slice(from..head.len().min(from + SMALL)))
    };
    let read = stream::iter((0..length).step_by(SMALL).map(part)).chain(stream::iter(broken.map(Err)));
    let mut response = Response::new(Body::from_stream(read.chain(rest)));
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    (id, response)
}

/// The id that was found: a text or a number.
fn id(scan: &Scan, id_at: &str) -> Option<String> {
    let found = scan.values().at(id_at).filter(|raw| raw.text().is_some() || raw.number().is_some());
    found.and_then(Raw::word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(chunks: Vec<&'static str>) -> reqwest::Response {
        let chunks = stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>));
        http::Response::new(reqwest::Body::wrap_stream(chunks)).into()
    }

    async fn text(response: Response) -> bytes::Bytes {
        axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap()
    }

    #[tokio::test]
    async fn an_id_that_comes_late_is_found_and_the_answer_goes_on_whole() {
        let large: &'static str = "x".repeat(200 << 10).leak();
        for _ in 0..10 {
            let chunks = vec![r#"{"x":""#, large, large, r#"","id":"job_1"}"#];
            let (id, response) = read(answer(chunks.clone()), "/id").await;
            assert_eq!(id.unwrap().as_str(), "job_1");
            assert!(text(response).await == chunks.concat(), "it was changed");
        }
        assert_eq!(PLACES.available_permits(), 4, "each place is free again");
    }

    #[tokio::test]
    async fn the_answer_goes_on_whole() {
        for (chunks, id_at, found) in [
            (vec![r#"{"i"#, r#"d":"job_1","#, r#""x":[1,"#, "2]}"], "/id", Ok("job_1")),
            (vec![r#"{"data":{"id":12"#, "3", "}}"], "/data/id", Ok("123")),
            (vec!["\u{feff}{\"x\":NaN,", r#""id":"job_1","id":"job_2"}"#], "/id", Ok("job_1")),
            (vec![r#"{"id":"job_1","x":"#], "/id", Ok("job_1")),
            (vec!["12", "3"], "", Ok("123")),
            (vec!["{}"], "/id", Err("`/id`")),
            (vec![r#"{"id":null}"#], "/id", Err("`/id`")),
            (vec![r#"{"id":{"x":1}}"#], "/id", Err("`/id`")),
            (vec![r#"{"x":1,"#, r#""id":"job"#], "/id", Err("within its value")),
            (vec!["<html>"], "/id", Err("no JSON")),
        ] {
            let (id, response) = read(answer(chunks.clone()), id_at).await;
            match found {
                Ok(found) => assert_eq!(id.unwrap().as_str(), found),
                Err(reason) => assert!(id.unwrap_err().contains(reason), "{chunks:?}"),
            }
            assert_eq!(text(response).await, chunks.concat());
        }
    }
}
