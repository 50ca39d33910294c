//! Notices: given, and what was told before.

use std::collections::BTreeMap;

use super::{NoticeGiven, NoticeState, Store, StoreError, rules::notices};
use crate::util::units::Time;

impl Store {
    /// Makes the event of a notice, with a delivery to each of `sinks`, and records what was told of `subject` with it.
    pub async fn give_notice(
        &self,
        subject: &str,
        state: &NoticeState,
        given: &NoticeGiven,
        sinks: &[String],
        now: Time,
    ) {
        self.write_until_durable(|| {
            let (subject, state) = (subject.to_owned(), state.clone());
            let (given, sinks) = (given.clone(), sinks.to_vec());
            move |txn| notices::give(txn, subject, state, given, &sinks, now)
        })
        .await;
    }

    /// Records what was told of `subject`, or is to be told later, without an event.
    pub async fn hold_notice(&self, subject: &str, state: &NoticeState) {
        self.write_until_durable(|| {
            let (subject, state) = (subject.to_owned(), state.clone());
            move |txn| {
                txn.set_notice(subject, state);
                Ok(())
            }
        })
        .await;
    }

    /// Returns what was told, by subject.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn notices(&self) -> Result<BTreeMap<String, NoticeState>, StoreError> {
        self.scan(|records| {
            let mut told = BTreeMap::new();
            for entry in records.notices() {
                let (subject, state) = entry?;
                told.extend(state.map(|state| (subject, state)));
            }
            Ok(told)
        })
        .await
    }
}
