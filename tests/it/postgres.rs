//! One process over PostgreSQL: nothing that was acknowledged is lost, and every job has one event, whatever becomes of the process
//! and of the database. The tests need a server; `.ci/run` has one.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tidings::{
    mock::{JobPlan, Mock},
    util::units::Size,
};

use crate::harness::{Postgres, Process, Receiver, Reply, eventually, http, mock, once, show, write_config};

/// Callers that register at the same time, and how many jobs each brings.
const CALLERS: usize = 4;
const JOBS: usize = 60;

/// A daemon's folder, its upstream, its receiver, and what was acknowledged.
struct Scene {
    mock: Arc<Mock>,
    receiver: Receiver,
    folder: tempfile::TempDir,
    accepted: Arc<Mutex<Vec<String>>>,
    /// Where the daemon listens now.
    url: Arc<Mutex<String>>,
    is_over: Arc<AtomicBool>,
}

impl Scene {
    async fn new(database: &str) -> Self {
        let (mock, receiver) = (Arc::new(mock().await), Receiver::start().await);
        let folder = tempfile::tempdir().unwrap();
        let sinks = format!(
            "[sinks.app]\ntype = \"webhook\"\nurl = \"{}\"\nretry = {{ schedule = [{}, \"1m\"], jitter = 0.2 }}\n",
            receiver.url(),
            ["\"30ms\""; 20].join(", "),
        );
        configure(folder.path(), &mock.base_url(), database, &sinks);
        let (accepted, url, is_over) = (Arc::default(), Arc::default(), Arc::default());
        Self { mock, receiver, folder, accepted, url, is_over }
    }

    async fn start(&self) -> Process {
        let process = Process::run(self.folder.path(), &[]).await;
        self.url.lock().unwrap().clone_from(&process.url);
        process
    }

