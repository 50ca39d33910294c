//! A server of PostgreSQL for tests: in a temporary folder, on a socket there and on a port of this machine, by a user that is not
//! root. It ends with the test's process, however that ends.

use std::{
    fs,
    io::Write as _,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::port::free_port;

/// Runs the server until its own standard input ends, and removes its folder then.
const KEEPER: &str = r#"folder=$1; shift; "$@" >> "$folder/log" 2>&1 & pid=$!; echo $pid > "$folder/pid"; read -r _; \
    kill -INT $pid 2> /dev/null; wait $pid; rm -rf "$folder""#;

/// A server of its own.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    bin: PathBuf,
    port: u16,
    /// The user and the group that run it; `None` when this process is not root's.
    user: Option<(u32, u32)>,
    settings: Vec<String>,
    keeper: Child,
}

/// The folder of its programs: `PG_BIN`, or the newest of Debian's.
fn programs() -> PathBuf {
    if let Some(bin) = std::env::var_os("PG_BIN") {
        return bin.into();
    }
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("postgres").exists())
        .collect();
    found.sort();
    found.pop().expect("no server of PostgreSQL is here: install Debian's postgresql, or set PG_BIN")
}

/// The user `postgres`, for a test that root runs: the server refuses root.
fn unprivileged() -> Option<(u32, u32)> {
    (fs::metadata("/proc/self").unwrap().uid() == 0).then(|| {
        let text = fs::read_to_string("/etc/passwd").unwrap();
        let line =
            text.lines().find(|line| line.starts_with("postgres:")).expect("there is no user postgres");
        let mut parts = line.split(':').skip(2).map(|part| part.parse().unwrap());
        (parts.next().unwrap(), parts.next().unwrap())
    })
}

impl Postgres {
    /// The one that the tests of this process share. It does not sync: no test of it pulls the plug.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&["fsync=off", "full_page_writes=off"]))
    }

    /// Starts one with these settings.
    pub fn start(settings: &[&str]) -> Self {
        let (bin, user) = (programs(), unprivileged());
        // Its user may go there, and the name of a socket there is short enough.
        let folder = tempfile::Builder::new().prefix("tidings-pg-").tempdir_in("/tmp").unwrap().keep();
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).unwrap();
        }
        let data = folder.join("data");
        let made = as_user(Command::new(bin.join("initdb")), user)
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--pgdata"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        let keeper = keep(&bin, &folder, port, user, &settings);
        let server = Self { folder, bin, port, user, settings, keeper };
        server.await_ready();
        server
    }

    fn await_ready(&self) {
        let begun = Instant::now();
        while !self.program("pg_isready").arg("-q").status().unwrap().success() {
            let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(60), "the server did not start: {}", log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// One of its programs, to be run against it.
    pub fn program(&self, name: &str) -> Command {
        let mut command = as_user(Command::new(self.bin.join(name)), self.user);
        command.env("PGHOST", &self.folder).env("PGPORT", self.port.to_string()).env("PGUSER", "postgres");
        command
    }

    /// Another program, to be run by the same user.
    pub fn other(&self, name: &str) -> Command {
        as_user(Command::new(name), self.user)
    }

    /// Lets the user of every server have a file.
    pub fn give(path: &Path) {
        use std::os::unix::fs::PermissionsExt as _;
        let is_folder = path.is_dir();
        fs::set_permissions(path, fs::Permissions::from_mode(if is_folder { 0o755 } else { 0o600 })).unwrap();
        if let Some((uid, gid)) = unprivileged().filter(|_| !is_folder) {
            std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
        }
    }

    /// Runs statements and returns what they print, a row a line.
    pub fn sql(&self, database: &str, statements: &str) -> String {
        let done = self
            .program("psql")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statements])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// Makes a database and returns its name.
    pub fn database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("tidings_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("create database {name}"));
        name
    }

    /// The URL of a database, by way of the socket.
    pub fn url(&self, database: &str) -> String {
        let host = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{host}:{}/{database}", self.port)
    }

    /// The same, by way of the port.
    pub fn tcp_url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// Where its socket and its log are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Stops it: `fast` ends the connections, `immediate` is a crash.
    pub fn stop(&self, mode: &str) {
        let mut stop = self.program("pg_ctl");
        let done = stop.arg("--pgdata").arg(self.folder.join("data")).args(["stop", "-m", mode]).output();
        let done = done.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Starts it again.
    pub fn start_again(&mut self) {
        let next = keep(&self.bin, &self.folder, self.port, self.user, &self.settings);
        // The one before has no server any more; it must not remove the folder.
        let mut before = std::mem::replace(&mut self.keeper, next);
        before.kill().unwrap();
        before.wait().unwrap();
        self.await_ready();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut input) = self.keeper.stdin.take() {
            let _ = input.write_all(b"\n");
        }
        let _ = self.keeper.wait();
    }
}

fn as_user(mut command: Command, user: Option<(u32, u32)>) -> Command {
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command.current_dir("/");
    command
}

fn keep(bin: &Path, folder: &Path, port: u16, user: Option<(u32, u32)>, settings: &[String]) -> Child {
    let mut keeper = as_user(Command::new("sh"), user);
    keeper
        .args(["-c", KEEPER, "sh"])
        .arg(folder)
        .arg(bin.join("postgres"))
        .arg("-D")
        .arg(folder.join("data"));
    keeper.arg("-k").arg(folder).args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
    keeper.args(["-c", "max_connections=200", "-c", "shared_buffers=64MB"]);
    for setting in settings {
        keeper.args(["-c", setting]);
    }
    keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().unwrap()
}
