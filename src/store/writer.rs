//! The one thread that writes. Whoever wants something written sends a call; the thread takes all calls that
//! wait, applies them, flushes, syncs the data file once, and only then answers everyone: group commit.

use std::{
    fs, io,
    sync::{
        Arc, PoisonError, Weak,
        atomic::Ordering,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::util::{clock, units::rounded};

use super::{
    Change, Database, Newest, Shared, Store, StoreError, contained, marker, read,
    txn::{Committed, Txn},
};

/// Calls that share one sync at the most; keeps the first caller's wait bounded.
const MAX_CALLS: usize = 2048;

/// The wait before the first attempt to open a failed database again; doubled up to the last.
const REOPEN_FIRST: Duration = Duration::from_millis(500);
const REOPEN_LAST: Duration = Duration::from_secs(30);

/// One caller's operations.
pub(super) trait Call: Send {
    fn apply(&mut self, txn: &mut Txn<'_>) -> Result<(), StoreError>;
    fn answer(self: Box<Self>, result: Result<(), StoreError>);
}

/// What the thread is asked to do.
pub(super) enum Order {
    Call(Box<dyn Call>),
    /// Carry the counter over to the marker.
    Carry(oneshot::Sender<()>),
}

struct Pending<F, T> {
    operation: Option<F>,
    value: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Call for Pending<F, T>
where
    F: FnOnce(&mut Txn<'_>) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn apply(&mut self, txn: &mut Txn<'_>) -> Result<(), StoreError> {
        let Some(operation) = self.operation.take() else { return Ok(()) };
        match operation(txn) {
            Ok(value) => self.value = Some(Ok(value)),
            // One record that cannot be read is its own caller's trouble, not that of all others.
            Err(error @ StoreError::Record(_)) => {
                txn.abandon_operation();
                self.value = Some(Err(error));
            }
            Err(error) => return Err(error),
        }
        txn.end_operation()
    }

    fn answer(self: Box<Self>, result: Result<(), StoreError>) {
        let Self { value, reply, .. } = *self;
        let unanswered = || StoreError::Unavailable("an operation was not carried out".to_owned());
        // A caller that went away no longer cares; what it asked for is on disk all the same.
        let _ = reply.send(result.and_then(|()| value.unwrap_or_else(|| Err(unanswered()))));
    }
}

impl Store {
    /// Carries out `operation` in a group commit and answers when it is durable.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Txn<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let call = Pending { operation: Some(operation), value: None, reply };
        let gone = || StoreError::Unavailable("the writer has stopped".to_owned());
        self.calls.send(Order::Call(Box::new(call))).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Carries the counter over to the marker now, after everything that was written so far: whatever is lost while no process
    /// runs is noticed by the next.
    pub async fn carry(&self) {
        let (done, carried) = oneshot::channel();
        if self.calls.send(Order::Carry(done)).is_ok() {
            // The writer that ended has carried it.
            let _ = carried.await;
        }
    }

    /// Carries out an operation that a stage must not lose: after a failure it waits until the store is
    /// back and does it again. Every operation finds by itself what was already done.
    pub(super) async fn write_surely<T, F>(&self, operation: impl Fn() -> F) -> T
    where
        T: Send + 'static,
        F: FnOnce(&mut Txn<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let mut wait = REOPEN_FIRST;
        loop {
            match self.write(operation()).await {
                Ok(value) => return value,
                Err(error) => {
                    tracing::warn!(%error, retry_in = %rounded(wait), "a step could not be stored; it is tried again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(REOPEN_LAST);
                }
            }
        }
    }
}

/// How often an idle writer sees to the marker, and whether its folder is still there.
const IDLE: Duration = Duration::from_secs(2);

/// Starts the thread. It ends when the last [`Store`] is gone.
pub(super) fn start(shared: &Arc<Shared>) -> io::Result<mpsc::Sender<Order>> {
    let (orders, waiting) = mpsc::channel();
    let is_failed = !shared.healthy.load(Ordering::Acquire);
    let shared = Arc::downgrade(shared);
    let run = move || run(&waiting, &shared, is_failed);
    thread::Builder::new().name("store-writer".to_owned()).spawn(run)?;
    Ok(orders)
}

fn run(waiting: &Receiver<Order>, shared: &Weak<Shared>, is_failed: bool) {
    let mut carrier = marker::Carrier::new();
    let mut reopening = Reopening::default();
    if is_failed {
        reopening.begin();
    }
    loop {
        let mut next = match waiting.recv_timeout(reopening.patience()) {
            Ok(order) => Some(order),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let Some(shared) = shared.upgrade() else { return };
        reopening.attempt_when_due(&shared);
        see_to_folder(&shared, &mut reopening);
        let (mut calls, mut carried) = (Vec::new(), Vec::new());
        while let Some(order) = next {
            match order {
                Order::Call(call) => calls.push(call),
                Order::Carry(done) => carried.push(done),
            }
            next = (calls.len() < MAX_CALLS).then(|| waiting.try_recv().ok()).flatten();
        }
        if !calls.is_empty() {
            commit(&shared, calls, &mut reopening);
        }
        carry(&mut carrier, &shared);
        if !carried.is_empty() {
            shared.carry_last();
        }
        for done in carried {
            // Whoever asked may have gone.
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

/// Lets go of a database. A failed one may panic once more as it goes.
fn close(database: Option<Database>) {
    let _ = contained(|| {
        drop(database);
        Ok(())
    });
}

/// Applies, makes durable, answers, tells.
fn commit(shared: &Shared, mut calls: Vec<Box<dyn Call>>, reopening: &mut Reopening) {
    match make_durable(shared, &mut calls) {
        Ok(Committed { changes, made }) => {
            if made.count > 0 {
                shared.newest.send_modify(|newest| {
                    *newest = Newest { number: made.number, count: newest.count + made.count };
                });
            }
            if let Some(listener) = shared.listener.get() {
                changes.into_iter().for_each(listener);
            }
            for call in calls {
                call.answer(Ok(()));
            }
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

fn make_durable(shared: &Shared, calls: &mut [Box<dyn Call>]) -> Result<Committed, StoreError> {
    let database = shared.database.read().unwrap_or_else(PoisonError::into_inner);
    let database = database.as_ref().filter(|_| shared.healthy.load(Ordering::Acquire));
    let Some(database) = database else {
        return Err(shared.unavailable());
    };
    contained(|| {
        let mut txn = Txn::new(&database.db, &shared.unreadable, &shared.snapshots);
        for call in calls {
            call.apply(&mut txn)?;
        }
        let committed = txn.finish()?;
        let begun = Instant::now();
        database.db.flush()?;
        sync(&database.file)?;
        if let Some(listener) = shared.flush_listener.get() {
            listener(begun.elapsed());
        }
        Ok(committed)
    })
}

/// `flush()` alone leaves the blocks in flight and the file's length unsaved.
fn sync(file: &fs::File) -> io::Result<()> {
    file.sync_data()
}

pub(super) fn carry(carrier: &mut marker::Carrier, shared: &Shared) {
    // What a failed database counts may never have reached the disk, and a marker that is ahead of the disk would
    // make a whole store look damaged.
    if !shared.healthy.load(Ordering::Acquire) {
        return;
    }
    let database = shared.database.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(database) = &*database
        && let Err(error) = carrier.carry(&shared.folder, database)
    {
        tracing::warn!(%error, "the marker beside the database could not be written");
    }
}

/// A commit that failed may have reached the disk all the same, and nobody was told of it: tells everything that
/// is open, as at the start.
fn tell_open(shared: &Shared) {
    let database = shared.database.read().unwrap_or_else(PoisonError::into_inner);
    let Some(database) = &*database else { return };
    match contained(|| read::newest_event(&database.db)) {
        Ok(number) => shared.newest.send_modify(|newest| newest.number = newest.number.max(number)),
        Err(error) => tracing::error!(%error, "the newest event could not be read; the next one shows it"),
    }
    let Some(listener) = shared.listener.get() else { return };
    let told = contained(|| {
        read::each_open(&database.db, &shared.unreadable, |watch| listener(Change::Follow(watch)))?;
        read::each_pending(&database.db, |sink, key, due| {
            listener(Change::Deliver { sink: sink.to_owned(), key, due, as_of: clock::now() });
        })
    });
    if let Err(error) = told {
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
    fn patience(&self) -> Duration {
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
                tell_open(shared);
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
