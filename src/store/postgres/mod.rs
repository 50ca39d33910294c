//! The store in PostgreSQL: one process at a time writes, and others wait to take its place.
//!
//! All records are in one table of keys and values in the order of their keys, the format of every other place
//! (`src/store/format`). A table for each kind would repeat that format as columns, which nobody but this process reads, and it
//! would give nothing for it: a scan is a range of keys, a group of writes is one statement with arrays whatever the kinds are,
//! and each record has its version, by which a write is refused when somebody else changed it. Exports, checks and the rules
//! above are the same as on sled.
//!
//! | table | holds |
//! | --- | --- |
//! | `tidings.version` | the versions of these tables (`schema`) |
//! | `tidings.records` | keys, values, and the commit that wrote each (`pairs`, `commit`) |
//! | `tidings.bodies` | bodies, in parts (`bodies`) |
//! | `tidings.holder` | the process that writes, and its last commit (`holder`) |
//! | `tidings.replicas` | the processes that are there (`seat`) |
//!
//! One thread writes (`writer`). Connections have a thread of their own (`server`).

mod address;
mod bodies;
mod commit;
mod fault;
mod holder;
mod import;
mod pairs;
mod schema;
mod seat;
mod server;
mod snapshot;
mod tls;
mod writer;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::{
    io,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use tokio::sync::oneshot;

use super::{
    Bodies, OpenError, StoreConfig, StoreError, StoreProblem,
    backend::{self, Backend, Call},
    bodies::{ObjectBodies, ObjectPlace, Spool},
    config::BodiesPlace,
    inbox,
    keyed::{self, Keyed, Unreadable},
    listeners::Listeners,
    records::Records,
};
use address::Address;
use fault::Fault;
use holder::{Holder, Other, Taken, may_act_until};
use pairs::{Link, PostgresPairs};
use schema::Found;
use server::{ANSWER, Lane, Server};
use snapshot::Snapshot;

use crate::util::{clock::since_boot, secret::Secret, term::Term};

pub(super) use bodies::{DatabaseBodies, DatabaseReader};
pub(super) use import::import;
pub use seat::{Owner, Replica, Seat};

/// Checks a URL of a database, in words without its secret.
pub(super) fn check_url(url: &Secret) -> Result<(), String> {
    Address::parse(url.expose()).map(drop)
}

/// The first host of a URL and its port; `None` for a socket.
pub(super) fn host_of(url: &Secret) -> Option<(String, u16)> {
    Address::parse(url.expose()).ok()?.host()
}

/// The backend over PostgreSQL. Cheap to clone.
#[derive(Clone)]
pub(super) struct PostgresStore {
    shared: Arc<Shared>,
    /// `None` when it is only read.
    calls: Option<Arc<inbox::Sender>>,
}

struct Shared {
    server: Server,
    /// `None` when it is only read.
    seat: Option<Seat>,
    /// Until when this process may act as the holder.
    term: Term,
    /// The number of its lease; 0 without one.
    epoch: AtomicI64,
    healthy: AtomicBool,
    /// Why it takes no writes.
    trouble: RwLock<Option<StoreError>>,
    listeners: Arc<Listeners>,
    bodies: Bodies,
    /// Set when bodies are in the database: all, or the small ones.
    database_bodies: Option<DatabaseBodies>,
    unreadable: Unreadable,
    /// Bytes of records that the writer keeps in memory.
    cache: usize,
}

/// What a try to open the database led to.
enum Opening {
    Open(Holder),
    Away(Fault),
    Refused(OpenError),
}

impl PostgresStore {
    /// Opens the database and becomes its holder, unless another process is it. One that is away is opened as soon as it is
    /// there.
    pub(super) fn open(
        config: &StoreConfig,
        seat: Seat,
        listeners: &Arc<Listeners>,
    ) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared::new(config, listeners, Some(seat))?);
        let holder = match shared.take_database() {
            Opening::Away(fault) => {
                tracing::error!(%fault, "the database is away; the start waits for it");
                shared.set_trouble(Some(fault.into()));
                None
            }
            there => Some(shared.begin(there)?),
        };
        Self::over(shared, holder, config)
    }

    /// Becomes the holder of a database that is there and takes writes, unless another process is it.
    pub(super) fn take_over(
        config: &StoreConfig,
        seat: Seat,
        listeners: &Arc<Listeners>,
    ) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared::new(config, listeners, Some(seat))?);
        let holder = shared.begin(shared.take_database())?;
        Self::over(shared, Some(holder), config)
    }

    fn over(shared: Arc<Shared>, holder: Option<Holder>, config: &StoreConfig) -> Result<Self, OpenError> {
        let failed = |error: io::Error| OpenError::of(&config.path, &error);
        let calls = writer::start(&shared, holder).map_err(failed)?;
        Ok(Self { shared, calls: Some(Arc::new(calls)) })
    }

    /// Opens the database for reading alone, also while a process holds it.
    pub(super) fn open_to_read(config: &StoreConfig, listeners: &Arc<Listeners>) -> Result<Self, OpenError> {
        let shared = Shared::new(config, listeners, None)?;
        let server = shared.server.clone();
        let found = shared.server.wait(async move {
            let client = server.take().await?;
            let found = schema::find(&client).await;
            server.give_back_after(client, &found);
            found
        });
        match found {
            Ok(Found::Version(_)) => {}
            Ok(Found::Nothing) => {
                return Err(
                    shared.refused("there is no store in it\nhint: name the database of a daemon".to_owned())
                );
            }
            Err(fault) if fault.is_away() || fault.may_pass() => return Err(shared.away(&fault)),
            Err(fault) => return Err(shared.refused(fault.with_way_out())),
        }
        check_objects(config, None)?;
        shared.set_trouble(Some(StoreError::ReadOnly("it was opened for reading alone".to_owned())));
        shared.opened().map_err(|error| shared.refused(error.to_string()))?;
        Ok(Self { shared: Arc::new(shared), calls: None })
    }

    fn pairs(&self) -> PostgresPairs<'_> {
        self.shared.pairs()
    }
}

