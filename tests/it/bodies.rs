//! Bodies that careless sources write: they end jobs like any other, and go on as they came.

use base64::Engine as _;
use serde_json::json;
use tidings::{
    deliver::{Format, SinkConfig, WebhookConfig},
    upstream::{Outcomes, SourceConfig, SourceType},
    util::units::{Size, Span},
};

use crate::harness::{Daemon, Receiver, Request, Site, config, eventually, mock};

/// A source whose status body is the result.
fn inline(site: &Site) -> SourceConfig {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut source = SourceConfig {
        profile: SourceType::named("custom").unwrap(),
        base_url: Some(site.url()),
        status_path: Some("/inline/{id}".to_owned()),
        status_at: Some(words(&["/status"])),
        outcomes: Some(Outcomes {
            pending: words(&["busy"]),
            completed: words(&["completed"]),
            failed: words(&["failed"]),
            ..Outcomes::default()
        }),
        max_requests_per_second: 2000.0,
        ..SourceConfig::default()
    };
    source.polling.min_interval = Span::millis(20);
    source.polling.max_interval = Some(Span::millis(100));
    source
}

/// A daemon with a source of each kind at one site, and a receiver for each format.
struct Bench {
    daemon: Daemon,
    site: Site,
    envelope: Receiver,
    raw: Receiver,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn start(max_job_size: Size) -> Self {
        let (folder, site) = (tempfile::tempdir().unwrap(), Site::start().await);
        let mut config = config(folder.path(), &mock().await);
        let retab = config.sources.get_mut("retab").unwrap();
        retab.base_url = Some(site.url());
        config.sources.insert("inline".to_owned(), SourceConfig { max_job_size, ..inline(&site) });
        let (envelope, raw) = (Receiver::start().await, Receiver::start().await);
        for (name, receiver, format) in
            [("envelope", &envelope, Format::Envelope), ("raw", &raw, Format::Raw)]
        {
            let webhook = WebhookConfig { format, ..WebhookConfig::to(receiver.url()) };
            config.sinks.insert(name.to_owned(), SinkConfig::Webhook(webhook));
        }
        Self { daemon: Daemon::start(config).await, site, envelope, raw, _folder: folder }
    }

    /// Answers with this body wherever the job is asked for.
    fn job(&self, id: &str, body: &[u8]) {
        for target in [
            format!("/inline/{id}"),
            format!("/v1/jobs/{id}/status"),
            format!("/v1/jobs/{id}?include_request=false&include_response=true"),
        ] {
            self.site.answer(&target, 200, "application/json", body);
        }
    }

    async fn watch(&self, source: &str, id: &str) {
        let (status, watch) = self.daemon.post("/v1/watches", &json!({"source": source, "job_id": id})).await;
        assert_eq!(status, 202, "{watch}");
    }

    async fn ended(&self, source: &str, id: &str) -> serde_json::Value {
        eventually(&format!("{id} of {source} is done"), || async {
            let (_, watch) = self.daemon.get(&format!("/v1/watches/{source}/{id}")).await;
            matches!(watch["phase"].as_str(), Some("done" | "dead")).then_some(watch)
        })
        .await
    }
}

fn of_event(requests: &[Request], event: &serde_json::Value) -> Vec<u8> {
    let found = requests.iter().find(|request| request.header("webhook-id") == *event).unwrap();
    found.body.clone()
}

