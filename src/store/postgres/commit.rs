//! One commit: the writes of many callers in one transaction of the database, each compared with what was read before.

use std::{collections::BTreeMap, pin::Pin};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio_postgres::{Client, types::Type};

use super::{
    fault::Fault,
    holder::Holder,
    pairs::{Known, Version},
    server::{Param, changed, param, run},
};
use crate::store::{bodies::SmallBody, format::Writes};

/// Begins a transaction that is on the disk of the server when it has ended, whatever its default is. It waits for no lock for
/// long, and the server ends it when this process is gone.
pub(super) const BEGIN: &str = "begin isolation level read committed; \
    select set_config('synchronous_commit', 'on', true) where current_setting('synchronous_commit') in ('off', 'local'); \
    set local lock_timeout = '5s'; \
    set local idle_in_transaction_session_timeout = '4s'";

/// Tries whether the records can be written. Nothing of it stays.
pub(super) async fn try_records(client: &Client) -> Result<(), Fault> {
    let probe = "insert into tidings.records (key, value, version) values ('\\xff', '', 0)";
    run(client, &format!("{BEGIN}; {probe}; rollback")).await
}

/// A statement, and how many rows it has to change.
struct Statement {
    sql: &'static str,
    params: Vec<Param>,
    rows: Option<u64>,
}

/// A statement on its way.
type Sent<'a> = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send + 'a>>;

/// What a commit writes. It can be sent again.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    /// The number of the commit, which becomes the version of what it writes.
    pub(super) number: i64,
    /// Records that are there, each with the version that was read.
    updates: Vec<(Vec<u8>, Bytes, i64)>,
    /// Records that are not there.
    inserts: Vec<(Vec<u8>, Bytes)>,
    /// Index entries that nobody read. They follow from records.
    puts: Vec<(Vec<u8>, Bytes)>,
    deletes: Vec<(Vec<u8>, i64)>,
    removals: Vec<Vec<u8>>,
    bodies: BTreeMap<(u64, String), Bytes>,
}

impl Prepared {
    pub(super) fn new(number: i64, writes: Writes, known: &Known, bodies: &[SmallBody]) -> Self {
        let bodies = bodies.iter().map(|body| ((body.watch, body.event_id.clone()), body.bytes.clone()));
        let mut prepared = Self {
            number,
            updates: Vec::new(),
            inserts: Vec::new(),
            puts: Vec::new(),
            deletes: Vec::new(),
            removals: Vec::new(),
            bodies: bodies.collect(),
        };
        for (key, new) in writes {
            let old = known.get(&key);
            match (new.map(Bytes::from), old.map(|old| (old.value.as_ref(), old.commit))) {
                (Some(new), Some((Some(old), _))) if new == *old => {}
                (Some(new), Some((Some(_), commit))) => prepared.updates.push((key, new, commit)),
                (Some(new), Some((None, _))) => prepared.inserts.push((key, new)),
                (Some(new), None) => prepared.puts.push((key, new)),
                (None, Some((Some(_), commit))) => prepared.deletes.push((key, commit)),
                (None, Some((None, _))) => {}
                (None, None) => prepared.removals.push(key),
            }
        }
        prepared
    }

    /// Whether it would change nothing.
    pub(super) fn is_empty(&self) -> bool {
        let Self { updates, inserts, puts, deletes, removals, bodies, .. } = self;
        let records = updates.len() + inserts.len() + puts.len() + deletes.len() + removals.len();
        records + bodies.len() == 0
    }

    /// The bytes of its bodies.
    pub(super) fn body_bytes(&self) -> u64 {
        self.bodies.values().map(|bytes| bytes.len() as u64).sum()
    }

    /// Notes what the database has once it is durable.
    pub(super) fn note(self, known: &mut Known) {
        let Self { number, updates, inserts, puts, deletes, removals, .. } = self;
        let updates = updates.into_iter().map(|(key, value, _)| (key, value));
        for (key, value) in updates.chain(inserts).chain(puts) {
            known.put(key, Version { value: Some(value), commit: number });
        }
        for key in deletes.into_iter().map(|(key, _)| key).chain(removals) {
            known.put(key, Version::default());
        }
    }

