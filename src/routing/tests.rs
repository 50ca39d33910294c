use super::*;
use crate::{
    deliver::{DiskConfig, WebhookConfig},
    model::job::Outcome,
};

fn router(routes: serde_json::Value) -> Router {
    let mut failures = DiskConfig::to("out");
    failures.events = vec!["job.failed".to_owned()];
    let sinks = BTreeMap::from([
        ("app".to_owned(), SinkConfig::Webhook(WebhookConfig::to("http://127.0.0.1/"))),
        ("failures".to_owned(), SinkConfig::Disk(failures)),
    ]);
    let routes: Vec<Route> = serde_json::from_value(routes).unwrap();
    Router::new(&sinks, &routes)
}

#[expect(clippy::needless_pass_by_value, reason = "reads better at the call")]
fn watch(more: serde_json::Value) -> Watch {
    let mut json = serde_json::json!({
        "source": "retab", "job_id": "job_1", "created_at": "2026-01-01T00:00:00Z",
        "registered_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "stage": "fetching",
        "endpoint": "/v1/extractions", "labels": {"team": "billing"}, "metadata": {"order": "204"},
    });
    json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(json).unwrap()
}

fn end(outcome: Outcome) -> EventType {
    EventType::Ended(outcome)
}

#[test]
fn without_routes_every_sink_gets_what_it_takes() {
    let router = router(serde_json::json!([]));
    let watch = watch(serde_json::json!({}));
    assert_eq!(router.sinks(&watch, end(Outcome::Completed)), ["app"]);
    assert_eq!(router.sinks(&watch, end(Outcome::Failed)), ["app", "failures"]);
}

#[test]
fn every_condition_of_a_route_must_hold() {
    let when = serde_json::json!({"outcome": ["completed"], "endpoint": ["/v1/*"], "labels": {"team": "billing"}, "metadata": {"order": "*"}});
    let router = router(serde_json::json!([{"when": when, "to": ["app"]}]));
    assert_eq!(router.sinks(&watch(serde_json::json!({})), end(Outcome::Completed)), ["app"]);
    assert!(router.sinks(&watch(serde_json::json!({})), end(Outcome::Failed)).is_empty());
    for other in [
        serde_json::json!({"endpoint": "/v2/x"}),
        serde_json::json!({"labels": {"team": "sales"}}),
        serde_json::json!({"metadata": null}),
    ] {
        assert!(router.sinks(&watch(other), end(Outcome::Completed)).is_empty());
    }
}

#[test]
fn a_watch_names_its_own_sinks_and_callback() {
    let router = router(serde_json::json!([]));
    let own = watch(serde_json::json!({"sinks": ["failures"], "callback": {"url": "http://x.example"}}));
    assert_eq!(router.sinks(&own, end(Outcome::Completed)), ["callback", "failures"]);
}

#[test]
fn progress_goes_only_to_who_names_it() {
    let mut chatty = WebhookConfig::to("http://127.0.0.1/");
    chatty.events = vec!["job.started".to_owned()];
    let mut all = WebhookConfig::to("http://127.0.0.1/");
    all.events = vec!["*".to_owned(), "job.updated".to_owned()];
    let sinks = BTreeMap::from([
        ("all".to_owned(), SinkConfig::Webhook(all)),
        ("app".to_owned(), SinkConfig::Webhook(WebhookConfig::to("http://127.0.0.1/"))),
        ("chatty".to_owned(), SinkConfig::Webhook(chatty)),
    ]);
    let router = Router::new(&sinks, &[]);
    let plain = watch(serde_json::json!({}));
    assert_eq!(router.sinks(&plain, EventType::STARTED), ["chatty"]);
    assert_eq!(router.sinks(&plain, EventType::UPDATED), ["all"]);
    assert_eq!(router.sinks(&plain, end(Outcome::Completed)), ["all", "app"]);
    let own = watch(serde_json::json!({"sinks": ["app", "chatty"], "callback": {"url": "http://x.example"}}));
    assert_eq!(router.sinks(&own, EventType::STARTED), ["chatty"], "an override does not flood");
    assert!(router.sinks(&own, EventType::UPDATED).is_empty());
    let routes: Vec<Route> = serde_json::from_value(serde_json::json!([
        {"when": {"outcome": ["completed"]}, "to": ["chatty"]},
        {"when": {"status": ["in_*"]}, "to": ["all"]},
    ]))
    .unwrap();
    let router = Router::new(&sinks, &routes);
    let busy = watch(serde_json::json!({"status": "in_progress"}));
    assert!(router.sinks(&busy, EventType::STARTED).is_empty(), "progress has no outcome");
    assert_eq!(router.sinks(&busy, EventType::UPDATED), ["all"]);
    assert!(router.sinks(&plain, EventType::UPDATED).is_empty());
}

