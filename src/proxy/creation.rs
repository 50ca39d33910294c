//! Reads the id of a created job from the answer to its creation, and whether the job has ended already. The answer may be large:
//! some sources echo the request.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, http::header, response::Response};
use bytes::BytesMut;
use futures_util::{StreamExt as _, stream};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};

use super::headers;
use crate::{
    model::{job::JobId, status_answer::StatusClass},
    upstream::Profile,
    util::json_slice::{Pointers, Raw, Scan},
};

/// The most bytes before the id.
const MAX_HEAD: usize = 16 << 20;

/// An answer that needs more memory than this waits for a place.
const SMALL: usize = 64 << 10;

/// The longest id, and the longest status word, as written.
const MAX_WORD: usize = 8 << 10;

/// How long the status may come behind the id. A job whose status comes later is watched.
const STATUS_GRACE: Duration = Duration::from_secs(1);

/// A job that was created.
#[derive(Debug)]
pub(super) struct Created {
    pub(super) id: JobId,
    /// The answer says that it has ended, so there is nothing to watch.
    pub(super) is_final: bool,
}

/// Returns why an answer without its header names no job.
pub(super) fn no_header(profile: &Profile) -> String {
    let name = profile.create_location.as_ref().map_or("", |name| name.as_str());
    format!("the answer has no header {name}")
}

/// Returns whether an answer is a stream of events, from which no job is read.
pub(super) fn is_stream(answer: &reqwest::Response) -> bool {
    let media_type = answer.headers().get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    media_type.is_some_and(|value| value.to_ascii_lowercase().starts_with(b"text/event-stream"))
}

