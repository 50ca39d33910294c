//! The process: how it starts, how it ends, what it says and what it never says.

use std::sync::Arc;

use axum::{Router, extract::State, http::StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};
use tidings::mock::{Ending, JobPlan};
use tokio::{net::TcpListener, sync::Semaphore};

use crate::harness::{
    Home, LOOPBACK, Process, Receiver, Reply, binary, eventually, http, mock, once, show, write_config,
};

/// A receiver that answers when it is let.
struct Gate {
    url: String,
    entered: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Gate {
    async fn start() -> Self {
        let (entered, open) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let state = (Arc::clone(&entered), Arc::clone(&open));
        let router = Router::new().fallback(Self::pass).with_state(state);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, entered, open }
    }

    async fn pass(State((entered, open)): State<(Arc<Semaphore>, Arc<Semaphore>)>) -> StatusCode {
        entered.add_permits(1);
        open.acquire().await.unwrap().forget();
        StatusCode::NO_CONTENT
    }
}

fn webhook(url: &str) -> String {
    format!("[sinks.app]\ntype = \"webhook\"\nurl = \"{url}\"\nretry = {{ schedule = [\"20ms\"] }}\n")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_one_folder_is_refused_with_what_to_do() {
    let home = Home::new("").await;
    let first = home.run().await;
    let second = home.once(&["run", "--listen", "127.0.0.1:0"]).await;
    assert_eq!(second.status.code(), Some(1), "{}", show(&second));
    let said = text(&second.stderr);
    assert!(said.contains("in use") && said.contains("--data-dir"), "{said}");
    // The first is not disturbed.
    first.watch(&home.mock.add_job(JobPlan::new())).await;
    assert_eq!(first.terminate().await.0, Some(0));
    let third = home.run().await;
    assert_eq!(third.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_in_flight_is_finished_before_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, gate) = (mock().await, Gate::start().await);
    write_config(folder.path(), &mock.base_url(), &webhook(&gate.url));
    let process = Process::run(folder.path(), &[]).await;
    let job = mock.add_job(JobPlan::new());
    process.watch(&job).await;
    gate.entered.acquire().await.unwrap().forget();
    process.signal(Signal::TERM);
    eventually("it says that it stops", || async { process.log().contains("SIGTERM").then_some(()) }).await;
    gate.open.add_permits(1);
    let (status, log) = process.ended().await;
    assert_eq!(status, Some(0), "{log}");
    // It was recorded: nothing is sent again.
    let process = Process::run(folder.path(), &[]).await;
    let watch: Value = http()
        .get(format!("{}/v1/watches/retab/{job}", process.url))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        (&watch["phase"], &watch["deliveries"][0]["attempts"]),
        (&json!("done"), &json!(1)),
        "{watch}"
    );
    assert_eq!(gate.entered.available_permits(), 0);
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, gate) = (mock().await, Gate::start().await);
    // Without the second signal it would wait for longer than this test does.
    let more = format!("[server]\ndrain = \"10m\"\n\n{}timeout = \"10m\"\n", webhook(&gate.url));
    write_config(folder.path(), &mock.base_url(), &more);
    let process = Process::run(folder.path(), &[]).await;
    process.watch(&mock.add_job(JobPlan::new())).await;
    gate.entered.acquire().await.unwrap().forget();
    process.signal(Signal::INT);
    eventually("it says that it stops", || async {
        process.log().contains("signal=\"SIGINT\"").then_some(())
    })
    .await;
    process.signal(Signal::TERM);
    let (status, log) = process.ended().await;
    assert_eq!(status, Some(1), "{log}");
    // The delivery was not done, and is made at the next start.
    let process = Process::run(folder.path(), &[]).await;
    gate.entered.acquire().await.unwrap().forget();
    gate.open.add_permits(2);
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn run_once_ends_with_how_it_went() {
    let receiver = Receiver::start().await;
    let home = Home::new(&webhook(&receiver.url())).await;
    let good = home.mock.add_job(JobPlan::new());
    let bad = home.mock.add_job(JobPlan::new().ending(Ending::Failed));
    let run = async |args: &[&str]| {
        let output = home.once(&[&["run", "--once"], args].concat()).await;
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (status, out, log) = run(&["--watch", &good]).await;
    assert_eq!(status, Some(0), "{log}");
    assert!(out.contains(&good), "{out}");
    let (status, out, log) = run(&["--watch", &good, "--watch", &bad]).await;
    assert_eq!(status, Some(3), "{log}");
    assert!(out.contains("failed"), "{out}");
    assert_eq!(receiver.requests().len(), 2, "what was delivered is not delivered again");
    receiver.always(Reply::status(410));
    let unwanted = home.mock.add_job(JobPlan::new());
    let (status, _, log) = run(&["--watch", &unwanted, "--watch", &bad]).await;
    assert_eq!(status, Some(4), "{log}");
    let (status, _, log) = run(&[]).await;
    assert!(status == Some(2) && log.contains("--once has no jobs to watch"), "{status:?} {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_configuration_starts_nothing() {
    let home = Home::new("[server]\nlissten = \"127.0.0.1:0\"\n").await;
    let output = home.once(&["run"]).await;
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("lissten") && said.contains("tidings.toml"), "{said}");
    let output = home.once(&["run", "--config", "nowhere.toml"]).await;
    assert!(
        output.status.code() == Some(2) && text(&output.stderr).contains("nowhere.toml"),
        "{}",
        show(&output)
    );
    assert!(!home.path().join("data").exists() && home.mock.total() == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn run_once_that_is_interrupted_says_so() {
    let home = Home::new("").await;
    let job = home.mock.add_job(JobPlan::new().ending(Ending::Stuck));
    let process = Process::start(home.path(), &["--once", "--watch", &job]).await;
    eventually("it polls", || async { (home.mock.total() > 0).then_some(()) }).await;
    process.signal(Signal::TERM);
    let (status, log) = process.ended().await;
    assert!(status == Some(1) && log.contains("before every job was delivered"), "{status:?} {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_serves_the_api() {
    let home = Home::new("").await;
    let socket = home.path().join("api.sock");
    // One that a killed process left behind is in nobody's way.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let mut command = binary();
    command.arg("run").arg("--listen").arg(format!("unix:{}", socket.display())).current_dir(home.path());
    let process = Process::spawn(command).await;
    http();
    let client = reqwest::Client::builder().unix_socket(socket.clone()).build().unwrap();
    let job = home.mock.add_job(JobPlan::new());
    let answer = eventually("it answers", || async {
        client.post("http://localhost/v1/watches").json(&json!({"job_id": job})).send().await.ok()
    })
    .await;
    assert_eq!(answer.status(), 202);
    let url = format!("http://localhost/v1/watches/retab/{job}/wait");
    let watch: Value = client.get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(watch["outcome"], "completed", "{watch}");
    assert_eq!(process.terminate().await.0, Some(0));
    assert!(!socket.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind(LOOPBACK).await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = once(folder.path(), &["run", "--listen", &address]).await;
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&address) && said.contains("--listen"), "{said}");
}

const API_KEY: &str = "rt-key-5f1c0ffee5f1c0ffee";
const TOKEN: &str = "token-0badc0de0badc0de0badc0de";
const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAAAA";
const ROTATED: &str = "whsec_bm90IGEgcmVhbCBzZWNyZXQgYnV0IGxvbmcgZW5v";
const CALLBACK: &str = "whsec_Y2FsbGJhY2sgc2VjcmV0IHRoYXQgaXMgbG9uZyEh";
const HEADER: &str = "header-value-7777777777";

/// The parts of the configuration that hold secrets, written in place.
fn in_place() -> [String; 3] {
    [
        format!("token = \"{TOKEN}\""),
        format!("api_key = \"{API_KEY}\""),
        format!("secrets = [\"{SIGNING}\", \"{ROTATED}\"]"),
    ]
}

/// The same by files.
fn by_file(folder: &std::path::Path) -> [String; 3] {
    for (name, secret) in [("token", TOKEN), ("key", API_KEY), ("signing", SIGNING)] {
        std::fs::write(folder.join(name), format!("{secret}\n")).unwrap();
    }
    ["token_file = \"token\"", "api_key_file = \"key\"", "secret_file = \"signing\""].map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_ever_shown_whichever_way_it_came() {
    for way in ["in place", "by file"] {
        let folder = tempfile::tempdir().unwrap();
        let (mock, receiver) = (mock().await, Receiver::start().await);
        mock.set(|faults| faults.key = Some(API_KEY.to_owned()));
        let [token, key, signing] = if way == "in place" { in_place() } else { by_file(folder.path()) };
        let more = format!(
            "[log]\nlevel = \"trace\"\n\n[callbacks]\nallow = [\"127.0.0.0/8\"]\n\n[server]\n{token}\n\n{}{signing}\n\
             headers = {{ X-Team = \"{HEADER}\" }}\n",
            webhook(&receiver.url())
        );
        write_config(folder.path(), &mock.base_url(), &more);
        let path = folder.path().join("tidings.toml");
        let config = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, config.replace("[sources.retab]\n", &format!("[sources.retab]\n{key}\n")))
            .unwrap();
        let process = Process::run(folder.path(), &[]).await;
        let mut shown = used(&process, &mock.add_job(JobPlan::new()), &receiver).await;
        // What goes wrong is where a secret slips out.
        mock.set(|faults| faults.key = Some("another".to_owned()));
        receiver.always(Reply::Hang);
        shown.push(used_in_vain(&process, &mock.add_job(JobPlan::new())).await);
        for output in ["toml", "json"] {
            let output = once(folder.path(), &["config", "show", "--output", output]).await;
            assert_eq!(output.status.code(), Some(0), "{}", show(&output));
            shown.push(text(&output.stdout) + &text(&output.stderr));
        }
        shown.push(process.kill().await);
        assert!(shown.last().unwrap().contains("TRACE"), "the log is at trace level");
        for secret in [API_KEY, TOKEN, &SIGNING[6..], &ROTATED[6..], &CALLBACK[6..], HEADER] {
            for text in &shown {
                let line = text.lines().find(|line| line.contains(secret));
                assert_eq!(line, None, "{way}");
            }
        }
    }
}

/// Has everything that holds a secret used, and gives everything that the API shows.
async fn used(process: &Process, job: &str, receiver: &Receiver) -> Vec<String> {
    let http = http();
    let callback = receiver.url().replace("/hooks/jobs", "/callback");
    let body = json!({"job_id": job, "callback": {"url": callback, "secret": CALLBACK}});
    let post = http.post(format!("{}/v1/watches", process.url)).json(&body);
    assert_eq!(post.try_clone().unwrap().send().await.unwrap().status(), 401);
    let answer = post.bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let mut shown = vec![answer.text().await.unwrap()];
    let events = receiver.at_least(2).await;
    assert!(events.iter().all(|event| event.header("webhook-signature").starts_with("v1,")));
    assert_eq!(events.iter().filter(|event| event.header("x-team") == HEADER).count(), 1);
    let watch = format!("/v1/watches/retab/{job}");
    let rest =
        ["/v1/watches", "/v1/deliveries", "/v1/sinks", "/v1/sources", "/metrics", "/openapi.json", "/readyz"];
    for path in rest.into_iter().chain([watch.as_str()]) {
        let answer = http.get(format!("{}{path}", process.url)).bearer_auth(TOKEN).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        shown.push(answer.text().await.unwrap());
    }
    shown
}

/// The same while the source refuses the key: what the API says of it.
async fn used_in_vain(process: &Process, job: &str) -> String {
    let http = http();
    let body = json!({"job_id": job, "callback": {"url": "http://127.0.0.1:1/", "secret": CALLBACK}});
    let post = http.post(format!("{}/v1/watches", process.url)).bearer_auth(TOKEN).json(&body);
    assert_eq!(post.send().await.unwrap().status(), 202);
    eventually("the source is refused", || async {
        let get = http.get(format!("{}/v1/sources", process.url)).bearer_auth(TOKEN);
        let text = get.send().await.unwrap().text().await.unwrap();
        text.contains("unauthorized").then_some(text)
    })
    .await
}
