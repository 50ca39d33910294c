//! `[store]`: where watches are kept and for how long.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{bodies::ObjectPlace, postgres};
use crate::util::{
    secret::{Secret, SecretSource},
    units::{HumanDuration, Size},
};

/// Where watches, events and deliveries are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// In the data folder.
    #[default]
    Sled,
    /// In a PostgreSQL database.
    Postgres,
}

/// Where the bodies of jobs are kept beside a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BodiesPlace {
    Database,
    Folder(PathBuf),
    /// Large ones in object storage, and small ones in the database.
    Objects(ObjectPlace),
}

/// The store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Where the records are kept: `sled` is the data folder, `postgres` the database of `url`.
    #[serde(rename = "type")]
    pub kind: StoreKind,
    /// The data folder, created if it is missing. One process at a time may use it. With `postgres` it holds only large jobs
    /// on their way to the database.
    pub path: PathBuf,
    /// With `postgres`: the URL of the database, as libpq reads it:
    /// `postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full`. One of `url` and `url_file` must be set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Secret>,
    /// The file with the URL of the database, read again for each connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_file: Option<PathBuf>,
    /// With `postgres`: where the bodies of jobs are kept. `postgres` is the database, `file:///FOLDER` a folder.
    /// `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` and `az://CONTAINER/PREFIX` keep those over 256 KiB in object storage. Unset:
    /// `postgres`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bodies: Option<String>,
    /// With `postgres`: the name of this replica among those that share the database. Unset: the host's name and a random part,
    /// which stays with the data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    /// With `postgres`: the URL at which other replicas reach this one, such as `http://10.0.0.7:8787`. Unset: the address that
    /// it listens on, and for one that listens on every interface the address that it reaches the database from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// The time for which finished watches and their stored jobs are kept.
    pub retention: HumanDuration,
    /// The memory of the database's page cache. With `postgres`: of the records that the writer keeps in memory.
    pub cache: Size,
    /// The least free space of the disk, or a tenth of a smaller disk. With less, the daemon
    /// refuses new watches (507), so that the accepted ones have room to finish. Unused with `postgres`.
    pub min_free: Size,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            kind: StoreKind::default(),
            path: PathBuf::from("data"),
            url: None,
            url_file: None,
            bodies: None,
            replica: None,
            advertise: None,
            retention: HumanDuration::secs(7 * 24 * 3600),
            cache: Size::mib(4),
            min_free: Size::mib(64),
        }
    }
}

impl StoreConfig {
    /// Returns where the bodies are, or what is wrong with `bodies`.
    pub(super) fn bodies_place(&self) -> Result<BodiesPlace, String> {
        let bodies = self.bodies.as_deref().unwrap_or("postgres");
        if bodies == "postgres" {
            return Ok(BodiesPlace::Database);
        }
        let hint = "write `postgres`, a folder as `file:///srv/bodies`, or object storage as `s3://BUCKET/PREFIX`, \
                    `gs://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`";
        if let Some(place) = ObjectPlace::parse(bodies) {
            return place.map(BodiesPlace::Objects);
        }
        match bodies.strip_prefix("file://") {
            Some(folder) if folder.starts_with('/') => {
                let folder = percent_encoding::percent_decode_str(folder).decode_utf8_lossy();
                Ok(BodiesPlace::Folder(PathBuf::from(folder.into_owned())))
            }
            Some(_) => Err(format!("the path of its folder does not begin at /\nhint: {hint}")),
            None => Err(format!("it is no place for bodies\nhint: {hint}")),
        }
    }

    /// Checks `bodies`.
    ///
    /// # Errors
    /// What is wrong with it, and the way out.
    pub fn check_bodies(&self) -> Result<(), String> {
        self.bodies_place().map(drop)
    }

    /// Returns the first host of the database and its port; `None` for a socket.
    #[must_use]
    pub fn database_host(&self) -> Option<(String, u16)> {
        let url = SecretSource::of(self.url.as_ref(), self.url_file.as_deref())?;
        postgres::host_of(&url.get().ok()?)
    }

    /// Returns where the database is, for a log and a summary; `None` for a data folder.
    #[must_use]
    pub fn database_shown(&self) -> Option<String> {
        let shown = || {
            self.database_host()
                .map_or_else(|| "at a local socket".to_owned(), |(host, port)| format!("{host}:{port}"))
        };
        (self.kind == StoreKind::Postgres).then(shown)
    }

    /// Checks the URL of a database. The error holds nothing of it.
    ///
    /// # Errors
    /// What is wrong with it, and the way out.
    pub fn check_url(url: &Secret) -> Result<(), String> {
        postgres::check_url(url)
    }
}
