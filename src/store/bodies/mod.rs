//! The bodies of finished jobs. Callers write them once and read them as often as they like; only a backend knows where they
//! lie.

mod incoming;
mod measure;
mod memory;
mod pins;
mod reader;
mod spool;
mod usage;

use std::io;

use super::StoredJob;

pub use incoming::Incoming;
pub use reader::{BodyReader, BodyStream, StoredBody};

pub(super) use memory::MemoryBodies;
pub(super) use pins::Pin;
pub(super) use spool::Spool;

use pins::Pins;

/// The bodies of a store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bodies {
    place: Place,
    pins: Pins,
}

#[derive(Clone, Debug)]
enum Place {
    Spool(Spool),
    Memory(MemoryBodies),
}

impl From<Spool> for Bodies {
    fn from(spool: Spool) -> Self {
        Self { place: Place::Spool(spool), pins: Pins::default() }
    }
}

impl From<MemoryBodies> for Bodies {
    fn from(memory: MemoryBodies) -> Self {
        Self { place: Place::Memory(memory), pins: Pins::default() }
    }
}

/// One of the bodies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BodyEntry {
    /// The number of its watch.
    pub watch: u64,
    /// The id of its event.
    pub event_id: String,
    /// Its size in bytes.
    pub size: u64,
}

impl BodyEntry {
    /// Returns the name of its file, in the spool and in an export.
    pub(super) fn file_name(&self) -> String {
        spool::name(self.watch, &self.event_id)
    }
}

impl Bodies {
    /// Returns the body of an event, which may be missing; opening it tells.
    #[must_use]
    pub fn get(&self, watch: u64, event_id: &str) -> StoredBody {
        match &self.place {
            Place::Spool(spool) => spool.get(watch, event_id),
            Place::Memory(memory) => memory.get(watch, event_id),
        }
    }

    /// Begins to write the body of an event.
    ///
    /// # Errors
    /// When there is no place for it.
    pub async fn begin(&self, watch: u64, event_id: &str) -> io::Result<Incoming> {
        match &self.place {
            Place::Spool(spool) => spool.begin(watch, event_id).await,
            Place::Memory(memory) => Ok(memory.begin(watch, event_id)),
        }
    }

    /// Returns the record of a body that is wholly there; `None` when it is not. A body is there only after it is
    /// complete, so one that a killed process left need not be fetched again.
    ///
    /// # Errors
    /// When the body is there and cannot be read.
    pub async fn finished(&self, watch: u64, event_id: &str) -> io::Result<Option<StoredJob>> {
        let body = self.get(watch, event_id);
        let measured = tokio::task::spawn_blocking(move || match body.read() {
            Ok(reader) => measure::measured(reader).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        });
        measured.await.map_err(io::Error::other)?
    }

    /// Returns whether the body of an event is there, with all of its bytes.
    #[must_use]
    pub fn has(&self, watch: u64, event_id: &str, size: u64) -> bool {
        self.get(watch, event_id).size().is_ok_and(|found| found == size)
    }

    /// Removes the body of an event; one that is not there is no error. During an export it stays.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(&self, watch: u64, event_id: &str) -> io::Result<()> {
        self.pins.unless_pinned(|| match &self.place {
            Place::Spool(spool) => spool.remove(watch, event_id),
            Place::Memory(memory) => {
                memory.remove(watch, event_id);
                Ok(())
            }
        })
    }

    /// Keeps every body until the pin lets go: what is removed meanwhile stays. `None` while there is a pin.
    pub(super) fn pin(&self) -> Option<Pin> {
        self.pins.pin()
    }

    /// Returns how many bytes the bodies have. Those from before the start count once [`entries`](Self::entries) has seen
    /// them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match &self.place {
            Place::Spool(spool) => spool.bytes(),
            Place::Memory(memory) => memory.bytes(),
        }
    }

    /// Returns every body. Files that are none of ours are passed over.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn entries(&self) -> io::Result<Vec<BodyEntry>> {
        match &self.place {
            Place::Spool(spool) => spool.entries(),
            Place::Memory(memory) => Ok(memory.entries()),
        }
    }

    /// Calls `each` with every body, without holding a list.
    ///
    /// # Errors
    /// When the folder cannot be read, and the first error of `each`.
    pub(super) fn each<E: From<io::Error>>(
        &self,
        mut each: impl FnMut(BodyEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        match &self.place {
            Place::Spool(spool) => spool.each(each),
            Place::Memory(memory) => memory.entries().into_iter().try_for_each(&mut each),
        }
    }
}
