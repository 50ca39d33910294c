//! Simulates polling policies against known durations, with the policy code of the program and
//! without a network.
//!
//! This room stands aside: only the command line imports it, and of the daemon it knows only
//! `schedule::learned`.

pub mod distribution;
pub mod random;
pub mod truth;
pub mod optimum;
pub mod policies;
pub mod fleet;
pub mod compare;
pub mod budget;
pub mod phases;
pub mod drift;
pub mod table;
pub mod durations;
pub mod study;
pub mod plot;
pub mod tables;

#[cfg(test)]
mod tests;
