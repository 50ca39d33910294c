//! Brings word when asynchronous jobs end.
//!
//! ```text
//! caller ─▶ api ─▶ store ─▶ schedule ─▶ follow ─▶ poll ─▶ fetch ─▶ fanout ─▶ deliver ─▶ webhook | disk
//!                    ▲__________|__________|________|________|________|_________|
//! ```
//!
//! A caller hands a job id to the [`api`]; the [`store`] makes it a durable watch. For each source a task
//! ([`follow`]) asks its [`schedule`] which watch is due: a due watch is looked at ([`poll`], through the client
//! in [`upstream`]), one whose end was seen is fetched into the spool ([`fetch`]). The finished job becomes one
//! event with its deliveries ([`fanout`] says to which sinks), and each sink's queue ([`deliver`]) hands it over.
//! Stages talk through records of the store; what they tell each other directly is only a wake-up.

pub mod api;
pub mod proxy;
pub mod store;
pub mod schedule;
pub mod follow;
pub mod upstream;
pub mod poll;
pub mod fetch;
pub mod fanout;
pub mod deliver;

pub mod app;
pub mod wiring;
pub mod stages;
pub mod reload;
pub mod config_watch;
pub mod cli;
pub mod lifecycle;
pub mod process;

pub mod budget;
pub mod clock;
pub mod config;
pub mod due_queue;
pub mod foreign;
pub mod glob;
pub mod http_client;
pub mod http_date;
pub mod job;
pub mod json_scan;
pub mod path_segment;
pub mod recent;
pub mod redact;
pub mod remember;
pub mod retry_after;
pub mod secret;
pub mod telemetry;
pub mod timekeeper;
pub mod units;
pub mod waiters;

pub mod simulate;
pub mod mock;
