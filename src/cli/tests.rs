//! The commands against a stand-in for the API on a real socket.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{Router, extract::State, http::Request, response::Response};
use clap::{CommandFactory as _, Parser as _};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::{Cli, ExitStatus, exit::BadUsage, output::Console};

/// A request as the API got it.
#[derive(Clone, Debug)]
struct Seen {
    /// `GET /v1/watches?limit=100`
    line: String,
    token: Option<String>,
    body: Value,
}

type Answers = Arc<Mutex<(VecDeque<(u16, String)>, Vec<Seen>)>>;

/// Gives prepared answers in turn and remembers what it was asked.
struct Stub {
    url: String,
    answers: Answers,
}

impl Stub {
    async fn new(answers: &[(u16, Value)]) -> Self {
        let texts = answers.iter().map(|(status, body)| (*status, body.to_string())).collect();
        Self::raw(texts).await
    }

    async fn raw(answers: VecDeque<(u16, String)>) -> Self {
        let answers: Answers = Arc::new(Mutex::new((answers, Vec::new())));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(answer).with_state(Arc::clone(&answers));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, answers }
    }

    fn seen(&self) -> Vec<Seen> {
        self.answers.lock().unwrap().1.clone()
    }

    fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }

    async fn tidings(&self, args: &[&str]) -> Ran {
        self.tidings_with(args, "").await
    }

    async fn tidings_with(&self, args: &[&str], stdin: &str) -> Ran {
        tidings(&[&["--url", &self.url], args].concat(), stdin).await
    }
}

