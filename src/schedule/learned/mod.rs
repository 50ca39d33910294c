//! Learned polling: when to poll a job next, by how long jobs of its kind have taken.
//!
//! A job is polled when a finished result would already have been waiting for θ seconds on average.
//! Pure: observations, time and randomness are arguments.

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
