//! Makes a store out of an export, in one transaction.

use std::{collections::BTreeMap, fs, io::BufRead, path::PathBuf, sync::Arc};

use tokio_postgres::{Client, types::Type};

use super::{
    Opening, Seat, Shared,
    commit::BEGIN,
    fault::Fault,
    holder::Holder,
    server::{Server, changed, param, rows, run},
};
use crate::store::{
    BodyEntry, StoreConfig, StoreError, TransferError, Transferred,
    bodies::{MAX_SMALL, ObjectBodies},
    config::BodiesPlace,
    files::{make_private, sync_folder},
    format::keys,
    listeners::Listeners,
    transfer::{Pieces, Target, fill, write_job},
};
use crate::util::term::Term;

/// Records that one statement writes.
const BATCH: usize = 500;

/// Makes the store of an export in the database of `config`, which must hold none.
pub(in crate::store) fn import(
    from: &mut dyn BufRead,
    config: &StoreConfig,
) -> Result<Transferred, TransferError> {
    let home = Home::of(config)?;
    // Nobody is told of anything.
    let listeners = Arc::<Listeners>::default();
    let shared = Shared::new(config, &listeners, Some(Seat::of_command(config, "import")?))?;
    let holder = match shared.take_database() {
        Opening::Open(holder) => holder,
        Opening::Away(fault) => return Err(shared.away(&fault).into()),
        Opening::Refused(error) => return Err(error.into()),
    };
    let server = shared.server.clone();
    let done = import_held(from, &shared, &holder, home);
    // Whatever became of it, the next process need not wait.
    let last = server.clone();
    let let_go = server.wait(async move { holder.let_go(&*last.connect().await?).await });
    let done = done?;
    let_go.map_err(StoreError::from)?;
    Ok(done)
}

fn import_held(
    from: &mut dyn BufRead,
    shared: &Shared,
    holder: &Holder,
    home: Home,
) -> Result<Transferred, TransferError> {
    let (server, opened) = (shared.server.clone(), shared.server.clone());
    let begun = server.wait(async move {
        let client = opened.connect().await?;
        run(&client, BEGIN).await?;
        // The export may come slowly.
        run(&client, "set local idle_in_transaction_session_timeout = 0").await?;
        let found = rows(&client, "select true from tidings.records limit 1", &[]).await?;
        Ok((client, found.is_empty()))
    });
    let (client, is_empty) = begun.map_err(StoreError::from)?;
    if !is_empty {
        let database = server.address().map_or_else(|_| String::new(), |address| address.shown());
        return Err(TransferError::TakenDatabase(database));
    }
    let mut into = Database {
        server,
        client,
        number: holder.commits + 1,
        batch: BTreeMap::new(),
        home,
        made: Vec::new(),
    };
    let done = fill(from, &mut into).and_then(|done| {
        into.flush()?;
        into.end(holder)?;
        Ok(done)
    });
    if done.is_err() {
        // The first error says more than that something is left. The transaction ends with its connection.
        into.made.iter().for_each(|job| into.home.remove(job));
    }
    done
}

/// Where bodies go.
enum Home {
    Database,
    Folder(PathBuf),
    /// The large ones, by way of a folder that is gone at the end.
    Objects(ObjectBodies, tempfile::TempDir),
}

impl Home {
    fn of(config: &StoreConfig) -> Result<Self, TransferError> {
        Ok(match config.bodies_place() {
            Ok(BodiesPlace::Folder(folder)) => {
                make_private(&folder)?;
                Self::Folder(folder)
            }
            Ok(BodiesPlace::Objects(place)) => {
                super::check_objects(config, Some(Term::default()))?;
                make_private(&config.path)?;
                let folder = tempfile::Builder::new().prefix("import-").tempdir_in(&config.path)?;
                // The import is over when its transaction is, however long it takes.
                Self::Objects(super::objects(&place, Some(Term::default()))?, folder)
            }
            Ok(BodiesPlace::Database) | Err(_) => Self::Database,
        })
    }

    /// Removes a body of an import that failed.
    fn remove(&self, job: &BodyEntry) {
        // What is left of it, the first start on the database sweeps.
        let _ = match self {
            Self::Database => Ok(()),
            Self::Folder(folder) => fs::remove_file(folder.join(job.file_name())),
            Self::Objects(objects, _) => objects.remove(job.watch, &job.event_id),
        };
    }
}

