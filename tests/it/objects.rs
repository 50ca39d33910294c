//! Large jobs in object storage: nothing that was acknowledged is lost, whatever becomes of the process and of the storage. The
//! tests need servers of PostgreSQL and S3; `.ci/run` has both.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tidings::{
    mock::{JobPlan, Mock},
    util::units::Size,
};
use tokio::process::Command;

use crate::harness::{
    Postgres, Process, Receiver, Reply, S3, Wire, binary, eventually, http, mock, write_config,
};

/// A daemon's folder, its upstream, its receiver and its bucket.
struct Scene {
    mock: Arc<Mock>,
    receiver: Receiver,
    folder: tempfile::TempDir,
    database: String,
    bucket: String,
    wire: Wire,
}

impl Scene {
    async fn new() -> Self {
        let (server, storage) = (Postgres::shared(), S3::shared());
        let (mock, receiver) = (Arc::new(mock().await), Receiver::start().await);
        let (database, bucket) = (server.database(), storage.bucket());
        let (folder, wire) = (tempfile::tempdir().unwrap(), Wire::to(storage.port()));
        let scene = Self { mock, receiver, folder, database, bucket, wire };
        scene.configure(&format!("s3://{}/prefix", scene.bucket));
        scene
    }

    fn configure(&self, bodies: &str) {
        let sinks = format!(
            "[sinks.app]\ntype = \"webhook\"\nurl = \"{}\"\nretry = {{ schedule = [{}, \"1m\"], jitter = 0.2 }}\n",
            self.receiver.url(),
            ["\"30ms\""; 20].join(", "),
        );
        write_config(self.folder.path(), &self.mock.base_url(), &sinks);
        let file = self.folder.path().join("tidings.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let url = Postgres::shared().url(&self.database);
        let store = format!("[store]\ntype = \"postgres\"\nurl = \"{url}\"\nbodies = \"{bodies}\"\n");
        std::fs::write(file, text.replacen("[store]\n", &store, 1)).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        command(self.folder.path(), self.wire.port(), args)
    }

    async fn start(&self) -> Process {
        let process = Process::spawn(self.command(&["run", "--listen", "127.0.0.1:0"])).await;
        eventually("it is ready", || async { (process.get("/readyz").await.0 == 200).then_some(()) }).await;
        process
    }

    async fn once(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = self.command(args).output().await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }

    fn large(&self) -> String {
        self.mock.add_job(JobPlan::new().size(Size(700_000)))
    }

    fn keys(&self) -> Vec<String> {
        S3::shared().keys(&self.bucket, "prefix/0")
    }

    /// The ids of the events of a job at the receiver, each with the whole job.
    fn events(&self, job: &str) -> BTreeSet<String> {
        let data = [b"\"data\":".as_slice(), &self.mock.full_body(job).unwrap(), b"}"].concat();
        let requests = self.receiver.requests().into_iter().filter(|request| request.json()["job_id"] == job);
        requests
            .map(|request| {
                assert!(request.body.ends_with(&data), "{job} at the receiver");
                request.header("webhook-id").to_owned()
            })
            .collect()
    }
}

fn command(folder: &Path, port: u16, args: &[&str]) -> Command {
    let mut command = binary();
    command
        .args(args)
        .current_dir(folder)
        .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"))
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "sesame");
    command
}

