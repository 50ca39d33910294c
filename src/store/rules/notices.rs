//! Notices: given once, each with what was told of its subject.

use super::groups::put_jobless;
use crate::{
    store::{Event, News, NoticeGiven, NoticeState, StoreError, Topic, records::Txn},
    util::units::Time,
};

/// Makes the event of a notice, with a delivery to each of `sinks`, and records what was told of `subject` with it. Doing it twice
/// makes one event.
pub(in crate::store) fn give(
    txn: &mut Txn<'_>,
    subject: String,
    state: NoticeState,
    given: NoticeGiven,
    sinks: &[String],
    now: Time,
) -> Result<(), StoreError> {
    if txn.notice(&subject)?.as_ref() == Some(&state) {
        return Ok(());
    }
    txn.set_notice(subject, state);
    put_jobless(txn, Event::jobless(Topic::Daemon, News::Notice(given), now), sinks, now)?;
    Ok(())
}
