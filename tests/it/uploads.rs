//! Delivered means taken whole: receivers that answer before they have read the event, that stop reading, that are slow.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tidings::{
    deliver::WebhookConfig,
    mock::JobPlan,
    util::units::{HumanDuration, Size},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket},
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot::{Sender, channel},
    },
    task::JoinHandle,
};

use crate::harness::{
    Authority, Call, Daemon, LOOPBACK, Relay, Sinks, acceptor, config, mock, serve_h2, webhook,
};

/// What a receiver saw of one request's body: its bytes, of how many, and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    bytes: u64,
    of: u64,
    ended: Ended,
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// As HTTP says that a body ends.
    Whole,
    /// By an error, a reset or the end of the connection.
    Cut,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Sends one finished job of this size to `url`; the attempt that was made.
async fn deliver(url: &str, authority: &Authority, size: u64, timeout: HumanDuration) -> Value {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), &authority.cert).unwrap();
    let mock = mock().await;
    let mut config = config(folder.path(), &mock).webhook("app", url, 0);
    webhook(&mut config, |app: &mut WebhookConfig| {
        app.ca_file = Some(folder.path().join("ca.pem"));
        app.timeout = timeout;
    });
    let daemon = Daemon::start(config).await;
    let job = mock.add_job(JobPlan::new().size(Size(size)));
    daemon.watch(&job).await;
    let watch = daemon.finished(&job).await;
    let id = watch["deliveries"][0]["id"].as_str().unwrap();
    let (_, delivery) = daemon.get(&format!("/v1/deliveries/{id}")).await;
    daemon.stop().await;
    assert_eq!(delivery["attempts"].as_array().unwrap().len(), 1, "{delivery}");
    json!({"state": delivery["state"], "status": delivery["attempts"][0]["status"],
        "error": delivery["attempts"][0]["error"], "class": delivery["attempts"][0]["error_class"]})
}

fn delivered(status: u16) -> Value {
    json!({"state": "delivered", "status": status, "error": null, "class": null})
}

fn failed(status: u16, error: &str, class: &str) -> Value {
    json!({"state": "dead", "status": status, "error": error, "class": class})
}

/// Reads the head of a request: the length of its body, and what came of it.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> (u64, u64) {
    let mut seen = Vec::new();
    loop {
        if let Some(at) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            let text = String::from_utf8(seen[..at].to_vec()).unwrap();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            return (length.parse().unwrap(), (seen.len() - at - 4) as u64);
        }
        // One byte at a time: the answer comes before any of the body is read.
        seen.push(stream.read_u8().await.unwrap());
    }
}

/// What an early answer is followed by.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// The whole body is read.
    Read,
    /// Nothing is read, until the other side ends the connection.
    Stall,
    /// The connection is closed.
    Close,
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A receiver over HTTP/1.1 that answers on the head.
async fn early_http1(
    tls: Option<&Authority>,
    answer: &'static str,
    then: Then,
) -> (String, UnboundedReceiver<Seen>) {
    let acceptor = tls.map(|authority| acceptor(authority, None, &["http/1.1"]));
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (tell, acceptor) = (tell.clone(), acceptor.clone());
            tokio::spawn(async move {
                match acceptor {
                    Some(acceptor) => {
                        answer_early(acceptor.accept(stream).await.unwrap(), answer, then, &tell).await;
                    }
                    None => answer_early(stream, answer, then, &tell).await,
                }
            });
        }
    });
    let scheme = if tls.is_some() { "https" } else { "http" };
    (format!("{scheme}://localhost:{port}/"), told)
}

