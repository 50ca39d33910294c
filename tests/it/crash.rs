//! `kill -9` at any instant loses nothing that was acknowledged.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use tidings::{
    mock::{JobPlan, Mock},
    util::units::Size,
};

use crate::harness::{Process, Receiver, Reply, binary, eventually, http, mock, once, show, write_config};

const ROUNDS: usize = 32;

/// Callers that register at the same time, and how many jobs each brings in a round at the most.
const CALLERS: usize = 4;
const JOBS: usize = 8;

/// Says how to repeat a run that failed.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat with TIDINGS_TEST_SEED={}", self.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_acknowledged_is_lost_however_often_it_is_killed() {
    let given = std::env::var("TIDINGS_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = Seed(given.unwrap_or_else(rand::random));
    let mut rng = StdRng::seed_from_u64(seed.0);
    let folder = tempfile::tempdir().unwrap();
    let (mock, receiver) = (Arc::new(mock().await), Receiver::start().await);
    let sinks = format!(
        "[sinks.app]\ntype = \"webhook\"\nurl = \"{}\"\nretry = {{ schedule = [{}], jitter = 0.2 }}\n\n\
         [sinks.disk]\ntype = \"disk\"\ndir = \"out\"\n",
        receiver.url(),
        // The last step is long: what a breaker holds meanwhile is not given up before it.
        ["\"30ms\""; 20].join(", ") + ", \"1m\""
    );
    write_config(folder.path(), &mock.base_url(), &sinks);
    let accepted: Arc<Mutex<Vec<String>>> = Arc::default();
    let (client, mut killed_at_work) = (http(), 0);
    for round in 0..ROUNDS {
        if round % 8 == 7 {
            kill_while_it_starts(folder.path(), rng.random_range(0..150)).await;
        }
        // Some answers are failures, so that retries are under way as well.
        receiver.then((0..rng.random_range(0..6)).map(|_| Reply::status(503)));
        let process = Process::start(folder.path(), &[]).await;
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let plans = (0..JOBS).map(|n| plan(&mut rng, round, caller, n)).collect();
                let (http, mock, accepted) = (client.clone(), Arc::clone(&mock), Arc::clone(&accepted));
                tokio::spawn(register(http, mock, process.url.clone(), plans, accepted))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(rng.random_range(5..600))).await;
        let log = process.kill().await;
        assert!(!log.contains("panic") && !log.contains("ERROR"), "round {round}: {log}");
        for caller in callers {
            caller.await.unwrap();
        }
        let known = accepted.lock().unwrap().len();
        killed_at_work += usize::from(delivered(&receiver).len() < known);
    }
    let accepted = accepted.lock().unwrap().clone();
    let process = Process::run(folder.path(), &[]).await;
    settled(&client, &process.url).await;
    check(&client, &process.url, &folder.path().join("out"), &mock, &receiver, &accepted).await;
    let again = receiver.requests().len() - accepted.len();
    println!(
        "{} jobs accepted over {ROUNDS} kills, {killed_at_work} of them with work under way; {again} requests \
         beyond one a job (failed on purpose, or repeated after a kill)",
        accepted.len()
    );
    assert!(accepted.len() > 100, "the kills left time to accept: {}", accepted.len());
    assert!(killed_at_work > ROUNDS / 4, "the kills hit work: {killed_at_work}");
    assert_eq!(process.terminate().await.0, Some(0));
    let sound = once(folder.path(), &["store", "check", "--hashes"]).await;
    assert_eq!(sound.status.code(), Some(0), "{}", show(&sound));
}

/// A job that ends at once, soon, or after this process is long gone, with a body of any size.
fn plan(rng: &mut StdRng, round: usize, caller: usize, n: usize) -> JobPlan {
    let lasting = Duration::from_millis(rng.random_range(0..700));
    // Small ones share a file, large ones have one of their own.
    let size = Size(rng.random_range(0..if n == 0 { 600_000 } else { 40_000 }));
    JobPlan::new().id(format!("job_{round}_{caller}_{n}")).lasting(lasting).size(size)
}

/// Registers job after job until the daemon is gone. Only what was answered counts.
pub(crate) async fn register(
    http: reqwest::Client,
    mock: Arc<Mock>,
    url: String,
    plans: Vec<JobPlan>,
    accepted: Arc<Mutex<Vec<String>>>,
) {
    for plan in plans {
        let job = mock.add_job(plan);
        let body = json!({"job_id": job});
        match http.post(format!("{url}/v1/watches")).json(&body).send().await {
            // The status line came, so the job is on disk, whatever becomes of the rest of the answer.
            Ok(answer) if answer.status().is_success() => accepted.lock().unwrap().push(job),
            Ok(answer) => panic!("refused with {}", answer.status()),
            Err(_) => return,
        }
    }
}

async fn kill_while_it_starts(folder: &Path, after: u64) {
    let mut command = binary();
    command.arg("run").args(["--listen", "127.0.0.1:0"]).current_dir(folder);
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    tokio::time::sleep(Duration::from_millis(after)).await;
    child.kill().await.unwrap();
}

/// The event ids under which each job reached the receiver.
pub(crate) fn delivered(receiver: &Receiver) -> BTreeMap<String, BTreeSet<String>> {
    let mut events: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for request in receiver.requests() {
        let job = request.json()["job_id"].as_str().unwrap().to_owned();
        events.entry(job).or_default().insert(request.header("webhook-id").to_owned());
    }
    events
}

async fn get(client: &reqwest::Client, url: &str) -> Value {
    let answer = client.get(url).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    answer.json().await.unwrap()
}

/// Waits until nothing is watched, fetched or pending.
pub(crate) async fn settled(client: &reqwest::Client, url: &str) {
    for open in ["watches?phase=watching", "watches?phase=fetching", "deliveries?state=pending"] {
        let page = format!("{url}/v1/{open}");
        eventually(&format!("no more {open}"), || async {
            let page = get(client, &page).await;
            page["data"].as_array().unwrap().is_empty().then_some(())
        })
        .await;
    }
}

async fn check(
    client: &reqwest::Client,
    url: &str,
    out: &Path,
    mock: &Mock,
    receiver: &Receiver,
    accepted: &[String],
) {
    let events = delivered(receiver);
    let requests = receiver.requests();
    for job in accepted {
        let watch = get(client, &format!("{url}/v1/watches/retab/{job}")).await;
        assert_eq!((&watch["phase"], &watch["outcome"]), (&json!("done"), &json!("completed")), "{watch}");
        let bytes = mock.full_body(job).unwrap();
        let file = std::fs::read(out.join(format!("retab/{job}.json"))).unwrap_or_default();
        assert!(file == bytes, "{job} on disk: {} bytes of {}", file.len(), bytes.len());
        let ids = events.get(job).unwrap_or_else(|| panic!("{job} never reached the receiver"));
        assert_eq!(ids.iter().collect::<Vec<_>>(), [watch["event_id"].as_str().unwrap()], "{job}");
    }
    for request in requests {
        let job = request.json()["job_id"].as_str().unwrap().to_owned();
        let data = [b"\"data\":".as_slice(), &mock.full_body(&job).unwrap(), b"}"].concat();
        assert!(request.body.ends_with(&data), "{job} at the receiver");
    }
}
