//! The bodies of finished jobs. Callers write them once and read them as often as they like; only a backend knows where they
//! lie.

mod frame;
mod incoming;
mod measure;
mod memory;
mod objects;
mod pins;
mod reader;
mod segments;
mod spool;
mod usage;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{BodyPlace, StoredJob, postgres::DatabaseBodies};

pub use incoming::{Incoming, NewBody};
pub use reader::{BodyReader, BodyStream, StoredBody};
pub(in crate::store) use reader::{Coming, copy_into};

pub(super) use frame::Frame;
pub(super) use memory::MemoryBodies;
#[cfg(test)]
pub(super) use objects::settings;
pub(super) use objects::{ObjectBodies, ObjectPlace};
pub(super) use pins::Pin;
pub(super) use segments::{Segments, SmallBody};
pub(super) use spool::Spool;

use incoming::{Home, Last};
use pins::Pins;

/// A body of more bytes is a file of its own.
pub const MAX_SMALL: usize = 256 << 10;

/// The bodies of a store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bodies {
    place: Place,
    pins: Pins,
    /// Bodies may be there that nothing needs.
    unswept: Arc<AtomicBool>,
}

#[derive(Clone, Debug)]
enum Place {
    Spool(Spool),
    /// A folder in which every body is a file of its own.
    Folder(Spool),
    /// In the database. A large body comes by way of a file in the spool.
    Database(DatabaseBodies, Spool),
    /// Large ones in object storage, by way of a file in the spool, and small ones in the database.
    Objects(ObjectBodies, DatabaseBodies, Spool),
    Memory(MemoryBodies),
}

impl From<Place> for Bodies {
    fn from(place: Place) -> Self {
        Self { place, pins: Pins::default(), unswept: Arc::new(AtomicBool::new(true)) }
    }
}

impl From<Spool> for Bodies {
    fn from(spool: Spool) -> Self {
        Place::Spool(spool).into()
    }
}

impl From<MemoryBodies> for Bodies {
    fn from(memory: MemoryBodies) -> Self {
        Place::Memory(memory).into()
    }
}

impl Bodies {
    /// Returns the bodies in a folder in which every body is a file of its own.
    pub(super) fn in_folder(folder: Spool) -> Self {
        Place::Folder(folder).into()
    }

    /// Returns the bodies in a database. A large one comes by way of a file in the spool.
    pub(super) fn in_database(bodies: DatabaseBodies, spool: Spool) -> Self {
        Place::Database(bodies, spool).into()
    }

    /// Returns the bodies of which the large ones are in object storage, and the small ones in a database.
    pub(super) fn in_objects(objects: ObjectBodies, small: DatabaseBodies, spool: Spool) -> Self {
        Place::Objects(objects, small, spool).into()
    }
}