    fn statements(&self, holder: &Holder) -> Vec<Statement> {
        let (sql, params) = holder.count();
        let mut statements = vec![Statement { sql, params, rows: Some(1) }];
        let mut add = |count: usize, sql: &'static str, params: Vec<Param>, is_counted: bool| {
            if count > 0 {
                statements.push(Statement { sql, params, rows: is_counted.then_some(count as u64) });
            }
        };
        let bytes = |values: Vec<Vec<u8>>| param(values, Type::BYTEA_ARRAY);
        let number = || param(self.number, Type::INT8);
        let keys = |keys: &[(Vec<u8>, Bytes)]| bytes(keys.iter().map(|(key, _)| key.clone()).collect());
        let values =
            |pairs: &[(Vec<u8>, Bytes)]| bytes(pairs.iter().map(|(_, value)| value.to_vec()).collect());
        let updates = &self.updates;
        add(
            updates.len(),
            "update tidings.records r set value = w.value, version = $4 \
             from unnest($1::bytea[], $2::bytea[], $3::bigint[]) as w (key, value, expected) \
             where r.key = w.key and r.version = w.expected",
            vec![
                bytes(updates.iter().map(|(key, ..)| key.clone()).collect()),
                bytes(updates.iter().map(|(_, value, _)| value.to_vec()).collect()),
                param(updates.iter().map(|(.., expected)| *expected).collect::<Vec<_>>(), Type::INT8_ARRAY),
                number(),
            ],
            true,
        );
        add(
            self.inserts.len(),
            "insert into tidings.records (key, value, version) \
             select key, value, $3 from unnest($1::bytea[], $2::bytea[]) as w (key, value) on conflict do nothing",
            vec![keys(&self.inserts), values(&self.inserts), number()],
            true,
        );
        add(
            self.puts.len(),
            "insert into tidings.records (key, value, version) \
             select key, value, $3 from unnest($1::bytea[], $2::bytea[]) as w (key, value) \
             on conflict (key) do update set value = excluded.value, version = excluded.version",
            vec![keys(&self.puts), values(&self.puts), number()],
            true,
        );
        add(
            self.deletes.len(),
            "delete from tidings.records r using unnest($1::bytea[], $2::bigint[]) as w (key, expected) \
             where r.key = w.key and r.version = w.expected",
            vec![
                bytes(self.deletes.iter().map(|(key, _)| key.clone()).collect()),
                param(
                    self.deletes.iter().map(|(_, expected)| *expected).collect::<Vec<_>>(),
                    Type::INT8_ARRAY,
                ),
            ],
            true,
        );
        add(
            self.removals.len(),
            "delete from tidings.records where key = any($1)",
            vec![bytes(self.removals.clone())],
            false,
        );
        add(
            self.bodies.len(),
            "insert into tidings.bodies (watch, event_id, part, bytes) \
             select watch, event_id, 0, bytes from unnest($1::bigint[], $2::text[], $3::bytea[]) as w (watch, event_id, bytes) \
             on conflict (watch, event_id, part) do update set bytes = excluded.bytes",
            vec![
                param(
                    self.bodies.keys().map(|(watch, _)| watch.cast_signed()).collect::<Vec<_>>(),
                    Type::INT8_ARRAY,
                ),
                param(self.bodies.keys().map(|(_, id)| id.clone()).collect::<Vec<_>>(), Type::TEXT_ARRAY),
                bytes(self.bodies.values().map(|bytes| bytes.to_vec()).collect()),
            ],
            true,
        );
        statements
    }

    /// Writes everything in one transaction. After [`Fault::Away`] it may be durable or not.
    pub(super) async fn run(&self, client: &Client, holder: &Holder) -> Result<(), Fault> {
        // All of it goes out at once: one wait for the writes, and one for the commit.
        let statements = self.statements(holder);
        let mut sent: Vec<Sent<'_>> = vec![Box::pin(run(client, BEGIN))];
        for statement in &statements {
            sent.push(Box::pin(async {
                let done = changed(client, statement.sql, &statement.params).await?;
                match statement.rows.is_none_or(|rows| rows == done) {
                    true => Ok(()),
                    false => Err(Fault::Changed),
                }
            }));
        }
        let done: Result<Vec<()>, Fault> = join_all(sent).await.into_iter().collect();
        match done {
            Ok(_) => run(client, "commit").await,
            Err(fault) => {
                // What failed says more than this.
                let _ = run(client, "rollback").await;
                Err(fault)
            }
        }
    }
}
