//! The dead letters since somebody last asked, by sink. Those of notices do not count: a notice of
//! a lost notice would go round in circles.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;

use crate::{
    model::job::{EventType, JobId},
    store::{Delivery, DeliveryKey},
};

/// The dead letters by sink.
#[derive(Debug, Default)]
pub struct DeadLetters(Mutex<BTreeMap<String, DeadCount>>);

/// The dead letters of one sink.
#[derive(Clone, Debug)]
pub struct DeadCount {
    /// Their number.
    pub count: u64,
    /// The last of them.
    pub last: DeadLetter,
}

/// A delivery that became a dead letter.
#[derive(Clone, Debug, Serialize)]
pub struct DeadLetter {
    /// The id of the delivery.
    pub delivery_id: String,
    /// The id of its event.
    pub event_id: String,
    /// The type of its event.
    pub event_type: &'static str,
    /// The source of its job.
    pub source: Option<String>,
    /// Its job.
    pub job_id: Option<JobId>,
    /// Why it is a dead letter.
    pub reason: String,
}

impl DeadLetters {
    /// Counts a dead letter, unless it carries a notice.
    pub fn add(&self, key: DeliveryKey, delivery: &Delivery, reason: &str) {
        if let EventType::Notice(_) = delivery.event_type {
            return;
        }
        let job = delivery.topic.job();
        let last = DeadLetter {
            delivery_id: key.id(),
            event_id: delivery.event_id.clone(),
            event_type: delivery.event_type.as_str(),
            source: delivery.topic.source().map(str::to_owned),
            job_id: job.map(|job| job.job_id.clone()),
            reason: reason.to_owned(),
        };
        let mut counts = self.counts();
        let before = counts.get(&delivery.sink).map_or(0, |dead| dead.count);
        counts.insert(delivery.sink.clone(), DeadCount { count: before + 1, last });
    }

    /// Returns what was counted since the last call.
    #[must_use]
    pub fn take(&self) -> BTreeMap<String, DeadCount> {
        std::mem::take(&mut self.counts())
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<String, DeadCount>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
