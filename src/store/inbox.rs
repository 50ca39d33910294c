//! What waits for the writer: the calls of many callers, which it takes as one group.
//!
//! A call whose caller waits is taken at once. The daemon's own steps may wait a few milliseconds for each other: a sync costs
//! the processor as much for one step as for a hundred.

use std::{
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{StoreError, backend::Call};

/// At most so many calls share one sync, which bounds the wait of the first caller.
const MAX_CALLS: usize = 2048;

/// Everything that waited at one moment.
#[derive(Default)]
pub(super) struct Group {
    pub(super) calls: Vec<Box<dyn Call>>,
    /// Who waits for the high-water mark to be saved.
    pub(super) saves: Vec<oneshot::Sender<()>>,
}

impl Group {
    fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.saves.is_empty()
    }
}

/// Returns the two ends of an inbox.
pub(super) fn inbox() -> (Sender, Receiver) {
    let inbox = Arc::new(Inbox::default());
    (Sender(Arc::clone(&inbox)), Receiver(inbox))
}

/// The end of the callers. When the last one drops it, the writer ends.
pub(super) struct Sender(Arc<Inbox>);

/// The end of the writer. When it goes, so does whatever waits.
pub(super) struct Receiver(Arc<Inbox>);

#[derive(Default)]
struct Inbox {
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

#[derive(Default)]
struct Waiting {
    group: Group,
    /// One of the calls must not wait for company.
    is_urgent: bool,
    sleep: Sleep,
    /// No caller is left.
    is_abandoned: bool,
    /// The writer has ended.
    is_closed: bool,
}

/// What wakes the writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sleep {
    /// It is awake.
    #[default]
    Awake,
    UntilAny,
    UntilUrgent,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sender {
    /// Hands a call to the writer.
    pub(super) fn send(&self, call: Box<dyn Call>) -> Result<(), StoreError> {
        let is_urgent = !call.may_wait();
        self.push(is_urgent, |group| group.calls.push(call))
    }

    /// Asks for the high-water mark to be saved.
    pub(super) fn save(&self, done: oneshot::Sender<()>) -> Result<(), StoreError> {
        self.push(true, |group| group.saves.push(done))
    }

    fn push(&self, is_urgent: bool, push: impl FnOnce(&mut Group)) -> Result<(), StoreError> {
        let mut waiting = self.0.lock();
        if waiting.is_closed {
            return Err(StoreError::Unavailable("the writer has stopped".to_owned()));
        }
        push(&mut waiting.group);
        waiting.is_urgent |= is_urgent || waiting.group.calls.len() >= MAX_CALLS;
        let is_woken = match waiting.sleep {
            Sleep::Awake => false,
            Sleep::UntilAny => true,
            Sleep::UntilUrgent => waiting.is_urgent,
        };
        if is_woken {
            // One wake-up is enough, whatever comes before it runs.
            waiting.sleep = Sleep::Awake;
            drop(waiting);
            self.0.filled.notify_one();
        }
        Ok(())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.lock().is_abandoned = true;
        self.0.filled.notify_one();
    }
}

impl Receiver {
    /// Waits for a group, for `idle` at most, and returns what there is. Steps that may wait are held back until `pace`, unless
    /// a call comes that may not. `None` when no caller is left.
    pub(super) fn take(&self, idle: Duration, pace: Option<Instant>) -> Option<Group> {
        let until = Instant::now() + idle;
        let mut waiting = self.0.lock();
        loop {
            let is_last = waiting.is_abandoned;
            let (sleep, wake_at) = if waiting.group.is_empty() {
                if is_last {
                    return None;
                }
                (Sleep::UntilAny, Some(until))
            } else {
                (Sleep::UntilUrgent, pace.filter(|_| !waiting.is_urgent && !is_last))
            };
            let left = wake_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Some(waiting.take());
            }
            waiting.sleep = sleep;
            waiting = self.0.filled.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
            waiting.sleep = Sleep::Awake;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.is_closed = true;
        let group = mem::take(&mut waiting.group);
        drop(waiting);
        drop(group);
    }
}

impl Waiting {
    fn take(&mut self) -> Group {
        let mut group = mem::take(&mut self.group);
        if group.calls.len() > MAX_CALLS {
            self.group.calls = group.calls.split_off(MAX_CALLS);
        } else {
            self.is_urgent = false;
        }
        group
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::records::Txn;

    struct Step {
        may_wait: bool,
        number: usize,
    }

    impl Call for Step {
        fn may_wait(&self) -> bool {
            self.may_wait
        }

        fn apply(&mut self, _txn: &mut Txn<'_>) -> Result<(), StoreError> {
            Err(StoreError::Record(self.number.to_string()))
        }

        fn answer(self: Box<Self>, _result: Result<(), StoreError>) {}
    }

    fn step(number: usize, may_wait: bool) -> Box<dyn Call> {
        Box::new(Step { may_wait, number })
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn steps_wait_for_each_other_and_go_with_a_call_that_does_not() {
        let (sender, receiver) = inbox();
        sender.send(step(0, true)).unwrap();
        sender.send(step(1, true)).unwrap();
        let later = thread_that_sends(&sender, &receiver);
        let group = receiver.take(LONG, Some(Instant::now() + LONG)).unwrap();
        assert_eq!(group.calls.len(), 3, "nothing else ends the wait within an hour");
        later.join().unwrap();
        sender.send(step(3, true)).unwrap();
        assert_eq!(receiver.take(LONG, None).unwrap().calls.len(), 1, "nothing was committed a moment ago");
        sender.send(step(4, true)).unwrap();
        assert_eq!(receiver.take(LONG, Some(Instant::now())).unwrap().calls.len(), 1, "it waited enough");
    }

    /// Sends an urgent call once the writer sleeps.
    fn thread_that_sends(sender: &Sender, receiver: &Receiver) -> std::thread::JoinHandle<()> {
        let (sender, inbox) = (Sender(Arc::clone(&sender.0)), Arc::clone(&receiver.0));
        std::thread::spawn(move || {
            while inbox.lock().sleep != Sleep::UntilUrgent {
                std::thread::yield_now();
            }
            sender.send(step(2, false)).unwrap();
            // Its end is not that of the last caller.
            mem::forget(sender);
        })
    }

    #[test]
    fn a_group_is_bounded_and_the_rest_follows_at_once() {
        let (sender, receiver) = inbox();
        for number in 0..=MAX_CALLS {
            sender.send(step(number, true)).unwrap();
        }
        let pace = || Some(Instant::now() + LONG);
        assert_eq!(receiver.take(LONG, pace()).unwrap().calls.len(), MAX_CALLS);
        assert_eq!(receiver.take(LONG, pace()).unwrap().calls.len(), 1);
        assert_eq!(receiver.take(Duration::ZERO, pace()).unwrap().calls.len(), 0);
    }

    #[test]
    fn either_end_tells_the_other_that_it_is_gone() {
        let (sender, receiver) = inbox();
        sender.send(step(0, true)).unwrap();
        drop(sender);
        let group = receiver.take(LONG, Some(Instant::now() + LONG)).unwrap();
        assert_eq!(group.calls.len(), 1, "what was sent is still taken, and at once");
        assert!(receiver.take(LONG, None).is_none());
        let (sender, receiver) = inbox();
        let (saved, mut answer) = oneshot::channel();
        sender.save(saved).unwrap();
        drop(receiver);
        assert!(answer.try_recv().is_err(), "it learns that nobody will");
        assert!(sender.send(step(0, false)).is_err());
    }
}
