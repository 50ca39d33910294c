use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::{
    deliver::{
        message::{Body, Subject},
        outcome::AttemptResult,
        webhook::exchange::MAX_RESPONSE,
    },
    model::job::{EventType, Outcome},
    util::{clock, http_client, units::HumanDuration},
};

pub(super) const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_KEY: &str = "whsec_bm90IHRoZSBzYW1lIGtleSBhdCBhbGwsIHN1cmU";
const ODD: &str = "{ \"z\":1e-400,\r\n \"a\" : 1234567890123456789012345, \"z\":null }";

fn message(body: Body) -> Message {
    let subject = Subject {
        source: "retab".to_owned(),
        job_id: "job_1".parse().unwrap(),
        kind: None,
        outcome: Some(Outcome::Completed),
        status: None,
        labels: std::collections::BTreeMap::new(),
        reason: None,
    };
    let event = EventType::Ended(Outcome::Completed);
    Message::job("evt_1".to_owned(), event, Time(1_779_883_200_500), subject, body)
}

pub(super) fn small() -> Message {
    message(Body::Inline(ODD.into()))
}

/// A request as it came over the wire.
pub(super) struct Seen {
    first_line: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

async fn read_head(stream: &mut TcpStream) -> (Seen, usize) {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "the request ended early");
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let first_line = lines.next().unwrap().to_owned();
    let pairs = lines.map(|line| line.split_once(": ").unwrap());
    let headers: HeaderMap = pairs
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()))
        .collect();
    let length = headers["content-length"].to_str().unwrap().parse().unwrap();
    (Seen { first_line, headers, body: bytes[end + 4..].to_vec() }, length)
}

pub(super) async fn read_request(stream: &mut TcpStream) -> Seen {
    let (mut seen, length) = read_head(stream).await;
    while seen.body.len() < length {
        assert_ne!(stream.read_buf(&mut seen.body).await.unwrap(), 0, "the body ended early");
    }
    assert_eq!(seen.body.len(), length);
    seen
}

/// A receiver of one request that answers with these bytes and hangs up.
async fn receiver(answer: impl Into<Vec<u8>>) -> (String, JoinHandle<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?token=hidden", listener.local_addr().unwrap());
    let answer = answer.into();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let seen = read_request(&mut stream).await;
        stream.write_all(&answer).await.unwrap();
        stream.shutdown().await.unwrap();
        seen
    });
    (url, task)
}

fn webhook(config: &WebhookConfig) -> Webhook {
    Webhook::new("app", config, &Outgoing::direct(Trust::Operator)).unwrap()
}

async fn answered(answer: &str) -> AttemptOutcome {
    let (url, task) = receiver(answer).await;
    let outcome = webhook(&WebhookConfig::to(url)).attempt(&small(), clock::now()).await;
    task.await.unwrap();
    outcome
}

pub(super) fn retry(outcome: &AttemptOutcome) -> (Option<u16>, &str) {
    assert_eq!(outcome.result, AttemptResult::Failed { retry_after: None });
    (outcome.status, outcome.error.as_deref().unwrap())
}

