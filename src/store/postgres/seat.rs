//! A replica's place at a database: its name there, the sign that it is alive, and who owns the work.
//!
//! Every replica renews a row of `tidings.replicas`, whether it owns the work or not. The row of the holder decides who does
//! (`holder`); these rows tell the others where to find it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::time::timeout;
use tokio_postgres::types::Type;

use super::{
    fault::Fault,
    holder,
    server::{Lane, Param, Server, param, value},
};
use crate::{
    store::{
        OpenError, StoreConfig, StoreError,
        files::make_private,
        sled::{self, MARKER},
    },
    util::{secret::SecretSource, units::Time},
};

/// The file in the data folder that tells this folder's processes from others.
const IDENTITY: &str = "identity";

/// The characters of the identity that end a name by default.
const SHORT: usize = 6;

/// How long a replica waits for an answer about itself or the owner. It asks often, and all that it asks is short.
const ASK: Duration = Duration::from_secs(3);

/// How long a replica that ends tries to say so.
const LEAVE: Duration = Duration::from_secs(2);

/// One replica, as all of them see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replica {
    /// Its name.
    pub name: String,
    /// The address at which the others reach it.
    pub address: String,
    /// When it started.
    pub since: Time,
    /// What it owns: sources, sinks, and the work that belongs to none.
    pub units: Vec<String>,
    /// When it last said that it is alive.
    pub renewed_at: Time,
}

/// The replica that owns the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its name.
    pub name: String,
    /// The address at which it is reached, if it said one.
    pub address: Option<String>,
    /// Grows with every change of the owner.
    pub epoch: i64,
}

/// The place of this process at a database. Cheap to clone. It holds the lock of the data folder.
#[derive(Clone, Debug)]
pub struct Seat(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    server: Server,
    identity: String,
    name: String,
    address: String,
    /// It has said that it is there.
    is_known: AtomicBool,
    /// Another replica had its name when it last said so.
    has_namesake: AtomicBool,
    /// `None` for one command. The last field, so that it is let go last.
    _lock: Option<fs::File>,
}

impl Seat {
    /// How long a replica counts as alive that says nothing.
    pub const TERM: Duration = holder::TERM;

    /// How often a replica says that it is alive.
    pub const RENEW: Duration = holder::RENEW;

    /// Takes the place of the data folder of `config`. Others reach this process at `address`. Asks nothing of the database.
    ///
    /// # Errors
    /// When the folder is in use or cannot be used.
    pub fn take(config: &StoreConfig, address: &str) -> Result<Self, OpenError> {
        make_private(&config.path).map_err(|error| OpenError::of(&config.path, &error))?;
        Self::locked(config, sled::lock(&config.path)?, address)
    }

    /// Does the same in a folder that is locked already.
    pub(in crate::store) fn locked(
        config: &StoreConfig,
        lock: fs::File,
        address: &str,
    ) -> Result<Self, OpenError> {
        let failed = |error: io::Error| OpenError::of(&config.path, &error);
        if config.path.join(MARKER).exists() {
            return Err(OpenError::Folder {
                path: config.path.clone(),
                reason: "it holds a store of type sled\nhint: name another folder as store.path; `tidings store export` and \
                         `import` move what is in it"
                    .to_owned(),
            });
        }
        let identity = identity_of(&config.path).map_err(failed)?;
        let name =
            config.replica.clone().unwrap_or_else(|| name_of(identity.get(..SHORT).unwrap_or(&identity)));
        let server = server_of(config)?;
        Ok(Self(Arc::new(Inner {
            server,
            identity,
            name,
            address: address.to_owned(),
            is_known: AtomicBool::new(false),
            has_namesake: AtomicBool::new(false),
            _lock: Some(lock),
        })))
    }

