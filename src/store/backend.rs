//! What a backend supplies. The rules, the queries and the index are written once, above it.

use tokio::sync::oneshot;

use super::{
    Bodies, BodyPlace, Seat, StoreError, StoreProblem,
    bodies::SmallBody,
    records::{Records, Txn},
};
use crate::util::term::Term;

/// One caller's operation on its way to the thread that commits.
pub(super) trait Call: Send {
    /// Whether nobody outside the daemon waits for its answer, so that it may wait for others to share their commit.
    fn may_wait(&self) -> bool;

    /// The small bodies that it records.
    fn bodies(&self) -> &[SmallBody] {
        &[]
    }

    /// Takes the places of its bodies, which are durable there. A backend without places names none.
    fn set_places(&mut self, _places: Vec<BodyPlace>) {}

    fn apply(&mut self, txn: &mut Txn<'_>) -> Result<(), StoreError>;

    fn answer(self: Box<Self>, result: Result<(), StoreError>);
}

/// A place for records and bodies.
pub(super) trait Backend: Send + Sync {
    /// Whether a read of one record may wait for long, as over a network. Then no read runs on a thread of the runtime.
    fn reads_block(&self) -> bool;

    /// Runs `query` on the records as they are now.
    fn read(&self, query: &mut dyn FnMut(&dyn Records) -> Result<(), StoreError>) -> Result<(), StoreError>;

    /// Takes an operation. The backend applies it, whole or not at all, and answers it when it is durable.
    fn submit(&self, call: Box<dyn Call>) -> Result<(), StoreError>;

    fn bodies(&self) -> &Bodies;

    /// Until when this process may act on what it holds.
    fn term(&self) -> Term {
        Term::default()
    }

    /// The number of its lease, which grows with each owner; 0 without one.
    fn epoch(&self) -> i64 {
        0
    }

    /// Its place among the replicas of a database.
    fn seat(&self) -> Option<&Seat> {
        None
    }

    /// Why it takes no writes; `None` when it does.
    fn trouble(&self) -> Option<StoreError>;

    /// [`StoreError::Full`] with the figures when there is no room for new watches.
    fn check_space(&self) -> Result<(), StoreError>;

    /// How many records were found unreadable since the start, and are still there.
    fn unreadable(&self) -> usize;

    /// Notes how far the counter got beside the records, so that the next start notices whatever is lost until then.
    fn save_high_water_mark(&self) -> oneshot::Receiver<()>;

    /// Its size on disk, without the bodies.
    fn size(&self) -> Result<u64, StoreError>;

    /// Names what does not hold together. With `hashes` it reads every body, too.
    fn check(&self, hashes: bool) -> Result<Vec<StoreProblem>, StoreError>;

    /// Begins to read all records as they are now. The caller sees to it that there is no second reader.
    fn snapshot(&self) -> Box<dyn Snapshot>;
}

/// A key and its value, as [`format`](super::format) has them.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

/// All records as they were at one instant, in the order of their keys.
pub(super) trait Snapshot: Send {
    /// The next records; none after the last.
    fn next(&mut self) -> Result<Vec<Pair>, StoreError>;
}
