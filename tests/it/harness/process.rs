//! The daemon as the real binary.

use std::{
    path::Path,
    process::{Output, Stdio},
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};

use super::{Api, PATIENCE, eventually};

/// The binary with an environment in which nothing of ours is set.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    command.env_clear().kill_on_drop(true);
    command
}

/// Runs `tidings` with these arguments in `folder` until it ends.
pub async fn once(folder: &Path, args: &[&str]) -> Output {
    binary().args(args).current_dir(folder).stdin(Stdio::null()).output().await.unwrap()
}

/// A running `tidings run`.
pub struct Process {
    pub api: Api,
    child: Child,
    log: Arc<Mutex<String>>,
    /// Reads the log; it ends with the process.
    reader: JoinHandle<()>,
}

impl Process {
    /// Starts `tidings run` in `folder` with these arguments, on any free port, and waits until it is ready.
    pub async fn run(folder: &Path, args: &[&str]) -> Self {
        let mut command = binary();
        command.arg("run").args(["--listen", "127.0.0.1:0"]).args(args).current_dir(folder);
        let process = Self::spawn(command).await;
        eventually("it is ready", || async {
            let answer = process.http.get(format!("{}/readyz", process.url)).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        process
    }

    pub async fn spawn(command: Command) -> Self {
        let mut process = Self::launch(command);
        process.listening().await;
        process
    }

    /// Starts it without waiting for anything; it has no URL before [`Process::listening`].
    pub fn launch(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log: Arc<Mutex<String>> = Arc::default();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let written = Arc::clone(&log);
        let reader = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut log = written.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { api: Api::at(String::new()), child, log, reader }
    }

    /// Waits until it says where it listens.
    pub async fn listening(&mut self) {
        let said = || {
            let log = self.log();
            let line = log.lines().find(|line| line.contains("listening"))?;
            let at = line.find("address=")? + "address=".len();
            Some(line[at..].split_whitespace().next()?.to_owned())
        };
        let is_said = eventually("it says where it listens", || async { said() });
        let address = timeout(PATIENCE.mul_f32(0.9), is_said)
            .await
            .unwrap_or_else(|_| panic!("it does not listen: {}", self.log()));
        self.api.url = format!("http://{address}");
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Ends it as an out-of-memory killer would.
    pub async fn kill(mut self) -> String {
        self.child.kill().await.unwrap();
        self.ended().await.1
    }

    /// Sends SIGTERM and waits: the exit status, and what it logged.
    pub async fn terminate(self) -> (Option<i32>, String) {
        self.signal(rustix::process::Signal::TERM);
        self.ended().await
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }
}

/// Beside [`Process::run`]: for what happens around a start and an end.
impl Process {
    /// Starts it like [`Process::run`], without waiting until it is ready.
    pub async fn start(folder: &Path, args: &[&str]) -> Self {
        let mut command = binary();
        command.arg("run").args(["--listen", "127.0.0.1:0"]).args(args).current_dir(folder);
        Self::spawn(command).await
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits until it ended. Its address and its folder are free then.
    pub async fn gone(&mut self) {
        timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap();
    }

    /// Waits until it ended: how.
    pub async fn died(mut self) -> std::process::ExitStatus {
        timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap()
    }

    /// Waits until it ended: the exit status, and all that it logged.
    pub async fn ended(mut self) -> (Option<i32>, String) {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap();
        // The last lines may be on their way still.
        (&mut self.reader).await.unwrap();
        (status.code(), self.log())
    }

    /// The most resident memory since the last [`Process::reset_peak`], in bytes.
    pub fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    /// Lets the kernel measure the peak anew.
    pub fn reset_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").unwrap();
    }
}
