//! The configuration file under a running daemon: emptied, cut off, replaced, and naming secrets that come later.

use std::{fs, path::Path};

use rustix::process::Signal;
use serde_json::{Value, json};
use tidings::{
    app::{App, config_watch},
    config::{FlagOverrides, Loader},
    mock::{JobPlan, Mock},
};
use tokio::process::Command;

use crate::harness::{Home, Process, Receiver, eventually, http, mock, write_config};

const REFUSED: &str = "tidings_config_reloads_total{result=\"refused\"}";
const APPLIED: &str = "tidings_config_reloads_total{result=\"ok\"}";

fn sink(url: &str, more: &str) -> String {
    format!("[sinks.app]\ntype = \"webhook\"\nurl = \"{url}\"\nretry = {{ schedule = [\"20ms\"] }}\n{more}")
}

async fn reload(process: &Process) -> (u16, Value) {
    let response = http().post(format!("{}/v1/reload", process.url)).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn get(url: &str, path: &str) -> Value {
    http().get(format!("{url}{path}")).send().await.unwrap().json().await.unwrap()
}

async fn count(url: &str, line: &str) -> Option<u64> {
    let text = http().get(format!("{url}/metrics")).send().await.ok()?.text().await.ok()?;
    text.lines().find_map(|found| found.strip_prefix(line))?.trim().parse().ok()
}

async fn until_more(process: &Process, line: &str, before: u64) {
    eventually(line, || async { (count(&process.url, line).await.unwrap_or(0) > before).then_some(()) })
        .await;
}

/// Registers a job and waits until it reached the receiver.
async fn deliver(process: &Process, mock: &Mock, receiver: &Receiver) {
    let before = receiver.requests().len();
    let job = mock.add_job(JobPlan::new());
    let url = format!("{}/v1/watches", process.url);
    assert_eq!(http().post(url).json(&json!({"job_id": job})).send().await.unwrap().status(), 202);
    receiver.at_least(before + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_lost_everything_is_a_mistake_however_it_is_met() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidings.toml");
    let (mock, receiver) = (mock().await, Receiver::start().await);
    write_config(folder.path(), &mock.base_url(), &sink(&receiver.url(), "max_in_flight = 16\n"));
    let full = fs::read_to_string(&file).unwrap();
    let process = Process::run(folder.path(), &["--watch-config"]).await;
    fs::write(&file, "").unwrap();
    until_more(&process, REFUSED, 0).await;
    let (status, problem) = reload(&process).await;
    assert_eq!((status, &problem["code"]), (422, &json!("invalid_configuration")), "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("is empty") && detail.contains("[sinks]"), "{detail}");
    let refused = count(&process.url, REFUSED).await.unwrap();
    process.signal(Signal::HUP);
    until_more(&process, REFUSED, refused).await;
    deliver(&process, &mock, &receiver).await;

    let without = full[..full.find("[sinks.app]").unwrap()].to_owned();
    let cut = full.trim_end().strip_suffix('6').unwrap();
    for (text, says) in [(&*without, "`sinks` disappeared"), (cut, "within a line")] {
        fs::write(&file, text).unwrap();
        let (status, problem) = reload(&process).await;
        let detail = problem["detail"].as_str().unwrap();
        assert!(status == 422 && detail.contains(says), "{status} {detail}");
        deliver(&process, &mock, &receiver).await;
    }
    fs::remove_file(&file).unwrap();
    let (status, problem) = reload(&process).await;
    assert_eq!(status, 422, "{problem}");
    fs::write(&file, format!("{without}[sinks]\n")).unwrap();
    eventually("it is taken where it is meant", || async {
        (get(&process.url, "/v1/sinks").await["data"].as_array()?.iter().all(|sink| sink["name"] != "app"))
            .then_some(())
    })
    .await;
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_nowhere_else_when_the_end_of_the_file_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidings.toml");
    let (mock, receiver, other) = (mock().await, Receiver::start().await, Receiver::start().await);
    let more = format!("[sinks.other]\ntype = \"webhook\"\nurl = \"{}\"\n", other.url());
    let routes = "[[routes]]\nto = [\"app\"]\n";
    write_config(folder.path(), &mock.base_url(), &format!("{}{more}{routes}", sink(&receiver.url(), "")));
    let full = fs::read_to_string(&file).unwrap();
    let process = Process::run(folder.path(), &[]).await;
    let without = full.strip_suffix(routes).unwrap();
    fs::write(&file, without).unwrap();
    let (status, problem) = reload(&process).await;
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(status == 422 && detail.contains("`routes` disappeared"), "{status} {problem}");
    assert!(
        detail.contains("the previous configuration stays") && !detail.contains("nothing was started"),
        "{detail}"
    );
    deliver(&process, &mock, &receiver).await;
    assert_eq!(other.requests().len(), 0);
    fs::write(&file, format!("routes = []\n{without}")).unwrap();
    assert_eq!(reload(&process).await.0, 200);
    deliver(&process, &mock, &other).await;
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_never_answers_holds_up_no_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidings.toml");
    let mock = mock().await;
    write_config(folder.path(), &mock.base_url(), "");
    let process = Process::run(folder.path(), &[]).await;
    fs::remove_file(&file).unwrap();
    let made = Command::new("mkfifo").arg(&file).status().await.unwrap();
    assert!(made.success());
    let url = format!("{}/v1/reload", process.url);
    let asked = tokio::spawn(async move { http().post(url).send().await });
    // A pipe opens for a writer when there is a reader: now it is being read.
    let opened = tokio::task::spawn_blocking({
        let file = file.clone();
        move || fs::OpenOptions::new().write(true).open(file).unwrap()
    });
    let writer = opened.await.unwrap();
    assert_eq!(process.terminate().await.0, Some(0));
    drop(writer);
    asked.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_waits_for_a_secret_is_tried_again_by_itself() {
    for watched in [true, false] {
        let receiver = Receiver::start().await;
        let home = Home::new("").await;
        let args: &[&str] = if watched { &["--watch-config"] } else { &[] };
        let process = home.run_with(args).await;
        let more = sink(&receiver.url(), "bearer_file = \"bearer\"\n");
        home.configure(&more);
        if !watched {
            process.signal(Signal::HUP);
        }
        until_more(&process, REFUSED, 0).await;
        fs::write(home.path().join("bearer"), "hunter2\n").unwrap();
        until_more(&process, APPLIED, 0).await;
        deliver(&process, &home.mock, &receiver).await;
        assert_eq!(receiver.requests()[0].header("authorization"), "Bearer hunter2");
        assert_eq!(process.terminate().await.0, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_made_anew_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let mounted = folder.path().join("mounted");
    let put = |level: &str| {
        fs::create_dir_all(&mounted).unwrap();
        let data = folder.path().join("data");
        let text = format!(
            "[store]\npath = {data:?}\n[log]\nlevel = \"{level}\"\n[sources.retab]\nbase_url = \"{}\"\n",
            mock.base_url()
        );
        fs::write(mounted.join("tidings.toml"), text).unwrap();
    };
    put("info");
    let file = mounted.join("tidings.toml");
    let process = Process::run(folder.path(), &["--watch-config", "--config", file.to_str().unwrap()]).await;
    for (applied, level) in ["debug", "info"].into_iter().enumerate() {
        fs::rename(&mounted, folder.path().join(format!("old{applied}"))).unwrap();
        put(level);
        until_more(&process, APPLIED, applied as u64).await;
    }
    // A file that keeps the time of its modification, as `cp -p` and `rsync -t` write it.
    let modified = fs::metadata(&file).unwrap().modified().unwrap();
    let text = fs::read_to_string(&file).unwrap().replace("\"info\"", "\"warn\"");
    fs::write(&file, text).unwrap();
    fs::File::open(&file).unwrap().set_modified(modified).unwrap();
    until_more(&process, APPLIED, 2).await;
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_between_the_first_load_and_the_watch_is_noticed() {
    let listen = "[server]\nlisten = \"127.0.0.1:0\"\n";
    let home = Home::new(listen).await;
    let path = |path: &Path| home.path().join(path);
    let named = FlagOverrides {
        config: Some(path(Path::new("tidings.toml"))),
        data_dir: Some(path(Path::new("data"))),
        ..FlagOverrides::default()
    };
    let loaded = Loader::new(named, [("NONE", "")], home.path()).load().unwrap();
    let app = App::bind(loaded.config.clone(), true).await.unwrap();
    let (url, handle) = (format!("http://{}", app.addr().unwrap()), app.handle());
    let running = tokio::spawn(app.run());
    // This daemon has no way to read it again, so each time that it is asked to shows as a refusal.
    let (file, known) = (loaded.file.clone().unwrap(), loaded.content.bytes().to_owned());
    home.configure(&format!("{listen}drain = \"1s\"\n"));
    let watching = tokio::spawn(config_watch::watch(file, known, handle.reloads()));
    eventually("a reload is asked for", || async {
        (count(&url, REFUSED).await.unwrap_or(0) == 1).then_some(())
    })
    .await;
    handle.stop();
    running.await.unwrap().unwrap();
    watching.await.unwrap();
}
