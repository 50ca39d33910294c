use std::{collections::BTreeMap, path::Path};

use futures_util::TryStreamExt as _;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{
    deliver::message::Subject,
    model::job::{EventType, Outcome},
    util::units::Time,
};

const NOON: Time = Time(1_779_883_200_500);

fn message(outcome: Outcome, labels: &[(&str, &str)], reason: Option<&str>, body: Body) -> Message {
    let subject = Subject {
        source: "retab".to_owned(),
        job_id: "job_\"1\"".parse().unwrap(),
        kind: None,
        outcome: Some(outcome),
        status: None,
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>(),
        reason: reason.map(str::to_owned),
    };
    Message::job("evt_1".to_owned(), EventType::Ended(outcome), NOON, subject, body)
}

async fn streamed(payload: &Payload) -> Result<Vec<Bytes>, PayloadError> {
    payload.stream().await?.try_collect().await
}

fn read(payload: &Payload) -> String {
    let mut text = String::new();
    payload.reader().unwrap().read_to_string(&mut text).unwrap();
    text
}

fn spooled(folder: &Path, bytes: &[u8], size: u64) -> Body {
    let path = folder.join("job");
    std::fs::write(&path, bytes).unwrap();
    Body::Stored { body: crate::store::StoredBody::in_file(path), size }
}

#[tokio::test]
async fn an_envelope_has_the_order_of_the_contract_and_the_jobs_bytes() {
    let job = "{ \"z\" : 1e-400,\n\t\"a\": 1234567890123456789012345 ,\"z\":[ ] }\n";
    let labels = [("team", "bil\"ling"), ("a", "ü\n")];
    let payload = Payload::of(
        &message(Outcome::Completed, &labels, Some("not told"), Body::Inline(job.into())),
        Wrapping::Envelope,
    );
    let expected = format!(
        r#"{{"type":"job.completed","timestamp":"2026-05-27T12:00:00.500Z","id":"evt_1","source":"retab","job_id":"job_\"1\"","outcome":"completed","labels":{{"a":"ü\n","team":"bil\"ling"}},"data":{job}}}"#
    );
    assert_eq!(read(&payload), expected);
    assert_eq!(payload.len(), expected.len() as u64);
    assert_eq!(streamed(&payload).await.unwrap().concat(), expected.as_bytes());
    serde_json::from_str::<&serde_json::value::RawValue>(&expected).unwrap();
}

#[test]
fn a_lost_job_says_why_and_may_have_no_data() {
    let message = message(Outcome::Lost, &[], Some("past its deadline"), Body::Null);
    assert_eq!(
        read(&Payload::of(&message, Wrapping::Envelope)),
        r#"{"type":"job.lost","timestamp":"2026-05-27T12:00:00.500Z","id":"evt_1","source":"retab","job_id":"job_\"1\"","outcome":"lost","labels":{},"reason":"past its deadline","data":null}"#
    );
    assert_eq!(read(&Payload::of(&message, Wrapping::Raw)), "null");
}

#[test]
fn progress_has_a_status_and_no_outcome() {
    let mut message = message(Outcome::Failed, &[], None, Body::Inline("{\"a\":1}".into()));
    message.event_type = EventType::STARTED.as_str().to_owned();
    let subject = message.subject.as_mut().unwrap();
    (subject.outcome, subject.status) = (None, Some("in_progress".to_owned()));
    assert_eq!(
        read(&Payload::of(&message, Wrapping::Envelope)),
        r#"{"type":"job.started","timestamp":"2026-05-27T12:00:00.500Z","id":"evt_1","source":"retab","job_id":"job_\"1\"","outcome":null,"status":"in_progress","labels":{},"data":{"a":1}}"#
    );
}

#[test]
fn a_test_event_is_about_no_job() {
    let message = Message::test("evt_t".to_owned(), NOON, "it \"works\"");
    assert_eq!(
        read(&Payload::of(&message, Wrapping::Envelope)),
        r#"{"type":"tidings.test","timestamp":"2026-05-27T12:00:00.500Z","id":"evt_t","data":{"message":"it \"works\""}}"#
    );
}

#[tokio::test]
async fn a_file_is_streamed_in_bounded_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let job: Vec<u8> = (0..300_000_u32).map(|n| b'0' + u8::try_from(n % 10).unwrap()).collect();
    let body = spooled(folder.path(), &job, 300_000);
    let raw = Payload::of(&message(Outcome::Failed, &[], None, body.clone()), Wrapping::Raw);
    let chunks = streamed(&raw).await.unwrap();
    assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK), "a chunk is too large");
    assert_eq!(chunks.concat(), job);
    assert_eq!(read(&raw).as_bytes(), job);
    let envelope = Payload::of(&message(Outcome::Failed, &[], None, body), Wrapping::Envelope);
    assert_eq!(streamed(&envelope).await.unwrap().concat().len() as u64, envelope.len());
}

#[tokio::test]
async fn a_file_of_another_size_is_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    for size in [1, 4, 9] {
        let body = spooled(folder.path(), b"12345", size);
        let payload = Payload::of(&message(Outcome::Failed, &[], None, body), Wrapping::Raw);
        let error = streamed(&payload).await.unwrap_err().to_string();
        assert_eq!(error, format!("the stored job cannot be read: it has 5 bytes, stored were {size}"));
        payload.reader().err().unwrap();
    }
    let gone = Body::Stored { body: crate::store::StoredBody::in_file(folder.path().join("gone")), size: 3 };
    let payload = Payload::of(&message(Outcome::Failed, &[], None, gone), Wrapping::Raw);
    assert!(streamed(&payload).await.unwrap_err().to_string().contains("No such file"));
}

fn any_wrapping() -> impl Strategy<Value = Wrapping> {
    proptest::sample::select(vec![
        Wrapping::Envelope,
        Wrapping::Raw,
        Wrapping::CloudEvents,
        Wrapping::CloudEventsBinary,
    ])
}

proptest! {
    #[test]
    fn any_bytes_of_a_job_come_out_unchanged(job in proptest::collection::vec(any::<u8>(), 1..200), wrapping in any_wrapping()) {
        let payload = Payload::of(&message(Outcome::Completed, &[], None, Body::Inline(job.clone().into())), wrapping);
        let mut bytes = Vec::new();
        payload.reader().unwrap().read_to_end(&mut bytes).unwrap();
        prop_assert_eq!(bytes.len() as u64, payload.len());
        let (before, after) = match wrapping {
            Wrapping::Raw | Wrapping::CloudEventsBinary => (&b""[..], &b""[..]),
            Wrapping::Envelope | Wrapping::CloudEvents => (&b"\"data\":"[..], &b"}"[..]),
        };
        let tail = [before, &job, after].concat();
        prop_assert!(bytes.ends_with(&tail));
    }
}

#[tokio::test]
async fn a_cloudevent_without_a_job_is_whole() {
    let lost = message(Outcome::Lost, &[], Some("gone"), Body::Null);
    let structured = Payload::of(&lost, Wrapping::CloudEvents);
    let event: Value = serde_json::from_str(&read(&structured)).unwrap();
    assert_eq!((&event["reason"], event.get("data")), (&"gone".into(), None));
    let binary = Payload::of(&lost, Wrapping::CloudEventsBinary);
    assert!(binary.is_empty() && streamed(&binary).await.unwrap().is_empty());
    assert_eq!(binary.headers()["ce-reason"], "gone");
}
