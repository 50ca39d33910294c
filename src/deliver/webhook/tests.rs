use std::{
    collections::BTreeMap,
    io::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::*;
use crate::{
    deliver::{Body as JobBody, Subject},
    job::Outcome,
};

const JOB: &[u8] = b"{ \"n\": 1e-400,  \"m\":1234567890123456789012345 }\n";

/// A server that does with each connection what a test says.
struct Raw {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl Raw {
    async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, connections) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let count = Arc::clone(&connections);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        Self { address, connections, server }
    }

    /// One that reads the whole request and then answers with these bytes.
    async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<Vec<u8>> = Arc::new(answer.into());
        Self::start(move |mut stream| {
            let answer = Arc::clone(&answer);
            async move {
                request(&mut stream).await;
                let _ = stream.write_all(&answer).await;
            }
        })
        .await
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Reads a request with its body: the head and the body.
async fn request(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut read = Vec::new();
    let end = loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "the request was cut");
    };
    let head = String::from_utf8(read[..end].to_vec()).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = read.split_off(end);
    while body.len() < length.parse().unwrap() {
        assert_ne!(stream.read_buf(&mut body).await.unwrap(), 0, "the body was cut");
    }
    (head, body)
}

fn parcel(body: JobBody) -> Parcel {
    let subject = Subject {
        source: "retab".to_owned(),
        job_id: "job_1".parse().unwrap(),
        outcome: Outcome::Completed,
        labels: BTreeMap::new(),
        reason: None,
    };
    Parcel::job("evt_abc".to_owned(), Time::parse("2026-11-23T17:00:02.5Z").unwrap(), subject, body)
}

fn small() -> Parcel {
    parcel(JobBody::Inline(Bytes::from_static(JOB)))
}

async fn attempt_with(config: &WebhookConfig) -> Report {
    Webhook::new(config, None).unwrap().attempt(&small(), clock::now()).await
}

async fn attempt(url: &str) -> Report {
    attempt_with(&WebhookConfig::to(url)).await
}

/// With a time-out that a test can wait for.
async fn brief(url: &str) -> Report {
    attempt_with(&WebhookConfig { timeout: Span::millis(300), ..WebhookConfig::to(url) }).await
}

const RETRY: Verdict = Verdict::Retry { not_before: None };

