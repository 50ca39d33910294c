//! What polling policies cost, without a network: the policy code of the program against known durations.

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
