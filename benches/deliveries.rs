//! What delivering costs beside a bare loop of the same requests, and what one sink that hangs does to another.
//! `cargo bench --bench deliveries`
//!
//! The daemon is the real binary and the receiver a process of its own, so that the processor time of each is told
//! apart. Deliveries gather while the sink is paused. What is measured is the time from its being resumed until
//! the receiver took the last one, and the processor time until the daemon has recorded it and rests.
//!
//! | variable | is | default |
//! | --- | --- | --- |
//! | `DELIVERIES` | the deliveries of each run | 4000 |
//! | `REPEATS` | the runs of each sort, after one to warm up | 3 |
//! | `POSTGRES` | set: over a PostgreSQL whose server it starts | a data folder |
//! | `REPLICAS` | how many share the database; the last one of them is asked | 1 |
//! | `TIDINGS` | the daemon's binary | the one that cargo builds |

mod common;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use common::{Daemon, Jobs, Processor, Receiver, SECRET, median, variable};
use serde_json::Value;
use tidings::util::units::Time;

const ROUNDS: usize = 200;
const A_ROUND: usize = 10;

/// One run.
#[derive(Clone, Copy, Debug)]
struct Run {
    seconds: f64,
    processor: Processor,
}

struct Bench {
    count: usize,
    client: reqwest::Client,
    jobs: Jobs,
    receiver: Receiver,
}

impl Bench {
    fn config(&self, sinks: &str) -> String {
        let base = &self.jobs.process.url;
        format!(
            "[sources.retab]\nbase_url = \"{base}\"\napi_key = \"any\"\nmax_requests_per_second = 5000\n\
             [sources.retab.polling]\nmin_interval = \"10ms\"\nmax_interval = \"100ms\"\n{sinks}"
        )
    }

    /// Delivers by a daemon with a new data folder.
    async fn tidings(&self, in_flight: usize) -> Run {
        let receiver = &self.receiver.0.url;
        let daemon = Daemon::start(&self.config(&format!(
            "[sinks.app]\ntype = \"webhook\"\nurl = \"{receiver}\"\nsecret = \"{SECRET}\"\n\
             max_in_flight = {in_flight}\n"
        )));
        daemon.post("/v1/sinks/app/pause", &Value::Null).await;
        daemon.register(&self.jobs.finished[..self.count], 1000).await;
        daemon.until("pending", self.count).await;
        let took = self.receiver.took(&self.client, 0).await;
        let before = daemon.settled().await;
        let begun = Instant::now();
        daemon.post("/v1/sinks/app/resume", &Value::Null).await;
        self.receiver.took(&self.client, took + self.count).await;
        let seconds = begun.elapsed().as_secs_f64();
        daemon.until("delivered", self.count).await;
        Run { seconds, processor: daemon.settled().await - before }
    }

    /// The same requests by a loop in this process that keeps nothing.
    async fn bare(&self, in_flight: usize) -> Run {
        let job = &self.jobs.finished[0];
        let url =
            format!("{}/v1/jobs/{job}?include_request=false&include_response=true", self.jobs.process.url);
        let job_body = self.client.get(url).send().await.unwrap().text().await.unwrap();
        let body = format!(
            "{{\"type\":\"job.completed\",\"timestamp\":\"2026-11-23T17:00:02.500Z\",\
             \"id\":\"evt_nb4vqc2kxktyuexkjcn7djwcqq\",\"source\":\"retab\",\"job_id\":\"{job}\",\
             \"outcome\":\"completed\",\"labels\":{{}},\"data\":{job_body}}}"
        );
        let (left, client) = (AtomicUsize::new(self.count), common::client());
        let (begun, before) = (Instant::now(), Processor::of("self"));
        let take =
            || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        let one = async || {
            while take() {
                let request = client.post(&self.receiver.0.url);
                common::webhook(request, body.clone()).await;
            }
        };
        futures_util::future::join_all((0..in_flight).map(|_| one())).await;
        Run { seconds: begun.elapsed().as_secs_f64(), processor: Processor::of("self") - before }
    }

