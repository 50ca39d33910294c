//! What the benches share: processes whose processor time is told apart, the daemon, the mock, a
//! receiver, and medians.
//!
//! A bench starts itself again for each further process. The first argument then names its part:
//! see [`main`].

#![allow(dead_code, reason = "each bench uses a part of it")]
#![expect(clippy::disallowed_methods, reason = "it waits for processes, and is a client of its own")]

use std::{
    env,
    ffi::OsString,
    fs,
    future::pending,
    io::{BufRead as _, BufReader},
    ops::{Deref, Sub},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    str::FromStr,
    sync::{Arc, Mutex, OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use axum::{
    body::{Body, to_bytes},
    extract::{Path as PathOf, State},
    http::StatusCode,
    routing::get,
};
use serde_json::{Value, json};
use tidings::{
    mock::{Ending, JobPlan, Mock, MockConfig},
    util::units::Size,
};
use tokio::sync::watch;

/// A secret for signed webhooks.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Returns the variable of this name, or the default without one.
///
/// # Panics
/// If it cannot be read.
pub fn variable<T: FromStr>(name: &str, default: T) -> T {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} cannot be read")),
        Err(_) => default,
    }
}

/// Returns the daemon's binary: the one that cargo built, or that which `TIDINGS` names.
pub fn binary() -> OsString {
    env::var_os("TIDINGS").unwrap_or_else(|| env!("CARGO_BIN_EXE_tidings").into())
}

/// Runs the bench, or the part that the first argument names: `mock` and `receiver` are known here,
/// `part` runs the bench's own.
pub fn main(run: impl AsyncFnOnce(), part: impl AsyncFnOnce(&str, &[String])) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let arguments: Vec<String> = env::args().skip(1).collect();
    runtime.block_on(async {
        match arguments.split_first() {
            Some((name, rest)) if name == "mock" => mock(rest).await,
            Some((name, _)) if name == "receiver" => receiver().await,
            Some((name, rest)) if !name.starts_with("--") => part(name, rest).await,
            // Cargo passes `--bench`.
            _ => {
                let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
                ROOT.set(root.path().to_owned()).unwrap();
                run().await;
            }
        }
    });
}

/// Processor time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Processor {
    pub user: f64,
    pub system: f64,
}

impl Processor {
    /// Returns the time of a process so far, from `/proc/PID/stat` in ticks of 10 ms.
    pub fn of(pid: &str) -> Self {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let seconds = |at: usize| fields[at].parse::<f64>().unwrap() / 100.0;
        Self { user: seconds(11), system: seconds(12) }
    }

    pub fn total(self) -> f64 {
        self.user + self.system
    }

    /// Returns the time for each thousand of `count`.
    #[expect(clippy::cast_precision_loss, reason = "a count of jobs")]
    pub fn per_thousand(self, count: usize) -> Self {
        let each = 1000.0 / count as f64;
        Self { user: self.user * each, system: self.system * each }
    }
}

impl Sub for Processor {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { user: self.user - other.user, system: self.system - other.system }
    }
}

