//! Checks the list of each profile against a page of its API, and the reader against odd pages. The
//! pages are written by hand after the vendors' documentation.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::header::{HeaderMap, LINK};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{page::PageReader, *};
use crate::{
    model::status_answer::StatusClass,
    upstream::{CUSTOM, Failure, Profile, Source, SourceConfig, SourceType, TYPES, times::SourceClock},
    util::{
        clock,
        http_client::{Outgoing, guard::Trust},
    },
};

/// The built-in profiles whose APIs have no list, none that is documented, or one that takes a `POST`.
const WITHOUT: [&str; 7] = [
    "aws-batch",
    "aws-textract",
    "aws-transcribe",
    "azure-document-intelligence",
    "fal",
    "openai-responses",
    "runpod",
];

/// A page, and what it means.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    profile: String,
    /// The kind of job; unset for the default kind.
    kind: Option<String>,
    base_url: Option<String>,
    #[serde(default)]
    vars: BTreeMap<String, String>,
    url: String,
    page: Value,
    link: Option<String>,
    /// Ids, each with `pending` or an outcome.
    jobs: Vec<(String, String)>,
    next: Option<String>,
}

fn read(list: &ListProfile, address: &str, headers: &HeaderMap, text: &str) -> Result<ListPage, Failure> {
    let mut page = PageReader::new(list, SourceClock::of(headers, clock::now()));
    text.as_bytes().chunks(7).try_for_each(|bytes| page.push(bytes))?;
    page.page(&Url::parse(address).unwrap(), headers)
}

fn classes(page: &ListPage) -> Vec<(String, String)> {
    let class = |job: &ListedJob| match job.answer.class {
        StatusClass::Finished(outcome) => outcome.as_str().to_owned(),
        StatusClass::Pending | StatusClass::Unknown => "pending".to_owned(),
    };
    page.jobs.iter().map(|job| (job.id.to_string(), class(job))).collect()
}

#[test]
fn every_list_is_read_as_what_it_is() {
    let text = include_str!("../profiles/bodies/lists.json");
    let cases: Vec<Case> = serde_json::from_str(text).unwrap();
    for case in &cases {
        let config = SourceConfig {
            profile: SourceType::named(&case.profile).unwrap(),
            base_url: case.base_url.clone(),
            vars: case.vars.clone(),
            ..SourceConfig::default()
        };
        let source = Source::new(&case.profile, &config, &Outgoing::direct(Trust::Operator)).unwrap();
        let list = source.kind(case.kind.as_deref()).unwrap().profile.list.clone().unwrap();
        let address = source.list_address(&list, &ListFilter::new()).unwrap();
        assert_eq!(address, case.url, "{}", case.profile);
        let mut headers = HeaderMap::new();
        headers.extend(case.link.as_ref().map(|link| (LINK, link.parse().unwrap())));
        let page = read(&list, &address, &headers, &case.page.to_string()).unwrap();
        assert_eq!(classes(&page), case.jobs, "{}", case.profile);
        assert_eq!(page.next, case.next, "{}", case.profile);
        let dated = |job: &ListedJob| job.created_at.is_some();
        assert_eq!(page.jobs.iter().all(dated), case.profile != "google-lro", "{}", case.profile);
    }
    let shown: BTreeSet<&str> = cases.iter().map(|case| case.profile.as_str()).collect();
    for name in TYPES.iter().filter(|name| **name != CUSTOM) {
        let config = SourceConfig {
            profile: SourceType::named(name).unwrap(),
            base_url: Some("https://example.com".to_owned()),
            ..SourceConfig::default()
        };
        let has_list = Profile::of(&config).unwrap().list.is_some();
        assert_eq!(has_list, !WITHOUT.contains(name), "{name}");
        assert_eq!(shown.contains(name), has_list, "{name} has a list and no page, or a page and no list");
    }
}

fn custom(next: Option<ListNext>) -> ListProfile {
    let config = SourceConfig {
        profile: SourceType::named("retab").unwrap(),
        list_path: Some("/jobs?x=%20a&after=old".to_owned()),
        list_at: Some("/items".to_owned()),
        list_id_at: Some("/id".to_owned()),
        list_next: next,
        ..SourceConfig::default()
    };
    let list = Profile::of(&config).unwrap().list.unwrap();
    ListProfile::clone(&list)
}

fn after(param: &str) -> ListNext {
    ListNext { last_id: true, param: Some(param.to_owned()), ..ListNext::default() }
}

