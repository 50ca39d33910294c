//! The tables, and their changes from version to version.
//!
//! A start brings them up to date in one transaction, under a lock of that transaction. Versions go forward only.

use std::sync::Arc;

use tokio_postgres::{Client, error::SqlState, types::Type};

use super::{
    fault::Fault,
    server::{param, rows, run, value},
};

/// The oldest server that is supported, as it numbers itself.
const OLDEST_SERVER: i32 = 150_000;

/// The lock of the process that changes the tables, as a number that no other application has by chance.
const LOCK: i64 = 0x7469_6469_6e67_7301;

/// What each version does to the tables of the one before, and the oldest version that may go on with them: during an update,
/// replicas of the version before are still there, and may own the work.
const VERSIONS: [(i32, &str); 1] = [(
    1,
    "
create table tidings.version (
    version integer primary key,
    -- The oldest version that may go on with these tables.
    works_with integer not null,
    made_by text not null,
    made_at timestamptz not null default now()
);
-- Keys and values as in src/store/format. `version` is the number of the commit that wrote the value last.
create table tidings.records (
    key bytea primary key,
    value bytea not null,
    version bigint not null
) with (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05);
-- A body in parts of 256 KiB.
create table tidings.bodies (
    watch bigint not null,
    event_id text not null,
    part integer not null,
    bytes bytea not null,
    primary key (watch, event_id, part)
);
-- The one process that writes, and the number of its last commit.
create table tidings.holder (
    only_one boolean primary key default true check (only_one),
    identity text not null,
    name text not null,
    epoch bigint not null,
    since timestamptz not null,
    renewed_at timestamptz not null,
    commits bigint not null
) with (fillfactor = 50);
-- Every process that is there, by the identity of its data folder.
create table tidings.replicas (
    identity text primary key,
    name text not null,
    address text not null,
    since timestamptz not null,
    units text[] not null,
    renewed_at timestamptz not null
) with (fillfactor = 50);
",
)];

/// The newest version that this one knows.
const NEWEST: i32 = 1;

const _: () = assert!(VERSIONS.len() == 1, "each version has its change");

/// What is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Version(i32),
}

/// Checks the server and what is in it.
pub(super) async fn find(client: &Client) -> Result<Found, Fault> {
    let settings =
        rows(client, "select current_setting('server_version_num'), current_setting('server_version'), pg_is_in_recovery()", &[])
            .await?;
    let Some(row) = settings.first() else { return Err(Fault::refused("it says no version")) };
    let (number, shown): (&str, &str) = (value(row, 0)?, value(row, 1)?);
    if number.parse().unwrap_or(0) < OLDEST_SERVER {
        return Err(Fault::refused(format!(
            "the server is PostgreSQL {shown}, and tidings needs 15 or later\nhint: update the server"
        )));
    }
    if value::<bool>(row, 2)? {
        return Err(Fault::Away("the server is a standby, which takes no writes".to_owned()));
    }
    let tables = rows(
        client,
        "select count(c.oid), count(c.oid) filter (where c.relname = 'version') from pg_namespace n \
         left join pg_class c on c.relnamespace = n.oid where n.nspname = 'tidings'",
        &[],
    )
    .await?;
    let Some(row) = tables.first() else { return Ok(Found::Nothing) };
    let (all, version): (i64, i64) = (value(row, 0)?, value(row, 1)?);
    if all == 0 {
        return Ok(Found::Nothing);
    }
    let foreign = "its schema `tidings` is not one of tidings\nhint: give tidings a database of its own";
    if version == 0 {
        return Err(Fault::refused(foreign));
    }
    let found = match rows(client, "select max(version), max(works_with) from tidings.version", &[]).await {
        // Something else of this name.
        Err(fault) if matches!(fault.code().map(SqlState::code), Some("42703" | "42809" | "42883")) => {
            return Err(Fault::refused(foreign));
        }
        found => found?,
    };
    let number = |at| found.first().and_then(|row| row.try_get::<_, Option<i32>>(at).ok().flatten());
    match number(0).zip(number(1)) {
        None => Err(Fault::refused(foreign)),
        Some((version, works_with)) if works_with > NEWEST => Err(Fault::refused(format!(
            "its tables were made by a newer tidings: they have version {version}, and this one knows versions up to \
             {NEWEST}\nhint: use the newer version"
        ))),
        Some((version, _)) => Ok(Found::Version(version)),
    }
}

/// Brings the tables up to date, or makes them.
pub(super) async fn migrate(client: &Arc<Client>) -> Result<(), Fault> {
    // Most starts find them as they should be, and need no lock.
    if matches!(find(client).await?, Found::Version(version) if version >= NEWEST) {
        return Ok(());
    }
    // Nobody waits for a process that is cut off in the middle.
    run(
        client,
        "begin isolation level read committed; set local idle_in_transaction_session_timeout = '10s'",
    )
    .await?;
    let done = migrate_locked(client).await;
    let end = if done.is_ok() { "commit" } else { "rollback" };
    let ended = run(client, end).await;
    done.and(ended)
}

async fn migrate_locked(client: &Client) -> Result<(), Fault> {
    rows(client, "select pg_advisory_xact_lock($1)", &[param(LOCK, Type::INT8)]).await?;
    // Another one may have done it while this one waited.
    let from = match find(client).await? {
        Found::Nothing => {
            let there = rows(client, "select 1 from pg_namespace where nspname = 'tidings'", &[]).await?;
            if there.is_empty() {
                run(client, "create schema tidings").await?;
            }
            0
        }
        Found::Version(version) => version,
    };
    for (version, (works_with, change)) in (1..).zip(VERSIONS).filter(|(version, _)| *version > from) {
        run(client, change).await?;
        rows(
            client,
            "insert into tidings.version (version, works_with, made_by) values ($1, $2, $3)",
            &[
                param(version, Type::INT4),
                param(works_with, Type::INT4),
                param(env!("CARGO_PKG_VERSION"), Type::TEXT),
            ],
        )
        .await?;
    }
    Ok(())
}
