//! What the real binary takes: memory, the start and the disk against the number of open watches,
//! memory and wake-ups with nothing to do, and the memory of a large job on its way.
//! `cargo bench --bench footprint`
//!
//! | variable | is | default |
//! | --- | --- | --- |
//! | `WATCHES` | the numbers of watches | `10000,100000,1000000` |
//! | `QUIET` | how long the disk rests before it is measured | `60s` |
//! | `TIDINGS` | the daemon's binary | the one that cargo builds |
//! | `PLOT` | the SVG file for what grows with the watches | none |

#![expect(clippy::disallowed_methods, reason = "its variables are no configuration")]

mod common;

use std::{
    env, fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, Instant},
};

use common::{Daemon, Jobs, Process, Receiver, variable};
use serde_json::json;
use tidings::util::{
    chart::{self, Axis, Chart, Line, Scale},
    units::{HumanDuration, Size},
};

const BATCH: usize = 10_000;
const LARGE: Size = Size::mib(64);

/// Is a source of jobs that run for ever.
async fn endless() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    eprintln!("address={}", listener.local_addr().unwrap());
    let status = async || axum::Json(json!({"status": "in_progress"}));
    axum::serve(listener, axum::Router::new().fallback(status)).await.unwrap();
}

/// A job id as good as random, of the length that Retab's have.
fn job(n: usize) -> String {
    format!("job_{:016x}", (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// Returns the bytes that the disk keeps for a folder.
fn on_disk(path: &Path) -> u64 {
    let files = fs::read_dir(path).unwrap().map(Result::unwrap);
    files
        .map(|file| match file.metadata() {
            Ok(found) if found.is_dir() => on_disk(&file.path()),
            Ok(found) => found.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// What so many watches take.
struct Row {
    count: usize,
    registered_in: f64,
    /// MiB.
    registered: f64,
    restarted: f64,
    /// Seconds from the kill.
    ready: f64,
    loaded: f64,
    /// Bytes for each watch.
    disk: f64,
    rested: f64,
}

#[expect(clippy::cast_precision_loss, reason = "counts and sizes of a measurement")]
async fn watches(config: &str, count: usize, quiet: Duration) -> Row {
    let daemon = Daemon::start(config);
    let begun = Instant::now();
    let ids: Vec<String> = (0..count).map(job).collect();
    daemon.register(&ids, BATCH).await;
    let registered_in = begun.elapsed().as_secs_f64();
    daemon.settled().await;
    let each = |daemon: &Daemon| on_disk(&daemon.path().join("data")) as f64 / count as f64;
    let (registered, disk) = (daemon.mebibytes("VmRSS"), each(&daemon));
    tokio::time::sleep(quiet).await;
    let rested = each(&daemon);
    let killed = Instant::now();
    let daemon = Daemon::start_in(daemon.kill(), config);
    let url = format!("{}/readyz", daemon.url);
    let is_ready =
        async || daemon.client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success());
    while !is_ready().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ready = killed.elapsed().as_secs_f64();
    let loaded = (daemon.said("open work restored").await - killed).as_secs_f64();
    daemon.settled().await;
    let restarted = daemon.mebibytes("VmRSS");
    Row { count, registered_in, registered, restarted, ready, loaded, disk, rested }
}

/// Prints what a daemon takes that has nothing to do.
async fn idle(config: &str) {
    const SPAN: Duration = Duration::from_secs(20);
    let daemon = Daemon::start(config);
    daemon.settled().await;
    let (before, spent) = (daemon.wakeups(), daemon.processor());
    tokio::time::sleep(SPAN).await;
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let wakeups = (daemon.wakeups() - before) as f64 / SPAN.as_secs_f64();
    println!("| with nothing to do | |\n| --- | ---: |");
    println!("| RSS, MiB (target 10) | {:.1} |", daemon.mebibytes("VmRSS"));
    println!("| wake-ups a second (target 2) | {wakeups:.1} |");
    println!(
        "| CPU, ms a second | {:.2} |",
        (daemon.processor() - spent).total() * 1000.0 / SPAN.as_secs_f64()
    );
}

/// Prints what a large job adds to memory on each way.
async fn large() {
    println!("\n| a job of {LARGE} | RSS before, MiB | after | at the most | growth (target 2) |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    let (receiver, client) = (Receiver::start(), common::client());
    let (small, large) = (Jobs::start(1, None), Jobs::start(3, Some(LARGE)));
    let webhook =
        format!("[sinks.app]\ntype = \"webhook\"\nurl = \"{}\"\nformat = \"raw\"\n", receiver.0.url);
    let disk = "[sinks.app]\ntype = \"disk\"\ndir = \"out\"\n";
    for (name, sink) in [("to a webhook", webhook.as_str()), ("to disk", disk), ("through the proxy", "")] {
        let source = |name: &str, jobs: &Jobs| {
            format!(
                "[sources.{name}]\ntype = \"retab\"\nbase_url = \"{}\"\napi_key = \"any\"\n",
                jobs.process.url
            )
        };
        let daemon = Daemon::start(&(source("small", &small) + &source("large", &large) + sink));
        let through = async |source: &str, id: &str, delivered: usize| {
            if sink.is_empty() {
                let query = "include_request=false&include_response=true";
                let url = format!("{}/proxy/{source}/v1/jobs/{id}?{query}", daemon.url);
                let mut answer = client.get(url).header("api-key", "any").send().await.unwrap();
                assert!(answer.status().is_success());
                while answer.chunk().await.unwrap().is_some() {}
            } else {
                daemon.post("/v1/watches", &json!({"source": source, "job_id": id})).await;
                daemon.until("delivered", delivered).await;
            }
            daemon.settled().await;
        };
        // What a first job brings along, connections and threads and buffers, is no part of the question.
        through("small", &small.finished[0], 1).await;
        let before = daemon.mebibytes("VmRSS");
        daemon.reset_peak();
        through("large", &large.finished[0], 2).await;
        let (after, peak) = (daemon.mebibytes("VmRSS"), daemon.mebibytes("VmHWM"));
        println!("| {name} | {before:.1} | {after:.1} | {peak:.1} | {:.1} |", peak - before);
    }
}

/// Draws memory, start and disk against the number of watches.
#[expect(clippy::cast_precision_loss, reason = "a count of watches")]
fn plot(rows: &[Row]) -> String {
    let axis = |name| Axis { name, scale: Scale::Log };
    let line = |name: &str, colour, figure: fn(&Row) -> f64| {
        Line::dotted(name, colour, rows.iter().map(|row| (row.count as f64, figure(row))).collect())
    };
    let chart = |title, y, lines| Chart { title, x: axis("open watches"), y: axis(y), lines, legend: true };
    let charts = [
        chart(
            "Memory",
            "RSS, MiB",
            vec![
                line("as registered", "#d62728", |row| row.registered),
                line("after a restart", "#1f77b4", |row| row.restarted),
            ],
        ),
        chart(
            "Start after kill -9",
            "seconds",
            vec![line("all loaded", "#d62728", |row| row.loaded), line("ready", "#1f77b4", |row| row.ready)],
        ),
        chart(
            "Disk",
            "MiB",
            vec![
                line("as registered", "#d62728", |row| row.disk * row.count as f64 / f64::from(1 << 20)),
                line("rested", "#1f77b4", |row| row.rested * row.count as f64 / f64::from(1 << 20)),
            ],
        ),
    ];
    chart::svg(&charts, 3)
}

#[expect(clippy::cast_precision_loss, reason = "a count of watches")]
async fn run() {
    let counts: String = variable("WATCHES", "10000,100000,1000000".to_owned());
    let quiet: HumanDuration = variable("QUIET", HumanDuration::secs(60));
    println!("Binary: {}\n", common::binary().display());
    let source = Process::start(common::part("endless"));
    // Nothing is polled but one job a second.
    let config = format!(
        "[sources.retab]\nbase_url = \"{}\"\napi_key = \"any\"\nmax_requests_per_second = 1\n",
        source.url
    );
    idle(&config).await;
    large().await;
    println!(
        "\nOpen watches of which one a second is polled. RSS in MiB, times in seconds from `kill -9`, disk in bytes"
    );
    println!(
        "for each watch: as registered, and {quiet} later. Growth is that of the line above to this one, for ten"
    );
    println!("times the watches.\n");
    println!(
        "| watches | registered/s | RSS | growth | RSS, restarted | growth | ready | all loaded | growth | disk | rested |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut rows: Vec<Row> = Vec::new();
    for count in counts.split(',') {
        let row = watches(&config, count.trim().parse().unwrap(), quiet.0).await;
        let growth = |figure: fn(&Row) -> f64| match rows.last() {
            Some(last) => format!("{:.1}", figure(&row) / figure(last)),
            None => String::new(),
        };
        println!(
            "| {} | {:.0} | {:.1} | {} | {:.1} | {} | {:.2} | {:.2} | {} | {:.0} | {:.0} |",
            row.count,
            row.count as f64 / row.registered_in,
            row.registered,
            growth(|row| row.registered),
            row.restarted,
            growth(|row| row.restarted),
            row.ready,
            row.loaded,
            growth(|row| row.loaded),
            row.disk,
            row.rested,
        );
        rows.push(row);
    }
    if let Ok(file) = env::var("PLOT") {
        fs::write(file, plot(&rows)).unwrap();
    }
}

fn main() {
    common::main(run, async |name, _| match name {
        "endless" => endless().await,
        _ => panic!("{name} is no part of this bench"),
    });
}
