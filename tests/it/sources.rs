//! Other job APIs: described by a built-in profile or by the configuration alone.

use base64::Engine as _;
use serde_json::{Value, json};
use tidings::{
    deliver::Format,
    upstream::{Outcomes, SourceConfig, SourceType},
    util::secret::Secret,
    util::units::HumanDuration,
};

use crate::harness::{Answer, Flow, Process, Setup, Site, eventually, once, show};

pub fn list(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A source of this type at a site, with a key and quick polls.
pub fn source(kind: &str, site: &Site) -> SourceConfig {
    let mut source = SourceConfig {
        profile: SourceType::named(kind).unwrap(),
        base_url: Some(site.url()),
        api_key: Some(Secret::new("k1")),
        max_requests_per_second: 2000.0,
        not_found_grace: Some(HumanDuration::millis(100)),
        ..SourceConfig::default()
    };
    source.polling.min_interval = HumanDuration::millis(20);
    source.polling.max_interval = Some(HumanDuration::millis(100));
    source
}

/// One that is described whole.
pub fn custom(site: &Site) -> SourceConfig {
    SourceConfig {
        status_path: Some("/tasks/{id}".to_owned()),
        status_at: Some(list(&["/state"])),
        outcomes: Some(Outcomes {
            pending: list(&["busy"]),
            completed: list(&["done"]),
            failed: list(&["broken"]),
            cancelled: list(&["stopped"]),
            ..Outcomes::default()
        }),
        ..source("custom", site)
    }
}

/// A flow with this source alone, which writes to the sink `disk`, too.
pub async fn flow_of(source: SourceConfig, format: Format) -> Flow {
    Setup::new().await.jobs_at(source).format(format).disk().start().await
}

/// A file that a batch API makes: no JSON, although each of its lines is.
const LINES: &[u8] = b"{\"custom_id\":\"a\"}\n{\"custom_id\":\"b\"}\n\xff";

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_no_json_is_sent_with_its_type() {
    for format in [Format::Envelope, Format::Raw, Format::CloudEvents] {
        let site = Site::start().await;
        let flow = flow_of(source("openai-batch", &site), format).await;
        site.json("/v1/batches/b1", r#"{"status":"in_progress"}"#);
        flow.daemon.register(&json!({"job_id": "b1"})).await;
        eventually("it is looked at", || async { site.requests("/v1/batches/b1").pop() }).await;
        site.answer("/v1/files/file%3A1/content", 200, "application/jsonl", LINES);
        site.json(
            "/v1/batches/b1",
            r#"{"status":"completed","output_file_id":"file:1","endpoint":"/v1/embeddings","metadata":{"a":"b"}}"#,
        );
        let watch = flow.done("b1").await;
        assert_eq!((&watch["outcome"], &watch["endpoint"]), (&json!("completed"), &json!("/v1/embeddings")));
        let fetched = site.requests("/v1/files/file%3A1/content").pop().unwrap();
        assert_eq!(fetched.header("authorization"), "Bearer k1");
        let event = flow.receiver.at_least(1).await.remove(0);
        let encoded = base64::engine::general_purpose::STANDARD.encode(LINES);
        match format {
            Format::Raw => {
                assert_eq!(event.header("content-type"), "application/jsonl");
                assert_eq!(event.body, LINES);
            }
            Format::CloudEvents => {
                let event = event.json();
                assert_eq!(event["datacontenttype"], "application/jsonl");
                assert_eq!(event["data_base64"], encoded);
                assert_eq!(event.get("data"), None);
            }
            _ => {
                let event = event.json();
                assert_eq!(event["data_content_type"], "application/jsonl");
                assert_eq!(event["data_base64"], encoded);
                assert!(event["data"].is_null());
            }
        }
        let (status, stored) = flow.daemon.get_bytes("/v1/watches/jobs/b1/job").await;
        assert_eq!((status, stored.as_slice()), (200, LINES));
        let written = std::fs::read_dir(flow.path().join("out/jobs")).unwrap();
        let written: Vec<_> = written.map(|entry| entry.unwrap().path()).collect();
        assert!(written.iter().any(|path| std::fs::read(path).unwrap() == LINES), "{written:?}");
        flow.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_without_a_file_is_delivered_as_it_is() {
    let site = Site::start().await;
    let flow = flow_of(source("openai-batch", &site), Format::Raw).await;
    let body = r#"{"status":"failed","output_file_id":null,"errors":{"data":[{"code":"bad_line"}]}}"#;
    site.json("/v1/batches/b1", body);
    flow.daemon.register(&json!({"job_id": "b1"})).await;
    let watch = flow.done("b1").await;
    assert_eq!(watch["outcome"], "failed");
    assert!(watch["last_error"].as_str().unwrap().contains("bad_line"), "{watch}");
    assert_eq!(flow.receiver.at_least(1).await.remove(0).body, body.as_bytes());
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_result_is_cut_out_byte_for_byte() {
    let site = Site::start().await;
    let keys = SourceConfig { result_at: Some("/out/rows".to_owned()), ..custom(&site) };
    let flow = flow_of(keys, Format::Raw).await;
    site.json("/tasks/t1", r#"{"state":"done", "out" : {"rows": [ 1e-400 ,{"b":1,"a":2}] }}"#);
    site.json("/tasks/t2", r#"{"state":"broken","why":"x"}"#);
    for (job, expected) in [("t1", r#"[ 1e-400 ,{"b":1,"a":2}]"#), ("t2", r#"{"state":"broken","why":"x"}"#)]
    {
        flow.daemon.register(&json!({"job_id": job})).await;
        flow.done(job).await;
        let (_, stored) = flow.daemon.get_bytes(&format!("/v1/watches/jobs/{job}/job")).await;
        assert_eq!(String::from_utf8(stored).unwrap(), expected);
    }
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_result_is_the_error_of_the_job_where_the_profile_says_so() {
    let site = Site::start().await;
    let flow = flow_of(source("fal", &site), Format::Raw).await;
    site.json("/fal-ai/flux/requests/r1/status", r#"{"status":"COMPLETED"}"#);
    let error = r#"{"detail":[{"msg":"no such picture"}]}"#;
    site.answer("/fal-ai/flux/requests/r1", 422, "application/json", error);
    flow.daemon.register(&json!({"job_id": "r1", "vars": {"app": "fal-ai/flux"}})).await;
    let watch = flow.done("r1").await;
    assert_eq!((&watch["outcome"], &watch["vars"]), (&json!("failed"), &json!({"app": "fal-ai/flux"})));
    assert_eq!(flow.receiver.at_least(1).await.remove(0).body, error.as_bytes());
    assert_eq!(site.requests("/fal-ai/flux/requests/r1/status")[0].header("authorization"), "Key k1");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_goes_to_the_other_origins_that_are_allowed() {
    let (site, elsewhere) = (Site::start().await, Site::start().await);
    let keys = SourceConfig {
        result_path: Some("{/link}".to_owned()),
        allow_origins: Some(vec![elsewhere.url()]),
        ..custom(&site)
    };
    let flow = flow_of(keys, Format::Raw).await;
    let body = json!({"state": "done", "link": format!("{}/files/1?sig=x", elsewhere.url())}).to_string();
    site.json("/tasks/t1", &body);
    elsewhere.json("/files/1?sig=x", "[1]");
    flow.daemon.register(&json!({"job_id": "t1"})).await;
    flow.done("t1").await;
    let asked = elsewhere.requests("/files/1?sig=x");
    assert_eq!((asked.len(), asked[0].header("authorization")), (1, "Bearer k1"));
    assert_eq!(flow.receiver.at_least(1).await.remove(0).body, b"[1]");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_brings_the_variables_of_its_source() {
    let site = Site::start().await;
    let keys = SourceConfig {
        vars: [("owner".to_owned(), "o".to_owned())].into(),
        ..source("github-actions", &site)
    };
    let flow = flow_of(keys, Format::Raw).await;
    let daemon = &flow.daemon;
    let problem = |body: Value| async move {
        let (status, problem) = daemon.post("/v1/watches", &body).await;
        (status, problem["code"].as_str().unwrap_or_default().to_owned(), problem["detail"].to_string())
    };
    for vars in [json!({}), json!({"repo": "r", "colour": "red"}), json!({"repo": ".."}), json!({"repo": ""})]
    {
        let (status, code, detail) = problem(json!({"job_id": "7", "vars": vars})).await;
        assert_eq!((status, code.as_str()), (422, "invalid_vars"), "{detail}");
    }
    site.json(
        "/repos/o/r/actions/runs/7",
        r#"{"status":"completed","conclusion":"success","run_attempt":1}"#,
    );
    flow.daemon.register(&json!({"job_id": "7", "vars": {"repo": "r"}})).await;
    let first = flow.done("7").await;
    assert_eq!(first["vars"], json!({"repo": "r"}));
    let (status, code, _) = problem(json!({"job_id": "7", "vars": {"repo": "other"}})).await;
    assert_eq!((status, code.as_str()), (409, "vars_conflict"));
    // A rerun keeps the id: what counts it up makes it another run.
    site.json(
        "/repos/o/r/actions/runs/7",
        r#"{"status":"completed","conclusion":"failure","run_attempt":2}"#,
    );
    flow.daemon.register(&json!({"job_id": "7", "vars": {"repo": "r"}})).await;
    let second = eventually("the rerun is delivered", || async {
        let (_, watch) = flow.daemon.get("/v1/watches/jobs/7").await;
        (watch["phase"] == "done" && watch["outcome"] == "failed").then_some(watch)
    })
    .await;
    assert_ne!(first["event_id"], second["event_id"]);
    flow.stop().await;
}

/// A configuration file with one source of type custom, on top of keys that are in order.
fn write(folder: &std::path::Path, url: &str, changes: &[(&str, &str)]) {
    let mut keys: Vec<(&str, String)> = vec![
        ("type", "\"custom\"".to_owned()),
        ("base_url", format!("\"{url}\"")),
        ("api_key", "\"k1-secret\"".to_owned()),
        ("status_path", "\"/tasks/{id}\"".to_owned()),
        ("status_at", "[\"/state\"]".to_owned()),
        ("outcomes", "{ pending = [\"busy\"], completed = [\"done\"] }".to_owned()),
        ("polling", "{ min_interval = \"20ms\", max_interval = \"50ms\" }".to_owned()),
    ];
    for (key, value) in changes {
        keys.retain(|(known, _)| known != key);
        if !value.is_empty() {
            keys.push((key, (*value).to_owned()));
        }
    }
    let lines: Vec<String> = keys.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    let text = format!("[store]\npath = \"data\"\n\n[sources.jobs]\n{}\n", lines.join("\n"));
    std::fs::write(folder.join("tidings.toml"), text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_cannot_be_meant_is_refused_at_start_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "http://127.0.0.1:9", &[]);
    let output = once(folder.path(), &["config", "check"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", show(&output));
    for (key, value, hint) in [
        ("status_at", "[\"state\"]", "JSON pointer"),
        ("status_at", "[\"/a~2\"]", "JSON pointer"),
        ("status_at", "", "needs it"),
        ("status_path", "", "needs it"),
        ("status_path", "\"/tasks/{id\"", "not closed"),
        ("status_path", "\"/tasks/{/id}\"", "status body"),
        ("status_path", "\"https://elsewhere.example/{id}\"", "allow_origins"),
        ("result_path", "\"https://elsewhere.example/{/file}\"", "allow_origins"),
        ("result_path", "\"http://127.0.0.1:9{/host}/x\"", "allow_origins"),
        ("outcomes", "{ completed = [\"Done\"], failed = [\"done\"] }", "two classes"),
        ("outcomes", "{ pending = [\"busy\"] }", "no word ends"),
        ("outcomes", "", "needs it"),
        ("vars", "{ team = \"x\" }", "no path"),
        ("vars", "{ id = \"x\" }", "cannot be a variable"),
        ("base_url", "", "needs it"),
        ("base_url", "\"ftp://x\"", "http"),
        ("allow_origins", "[\"https://x.example/path\"]", "no origin"),
        ("api_key_header", "\"not a header\"", "header"),
        ("poll_hint_header", "\"not a header\"", "header"),
        ("created_id_at", "\"/id\"", "goes together"),
        ("headers", "{ \"x y\" = \"z\" }", "header"),
        ("proxy", "{ max_age = \"2m\" }", "1m"),
        ("type", "\"opanai-batch\"", "openai-batch"),
    ] {
        write(folder.path(), "http://127.0.0.1:9", &[(key, value)]);
        let output = once(folder.path(), &["run", "--listen", "127.0.0.1:0"]).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{key} = {value}: {said}");
        assert!(
            said.contains(&format!("sources.jobs.{key}")) && said.contains(hint),
            "{key} = {value}: {said}"
        );
        assert!(!said.contains("k1-secret"), "{said}");
        assert!(!folder.path().join("data").exists(), "nothing was started");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_is_never_found_is_told_and_source_test_shows_why() {
    let (folder, site) = (tempfile::tempdir().unwrap(), Site::start().await);
    site.json("/tasks/t1", r#"{"State":{"phase":"done"}}"#);
    write(folder.path(), &site.url(), &[]);
    let process = Process::run(folder.path(), &[]).await;
    let http = crate::harness::http();
    let body = json!({"job_id": "t1"});
    http.post(format!("{}/v1/watches", process.url)).json(&body).send().await.unwrap();
    eventually("it is told", || async {
        let log = process.log();
        (log.contains("answer without a status") && log.contains("tidings source test jobs t1")).then_some(())
    })
    .await;
    process.kill().await;

    let shown = once(folder.path(), &["source", "test", "jobs", "t1"]).await;
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert_eq!(shown.status.code(), Some(1), "{text}");
    for part in
        ["/tasks/t1", "200, application/json", "\"phase\":\"done\"", "/state", "nothing", "correct status_at"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("k1-secret"), "{text}");

    write(
        folder.path(),
        &site.url(),
        &[("status_at", "[\"/State/phase\"]"), ("result_path", "\"/out/{id}\"")],
    );
    let shown = once(folder.path(), &["source", "test", "jobs", "t1"]).await;
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert_eq!(shown.status.code(), Some(0), "{text}");
    for part in ["ends the job: completed", "/out/t1", "\"done\"", "authorization: Bearer [redacted]"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(site.requests("/out/t1").is_empty(), "the result is named, not fetched");
}

#[tokio::test(flavor = "multi_thread")]
async fn source_test_shows_every_answer_and_where_it_leads() {
    let (folder, site) = (tempfile::tempdir().unwrap(), Site::start().await);
    let shown = async |job: &str, status: i32, parts: &[&str]| {
        let shown = once(folder.path(), &["source", "test", "jobs", job]).await;
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        for part in parts {
            assert!(text.contains(part), "{job}: {part}: {text}");
        }
        assert_eq!(shown.status.code(), Some(status), "{job}: {text}");
        assert!(!text.contains("k1-secret"), "{job}: {text}");
    };
    write(folder.path(), &site.url(), &[]);
    let long = format!("<html>the reason, k1-secret{}", " ".repeat(300_000));
    site.answer("/tasks/page", 200, "text/html", long);
    site.answer("/tasks/broken", 500, "text/html", "<html>the reason");
    site.answer("/tasks/text", 200, "text/plain", "the reason");
    site.script("/tasks/coded", [Answer::json("x").with("content-encoding", "br")]);
    site.script("/tasks/moved", [Answer::to(302, "/tasks/here?token=k1-secret")]);
    site.json("/tasks/here?token=k1-secret", r#"{"state":"done"}"#);
    site.script("/tasks/away", [Answer::to(302, "https://evil.example.net/login")]);
    site.script("/tasks/nowhere", [Answer::typed(302, "text/html", "<html>the reason")]);
    shown("page", 1, &["200, text/html, 300027 bytes", "<html>the reason, [redacted]", "no JSON"]).await;
    shown("broken", 1, &["500, text/html, 16 bytes", "<html>the reason"]).await;
    shown("text", 1, &["200, text/plain, 10 bytes", "the reason"]).await;
    shown("coded", 1, &["200, application/json, no body: the answer is encoded as `br`"]).await;
    shown("moved", 0, &["redirected to http", "/tasks/here?token=[redacted]", "ends the job: completed"])
        .await;
    shown("away", 1, &["answered 302 and names https://evil.example.net/login"]).await;
    shown("nowhere", 1, &["302, text/html, 16 bytes", "the redirect has no Location", "the reason"]).await;

    // The HTTP status says how far the job is.
    let by_code = ("status_http", "{ pending = [202], completed = [200, 303], failed = [500] }");
    write(folder.path(), &site.url(), &[by_code]);
    site.script("/tasks/early", [Answer::bare(202, "")]);
    site.script("/tasks/led", [Answer::to(303, "/out/1")]);
    site.script("/tasks/bare", [Answer::bare(200, "a,b")]);
    shown("early", 0, &["202, no content-type, 0 bytes", "`202` is not the end"]).await;
    shown("led", 0, &["303, ", "names http", "`303` ends the job: completed", "GET http", "/out/1"]).await;
    assert!(site.requests("/out/1").is_empty(), "the result is named, not fetched");
    shown("broken", 0, &["`500` ends the job: failed", "the answer above is the result"]).await;
    shown("text", 0, &["`200` ends the job: completed", "the answer above is the result"]).await;
    shown("bare", 0, &["ends the job: completed", "none: the answer is no JSON"]).await;
    site.answer("/tasks/said", 200, "text/plain", "\n<HTML>the reason");
    for page in ["page", "said"] {
        shown(page, 0, &["ends the job: completed", "none: an HTML page", "result_may_be_html"]).await;
    }
    write(folder.path(), &site.url(), &[by_code, ("result_may_be_html", "true")]);
    shown("page", 0, &["ends the job: completed", "the answer above is the result"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn source_test_shows_what_went_wrong() {
    let (folder, site) = (tempfile::tempdir().unwrap(), Site::start().await);
    site.answer("/tasks/t1", 401, "application/json", "{\"detail\":\"who are you, k1-secret\"}");
    site.answer("/tasks/t2", 200, "text/html", "<html>");
    write(folder.path(), &site.url(), &[]);
    for (args, status, part) in [
        (&["t1"][..], 1, "who are you, [redacted]"),
        (&["t2"], 1, "no JSON"),
        (&["t3"], 1, "404"),
        (&["t1", "--var", "x"], 2, "KEY=VALUE"),
    ] {
        let shown = once(folder.path(), &[&["source", "test", "jobs"], args].concat()).await;
        let text =
            format!("{}{}", String::from_utf8_lossy(&shown.stdout), String::from_utf8_lossy(&shown.stderr));
        assert_eq!(shown.status.code(), Some(status), "{args:?}: {text}");
        assert!(text.contains(part), "{args:?}: {text}");
        assert!(!text.contains("k1-secret"), "{args:?}: {text}");
    }
    let shown = once(folder.path(), &["source", "test", "other", "t1"]).await;
    assert_eq!(shown.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&shown.stderr).contains("the configuration has `jobs`"),
        "{}",
        show(&shown)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_types_are_listed_without_a_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let listed = once(folder.path(), &["source", "list", "--types"]).await;
    assert_eq!(listed.status.code(), Some(0), "{}", show(&listed));
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    for name in tidings::upstream::TYPES {
        assert!(text.lines().any(|line| line.split_whitespace().next() == Some(name)), "{name}: {text}");
    }
}
