//! Connections to the database.
//!
//! Each statement is one unnamed message with the types of its parameters, so nothing of a session is needed, and a pooler
//! may give every transaction another connection of the server (PgBouncer in transaction mode).

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};
use tokio_postgres::{
    Client, NoTls, Row,
    types::{ToSql, Type},
};

use super::{
    address::{Address, CONNECT},
    fault::Fault,
    tls::Tls,
};
use crate::util::secret::SecretSource;

/// How long one statement of long work may take: a change of the tables, a piece of an import or of a large body.
const STATEMENT: Duration = Duration::from_secs(60);

/// How long a caller or the holder waits for an answer. A lease does not last longer.
pub(super) const ANSWER: Duration = Duration::from_secs(7);

/// How long it takes at most to log in, beside the time for each host to accept the connection.
const LOG_IN: Duration = Duration::from_secs(3);

/// Connections for short reads, of all callers together. They stay open.
const SHORT: usize = 6;

/// Connections for work that may take long: exports, and large bodies on their way in.
const LONG: usize = 2;

/// Who may wait for whom.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lane {
    /// The writer's thread and the seat: they wait for nobody.
    Own,
    /// Reads for callers.
    Short,
    /// Work that may take long.
    Long,
}

/// The right to a connection of a lane, until it is dropped.
pub(super) type Place = Option<OwnedSemaphorePermit>;

/// A parameter of a statement.
pub(super) type Param = (Box<dyn ToSql + Sync + Send>, Type);

/// A parameter of this type.
pub(super) fn param(value: impl ToSql + Sync + Send + 'static, kind: Type) -> Param {
    (Box::new(value), kind)
}

/// The database's server, with a thread that waits for its answers. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Server(Arc<Inner>);

