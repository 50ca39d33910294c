//! `GET /v1/overview`: what happened, what is wrong and the way out, computed once a second for everybody.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidings::{
    mock::{Ending, JobPlan},
    util::units::HumanDuration,
};

use crate::harness::{Flow, Reply, Setup, eventually, http};

const HOUR: Duration = Duration::from_secs(3600);

/// The overview, as soon as it looks like this.
async fn overview(flow: &Flow, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let wanted = &wanted;
    eventually(what, || async {
        let (status, overview) = flow.daemon.get("/v1/overview").await;
        assert_eq!(status, 200, "{overview}");
        wanted(&overview).then_some(overview)
    })
    .await
}

fn problem<'a>(overview: &'a Value, code: &str) -> Option<&'a Value> {
    overview["problems"].as_array().unwrap().iter().find(|problem| problem["code"] == code)
}

fn sum(values: &Value) -> u64 {
    values.as_array().unwrap().iter().map(|value| value.as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_tells_what_happened_in_the_last_hour() {
    let flow = Flow::start(&[], |_| ()).await;
    let done = flow.jobs(3).await;
    let failed = flow.mock.add_job(JobPlan::new().ending(Ending::Failed).lasting(Duration::ZERO));
    flow.daemon.watch(&failed).await;
    for job in done.iter().chain([&failed]) {
        flow.daemon.finished(job).await;
    }
    let seen = overview(&flow, "all ends", |seen| sum(&seen["history"]["ended"]["completed"]) == 3).await;
    assert_eq!((&seen["state"], &seen["problems"]), (&"ready".into(), &json!([])), "{seen:#}");
    assert_eq!(seen["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&seen["watches"]["watching"], &seen["deliveries"]["pending"]), (&0.into(), &0.into()));
    assert_eq!((&seen["sources"][0]["name"], &seen["sinks"][0]["name"]), (&"retab".into(), &"app".into()));
    let history = &seen["history"];
    let word = |outcome: &str| sum(&history["ended"][outcome]);
    assert_eq!(["failed", "cancelled", "expired", "lost"].map(word), [1, 0, 0, 0]);
    assert!(sum(&history["requests"]["retab"]) >= 8, "polls and fetches: {history}");
    assert_eq!(sum(&history["pending"]["app"]), 0);
    for series in [
        &history["ended"]["lost"],
        &history["detection_seconds"]["median"],
        &history["delivery_seconds"]["p99"],
        &history["requests"]["retab"],
        &history["budget_used"]["retab"],
        &history["pending"]["app"],
    ] {
        assert_eq!(series.as_array().unwrap().len(), 60, "{history}");
    }
    let delays = |of: &str, which: &str| -> Vec<f64> {
        let values = history[of][which].as_array().unwrap();
        values.iter().filter_map(Value::as_f64).collect()
    };
    for of in ["detection_seconds", "delivery_seconds"] {
        let (median, p99) = (delays(of, "median"), delays(of, "p99"));
        assert!(!median.is_empty() && median.len() == p99.len(), "{of}: {history}");
        assert!(
            median.iter().zip(&p99).all(|(median, p99)| *median <= *p99 && *p99 < 30.0),
            "{of}: {history}"
        );
    }
    let from = tidings::util::units::Time::parse(history["from"].as_str().unwrap()).unwrap();
    let at = tidings::util::units::Time::parse(seen["at"].as_str().unwrap()).unwrap();
    assert!((59 * 60..=60 * 60).contains(&at.since(from).as_secs()), "{from} {at}");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_names_what_is_wrong_and_the_way_out() {
    let flow = Flow::start(&[HumanDuration::millis(20); 2], |_| ()).await;
    flow.receiver.always(Reply::status(500));
    for job in flow.jobs(4).await {
        assert_eq!(flow.daemon.finished(&job).await["phase"], "dead");
    }
    let seen = overview(&flow, "the sink fails", |seen| problem(seen, "sink_failing").is_some()).await;
    assert_eq!(seen["state"], "degraded");
    let failing = problem(&seen, "sink_failing").unwrap();
    assert_eq!(failing["subject"], json!({"type": "sink", "name": "app"}));
    assert_eq!((&failing["severity"], failing["since"].is_string()), (&"error".into(), true), "{failing}");
    assert_eq!(failing["summary"], "sink `app` is failing: answered 500");
    assert!(failing["remedy"].as_str().unwrap().contains("`tidings sink test app`"), "{failing}");
    assert_eq!(&seen["problems"][0], failing, "worst first");
    let (_, ready) = flow.daemon.get("/readyz").await;
    let (reasons, details) = (json!(["sink_failing:app"]), json!([failing["summary"]]));
    assert_eq!((&ready["reasons"], &ready["details"]), (&reasons, &details), "both say the same");
    let later = overview(&flow, "a later one", |later| later["at"] != seen["at"]).await;
    assert_eq!(
        problem(&later, "sink_failing").unwrap()["since"],
        failing["since"],
        "it has not ended meanwhile"
    );
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_watches_of_a_source_that_was_taken_out_are_told() {
    let flow = Flow::start(&[], |_| ()).await;
    for job in ["one", "two"] {
        flow.run(JobPlan::new().id(job).lasting(HOUR)).await;
    }
    flow.done(&flow.job().await).await;
    let sources = flow.config.sources.clone();
    let flow = flow
        .restart(|config| {
            let source = config.sources.remove("retab").unwrap();
            config.sources.insert("other".to_owned(), source);
        })
        .await;
    let orphaned = |seen: &Value| problem(seen, "source_not_configured").cloned();
    let seen = overview(&flow, "they are told", |seen| orphaned(seen).is_some()).await;
    let told = orphaned(&seen).unwrap();
    assert_eq!(told["subject"], json!({"type": "source", "name": "retab"}));
    assert_eq!(told["summary"], "source `retab` is not configured, and 2 open watches wait for it");
    assert!(
        told["remedy"].as_str().unwrap().contains("`tidings unwatch --source retab JOB_ID`"),
        "the way out: {told}"
    );
    flow.daemon.forget("one").await;
    overview(&flow, "one is left", |seen| {
        orphaned(seen).is_some_and(|told| told["summary"].as_str().unwrap().contains("one open watch waits"))
    })
    .await;
    let flow = flow.restart(|config| config.sources = sources).await;
    overview(&flow, "nothing is wrong", |seen| seen["problems"] == json!([])).await;
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_no_sink_took_is_told_where_there_are_sinks() {
    let flow = Setup::new()
        .await
        .change(|config| {
            let route = toml::from_str("to = [\"app\"]\nwhen = { labels = { team = \"none\" } }").unwrap();
            config.routes = vec![route];
        })
        .start()
        .await;
    let job = flow.job().await;
    flow.daemon.finished(&job).await;
    let seen = overview(&flow, "it is told", |seen| problem(seen, "events_unrouted").is_some()).await;
    let unrouted = problem(&seen, "events_unrouted").unwrap();
    assert_eq!(unrouted["summary"], "no sink took one event in the last hour");
    assert!(unrouted["remedy"].as_str().unwrap().contains("tidings deliver --sink app --unrouted"));
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_and_deliveries_to_nobody_are_told_and_counted() {
    let flow = Flow::start(&[HumanDuration::millis(20)], |_| ()).await;
    flow.receiver.always(Reply::status(410));
    let job = flow.job().await;
    assert_eq!(flow.daemon.finished(&job).await["phase"], "dead");
    let seen = overview(&flow, "it is counted", |seen| seen["deliveries"]["dead"] == 1).await;
    let dead = problem(&seen, "dead_letters").unwrap();
    assert_eq!((&dead["subject"]["name"], &dead["severity"]), (&"app".into(), &"warning".into()), "{dead}");
    let remedy = dead["remedy"].as_str().unwrap();
    assert!(remedy.contains("`tidings redeliver --state dead --sink app --all`"), "{remedy}");
    let watches = &seen["watches"];
    assert_eq!(
        [&watches["dead"], &watches["done"], &watches["delivering"]],
        [1, 0, 0].map(Value::from).each_ref()
    );
    // Sent again, it is no dead letter any more.
    flow.receiver.always(Reply::status(204));
    let (_, answer) = flow.daemon.post("/v1/deliveries/redeliver", &json!({"sink": "app"})).await;
    assert_eq!(answer["count"], 1);
    let seen = overview(&flow, "it is done", |seen| seen["watches"]["done"] == 1).await;
    assert_eq!((&seen["deliveries"]["dead"], problem(&seen, "dead_letters")), (&0.into(), None));
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_gets_the_same_snapshot_and_nobody_an_old_one() {
    let flow = Flow::start(&[], |_| ()).await;
    let ask = async |etag: Option<String>| {
        let mut request = http().get(format!("{}/v1/overview", flow.daemon.url));
        if let Some(etag) = etag {
            request = request.header("if-none-match", etag);
        }
        let answer = request.send().await.unwrap();
        let etag = answer.headers()["etag"].to_str().unwrap().to_owned();
        (answer.status().as_u16(), etag, answer.json::<Value>().await.unwrap_or_default())
    };
    let (_, etag, first) = ask(None).await;
    let begun = Instant::now();
    let mut computed = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let (status, _, same) = ask(None).await;
        assert_eq!(status, 200);
        computed.insert(same["at"].as_str().unwrap().to_owned());
    }
    let seconds = begun.elapsed().as_secs();
    assert!(computed.len() as u64 <= seconds + 2, "{} in {seconds} s", computed.len());
    let (status, again, body) = ask(Some(etag.clone())).await;
    if again == etag {
        assert_eq!((status, body), (304, Value::Null), "{first}");
    }
    // What is on disk when somebody asks is in the answer.
    for n in 1..=3 {
        let job = flow.mock.add_job(JobPlan::new().lasting(Duration::from_secs(3600)));
        flow.daemon.watch(&job).await;
        let (status, changed, body) = ask(Some(etag.clone())).await;
        assert_eq!((status, &body["watches"]["watching"]), (200, &n.into()), "{body}");
        assert_ne!(changed, etag);
    }
    flow.stop().await;
}
