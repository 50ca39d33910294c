//! What only a database that another process serves can do: die during a commit, go away, belong to somebody else.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{io::AsyncReadExt as _, time::timeout};

use super::*;
use crate::model::job::{Outcome, Phase};
use crate::store::{
    Change, Registered, Registration, Store, StoreError,
    bodies::MAX_SMALL,
    tests::{Bench, at, eventually, id, in_database, port::free_port, seen, server::Postgres},
};

/// A bench in a new database of a server, and the name of that.
fn bench_on(server: &Postgres) -> (Bench, String) {
    let database = server.database();
    let folder = tempfile::tempdir().unwrap();
    (Bench::in_database(in_database(folder.path(), &server.url(&database)), folder), database)
}

fn open(url: &str) -> Result<Store, OpenError> {
    let folder = tempfile::tempdir().unwrap();
    Store::open(&in_database(folder.path(), url))
}

/// Why a database is refused.
fn refusal(url: &str) -> String {
    match open(url) {
        Err(error @ (OpenError::Database { .. } | OpenError::Held { .. })) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was opened"),
    }
}

async fn try_to_watch(store: &Store, job: &str) -> Result<(), StoreError> {
    store.register(vec![Registration::new("retab", id(job))], at(0)).await.map(drop)
}

/// A way to the server that cuts the next connection that commits.
struct Line {
    port: u16,
    cut: Arc<AtomicU8>,
    /// It takes no new connection.
    is_closed: Arc<AtomicBool>,
    /// It takes everything, and passes nothing on.
    is_silent: Arc<AtomicBool>,
}

const BEFORE_IT_ARRIVES: u8 = 1;
const BEFORE_THE_ANSWER: u8 = 2;
/// Not at a commit, and not cut but silent from then on: behind the statement that locks the row of the holder.
const BEHIND_THE_LOCK: u8 = 3;

impl Line {
    fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, cut) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU8::new(0)));
        let (when, is_closed) = (Arc::clone(&cut), Arc::new(AtomicBool::new(false)));
        let (refuses, is_silent) = (Arc::clone(&is_closed), Arc::new(AtomicBool::new(false)));
        let silence = Arc::clone(&is_silent);
        thread::spawn(move || {
            for client in listener.incoming() {
                if refuses.load(Ordering::SeqCst) {
                    continue;
                }
                let (client, when) = (client.unwrap(), Arc::clone(&when));
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let is_cut = Arc::new(AtomicU8::new(0));
                let (answers, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let is_over = Arc::clone(&is_cut);
                let [asked, answered] = [(); 2].map(|()| Arc::clone(&silence));
                thread::spawn(move || {
                    pass(answers, to_client, |_| match answered.load(Ordering::SeqCst) {
                        true => Then::Swallow,
                        false if is_over.load(Ordering::SeqCst) == 0 => Then::Pass,
                        false => Then::End,
                    });
                });
                thread::spawn(move || {
                    pass(client, server, |bytes| {
                        if asked.load(Ordering::SeqCst) {
                            return Then::Swallow;
                        }
                        let says = |word: &[u8]| bytes.windows(word.len()).any(|text| text == word);
                        if says(b"for update") && when.load(Ordering::SeqCst) == BEHIND_THE_LOCK {
                            asked.store(true, Ordering::SeqCst);
                            when.store(0, Ordering::SeqCst);
                        }
                        let cut = if says(b"commit\0") { when.swap(0, Ordering::SeqCst) } else { 0 };
                        is_cut.store(cut, Ordering::SeqCst);
                        if cut == BEFORE_IT_ARRIVES { Then::End } else { Then::Pass }
                    });
                });
            }
        });
        Self { port, cut, is_closed, is_silent }
    }
}

/// A bench in a new database of a server, over a line.
fn bench_over_line(server: &Postgres) -> (Bench, Line, String) {
    let (database, folder) = (server.database(), tempfile::tempdir().unwrap());
    let line = Line::to(server.port());
    let url = format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", line.port);
    (Bench::in_database(in_database(folder.path(), &url), folder), line, database)
}

