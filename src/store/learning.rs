//! What was learned of a source's jobs, so that a restart need not learn it again.

use super::{Store, StoreError, keys};

/// The size of a part in bytes: values over 128 KB would become files of their own.
const PART: usize = 64 << 10;

impl Store {
    /// Keeps what was learned of a source's jobs, in place of what was kept before.
    ///
    /// # Errors
    /// When it could not be stored; what was kept before is still there then.
    pub async fn save_curves(&self, source: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let source = source.to_owned();
        self.write(move |txn| {
            for key in txn.scan(&keys::curves(&source))?.into_keys() {
                txn.delete(key);
            }
            for (part, bytes) in (0..).zip(bytes.chunks(PART)) {
                txn.put(keys::curves_part(&source, part), bytes.to_vec());
            }
            Ok(())
        })
        .await
    }

    /// What was learned of a source's jobs; `None` when nothing was kept.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn curves(&self, source: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|db| {
            let mut bytes = Vec::new();
            for part in db.scan_prefix(keys::curves(source)).values() {
                bytes.extend_from_slice(&part?);
            }
            Ok((!bytes.is_empty()).then_some(bytes))
        })
    }
}