#[tokio::test]
async fn a_2xx_is_a_success_and_the_request_is_complete() {
    let (keep, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let server = Raw::start(move |mut stream| {
        let keep = keep.clone();
        async move {
            keep.send(request(&mut stream).await).unwrap();
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let mut config = WebhookConfig::to(server.url());
    config.headers.insert("X-Team".to_owned(), "billing".to_owned());
    let webhook = Webhook::new(&config, None).unwrap();
    let report = webhook.attempt(&small(), Time(1_700_000_000_999)).await;
    assert_eq!((report.verdict, report.status, report.error), (Verdict::Delivered, Some(204), None));
    assert_eq!(report.response, None);
    let (head, body) = seen.recv().await.unwrap();
    let agent = format!("user-agent: tidings/{}\r\n", env!("CARGO_PKG_VERSION"));
    for line in [
        "POST /hook HTTP/1.1\r\n",
        "content-type: application/json\r\n",
        "webhook-id: evt_abc\r\n",
        "webhook-timestamp: 1700000000\r\n",
        "x-team: billing\r\n",
        "traceparent: 00-",
        agent.as_str(),
    ] {
        assert!(head.contains(line), "{line:?} in {head}");
    }
    assert!(!head.contains("webhook-signature"), "no secret, no signature: {head}");
    assert!(body.ends_with(&[b"\"data\":".as_slice(), JOB, b"}"].concat()));
}

#[tokio::test]
async fn every_other_status_says_what_is_next() {
    for (status, header, verdict, error) in [
        (500, "", RETRY, "answered 500"),
        (413, "", RETRY, "answered 413"),
        (404, "Retry-After: 9\r\n", RETRY, "answered 404"),
        (
            302,
            "Location: https://user:hunter2@other.example/x?token=hunter2\r\n",
            RETRY,
            "answered 302: a redirect to https://other.example is not followed",
        ),
        (307, "Location: /else\r\n", RETRY, ""),
        (301, "", RETRY, "answered 301: a redirect is not followed"),
        (429, "", RETRY, "answered 429"),
        (429, "Retry-After: soon\r\n", RETRY, "answered 429"),
        (
            429,
            "Retry-After: 7\r\n",
            Verdict::Retry { not_before: Some(Duration::from_secs(7)) },
            "answered 429",
        ),
        (
            503,
            "Retry-After: 120\r\n",
            Verdict::Retry { not_before: Some(Duration::from_secs(120)) },
            "answered 503",
        ),
    ] {
        let server =
            Raw::answering(format!("HTTP/1.1 {status} X\r\n{header}Content-Length: 2\r\n\r\nno")).await;
        let report = attempt(&server.url()).await;
        assert_eq!((report.status, &report.verdict), (Some(status), &verdict), "{status} {header}");
        assert_eq!(report.response.as_deref(), Some("no"));
        let told = report.error.unwrap();
        assert!(told == error || error.is_empty(), "{told}");
        assert_eq!(server.connections(), 1, "a redirect is not followed");
    }
}

#[tokio::test]
async fn gone_means_no_further_attempt() {
    let server = Raw::answering("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n").await;
    let report = attempt(&server.url()).await;
    assert_eq!((report.status, report.error.as_deref()), (Some(410), Some("answered 410")));
    assert!(matches!(report.verdict, Verdict::Dead { reason } if reason.contains("410")));
}

#[tokio::test]
async fn a_date_is_waited_for() {
    let at = std::time::SystemTime::now() + Duration::from_secs(60);
    let date = httpdate::fmt_http_date(at);
    let server =
        Raw::answering(format!("HTTP/1.1 429 X\r\nRetry-After: {date}\r\nContent-Length: 0\r\n\r\n")).await;
    let report = attempt(&server.url()).await;
    let left = at.duration_since(std::time::SystemTime::now()).unwrap();
    let Verdict::Retry { not_before: Some(wait) } = report.verdict else { panic!("{report:?}") };
    assert!(wait <= Duration::from_secs(60) && wait + Duration::from_secs(1) >= left, "{wait:?} {left:?}");
}

#[tokio::test]
async fn the_whole_exchange_is_timed() {
    let silent = Raw::start(|stream| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    // Bytes keep coming, but never the whole of the first KiB.
    let slow = Raw::start(|mut stream| async move {
        request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n").await.unwrap();
        while stream.write_all(b".").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for server in [silent, slow] {
        let report = brief(&server.url()).await;
        assert_eq!(report.error.as_deref(), Some("timed out after 300ms"));
        assert_eq!((report.status, report.verdict), (None, RETRY));
        assert!(report.duration >= Duration::from_millis(300), "{:?}", report.duration);
    }
}

#[tokio::test]
async fn of_an_endless_answer_one_kib_is_read() {
    let server = Raw::start(|mut stream| async move {
        request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    })
    .await;
    let report = attempt(&server.url()).await;
    assert_eq!((report.status, report.verdict), (Some(200), Verdict::Delivered));
    assert_eq!(report.response, Some("x".repeat(1024)));
}

#[tokio::test]
async fn an_answer_is_kept_as_text_without_control_characters() {
    let mut answer = b"HTTP/1.1 500 X\r\nContent-Length: 3000\r\n\r\n\x1b[31m\xff\0ok\n".to_vec();
    answer.resize(4000, b'y');
    let server = Raw::answering(answer).await;
    let text = attempt(&server.url()).await.response.unwrap();
    assert!(text.starts_with("\u{fffd}[31m\u{fffd}\u{fffd}ok\nyyy"), "{text:?}");
    assert_eq!(text.chars().count(), 1024);
}

#[tokio::test]
async fn a_broken_answer_is_a_failure() {
    let cut = Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nhalf").await;
    let no_answer = Raw::answering("").await;
    let no_http = Raw::answering("SSH-2.0-OpenSSH_9.6\r\n").await;
    let reset = Raw::start(|mut stream| async move {
        request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nhalf").await.unwrap();
        stream.set_zero_linger().unwrap();
    })
    .await;
    for (server, errors) in [
        (cut, ["connection closed before the answer was complete"].as_slice()),
        (no_answer, &["connection closed before the answer was complete"]),
        (no_http, &["the answer is not HTTP"]),
        (reset, &["connection reset"]),
    ] {
        let report = attempt(&server.url()).await;
        assert_eq!((report.status, &report.verdict), (None, &RETRY), "{report:?}");
        assert!(errors.contains(&report.error.as_deref().unwrap()), "{report:?}");
    }
}

#[tokio::test]
async fn no_secret_of_a_url_is_told() {
    let port = Raw::answering("").await.address.port();
    let config =
        WebhookConfig::to(format!("http://user:hunter2@127.0.0.1:{port}/hook?token=hunter2#hunter2"));
    let webhook = Webhook::new(&config, None).unwrap();
    let report = eventually_refused(&webhook).await;
    assert_eq!(report.error.as_deref(), Some("connection refused"));
    assert_eq!((report.status, report.verdict), (None, RETRY));
    assert_eq!(webhook.target(), format!("http://127.0.0.1:{port}/hook"));
}

#[tokio::test]
async fn a_refusal_counts_even_when_its_body_never_comes() {
    let gone = Raw::answering("HTTP/1.1 410 Gone\r\nContent-Length: 900\r\n\r\nhalf").await;
    let report = attempt(&gone.url()).await;
    assert_eq!((report.status, report.error.as_deref()), (Some(410), Some("answered 410")));
    assert!(matches!(report.verdict, Verdict::Dead { .. }), "{report:?}");
    let stuck = Raw::start(|mut stream| async move {
        request(&mut stream).await;
        let head = b"HTTP/1.1 429 X\r\nRetry-After: 60\r\nContent-Length: 900\r\n\r\nhalf";
        stream.write_all(head).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let report = brief(&stuck.url()).await;
    let asked = Verdict::Retry { not_before: Some(Duration::from_secs(60)) };
    assert_eq!((report.status, report.verdict), (Some(429), asked));
}

/// The server's port closes when its task is gone, a moment after the server itself.
async fn eventually_refused(webhook: &Webhook) -> Report {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let report = webhook.attempt(&small(), clock::now()).await;
        if report.error.as_deref() == Some("connection refused") || Instant::now() > deadline {
            return report;
        }
    }
}

#[tokio::test]
async fn an_early_refusal_of_a_large_upload_is_heard() {
    const SIZE: u64 = 64 << 20;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"\"").unwrap();
    file.as_file().set_len(SIZE).unwrap();
    let server = Raw::start(|mut stream| async move {
        let mut first = [0; 1000];
        stream.read_exact(&mut first).await.unwrap();
        let answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much";
        stream.write_all(answer).await.unwrap();
        // It stays open and reads no more, so the upload is stuck in the middle.
        std::future::pending::<()>().await;
    })
    .await;
    let body = JobBody::File { path: file.path().to_owned(), size: SIZE };
    let webhook = Webhook::new(&WebhookConfig::to(server.url()), None).unwrap();
    let report = webhook.attempt(&parcel(body), clock::now()).await;
    assert_eq!((report.status, report.error.as_deref()), (Some(413), Some("answered 413")));
    assert_eq!((report.response.as_deref(), report.verdict), (Some("too much"), RETRY));
    assert!(report.duration < WebhookConfig::to("").timeout.0, "it did not wait for the upload");
}

#[tokio::test]
async fn a_callback_to_loopback_is_refused_before_it_connects() {
    let server = Raw::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let port = server.address.port();
    let closed = Callbacks::new(Trust::Callback { allow: Vec::new() }).unwrap();
    for host in ["127.0.0.1", "localhost", "x.localhost", "2130706433", "[::ffff:127.0.0.1]"] {
        let webhook = closed.to(&format!("http://{host}:{port}/?token=hunter2"), None).unwrap();
        let report = webhook.attempt(&small(), clock::now()).await;
        assert_eq!(report.error.as_deref(), Some("blocked address: loopback"), "{host}");
        assert_eq!((report.status, report.verdict), (None, RETRY));
    }
    // Behind the check of the URL the connection itself is guarded, too.
    let error = closed.client.post(format!("http://localhost:{port}/")).send().await.unwrap_err();
    assert_eq!(class(&error), "blocked address: loopback");
    assert_eq!(server.connections(), 0);
    let open = Callbacks::new(Trust::Callback { allow: vec!["127.0.0.0/8".parse().unwrap()] }).unwrap();
    let webhook = open.to(&format!("http://localhost:{port}/"), None).unwrap();
    assert_eq!(webhook.attempt(&small(), clock::now()).await.verdict, Verdict::Delivered);
    assert_eq!(server.connections(), 1);
}
