//! Helpers that know nothing of jobs, sources or sinks.

pub mod budget;
pub mod clock;
pub mod due_queue;
pub mod foreign;
pub mod glob;
pub mod http_client;
pub mod http_date;
pub mod json_slice;
pub mod listen;
pub mod panic;
pub mod path_segment;
pub mod process;
pub mod redact;
pub mod retry_after;
pub mod secret;
pub mod units;
pub mod waiters;
