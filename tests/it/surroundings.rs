//! The machine around the process: a stderr that nobody reads, limits of threads and descriptors, signals at any time, a name
//! for its socket that another has.

use std::{
    io::{Read as _, Write as _},
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, symlink},
        net::{UnixDatagram, UnixListener},
        process::ExitStatusExt as _,
    },
    path::{Path, PathBuf},
    process::Stdio,
};

use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tidings::mock::{Ending, JobPlan};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    process::{Child, Command},
    time::timeout,
};

use crate::harness::{
    Home, PATIENCE, Process, Receiver, binary, eventually, free_port, http, once, show, write_config,
};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_stderr_that_nobody_reads_holds_up_nothing() {
    let receiver = Receiver::start().await;
    let sink = format!(
        "[log]\nlevel = \"trace\"\n\n[sinks.app]\ntype = \"webhook\"\nurl = \"{}\"\n",
        receiver.url()
    );
    let home = Home::new(&sink).await;
    let (stderr, mut nobody) = full_pipe();
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = binary();
    command.args(["run", "--listen", &address]).current_dir(home.path());
    let mut child = command.stdin(Stdio::null()).stderr(stderr).spawn().unwrap();
    drop(command);
    let url = format!("http://{address}");
    let register = async |job: &str| {
        let answer =
            http().post(format!("{url}/v1/watches")).json(&json!({"job_id": job})).send().await.ok()?;
        answer.status().is_success().then_some(())
    };
    for number in 1..=3 {
        let job = home.mock.add_job(JobPlan::new());
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
async fn files_of_secrets_that_do_not_answer_hold_up_nothing() {
    let receiver = Receiver::start().await;
    let sink = format!(
        "[server]\ntoken_file = \"token\"\n\n[sinks.app]\ntype = \"webhook\"\nurl = \"{}\"\nsecret_file = \"signing\"\n",
        receiver.url()
    );
    let home = Home::new(&sink).await;
    let files = [("token", "tok"), ("signing", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")];
    for (name, secret) in files {
        std::fs::write(home.path().join(name), secret).unwrap();
    }
    let process = home.run().await;
    let watch = async |job: &str| {
        let request = http().post(format!("{}/v1/watches", process.url)).bearer_auth("tok");
        request.json(&json!({"job_id": job})).send().await.unwrap().status()
    };
    assert_eq!(watch(&home.mock.add_job(JobPlan::new())).await, 202);
    receiver.at_least(1).await;
    // As on a mount that hangs.
    for (name, _) in files {
        let path = home.path().join(name);
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .unwrap();
    }
    // The secrets that were read last count.
    assert_eq!(watch(&home.mock.add_job(JobPlan::new())).await, 202);
    let event = receiver.at_least(2).await.remove(1);
    assert!(event.header("webhook-signature").starts_with("v1,"), "{event:?}");
    healthz(&process.url).await;
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_signals_end_it_whatever_nobody_reads() {
    let receiver = Receiver::start().await;
    receiver.always(crate::harness::Reply::Hang);
    let sink = format!("[sinks.app]\ntype = \"webhook\"\nurl = \"{}\"\ntimeout = \"10m\"\n", receiver.url());
    let home = Home::new(&format!("[server]\ndrain = \"10m\"\n\n{sink}")).await;
    let job = home.mock.add_job(JobPlan::new());
    let (stderr, _nobody) = full_pipe();
    let mut command = binary();
    command.args(["run", "--once", "--watch", &job]).current_dir(home.path()).stdin(Stdio::null());
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
    let home = Home::new("").await;
    let job = home.mock.add_job(JobPlan::new());
    let (stdout, _nobody) = full_pipe();
    let mut command = binary();
    command.args(["run", "--once", "--watch", &job]).current_dir(home.path()).stdin(Stdio::null());
    let mut child = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = child.stderr.take().unwrap();
    let mut told = String::new();
    while !told.contains("open work is on disk") {
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
    let home = Home::new("").await;
    let mut command = limited("true", &["run", "--listen", "127.0.0.1:0"], home.path());
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
async fn connected(address: &str, says: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    // One that was closed meanwhile is none of ours any more.
    stream.write_all(says).await.ok()?;
    Some(stream)
}

/// Asks over a connection of its own.
async fn healthz(url: &str) {
    let answer = timeout(PATIENCE, http().get(format!("{url}/healthz")).send()).await.expect("it answers");
    assert_eq!(answer.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_neither_stop_the_work_nor_close_the_door() {
    let receiver = Receiver::start().await;
    let admin = format!("127.0.0.1:{}", free_port());
    let more = format!(
        "[server]\nadmin_listen = \"{admin}\"\n\n[sinks.app]\ntype = \"webhook\"\nurl = \"{}\"\n",
        receiver.url()
    );
    let home = Home::new(&more).await;
    let command = limited("ulimit -n 128", &["run", "--listen", "127.0.0.1:0"], home.path());
    let process = Process::spawn(command).await;
    let address = process.url.trim_start_matches("http://").to_owned();
    let mut silent = Vec::new();
    for number in 0..75 {
        silent.extend(connected(&address, b"").await);
        silent.extend(connected(&address, b"GET / HTTP/1.1\r\nhost: loc").await);
        if number % 25 == 0 {
            silent.extend(connected(&admin, b"").await);
            healthz(&process.url).await;
            healthz(&format!("http://{admin}")).await;
        }
    }
    for _ in 0..30 {
        silent.extend(connected(&admin, b"").await);
    }
    healthz(&process.url).await;
    healthz(&format!("http://{admin}")).await;
    let job = home.mock.add_job(JobPlan::new());
    let body = json!({"job_id": job});
    let answer = http().post(format!("{}/v1/watches", process.url)).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    receiver.at_least(1).await;
    let open = std::fs::read_dir(format!("/proc/{}/fd", process.pid())).unwrap().count();
    assert!(open <= 128 - 16, "{open} descriptors are open");
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_goes_on_with_few_descriptors_beside_a_crowd() {
    let receiver = Receiver::start().await;
    let more =
        format!("[sinks.app]\ntype = \"webhook\"\nurl = \"{}\"\nmax_in_flight = 100000\n", receiver.url());
    let home = Home::new(&more).await;
    let mut command = limited("ulimit -n 64", &["run", "--listen", "127.0.0.1:0"], home.path());
    // More than there can be.
    command.env("TIDINGS_SOURCES__RETAB__MAX_IN_FLIGHT", "100000").stderr(Stdio::piped());
    let process = Process::spawn(command).await;
    let address = process.url.trim_start_matches("http://").to_owned();
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.extend(connected(&address, b"").await);
    }
    let watches: Vec<_> = (0..100).map(|_| json!({"job_id": home.mock.add_job(JobPlan::new())})).collect();
    let url = format!("{}/v1/watches/batch", process.url);
    let answer = http().post(url).json(&json!({"watches": watches})).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    receiver.at_least(100).await;
    // Nobody gets the blame for a descriptor that was missing.
    let (status, log) = process.terminate().await;
    assert_eq!(status, Some(0));
    assert!(!log.contains("Too many open files"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_is_rendered_where_less_is_granted_than_it_may_take() {
    let receiver = Receiver::start().await;
    let more = format!(
        "[sinks.app]\ntype = \"webhook\"\nurl = \"{}\"\nformat = \"template\"\ntemplate = '{{\"job\":\"{{{{ job_id }}}}\"}}'\n",
        receiver.url()
    );
    let home = Home::new(&more).await;
    // A process without capabilities raises no limit, whoever it belongs to.
    let limits = match rustix::process::geteuid().is_root() {
        true => {
            "ulimit -d 180000 && ulimit -t 600 && set -- setpriv --bounding-set=-all --inh-caps=-all \"$0\" \"$@\" && exec \"$@\""
        }
        false => "ulimit -d 180000 && ulimit -t 600",
    };
    let command = limited(limits, &["run", "--listen", "127.0.0.1:0"], home.path());
    let process = Process::spawn(command).await;
    let body = json!({"job_id": home.mock.add_job(JobPlan::new())});
    let answer = http().post(format!("{}/v1/watches", process.url)).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    receiver.at_least(1).await;
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_full_of_silent_connections_answers() {
    let home = Home::new("").await;
    let socket = home.path().join("api.sock");
    let listen = format!("unix:{}", socket.display());
    let command = limited("ulimit -n 128", &["run", "--listen", &listen], home.path());
    let process = Process::spawn(command).await;
    let mut silent = Vec::new();
    for _ in 0..150 {
        silent.push(eventually("it connects", || async { UnixStream::connect(&socket).await.ok() }).await);
    }
    http();
    let client = reqwest::Client::builder().unix_socket(socket.clone()).build().unwrap();
    let asked = timeout(PATIENCE, client.get("http://localhost/healthz").send());
    assert_eq!(asked.await.expect("it answers").unwrap().status(), 200);
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_leave_room_for_a_probe() {
    let home = Home::new("").await;
    let command = limited("ulimit -n 128", &["run", "--listen", "127.0.0.1:0"], home.path());
    let process = Process::spawn(command).await;
    let address = process.url.trim_start_matches("http://").to_owned();
    let job = home.mock.add_job(JobPlan::new().ending(Ending::Stuck));
    let body = json!({"job_id": job});
    let answer = http().post(format!("{}/v1/watches", process.url)).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let wait = format!(
        "GET /v1/watches/retab/{job}/wait?timeout=5m HTTP/1.1\r\nhost: localhost\r\nconnection: keep-alive\r\n\r\n"
    );
    // Of 64 places 48 are for requests.
    let (said, mut answers) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..50 {
        let (said, address, wait) = (said.clone(), address.clone(), wait.clone());
        tokio::spawn(async move {
            let mut stream = connected(&address, wait.as_bytes()).await.unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            // The test may be over.
            let _ = said.send(String::from_utf8_lossy(&answer).into_owned());
        });
    }
    // Those that wait are not answered.
    let refused = timeout(PATIENCE, answers.recv()).await.expect("one is refused").unwrap();
    assert_eq!(refused, "HTTP/1.1 503");
    healthz(&process.url).await;
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_heads_and_bodies_take_little_memory() {
    const CONNECTIONS: usize = 400;
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), "http://127.0.0.1:1", "[server]\ncore_dumps = true\ndrain = \"100ms\"\n");
    let process = Process::run(folder.path(), &[]).await;
    let address = process.url.trim_start_matches("http://").to_owned();
    let before = process.rss();
    process.reset_peak();
    let post = "POST /v1/watches HTTP/1.1\r\nhost: localhost\r\n";
    let head = format!("{post}x-filler: {}", "x".repeat(60 << 10));
    for mut stream in
        join_all((0..CONNECTIONS).map(|_| connected(&address, head.as_bytes()))).await.into_iter().flatten()
    {
        // Its end, after an answer or without one.
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed");
    }
    let (json, filler) = ("content-type: application/json\r\ncontent-length: 65536", "x".repeat(60 << 10));
    let body = format!("{post}{json}\r\n\r\n{filler}");
    let _bodies = join_all((0..CONNECTIONS).map(|_| connected(&address, body.as_bytes()))).await;
    healthz(&process.url).await;
    let growth = process.peak().saturating_sub(before);
    println!("{CONNECTIONS} heads and bodies of 60 KiB; memory grew by at most {} KiB", growth >> 10);
    assert!(growth < 20 << 20, "it grew by {} KiB", growth >> 10);
    assert_eq!(process.terminate().await.0, Some(0));
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

/// Starts a daemon that shall listen at `socket` and must not.
async fn refused(folder: &Path, socket: &Path) {
    let listen = format!("unix:{}", socket.display());
    let output = timeout(PATIENCE, once(folder, &["run", "--listen", &listen])).await.expect("it ends");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{}", show(&output));
    assert!(told.contains(&listen), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_the_name_of_its_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), "http://127.0.0.1:1", "");
    let at = |name: &str| folder.path().join(name);
    let inode = |path: &Path| std::fs::symlink_metadata(path).unwrap().ino();
    std::fs::write(at("file"), "precious").unwrap();
    let _live = UnixListener::bind(at("live")).unwrap();
    let _datagram = UnixDatagram::bind(at("datagram")).unwrap();
    drop(UnixListener::bind(at("dead")).unwrap());
    // One whose queue of connections is full, so that it cannot answer.
    let _full = UnixListener::bind(at("full")).unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = UnixStream::connect(at("full")).await {
        queued.push(stream);
    }
    symlink("file", at("to-file")).unwrap();
    symlink("live", at("to-live")).unwrap();
    symlink("dead", at("to-dead")).unwrap();
    symlink("nothing", at("to-nothing")).unwrap();
    std::fs::create_dir(at("folder")).unwrap();
    for name in ["file", "live", "datagram", "full", "to-file", "to-live", "to-dead", "to-nothing", "folder"]
    {
        let before = inode(&at(name));
        refused(folder.path(), &at(name)).await;
        assert_eq!(inode(&at(name)), before, "{name}");
    }
    assert_eq!(std::fs::read_to_string(at("file")).unwrap(), "precious");
    assert!(at("dead").exists() && !at("nothing").exists());
    std::os::unix::net::UnixStream::connect(at("live")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn at_its_end_a_daemon_removes_its_own_socket_alone() {
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), "http://127.0.0.1:1", "");
    let socket = folder.path().join("api.sock");
    let listen = format!("unix:{}", socket.display());
    let mut command = binary();
    command.args(["run", "--listen", &listen]).current_dir(folder.path());
    let process = Process::spawn(command).await;
    assert!(std::fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
    std::fs::remove_file(&socket).unwrap();
    let _other = UnixListener::bind(&socket).unwrap();
    assert_eq!(process.terminate().await.0, Some(0));
    std::os::unix::net::UnixStream::connect(&socket).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_leaves_no_socket() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = taken.local_addr().unwrap();
    write_config(folder.path(), "http://127.0.0.1:1", &format!("[server]\nadmin_listen = \"{admin}\"\n"));
    let socket = folder.path().join("api.sock");
    let output = once(folder.path(), &["run", "--listen", &format!("unix:{}", socket.display())]).await;
    assert_eq!(output.status.code(), Some(1), "{}", show(&output));
    assert!(!socket.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_find_a_dead_socket_one_gets_its_name() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let socket = one.path().join("api.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let listen = format!("unix:{}", socket.display());
    let mut both = [&one, &other].map(|folder| {
        write_config(folder.path(), "http://127.0.0.1:1", "");
        let mut command = binary();
        command.args(["run", "--listen", &listen]).current_dir(folder.path());
        command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    });
    let loser = eventually("one gives up", || {
        let ended = both.each_mut().map(|child| child.try_wait().unwrap());
        async move { ended.iter().position(Option::is_some) }
    })
    .await;
    assert_eq!(ended(&mut both[loser]).await.code(), Some(1));
    http();
    let client = reqwest::Client::builder().unix_socket(socket.clone()).build().unwrap();
    eventually("the other answers", || async { client.get("http://localhost/healthz").send().await.ok() })
        .await;
    send(&both[1 - loser], Signal::TERM);
    assert_eq!(ended(&mut both[1 - loser]).await.code(), Some(0));
    assert!(!socket.exists());
}
