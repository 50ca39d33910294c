//! Takes the id of a created job from the answer to its creation, which may be large: some sources send the request back.

use axum::{body::Body, response::Response};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use serde_json::Value;

use super::headers;
use crate::{job::JobId, json_slice::copy_value, upstream::status_word};

/// The id has to come within this many bytes.
const MAX_HEAD: usize = 16 << 20;

/// Reads an answer until the id is found. Returns it, or why there is none, and the answer, whole, to be sent on.
pub(super) async fn read(answer: reqwest::Response, id_at: &str) -> (Result<JobId, String>, Response) {
    let (mut parts, body) = http::Response::from(answer).into_parts();
    headers::strip(&mut parts.headers);
    let mut rest = Body::new(body).into_data_stream();
    let mut head = BytesMut::new();
    let mut next_try = 0;
    let mut broken = None;
    let found = loop {
        match rest.next().await {
            Some(Ok(chunk)) => head.extend_from_slice(&chunk),
            Some(Err(error)) => {
                broken = Some(error);
                break id_in(&head, id_at, false)
                    .ok_or("the answer was cut before the id of the job".to_owned());
            }
            None => break id_in(&head, id_at, true).ok_or(format!("the answer has no id at `{id_at}`")),
        }
        // Each try reads from the beginning: that they are ever farther apart keeps the work linear.
        if head.len() >= next_try {
            if let Some(id) = id_in(&head, id_at, false) {
                break Ok(id);
            }
            next_try = head.len() * 2;
        }
        if head.len() > MAX_HEAD {
            break Err(format!("the answer has no id at `{id_at}` within {} MiB", MAX_HEAD >> 20));
        }
    };
    let id = found.and_then(|id| id.parse::<JobId>().map_err(|error| error.to_string()));
    let read = stream::iter([Ok(Bytes::from(head))]).chain(stream::iter(broken.map(Err)));
    let mut response = Response::new(Body::from_stream(read.chain(rest)));
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    (id, response)
}

/// The id in the part of an answer that is there. A number may go on in the next part.
fn id_in(text: &[u8], id_at: &str, is_whole: bool) -> Option<String> {
    let mut found = Vec::new();
    if !copy_value(text, id_at, &mut found).ok()? {
        return None;
    }
    let value: Value = serde_json::from_slice(&found).ok()?;
    match value {
        Value::String(_) => status_word(&value),
        Value::Number(_) if is_whole => status_word(&value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_an_answer_has_the_id_or_not_yet() {
        let id = |text: &str, is_whole| id_in(text.as_bytes(), "/data/id", is_whole);
        assert_eq!(id(r#"{"data":{"id":"job_1","x":"#, false).as_deref(), Some("job_1"));
        assert_eq!(id(r#"{"data":{"id":"job_"#, false), None);
        assert_eq!(id(r#"{"data":{"id":12"#, false), None);
        assert_eq!(id(r#"{"data":{"id":123}}"#, true).as_deref(), Some("123"));
        assert_eq!(id(r#"{"data":{"id":null}}"#, true), None);
        assert_eq!(id("<html>", true), None);
    }

    fn answer(chunks: Vec<&'static str>) -> reqwest::Response {
        let chunks = stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>));
        http::Response::new(reqwest::Body::wrap_stream(chunks)).into()
    }

    async fn text(response: Response) -> Bytes {
        axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap()
    }

    #[tokio::test]
    async fn the_answer_goes_on_whole() {
        let (id, response) = read(answer(vec![r#"{"i"#, r#"d":"job_1","#, r#""x":[1,"#, "2]}"]), "/id").await;
        assert_eq!(id.unwrap().as_str(), "job_1");
        assert_eq!(text(response).await, r#"{"id":"job_1","x":[1,2]}"#);
        let (id, response) = read(answer(vec!["{}"]), "/id").await;
        assert!(id.unwrap_err().contains("`/id`"));
        assert_eq!(text(response).await, "{}");
    }
}
