//! The one thread that writes. A caller that wants something written sends a call; the thread takes all calls that
//! wait, applies them, flushes, syncs the data file once, and only then answers everyone: group commit.

use std::{
    fs, io,
    sync::{Arc, PoisonError, Weak, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{Call, Database, Shared, StoreError, contained, marker};
use crate::{
    store::{
        REOPEN_FIRST, REOPEN_LAST,
        inbox::{Receiver, Sender, inbox},
        records::{Committed, Txn},
    },
    util::units::rounded,
};

/// The least time from one commit to the next, as long as nobody waits but the daemon's own steps. It bounds the syncs of a busy
/// daemon to a few hundred a second, and a single step waits for it only behind another one.
const PACE: Duration = Duration::from_millis(5);

/// How often an idle writer sees to the marker, and whether its folder is still there.
const IDLE: Duration = Duration::from_secs(2);

/// Starts the thread. It ends when the last [`SledStore`](super::SledStore) is gone.
pub(super) fn start(shared: &Arc<Shared>) -> io::Result<Sender> {
    let (calls, waiting) = inbox();
    let is_failed = !shared.healthy.load(Ordering::Acquire);
    let shared = Arc::downgrade(shared);
    let run = move || run(&waiting, &shared, is_failed);
    thread::Builder::new().name("store-writer".to_owned()).spawn(run)?;
    Ok(calls)
}

fn run(waiting: &Receiver, shared: &Weak<Shared>, is_failed: bool) {
    let mut high_water_mark = marker::HighWaterMark::new();
    let mut reopening = Reopening::default();
    if is_failed {
        reopening.begin();
    }
    let mut pace = None;
    while let Some(group) = waiting.take(reopening.timeout(), pace) {
        let Some(shared) = shared.upgrade() else { return };
        reopening.attempt_when_due(&shared);
        see_to_folder(&shared, &mut reopening);
        if !group.calls.is_empty() {
            pace = Some(Instant::now() + PACE);
            commit(&shared, group.calls, &mut reopening);
        }
        save_when_due(&mut high_water_mark, &shared);
        if !group.saves.is_empty() {
            shared.save_high_water_mark();
        }
        for done in group.saves {
            // The caller may have gone.
            let _ = done.send(());
        }
    }
}

/// Notices that another folder or file took the place of one that is open: what is there now is somebody's backup, and nothing
/// is read or written any more.
fn see_to_folder(shared: &Shared, reopening: &mut Reopening) {
    let database = shared.database.read().unwrap_or_else(PoisonError::into_inner);
    let replaced = database
        .as_ref()
        .filter(|database| database.scratch.is_none())
        .and_then(|database| shared.replaced(database));
    drop(database);
    let Some(what) = replaced else { return };
    let reason = format!(
        "{what} while the daemon ran; nothing is written to it. Start tidings again to use what is there now"
    );
    tracing::error!(reason, "data folder is not the one that was opened; the store is closed");
    shared.healthy.store(false, Ordering::Release);
    *shared.trouble.write().unwrap_or_else(PoisonError::into_inner) = Some(StoreError::Unavailable(reason));
    reopening.due = None;
    let old = shared.database.write().unwrap_or_else(PoisonError::into_inner).take();
    close(old);
}

/// Closes a database. A failed one may panic once more as it goes.
fn close(database: Option<Database>) {
    let _ = contained(|| {
        drop(database);
        Ok(())
    });
}

/// Applies, makes durable, answers, tells.
fn commit(shared: &Shared, calls: Vec<Box<dyn Call>>, reopening: &mut Reopening) {
    let begun = Instant::now();
    let mut calls = store_bodies(shared, calls);
    let stored = begun.elapsed();
    match make_durable(shared, &mut calls, stored) {
        Ok(committed) => {
            let emptied = committed.emptied.clone();
            shared.listeners.emit(committed);
            for call in calls {
                call.answer(Ok(()));
            }
            remove_segments(shared, &emptied);
        }
        Err(error) => {
            // What it read of a database that failed may never have reached the disk.
            shared.snapshots.fail();
            if shared.healthy.swap(false, Ordering::AcqRel) {
                tracing::error!(%error, "the store failed; new watches are refused until it is open again");
                *shared.trouble.write().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
                reopening.begin();
            }
            for call in calls {
                call.answer(Err(error.clone()));
            }
        }
    }
}

/// Makes the small bodies of all calls durable, with one sync. When that fails, only the calls that bring one fail: the
/// database is whole, and takes the others. Returns the calls that are left.
fn store_bodies(shared: &Shared, mut calls: Vec<Box<dyn Call>>) -> Vec<Box<dyn Call>> {
    let is_open = shared.healthy.load(Ordering::Acquire);
    if !is_open || calls.iter().all(|call| call.bodies().is_empty()) {
        return calls;
    }
    match shared.bodies.append(calls.iter().flat_map(|call| call.bodies())) {
        Ok(places) => {
            let mut places = places.into_iter();
            for call in &mut calls {
                let own = call.bodies().len();
                call.set_places(places.by_ref().take(own).collect());
            }
            calls
        }
        Err(error) => {
            let error = StoreError::from(error);
            tracing::error!(%error, "jobs not stored; their callers try again");
            let (with, without): (Vec<_>, Vec<_>) =
                calls.into_iter().partition(|call| !call.bodies().is_empty());
            for call in with {
                call.answer(Err(error.clone()));
            }
            without
        }
    }
}

/// Removes segments that no record names any more. What stays is removed by a later round of retention.
fn remove_segments(shared: &Shared, emptied: &[u64]) {
    for segment in emptied {
        shared.spool.segments().end_unneeded(*segment);
        if let Err(error) = shared.bodies.remove_segment(*segment) {
            tracing::warn!(%error, segment, "stored jobs without a record not removed yet");
        }
    }
}

fn make_durable(
    shared: &Shared,
    calls: &mut [Box<dyn Call>],
    bodies: Duration,
) -> Result<Committed, StoreError> {
    let database = shared.database.read().unwrap_or_else(PoisonError::into_inner);
    let database = database.as_ref().filter(|_| shared.healthy.load(Ordering::Acquire));
    let Some(database) = database else {
        return Err(shared.unavailable());
    };
    let records = shared.records(database);
    contained(|| {
        let mut txn = Txn::new(&records);
        for call in calls {
            call.apply(&mut txn)?;
        }
        let committed = txn.finish()?;
        let begun = Instant::now();
        database.db.flush()?;
        sync(&database.file)?;
        shared.listeners.emit_flush(bodies + begun.elapsed());
        Ok(committed)
    })
}

/// `flush()` alone leaves the blocks in flight and the file's length unsaved.
fn sync(file: &fs::File) -> io::Result<()> {
    file.sync_data()
}

pub(super) fn save_when_due(mark: &mut marker::HighWaterMark, shared: &Shared) {
    // What a failed database counts may never have reached the disk, and a marker that is ahead of the disk would
    // make a whole store seem damaged.
    if !shared.healthy.load(Ordering::Acquire) {
        return;
    }
    let database = shared.database.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(database) = &*database
        && let Err(error) = mark.save_when_due(&shared.folder, database)
    {
        tracing::warn!(%error, "the marker beside the database could not be written");
    }
}

/// Tells everything that is open, once the database is open again.
fn emit_open(shared: &Shared) {
    if let Err(error) = shared.read(|records| shared.listeners.emit_open(&records)) {
        tracing::error!(%error, "what is open could not be read; a restart takes it up");
    }
}

/// A failed database on its way back.
#[derive(Default)]
struct Reopening {
    due: Option<Instant>,
    wait: Duration,
}

impl Reopening {
    /// How long the writer may sleep when nobody calls.
    fn timeout(&self) -> Duration {
        self.due.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()).min(IDLE))
    }

    fn begin(&mut self) {
        self.wait = REOPEN_FIRST;
        self.due = Some(Instant::now() + self.wait);
    }

    fn attempt_when_due(&mut self, shared: &Shared) {
        if self.due.is_none_or(|due| Instant::now() < due) {
            return;
        }
        let mut database = shared.database.write().unwrap_or_else(PoisonError::into_inner);
        let is_copy = database.as_ref().is_some_and(|database| database.scratch.is_some());
        if !is_copy {
            // The lock on the folder goes with the old handle.
            close(database.take());
        }
        match marker::reopen(&shared.folder, &shared.config) {
            Ok(opened) => {
                close(database.replace(opened));
                drop(database);
                self.due = None;
                shared.healthy.store(true, Ordering::Release);
                *shared.trouble.write().unwrap_or_else(PoisonError::into_inner) = None;
                tracing::info!("the store is open again");
                emit_open(shared);
            }
            Err(error) => {
                self.wait = (self.wait * 2).min(REOPEN_LAST);
                self.due = Some(Instant::now() + self.wait);
                tracing::error!(%error, retry_in = %rounded(self.wait), "the store cannot be opened again yet");
                if database.is_none() && matches!(error, StoreError::Full(_)) {
                    // Without a copy nothing can be read, which is what it says then.
                    *database = marker::open_copy(&shared.folder, &shared.config).ok().flatten();
                }
                *shared.trouble.write().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        }
    }
}
