//! The named operations, on every backend.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{bodies::settings as bodies_settings, *};
use crate::{
    model::{
        delivery::DeliveryAttempt,
        group::GroupName,
        job::{EventType, JobId, Outcome, Run},
        status_answer::StatusAnswer,
    },
    util::units::{Size, Time},
};

/// An instant of the tests' own clock.
pub(in crate::store) fn at(seconds: i64) -> Time {
    Time(1_800_000_000_000 + seconds * 1000)
}

pub(in crate::store) fn id(text: impl AsRef<str>) -> JobId {
    text.as_ref().parse().unwrap()
}

pub(in crate::store) fn config(folder: &Path) -> StoreConfig {
    StoreConfig { path: folder.to_owned(), cache: Size::mib(4), min_free: Size(0), ..StoreConfig::default() }
}

/// A configuration of a store in a database.
pub(in crate::store) fn in_database(folder: &Path, url: &str) -> StoreConfig {
    let url = Some(crate::util::secret::Secret::new(url));
    StoreConfig { kind: StoreKind::Postgres, url, ..config(folder) }
}

/// The backends that every test of this folder runs on.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) enum Kind {
    Sled,
    Memory,
    Postgres,
    /// PostgreSQL with the large bodies in object storage.
    Objects,
}

#[path = "../../../tests/it/harness/port.rs"]
pub(in crate::store) mod port;

#[path = "../../../tests/it/harness/postgres.rs"]
#[allow(dead_code, clippy::disallowed_methods, reason = "it belongs to the tests of the whole daemon")]
pub(in crate::store) mod server;

#[path = "../../../tests/it/harness/s3.rs"]
#[allow(dead_code, clippy::disallowed_methods, reason = "it belongs to the tests of the whole daemon")]
pub(in crate::store) mod s3;

/// The variables of a server of S3 on this machine.
pub(in crate::store) fn s3_settings(bucket: &str, port: u16) {
    let url = format!("http://127.0.0.1:{port}");
    let settings = [
        ("AWS_ENDPOINT_URL", url.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "sesame"),
    ];
    bodies_settings::set(bucket, &settings);
}

/// Makes three tests of each function: `NAME::sled`, `NAME::memory` and `NAME::postgres`.
macro_rules! on_every_backend {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            use crate::store::tests::Kind;

            #[tokio::test]
            async fn sled() {
                super::$name(Kind::Sled).await;
            }

            #[tokio::test]
            async fn memory() {
                super::$name(Kind::Memory).await;
            }

            #[tokio::test]
            #[ignore = "needs a server of PostgreSQL; .ci/run has one"]
            async fn postgres() {
                super::$name(Kind::Postgres).await;
            }
        })*
    };
}

mod backfill;
mod bodies;
mod clock_mark;
mod counts;
mod deliveries;
mod groups;
mod index;
mod lists;
mod polling;
mod progress;
mod reading;
mod watches;

/// A store with what it told, and a folder of its own.
pub(in crate::store) struct Bench {
    pub(in crate::store) store: Store,
    /// Set when its backend is sled.
    sled: Option<sled::SledStore>,
    /// Set when its backend is PostgreSQL.
    postgres: Option<StoreConfig>,
    told: Arc<Mutex<Vec<Change>>>,
    pub(in crate::store) folder: tempfile::TempDir,
}