/// What becomes of bytes on their way.
enum Then {
    Pass,
    Swallow,
    End,
}

/// Passes bytes on until they end, or `then` ends them.
fn pass(mut from: TcpStream, mut to: TcpStream, then: impl Fn(&[u8]) -> Then) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        match then(&buffer[..count]) {
            Then::Swallow => {}
            Then::Pass if to.write_all(&buffer[..count]).is_ok() => {}
            Then::Pass | Then::End => break,
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[tokio::test]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn a_commit_whose_connection_dies_is_done_once_and_its_caller_hears_of_it() {
    let server = Postgres::shared();
    for cut in [BEFORE_IT_ARRIVES, BEFORE_THE_ANSWER] {
        let (bench, line, database) = bench_over_line(server);
        bench.watch("job_1").await;
        bench.told();
        let commits = || server.sql(&database, "select commits from tidings.holder").parse::<u64>().unwrap();
        let before = commits();
        line.cut.store(cut, Ordering::SeqCst);
        let watch = bench.watch("job_2").await;
        assert_eq!(line.cut.load(Ordering::SeqCst), 0, "a connection was cut");
        assert_eq!(commits(), before + 1, "once ({cut})");
        assert_eq!(bench.told(), [Change::WatchOpened(Arc::new(watch.clone()))]);
        assert_eq!(bench.watch("job_3").await.number, watch.number + 1);
        assert_eq!(bench.store.check(true).await.unwrap(), []);
        assert_eq!(bench.open_watches().len(), 3);
    }
}

#[tokio::test]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn what_is_open_is_told_again_after_a_commit_whose_outcome_was_unknown() {
    for cut in [BEFORE_IT_ARRIVES, BEFORE_THE_ANSWER] {
        let (bench, line, database) = bench_over_line(Postgres::shared());
        let delivering = bench.finish("delivering", &["app"]).await;
        let key = bench.key(&delivering, "app").await;
        let watch = bench.watch("job_1").await;
        while bench.store.counts().is_none() {
            bench.store.count_piece(10).await.unwrap();
        }
        bench.told();
        line.is_closed.store(true, Ordering::SeqCst);
        line.cut.store(cut, Ordering::SeqCst);
        let error = try_to_watch(&bench.store, "job_2").await.unwrap_err();
        assert!(error.to_string().contains("done or not"), "{error}");
        assert_eq!((bench.told(), line.cut.load(Ordering::SeqCst)), (Vec::new(), 0), "nobody knows yet");
        line.is_closed.store(false, Ordering::SeqCst);
        eventually("it is healthy", || bench.store.is_healthy().then_some(())).await;
        // The writer tells before it takes another call.
        try_to_watch(&bench.store, "job_3").await.unwrap();
        let told = bench.told();
        let is_open = |job: &str| {
            let opened =
                |change: &&Change| matches!(change, Change::WatchOpened(watch) if watch.job_id == id(job));
            told.iter().filter(opened).count()
        };
        // One that was given up may still arrive: a new epoch keeps it out.
        let epoch = Postgres::shared().sql(&database, "select epoch from tidings.holder");
        assert_eq!(epoch, if cut == BEFORE_IT_ARRIVES { "2" } else { "1" });
        // What is durable after all is told as its commit, and with the rest.
        assert_eq!(is_open("job_2"), if cut == BEFORE_THE_ANSWER { 2 } else { 0 }, "{told:?}");
        assert!(told.contains(&Change::WatchOpened(watch.into())), "{told:?}");
        let is_due = |change: &Change| matches!(change, Change::DeliveryDue { sink, key: told, .. } if (sink.as_str(), *told) == ("app", key));
        assert!(told.iter().any(is_due), "{told:?}");
        assert_eq!(bench.store.counts(), None, "they are counted again");
        while bench.store.counts().is_none() {
            bench.store.count_piece(10).await.unwrap();
        }
        let watched = if cut == BEFORE_THE_ANSWER { 3 } else { 2 };
        assert_eq!(bench.store.counts().unwrap().in_phase(Phase::Watching), watched);
    }
}