#[tokio::test]
async fn a_signed_request_is_what_the_contract_says() {
    let (url, task) = receiver("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let mut config = WebhookConfig::to(&url);
    config.secret = Some(Secret::new(KEY));
    config.secrets = vec![Secret::new(OTHER_KEY)];
    config.headers.insert("X-Team".to_owned(), "billing".into());
    let hook = webhook(&config);
    assert_eq!(hook.shown(), url.split('?').next().unwrap());
    let now = clock::now();
    let outcome = hook.attempt(&small(), now).await;
    assert_eq!((outcome.status, outcome.error, outcome.result), (Some(200), None, AttemptResult::Delivered));
    assert_eq!(outcome.response.as_deref(), Some("ok"));

    let seen = task.await.unwrap();
    assert_eq!(seen.first_line, "POST /hook?token=hidden HTTP/1.1");
    let header = |name: &str| seen.headers[name].to_str().unwrap();
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("user-agent"), http_client::USER_AGENT);
    assert_eq!(header("webhook-id"), "evt_1");
    assert_eq!(header("webhook-timestamp"), now.unix_seconds().to_string());
    assert_eq!(header("x-team"), "billing");
    assert!(!seen.headers.contains_key("transfer-encoding"));
    let trace: Vec<_> = header("traceparent").split('-').map(str::len).collect();
    assert_eq!(trace, [2, 32, 16, 2]);
    let body = String::from_utf8(seen.body.clone()).unwrap();
    assert!(body.ends_with(&format!(",\"data\":{ODD}}}")), "{body}");
    assert_eq!(header("webhook-signature").split(' ').count(), 2);
    for key in [KEY.to_owned(), format!("{OTHER_KEY}=")] {
        let verifier = standardwebhooks::Webhook::new(&key).unwrap();
        verifier.verify(&seen.body, &seen.headers).unwrap();
    }
}

#[tokio::test]
async fn without_a_secret_nothing_is_signed_and_the_trace_stays_the_events() {
    let mut traces = Vec::new();
    for _ in 0..2 {
        let (url, task) = receiver("HTTP/1.1 204 No Content\r\n\r\n").await;
        let outcome = webhook(&WebhookConfig::to(url)).attempt(&small(), clock::now()).await;
        assert_eq!((outcome.status, outcome.result), (Some(204), AttemptResult::Delivered));
        let seen = task.await.unwrap();
        assert!(!seen.headers.contains_key("webhook-signature"));
        traces.push(seen.headers["traceparent"].to_str().unwrap().to_owned());
    }
    assert_eq!(traces[0][..35], traces[1][..35]);
    assert_ne!(traces[0], traces[1]);
}

#[tokio::test]
async fn a_large_raw_job_is_streamed_from_its_file_and_signed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job");
    let job = format!("\"{}\"", "é".repeat(500_000));
    std::fs::write(&path, &job).unwrap();
    let (url, task) = receiver("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await;
    let mut config = WebhookConfig::to(url);
    config.secret = Some(Secret::new(KEY));
    config.format = crate::deliver::Format::Raw;
    let file = Body::Stored { body: crate::store::StoredBody::in_file(path.clone()), size: job.len() as u64 };
    let outcome = webhook(&config).attempt(&message(file.clone()), clock::now()).await;
    assert_eq!(outcome.result, AttemptResult::Delivered);
    let seen = task.await.unwrap();
    assert!(seen.body == job.as_bytes(), "the job's bytes were changed");
    standardwebhooks::Webhook::new(KEY).unwrap().verify(&seen.body, &seen.headers).unwrap();

    std::fs::write(&path, "short").unwrap();
    let outcome = webhook(&config).attempt(&message(file), clock::now()).await;
    let (status, error) = retry(&outcome);
    assert_eq!(status, None);
    assert!(error.starts_with("the stored job cannot be read: it has 5 bytes"), "{error}");
}

#[tokio::test]
async fn a_failing_answer_is_tried_again_and_a_redirect_is_one() {
    let outcome = answered("HTTP/1.1 500 Oops\r\ncontent-length: 5\r\n\r\nno\x1b[1").await;
    assert_eq!(retry(&outcome), (Some(500), "answered 500"));
    assert_eq!(outcome.response.as_deref(), Some("no [1"));
    let moved =
        "HTTP/1.1 302 Found\r\nlocation: https://u:p@other.example/x?secret=1\r\ncontent-length: 0\r\n\r\n";
    let outcome = answered(moved).await;
    assert_eq!(retry(&outcome), (Some(302), "redirect to https://other.example/x refused"));
    assert_eq!(outcome.error_class, Some(ErrorClass::Redirect));
    let outcome = answered("HTTP/1.1 304 Not Modified\r\n\r\n").await;
    assert_eq!(retry(&outcome), (Some(304), "answered 304"));
}

