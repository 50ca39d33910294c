//! Measures what hooks of the source save, over sockets: requests a job and the time until its end is
//! noticed, while the source announces all, most or none of the ends.
//! `cargo bench --bench hooks`; `JOBS` sets the number of jobs for each row.
//!
//! All times are a fifth of those in life: the jobs take about 4 s, and a poll is worth 40 ms.

#![expect(clippy::cast_precision_loss, clippy::float_cmp, reason = "counts and constants of a measurement")]

mod common;

use std::time::Duration;

use common::{Daemon, SECRET, variable};
use serde_json::Value;
use tidings::{
    mock::{JobPlan, Kind, Mock, MockConfig, MockHooks},
    simulate::{distribution::Distribution, random::Random},
    util::{secret::Secret, units::Time},
};

/// The time between two jobs.
const EVERY: Duration = Duration::from_millis(100);

/// What one job cost.
struct Cost {
    requests: u64,
    delay: f64,
}

fn main() {
    common::main(run, async |name, _| panic!("there is no part `{name}`"));
}

async fn run() {
    let jobs = variable("JOBS", 600);
    println!(
        "{jobs} jobs for each row, the first half to learn from, lognormal (median 4 s, sigma 0.5), one each 100 ms\n"
    );
    println!("{:<34}{:>14}{:>14}{:>14}", "ends with a hook", "requests/job", "mean delay", "p99");
    for (what, shares) in [
        ("no hooks configured", None),
        ("0 %", Some([0.0, 0.0])),
        ("90 %", Some([0.9, 0.9])),
        ("100 %", Some([1.0, 1.0])),
        ("100 %, none from the middle on", Some([1.0, 0.0])),
    ] {
        let costs = measure(jobs, shares).await;
        row(what, &costs[jobs / 2..]);
    }
}

fn row(what: &str, costs: &[Cost]) {
    let count = costs.len() as f64;
    let requests = costs.iter().map(|cost| cost.requests).sum::<u64>() as f64 / count;
    let mut delays: Vec<f64> = costs.iter().map(|cost| cost.delay).collect();
    delays.sort_by(f64::total_cmp);
    let (mean, p99) = (delays.iter().sum::<f64>() / count, delays[delays.len() * 99 / 100]);
    println!("{what:<34}{requests:>14.2}{:>12.0} ms{:>12.0} ms", mean * 1e3, p99 * 1e3);
}

/// Watches jobs to their ends. `shares` are those of announced ends in the first half and in the second.
async fn measure(jobs: usize, shares: Option<[f64; 2]>) -> Vec<Cost> {
    let mock = Mock::start(MockConfig::default(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let hooks = format!(
        "[sources.retab.hooks]\nverify = \"standard-webhooks\"\nsecret = \"{SECRET}\"\nid_at = [\"/data/id\"]\n"
    );
    let daemon = Daemon::start(&format!(
        "[sources.retab]\nbase_url = \"{}\"\nmax_requests_per_second = 2000\n\
        polling = {{ cost_of_a_poll = \"40ms\", min_interval = \"50ms\" }}\n\n{}",
        mock.base_url(),
        if shares.is_some() { &hooks } else { "" },
    ));
    let (takes, mut random) = (Distribution::Lognormal { median: 4.0, sigma: 0.5 }, Random::new(11));
    let start = tokio::time::Instant::now();
    let mut ids = Vec::new();
    for number in 0..jobs {
        // Another sender drops the hooks that are on their way: so hooks stop for open jobs, too.
        if let Some([first, second]) = shares
            && (number == 0 || number == jobs / 2 && first != second)
        {
            let (url, secret) = (format!("{}/hooks/retab", daemon.url), Secret::new(SECRET));
            let share = if number == 0 { first } else { second };
            mock.send_hooks(MockHooks { url, secret, share }).unwrap();
        }
        tokio::time::sleep_until(start + EVERY * u32::try_from(number).unwrap()).await;
        let id = mock.add_job(JobPlan::new().lasting(Duration::from_secs_f64(takes.sample(&mut random))));
        daemon.register(std::slice::from_ref(&id), 1).await;
        ids.push(id);
    }
    let at = |value: &Value| Time::parse(value.as_str().unwrap()).unwrap();
    let mut costs = Vec::new();
    for id in &ids {
        let path = format!("/v1/watches/retab/{id}");
        daemon.get(&format!("{path}/wait?timeout=5m")).await;
        let (watch, job) = (daemon.get(&path).await, daemon.get(&format!("{path}/job")).await);
        let delay = at(&watch["finished_at"]).since(at(&job["completed_at"])).as_secs_f64();
        costs.push(Cost { requests: mock.requests(Some(id), Some(Kind::Status)), delay });
    }
    costs
}
