//! What is delivered as the result of a job is its result: bad answers, encodings, links, redirects.

use std::{fs, io::Write as _, path::Path};

use serde_json::{Value, json};
use tidings::{
    deliver::Format,
    upstream::SourceConfig,
    util::units::{HumanDuration, Size},
};

use crate::{
    harness::{Answer, Flow, Request, Setup, Site},
    sources::{custom, source},
};

/// The same with the result at `/out/{id}`.
fn with_result(site: &Site) -> SourceConfig {
    SourceConfig { result_path: Some("/out/{id}".to_owned()), ..custom(site) }
}

/// The same with the result where the status says.
fn with_link(site: &Site) -> SourceConfig {
    SourceConfig { result_path: Some("{/link}".to_owned()), ..custom(site) }
}

const DONE: &str = r#"{"state":"done"}"#;

fn done_at(link: &str) -> String {
    json!({"state": "done", "link": link}).to_string()
}

/// Whether a request carries headers that are for the source alone.
fn carries_ours(request: &Request) -> bool {
    ["authorization", "x-team"].into_iter().any(|name| request.headers.contains_key(name))
}

fn with_header(mut source: SourceConfig) -> SourceConfig {
    source.headers.insert("X-Team".to_owned(), serde_json::from_value(json!("blue")).unwrap());
    source
}

/// A flow with this source alone, whose events are its results as they are.
async fn flow_of(source: SourceConfig) -> Flow {
    open_flow(source, &[]).await
}

/// One that lets links reach these ranges.
async fn open_flow(source: SourceConfig, allow: &[&str]) -> Flow {
    let allow = allow.iter().map(|range| range.parse().unwrap()).collect();
    let setup = Setup::new().await.jobs_at(source).format(Format::Raw);
    setup.change(|config| config.callbacks.allow = allow).start().await
}

impl Flow {
    async fn watch(&self, job: &str) {
        self.daemon.register(&json!({"job_id": job})).await;
    }

    /// The watch once its event is delivered, with the one request that brought it.
    async fn brought(&self, job: &str) -> (Value, Request) {
        let watch = self.done(job).await;
        let mut events = self.receiver.at_least(1).await;
        assert_eq!(events.len(), 1, "one event for one job");
        (watch, events.remove(0))
    }

    /// What the last failure of a job says.
    async fn error(&self, job: &str) -> String {
        let watch = self.until(job, "fails", |watch| watch["last_error"].is_string()).await;
        watch["last_error"].as_str().unwrap().to_owned()
    }

    /// Stops, and checks that nothing half written is left.
    async fn stop_clean(self) {
        let down = self.down().await;
        assert_eq!(files(&down.path().join("data/spool/incoming")), Vec::<String>::new());
    }
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    entries
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name != "incoming" && name != "segments")
        .collect()
}

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const PAGE: &str = "<!DOCTYPE html>\n<html><body>Please wait</body></html>";
const LINES: &str = "{\"custom_id\":\"a\"}\n{\"custom_id\":\"b\"}\n";

