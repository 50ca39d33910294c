//! Large bodies in object storage: S3, Google Cloud Storage, Azure, and what speaks their protocols.
//!
//! The name of an object follows from the watch and the event, so storing a body again replaces it by the same one. An object is
//! there as a whole or not at all. The storage may go away at any time: then large bodies wait, and a task asks until it is back.

mod connect;
mod failure;
mod place;
mod reader;
#[cfg(test)]
pub(in crate::store) mod settings;
#[cfg(test)]
mod tests;

use std::{
    io,
    ops::Range,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use object_store::{
    GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutPayload, path::Path as Name,
};
use tokio::{
    io::AsyncReadExt as _,
    runtime::{Builder, Runtime},
    sync::{Semaphore, oneshot},
    time::{sleep, timeout},
};

use super::{BodyEntry, spool};
use crate::util::term::Term;
use failure::failed;

pub(in crate::store) use place::ObjectPlace;
pub(in crate::store) use reader::ObjectReader;

/// A larger body is stored in parts of this size. S3 takes no smaller ones than 5 MiB.
const PART: u64 = 8 << 20;

/// The most parts that S3 takes.
const MAX_PARTS: u64 = 10_000;

/// Bodies that are stored at the same time. Each has a part in memory.
const UPLOADS: usize = 4;

/// Entries of a list that are in memory at once.
const PAGE: usize = 1000;

/// The object by which the storage is tried.
const PROBE: &str = "probe";

/// The time that a start waits to learn whether the storage can be used.
const START: Duration = Duration::from_secs(10);

/// The waits before the storage is tried again.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LAST_WAIT: Duration = Duration::from_secs(10);

/// The large bodies of a store. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::store) struct ObjectBodies(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    storage: Arc<dyn ObjectStore>,
    prefix: Name,
    /// The place, for people.
    shown: String,
    /// The beginning of the variables that say how it is reached.
    variables: &'static str,
    /// Whether this process writes; one that only reads tries nothing by itself.
    writes: bool,
    /// Taken when it is dropped.
    runtime: Option<Runtime>,
    uploads: Semaphore,
    /// The bytes of all objects, as far as they are known.
    used: AtomicU64,
    trouble: Mutex<Option<Trouble>>,
}

/// The storage is away, or refuses.
#[derive(Clone, Debug)]
struct Trouble {
    reason: String,
    /// Reading failed, and not only writing.
    reads: bool,
}

/// An object, as it is now.
#[derive(Clone, Debug)]
struct Object {
    name: Name,
    size: u64,
    /// Its version.
    tag: Option<String>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // It may be dropped on a thread of another runtime, which must not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl ObjectBodies {
    /// Returns the bodies of a place, which is not asked for anything yet. `writer`: the term of a process that writes.
    ///
    /// # Errors
    /// When the environment does not say how the storage is reached, and the way out.
    pub(in crate::store) fn new(place: &ObjectPlace, writer: Option<Term>) -> io::Result<Self> {
        let writes = writer.is_some();
        let storage = connect::connect(place, writer.unwrap_or_default()).map_err(|error| {
            let variables = place.scheme.variables();
            let hint =
                format!("hint: set the variables that begin with {variables} as its documentation says");
            io::Error::other(format!("{}\n{hint}", failure::words(&error)))
        })?;
        Self::over(storage, place, writes)
    }