impl Bench {
    /// A bench on sled.
    pub(in crate::store) fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap())
    }

    pub(in crate::store) fn on(kind: Kind) -> Self {
        match kind {
            Kind::Sled => Self::new(),
            Kind::Memory => {
                let listeners = Arc::default();
                let backend = Arc::new(memory::MemoryStore::new(&listeners, true));
                Self::over(Store { backend, listeners }, None, tempfile::tempdir().unwrap())
            }
            Kind::Postgres => {
                let (server, folder) = (server::Postgres::shared(), tempfile::tempdir().unwrap());
                let url = server.url(&server.database());
                Self::in_database(in_database(folder.path(), &url), folder)
            }
            Kind::Objects => {
                let storage = s3::S3::shared();
                let bucket = storage.bucket();
                s3_settings(&bucket, storage.port());
                Self::in_bucket(&bucket)
            }
        }
    }

    pub(in crate::store) fn sled(&self) -> &sled::SledStore {
        self.sled.as_ref().unwrap()
    }

    pub(in crate::store) fn open(folder: tempfile::TempDir) -> Self {
        let listeners = Arc::default();
        let sled = sled::SledStore::open(&config(folder.path()), &listeners).unwrap();
        let store = Store { backend: Arc::new(sled.clone()), listeners };
        Self::over(store, Some(sled), folder)
    }

    /// A bench on PostgreSQL.
    pub(in crate::store) fn in_database(config: StoreConfig, folder: tempfile::TempDir) -> Self {
        let store = Store::open(&config).unwrap();
        Self { postgres: Some(config), ..Self::over(store, None, folder) }
    }

    /// The configuration of a bench on PostgreSQL.
    pub(in crate::store) fn database_config(&self) -> StoreConfig {
        self.postgres.clone().unwrap()
    }

    /// A bench on PostgreSQL with the large bodies in a bucket.
    pub(in crate::store) fn in_bucket(bucket: &str) -> Self {
        let (server, folder) = (server::Postgres::shared(), tempfile::tempdir().unwrap());
        let url = server.url(&server.database());
        let bodies = Some(format!("s3://{bucket}/a/prefix"));
        Self::in_database(StoreConfig { bodies, ..in_database(folder.path(), &url) }, folder)
    }

    fn over(store: Store, sled: Option<sled::SledStore>, folder: tempfile::TempDir) -> Self {
        let told: Arc<Mutex<Vec<Change>>> = Arc::default();
        let listener = Arc::clone(&told);
        store.on_change(move |change| listener.lock().unwrap().push(change));
        Self { store, sled, postgres: None, told, folder }
    }

    /// Closes it and waits until the folder is let go.
    pub(in crate::store) fn close(self) -> tempfile::TempDir {
        let Self { store, sled, folder, .. } = self;
        drop((store, sled));
        sled::await_closed(folder.path());
        folder
    }

    /// What the next start of the daemon finds. Memory has none, so there it goes on.
    pub(in crate::store) fn reopen(self) -> Self {
        match (&self.sled, self.postgres.clone()) {
            (Some(_), _) => Self::open(self.close()),
            (None, Some(config)) => Self::in_database(config, self.close()),
            (None, None) => self,
        }
    }

    /// What was told since the last time.
    pub(in crate::store) fn told(&self) -> Vec<Change> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }

    pub(in crate::store) async fn register(&self, registration: Registration, now: Time) -> Registered {
        let mut registered = self.store.register(vec![registration], now).await.unwrap();
        assert_eq!(registered.len(), 1);
        registered.remove(0)
    }

    /// A new watch of this job.
    pub(in crate::store) async fn watch(&self, job: &str) -> Watch {
        match self.register(Registration::new("retab", id(job)), at(0)).await {
            Registered::New(watch) | Registered::Again(watch) => Watch::clone(&watch),
            other => panic!("{other:?}"),
        }
    }

    pub(in crate::store) fn read(&self, number: u64) -> Watch {
        self.store.watch_now(number).unwrap().unwrap()
    }

    /// The bytes of a stored body; `None` when it is missing.
    pub(in crate::store) fn body(&self, watch: u64, event_id: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let body = match self.stored_job(event_id) {
            Some(job) => self.store.bodies().get(watch, event_id, &job),
            None => self.store.bodies().listed(&BodyEntry { watch, event_id: event_id.to_owned(), size: 0 }),
        };
        body.read().ok()?.read_to_end(&mut bytes).unwrap();
        Some(bytes)
    }

    /// What the record of an event says of its body.
    pub(in crate::store) fn stored_job(&self, event_id: &str) -> Option<StoredJob> {
        let found = self.store.read(|records| {
            for entry in records.events(0, u64::MAX) {
                if let Some(event) = entry?.1
                    && event.news.event_id() == event_id
                {
                    return Ok(event.news.job().cloned());
                }
            }
            Ok(None)
        });
        found.unwrap()
    }

    /// A body that is to be stored with its event.
    pub(in crate::store) async fn new_body(&self, watch: u64, event_id: &str, bytes: &[u8]) -> NewBody {
        let mut incoming = self.store.bodies().begin(watch, event_id);
        incoming.write(bytes).await.unwrap();
        incoming.finish().await.unwrap()
    }

    /// Stores a body and makes the event of an end that was seen.
    pub(in crate::store) async fn fan_out(&self, watch: &Watch, sinks: &[&str], now: Time) {
        self.fan_out_bytes(watch, sinks, BODY, now).await;
    }

    pub(in crate::store) async fn fan_out_bytes(
        &self,
        watch: &Watch,
        sinks: &[&str],
        bytes: &[u8],
        now: Time,
    ) {
        let event_id = &watch.pending_completion.as_ref().unwrap().event_id;
        let body = self.new_body(watch.number, event_id, bytes).await;
        assert!(self.store.complete(watch.number, &body, None, to(sinks), now).await);
    }

    /// Brings a watch to its end, with an event that goes to `sinks`.
    pub(in crate::store) async fn finish(&self, job: &str, sinks: &[&str]) -> Watch {
        self.finish_with(job, sinks, BODY).await
    }

    pub(in crate::store) async fn finish_with(&self, job: &str, sinks: &[&str], bytes: &[u8]) -> Watch {
        let watch = self.watch(job).await;
        let Finished::Fetch(watch) = self
            .store
            .record_finished(watch.number, Outcome::Completed, &seen("completed", 1), 3, at(10))
            .await
        else {
            panic!("a new end")
        };
        self.fan_out_bytes(&watch, sinks, bytes, at(11)).await;
        self.read(watch.number)
    }

    /// The deliveries that a start would take up.
    pub(in crate::store) fn pending(&self) -> Vec<(String, DeliveryKey, Time)> {
        let mut pending = Vec::new();
        let read = self.store.read(|records| {
            for entry in records.all_pending(None, u64::MAX) {
                let (key, one) = entry?;
                pending.push((one.sink, key, one.due));
            }
            Ok(())
        });
        read.unwrap();
        pending
    }

    /// The watches that a start would take up.
    pub(in crate::store) fn open_watches(&self) -> Vec<Watch> {
        let mut open = Vec::new();
        self.store.read(|records| super::watches::each_open(records, |watch| open.push(watch))).unwrap();
        open
    }

    pub(in crate::store) async fn key(&self, watch: &Watch, sink: &str) -> DeliveryKey {
        let deliveries = self.store.deliveries_of(watch).await.unwrap();
        deliveries.into_iter().find(|(_, delivery)| delivery.sink == sink).unwrap().0
    }
}

