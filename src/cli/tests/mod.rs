//! The commands against a stand-in for the API on a real socket.

mod asking;
mod configuration;
mod reading;
mod watching;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{Router, extract::State, http::Request, response::Response};
use clap::Parser as _;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::{
    Cli, ExitStatus,
    client::{Client, Target},
    console::Console,
    message,
};

/// A request as the API got it.
#[derive(Clone, Debug)]
struct Seen {
    /// `GET /v1/watches?limit=100`
    line: String,
    token: Option<String>,
    body: Value,
}

type Answers = Arc<Mutex<(VecDeque<(u16, String)>, Vec<Seen>)>>;

/// Gives prepared answers in turn and records the requests.
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
    // A command that names no source asks for them first; what follows is what a test is about.
    let is_about_sources = answers.0.front().is_some_and(|(_, text)| {
        text.contains("max_requests_per_second") || text.starts_with(r#"{"data":[]"#)
    });
    if seen.line == "GET /v1/sources" && !is_about_sources {
        return Response::new(r#"{"data": [{"name": "retab"}], "next_cursor": null}"#.into());
    }
    // A command whose answer may take long asks first whether the daemon answers at all.
    if seen.line == "GET /healthz" {
        return Response::new("{}".into());
    }
    answers.1.push(seen);
    let (status, text) = answers.0.pop_front().unwrap_or_else(|| (500, "no answer prepared".to_owned()));
    Response::builder().status(status).body(text.into()).unwrap()
}

/// The result of a command.
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
    let mut console = Console {
        out: &mut out,
        err: &mut err,
        input: &mut stdin.as_bytes(),
        live: false,
        quiet: cli.global.quiet,
        width: 100,
    };
    let result = cli.ask(&mut console).await;
    let mut err = String::from_utf8(err).unwrap();
    let status = result.unwrap_or_else(|error| {
        err.push_str(&message(&error));
        ExitStatus::of_error(&error)
    });
    Ran { status, out: String::from_utf8(out).unwrap(), err }
}

/// Returns the exit code of the parser for `args`, 0 if it accepts them.
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
