//! Simulates polling policies against known durations, with the policy code of the program and
//! without a network.
//!
//! This room stands aside: only the command line imports it, and of the daemon it knows only
//! `schedule::learned`.

pub mod distribution;
pub mod random;
pub mod truth;
pub(crate) mod optimum;
pub(crate) mod policies;
pub mod fleet;
pub(crate) mod compare;
pub(crate) mod budget;
pub(crate) mod phases;
pub(crate) mod drift;
pub mod hooks;
pub(crate) mod table;
pub(crate) mod durations;
pub(crate) mod study;
pub(crate) mod plot;
pub(crate) mod tables;

#[cfg(test)]
mod tests;
