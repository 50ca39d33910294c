//! The one process that writes to a database: a row that says who it is, renewed by the clock of the database.
//!
//! Every commit writes this row, too: it finds itself named there, and counts itself. So a process that another one took over
//! from changes nothing any more, and after a connection died in the middle of a commit the count tells whether it is durable.
//! To read the count it locks the row, and so waits for a commit that the server still works on.

use std::time::Duration;

use tokio_postgres::{Client, Row, types::Type};

use super::{
    fault::Fault,
    server::{Param, changed, param, rows, run, value},
};

/// A holder that did not renew for so long is gone.
pub(super) const TERM: Duration = Duration::from_secs(8);

/// Whether the term of a row is over, by the clock of the database.
pub(super) fn is_over(row: &str) -> String {
    format!("{row}.renewed_at < clock_timestamp() - interval '{} seconds'", TERM.as_secs())
}

/// How often it renews when no commit does.
pub(super) const RENEW: Duration = Duration::from_secs(2);

/// How long before the end of its term a holder sends its last request. It makes up for clocks that go at different speeds, and
/// for a request that is on its way; and a budget fills meanwhile, so that the next holder may begin.
const MARGIN: Duration = Duration::from_secs(1);

/// Until when a holder may act that asked for its term at `asked`, both since its machine started. The database began the term
/// later.
pub(super) fn may_act_until(asked: Duration) -> Duration {
    asked + TERM.saturating_sub(MARGIN)
}

/// This process as the holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    identity: String,
    pub(super) epoch: i64,
    /// The number of its last commit that is known to be durable.
    pub(super) commits: i64,
}

/// Who holds a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Other {
    /// Its host and process.
    pub(super) name: String,
    /// Since when, in UTC.
    pub(super) since: String,
}

/// The outcome of a try to become the holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Holder(Holder),
    Held(Other),
}

/// Where a commit stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is durable.
    Done,
    /// It is not, and never will be by itself.
    Undone,
    /// Another process holds the database, or its state is older than what was confirmed.
    Lost(String),
}

const SELECT: &str = "select identity, name, epoch, commits, \
    to_char(since at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), ";

/// Begins a transaction that locks the row. The server ends it soon when this process is gone or cut off meanwhile: nobody else
/// could take over.
const BEGIN: &str = "begin isolation level read committed; set local lock_timeout = '5s'; \
    set local idle_in_transaction_session_timeout = '2s'";

/// Becomes the holder, unless another process is it. The same folder may be used by one process at a time, so what an earlier
/// process of this folder held is free.
pub(super) async fn take(client: &Client, identity: &str, name: &str) -> Result<Taken, Fault> {
    run(client, BEGIN).await?;
    let taken = take_locked(client, identity, name).await;
    let ended = run(client, if taken.is_ok() { "commit" } else { "rollback" }).await;
    ended.and(taken)
}

async fn take_locked(client: &Client, identity: &str, name: &str) -> Result<Taken, Fault> {
    let me = || [param(identity.to_owned(), Type::TEXT), param(name.to_owned(), Type::TEXT)];
    changed(
        client,
        "insert into tidings.holder (identity, name, epoch, since, renewed_at, commits) \
         values ($1, $2, 0, clock_timestamp(), '-infinity', 0) on conflict do nothing",
        &me(),
    )
    .await?;
    let select = format!("{SELECT} {} from tidings.holder h for update", is_over("h"));
    let found = rows(client, &select, &[]).await?;
    let Some(row) = found.first() else { return Err(Fault::Changed) };
    let (held_by, epoch, commits): (&str, i64, i64) = (value(row, 0)?, value(row, 2)?, value(row, 3)?);
    if held_by != identity && !value::<bool>(row, 5)? {
        return Ok(Taken::Held(other(row)?));
    }
    // Those that are long gone.
    changed(
        client,
        "delete from tidings.replicas where renewed_at < clock_timestamp() - interval '1 hour' and identity <> $1",
        &[param(identity.to_owned(), Type::TEXT)],
    )
    .await?;
    let [identity_param, name_param] = me();
    changed(
        client,
        "update tidings.holder set identity = $1, name = $2, epoch = epoch + 1, since = clock_timestamp(), \
         renewed_at = clock_timestamp()",
        &[identity_param, name_param],
    )
    .await?;
    Ok(Taken::Holder(Holder { identity: identity.to_owned(), epoch: epoch + 1, commits }))
}

