//! The pairs in the table of records.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use tokio_postgres::{Client, Row, types::Type};

use super::{
    fault::Fault,
    server::{ANSWER, Lane, Param, Place, Server, param, rows, run, value},
};
use crate::store::{
    StoreError,
    format::Writes,
    keyed::{Found, Pairs, Unreadable, writes_over},
    records::Effects,
};

/// Pairs of the first page of a scan, and of later ones: many scans want the first alone.
const FIRST_PAGE: i64 = 16;
const MAX_PAGE: i64 = 512;

/// What the thread that writes knows of the records: their values and versions as it read or wrote them last. It is the only
/// writer, so they are so; and each is compared with the version in the database before it is written again.
#[derive(Debug, Default)]
pub(super) struct Known {
    pairs: HashMap<Vec<u8>, Version>,
    bytes: usize,
}

/// A value and the commit that wrote it; `None` and 0 when there is none.
#[derive(Clone, Debug, Default)]
pub(super) struct Version {
    pub(super) value: Option<Bytes>,
    pub(super) commit: i64,
}

/// What a key costs beside its bytes.
const OVERHEAD: usize = 128;

impl Known {
    pub(super) fn get(&self, key: &[u8]) -> Option<&Version> {
        self.pairs.get(key)
    }

    pub(super) fn put(&mut self, key: Vec<u8>, version: Version) {
        let size = |version: &Version| version.value.as_ref().map_or(0, Bytes::len);
        let (before, after) = (self.pairs.get(&key).map(size), size(&version));
        self.bytes += after + if before.is_some() { 0 } else { key.len() + OVERHEAD };
        self.bytes -= before.unwrap_or(0);
        self.pairs.insert(key, version);
    }

    /// Forgets everything once it is more than this.
    pub(super) fn bound(&mut self, bytes: usize) {
        if self.bytes > bytes {
            self.forget();
        }
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// Where statements go.
#[derive(Clone)]
pub(super) enum Link<'a> {
    /// To any connection, each by itself.
    Any,
    /// Into the transaction of this connection.
    Transaction(Arc<Client>),
    /// To any connection, by the thread that writes. It leaves what it wants to write in `staged`.
    Writer { known: &'a RefCell<Known>, staged: &'a RefCell<Writes> },
}

/// The pairs of the database.
#[derive(Clone)]
pub(super) struct PostgresPairs<'a> {
    pub(super) server: &'a Server,
    pub(super) unreadable: &'a Unreadable,
    pub(super) link: Link<'a>,
}

impl PostgresPairs<'_> {
    fn rows(&self, sql: &'static str, params: Vec<Param>) -> Result<Vec<Row>, StoreError> {
        let server = self.server.clone();
        let rows = match &self.link {
            Link::Any | Link::Writer { .. } => {
                let lane = self.lane();
                self.server.wait(async move { server.read(lane, sql, &params).await })
            }
            Link::Transaction(client) => {
                let client = Arc::clone(client);
                self.server.wait(async move { rows(&client, sql, &params).await })
            }
        };
        Ok(rows?)
    }

    const fn lane(&self) -> Lane {
        match self.link {
            Link::Writer { .. } => Lane::Own,
            Link::Any | Link::Transaction(_) => Lane::Short,
        }
    }

    /// What was read of a key. What this transaction knows already stays as it is.
    fn note(&self, key: &[u8], version: Version) {
        if let Link::Writer { known, .. } = &self.link
            && known.borrow().get(key).is_none()
        {
            known.borrow_mut().put(key.to_vec(), version);
        }
    }

    /// Runs `read` in one transaction that sees one state.
    pub(super) fn in_transaction<T>(
        &self,
        read: impl FnOnce(&Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (client, _place) = begin(self.server, self.lane())?;
        let pinned = PostgresPairs { link: Link::Transaction(Arc::clone(&client)), ..self.clone() };
        let read = read(&pinned);
        let server = self.server.clone();
        let ended = self.server.wait(async move {
            run(&client, "commit").await?;
            server.give_back(client);
            Ok(())
        });
        let value = read?;
        ended?;
        Ok(value)
    }
}

/// Begins a transaction that sees one state, on a connection of its own.
pub(super) fn begin(server: &Server, lane: Lane) -> Result<(Arc<Client>, Place), Fault> {
    let from = server.clone();
    server.wait(async move {
        let sql = "begin isolation level repeatable read read only; set local idle_in_transaction_session_timeout = 0";
        let place = from.place(lane).await?;
        let begun = from.within(ANSWER, async {
            let mut client = from.take().await?;
            let mut begun = run(&client, sql).await;
            // An idle connection turned out to be dead.
            if begun.as_ref().is_err_and(Fault::may_be_the_connection) {
                client = from.connect().await?;
                begun = run(&client, sql).await;
            }
            begun.map(|()| client)
        });
        Ok((begun.await?, place))
    })
}

