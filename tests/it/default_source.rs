//! Which source a job without one belongs to: one rule, on every surface.

use std::{fs, path::Path};

use serde_json::{Value, json};
use tidings::mock::{JobPlan, Mock};

use crate::harness::{Process, http, mock, once, show};

/// The usual configuration with these names in the place of `retab`.
fn write_sources(folder: &Path, mock: &Mock, names: &[&str]) {
    let source = |name: &str| {
        format!(
            "[sources.{name}]\nbase_url = \"{}\"\nmax_requests_per_second = 2000\n\
             [sources.{name}.polling]\nmin_interval = \"20ms\"\nmax_interval = \"100ms\"\n",
            mock.base_url()
        )
    };
    let store = "[store]\npath = \"data\"\n".to_owned();
    let text: Vec<String> = [store].into_iter().chain(names.iter().map(|name| source(name))).collect();
    fs::write(folder.join("tidings.toml"), text.concat()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_source_is_meant_by_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    write_sources(folder.path(), &mock, &["ci"]);
    let given = mock.add_job(JobPlan::new());
    let process = Process::run(folder.path(), &["--watch", &given]).await;
    let job = mock.add_job(JobPlan::new());
    let url = process.url.as_str();
    for args in [
        &["watch", &job][..],
        &["wait", &job],
        &["wait", &given],
        &["get", &job],
        &["poll", &job],
        &["watch", &job, &given, "--wait"],
        &["unwatch", &job],
        &["config", "route", "--outcome", "failed"],
    ] {
        let ran = once(folder.path(), &[&["--url", url], args].concat()).await;
        assert_eq!(ran.status.code(), Some(0), "{args:?}: {}", show(&ran));
    }
    let gone = once(folder.path(), &["--url", url, "get", &job]).await;
    assert_eq!(gone.status.code(), Some(1), "{}", show(&gone));
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn among_several_without_retab_a_source_has_to_be_named() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    write_sources(folder.path(), &mock, &["a", "b"]);
    let refused = once(folder.path(), &["run", "--watch", "job_1", "--listen", "127.0.0.1:0"]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && said.contains("`a` and `b`"), "{}", show(&refused));
    let process = Process::run(folder.path(), &[]).await;
    let url = process.url.as_str();
    for command in [
        &["get", "job_1"][..],
        &["wait", "job_1"],
        &["unwatch", "job_1"],
        &["watch", "job_1"],
        &["watch", "job_1", "job_2"],
        &["poll", "job_1"],
    ] {
        let ran = once(folder.path(), &[&["--url", url], command].concat()).await;
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(2), "{command:?}: {}", show(&ran));
        assert!(said.contains("`a` and `b`") && said.contains("\nhint: name"), "{command:?}: {}", show(&ran));
    }
    // No daemon, also none at the default address.
    let nowhere = ["--url", "unix:nowhere.sock", "config", "route", "--outcome", "failed"];
    let route = once(folder.path(), &nowhere).await;
    assert_eq!(route.status.code(), Some(2), "{}", show(&route));
    for path in ["", "/batch"] {
        let job = json!({"job_id": "job_1"});
        let body = if path.is_empty() { job } else { json!({"watches": [job]}) };
        let answer = http().post(format!("{url}/v1/watches{path}")).json(&body).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert!(answer.to_string().contains("source_missing"), "{answer}");
    }
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn among_several_with_retab_it_is_retab() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    write_sources(folder.path(), &mock, &["a", "retab"]);
    let process = Process::run(folder.path(), &[]).await;
    let job = mock.add_job(JobPlan::new());
    for args in [&["watch", &job][..], &["wait", &job]] {
        let ran = once(folder.path(), &[&["--url", &process.url], args].concat()).await;
        assert_eq!(ran.status.code(), Some(0), "{args:?}: {}", show(&ran));
    }
    let ran = once(folder.path(), &["--url", &process.url, "get", &job, "--output", "json"]).await;
    let watch: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(watch["source"], "retab");
    assert_eq!(process.terminate().await.0, Some(0));
}