    /// Milliseconds from the event to the end of its first attempt at `app`, sorted, with or without a sink beside
    /// it that hangs on every request.
    async fn delays(&self, hanging: Option<&str>) -> Vec<u128> {
        let sink = |name: &str, url: &str| format!("[sinks.{name}]\ntype = \"webhook\"\nurl = \"{url}\"\n");
        let beside = hanging.map(|url| sink("hanging", url)).unwrap_or_default();
        let sinks = sink("app", &self.receiver.0.url) + &beside;
        let daemon = Daemon::start(&self.config(&sinks));
        for ids in self.jobs.finished.chunks(A_ROUND).take(ROUNDS) {
            daemon.register(ids, A_ROUND).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        daemon.until("delivered", ROUNDS * A_ROUND).await;
        // An attempt is counted a moment before it is stored.
        let mut delays = Vec::new();
        while delays.len() < ROUNDS * A_ROUND {
            delays.clear();
            let mut cursor = String::new();
            loop {
                let list = "/v1/deliveries?sink=app&state=delivered&limit=1000";
                let page = daemon.get(&format!("{list}{cursor}")).await;
                for delivery in page["data"].as_array().unwrap() {
                    let time = |value: &Value| Time::parse(value.as_str().unwrap()).unwrap();
                    let attempt = &delivery["attempts"][0];
                    let waited = time(&attempt["at"]).since(time(&delivery["created_at"]));
                    delays.push(waited.as_millis() + u128::from(attempt["duration_ms"].as_u64().unwrap()));
                }
                let Some(next) = page["next_cursor"].as_str() else { break };
                cursor = format!("&cursor={next}");
            }
        }
        delays.sort_unstable();
        delays
    }

    /// Prints what deliveries cost.
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    async fn costs(&self, repeats: usize) {
        println!(
            "{} deliveries of one small job each, signed, to one receiver on loopback.\nOne run to warm up, then \
             the medians of {repeats}. CPU is in seconds for 1,000 deliveries. Binary: {}\n",
            self.count,
            common::binary().display()
        );
        println!(
            "| in flight | bare loop /s | tidings /s | share | CPU, bare | user | system | CPU, tidings | user \
             | system | times |"
        );
        println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
        for in_flight in [1, 16, 256] {
            let mut runs = [Vec::new(), Vec::new()];
            for round in 0..=repeats {
                let pair = [self.bare(in_flight).await, self.tidings(in_flight).await];
                if round > 0 {
                    pair.into_iter().zip(&mut runs).for_each(|(run, runs)| runs.push(run));
                }
            }
            let of = |runs: &[Run], figure: fn(&Run) -> f64| median(runs.iter().map(figure).collect());
            let rates = runs.each_ref().map(|runs| self.count as f64 / of(runs, |run| run.seconds));
            let costs = runs.each_ref().map(|runs| {
                let processor = Processor {
                    user: of(runs, |run| run.processor.user),
                    system: of(runs, |run| run.processor.system),
                };
                processor.per_thousand(self.count)
            });
            let [bare, ours] = costs;
            println!(
                "| {in_flight} | {:.0} | {:.0} | {:.2} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {:.1} |",
                rates[0],
                rates[1],
                rates[1] / rates[0],
                bare.total(),
                bare.user,
                bare.system,
                ours.total(),
                ours.user,
                ours.system,
                ours.total() / bare.total()
            );
        }
    }

    /// Prints what a sink that hangs does to another.
    async fn isolation(&self) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let hanging = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.push(stream);
            }
        });
        println!("\n100 jobs a second; milliseconds from the event to the end of its delivery to `app`\n");
        println!("| beside it | p50 | p99 |\n| --- | ---: | ---: |");
        let mut tails = Vec::new();
        for (name, url) in [("nothing", None), ("a sink that hangs on every request", Some(url.as_str()))] {
            let delays = self.delays(url).await;
            let (p50, p99) = (delays[delays.len() / 2], delays[delays.len() * 99 / 100]);
            println!("| {name} | {p50} | {p99} |");
            tails.push(u32::try_from(p99).unwrap());
        }
        println!("\nratio of the p99: {:.2}", f64::from(tails[1]) / f64::from(tails[0].max(1)));
        hanging.abort();
    }
}

async fn run() {
    let (count, repeats) = (variable("DELIVERIES", 4000), variable("REPEATS", 3));
    let jobs = Jobs::start(count.max(ROUNDS * A_ROUND), None);
    let bench = Bench { count, client: common::client(), jobs, receiver: Receiver::start() };
    bench.costs(repeats).await;
    bench.isolation().await;
}

fn main() {
    common::main(run, async |name, _| panic!("{name} is no part of this bench"));
}
