//! Polling that learns, over real sockets: beside the simulation, over a restart, and as it is shown.

#![expect(clippy::cast_precision_loss, reason = "counts of jobs")]

use std::time::Duration;

use serde_json::Value;
use tidings::{
    config::Config,
    mock::{JobPlan, Mock},
    schedule::{
        PollingConfig, Strategy,
        learned::{decide::Policy, model::Model},
    },
    simulate::{
        distribution::Distribution,
        fleet::{Setting, SimulatedJob, mean_of, run},
        random::Random,
    },
    store::Store,
    util::units::{HumanDuration, Time},
};

use tokio_util::sync::CancellationToken;

use crate::harness::{Daemon, Home, config, eventually, http, mock, show};

/// The time scale: θ, intervals and durations are half of what they are by default or in life. Beside shorter ones what a busy
/// machine adds would count.
const THETA: f64 = 0.1;
const LEAST: f64 = 0.125;

fn learned(mut config: Config) -> Config {
    let source = config.sources.get_mut("retab").unwrap();
    source.max_requests_per_second = 10_000.0;
    source.max_in_flight = 512;
    source.polling = PollingConfig {
        strategy: Strategy::Learned,
        cost_of_a_poll: HumanDuration::millis(100),
        min_interval: HumanDuration::millis(125),
        ..PollingConfig::default()
    };
    config
}

/// Jobs that are made one after the other, `every` seconds, and take what a distribution says.
fn plan(count: u32, every: f64, random: &mut Random) -> Vec<SimulatedJob> {
    let takes = Distribution::Lognormal { median: 10.0, sigma: 0.5 };
    let job = |at| {
        let takes = takes.sample(random);
        // The mock has a worker take a job after 15 % of its time.
        SimulatedJob { made: f64::from(at) * every, kind: 0, queued: Some(0.15 * takes), takes, hook: None }
    };
    (0..count).map(job).collect()
}

/// Polls a job and mean delay of the second half of the jobs: what came before is learned from, and not counted.
async fn measured(daemon: &Daemon, mock: &Mock, jobs: &[SimulatedJob]) -> (f64, f64) {
    let begun = tokio::time::Instant::now();
    let mut ids: Vec<String> = Vec::new();
    for job in jobs {
        // Jobs are made when the plan says so.
        tokio::time::sleep_until(begun + Duration::from_secs_f64(job.made)).await;
        let id = mock.add_job(JobPlan::new().lasting(Duration::from_secs_f64(job.takes)));
        daemon.watch(&id).await;
        ids.push(id);
    }
    let instant = |value: &Value| Time::parse(value.as_str().unwrap()).unwrap();
    let (mut polls, mut delay) = (0.0, 0.0);
    let counted = &ids[jobs.len() / 2..];
    for id in counted {
        let watch = daemon.finished(id).await;
        let (_, job) = daemon.get(&format!("/v1/watches/retab/{id}/job")).await;
        polls += watch["polls"].as_f64().unwrap();
        delay += instant(&watch["finished_at"]).since(instant(&job["completed_at"])).as_secs_f64();
    }
    (polls / counted.len() as f64, delay / counted.len() as f64)
}

async fn figures(daemon: &Daemon) -> (Value, u64) {
    let (status, source) = daemon.get("/v1/sources/retab").await;
    assert_eq!(status, 200, "{source}");
    let finished = source["polling"]["finished"].as_u64().unwrap();
    (source["polling"].clone(), finished)
}

