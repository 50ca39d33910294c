use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    deliver::message::{Body, Subject},
    model::job::{EventType, Outcome},
    util::units::Time,
};

fn message(source: &str, job_id: &str, reason: Option<&str>) -> Message {
    let outcome = if reason.is_some() { Outcome::Lost } else { Outcome::Failed };
    let subject = Subject {
        source: source.to_owned(),
        job_id: job_id.parse().unwrap(),
        kind: None,
        outcome: Some(outcome),
        status: None,
        labels: BTreeMap::from([("Team".to_owned(), "billing".to_owned())]),
        reason: reason.map(str::to_owned),
    };
    Message::job("evt_1".to_owned(), EventType::Ended(outcome), Time(1_779_883_200_500), subject, Body::Null)
}

fn shown(headers: &HeaderMap) -> Vec<String> {
    headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
}

#[test]
fn the_attributes_are_those_of_the_contract() {
    assert_eq!(
        structured(&message("retab", "job_\"1\"", None), true),
        r#"{"specversion":"1.0","id":"evt_1","source":"/sources/retab","type":"dev.tidings.job.failed","time":"2026-05-27T12:00:00.500Z","subject":"job_\"1\"","outcome":"failed","datacontenttype":"application/json","data":"#
    );
    assert_eq!(
        shown(&headers(&message("retab", "a b/ü%\"", None), true)),
        [
            "ce-specversion: 1.0",
            "ce-id: evt_1",
            "ce-source: /sources/retab",
            "ce-type: dev.tidings.job.failed",
            "ce-time: 2026-05-27T12:00:00.500Z",
            "ce-subject: a%20b/%C3%BC%25%22",
            "ce-outcome: failed",
            "content-type: application/json",
        ]
    );
}

#[test]
fn without_data_its_type_is_left_out() {
    let lost = message("my own", "job_1", Some("past\nits deadline"));
    let event: Value = serde_json::from_str(&structured(&lost, false)).unwrap();
    assert_eq!(event["reason"], "past its deadline");
    assert_eq!(event["source"], "/sources/my%20own");
    assert_eq!((event.get("data"), event.get("datacontenttype")), (None, None));
    let headers = headers(&lost, false);
    assert_eq!(headers.get("content-type"), None);
    assert_eq!(headers["ce-reason"], "past%20its%20deadline");
    assert_eq!(headers["ce-source"], "/sources/my%2520own");
}

#[test]
fn a_test_event_has_a_source_and_no_subject() {
    let test = Message::test("evt_t".to_owned(), Time(0), "hello");
    let event: Value = serde_json::from_str(&format!("{}1}}", structured(&test, true))).unwrap();
    assert_eq!((&event["type"], &event["source"]), (&"dev.tidings.test".into(), &"/tidings".into()));
    assert_eq!(event.get("subject"), None);
}

proptest! {
    /// What the binding says a receiver does: percent-decode.
    #[test]
    fn header_values_are_printable_and_come_back(id in "[^\\p{Cc}.][^\\p{Cc}]{0,60}", source in "\\PC{1,40}", reason in any::<String>()) {
        let message = message(&source, &id, Some(&reason));
        let headers = headers(&message, true);
        for (name, value) in attributes(&message) {
            let sent = headers[format!("ce-{name}")].to_str().unwrap();
            prop_assert!(sent.bytes().all(|byte| (0x21..=0x7e).contains(&byte) && byte != b'"'), "{}", sent);
            prop_assert_eq!(percent_encoding::percent_decode_str(sent).decode_utf8().unwrap(), value);
            prop_assert!((1..=20).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
        }
    }
}
