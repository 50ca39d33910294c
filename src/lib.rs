//! Tells your systems when asynchronous jobs finish.
//!
//! ```text
//! caller ─▶ api ─▶ store ─▶ schedule ─▶ watcher ─▶ upstream ─▶ routing ─▶ deliver ─▶ webhook | disk
//!                    ▲__________|___________|__________________________________|
//! ```
//!
//! A caller registers a job id with the [`api`], and the [`store`] makes it a durable watch. Each source has a task in
//! [`watcher`]. The task asks its [`schedule`] which watch is due, polls the watch through [`upstream`], and fetches the
//! finished job into the spool. The finished job becomes one event, [`routing`] chooses its sinks, and the workers in
//! [`deliver`] send it. Tasks exchange records of the store; what they send each other directly is only a wake-up.

pub mod cli;
pub mod app;
pub(crate) mod proxy;
pub mod api;
pub mod state;
pub mod config;
pub(crate) mod watcher;
pub(crate) mod routing;
pub mod upstream;
pub mod deliver;
pub mod schedule;
pub mod store;
pub mod telemetry;
pub mod model;
pub mod util;

pub mod simulate;
pub mod mock;