/// How late this machine is at the moment, on average: a timer and a request as a poll has them.
async fn lag(mock: &Mock, stop: CancellationToken) -> f64 {
    let (http, url) = (http(), format!("{}/v1/jobs/none/status", mock.base_url()));
    let (mut late, mut measured) = (0.0, 0.0);
    while !stop.is_cancelled() {
        let due = tokio::time::Instant::now() + Duration::from_millis(50);
        tokio::time::sleep_until(due).await;
        http.get(&url).send().await.unwrap();
        late += due.elapsed().as_secs_f64();
        measured += 1.0;
    }
    late / measured
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_and_delay_are_as_simulated() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let daemon = Daemon::start(learned(config(folder.path(), &mock))).await;
    let jobs = plan(600, 0.05, &mut Random::new(11));
    let ended = CancellationToken::new();
    let measure = async {
        let measured = measured(&daemon, &mock, &jobs).await;
        ended.cancel();
        measured
    };
    let ((polls, delay), lag) = tokio::join!(measure, lag(&mock, ended.clone()));
    // What a busy machine adds is no decision of the schedule.
    let delay = delay - lag;

    let policy = Policy { theta: THETA, min_interval: LEAST, ..Policy::default() };
    let setting = Setting { policy, ..Setting::default() };
    // The mean over several draws of who explores and when exactly a look is.
    let (mut simulated, seeds) = ((0.0, 0.0), 10);
    for seed in 0..seeds {
        let records = run(&mut Model::default(), &setting, &jobs, &mut Random::new(seed));
        let middle = jobs[jobs.len() / 2].made;
        let cost = mean_of(&records, |record| record.made >= middle);
        simulated.0 += cost.polls / seeds as f64;
        // The simulated round trip is not that of loopback.
        simulated.1 += (cost.delay - tidings::simulate::truth::ROUND_TRIP / 2.0) / seeds as f64;
    }
    println!(
        "polls {polls:.2}, simulated {:.2}; delay {delay:.3} s beside {lag:.3} s of the machine, simulated {:.3} s",
        simulated.0, simulated.1
    );
    // What the schedule makes least is the delay and the price of the polls together. A busy machine moves a little
    // of one to the other, and close to the least that changes their sum hardly at all.
    let (cost, expected) = (delay + THETA * polls, simulated.1 + THETA * simulated.0);
    assert!((cost / expected - 1.0).abs() < 0.15, "a job costs {cost} s, simulated {expected} s");
    assert!(polls < 1.15 * simulated.0, "{polls} polls a job, simulated {}", simulated.0);
    daemon.stop().await;
}

