//! Sinks that an operator paused: it holds over a restart.

use std::collections::BTreeMap;

use super::{Store, StoreError, keys};
use crate::util::units::Time;

impl Store {
    /// Pauses a sink, or lets it go on. Returns since when it is paused.
    ///
    /// # Errors
    /// When it could not be stored; nothing has changed then.
    pub async fn pause_sink(&self, sink: &str, paused: bool, now: Time) -> Result<Option<Time>, StoreError> {
        let key = keys::paused(sink);
        self.write(move |txn| {
            if !paused {
                txn.delete(key);
                return Ok(None);
            }
            if let Some(since) = txn.get(&key)?.as_deref().and_then(keys::time_of) {
                return Ok(Some(since));
            }
            txn.put(key, now.0.to_be_bytes().to_vec());
            Ok(Some(now))
        })
        .await
    }

    /// The paused sinks, each with the time since when it is.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn paused_sinks(&self) -> Result<BTreeMap<String, Time>, StoreError> {
        self.read(|db| {
            let mut paused = BTreeMap::new();
            for entry in db.scan_prefix([keys::PAUSED]) {
                let (key, value) = entry?;
                if let Some(since) = keys::time_of(&value) {
                    paused.insert(String::from_utf8_lossy(&key[1..]).into_owned(), since);
                }
            }
            Ok(paused)
        })
    }
}
