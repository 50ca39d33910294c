//! One event on its way to one sink.

use serde::{Deserialize, Serialize};

use super::{Event, Topic, is_default};
use crate::{
    model::{
        delivery::{DeliveryAttempt, DeliveryState},
        job::EventType,
    },
    util::units::Time,
};

/// One event on its way to one sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// What its event is about.
    #[serde(flatten)]
    pub topic: Topic,
    /// The sink's name.
    pub sink: String,
    /// The event's id.
    pub event_id: String,
    /// The type of the event. The name on disk is from before there was progress.
    #[serde(rename = "outcome")]
    pub event_type: EventType,
    /// Pending, delivered or dead.
    pub state: DeliveryState,
    /// When the event was made.
    pub created_at: Time,
    /// When the record last changed.
    pub updated_at: Time,
    /// When the next attempt is due; meaningless unless pending.
    pub next_attempt_at: Time,
    /// Attempts made in the present schedule, without those that cost no step.
    #[serde(default, skip_serializing_if = "is_default")]
    pub step: u32,
    /// Consecutive attempts that cost no step.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spared: u32,
    /// Time that it waited after such attempts in the present schedule, in milliseconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spared_ms: u64,
    /// Attempts made in all.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attempt_count: u32,
    /// Counts the requests of an operator to send it, so that an attempt that began before one does not end it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub generation: u32,
    /// The latest attempts, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<DeliveryAttempt>,
    /// Why it is a dead letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The files that it made, or is about to make, and that may still be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileMark>,
}

/// Tells a file from every other one of its disk, also from a later one of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMark {
    /// The number of its inode.
    pub inode: u64,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last written: seconds since 1970.
    pub seconds: i64,
    /// And nanoseconds.
    pub nanos: i64,
}

/// The meaning of an attempt for its delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptVerdict {
    /// The sink took it.
    Delivered,
    /// The next attempt is due at this time: the next step of the schedule.
    Retry(Time),
    /// The next attempt is due at this time. It costs no step.
    Defer(Time),
    /// The delivery is a dead letter, for this reason.
    Dead(String),
}

impl Delivery {
    /// Returns a delivery of `event` to `sink` that is due at `now`, without attempts.
    #[must_use]
    pub fn new(event: &Event, sink: &str, now: Time) -> Self {
        Self {
            topic: event.topic.clone(),
            sink: sink.to_owned(),
            event_id: event.news.event_id().to_owned(),
            event_type: event.news.event_type(),
            state: DeliveryState::Pending,
            created_at: event.created_at,
            updated_at: now,
            next_attempt_at: now,
            step: 0,
            spared: 0,
            spared_ms: 0,
            attempt_count: 0,
            generation: 0,
            attempts: Vec::new(),
            reason: None,
            files: Vec::new(),
        }
    }

    /// Returns it pending with a fresh schedule, due at `now`. Its attempts, files and generation stay.
    #[must_use]
    pub fn restarted(self, now: Time) -> Self {
        Self {
            state: DeliveryState::Pending,
            updated_at: now,
            next_attempt_at: now,
            step: 0,
            spared: 0,
            spared_ms: 0,
            reason: None,
            ..self
        }
    }
}
