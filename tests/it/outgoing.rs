//! The way out of requests: through a proxy or without one, and whose failures are whose.

use std::sync::{Arc, Mutex};

use axum::http::Version;
use serde_json::{Value, json};
use tidings::mock::JobPlan;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::harness::{
    Authority, Daemon, LOOPBACK, Receiver, Sinks, TlsReceiver, config, eventually, mock, webhook,
};

/// One attempt at a sink.
async fn attempt(daemon: &Daemon, sink: &str) -> Value {
    let (status, attempt) = daemon.post(&format!("/v1/sinks/{sink}/test"), &json!({})).await;
    assert_eq!(status, 200, "{attempt}");
    attempt
}

/// A proxy that asks who is there, and what it was asked for. It opens tunnels, and answers plain requests itself.
async fn proxy() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let url = format!("http://user:pass@{}", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while !seen.ends_with(b"\r\n\r\n") {
                    seen.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(seen.clone()).unwrap().to_ascii_lowercase();
                let line = head.lines().next().unwrap().to_owned();
                let authorized = head.contains("proxy-authorization: basic dxnlcjpwyxnz");
                kept.lock().unwrap().push(format!("{line} {authorized}"));
                if let Some(rest) = line.strip_prefix("connect ") {
                    let to = rest.split(' ').next().unwrap();
                    let mut far = TcpStream::connect(to).await.unwrap();
                    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut far).await;
                } else if head.contains("echo.example") {
                    let answer = format!("HTTP/1.1 500 No\r\ncontent-length: {}\r\n\r\n", seen.len());
                    stream.write_all(&[answer.as_bytes(), &seen].concat()).await.unwrap();
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                } else {
                    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                }
            });
        }
    });
    (url, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_is_reached_through_the_proxy_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let receiver = TlsReceiver::start(&authority, None, &["h2"]).await;
    std::fs::write(folder.path().join("ca.pem"), &authority.cert).unwrap();
    let (proxy, asked) = proxy().await;
    let mut config = config(folder.path(), &mock().await).webhook("app", &receiver.url(), 1).webhook(
        "plain",
        "http://plain.example/hook?a=b",
        1,
    );
    config.server.proxy = Some(proxy.clone());
    webhook(&mut config, |app| {
        // It is at a loopback address, which goes without the proxy of all.
        app.proxy = Some(proxy);
        app.ca_file = Some(folder.path().join("ca.pem"));
    });
    let daemon = Daemon::start(config).await;
    assert_eq!(attempt(&daemon, "app").await["status"], 204);
    let plain = attempt(&daemon, "plain").await;
    assert_eq!((&plain["status"], &plain["error"]), (&json!(204), &Value::Null));
    daemon.stop().await;
    let target = receiver.url().replace("https://", "").replace("/hooks/jobs", "");
    let asked = asked.lock().unwrap().clone();
    let expected = [
        format!("connect {target} http/1.1 true"),
        "post http://plain.example/hook?a=b http/1.1 true".to_owned(),
    ];
    assert_eq!(asked, expected);
    assert_eq!(receiver.requests()[0].version, Version::HTTP_2);
    assert!(!receiver.requests()[0].headers.contains_key("proxy-authorization"), "it is for the proxy alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_proxy_is_told_of_us_is_not_kept_when_it_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (proxy, _) = proxy().await;
    let mut config = config(folder.path(), &mock().await).webhook("app", "http://echo.example/hook", 1);
    config.server.proxy = Some(proxy);
    let daemon = Daemon::start(config).await;
    let said = attempt(&daemon, "app").await.to_string().to_ascii_lowercase();
    assert!(said.contains("proxy-authorization: [redacted]"), "{said}");
    assert!(!said.contains("dxnlcjpwyxnz"), "{said}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_near_goes_without_the_proxy_of_all() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, receiver) = (mock().await, Receiver::start().await);
    let (proxy, asked) = proxy().await;
    let mut config = config(folder.path(), &mock)
        .webhook("app", &receiver.url(), 1)
        .webhook("far", "http://far.example/hook", 1)
        .webhook("near", "http://a.near.invalid/hook", 1)
        .webhook("none", "http://none.invalid/hook", 1);
    config.server.proxy = Some(proxy);
    config.server.no_proxy = vec!["near.invalid".to_owned()];
    let Some(tidings::deliver::SinkConfig::Webhook(none)) = config.sinks.get_mut("none") else {
        panic!("it is there")
    };
    none.proxy = Some("none".to_owned());
    let daemon = Daemon::start(config).await;
    let job = mock.add_job(JobPlan::new());
    let route = json!({"job_id": job, "sinks": ["app"]});
    assert_eq!(daemon.post("/v1/watches", &route).await.0, 202);
    assert_eq!(daemon.finished(&job).await["phase"], "done");
    assert!(asked.lock().unwrap().is_empty(), "source and sink are on loopback");
    assert_eq!(attempt(&daemon, "far").await["status"], 204);
    for direct in ["near", "none"] {
        let attempt = attempt(&daemon, direct).await;
        assert_eq!(attempt["error_class"], "name_not_found", "{direct}: {attempt}");
    }
    assert_eq!(*asked.lock().unwrap(), ["post http://far.example/hook http/1.1 true"]);
    daemon.stop().await;
}

/// A proxy that answers every request with this, and hangs up. Its address.
async fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            while !seen.windows(4).any(|four| four == b"\r\n\r\n") {
                if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

/// An address at which nobody answers.
async fn nobody() -> String {
    TcpListener::bind(LOOPBACK).await.unwrap().local_addr().unwrap().to_string()
}

const UNAUTHORIZED: &str = "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
const BAD_GATEWAY: &str = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_failures_of_a_proxy_are_told_as_its_own() {
    for (proxy, url) in [
        (nobody().await, "http://sink.example/hook"),
        (nobody().await, "https://sink.example/hook"),
        (answering(UNAUTHORIZED).await, "http://sink.example/hook"),
        (answering(UNAUTHORIZED).await, "https://sink.example/hook"),
        (answering(BAD_GATEWAY).await, "https://sink.example/hook"),
        (answering("").await, "https://sink.example/hook"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path(), &mock().await).webhook("app", url, 1);
        webhook(&mut config, |app| app.proxy = Some(format!("http://{proxy}")));
        let daemon = Daemon::start(config).await;
        let attempt = attempt(&daemon, "app").await;
        assert_eq!(
            (&attempt["status"], &attempt["error_class"]),
            (&Value::Null, &json!("proxy")),
            "{url}: {attempt}"
        );
        let error = attempt["error"].as_str().unwrap();
        assert!(error.starts_with(&format!("the proxy {proxy}: ")), "{url}: {error}");
        daemon.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_behind_a_tunnel_is_the_sinks() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = TlsReceiver::start(&Authority::new(), None, &["h2"]).await;
    let (proxy, _) = proxy().await;
    let mut config = config(folder.path(), &mock().await).webhook("app", &receiver.url(), 1);
    webhook(&mut config, |app| app.proxy = Some(proxy));
    let daemon = Daemon::start(config).await;
    let attempt = attempt(&daemon, "app").await;
    assert_eq!((&attempt["status"], &attempt["error_class"]), (&Value::Null, &json!("tls")), "{attempt}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_of_a_source_is_told_apart_from_the_source() {
    for (proxy, base_url) in [
        (nobody().await, "http://source.example"),
        (answering(UNAUTHORIZED).await, "http://source.example"),
        (answering(UNAUTHORIZED).await, "https://source.example"),
        (answering(BAD_GATEWAY).await, "https://source.example"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path(), &mock().await);
        let source = config.sources.get_mut("retab").unwrap();
        source.base_url = Some(base_url.to_owned());
        source.proxy.outgoing = Some(format!("http://{proxy}"));
        let daemon = Daemon::start(config).await;
        daemon.watch("job_1").await;
        let error = eventually("the source fails", || async {
            let (_, source) = daemon.get("/v1/sources/retab").await;
            source["last_error"].as_str().map(str::to_owned)
        })
        .await;
        assert!(error.starts_with(&format!("the proxy {proxy}: ")), "{base_url}: {error}");
        let (_, watch) = daemon.get("/v1/watches/retab/job_1").await;
        assert_eq!((&watch["phase"], &watch["outcome"]), (&json!("watching"), &Value::Null), "{watch}");
        let answer = daemon.http.get(format!("{}/proxy/retab/v1/jobs", daemon.url)).send().await.unwrap();
        assert_eq!(answer.status(), 502);
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], "upstream_unreachable", "{problem}");
        assert!(problem["detail"].as_str().unwrap().starts_with("the proxy "), "{problem}");
        daemon.stop().await;
    }
}