#[test]
fn a_decision_names_the_route_or_what_stood_in_its_way() {
    let router = router(serde_json::json!([
        {"when": {"labels": {"team": "sales"}}, "to": ["app"]},
        {"when": {"source": ["re*"], "metadata": {"order": "2*"}}, "to": ["failures"]},
    ]));
    let explain = |event, watch: &Watch| {
        let decisions = router.explain(&Facts::of(watch, event)).into_iter();
        decisions.map(|one| format!("{} {} {}", one.sink, one.gets(), one.reason)).collect::<Vec<_>>()
    };
    let billing = watch(serde_json::json!({}));
    assert_eq!(
        explain(end(Outcome::Failed), &billing),
        [
            "app false routes[0].when.labels.team wants `sales`, not `billing`",
            "failures true routes[1] leads to it"
        ]
    );
    assert_eq!(
        explain(end(Outcome::Completed), &watch(serde_json::json!({"sinks": ["app"]}))),
        ["app true the watch names it", "failures false the watch names other sinks"]
    );
    assert_eq!(
        explain(EventType::STARTED, &billing),
        ["app false its events take only `job.*`", "failures false its events take only `job.failed`"]
    );
}

#[test]
fn events_about_no_job_go_to_those_who_ask_and_notices_not_to_their_subject() {
    let asking = |events: &[&str]| {
        let mut webhook = WebhookConfig::to("http://127.0.0.1/");
        webhook.events = events.iter().map(ToString::to_string).collect();
        SinkConfig::Webhook(webhook)
    };
    let sinks = BTreeMap::from([
        ("all".to_owned(), asking(&["*"])),
        ("groups".to_owned(), asking(&["group.*"])),
        ("jobs".to_owned(), asking(&["job.*"])),
        ("ops".to_owned(), asking(&["tidings.*"])),
        ("sources".to_owned(), asking(&["tidings.source.unhealthy"])),
    ]);
    let router = Router::new(&sinks, &[]);
    assert_eq!(router.group_sinks(), ["all", "groups"]);
    assert_eq!(router.notice_sinks(Notice::SinkFailing, "ops"), ["all"]);
    assert_eq!(router.notice_sinks(Notice::DeliveryDead, "all"), ["ops"]);
    assert_eq!(router.notice_sinks(Notice::SourceUnhealthy, "all"), ["all", "ops", "sources"]);
    let routes: Vec<Route> = serde_json::from_value(serde_json::json!([
        {"when": {"outcome": ["completed"]}, "to": ["all"]},
        {"to": ["groups", "jobs"]},
    ]))
    .unwrap();
    let router = Router::new(&sinks, &routes);
    assert_eq!(router.group_sinks(), ["groups"], "a group has no outcome");
    assert_eq!(router.notice_sinks(Notice::SinkFailing, "app"), ["all", "ops"], "routes are about jobs");
    let jobs_only = BTreeMap::from([("jobs".to_owned(), asking(&["job.*"]))]);
    assert!(router.takes_notices() && !Router::new(&jobs_only, &[]).takes_notices());
}