#[tokio::test]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn a_database_that_goes_away_refuses_and_goes_on_when_it_is_back() {
    let mut server = Postgres::start(&[]);
    let (bench, _) = bench_on(&server);
    let watch = bench.watch("job_1").await;
    server.stop("immediate");
    let error = try_to_watch(&bench.store, "job_2").await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(!bench.store.is_healthy());
    assert!(bench.store.watch(watch.number).await.is_err(), "nothing can be read");
    // A step of the daemon's own waits.
    let (store, number) = (bench.store.clone(), watch.number);
    let step = tokio::spawn(async move {
        store.record_finished(number, Outcome::Completed, &seen("completed", 1), 3, at(10)).await
    });
    server.start_again();
    step.await.unwrap();
    eventually("it is healthy", || bench.store.is_healthy().then_some(())).await;
    try_to_watch(&bench.store, "job_2").await.unwrap();
    assert_eq!(bench.store.check(true).await.unwrap(), []);
}

/// Longer than a lease, and shorter than anybody waits for an answer.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn a_database_that_says_nothing_is_away_within_a_lease() {
    let (bench, line, _) = bench_over_line(Postgres::shared());
    let watch = bench.watch("job_1").await;
    line.is_silent.store(true, Ordering::SeqCst);
    let (writes, reads) = (try_to_watch(&bench.store, "job_2"), bench.store.watch(watch.number));
    let (written, read) =
        timeout(SOON, async { tokio::join!(writes, reads) }).await.expect("both hear of it");
    for error in [written.unwrap_err(), read.unwrap_err()] {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    }
    assert!(!bench.store.is_healthy());
    // From now on nobody waits at all, however many they are.
    let all: Vec<_> = (0..200).map(|_| bench.store.watch(watch.number)).collect();
    let all = timeout(SOON, futures_util::future::join_all(all)).await.expect("all hear of it");
    assert!(all.iter().all(Result::is_err));
    line.is_silent.store(false, Ordering::SeqCst);
    eventually("it is healthy", || bench.store.is_healthy().then_some(())).await;
    try_to_watch(&bench.store, "job_3").await.unwrap();
    assert_eq!(bench.store.check(true).await.unwrap(), []);
}

#[tokio::test]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn who_is_cut_off_with_the_row_of_the_holder_locked_holds_up_nobody() {
    let server = Postgres::shared();
    let (bench, line, database) = bench_over_line(server);
    drop(bench);
    line.cut.store(BEHIND_THE_LOCK, Ordering::SeqCst);
    let url = format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", line.port);
    let cut_off = thread::spawn(move || open(&url).map(drop));
    eventually("it is cut off", || (line.cut.load(Ordering::SeqCst) == 0).then_some(())).await;
    let other = open(&server.url(&database)).unwrap();
    eventually("another one has it", || other.is_healthy().then_some(())).await;
    try_to_watch(&other, "job_1").await.unwrap();
    let _ = cut_off.join().unwrap();
}

#[tokio::test]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn readers_share_a_few_connections_and_leave_some_to_the_writer() {
    let server = Postgres::shared();
    let (bench, database) = bench_on(server);
    let watch = bench.watch("job_1").await;
    let lock = "begin; lock table tidings.records in access exclusive mode; select pg_sleep(3600)";
    let mut holding = server.program("psql").args(["-X", "-q", "-d", &database, "-c", lock]).spawn().unwrap();
    let of = format!("from pg_stat_activity where datname = '{database}'");
    let count = |which: &str| -> u32 {
        server.sql("postgres", &format!("select count(*) {of} and {which}")).parse().unwrap()
    };
    eventually("the table is locked", || (count("wait_event = 'PgSleep'") == 1).then_some(())).await;
    let readers: Vec<_> = (0..60)
        .map(|_| {
            let store = bench.store.clone();
            tokio::spawn(async move { store.watch(watch.number).await })
        })
        .collect();
    eventually("readers wait", || (count("wait_event_type = 'Lock'") >= 6).then_some(())).await;
    let open = count("application_name = 'tidings'");
    assert!(open <= 12, "{open} connections");
    server.sql("postgres", &format!("select pg_terminate_backend(pid) {of} and wait_event = 'PgSleep'"));
    assert!(!holding.wait().unwrap().success());
    for reader in readers {
        assert!(reader.await.unwrap().unwrap().is_some(), "it waited for its turn");
    }
    assert!(bench.store.is_healthy());
}