/// Jobs of these endpoints and values of the label `size`, all to their end.
async fn finish(daemon: &Daemon, mock: &Mock, size: &str, count: usize) {
    let mut jobs = Vec::new();
    for _ in 0..count {
        let id = mock.add_job(JobPlan::new());
        let body = serde_json::json!({"job_id": id, "labels": {"size": size}});
        assert_eq!(daemon.post("/v1/watches", &body).await.0, 202);
        jobs.push(id);
    }
    for job in jobs {
        daemon.finished(&job).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_learned_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let mut config = learned(config(folder.path(), &mock));
    config.sources.get_mut("retab").unwrap().polling.learn_by_label = Some("size".to_owned());
    let daemon = Daemon::start(config.clone()).await;
    finish(&daemon, &mock, "large", 3).await;
    finish(&daemon, &mock, "small", 5).await;
    let kinds = |polling: &Value| -> Vec<(String, String, u64)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let kinds = polling["kinds"].as_array().unwrap().iter();
        kinds
            .map(|kind| (text(&kind["endpoint"]), text(&kind["label"]), kind["finishes"].as_u64().unwrap()))
            .collect()
    };
    let before = kinds(&figures(&daemon).await.0);
    assert_eq!(before.len(), 2, "{before:?}");
    assert!(
        before[0].1 == "small" && before[0].2 == 5 && before[1].1 == "large" && before[1].2 == 3,
        "{before:?}"
    );
    assert!(before[0].0.starts_with("/v1/"), "{before:?}");
    daemon.stop().await;

    let daemon = Daemon::start(config.clone()).await;
    let (polling, finished) = figures(&daemon).await;
    assert_eq!((kinds(&polling), finished), (before, 0));
    let median = polling["kinds"][0]["median_seconds"].as_f64().unwrap();
    assert!((0.0..0.5).contains(&median), "{polling}");
    daemon.stop().await;

    // What cannot be read is learned again.
    let store = Store::open(&config.store).unwrap();
    store.save_curves("retab", b"tidecrv1 and nothing that follows from it".to_vec()).await.unwrap();
    drop(store);
    let daemon =
        eventually("the folder is let go", || async { Daemon::try_start(config.clone()).await }).await;
    assert_eq!(figures(&daemon).await.0["kinds"], serde_json::json!([]));
    finish(&daemon, &mock, "small", 1).await;
    assert_eq!(kinds(&figures(&daemon).await.0)[0].2, 1);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_says_why_its_next_poll_is_when_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let daemon = Daemon::start(learned(config(folder.path(), &mock))).await;
    let job = mock.add_job(JobPlan::new().lasting(Duration::from_secs(3600)));
    let watch = daemon.watch(&job).await;
    assert!(["prior", "exploring"].contains(&watch["next_poll_reason"].as_str().unwrap()), "{watch}");
    assert!(watch["next_poll_at"].as_str() > watch["created_at"].as_str(), "{watch}");
    let ends = mock.add_job(JobPlan::new());
    daemon.watch(&ends).await;
    let done = daemon.finished(&ends).await;
    assert_eq!((&done["next_poll_at"], &done["next_poll_reason"]), (&Value::Null, &Value::Null));
    daemon
        .until(&job, "is looked at again", |watch| {
            watch["polls"].as_u64() > Some(1)
                && ["learned", "exploring"].contains(&watch["next_poll_reason"].as_str().unwrap_or(""))
        })
        .await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_asks_for_less_gets_less() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let daemon = Daemon::start(learned(config(folder.path(), &mock))).await;
    mock.set(|faults| {
        faults.rate_limit = Some(tidings::mock::RateLimit { every: 1, retry_after: Some("1".to_owned()) });
    });
    let job = mock.add_job(JobPlan::new());
    daemon.watch(&job).await;
    let rate = eventually("the rate shrinks", || async {
        let rate = figures(&daemon).await.0["requests_per_second"].as_f64().unwrap();
        (rate < 8000.0).then_some(rate)
    })
    .await;
    assert!(rate >= 4900.0, "{rate}");
    mock.set(|faults| faults.rate_limit = None);
    daemon.finished(&job).await;
    eventually("it grows back", || async {
        (figures(&daemon).await.0["requests_per_second"].as_f64().unwrap() > rate).then_some(())
    })
    .await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_what_was_learned() {
    let home = Home::new("").await;
    let process = home.run_with(&["--data-dir", "data"]).await;
    let ask = async |args: &[&str]| home.once(&[&["--url", &process.url][..], args].concat()).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let empty = ask(&["source", "show", "retab"]).await;
    assert!(
        empty.status.success() && text(&empty.stderr).contains("no job durations are known yet"),
        "{}",
        show(&empty)
    );
    for _ in 0..3 {
        let job = home.mock.add_job(JobPlan::new());
        let url = format!("{}/v1/watches", process.url);
        http().post(&url).json(&serde_json::json!({"job_id": job})).send().await.unwrap();
        eventually("it ends", || async {
            let answer = http().get(format!("{url}/retab/{job}")).send().await.ok()?;
            let watch: Value = answer.json().await.ok()?;
            (watch["phase"] == "done").then_some(())
        })
        .await;
    }
    let list = text(&ask(&["source", "list"]).await.stdout);
    let row = list.lines().nth(1).unwrap_or_default();
    assert!(list.starts_with("SOURCE") && row.starts_with("retab") && row.contains("learned"), "{list}");
    let shown = text(&ask(&["source", "show", "retab"]).await.stdout);
    for part in ["polls per job", "mean delay", "KIND", "MEDIAN", "/v1/"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let plot = text(&ask(&["source", "show", "retab", "--plot"]).await.stdout);
    assert!(plot.contains("(3 finishes)") && plot.contains('█') && plot.contains('┴'), "{plot}");
    let unknown = ask(&["source", "show", "none"]).await;
    assert_eq!(unknown.status.code(), Some(1), "{}", show(&unknown));
    assert!(
        text(&unknown.stderr).contains("there is no source `none`; there are `retab`"),
        "{}",
        show(&unknown)
    );
    assert_eq!(process.terminate().await.0, Some(0));
}
