//! What the whole way of a job costs: registered in a batch, polled, fetched, and delivered to one
//! signed webhook. `cargo bench --bench path`
//!
//! The daemon is the real binary. The mock of the job API, the receiver and the bare client are
//! processes of their own, so that the processor time of each is told apart. A stage is a run that
//! stops after it; its cost is the difference to the run that stops one stage before.
//!
//! | variable | is | default |
//! | --- | --- | --- |
//! | `JOBS` | the jobs of each run | 4000 |
//! | `SIZE` | the size of a result's body, such as `64KiB` | the mock's own |
//! | `IN_FLIGHT` | the most requests in flight to the source, and to the receiver | 64 |
//! | `REPEATS` | the runs of each sort, after one to warm up | 3 |
//! | `TIDINGS` | the daemon's binary | the one that cargo builds |
//! | `POSTGRES` | set: over a PostgreSQL whose server it starts | a data folder |
//! | `REPLICAS` | how many share the database; the last one of them is asked | 1 |
//! | `PLOT` | the SVG file for jobs a second and CPU against requests in flight and body sizes | none |

#![expect(clippy::disallowed_methods, reason = "its variables are no configuration")]

mod common;

use std::{
    env,
    fs::{self, File},
    io::Write as _,
    iter,
    path::Path,
    process::Stdio,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::{Daemon, Jobs, Processor, Receiver, SECRET, median, variable};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tidings::util::{
    chart::{self, Axis, Chart, Line, Scale},
    units::Size,
};
use tokio::sync::oneshot;

const BATCH: usize = 1000;

/// Where a run stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// Every watch is registered, and not polled yet.
    Registered,
    /// Every job is polled once and its status recorded. None has finished.
    Polled,
    /// Every result is fetched and its event recorded. The sink is paused.
    Fetched,
    /// Every webhook is answered and its attempt recorded.
    Delivered,
}

/// One run.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    seconds: f64,
    daemon: Processor,
    mock: Processor,
    receiver: Processor,
    /// MiB at the end, and at the most.
    rss: f64,
    peak: f64,
}

struct Bench {
    count: usize,
    in_flight: usize,
    jobs: Jobs,
    receiver: Receiver,
    client: reqwest::Client,
}

impl Bench {
    fn config(&self, stop: Stop) -> String {
        let polling = match stop {
            Stop::Registered => "min_interval = \"10m\"\nmax_interval = \"10m\"",
            Stop::Polled => "strategy = \"fixed\"\ninterval = \"10m\"",
            Stop::Fetched | Stop::Delivered => "min_interval = \"10ms\"\nmax_interval = \"100ms\"",
        };
        let Self { in_flight, jobs, receiver, .. } = self;
        format!(
            "[sources.retab]\nbase_url = \"{}\"\napi_key = \"any\"\nmax_requests_per_second = 1000000\n\
             max_in_flight = {in_flight}\n\
             [sources.retab.polling]\nlist = \"off\"\n{polling}\n\
             [sinks.app]\ntype = \"webhook\"\nurl = \"{}\"\nsecret = \"{SECRET}\"\n\
             max_in_flight = {in_flight}\n",
            jobs.process.url, receiver.0.url
        )
    }

    /// Returns the length of a job's body.
    async fn body_length(&self) -> usize {
        let id = &self.jobs.finished[0];
        let url = format!("{}/v1/jobs/{id}?include_response=true", self.jobs.process.url);
        self.client.get(url).send().await.unwrap().bytes().await.unwrap().len()
    }