async fn answer(State(answers): State<Answers>, request: Request<axum::body::Body>) -> Response {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let token = head.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let seen = Seen {
        line: format!("{} {}", head.method, head.uri),
        token,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    let mut answers = answers.lock().unwrap();
    answers.1.push(seen);
    let (status, text) = answers.0.pop_front().unwrap_or_else(|| (500, "no answer prepared".to_owned()));
    Response::builder().status(status).body(text.into()).unwrap()
}

/// What a command came to.
#[derive(Debug)]
struct Ran {
    status: ExitStatus,
    out: String,
    /// Remarks, and the error when there was one.
    err: String,
}

async fn tidings(args: &[&str], stdin: &str) -> Ran {
    let cli = Cli::try_parse_from([&["tidings"], args].concat()).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut console = Console { out: &mut out, err: &mut err, input: &mut stdin.as_bytes(), live: false };
    let result = cli.ask(&mut console).await;
    let mut err = String::from_utf8(err).unwrap();
    let status = result.unwrap_or_else(|error| {
        err.push_str(&format!("{error:#}"));
        ExitStatus::of_error(&error)
    });
    Ran { status, out: String::from_utf8(out).unwrap(), err }
}

/// The exit code of the parser for `args`; 0 when it takes them.
fn parses(args: &[&str]) -> i32 {
    match Cli::try_parse_from([&["tidings"], args].concat()) {
        Ok(_) => 0,
        Err(error) => error.exit_code(),
    }
}

fn watch(job_id: &str, phase: &str, outcome: Option<&str>, deliveries: &[&str]) -> Value {
    let deliveries: Vec<Value> = deliveries
        .iter()
        .map(|state| {
            json!({"id": "dlv_1", "sink": "app", "state": state, "attempts": 1, "next_attempt_at": null, "last_status": 200})
        })
        .collect();
    json!({"source": "retab", "job_id": job_id, "phase": phase, "status": outcome.unwrap_or("queued"),
        "outcome": outcome, "endpoint": "/v1/extractions", "labels": {"team": "billing"}, "metadata": null,
        "created_at": "2026-11-23T17:00:00.123Z", "updated_at": "2026-11-23T17:00:00.123Z", "polls": 3,
        "next_poll_at": null, "finished_at": null, "event_id": null, "job_size": null, "job_sha256": null,
        "last_error": null, "deliveries": deliveries})
}

fn delivery() -> Value {
    json!({"id": "dlv_1", "sink": "app", "state": "dead", "event_id": "evt_1", "event_type": "job.completed",
        "source": "retab", "job_id": "job_1", "created_at": "2026-11-23T17:00:00Z",
        "updated_at": "2026-11-23T17:00:00Z", "next_attempt_at": null, "last_status": 500, "reason": "gave up",
        "attempt_count": 8, "attempts": [{"at": "2026-11-23T17:00:00Z", "duration_ms": 12, "status": 500,
        "error": "answered 500", "response": "oh\nno"}]})
}

fn problem(status: u16, code: &str, detail: &str) -> (u16, Value) {
    let body = json!({"type": "about:blank", "title": "t", "status": status, "detail": detail, "code": code});
    (status, body)
}

#[test]
fn the_tree_of_commands_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn bad_usage_is_told_by_the_parser() {
    for bad in [
        &["redeliver"][..],
        &["redeliver", "dlv_1", "--all"],
        &["watch"],
        &["watch", "job_1", "--label", "team"],
        &["watch", "job_1", "--timeout", "5m"],
        &["get", ".."],
        &["get", "job_1", "--job", "--output", "json"],
        &["list", "--phase", "sleeping"],
        &["list", "--limit", "0"],
        &["deliveries", "dlv_1", "--state", "dead"],
        &["deliveries", "--since", "yesterday"],
        &["run", "--watch", ""],
    ] {
        assert_eq!(parses(bad), 2, "{bad:?}");
    }
    for good in [
        &["redeliver", "--sink", "app"][..],
        &["redeliver", "dlv_1", "dlv_2"],
        &["watch", "-", "--wait", "--timeout", "5m"],
        &["list", "--url", "http://x"],
        &["run", "--once", "--watch", "job_1", "--watch", "job_2", "--config", "c.toml"],
    ] {
        assert_eq!(parses(good), 0, "{good:?}");
    }
}

#[tokio::test]
async fn one_job_is_registered_with_all_that_was_said_of_it() {
    let stub = Stub::new(&[(202, watch("job_1", "watching", None, &[]))]).await;
    let args = [
        "--token",
        "hush",
        "watch",
        "job_1",
        "--source",
        "retab",
        "--label",
        "team=billing",
        "--sink",
        "app",
        "--callback",
        "https://example.com/h",
        "--deadline",
        "2h",
    ];
    let ran = stub.tidings(&args).await;
    assert_eq!((ran.status, ran.out.as_str()), (ExitStatus::Done, "job_1 accepted\n"), "{ran:?}");
    let seen = &stub.seen()[0];
    assert_eq!(seen.line, "POST /v1/watches");
    assert_eq!(seen.token.as_deref(), Some("Bearer hush"));
    assert_eq!(
        seen.body,
        json!({"job_id": "job_1", "source": "retab", "labels": {"team": "billing"},
        "sinks": ["app"], "callback": {"url": "https://example.com/h"}, "deadline": "2h"})
    );
}

#[tokio::test]
async fn many_jobs_are_registered_by_the_thousand() {
    let full = json!({"accepted": 999, "existing": 1, "rejected": []});
    let rest =
        json!({"accepted": 0, "existing": 0, "rejected": [{"index": 0, "code": "bad", "detail": "no room"}]});
    let stub = Stub::new(&[(200, full), (200, rest)]).await;
    let stdin: String = (0..1001).map(|n| format!("job_{n}\n# no job\n\n")).collect();
    let ran = stub.tidings_with(&["watch", "-", "--label", "a=b"], &stdin).await;
    assert_eq!(ran.status, ExitStatus::Failed);
    assert_eq!(ran.out, "999 accepted, 1 existing\n");
    assert!(ran.err.contains("job_1000 was refused: no room (bad)"), "{}", ran.err);
    let seen = stub.seen();
    assert_eq!(seen[0].line, "POST /v1/watches/batch");
    assert_eq!(seen[0].body["watches"].as_array().unwrap().len(), 1000);
    assert_eq!(seen[1].body, json!({"watches": [{"job_id": "job_1000", "labels": {"a": "b"}}]}));
}

#[tokio::test]
async fn waiting_goes_on_over_a_timeout_and_a_restart_until_deliveries_are_settled() {
    let stub = Stub::new(&[
        (202, watch("job_1", "watching", None, &[])),
        (202, watch("job_1", "watching", None, &[])),
        problem(503, "stopping", "the daemon stops"),
        (200, watch("job_1", "delivering", Some("completed"), &["pending"])),
        (200, watch("job_1", "delivering", Some("completed"), &["pending"])),
        (200, watch("job_1", "done", Some("completed"), &["delivered"])),
    ])
    .await;
    let ran = stub.tidings(&["watch", "job_1", "--wait"]).await;
    assert_eq!(ran.status, ExitStatus::Done, "{ran:?}");
    assert_eq!(ran.out, "job_1 accepted\njob_1 completed (3 polls, 1 delivery)\n");
    let lines = stub.lines();
    assert_eq!(lines[1], "GET /v1/watches/retab/job_1/wait?timeout=30000ms");
    assert_eq!(lines[3], lines[1]);
    assert_eq!(lines[4..], ["GET /v1/watches/retab/job_1", "GET /v1/watches/retab/job_1"]);
}

#[tokio::test]
async fn the_exit_status_tells_the_worst_that_happened() {
    let batch = || (200, json!({"accepted": 2, "existing": 0, "rejected": []}));
    let failed = || (200, watch("job_1", "done", Some("failed"), &["delivered"]));
    let done = || (200, watch("job_2", "done", Some("completed"), &[]));
    let dead = || (200, watch("job_2", "dead", Some("completed"), &["dead", "delivered"]));
    let cases = [
        (vec![batch(), done(), done()], ExitStatus::Done),
        (vec![batch(), failed(), done()], ExitStatus::NotCompleted),
        (vec![batch(), failed(), dead()], ExitStatus::DeadLetter),
        (vec![batch(), dead(), failed()], ExitStatus::DeadLetter),
        (vec![batch(), dead(), problem(404, "not_found", "no such watch")], ExitStatus::Failed),
    ];
    for (answers, status) in cases {
        let stub = Stub::new(&answers).await;
        let ran = stub.tidings(&["watch", "job_1", "job_2", "--wait"]).await;
        assert_eq!(ran.status, status, "{ran:?}");
    }
}

#[tokio::test]
async fn waiting_ends_when_its_time_is_up() {
    let open = || (202, watch("job_1", "watching", None, &[]));
    let stub = Stub::new(&[open(), open(), open(), open()]).await;
    let ran = stub.tidings(&["watch", "job_1", "--wait", "--timeout", "100ms"]).await;
    assert_eq!(ran.status, ExitStatus::Failed);
    assert!(ran.err.contains("1 job of 1 not settled after 100ms"), "{}", ran.err);
}

#[tokio::test]
async fn a_list_follows_cursors_up_to_its_limit() {
    let page = |ids: &[&str], next: Value| {
        let data: Vec<Value> = ids.iter().map(|id| watch(id, "watching", None, &[])).collect();
        (200, json!({"data": data, "next_cursor": next}))
    };
    let stub =
        Stub::new(&[page(&["a"], json!("c/1")), page(&[], json!("c2")), page(&["b"], json!("c3"))]).await;
    let args = ["list", "--limit", "2", "--phase", "watching", "--label", "a b=c&d", "--output", "json"];
    let ran = stub.tidings(&args).await;
    let ids: Vec<Value> = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(ids.iter().map(|watch| watch["job_id"].as_str().unwrap()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(ran.err.contains("--all"), "{}", ran.err);
    assert_eq!(
        stub.lines(),
        [
            "GET /v1/watches?phase=watching&label.a%20b=c%26d&limit=2",
            "GET /v1/watches?phase=watching&label.a%20b=c%26d&limit=1&cursor=c%2F1",
            "GET /v1/watches?phase=watching&label.a%20b=c%26d&limit=1&cursor=c2",
        ]
    );

    let long = "x".repeat(256);
    let stub = Stub::new(&[page(&[&long], Value::Null), page(&[], Value::Null)]).await;
    let ran = stub.tidings(&["list", "--all"]).await;
    assert!(ran.out.starts_with("JOB") && ran.out.contains(&long), "{}", ran.out);
    assert_eq!(stub.lines(), ["GET /v1/watches?limit=1000"]);
    let ran = stub.tidings(&["list", "--output", "json"]).await;
    assert_eq!(ran.out, "[]\n");
}

#[tokio::test]
async fn a_watch_and_its_job_are_shown_as_they_are() {
    let odd = "{ \"b\": 1.0,\n\t\"a\": 12345678901234567890123 }";
    let shown = watch("a/b", "dead", Some("completed"), &["dead"]).to_string();
    let answers = [(200, odd.to_owned()), (200, shown.clone()), (200, shown.clone())];
    let stub = Stub::raw(VecDeque::from(answers)).await;
    let ran = stub.tidings(&["get", "a/b", "--job"]).await;
    assert_eq!((ran.status, ran.out.as_str()), (ExitStatus::Done, odd));
    assert_eq!(stub.tidings(&["get", "a/b", "--output", "json"]).await.out, shown + "\n");
    let table = stub.tidings(&["get", "a/b", "--source", "x y"]).await.out;
    assert!(table.contains("labels") && table.contains("team=billing") && table.contains("dlv_1"), "{table}");
    assert_eq!(
        stub.lines(),
        ["GET /v1/watches/retab/a%2Fb/job", "GET /v1/watches/retab/a%2Fb", "GET /v1/watches/x%20y/a%2Fb",]
    );
}

#[tokio::test]
async fn unwatching_goes_on_past_a_watch_that_is_not_there() {
    let stub = Stub::raw(VecDeque::from([
        (404, problem(404, "not_found", "no such watch").1.to_string()),
        (204, String::new()),
    ]))
    .await;
    let ran = stub.tidings(&["unwatch", "job_1", "job_2"]).await;
    assert_eq!((ran.status, ran.out.as_str()), (ExitStatus::Failed, "job_2 is watched no more\n"));
    assert!(ran.err.contains("job_1: the daemon refused: no such watch (not_found)"), "{}", ran.err);
    assert_eq!(stub.lines()[1], "DELETE /v1/watches/retab/job_2");
}

#[tokio::test]
async fn deliveries_are_filtered_and_one_is_shown_with_its_attempts() {
    let page = json!({"data": [delivery()], "next_cursor": null});
    let stub = Stub::new(&[(200, page), (200, delivery())]).await;
    let args = [
        "deliveries",
        "--state",
        "dead",
        "--sink",
        "app",
        "--job-id",
        "a/b",
        "--since",
        "2026-11-23T17:00:00Z",
    ];
    let ran = stub.tidings(&args).await;
    assert!(ran.out.contains("dlv_1") && ran.out.contains("job.completed"), "{}", ran.out);
    let line =
        "GET /v1/deliveries?state=dead&sink=app&job_id=a%2Fb&since=2026-11-23T17%3A00%3A00.000Z&limit=100";
    assert_eq!(stub.lines(), [line]);
    let ran = stub.tidings(&["deliveries", "dlv_1"]).await;
    assert!(
        ran.out.contains("gave up") && ran.out.contains("12ms") && ran.out.contains("oh no"),
        "{}",
        ran.out
    );
}

#[tokio::test]
async fn redelivering_by_filter_means_dead_letters_unless_told_otherwise() {
    let stub =
        Stub::new(&[(202, json!({"count": 1})), (202, json!({})), problem(404, "not_found", "no")]).await;
    let ran = stub.tidings(&["redeliver", "--sink", "app", "--until", "2026-11-23T17:00:00Z"]).await;
    assert_eq!(ran.out, "1 delivery is sent again\n");
    assert_eq!(
        stub.seen()[0].body,
        json!({"state": "dead", "sink": "app", "until": "2026-11-23T17:00:00.000Z"})
    );
    let ran = stub.tidings(&["redeliver", "dlv_1", "dlv_2"]).await;
    assert_eq!((ran.status, ran.out.as_str()), (ExitStatus::Failed, "dlv_1 is sent again\n"), "{ran:?}");
    assert_eq!(
        stub.lines()[1..],
        ["POST /v1/deliveries/dlv_1/redeliver", "POST /v1/deliveries/dlv_2/redeliver"]
    );
}

#[tokio::test]
async fn sinks_are_listed_and_tested() {
    let sink = json!({"name": "app", "type": "webhook", "target": "http://127.0.0.1:9/", "pending": 1, "in_flight": 0,
        "delivered": 7, "failed": 2, "dead": 0, "last_success_at": null, "last_error": null, "breaker": "closed"});
    let attempt = |error: Value, status: u16| {
        (
            200,
            json!({"at": "2026-11-23T17:00:00Z", "duration_ms": 5, "status": status, "error": error, "response": ""}),
        )
    };
    let stub = Stub::new(&[
        (200, json!([sink])),
        (200, json!({"data": [sink], "next_cursor": null})),
        attempt(Value::Null, 204),
        attempt(json!("answered 500"), 500),
    ])
    .await;
    for _ in 0..2 {
        assert!(stub.tidings(&["sink", "list"]).await.out.contains("app   webhook"), "bare or a page");
    }
    let ran = stub.tidings(&["sink", "test", "app"]).await;
    assert_eq!(
        (ran.status, ran.out.as_str()),
        (ExitStatus::Done, "app took the test event with 204 in 5ms\n")
    );
    let ran = stub.tidings(&["sink", "test", "app"]).await;
    assert_eq!(ran.status, ExitStatus::Failed);
    assert!(ran.out.contains("did not take"), "{}", ran.out);
    assert_eq!(stub.lines()[3], "POST /v1/sinks/app/test");
}

#[tokio::test]
async fn health_is_the_exit_status() {
    let degraded = json!({"status": "degraded", "reasons": ["retab is failing"]});
    let away = json!({"status": "unavailable", "reasons": ["the disk is full"]});
    let stub = Stub::new(&[(200, degraded), (503, away)]).await;
    let ran = stub.tidings(&["healthcheck"]).await;
    assert_eq!((ran.status, ran.out.as_str(), ran.err.as_str()), (ExitStatus::Done, "", ""));
    let ran = stub.tidings(&["healthcheck"]).await;
    assert_eq!(ran.status, ExitStatus::Failed);
    assert_eq!(ran.err, "the daemon is not ready: the disk is full");
    assert_eq!(stub.lines(), ["GET /readyz", "GET /readyz"]);
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let ran = tidings(&["--url", &free.to_string(), "list"], "").await;
    assert_eq!(ran.status, ExitStatus::Failed);
    let message = format!("no daemon answers at http://{free}; start one with `tidings run`");
    assert!(ran.err.starts_with(&message), "{}", ran.err);

    let stub = Stub::new(&[problem(401, "unauthorized", "a token is needed"), (302, json!({}))]).await;
    let ran = stub.tidings(&["list"]).await;
    assert!(ran.err.starts_with("the daemon refused: a token is needed (unauthorized); give"), "{}", ran.err);
    let ran = stub.tidings(&["list"]).await;
    assert!(ran.err.contains("answered 302"), "{}", ran.err);
}

#[tokio::test]
async fn a_token_is_given_once_and_never_shown() {
    let args = ["--url", "http://127.0.0.1:1", "--token", "hunter2", "--token-file", "/nowhere", "list"];
    let ran = tidings(&args, "").await;
    assert_eq!(ran.status, ExitStatus::Usage);
    assert!(!ran.err.contains("hunter2"));
    let cli = Cli::try_parse_from(["tidings", "--token", "hunter2", "list"]).unwrap();
    assert!(!format!("{cli:?}").contains("hunter2"));
    assert!(BadUsage("x".to_owned()).to_string() == "x");
}

#[tokio::test]
async fn a_unix_socket_is_as_good_as_an_address() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let answers: Answers = Arc::new(Mutex::new((VecDeque::from([(200, "{}".to_owned())]), Vec::new())));
    let app = Router::new().fallback(answer).with_state(answers);
    tokio::spawn(async move { axum::serve(listener, app).await });
    let url = format!("unix:{}", path.display());
    assert_eq!(tidings(&["--url", &url, "healthcheck"], "").await.status, ExitStatus::Done);
    let ran = tidings(&["--url", "unix:/nowhere/at/all", "healthcheck"], "").await;
    assert_eq!(ran.status, ExitStatus::Failed);
    assert!(ran.err.contains("no daemon answers at unix:/nowhere/at/all"), "{}", ran.err);
}

#[tokio::test]
async fn completions_need_no_daemon() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = tidings(&["completions", shell], "").await;
        assert!(ran.out.contains("redeliver"), "{shell}");
    }
}
