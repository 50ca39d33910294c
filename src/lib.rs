//! Brings word when asynchronous jobs end.
//!
//! ```text
//! caller ─▶ api ─▶ store ─▶ schedule ─▶ poll ─▶ fetch ─▶ fanout ─▶ deliver ─▶ webhook | disk
//!                    ▲__________|_________|________|________|_________|
//! ```

pub mod api;
pub mod deliver;
pub mod fanout;
pub mod schedule;
pub mod store;
pub mod upstream;

pub mod cli;

pub mod clock;
pub mod config;
pub mod job;
pub mod secret;
pub mod telemetry;
pub mod units;

pub mod mock;