    /// Runs the daemon with a new data folder.
    async fn daemon(&self, stop: Stop) -> Run {
        let daemon = Daemon::start(&self.config(stop));
        if stop == Stop::Fetched {
            daemon.post("/v1/sinks/app/pause", &Value::Null).await;
        }
        let took = self.receiver.took(&self.client, 0).await;
        let before = (daemon.settled().await, self.jobs.process.processor(), self.receiver.0.processor());
        let begun = Instant::now();
        let ids = if stop == Stop::Polled { &self.jobs.endless } else { &self.jobs.finished };
        daemon.register(ids, BATCH).await;
        match stop {
            Stop::Registered => {}
            Stop::Polled => self.until_polled(&daemon).await,
            Stop::Fetched => daemon.until("pending", self.count).await,
            Stop::Delivered => {
                self.receiver.took(&self.client, took + self.count).await;
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        if stop == Stop::Delivered {
            daemon.until("delivered", self.count).await;
            assert_eq!(self.receiver.took(&self.client, 0).await, took + self.count, "webhooks sent twice");
        }
        let after = daemon.settled().await;
        Run {
            seconds,
            daemon: after - before.0,
            mock: self.jobs.process.processor() - before.1,
            receiver: self.receiver.0.processor() - before.2,
            rss: daemon.mebibytes("VmRSS"),
            peak: daemon.mebibytes("VmHWM"),
        }
    }

    /// Waits until each job was polled.
    async fn until_polled(&self, daemon: &Daemon) {
        #[expect(clippy::cast_precision_loss, reason = "a count of jobs")]
        while daemon.metric("tidings_polls_total").await < self.count as f64 {
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Runs the bare client.
    async fn bare(&self) -> Run {
        let folder = common::folder();
        let ids = folder.join("ids");
        fs::write(&ids, self.jobs.finished.join("\n")).unwrap();
        let mut command = common::part("bare");
        command.args([&self.jobs.process.url, &self.receiver.0.url, &self.in_flight.to_string()]);
        command.arg(&ids).arg(folder.join("log"));
        let before = (self.jobs.process.processor(), self.receiver.0.processor());
        let output = tokio::process::Command::from(command).stderr(Stdio::inherit()).output().await.unwrap();
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        let figure = |name: &str| printed[name].as_f64().unwrap();
        Run {
            seconds: figure("seconds"),
            daemon: Processor { user: figure("user"), system: figure("system") },
            mock: self.jobs.process.processor() - before.0,
            receiver: self.receiver.0.processor() - before.1,
            rss: figure("rss"),
            peak: figure("peak"),
        }
    }
}

type Append = (Bytes, oneshot::Sender<()>);

/// Starts a thread that appends what waits, syncs once and answers all.
fn appender(path: &Path) -> mpsc::Sender<Append> {
    let mut file = File::create(path).unwrap();
    let (calls, waiting) = mpsc::channel::<Append>();
    thread::spawn(move || {
        while let Ok(first) = waiting.recv() {
            let group: Vec<Append> = iter::once(first).chain(waiting.try_iter()).collect();
            for (bytes, _) in &group {
                file.write_all(bytes).unwrap();
            }
            file.sync_data().unwrap();
            for (_, reply) in group {
                let _ = reply.send(());
            }
        }
    });
    calls
}

/// Is the bare client: it makes the same three requests for each job, so many jobs at once, and
/// appends each body to one file with a grouped fdatasync before it posts it. It keeps nothing else,
/// and signs nothing.
async fn bare(arguments: &[String]) {
    let [source, receiver, in_flight, ids, log] = arguments else { panic!("five arguments") };
    let ids = fs::read_to_string(ids).unwrap();
    let (ids, next): (Vec<&str>, _) = (ids.lines().collect(), AtomicUsize::new(0));
    let (client, appender) = (common::client(), appender(Path::new(log)));
    let get = async |url: String| {
        let answer = client.get(url).header("api-key", "any").send().await.unwrap();
        answer.error_for_status().unwrap().bytes().await.unwrap()
    };
    let one = async || {
        while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
            let status: Value =
                serde_json::from_slice(&get(format!("{source}/v1/jobs/{id}/status")).await).unwrap();
            assert_eq!(status["status"], "completed");
            let job = get(format!("{source}/v1/jobs/{id}?include_request=false&include_response=true")).await;
            let (reply, synced) = oneshot::channel();
            appender.send((job.clone(), reply)).unwrap();
            synced.await.unwrap();
            common::webhook(client.post(receiver), job).await;
        }
    };
    let (begun, before) = (Instant::now(), Processor::of("self"));
    join_all((0..in_flight.parse().unwrap()).map(|_| one())).await;
    let (seconds, spent) = (begun.elapsed().as_secs_f64(), Processor::of("self") - before);
    let (rss, peak) = (common::mebibytes("self", "VmRSS"), common::mebibytes("self", "VmHWM"));
    let printed =
        json!({"seconds": seconds, "user": spent.user, "system": spent.system, "rss": rss, "peak": peak});
    println!("{printed}");
}

/// Returns the medians of some runs, each figure by itself.
fn medians(runs: &[Run]) -> Run {
    let of = |figure: fn(&Run) -> f64| median(runs.iter().map(figure).collect());
    let processor = |figure: fn(&Run) -> Processor| Processor {
        user: median(runs.iter().map(|run| figure(run).user).collect()),
        system: median(runs.iter().map(|run| figure(run).system).collect()),
    };
    Run {
        seconds: of(|run| run.seconds),
        daemon: processor(|run| run.daemon),
        mock: processor(|run| run.mock),
        receiver: processor(|run| run.receiver),
        rss: of(|run| run.rss),
        peak: of(|run| run.peak),
    }
}

impl Bench {
    fn new(count: usize, size: Option<Size>, in_flight: usize) -> Self {
        let (jobs, receiver) = (Jobs::start(count, size), Receiver::start());
        Self { count, in_flight, jobs, receiver, client: common::client() }
    }

    /// Returns jobs a second, and processor seconds for 1,000 jobs.
    #[expect(clippy::cast_precision_loss, reason = "a count of jobs")]
    fn speed(&self, run: Run) -> (f64, f64) {
        (self.count as f64 / run.seconds, run.daemon.per_thousand(self.count).total())
    }

    /// Prints each stage, and the whole way beside the bare client.
    async fn stages(&self, repeats: usize) {
        let mut runs: [Vec<Run>; 5] = Default::default();
        for round in 0..=repeats {
            let stages = [Stop::Registered, Stop::Polled, Stop::Fetched, Stop::Delivered];
            for (stop, runs) in stages.into_iter().zip(&mut runs) {
                runs.push(self.daemon(stop).await);
            }
            runs[4].push(self.bare().await);
            if round == 0 {
                runs.iter_mut().for_each(Vec::clear);
            }
        }
        let count = self.count;
        let medians = runs.map(|runs| medians(&runs));
        println!("CPU is in seconds for 1,000 jobs, RSS in MiB at the end and at the most.\n");
        println!("| run | jobs/s | CPU | user | system | RSS | peak | CPU of the mock | of the receiver |");
        println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
        let names = [
            "registered",
            "registered and polled once",
            "to the event (sink paused)",
            "the whole way",
            "bare client",
        ];
        for (name, run) in names.into_iter().zip(&medians) {
            let cpu = run.daemon.per_thousand(count);
            println!(
                "| {name} | {:.0} | {:.3} | {:.3} | {:.3} | {:.1} | {:.1} | {:.3} | {:.3} |",
                self.speed(*run).0,
                cpu.total(),
                cpu.user,
                cpu.system,
                run.rss,
                run.peak,
                run.mock.per_thousand(count).total(),
                run.receiver.per_thousand(count).total(),
            );
        }
        println!("\n| stage, as the difference of two runs | CPU | user | system |");
        println!("| --- | ---: | ---: | ---: |");
        let stages = ["register", "poll, and record the status", "fetch, and record the event", "deliver"];
        let mut before = Processor::default();
        for (stage, run) in stages.into_iter().zip(&medians) {
            let cpu = (run.daemon - before).per_thousand(count);
            println!("| {stage} | {:.3} | {:.3} | {:.3} |", cpu.total(), cpu.user, cpu.system);
            before = run.daemon;
        }
        let [_, _, _, whole, bare] = medians;
        println!(
            "\nThe whole way beside the bare client: {:.2} of its jobs/s, {:.1} times its CPU.",
            bare.seconds / whole.seconds,
            whole.daemon.total() / bare.daemon.total()
        );
    }

    /// Returns the medians of the whole way and of the bare client.
    async fn pair(&self, repeats: usize) -> [(f64, f64); 2] {
        let mut runs = [Vec::new(), Vec::new()];
        for _ in 0..repeats {
            runs[0].push(self.daemon(Stop::Delivered).await);
            runs[1].push(self.bare().await);
        }
        runs.map(|runs| self.speed(medians(&runs)))
    }
}

/// Where a point of a plot is, with jobs a second and CPU of the daemon and of the bare client.
type Point = (f64, [(f64, f64); 2]);

/// Prints and draws what in-flight requests and body sizes do to speed and cost.
#[expect(clippy::cast_precision_loss, reason = "small figures of a plot")]
async fn sweep(count: usize, in_flight: usize, repeats: usize, file: &str) {
    let mut points: [Vec<Point>; 2] = Default::default();
    let print = |what: String, [ours, bare]: [(f64, f64); 2]| {
        println!("| {what} | {:.0} | {:.0} | {:.3} | {:.3} |", ours.0, bare.0, ours.1, bare.1);
    };
    let head =
        |what| println!("\n| {what} | jobs/s | bare | CPU | bare |\n| --- | ---: | ---: | ---: | ---: |");
    head("in flight");
    for in_flight in [1, 4, 16, 64, 256] {
        let pair = Bench::new(count, None, in_flight).pair(repeats).await;
        print(in_flight.to_string(), pair);
        points[0].push((in_flight as f64, pair));
    }
    head("body");
    for size in [1, 4, 16, 64, 256, 1024].map(Size::kib) {
        let count = count.min(usize::try_from((64 << 20) / size.0).unwrap_or(count)).max(50);
        let pair = Bench::new(count, Some(size), in_flight).pair(repeats).await;
        print(size.to_string(), pair);
        points[1].push((size.0 as f64 / 1024.0, pair));
    }
    let axis = |name| Axis { name, scale: Scale::Log };
    let chart = |points: &[(f64, [(f64, f64); 2])], title, x, y, of: fn((f64, f64)) -> f64| {
        let line = |name: &str, colour, side: usize| {
            let points = points.iter().map(|(x, pair)| (*x, of(pair[side])));
            Line::dotted(name, colour, points.collect())
        };
        let lines = vec![line("tidings", "#d62728", 0), line("bare client", "#1f77b4", 1)];
        Chart { title, x: axis(x), y: axis(y), lines, legend: true }
    };
    let (flight, size, rate, cost) = ("requests in flight", "body, KiB", "jobs/s", "CPU s for 1,000");
    let charts = [
        chart(&points[0], "Speed against requests in flight", flight, rate, |speed| speed.0),
        chart(&points[0], "Cost against requests in flight", flight, cost, |speed| speed.1),
        chart(&points[1], "Speed against the size of a body", size, rate, |speed| speed.0),
        chart(&points[1], "Cost against the size of a body", size, cost, |speed| speed.1),
    ];
    fs::write(file, chart::svg(&charts, 2)).unwrap();
}

async fn run() {
    let count: usize = variable("JOBS", 4000);
    let size = env::var("SIZE").ok().map(|size| size.parse::<Size>().unwrap());
    let (in_flight, repeats) = (variable("IN_FLIGHT", 64), variable("REPEATS", 3_usize).max(1));
    let bench = Bench::new(count, size, in_flight);
    println!(
        "{count} jobs with bodies of {} bytes, registered {BATCH} with each request, at most {in_flight} \
         requests in flight\nto the source and to the receiver. One run to warm up, then the medians of \
         {repeats}. Binary: {}\n",
        bench.body_length().await,
        common::binary().display()
    );
    bench.stages(repeats).await;
    if let Ok(file) = env::var("PLOT") {
        sweep(count.div_ceil(4), in_flight, repeats, &file).await;
    }
}

fn main() {
    common::main(run, async |_, arguments| bare(arguments).await);
}