fn pair(row: &Row) -> Result<(Bytes, Bytes), Fault> {
    Ok((Bytes::copy_from_slice(value(row, 0)?), Bytes::copy_from_slice(value(row, 1)?)))
}

impl Pairs for PostgresPairs<'_> {
    type Bytes = Bytes;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if let Link::Writer { known, .. } = &self.link
            && let Some(version) = known.borrow().get(key)
        {
            return Ok(version.value.clone());
        }
        let sql = "select value, version from tidings.records where key = $1";
        let found = self.rows(sql, vec![param(key.to_vec(), Type::BYTEA)])?;
        let version = match found.first() {
            None => Version::default(),
            Some(row) => {
                let bytes = Bytes::copy_from_slice(value(row, 0)?);
                Version { value: Some(bytes), commit: value(row, 1)? }
            }
        };
        let bytes = version.value.clone();
        self.note(key, version);
        Ok(bytes)
    }

    fn contains(&self, key: &[u8]) -> Result<bool, StoreError> {
        if let Link::Writer { known, .. } = &self.link
            && let Some(version) = known.borrow().get(key)
        {
            return Ok(version.value.is_some());
        }
        let sql = "select true from tidings.records where key = $1";
        Ok(!self.rows(sql, vec![param(key.to_vec(), Type::BYTEA)])?.is_empty())
    }

    fn ascending(&self, keys: Range<Vec<u8>>) -> impl Iterator<Item = Found<Self>> {
        Pages::new(self, keys, true)
    }

    fn descending(&self, keys: Range<Vec<u8>>) -> impl Iterator<Item = Found<Self>> {
        Pages::new(self, keys, false)
    }

    fn at_one_instant<T>(&self, read: impl FnOnce(&Self) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match &self.link {
            Link::Transaction(_) => read(self),
            Link::Any | Link::Writer { .. } => self.in_transaction(read),
        }
    }

    fn apply(&self, effects: Effects) -> Result<(), StoreError> {
        let Link::Writer { staged, .. } = &self.link else {
            return Err(StoreError::Unavailable("only the writer writes".to_owned()));
        };
        let writes = writes_over(self, effects)?;
        self.unreadable.forget_all(writes.keys());
        staged.borrow_mut().extend(writes);
        Ok(())
    }

    fn max_writes(&self) -> usize {
        // All of a group are written in one transaction, at its end.
        usize::MAX
    }

    fn unreadable(&self) -> &Unreadable {
        self.unreadable
    }
}

/// A scan, page by page.
struct Pages<'a> {
    pairs: &'a PostgresPairs<'a>,
    keys: Range<Vec<u8>>,
    is_ascending: bool,
    page: VecDeque<(Bytes, Bytes)>,
    size: i64,
    is_over: bool,
}

const ASCENDING: &str =
    "select key, value, version from tidings.records where key >= $1 and key < $2 order by key limit $3";
const DESCENDING: &str =
    "select key, value, version from tidings.records where key >= $1 and key < $2 order by key desc limit $3";

impl<'a> Pages<'a> {
    fn new(pairs: &'a PostgresPairs<'_>, keys: Range<Vec<u8>>, is_ascending: bool) -> Self {
        let is_over = keys.is_empty();
        Self { pairs, keys, is_ascending, page: VecDeque::new(), size: FIRST_PAGE, is_over }
    }

    fn fill(&mut self) -> Result<(), StoreError> {
        let sql = if self.is_ascending { ASCENDING } else { DESCENDING };
        let Range { start, end } = self.keys.clone();
        let params = vec![param(start, Type::BYTEA), param(end, Type::BYTEA), param(self.size, Type::INT8)];
        let found = self.pairs.rows(sql, params)?;
        for row in &found {
            let (key, bytes) = pair(row)?;
            self.pairs.note(&key, Version { value: Some(bytes.clone()), commit: value(row, 2)? });
            self.page.push_back((key, bytes));
        }
        self.is_over = found.len() < usize::try_from(self.size).unwrap_or(usize::MAX);
        self.size = (self.size * 4).min(MAX_PAGE);
        if let Some((last, _)) = self.page.back() {
            match self.is_ascending {
                // The first key that is greater.
                true => self.keys.start = [&**last, &[0]].concat(),
                false => self.keys.end = last.to_vec(),
            }
        }
        Ok(())
    }
}

impl Iterator for Pages<'_> {
    type Item = Result<(Bytes, Bytes), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty()
            && !self.is_over
            && let Err(error) = self.fill()
        {
            self.is_over = true;
            return Some(Err(error));
        }
        self.page.pop_front().map(Ok)
    }
}
