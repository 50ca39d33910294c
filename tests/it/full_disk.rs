//! A full disk refuses new watches with 507, loses no old one, serves what is there also after a start, and is noticed to have
//! room again. What only reads works on a read-only one, too.

use std::{path::PathBuf, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tidings::mock::{Ending, JobPlan};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::harness::{Home, Process, Receiver, binary, eventually, http, mock, show, write_config};

/// Mounts a small file system.
const MOUNT: &str = "mkdir -p small && mount -t tmpfs -o size=24m none small";

/// Fills it with a copy of `data`, and then to the last byte.
const FILL: &str = "cp -a data/. small/ && (cat /dev/zero > small/ballast 2>/dev/null || true)";

/// A shell script in a mount namespace of its own, where `$0` is the binary.
fn in_a_namespace(folder: &std::path::Path, script: &str) -> tokio::process::Command {
    let mut command = tokio::process::Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", script]);
    command.arg(binary().as_std().get_program()).current_dir(folder).kill_on_drop(true);
    command
}

/// The daemon with its data on a small file system, in a mount namespace that goes with the process; `before` is done to that
/// first. `None` where nothing can be mounted.
async fn on_a_small_disk(
    folder: &std::path::Path,
    before: &str,
) -> Option<(tokio::process::Child, String, PathBuf)> {
    let run = r#"exec "$0" run --listen 127.0.0.1:0 --data-dir small"#;
    let mut command = in_a_namespace(folder, &format!("{MOUNT} && {before} && {run}"));
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
            let disk = PathBuf::from(format!("/proc/{}/root{}/small", child.id().unwrap(), folder.display()));
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
    let receiver = Receiver::start().await;
    let sink = format!("[sinks.app]\ntype = \"webhook\"\nurl = \"{}\"\n", receiver.url());
    let home = Home::new(&sink).await;
    let Some((mut child, url, disk)) = on_a_small_disk(home.path(), "true").await else { return };
    let http = http();
    let ready = async || Some(http.get(format!("{url}/readyz")).send().await.ok()?.status().as_u16());
    let watch = async |job: &str| {
        let body = json!({"job_id": job});
        http.post(format!("{url}/v1/watches")).json(&body).send().await.unwrap()
    };
    eventually("it is ready", || async { ready().await.filter(|status| *status == 200) }).await;
    let old = home.mock.add_job(JobPlan::new().ending(Ending::Stuck));
    assert_eq!(watch(&old).await.status(), 202);
    // Less than a tenth is left, which is kept for what was accepted before.
    let free = rustix::fs::statvfs(&disk).unwrap();
    let room = usize::try_from(free.f_bavail * free.f_frsize).unwrap();
    std::fs::write(disk.join("ballast"), vec![1; room - (1 << 20)]).unwrap();
    eventually("it is not ready", || async { ready().await.filter(|status| *status == 503) }).await;
    let new = home.mock.add_job(JobPlan::new());
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

/// A folder whose daemon was stopped with one open job.
async fn stopped(folder: &std::path::Path, base_url: &str, job: &str) {
    write_config(folder, base_url, "");
    let process = Process::run(folder, &[]).await;
    let url = format!("{}/v1/watches", process.url);
    assert_eq!(http().post(url).json(&json!({"job_id": job})).send().await.unwrap().status(), 202);
    process.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_started_on_a_full_disk_serves_what_is_there_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let old = mock.add_job(JobPlan::new().ending(Ending::Stuck));
    stopped(folder.path(), &mock.base_url(), &old).await;
    let new = mock.add_job(JobPlan::new());
    let path = folder.path().join("tidings.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let named = mock.add_job(JobPlan::new().ending(Ending::Stuck));
    std::fs::write(&path, format!("watch = [\"{named}\"]\n{config}")).unwrap();
    let Some((mut child, url, disk)) = on_a_small_disk(folder.path(), FILL).await else { return };
    let http = http();
    let get = async |job: &str| http.get(format!("{url}/v1/watches/retab/{job}")).send().await.unwrap();
    let watch = async || {
        let body = json!({"job_id": new});
        http.post(format!("{url}/v1/watches")).json(&body).send().await.unwrap()
    };
    assert_eq!(get(&old).await.status(), 200);
    let listed: Value = http.get(format!("{url}/v1/watches")).send().await.unwrap().json().await.unwrap();
    assert_eq!(listed["data"][0]["job_id"], *old);
    let refused = watch().await;
    assert_eq!(refused.status(), 507);
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "disk_full");
    let unready = http.get(format!("{url}/readyz")).send().await.unwrap();
    assert_eq!(unready.status(), 503);
    assert_eq!(unready.json::<Value>().await.unwrap()["reasons"], json!(["disk_full"]));
    let since = async || {
        let overview = http.get(format!("{url}/v1/overview")).send().await.unwrap();
        let problems = overview.json::<Value>().await.unwrap()["problems"].clone();
        let full = problems.as_array().unwrap().iter().filter(|problem| problem["code"] == "disk_full");
        full.map(|problem| problem["since"].clone()).collect::<Vec<_>>()
    };
    let first = since().await;
    assert_eq!(first.len(), 1, "{first:?}");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(since().await, first, "it began once");
    std::fs::remove_file(disk.join("ballast")).unwrap();
    eventually("it takes new watches", || async { (watch().await.status().is_success()).then_some(()) })
        .await;
    // Its end is written, so the store is the real one, and what could not be registered at the start is.
    eventually("the new job ended", || async {
        (get(&new).await.json::<Value>().await.unwrap()["phase"] == "done").then_some(())
    })
    .await;
    eventually("the job of the configuration is there", || async {
        get(&named).await.status().is_success().then_some(())
    })
    .await;
    assert_eq!(get(&old).await.status(), 200);
    child.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_inspected_on_a_full_and_on_a_read_only_disk() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let job = mock.add_job(JobPlan::new().ending(Ending::Stuck));
    stopped(folder.path(), &mock.base_url(), &job).await;
    let commands =
        r#"for it in stats check "export -"; do "$0" store $it --data-dir small; echo "exit $?"; done"#;
    let sums = "(cd small && find . -type f ! -name ballast | sort | xargs sha256sum)";
    // A backup may be without the lock.
    let read_only = "rm small/lock && mount -o remount,ro small";
    let script = format!(
        "{MOUNT} && {FILL} && {commands} && {read_only} && {sums} > before && {commands} && {sums} > after"
    );
    let output = in_a_namespace(folder.path(), &script).env("TMPDIR", folder.path()).output().await.unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), show(&output));
    if said.is_empty() && (errors.contains("unshare") || errors.contains("mount")) {
        println!("skipped: no small file system can be mounted here: {errors}");
        return;
    }
    assert_eq!(said.matches("exit 0\n").count(), 6, "{errors}");
    assert_eq!(said.matches("the store is sound\n").count(), 2, "{errors}");
    assert_eq!(said.matches(&job).count(), 2, "each export has the job: {errors}");
    let read = |name| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("before"), read("after"));
    let left = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("tidings-")).collect();
    assert!(left.is_empty(), "copies are removed: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_store_on_a_full_disk_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let fill = "(cat /dev/zero > small/ballast 2>/dev/null || true)";
    let run = r#""$0" run --listen 127.0.0.1:0 --data-dir small/data; echo "exit $?""#;
    let output =
        in_a_namespace(folder.path(), &format!("{MOUNT} && {fill} && {run}")).output().await.unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), show(&output));
    if said.is_empty() && (errors.contains("unshare") || errors.contains("mount")) {
        println!("skipped: no small file system can be mounted here: {errors}");
        return;
    }
    assert!(said.contains("exit 1"), "{errors}");
    assert!(errors.contains("cannot be used: No space left on device"), "{errors}");
}
