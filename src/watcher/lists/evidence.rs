//! What the items of a page say about open watches.

use futures_util::future::join_all;

use super::{JobKnowledge, knowledge};
use crate::{
    schedule::{Evidence, ListPolling},
    upstream::{ListPage, SourceKind},
    util::{clock, units::Time},
    watcher::SourceState,
};

/// Records what a page says, which was requested at `sent` on the steady clock. Returns how many
/// polls it answers: those that were due and are not sent, and those of jobs that have finished.
pub(super) async fn apply(state: &SourceState, kind: &SourceKind, page: &ListPage, sent: Time) -> usize {
    if state.source.config.polling.list == ListPolling::Off {
        return 0;
    }
    // Without the store the page answers nothing, and the polls are sent.
    let known = knowledge(state, kind, page.jobs.iter().map(|job| &job.id)).await.unwrap_or_default();
    let mut answered = 0;
    let mut changed = Vec::new();
    let (moment, now) = (clock::moment(), tokio::time::Instant::now());
    {
        let mut schedule = state.schedule();
        for (job, knowledge) in page.jobs.iter().zip(known) {
            let JobKnowledge::Watch(number) = knowledge else { continue };
            let mut answer = job.answer.clone();
            answer.kind = state.source.recorded(kind);
            answer.wall_ahead = moment.skew();
            let random = rand::random();
            match schedule.listed(number, &answer, job.has_finished(), sent, now, random) {
                Evidence::None => {}
                Evidence::Finished => answered += 1,
                Evidence::Running { is_new } => {
                    answered += 1;
                    if is_new {
                        let polls = schedule.entry(number).map_or(0, |(entry, _)| u64::from(entry.polls));
                        changed.push((number, answer, polls));
                    }
                }
            }
        }
    }
    state.lists.lock_stats().answered += answered as u64;
    let name = [state.source.name.as_str()];
    state.metrics.list_answers.with_label_values(&name).inc_by(answered as u64);
    let recorded = changed.into_iter().map(|(number, mut answer, polls)| async move {
        answer.key_fingerprint = state.source.sent_key_fingerprint();
        state.store.record_running(number, &answer, polls, state.route(), moment.wall).await
    });
    for event in join_all(recorded).await.into_iter().flatten() {
        state.count_event(event);
    }
    state.wake();
    answered
}
