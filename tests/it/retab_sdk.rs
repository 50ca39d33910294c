//! Retab's own SDK for Python against proxy → mock: nothing of it changes but its base URL.
//!
//! It needs three releases of that SDK, so these run only when asked for: `.ci/run` installs them and sets `RETAB_SDK_142`,
//! `RETAB_SDK_148` and `RETAB_SDK_160` (an interpreter each). 0.0.142 reads epoch seconds and wants `/v1` in the base URL, 0.0.148
//! reads ISO 8601. 0.0.160 has no jobs, but primitives that run in the background, and sends its key as a bearer token.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;
use tidings::{
    config::Config,
    mock::{Kind, Mock, MockConfig, Timestamps},
    upstream::SourceConfig,
    util::secret::Secret,
};
use tokio::process::Command;

use crate::harness::{Daemon, LOOPBACK, Sinks, config};

const KEY: &str = "key-of-the-source";

/// Callers at once.
const WAITERS: &str = "200";

/// Callers at once that wait for an extraction each.
const EXTRACTIONS: u64 = 50;

/// A release of the SDK.
struct Sdk {
    variable: &'static str,
    script: &'static str,
    timestamps: Timestamps,
    /// What follows the base URL.
    version: &'static str,
}

const OLD: Sdk =
    Sdk { variable: "RETAB_SDK_142", script: "sdk.py", timestamps: Timestamps::Epoch, version: "/v1" };
const NEW: Sdk = Sdk { variable: "RETAB_SDK_148", timestamps: Timestamps::Iso, version: "", ..OLD };
const PRIMITIVES: Sdk = Sdk { variable: "RETAB_SDK_160", script: "primitives.py", ..NEW };

impl Sdk {
    async fn run(&self, base_url: &str, args: &[&str]) -> Value {
        let python =
            std::env::var_os(self.variable).unwrap_or_else(|| panic!("{} names no Python", self.variable));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/retab").join(self.script);
        let mut command = Command::new(python);
        command.arg(script).arg(args[0]).arg(format!("{base_url}{}", self.version)).args(&args[1..]);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {args:?}: {said}", self.variable);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    async fn mock(&self) -> Mock {
        let config = MockConfig {
            timestamps: self.timestamps,
            duration: Duration::from_millis(400),
            jitter: 0.0,
            ..MockConfig::default()
        };
        let mock = Mock::start(config, LOOPBACK).await.unwrap();
        mock.set(|faults| faults.key = Some(KEY.to_owned()));
        mock
    }
}

async fn daemon(folder: &Path, mock: &Mock, change: impl FnOnce(&mut Config)) -> Daemon {
    let mut config = config(folder, mock).disk("disk", &folder.join("out"));
    config.sources.get_mut("retab").unwrap().api_key = Some(Secret::new(KEY));
    change(&mut config);
    Daemon::start(config).await
}