#[tokio::test]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn a_database_that_is_away_at_the_start_is_opened_when_it_is_there() {
    let mut server = Postgres::start(&[]);
    let (bench, _) = bench_on(&server);
    let watch = bench.watch("job_1").await;
    server.stop("fast");
    let bench = bench.reopen();
    assert!(matches!(bench.store.trouble(), Some(StoreError::Unavailable(_))));
    assert!(matches!(try_to_watch(&bench.store, "job_2").await, Err(StoreError::Unavailable(_))));
    server.start_again();
    bench.store.opened().await.unwrap();
    assert_eq!(bench.store.watch(watch.number).await.unwrap().unwrap().job_id, watch.job_id);
    try_to_watch(&bench.store, "job_2").await.unwrap();
}

#[tokio::test]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn a_second_process_is_refused_until_the_first_is_gone() {
    let server = Postgres::shared();
    let (bench, database) = bench_on(server);
    bench.watch("job_1").await;
    let url = server.url(&database);
    let reason = tokio::task::spawn_blocking(move || refusal(&url)).await.unwrap();
    assert!(reason.contains("another tidings") && reason.contains("since 2"), "{reason}");
    // The first is killed: it lets nothing go.
    let folder = bench.close();
    server.sql(&database, "update tidings.holder set renewed_at = clock_timestamp()");
    let again = Bench::in_database(in_database(folder.path(), &server.url(&database)), folder);
    again.watch("job_2").await;
    drop(again.close());
    server.sql(
        &database,
        "update tidings.holder set identity = 'gone', renewed_at = clock_timestamp() - interval '13 seconds'",
    );
    let url = server.url(&database);
    tokio::task::spawn_blocking(move || drop(open(&url).unwrap())).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn a_process_that_another_took_over_from_changes_nothing_more() {
    let server = Postgres::shared();
    let (bench, database) = bench_on(server);
    bench.watch("job_1").await;
    let records = || server.sql(&database, "select count(*), max(version) from tidings.records");
    let before = records();
    server.sql(
        &database,
        "update tidings.holder set identity = 'x', name = 'host-b, process 7', epoch = epoch + 1",
    );
    let error = try_to_watch(&bench.store, "job_2").await.unwrap_err();
    assert!(error.to_string().contains("host-b, process 7"), "{error}");
    assert!(bench.store.lost().await.contains("host-b, process 7"));
    assert!(try_to_watch(&bench.store, "job_3").await.is_err());
    assert_eq!(records(), before);
}

#[tokio::test]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn a_record_that_somebody_else_changed_is_not_overwritten() {
    let server = Postgres::shared();
    let (bench, database) = bench_on(server);
    bench.watch("job_1").await;
    // The counter, as another writer would leave it.
    server.sql(
        &database,
        "update tidings.records set value = '\\x0000000000000064', version = version + 1000 where key = 'mnext'",
    );
    let error = try_to_watch(&bench.store, "job_2").await.unwrap_err();
    assert!(error.to_string().contains("somebody else changed"), "{error}");
    let Registered::New(watch) = bench.register(Registration::new("retab", id("job_2")), at(0)).await else {
        panic!("a new watch")
    };
    assert_eq!(watch.number, 100, "it was read again");
}

