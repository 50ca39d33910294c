//! What receivers get in each format, from a real job to a real request; the examples are those of `docs/reference/formats.md`.

use std::path::Path;

use serde_json::{Value, json};
use tidings::{
    config::Config,
    deliver::{DiskConfig, Format, Method, SinkConfig, WebhookConfig},
    mock::JobPlan,
    util::units::{HumanDuration, Size},
};

use crate::harness::{Daemon, Receiver, Reply, Request, Sinks, config, eventually, mock};

/// A job with what survives no parser.
const ODD: &str = r#"{ "big": 12345678901234567890123, "f": 1.10 }"#;

/// The sinks of the `toml` blocks of the document.
fn documented() -> std::collections::BTreeMap<String, SinkConfig> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/formats.md");
    let text = std::fs::read_to_string(path).unwrap();
    let blocks = text.split("```toml\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    blocks.flat_map(|block| toml::from_str::<Config>(block).unwrap().sinks).collect()
}

/// The webhook of the document, with this receiver's address in it.
fn example(name: &str, receiver: &Receiver) -> WebhookConfig {
    let Some(SinkConfig::Webhook(mut webhook)) = documented().remove(name) else {
        panic!("there is no {name}")
    };
    webhook.url = Some(receiver.url());
    webhook
}

/// One job through one webhook: the watch, the job's bytes, and the request that came.
async fn delivered(
    plan: JobPlan,
    webhook: impl FnOnce(&Receiver) -> WebhookConfig,
) -> (Value, Vec<u8>, Request) {
    let folder = tempfile::tempdir().unwrap();
    let (mock, receiver) = (mock().await, Receiver::start().await);
    let mut config = config(folder.path(), &mock);
    config.sources.get_mut("retab").unwrap().include_request = true;
    config.sinks.insert("app".to_owned(), SinkConfig::Webhook(webhook(&receiver)));
    let daemon = Daemon::start(config).await;
    let job = mock.add_job(plan);
    let body = json!({ "job_id": job, "labels": { "team": "bil\"ling", "tier": "1" } });
    assert_eq!(daemon.post("/v1/watches", &body).await.0, 202);
    let watch = daemon.finished(&job).await;
    assert_eq!(watch["phase"], "done", "{watch}");
    let (status, bytes) = daemon.get_bytes(&format!("/v1/watches/retab/{job}/job")).await;
    assert_eq!(status, 200);
    let request = receiver.at_least(1).await.remove(0);
    daemon.stop().await;
    (watch, bytes, request)
}

fn in_format(format: Format) -> impl FnOnce(&Receiver) -> WebhookConfig {
    move |receiver| WebhookConfig { format, ..WebhookConfig::to(receiver.url()) }
}

