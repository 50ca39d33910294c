//! The words of the domain: what a job is, what can become of it, and of its way to a sink. Knows nothing of the rest.

pub mod job;
pub(crate) mod delivery;
pub mod group;
pub mod notice;
pub(crate) mod sink;
pub mod status_answer;
