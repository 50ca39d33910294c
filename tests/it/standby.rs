//! Two processes on one folder: one works, the other waits and takes over, however the first one ended.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::json;
use tidings::mock::{Ending, JobPlan};
use tokio::net::UnixDatagram;

use crate::{
    crash::{delivered, register, settled},
    harness::{Home, PATIENCE, Process, Receiver, binary, eventually, http, show, together},
};

/// The longest time from the end of the active process to the first poll of the next one.
const TAKE_OVER: Duration = Duration::from_secs(5);

fn sink(url: &str) -> String {
    format!(
        "[sinks.app]\ntype = \"webhook\"\nurl = \"{url}\"\nretry = {{ schedule = [{}], jitter = 0.2 }}\n",
        ["\"30ms\""; 20].join(", ") + ", \"1m\""
    )
}

/// Starts a process that is to wait, and waits until it does.
async fn waiting(folder: &Path, args: &[&str]) -> Process {
    let process = Process::start(folder, &[&["--standby"], args].concat()).await;
    assert_eq!(readiness(&process).await, Some((503, "standby".to_owned())), "{}", process.log());
    process
}

/// The status of `/readyz`, as a number and as a word.
async fn readiness(process: &Process) -> Option<(u16, String)> {
    let answer = process.http.get(format!("{}/readyz", process.url)).send().await.ok()?;
    let status = answer.status().as_u16();
    let body: serde_json::Value = answer.json().await.ok()?;
    Some((status, body["status"].as_str()?.to_owned()))
}

async fn active(process: &Process) {
    eventually("it has taken over", || async {
        readiness(process).await.filter(|(status, _)| *status == 200)
    })
    .await;
}

async fn logged(process: &Process, text: &str) {
    eventually(text, || async { process.log().contains(text).then_some(()) }).await;
}

/// Every file of a folder: which one it is, when it changed, and how long it is.
fn files(folder: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, u64)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let data = entry.metadata().unwrap();
        found.insert(entry.path(), (data.ino(), data.ctime(), data.ctime_nsec(), data.len()));
        if data.is_dir() {
            found.append(&mut files(&entry.path()));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_is_followed_within_five_seconds_and_nothing_is_lost() {
    const ROUNDS: usize = 6;
    let receiver = Receiver::start().await;
    let home = Home::new(&sink(&receiver.url())).await;
    let mock = Arc::new(home.mock);
    let folder = tempfile::tempdir().unwrap();
    crate::harness::write_config(folder.path(), &mock.base_url(), &sink(&receiver.url()));
    let accepted: Arc<Mutex<Vec<String>>> = Arc::default();
    let client = http();
    // A job that never ends, so that somebody has something to poll.
    let open = mock.add_job(JobPlan::new().ending(Ending::Stuck));
    let mut process = Process::run(folder.path(), &["--standby"]).await;
    process.watch(&open).await;
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        let next = waiting(folder.path(), &[]).await;
        let callers: Vec<_> = (0..4)
            .map(|caller| {
                let plans = (0..40).map(|n| plan(round, caller, n)).collect();
                let (http, mock, accepted) = (client.clone(), Arc::clone(&mock), Arc::clone(&accepted));
                tokio::spawn(register(http, mock, process.url.clone(), plans, accepted))
            })
            .collect();
        let enough = accepted.lock().unwrap().len() + 10 * (round + 1);
        eventually("some are accepted", || async {
            (accepted.lock().unwrap().len() >= enough).then_some(())
        })
        .await;
        let begun = Instant::now();
        process.kill().await;
        logged(&next, "taking over").await;
        // Whatever the killed process had sent has arrived by now.
        let polled = mock.total();
        eventually("it polls", || async { (mock.total() > polled).then_some(()) }).await;
        took.push(begun.elapsed());
        active(&next).await;
        for caller in callers {
            caller.await.unwrap();
        }
        process = next;
    }
    println!("from the kill to the next poll: {took:?}");
    assert!(took.iter().all(|took| *took < TAKE_OVER), "{took:?}");
    process.forget(&open).await;
    settled(&client, &process.url).await;
    let (accepted, events) = (accepted.lock().unwrap().clone(), delivered(&receiver));
    assert!(accepted.len() > ROUNDS * 10, "{}", accepted.len());
    for job in &accepted {
        let watch = process.finished(job).await;
        assert_eq!((&watch["phase"], &watch["outcome"]), (&json!("done"), &json!("completed")), "{watch}");
        let ids = events.get(job).unwrap_or_else(|| panic!("{job} never reached the receiver"));
        assert_eq!(ids.iter().collect::<Vec<_>>(), [watch["event_id"].as_str().unwrap()], "{job}");
    }
    println!("{} jobs accepted over {ROUNDS} kills, {} requests", accepted.len(), receiver.requests().len());
    let (status, log) = process.terminate().await;
    assert_eq!(status, Some(0));
    assert!(!log.contains("panic") && !log.contains("ERROR"), "{log}");
}

