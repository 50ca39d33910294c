//! Three processes over one PostgreSQL: whichever is asked, all answer for one owner of the work, and whatever becomes of the
//! processes and of the database, nothing that was acknowledged is lost, every job has one event, in order, and the upstream gets
//! no more requests than its budget allows. The tests need a server; `.ci/run` has one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
    http::{HeaderMap, Method, Uri},
    response::Response,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use rustix::process::Signal;
use serde_json::{Value, json};
use tidings::mock::{Ending, JobPlan, Mock};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};

use crate::{
    crash::settled,
    harness::{
        Postgres, Process, Pulse, Receiver, Reply, binary, eventually, free_port, http, mock, once, serve,
        show,
    },
};

const REPLICAS: usize = 3;

/// The time in which the work of a killed owner is taken over.
const TAKE_OVER: Duration = Duration::from_secs(15);

/// A term of an owner, by the clock of the database.
const TERM: Duration = Duration::from_secs(8);

/// Callers that register at the same time.
const CALLERS: usize = 3;

/// A request that the upstream got.
#[derive(Clone, Debug)]
struct Got {
    at: Instant,
    by: usize,
    path: String,
    is_marked: bool,
}

/// The mock upstream behind a relay that tells the replicas apart: each asks below a path of its own.
struct Upstream {
    mock: Mock,
    url: String,
    got: Arc<Mutex<Vec<Got>>>,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Relay {
    http: reqwest::Client,
    to: String,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Upstream {
    async fn start() -> Self {
        let (mock, got) = (mock().await, Arc::default());
        let relay = Relay { http: http(), to: mock.base_url(), got: Arc::clone(&got) };
        let (address, server) = serve(Router::new().fallback(pass).with_state(relay)).await;
        Self { mock, url: format!("http://{address}"), got, server }
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.got.lock().unwrap().len()
    }

    /// Every request after an instant, and by whom.
    fn since(&self, at: Instant) -> Vec<Got> {
        self.got().into_iter().filter(|got| got.at >= at).collect()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The answer that pretends to come from a replica that does not own the work.
const PRETENDS: &str = "/v1/pretends";

async fn pass(
    State(relay): State<Relay>,
    method: Method,
    uri: Uri,
    mut headers: HeaderMap,
    body: Body,
) -> Response {
    let at = Instant::now();
    let path = uri.path_and_query().unwrap().as_str();
    let (by, path) = path.trim_start_matches("/r").split_once('/').unwrap();
    let (by, path) = (by.parse().unwrap(), format!("/{path}"));
    let is_marked = headers.contains_key("tidings-passed-on");
    relay.got.lock().unwrap().push(Got { at, by, path: path.clone(), is_marked });
    if path == PRETENDS {
        return Response::builder()
            .status(503)
            .header("tidings-passed-on", "1")
            .body(Body::from("no"))
            .unwrap();
    }
    headers.remove("host");
    headers.remove("transfer-encoding");
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let sent = relay.http.request(method, format!("{}{path}", relay.to)).headers(headers).body(body).send();
    let Ok(answer) = sent.await else {
        return Response::builder().status(502).body(Body::empty()).unwrap();
    };
    let mut response = Response::builder().status(answer.status().as_u16());
    for (name, value) in answer.headers() {
        if name != "transfer-encoding" && name != "content-length" {
            response = response.header(name, value);
        }
    }
    response.body(Body::from(answer.bytes().await.unwrap_or_default())).unwrap()
}

/// What three replicas share, and what was acknowledged.
struct Fleet {
    upstream: Arc<Upstream>,
    receiver: Receiver,
    folders: Vec<tempfile::TempDir>,
    addresses: Vec<String>,
    accepted: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    http: reqwest::Client,
}

/// Quick polls, so that a test is about the replicas.
const QUICK: &str = "max_requests_per_second = 2000\nnot_found_grace = \"300ms\"\n\
    [sources.retab.polling]\nmin_interval = \"20ms\"\nmax_interval = \"100ms\"\n";

impl Fleet {
    async fn new(database: &str, source: &str) -> Self {
        let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
        let folders: Vec<_> = (0..REPLICAS).map(|_| tempfile::tempdir().unwrap()).collect();
        let fleet = Self {
            upstream: Arc::new(upstream),
            receiver,
            addresses: free_addresses(),
            folders,
            accepted: Arc::default(),
            is_over: Arc::default(),
            http: http(),
        };
        for at in 0..REPLICAS {
            fleet.configure(at, database, source, "");
        }
        fleet
    }

    fn configure(&self, at: usize, database: &str, source: &str, more: &str) {
        let text = format!(
            "[server]\nshutdown = true\n\n[store]\ntype = \"postgres\"\nurl = \"{database}\"\nreplica = \"r{at}\"\n{more}\n\
             [sinks.app]\ntype = \"webhook\"\nurl = \"{}?by={at}\"\nordered = true\n\
             events = [\"*\", \"job.started\", \"job.updated\"]\n\
             retry = {{ schedule = [{}, \"1m\"], jitter = 0.2 }}\n\n\
             [sources.retab]\nbase_url = \"{}/r{at}\"\n{source}",
            self.receiver.url(),
            ["\"30ms\""; 20].join(", "),
            self.upstream.url,
        );
        std::fs::write(self.folders[at].path().join("tidings.toml"), text).unwrap();
    }

    /// Starts a replica at its address, and waits until it listens.
    async fn start(&self, at: usize) -> Process {
        let mut command = binary();
        command.args(["run", "--listen", &self.addresses[at]]).current_dir(self.folders[at].path());
        Process::spawn(command).await
    }

    /// Starts all of them, and waits until they are ready.
    async fn start_all(&self) -> Vec<Process> {
        let mut replicas = Vec::new();
        for at in 0..REPLICAS {
            replicas.push(self.start(at).await);
            ready(&replicas[at]).await;
        }
        replicas
    }

    /// Registers jobs at random replicas until the test says that it is over. Each one is tried until it is acknowledged.
    fn load(&self, pause: Duration) -> Vec<JoinHandle<()>> {
        let caller = |caller: usize| {
            let (http, upstream) = (self.http.clone(), Arc::clone(&self.upstream));
            let (accepted, is_over) = (Arc::clone(&self.accepted), Arc::clone(&self.is_over));
            let urls: Vec<_> =
                self.addresses.iter().map(|address| format!("http://{address}/v1/watches")).collect();
            tokio::spawn(async move {
                let mut rng = StdRng::seed_from_u64(caller as u64);
                for n in 0.. {
                    let lasting = Duration::from_millis(rng.random_range(0..800));
                    let plan = JobPlan::new().id(format!("job_{caller}_{n}")).lasting(lasting);
                    let job = upstream.mock.add_job(plan);
                    while !registered(&http, &urls[rng.random_range(0..REPLICAS)], &job).await {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    accepted.lock().unwrap().push(job);
                    if is_over.load(Ordering::SeqCst) {
                        return;
                    }
                    tokio::time::sleep(pause).await;
                }
            })
        };
        (0..CALLERS).map(caller).collect()
    }

    fn accepted(&self) -> usize {
        self.accepted.lock().unwrap().len()
    }

    /// Waits until so many more jobs are acknowledged.
    async fn accepts(&self, more: usize) {
        let enough = self.accepted() + more;
        eventually("jobs are accepted", || async { (self.accepted() >= enough).then_some(()) }).await;
    }

    /// Ends the load, waits until nothing is left to do, and compares the ledgers.
    async fn check(&self, load: Vec<JoinHandle<()>>, asked: &Process) {
        self.is_over.store(true, Ordering::SeqCst);
        for caller in load {
            caller.await.unwrap();
        }
        settled(&self.http, &asked.url).await;
        let accepted = self.accepted.lock().unwrap().clone();
        let (mut events, mut order) = (BTreeMap::<_, BTreeSet<_>>::new(), BTreeMap::<_, Vec<_>>::new());
        for request in self.receiver.requests() {
            let body = request.json();
            let (job, kind) = (body["job_id"].as_str().unwrap(), body["type"].as_str().unwrap());
            if kind == "job.completed" {
                let data =
                    [b"\"data\":".as_slice(), &self.upstream.mock.full_body(job).unwrap(), b"}"].concat();
                assert!(request.body.ends_with(&data), "{job} at the receiver");
                events.entry(job.to_owned()).or_default().insert(request.header("webhook-id").to_owned());
            }
            order.entry(job.to_owned()).or_default().push(kind.to_owned());
        }
        for job in &accepted {
            let (status, watch) = asked.get(&format!("/v1/watches/retab/{job}")).await;
            assert_eq!(
                (status, &watch["phase"], &watch["outcome"]),
                (200, &json!("done"), &json!("completed"))
            );
            let ids = events.get(job).unwrap_or_else(|| panic!("{job} never reached the receiver"));
            assert_eq!(ids.iter().collect::<Vec<_>>(), [watch["event_id"].as_str().unwrap()], "{job}");
            let kinds = &order[job];
            let end = kinds.iter().position(|kind| kind == "job.completed").unwrap();
            assert!(kinds[end..].iter().all(|kind| kind == "job.completed"), "{job}: {kinds:?}");
        }
        println!(
            "{} jobs acknowledged, 0 lost, one event id and the right order each; {} requests to the upstream, {} to the receiver",
            accepted.len(),
            self.upstream.count(),
            self.receiver.requests().len()
        );
        let sound = once(self.folders[0].path(), &["store", "check", "--hashes"]).await;
        assert_eq!(sound.status.code(), Some(0), "{}", show(&sound));
    }
}

/// An address for each replica.
fn free_addresses() -> Vec<String> {
    let mut found = BTreeSet::new();
    while found.len() < REPLICAS {
        found.insert(format!("127.0.0.1:{}", free_port()));
    }
    found.into_iter().collect()
}

async fn registered(http: &reqwest::Client, url: &str, job: &str) -> bool {
    // A replica that is stopped never answers; the caller asks another one.
    let request = http.post(url).json(&json!({"job_id": job})).timeout(Duration::from_secs(3));
    match request.send().await {
        Ok(answer) if answer.status().is_success() => true,
        Ok(answer) => {
            assert!([503, 507].contains(&answer.status().as_u16()), "{}", answer.status());
            false
        }
        Err(_) => false,
    }
}

/// The status and the code with which a registration is refused; `None` without an answer, as from a replica that begins again.
async fn refused(replica: &Process, job: &str) -> Option<(u16, String)> {
    let request = replica.http.post(format!("{}/v1/watches", replica.url)).json(&json!({"job_id": job}));
    let answer = request.send().await.ok()?;
    let status = answer.status().as_u16();
    let problem: Value = answer.json().await.ok()?;
    Some((status, problem["code"].as_str()?.to_owned()))
}

async fn is_alive(replica: &Process) -> Option<()> {
    let answer = replica.http.get(format!("{}/healthz", replica.url)).send().await.ok()?;
    (answer.status() == 200).then_some(())
}

async fn ready(replica: &Process) {
    eventually("it is ready", || async { is_ready(replica).await.then_some(()) }).await;
}

/// Whether it does all of its part. An owner whose lease is over answers too, and may begin again at any moment.
async fn is_ready(replica: &Process) -> bool {
    let answer = replica.http.get(format!("{}/readyz", replica.url)).send().await;
    let Ok(answer) = answer else { return false };
    answer.json::<Value>().await.is_ok_and(|readiness| readiness["status"] == "ready")
}

/// The names of the live replicas and what they own, as one of them sees it.
async fn replicas(asked: &Process) -> Option<BTreeMap<String, Vec<String>>> {
    let answer = asked.http.get(format!("{}/v1/replicas", asked.url)).send().await.ok()?;
    let page: Value = answer.error_for_status().ok()?.json().await.ok()?;
    let one = |replica: &Value| {
        let units =
            replica["units"].as_array()?.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Some((replica["name"].as_str()?.to_owned(), units))
    };
    page["data"].as_array()?.iter().map(one).collect()
}

/// The one that owns the work.
async fn owner(asked: &Process) -> usize {
    eventually("one owns the work", || async {
        let all = replicas(asked).await?;
        let owners: Vec<_> = all.iter().filter(|(_, units)| !units.is_empty()).collect();
        assert!(owners.len() <= 1, "{all:?}");
        owners.first()?.0.trim_start_matches('r').parse().ok()
    })
    .await
}

/// The one that owns the work, once each of them does its part and says the same. After a fault, one that owned the work before
/// answers that the database is away or full until it has tried again and learns who followed it.
async fn agreed<'a>(fleet: impl IntoIterator<Item = &'a Process>) -> usize {
    let fleet: Vec<_> = fleet.into_iter().collect();
    eventually("all agree who owns the work", || async {
        let mut owners = BTreeSet::new();
        for replica in &fleet {
            if !is_ready(replica).await {
                return None;
            }
            owners.extend(replicas_with_work(replica).await?);
        }
        let [owner] = owners.into_iter().collect::<Vec<_>>().try_into().ok()?;
        owner.trim_start_matches('r').parse().ok()
    })
    .await
}

fn is_active(replica: &Process) -> impl Future<Output = bool> {
    let metrics = replica.http.get(format!("{}/metrics", replica.url)).send();
    async {
        let Ok(metrics) = metrics.await else { return false };
        metrics.text().await.is_ok_and(|text| text.contains("\ntidings_active 1\n"))
    }
}

/// Says how to repeat a run that failed.
struct Seed(u64);

impl Seed {
    fn new() -> Self {
        let given = std::env::var("TIDINGS_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
        Self(given.unwrap_or_else(rand::random))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat with TIDINGS_TEST_SEED={}", self.0);
        }
    }
}

/// A number that a longer run sets.
fn given(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().map_or(usual, |text| text.parse().unwrap())
}

fn shown(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let (least, most) = (times.first().copied(), times.last().copied());
    println!(
        "{name}: min {least:.1?}, median {:.1?}, max {most:.1?} of {}",
        times[times.len() / 2],
        times.len()
    );
}

/// A poll that never ends, so that somebody has something to poll.
fn endless(fleet: &Fleet, id: &str) -> String {
    fleet.upstream.mock.add_job(JobPlan::new().id(id).ending(Ending::Stuck))
}

/// Ends replicas, none of which panicked.
async fn end(replicas: impl IntoIterator<Item = Process>) {
    for replica in replicas {
        let (status, log) = replica.terminate().await;
        assert_eq!(status, Some(0), "{log}");
        assert!(!log.contains("panic"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn whichever_replica_is_asked_the_answer_is_the_same() {
    let server = Postgres::shared();
    let fleet = Fleet::new(&server.url(&server.database()), QUICK).await;
    let replicas = fleet.start_all().await;
    assert_eq!(owner(&replicas[2]).await, 0);
    let mut jobs = Vec::new();
    for (at, replica) in replicas.iter().enumerate() {
        let plan = JobPlan::new().id(format!("job_{at}")).lasting(Duration::from_millis(200));
        jobs.push(fleet.upstream.mock.add_job(plan));
        replica.register(&json!({"job_id": jobs[at], "labels": {"at": at.to_string()}})).await;
        let (status, waited) = replica.get(&format!("/v1/watches/retab/{}/wait?timeout=20s", jobs[at])).await;
        assert_eq!((status, &waited["outcome"]), (200, &json!("completed")), "{waited}");
    }
    settled(&fleet.http, &replicas[1].url).await;
    let first = &jobs[0];
    for path in [
        "/v1/watches",
        "/v1/watches?label.at=1",
        "/v1/watches/retab/job_2",
        &format!("/v1/watches/retab/{first}/job"),
        &format!("/v1/watches/retab/{first}/timeline"),
        "/v1/watches/retab/no_such_job",
        "/v1/deliveries",
        "/v1/sinks",
        "/v1/replicas",
        "/v1/groups",
        "/no/such/route",
        "/",
        "/openapi.json",
    ] {
        eventually(&format!("{path} is the same everywhere"), || async {
            let mut answers = Vec::new();
            for replica in &replicas {
                let request = replica.http.get(format!("{}{path}", replica.url));
                let answer = request.header("accept", "text/html, application/json").send().await.unwrap();
                let headers =
                    ["content-type", "content-length", "etag", "content-security-policy", "cache-control"]
                        .map(|name| answer.headers().get(name).cloned());
                answers.push((answer.status(), headers, answer.bytes().await.unwrap()));
            }
            answers.windows(2).all(|pair| pair[0] == pair[1]).then_some(())
        })
        .await;
    }
    let follower = &replicas[1];
    let page =
        follower.http.get(format!("{}/", follower.url)).header("accept", "text/html").send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("script-src"), "the page may run: {policy}");
    let (url, tag) = (format!("{}/", follower.url), page.headers()["etag"].clone());
    let again =
        follower.http.get(&url).header("accept", "text/html").header("if-none-match", tag).send().await;
    assert_eq!(again.unwrap().status(), 304);
    let result = format!("{}/v1/watches/retab/{first}/job", follower.url);
    let whole = fleet.upstream.mock.full_body(first).unwrap();
    let head = follower.http.head(&result).send().await.unwrap();
    assert_eq!(
        (head.status().as_u16(), &head.headers()["content-length"]),
        (200, &whole.len().to_string().parse().unwrap())
    );
    let part = follower.http.get(&result).header("range", "bytes=3-9").send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.bytes().await.unwrap(), whole.slice(3..10));
    events_and_changes(&fleet, follower).await;
    passed_through(&fleet, &replicas).await;
    waits_and_ends(&fleet, replicas).await;
}

async fn events_and_changes(fleet: &Fleet, follower: &Process) {
    let events = format!("{}/v1/events", follower.url);
    let list = follower.http.get(&events).header("accept", "application/json").send().await.unwrap();
    let list: Value = list.json().await.unwrap();
    let ended = list["data"].as_array().unwrap().len();
    assert!(ended >= REPLICAS, "{list}");
    let stream = follower.http.get(&events).header("last-event-id", "0").send();
    let (mut stream, mut text) = (stream.await.unwrap(), String::new());
    while text.matches("event: job.completed").count() < REPLICAS {
        let chunk = stream.chunk().await.unwrap().expect("the stream goes on");
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let open = endless(fleet, "open");
    follower.watch(&open).await;
    let poll = format!("/v1/watches/retab/{open}/poll");
    let (status, polled) = follower.post(&poll, &Value::Null).await;
    assert!((200..300).contains(&status), "{status} {polled}");
    follower.forget(&open).await;
    assert_eq!(follower.get(&format!("/v1/watches/retab/{open}")).await.0, 404);
}

async fn passed_through(fleet: &Fleet, replicas: &[Process]) {
    let create = |document: String| json!({"endpoint": "/v1/extractions", "request": {"document": document}});
    let url = |at: usize, path: &str| format!("{}/proxy/retab{path}", replicas[at].url);
    // In one piece that is kept, in one that is not, and in pieces.
    let large = serde_json::to_vec(&create("x".repeat(3 << 20))).unwrap();
    let pieces: Vec<_> = large.chunks(100_000).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    let bodies = [
        reqwest::Body::from(create("small".to_owned()).to_string()),
        reqwest::Body::from(large),
        reqwest::Body::wrap_stream(futures_util::stream::iter(pieces)),
    ];
    for body in bodies {
        let request = replicas[1].http.post(url(1, "/v1/jobs")).header("content-type", "application/json");
        let created = request.body(body).send().await.unwrap();
        assert_eq!(
            (created.status().is_success(), &created.headers()["tidings-watch"]),
            (true, &"accepted".parse().unwrap())
        );
        let created: Value = created.json().await.unwrap();
        replicas[2].finished(created["id"].as_str().unwrap()).await;
    }
    // What only replicas say to each other is not said by a source, and not to it.
    let count = || fleet.upstream.got().iter().filter(|got| got.path == PRETENDS).count();
    let marked = replicas[1].http.post(url(1, PRETENDS)).send().await.unwrap();
    assert_eq!((marked.status().as_u16(), count()), (503, 1));
    assert_eq!(marked.text().await.unwrap(), "no");
    let marked =
        replicas[0].http.get(url(0, PRETENDS)).header("tidings-passed-on", "1").send().await.unwrap();
    assert_eq!((marked.status().as_u16(), count()), (503, 2));
    assert!(!marked.headers().contains_key("tidings-passed-on"));
    assert!(fleet.upstream.got().iter().all(|got| !got.is_marked), "{:?}", fleet.upstream.got());
    let marked =
        replicas[1].http.get(url(1, PRETENDS)).header("tidings-passed-on", "1").send().await.unwrap();
    let problem: Value = marked.json().await.unwrap();
    assert_eq!((&problem["code"], count()), (&json!("no_owner"), 2));
}

/// A caller that waits for `100 Continue`, and a follower that stops while requests are in flight.
async fn waits_and_ends(fleet: &Fleet, mut replicas: Vec<Process>) {
    let job = fleet.upstream.mock.add_job(JobPlan::new().id("slow").lasting(Duration::from_millis(1500)));
    let body = json!({"job_id": job}).to_string();
    let mut caller = TcpStream::connect(&fleet.addresses[1]).await.unwrap();
    let head = format!(
        "POST /v1/watches HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
        body.len()
    );
    caller.write_all(head.as_bytes()).await.unwrap();
    let mut said = [0; 25];
    caller.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"HTTP/1.1 100 Continue\r\n\r\n");
    caller.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    caller.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    let stopped = replicas.remove(1);
    let waiting = stopped.http.get(format!("{}/v1/watches/retab/{job}/wait?timeout=20s", stopped.url)).send();
    let waiting = tokio::spawn(waiting);
    let stream = stopped.http.get(format!("{}/v1/events", stopped.url)).send().await.unwrap();
    let shutdown = stopped.http.post(format!("{}/v1/shutdown", stopped.url)).send().await.unwrap();
    assert_eq!(shutdown.status(), 202);
    let waited: Value = waiting.await.unwrap().unwrap().json().await.unwrap();
    assert_eq!(waited["outcome"], "completed", "{waited}");
    let (status, log) = stopped.ended().await;
    assert_eq!(status, Some(0), "{log}");
    assert!(!log.contains("drain time over"), "{log}");
    drop(stream);
    let left = replicas_of(&replicas[1]).await;
    assert_eq!(left, ["r0", "r2"]);
    end(replicas).await;
}

async fn replicas_of(asked: &Process) -> Vec<String> {
    replicas(asked).await.unwrap_or_default().into_keys().collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn a_killed_owner_is_followed_within_fifteen_seconds_and_nothing_is_lost() {
    let (server, seed) = (Postgres::shared(), Seed::new());
    let mut rng = StdRng::seed_from_u64(seed.0);
    let fleet = Fleet::new(&server.url(&server.database()), QUICK).await;
    let mut replicas: BTreeMap<usize, Process> = fleet.start_all().await.into_iter().enumerate().collect();
    replicas[&0].watch(&endless(&fleet, "open")).await;
    let load = fleet.load(Duration::from_millis(20));
    let (mut to_poll, mut to_answer) = (Vec::new(), Vec::new());
    for round in 0..given("TIDINGS_TEST_KILLS", 3) {
        fleet.receiver.then((0..rng.random_range(0..6)).map(|_| Reply::status(503)));
        fleet.accepts(20).await;
        let asked = replicas.values().next().unwrap();
        let owner = owner(asked).await;
        let follower = (owner + 1 + rng.random_range(0..REPLICAS - 1)) % REPLICAS;
        let mut stream = replicas[&follower]
            .http
            .get(format!("{}/v1/events?types=tidings.*", replicas[&follower].url))
            .send()
            .await
            .unwrap();
        let killed = replicas.remove(&owner).unwrap();
        let begun = Instant::now();
        let log = killed.kill().await;
        assert!(!log.contains("panic"), "{log}");
        // In the gap: one request at each follower, which waits for the next owner.
        let gap: Vec<_> = replicas
            .iter()
            .map(|(at, follower)| {
                let job = fleet.upstream.mock.add_job(JobPlan::new().id(format!("gap_{round}_{at}")));
                let accepted = Arc::clone(&fleet.accepted);
                let request = follower.http.post(format!("{}/v1/watches", follower.url));
                tokio::spawn(async move {
                    let answer = request.json(&json!({"job_id": job})).send().await.unwrap();
                    assert_eq!(answer.status(), 202, "{}", answer.text().await.unwrap());
                    accepted.lock().unwrap().push(job);
                    begun.elapsed()
                })
            })
            .collect();
        // The other end of a stream hears that it is over.
        let ended = async { while let Ok(Some(_)) = stream.chunk().await {} };
        tokio::time::timeout(TAKE_OVER, ended).await.expect("the stream ends");
        let polled = eventually("the next owner polls", || async {
            fleet.upstream.since(begun).iter().find(|got| got.by != owner).map(|got| got.at)
        });
        to_poll.push(polled.await - begun);
        for request in gap {
            to_answer.push(request.await.unwrap());
        }
        replicas.insert(owner, fleet.start(owner).await);
        ready(&replicas[&owner]).await;
    }
    shown("from kill -9 to the next poll", to_poll.clone());
    shown("from kill -9 to 202 at a follower", to_answer.clone());
    assert!(to_poll.iter().chain(&to_answer).all(|took| *took < TAKE_OVER), "{to_poll:?} {to_answer:?}");
    agreed(replicas.values()).await;
    replicas[&0].forget("open").await;
    fleet.check(load, &replicas[&1]).await;
    let mut active = 0;
    for replica in replicas.values() {
        active += usize::from(is_active(replica).await);
    }
    assert_eq!(active, 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn an_owner_that_was_stopped_changes_and_sends_nothing_when_it_wakes() {
    let server = Postgres::shared();
    let fleet = Fleet::new(&server.url(&server.database()), QUICK).await;
    let replicas = fleet.start_all().await;
    replicas[0].watch(&endless(&fleet, "open")).await;
    let load = fleet.load(Duration::from_millis(20));
    fleet.accepts(20).await;
    // For less than a term: nothing changes hands.
    replicas[0].signal(Signal::STOP);
    tokio::time::sleep(TERM / 4).await;
    replicas[0].signal(Signal::CONT);
    fleet.accepts(20).await;
    assert_eq!(owner(&replicas[1]).await, 0);
    let by_others = fleet.upstream.got().iter().filter(|got| got.by != 0).count();
    assert_eq!(by_others, 0, "nobody else polls");
    // For three terms.
    let pid = replicas[0].pid();
    replicas[0].signal(Signal::STOP);
    let stopped = Instant::now();
    tokio::time::sleep(TERM * 3).await;
    let next = owner(&replicas[1]).await;
    assert_ne!(next, 0);
    fleet.accepts(20).await;
    let woken = Instant::now();
    replicas[0].signal(Signal::CONT);
    eventually("it passes requests on", || async {
        let log = replicas[0].log();
        (log.contains("beginning again") && is_ready(&replicas[0]).await && !is_active(&replicas[0]).await)
            .then_some(())
    })
    .await;
    assert_eq!(replicas[0].pid(), pid);
    fleet.accepts(20).await;
    let late: Vec<_> = fleet
        .upstream
        .since(stopped + Duration::from_secs(1))
        .into_iter()
        .filter(|got| got.by == 0)
        .collect();
    assert!(
        late.is_empty(),
        "{} requests after it was stopped, woken after {:?}: {late:?}",
        late.len(),
        woken - stopped
    );
    assert_eq!(agreed(&replicas).await, next);
    let job = fleet.upstream.mock.add_job(JobPlan::new().id("after"));
    replicas[0].watch(&job).await;
    replicas[0].finished(&job).await;
    replicas[0].forget("open").await;
    fleet.check(load, &replicas[0]).await;
    end(replicas).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn an_owner_that_ends_leaves_its_work_within_seconds() {
    let server = Postgres::shared();
    let fleet = Fleet::new(&server.url(&server.database()), QUICK).await;
    let mut replicas = fleet.start_all().await;
    replicas[0].watch(&endless(&fleet, "open")).await;
    let load = fleet.load(Duration::from_millis(20));
    let mut took = Vec::new();
    // Each in its turn, and each is started again.
    for _ in 0..4 {
        fleet.accepts(20).await;
        let owner = owner(&replicas[0]).await;
        let begun = Instant::now();
        replicas[owner].signal(Signal::TERM);
        let polled = eventually("the next owner polls", || async {
            fleet.upstream.since(begun).iter().find(|got| got.by != owner).map(|got| got.at)
        });
        took.push(polled.await - begun);
        replicas[owner].gone().await;
        let ended = std::mem::replace(&mut replicas[owner], fleet.start(owner).await);
        let (status, log) = ended.ended().await;
        assert_eq!(status, Some(0), "{log}");
        assert!(!log.contains("panic") && !log.contains("ERROR"), "{log}");
        ready(&replicas[owner]).await;
    }
    shown("from SIGTERM to the next poll", took.clone());
    assert!(took.iter().all(|took| *took < TERM), "{took:?}");
    agreed(&replicas).await;
    replicas[0].forget("open").await;
    fleet.check(load, &replicas[2]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn connections_that_the_server_ends_and_a_row_that_is_held_cost_nothing() {
    let server = Postgres::shared();
    let database = server.database();
    let fleet = Fleet::new(&server.url(&database), QUICK).await;
    let replicas = fleet.start_all().await;
    replicas[0].watch(&endless(&fleet, "open")).await;
    let load = fleet.load(Duration::from_millis(20));
    let begun = Instant::now();
    let mut ended = 0;
    while begun.elapsed() < Duration::from_secs(8) {
        let sql = format!(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = '{database}' \
             and application_name = 'tidings'"
        );
        ended += tokio::task::spawn_blocking(move || server.sql("postgres", &sql))
            .await
            .unwrap()
            .parse::<u32>()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(ended > 20, "{ended} connections ended");
    fleet.accepts(20).await;
    println!("{ended} connections ended; the owner is r{}", owner(&replicas[1]).await);
    // Another session holds the row of the owner for longer than a term.
    let hold = "begin; select 1 from tidings.holder for update; select pg_sleep(3600)";
    let mut holding = server.program("psql").args(["-X", "-q", "-d", &database, "-c", hold]).spawn().unwrap();
    let sleeping = format!("from pg_stat_activity where datname = '{database}' and wait_event = 'PgSleep'");
    eventually("the row is held", || async {
        (server.sql("postgres", &format!("select count(*) {sleeping}")) == "1").then_some(())
    })
    .await;
    let held = Instant::now();
    tokio::time::sleep(TERM + Duration::from_secs(1)).await;
    let quiet = Instant::now();
    tokio::time::sleep(TERM).await;
    let while_held = fleet.upstream.since(quiet).len();
    assert_eq!(while_held, 0, "requests without a term, {:?} after the row was held", held.elapsed());
    server.sql("postgres", &format!("select pg_terminate_backend(pid) {sleeping}"));
    assert!(!holding.wait().unwrap().success(), "it held the row until it was ended");
    fleet.accepts(20).await;
    let next = agreed(&replicas).await;
    println!("after a row that was held the owner is r{next}");
    replicas[0].forget("open").await;
    fleet.check(load, &replicas[next]).await;
    end(replicas).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn a_database_that_restarts_is_away_or_is_full_loses_nothing() {
    let mut server = Postgres::start(&[]);
    let database = server.database();
    let fleet = Fleet::new(&server.url(&database), QUICK).await;
    let replicas = fleet.start_all().await;
    replicas[0].watch(&endless(&fleet, "open")).await;
    let load = fleet.load(Duration::from_millis(20));
    for mode in ["fast", "immediate"] {
        fleet.accepts(20).await;
        server.stop(mode);
        server.start_again();
    }
    fleet.accepts(20).await;
    // Away for longer than a term: nobody polls, and everybody refuses.
    server.stop("immediate");
    tokio::time::sleep(TERM + Duration::from_secs(1)).await;
    let quiet = Instant::now();
    for replica in &replicas {
        let job = fleet.upstream.mock.add_job(JobPlan::new());
        let (status, problem) = eventually("it says what is away", || refused(replica, &job)).await;
        assert_eq!((status, problem.as_str()), (503, "store_unavailable"));
        eventually("it lives", || is_alive(replica)).await;
        eventually("it is not ready", || async { (!is_ready(replica).await).then_some(()) }).await;
    }
    tokio::time::sleep(TERM / 2).await;
    let while_away = fleet.upstream.since(quiet).len();
    server.start_again();
    assert_eq!(while_away, 0, "requests without a term");
    fleet.accepts(20).await;
    owner(&replicas[1]).await;
    // No room: not for the records, and not for the row of the owner either.
    let refuse = |table: &str| {
        format!(
            "create or replace function public.full() returns trigger language plpgsql as $$ begin \
             raise exception 'could not extend file: No space left on device' using errcode = '53100'; end $$; \
             create trigger no_room before insert or update on tidings.{table} for each statement \
             execute function public.full()"
        )
    };
    for table in ["records", "holder"] {
        server.sql(&database, &refuse(table));
        eventually("registrations are refused", || async {
            let job = fleet.upstream.mock.add_job(JobPlan::new());
            let (status, problem) = refused(&replicas[2], &job).await?;
            [(507, "disk_full"), (503, "store_unavailable")]
                .contains(&(status, problem.as_str()))
                .then_some(())
        })
        .await;
        tokio::time::sleep(TERM + Duration::from_secs(2)).await;
        for replica in &replicas {
            eventually("it goes on", || is_alive(replica)).await;
        }
        server.sql(&database, &format!("drop trigger no_room on tidings.{table}"));
        fleet.accepts(20).await;
    }
    let next = agreed(&replicas).await;
    replicas[0].forget("open").await;
    fleet.check(load, &replicas[next]).await;
    end(replicas).await;
}

/// The requests of the budget, and at once.
const RATE: u32 = 20;
const BURST: u32 = RATE / 10;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn the_budget_holds_in_every_second_whatever_becomes_of_the_replicas() {
    let (server, seed) = (Postgres::shared(), Seed::new());
    let mut rng = StdRng::seed_from_u64(seed.0);
    let source = format!(
        "max_requests_per_second = {RATE}\nnot_found_grace = \"5s\"\n\
         [sources.retab.polling]\nstrategy = \"fixed\"\ninterval = \"500ms\"\nmin_interval = \"20ms\"\n"
    );
    let fleet = Fleet::new(&server.url(&server.database()), &source).await;
    let mut replicas = fleet.start_all().await;
    // More than the budget can poll.
    let endless: Vec<_> = (0..60).map(|n| endless(&fleet, &format!("open_{n}"))).collect();
    for job in &endless {
        replicas[1].watch(job).await;
    }
    let (load, pulse) = (fleet.load(Duration::from_secs(2)), Pulse::start());
    let (length, begun) = (Duration::from_secs(given("TIDINGS_BUDGET_SECONDS", 60)), Instant::now());
    let mut done = BTreeMap::<&str, usize>::new();
    while begun.elapsed() < length {
        tokio::time::sleep(Duration::from_millis(rng.random_range(500..4000))).await;
        let at = owner(&replicas[rng.random_range(0..REPLICAS)]).await;
        let what = ["kill", "kill", "stop", "pause", "terminate"][rng.random_range(0..5)];
        *done.entry(what).or_default() += 1;
        match what {
            "kill" => {
                let at_once = rng.random_bool(0.5);
                replicas[at].signal(Signal::KILL);
                replicas[at].gone().await;
                if !at_once {
                    let other = (at + 1) % REPLICAS;
                    eventually("another one owns the work", || async {
                        let all = replicas_with_work(&replicas[other]).await;
                        all.is_some_and(|all| all != [format!("r{at}")] && !all.is_empty()).then_some(())
                    })
                    .await;
                }
                replicas[at] = fleet.start(at).await;
            }
            "terminate" => {
                replicas[at].signal(Signal::TERM);
                replicas[at].gone().await;
                let ended = std::mem::replace(&mut replicas[at], fleet.start(at).await);
                assert_eq!(ended.ended().await.0, Some(0));
            }
            "stop" => {
                replicas[at].signal(Signal::STOP);
                tokio::time::sleep(TERM * 3).await;
                replicas[at].signal(Signal::CONT);
            }
            _ => {
                replicas[at].signal(Signal::STOP);
                tokio::time::sleep(Duration::from_millis(rng.random_range(100..9000))).await;
                replicas[at].signal(Signal::CONT);
            }
        }
        ready(&replicas[at]).await;
    }
    let arrived: Vec<_> = fleet.upstream.got().iter().map(|got| got.at).collect();
    let most = pulse.kept_to(&arrived, RATE.into(), BURST.into());
    println!(
        "{} requests in {:.0?}, at most {most} in any second, with a budget of {RATE} and {BURST} at once: {done:?}",
        arrived.len(),
        begun.elapsed()
    );
    agreed(&replicas).await;
    for job in &endless {
        replicas[0].forget(job).await;
    }
    fleet.check(load, &replicas[0]).await;
}

async fn replicas_with_work(asked: &Process) -> Option<Vec<String>> {
    let all = replicas(asked).await?;
    Some(all.into_iter().filter(|(_, units)| !units.is_empty()).map(|(name, _)| name).collect())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn what_an_operator_gets_wrong_is_told() {
    let server = Postgres::shared();
    let name = server.database();
    let database = server.url(&name);
    let fleet = Fleet::new(&database, QUICK).await;
    // Nothing is started with these.
    for (more, flags, said) in [
        ("advertise = \"not a URL\"\n", &[][..], "store.advertise"),
        ("", &["--standby"], "store.type is postgres"),
        ("replica = \" \"\n", &[], "store.replica"),
    ] {
        fleet.configure(0, &database, QUICK, more);
        if more.starts_with("replica") {
            let file = fleet.folders[0].path().join("tidings.toml");
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::write(file, text.replacen("replica = \"r0\"\n", "", 1)).unwrap();
        }
        let ended =
            once(fleet.folders[0].path(), &[&["run", "--listen", "127.0.0.1:0"], flags].concat()).await;
        let errors = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(2), "{errors}");
        assert!(errors.contains(said), "{said}: {errors}");
    }
    // The owner cannot be reached: it says an address where nobody listens.
    let nowhere = free_addresses().remove(0);
    fleet.configure(0, &database, QUICK, &format!("advertise = \"http://{nowhere}\"\n"));
    let first = fleet.start(0).await;
    ready(&first).await;
    let again = once(fleet.folders[0].path(), &["run", "--listen", "127.0.0.1:0"]).await;
    assert_eq!(again.status.code(), Some(1), "{}", show(&again));
    assert!(String::from_utf8_lossy(&again.stderr).contains("is in use by"), "{}", show(&again));
    let second = fleet.start(1).await;
    ready(&second).await;
    let (status, problem) = second.get("/v1/watches").await;
    assert_eq!((status, &problem["code"]), (503, &json!("no_owner")), "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("r0") && detail.contains(&nowhere) && detail.contains("store.advertise"),
        "{detail}"
    );
    first.terminate().await;
    eventually("the second owns the work", || async { is_active(&second).await.then_some(()) }).await;
    // The owner says no address at all.
    let socket = fleet.folders[2].path().join("s");
    let mut command = binary();
    command
        .args(["run", "--listen", &format!("unix:{}", socket.display())])
        .current_dir(fleet.folders[2].path());
    let mut third = Process::launch(command);
    third.listening().await;
    second.terminate().await;
    // A process that starts would be faster.
    let holder = "select name from tidings.holder where renewed_at > '-infinity'";
    eventually("the third owns the work", || async { (server.sql(&name, holder) == "r2").then_some(()) })
        .await;
    let first = fleet.start(0).await;
    let (status, problem) = eventually("the third is known", || async {
        let (status, problem) = first.get("/v1/watches").await;
        (problem["detail"].as_str()?.contains("says no address")).then_some((status, problem))
    })
    .await;
    assert_eq!((status, &problem["code"]), (503, &json!("no_owner")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("r2"), "{problem}");
    // A copy of a folder with its configuration: the same name, and not the same replica.
    let copied = tempfile::tempdir().unwrap();
    for name in ["tidings.toml", "data/identity"] {
        let to = copied.path().join(name);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(fleet.folders[0].path().join(name), to).unwrap();
    }
    let copy = Process::start(copied.path(), &[]).await;
    eventually("it says so", || async {
        copy.log().contains("another live replica has this name").then_some(())
    })
    .await;
    assert_eq!(replicas_of(&first).await, ["r0", "r2"]);
    let (status, log) = third.terminate().await;
    assert_eq!(status, Some(0), "{log}");
    eventually("the first owns the work", || async { is_active(&first).await.then_some(()) }).await;
    assert!(!is_active(&copy).await);
    // It takes its place once the name is free.
    first.kill().await;
    eventually("the copy owns the work", || async { is_active(&copy).await.then_some(()) }).await;
    assert_eq!(copy.terminate().await.0, Some(0));
}
