//! What `/metrics` tells of a flow: that it counts what happened, and only in the series that are described.

use std::{collections::BTreeMap, fs, time::Duration};

use serde_json::json;
use tidings::{
    mock::{JobPlan, RateLimit},
    state::metrics::Metrics,
    telemetry::Values,
    util::units::{HumanDuration, Size},
};

use crate::harness::{Daemon, Flow, Reply, config, eventually, mock};

/// The series of a scrape, with their values.
async fn scrape(daemon: &Daemon) -> BTreeMap<String, String> {
    let (status, text) = daemon.get_bytes("/metrics").await;
    assert_eq!(status, 200);
    let text = String::from_utf8(text).unwrap();
    let series = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.to_owned())
    });
    series.collect()
}

/// Waits until a series has a value.
async fn until(daemon: &Daemon, series: &str, wanted: &str) {
    eventually(&format!("{series} is {wanted}"), || async {
        scrape(daemon).await.get(series).is_some_and(|value| value == wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_brings_no_news_costs_no_disk() {
    const LONG: Duration = Duration::from_hours(100);
    let (folder, mock) = (tempfile::tempdir().unwrap(), mock().await);
    let daemon = Daemon::start(config(folder.path(), &mock)).await;
    let job = mock.add_job(JobPlan::new().lasting(LONG));
    mock.advance(LONG / 2);
    daemon.watch(&job).await;
    let seen = daemon.until(&job, "is seen", |watch| watch["status"] == "in_progress").await;
    let mut looks = seen["polls"].as_u64().unwrap();
    let mut look_again = async || {
        looks += 1;
        assert_eq!(daemon.post(&format!("/v1/watches/retab/{job}/poll"), &json!({})).await.0, 202);
        daemon.until(&job, "is looked at", |watch| watch["polls"].as_u64().unwrap() >= looks).await;
    };
    // A look begins when what the one before it brought is stored.
    look_again().await;
    let synced = scrape(&daemon).await["tidings_store_flush_seconds_count"].clone();
    for _ in 0..5 {
        look_again().await;
    }
    assert_eq!(scrape(&daemon).await["tidings_store_flush_seconds_count"], synced);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_timed_once_and_dead_letters_counted() {
    let flow = Flow::start(&[HumanDuration::millis(20)], |_| {}).await;
    let daemon = &flow.daemon;
    until(daemon, r#"tidings_dead_letters_total{sink="app"}"#, "0").await;
    let job = flow.job().await;
    daemon.finished(&job).await;
    until(daemon, r#"tidings_delivered_delay_seconds_count{sink="app"}"#, "1").await;
    // Neither a delivery that is made again nor a test says how long a job took to arrive.
    assert_eq!(daemon.post("/v1/deliveries/redeliver", &json!({"state": "delivered"})).await.0, 202);
    assert_eq!(daemon.post("/v1/sinks/app/test", &json!({})).await.0, 200);
    until(daemon, r#"tidings_delivery_attempts_total{result="delivered",sink="app"}"#, "2").await;
    // One is refused for good, the other until its schedule is over.
    flow.receiver.then([Reply::status(410), Reply::status(500), Reply::status(500)]);
    for _ in 0..2 {
        daemon.finished(&flow.job().await).await;
    }
    let series = scrape(daemon).await;
    assert_eq!(series[r#"tidings_dead_letters_total{sink="app"}"#], "2", "{series:#?}");
    assert_eq!(series[r#"tidings_delivered_delay_seconds_count{sink="app"}"#], "1", "{series:#?}");
    assert_ne!(series["tidings_store_flush_seconds_count"], "0", "{series:#?}");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_fails_shows() {
    let flow = Flow::start(&[HumanDuration::millis(20)], |_| {}).await;
    let (daemon, mock) = (&flow.daemon, &flow.mock);
    let state = |word: &str| format!(r#"tidings_source_state{{source="retab",state="{word}"}}"#);
    daemon.finished(&flow.job().await).await;
    let before = scrape(daemon).await;
    assert_eq!((before[&state("ok")].as_str(), before[&state("unauthorized")].as_str()), ("1", "0"));
    assert_eq!(before[r#"tidings_request_budget{source="retab"}"#], "2000");
    assert_eq!(before[r#"tidings_requests_total{source="retab"}"#], mock.total().to_string());
    mock.set(|faults| faults.key = Some("another".to_owned()));
    let job = flow.job().await;
    until(daemon, &state("unauthorized"), "1").await;
    until(daemon, &state("ok"), "0").await;
    mock.set(|faults| {
        faults.key = None;
        faults.rate_limit = Some(RateLimit { every: 1, retry_after: None });
    });
    until(daemon, &state("limited"), "1").await;
    assert_ne!(scrape(daemon).await[r#"tidings_request_budget{source="retab"}"#], "2000");
    mock.set(|faults| faults.rate_limit = None);
    daemon.finished(&job).await;
    until(daemon, &state("ok"), "1").await;
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_spool_is_measured_across_a_restart() {
    let flow = Flow::start(&[HumanDuration::millis(20)], |_| {}).await;
    for job in flow.jobs(3).await {
        flow.daemon.finished(&job).await;
    }
    let large = flow.mock.add_job(JobPlan::new().size(Size::kib(300)));
    flow.daemon.watch(&large).await;
    flow.daemon.finished(&large).await;
    let spool = flow.config.store.path.join("spool");
    let bytes = |folder: &std::path::Path| -> u64 {
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
        files.filter(|file| file.path().is_file()).map(|file| file.metadata().unwrap().len()).sum()
    };
    let (large, small) = (bytes(&spool), bytes(&spool.join("segments")));
    assert!(large > 256 << 10 && small > 0, "{large} {small}");
    let bytes = large + small;
    until(&flow.daemon, "tidings_spool_bytes", &bytes.to_string()).await;
    let flow = flow.restart(|_| {}).await;
    until(&flow.daemon, "tidings_spool_bytes", &bytes.to_string()).await;
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_series_is_one_that_is_described() {
    let flow = Flow::start(&[HumanDuration::millis(20)], |_| {}).await;
    let daemon = &flow.daemon;
    daemon.finished(&flow.job().await).await;
    assert_eq!(daemon.get("/proxy/retab/v1/jobs/job_none/status").await.0, 404);
    assert_eq!(daemon.get("/v1/nothing").await.0, 404);
    flow.receiver.then([Reply::status(302), Reply::status(500)]);
    daemon.finished(&flow.job().await).await;
    let lost = flow.mock.add_job(JobPlan::new());
    daemon.watch(&format!("{lost}-never")).await;
    daemon.finished(&format!("{lost}-never")).await;
    let metrics = Metrics::new();
    for series in scrape(daemon).await.into_keys() {
        let (name, labels) = series.split_once('{').unwrap_or((&series, ""));
        let parts = ["_bucket", "_sum", "_count"];
        let whole = |metric: &str| {
            metric == name
                || parts.iter().any(|part| name.strip_suffix(part).is_some_and(|stem| stem == metric))
        };
        let metric = metrics.catalogue().metrics().into_iter().find(|metric| whole(&metric.name));
        let metric = metric.unwrap_or_else(|| panic!("{series} is not described"));
        for label in labels.trim_end_matches('}').split_terminator(',') {
            let (name, value) = label.split_once('=').unwrap();
            let known = metric.labels.iter().find(|label| label.name == name);
            let is_right = match known.map(|label| &label.values) {
                Some(Values::Words(words)) => words.iter().any(|word| format!("\"{word}\"") == value),
                Some(Values::Each(_)) => true,
                None => name == "le" && metric.kind == "histogram",
            };
            assert!(is_right, "{series}: {label}");
        }
    }
    flow.stop().await;
}