impl Shared {
    fn new(config: &StoreConfig, listeners: &Arc<Listeners>, seat: Option<Seat>) -> Result<Self, OpenError> {
        let failed = |error: io::Error| OpenError::of(&config.path, &error);
        let server = match &seat {
            Some(seat) => seat.server().clone(),
            None => seat::server_of(config)?,
        };
        let term = Term::leased();
        let (bodies, database_bodies) =
            places(config, &server, seat.as_ref().map(|seat| (seat.identity(), term.clone())))?;
        Ok(Self {
            server,
            seat,
            term,
            epoch: AtomicI64::new(0),
            healthy: AtomicBool::new(false),
            trouble: RwLock::default(),
            listeners: Arc::clone(listeners),
            bodies,
            database_bodies,
            unreadable: Unreadable::default(),
            cache: usize::try_from(config.cache.0).map_err(|error| failed(io::Error::other(error)))?,
        })
    }

    fn pairs(&self) -> PostgresPairs<'_> {
        PostgresPairs { server: &self.server, unreadable: &self.unreadable, link: Link::Any }
    }

    fn refused(&self, reason: String) -> OpenError {
        OpenError::Database { database: self.shown(), reason }
    }

    /// The database cannot be reached by a command, which does not wait.
    fn away(&self, fault: &Fault) -> OpenError {
        let reason = format!("{fault}\nhint: start the server, or name another one in store.url");
        OpenError::Away { database: self.shown(), reason }
    }

    /// The database, in words without its secret.
    fn shown(&self) -> String {
        self.server.address().map_or_else(|_| "of store.url".to_owned(), |at| at.shown())
    }

    /// Makes or checks the tables, and becomes the holder, unless another process is it.
    fn take_database(&self) -> Opening {
        let Some(seat) = self.seat.clone() else {
            return Opening::Refused(self.refused("it was opened for reading alone".to_owned()));
        };
        let (server, asked) = (self.server.clone(), since_boot());
        let taken = self.server.wait(async move {
            let client = server.within(ANSWER, server.connect()).await?;
            schema::migrate(&client).await?;
            commit::try_records(&client).await?;
            let taken = server.within(ANSWER, holder::take(&client, seat.identity(), seat.name())).await;
            server.give_back_after(client, &taken);
            taken
        });
        match taken {
            Ok(Taken::Holder(holder)) => {
                self.epoch.store(holder.epoch, Ordering::Relaxed);
                self.term.extend(may_act_until(asked));
                Opening::Open(holder)
            }
            Ok(Taken::Held(Other { name, since })) => {
                Opening::Refused(OpenError::Held { database: self.shown(), name, since })
            }
            Err(fault) if fault.is_away() || fault.may_pass() => Opening::Away(fault),
            Err(fault) => Opening::Refused(self.refused(fault.with_way_out())),
        }
    }

    /// Begins as the holder of a database that is there.
    fn begin(&self, opening: Opening) -> Result<Holder, OpenError> {
        let holder = match opening {
            Opening::Open(holder) => holder,
            Opening::Away(fault) => {
                return Err(OpenError::Away { database: self.shown(), reason: fault.to_string() });
            }
            Opening::Refused(error) => return Err(error),
        };
        self.healthy.store(true, Ordering::Release);
        self.opened().map_err(|error| self.refused(error.to_string()))?;
        Ok(holder)
    }

    /// Tells that it can be read.
    fn opened(&self) -> Result<(), StoreError> {
        let newest = Keyed(self.pairs()).newest_event()?;
        self.listeners.newest.send_modify(|known| known.number = known.number.max(newest));
        self.listeners.opened();
        Ok(())
    }
}