#[tokio::test]
async fn gone_is_final_and_keeps_its_reason() {
    let outcome = answered("HTTP/1.1 410 Gone\r\ncontent-length: 8\r\n\r\nmoved on").await;
    let reason = "answered 410 Gone: moved on".to_owned();
    assert_eq!((outcome.status, outcome.result), (Some(410), AttemptResult::FailedForGood { reason }));
}

#[tokio::test]
async fn retry_after_is_passed_on_with_every_failure() {
    for status in [302, 404, 413, 429, 500, 503] {
        let answer = format!("HTTP/1.1 {status} X\r\nretry-after: 120\r\ncontent-length: 0\r\n\r\n");
        let outcome = answered(&answer).await;
        assert_eq!((outcome.status, outcome.error_class), (Some(status), Some(ErrorClass::Status)));
        assert_eq!(outcome.result, AttemptResult::Failed { retry_after: Some(Duration::from_mins(2)) });
    }
}

#[tokio::test]
async fn too_large_is_final_and_names_the_size() {
    let (url, task) = receiver("HTTP/1.1 413 X\r\ncontent-length: 0\r\n\r\n").await;
    let outcome = webhook(&WebhookConfig::to(url)).attempt(&small(), clock::now()).await;
    let size = task.await.unwrap().body.len();
    let reason = format!("answered 413 Content Too Large to {size} bytes");
    assert_eq!(outcome.result, AttemptResult::FailedForGood { reason });
    assert_eq!(outcome.error_class, Some(ErrorClass::Status));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_success() {
    let outcome = answered("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
    assert_eq!(retry(&outcome), (Some(200), "connection closed before the answer was complete"));
    assert_eq!(outcome.response.as_deref(), Some("half"));
    let outcome = answered("nonsense\r\n\r\n").await;
    assert_eq!(retry(&outcome), (None, "the answer is not HTTP"));
    let outcome = answered("").await;
    assert_eq!(retry(&outcome), (None, "connection closed before the answer was complete"));
}

#[tokio::test]
async fn a_reset_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await.unwrap();
        // Closing at once, with nothing left to flush, sends a reset.
        stream.set_zero_linger().unwrap();
    });
    let outcome = webhook(&WebhookConfig::to(url)).attempt(&small(), clock::now()).await;
    task.await.unwrap();
    assert_eq!(retry(&outcome), (None, "connection reset"));
}

#[tokio::test]
async fn silence_and_an_answer_without_end_run_into_the_deadline() {
    let answers = [("", None), ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", Some(200))];
    for (answer, status) in answers {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = WebhookConfig::to(format!("http://{}/", listener.local_addr().unwrap()));
        config.timeout = HumanDuration::millis(200);
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            // Ends when the other side gives the connection up, as it must.
            stream.read(&mut [0; 1]).await.unwrap_or(0)
        });
        let outcome = webhook(&config).attempt(&small(), clock::now()).await;
        assert_eq!(retry(&outcome), (status, "timed out after 200ms"));
        assert_eq!(task.await.unwrap(), 0);
    }
}

#[tokio::test]
async fn an_endless_answer_is_read_up_to_its_first_kib() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        while stream.write_all(&[0xff; 4096]).await.is_ok() {}
    });
    let outcome = webhook(&WebhookConfig::to(url)).attempt(&small(), clock::now()).await;
    task.await.unwrap();
    assert_eq!((outcome.status, outcome.result), (Some(200), AttemptResult::Delivered));
    let response = outcome.response.unwrap();
    assert!(response.len() > 1000 && response.len() <= MAX_RESPONSE, "{} bytes", response.len());
}

