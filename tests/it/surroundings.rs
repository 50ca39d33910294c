//! The machine around the process: a stderr that nobody reads, limits of threads and descriptors, signals at any time, a name
//! for its socket that another has.

use std::{
    io::{Read as _, Write as _},
    os::unix::{fs::OpenOptionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::Stdio,
};

use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tidings::mock::JobPlan;
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
    time::timeout,
};

use crate::harness::{PATIENCE, Process, Receiver, binary, eventually, http, mock, write_config};

/// The binary below a shell that sets a limit first.
fn limited(limit: &str, args: &[&str], folder: &Path) -> Command {
    let mut command = Command::new("sh");
    let script = format!("{limit} && exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_tidings")]).args(args);
    command.env_clear().current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn ended(child: &mut Child) -> std::process::ExitStatus {
    timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap()
}

fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// A pipe that is full, as its write end and the end that nobody reads.
fn full_pipe() -> (std::io::PipeWriter, std::io::PipeReader) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[b'.'; 4096]).is_ok() {}
    while writer.write(b".").is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (writer, reader)
}

/// A port that is free now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stderr_that_nobody_reads_holds_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, receiver) = (mock().await, Receiver::start().await);
    let sink = format!(
        "[log]\nlevel = \"trace\"\n\n[sinks.app]\ntype = \"webhook\"\nurl = \"{}\"\n",
        receiver.url()
    );
    write_config(folder.path(), &mock.base_url(), &sink);
    let (stderr, mut nobody) = full_pipe();
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = binary();
    command.args(["run", "--listen", &address]).current_dir(folder.path());
    let mut child = command.stdin(Stdio::null()).stderr(stderr).spawn().unwrap();
    drop(command);
    let url = format!("http://{address}");
    let register = async |job: &str| {
        let answer =
            http().post(format!("{url}/v1/watches")).json(&json!({"job_id": job})).send().await.ok()?;
        answer.status().is_success().then_some(())
    };
    for number in 1..=3 {
        let job = mock.add_job(JobPlan::new());
        eventually("a job is taken", || register(&job)).await;
        receiver.at_least(number).await;
    }
    // More than fits into the queue.
    eventually("lines are dropped and counted", || async {
        let asked = (0..50).map(|_| http().get(format!("{url}/v1/watches")).send());
        join_all(asked).await;
        let text = http().get(format!("{url}/metrics")).send().await.ok()?.text().await.ok()?;
        let line = text.lines().find(|line| line.starts_with("tidings_log_lines_dropped_total "))?;
        (line != "tidings_log_lines_dropped_total 0").then_some(())
    })
    .await;
    send(&child, Signal::TERM);
    assert_eq!(ended(&mut child).await.code(), Some(0));
    let mut text = Vec::new();
    nobody.read_to_end(&mut text).unwrap();
    assert!(text.iter().all(|byte| *byte == b'.'), "nothing else went into a full pipe");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_signals_end_it_whatever_nobody_reads() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, receiver) = (mock().await, Receiver::start().await);
    receiver.always(crate::harness::Reply::Hang);
    let sink = format!("[sinks.app]\ntype = \"webhook\"\nurl = \"{}\"\ntimeout = \"10m\"\n", receiver.url());
    write_config(folder.path(), &mock.base_url(), &format!("[server]\ndrain = \"10m\"\n\n{sink}"));
    let job = mock.add_job(JobPlan::new());
    let (stderr, _nobody) = full_pipe();
    let mut command = binary();
    command.args(["run", "--once", "--watch", &job]).current_dir(folder.path()).stdin(Stdio::null());
    let mut child = command.stderr(stderr).spawn().unwrap();
    receiver.at_least(1).await;
    // The second may come before the first was seen, and then counts as the same.
    let ended = eventually("it ends", || {
        if child.id().is_some() {
            send(&child, Signal::TERM);
        }
        let status = child.try_wait().unwrap();
        async move { status }
    });
    assert_eq!(ended.await.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn results_that_nobody_reads_end_with_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    write_config(folder.path(), &mock.base_url(), "");
    let job = mock.add_job(JobPlan::new());
    let (stdout, _nobody) = full_pipe();
    let mut command = binary();
    command.args(["run", "--once", "--watch", &job]).current_dir(folder.path()).stdin(Stdio::null());
    let mut child = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = child.stderr.take().unwrap();
    let mut told = String::new();
    while !told.contains("what is left is on disk") {
        let mut part = [0; 4096];
        let read = timeout(PATIENCE, log.read(&mut part)).await.unwrap().unwrap();
        assert!(read > 0, "{told}");
        told += &String::from_utf8_lossy(&part[..read]);
    }
    send(&child, Signal::TERM);
    assert_eq!(ended(&mut child).await.code(), Some(1));
    log.read_to_string(&mut told).await.unwrap();
    assert!(told.contains("stdout was not read"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_that_are_not_granted_end_the_start_with_a_message() {
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), "http://127.0.0.1:1", "");
    // No thread gets a stack of 64 TiB.
    let mut command = binary();
    command.arg("run").env("RUST_MIN_STACK", (1_u64 << 46).to_string()).current_dir(folder.path());
    let output = timeout(PATIENCE, command.stdin(Stdio::null()).output()).await.expect("it ends").unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("threads") && told.contains("hint: ") && told.contains("TasksMax="), "{told}");
    assert!(!folder.path().join("data").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn some_threads_too_few_end_the_start_with_a_message() {
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), "http://127.0.0.1:1", "");
    // Each thread takes 256 MiB of addresses, of which there are 2 GiB.
    let mut command = limited("ulimit -v 2097152", &["run"], folder.path());
    command.env("RUST_MIN_STACK", (256_u64 << 20).to_string());
    let output = timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("threads that are needed"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_are_few_on_any_machine() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    write_config(folder.path(), &mock.base_url(), "");
    let mut command = limited("true", &["run", "--listen", "127.0.0.1:0"], folder.path());
    // What tokio would go by.
    command.env("TOKIO_WORKER_THREADS", "64");
    let process = Process::spawn(command).await;
    let url = format!("{}/readyz", process.url);
    eventually("it is ready", || async { http().get(&url).send().await.ok() }).await;
    let threads = std::fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap().count();
    assert!(threads <= 32, "{threads}");
    assert_eq!(process.terminate().await.0, Some(0));
    // The unit grants what there may be at most: 4 workers, 64 that block, and a dozen of the log, the store and sled.
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/systemd/tidings.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    let most = unit.lines().find_map(|line| line.strip_prefix("TasksMax=")).unwrap();
    assert!(most.parse::<usize>().unwrap() >= 4 + 64 + 16, "{most}");
}

/// Opens a connection that says this and no more.
/// Asks over a connection of its own.
async fn healthz(url: &str) {
    let answer = timeout(PATIENCE, http().get(format!("{url}/healthz")).send()).await.expect("it answers");
    assert_eq!(answer.unwrap().status(), 200);
}

/// A data folder whose store opens only when the returned marker is fed.
async fn slow_store(folder: &Path) -> (PathBuf, String) {
    let process = Process::run(folder, &[]).await;
    assert_eq!(process.terminate().await.0, Some(0));
    let marker = folder.join("data/tidings.json");
    let text = std::fs::read_to_string(&marker).unwrap();
    std::fs::remove_file(&marker).unwrap();
    let made = Command::new("mkfifo").arg(&marker).status().await.unwrap();
    assert!(made.success());
    (marker, text)
}

async fn starting(folder: &Path) -> Process {
    let mut command = binary();
    command.args(["run", "--listen", "127.0.0.1:0"]).current_dir(folder);
    let process = Process::launch(command);
    eventually("it starts", || async { process.log().contains("starting").then_some(()) }).await;
    process
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_while_the_store_opens_ends_it_at_once() {
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), "http://127.0.0.1:1", "");
    slow_store(folder.path()).await;
    for signal in [Signal::TERM, Signal::INT] {
        let process = starting(folder.path()).await;
        process.signal(signal);
        let (status, log) = process.ended().await;
        assert_eq!(status, Some(0), "{signal:?}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_that_ask_for_no_end_change_nothing_or_wait() {
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), "http://127.0.0.1:1", "");
    let (marker, text) = slow_store(folder.path()).await;
    let mut process = starting(folder.path()).await;
    let ignored = [Signal::USR1, Signal::USR2, Signal::PIPE, Signal::ALARM, Signal::IO, Signal::XFSZ];
    for signal in ignored.into_iter().chain([Signal::HUP]) {
        process.signal(signal);
    }
    eventually("the start waits for the marker", || async {
        let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap();
        let mut file = std::fs::File::options().write(true).custom_flags(nonblocking).open(&marker).ok()?;
        file.write_all(text.as_bytes()).ok()
    })
    .await;
    let beside = folder.path().join("marker");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, &marker).unwrap();
    process.listening().await;
    let metrics = format!("{}/metrics", process.url);
    eventually("the configuration is read again", || async {
        let text = http().get(&metrics).send().await.unwrap().text().await.unwrap();
        text.contains("tidings_config_reloads_total{result=\"ok\"} 1").then_some(())
    })
    .await;
    for signal in ignored {
        process.signal(signal);
    }
    healthz(&process.url).await;
    assert_eq!(process.terminate().await.0, Some(0));
}

/// Ends a process as a fault of ours would, and returns whether the kernel dumped its memory.
async fn dumped(mut command: Command) -> bool {
    let mut child = command.spawn().unwrap();
    let status = ended(&mut child).await;
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{status:?}");
    status.core_dumped()
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_dumped_only_where_that_is_asked_for() {
    const CORES: &str = "ulimit -c $(ulimit -H -c)";
    let folder = tempfile::tempdir().unwrap();
    let mut any = Command::new("sh");
    any.args(["-c", &format!("{CORES}; kill -ABRT $$")]).current_dir(folder.path());
    let possible = dumped(any).await;
    for (allowed, expected) in [("false", false), ("true", possible)] {
        write_config(folder.path(), "http://127.0.0.1:1", &format!("[server]\ncore_dumps = {allowed}\n"));
        let mut command = limited(CORES, &["run", "--listen", "127.0.0.1:0"], folder.path());
        command.stderr(Stdio::piped());
        let process = Process::spawn(command).await;
        process.signal(Signal::ABORT);
        assert_eq!(process.died().await.core_dumped(), expected, "core_dumps = {allowed}");
    }
}