    /// Registers jobs until all of them are acknowledged, whatever it takes.
    fn register(&self) -> Vec<tokio::task::JoinHandle<()>> {
        // Some answers are failures, so that retries are under way as well.
        self.receiver.then((0..20).map(|_| Reply::status(503)));
        let caller = |caller: usize| {
            let (http, mock, accepted) = (http(), Arc::clone(&self.mock), Arc::clone(&self.accepted));
            let url = Arc::clone(&self.url);
            tokio::spawn(async move {
                for n in 0..JOBS {
                    let size = Size(if n % 10 == 0 { 400_000 } else { 500 });
                    let lasting = Duration::from_millis(10 * (n % 40) as u64);
                    let plan = JobPlan::new().id(format!("job_{caller}_{n}")).lasting(lasting).size(size);
                    let job = mock.add_job(plan);
                    loop {
                        let to = format!("{}/v1/watches", url.lock().unwrap());
                        match http.post(to).json(&json!({"job_id": job})).send().await {
                            Ok(answer) if answer.status().is_success() => break,
                            Ok(answer) => assert_eq!(answer.status().as_u16(), 503),
                            Err(_) => {}
                        }
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    accepted.lock().unwrap().push(job);
                }
            })
        };
        (0..CALLERS).map(caller).collect()
    }

    /// Waits until nothing is left to do, and holds what the receiver got against what was acknowledged.
    async fn check(&self, process: &Process) {
        let accepted = self.accepted.lock().unwrap().clone();
        for open in ["watches?phase=watching", "watches?phase=fetching", "deliveries?state=pending"] {
            eventually(&format!("no more {open}"), || async {
                let (status, page) = process.get(&format!("/v1/{open}")).await;
                (status == 200 && page["data"].as_array().unwrap().is_empty()).then_some(())
            })
            .await;
        }
        let mut events: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let requests = self.receiver.requests();
        for request in &requests {
            let job = request.json()["job_id"].as_str().unwrap().to_owned();
            let data = [b"\"data\":".as_slice(), &self.mock.full_body(&job).unwrap(), b"}"].concat();
            assert!(request.body.ends_with(&data), "{job} at the receiver");
            events.entry(job).or_default().insert(request.header("webhook-id").to_owned());
        }
        for job in &accepted {
            let ids = events.get(job).unwrap_or_else(|| panic!("{job} never reached the receiver"));
            assert_eq!(ids.len(), 1, "{job}: {ids:?}");
        }
        println!(
            "{} jobs acknowledged, 0 lost, one event id each; {} requests",
            accepted.len(),
            requests.len()
        );
        assert_eq!(accepted.len(), CALLERS * JOBS);
    }

    async fn sound(&self) {
        let sound = once(self.folder.path(), &["store", "check", "--hashes"]).await;
        assert_eq!(sound.status.code(), Some(0), "{}", show(&sound));
    }
}

fn configure(folder: &Path, upstream: &str, database: &str, more: &str) {
    write_config(folder, upstream, more);
    let file = folder.join("tidings.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let store = format!("[store]\ntype = \"postgres\"\nurl = \"{database}\"\n");
    std::fs::write(file, text.replacen("[store]\n", &store, 1)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn a_process_that_is_killed_again_and_again_loses_nothing() {
    let server = Postgres::shared();
    let scene = Scene::new(&server.url(&server.database())).await;
    let mut process = scene.start().await;
    let callers = scene.register();
    for round in 0..8 {
        tokio::time::sleep(Duration::from_millis(100 + 70 * round)).await;
        let log = process.kill().await;
        assert!(!log.contains("panic"), "{log}");
        process = scene.start().await;
    }
    for caller in callers {
        caller.await.unwrap();
    }
    scene.check(&process).await;
    scene.sound().await;
    let (status, log) = process.terminate().await;
    assert_eq!(status, Some(0), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn connections_that_the_server_ends_cost_nothing() {
    let server = Postgres::shared();
    let database = server.database();
    let scene = Scene::new(&server.url(&database)).await;
    let process = scene.start().await;
    let callers = scene.register();
    let is_over = Arc::clone(&scene.is_over);
    let ending = tokio::task::spawn_blocking(move || {
        let mut ended = 0;
        while !is_over.load(Ordering::SeqCst) {
            let sql = format!(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = '{database}' \
                 and application_name = 'tidings'"
            );
            ended += server.sql("postgres", &sql).parse::<u32>().unwrap();
            std::thread::sleep(Duration::from_millis(60));
        }
        ended
    });
    for caller in callers {
        caller.await.unwrap();
    }
    scene.is_over.store(true, Ordering::SeqCst);
    let ended = ending.await.unwrap();
    println!("{ended} connections ended");
    assert!(ended > 10, "{ended}");
    scene.check(&process).await;
    scene.sound().await;
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn a_database_that_crashes_under_load_loses_nothing() {
    let mut server = Postgres::start(&[]);
    let scene = Scene::new(&server.url(&server.database())).await;
    let process = scene.start().await;
    let callers = scene.register();
    for mode in ["immediate", "fast", "immediate"] {
        tokio::time::sleep(Duration::from_millis(400)).await;
        server.stop(mode);
        eventually("it is not ready", || async { (process.get("/readyz").await.0 == 503).then_some(()) })
            .await;
        assert_eq!(process.get("/healthz").await.0, 200);
        server.start_again();
        eventually("it is ready", || async { (process.get("/readyz").await.0 == 200).then_some(()) }).await;
    }
    for caller in callers {
        caller.await.unwrap();
    }
    scene.check(&process).await;
    scene.sound().await;
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn a_daemon_waits_for_a_database_that_is_away_at_its_start() {
    let mut server = Postgres::start(&[]);
    let scene = Scene::new(&server.url(&server.database())).await;
    server.stop("fast");
    let process = Process::start(scene.folder.path(), &[]).await;
    let (status, answer) = process.get("/readyz").await;
    assert_eq!((status, process.get("/healthz").await.0), (503, 200), "{answer}");
    let job = scene.mock.add_job(JobPlan::new());
    let (status, problem) = process.post("/v1/watches", &json!({"job_id": job})).await;
    assert_eq!((status, &problem["code"]), (503, &json!("store_unavailable")), "{problem}");
    server.start_again();
    eventually("it is ready", || async { (process.get("/readyz").await.0 == 200).then_some(()) }).await;
    process.watch(&job).await;
    process.until(&job, "is done", |watch| watch["phase"] == "done").await;
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn a_database_that_cannot_be_used_ends_the_start_with_the_way_out() {
    let server = Postgres::shared();
    let (folder, held) = (tempfile::tempdir().unwrap(), server.database());
    let run = async |url: &str, args: &[&str]| {
        configure(folder.path(), "http://127.0.0.1:9", url, "");
        let output = once(folder.path(), &[&["run", "--listen", "127.0.0.1:0"], args].concat()).await;
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let scene = Scene::new(&server.url(&held)).await;
    let process = scene.start().await;
    let foreign = server.database();
    server.sql(&foreign, "create schema tidings; create table tidings.version (x text)");
    // A run that ends by itself cannot wait as a replica.
    let (status, log) = run(&server.url(&held), &["--once", "--watch", "job_1"]).await;
    assert_eq!(status, Some(2), "{log}");
    assert!(log.contains("held by another tidings"), "{log}");
    for (url, expected) in [
        (server.url("nowhere"), "does not exist"),
        (server.url(&foreign), "give tidings a database of its own"),
        ("mysql://me:sesame@db/x".to_owned(), "postgres://USER"),
        (format!("{}?sslmode=never", server.url(&held)), "sslmode"),
    ] {
        let (status, log) = run(&url, &[]).await;
        assert_eq!(status, Some(2), "{expected}: {log}");
        assert!(log.contains(expected) && !log.contains("sesame"), "{expected}: {log}");
    }
    assert_eq!(process.terminate().await.0, Some(0));
    // A command waits for nothing, and a database that is away is no mistake of its caller.
    for (url, status) in [("postgres://me@127.0.0.1:9/x".to_owned(), 1), (server.url("nowhere"), 2)] {
        configure(folder.path(), "http://127.0.0.1:9", &url, "");
        for command in ["check", "stats"] {
            let output = once(folder.path(), &["store", command]).await;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(status), "{said}");
            assert!(said.contains("\nhint: "), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn a_folder_moves_into_a_database_and_back() {
    let server = Postgres::shared();
    let scene = Scene::new(&server.url(&server.database())).await;
    let path = scene.folder.path();
    let store = async |args: &[&str]| {
        let output = once(path, &[&["store"], args].concat()).await;
        assert_eq!(output.status.code(), Some(0), "{}", show(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // A daemon on a folder, of which one delivery waits.
    let sled = path.join("sled");
    std::fs::create_dir(&sled).unwrap();
    let sink = format!(
        "[sinks.app]\ntype = \"webhook\"\nurl = \"{}\"\nretry = {{ schedule = [\"1h\"] }}\n",
        scene.receiver.url()
    );
    write_config(&sled, &scene.mock.base_url(), &sink);
    let process = Process::run(&sled, &[]).await;
    let (done, waits) =
        (scene.mock.add_job(JobPlan::new()), scene.mock.add_job(JobPlan::new().size(Size(700_000))));
    process.watch(&done).await;
    process.until(&done, "is done", |watch| watch["phase"] == "done").await;
    scene.receiver.always(Reply::status(503));
    process.watch(&waits).await;
    process.until(&waits, "is delivering", |watch| watch["phase"] == "delivering").await;
    assert_eq!(process.terminate().await.0, Some(0));
    let data = sled.join("data");
    store(&["export", "first.jsonl", "--data-dir", data.to_str().unwrap()]).await;
    store(&["import", "first.jsonl"]).await;
    let stats: Value = serde_json::from_str(&store(&["stats", "-o", "json"]).await).unwrap();
    assert_eq!((&stats["events"], &stats["jobs"]), (&json!(2), &json!(2)), "{stats}");
    store(&["check", "--hashes"]).await;
    store(&["export", "second.jsonl"]).await;
    store(&["import", "second.jsonl", "--data-dir", "back"]).await;
    store(&["check", "--hashes", "--data-dir", "back"]).await;
    store(&["export", "third.jsonl", "--data-dir", "back"]).await;
    let records = |file: &str| -> Vec<String> {
        let text = std::fs::read_to_string(path.join(file)).unwrap();
        // Not the names of what tells a damaged file from a new one.
        let kept =
            text.lines().filter(|line| !line.contains("\"key\":\"m:") && !line.contains("tidings_export"));
        let mut kept: Vec<String> = kept.map(str::to_owned).collect();
        kept.pop();
        kept.sort();
        kept
    };
    assert!(records("first.jsonl") == records("second.jsonl"));
    assert!(records("first.jsonl") == records("third.jsonl"));
    // The database goes on where the folder stopped.
    scene.receiver.always(Reply::status(204));
    let process = scene.start().await;
    let (_, page) = process.get("/v1/deliveries?state=pending").await;
    assert_eq!(page["data"].as_array().unwrap().len(), 1, "{page}");
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn a_poll_without_news_writes_nothing() {
    let server = Postgres::start(&[]);
    let database = server.database();
    let scene = Scene::new(&server.url(&database)).await;
    let process = scene.start().await;
    // Every one that changed a record. The statistics of the tables are seconds late.
    let commits = || server.sql(&database, "select commits from tidings.holder").parse::<u64>().unwrap();
    let wal = || {
        server.sql(&database, "select (pg_current_wal_insert_lsn() - '0/0')::bigint").parse::<u64>().unwrap()
    };
    let job = scene.mock.add_job(JobPlan::new().lasting(Duration::from_secs(3600)));
    process.watch(&job).await;
    // The first poll records that the job runs.
    process.until(&job, "was polled", |watch| watch["polls"].as_u64() > Some(3)).await;
    let polls = |watch: &Value| watch["polls"].as_u64().unwrap();
    let settled = eventually("nothing is written any more", || async {
        let before = commits();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        (commits() == before).then_some(before)
    })
    .await;
    let (_, watch) = process.get(&format!("/v1/watches/retab/{job}")).await;
    let before = polls(&watch);
    let watch = process.until(&job, "was polled often", |watch| polls(watch) >= before + 20).await;
    assert_eq!(commits(), settled, "{} polls", polls(&watch) - before);
    // What a whole job costs, once that one is gone.
    let removed =
        process.http.delete(format!("{}/v1/watches/retab/{job}", process.url)).send().await.unwrap();
    assert!(removed.status().is_success());
    let (commits_before, wal_before) = (commits(), wal());
    let callers = scene.register();
    for caller in callers {
        caller.await.unwrap();
    }
    scene.check(&process).await;
    let jobs = (CALLERS * JOBS) as u64;
    println!(
        "{} commits for {jobs} jobs, {} bytes of WAL a job, 40 KB of body among it; {} polls without news wrote nothing",
        commits() - commits_before,
        (wal() - wal_before) / jobs,
        polls(&watch) - before
    );
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn replicas_show_which_of_them_owns_the_work() {
    let server = Postgres::shared();
    let name = server.database();
    let database = server.url(&name);
    let (scene, other) = (Scene::new(&database).await, tempfile::tempdir().unwrap());
    let owner = scene.start().await;
    configure(other.path(), &scene.mock.base_url(), &database, "");
    let relay = Process::run(other.path(), &[]).await;
    let listed = async |url: &str| {
        let output = once(other.path(), &["--url", url, "replicas", "-o", "json"]).await;
        let list: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let units = |replica: &Value| replica["units"].as_array().unwrap().len();
        let mut units: Vec<usize> = list["data"].as_array().into_iter().flatten().map(units).collect();
        units.sort_unstable();
        units
    };
    for url in [&owner.url, &relay.url] {
        eventually("both are there", || async { (listed(url).await == [0, 4]).then_some(()) }).await;
    }
    let series = async |process: &Process| {
        let (_, text) = process.get_bytes("/metrics").await;
        let text = String::from_utf8(text).unwrap();
        let of_replicas = ["tidings_active", "tidings_lease", "tidings_replica", "tidings_passed"];
        let is_of_replicas = |line: &&str| of_replicas.iter().any(|start| line.starts_with(start));
        text.lines().filter(is_of_replicas).map(str::to_owned).collect::<Vec<_>>().join("\n")
    };
    let shown = series(&owner).await;
    for line in ["tidings_active 1", "tidings_lease_epoch 1", "tidings_replica_units 4"] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    assert!(shown.contains("tidings_lease_left_seconds ") && !shown.contains("passed"), "{shown}");
    assert_eq!(relay.get("/v1/watches").await.0, 200);
    let shown = series(&relay).await;
    let answered = r#"tidings_passed_on_requests_total{result="answered"} 1"#;
    for line in ["tidings_active 0", "tidings_lease_left_seconds 0", "tidings_replica_units 0", answered] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    // A phase without writes leaves nothing behind that takes none.
    let read_only = format!("alter database {name} set default_transaction_read_only = on");
    let ended = format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'");
    server.sql("postgres", &format!("{read_only}; {ended}"));
    let is = async |process: &Process, status: u16| {
        let answer = process.http.get(format!("{}/readyz", process.url)).send().await.ok()?;
        (answer.status() == status).then_some(())
    };
    for process in [&owner, &relay] {
        eventually("nobody owns the work", || is(process, 503)).await;
    }
    server.sql("postgres", &format!("alter database {name} reset default_transaction_read_only"));
    let fresh =
        "select count(*) from tidings.replicas where renewed_at > clock_timestamp() - interval '3 seconds'";
    eventually("both say that they live", || async { (server.sql(&name, fresh) == "2").then_some(()) }).await;
    // One that begins again listens on another port.
    eventually("the relay is ready", || is(&relay, 200)).await;
    let text = once(other.path(), &["--url", &relay.url, "status"]).await;
    assert!(String::from_utf8_lossy(&text.stdout).contains("shared  2 replicas"), "{}", show(&text));
    // It stops, and the other one has the work.
    assert_eq!(owner.terminate().await.0, Some(0));
    eventually("the other one owns the work", || async { (listed(&relay.url).await == [3]).then_some(()) })
        .await;
    let shown = series(&relay).await;
    assert!(shown.lines().any(|line| line == "tidings_active 1"), "{shown}");
    let (status, log) = relay.terminate().await;
    assert_eq!(status, Some(0), "{log}");
    for once in
        ["database=", "this replica waits", "listening", "this replica owns the work", "the next owner"]
    {
        assert_eq!(log.matches(once).count(), 1, "{once}: {log}");
    }
}
