//! Brings word when asynchronous jobs end.
//!
//! ```text
//! caller ─▶ api ─▶ store ─▶ schedule ─▶ follow ─▶ poll ─▶ fetch ─▶ fanout ─▶ deliver ─▶ webhook | disk
//!                    ▲__________|__________|________|________|________|_________|
//! ```
//!
//! A caller hands a job id to the [`api`]; the [`store`] makes it a durable watch. For each source a task
//! ([`follow`]) asks its [`schedule`] which watch is due: a due watch is polled ([`watcher::poll`], through the client
//! in [`upstream`]), one whose end was seen is fetched into the spool ([`watcher::fetch`]). The finished job becomes one
//! event with its deliveries ([`routing`] says to which sinks), and each sink's queue ([`deliver`]) hands it over.
//! Stages talk through records of the store; what they tell each other directly is only a wake-up.

pub mod cli;
pub mod app;
pub mod proxy;
pub mod api;
pub mod state;
pub mod config;
pub mod watcher;
pub mod routing;
pub mod upstream;
pub mod deliver;
pub mod schedule;
pub mod store;
pub mod telemetry;
pub mod model;
pub mod util;

pub mod simulate;
pub mod mock;