async fn answer_early(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &str,
    then: Then,
    tell: &UnboundedSender<Seen>,
) {
    let (of, mut bytes) = head(&mut stream).await;
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    match then {
        Then::Read => {
            let mut buffer = vec![0; 64 << 10];
            while bytes < of {
                match stream.read(&mut buffer).await {
                    Ok(read @ 1..) => bytes += read as u64,
                    _ => break,
                }
            }
        }
        // The connection is not read from. What is written to it fails once the other side is gone.
        Then::Stall => {
            while stream.write_all(b" ").await.is_ok() && stream.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Then::Close => {}
    }
    let ended = if bytes == of { Ended::Whole } else { Ended::Cut };
    tell.send(Seen { bytes, of, ended }).unwrap();
}

/// A receiver over HTTP/2 that answers on the head.
async fn early_http2(authority: &Authority, status: u16, then: Then) -> (String, UnboundedReceiver<Seen>) {
    let (tell, told) = unbounded_channel();
    let handler = move |call: Call| {
        let tell = tell.clone();
        async move {
            let of = call.request.headers()["content-length"].to_str().unwrap().parse().unwrap();
            let mut bytes = 0;
            let mut body = call.answer(status, if matches!(then, Then::Read) { "ok" } else { "" });
            if let Then::Close = then {
                // Dropping what was not read to its end resets the stream.
                drop(body);
                return tell.send(Seen { bytes, of, ended: Ended::Cut }).unwrap();
            }
            let ended = loop {
                match body.data().await {
                    None => break Ended::Whole,
                    Some(Err(_)) => break Ended::Cut,
                    Some(Ok(chunk)) => {
                        bytes += chunk.len() as u64;
                        if let Then::Read = then {
                            body.flow_control().release_capacity(chunk.len()).unwrap();
                        }
                    }
                }
            };
            tell.send(Seen { bytes, of, ended }).unwrap();
        }
    };
    let (address, mut server) = serve_h2(acceptor(authority, None, &["h2"]), handler).await;
    server.detach_all();
    (format!("https://localhost:{}/", address.port()), told)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_2xx_counts_once_the_event_is_sent_whole() {
    let authority = Authority::new();
    for size in [700, 100 * KIB, 2 * MIB, 9 * MIB] {
        for (what, (url, mut told)) in [
            ("HTTP/1.1", early_http1(None, OK, Then::Read).await),
            ("HTTP/1.1 over TLS", early_http1(Some(&authority), OK, Then::Read).await),
            ("HTTP/2", early_http2(&authority, 200, Then::Read).await),
        ] {
            let attempt = deliver(&url, &authority, size, HumanDuration::secs(15)).await;
            let seen = told.recv().await.unwrap();
            assert_eq!(attempt, delivered(200), "{what}, {size} bytes: {seen:?}");
            assert!(seen.of > size && seen.bytes == seen.of, "{what}, {size} bytes: {seen:?}");
            assert_eq!(seen.ended, Ended::Whole, "{what}, {size} bytes");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_2xx_is_no_success_when_the_rest_is_not_taken() {
    let authority = Authority::new();
    let size = 32 * MIB;
    let cut = failed(200, "answered 200, but did not take the whole event", "reset");
    for (what, (url, mut told)) in [
        ("HTTP/1.1", early_http1(None, OK, Then::Close).await),
        ("HTTP/1.1 over TLS", early_http1(Some(&authority), OK, Then::Close).await),
        ("HTTP/2", early_http2(&authority, 200, Then::Close).await),
    ] {
        let mut attempt = deliver(&url, &authority, size, HumanDuration::secs(15)).await;
        if attempt["status"].is_null() {
            // The reset of the connection overtook the answer.
            assert_eq!(attempt["class"], "reset", "{what}: {attempt}");
            attempt = cut.clone();
        }
        assert_eq!(attempt, cut, "{what}");
        assert_eq!(told.recv().await.unwrap().ended, Ended::Cut, "{what}");
    }
}

/// The receiver answers, and takes no more: the attempt runs into its time, and nothing of it stays behind.
#[tokio::test(flavor = "multi_thread")]
async fn an_early_2xx_with_a_stalled_upload_times_out_and_lets_the_connection_go() {
    let authority = Authority::new();
    for (what, (url, mut told)) in [
        ("HTTP/1.1", early_http1(None, OK, Then::Stall).await),
        ("HTTP/2", early_http2(&authority, 200, Then::Stall).await),
    ] {
        let attempt = deliver(&url, &authority, 32 * MIB, HumanDuration::millis(500)).await;
        assert_eq!(attempt, failed(200, "timed out after 500ms", "timeout"), "{what}");
        let seen = told.recv().await.unwrap();
        assert!(seen.ended == Ended::Cut && seen.bytes < seen.of, "{what}: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_refusal_ends_the_attempt_and_never_passes_for_the_whole() {
    const OVERLOADED: &str = "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n";
    let authority = Authority::new();
    for (what, (url, mut told)) in [
        ("HTTP/1.1", early_http1(None, OVERLOADED, Then::Read).await),
        ("HTTP/2", early_http2(&authority, 503, Then::Stall).await),
    ] {
        let attempt = deliver(&url, &authority, 32 * MIB, HumanDuration::secs(60)).await;
        assert_eq!(attempt, failed(503, "answered 503", "status"), "{what}");
        let seen = told.recv().await.unwrap();
        assert!(seen.ended == Ended::Cut && seen.bytes < seen.of, "{what}: {seen:?}");
    }
}

/// A receiver that reads this many bytes at a time with this pause in between, and answers at the end.
async fn slow_receiver(step: usize, pause: Duration) -> String {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (of, mut bytes) = head(&mut stream).await;
        let mut buffer = vec![0; step];
        while bytes < of {
            let read = stream.read(&mut buffer).await.unwrap_or(0);
            if read == 0 {
                return;
            }
            bytes += read as u64;
            tokio::time::sleep(pause).await;
        }
        stream.write_all(OK.as_bytes()).await.unwrap();
        // The connection is kept until the other side lets it go.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_receiver_that_goes_on_reading_is_waited_for() {
    let authority = Authority::new();
    // About 3 s for all of it.
    let url = slow_receiver(256 << 10, Duration::from_millis(25)).await;
    let began = std::time::Instant::now();
    let attempt = deliver(&url, &authority, 24 * MIB, HumanDuration::secs(1)).await;
    assert_eq!(attempt, delivered(200));
    assert!(began.elapsed() > Duration::from_secs(1), "it was no test of the time-out");
}

/// A receiver that answers at length before it reads, and reads when it is told to; what it saw.
fn talkative_receiver() -> (String, Sender<()>, JoinHandle<Seen>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind(LOOPBACK).unwrap();
    let listener = socket.listen(8).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (go, told) = channel();
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (of, mut bytes) = head(&mut stream).await;
        let answer =
            [b"HTTP/1.1 200 OK\r\ncontent-length: 65536\r\n\r\n".as_slice(), &[b'x'; 8 << 10]].concat();
        stream.write_all(&answer).await.unwrap();
        told.await.unwrap();
        let mut buffer = [0; 4096];
        let ended = loop {
            match stream.read(&mut buffer).await {
                Ok(0) if bytes == of => break Ended::Whole,
                Ok(0) | Err(_) => break Ended::Cut,
                Ok(more) => bytes += more as u64,
            }
        };
        Seen { bytes, of, ended }
    });
    (url, go, seen)
}

#[tokio::test]
async fn what_was_sent_arrives_although_the_connection_is_left_in_the_middle_of_an_answer() {
    let (url, go, seen) = talkative_receiver();
    let outcome = deliver(&url, &Authority::new(), 64 * KIB, HumanDuration::secs(15)).await;
    assert_eq!(outcome, delivered(200));
    go.send(()).unwrap();
    let seen = seen.await.unwrap();
    assert_eq!(seen, Seen { bytes: seen.of, of: seen.of, ended: Ended::Whole });
}

/// A sink over HTTP/2 at this port, and the daemon that has it.
async fn sink(folder: &std::path::Path, authority: &Authority, port: u16, timeout: HumanDuration) -> Daemon {
    std::fs::write(folder.join("ca.pem"), &authority.cert).unwrap();
    let url = format!("https://localhost:{port}/");
    let mut config = config(folder, &mock().await).webhook("app", &url, 0);
    webhook(&mut config, |app| {
        app.ca_file = Some(folder.join("ca.pem"));
        app.timeout = timeout;
    });
    Daemon::start(config).await
}

/// One attempt: its status and its error.
async fn attempt(daemon: &Daemon) -> (Value, Value) {
    let (_, attempt) = daemon.post("/v1/sinks/app/test", &json!({})).await;
    (attempt["status"].clone(), attempt["error"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_whose_http2_connection_goes_silent_costs_one_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let handler = |call: Call| async move {
        let mut body = call.answer(200, "");
        while body.data().await.is_some() {}
    };
    let (address, _server) = serve_h2(acceptor(&authority, None, &["h2"]), handler).await;
    let relay = Relay::to(address).await;
    let daemon = sink(folder.path(), &authority, relay.port, HumanDuration::secs(1)).await;
    for _ in 0..2 {
        assert_eq!(attempt(&daemon).await, (json!(200), Value::Null));
    }
    assert_eq!(relay.accepted(), 1);
    relay.silence();
    assert_eq!(attempt(&daemon).await, (Value::Null, json!("timed out after 1s")));
    for _ in 0..2 {
        assert_eq!(attempt(&daemon).await, (json!(200), Value::Null));
    }
    assert_eq!(relay.accepted(), 2);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_stream_is_sent_again_over_another_connection() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let seen: Arc<Mutex<Vec<usize>>> = Arc::default();
    let kept = Arc::clone(&seen);
    let handler = move |call: Call| {
        let kept = Arc::clone(&kept);
        async move {
            kept.lock().unwrap().push(call.connection);
            // The first connection takes one request.
            if kept.lock().unwrap().iter().filter(|number| **number == 1).count() > 1 && call.connection == 1
            {
                return call.refuse();
            }
            let mut body = call.answer(200, "");
            while body.data().await.is_some() {}
        }
    };
    let (address, _server) = serve_h2(acceptor(&authority, None, &["h2"]), handler).await;
    let daemon = sink(folder.path(), &authority, address.port(), HumanDuration::secs(15)).await;
    for _ in 0..3 {
        assert_eq!(attempt(&daemon).await, (json!(200), Value::Null));
    }
    assert_eq!(*seen.lock().unwrap(), [1, 1, 2, 2]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_refuses_everything_is_asked_four_times() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let handler = move |call: Call| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move { call.refuse() }
    };
    let (address, _server) = serve_h2(acceptor(&authority, None, &["h2"]), handler).await;
    let daemon = sink(folder.path(), &authority, address.port(), HumanDuration::secs(15)).await;
    let (status, error) = attempt(&daemon).await;
    assert_eq!((status, error), (Value::Null, json!("the exchange broke off")));
    assert_eq!(count.load(Ordering::SeqCst), 4);
    daemon.stop().await;
}
