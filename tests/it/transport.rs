//! How a webhook is spoken to: certificates, credentials, kept connections, what its answers lead to.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use axum::http::Version;
use rcgen::{BasicConstraints, IsCa};
use serde_json::{Value, json};
use tidings::{
    config::Config,
    deliver::{SinkConfig, WebhookConfig},
    mock::JobPlan,
    util::secret::{Secret, SecretFile, SecretValue},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::harness::{
    Authority, Daemon, LOOPBACK, Pair, Receiver, Reply, Sinks, TlsReceiver, config, eventually, mock, once,
};

/// A daemon with one sink `app` at this address, set up by `change`.
async fn daemon(folder: &Path, url: &str, change: impl FnOnce(&mut WebhookConfig)) -> Daemon {
    let mock = mock().await;
    let mut config: Config = config(folder, &mock).webhook("app", url, 1);
    let Some(SinkConfig::Webhook(webhook)) = config.sinks.get_mut("app") else { panic!("it is there") };
    change(webhook);
    Daemon::start(config).await
}

/// One attempt at the sink `app`: its status and what went wrong.
async fn attempt(daemon: &Daemon) -> (Value, String, Value) {
    let (status, attempt) = daemon.post("/v1/sinks/app/test", &json!({})).await;
    assert_eq!(status, 200, "{attempt}");
    let error = attempt["error"].as_str().unwrap_or_default().to_owned();
    (attempt["status"].clone(), error, attempt["error_class"].clone())
}

async fn delivers(daemon: &Daemon) {
    assert_eq!(attempt(daemon).await, (json!(204), String::new(), Value::Null));
}

fn certificates(folder: &Path, webhook: &mut WebhookConfig) {
    webhook.ca_file = Some(folder.join("ca.pem"));
    webhook.client_cert_file = Some(folder.join("client.pem"));
    webhook.client_key_file = Some(folder.join("client.key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_ca_and_client_certificates_work_and_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let authority = Authority::new();
    let receiver = TlsReceiver::start(&authority, Some(&authority), &["h2", "http/1.1"]).await;
    std::fs::write(folder.join("ca.pem"), &authority.cert).unwrap();
    let [first, second] = ["one", "two"].map(|name| authority.issue(name));
    first.write(folder);
    let daemon = daemon(folder, &receiver.url(), |webhook| certificates(folder, webhook)).await;
    delivers(&daemon).await;
    delivers(&daemon).await;

    second.write(folder);
    delivers(&daemon).await;
    // Half of a rotation, and a file that is none: the attempt says so, nothing is sent, and the next one is right again.
    let mixed = Pair { cert: second.cert.clone(), key: first.key.clone() };
    mixed.write(folder);
    let (status, error, class) = attempt(&daemon).await;
    assert_eq!((status, class), (Value::Null, json!("config")));
    assert!(error.contains("client.key") && error.contains("not the key of the certificate"), "{error}");
    std::fs::write(folder.join("client.pem"), "nothing").unwrap();
    let (_, error, class) = attempt(&daemon).await;
    assert_eq!(class, "config");
    assert!(error.contains("client.pem cannot be used: it holds no certificate"), "{error}");
    std::fs::remove_file(folder.join("client.pem")).unwrap();
    assert_eq!(attempt(&daemon).await.2, "config");
    first.write(folder);
    delivers(&daemon).await;

    let seen = receiver.requests();
    assert!(seen.iter().all(|request| request.version == Version::HTTP_2), "{seen:?}");
    let by: Vec<_> = seen.iter().map(|request| (request.connection, request.client.clone())).collect();
    let (first, second) = (Some(first.der()), Some(second.der()));
    assert_eq!(by, [(1, first.clone()), (1, first.clone()), (2, second), (3, first)]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_or_a_client_that_is_not_trusted_is_a_tls_error() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new(), Authority::new());
    let receiver = TlsReceiver::start(&ours, None, &["http/1.1"]).await;
    let stranger = daemon(folder.path(), &receiver.url(), |_| {}).await;
    let (status, error, class) = attempt(&stranger).await;
    assert_eq!((status, class), (Value::Null, json!("tls")), "{error}");
    stranger.stop().await;

    std::fs::write(folder.path().join("ca.pem"), &ours.cert).unwrap();
    other.issue("one").write(folder.path());
    let trusting = daemon(folder.path(), &receiver.url(), |webhook| {
        webhook.ca_file = Some(folder.path().join("ca.pem"));
    })
    .await;
    delivers(&trusting).await;
    delivers(&trusting).await;
    let seen: Vec<_> =
        receiver.requests().iter().map(|request| (request.connection, request.version)).collect();
    // The first connection never got as far as a request.
    assert_eq!(seen, [(2, Version::HTTP_11), (2, Version::HTTP_11)]);
    trusting.stop().await;

    let choosy = TlsReceiver::start(&ours, Some(&ours), &["h2"]).await;
    let refused = daemon(folder.path(), &choosy.url(), |webhook| certificates(folder.path(), webhook)).await;
    let (status, error, class) = attempt(&refused).await;
    // The alert may be overtaken by the end of the connection.
    assert!(status.is_null() && (class == "tls" || class == "reset"), "{class}: {error}");
    assert_eq!(choosy.requests().len(), 0);
    refused.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_tls_says_what_is_wrong_with_the_certificate_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, &ours.cert).unwrap();
    let year = |year| rcgen::date_time_ymd(year, 1, 2);
    let cases = [
        (
            ours.issue_as("localhost", |params| params.not_after = year(2001)),
            "expired at 2001-01-02T00:00:00",
        ),
        (ours.issue_as("localhost", |params| params.not_before = year(2999)), "not valid before 2999-01-02"),
        (ours.issue("elsewhere"), "is for `elsewhere`, and not for `localhost`"),
        (
            ours.issue_as("localhost", |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            "CA:TRUE",
        ),
        (Authority::new().issue("localhost"), "not signed by the authority whose name it has"),
    ];
    for (pair, wanted) in cases {
        let receiver = TlsReceiver::with(&pair).await;
        let daemon = daemon(folder.path(), &receiver.url(), |webhook| {
            webhook.ca_file = Some(ca_file.clone());
        })
        .await;
        let (status, error, class) = attempt(&daemon).await;
        assert_eq!((status, class), (Value::Null, json!("tls")), "{error}");
        assert!(error.starts_with("TLS: ") && error.contains(wanted), "{wanted}: {error}");
        assert!(error.contains("; ") && !error.contains("::") && !error.contains("Other"), "{error}");
        daemon.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_tls_at_a_source_is_told_the_same_way() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = TlsReceiver::start(&Authority::new(), None, &["http/1.1"]).await;
    let mock = mock().await;
    let mut config: Config = config(folder.path(), &mock);
    let base_url = receiver.url().replace("/hooks/jobs", "");
    config.sources.get_mut("retab").unwrap().base_url = Some(base_url);
    let daemon = Daemon::start(config).await;
    assert_eq!(daemon.post("/v1/watches", &json!({"job_id": "job_1"})).await.0, 202);
    let told = eventually("the source tells its error", || async {
        let source = daemon.get("/v1/sources/retab").await.1;
        source["last_error"].as_str().map(str::to_owned)
    })
    .await;
    assert!(told.contains("TLS: no trusted authority issued the certificate; "), "{told}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bearer_and_headers_come_from_files_that_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (token, key) = (folder.path().join("token"), folder.path().join("key"));
    std::fs::write(&token, "first\n").unwrap();
    std::fs::write(&key, "one\n").unwrap();
    let receiver = Receiver::start().await;
    let daemon = daemon(folder.path(), &receiver.url(), |webhook| {
        webhook.bearer_file = Some(token.clone());
        webhook.headers.insert("X-Team".to_owned(), "billing".into());
        let file = SecretFile { file: key.clone() };
        webhook.headers.insert("X-Key".to_owned(), SecretValue::File(file));
    })
    .await;
    delivers(&daemon).await;
    std::fs::write(&token, "second one\n").unwrap();
    std::fs::write(&key, "another\n").unwrap();
    delivers(&daemon).await;
    std::fs::write(&token, "").unwrap();
    let (status, error, class) = attempt(&daemon).await;
    assert_eq!((status, class), (Value::Null, json!("config")));
    assert!(error.contains("token cannot be used: it is empty"), "{error}");
    let seen = receiver.requests();
    let seen: Vec<_> = seen
        .iter()
        .map(|request| ["authorization", "x-key", "x-team"].map(|name| request.header(name)))
        .collect();
    assert_eq!(seen, [["Bearer first", "one", "billing"], ["Bearer second one", "another", "billing"]]);
    daemon.stop().await;
}

/// What a [`script`] saw: the number of the connection and the event id of each request.
type Seen = Arc<Mutex<Vec<(usize, String)>>>;

/// A receiver whose connections answer as many requests as it says, hang up on the next one, and go on after the last
/// number as with the last.
async fn script(answers: &'static [usize]) -> (String, Seen) {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let seen = Seen::default();
    let kept = Arc::clone(&seen);
    tokio::spawn(async move {
        for number in 1.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (kept, answers) = (Arc::clone(&kept), answers[(number - 1).min(answers.len() - 1)]);
            tokio::spawn(async move {
                for _ in 0..=answers {
                    let Some(id) = request(&mut stream).await else { return };
                    kept.lock().unwrap().push((number, id));
                    if kept.lock().unwrap().iter().filter(|(at, _)| *at == number).count() <= answers {
                        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                    }
                }
            });
        }
    });
    (url, seen)
}

/// Reads one request and tells its event id.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut seen = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&seen).into_owned();
        let header = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.unwrap_or_default().to_owned()
        };
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && body.len() == header("content-length").parse::<usize>().unwrap()
        {
            assert!(head.starts_with("POST "));
            return Some(header("webhook-id"));
        }
        if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_died_costs_no_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let (url, seen) = script(&[1]).await;
    let mock = mock().await;
    let daemon = Daemon::start(config(folder.path(), &mock).webhook("app", &url, 1)).await;
    delivers(&daemon).await;
    let job = mock.add_job(JobPlan::new());
    daemon.watch(job.as_str()).await;
    let watch = daemon.finished(job.as_str()).await;
    assert_eq!(watch["phase"], "done", "{watch}");
    assert_eq!(watch["deliveries"][0]["attempts"], 1);
    let event = watch["event_id"].as_str().unwrap();
    let seen = seen.lock().unwrap()[1..].to_vec();
    assert_eq!(seen, [(1, event.to_owned()), (2, event.to_owned())], "once more at once, as the same event");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_always_hangs_up_is_asked_twice_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let (url, seen) = script(&[1, 0]).await;
    let daemon = daemon(folder.path(), &url, |_| {}).await;
    delivers(&daemon).await;
    for _ in 0..2 {
        let (status, error, class) = attempt(&daemon).await;
        assert_eq!((status, class), (Value::Null, json!("reset")), "{error}");
    }
    // The kept connection and a new one; then, with none kept, a single new one.
    let connections: Vec<_> = seen.lock().unwrap().iter().map(|(number, _)| *number).collect();
    assert_eq!(connections, [1, 1, 2, 3]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_is_a_dead_letter_at_once_that_names_the_size() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, receiver) = (mock().await, Receiver::start().await);
    receiver.always(Reply::status(413));
    let daemon = Daemon::start(config(folder.path(), &mock).webhook("app", &receiver.url(), 3)).await;
    let job = mock.add_job(JobPlan::new());
    daemon.watch(job.as_str()).await;
    assert_eq!(daemon.finished(job.as_str()).await["phase"], "dead");
    let requests = receiver.requests();
    assert_eq!(requests.len(), 1, "the same bytes would be refused again");
    let (_, page) = daemon.get("/v1/deliveries?sink=app").await;
    let (_, delivery) =
        daemon.get(&format!("/v1/deliveries/{}", page["data"][0]["id"].as_str().unwrap())).await;
    let reason = format!("answered 413 Content Too Large to {} bytes", requests[0].body.len());
    assert_eq!(delivery["reason"], reason);
    assert_eq!(delivery["attempts"][0]["error_class"], "status");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ed25519_and_hmac_sign_side_by_side_during_a_rotation() {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    const OLD: &str = "whsec_b2xkIHNlY3JldCBvZiB0aGUgcmVjZWl2ZXIsIDMyIGI=";
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let new = format!("whsk_{}", BASE64_STANDARD.encode([7; 32]));
    let daemon = daemon(folder.path(), &receiver.url(), |webhook| {
        webhook.secrets = vec![Secret::new(new.as_str()), Secret::new(OLD)];
    })
    .await;
    delivers(&daemon).await;
    let request = &receiver.requests()[0];
    let (asymmetric, symmetric) = request.header("webhook-signature").split_once(' ').unwrap();
    assert!(symmetric.starts_with("v1,"));
    standardwebhooks::Webhook::new(OLD).unwrap().verify(&request.body, &request.headers).unwrap();
    let signature = BASE64_STANDARD.decode(asymmetric.strip_prefix("v1a,").unwrap()).unwrap();
    let signature = ed25519_dalek::Signature::from_slice(&signature).unwrap();
    let begin = format!("{}.{}.", request.header("webhook-id"), request.header("webhook-timestamp"));
    let message = [begin.as_bytes(), &request.body].concat();
    let public = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
    public.verify_strict(&message, &signature).unwrap();
    daemon.stop().await;
}

/// The configurations of the document, with its folder of secrets and its receiver put in their places, deliver.
#[tokio::test(flavor = "multi_thread")]
async fn the_configurations_of_the_document_work() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let authority = Authority::new();
    let receiver = TlsReceiver::start(&authority, Some(&authority), &["h2"]).await;
    let client = authority.issue("tidings");
    let secrets = format!("# new\nwhsk_{}\nwhsec_{}\n", "A".repeat(43), "A".repeat(32));
    for (name, text) in [
        ("company-ca.pem", authority.cert.as_str()),
        ("tls.crt", &client.cert),
        ("tls.key", &client.key),
        ("app_token", "token"),
        ("app_key", "key"),
        ("app_url", "https://hooks.example.com/services/secret"),
        ("app_signing", &secrets),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/guide/webhooks.md")).unwrap();
    let blocks = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let mut delivered = 0;
    for block in blocks {
        let block = block.replace("/run/secrets", folder.to_str().unwrap());
        std::fs::write(folder.join("tidings.toml"), &block).unwrap();
        let checked = once(folder, &["config", "check"]).await;
        assert!(checked.status.success(), "{block}{}", String::from_utf8_lossy(&checked.stderr));
        let mut parsed: Config = toml::from_str(&block).unwrap();
        let Some(SinkConfig::Webhook(mut webhook)) = parsed.sinks.remove("app") else { continue };
        webhook.url = Some(receiver.url());
        certificates(folder, &mut webhook);
        webhook.ca_file = Some(folder.join("company-ca.pem"));
        client.write(folder);
        let mut config = config(folder, &mock().await);
        config.sinks.insert("app".to_owned(), SinkConfig::Webhook(webhook));
        let daemon = Daemon::start(config).await;
        delivers(&daemon).await;
        daemon.stop().await;
        delivered += 1;
    }
    let seen = receiver.requests();
    assert_eq!((delivered, seen.len()), (2, 2));
    let signature = seen[0].headers["webhook-signature"].to_str().unwrap();
    assert!(signature.starts_with("v1a,") && signature.contains(" v1,"), "{signature}");
    let sent = ["authorization", "x-team", "x-key"].map(|name| seen[1].headers[name].to_str().unwrap());
    assert_eq!(sent, ["Bearer token", "billing", "key"]);
}
