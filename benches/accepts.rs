//! Durable registrations a second, beside the limit: an axum handler that parses the same body and appends it to a
//! file with the same group commit. `cargo bench --bench accepts`
//!
//! The daemon is the real binary and the handler a process of its own, so that the processor time of each is told
//! apart. Both have the same client, the same cores and the same disk, and are measured in turns. `TIDINGS=PATH`
//! measures a second binary of the daemon beside this version, and `POSTGRES=1` this version over PostgreSQL, whose server it
//! starts: one replica, two and three, of which each takes its share of the callers.

mod common;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use axum::{Json, extract::State, http::StatusCode, routing::post};
use bytes::Bytes;
use common::{Process, Processor, folder, is_over_postgres, over_postgres, part};
use http_body_util::{BodyExt as _, Full};
use hyper::{client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tidings::{
    mock::{Mock, MockConfig},
    model::job::JobId,
    store::{Registration, Store, StoreConfig},
    util::clock,
};
use tokio::sync::oneshot;

const CALLERS: [usize; 3] = [1, 16, 256];
const BATCH: usize = 100;
const BATCH_CALLERS: usize = 4;
/// Each server is measured so often, in turns, for so long.
const ROUNDS: usize = 3;
const LASTS: Duration = Duration::from_secs(2);

fn handler(folder: &Path) -> Process {
    let mut command = part("handler");
    command.arg(folder.join("log"));
    Process::start(command)
}

fn daemon(binary: &Path, folder: &Path, upstream: &str, variables: &[(&str, String)]) -> Process {
    // The question is how fast it accepts: it polls next to nothing meanwhile.
    let config = format!(
        "[sources.retab]\nbase_url = \"{upstream}\"\napi_key = \"any\"\nmax_requests_per_second = 1\n\
         [sources.retab.polling]\nmin_interval = \"10m\"\nmax_interval = \"10m\"\n"
    );
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("tidings.toml"), config).unwrap();
    let mut command = Command::new(binary);
    command.args(["run", "--listen", "127.0.0.1:0"]).env_clear().env("RUST_LOG", "info");
    command.envs(variables.iter().cloned());
    command.current_dir(folder);
    Process::start(command)
}

/// What a caller sends, as a handler of axum reads it.
#[derive(Serialize, Deserialize)]
struct Asked {
    job_id: String,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    vars: BTreeMap<String, String>,
    #[serde(default)]
    sinks: Option<Vec<String>>,
    #[serde(default)]
    deadline: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct AskedBatch {
    watches: Vec<Asked>,
}

type Append = (Vec<u8>, oneshot::Sender<()>);

/// One thread that appends what waits, syncs once and answers all: what the disk allows at best.
fn appender(path: &Path) -> mpsc::Sender<Append> {
    let mut file = File::create(path).unwrap();
    let (calls, waiting) = mpsc::channel::<Append>();
    std::thread::spawn(move || {
        let (mut bytes, mut replies) = (Vec::new(), Vec::new());
        while let Ok(first) = waiting.recv() {
            for (record, reply) in std::iter::once(first).chain(waiting.try_iter()) {
                bytes.extend_from_slice(&record);
                replies.push(reply);
            }
            file.write_all(&bytes).unwrap();
            file.sync_data().unwrap();
            bytes.clear();
            for reply in replies.drain(..) {
                let _ = reply.send(());
            }
        }
    });
    calls
}

async fn append(calls: &mpsc::Sender<Append>, record: Vec<u8>) {
    let (reply, answer) = oneshot::channel();
    calls.send((record, reply)).unwrap();
    answer.await.unwrap();
}

fn line(bytes: &mut Vec<u8>, asked: &Asked) {
    serde_json::to_writer(&mut *bytes, asked).unwrap();
    bytes.push(b'\n');
}

async fn accept(
    State(calls): State<mpsc::Sender<Append>>,
    Json(asked): Json<Asked>,
) -> (StatusCode, Json<Asked>) {
    let mut record = Vec::new();
    line(&mut record, &asked);
    append(&calls, record).await;
    (StatusCode::ACCEPTED, Json(asked))
}

async fn accept_batch(
    State(calls): State<mpsc::Sender<Append>>,
    Json(asked): Json<AskedBatch>,
) -> Json<BTreeMap<&'static str, usize>> {
    let mut records = Vec::new();
    asked.watches.iter().for_each(|asked| line(&mut records, asked));
    append(&calls, records).await;
    Json(BTreeMap::from([("accepted", asked.watches.len())]))
}

