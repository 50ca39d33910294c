//! The vocabulary of jobs: ids, kinds, outcomes, runs, events and the phases of a watch. Pure.

mod event;
mod id;
mod kind;
mod outcome;
mod phase;
mod run;

pub use self::{
    event::{EventType, NoSuchEvent, Progress, event_id, group_event_id, notice_id, progress_id},
    id::{BadJobId, JobId, MAX_JOB_ID},
    kind::Kind,
    outcome::Outcome,
    phase::Phase,
    run::Run,
};

#[cfg(test)]
mod tests;
