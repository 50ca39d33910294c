//! The memory of one open watch, beside its record.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    FailureHistory, Stamps,
    learned::{
        bins::age as bounded,
        decide::{PollReason, Situation},
        forecast::Progress,
        model::Key,
    },
    packed::{PackedTime, PackedWait},
};
use crate::{store::Watch, util::units::Time};

/// What a watch needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    /// A poll of its status.
    Poll,
    /// A fetch of its result.
    Fetch,
}

/// What the last hook for a job has led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HookState {
    /// No hook came, or all of its polls were answered with a running job.
    #[default]
    None,
    /// A hook came, and no poll has been sent since.
    Due,
    /// So many polls have been sent since, the one in flight included.
    Polled(u8),
    /// The polls after the hook found the job running: it announced progress, and no end.
    Spent,
}

impl HookState {
    /// Returns the state once a poll is sent.
    pub(super) fn sent(self) -> Self {
        match self {
            Self::Due => Self::Polled(1),
            Self::Polled(polls) => Self::Polled(polls.saturating_add(1)),
            Self::None | Self::Spent => Self::None,
        }
    }

    /// Returns whether a hook announced an end that is found now.
    pub(super) fn has_announced(self) -> bool {
        matches!(self, Self::Due | Self::Polled(_))
    }
}

/// What the schedule knows of an open watch. There may be very many, so a field that a poll can
/// read from the record is not here.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The number of the watch.
    pub(super) number: u64,
    /// What the watch needs next.
    pub task: Task,
    /// The last recorded status.
    pub(super) status: Option<Arc<String>>,
    /// Status requests sent.
    pub polls: u32,
    /// The progress of the job.
    pub track: Track,
    /// When the next poll is due.
    pub(super) due: Option<Instant>,
    /// The reason for that time.
    pub(super) reason: PollReason,
    /// The wait before the last poll that failed, or that followed no curve.
    pub(super) wait: PackedWait,
    /// The source answered the poll in flight.
    pub(super) answered: bool,
    /// How often the end of the job turned out to be none.
    pub(super) relapses: u8,
    /// The wait that the source asked for with its last answer.
    pub(super) hint: PackedWait,
    /// When the watch was registered.
    pub registered_at: Time,
    /// When the watch is given up.
    pub deadline: Time,
    /// The failures since the source last answered about the job.
    pub failures: Option<Box<FailureHistory>>,
}

impl Entry {
    /// Returns whether the source has answered about the job before.
    #[must_use]
    pub fn was_seen(&self) -> bool {
        self.task == Task::Fetch || self.status.is_some()
    }

    /// Returns the reason for the time of the next poll, as the API names it.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.reason.word()
    }
}

/// The known progress of a job.
#[derive(Clone, Debug)]
pub struct Track {
    /// The kind of the job.
    pub(super) kind: Arc<Key>,
    /// When the job was created, or registered if the source has not told.
    pub(super) born: Time,
    /// The source told when the job was created.
    told: bool,
    /// An earlier run of this job ended, so this run is as old as its registration.
    again: bool,
    /// The source reports the run as being worked on.
    pub(super) at_work: bool,
    /// Whether a hook announced its end.
    pub(super) hook: HookState,
    /// When the job was last seen running.
    alive: PackedTime,
    /// When the run started.
    started: PackedTime,
}

impl Track {
    /// Reads the progress from the record of a watch.
    pub(super) fn new(watch: &Watch, stamps: &Stamps, kind: Arc<Key>) -> Self {
        let again = watch.completion.is_some();
        let made = stamps.made_at.filter(|made| !again && *made <= stamps.updated_at);
        let seen = watch.seen_running.then_some(stamps.updated_at);
        let started = watch.started.as_ref().and_then(|run| run.started_at.as_ref()?.parse().ok().map(Time));
        let born = made.unwrap_or(stamps.registered_at);
        let started = started.filter(|at| seen.is_some_and(|seen| born <= *at && *at <= seen));
        let at_work = watch.started.is_some();
        let (alive, started) = (seen.into(), started.into());
        Self { kind, born, told: made.is_some(), again, at_work, hook: HookState::None, alive, started }
    }

    /// Records the creation and start times that the source tells. Times in our future are ignored.
    pub(super) fn dated(&mut self, created: Option<Time>, started: Option<Time>, now: Time) {
        if self.again {
            return;
        }
        if let Some(created) = created.filter(|created| *created <= now) {
            self.born = created;
            self.told = true;
        }
        self.started = started.filter(|at| self.told && self.born <= *at && *at <= now).into();
    }

    /// Records that the job was seen running.
    pub(super) fn seen(&mut self, now: Time) {
        self.alive = Some(now).into();
    }

    /// Returns when the job was last seen running.
    pub(super) fn last_seen(&self) -> Option<Time> {
        self.alive.get()
    }

    /// Returns how long ago the job was last seen running, or the longest duration if it never was.
    pub(super) fn unseen_for(&self, now: Time) -> Duration {
        self.alive.get().map_or(Duration::MAX, |at| now.since(at))
    }

    /// Returns the age of the job at a time, in seconds, within the bounds of the learned model.
    pub(super) fn age(&self, at: Time) -> f64 {
        bounded(at.since(self.born).as_secs_f64())
    }

    /// Returns the progress before the poll in flight.
    pub(super) fn known(&self) -> Progress {
        Progress {
            age: self.alive.get().map_or(0.0, |at| self.age(at)),
            started: self.started.get().map(|at| self.age(at)),
        }
    }

    /// Returns whether an end without a date lies close enough to learn from.
    pub(super) fn is_bracketed(&self, registered_at: Time) -> bool {
        /// A caller that registers its job at once does so within this time.
        const AT_ONCE: Duration = Duration::from_secs(10);
        self.alive.get().is_some() || registered_at.since(self.born) < AT_ONCE
    }

    /// Returns whether ages count from the creation of the job.
    pub(super) fn is_exact(&self) -> bool {
        self.told
    }

    /// Returns the facts by which the next poll is decided.
    pub(super) fn situation(&self, entry: &Entry, number: u64, wall: Time) -> Situation {
        Situation {
            known: self.known(),
            now: self.age(wall),
            polled: self.alive.get().map(|at| self.age(at)),
            deadline: Some(self.age(entry.deadline)),
            hint: entry.hint.get().map(|hint| hint.as_secs_f64()),
            asked: false,
            luck: unit(number),
            jitter: unit(
                number.wrapping_add(u64::from(entry.polls).wrapping_mul(0x1_0000_0001)).wrapping_add(1 << 60),
            ),
        }
    }
}

/// Returns a number in [0, 1) that seems random and is the same each time (the finalizer of
/// `SplitMix64`).
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
fn unit(number: u64) -> f64 {
    let mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}