/// Where the bodies of a configuration are. `writer`: the identity and the term of a process that writes.
fn places(
    config: &StoreConfig,
    server: &Server,
    writer: Option<(&str, Term)>,
) -> Result<(Bodies, Option<DatabaseBodies>), OpenError> {
    let failed = |error: io::Error| OpenError::of(&config.path, &error);
    let wrong = |reason| OpenError::Bodies { place: "store.bodies".to_owned(), reason };
    let place = config.bodies_place().map_err(wrong)?;
    let is_used = writer.is_some();
    let spool = || {
        let spool = config.path.join("spool");
        // A process that only reads needs no folder, but there must be one to name.
        let spool = if is_used { spool } else { std::env::temp_dir() };
        Spool::open(&spool, &spool, is_used).map_err(failed)
    };
    let (identity, term) = writer.unzip();
    let bodies = DatabaseBodies::new(server, identity);
    match place {
        BodiesPlace::Database => Ok((Bodies::in_database(bodies.clone(), spool()?), Some(bodies))),
        BodiesPlace::Objects(place) => {
            let objects = objects(&place, term)?;
            Ok((Bodies::in_objects(objects, bodies.clone(), spool()?), Some(bodies)))
        }
        BodiesPlace::Folder(folder) => {
            let failed = |error: io::Error| OpenError::of(&folder, &error);
            let spool = Spool::open(&folder, &folder, is_used).map_err(failed)?;
            Ok((Bodies::in_folder(spool), None))
        }
    }
}

fn objects(place: &ObjectPlace, writer: Option<Term>) -> Result<ObjectBodies, OpenError> {
    ObjectBodies::new(place, writer)
        .map_err(|error| OpenError::Bodies { place: place.to_string(), reason: error.to_string() })
}

/// Checks whether the object storage of a configuration, if it has one, can be used. `writer`: the term of a process that writes.
pub(super) fn check_objects(config: &StoreConfig, writer: Option<Term>) -> Result<(), OpenError> {
    let Ok(BodiesPlace::Objects(place)) = config.bodies_place() else { return Ok(()) };
    let objects = objects(&place, writer)?;
    objects.check().map_err(|error| OpenError::Bodies { place: place.to_string(), reason: error.to_string() })
}

impl Backend for PostgresStore {
    fn reads_block(&self) -> bool {
        true
    }

    fn read(&self, query: &mut dyn FnMut(&dyn Records) -> Result<(), StoreError>) -> Result<(), StoreError> {
        query(&Keyed(self.pairs()))
    }

    fn submit(&self, call: Box<dyn Call>) -> Result<(), StoreError> {
        match &self.calls {
            // The thread that writes may be busy with reaching for the database.
            Some(calls) if self.shared.healthy.load(Ordering::Acquire) => calls.send(call),
            _ => Err(self.shared.unavailable()),
        }
    }

    fn bodies(&self) -> &Bodies {
        &self.shared.bodies
    }

    fn term(&self) -> Term {
        self.shared.term.clone()
    }

    fn epoch(&self) -> i64 {
        self.shared.epoch.load(Ordering::Relaxed)
    }

    fn seat(&self) -> Option<&Seat> {
        self.shared.seat.as_ref()
    }

    fn trouble(&self) -> Option<StoreError> {
        (!self.shared.healthy.load(Ordering::Acquire)).then(|| self.shared.unavailable())
    }

    fn check_space(&self) -> Result<(), StoreError> {
        // The server knows its disk alone, and says so when a commit has no room.
        Ok(())
    }

    fn unreadable(&self) -> usize {
        self.shared.unreadable.count()
    }

    fn save_high_water_mark(&self) -> oneshot::Receiver<()> {
        let (done, saved) = oneshot::channel();
        if let Some(calls) = &self.calls {
            // A writer that ended has let the database go.
            let _ = calls.save(done);
        }
        saved
    }

    fn size(&self) -> Result<u64, StoreError> {
        let server = self.shared.server.clone();
        let size = self.shared.server.wait(async move {
            let sql = "select pg_total_relation_size('tidings.records')";
            let found = server.read(Lane::Short, sql, &[]).await?;
            found.first().map_or(Ok(0), |row| server::value::<i64>(row, 0))
        });
        Ok(size?.cast_unsigned())
    }

    fn check(&self, hashes: bool) -> Result<Vec<StoreProblem>, StoreError> {
        // A daemon may go on meanwhile.
        self.pairs().in_transaction(|pairs| keyed::check(pairs, &self.shared.bodies, hashes))
    }

    fn snapshot(&self) -> Box<dyn backend::Snapshot> {
        Box::new(Snapshot::begin(&self.shared.server))
    }
}
