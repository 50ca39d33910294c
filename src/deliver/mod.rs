//! Events on their way to their sinks.
//!
//! ```text
//! couriers ─▶ courier (a queue a sink) ─▶ parcel ─▶ envelope ─▶ sink ─▶ webhook (sign, guard) | disk ─▶ report ─▶ retry
//! ```

mod config;
mod couriers;
mod courier;
pub mod parcel;
pub mod envelope;
mod sink;
mod webhook;
mod credentials;
pub mod tls;
mod transport;
mod exchange;
pub mod sign;
pub mod guard;
mod disk;
pub mod report;
pub mod retry;

pub use config::{
    CALLBACK_SINK, CallbackConfig, Compression, DiskConfig, Format, RetryConfig, SinkConfig, WebhookConfig,
};
pub use courier::Courier;
pub use couriers::{Carrier, Couriers};
pub use parcel::{Body, Parcel, Subject};
pub use report::{ErrorClass, Report};
pub use sign::check_secret;
pub use sink::{Sink, SinkError};
pub use webhook::{BadCallback, Callbacks, Webhook};
