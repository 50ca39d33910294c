//! Bodies that careless sources write: they end jobs like any other, and go on as they came.

use base64::Engine as _;
use serde_json::json;
use tidings::{
    deliver::{Format, SinkConfig, WebhookConfig},
    upstream::{Outcomes, SourceConfig},
    util::units::Size,
};

use crate::{
    harness::{Flow, Receiver, Request, Setup, Site, eventually, is_finished},
    sources::{custom, list},
};

/// A flow with a source of each kind at one site, and a receiver for each format: `receiver` for the envelope.
struct Bench {
    flow: Flow,
    site: Site,
    raw: Receiver,
}

impl Bench {
    async fn start(max_job_size: Size) -> Self {
        let (site, raw) = (Site::start().await, Receiver::start().await);
        let inline =
            SourceConfig { max_job_size, status_path: Some("/inline/{id}".to_owned()), ..custom(&site) };
        let inline = SourceConfig { status_at: Some(list(&["/status"])), outcomes: Some(words()), ..inline };
        let setup = Setup::new().await.retab(|retab| retab.base_url = Some(site.url()));
        let webhook = WebhookConfig { format: Format::Raw, ..WebhookConfig::to(raw.url()) };
        let flow = setup
            .change(|config| {
                config.sources.insert("inline".to_owned(), inline);
                config.sinks.insert("raw".to_owned(), SinkConfig::Webhook(webhook));
            })
            .start()
            .await;
        Self { flow, site, raw }
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
        self.flow.daemon.register(&json!({"source": source, "job_id": id})).await;
    }

    async fn ended(&self, source: &str, id: &str) -> serde_json::Value {
        self.flow.daemon.until_in(source, id, "is done", is_finished).await
    }
}

/// The words of the source `inline`.
fn words() -> Outcomes {
    Outcomes {
        pending: list(&["busy"]),
        completed: list(&["completed"]),
        failed: list(&["failed"]),
        ..Outcomes::default()
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
            let (status, stored) =
                bench.flow.daemon.get_bytes(&format!("/v1/watches/{source}/{name}/job")).await;
            assert!((status, &stored) == (200, &body), "{name} of {source}");
            let envelope = of_event(&bench.flow.receiver.requests(), event);
            if name == "not_utf8" {
                let envelope: serde_json::Value = serde_json::from_slice(&envelope).unwrap();
                let encoded = base64::engine::general_purpose::STANDARD.encode(&body);
                assert_eq!(envelope["data_base64"], encoded);
                assert_eq!(envelope["data_content_type"], "application/json");
                assert_eq!(envelope.get("data"), None);
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
    bench.flow.stop().await;
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
            .flow
            .daemon
            .until(name, "is seen", |watch| watch["status"] == "queued" && watch["last_error"].is_null())
            .await;
    }
    let (_, sources) = bench.flow.daemon.get("/v1/sources").await;
    assert!(sources["data"].as_array().unwrap().iter().all(|source| source["state"] == "ok"), "{sources}");
    for (name, body) in careless() {
        bench.job(name, &body);
    }
    for (name, _) in careless() {
        assert_eq!(bench.ended("retab", name).await["outcome"], "completed", "{name}");
    }
    bench.flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_status_that_is_the_result_ends_its_job() {
    let bench = Bench::start(Size::mib(24)).await;
    let body =
        |bytes: usize, word: &str| format!("{{\"text\":\"{}\",\"status\":\"{word}\"}}", "x".repeat(bytes));
    bench.job("large", body(20 << 20, "busy").as_bytes());
    bench.watch("inline", "large").await;
    eventually("it is seen", || async {
        let (_, watch) = bench.flow.daemon.get("/v1/watches/inline/large").await;
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
        let (_, watch) = bench.flow.daemon.get("/v1/watches/inline/too_large").await;
        watch["last_error"].as_str()?.contains("max_job_size (24MiB)").then_some(())
    })
    .await;
    bench.flow.stop().await;
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
            let (_, watch) = bench.flow.daemon.get(&format!("/v1/watches/inline/{name}")).await;
            assert_eq!((&watch["phase"], &watch["status"]), (&json!("watching"), &json!(null)), "{watch}");
            watch["last_error"].as_str()?.contains("no JSON").then_some(())
        })
        .await;
        bench.job(name, br#"{"status":"completed"}"#);
        assert_eq!(bench.ended("inline", name).await["outcome"], "completed");
    }
    bench.flow.stop().await;
}
