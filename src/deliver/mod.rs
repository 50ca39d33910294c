//! Delivering: takes an event to each of its sinks, until the sink took it or the delivery is a
//! dead letter.
//!
//! ```text
//! worker ─▶ queue (what is due, breaker, pace) ─▶ message ─▶ encode ─▶ webhook | disk ─▶ outcome ─▶ queue::decision
//! ```
//!
//! This room knows the store's records of events and deliveries. It must not know sources,
//! schedules, the HTTP API and its views.

mod config;
mod dead_letters;
mod error;
pub(crate) mod worker;
pub(crate) mod queue;
mod sink;
pub mod webhook;
mod disk;
pub mod encode;
mod metrics;
mod outcome;
mod message;

pub use config::{
    CALLBACK_SINK, CallbackConfig, Compression, DiskConfig, Format, Method, RetryConfig, SinkConfig,
    WebhookConfig,
};
pub use dead_letters::{DeadCount, DeadLetter, DeadLetters};
pub use disk::Disk;
pub use error::SinkError;
pub use message::{Body, Message, Subject};
pub use metrics::SinkMetrics;
pub use outcome::AttemptOutcome;
pub use sink::Sink;
pub use webhook::{BadCallback, Callbacks, Webhook, sign::check_secret};
pub use worker::{SinkWorker, sinks::Sinks, target::Target};
