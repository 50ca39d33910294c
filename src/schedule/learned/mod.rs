//! Learned polling: when to poll a job next, by how long jobs of its kind have taken.
//!
//! A job is polled when a finished result would already have been waiting for θ seconds on average.
//! Pure: observations, time and randomness are arguments.

pub(crate) mod bins;
pub(crate) mod clock;
pub(crate) mod counts;
pub(crate) mod curve;
pub mod decide;
pub mod forecast;
pub(crate) mod hazard;
pub(in crate::schedule) mod index;
pub mod kind;
pub mod levels;
pub mod model;
pub mod reliability;
pub(crate) mod save;

#[cfg(test)]
mod tests;