async fn is_done(process: &Process, job: &str) {
    process.until(job, "is done", |watch| watch["phase"] == "done").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers of PostgreSQL and S3; .ci/run has both"]
async fn a_process_that_is_killed_between_an_object_and_its_row_sends_one_event() {
    let scene = Scene::new().await;
    let process = scene.start().await;
    scene.wire.cut(true);
    let job = scene.large();
    process.watch(&job).await;
    process.until(&job, "has ended", |watch| watch["phase"] == "fetching").await;
    // No commit gets through while the object is stored.
    let (locked, database) = (Postgres::shared(), scene.database.clone());
    let lock = tokio::task::spawn_blocking(move || {
        locked.sql(&database, "begin; lock table tidings.records in share mode; select pg_sleep(4); commit");
    });
    eventually("the lock is held", || async {
        let sql = "select count(*) from pg_locks where mode = 'ShareLock' and granted and relation = \
                   'tidings.records'::regclass";
        (Postgres::shared().sql(&scene.database, sql) == "1").then_some(())
    })
    .await;
    scene.wire.cut(false);
    let stored =
        eventually("the object is there", || async { Some(scene.keys()).filter(|keys| !keys.is_empty()) })
            .await;
    process.kill().await;
    lock.await.unwrap();
    assert!(scene.events(&job).is_empty(), "its row is not there");
    let process = scene.start().await;
    is_done(&process, &job).await;
    assert_eq!((scene.keys(), scene.events(&job).len()), (stored, 1));
    assert_eq!(scene.once(&["store", "check", "--hashes"]).await.0, Some(0));
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers of PostgreSQL and S3; .ci/run has both"]
async fn kills_and_cut_lines_lose_nothing() {
    let scene = Scene::new().await;
    scene.receiver.then((0..10).map(|_| Reply::status(503)));
    let mut process = scene.start().await;
    let mut jobs = Vec::new();
    for round in 0..6_u64 {
        for n in 0..10 {
            let job =
                if n % 2 == 0 { scene.large() } else { scene.mock.add_job(JobPlan::new().size(Size(900))) };
            process.watch(&job).await;
            jobs.push(job);
        }
        tokio::time::sleep(Duration::from_millis(60 * round)).await;
        scene.wire.cut(round % 2 == 0);
        if round % 3 == 2 {
            let log = process.kill().await;
            assert!(!log.contains("panic"), "{log}");
            process = scene.start().await;
        }
    }
    scene.wire.cut(false);
    for job in &jobs {
        is_done(&process, job).await;
        assert_eq!(scene.events(job).len(), 1, "{job}");
    }
    println!("{} jobs acknowledged, 0 lost, one event id each", jobs.len());
    assert_eq!(scene.keys().len(), jobs.len() / 2);
    let (status, checked) = scene.once(&["store", "check", "--hashes"]).await;
    assert_eq!(status, Some(0), "{checked}");
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers of PostgreSQL and S3; .ci/run has both"]
async fn storage_that_is_away_holds_large_jobs_back_and_nothing_else() {
    let scene = Scene::new().await;
    let process = scene.start().await;
    let first = scene.large();
    process.watch(&first).await;
    is_done(&process, &first).await;
    scene.wire.cut(true);
    let (large, small) = (scene.large(), scene.mock.add_job(JobPlan::new()));
    process.watch(&large).await;
    process.watch(&small).await;
    is_done(&process, &small).await;
    let reasons = eventually("it says so", || async {
        let (status, ready) = process.get("/readyz").await;
        assert_eq!(status, 200, "{ready}");
        (ready["status"] == "degraded").then(|| ready["reasons"].clone())
    })
    .await;
    assert_eq!(reasons, json!(["bodies_unavailable"]));
    // What cannot be read now is not gone.
    let (status, problem) = process.get(&format!("/v1/watches/retab/{first}/job")).await;
    assert_eq!((status, &problem["code"]), (503, &json!("store_unavailable")), "{problem}");
    scene.wire.cut(false);
    is_done(&process, &large).await;
    eventually("it is ready", || async {
        (process.get("/readyz").await.1["status"] == "ready").then_some(())
    })
    .await;

    // A range of an answer.
    let id = format!("{}/v1/watches/retab/{large}/job", process.url);
    let part = http().get(&id).header("range", "bytes=300000-300009").send().await.unwrap();
    assert_eq!(part.status().as_u16(), 206);
    assert_eq!(part.bytes().await.unwrap()[..], scene.mock.full_body(&large).unwrap()[300_000..300_010]);

    // A missing object is the failure of its job alone.
    let key = scene.keys().into_iter().next_back().unwrap();
    assert_eq!(S3::shared().send("DELETE", &format!("/{}/{key}", scene.bucket), b"").0, 204);
    let missing = http().get(&id).send().await.unwrap();
    assert!(!missing.status().is_success(), "{}", missing.status());
    let intact = http().get(format!("{}/v1/watches/retab/{first}/job", process.url)).send().await.unwrap();
    assert_eq!(intact.bytes().await.unwrap(), scene.mock.full_body(&first).unwrap());
    let (_, ready) = process.get("/readyz").await;
    assert_eq!(ready["status"], "ready", "{ready}");
    let (status, checked) = scene.once(&["store", "check"]).await;
    assert!(status != Some(0) && checked.contains(&key), "{checked}");
    let (_, log) = process.terminate().await;
    for line in ["object storage failed", "object storage is back"] {
        assert!(log.contains(line), "{log}");
    }
    assert!(!log.contains("sesame"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers of PostgreSQL and S3; .ci/run has both"]
async fn a_place_that_cannot_be_used_ends_the_start_with_the_way_out() {
    let scene = Scene::new().await;
    for (bodies, expected) in [
        ("s3://not-a-bucket/prefix", "NoSuchBucket"),
        ("s3:///prefix", "it names no bucket"),
        ("s3://key:secret@jobs/prefix", "AWS_"),
        ("ftp://jobs/prefix", "it is no place for bodies"),
        ("az://jobs/prefix", "AZURE_"),
    ] {
        scene.configure(bodies);
        let (status, said) = scene.once(&["run", "--listen", "127.0.0.1:0"]).await;
        assert_eq!(status, Some(2), "{bodies}: {said}");
        assert!(said.contains(expected) && said.contains("hint: "), "{bodies}: {said}");
    }
    scene.configure(&format!("s3://{}/prefix", scene.bucket));
    let mut command = scene.command(&["run", "--listen", "127.0.0.1:0"]);
    let output = command.env_remove("AWS_ALLOW_HTTP").output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("hint: set AWS_ALLOW_HTTP=true"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers of PostgreSQL and S3; .ci/run has both"]
async fn wrong_credentials_end_the_start_and_hold_a_running_daemon_back() {
    let (scene, storage) = (Scene::new().await, S3::start());
    let (bucket, process) = (storage.bucket(), scene.start().await);
    assert_eq!(process.terminate().await.0, Some(0));
    scene.configure(&format!("s3://{bucket}/prefix"));
    let args = ["run", "--listen", "127.0.0.1:0"];
    let process = Process::spawn(command(scene.folder.path(), storage.port(), &args)).await;
    eventually("it is ready", || async { (process.get("/readyz").await.0 == 200).then_some(()) }).await;
    // From now on every key is compared with those of the accounts, of which there are none.
    assert_eq!(storage.send("POST", "/moto-api/reset-auth", b"0").0, 200);
    let job = scene.large();
    process.watch(&job).await;
    let details = eventually("it says so", || async {
        let (_, ready) = process.get("/readyz").await;
        (ready["status"] == "degraded").then(|| ready["details"].to_string())
    })
    .await;
    assert!(details.contains("InvalidAccessKeyId"), "{details}");
    assert_eq!(process.get(&format!("/v1/watches/retab/{job}")).await.1["phase"], Value::from("fetching"));
    assert_eq!(process.terminate().await.0, Some(0));
    let output = command(scene.folder.path(), storage.port(), &args).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("403 Forbidden: InvalidAccessKeyId") && said.contains("hint: "), "{said}");
    for name in ["check", "stats"] {
        let output = command(scene.folder.path(), storage.port(), &["store", name]).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("variables of the daemon that begin with AWS_"), "{said}");
    }
}