/// Answers that are no result, with what the watch says of each.
fn no_results() -> Vec<(Answer, &'static str)> {
    let json = r#"{"detail":"not ready"}"#;
    vec![
        (Answer::typed(200, "text/html; charset=utf-8", PAGE), "HTML"),
        (Answer::typed(200, "application/octet-stream", format!("\u{feff} {PAGE}")), "HTML"),
        (Answer::bare(200, PAGE), "HTML"),
        (Answer::typed(202, "application/json", json), "202"),
        (Answer::bare(204, ""), "204"),
        (Answer::bare(205, ""), "205"),
        (Answer::typed(206, "application/jsonl", &LINES[..20]).with("content-range", "bytes 0-19/36"), "206"),
        (
            Answer::typed(200, "application/jsonl", &LINES[..20]).with("content-range", "bytes 0-19/36"),
            "part",
        ),
        (Answer::typed(200, "application/jsonl", LINES).with("content-encoding", "br"), "`br`"),
        (
            Answer::typed(200, "application/jsonl", LINES).with("content-encoding", "gzip, gzip"),
            "`gzip, gzip`",
        ),
        (Answer::typed(200, "application/jsonl", LINES).with("content-encoding", "gzip"), "gzip"),
        (Answer::typed(200, "application/jsonl", zipped(LINES.as_bytes())), "JSONL"),
        (Answer::json(""), "empty"),
        (Answer::json(&LINES[..LINES.len() - 3]), "JSON"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_the_result_is_asked_for_again() {
    let site = Site::start().await;
    let flow = flow_of(with_result(&site)).await;
    let cases = no_results();
    let good = || Answer::typed(200, "application/jsonl", LINES);
    for (index, (bad, words)) in cases.iter().enumerate() {
        let (job, out) = (format!("t{index}"), format!("/out/t{index}"));
        site.json(&format!("/tasks/{job}"), DONE);
        site.script(&out, [bad.clone()]);
        flow.watch(&job).await;
        let error = flow.error(&job).await;
        assert!(error.contains(words), "{bad:?}: {error}");
        assert_eq!(flow.receiver.requests().len(), index, "{bad:?} is delivered");
        site.script(&out, [good()]);
        let watch = flow.done(&job).await;
        assert_eq!((&watch["outcome"], &watch["last_error"]), (&json!("completed"), &Value::Null));
        let events = flow.receiver.at_least(index + 1).await;
        assert_eq!((events.len(), events[index].body.as_slice()), (index + 1, LINES.as_bytes()), "{bad:?}");
    }
    assert_eq!(files(&flow.path().join("data/spool")), Vec::<String>::new());
    flow.stop_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_body_is_the_result_only_when_it_says_the_end() {
    let site = Site::start().await;
    let flow = flow_of(custom(&site)).await;
    for (index, (bad, words)) in [
        (Answer::typed(200, "text/html", PAGE), "HTML"),
        (Answer::typed(200, "text/plain", "please wait"), "JSON"),
        (Answer::typed(202, "application/json", r#"{"detail":"not ready"}"#), "no status"),
        (Answer::json(r#"{"detail":"not ready"}"#), "no status"),
        (Answer::bare(204, ""), "204"),
    ]
    .into_iter()
    .enumerate()
    {
        let (job, path) = (format!("t{index}"), format!("/tasks/t{index}"));
        // What a poll does not keep whole is asked for again.
        let long = DONE.replace('}', &format!("{}}}", " ".repeat(300 << 10)));
        site.script(&path, [Answer::json(&long), bad.clone()]);
        flow.watch(&job).await;
        let error = flow.error(&job).await;
        assert!(error.contains(words), "{bad:?}: {error}");
        assert_eq!(flow.receiver.requests().len(), index, "{bad:?} is delivered");
        // The type of a body that was read as JSON does not matter.
        site.answer(&path, 200, "text/plain", DONE);
        let (_, event) = {
            let watch = flow.done(&job).await;
            (watch, flow.receiver.at_least(index + 1).await.remove(index))
        };
        assert_eq!(
            (event.body.as_slice(), event.header("content-type")),
            (DONE.as_bytes(), "application/json")
        );
    }
    flow.stop_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_came_with_the_poll_is_not_asked_for_again() {
    let site = Site::start().await;
    let running = r#"{"state":"working"}"#;
    let done = "\u{feff}{\"state\":\"done\", \"n\": 1.0}\n";
    site.script("/tasks/t1", [Answer::json(running), Answer::json(running), Answer::json(done)]);
    let flow = flow_of(custom(&site)).await;
    flow.watch("t1").await;
    let (watch, event) = flow.brought("t1").await;
    assert_eq!(event.body, done.as_bytes());
    assert_eq!((&watch["outcome"], &watch["polls"]), (&json!("completed"), &json!(3)));
    assert_eq!(site.requests("/tasks/t1").len(), 3, "the last poll brought the result");
    flow.stop_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_came_with_the_poll_is_held_to_the_same_rules() {
    let site = Site::start().await;
    let flow = flow_of(SourceConfig { max_job_size: Size(1 << 10), ..custom(&site) }).await;
    let long = DONE.replace('}', &format!("{}}}", " ".repeat(2 << 10)));
    site.json("/tasks/long", &long);
    site.answer("/tasks/page", 200, "text/html", DONE);
    for (job, words) in [("long", "larger than max_job_size"), ("page", "HTML")] {
        flow.watch(job).await;
        let error = flow.error(job).await;
        assert!(error.contains(words), "{job}: {error}");
    }
    assert!(flow.receiver.requests().is_empty());
    flow.stop_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_can_be_the_result_of_a_source_that_says_so() {
    let site = Site::start().await;
    let flow = flow_of(SourceConfig { result_may_be_html: Some(true), ..with_result(&site) }).await;
    site.json("/tasks/t1", DONE);
    site.answer("/out/t1", 200, "text/html", PAGE);
    flow.watch("t1").await;
    let (_, event) = flow.brought("t1").await;
    assert_eq!((event.body.as_slice(), event.header("content-type")), (PAGE.as_bytes(), "text/html"));
    flow.stop_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_media_are_delivered_as_they_came() {
    let site = Site::start().await;
    let flow = flow_of(with_result(&site)).await;
    let sound = b"\x1f\x8bRIFF\x00\xff".to_vec();
    for (index, (media_type, body)) in [
        ("audio/wav", sound.clone()),
        ("application/gzip", zipped(b"a file")),
        ("application/octet-stream", sound),
        ("text/csv", b"a,b\n<html>,2\n".to_vec()),
        ("application/xml", b"<?xml version=\"1.0\"?><html/>".to_vec()),
    ]
    .into_iter()
    .enumerate()
    {
        let job = format!("t{index}");
        site.json(&format!("/tasks/{job}"), DONE);
        site.answer(&format!("/out/{job}"), 200, media_type, body.clone());
        flow.watch(&job).await;
        let event = flow.receiver.at_least(index + 1).await.remove(index);
        assert_eq!((event.header("content-type"), &event.body), (media_type, &body));
    }
    flow.stop_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_is_a_result_once_it_stays_empty() {
    let site = Site::start().await;
    let grace = |grace| SourceConfig { result_grace: grace, ..with_result(&site) };
    let flow = flow_of(grace(HumanDuration::secs(3600))).await;
    let jobs = [("t1", "application/jsonl"), ("t2", "application/json"), ("t3", "text/csv")];
    for (job, media_type) in jobs {
        site.json(&format!("/tasks/{job}"), DONE);
        site.answer(&format!("/out/{job}"), 200, media_type, "");
        flow.watch(job).await;
        assert!(flow.error(job).await.contains("empty"));
    }
    let flow = flow
        .restart(|config| config.sources = [("jobs".to_owned(), grace(HumanDuration::millis(300)))].into());
    let flow = flow.await;
    for (job, _) in jobs {
        assert_eq!(flow.done(job).await["job_size"], 0);
    }
    flow.stop_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoding_is_undone_in_statuses_and_results() {
    let site = Site::start().await;
    let flow = flow_of(with_result(&site)).await;
    let gzip = |body: &str| {
        Answer::typed(200, "application/json", zipped(body.as_bytes())).with("content-encoding", "gzip")
    };
    site.script("/tasks/t1", [gzip(r#"{"state":"busy"}"#), gzip(DONE)]);
    let job = format!(r#"{{"n": 12345678901234567890.10, "text":"{}"}}"#, "x".repeat(3 << 20));
    site.script("/out/t1", [gzip(&job)]);
    flow.watch("t1").await;
    let (watch, event) = flow.brought("t1").await;
    assert!(event.body == job.as_bytes(), "the job's bytes were changed");
    assert_eq!((&watch["job_size"], event.header("content-encoding")), (&json!(job.len()), ""));
    for target in ["/tasks/t1", "/out/t1"] {
        assert_eq!(site.requests(target)[0].header("accept-encoding"), "gzip");
    }
    flow.stop_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_ends_at_the_bound() {
    let site = Site::start().await;
    let flow = flow_of(SourceConfig { max_job_size: Size::mib(1), ..with_result(&site) }).await;
    site.json("/tasks/t1", DONE);
    let bomb = zipped(format!("\"{}\"", "0".repeat(64 << 20)).as_bytes());
    assert!(bomb.len() < 1 << 20);
    site.script("/out/t1", [Answer::typed(200, "application/json", bomb).with("content-encoding", "gzip")]);
    flow.watch("t1").await;
    assert!(flow.error("t1").await.contains("max_job_size"));
    assert_eq!(files(&flow.path().join("data/spool")), Vec::<String>::new());
    flow.stop_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_json_are_a_result_whatever_their_type_says() {
    let site = Site::start().await;
    let flow = flow_of(with_result(&site)).await;
    for (index, (answer, media_type)) in [
        (Answer::json(LINES), "application/jsonl"),
        (Answer::bare(200, LINES), "application/jsonl"),
        (Answer::bare(200, "{\"a\":1}\r\n\r\n[2]"), "application/jsonl"),
        (Answer::bare(200, "{\"a\":\n1}\n"), "application/json"),
        (Answer::typed(200, "application/json; charset=utf-8", "\u{feff}[1]"), "application/json"),
    ]
    .into_iter()
    .enumerate()
    {
        let job = format!("t{index}");
        site.json(&format!("/tasks/{job}"), DONE);
        site.script(&format!("/out/{job}"), [answer.clone()]);
        flow.watch(&job).await;
        let event = flow.receiver.at_least(index + 1).await.remove(index);
        assert_eq!((event.header("content-type"), &event.body), (media_type, &answer.body));
    }
    flow.stop_clean().await;
}

/// The status route says completed, the full job says something else.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_full_job_says_of_its_end_counts() {
    let site = Site::start().await;
    let flow = flow_of(source("retab", &site)).await;
    let full = |id: &str| format!("/v1/jobs/{id}?include_request=false&include_response=true");
    let status =
        |word: &str| json!({"status": word, "completed_at": 1_772_611_219, "attempt_count": 1}).to_string();
    for (index, (light, word)) in
        [("completed", "failed"), ("completed", "cancelled"), ("failed", "completed"), ("failed", "failed")]
            .into_iter()
            .enumerate()
    {
        let job = format!("job_{index}");
        site.json(&format!("/v1/jobs/{job}/status"), &status(light));
        let body = json!({"id": job, "status": word, "error": {"message": "no page 3"}}).to_string();
        site.json(&full(&job), &body);
        flow.watch(&job).await;
        let watch = flow.done(&job).await;
        assert_eq!((&watch["outcome"], &watch["status"]), (&json!(word), &json!(word)), "{light}");
        if word == "failed" && light != word {
            assert!(watch["last_error"].as_str().unwrap().contains("no page 3"), "{watch}");
        }
        let run = tidings::model::job::Run {
            completed_at: Some("1772611219000".to_owned()),
            attempt_count: Some("1".to_owned()),
            ..tidings::model::job::Run::default()
        };
        let outcome = serde_json::from_value(json!(word)).unwrap();
        let id = tidings::model::job::event_id("jobs", None, &crate::harness::id(&job), outcome, &run);
        let event = flow.receiver.at_least(index + 1).await.remove(index);
        assert_eq!(
            (event.header("webhook-id"), watch["event_id"].as_str()),
            (id.as_str(), Some(id.as_str()))
        );
        assert_eq!(event.body, body.as_bytes());
        let (_, events) = flow.daemon.get_bytes(&format!("/v1/watches/jobs/{job}/job")).await;
        assert_eq!(events, body.as_bytes());
    }
    flow.stop_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_whose_place_comes_late_is_waited_for() {
    let site = Site::start().await;
    let flow = flow_of(source("openai-batch", &site)).await;
    let early = Answer::json(r#"{"status":"completed","output_file_id":null}"#);
    let late = Answer::json(r#"{"status":"completed","output_file_id":"f1"}"#);
    site.script("/v1/batches/b1", [early.clone(), early.clone(), early.clone(), early, late]);
    site.answer("/v1/files/f1/content", 200, "application/jsonl", LINES);
    flow.watch("b1").await;
    let (watch, event) = flow.brought("b1").await;
    assert_eq!((watch["outcome"].as_str(), event.body.as_slice()), (Some("completed"), LINES.as_bytes()));
    flow.stop_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_body_is_the_result_when_no_place_came() {
    let site = Site::start().await;
    let flow =
        flow_of(SourceConfig { result_grace: HumanDuration::secs(1), ..source("openai-batch", &site) }).await;
    let body = r#"{"status":"completed","output_file_id":null}"#;
    site.json("/v1/batches/b1", body);
    flow.watch("b1").await;
    let (_, event) = flow.brought("b1").await;
    assert_eq!(event.body, body.as_bytes());
    assert!(site.requests("/v1/batches/b1").len() > 3, "the status is asked again meanwhile");
    flow.stop_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_waits_for_no_result() {
    let site = Site::start().await;
    let flow =
        flow_of(SourceConfig { result_grace: HumanDuration::secs(3600), ..source("openai-batch", &site) })
            .await;
    site.json("/v1/batches/b1", r#"{"status":"failed","output_file_id":null}"#);
    flow.watch("b1").await;
    assert_eq!(flow.brought("b1").await.0["outcome"], "failed");
    flow.stop_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_elsewhere_is_fetched_without_our_headers() {
    let (site, storage) = (Site::start().await, Site::start().await);
    let flow = open_flow(with_header(with_link(&site)), &["127.0.0.0/8"]).await;
    site.json("/tasks/t1", &done_at(&format!("{}/files/1?sig=x", storage.url())));
    storage.answer("/files/1?sig=x", 200, "application/jsonl", LINES);
    flow.watch("t1").await;
    assert_eq!(flow.brought("t1").await.1.body, LINES.as_bytes());
    let asked = storage.requests("/files/1?sig=x");
    assert_eq!(asked.len(), 1);
    assert!(!carries_ours(&asked[0]), "{asked:?}");
    assert!(carries_ours(&site.requests("/tasks/t1")[0]));
    flow.stop_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_reaches_no_address_that_is_not_opened() {
    let (site, inside) = (Site::start().await, Site::start().await);
    let flow = flow_of(with_link(&site)).await;
    inside.json("/files/1?sig=x", "[1]");
    for (index, host) in ["127.0.0.1", "localhost"].into_iter().enumerate() {
        let job = format!("t{index}");
        let url = inside.url().replace("127.0.0.1", host);
        site.json(&format!("/tasks/{job}"), &done_at(&format!("{url}/files/1?sig=x")));
        flow.watch(&job).await;
        let error = flow.error(&job).await;
        assert!(error.contains("blocked address") && error.contains("callbacks.allow"), "{error}");
        assert!(!error.contains("sig=x"), "{error}");
    }
    assert!(inside.requests("/files/1?sig=x").is_empty());
    flow.stop_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_expired_makes_the_status_name_a_new_one() {
    let (site, storage) = (Site::start().await, Site::start().await);
    let flow = open_flow(with_link(&site), &["127.0.0.0/8"]).await;
    for (index, status) in [400, 401, 403, 404, 410].into_iter().enumerate() {
        let (job, old, new) = (format!("t{index}"), format!("/old?{status}"), format!("/new?{status}"));
        let at = |path: &str| Answer::json(&done_at(&format!("{}{path}", storage.url())));
        site.script(&format!("/tasks/{job}"), [at(&old), at(&new)]);
        storage.answer(&old, status, "application/xml", "<Error>Request has expired</Error>");
        storage.answer(&new, 200, "application/jsonl", LINES);
        flow.watch(&job).await;
        let event = flow.receiver.at_least(index + 1).await.remove(index);
        assert_eq!(event.body, LINES.as_bytes(), "{status}");
        assert_eq!(storage.requests(&old).len(), 1);
    }
    let (_, sources) = flow.daemon.get("/v1/sources").await;
    assert_eq!(
        sources["data"][0]["state"], "ok",
        "a storage host's answer says nothing about the source: {sources}"
    );
    flow.stop_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_of_the_same_origin_are_followed_with_our_headers() {
    let site = Site::start().await;
    let flow = flow_of(with_result(&site)).await;
    site.script("/tasks/t1", [Answer::to(301, "/tasks/t1/")]);
    site.script("/tasks/t1/", [Answer::to(308, &format!("{}/repositories/7/tasks/t1?a=b", site.url()))]);
    site.json("/repositories/7/tasks/t1?a=b", DONE);
    let absolute = format!("{}/hop/2", site.url());
    let hops = [
        ("/out/t1", 301, "/hop/1"),
        ("/hop/1", 302, &absolute),
        ("/hop/2", 303, "/hop/3"),
        ("/hop/3", 307, "4"),
    ];
    for (from, status, to) in hops {
        site.script(from, [Answer::to(status, to)]);
    }
    site.script("/hop/4", [Answer::to(308, "./5#part")]);
    site.answer("/hop/5", 200, "application/jsonl", LINES);
    flow.watch("t1").await;
    assert_eq!(flow.brought("t1").await.1.body, LINES.as_bytes());
    for target in ["/tasks/t1/", "/repositories/7/tasks/t1?a=b", "/hop/1", "/hop/5"] {
        let asked = site.requests(target);
        assert_eq!(asked[0].header("authorization"), "Bearer k1", "{target}");
    }
    flow.stop_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_that_leads_nowhere_is_told() {
    let (site, elsewhere) = (Site::start().await, Site::start().await);
    let flow = open_flow(custom(&site), &["127.0.0.0/8"]).await;
    let foreign = format!("{}/login?next=secret", elsewhere.url());
    for (index, (answer, words)) in [
        (Answer::to(302, "/tasks/t0"), "redirects in a circle".to_owned()),
        (Answer::to(302, &foreign), format!("{}/login", elsewhere.url())),
        (Answer::to(301, "ftp://files.example/x"), "ftp://files.example/x".to_owned()),
        (Answer::bare(301, ""), "301".to_owned()),
        (Answer::bare(304, ""), "304".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        let job = format!("t{index}");
        site.script(&format!("/tasks/{job}"), [answer.clone()]);
        flow.watch(&job).await;
        let error = flow.error(&job).await;
        assert!(error.contains(&words) && !error.contains("secret"), "{answer:?}: {error}");
        site.json(&format!("/tasks/{job}"), DONE);
        flow.receiver.at_least(index + 1).await;
    }
    assert!(elsewhere.requests("/login?next=secret").is_empty(), "a status is asked for at its source alone");
    flow.stop_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_followed_elsewhere_without_our_headers() {
    let (site, storage) = (Site::start().await, Site::start().await);
    let flow = open_flow(with_header(with_result(&site)), &["127.0.0.0/8"]).await;
    site.json("/tasks/t1", DONE);
    site.script("/out/t1", [Answer::to(302, &format!("{}/files/1?sig=x", storage.url()))]);
    storage.script("/files/1?sig=x", [Answer::to(302, &format!("{}/back", site.url()))]);
    site.answer("/back", 200, "application/jsonl", LINES);
    flow.watch("t1").await;
    assert_eq!(flow.brought("t1").await.1.body, LINES.as_bytes());
    for asked in [storage.requests("/files/1?sig=x"), site.requests("/back")] {
        assert!(asked.len() == 1 && !carries_ours(&asked[0]), "{asked:?}");
    }
    flow.stop_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_cannot_be_requested_is_told_without_its_secrets_and_read_again() {
    let site = Site::start().await;
    let flow = flow_of(with_link(&site)).await;
    let (base, place) = (site.url(), "/out/t?sig=hunter2");
    site.json(place, r#"{"n":1}"#);
    let with_user = format!("{}{place}", base.replace("http://", "http://user:hunter2@"));
    let long = format!("{base}{place}&more={}", "x".repeat(9000));
    for (job, link) in [("user", with_user), ("long", long)] {
        site.json(&format!("/tasks/{job}"), &done_at(&link));
        flow.watch(job).await;
        let error = flow.error(job).await;
        assert!(error.contains("`/link`") && !error.contains("hunter2"), "{job}: {error}");
    }
    assert!(flow.receiver.requests().is_empty(), "the status is not the result");
    // A fragment is for the reader of a link alone.
    site.json("/tasks/user", &done_at(&format!("{base}{place}#page=1")));
    let (_, event) = flow.brought("user").await;
    assert_eq!(event.body, br#"{"n":1}"#);
    flow.stop_clean().await;
}