    /// Takes a place for one command, which uses no data folder.
    pub(super) fn of_command(config: &StoreConfig, command: &str) -> Result<Self, OpenError> {
        let server = server_of(config)?;
        let identity = format!("{command} {:032x}", rand::random::<u128>());
        let name = name_of(command);
        Ok(Self(Arc::new(Inner {
            server,
            identity,
            name,
            address: String::new(),
            is_known: AtomicBool::new(false),
            has_namesake: AtomicBool::new(false),
            _lock: None,
        })))
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub(super) fn identity(&self) -> &str {
        &self.0.identity
    }

    pub(super) fn server(&self) -> &Server {
        &self.0.server
    }

    /// Says that this replica is alive and owns `units`. Returns whether it could: no other live replica has its name.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn renew(&self, units: Vec<String>) -> Result<bool, StoreError> {
        let is_new = !self.0.is_known.load(Ordering::Relaxed);
        let Inner { name, identity, address, .. } = &*self.0;
        let params: Vec<Param> = vec![
            param(name.clone(), Type::TEXT),
            param(identity.clone(), Type::TEXT),
            param(address.clone(), Type::TEXT),
            param(units, Type::TEXT_ARRAY),
            param(is_new, Type::BOOL),
        ];
        let sql = format!(
            "insert into tidings.replicas (identity, name, address, since, units, renewed_at) \
             select $2, $1, $3, clock_timestamp(), $4, clock_timestamp() where not exists \
             (select 1 from tidings.replicas o where o.name = $1 and o.identity <> $2 and not ({is_over})) \
             on conflict (identity) do update set name = excluded.name, address = excluded.address, units = excluded.units, \
             renewed_at = excluded.renewed_at, since = case when $5 then excluded.since else replicas.since end",
            is_over = holder::is_over("o")
        );
        let server = self.0.server.clone();
        let written = self.0.server.ask(async move { server.write(ASK, &sql, &params).await });
        let has_namesake = written.await? == 0;
        if has_namesake && !self.0.has_namesake.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                replica = name,
                "another live replica has this name; this one owns no work until that one is gone. Give each its own store.replica"
            );
        }
        if !has_namesake {
            self.0.has_namesake.store(false, Ordering::Relaxed);
            self.0.is_known.store(true, Ordering::Relaxed);
        }
        Ok(!has_namesake)
    }

    /// Says that it ends.
    pub async fn leave(&self) {
        let server = self.0.server.clone();
        let params = [param(self.0.name.clone(), Type::TEXT), param(self.0.identity.clone(), Type::TEXT)];
        let left = self.0.server.ask(async move {
            let sql = "delete from tidings.replicas where name = $1 and identity = $2";
            server.write(LEAVE, sql, &params).await
        });
        if !matches!(timeout(LEAVE, left).await, Ok(Ok(_))) {
            tracing::debug!("the others notice the end of this replica by themselves");
        }
    }

    /// Returns the owner of the work; `None` when there is none, or it is a process of this folder.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn owner(&self) -> Result<Option<Owner>, StoreError> {
        let sql = format!(
            "select h.identity, h.name, r.address, h.epoch, {} from tidings.holder h \
             left join tidings.replicas r on r.identity = h.identity",
            holder::is_over("h")
        );
        let server = self.0.server.clone();
        let asked = async move { server.within(ASK, server.read(Lane::Own, &sql, &[])).await };
        let found = self.0.server.ask(asked).await?;
        let Some(row) = found.first() else { return Ok(None) };
        let (identity, is_over): (&str, bool) = (value(row, 0)?, value(row, 4)?);
        if is_over || identity == self.0.identity {
            return Ok(None);
        }
        let (name, address): (&str, Option<&str>) = (value(row, 1)?, value(row, 2)?);
        let address = address.filter(|address| !address.is_empty()).map(str::to_owned);
        Ok(Some(Owner { name: name.to_owned(), address, epoch: value(row, 3)? }))
    }

    /// Returns the live replicas by name.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn replicas(&self) -> Result<Vec<Replica>, StoreError> {
        let sql = format!(
            "select r.name, r.address, {since}, case when h.identity is null then '{{}}' else r.units end, {renewed_at} \
             from tidings.replicas r left join tidings.holder h on h.identity = r.identity and not ({is_held_over}) \
             where not ({is_over}) order by r.name",
            since = millis("r.since"),
            renewed_at = millis("r.renewed_at"),
            is_held_over = holder::is_over("h"),
            is_over = holder::is_over("r"),
        );
        let server = self.0.server.clone();
        let found = self.0.server.ask(async move { server.read(Lane::Short, &sql, &[]).await }).await?;
        let replica = |row| -> Result<Replica, Fault> {
            Ok(Replica {
                name: value(row, 0)?,
                address: value(row, 1)?,
                since: Time(value(row, 2)?),
                units: value(row, 3)?,
                renewed_at: Time(value(row, 4)?),
            })
        };
        Ok(found.iter().map(replica).collect::<Result<_, _>>()?)
    }
}

/// The server of a configuration.
pub(super) fn server_of(config: &StoreConfig) -> Result<Server, OpenError> {
    let Some(url) = SecretSource::of(config.url.as_ref(), config.url_file.as_deref()) else {
        let hint = "set store.url_file, or store.url: postgres://USER:PASSWORD@HOST/DATABASE";
        let reason = format!("it has no URL\nhint: {hint}");
        return Err(OpenError::Database { database: "of store.url".to_owned(), reason });
    };
    Server::new(url).map_err(|error| OpenError::of(&config.path, &error))
}

/// An instant of the database's clock, in milliseconds since 1970.
fn millis(instant: &str) -> String {
    format!("(extract(epoch from {instant}) * 1000)::bigint")
}

/// The identity of a data folder. A copy of the folder has another one: what its process held is not free for that of the copy.
fn identity_of(folder: &Path) -> io::Result<String> {
    let path = folder.join(IDENTITY);
    let random = match fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => text.trim().to_owned(),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {
            let random = format!("{:032x}", rand::random::<u128>());
            fs::write(&path, format!("{random}\n"))?;
            random
        }
    };
    Ok(format!("{:04x}{random}", fs::metadata(&path)?.ino() & 0xffff))
}

/// A name on this host.
fn name_of(what: &str) -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match host.trim() {
        "" => what.to_owned(),
        host => format!("{host}-{what}"),
    }
}
