//! News of tidings itself: told once, to others than those it is about.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidings::{
    config::Config,
    deliver::{Format, SinkConfig, WebhookConfig},
    mock::JobPlan,
    util::secret::Secret,
};

use crate::harness::{Flow, Receiver, Reply, Setup, eventually, webhook};

/// Adds a webhook with these `events`.
fn sink(config: &mut Config, name: &str, url: &str, events: &[&str], format: Format) {
    let mut webhook = WebhookConfig::to(url);
    webhook.events = events.iter().map(ToString::to_string).collect();
    webhook.format = format;
    config.sinks.insert(name.to_owned(), SinkConfig::Webhook(webhook));
}

/// The notices that the stream shows, oldest first.
async fn notices(flow: &Flow) -> Vec<Value> {
    let (status, page) = flow.daemon.get("/v1/events?types=tidings.*&limit=1000").await;
    assert_eq!(status, 200, "{page}");
    let mut events = page["data"].as_array().unwrap().clone();
    events.reverse();
    events
}

/// How many notices of each type and subject there are.
fn counted(notices: &[Value]) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for notice in notices {
        let data = &notice["data"];
        let subject = data["sink"].as_str().or(data["source"].as_str()).unwrap();
        *counts.entry((notice["type"].as_str().unwrap().to_owned(), subject.to_owned())).or_default() += 1;
    }
    counts
}

