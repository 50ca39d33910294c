//! Bodies in the database, in parts of 256 KiB. A small body is one part, and is written with the records of its event. A large
//! one comes by way of a file in the data folder, and is there as a whole before a record tells of it.

use std::{
    io::{self, Read as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_postgres::{Row, types::Type};

use super::{
    fault::Fault,
    server::{Lane, Param, Server, changed, param, rows, run, value},
};
use crate::store::{
    BodyEntry, StoreError,
    bodies::{Coming, MAX_SMALL, copy_into},
};

/// The size of each part but the last.
const PART: usize = MAX_SMALL;

/// Entries that are read in one turn.
const PAGE: i64 = 1000;

/// The bodies of a database. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::store) struct DatabaseBodies {
    server: Server,
    /// The identity of the process that writes.
    writer: Option<Arc<str>>,
    /// The bytes of all bodies, as far as they are known.
    used: Arc<AtomicU64>,
}

fn key_of(watch: u64, event_id: &str) -> Vec<Param> {
    vec![param(watch.cast_signed(), Type::INT8), param(event_id.to_owned(), Type::TEXT)]
}

/// The kind tells a database that is away from a body that is not there.
fn failed(fault: Fault) -> io::Error {
    let kind = if fault.is_away() { io::ErrorKind::NotConnected } else { io::ErrorKind::Other };
    io::Error::new(kind, StoreError::from(fault).to_string())
}

impl DatabaseBodies {
    pub(super) fn new(server: &Server, writer: Option<&str>) -> Self {
        Self { server: server.clone(), writer: writer.map(Arc::from), used: Arc::default() }
    }

    fn rows(&self, sql: &'static str, params: Vec<Param>) -> io::Result<Vec<Row>> {
        let server = self.server.clone();
        self.server.wait(async move { server.read(Lane::Short, sql, &params).await }).map_err(failed)
    }

    /// Counts bytes that were stored.
    pub(super) fn added(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(in crate::store) fn bytes(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The size of a body.
    pub(in crate::store) fn size(&self, watch: u64, event_id: &str) -> io::Result<u64> {
        let sql = "select sum(octet_length(bytes)) from tidings.bodies where watch = $1 and event_id = $2";
        let found = self.rows(sql, key_of(watch, event_id))?;
        let size: Option<i64> = found.first().and_then(|row| row.try_get(0).ok()).flatten();
        size.map(i64::cast_unsigned).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// One part of a body; `None` when there is none.
    pub(in crate::store) async fn part(
        &self,
        watch: u64,
        event_id: &str,
        part: u64,
    ) -> io::Result<Option<Bytes>> {
        let mut params = key_of(watch, event_id);
        params.push(param(i32::try_from(part).map_err(io::Error::other)?, Type::INT4));
        let (server, (done, answer)) = (self.server.clone(), oneshot::channel());
        // The connections live on a thread of their own.
        self.server.spawn(async move {
            let sql = "select bytes from tidings.bodies where watch = $1 and event_id = $2 and part = $3";
            let found = server.read(Lane::Short, sql, &params).await.and_then(|rows| {
                rows.first().map(|row| value(row, 0).map(Bytes::copy_from_slice)).transpose()
            });
            // The caller may have gone.
            let _ = done.send(found);
        });
        let closed = |_| io::Error::other("the store is closed");
        answer.await.map_err(closed)?.map_err(failed)
    }

    /// The same, on a thread that may block.
    fn part_now(&self, watch: u64, event_id: &str, part: u64) -> io::Result<Option<Bytes>> {
        let (bodies, event_id) = (self.clone(), event_id.to_owned());
        let (done, answer) = std::sync::mpsc::sync_channel(1);
        self.server.spawn(async move {
            // The caller waits for it.
            let _ = done.send(bodies.part(watch, &event_id, part).await);
        });
        answer.recv().map_err(|_| io::Error::other("the store is closed"))?
    }

    /// Stores the file at `path` as the body of an event, in place of an earlier one, if this process still holds the database:
    /// the body that the next holder stored belongs to what it recorded.
    pub(in crate::store) fn upload(&self, path: &Path, watch: u64, event_id: &str) -> io::Result<()> {
        let file = std::fs::File::open(path)?;
        let size = file.metadata()?.len();
        let (server, event_id, number) = (self.server.clone(), event_id.to_owned(), watch);
        let writer = self.writer.as_deref().unwrap_or_default().to_owned();
        let stored = self.server.wait(async move {
            let _place = server.place(Lane::Long).await?;
            let client = server.connect().await?;
            run(&client, super::commit::BEGIN).await?;
            let delete = "delete from tidings.bodies where watch = $1 and event_id = $2";
            changed(&client, delete, &key_of(number, &event_id)).await?;
            let mut file = io::BufReader::new(file);
            for part in 0.. {
                let mut bytes = Vec::new();
                let unreadable = |error: io::Error| Fault::refused(error.to_string());
                (&mut file).take(PART as u64).read_to_end(&mut bytes).map_err(unreadable)?;
                let is_last = bytes.len() < PART;
                if bytes.is_empty() && part > 0 {
                    break;
                }
                let mut params = key_of(number, &event_id);
                params.extend([param(part, Type::INT4), param(bytes, Type::BYTEA)]);
                let sql = "insert into tidings.bodies (watch, event_id, part, bytes) values ($1, $2, $3, $4)";
                changed(&client, sql, &params).await?;
                if is_last {
                    break;
                }
            }
            // Until the commit nobody else becomes the holder.
            let sql = "select true from tidings.holder where identity = $1 for share";
            if rows(&client, sql, &[param(writer, Type::TEXT)]).await?.is_empty() {
                return Err(Fault::Changed);
            }
            // It is the same body whether this is the first try or a later one, so it may be tried again.
            run(&client, "commit").await
        });
        stored.map_err(failed)?;
        self.added(size);
        Ok(())
    }

    /// Removes a body, if it is there. Returns whether it was.
    pub(in crate::store) fn remove(&self, watch: u64, event_id: &str) -> io::Result<bool> {
        let sql = "with gone as (delete from tidings.bodies where watch = $1 and event_id = $2 returning bytes) \
                   select sum(octet_length(bytes))::bigint from gone";
        let found = self.rows(sql, key_of(watch, event_id))?;
        let gone: Option<i64> = found.first().map_or(Ok(None), |row| value(row, 0)).map_err(failed)?;
        let Some(gone) = gone else { return Ok(false) };
        let less = |used: u64| Some(used.saturating_sub(gone.cast_unsigned()));
        // The closure always has an answer.
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        Ok(true)
    }

    /// Calls `each` with every body.
    pub(in crate::store) fn each<E: From<io::Error>>(
        &self,
        mut each: impl FnMut(BodyEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut behind, mut total) = ((-1_i64, String::new()), 0);
        loop {
            let sql = "select watch, event_id, sum(octet_length(bytes))::bigint from tidings.bodies \
                       where (watch, event_id) > ($1, $2) group by watch, event_id order by watch, event_id limit $3";
            let (watch, event_id) = behind.clone();
            let params = vec![param(watch, Type::INT8), param(event_id, Type::TEXT), param(PAGE, Type::INT8)];
            let found = self.rows(sql, params)?;
            for row in &found {
                let (watch, event_id, size): (i64, String, i64) = (
                    value(row, 0).map_err(failed)?,
                    value(row, 1).map_err(failed)?,
                    value(row, 2).map_err(failed)?,
                );
                behind = (watch, event_id.clone());
                total += size.cast_unsigned();
                each(BodyEntry { watch: watch.cast_unsigned(), event_id, size: size.cast_unsigned() })?;
            }
            if found.len() < usize::try_from(PAGE).unwrap_or(usize::MAX) {
                self.used.store(total, Ordering::Relaxed);
                return Ok(());
            }
        }
    }
}

/// A reader of a body, part by part.
#[derive(Debug)]
pub(in crate::store) struct DatabaseReader {
    bodies: DatabaseBodies,
    watch: u64,
    event_id: String,
    /// The number of the next part.
    next: u64,
    /// What is left of the one before.
    left: Bytes,
    /// Bytes of the next part that are passed over.
    skipped: usize,
    is_over: bool,
    pending: Option<Coming<Option<Bytes>>>,
}

impl DatabaseReader {
    pub(in crate::store) fn new(bodies: &DatabaseBodies, watch: u64, event_id: &str) -> Self {
        Self {
            bodies: bodies.clone(),
            watch,
            event_id: event_id.to_owned(),
            next: 0,
            left: Bytes::new(),
            skipped: 0,
            is_over: false,
            pending: None,
        }
    }

    /// Reads on from byte `offset`.
    pub(in crate::store) fn skip_to(&mut self, offset: u64) {
        self.next = offset / PART as u64;
        self.skipped = usize::try_from(offset % PART as u64).unwrap_or_default();
        (self.left, self.is_over, self.pending) = (Bytes::new(), false, None);
    }

    fn take(&mut self, part: Option<Bytes>) {
        self.next += 1;
        let part = part.unwrap_or_default();
        self.is_over = part.len() < PART;
        let skipped = std::mem::take(&mut self.skipped).min(part.len());
        self.left = part.slice(skipped..);
    }

    /// Reads on a thread that may block.
    pub(in crate::store) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left.is_empty() && !self.is_over {
            let part = self.bodies.part_now(self.watch, &self.event_id, self.next)?;
            self.take(part);
        }
        Ok(copy_into(&mut self.left, buffer))
    }

    pub(in crate::store) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.left.is_empty() && !self.is_over {
            let pending = self.pending.get_or_insert_with(|| {
                let (bodies, watch) = (self.bodies.clone(), self.watch);
                let (event_id, next) = (self.event_id.clone(), self.next);
                Coming::new(async move { bodies.part(watch, &event_id, next).await })
            });
            let part = ready!(pending.poll(cx));
            self.pending = None;
            self.take(part?);
        }
        let size = buffer.remaining().min(self.left.len());
        buffer.put_slice(&self.left.split_to(size));
        Poll::Ready(Ok(()))
    }
}
