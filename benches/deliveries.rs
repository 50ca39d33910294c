//! What delivering costs beside a bare loop of the same requests, and what one sink that hangs does to another.
//! `cargo bench --bench deliveries`
//!
//! The daemon is the real binary and the receiver a process of its own, so that the processor time of each is told
//! apart. Deliveries gather while the sink is paused; what is measured is the time from its being resumed until
//! the last one is taken.

#![expect(clippy::disallowed_methods, reason = "it waits for processes, and is a client of its own")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tidings::{
    mock::{JobPlan, Mock, MockConfig},
    util::units::Time,
};

const DELIVERIES: usize = 4_000;
const ROUNDS: usize = 200;
const A_ROUND: usize = 10;
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A process that is killed when this goes.
struct Process {
    child: Child,
    url: String,
}

impl Process {
    /// Starts it and waits for the line of stderr that says where it listens.
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let address = lines.by_ref().find_map(|line| {
            let at = line.find("address=")? + "address=".len();
            Some(line[at..].split_whitespace().next()?.to_owned())
        });
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url: format!("http://{}", address.expect("it says where it listens")) }
    }

    fn receiver() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("receiver");
        Self::start(command)
    }

    fn daemon(folder: &Path, config: &str) -> Self {
        fs::write(folder.join("tidings.toml"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
        command.args(["run", "--listen", "127.0.0.1:0"]).env_clear().env("RUST_LOG", "info");
        command.current_dir(folder);
        Self::start(command)
    }

    fn processor_seconds(&self) -> f64 {
        processor_seconds(&self.child.id().to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time of a process so far, from `/proc/PID/stat` in ticks of 10 ms.
fn processor_seconds(pid: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

/// A receiver that takes everything.
async fn receive() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    eprintln!("address={}", listener.local_addr().unwrap());
    let take = |body: axum::body::Body| async {
        let _ = axum::body::to_bytes(body, usize::MAX).await;
        axum::http::StatusCode::NO_CONTENT
    };
    axum::serve(listener, axum::Router::new().fallback(take)).await.unwrap();
}

struct Bench {
    client: reqwest::Client,
    mock: Mock,
}

impl Bench {
    fn config(&self, sinks: &str) -> String {
        let base = self.mock.base_url();
        format!(
            "[sources.retab]\nbase_url = \"{base}\"\napi_key = \"any\"\nmax_requests_per_second = 5000\n\
             [sources.retab.polling]\nmin_interval = \"10ms\"\nmax_interval = \"100ms\"\n{sinks}"
        )
    }

    async fn get(&self, url: &str) -> Value {
        self.client.get(url).send().await.unwrap().json().await.unwrap()
    }

    async fn register(&self, daemon: &Process, count: usize) {
        let jobs = (0..count).map(|_| json!({"job_id": self.mock.add_job(JobPlan::new())}));
        let body = json!({"watches": jobs.collect::<Vec<_>>()});
        let answer = self.client.post(format!("{}/v1/watches/batch", daemon.url)).json(&body).send();
        assert_eq!(answer.await.unwrap().json::<Value>().await.unwrap()["accepted"], count);
    }

    /// Waits until the sink `app` says so.
    async fn until(&self, daemon: &Process, field: &str, count: usize) {
        loop {
            let sinks = self.get(&format!("{}/v1/sinks", daemon.url)).await;
            let app = sinks["data"].as_array().unwrap().iter().find(|sink| sink["name"] == "app").unwrap();
            if app[field] == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Deliveries a second, and processor seconds for each thousand.
    async fn tidings(&self, receiver: &Process, in_flight: usize) -> (f64, f64) {
        let folder = tempfile::tempdir().unwrap();
        let config = self.config(&format!(
            "[sinks.app]\ntype = \"webhook\"\nurl = \"{}\"\nsecret = \"{SECRET}\"\nmax_in_flight = {in_flight}\n",
            receiver.url
        ));
        let daemon = Process::daemon(folder.path(), &config);
        let post = |what: &str| self.client.post(format!("{}/v1/sinks/app/{what}", daemon.url)).send();
        assert!(post("pause").await.unwrap().status().is_success());
        self.register(&daemon, DELIVERIES).await;
        self.until(&daemon, "pending", DELIVERIES).await;
        let (begun, before) = (Instant::now(), daemon.processor_seconds());
        assert!(post("resume").await.unwrap().status().is_success());
        self.until(&daemon, "delivered", DELIVERIES).await;
        rate(begun, daemon.processor_seconds() - before)
    }

    /// The same requests by a loop that keeps nothing.
    async fn bare(&self, receiver: &Process, in_flight: usize) -> (f64, f64) {
        let job = self.mock.add_job(JobPlan::new());
        let url =
            format!("{}/v1/jobs/{job}?include_request=false&include_response=true", self.mock.base_url());
        let job_body = self.client.get(url).send().await.unwrap().text().await.unwrap();
        let body = format!(
            "{{\"type\":\"job.completed\",\"timestamp\":\"2026-11-23T17:00:02.500Z\",\
             \"id\":\"evt_nb4vqc2kxktyuexkjcn7djwcqq\",\"source\":\"retab\",\"job_id\":\"{job}\",\
             \"outcome\":\"completed\",\"labels\":{{}},\"data\":{job_body}}}"
        );
        let (left, client) =
            (AtomicUsize::new(DELIVERIES), reqwest::Client::builder().no_proxy().build().unwrap());
        let (begun, before) = (Instant::now(), processor_seconds("self"));
        let take =
            || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        let one = async || {
            while take() {
                let request = client.post(&receiver.url).header("content-type", "application/json");
                let request = request
                    .header("webhook-id", "evt_nb4vqc2kxktyuexkjcn7djwcqq")
                    .header("webhook-timestamp", "1764000000")
                    .header("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
                assert!(request.body(body.clone()).send().await.unwrap().status().is_success());
            }
        };
        futures_util::future::join_all((0..in_flight).map(|_| one())).await;
        rate(begun, processor_seconds("self") - before)
    }

    /// Milliseconds from the event to the end of its first attempt at `app`, sorted, with or without a sink beside
    /// it that hangs on every request.
    async fn delays(&self, receiver: &Process, hanging: Option<&str>) -> Vec<u128> {
        let folder = tempfile::tempdir().unwrap();
        let sink = |name: &str, url: &str| format!("[sinks.{name}]\ntype = \"webhook\"\nurl = \"{url}\"\n");
        let beside = hanging.map(|url| sink("hanging", url)).unwrap_or_default();
        let sinks = sink("app", &receiver.url) + &beside;
        let daemon = Process::daemon(folder.path(), &self.config(&sinks));
        for _ in 0..ROUNDS {
            self.register(&daemon, A_ROUND).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.until(&daemon, "delivered", ROUNDS * A_ROUND).await;
        // An attempt is counted a moment before it is stored.
        let mut delays = Vec::new();
        while delays.len() < ROUNDS * A_ROUND {
            delays.clear();
            let mut cursor = String::new();
            loop {
                let list = "v1/deliveries?sink=app&state=delivered&limit=1000";
                let page = self.get(&format!("{}/{list}{cursor}", daemon.url)).await;
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
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
fn rate(begun: Instant, processor: f64) -> (f64, f64) {
    let count = DELIVERIES as f64;
    (count / begun.elapsed().as_secs_f64(), processor * 1000.0 / count)
}

async fn run() {
    let config = MockConfig { duration: Duration::ZERO, jitter: 0.0, ..MockConfig::default() };
    let mock = Mock::start(config, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let bench = Bench { client: reqwest::Client::builder().no_proxy().build().unwrap(), mock };
    let receiver = Process::receiver();
    println!("{DELIVERIES} deliveries of one small job each, signed, to one receiver on loopback\n");
    println!("| in flight | bare loop /s | tidings /s | ratio | CPU s per 1000, bare | tidings |");
    println!("| ---: | ---: | ---: | ---: | ---: | ---: |");
    for in_flight in [1, 16, 256] {
        let (bare, bare_cpu) = bench.bare(&receiver, in_flight).await;
        let (ours, our_cpu) = bench.tidings(&receiver, in_flight).await;
        println!(
            "| {in_flight} | {bare:.0} | {ours:.0} | {:.2} | {bare_cpu:.2} | {our_cpu:.2} |",
            ours / bare
        );
    }
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
        let delays = bench.delays(&receiver, url).await;
        let (p50, p99) = (delays[delays.len() / 2], delays[delays.len() * 99 / 100]);
        println!("| {name} | {p50} | {p99} |");
        tails.push(u32::try_from(p99).unwrap());
    }
    println!("\nratio of the p99: {:.2}", f64::from(tails[1]) / f64::from(tails[0].max(1)));
    hanging.abort();
}

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Cargo passes `--bench`; the receiver is this program, started by itself.
    match std::env::args().any(|argument| argument == "receiver") {
        true => runtime.block_on(receive()),
        false => runtime.block_on(run()),
    }
}
