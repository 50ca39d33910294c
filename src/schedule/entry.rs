//! What is kept in memory of an open watch beside its record.

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
};
use crate::{store::Watch, util::units::Time};

/// What a watch needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    /// A look at its status.
    Poll,
    /// Its full job.
    Fetch,
}

/// What is known of an open watch beside its record. There may be very many: whatever a look can read there is not kept here.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The number of its watch.
    pub(super) number: u64,
    /// What it needs next.
    pub task: Task,
    /// The last status recorded.
    pub(super) status: Option<Arc<String>>,
    /// Its run was seen at work.
    pub(super) at_work: bool,
    /// Status requests made.
    pub polls: u64,
    /// How far its job has come.
    pub track: Track,
    /// When its next look is due.
    pub(super) due: Option<Instant>,
    /// What decided that.
    pub(super) reason: PollReason,
    /// The wait before the last look that failed, or that followed no curve.
    pub(super) wait: Option<Duration>,
    /// The source answered the look under way.
    pub(super) answered: bool,
    /// How often its end turned out to be none.
    pub(super) relapses: u8,
    /// How long the source asked to wait with its last answer.
    pub(super) hint: Option<Duration>,
    /// When it was registered.
    pub registered_at: Time,
    /// When it is given up.
    pub deadline: Time,
    /// What went wrong since the source last answered about it.
    pub failures: Option<Box<FailureHistory>>,
}

impl Entry {
    /// Whether the source has answered about its job before.
    #[must_use]
    pub fn was_seen(&self) -> bool {
        self.task == Task::Fetch || self.status.is_some()
    }

    /// Why its next look is when it is, in a word.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.reason.word()
    }
}

/// How far a job has come, as far as is known.
#[derive(Clone, Debug)]
pub struct Track {
    /// Which jobs it is like.
    pub(super) kind: Arc<Key>,
    /// When the job was created; before the source told, when it was registered.
    pub(super) born: Time,
    /// Whether the source told.
    told: bool,
    /// An earlier run of this job ended: this one is as old as its registration.
    again: bool,
    /// When it was last seen, and had not ended.
    alive: Option<Time>,
    /// When its run started.
    started: Option<Time>,
}

impl Track {
    /// What the record of a watch tells.
    pub(super) fn new(watch: &Watch, stamps: &Stamps, kind: Arc<Key>) -> Self {
        let again = watch.completion.is_some();
        let made = stamps.made_at.filter(|made| !again && *made <= stamps.updated_at);
        let seen = watch.seen_running.then_some(stamps.updated_at);
        let started = watch.started.as_ref().and_then(|run| run.started_at.as_ref()?.parse().ok().map(Time));
        let born = made.unwrap_or(stamps.registered_at);
        let started = started.filter(|at| seen.is_some_and(|seen| born <= *at && *at <= seen));
        Self { kind, born, told: made.is_some(), again, alive: seen, started }
    }

    /// Takes in when the job was created and when its run started, as the source says. What the source dates in our
    /// future is not believed.
    pub(super) fn dated(&mut self, created: Option<Time>, started: Option<Time>, now: Time) {
        if self.again {
            return;
        }
        if let Some(created) = created.filter(|created| *created <= now) {
            self.born = created;
            self.told = true;
        }
        self.started = started.filter(|at| self.told && self.born <= *at && *at <= now);
    }

    /// Takes note that it was seen alive.
    pub(super) fn seen(&mut self, now: Time) {
        self.alive = Some(now);
    }

    /// How long ago it was last seen alive; for ever, when it never was.
    pub(super) fn unseen_for(&self, now: Time) -> Duration {
        self.alive.map_or(Duration::MAX, |at| now.since(at))
    }

    /// Its age at a time in seconds, within what a next look is decided by.
    pub(super) fn age(&self, at: Time) -> f64 {
        bounded(at.since(self.born).as_secs_f64())
    }

    /// What is known from before the look under way.
    pub(super) fn known(&self) -> Progress {
        Progress {
            age: self.alive.map_or(0.0, |at| self.age(at)),
            started: self.started.map(|at| self.age(at)),
        }
    }

    /// Whether an end seen now without its date lies close enough behind it to be learned from.
    pub(super) fn is_bracketed(&self, registered_at: Time) -> bool {
        /// A caller that registers a job at once does so within this time.
        const AT_ONCE: Duration = Duration::from_secs(10);
        self.alive.is_some() || registered_at.since(self.born) < AT_ONCE
    }

    /// Whether ages count from the job's own creation.
    pub(super) fn is_exact(&self) -> bool {
        self.told
    }

    /// What the next look is decided by.
    pub(super) fn situation(&self, entry: &Entry, number: u64, wall: Time) -> Situation {
        Situation {
            known: self.known(),
            now: self.age(wall),
            polled: self.alive.map(|at| self.age(at)),
            deadline: Some(self.age(entry.deadline)),
            hint: entry.hint.map(|hint| hint.as_secs_f64()),
            asked: false,
            luck: unit(number),
            jitter: unit(number.wrapping_add(entry.polls.wrapping_mul(0x1_0000_0001)).wrapping_add(1 << 60)),
        }
    }
}

/// A number in [0, 1) that looks random and is the same each time (the finalizer of `SplitMix64`).
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
fn unit(number: u64) -> f64 {
    let mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}
