//! Connections to a source that break, go silent or refuse: the next request goes over another one.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};
use tidings::{config::Config, util::units::HumanDuration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::harness::{
    Authority, Call, Daemon, LOOPBACK, Process, Relay, acceptor, binary, config, eventually, http, mock,
    serve_h2, write_config,
};

const RUNNING: &str = r#"{"id":"job_1","status":"in_progress"}"#;
const COMPLETED: &str = r#"{"id":"job_1","status":"completed"}"#;

/// Reads the head of a request; `None` when the connection ends.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
            return None;
        }
    }
    Some(String::from_utf8(seen).unwrap())
}

/// A job API over HTTP/1.1 whose connections answer two requests and hang up on the third. The job ends once it was
/// asked for `polls` times.
async fn closing_site(polls: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (answered, hung_up) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&hung_up);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (answered, hung_up) = (Arc::clone(&answered), Arc::clone(&counted));
            tokio::spawn(async move {
                for _ in 0..2 {
                    if head(&mut stream).await.is_none() {
                        return;
                    }
                    let ended = answered.fetch_add(1, Ordering::SeqCst) + 1 >= polls;
                    let body = if ended { COMPLETED } else { RUNNING };
                    let length = body.len();
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
                if head(&mut stream).await.is_some() {
                    hung_up.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    (url, hung_up)
}

/// The value of a metric with these labels in the text of `/metrics`; 0 when it is not there.
fn metric(text: &str, start: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(start)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_closes_kept_connections_never_fails() {
    let folder = tempfile::tempdir().unwrap();
    let (url, hung_up) = closing_site(40).await;
    let mut config: Config = config(folder.path(), &mock().await);
    let source = config.sources.get_mut("retab").unwrap();
    source.base_url = Some(url);
    source.polling.max_interval = Some(HumanDuration::millis(40));
    let daemon = Daemon::start(config).await;
    daemon.watch("job_1").await;
    let watch = daemon.finished("job_1").await;
    assert_eq!((&watch["phase"], &watch["outcome"]), (&json!("done"), &json!("completed")));
    let hung_up = hung_up.load(Ordering::SeqCst) as u64;
    assert!(hung_up >= 10, "{hung_up}");
    let (_, metrics) = daemon.get_bytes("/metrics").await;
    let metrics = String::from_utf8(metrics).unwrap();
    assert_eq!(metric(&metrics, r#"tidings_polls_total{result="trouble",source="retab"}"#), 0);
    let polls = metric(&metrics, r#"tidings_polls_total{result="pending",source="retab"}"#);
    let requests = metric(&metrics, r#"tidings_requests_total{source="retab"}"#);
    assert!(polls >= 38 && requests >= polls + hung_up, "{polls} polls, {requests} requests, {hung_up} lost");
    daemon.stop().await;
}

/// `tidings run` with a source over HTTP/2 at this port, which trusts `authority`, and the job that it watches.
async fn run(folder: &Path, authority: &Authority, port: u16) -> Process {
    std::fs::write(folder.join("ca.pem"), &authority.cert).unwrap();
    write_config(folder, &format!("https://localhost:{port}"), "");
    let config = std::fs::read_to_string(folder.join("tidings.toml")).unwrap();
    let config = config.replace("not_found_grace", "timeout = \"1s\"\nnot_found_grace");
    std::fs::write(folder.join("tidings.toml"), config).unwrap();
    let mut command = binary();
    command.arg("run").args(["--listen", "127.0.0.1:0", "--watch", "job_1"]).current_dir(folder);
    command.env("SSL_CERT_FILE", folder.join("ca.pem"));
    Process::spawn(command).await
}

async fn get(process: &Process, path: &str) -> Option<Value> {
    http().get(format!("{}{path}", process.url)).send().await.ok()?.json().await.ok()
}

/// Waits until the job has ended.
async fn completes(process: &Process) {
    eventually("the job is delivered", || async {
        let watch = get(process, "/v1/watches/retab/job_1").await?;
        (watch["phase"] == "done" && watch["outcome"] == "completed").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_whose_http2_connection_goes_silent_is_asked_over_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (asked, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (counted, end) = (Arc::clone(&asked), Arc::clone(&ended));
    let answer = move |call: Call| {
        counted.fetch_add(1, Ordering::SeqCst);
        let body = if end.load(Ordering::SeqCst) { COMPLETED } else { RUNNING };
        async move { drop(call.answer(200, body)) }
    };
    let (address, _server) = serve_h2(acceptor(&authority, None, &["h2"]), answer).await;
    let relay = Relay::to(address).await;
    let process = run(folder.path(), &authority, relay.port).await;
    eventually("it polls", || async { (asked.load(Ordering::SeqCst) >= 3).then_some(()) }).await;
    assert_eq!(relay.accepted(), 1);
    ended.store(true, Ordering::SeqCst);
    relay.silence();
    completes(&process).await;
    assert_eq!(relay.accepted(), 2);
    process.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_stream_is_asked_again_over_another_connection() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let seen: Arc<Mutex<Vec<usize>>> = Arc::default();
    let kept = Arc::clone(&seen);
    let answer = move |call: Call| {
        let kept = Arc::clone(&kept);
        async move {
            let (on_it, of_all) = {
                let mut kept = kept.lock().unwrap();
                kept.push(call.connection);
                (kept.iter().filter(|number| **number == call.connection).count(), kept.len())
            };
            // The first connection takes two requests, each one after it one.
            if on_it > 2 || (call.connection > 1 && on_it > 1) {
                return call.refuse();
            }
            let _body = call.answer(200, if of_all < 12 { RUNNING } else { COMPLETED });
        }
    };
    let (address, _server) = serve_h2(acceptor(&authority, None, &["h2"]), answer).await;
    let process = run(folder.path(), &authority, address.port()).await;
    completes(&process).await;
    let text = http().get(format!("{}/metrics", process.url)).send().await.unwrap().text().await.unwrap();
    assert_eq!(metric(&text, r#"tidings_polls_total{result="trouble",source="retab"}"#), 0, "{text}");
    let (_, log) = process.terminate().await;
    assert!(!log.contains("failing"), "{log}");
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen[..6], [1, 1, 1, 2, 2, 3], "a refused request goes to another connection");
}