#[tokio::test]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn a_database_that_cannot_be_used_is_refused_with_the_way_out() {
    let server = Postgres::shared();
    let foreign = server.database();
    server.sql(&foreign, "create schema tidings; create table tidings.version (x text)");
    let (other, newer) = (server.database(), server.database());
    server.sql(&other, "create schema tidings; create table tidings.things (x text)");
    drop(open(&server.url(&newer)).unwrap());
    server
        .sql(&newer, "insert into tidings.version (version, works_with, made_by) values (99, 99, 'future')");
    let weak = server.database();
    server.sql("postgres", &format!("create role weak login; grant connect on database {weak} to weak"));
    let cases = [
        (server.url(&foreign), "not one of tidings"),
        (server.url(&other), "not one of tidings"),
        (server.url(&newer), "newer tidings"),
        (server.tcp_url("weak", &weak), "ALTER DATABASE"),
        (server.url("nowhere"), "does not exist"),
        (server.tcp_url("nobody", &newer), "does not exist"),
        (format!("{}?sslmode=verify-full", server.tcp_url("postgres", &newer)), "TLS"),
    ];
    for (url, expected) in cases {
        let reason = tokio::task::spawn_blocking(move || refusal(&url)).await.unwrap();
        assert!(reason.contains(expected) && reason.contains("\nhint: "), "{expected}: {reason}");
    }
}

#[tokio::test]
async fn a_command_does_not_wait_for_a_database_that_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let config = in_database(folder.path(), &format!("postgres://me@127.0.0.1:{}/x", free_port()));
    let error = Store::open_to_read(&config).err().unwrap();
    assert!(matches!(error, OpenError::Away { .. }), "{error}");
    assert!(error.to_string().contains("\nhint: start the server"), "{error}");
    let config = StoreConfig { url: None, ..config };
    let error = Store::open_to_read(&config).err().unwrap().to_string();
    assert!(
        error.contains("it has no URL\nhint: set store.url_file") && !error.contains("folder"),
        "{error}"
    );
}

#[tokio::test]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn a_newer_version_lets_this_one_go_on_when_its_tables_allow_that() {
    let server = Postgres::shared();
    let database = server.database();
    let url = server.url(&database);
    let at = url.clone();
    tokio::task::spawn_blocking(move || drop(open(&at).unwrap())).await.unwrap();
    server.sql(&database, "insert into tidings.version (version, works_with, made_by) values (2, 1, 'next')");
    tokio::task::spawn_blocking(move || drop(open(&url).unwrap())).await.unwrap();
    assert_eq!(server.sql(&database, "select max(version) from tidings.version"), "2");
}

#[tokio::test]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn a_process_that_another_took_over_from_replaces_no_body() {
    let server = Postgres::shared();
    let (bench, database) = bench_on(server);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("body");
    std::fs::write(&path, vec![b'x'; MAX_SMALL + 1]).unwrap();
    let identity = server.sql(&database, "select identity from tidings.holder");
    let config = in_database(folder.path(), &server.url(&database));
    let upload = async |writer: String| {
        let (config, path) = (config.clone(), path.clone());
        let upload = move || {
            let bodies = DatabaseBodies::new(&seat::server_of(&config).unwrap(), Some(&writer));
            bodies.upload(&path, 7, "evt_1")
        };
        tokio::task::spawn_blocking(upload).await.unwrap()
    };
    let parts = || server.sql(&database, "select count(*) from tidings.bodies");
    let error = upload("another".to_owned()).await.unwrap_err();
    assert!(error.to_string().contains("somebody else"), "{error}");
    assert_eq!(parts(), "0");
    upload(identity).await.unwrap();
    assert_eq!(parts(), "2");
    drop(bench);
}

