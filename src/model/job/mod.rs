//! The vocabulary of jobs: ids, outcomes, runs, events and the phases of a watch. Pure.

mod event;
mod id;
mod outcome;
mod phase;
mod run;

pub use self::{
    event::{EventType, NoSuchEvent, Progress, event_id, progress_id},
    id::{BadJobId, JobId, MAX_JOB_ID},
    outcome::Outcome,
    phase::Phase,
    run::Run,
};

#[cfg(test)]
mod tests;
