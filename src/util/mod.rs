//! Helpers that any room may use: clocks, durations, secrets, HTTP clients, JSON, line charts. They must not know jobs, sources or sinks.

pub(crate) mod budget;
pub mod chart;
pub mod clock;
pub mod composite;
pub(crate) mod delays;
pub(crate) mod due_queue;
pub mod foreign;
pub(crate) mod glob;
pub(crate) mod hop_by_hop;
pub mod http_client;
pub(crate) mod http_date;
pub(crate) mod json_slice;
pub mod listen;
pub(crate) mod panic;
pub(crate) mod path_segment;
pub mod process;
pub(crate) mod redact;
pub(crate) mod retry_after;
pub mod secret;
pub mod term;
pub mod units;
pub(crate) mod waiters;