fn odd() -> JobPlan {
    let request = serde_json::value::RawValue::from_string(ODD.to_owned()).unwrap();
    JobPlan { request: Some(request), ..JobPlan::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_structured_cloudevent_holds_the_jobs_bytes() {
    let (watch, job, request) = delivered(odd(), in_format(Format::CloudEvents)).await;
    assert_eq!(request.method, "POST");
    assert_eq!(request.header("content-type"), "application/cloudevents+json; charset=utf-8");
    assert_eq!(request.header("webhook-id"), watch["event_id"]);
    assert!(request.headers.keys().all(|name| !name.as_str().starts_with("ce-")));
    let body = String::from_utf8(request.body.clone()).unwrap();
    assert!(body.ends_with(&format!(",\"data\":{}}}", String::from_utf8(job).unwrap())), "{body}");
    assert!(body.contains(ODD), "{body}");
    let event = request.json();
    let known = ["specversion", "id", "source", "type", "subject", "outcome", "datacontenttype"]
        .map(|name| &event[name]);
    let id = watch["event_id"].as_str().unwrap();
    let job_id = watch["job_id"].as_str().unwrap();
    assert_eq!(
        known,
        ["1.0", id, "/sources/retab", "dev.tidings.job.completed", job_id, "completed", "application/json"]
    );
    assert!(event["time"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_cloudevent_is_the_job_with_headers() {
    let (watch, job, request) = delivered(odd(), |receiver| example("broker", receiver)).await;
    assert!(request.body == job, "the job's bytes were changed");
    let names = [
        "ce-specversion",
        "ce-id",
        "ce-source",
        "ce-type",
        "ce-subject",
        "ce-outcome",
        "content-type",
        "webhook-id",
    ];
    let id = watch["event_id"].as_str().unwrap();
    let job_id = watch["job_id"].as_str().unwrap();
    assert_eq!(
        names.map(|name| request.header(name)),
        [
            "1.0",
            id,
            "/sources/retab",
            "dev.tidings.job.completed",
            job_id,
            "completed",
            "application/json",
            id
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn envelope_and_raw_go_by_any_method() {
    let (watch, job, request) = delivered(odd(), |receiver| WebhookConfig {
        method: Method::Patch,
        format: Format::Raw,
        ..WebhookConfig::to(receiver.url())
    })
    .await;
    assert_eq!((request.method.as_str(), request.body == job), ("PATCH", true));
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("webhook-id"), watch["event_id"]);
    let (watch, job, request) = delivered(odd(), in_format(Format::Envelope)).await;
    assert_eq!((request.method.as_str(), request.json()["id"] == watch["event_id"]), ("POST", true));
    assert!(request.body.ends_with(&[&b",\"data\":"[..], &job, b"}"].concat()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slack_example_says_what_happened() {
    let (watch, _, request) = delivered(JobPlan::new(), |receiver| example("slack", receiver)).await;
    let job = watch["job_id"].as_str().unwrap();
    let ended = request.json()["blocks"][1]["elements"][0]["text"].as_str().unwrap()[..24].to_owned();
    let expected = json!({
        "text": format!("Job {job} completed"),
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": format!("*Completed*: `{job}` of retab")}},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": format!("{ended} · team=bil\"ling · tier=1")}]},
        ],
    });
    assert_eq!(request.json(), expected);
    assert!(tidings::util::units::Time::parse(&ended).is_some(), "{ended}");
    assert_eq!(request.header("content-type"), "application/json");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_teams_example_is_a_card() {
    let (watch, _, request) = delivered(JobPlan::new(), |receiver| example("teams", receiver)).await;
    let card = &request.json()["attachments"][0]["content"]["body"];
    assert_eq!(card[0]["text"], "Job completed");
    let facts = card[1]["facts"].as_array().unwrap();
    assert_eq!(
        facts[..2],
        [json!({"title": "Job", "value": watch["job_id"]}), json!({"title": "Team", "value": "bil\"ling"})]
    );
    assert_eq!(facts.len(), 3, "a job that was not lost has no reason");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_example_is_put() {
    let (watch, _, request) = delivered(JobPlan::new(), |receiver| example("board", receiver)).await;
    let job = watch["job_id"].as_str().unwrap();
    assert_eq!(
        (request.method.as_str(), request.header("content-type")),
        ("PUT", "text/plain; charset=utf-8")
    );
    assert_eq!(String::from_utf8(request.body).unwrap(), format!("{job} completed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_fails_is_a_dead_letter_until_it_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("message.j2");
    std::fs::write(&file, "{\n  \"total\": {{ data.request.total }}\n}").unwrap();
    let (mock, receiver) = (mock().await, Receiver::start().await);
    let mut config = config(folder.path(), &mock).webhook("app", &receiver.url(), 1);
    config.sources.get_mut("retab").unwrap().include_request = true;
    let Some(SinkConfig::Webhook(app)) = config.sinks.get_mut("app") else { panic!() };
    (app.format, app.template_file) = (Format::Template, Some(file.clone()));
    let daemon = Daemon::start(config).await;
    let job = mock.add_job(odd());
    daemon.watch(&job).await;
    let watch = daemon.finished(&job).await;
    assert_eq!(watch["phase"], "dead");
    let path = format!("/v1/deliveries/{}", watch["deliveries"][0]["id"].as_str().unwrap());
    let (_, delivery) = daemon.get(&path).await;
    let reason =
        format!("sinks.app.template_file: in {}, line 2: `data.request.total` is undefined", file.display());
    let attempts = delivery["attempts"].as_array().unwrap();
    assert_eq!(attempts.iter().map(|attempt| &attempt["error"]).collect::<Vec<_>>(), [&reason, &reason]);
    assert_eq!(delivery["reason"], format!("the last attempt failed: {reason}"));
    assert_eq!(receiver.requests().len(), 0, "nothing is sent for a template that fails");

    // The second mistake is in what comes out.
    for (text, fine) in [("{\"big\": {{ job_id }}}", false), ("{\"big\": {{ data.request.big }}}", true)] {
        std::fs::write(&file, text).unwrap();
        assert_eq!(daemon.post(&format!("{path}/redeliver"), &json!({})).await.0, 202);
        let ended = eventually("it is delivered or dead", || async {
            let (_, delivery) = daemon.get(&path).await;
            (delivery["state"] != "pending").then_some(delivery)
        })
        .await;
        assert_eq!(ended["state"] == "delivered", fine, "{ended}");
        assert!(
            fine || ended["reason"].as_str().unwrap().contains("line 1: its output is not JSON"),
            "{ended}"
        );
    }
    let requests = receiver.at_least(1).await;
    assert_eq!(String::from_utf8_lossy(&requests[0].body), "{\"big\": 12345678901234567890123}");
    assert_eq!(requests[0].header("webhook-id"), watch["event_id"]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_too_large_for_a_template_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, receiver) = (mock().await, Receiver::start().await);
    let mut config =
        config(folder.path(), &mock).webhook("app", &receiver.url(), 0).webhook("small", &receiver.url(), 0);
    for (name, template) in [("app", "{{ data|tojson }}"), ("small", "\"{{ job_id }}\"")] {
        let Some(SinkConfig::Webhook(sink)) = config.sinks.get_mut(name) else { panic!() };
        (sink.format, sink.template) = (Format::Template, Some(template.to_owned()));
    }
    let daemon = Daemon::start(config).await;
    let job = mock.add_job(JobPlan::new().size(Size::mib(5)));
    daemon.watch(&job).await;
    let watch = daemon.finished(&job).await;
    let of = |sink: &str| {
        watch["deliveries"].as_array().unwrap().iter().find(|brief| brief["sink"] == sink).unwrap().clone()
    };
    assert_eq!((&of("app")["state"], &of("small")["state"]), (&json!("dead"), &json!("delivered")));
    let (_, delivery) = daemon.get(&format!("/v1/deliveries/{}", of("app")["id"].as_str().unwrap())).await;
    let reason = delivery["reason"].as_str().unwrap();
    assert!(
        reason.contains("sinks.app.template: it uses `data`, and the job has 5")
            && reason.contains("up to 4MiB"),
        "{reason}"
    );
    assert_eq!(receiver.requests()[0].body, format!("\"{job}\"").into_bytes());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_job_without_a_body_is_an_event_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, receiver) = (mock().await, Receiver::start().await);
    let mut config = config(folder.path(), &mock);
    for (name, format) in [("structured", Format::CloudEvents), ("binary", Format::CloudEventsBinary)] {
        let webhook = WebhookConfig { format, ..WebhookConfig::to(receiver.url()) };
        config.sinks.insert(name.to_owned(), SinkConfig::Webhook(webhook));
    }
    config.sources.get_mut("retab").unwrap().not_found_grace = Some(HumanDuration::millis(50));
    let daemon = Daemon::start(config).await;
    daemon.watch("job/ü \"nowhere\"").await;
    let watch = daemon.finished("job/ü \"nowhere\"").await;
    assert_eq!((&watch["phase"], &watch["outcome"]), (&json!("done"), &json!("lost")));
    let requests = receiver.at_least(2).await;
    let binary = requests.iter().find(|request| request.headers.contains_key("ce-id")).unwrap();
    assert_eq!(
        (binary.header("ce-subject"), binary.header("content-length")),
        ("job/%C3%BC%20%22nowhere%22", "0")
    );
    assert!(!binary.headers.contains_key("content-type") && binary.body.is_empty());
    let structured = requests.iter().find(|request| !request.headers.contains_key("ce-id")).unwrap();
    let reason = structured.json()["reason"].as_str().unwrap().to_owned();
    let sent = percent_encoding::percent_decode_str(binary.header("ce-reason")).decode_utf8().unwrap();
    assert_eq!((structured.json().get("data"), &*sent), (None, &*reason));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_can_hold_a_cloudevent() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let mut config = config(folder.path(), &mock);
    config.sources.get_mut("retab").unwrap().include_request = true;
    let disk = DiskConfig { format: Format::CloudEvents, ..DiskConfig::to(folder.path().join("out")) };
    config.sinks.insert("disk".to_owned(), SinkConfig::Disk(disk));
    let daemon = Daemon::start(config).await;
    let job = mock.add_job(odd());
    daemon.watch(&job).await;
    let watch = daemon.finished(&job).await;
    let text = std::fs::read_to_string(folder.path().join(format!("out/retab/{job}.json"))).unwrap();
    assert!(text.contains(ODD), "{text}");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["id"], watch["event_id"]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_test_shows_what_a_template_makes_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, receiver) = (mock().await, Receiver::start().await);
    receiver.always(Reply::status(200));
    let mut config = config(folder.path(), &mock);
    config.sinks.insert("slack".to_owned(), SinkConfig::Webhook(example("slack", &receiver)));
    let daemon = Daemon::start(config).await;
    let (status, attempt) = daemon.post("/v1/sinks/slack/test", &json!({})).await;
    assert_eq!((status, &attempt["status"]), (200, &json!(200)), "{attempt}");
    assert_eq!(receiver.at_least(1).await[0].json()["text"], "Job test test");
    daemon.stop().await;
}
