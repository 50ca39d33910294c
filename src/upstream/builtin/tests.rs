//! Checks each profile against bodies of every state of its API. The bodies are written by hand
//! after the vendors' documentation.

use serde_json::Value;

use super::*;
use crate::{
    model::{job::JobId, status_answer::StatusClass},
    upstream::{JobRef, NO_STATUS, Outcomes, Profile, Source},
    util::{
        http_client::{Outgoing, guard::Trust},
        json_slice::Raw,
    },
};

/// A body and what it means.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// The kind of job; unset for the default kind.
    kind: Option<String>,
    id: String,
    base_url: Option<String>,
    #[serde(default)]
    vars: std::collections::BTreeMap<String, String>,
    body: Value,
    /// `pending`, also for a body without a status, `unknown` or an outcome.
    class: String,
    /// Whether it says that the job is being worked on.
    running: bool,
    status_url: String,
    /// Nothing when the status body is the result.
    result_url: Option<String>,
    error: Option<Value>,
}

/// The bodies that a profile needs at least: two that go on, one that ended well, one that did not.
const LEAST: usize = 4;

fn check(name: &str, case: &Case) {
    let at = format!("{name}: {}", case.name);
    let config = SourceConfig {
        profile: SourceType::named(name).unwrap(),
        base_url: case.base_url.clone(),
        ..SourceConfig::default()
    };
    let source = Source::new(name, &config, &Outgoing::direct(Trust::Operator))
        .unwrap_or_else(|error| panic!("{at}: {error}"));
    let id = case.id.parse::<JobId>().unwrap();
    let job = JobRef { id: &id, kind: case.kind.as_deref(), vars: &case.vars };
    assert_eq!(source.status_address(job).unwrap(), case.status_url, "{at}");

    let (answer, json) = source.kind_of(job).unwrap().profile.read(case.body.to_string().as_bytes()).unwrap();
    let class = match answer.class {
        StatusClass::Unknown if answer.status != NO_STATUS => "unknown",
        StatusClass::Pending | StatusClass::Unknown => "pending",
        StatusClass::Finished(outcome) => outcome.as_str(),
    };
    assert_eq!(class, case.class, "{at}: {}", answer.status);
    if class == "pending" {
        assert_eq!(answer.at_work, case.running, "{at}");
        return;
    }
    assert_eq!(source.result_address(job, &json).unwrap(), case.result_url, "{at}");
    let text =
        case.error.as_ref().map(|error| error.as_str().map_or_else(|| error.to_string(), str::to_owned));
    let bad = matches!(class, "failed" | "expired" | "cancelled");
    assert_eq!(answer.error.filter(|_| bad), text.filter(|_| bad), "{at}");
}

#[test]
fn every_body_is_read_as_what_it_is() {
    for name in TYPES.iter().filter(|name| **name != CUSTOM) {
        let path = format!("{}/src/upstream/profiles/bodies/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let cases: Vec<Case> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(cases.len() >= LEAST, "{name}: {} bodies", cases.len());
        let shown = |class: &str| cases.iter().any(|case| case.class == class);
        assert!(shown("pending") && shown("completed"), "{name}");
        for case in &cases {
            check(name, case);
        }
    }
}

/// A word of a profile that no body shows might be a typo.
#[test]
fn every_word_of_a_profile_is_shown() {
    for name in TYPES.iter().filter(|name| **name != CUSTOM) {
        let built_in = read(text(name).unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!built_in.title.is_empty() && built_in.docs.starts_with("https://"), "{name}");
        let path = format!("{}/src/upstream/profiles/bodies/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let cases: Vec<Case> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let profiles = Profile::kinds_of(&example(name)).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for case in &cases {
            let is_its = |profile: &&Profile| match &case.kind {
                None => *profile == &profiles[0],
                kind => profile.kind == *kind,
            };
            let profile = profiles.iter().find(is_its).unwrap_or_else(|| panic!("{name}: {:?}", case.kind));
            let (_, values) = profile.read(case.body.to_string().as_bytes()).unwrap();
            let words = [&profile.status_at, &profile.failed_at].into_iter().flatten();
            seen.extend(
                words.filter_map(|at| values.at(at).and_then(Raw::word)).map(|word| word.to_lowercase()),
            );
        }
        let kinds = built_in.keys.kinds.values().filter_map(|kind| kind.outcomes.as_ref());
        for outcomes in built_in.keys.outcomes.iter().chain(kinds) {
            let Outcomes { pending, completed, failed, cancelled, expired } = outcomes;
            let words = [pending, completed, failed, cancelled, expired].into_iter().flatten();
            for word in words.filter(|word| !word.is_empty()) {
                assert!(seen.contains(&word.to_lowercase()), "{name}: no body shows `{word}`");
            }
        }
        for profile in &profiles[1..] {
            assert!(
                cases.iter().any(|case| case.kind == profile.kind),
                "{name}: no body of {:?}",
                profile.kind
            );
        }
    }
}

fn example(name: &str) -> SourceConfig {
    SourceConfig {
        profile: SourceType::named(name).unwrap(),
        base_url: Some("https://example.com".to_owned()),
        ..SourceConfig::default()
    }
}

/// A new word may well be a state before the end, so it must not count as the end.
#[test]
fn no_profile_takes_a_new_word_for_an_end() {
    for name in TYPES.iter().filter(|name| **name != CUSTOM) {
        for profile in Profile::kinds_of(&example(name)).unwrap() {
            for word in ["a word of tomorrow", "{}", "0", "-1", "null", "CANCELING_", "completed?"] {
                assert_eq!(profile.classify(word), StatusClass::Unknown, "{name} {:?}: {word}", profile.kind);
            }
        }
    }
}

#[test]
fn a_type_that_nobody_knows_is_refused_with_the_known_ones() {
    let error = serde_json::from_str::<SourceType>("\"open-ai\"").unwrap_err().to_string();
    assert!(error.contains("openai-batch") && error.contains("custom"), "{error}");
    assert!(SourceType::named("custom").unwrap().built_in().is_none());
}