/// Returns a figure of `/proc/PID/status` that is in KiB, such as `VmRSS` or `VmHWM`, as MiB.
pub fn mebibytes(pid: &str, figure: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

/// A process that is killed when this goes.
pub struct Process {
    child: Child,
    pub url: String,
    /// The lines of stderr so far, and when they came.
    log: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Process {
    /// Starts it and waits for the line of stderr that says where it listens.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (log, lines) = (Arc::default(), BufReader::new(child.stderr.take().unwrap()).lines());
        let (found, address) = mpsc::channel();
        let kept: Arc<Mutex<Vec<(Instant, String)>>> = Arc::clone(&log);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let address =
                    line.split_once("address=").and_then(|(_, rest)| rest.split_whitespace().next());
                if let Some(address) = address {
                    let _ = found.send(format!("http://{address}"));
                }
                kept.lock().unwrap().push((Instant::now(), line));
            }
        });
        let url = address.recv().unwrap_or_else(|_| panic!("it ended: {:?}", log.lock().unwrap()));
        Self { child, url, log }
    }

    /// Waits for a line of stderr with these words, and returns when it came.
    pub async fn said(&self, words: &str) -> Instant {
        loop {
            let found =
                self.log.lock().unwrap().iter().find(|(_, line)| line.contains(words)).map(|line| line.0);
            if let Some(at) = found {
                return at;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Returns how often the process has been woken so far: the waits of all its threads.
    pub fn wakeups(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let waits = |task: std::io::Result<fs::DirEntry>| -> Option<u64> {
            let status = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            line.trim().parse().ok()
        };
        tasks.filter_map(waits).sum()
    }

    /// Begins to measure the peak of its memory again.
    pub fn reset_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }

    pub fn processor(&self) -> Processor {
        Processor::of(&self.child.id().to_string())
    }

    /// Waits until the process has spent nothing for 300 ms, for at most five seconds, and returns
    /// its time: what an answer leaves to be done later belongs to its cost.
    pub async fn settled(&self) -> Processor {
        let (mut last, mut quiet) = (self.processor(), 0);
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = self.processor();
            quiet = if (now - last).total() < 0.005 { quiet + 1 } else { 0 };
            last = now;
            if quiet == 3 {
                break;
            }
        }
        last
    }

    pub fn mebibytes(&self, figure: &str) -> f64 {
        mebibytes(&self.child.id().to_string(), figure)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a command that starts a part of this bench.
pub fn part(name: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.arg(name);
    command
}

/// The mock of the job API in a process of its own, with jobs that have finished and others that
/// never do.
pub struct Jobs {
    pub process: Process,
    pub finished: Vec<String>,
    pub endless: Vec<String>,
}

impl Jobs {
    /// Starts a mock with so many jobs of each sort. `size` is that of a result's body, and `None`
    /// the mock's own small one.
    pub fn start(count: usize, size: Option<Size>) -> Self {
        let mut command = part("mock");
        command.arg(count.to_string()).args(size.map(|size| size.to_string())).stdout(Stdio::piped());
        let mut process = Process::start(command);
        let lines = BufReader::new(process.child.stdout.take().unwrap()).lines();
        let mut finished: Vec<String> = lines.take(2 * count).map(Result::unwrap).collect();
        let endless = finished.split_off(count);
        Self { process, finished, endless }
    }
}

/// Is the mock: its arguments are the number of jobs and the size of a result.
async fn mock(arguments: &[String]) {
    let count: usize = arguments[0].parse().unwrap();
    let size: Option<Size> = arguments.get(1).map(|size| size.parse().unwrap());
    let config = MockConfig {
        duration: Duration::ZERO,
        jitter: 0.0,
        size,
        max_jobs: 2 * count,
        ..MockConfig::default()
    };
    let mock = Mock::start(config, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    eprintln!("address={}", mock.addr());
    for ending in [Ending::Completed, Ending::Stuck] {
        for _ in 0..count {
            println!("{}", mock.add_job(JobPlan::new().ending(ending)));
        }
    }
    pending::<()>().await;
}

/// A receiver of webhooks that takes everything and counts, in a process of its own.
pub struct Receiver(pub Process);

impl Receiver {
    pub fn start() -> Self {
        Self(Process::start(part("receiver")))
    }

    /// Waits until it took so many requests since its start, and returns their number.
    pub async fn took(&self, client: &reqwest::Client, count: usize) -> usize {
        let url = format!("{}/took/{count}", self.0.url);
        client.get(url).send().await.unwrap().text().await.unwrap().parse().unwrap()
    }
}

/// Is the receiver.
async fn receiver() {
    let took = Arc::new(watch::Sender::new(0_usize));
    let take = async |State(took): State<Arc<watch::Sender<usize>>>, body: Body| {
        let _ = to_bytes(body, usize::MAX).await;
        took.send_modify(|took| *took += 1);
        StatusCode::NO_CONTENT
    };
    let wait = async |State(took): State<Arc<watch::Sender<usize>>>, PathOf(count): PathOf<usize>| {
        took.subscribe().wait_for(|took| *took >= count).await.unwrap().to_string()
    };
    let router = axum::Router::new().route("/took/{count}", get(wait)).fallback(take).with_state(took);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    eprintln!("address={}", listener.local_addr().unwrap());
    axum::serve(listener, router).await.unwrap();
}

/// A daemon with a data folder of its own, and a client of it. Over PostgreSQL it may have further replicas; then the last one of
/// them is asked, and this one owns the work.
pub struct Daemon {
    pub process: Process,
    replicas: Vec<Process>,
    pub client: reqwest::Client,
    folder: PathBuf,
}

impl Deref for Daemon {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

/// The folder of this bench, once it has one.
static ROOT: OnceLock<PathBuf> = OnceLock::new();

/// Returns a new folder on the disk that cargo builds on, which is no memory file system. It stays
/// until the bench ends: ext4 searches long for an inode after many files were deleted.
pub fn folder() -> PathBuf {
    let root = ROOT.get().unwrap();
    let folder = root.join(fs::read_dir(root).unwrap().count().to_string());
    fs::create_dir(&folder).unwrap();
    folder
}

/// Returns a client that keeps its connections.
pub fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

#[path = "../../tests/it/harness/port.rs"]
#[allow(dead_code, reason = "it belongs to the tests")]
mod port;

#[path = "../../tests/it/harness/postgres.rs"]
#[allow(dead_code, clippy::disallowed_methods, reason = "it belongs to the tests")]
mod postgres;

/// Returns whether the variable `POSTGRES` asks for daemons over PostgreSQL.
pub fn is_over_postgres() -> bool {
    env::var_os("POSTGRES").is_some()
}

/// Returns the variables of each replica over a new database, of a server that syncs as it does by default.
pub fn over_postgres(replicas: usize) -> Vec<[(&'static str, String); 3]> {
    static SERVER: std::sync::OnceLock<postgres::Postgres> = std::sync::OnceLock::new();
    let server = SERVER.get_or_init(|| postgres::Postgres::start(&[]));
    let url = server.url(&server.database());
    let of = |replica| {
        [
            ("TIDINGS_STORE__TYPE", "postgres".to_owned()),
            ("TIDINGS_STORE__URL", url.clone()),
            ("TIDINGS_STORE__REPLICA", format!("r{replica}")),
        ]
    };
    (0..replicas).map(of).collect()
}

impl Daemon {
    pub fn start(config: &str) -> Self {
        Self::start_in(folder(), config)
    }

    /// Starts it on the data that the folder holds.
    pub fn start_in(folder: PathBuf, config: &str) -> Self {
        fs::write(folder.join("tidings.toml"), config).unwrap();
        let start = |at: &Path, variables: &[(&str, String)]| {
            let mut command = Command::new(binary());
            command.args(["run", "--listen", "127.0.0.1:0", "--config"]).arg(folder.join("tidings.toml"));
            command.env_clear().env("RUST_LOG", "info").envs(variables.iter().cloned()).current_dir(at);
            Process::start(command)
        };
        if !is_over_postgres() {
            return Self { process: start(&folder, &[]), replicas: Vec::new(), client: client(), folder };
        }
        let mut replicas = Vec::new();
        for (at, variables) in over_postgres(variable("REPLICAS", 1)).iter().enumerate() {
            let own = folder.join(at.to_string());
            fs::create_dir_all(&own).unwrap();
            replicas.push(start(&own, variables));
        }
        Self { process: replicas.remove(0), replicas, client: client(), folder }
    }

    /// Where it is asked.
    fn entry(&self) -> &str {
        &self.replicas.last().unwrap_or(&self.process).url
    }

    /// Kills it and returns its folder.
    pub fn kill(self) -> PathBuf {
        self.folder
    }

    pub fn path(&self) -> &Path {
        &self.folder
    }

    pub async fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.client.post(format!("{}{path}", self.entry())).json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Value {
        self.client.get(format!("{}{path}", self.entry())).send().await.unwrap().json().await.unwrap()
    }

    /// Registers jobs, so many with each request.
    pub async fn register(&self, ids: &[String], batch: usize) {
        for ids in ids.chunks(batch) {
            let watches: Vec<Value> = ids.iter().map(|id| json!({"job_id": id})).collect();
            let answer = self.post("/v1/watches/batch", &json!({"watches": watches})).await;
            assert_eq!(answer["accepted"], ids.len(), "{answer}");
        }
    }

    /// Waits until the sink `app` shows this count.
    pub async fn until(&self, field: &str, count: usize) {
        loop {
            let sinks = self.get("/v1/sinks").await;
            let app = sinks["data"].as_array().unwrap().iter().find(|sink| sink["name"] == "app").unwrap();
            if app[field] == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Returns the sum of all series of a metric.
    pub async fn metric(&self, name: &str) -> f64 {
        let text =
            self.client.get(format!("{}/metrics", self.url)).send().await.unwrap().text().await.unwrap();
        let series = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        series.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}

/// Posts a body with the headers of a signed webhook.
pub async fn webhook(request: reqwest::RequestBuilder, body: impl Into<reqwest::Body>) {
    let request = request
        .header("content-type", "application/json")
        .header("webhook-id", "evt_nb4vqc2kxktyuexkjcn7djwcqq")
        .header("webhook-timestamp", "1764000000")
        .header("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    assert!(request.body(body).send().await.unwrap().status().is_success());
}

/// Returns the middle of these figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}
