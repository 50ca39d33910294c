//! A full disk refuses new watches with 507, loses no old one, and is noticed to have room again.

use std::{path::PathBuf, process::Stdio};

use serde_json::{Value, json};
use tidings::mock::{Ending, JobPlan};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::harness::{Receiver, binary, eventually, http, mock, write_config};

/// The daemon with its data on a small file system, in a mount namespace that goes with the process. `None` where
/// nothing can be mounted.
async fn on_a_small_disk(folder: &std::path::Path) -> Option<(tokio::process::Child, String, PathBuf)> {
    let mut command = tokio::process::Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c"]);
    command.arg(
        r#"mkdir -p data && mount -t tmpfs -o size=24m none data && exec "$0" run --listen 127.0.0.1:0"#,
    );
    command.arg(binary().as_std().get_program()).current_dir(folder).kill_on_drop(true);
    let spawned = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            println!("skipped: no small file system can be mounted here: {error}");
            return None;
        }
    };
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = String::new();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(at) = line.find("address=") {
            let address = line[at + "address=".len()..].split_whitespace().next().unwrap().to_owned();
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            let disk = PathBuf::from(format!("/proc/{}/root{}/data", child.id().unwrap(), folder.display()));
            return Some((child, format!("http://{address}"), disk));
        }
        said.push_str(&line);
    }
    assert!(said.contains("unshare") || said.contains("mount"), "it did not start: {said}");
    println!("skipped: no small file system can be mounted here: {said}");
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_new_watches_and_loses_no_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, receiver) = (mock().await, Receiver::start().await);
    let sink = format!("[sinks.app]\ntype = \"webhook\"\nurl = \"{}\"\n", receiver.url());
    write_config(folder.path(), &mock.base_url(), &sink);
    let Some((mut child, url, disk)) = on_a_small_disk(folder.path()).await else { return };
    let http = http();
    let ready = async || Some(http.get(format!("{url}/readyz")).send().await.ok()?.status().as_u16());
    let watch = async |job: &str| {
        let body = json!({"job_id": job});
        http.post(format!("{url}/v1/watches")).json(&body).send().await.unwrap()
    };
    eventually("it is ready", || async { ready().await.filter(|status| *status == 200) }).await;
    let old = mock.add_job(JobPlan::new().ending(Ending::Stuck));
    assert_eq!(watch(&old).await.status(), 202);
    // Less than a tenth is left, which is kept for what was accepted before.
    let free = rustix::fs::statvfs(&disk).unwrap();
    let room = usize::try_from(free.f_bavail * free.f_frsize).unwrap();
    std::fs::write(disk.join("ballast"), vec![1; room - (1 << 20)]).unwrap();
    eventually("it is not ready", || async { ready().await.filter(|status| *status == 503) }).await;
    let new = mock.add_job(JobPlan::new());
    let refused = watch(&new).await;
    assert_eq!(refused.status(), 507);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], "disk_full", "{problem}");
    let kept = http.get(format!("{url}/v1/watches/retab/{old}")).send().await.unwrap();
    assert_eq!(kept.status(), 200);
    assert_eq!(http.get(format!("{url}/v1/watches/retab/{new}")).send().await.unwrap().status(), 404);
    std::fs::remove_file(disk.join("ballast")).unwrap();
    eventually("it is ready again", || async { ready().await.filter(|status| *status == 200) }).await;
    assert_eq!(watch(&new).await.status(), 202);
    let event = receiver.at_least(1).await.remove(0);
    assert_eq!(event.json()["job_id"], *new);
    child.kill().await.unwrap();
}