#[tokio::test]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn a_body_of_several_parts_is_read_from_anywhere() {
    let (bench, _) = bench_on(Postgres::shared());
    for size in [MAX_SMALL + 1, 2 * MAX_SMALL, 3 * MAX_SMALL - 5] {
        let bytes: Vec<u8> = (0..size).map(|n| b'a' + u8::try_from(n % 23).unwrap()).collect();
        let event_id = format!("evt_{size}");
        let body = bench.new_body(7, &event_id, &bytes).await;
        let stored = bench.store.bodies().get(7, &event_id, &body.job);
        assert_eq!(stored.bytes().await.unwrap(), None, "it is not small");
        for offset in [0, 1, MAX_SMALL - 1, MAX_SMALL, size - 1, size] {
            let mut stream = stored.stream(1000).await.unwrap();
            assert_eq!(stream.size(), size as u64);
            stream.skip_to(offset as u64).await.unwrap();
            let mut read = Vec::new();
            stream.read_to_end(&mut read).await.unwrap();
            assert!(read == bytes[offset..], "{size} from {offset}");
            let mut reader = stored.read().unwrap();
            reader.skip_to(offset as u64).unwrap();
            read.clear();
            reader.read_to_end(&mut read).unwrap();
            assert!(read == bytes[offset..], "{size} from {offset}");
        }
        bench.store.bodies().remove(7, &event_id).unwrap();
        assert!(stored.size().is_err());
    }
}

#[tokio::test]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn bodies_may_lie_in_a_folder() {
    let (server, folder, shared) =
        (Postgres::shared(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let url = server.url(&server.database());
    let bodies = Some(format!("file://{}", shared.path().display()));
    let config = StoreConfig { bodies, ..in_database(folder.path(), &url) };
    let bench = Bench::in_database(config, folder);
    let files = || {
        std::fs::read_dir(shared.path())
            .unwrap()
            .filter(|file| file.as_ref().unwrap().path().is_file())
            .count()
    };
    for size in [10, MAX_SMALL + 1] {
        let (job, bytes) = (format!("job_{size}"), vec![b'1'; size]);
        let watch = bench.finish_with(&job, &[], &bytes).await;
        assert_eq!(bench.body(watch.number, &watch.completion.unwrap().event_id), Some(bytes));
    }
    assert_eq!((files(), bench.store.check(true).await.unwrap()), (2, Vec::new()));
    assert!(bench.store.remove("retab", &id("job_10"), None).await.unwrap());
    assert_eq!(files(), 1);
}

#[tokio::test]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn nothing_needs_a_session_so_a_pooler_may_share_connections() {
    let server = Postgres::shared();
    let database = server.database();
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let port = free_port();
    let settings = folder.path().join("pgbouncer.ini");
    let text = format!(
        "[databases]\n* = host={} port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 3\n",
        server.folder().display(),
        server.port()
    );
    std::fs::write(&settings, text).unwrap();
    Postgres::give(folder.path());
    Postgres::give(&settings);
    let mut pooler =
        server.other("pgbouncer").arg(&settings).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the pooler listens", || TcpStream::connect(("127.0.0.1", port)).ok()).await;
    let data = tempfile::tempdir().unwrap();
    let url = format!("postgres://postgres@127.0.0.1:{port}/{database}?sslmode=disable");
    let bench = Bench::in_database(in_database(data.path(), &url), data);
    for job in 0..20 {
        bench.finish_with(&format!("job_{job}"), &["app"], &vec![b'1'; 30_000 * job]).await;
    }
    let bench = bench.reopen();
    let mut exported = Vec::new();
    assert_eq!(bench.store.export(&mut exported).unwrap().jobs, 20);
    assert_eq!(bench.store.check(true).await.unwrap(), []);
    assert_eq!(bench.pending().len(), 20);
    pooler.kill().unwrap();
    pooler.wait().unwrap();
}

