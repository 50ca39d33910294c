//! What list polling is worth, over sockets: requests for each finished job, and the mean delay from the end
//! of a job to the poll that noticed it, with and without pages of the list, at the same budget.
//!
//! `JOBS` jobs are open all the time: a job that ends is replaced by a new one. They last for a time that is
//! exponentially distributed, so that ten end every second, however many are open.
//!
//! ```sh
//! cargo bench --locked --bench lists
//! OPEN=20,200,2000 RATE=60 SECONDS=60 cargo bench --locked --bench lists
//! ```

#![expect(clippy::disallowed_methods, reason = "its variables are no configuration")]

mod common;

use std::{env, time::Duration};

use common::{Daemon, variable};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use tidings::mock::{JobPlan, Kind, Mock, MockConfig};
use tokio::time::{Instant, sleep, sleep_until};

/// Jobs that end in a second.
const ENDS: f64 = 10.0;

/// The figures of one run.
struct Figures {
    finished: f64,
    polls: f64,
    pages: f64,
    delay: f64,
}

/// Registers jobs in batches.
async fn register(daemon: &Daemon, ids: &[String]) {
    for ids in ids.chunks(1000) {
        let watches: Vec<Value> = ids.iter().map(|id| json!({"job_id": id})).collect();
        daemon.post("/v1/watches/batch", &json!({"watches": watches})).await;
    }
}

/// Watches so many jobs for a while.
#[expect(clippy::cast_precision_loss, reason = "counts")]
async fn run_one(open: usize, rate: f64, seconds: u64, list: &str) -> Figures {
    let config = MockConfig { jitter: 0.0, ..MockConfig::default() };
    let mock = Mock::start(config, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let daemon = Daemon::start(&format!(
        "[sources.retab]\nbase_url = \"{}\"\napi_key = \"any\"\nmax_requests_per_second = {rate}\n\
         polling = {{ list = \"{list}\" }}\n[sinks.disk]\ntype = \"disk\"\ndir = \"out\"\n",
        mock.base_url()
    ));
    let mean = open as f64 / ENDS;
    let mut random = StdRng::seed_from_u64(open as u64);
    let (start, mut ends) = (Instant::now(), std::collections::BTreeSet::new());
    let mut add = |ends: &mut std::collections::BTreeSet<(Instant, String)>| {
        let lasts = Duration::from_secs_f64(-mean * (1.0 - random.random::<f64>()).ln());
        let id = mock.add_job(JobPlan::new().lasting(lasts));
        ends.insert((Instant::now() + lasts, id.clone()));
        id
    };
    let first: Vec<String> = (0..open).map(|_| add(&mut ends)).collect();
    register(&daemon, &first).await;
    let until = start + Duration::from_secs(seconds);
    // One in ten of the time to learn, and for the first jobs to be polled.
    let warm = start + Duration::from_secs(seconds / 10);
    let mut before: Option<(f64, f64, f64, f64)> = None;
    while Instant::now() < until {
        let mut new = Vec::new();
        while ends.first().is_some_and(|(at, _)| *at <= Instant::now()) {
            ends.pop_first();
            new.push(add(&mut ends));
        }
        register(&daemon, &new).await;
        if before.is_none() && Instant::now() >= warm {
            before = Some(counts(&daemon, &mock).await);
        }
        sleep(Duration::from_millis(50)).await;
    }
    sleep_until(until).await;
    let (now, then) = (counts(&daemon, &mock).await, before.unwrap_or_default());
    let finished = (now.0 - then.0).max(1.0);
    Figures {
        finished,
        polls: (now.1 - then.1) / finished,
        pages: (now.2 - then.2) / finished,
        delay: (now.3 - then.3) / finished,
    }
}

/// Returns the finished jobs, the polls, the pages and the sum of the delays so far.
#[expect(clippy::cast_precision_loss, reason = "counts")]
async fn counts(daemon: &Daemon, mock: &Mock) -> (f64, f64, f64, f64) {
    let source = daemon.get("/v1/sources/retab").await;
    let finished = source["polling"]["finished"].as_f64().unwrap_or_default();
    let delay = source["polling"]["mean_delay_seconds"].as_f64().unwrap_or_default();
    let (polls, pages) = (mock.requests(None, Some(Kind::Status)), mock.requests(None, Some(Kind::List)));
    (finished, polls as f64, pages as f64, delay * finished)
}

async fn run() {
    let open = env::var("OPEN").unwrap_or_else(|_| "20,200,2000".to_owned());
    let (rate, seconds) = (variable("RATE", 60.0), variable("SECONDS", 60));
    println!(
        "About ten jobs end every second; budget {rate} requests a second, results included; {seconds} s a run.\n"
    );
    println!("| open jobs | list polling | finished | polls a job | pages a job | both | mean delay |");
    println!("| ---: | --- | ---: | ---: | ---: | ---: | ---: |");
    for open in open.split(',').map(|open| open.trim().parse::<usize>().unwrap()) {
        for list in ["off", "auto"] {
            let Figures { finished, polls, pages, delay } = run_one(open, rate, seconds, list).await;
            let both = polls + pages;
            println!(
                "| {open} | {list} | {finished:.0} | {polls:.2} | {pages:.2} | {both:.2} | {delay:.2} s |"
            );
        }
    }
}

fn main() {
    common::main(run, async |name, _| panic!("no part is called {name}"));
}
