//! The bodies of finished jobs. Callers write them once and read them as often as they like; only a backend knows where they
//! lie.

mod frame;
mod incoming;
mod measure;
mod memory;
mod pins;
mod reader;
mod segments;
mod spool;
mod usage;

use std::io;

use super::{BodyPlace, StoredJob};

pub use incoming::{Incoming, NewBody};
pub use reader::{BodyReader, BodyStream, StoredBody};

pub(super) use frame::Frame;
pub(super) use memory::MemoryBodies;
pub(super) use pins::Pin;
pub(super) use segments::{Segments, SmallBody};
pub(super) use spool::Spool;

use pins::Pins;

/// A body of more bytes is a file of its own.
pub const MAX_SMALL: usize = 256 << 10;

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
    pub fn get(&self, watch: u64, event_id: &str, job: &StoredJob) -> StoredBody {
        match &self.place {
            Place::Spool(spool) => spool.get(watch, event_id, job),
            Place::Memory(memory) => memory.get(watch, event_id),
        }
    }

    /// Returns the body of an event that is no small one.
    pub(super) fn own_file(&self, watch: u64, event_id: &str) -> StoredBody {
        match &self.place {
            Place::Spool(spool) => spool.own_file(watch, event_id),
            Place::Memory(memory) => memory.get(watch, event_id),
        }
    }

    /// Begins to write the body of an event.
    #[must_use]
    pub fn begin(&self, watch: u64, event_id: &str) -> Incoming {
        match &self.place {
            Place::Spool(spool) => spool.begin(watch, event_id),
            Place::Memory(_) => Incoming::new(watch, event_id, None),
        }
    }

    /// Returns the record of a large body that is wholly there; `None` when it is not. Its file is there only after it is
    /// complete, so one that a killed process left need not be fetched again.
    ///
    /// # Errors
    /// When the body is there and cannot be read.
    pub async fn finished(&self, watch: u64, event_id: &str) -> io::Result<Option<StoredJob>> {
        let body = self.own_file(watch, event_id);
        if body.size().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Ok(None);
        }
        let measured = tokio::task::spawn_blocking(move || match body.read() {
            Ok(reader) => measure::measured(reader).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        });
        measured.await.map_err(io::Error::other)?
    }

    /// Returns whether the body of an event is there, with all of its bytes.
    #[must_use]
    pub fn has(&self, watch: u64, event_id: &str, job: &StoredJob) -> bool {
        self.get(watch, event_id, job).size().is_ok_and(|found| found == job.size)
    }

    /// Removes the body of an event that is no small one; one that is not there is no error. During an export it stays.
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

    /// Returns the segments; `None` when this backend has none.
    pub(super) const fn segments(&self) -> Option<&Segments> {
        match &self.place {
            Place::Spool(spool) => Some(spool.segments()),
            Place::Memory(_) => None,
        }
    }

    /// Stores the small bodies of a group durably. Returns the place of each, none where they have no places. The thread
    /// that commits calls it.
    pub(super) fn append<'a>(
        &self,
        bodies: impl Iterator<Item = &'a SmallBody>,
    ) -> io::Result<Vec<BodyPlace>> {
        match &self.place {
            Place::Spool(spool) => spool.segments().append(bodies),
            Place::Memory(memory) => {
                bodies.for_each(|body| memory.insert(body));
                Ok(Vec::new())
            }
        }
    }

    /// Removes a segment that no record names, unless it is in use. During an export it stays. Returns whether it is gone.
    pub(super) fn remove_segment(&self, number: u64) -> io::Result<bool> {
        let mut is_gone = false;
        self.pins.unless_pinned(|| {
            if let Some(segments) = self.segments() {
                is_gone = segments.remove(number)?;
            }
            Ok(())
        })?;
        Ok(is_gone)
    }

    /// Returns whether an export needs every body.
    pub(super) fn are_pinned(&self) -> bool {
        self.pins.are_pinned()
    }

    /// Begins another segment with the next body.
    #[cfg(test)]
    pub(super) fn seal(&self) {
        self.segments().into_iter().for_each(Segments::seal);
    }

    /// Ends the time for which a segment stays after bodies were moved out of it.
    #[cfg(test)]
    pub(super) fn end_grace(&self) {
        self.segments().into_iter().for_each(Segments::end_grace);
    }

    /// Returns how many bytes the bodies have on disk. Files from before the start count once [`entries`](Self::entries) has seen
    /// them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match &self.place {
            Place::Spool(spool) => spool.bytes(),
            Place::Memory(memory) => memory.bytes(),
        }
    }

    /// Returns every body that is no small one. Files that are none of ours are passed over.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn entries(&self) -> io::Result<Vec<BodyEntry>> {
        match &self.place {
            Place::Spool(spool) => spool.entries(),
            Place::Memory(memory) => Ok(memory.entries()),
        }
    }

    /// Calls `each` with every such body, without holding a list.
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
