//! Events on their way to their sinks.
//!
//! ```text
//! couriers ─▶ courier (queue, breaker, pace) ─▶ parcel ─▶ encoding ─▶ sink ─▶ webhook (sign, guard) | disk ─▶ report ─▶ decision
//! ```

mod config;
mod couriers;
mod courier;
mod views;
mod backlog;
mod carrier;
pub mod queue;
pub mod breaker;
pub mod decision;
mod pace;
mod row;
mod limits;
mod origins;
mod tally;
mod turns;
mod metrics;
pub mod parcel;
pub mod envelope;
mod cloudevents;
pub mod body_template;
mod echo;
pub mod encoding;
mod sink;
pub mod address;
mod webhook;
mod credentials;
pub mod tls;
mod transport;
mod exchange;
mod limit;
mod upload;
pub mod sign;
mod disk;
pub mod report;
pub mod retry;

pub use carrier::Carrier;
pub use config::{
    CALLBACK_SINK, CallbackConfig, Compression, DiskConfig, Format, Method, RetryConfig, SinkConfig,
    WebhookConfig,
};
pub use courier::Courier;
pub use couriers::Couriers;
pub use disk::Disk;
pub use metrics::SinkMetrics;
pub use parcel::{Body, Parcel, Subject};
pub use report::Report;
pub use sign::check_secret;
pub use sink::{Sink, SinkError};
pub use webhook::{BadCallback, Callbacks, Webhook};