/// A job that ends at once, soon, or after its process is gone.
fn plan(round: usize, caller: usize, n: usize) -> JobPlan {
    let lasting = Duration::from_millis((n as u64 * 37) % 700);
    JobPlan::new().id(format!("job_{round}_{caller}_{n}")).lasting(lasting)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_process_leaves_its_work_to_the_standby() {
    let receiver = Receiver::start().await;
    let home = Home::new(&sink(&receiver.url())).await;
    let first = home.run().await;
    let second = waiting(home.path(), &[]).await;
    assert!(second.log().contains(&format!("process {}", first.pid())), "{}", second.log());
    let done = home.mock.add_job(JobPlan::new());
    first.watch(&done).await;
    first.finished(&done).await;
    let open = home.mock.add_job(JobPlan::new().lasting(Duration::from_secs(1)));
    first.watch(&open).await;
    assert_eq!(first.terminate().await.0, Some(0));
    active(&second).await;
    assert_eq!(second.finished(&open).await["outcome"], "completed");
    assert_eq!(second.finished(&done).await["outcome"], "completed");
    assert_eq!(receiver.requests().len(), 2, "{}", show(&receiver.requests()));
    // The way back.
    let third = waiting(home.path(), &[]).await;
    assert_eq!(second.terminate().await.0, Some(0));
    active(&third).await;
    let (status, log) = third.terminate().await;
    assert_eq!(status, Some(0));
    assert_eq!(log.matches("waiting as a standby").count(), 1, "{log}");
    assert_eq!(log.matches("taking over").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_free_folder_is_used_at_once_and_of_two_one_waits() {
    let home = Home::new("").await;
    let alone = home.run_with(&["--standby"]).await;
    assert!(!alone.log().contains("standby"), "{}", alone.log());
    alone.terminate().await;
    let start = || Process::start(home.path(), &["--standby"]);
    let (one, other) = tokio::join!(start(), start());
    let (working, waiting) = eventually("one works and the other waits", || async {
        let status = (readiness(&one).await?.0, readiness(&other).await?.0);
        [(200, 503), (503, 200)].contains(&status).then_some(status)
    })
    .await;
    assert_eq!(working + waiting, 703);
    let (working, waiting) = if working == 200 { (one, other) } else { (other, one) };
    assert_eq!(readiness(&waiting).await, Some((503, "standby".to_owned())));
    working.kill().await;
    active(&waiting).await;
    assert_eq!(waiting.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_refuses_requests_touches_nothing_and_ends_at_once() {
    let home = Home::new("").await;
    let first = home.run().await;
    first.watch(&home.mock.add_job(JobPlan::new().ending(Ending::Stuck))).await;
    // A process that is stopped still holds the folder, and changes nothing in it meanwhile.
    first.signal(Signal::STOP);
    let (before, polls) = (files(&home.path().join("data")), home.mock.total());
    let standby = waiting(home.path(), &[]).await;
    let ask = async |method: &str, path: &str| {
        let url = format!("{}{path}", standby.url);
        let request = standby.http.request(method.parse().unwrap(), url).body("{}");
        request.header("content-type", "application/json").send().await.unwrap()
    };
    for (method, path) in [
        ("POST", "/v1/watches"),
        ("GET", "/v1/watches/retab/job_1/wait"),
        ("GET", "/v1/events"),
        ("GET", "/v1/config"),
        ("POST", "/v1/reload"),
        ("POST", "/v1/shutdown"),
        ("POST", "/hooks/retab"),
        ("GET", "/proxy/retab/v1/jobs/job_1"),
        ("GET", "/openapi.json"),
        ("GET", "/"),
    ] {
        let answer = ask(method, path).await;
        assert_eq!(answer.status(), 503, "{path}");
        assert_eq!(answer.headers()["retry-after"], "1", "{path}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{path}");
        let problem: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], "standby", "{problem}");
    }
    assert_eq!(ask("GET", "/healthz").await.status(), 200);
    let ready: serde_json::Value = ask("GET", "/readyz").await.json().await.unwrap();
    assert_eq!((&ready["status"], &ready["reasons"]), (&json!("standby"), &json!(["standby"])), "{ready}");
    let holder = format!("process {}", first.pid());
    assert!(ready["details"][0].as_str().unwrap().contains(&holder), "{ready}");
    let metrics = ask("GET", "/metrics").await.text().await.unwrap();
    for line in ["tidings_active 0", "tidings_store_healthy 1", "tidings_requests_total{source=\"retab\"} 0"]
    {
        assert!(metrics.lines().any(|there| there == line), "{line}\n{metrics}");
    }
    let healthy = home.once(&["--url", &standby.url, "healthcheck"]).await;
    assert_eq!(healthy.status.code(), Some(1), "{}", show(&healthy));
    let (status, log) = standby.terminate().await;
    assert_eq!(status, Some(0), "{log}");
    let killed = waiting(home.path(), &[]).await;
    killed.kill().await;
    assert_eq!((files(&home.path().join("data")), home.mock.total()), (before, polls));
    first.signal(Signal::CONT);
    eventually("it goes on", || async { (home.mock.total() > polls).then_some(()) }).await;
    let metrics =
        first.http.get(format!("{}/metrics", first.url)).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("\ntidings_active 1\n"), "{metrics}");
    assert_eq!(first.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_a_database_has_no_standby() {
    let home = Home::new("").await;
    let file = home.path().join("tidings.toml");
    let text = fs::read_to_string(&file).unwrap();
    let store = "[store]\ntype = \"postgres\"\nurl = \"postgres://me@127.0.0.1:9/x\"\n";
    fs::write(&file, text.replacen("[store]\n", store, 1)).unwrap();
    let ended = home.once(&["run", "--standby", "--listen", "127.0.0.1:0"]).await;
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert!(said.contains("store.type is postgres"), "{said}");
    assert!(said.contains("hint: start it without --standby"), "{said}");
    assert!(!home.path().join("data").exists(), "nothing was started");
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_found_before_the_wait() {
    let home = Home::new("").await;
    let first = home.run().await;
    let run = async |args: &[&str]| {
        let ended = home.once(&[&["run", "--standby"], args].concat()).await;
        (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
    };
    let (status, said) = run(&["--once", "--watch", "job_1"]).await;
    assert_eq!(status, Some(2), "{said}");
    let address = first.url.trim_start_matches("http://");
    let (status, said) = run(&["--listen", address]).await;
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("choose another with --listen"), "{said}");
    home.configure("[sinks.app]\ntype = \"webhook\"\nurl = \"nowhere\"\n");
    let (status, said) = run(&["--listen", "127.0.0.1:0"]).await;
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("sinks.app.url"), "{said}");
    let probed = "[server]\ntoken = \"0123456789abcdef0123456789abcdef\"\nadmin_listen = \"127.0.0.1:0\"\n";
    home.configure(probed);
    let guarded = waiting(home.path(), &[]).await;
    let (_, ready) = guarded.get("/readyz").await;
    assert!(ready["details"].is_null(), "{ready}");
    for path in ["/metrics", "/v1/watches"] {
        assert_eq!(guarded.get(path).await.0, 401, "{path}");
    }
    let admin = guarded.log().lines().filter(|line| line.contains("listening")).nth(1).unwrap().to_owned();
    let admin = admin.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let at_admin = async |path: &str| {
        let answer = http().get(format!("http://{admin}{path}")).send().await.unwrap();
        answer.status().as_u16()
    };
    assert_eq!(at_admin("/healthz").await, 200);
    assert_eq!(at_admin("/readyz").await, 503);
    assert_eq!(at_admin("/metrics").await, 200);
    assert_eq!(at_admin("/v1/watches").await, 404);
    // Both addresses are served on by the same process.
    first.kill().await;
    active(&guarded).await;
    assert_eq!(at_admin("/readyz").await, 200);
    assert_eq!(guarded.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_while_it_waits_holds_from_the_take_over() {
    together([[Some(Signal::HUP), None]].concat().into_iter().map(|signal| async move {
        let (old, new) = (Receiver::start().await, Receiver::start().await);
        let home = Home::new(&sink(&old.url())).await;
        let first = home.run().await;
        let standby = match signal {
            Some(_) => waiting(home.path(), &[]).await,
            None => waiting(home.path(), &["--watch-config"]).await,
        };
        let reload = || signal.into_iter().for_each(|signal| standby.signal(signal));
        let open = home.mock.add_job(JobPlan::new().lasting(Duration::from_secs(8)));
        first.watch(&open).await;
        home.configure(&format!("{}[server]\ndrain = \"7s\"\n", sink(&new.url())));
        reload();
        logged(&standby, "configuration reloaded").await;
        logged(&standby, "changed keys take effect after a restart").await;
        // A mistake changes nothing.
        home.configure("[sinks.app]\ntype = \"webhook\"\nurl = \"nowhere\"\n");
        reload();
        logged(&standby, "configuration rejected").await;
        first.kill().await;
        active(&standby).await;
        assert_eq!(standby.finished(&open).await["deliveries"][0]["state"], "delivered");
        assert_eq!((old.requests().len(), new.requests().len()), (0, 1));
        // And reloads go on.
        home.configure(&sink(&old.url()));
        reload();
        let again = home.mock.add_job(JobPlan::new());
        eventually("the first sink is back", || async {
            (standby.log().matches("configuration reloaded").count() == 2).then_some(())
        })
        .await;
        standby.watch(&again).await;
        standby.finished(&again).await;
        assert_eq!((old.requests().len(), new.requests().len()), (1, 1));
        assert_eq!(standby.terminate().await.0, Some(0));
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_away_is_waited_for_and_a_damaged_one_ends_the_process() {
    let home = Home::new("").await;
    let first = home.run().await;
    let job = home.mock.add_job(JobPlan::new().ending(Ending::Stuck));
    first.watch(&job).await;
    let standby = waiting(home.path(), &[]).await;
    let (data, away) = (home.path().join("data"), home.path().join("away"));
    // Its volume is not mounted any more: an empty folder must not become a store.
    standby.signal(Signal::STOP);
    first.kill().await;
    fs::rename(&data, &away).unwrap();
    fs::create_dir(&data).unwrap();
    standby.signal(Signal::CONT);
    logged(&standby, "data folder cannot be locked").await;
    assert_eq!(readiness(&standby).await, Some((503, "standby".to_owned())));
    assert_eq!(files(&data), BTreeMap::new());
    fs::remove_dir(&data).unwrap();
    fs::rename(&away, &data).unwrap();
    active(&standby).await;
    assert_eq!(standby.get(&format!("/v1/watches/retab/{job}")).await.0, 200);
    let next = waiting(home.path(), &[]).await;
    next.signal(Signal::STOP);
    standby.kill().await;
    fs::write(data.join("db/db"), "").unwrap();
    next.signal(Signal::CONT);
    let (status, log) = next.ended().await;
    assert_eq!(status, Some(1), "{log}");
    assert!(log.contains("is damaged: it was emptied") && log.contains("backup"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_hears_that_a_standby_is_ready() {
    let home = Home::new("").await;
    let first = home.run().await;
    let path = home.path().join("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut command = binary();
    command.args(["run", "--standby", "--listen", "127.0.0.1:0"]).current_dir(home.path());
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "20000");
    let standby = Process::spawn(command).await;
    let mut said = String::new();
    let mut hear = async |wanted: &str| {
        let heard = async {
            let mut buffer = [0; 256];
            while !said.contains(wanted) {
                let length = socket.recv(&mut buffer).await.unwrap();
                said.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.expect("it says so");
    };
    for wanted in ["READY=1", "STATUS=standby", "WATCHDOG=1"] {
        hear(wanted).await;
    }
    first.kill().await;
    hear("STATUS=active").await;
    standby.signal(Signal::TERM);
    hear("STOPPING=1").await;
    assert_eq!(standby.ended().await.0, Some(0));
}