/// Bodies that say `completed`, each with what is wrong with it.
fn careless() -> Vec<(&'static str, Vec<u8>)> {
    let deep = |levels: usize| {
        format!("{{\"x\":{}1{},\"status\":\"completed\"}}", "[".repeat(levels), "]".repeat(levels))
            .into_bytes()
    };
    let number = format!("{{\"x\":-0.{},\"status\":\"completed\"}}", "9".repeat(100_000));
    vec![
        ("nan", br#"{"x":[NaN,Infinity,-Infinity],"status":"completed"}"#.to_vec()),
        ("surrogate", br#"{"x":"\ud83d","y\udc00":0,"status":"completed"}"#.to_vec()),
        ("mark", b"\xef\xbb\xbf{\"status\":\"completed\"}".to_vec()),
        ("depth_150", deep(150)),
        ("depth_200", deep(200)),
        ("depth_100000", deep(100_000)),
        ("exponent", br#"{"x":1e400,"status":"completed"}"#.to_vec()),
        ("number", number.into_bytes()),
        ("not_utf8", b"{\"x\":\"\xff\xfe\",\"status\":\"completed\"}".to_vec()),
        ("twice", br#"{"status":"completed","status":"queued","status":"busy"}"#.to_vec()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_careless_body_ends_its_job_and_goes_on_as_it_came() {
    let bench = Bench::start(Size::mib(64)).await;
    for (name, body) in careless() {
        bench.job(name, &body);
        bench.watch("inline", name).await;
        bench.watch("retab", name).await;
    }
    for (name, body) in careless() {
        for source in ["inline", "retab"] {
            let watch = bench.ended(source, name).await;
            let event = &watch["event_id"];
            assert_eq!(
                (&watch["outcome"], &watch["job_size"]),
                (&json!("completed"), &json!(body.len())),
                "{name}"
            );
            assert!(of_event(&bench.raw.requests(), event) == body, "{name} of {source}");
            let (status, stored) = bench.daemon.get_bytes(&format!("/v1/watches/{source}/{name}/job")).await;
            assert!((status, &stored) == (200, &body), "{name} of {source}");
            let envelope = of_event(&bench.envelope.requests(), event);
            if name == "not_utf8" {
                let envelope: serde_json::Value = serde_json::from_slice(&envelope).unwrap();
                let encoded = base64::engine::general_purpose::STANDARD.encode(&body);
                assert_eq!(envelope["data_base64"], encoded);
                assert_eq!(envelope["data_content_type"], "application/json");
                assert!(envelope.get("data").is_none());
                continue;
            }
            let inner = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&body);
            assert!(envelope.ends_with(&[b"\"data\":".as_slice(), inner, b"}"].concat()), "{name}");
            if name == "mark" {
                assert_eq!(
                    serde_json::from_slice::<serde_json::Value>(&envelope).unwrap()["data"]["status"],
                    "completed"
                );
            }
        }
    }
    assert_eq!(
        bench.site.requests("/v1/jobs/nan?include_request=false&include_response=true").len(),
        1,
        "fetched once"
    );
    bench.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_careless_body_of_a_running_job_is_no_failure() {
    let bench = Bench::start(Size::mib(64)).await;
    for (name, body) in careless() {
        let running = String::from_utf8_lossy(&body).replace("completed", "queued");
        let running = if name == "not_utf8" {
            b"{\"x\":\"\xff\xfe\",\"status\":\"queued\"}".to_vec()
        } else {
            running.into_bytes()
        };
        bench.job(name, &running);
        bench.watch("retab", name).await;
    }
    for (name, _) in careless() {
        bench
            .daemon
            .until(name, "is seen", |watch| watch["status"] == "queued" && watch["last_error"].is_null())
            .await;
    }
    let (_, sources) = bench.daemon.get("/v1/sources").await;
    assert!(sources["data"].as_array().unwrap().iter().all(|source| source["state"] == "ok"), "{sources}");
    for (name, body) in careless() {
        bench.job(name, &body);
    }
    for (name, _) in careless() {
        assert_eq!(bench.ended("retab", name).await["outcome"], "completed", "{name}");
    }
    bench.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_status_that_is_the_result_ends_its_job() {
    let bench = Bench::start(Size::mib(24)).await;
    let body =
        |bytes: usize, word: &str| format!("{{\"text\":\"{}\",\"status\":\"{word}\"}}", "x".repeat(bytes));
    bench.job("large", body(20 << 20, "busy").as_bytes());
    bench.watch("inline", "large").await;
    eventually("it is seen", || async {
        let (_, watch) = bench.daemon.get("/v1/watches/inline/large").await;
        (watch["status"] == "busy").then_some(())
    })
    .await;
    let whole = body(20 << 20, "completed");
    bench.job("large", whole.as_bytes());
    let watch = bench.ended("inline", "large").await;
    assert_eq!((&watch["outcome"], &watch["job_size"]), (&json!("completed"), &json!(whole.len())));
    assert!(of_event(&bench.raw.requests(), &watch["event_id"]) == whole.as_bytes());
    // One that is larger than a job may be waits for a higher bound, and says so.
    let too_large = format!("{{\"status\":\"completed\",{}", &body(25 << 20, "x")[1..]);
    bench.job("too_large", too_large.as_bytes());
    bench.watch("inline", "too_large").await;
    eventually("it says what holds it", || async {
        let (_, watch) = bench.daemon.get("/v1/watches/inline/too_large").await;
        watch["last_error"].as_str()?.contains("max_job_size (24MiB)").then_some(())
    })
    .await;
    bench.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_is_no_status_and_no_job() {
    let bench = Bench::start(Size::mib(64)).await;
    let bodies = [
        ("html", "<!doctype html><html></html>"),
        ("word", "completed"),
        ("cut", r#"{"status":"completed","x":[1"#),
        ("more", r#"{"status":"completed"} {}"#),
        ("empty", ""),
    ];
    for (name, body) in bodies {
        bench.job(name, body.as_bytes());
        bench.watch("inline", name).await;
        eventually(&format!("{name} is told"), || async {
            let (_, watch) = bench.daemon.get(&format!("/v1/watches/inline/{name}")).await;
            assert_eq!((&watch["phase"], &watch["status"]), (&json!("watching"), &json!(null)), "{watch}");
            watch["last_error"].as_str()?.contains("no JSON").then_some(())
        })
        .await;
        bench.job(name, br#"{"status":"completed"}"#);
        assert_eq!(bench.ended("inline", name).await["outcome"], "completed");
    }
    bench.daemon.stop().await;
}
