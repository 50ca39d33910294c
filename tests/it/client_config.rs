//! What client commands take from the environment and the configuration, and what they ask the daemon for instead.

use std::{fs, path::Path, process::Output};

use serde_json::Value;
use tidings::mock::JobPlan;

use crate::harness::{Process, binary, mock, once, show, write_config};

async fn with(folder: &Path, variables: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = binary();
    command.args(args).current_dir(folder).envs(variables.iter().copied());
    command.stdin(std::process::Stdio::null()).output().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_needs_the_address_and_the_token_and_nothing_else() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mock = mock().await;
    write_config(folder.path(), &mock.base_url(), "[server]\ntoken_file = \"token\"\n");
    fs::write(folder.path().join("token"), "hunter2\n").unwrap();
    let token = folder.path().join("token");
    let mut command = binary();
    command.args(["run", "--listen", "127.0.0.1:0"]).current_dir(folder.path());
    // None of these is a key of the daemon.
    command.envs([
        ("TIDINGS_TOKEN", "client's"),
        ("TIDINGS_URL", "http://127.0.0.1:1"),
        ("TIDINGS_STORE__RETENTION", ""),
    ]);
    let process = Process::spawn(command).await;
    let address = process.url.trim_start_matches("http://");
    let file = elsewhere.path().join("there.toml");
    let text = format!(
        "[server]\nlisten = \"{address}\"\ntoken_file = {token:?}\ndrain = 7\n[sources.retab]\napi_key_file = \"nowhere\"\n\
         base_url = \"no url\"\n[sinks.app]\ntype = \"webhok\"\n[sinks.b]\ntype = \"webhook\"\nurl = \"https://e.com\"\nsecret_file = \"nowhere\"\n"
    );
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let job = mock.add_job(JobPlan::new());
    let variables =
        [("TIDINGS_CONFIG", file), ("RETAB_API_KEY", "key"), ("TIDINGS_TOKEN_FILE", ""), ("TIDINGS_URL", "")];
    for args in [
        &["watch", &job][..],
        &["wait", &job],
        &["get", &job],
        &["list"],
        &["deliveries"],
        &["sink", "list"],
        &["source", "list"],
        &["healthcheck"],
        &["reload"],
    ] {
        let ran = with(elsewhere.path(), &variables, args).await;
        assert_eq!(ran.status.code(), Some(0), "{args:?}: {}", show(&ran));
    }
    let variables = [("TIDINGS_CONFIG", ""), ("TIDINGS_URL", &process.url), ("TIDINGS_TOKEN", "hunter2")];
    let ran = with(elsewhere.path(), &variables, &["list"]).await;
    assert_eq!(ran.status.code(), Some(0), "{}", show(&ran));
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_was_set_up_by_flags_tells_where_its_events_go() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let run = ["--out", "results", "--webhook", "http://127.0.0.1:9/hook?key=topsecret"];
    let mut command = binary();
    command.args(["run", "--listen", "127.0.0.1:0"]).args(run).current_dir(folder.path());
    command.envs([("RETAB_API_BASE_URL", mock.base_url().as_str()), ("RETAB_API_KEY", "topsecret")]);
    let process = Process::spawn(command).await;
    let ask =
        async |args: &[&str]| once(folder.path(), &[&["--url", &process.url, "config"], args].concat()).await;
    let route = ask(&["route", "--outcome", "completed", "--output", "json"]).await;
    assert_eq!(route.status.code(), Some(0), "{}", show(&route));
    let route: Value = serde_json::from_slice(&route.stdout).unwrap();
    let takers: Vec<&str> =
        route["sinks"].as_array().unwrap().iter().map(|one| one["sink"].as_str().unwrap()).collect();
    assert_eq!(takers, ["disk", "webhook"], "{route}");
    let running = ask(&["show", "--running"]).await;
    let text = String::from_utf8(running.stdout.clone()).unwrap();
    assert!(text.contains("[sinks.disk]") && text.contains(&mock.base_url()), "{text}");
    assert!(!text.contains("topsecret"), "{text}");
    assert_eq!(process.terminate().await.0, Some(0));
    // Without a daemon the configuration here is meant, and the answer says so.
    fs::write(folder.path().join("tidings.toml"), "[server]\nlisten = \"127.0.0.1:1\"\n").unwrap();
    let route = once(folder.path(), &["config", "route", "--outcome", "completed"]).await;
    let said = String::from_utf8_lossy(&route.stderr).into_owned();
    assert!(route.status.code() == Some(0) && said.contains("no daemon answers"), "{}", show(&route));
    assert!(String::from_utf8_lossy(&route.stdout).contains("goes nowhere"));
}