/// Reads an answer until the id and the status are found. Returns the job, or the reason for its absence, and the whole answer.
///
/// An answer that has a place gives it up after `silence` without a byte, so one that waits for a place gets it.
pub(super) async fn read(
    answer: reqwest::Response,
    id_at: &str,
    profile: &Profile,
    places: &Arc<Semaphore>,
    silence: Duration,
) -> (Result<Created, String>, Response) {
    let (mut parts, body) = http::Response::from(answer).into_parts();
    headers::strip(&mut parts.headers);
    let mut rest = Body::new(body).into_data_stream();
    let mut head = BytesMut::new();
    let status_at = [&profile.status_at, &profile.pending_while, &profile.failed_at].into_iter().flatten();
    let wanted = status_at.map(String::as_str).chain([id_at]).map(|pointer| (pointer, MAX_WORD));
    let mut scan = Scan::new(&Arc::new(Pointers::new(wanted)));
    let (mut broken, mut place) = (None, None);
    let none = || format!("the answer has no id at `{id_at}`");
    let mut status_by: Option<Instant> = None;
    // Only an answer that was read far enough tells of an end.
    let mut is_told = false;
    let found = loop {
        // A source may take long before it writes at all, and that costs no memory.
        let by = status_by.or_else(|| place.as_ref().map(|_| Instant::now() + silence));
        let next = match by {
            None => Ok(rest.next().await),
            Some(by) => timeout_at(by, rest.next()).await,
        };
        // Once the id is known, nothing that follows makes it another one.
        let known = id(&scan, id_at);
        let pushed = match next {
            Ok(Some(Ok(chunk))) => {
                head.extend_from_slice(&chunk);
                scan.push(&chunk)
            }
            Ok(Some(Err(error))) => {
                broken = Some(error);
                break known.ok_or_else(|| "the answer was cut before the id of the job".to_owned());
            }
            Ok(None) => {
                let whole = scan.finish().map_err(|error| format!("{}: {error}", none()));
                is_told = whole.is_ok();
                break known.map_or_else(|| whole.and_then(|()| id(&scan, id_at).ok_or_else(none)), Ok);
            }
            Err(_) => {
                break known
                    .ok_or_else(|| format!("{} before it stopped for {} s", none(), silence.as_secs()));
            }
        };
        let known = id(&scan, id_at);
        is_told = scan.values().is_settled();
        if is_told || (known.is_some() && pushed.is_err()) {
            break known.ok_or_else(none);
        }
        if known.is_some() {
            // The status may stand behind the result of a job that ran at once.
            if head.len() > SMALL && place.is_none() {
                place = Arc::clone(places).try_acquire_owned().ok();
            }
            if head.len() > MAX_HEAD || (head.len() > SMALL && place.is_none()) {
                break known.ok_or_else(none);
            }
            status_by = status_by.or_else(|| Some(Instant::now() + STATUS_GRACE));
            continue;
        }
        if let Err(error) = pushed {
            break Err(format!("{}: it is no JSON: {error}", none()));
        }
        if head.len() > SMALL && place.is_none() {
            // Those that have one read on, or lose it.
            match timeout(2 * silence, Arc::clone(places).acquire_owned()).await {
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
    let class = profile.status_in(&profile.status_at, scan.values()).1;
    let is_final = is_told && matches!(class, StatusClass::Finished(_));
    let id = found.and_then(|id| id.parse::<JobId>().map_err(|error| error.to_string()));
    let created = id.map(|id| Created { id, is_final });
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
    (created, response)
}

/// The id that was found: a text or a number.
fn id(scan: &Scan, id_at: &str) -> Option<String> {
    let found = scan.values().at(id_at).filter(|raw| raw.text().is_some() || raw.number().is_some());
    found.and_then(Raw::word)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn answer(chunks: Vec<&'static str>) -> reqwest::Response {
        let chunks = stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>));
        http::Response::new(reqwest::Body::wrap_stream(chunks)).into()
    }

    fn profile() -> Profile {
        Profile::of(&crate::upstream::SourceConfig::default()).unwrap()
    }

    const SILENCE: Duration = Duration::from_secs(30);

    fn places() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(1))
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_stops_before_its_id_loses_its_place_to_the_next() {
        let (places, large) = (places(), Bytes::from("x".repeat(100 << 10)));
        let begun = Bytes::from_static(br#"{"x":""#);
        let stops = stream::iter([Ok::<_, std::io::Error>(begun.clone()), Ok(large.clone())])
            .chain(stream::pending());
        let stops = http::Response::new(reqwest::Body::wrap_stream(stops)).into();
        let goes_on = [begun, large, Bytes::from_static(br#"","id":"job_1"}"#)].map(Ok::<_, std::io::Error>);
        let goes_on = http::Response::new(reqwest::Body::wrap_stream(stream::iter(goes_on))).into();
        let profile = profile();
        // What was read is passed on, and then needs no memory.
        let stopped = async { read(stops, "/id", &profile, &places, SILENCE).await.0 };
        let (stopped, found) = tokio::join!(stopped, read(goes_on, "/id", &profile, &places, SILENCE));
        let reason = stopped.unwrap_err();
        assert!(reason.contains("it stopped for 30 s"), "{reason}");
        assert_eq!(found.0.unwrap().id.as_str(), "job_1");
    }

    async fn text(response: Response) -> bytes::Bytes {
        axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap()
    }

    #[tokio::test]
    async fn an_id_that_comes_late_is_found_and_the_answer_goes_on_whole() {
        let large: &'static str = "x".repeat(200 << 10).leak();
        let places = places();
        for _ in 0..10 {
            let chunks = vec![r#"{"x":""#, large, large, r#"","id":"job_1"}"#];
            let (id, response) = read(answer(chunks.clone()), "/id", &profile(), &places, SILENCE).await;
            assert_eq!(id.unwrap().id.as_str(), "job_1");
            assert!(text(response).await == chunks.concat(), "it was changed");
        }
        assert_eq!(places.available_permits(), 1, "each place is free again");
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
            let (id, response) = read(answer(chunks.clone()), id_at, &profile(), &places(), SILENCE).await;
            match found {
                Ok(found) => assert_eq!(id.unwrap().id.as_str(), found),
                Err(reason) => assert!(id.unwrap_err().contains(reason), "{chunks:?}"),
            }
            assert_eq!(text(response).await, chunks.concat());
        }
    }

    #[tokio::test]
    async fn a_job_that_has_ended_is_told_from_one_that_goes_on() {
        let large = format!(r#"{{"id":"j","output":"{}","status":"completed"}}"#, "x".repeat(200 << 10));
        let large: &'static str = large.leak();
        for (body, is_final) in [
            (large, true),
            (r#"{"status":"completed","id":"j"}"#, true),
            (r#"{"id":"j","x":[1],"status":"failed"}"#, true),
            (r#"{"id":"j","status":"queued"}"#, false),
            (r#"{"id":"j","status":"a word of tomorrow"}"#, false),
            (r#"{"id":"j"}"#, false),
            (r#"{"id":"j","output":{"status":"completed"}}"#, false),
        ] {
            let (created, response) = read(answer(vec![body]), "/id", &profile(), &places(), SILENCE).await;
            assert_eq!(created.unwrap().is_final, is_final, "{body}");
            assert_eq!(text(response).await, body);
        }
    }
}
