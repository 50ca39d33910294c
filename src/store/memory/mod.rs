//! The store in memory: for tests and the demo. It is gone with the process.

mod records;
mod snapshot;

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Instant,
};

use tokio::sync::oneshot;

use super::{
    Bodies, StoreError, StoreProblem,
    backend::{Backend, Call, Snapshot},
    bodies::MemoryBodies,
    listeners::Listeners,
    records::{Records, Txn},
};
use records::{MemoryRecords, Tables};
use snapshot::Pairs;

/// The backend in memory. Cheap to clone.
#[derive(Clone)]
pub(super) struct MemoryStore {
    tables: Arc<RwLock<Tables>>,
    bodies: Bodies,
    listeners: Arc<Listeners>,
    /// One commit at a time, so that changes are told in the order of the commits.
    commits: Arc<Mutex<()>>,
    /// Tests take it for a backend whose reads block.
    reads_block: bool,
}

impl MemoryStore {
    pub(super) fn new(listeners: &Arc<Listeners>, reads_block: bool) -> Self {
        listeners.opened();
        Self {
            tables: Arc::default(),
            bodies: MemoryBodies::default().into(),
            listeners: Arc::clone(listeners),
            commits: Arc::default(),
            reads_block,
        }
    }

    /// Carries out one call. Its operations are applied when all of them succeeded.
    fn commit(&self, mut call: Box<dyn Call>) {
        let _turn = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        let records = MemoryRecords(&self.tables);
        let mut txn = Txn::new(&records);
        // They have no places, and so nothing that could fail.
        let _ = self.bodies.append(call.bodies().iter());
        let committed = call.apply(&mut txn).and_then(|()| txn.finish());
        self.listeners.emit_flush(begun.elapsed());
        match committed {
            Ok(committed) => {
                self.listeners.emit(committed);
                call.answer(Ok(()));
            }
            Err(error) => call.answer(Err(error)),
        }
    }
}

impl Backend for MemoryStore {
    fn reads_block(&self) -> bool {
        self.reads_block
    }

    fn read(&self, query: &mut dyn FnMut(&dyn Records) -> Result<(), StoreError>) -> Result<(), StoreError> {
        query(&MemoryRecords(&self.tables))
    }

    fn submit(&self, call: Box<dyn Call>) -> Result<(), StoreError> {
        self.commit(call);
        Ok(())
    }

    fn bodies(&self) -> &Bodies {
        &self.bodies
    }

    fn trouble(&self) -> Option<StoreError> {
        None
    }

    fn check_space(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn unreadable(&self) -> usize {
        0
    }

    fn save_high_water_mark(&self) -> oneshot::Receiver<()> {
        // Nothing outlives the process, so nothing can be lost without it.
        oneshot::channel().1
    }

    fn size(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn check(&self, _hashes: bool) -> Result<Vec<StoreProblem>, StoreError> {
        // No disk can have changed a record behind its back.
        Ok(Vec::new())
    }

    fn snapshot(&self) -> Box<dyn Snapshot> {
        Box::new(Pairs::of(&self.tables.read().unwrap_or_else(PoisonError::into_inner)))
    }
}
