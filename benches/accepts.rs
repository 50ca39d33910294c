//! Durable accepts a second: over HTTP against the daemon in this process, by the store alone, and by appending to
//! a file with the same group commit, all on one disk in one run. `cargo bench --bench accepts`

use std::{
    fs::{self, File},
    future::Future,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use tidings::{
    app::App,
    config::Config,
    mock::{Mock, MockConfig},
    model::job::JobId,
    store::{Registration, Store, StoreConfig},
    util::{
        clock,
        http_client::{self, Outgoing, guard::Trust},
        listen::Listen,
        units::HumanDuration,
    },
};
use tokio::sync::oneshot;

const CALLERS: [usize; 3] = [1, 16, 256];
const LASTS: Duration = Duration::from_secs(3);

/// One row: accepts a second, and how long callers waited.
struct Row {
    rate: f64,
    p50: Duration,
    p99: Duration,
}

/// `callers` tasks that each call `accept` again and again.
async fn measure<F, A>(callers: usize, accept: F) -> Row
where
    F: Fn(u64) -> A + Clone + Send + 'static,
    A: Future<Output = ()> + Send,
{
    let next = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (accept, next) = (accept.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                let mut waits = Vec::new();
                while begun.elapsed() < LASTS {
                    let asked = Instant::now();
                    accept(next.fetch_add(1, Ordering::Relaxed)).await;
                    waits.push(asked.elapsed());
                }
                waits
            })
        })
        .collect();
    let mut waits = Vec::new();
    for task in tasks {
        waits.extend(task.await.unwrap());
    }
    let took = begun.elapsed();
    waits.sort_unstable();
    let at = |share: usize| waits[(waits.len() * share / 100).min(waits.len() - 1)];
    Row {
        rate: f64::from(u32::try_from(waits.len()).unwrap()) / took.as_secs_f64(),
        p50: at(50),
        p99: at(99),
    }
}

/// Ids that are as good as random as keys.
fn job(n: u64) -> String {
    format!("job_{:016x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

type Append = (Vec<u8>, oneshot::Sender<()>);

/// One thread that appends what waits, syncs once and answers all: what the disk allows at best.
fn appender(path: &Path) -> mpsc::Sender<Append> {
    let mut file = File::create(path).unwrap();
    let (calls, waiting) = mpsc::channel::<Append>();
    std::thread::spawn(move || {
        while let Ok(first) = waiting.recv() {
            let mut group = vec![first];
            while group.len() < 2048
                && let Ok(call) = waiting.try_recv()
            {
                group.push(call);
            }
            let bytes: Vec<u8> = group.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
            file.write_all(&bytes).unwrap();
            file.sync_data().unwrap();
            for (_, reply) in group {
                let _ = reply.send(());
            }
        }
    });
    calls
}

async fn append(folder: &Path, callers: usize) -> Row {
    let calls = appender(&folder.join("log"));
    measure(callers, move |n| {
        let (reply, answer) = oneshot::channel();
        // About as much as a watch's record.
        let record = format!("{:<300}\n", job(n)).into_bytes();
        calls.send((record, reply)).unwrap();
        async move { answer.await.unwrap() }
    })
    .await
}

async fn store(folder: &Path, callers: usize) -> Row {
    let config = StoreConfig { path: folder.join("store"), ..StoreConfig::default() };
    let store = Store::open(&config).unwrap();
    measure(callers, move |n| {
        let store = store.clone();
        async move {
            let id: JobId = job(n).parse().unwrap();
            store.register(vec![Registration::new("retab", id)], clock::now()).await.unwrap();
        }
    })
    .await
}

async fn http(folder: &Path, callers: usize) -> Row {
    let upstream = Mock::start(MockConfig::default(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let mut config = Config::default();
    "127.0.0.1:0".clone_into(&mut config.server.listen);
    config.store.path = folder.join("daemon");
    let source = config.sources.get_mut("retab").unwrap();
    source.base_url = Some(upstream.base_url());
    // The question is how fast it accepts: it polls next to nothing meanwhile.
    source.max_requests_per_second = 1.0;
    source.polling.min_interval = HumanDuration::secs(600);
    source.polling.max_interval = Some(HumanDuration::secs(600));
    let app = App::bind(config, true).await.unwrap();
    let Some(Listen::Tcp(address)) = app.addr() else { panic!("it listens on TCP") };
    let url = format!("http://{address}/v1/watches");
    let handle = app.handle();
    let running = tokio::spawn(app.run());
    handle.loaded().await;
    let outgoing = Outgoing::direct(Trust::Operator);
    let client = http_client::builder(&outgoing, http_client::tls()).build().unwrap();
    let row = measure(callers, move |n| {
        let post = client.post(&url).header("content-type", "application/json");
        let post = post.body(format!("{{\"job_id\":\"{}\",\"labels\":{{\"team\":\"billing\"}}}}", job(n)));
        async move {
            let answer = post.send().await.unwrap();
            assert_eq!(answer.status(), 202);
            answer.bytes().await.unwrap();
        }
    })
    .await;
    handle.stop();
    running.await.unwrap().unwrap();
    row
}

fn print(name: &str, callers: usize, row: &Row, best: f64, store: f64) {
    let ms = |span: Duration| span.as_secs_f64() * 1000.0;
    println!(
        "| {name:<22} | {callers:>7} | {:>9.0} | {:>8.2} | {:>8.2} | {:>9.2} | {:>8.2} |",
        row.rate,
        ms(row.p50),
        ms(row.p99),
        row.rate / best,
        row.rate / store
    );
}

fn main() {
    let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("accepts");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("| what                   | callers | accepts/s |  p50 ms  |  p99 ms  | of append | of store |");
    println!("| ---------------------- | ------: | --------: | -------: | -------: | --------: | -------: |");
    for callers in CALLERS {
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        let best = runtime.block_on(append(&root, callers));
        let alone = runtime.block_on(store(&root, callers));
        let whole = runtime.block_on(http(&root, callers));
        for (name, row) in
            [("append + fdatasync", &best), ("the store alone", &alone), ("HTTP, one daemon", &whole)]
        {
            print(name, callers, row, best.rate, alone.rate);
        }
    }
    let _ = fs::remove_dir_all(&root);
}