/// Is the limit.
async fn serve_handler(path: &Path) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    eprintln!("address={}", listener.local_addr().unwrap());
    let routes = axum::Router::new()
        .route("/v1/watches", post(accept))
        .route("/v1/watches/batch", post(accept_batch))
        .with_state(appender(path));
    axum::serve(listener, routes).await.unwrap();
}

/// Requests that were answered, how long each took, and the processor time of the server.
#[derive(Default)]
struct Measured {
    waits: Vec<Duration>,
    took: Duration,
    processor: f64,
}

impl Measured {
    fn add(&mut self, (waits, took): (Vec<Duration>, Duration), processor: f64) {
        self.waits.extend(waits);
        self.waits.sort_unstable();
        self.took += took;
        self.processor += processor;
    }

    fn per_second(&self) -> f64 {
        f64::from(u32::try_from(self.waits.len()).unwrap()) / self.took.as_secs_f64()
    }

    fn ms_at(&self, share: usize) -> f64 {
        self.waits[self.waits.len() * share / 100].as_secs_f64() * 1000.0
    }

    fn per_thousand(&self) -> f64 {
        self.processor / self.per_second() / self.took.as_secs_f64() * 1000.0
    }
}

/// Ids that are as good as random as keys.
fn job(n: u64) -> String {
    format!("job_{:016x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

fn watch(n: u64) -> String {
    format!("{{\"job_id\":\"{}\",\"labels\":{{\"team\":\"billing\"}}}}", job(n))
}

/// What callers send.
#[derive(Clone, Copy)]
struct Load {
    callers: usize,
    batch: Option<usize>,
}

impl Load {
    fn name(self) -> String {
        self.batch.map_or_else(|| "one watch".to_owned(), |size| format!("batch of {size}"))
    }

    fn path(self) -> &'static str {
        if self.batch.is_some() { "/v1/watches/batch" } else { "/v1/watches" }
    }

    /// The body of request `n`, and the status that answers it.
    fn request(self, n: u64) -> (String, StatusCode) {
        let Some(size) = self.batch else { return (watch(n), StatusCode::ACCEPTED) };
        let watches: Vec<String> = (0..size as u64).map(|at| watch(n * size as u64 + at)).collect();
        (format!("{{\"watches\":[{}]}}", watches.join(",")), StatusCode::OK)
    }

    /// Callers that each send one request after the other on a connection of their own.
    async fn send(self, servers: &[Process], next: &Arc<AtomicU64>) -> (Vec<Duration>, Duration) {
        let mut callers = Vec::new();
        // The first server owns the work, so a single caller asks another one where there is one.
        for server in servers.iter().rev().cycle().take(self.callers) {
            let address = server.url.trim_start_matches("http://").to_owned();
            let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            callers.push((sender, address));
        }
        let begun = Instant::now();
        let tasks: Vec<_> = callers
            .into_iter()
            .map(|(sender, address)| tokio::spawn(self.call(sender, address, Arc::clone(next), begun)))
            .collect();
        let mut waits = Vec::new();
        for task in tasks {
            waits.extend(task.await.unwrap());
        }
        (waits, begun.elapsed())
    }

    async fn call(
        self,
        mut sender: http1::SendRequest<Full<Bytes>>,
        address: String,
        next: Arc<AtomicU64>,
        begun: Instant,
    ) -> Vec<Duration> {
        let mut waits = Vec::new();
        while begun.elapsed() < LASTS {
            let (body, expected) = self.request(next.fetch_add(1, Ordering::Relaxed));
            let request = hyper::Request::post(self.path())
                .header(header::HOST, &address)
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(Bytes::from(body)))
                .unwrap();
            let asked = Instant::now();
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!(answer.status(), expected);
            answer.into_body().collect().await.unwrap();
            waits.push(asked.elapsed());
        }
        waits
    }
}