pub(in crate::store) const BODY: &[u8] = br#"{"status":"completed","n":1e-400}"#;

pub(in crate::store) fn named(name: impl AsRef<str>) -> GroupName {
    name.as_ref().parse().unwrap()
}

/// A status answer of the run with this number.
pub(in crate::store) fn seen(status: &str, run: u32) -> StatusAnswer {
    StatusAnswer {
        status: status.to_owned(),
        run: Run { attempt_count: Some(run.to_string()), ..Run::default() },
        ended_at: Some(at(9)),
        body: Some(format!("{{\"status\":\"{status}\"}}")),
        ..StatusAnswer::default()
    }
}

/// A status answer of a source that says nothing about runs.
pub(in crate::store) fn silent(status: &str) -> StatusAnswer {
    StatusAnswer { run: Run::default(), ..seen(status, 0) }
}

/// A route to these sinks.
pub(in crate::store) fn to(
    sinks: &[&str],
) -> impl Fn(&Watch, EventType) -> Vec<String> + Clone + Send + 'static {
    let sinks: Vec<String> = sinks.iter().map(ToString::to_string).collect();
    move |_, _| sinks.clone()
}

/// An attempt of this generation at that time.
pub(in crate::store) fn attempt(generation: u32, now: Time, verdict: AttemptVerdict) -> AttemptDone {
    let status = if verdict == AttemptVerdict::Delivered { 204 } else { 503 };
    let status = Some(status);
    let attempt =
        DeliveryAttempt { at: now, duration_ms: 5, status, error: None, error_class: None, response: None };
    AttemptDone { generation, number: 1, attempt, verdict }
}

/// The same as a later attempt of its delivery.
pub(in crate::store) fn nth(number: u32, done: AttemptDone) -> AttemptDone {
    AttemptDone { number, ..done }
}

pub(in crate::store) fn labels<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Reads again until `probe` finds something. A passing test never reaches the timeout.
pub(in crate::store) async fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
