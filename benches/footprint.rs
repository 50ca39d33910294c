//! Resident memory of the real binary: idle, with 100 000 watches, and after a restart with them.
//! `cargo bench --bench footprint`

#![expect(clippy::disallowed_methods, reason = "it waits for the process to settle before it is measured")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tidings::{
    mock::{Ending, Endings, Mock, MockConfig},
    util::http_client::{self, Outgoing, guard::Trust},
};

const WATCHES: usize = 100_000;
const BATCH: usize = 10_000;

/// A daemon that is killed when this goes.
struct Daemon {
    child: Child,
    url: String,
    /// From the start of the process to its being ready.
    took: Duration,
}

impl Daemon {
    fn start(folder: &Path) -> Self {
        let begun = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
        command.args(["run", "--listen", "127.0.0.1:0"]).env_clear().current_dir(folder);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines.by_ref().map(Result::unwrap).find_map(|line| {
            let at = line.find("address=")? + "address=".len();
            Some(line[at..].split_whitespace().next()?.to_owned())
        });
        let url = format!("http://{}", address.expect("it says where it listens"));
        // It says what it took up once it is loaded.
        lines
            .by_ref()
            .map(Result::unwrap)
            .find(|line| line.contains("took up"))
            .expect("it takes up what is open");
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { child, url, took: begun.elapsed() }
    }

    fn rss(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    fn print(&self, what: &str) {
        let (mib, took) = (f64::from(u32::try_from(self.rss() >> 10).unwrap()) / 1024.0, self.took);
        println!("| {what:<36} | {mib:>8.1} | {:>9.2} |", took.as_secs_f64());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A job id as good as random, of the length that Retab's have.
fn job(n: usize) -> String {
    format!("job_{:016x}", (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

async fn register_all(client: &reqwest::Client, url: &str) {
    for batch in 0..WATCHES / BATCH {
        let watches: Vec<Value> =
            (batch * BATCH..(batch + 1) * BATCH).map(|n| json!({"job_id": job(n)})).collect();
        let post = client.post(format!("{url}/v1/watches/batch")).json(&json!({"watches": watches}));
        let answer: Value = post.send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["accepted"], BATCH, "{answer}");
    }
}

fn main() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("footprint");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let endless = MockConfig { endings: Endings::always(Ending::Stuck), ..MockConfig::default() };
    let mock = runtime.block_on(Mock::start(endless, "127.0.0.1:0".parse().unwrap())).unwrap();
    // Unknown jobs may appear for an hour: nothing is given up while this measures.
    let config = format!("[sources.retab]\nbase_url = \"{}\"\nnot_found_grace = \"1h\"\n", mock.base_url());
    fs::write(folder.join("tidings.toml"), config).unwrap();
    println!("| what                                 |  RSS MiB | ready, s  |");
    println!("| ------------------------------------ | -------: | --------: |");
    let daemon = Daemon::start(&folder);
    // What starts up lazily has started.
    std::thread::sleep(Duration::from_secs(2));
    daemon.print("idle");
    let outgoing = Outgoing::direct(Trust::Operator);
    let client = http_client::builder(&outgoing, http_client::tls()).build().unwrap();
    let begun = Instant::now();
    runtime.block_on(register_all(&client, &daemon.url));
    let took = begun.elapsed().as_secs_f64();
    std::thread::sleep(Duration::from_secs(2));
    daemon.print("100 000 watches, as registered");
    drop(daemon);
    let daemon = Daemon::start(&folder);
    std::thread::sleep(Duration::from_secs(2));
    daemon.print("100 000 watches, after kill -9");
    drop(daemon);
    println!(
        "100 000 watches were registered in {took:.2} s, {:.0} a second",
        f64::from(u32::try_from(WATCHES).unwrap()) / took
    );
    let size: u64 = fs::metadata(folder.join("data/db/db")).unwrap().len();
    println!("the database holds them in {:.1} MiB", f64::from(u32::try_from(size >> 10).unwrap()) / 1024.0);
    let _ = fs::remove_dir_all(&folder);
}