fn ids(done: &Value, outcome: &str) -> Vec<String> {
    done[outcome].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

async fn walk(sdk: &Sdk) {
    let (folder, mock) = (tempfile::tempdir().unwrap(), sdk.mock().await);
    let daemon = daemon(folder.path(), &mock, |_| {}).await;
    let done = sdk.run(&format!("{}/proxy/retab", daemon.url), &["walk"]).await;
    for outcome in ["completed", "cancelled"] {
        for job in ids(&done, outcome) {
            let watch = daemon
                .until(&job, "is delivered", |watch| watch["phase"] == "done" && watch["outcome"] == outcome)
                .await;
            let bytes = std::fs::read(folder.path().join(format!("out/retab/{job}.json"))).unwrap();
            assert_eq!(bytes, mock.full_body(&job).unwrap(), "{watch}");
        }
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with retab 0.0.142; .ci/run provides it"]
async fn release_142_works_and_its_jobs_are_watched() {
    walk(&OLD).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with retab 0.0.148; .ci/run provides it"]
async fn release_148_works_and_its_jobs_are_watched() {
    walk(&NEW).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with retab 0.0.160; .ci/run provides it"]
async fn release_160_works_and_its_runs_in_the_background_are_watched() {
    let (folder, mock) = (tempfile::tempdir().unwrap(), PRIMITIVES.mock().await);
    let daemon = daemon(folder.path(), &mock, |_| {}).await;
    let done = PRIMITIVES.run(&format!("{}/proxy/retab", daemon.url), &["walk"]).await;
    assert_eq!(ids(&done, "completed").len(), 6);
    for outcome in ["completed", "cancelled", "failed"] {
        for run in ids(&done, outcome) {
            let watch = daemon
                .until(&run, "is delivered", |watch| watch["phase"] == "done" && watch["outcome"] == outcome)
                .await;
            let delivered = std::fs::read(folder.path().join(format!("out/retab/{run}.json"))).unwrap();
            assert_eq!(delivered, mock.full_body(&run).unwrap(), "{watch}");
            if outcome == "completed" {
                assert_eq!(delivered, done["bodies"][&run].as_str().unwrap().as_bytes(), "as the SDK got it");
            }
        }
    }
    for run in ids(&done, "final") {
        let (status, watch) = daemon.get(&format!("/v1/watches/retab/{run}")).await;
        assert_eq!(status, 404, "it had ended with its creation: {watch}");
    }
    daemon.stop().await;
}

/// What 50 extractions cost their source: with the SDK alone, with the SDK by way of the proxy, and when their results are delivered.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with retab 0.0.160; .ci/run provides it"]
async fn extractions_that_are_delivered_cost_the_source_less_than_the_sdk_alone() {
    let count = EXTRACTIONS.to_string();
    let direct = PRIMITIVES.mock().await;
    let start = Instant::now();
    PRIMITIVES.run(&direct.base_url(), &["waiters", &count, "whole"]).await;
    report("directly", &direct, start);
    // A creation and a request at once and then every two seconds. A busy machine holds the SDK up, and it asks less often.
    let scheduled: u64 =
        (0..EXTRACTIONS).map(|number| 2 + (2000 + 240 * number % 12_000).div_ceil(2000)).sum();
    for how in ["whole", "light", "never"] {
        let (folder, mock) = (tempfile::tempdir().unwrap(), PRIMITIVES.mock().await);
        let daemon = daemon(folder.path(), &mock, |config| {
            let (source, defaults) = (config.sources.get_mut("retab").unwrap(), SourceConfig::default());
            source.max_requests_per_second = defaults.max_requests_per_second;
            source.polling = defaults.polling;
        })
        .await;
        let start = Instant::now();
        let done = PRIMITIVES.run(&format!("{}/proxy/retab", daemon.url), &["waiters", &count, how]).await;
        for run in ids(&done, "completed") {
            daemon.finished(&run).await;
            if how != "whole" {
                assert_eq!(mock.requests(Some(&run), Some(Kind::Full)), 1, "{run} is fetched once");
            }
        }
        report(&format!("by proxy, callers poll: {how}"), &mock, start);
        if how == "never" {
            assert!(mock.total() < scheduled, "{} of {scheduled}", mock.total());
        }
        daemon.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with retab 0.0.142; .ci/run provides it"]
async fn a_retry_that_the_sdk_takes_for_a_failure_is_watched() {
    let (folder, mock) = (tempfile::tempdir().unwrap(), OLD.mock().await);
    mock.set(|faults| faults.late_dispatch = true);
    let daemon = daemon(folder.path(), &mock, |_| {}).await;
    let done = OLD.run(&format!("{}/proxy/retab", daemon.url), &["late"]).await;
    for job in ids(&done, "completed") {
        daemon
            .until(&job, "completes", |watch| watch["phase"] == "done" && watch["outcome"] == "completed")
            .await;
    }
    daemon.stop().await;
}

/// What 200 jobs cost their source when 200 callers wait for them, directly and by way of the proxy: with the budget of the
/// defaults, and with one that is no limit here.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with retab 0.0.142; .ci/run provides it"]
async fn two_hundred_waiters_cost_the_source_less_than_directly() {
    let defaults = SourceConfig::default();
    let direct = OLD.mock().await;
    let start = Instant::now();
    OLD.run(&direct.base_url(), &["waiters", WAITERS]).await;
    report("directly", &direct, start);
    for budget in [defaults.max_requests_per_second, 500.0] {
        let (folder, mock) = (tempfile::tempdir().unwrap(), OLD.mock().await);
        let daemon = daemon(folder.path(), &mock, |config| {
            let source = config.sources.get_mut("retab").unwrap();
            source.max_requests_per_second = budget;
            source.polling = defaults.polling.clone();
        })
        .await;
        let start = Instant::now();
        let done = OLD.run(&format!("{}/proxy/retab", daemon.url), &["waiters", WAITERS]).await;
        report(&format!("by proxy, at most {budget} looks a second"), &mock, start);
        for job in ids(&done, "completed") {
            daemon.finished(&job).await;
            assert_eq!(mock.requests(Some(&job), Some(Kind::Full)), 1, "{job} is fetched once");
        }
        if budget <= defaults.max_requests_per_second {
            assert!(mock.total() < direct.total(), "{} {}", mock.total(), direct.total());
        }
        daemon.stop().await;
    }
}

fn report(what: &str, mock: &Mock, start: Instant) {
    let [create, status, light, list, full] =
        [Kind::Create, Kind::Status, Kind::Light, Kind::List, Kind::Full]
            .map(|kind| mock.requests(None, Some(kind)));
    let busiest = mock.busiest(Duration::from_secs(1));
    println!(
        "{what}: {} requests ({create} created, {} looked, {list} listed, {full} fetched), at most {busiest} in a second, {:.0} s",
        mock.total(),
        status + light,
        start.elapsed().as_secs_f64()
    );
}
