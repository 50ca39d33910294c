use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    deliver::message::{Body, Subject},
    model::job::{EventType, Outcome},
    util::units::Time,
};

fn message(job_id: &str) -> Message {
    let subject = Subject {
        source: "retab".to_owned(),
        job_id: job_id.parse().unwrap(),
        kind: None,
        outcome: Some(Outcome::Failed),
        status: None,
        labels: BTreeMap::new(),
        reason: None,
    };
    let event = EventType::Ended(Outcome::Failed);
    Message::job("evt_1".to_owned(), event, Time(1_779_883_200_500), subject, Body::Null)
}

fn filled(template: &str, job_id: &str) -> String {
    let (mut names, file) = PathTemplate::parse(template).unwrap().fill(&message(job_id), "result", "");
    names.push(file);
    names.join("/")
}

#[test]
fn every_placeholder_is_filled_and_made_safe() {
    let all = "{yyyy}-{mm}/{dd}/{source}.{outcome}/{event_id}_{job_id}.json";
    assert_eq!(filled(all, "job_1"), "2026-05/27/retab.failed/evt_1_job_1.json");
    for (id, name) in [
        ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"),
        ("...", "%2E.."),
        (".hidden", "%2Ehidden"),
        ("a b%2F", "a%20b%252F"),
        ("ü\\:*", "%C3%BC%5C%3A%2A"),
    ] {
        assert_eq!(filled("{source}/{job_id}", id), format!("retab/{name}"));
        assert_eq!(filled("x/.{job_id}", id), format!("x/.{name}"));
    }
}

#[test]
fn a_template_that_leads_elsewhere_is_refused() {
    for bad in
        ["", "/abs", "a//b", "a/", "../x", "a/../b", "./a", "{job_id", "job_id}", "{}", "{job}", "a\0b"]
    {
        assert!(PathTemplate::parse(bad).is_err(), "{bad:?} should be refused");
    }
    assert!(PathTemplate::parse("{job}").unwrap_err().contains("{job_id}"));
}

#[test]
fn a_path_that_tells_jobs_apart_is_known() {
    for (path, tells) in [
        ("{source}/{job_id}.json", true),
        ("x{source}.d/{yyyy}-{mm}-{dd}-{job_id}.json", true),
        ("{source}+{job_id}", true),
        ("{source}@x{job_id}", true),
        ("{outcome}/{event_id}", true),
        ("{source}/{job_id}.{outcome}", false),
        ("{job_id}.json", false),
        ("{source}.json", false),
        ("{source}-{job_id}.json", false),
        ("{source}%{job_id}.json", false),
        ("{source}{yyyy}{job_id}.json", false),
        ("all.jsonl", false),
    ] {
        assert_eq!(PathTemplate::parse(path).unwrap().tells_jobs_apart(2, false), tells, "{path}");
    }
    for (path, tells) in
        [("{job_id}.json", true), ("{source}-{job_id}.json", false), ("{source}.json", false)]
    {
        assert_eq!(PathTemplate::parse(path).unwrap().tells_jobs_apart(1, false), tells, "{path}");
    }
}

#[test]
fn long_ids_stay_apart_and_keep_their_ending() {
    let (one, two) = ("ü".repeat(128), "ü".repeat(127) + "é");
    let (one, two) = (filled("{job_id}.json", &one), filled("{job_id}.json", &two));
    assert_ne!(one, two);
    for name in [one, two] {
        assert!(name.len() <= MAX_NAME, "{name}");
        assert_eq!(name.rsplit_once('.').unwrap().1, "json");
    }
}

proptest! {
    /// Where a path is said to tell jobs apart, it does.
    #[test]
    fn two_jobs_have_two_paths(
        path in prop::collection::vec(prop::sample::select(vec!["{source}", "{job_id}", "{outcome}", "{yyyy}", "-", "+", "/x", "a"]), 1..6),
        ids in prop::array::uniform4("[-+a%]{1,3}"),
    ) {
        let path = format!("x{}", path.concat());
        let template = PathTemplate::parse(&path).unwrap();
        let [source, job, other_source, other_job] = &ids;
        let of = |source: &str, job: &str| {
            let mut message = message(job);
            message.subject.as_mut().unwrap().source = source.to_owned();
            template.fill(&message, "result", "")
        };
        if template.tells_jobs_apart(2, false) && (source, job) != (other_source, other_job) {
            prop_assert_ne!(of(source, job), of(other_source, other_job), "{}", path);
        }
    }

    #[test]
    fn names_are_safe_and_distinct(one in "[^\\p{Cc}]{1,60}", two in "[./%~a-c]{1,12}") {
        prop_assume!(one.len() <= 256);
        let name = |id: &str| (!matches!(id, "." | "..")).then(|| filled("{job_id}", id));
        let (a, b) = (name(&one), name(&two));
        prop_assert!(one == two || a.is_none() || a != b);
        for name in [a, b].into_iter().flatten() {
            prop_assert!(name.len() <= MAX_NAME);
            prop_assert!(!name.starts_with('.'));
            prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-%~".contains(&b)));
        }
    }
}