/// The store in this process, without HTTP.
async fn store(folder: &Path, callers: usize) -> Measured {
    let config = StoreConfig { path: folder.join("store"), ..StoreConfig::default() };
    let store = Store::open(&config).unwrap();
    let next = Arc::new(AtomicU64::new(0));
    let (begun, before) = (Instant::now(), Processor::of("self"));
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (store, next) = (store.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                let mut waits = Vec::new();
                while begun.elapsed() < LASTS {
                    let asked = Instant::now();
                    let id: JobId = job(next.fetch_add(1, Ordering::Relaxed)).parse().unwrap();
                    store.register(vec![Registration::new("retab", id)], clock::now()).await.unwrap();
                    waits.push(asked.elapsed());
                }
                waits
            })
        })
        .collect();
    let mut measured = Measured::default();
    let mut waits = Vec::new();
    for task in tasks {
        waits.extend(task.await.unwrap());
    }
    measured.add((waits, begun.elapsed()), (Processor::of("self") - before).total());
    measured
}

fn print(load: Load, name: &str, measured: &Measured, limit: &Measured) {
    let watches = f64::from(u32::try_from(load.batch.unwrap_or(1)).unwrap());
    println!(
        "| {:<12} | {:>7} | {name:<15} | {:>9.0} | {:>6.2} | {:>6.2} | {:>11.4} | {:>14.2} |",
        load.name(),
        load.callers,
        measured.per_second() * watches,
        measured.ms_at(50),
        measured.ms_at(99),
        measured.per_thousand() / watches,
        measured.per_second() / limit.per_second(),
    );
}

async fn bench() {
    let upstream = Mock::start(MockConfig::default(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let mut binaries = vec![("tidings", PathBuf::from(env!("CARGO_BIN_EXE_tidings")))];
    binaries.extend(std::env::var_os("TIDINGS").map(|other| ("other tidings", other.into())));
    println!(
        "| request      | callers | server          | watches/s | p50 ms | p99 ms | CPU s/1,000 | of the handler |"
    );
    println!(
        "| ------------ | ------: | --------------- | --------: | -----: | -----: | ----------: | -------------: |"
    );
    let single = CALLERS.map(|callers| Load { callers, batch: None });
    for load in single.into_iter().chain([Load { callers: BATCH_CALLERS, batch: Some(BATCH) }]) {
        let root = folder();
        let mut servers = vec![("handler", vec![handler(&root)])];
        for (name, binary) in &binaries {
            servers.push((name, vec![daemon(binary, &root.join(name), &upstream.base_url(), &[])]));
        }
        let names = ["PostgreSQL", "2 replicas", "3 replicas"];
        for (name, count) in names.into_iter().zip(1..).filter(|_| is_over_postgres()) {
            let replica = |(at, variables): (usize, &[(&str, String); 3])| {
                let folder = root.join(format!("{name} {at}"));
                daemon(&binaries[0].1, &folder, &upstream.base_url(), variables)
            };
            servers.push((name, over_postgres(count).iter().enumerate().map(replica).collect()));
        }
        let (mut measured, next) = (BTreeMap::<usize, Measured>::new(), Arc::default());
        for _ in 0..ROUNDS {
            for (at, (_, server)) in servers.iter().enumerate() {
                let spent = || server.iter().map(|process| process.processor().total()).sum::<f64>();
                let before = spent();
                let sent = load.send(server, &next).await;
                measured.entry(at).or_default().add(sent, spent() - before);
            }
        }
        for (at, (name, _)) in servers.iter().enumerate() {
            print(load, name, &measured[&at], &measured[&0]);
        }
        drop(servers);
        if load.batch.is_none() {
            print(load, "store, no HTTP", &store(&root, load.callers).await, &measured[&0]);
        }
    }
}

fn main() {
    common::main(bench, async |name, arguments| match (name, arguments) {
        ("handler", [path]) => serve_handler(Path::new(path)).await,
        _ => panic!("it has no part {name}"),
    });
}