/// Returns whether an error says that a body is not there, or not as it was: trying again does not help.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
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
            Place::Folder(folder) => folder.own_file(watch, event_id),
            Place::Database(bodies, _) => StoredBody::in_database(bodies, (watch, event_id), Some(job.size)),
            Place::Objects(objects, small, _) => in_either((objects, small), watch, event_id, job.size),
            Place::Memory(memory) => memory.get(watch, event_id),
        }
    }

    /// Returns one of [`entries`](Self::entries).
    pub(super) fn listed(&self, entry: &BodyEntry) -> StoredBody {
        let (watch, event_id) = (entry.watch, entry.event_id.as_str());
        match &self.place {
            Place::Spool(spool) | Place::Folder(spool) => spool.own_file(watch, event_id),
            Place::Database(bodies, _) => StoredBody::in_database(bodies, (watch, event_id), None),
            Place::Objects(objects, small, _) => in_either((objects, small), watch, event_id, entry.size),
            Place::Memory(memory) => memory.get(watch, event_id),
        }
    }

    /// Begins to write the body of an event.
    #[must_use]
    pub fn begin(&self, watch: u64, event_id: &str) -> Incoming {
        let home = match &self.place {
            Place::Spool(spool) | Place::Folder(spool) => {
                Some(Home { spool: spool.clone(), last: Last::Spool })
            }
            Place::Database(bodies, spool) => {
                Some(Home { spool: spool.clone(), last: Last::Database(bodies.clone()) })
            }
            Place::Objects(objects, small, spool) => {
                Some(Home { spool: spool.clone(), last: Last::Objects(objects.clone(), small.clone()) })
            }
            Place::Memory(_) => None,
        };
        Incoming::new(watch, event_id, home)
    }

    /// Returns the record of a large body that is wholly there; `None` when it is not. Its file is there only after it is
    /// complete, so one that a killed process left need not be fetched again. Object storage is not asked: that would be a
    /// request for each job, and fetching one again after a kill stores the same object.
    ///
    /// # Errors
    /// When the body is there and cannot be read.
    pub async fn finished(&self, watch: u64, event_id: &str) -> io::Result<Option<StoredJob>> {
        let body = match &self.place {
            Place::Spool(spool) | Place::Folder(spool) => spool.own_file(watch, event_id),
            Place::Database(bodies, _) => StoredBody::in_database(bodies, (watch, event_id), None),
            Place::Objects(..) => return Ok(None),
            Place::Memory(memory) => memory.get(watch, event_id),
        };
        let measured = tokio::task::spawn_blocking(move || match body.read() {
            Ok(reader) => measure::measured(reader).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        });
        measured.await.map_err(io::Error::other)?
    }

    /// Returns whether the body of an event is there, with all of its bytes.
    ///
    /// # Errors
    /// When its place cannot be asked now.
    pub fn has(&self, watch: u64, event_id: &str, job: &StoredJob) -> io::Result<bool> {
        match self.get(watch, event_id, job).size() {
            Ok(found) => Ok(found == job.size),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes the body of an event that is no small one; one that is not there is no error. During an export it stays.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(&self, watch: u64, event_id: &str) -> io::Result<()> {
        self.pins.unless_pinned(|| match &self.place {
            Place::Spool(spool) | Place::Folder(spool) => spool.remove(watch, event_id),
            Place::Database(bodies, _) => bodies.remove(watch, event_id).map(drop),
            Place::Objects(objects, small, _) => match small.remove(watch, event_id)? {
                true => Ok(()),
                false => objects.remove(watch, event_id),
            },
            Place::Memory(memory) => {
                memory.remove(watch, event_id);
                Ok(())
            }
        })
    }

    /// Returns where the body of an event lies, for people.
    pub(super) fn shown(&self, watch: u64, event_id: &str, size: u64, at: Option<BodyPlace>) -> String {
        match &self.place {
            Place::Objects(objects, ..) if size > MAX_SMALL as u64 => objects.shown(watch, event_id),
            Place::Spool(spool) | Place::Folder(spool) => {
                spool.shown(watch, event_id, at).display().to_string()
            }
            Place::Database(..) | Place::Objects(..) | Place::Memory(_) => spool::name(watch, event_id),
        }
    }

    /// Returns where a segment lies, for people.
    pub(super) fn shown_segment(&self, number: u64) -> String {
        match &self.place {
            Place::Spool(spool) | Place::Folder(spool) => spool.shown_segment(number).display().to_string(),
            Place::Database(..) | Place::Objects(..) | Place::Memory(_) => {
                segments::shown(number).display().to_string()
            }
        }
    }

    /// Returns whether bodies may be there that nothing needs: always at the start, and after one could not be removed.
    #[must_use]
    pub fn are_unswept(&self) -> bool {
        self.unswept.load(Ordering::Acquire)
    }

    pub(super) fn set_unswept(&self, unswept: bool) {
        self.unswept.store(unswept, Ordering::Release);
    }

    /// Returns why large bodies wait to be stored; `None` when they do not.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        match &self.place {
            Place::Objects(objects, ..) => objects.trouble(),
            Place::Spool(_) | Place::Folder(_) | Place::Database(..) | Place::Memory(_) => None,
        }
    }

    /// Keeps every body until the pin lets go: what is removed meanwhile stays. `None` while there is a pin.
    pub(super) fn pin(&self) -> Option<Pin> {
        self.pins.pin()
    }

    /// Returns the segments; `None` when this backend has none.
    pub(super) const fn segments(&self) -> Option<&Segments> {
        match &self.place {
            Place::Spool(spool) => Some(spool.segments()),
            Place::Folder(_) | Place::Database(..) | Place::Objects(..) | Place::Memory(_) => None,
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
            Place::Folder(folder) => folder.append(bodies).map(|()| Vec::new()),
            // They are part of the commit.
            Place::Database(..) | Place::Objects(..) => Ok(Vec::new()),
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
            Place::Spool(spool) | Place::Folder(spool) => spool.bytes(),
            Place::Database(bodies, _) => bodies.bytes(),
            Place::Objects(objects, small, _) => objects.bytes() + small.bytes(),
            Place::Memory(memory) => memory.bytes(),
        }
    }

    /// Returns every body that is no small one. Files that are none of ours are passed over.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn entries(&self) -> io::Result<Vec<BodyEntry>> {
        match &self.place {
            Place::Spool(spool) | Place::Folder(spool) => spool.entries(),
            Place::Database(..) | Place::Objects(..) => {
                let mut entries = Vec::new();
                self.each(|entry| {
                    entries.push(entry);
                    Ok::<_, io::Error>(())
                })?;
                Ok(entries)
            }
            Place::Memory(memory) => Ok(memory.entries()),
        }
    }

    /// Calls `each` with every such body, and counts their bytes for [`bytes`](Self::bytes).
    ///
    /// # Errors
    /// When they cannot be listed, and the first error of `each`.
    pub(super) fn survey<E: From<io::Error>>(
        &self,
        each: impl FnMut(BodyEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        match &self.place {
            Place::Spool(spool) | Place::Folder(spool) => spool.entries()?.into_iter().try_for_each(each),
            Place::Database(..) | Place::Objects(..) | Place::Memory(_) => self.each(each),
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
            Place::Spool(spool) | Place::Folder(spool) => spool.each(each),
            Place::Database(bodies, _) => bodies.each(each),
            Place::Objects(objects, small, _) => {
                // The storage first: when it is away, there is no need to ask the database.
                objects.each(&mut each)?;
                small.each(each)
            }
            Place::Memory(memory) => memory.entries().into_iter().try_for_each(&mut each),
        }
    }
}

/// A body of this size: the small ones are in the database.
fn in_either(
    (objects, small): (&ObjectBodies, &DatabaseBodies),
    watch: u64,
    event_id: &str,
    size: u64,
) -> StoredBody {
    match size > MAX_SMALL as u64 {
        true => StoredBody::in_objects(objects, watch, event_id),
        false => StoredBody::in_database(small, (watch, event_id), Some(size)),
    }
}