/// The database that is made.
struct Database {
    server: Server,
    client: Arc<Client>,
    number: i64,
    /// The last value of each key counts: an open watch comes as its entry first.
    batch: BTreeMap<Vec<u8>, Vec<u8>>,
    home: Home,
    /// The bodies that are not in its transaction.
    made: Vec<BodyEntry>,
}

impl Database {
    fn run<T: Send + 'static, F>(&self, work: impl FnOnce(Arc<Client>) -> F) -> Result<T, TransferError>
    where
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let done = self.server.wait(work(Arc::clone(&self.client)));
        Ok(done.map_err(StoreError::from)?)
    }

    fn flush(&mut self) -> Result<(), TransferError> {
        let (keys, values): (Vec<_>, Vec<_>) = std::mem::take(&mut self.batch).into_iter().unzip();
        let params = vec![
            param(keys, Type::BYTEA_ARRAY),
            param(values, Type::BYTEA_ARRAY),
            param(self.number, Type::INT8),
        ];
        self.run(|client| async move {
            let sql = "insert into tidings.records (key, value, version) \
                       select key, value, $3 from unnest($1::bytea[], $2::bytea[]) as w (key, value) \
                       on conflict (key) do update set value = excluded.value";
            changed(&client, sql, &params).await.map(drop)
        })
    }

    fn end(&self, holder: &Holder) -> Result<(), TransferError> {
        if let Home::Folder(folder) = &self.home {
            sync_folder(folder)?;
        }
        let (sql, params) = holder.count();
        self.run(|client| async move {
            if changed(&client, sql, &params).await? != 1 {
                return Err(Fault::Changed);
            }
            run(&client, "commit").await
        })
    }

    /// Stores one part of a body.
    fn part(&self, job: &BodyEntry, part: i32, bytes: Vec<u8>) -> Result<(), TransferError> {
        let params = vec![
            param(job.watch.cast_signed(), Type::INT8),
            param(job.event_id.clone(), Type::TEXT),
            param(part, Type::INT4),
            param(bytes, Type::BYTEA),
        ];
        self.run(|client| async move {
            let sql = "insert into tidings.bodies (watch, event_id, part, bytes) values ($1, $2, $3, $4)";
            changed(&client, sql, &params).await.map(drop)
        })
    }
}

impl Target for Database {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), TransferError> {
        // What tells a damaged file from a new one has no meaning here.
        let is_of_files = key == keys::SENTINEL || keys::COUNTED.iter().any(|(_, name, _)| key == *name);
        if is_of_files {
            return Ok(());
        }
        self.batch.insert(key, value);
        if self.batch.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    fn job(&mut self, job: &BodyEntry, next: Pieces<'_>) -> Result<(), TransferError> {
        match &self.home {
            Home::Database => self.parts(job, next),
            Home::Folder(folder) => {
                self.made.push(job.clone());
                write_job(&folder.join(job.file_name()), next)
            }
            Home::Objects(objects, folder) => {
                let path = folder.path().join(job.file_name());
                write_job(&path, next)?;
                if fs::metadata(&path)?.len() > MAX_SMALL as u64 {
                    self.made.push(job.clone());
                    objects.upload(&path, job.watch, &job.event_id)?;
                } else {
                    let mut bytes = Some(fs::read(&path)?);
                    self.parts(job, &mut || Ok(bytes.take()))?;
                }
                Ok(fs::remove_file(&path)?)
            }
        }
    }
}

impl Database {
    /// Stores a body in the database.
    fn parts(&self, job: &BodyEntry, next: Pieces<'_>) -> Result<(), TransferError> {
        let (mut gathered, mut parts) = (Vec::new(), 0);
        while let Some(bytes) = next()? {
            gathered.extend_from_slice(&bytes);
            while gathered.len() >= MAX_SMALL {
                let rest = gathered.split_off(MAX_SMALL);
                self.part(job, parts, std::mem::replace(&mut gathered, rest))?;
                parts += 1;
            }
        }
        if gathered.is_empty() && parts > 0 { Ok(()) } else { self.part(job, parts, gathered) }
    }
}