fn other(row: &Row) -> Result<Other, Fault> {
    let (name, since): (&str, &str) = (value(row, 1)?, value(row, 4)?);
    Ok(Other { name: name.to_owned(), since: since.to_owned() })
}

impl Holder {
    fn params(&self) -> Vec<Param> {
        vec![param(self.identity.clone(), Type::TEXT), param(self.epoch, Type::INT8)]
    }

    /// The statement that counts the next commit, and the row that it changes if this is still the holder.
    pub(super) fn count(&self) -> (&'static str, Vec<Param>) {
        let mut params = self.params();
        params.push(param(self.commits, Type::INT8));
        let sql = "update tidings.holder set commits = commits + 1, renewed_at = clock_timestamp() \
                   where identity = $1 and epoch = $2 and commits = $3";
        (sql, params)
    }

    /// Says that it is still there. Returns whether it is still the holder.
    pub(super) async fn renew(&self, client: &Client) -> Result<bool, Fault> {
        let sql =
            "update tidings.holder set renewed_at = clock_timestamp() where identity = $1 and epoch = $2";
        Ok(changed(client, sql, &self.params()).await? == 1)
    }

    /// Takes a new epoch, in which nothing changes the database that was sent in the one before and arrives late. `None` when it
    /// is not the holder any more, or a commit arrived that it did not count.
    pub(super) async fn advance(&self, client: &Client) -> Result<Option<Self>, Fault> {
        let mut params = self.params();
        params.push(param(self.commits, Type::INT8));
        let sql = "update tidings.holder set epoch = epoch + 1, renewed_at = clock_timestamp() \
                   where identity = $1 and epoch = $2 and commits = $3";
        let is_holder = changed(client, sql, &params).await? == 1;
        Ok(is_holder.then(|| Self { epoch: self.epoch + 1, ..self.clone() }))
    }

    /// Lets the next process have the database at once. A later commit of this one takes it back, unless that one came.
    pub(super) async fn let_go(&self, client: &Client) -> Result<(), Fault> {
        let sql = "update tidings.holder set renewed_at = '-infinity' where identity = $1 and epoch = $2";
        changed(client, sql, &self.params()).await.map(drop)
    }

    /// Tells whether the commit behind the last one is durable. It waits for one that the server still works on.
    pub(super) async fn standing(&self, client: &Client) -> Result<Standing, Fault> {
        // A transaction of its own: the row is locked no longer than the statement takes, whatever becomes of this process.
        let found = rows(client, &format!("{SELECT} true from tidings.holder for update"), &[]).await?;
        let Some(row) = found.first() else {
            return Ok(Standing::Lost("the database was emptied".to_owned()));
        };
        let (identity, epoch, commits): (&str, i64, i64) = (value(row, 0)?, value(row, 2)?, value(row, 3)?);
        if (identity, epoch) != (self.identity.as_str(), self.epoch) {
            let Other { name, since } = other(row)?;
            return Ok(Standing::Lost(format!("another tidings, {name}, holds the database since {since}")));
        }
        Ok(match commits - self.commits {
            0 => Standing::Undone,
            1 => Standing::Done,
            _ => Standing::Lost(format!(
                "the database is not as this process left it: it knows {commits} commits, and {} were confirmed. It may \
                 be a standby that took over and lacks the last ones, or a backup",
                self.commits
            )),
        })
    }
}
