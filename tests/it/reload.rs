//! The configuration changes while the daemon runs; and what else an operator asks of the process itself.

use std::{collections::BTreeMap, os::unix::fs::symlink, path::Path, time::Duration};

use rustix::process::Signal;
use serde_json::{Value, json};
use tidings::mock::JobPlan;
use tokio::net::UnixDatagram;

use crate::harness::{Home, Process, Receiver, Reply, binary, eventually, http, mock, show, write_config};

fn sink(name: &str, url: &str, more: &str) -> String {
    format!(
        "[sinks.{name}]\ntype = \"webhook\"\nurl = \"{url}\"\nretry = {{ schedule = [\"20ms\"] }}\n{more}\n"
    )
}

async fn reload(process: &Process) -> (u16, Value) {
    process.post("/v1/reload", &Value::Null).await
}

async fn metric(process: &Process, line: &str) -> Option<String> {
    let text = http().get(format!("{}/metrics", process.url)).send().await.ok()?.text().await.ok()?;
    text.lines().find_map(|found| found.strip_prefix(line)).map(|value| value.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_is_named_and_holds_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, one, two) = (mock().await, Receiver::start().await, Receiver::start().await);
    write_config(folder.path(), &mock.base_url(), &sink("app", &one.url(), ""));
    let process = Process::run(folder.path(), &[]).await;
    assert_eq!(reload(&process).await, (200, json!({"changed": [], "restart": []})));
    let more = format!(
        "{}[sinks.files]\ntype = \"disk\"\ndir = \"out\"\n[server]\ndrain = \"7s\"\n[log]\nlevel = \"debug\"\n",
        sink("app", &two.url(), "")
    );
    write_config(folder.path(), &mock.base_url(), &more);
    let (status, done) = reload(&process).await;
    assert_eq!(status, 200, "{done}");
    assert_eq!(
        done,
        json!({"changed": ["sinks.app", "sinks.files", "log.level"], "restart": ["server.drain"]})
    );
    let job = mock.add_job(JobPlan::new());
    process.watch(&job).await;
    process.finished(&job).await;
    assert_eq!((one.requests().len(), two.requests().len()), (0, 1));
    assert!(folder.path().join(format!("out/retab/{job}.json")).exists());
    let (status, log) = process.terminate().await;
    assert_eq!(status, Some(0));
    assert!(log.contains("server.drain") && log.contains(" DEBUG "), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_leaves_everything_as_it_is() {
    let receiver = Receiver::start().await;
    let home = Home::new(&sink("app", &receiver.url(), "")).await;
    let process = home.run().await;
    assert_eq!(metric(&process, "tidings_config_last_reload_successful").await.unwrap(), "1");
    home.configure(&sink("app", &receiver.url(), "evnts = []\n[sinks.x]\n"));
    let (status, problem) = reload(&process).await;
    assert_eq!((status, &problem["code"]), (422, &json!("invalid_configuration")), "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("evnts") && detail.contains("sinks.x"), "{detail}");
    process.signal(Signal::HUP);
    let counted = "tidings_config_reloads_total{result=\"refused\"}";
    eventually("both are counted", || async { (metric(&process, counted).await? == "2").then_some(()) })
        .await;
    assert_eq!(metric(&process, "tidings_config_last_reload_successful").await.unwrap(), "0");
    let (_, seen) = process.get("/v1/overview").await;
    let refused = &seen["problems"][0];
    assert_eq!((&refused["code"], &refused["subject"]["type"]), (&"reload_refused".into(), &"daemon".into()));
    assert!(refused["summary"].as_str().unwrap().contains("tidings.toml:"), "the first mistake: {refused}");
    let job = home.mock.add_job(JobPlan::new());
    process.watch(&job).await;
    process.finished(&job).await;
    assert_eq!(receiver.requests().len(), 1);
    // The command says the same, and a good file is taken again.
    let asked = home.once(&["--url", &process.url, "reload"]).await;
    assert_eq!(asked.status.code(), Some(1), "{}", show(&asked));
    home.configure("[sinks]\n");
    let asked = home.once(&["--url", &process.url, "reload"]).await;
    assert_eq!(String::from_utf8_lossy(&asked.stdout), "changed: sinks.app\n", "{}", show(&asked));
    assert_eq!(metric(&process, "tidings_config_last_reload_successful").await.unwrap(), "1");
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_and_a_sink_come_back_to_what_waits_for_them() {
    let receiver = Receiver::start().await;
    receiver.always(Reply::status(503));
    let patient = format!(
        "[sinks.app]\ntype = \"webhook\"\nurl = \"{}\"\nretry = {{ schedule = [\"20ms\", \"1h\"] }}\n",
        receiver.url()
    );
    let home = Home::new(&patient).await;
    let process = home.run().await;
    let job = home.mock.add_job(JobPlan::new());
    process.watch(&job).await;
    receiver.at_least(2).await;
    // Without the sink its delivery stays in sight; without the source its watches do.
    let other = "[sources.other]\ntype = \"custom\"\nbase_url = \"http://127.0.0.1:9\"\nstatus_path = \"/{id}\"\n\
                 status_at = [\"/s\"]\noutcomes = { completed = [\"x\"] }\n";
    std::fs::write(home.path().join("tidings.toml"), format!("[store]\npath = \"data\"\n[sinks]\n{other}"))
        .unwrap();
    let slow = home.mock.add_job(JobPlan::new().lasting(Duration::from_secs(3600)));
    process.watch(&slow).await;
    let (status, done) = reload(&process).await;
    assert_eq!((status, done["changed"].as_array().unwrap().len()), (200, 3), "{done}");
    let sinks: Value = eventually("the delivery waits for its sink", || async {
        let page: Value =
            http().get(format!("{}/v1/sinks", process.url)).send().await.ok()?.json().await.ok()?;
        let sink = page["data"].as_array()?.iter().find(|sink| sink["name"] == "app")?.clone();
        (sink["state"] == "not_configured").then_some(sink)
    })
    .await;
    assert_eq!(sinks["pending"], 1);
    home.mock.advance(Duration::from_secs(3600));
    receiver.always(Reply::status(204));
    let before = receiver.requests().len();
    home.configure(&sink("app", &receiver.url(), ""));
    assert_eq!(reload(&process).await.0, 200);
    assert_eq!(process.finished(&slow).await["phase"], "done");
    let (status, _) = process.post("/v1/deliveries/redeliver", &json!({"state": "pending"})).await;
    assert_eq!(status, 202);
    assert_eq!(process.finished(&job).await["phase"], "done");
    assert_eq!(receiver.requests().len(), before + 2);
    assert_eq!(process.terminate().await.0, Some(0));
}

/// Swaps `..data` as a kubelet does.
fn swap(folder: &Path, version: &str, text: &str) {
    let data = folder.join(version);
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("tidings.toml"), text).unwrap();
    symlink(version, folder.join("..tmp")).unwrap();
    std::fs::rename(folder.join("..tmp"), folder.join("..data")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_config_map_is_followed() {
    let (folder, mounted) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mock, receiver) = (mock().await, Receiver::start().await);
    write_config(folder.path(), &mock.base_url(), "");
    let text = std::fs::read_to_string(folder.path().join("tidings.toml")).unwrap();
    let text = text.replace("path = \"data\"", &format!("path = {:?}", folder.path().join("data")));
    swap(mounted.path(), "..1", &text);
    symlink("..data/tidings.toml", mounted.path().join("tidings.toml")).unwrap();
    let file = mounted.path().join("tidings.toml");
    let process = Process::run(folder.path(), &["--watch-config", "--config", file.to_str().unwrap()]).await;
    swap(mounted.path(), "..2", &format!("{text}{}", sink("app", &receiver.url(), "")));
    let applied = "tidings_config_reloads_total{result=\"ok\"}";
    let once = async || (metric(&process, applied).await? == "1").then_some(());
    eventually("the swap is noticed", once).await;
    let job = mock.add_job(JobPlan::new());
    process.watch(&job).await;
    process.finished(&job).await;
    assert_eq!(receiver.requests().len(), 1);
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_reloads_under_load_neither_lose_nor_double_a_delivery() {
    const RELOADS: usize = 200;
    /// That are registered during each.
    const JOBS: usize = 2;
    let receiver = Receiver::start().await;
    let home = Home::new("").await;
    // Each of them changes the sink that everything goes to, and every other one the source, too.
    let write = |round: usize| {
        let more = format!(
            "{}[sinks.now_and_then{}]\ntype = \"disk\"\ndir = \"out\"\nevents = [\"job.lost\"]\n",
            sink("app", &receiver.url(), &format!("max_in_flight = {}\n", 4 + round % 2)),
            round % 3
        );
        home.configure(&more);
        if round.is_multiple_of(2) {
            let path = home.path().join("tidings.toml");
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(path, text.replace("max_interval = \"100ms\"", "max_interval = \"90ms\""))
                .unwrap();
        }
    };
    write(0);
    let process = home.run().await;
    let url = process.url.clone();
    let jobs: Vec<String> = (0..RELOADS * JOBS).map(|_| home.mock.add_job(JobPlan::new())).collect();
    let client = http();
    let mut loads = Vec::new();
    for (round, jobs) in jobs.chunks(JOBS).enumerate() {
        let watches: Vec<Value> = jobs.iter().map(|job| json!({"job_id": job})).collect();
        let load = client.post(format!("{url}/v1/watches/batch")).json(&json!({"watches": watches})).send();
        loads.push(tokio::spawn(async move { assert_eq!(load.await.unwrap().status(), 200) }));
        write(round + 1);
        let answer = client.post(format!("{url}/v1/reload")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let done: Value = answer.json().await.unwrap();
        assert!(done["changed"].as_array().unwrap().contains(&json!("sinks.app")), "{done}");
    }
    for load in loads {
        load.await.unwrap();
    }
    for job in &jobs {
        assert_eq!(process.finished(job).await["phase"], "done");
    }
    let mut came: BTreeMap<String, usize> = BTreeMap::new();
    for request in receiver.requests() {
        *came.entry(request.json()["job_id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(came.len(), jobs.len());
    let doubled: Vec<_> = came.iter().filter(|(_, times)| **times != 1).collect();
    assert!(doubled.is_empty(), "{doubled:?}");
    let (status, log) = process.terminate().await;
    assert_eq!(status, Some(0));
    assert!(!log.contains("ERROR"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_ends_the_process_only_where_that_is_allowed() {
    let home = Home::new("").await;
    let process = home.run().await;
    let (status, problem) = process.post("/v1/quit", &Value::Null).await;
    assert_eq!((status, &problem["code"]), (404, &json!("quit_disabled")), "{problem}");
    assert_eq!(process.terminate().await.0, Some(0));
    // The old spellings stay.
    for word in ["shutdown", "quit"] {
        home.configure(&format!("[server]\n{word} = true\n"));
        let process = home.run().await;
        let asked = home.once(&["--url", &process.url, word]).await;
        assert_eq!(asked.status.code(), Some(0), "{}", show(&asked));
        assert_eq!(process.ended().await.0, Some(0));
        let process = home.run().await;
        assert_eq!(process.post(&format!("/v1/{word}"), &Value::Null).await.0, 202);
        assert_eq!(process.ended().await.0, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_can_wait_for_its_own_deliveries() {
    let receiver = Receiver::start().await;
    let home = Home::new(&sink("app", &receiver.url(), "")).await;
    let process = home.run().await;
    let wait = async |args: &[&str]| home.once(&[&["--url", &process.url, "wait"], args].concat()).await;
    let nothing = wait(&["--delivered"]).await;
    assert_eq!(nothing.status.code(), Some(0), "{}", show(&nothing));
    receiver.then([Reply::Hang]);
    let slow = home.mock.add_job(JobPlan::new());
    process.watch(&slow).await;
    receiver.at_least(1).await;
    // It has ended; its delivery hangs.
    let ended = wait(&[&slow]).await;
    assert_eq!(ended.status.code(), Some(0), "{}", show(&ended));
    let late = wait(&["--delivered", "--timeout", "1s"]).await;
    assert_eq!(late.status.code(), Some(1), "{}", show(&late));
    let quick = home.mock.add_job(JobPlan::new());
    process.watch(&quick).await;
    let delivered = wait(&["--delivered", &quick]).await;
    assert_eq!(delivered.status.code(), Some(0), "{}", show(&delivered));
    assert!(receiver.requests().iter().any(|request| request.json()["job_id"] == quick));
    process.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_is_told() {
    let home = Home::new("").await;
    let path = home.path().join("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut command = binary();
    command.args(["run", "--listen", "127.0.0.1:0"]).current_dir(home.path());
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "20000");
    let process = Process::spawn(command).await;
    let mut said = Vec::new();
    let mut hear = async |wanted: &str| {
        let heard = async {
            let mut buffer = [0; 256];
            while !said.iter().any(|word| word == wanted) {
                let length = socket.recv(&mut buffer).await.unwrap();
                said.push(String::from_utf8_lossy(&buffer[..length]).trim().to_owned());
            }
        };
        tokio::time::timeout(crate::harness::PATIENCE, heard).await.expect("it says so");
    };
    hear("READY=1").await;
    hear("WATCHDOG=1").await;
    process.signal(Signal::TERM);
    hear("STOPPING=1").await;
    assert_eq!(process.ended().await.0, Some(0));
}