    fn over(storage: Arc<dyn ObjectStore>, place: &ObjectPlace, writes: bool) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("store-objects")
            .enable_all()
            .build()?;
        Ok(Self(Arc::new(Inner {
            storage,
            prefix: place.prefix.clone(),
            shown: place.to_string(),
            variables: place.scheme.variables(),
            writes,
            runtime: Some(runtime),
            uploads: Semaphore::new(UPLOADS),
            used: AtomicU64::new(0),
            trouble: Mutex::default(),
        })))
    }

    /// Tries whether the storage can be used, for a process that starts. One that only reads does not write.
    ///
    /// # Errors
    /// When it refuses, or cannot be reached as the environment says. Storage that is away is none: a daemon waits for it.
    pub(in crate::store) fn check(&self) -> io::Result<()> {
        let inner = Arc::clone(&self.0);
        self.wait(async move {
            match timeout(START, inner.probe()).await {
                Ok(Err(error)) if failure::is_final(&error) => Err(io::Error::other(inner.refusal(&error))),
                _ => Ok(()),
            }
        })
    }

    /// Why large bodies wait; `None` when they do not.
    pub(in crate::store) fn trouble(&self) -> Option<String> {
        self.0.trouble().as_ref().map(|trouble| trouble.reason.clone())
    }

    /// Fails while the storage cannot be read.
    pub(in crate::store) fn readable(&self) -> io::Result<()> {
        match &*self.0.trouble() {
            Some(Trouble { reason, reads: true }) => Err(away(reason)),
            _ => Ok(()),
        }
    }

    /// Fails while the storage is not tried for writes, as it just failed.
    fn writable(&self) -> io::Result<()> {
        self.0.trouble().as_ref().map_or(Ok(()), |trouble| Err(away(&trouble.reason)))
    }

    /// The place of a body, for people.
    pub(in crate::store) fn shown(&self, watch: u64, event_id: &str) -> String {
        self.0.shown(&spool::name(watch, event_id))
    }

    pub(in crate::store) fn bytes(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Runs work on the thread of the connections and waits for it. Any thread may wait.
    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = io::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        let (done, answer) = mpsc::sync_channel(1);
        self.0.spawn(async move {
            // The caller waits for it.
            let _ = done.send(work.await);
        });
        answer.recv().unwrap_or_else(|_| Err(closed()))
    }

    /// Runs work on the thread of the connections, and waits for it without a thread.
    async fn ask<T: Send + 'static>(
        &self,
        work: impl Future<Output = io::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        let (done, answer) = oneshot::channel();
        self.0.spawn(async move {
            // The caller may have gone.
            let _ = done.send(work.await);
        });
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// The size of a body.
    pub(in crate::store) fn size(&self, watch: u64, event_id: &str) -> io::Result<u64> {
        self.read(watch, event_id).map(|reader| reader.size())
    }

    /// Opens a body on a thread that may block.
    pub(in crate::store) fn read(&self, watch: u64, event_id: &str) -> io::Result<ObjectReader> {
        let (inner, name) = (Arc::clone(&self.0), spool::name(watch, event_id));
        let object = self.wait(async move { inner.find(&name).await })?;
        Ok(ObjectReader::new(self, object))
    }

    /// Opens a body as a stream.
    pub(in crate::store) async fn stream(&self, watch: u64, event_id: &str) -> io::Result<ObjectReader> {
        let (inner, name) = (Arc::clone(&self.0), spool::name(watch, event_id));
        let object = self.ask(async move { inner.find(&name).await }).await?;
        Ok(ObjectReader::new(self, object))
    }

    /// Reads a piece of an object.
    async fn piece(&self, object: &Object, piece: Range<u64>) -> io::Result<Bytes> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(piece)),
            if_match: object.tag.clone(),
            ..GetOptions::default()
        };
        let read = async { self.0.storage.get_opts(&object.name, options).await?.bytes().await };
        self.0.noted(true, object.name.as_ref(), read.await)
    }

    /// Stores the file at `path` as the body of an event, in place of an earlier one.
    pub(in crate::store) fn upload(&self, path: &Path, watch: u64, event_id: &str) -> io::Result<()> {
        self.writable()?;
        let (inner, path, name) = (Arc::clone(&self.0), path.to_owned(), spool::name(watch, event_id));
        self.wait(async move { inner.upload(&path, &name).await })
    }

    /// Removes a body, if it is there.
    pub(in crate::store) fn remove(&self, watch: u64, event_id: &str) -> io::Result<()> {
        self.writable()?;
        let (inner, name) = (Arc::clone(&self.0), spool::name(watch, event_id));
        self.wait(async move { inner.remove(&name).await })
    }

    /// Calls `each` with every body. Other objects are passed over.
    pub(in crate::store) fn each<E: From<io::Error>>(
        &self,
        mut each: impl FnMut(BodyEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        let prefix = Some(&self.0.prefix).filter(|prefix| !prefix.as_ref().is_empty());
        let pages = self.0.storage.list(prefix).chunks(PAGE);
        let (pages, mut total) = (Arc::new(tokio::sync::Mutex::new(pages)), 0);
        loop {
            let (inner, pages) = (Arc::clone(&self.0), Arc::clone(&pages));
            let page = self.wait(async move {
                let page = pages.lock().await.next().await.unwrap_or_default();
                let page: object_store::Result<Vec<_>> = page.into_iter().collect();
                inner.noted(true, "", page)
            })?;
            if page.is_empty() {
                self.0.used.store(total, Ordering::Relaxed);
                return Ok(());
            }
            for object in page {
                if let Some(entry) = self.0.entry(&object.location, object.size) {
                    total += entry.size;
                    each(entry)?;
                }
            }
        }
    }
}

fn away(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, reason.to_owned())
}

fn closed() -> io::Error {
    io::Error::other("the store is closed")
}