#[tokio::test]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn a_certificate_is_verified_as_sslmode_says() {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_cert = ca.self_signed(&ca_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let cert = rcgen::CertificateParams::new(vec!["db.example".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Postgres::give(&path);
        path
    };
    let (ca, cert, key) = (
        file("ca.pem", &ca_cert.pem()),
        file("cert.pem", &cert.pem()),
        file("key.pem", &key.serialize_pem()),
    );
    Postgres::give(folder.path());
    let settings = [
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", cert.display()),
        format!("ssl_key_file={}", key.display()),
    ];
    let server = Postgres::start(&settings.each_ref().map(String::as_str));
    let database = server.database();
    let url = |query: &str| format!("{}?{query}", server.tcp_url("postgres", &database));
    let root = ca.display().to_string();
    let encrypted = "select count(*) > 0 from pg_stat_ssl join pg_stat_activity using (pid) \
                     where ssl and application_name = 'tidings'";
    for query in
        ["sslmode=require".to_owned(), format!("sslmode=verify-ca&sslrootcert={root}"), String::new()]
    {
        let store = tokio::task::spawn_blocking({
            let url = url(&query);
            move || open(&url).unwrap()
        })
        .await
        .unwrap();
        assert_eq!(server.sql(&database, encrypted), "t", "{query}");
        store.save_high_water_mark().await;
        drop(store);
    }
    for query in ["sslmode=verify-ca".to_owned(), format!("sslmode=verify-full&sslrootcert={root}")] {
        let url = url(&query);
        let reason = tokio::task::spawn_blocking(move || refusal(&url)).await.unwrap();
        assert!(reason.contains("TLS"), "{query}: {reason}");
    }
}

#[tokio::test]
#[ignore = "needs a server of PostgreSQL; .ci/run has one"]
async fn an_export_goes_into_a_database_and_comes_back_the_same() {
    let server = Postgres::shared();
    let from = Bench::new();
    for (job, size) in [("job_1", 10), ("job_2", MAX_SMALL), ("job_3", 2 * MAX_SMALL + 7)] {
        from.finish_with(job, &["app"], &vec![b'1'; size]).await;
    }
    from.watch("job_4").await;
    let lines = |text: &[u8]| -> Vec<String> {
        let text = String::from_utf8(text.to_vec()).unwrap();
        let is_same = |line: &&str| {
            // What tells a damaged file from a new one; the header; the sum.
            let names = [&b"sentinel"[..], b"open", b"pending"]
                .map(|name| format!("m:{}", data_encoding::HEXLOWER.encode(name)));
            !names.iter().any(|name| line.contains(name))
                && !line.contains("tidings_export")
                && !line.contains("sha256\":\"")
                || line.contains("\"json\"")
        };
        let mut lines: Vec<String> = text.lines().filter(is_same).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let mut first = Vec::new();
    from.store.export(&mut first).unwrap();
    let (database, folder) = (server.database(), tempfile::tempdir().unwrap());
    let config = in_database(folder.path(), &server.url(&database));
    crate::store::import(&mut first.as_slice(), &config).unwrap();
    let again = crate::store::import(&mut first.as_slice(), &config).unwrap_err();
    assert!(again.to_string().contains("holds a store already"), "{again}");
    let bench = Bench::in_database(config, folder);
    assert_eq!(bench.store.check(true).await.unwrap(), []);
    let mut second = Vec::new();
    bench.store.export(&mut second).unwrap();
    assert_eq!(lines(&second), lines(&first));
    let folder = tempfile::tempdir().unwrap();
    let config = crate::store::tests::config(&folder.path().join("data"));
    crate::store::import(&mut second.as_slice(), &config).unwrap();
    let back = Store::open(&config).unwrap();
    assert_eq!(back.check(true).await.unwrap(), []);
    let mut third = Vec::new();
    back.export(&mut third).unwrap();
    assert_eq!(lines(&third), lines(&first));
    // An export that is cut leaves nothing.
    let (database, folder) = (server.database(), tempfile::tempdir().unwrap());
    let config = in_database(folder.path(), &server.url(&database));
    crate::store::import(&mut &first[..first.len() / 2], &config).unwrap_err();
    // So do two exports in one file.
    let two = crate::store::import(&mut [first.as_slice(), &first].concat().as_slice(), &config).unwrap_err();
    assert!(two.to_string().contains("more after the end of the export"), "{two}");
    assert_eq!(server.sql(&database, "select count(*) from tidings.records"), "0");
}