async fn told(receiver: &Receiver, event_type: &str) -> Value {
    eventually(&format!("{event_type} arrives"), || async {
        let mut bodies = receiver.requests().into_iter().map(|request| request.json());
        bodies.find(|body| body["type"] == event_type)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_sink_its_dead_letter_and_its_recovery_are_told_to_another_one() {
    let ops = Receiver::start().await;
    let url = ops.url();
    let flow = Setup::new()
        .await
        .app(|app| app.events = vec!["job.*".to_owned(), "tidings.*".to_owned()])
        .change(|config| sink(config, "ops", &url, &["tidings.*"], Format::CloudEvents))
        .start()
        .await;
    flow.receiver.always(Reply::status(500));
    let job = flow.job().await;
    let watch = flow.daemon.finished(&job).await;
    assert_eq!(watch["phase"], "dead");
    let failing = told(&ops, "dev.tidings.sink.failing").await;
    assert_eq!((&failing["source"], &failing["subject"]), (&json!("/tidings"), &json!("app")));
    assert_eq!((&failing["data"]["sink"], &failing["data"]["count"]), (&json!("app"), &json!(1)));
    assert!(failing["data"]["error"].as_str().unwrap().contains("500"), "{failing}");
    let dead = told(&ops, "dev.tidings.delivery.dead").await;
    let last = &dead["data"]["last"];
    assert_eq!((&dead["data"]["count"], &last["job_id"]), (&json!(1), &json!(job)));
    assert_eq!((&last["event_id"], &last["source"]), (&watch["event_id"], &json!("retab")));
    assert_eq!(last["delivery_id"], watch["deliveries"][0]["id"]);

    flow.receiver.always(Reply::status(204));
    assert_eq!(flow.daemon.post("/v1/sinks/app/resume", &json!({})).await.0, 200);
    let next = flow.job().await;
    flow.done(&next).await;
    let recovered = told(&ops, "dev.tidings.sink.recovered").await;
    assert_eq!(recovered["data"]["since"], failing["data"]["since"]);
    let once = |what: &str| ((what.to_owned(), "app".to_owned()), 1);
    let all = notices(&flow).await;
    assert_eq!(
        counted(&all),
        BTreeMap::from([
            once("tidings.delivery.dead"),
            once("tidings.sink.failing"),
            once("tidings.sink.recovered")
        ])
    );
    assert_eq!(all[0]["id"], ops.requests()[0].header("webhook-id"));
    // Not to the one that it is about, and not to readers of the events of jobs.
    let types: Vec<Value> =
        flow.receiver.requests().iter().map(|request| request.json()["type"].clone()).collect();
    assert!(types.iter().all(|one| one == "job.completed"), "{types:?}");
    let (_, page) = flow.daemon.get("/v1/events?limit=1000").await;
    assert_eq!(page["data"].as_array().unwrap().len(), 2);
    assert_eq!(flow.deliveries("sink=ops").await.len(), 3);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sinks_that_fail_do_not_tell_each_other_in_a_circle() {
    let other = Receiver::start().await;
    let url = other.url();
    let flow = Setup::new()
        .await
        .app(|app| app.events = vec!["*".to_owned()])
        .change(|config| {
            let SinkConfig::Webhook(app) = config.sinks["app"].clone() else { panic!("a webhook") };
            let other = WebhookConfig { url: Some(url), ..app };
            config.sinks.insert("other".to_owned(), SinkConfig::Webhook(other));
        })
        .start()
        .await;
    // A receiver that is gone makes dead letters at once, of jobs and of notices.
    for receiver in [&flow.receiver, &other] {
        receiver.always(Reply::status(410));
    }
    for job in flow.jobs(3).await {
        assert_eq!(flow.daemon.finished(&job).await["phase"], "dead");
    }
    let expected = |what: &str, sink: &str| ((what.to_owned(), sink.to_owned()), 1);
    let all = BTreeMap::from([
        expected("tidings.delivery.dead", "app"),
        expected("tidings.delivery.dead", "other"),
        expected("tidings.sink.failing", "app"),
        expected("tidings.sink.failing", "other"),
    ]);
    eventually("each is told of the other", || async {
        (counted(&notices(&flow).await) == all).then_some(())
    })
    .await;
    eventually("the notices are dead letters, too", || async {
        let dead = flow.deliveries("state=dead").await;
        let of_notices =
            dead.iter().filter(|one| one["event_type"].as_str().unwrap().starts_with("tidings."));
        (of_notices.count() == all.len()).then_some(())
    })
    .await;
    // A restart has gone through every round that was due, and tells nothing again.
    let flow = flow.restart(|_| {}).await;
    let job = flow.job().await;
    assert_eq!(flow.daemon.finished(&job).await["phase"], "dead");
    assert_eq!(counted(&notices(&flow).await), all);
    for notice in notices(&flow).await {
        let last = notice["data"]["last"]["event_type"].as_str().unwrap_or("job.completed");
        assert!(last.starts_with("job."), "{notice}");
    }
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_refuses_its_key_is_told_once_also_over_a_restart() {
    const KEY: &str = "sk_never_shown";
    let ops = Receiver::start().await;
    let url = ops.url();
    let flow = Setup::new()
        .await
        .retab(|retab| retab.api_key = Some(Secret::new(KEY)))
        .change(|config| {
            sink(config, "ops", &url, &["tidings.source.*"], Format::Raw);
            webhook(config, |app| app.events = vec!["job.*".to_owned()]);
        })
        .start()
        .await;
    flow.mock.set(|faults| faults.key = Some("sk_other".to_owned()));
    let job = flow.run(JobPlan::new()).await;
    let unhealthy = ops.at_least(1).await.remove(0);
    let data = unhealthy.json();
    assert_eq!((&data["source"], &data["state"]), (&json!("retab"), &json!("unauthorized")), "data alone");
    assert!(!String::from_utf8_lossy(&unhealthy.body).contains(KEY));

    let flow = flow.restart(|_| {}).await;
    eventually("it is refused again", || async {
        (flow.source().await["state"] == "unauthorized").then_some(())
    })
    .await;
    flow.mock.set(|faults| faults.key = None);
    flow.done(&job).await;
    let recovered = ops.at_least(2).await.remove(1).json();
    assert_eq!((&recovered["state"], &recovered["since"]), (&json!("ok"), &data["since"]));
    let once = |what: &str| ((what.to_owned(), "retab".to_owned()), 1);
    let expected = BTreeMap::from([once("tidings.source.recovered"), once("tidings.source.unhealthy")]);
    assert_eq!(counted(&notices(&flow).await), expected);
    flow.stop().await;
}