#[tokio::test]
async fn an_early_refusal_ends_the_upload() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job");
    let size = 256 << 20;
    std::fs::File::create(&path).unwrap().set_len(size).unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (seen, _) = read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        let mut read = seen.body.len() as u64;
        let mut buffer = vec![0; 1 << 16];
        while let Ok(bytes @ 1..) = stream.read(&mut buffer).await {
            read += bytes as u64;
        }
        read
    });
    let hook = webhook(&WebhookConfig::to(url));
    let outcome = hook
        .attempt(&message(Body::Stored { body: crate::store::StoredBody::in_file(path), size }), clock::now())
        .await;
    let reason = outcome.error.as_deref();
    assert_eq!((outcome.status, reason), (Some(413), Some("answered 413")));
    let uploaded = task.await.unwrap();
    assert!(uploaded < size, "all {uploaded} bytes were uploaded");
}

#[tokio::test]
async fn a_refusal_that_hangs_up_on_the_upload_is_a_failure_either_way() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job");
    let size = 64 << 20;
    std::fs::File::create(&path).unwrap().set_len(size).unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        // Hanging up with bytes unread resets the connection, which may overtake the answer.
        stream.write_all(b"HTTP/1.1 413 Too Large\r\nconnection: close\r\n\r\n").await.unwrap();
    });
    let job = message(Body::Stored { body: crate::store::StoredBody::in_file(path), size });
    let outcome = webhook(&WebhookConfig::to(url)).attempt(&job, clock::now()).await;
    task.await.unwrap();
    let seen = (outcome.status, outcome.error.as_deref().unwrap());
    assert!(matches!(seen, (Some(413), "answered 413") | (None, "connection reset")), "{seen:?}");
}

#[tokio::test]
async fn a_refused_connection_and_an_unknown_name_are_named() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let outcome = webhook(&WebhookConfig::to(format!("http://u:p@{free}/?x=secret")))
        .attempt(&small(), clock::now())
        .await;
    assert_eq!(retry(&outcome), (None, "connection refused"));
    assert_eq!(outcome.error_class, Some(ErrorClass::Connect));
    let outcome =
        webhook(&WebhookConfig::to("http://nothing.invalid/")).attempt(&small(), clock::now()).await;
    assert_eq!(retry(&outcome), (None, "name not found"));
    assert_eq!(outcome.error_class, Some(ErrorClass::NameNotFound));
}

#[tokio::test]
async fn plain_http_behind_https_is_a_tls_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let outcome = webhook(&WebhookConfig::to(url)).attempt(&small(), clock::now()).await;
    task.await.unwrap();
    let (status, error) = retry(&outcome);
    assert!(status.is_none() && error.starts_with("TLS: the other side does not speak TLS; "), "{error}");
}

#[test]
fn a_webhook_that_cannot_work_is_refused_by_its_key() {
    let refused = |change: &dyn Fn(&mut WebhookConfig)| {
        let mut config = WebhookConfig::to("http://127.0.0.1/");
        change(&mut config);
        Webhook::new("app", &config, &Outgoing::direct(Trust::Operator)).unwrap_err().to_string()
    };
    let error = refused(&|config| config.url = Some("ftp://h/".to_owned()));
    assert_eq!(error, "sinks.app.url: the scheme `ftp` is not http or https");
    assert!(refused(&|config| config.url = Some("hooks/jobs".to_owned())).contains("sinks.app.url"));
    let error = refused(&|config| config.secret = Some(Secret::new("hunter2")));
    assert!(error.starts_with("sinks.app.secret: ") && !error.contains("hunter2"), "{error}");
    let error = refused(&|config| config.secret_file = Some("/nowhere/at/all".into()));
    assert!(error.starts_with("sinks.app.secret_file: "), "{error}");
    for (name, value) in [("Content-Length", "1"), ("webhook-id", "x"), ("a b", "x"), ("x", "hunter2\n")] {
        let error = refused(&|config| drop(config.headers.insert(name.to_owned(), value.into())));
        assert!(error.starts_with("sinks.app.headers: ") && !error.contains("hunter2"), "{error}");
    }
}