struct Inner {
    url: SecretSource,
    /// Taken when it is dropped.
    runtime: Option<Runtime>,
    idle: Mutex<Vec<Arc<Client>>>,
    short: Arc<Semaphore>,
    long: Arc<Semaphore>,
    /// Something waited for an answer in vain, and nothing has had one since. Callers do not wait for the next one.
    is_silent: AtomicBool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // It may be dropped on a thread of another runtime, which must not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Server {
    pub(super) fn new(url: SecretSource) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("store-postgres")
            .enable_all()
            .build()?;
        Ok(Self(Arc::new(Inner {
            url,
            runtime: Some(runtime),
            idle: Mutex::default(),
            short: Arc::new(Semaphore::new(SHORT)),
            long: Arc::new(Semaphore::new(LONG)),
            is_silent: AtomicBool::new(false),
        })))
    }

    /// The address as it is now: a file with it may have changed.
    pub(super) fn address(&self) -> Result<Address, Fault> {
        let url = self.0.url.get().map_err(|error| Fault::refused(error.to_string()))?;
        Address::parse(url.expose()).map_err(Fault::refused)
    }

    /// Runs work on the thread of the connections and waits for it. Any thread may wait, one of another runtime, too.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        let (done, answer) = mpsc::sync_channel(1);
        self.spawn(async move {
            // The caller waits for it.
            let _ = done.send(work.await);
        });
        answer.recv().unwrap_or_else(|_| Err(Fault::Away("the store is closed".to_owned())))
    }

    /// Runs work on the thread of the connections, and waits for it without a thread.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        let (done, answer) = oneshot::channel();
        self.spawn(async move {
            // The caller may have gone.
            let _ = done.send(work.await);
        });
        answer.await.unwrap_or_else(|_| Err(Fault::Away("the store is closed".to_owned())))
    }

    /// Runs work on the thread of the connections.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0.runtime {
            runtime.spawn(work);
        }
    }

    /// Bounds work of the holder or of a caller by `limit`, and notes whether the server answers at all.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let done = timeout(limit, work).await.unwrap_or(Err(Fault::Silent));
        match &done {
            Err(Fault::Silent) => self.0.is_silent.store(true, Ordering::Relaxed),
            // What is nobody's answer.
            Err(Fault::Away(_)) => {}
            Ok(_) | Err(_) => self.0.is_silent.store(false, Ordering::Relaxed),
        }
        done
    }

    /// Waits for a place in a lane.
    pub(super) async fn place(&self, lane: Lane) -> Result<Place, Fault> {
        let (places, limit) = match lane {
            Lane::Own => return Ok(None),
            Lane::Short => (&self.0.short, ANSWER),
            Lane::Long => (&self.0.long, STATEMENT),
        };
        match timeout(limit, Arc::clone(places).acquire_owned()).await {
            Ok(place) => Ok(place.ok()),
            Err(_) => Err(Fault::Away("all connections are in use".to_owned())),
        }
    }

    /// Makes a connection.
    pub(super) async fn connect(&self) -> Result<Arc<Client>, Fault> {
        let Address { config, trust, files } = self.address()?;
        let hosts = u32::try_from(config.get_hosts().len().max(1)).unwrap_or(u32::MAX);
        let each = config.get_connect_timeout().copied().unwrap_or(CONNECT);
        // It is large, and rare.
        let connecting = Box::pin(async {
            match trust {
                None => {
                    let (client, connection) = config.connect(NoTls).await?;
                    tokio::spawn(connection);
                    Ok(client)
                }
                Some(trust) => {
                    let tls = Tls::new(trust, &files).map_err(Fault::refused)?;
                    let (client, connection) = config.connect(tls).await?;
                    tokio::spawn(connection);
                    Ok(client)
                }
            }
        });
        let limit = LOG_IN + each.saturating_mul(hosts);
        let connected = timeout(limit, connecting).await.unwrap_or(Err(Fault::Silent));
        if matches!(connected, Err(Fault::Silent)) {
            self.0.is_silent.store(true, Ordering::Relaxed);
        }
        connected.map(Arc::new)
    }

    /// Takes a connection that is idle, or makes one.
    pub(super) async fn take(&self) -> Result<Arc<Client>, Fault> {
        let idle = {
            let mut idle = self.idle();
            idle.retain(|client| !client.is_closed());
            idle.pop()
        };
        match idle {
            Some(client) => Ok(client),
            None => self.connect().await,
        }
    }

    /// Gives a connection back, which is in no transaction.
    pub(super) fn give_back(&self, client: Arc<Client>) {
        let mut idle = self.idle();
        if idle.len() < SHORT && !client.is_closed() {
            idle.push(client);
        }
    }

    /// Does the same after work that may have failed, and may have left a transaction open. What a session refuses may be a setting
    /// that it began with and another one has not, such as `default_transaction_read_only`: then none of them is used again.
    pub(super) fn give_back_after<T>(&self, client: Arc<Client>, done: &Result<T, Fault>) {
        match done {
            Ok(_) => self.give_back(client),
            Err(_) => self.idle().clear(),
        }
    }

    /// Runs a statement that reads. It is tried again on a new connection when an idle one turns out to be dead.
    pub(super) async fn read(&self, lane: Lane, sql: &str, params: &[Param]) -> Result<Vec<Row>, Fault> {
        if !matches!(lane, Lane::Own) && self.0.is_silent.load(Ordering::Relaxed) {
            return Err(Fault::Silent);
        }
        let _place = self.place(lane).await?;
        self.within(ANSWER, async {
            let mut client = self.take().await?;
            let mut read = rows(&client, sql, params).await;
            if read.as_ref().is_err_and(Fault::may_be_the_connection) {
                self.idle().clear();
                client = self.connect().await?;
                read = rows(&client, sql, params).await;
            }
            self.give_back_after(client, &read);
            read
        })
        .await
    }

    /// Runs a statement that writes, for the seat.
    pub(super) async fn write(&self, limit: Duration, sql: &str, params: &[Param]) -> Result<u64, Fault> {
        self.within(limit, async {
            let client = self.take().await?;
            let written = changed(&client, sql, params).await;
            self.give_back_after(client, &written);
            written
        })
        .await
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Arc<Client>>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn typed(params: &[Param]) -> Vec<(&(dyn ToSql + Sync), Type)> {
    params.iter().map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone())).collect()
}

/// Runs one statement and returns its rows.
pub(super) async fn rows(client: &Client, sql: &str, params: &[Param]) -> Result<Vec<Row>, Fault> {
    in_time(client.query_typed(sql, &typed(params))).await
}

/// Runs one statement and returns how many rows it changed.
pub(super) async fn changed(client: &Client, sql: &str, params: &[Param]) -> Result<u64, Fault> {
    in_time(client.execute_typed(sql, &typed(params))).await
}

/// Runs statements without parameters.
pub(super) async fn run(client: &Client, sql: &str) -> Result<(), Fault> {
    in_time(client.batch_execute(sql)).await
}

async fn in_time<T>(work: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Fault> {
    match timeout(STATEMENT, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Fault::Silent),
    }
}

/// The name of a value in a row that a statement of ours returned.
pub(super) fn value<'r, T: tokio_postgres::types::FromSql<'r>>(row: &'r Row, at: usize) -> Result<T, Fault> {
    row.try_get(at).map_err(|error| Fault::refused(error.to_string()))
}