#[test]
fn what_is_no_page_is_told_and_odd_items_cost_no_other() {
    let list = custom(Some(after("after")));
    let address = "https://api.example.com/jobs?x=%20a&after=old";
    let page = |text: &str| read(&list, address, &HeaderMap::new(), text);
    for (text, wrong) in [
        ("<html>", "HTML page"),
        ("", "no JSON"),
        (r#"{"items":[{"id":"a"}"#, "no JSON"),
        ("{}", "no list at `/items`"),
        (r#"{"items":{"id":"a"}}"#, "no list at `/items`"),
        (r#"{"error":"x","items":null}"#, "no list at `/items`"),
        (r#"{"items":[{"id":{}},{"id":null},7,"x"]}"#, "4 items, and none"),
    ] {
        let failure = page(text).unwrap_err();
        assert!(matches!(failure, Failure::Transient(_)) && failure.to_string().contains(wrong), "{failure}");
    }
    let long = "x".repeat(300);
    let text = json!({"items": [
        {"id": 12_345_678_901_234_567_890_u64, "status": "completed", "response": "y".repeat(100_000)},
        {"id": long}, {"id": "a\u{7}b"}, {"id": ""}, {"status": "completed"}, [], {"id": true}, {"id": "no status"}, {"id": "last&"},
    ]});
    let found = page(&text.to_string()).unwrap();
    let ids: Vec<&str> = found.jobs.iter().map(|job| job.id.as_str()).collect();
    assert_eq!((ids.as_slice(), found.odd), (["12345678901234567890", "no status", "last&"].as_slice(), 6));
    assert!(found.jobs[0].has_finished() && !found.jobs[1].has_finished());
    assert_eq!(
        found.next.unwrap(),
        "https://api.example.com/jobs?x=%20a&after=last%26",
        "the rest stays as it was"
    );
    let empty = page(r#"{"items":[]}"#).unwrap();
    assert!(empty.jobs.is_empty() && empty.next.is_none() && empty.odd == 0);
}

#[test]
fn the_next_page_is_found_in_every_way_or_the_list_ends() {
    let address = "https://api.example.com/jobs?after=old";
    let next = |key: ListNext, headers: &HeaderMap, beside: &Value| {
        let mut text = json!({"items": [{"id": "a"}]});
        text.as_object_mut().unwrap().extend(beside.as_object().unwrap().clone());
        read(&custom(Some(key)), address, headers, &text.to_string()).unwrap().next
    };
    let none = HeaderMap::new();
    let cursor = |param: Option<&str>| ListNext {
        cursor_at: Some("/a|/b".to_owned()),
        param: param.map(str::to_owned),
        ..ListNext::default()
    };
    for (beside, wanted) in [
        (json!({"a": null, "b": "c d"}), Some("https://api.example.com/jobs?after=old&c=c+d")),
        (json!({"a": 7}), Some("https://api.example.com/jobs?after=old&c=7")),
        (json!({"a": ""}), None),
        (json!({"a": false}), None),
        (json!({"a": {}}), None),
        (json!({}), None),
    ] {
        assert_eq!(next(cursor(Some("c")), &none, &beside).as_deref(), wanted, "{beside}");
    }
    for (link, wanted) in [
        ("https://api.example.com/jobs?page=2", "https://api.example.com/jobs?page=2"),
        ("/jobs?page=2", "https://api.example.com/jobs?page=2"),
        ("?page=2", "https://api.example.com/jobs?page=2"),
        ("https://evil.example.net/", "https://evil.example.net/"),
    ] {
        assert_eq!(next(cursor(None), &none, &json!({"a": link})).as_deref(), Some(wanted));
    }
    let more = |at: &str| ListNext { more_at: Some(at.to_owned()), ..after("after") };
    for (beside, goes_on) in [
        (json!({"more": true}), true),
        (json!({"more": "x"}), true),
        (json!({"more": false}), false),
        (json!({"more": null}), false),
        (json!({}), false),
    ] {
        assert_eq!(next(more("/more"), &none, &beside).is_some(), goes_on, "{beside}");
    }
    let link = ListNext { link: true, ..ListNext::default() };
    for (header, wanted) in [
        (
            "<https://api.example.com/jobs?a=1,2;3>; rel=\"next\"; title=\"x\"",
            Some("https://api.example.com/jobs?a=1,2;3"),
        ),
        ("</jobs?p=0>; rel=prev, </jobs?p=2>; rel=\"last Next\"", Some("https://api.example.com/jobs?p=2")),
        ("</jobs?p=2>; rel=\"prev\"", None),
        ("nonsense", None),
    ] {
        let headers = [(LINK, header.parse().unwrap())].into_iter().collect();
        assert_eq!(next(link.clone(), &headers, &json!({})).as_deref(), wanted, "{header}");
    }
    let step = ListNext { step: Some(50), param: Some("offset".to_owned()), ..ListNext::default() };
    assert_eq!(
        next(step, &none, &json!({})).as_deref(),
        Some("https://api.example.com/jobs?after=old&offset=50")
    );
}

#[test]
fn a_wrong_key_is_refused_with_its_name() {
    let base = SourceConfig {
        profile: SourceType::named("runpod").unwrap(),
        list_path: Some("/jobs".to_owned()),
        list_at: Some(String::new()),
        list_id_at: Some("/id".to_owned()),
        ..SourceConfig::default()
    };
    assert!(Profile::of(&base).unwrap().list.is_some());
    let next = |next: ListNext| SourceConfig { list_next: Some(next), ..base.clone() };
    for (config, key) in vec![
        (SourceConfig { list_at: None, ..base.clone() }, "list_at"),
        (SourceConfig { list_id_at: None, ..base.clone() }, "list_id_at"),
        (SourceConfig { list_id_at: Some("id".to_owned()), ..base.clone() }, "list_id_at"),
        (SourceConfig { list_path: None, ..base.clone() }, "list_at"),
        (SourceConfig { list_path: Some("/jobs/{id}".to_owned()), ..base.clone() }, "list_path"),
        (
            SourceConfig { list_path: Some("https://other.example.com/jobs".to_owned()), ..base.clone() },
            "list_path",
        ),
        (next(ListNext::default()), "list_next"),
        (next(ListNext { link: true, ..after("x") }), "list_next"),
        (next(ListNext { last_id: true, ..ListNext::default() }), "list_next"),
        (next(ListNext { cursor_at: Some("next".to_owned()), ..ListNext::default() }), "list_next"),
        (next(ListNext { step: Some(0), param: Some("p".to_owned()), ..ListNext::default() }), "list_next"),
    ] {
        let errors = Profile::of(&config).unwrap_err();
        assert!(errors.iter().all(|error| error.key == key), "{errors:?}");
    }
    let none = SourceConfig { list_path: Some(String::new()), ..SourceConfig::default() };
    assert!(Profile::of(&none).unwrap().list.is_none(), "an empty path stands for no list");
}
