//! Polling that learns: when to look next at a job, from how long jobs of its kind have taken.
//!
//! A job is looked at when the time for which a finished result would already have been waiting, in the mean, reaches
//! θ seconds. Pure: observations and the time go in, the next look comes out; the randomness is an argument.

pub mod bins;
pub mod clock;
pub mod counts;
pub mod curve;
pub mod decide;
pub mod forecast;
pub mod hazard;
pub mod kind;
pub mod levels;
pub mod model;
pub mod save;

#[cfg(test)]
mod tests;
