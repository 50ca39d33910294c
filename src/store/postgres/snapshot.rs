//! All records as they were at one instant: a transaction that sees one state for as long as it is read.

use std::sync::Arc;

use tokio_postgres::{Client, types::Type};

use super::{
    pairs::begin,
    server::{Lane, Place, Server, param, rows, value},
};
use crate::store::{
    StoreError,
    backend::{self, Pair},
};

/// Records that are read in one turn.
const CHUNK: i64 = 256;

/// The snapshot that is being read. Its transaction ends with its connection.
pub(super) struct Snapshot {
    server: Server,
    client: Result<Arc<Client>, StoreError>,
    _place: Place,
    behind: Vec<u8>,
}

impl Snapshot {
    pub(super) fn begin(server: &Server) -> Self {
        let begun = begin(server, Lane::Long).and_then(|(client, place)| {
            // The state is that of the first statement.
            let first = Arc::clone(&client);
            server
                .wait(async move { rows(&first, "select true from tidings.records limit 1", &[]).await })?;
            Ok((client, place))
        });
        let (client, place) = match begun {
            Ok((client, place)) => (Ok(client), place),
            Err(fault) => (Err(fault.into()), None),
        };
        Self { server: server.clone(), client, _place: place, behind: Vec::new() }
    }
}

impl backend::Snapshot for Snapshot {
    fn next(&mut self) -> Result<Vec<Pair>, StoreError> {
        let client = self.client.clone()?;
        let params = vec![param(self.behind.clone(), Type::BYTEA), param(CHUNK, Type::INT8)];
        let found = self.server.wait(async move {
            let sql = "select key, value from tidings.records where key > $1 order by key limit $2";
            rows(&client, sql, &params).await
        })?;
        let mut pairs = Vec::with_capacity(found.len());
        for row in &found {
            let (key, bytes): (&[u8], &[u8]) = (value(row, 0)?, value(row, 1)?);
            pairs.push((key.to_vec(), bytes.to_vec()));
        }
        if let Some((last, _)) = pairs.last() {
            self.behind.clone_from(last);
        }
        Ok(pairs)
    }
}