impl Inner {
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(work);
        }
    }

    fn trouble(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self, name: &str) -> Name {
        self.prefix.clone().join(name)
    }

    fn shown(&self, name: &str) -> String {
        format!("{}/{name}", self.shown)
    }

    /// The body that an object is, if it is one.
    fn entry(&self, name: &Name, size: u64) -> Option<BodyEntry> {
        let mut parts = name.prefix_match(&self.prefix)?;
        let (name, None) = (parts.next()?, parts.next()) else { return None };
        let (watch, event_id) = spool::parse(name.as_ref())?;
        Some(BodyEntry { watch, event_id: event_id.to_owned(), size })
    }

    /// Notes what became of a request, and returns it.
    fn noted<T>(self: &Arc<Self>, reads: bool, name: &str, done: object_store::Result<T>) -> io::Result<T> {
        done.map_err(|error| {
            let error = failed(&error, name);
            if error.kind() == io::ErrorKind::NotConnected {
                self.fails(reads, &error);
            }
            error
        })
    }

    /// The storage is away, or refuses.
    fn fails(self: &Arc<Self>, reads: bool, error: &io::Error) {
        let mut trouble = self.trouble();
        let was_known = trouble.is_some();
        let reads = reads || trouble.as_ref().is_some_and(|trouble| trouble.reads);
        *trouble = Some(Trouble { reason: error.to_string(), reads });
        if was_known || !self.writes {
            return;
        }
        tracing::error!(bodies = self.shown, %error, "object storage failed; large jobs wait until it is back");
        self.spawn(recover(Arc::downgrade(self)));
    }

    /// Writes an object and reads it. A process that only reads takes none as an answer.
    async fn probe(&self) -> object_store::Result<()> {
        let name = self.name(PROBE);
        if self.writes {
            self.storage.put(&name, PutPayload::from_static(b"tidings")).await?;
        }
        match self.storage.get(&name).await {
            Err(error) if !self.writes && failure::is_missing_object(&error) => Ok(()),
            read => read?.bytes().await.map(drop),
        }
    }

    /// Why a process cannot begin, and the way out.
    fn refusal(&self, error: &object_store::Error) -> String {
        let (reason, variables) = (failure::words(error), self.variables);
        if let Some(hint) = failure::way_out(error, variables) {
            return format!("it cannot be reached: {reason}\nhint: {hint}");
        }
        let (name, whose) = (self.shown(PROBE), if self.writes { "" } else { " of the daemon" });
        format!(
            "it refuses an object named {name}: {reason}\nhint: check the bucket, and the region and the credentials in the \
             variables{whose} that begin with {variables}; tidings writes, reads, lists and removes objects"
        )
    }

    /// Finds the body of this name. The answer to a request for its first byte says why there is none.
    async fn find(self: &Arc<Self>, name: &str) -> io::Result<Object> {
        let options = GetOptions { range: Some(GetRange::Bounded(0..1)), ..GetOptions::default() };
        let found = self.storage.get_opts(&self.name(name), options).await;
        let found = self.noted(true, &self.shown(name), found)?;
        Ok(Object { name: found.meta.location, size: found.meta.size, tag: found.meta.e_tag })
    }

    async fn upload(self: &Arc<Self>, path: &Path, name: &str) -> io::Result<()> {
        let _turn = self.uploads.acquire().await.map_err(io::Error::other)?;
        let mut file = tokio::fs::File::open(path).await.map_err(io::Error::other)?;
        let size = file.metadata().await?.len();
        let part = PART.max(size.div_ceil(MAX_PARTS));
        if size <= part {
            let bytes = next_part(&mut file, part).await?;
            let stored = self.storage.put(&self.name(name), bytes.into()).await;
            self.noted(false, &self.shown(name), stored)?;
        } else {
            let upload = self.storage.put_multipart(&self.name(name)).await;
            let mut upload = self.noted(false, &self.shown(name), upload)?;
            if let Err(error) = self.send_parts(&mut *upload, &mut file, part, name).await {
                // What stays is a rule of the bucket's to remove.
                let _ = upload.abort().await;
                return Err(error);
            }
        }
        self.used.fetch_add(size, Ordering::Relaxed);
        Ok(())
    }

    async fn send_parts(
        self: &Arc<Self>,
        upload: &mut dyn MultipartUpload,
        file: &mut tokio::fs::File,
        part: u64,
        name: &str,
    ) -> io::Result<()> {
        loop {
            let bytes = next_part(file, part).await?;
            if bytes.is_empty() {
                break;
            }
            let sent = upload.put_part(bytes.into()).await;
            self.noted(false, &self.shown(name), sent)?;
        }
        let stored = upload.complete().await;
        self.noted(false, &self.shown(name), stored).map(drop)
    }

    async fn remove(self: &Arc<Self>, name: &str) -> io::Result<()> {
        let size = match self.find(name).await {
            Ok(object) => object.size,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let removed = self.storage.delete(&self.name(name)).await;
        match self.noted(false, &self.shown(name), removed) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let less = |used: u64| Some(used.saturating_sub(size));
        // The closure always has an answer.
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        Ok(())
    }
}

async fn next_part(file: &mut tokio::fs::File, size: u64) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    file.take(size).read_to_end(&mut bytes).await?;
    Ok(bytes.into())
}

/// Tries the storage until it can be used again, or nobody uses it any more.
async fn recover(inner: Weak<Inner>) {
    let mut wait = FIRST_WAIT;
    loop {
        sleep(wait).await;
        wait = (wait * 2).min(LAST_WAIT);
        let Some(inner) = inner.upgrade() else { return };
        match inner.probe().await {
            Ok(()) => {
                *inner.trouble() = None;
                tracing::info!(bodies = inner.shown, "object storage is back");
                return;
            }
            Err(error) => {
                let reason = failed(&error, PROBE).to_string();
                if let Some(trouble) = &mut *inner.trouble() {
                    trouble.reason = reason;
                }
            }
        }
    }
}
