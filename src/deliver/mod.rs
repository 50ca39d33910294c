//! Events on their way to their sinks.

mod config;

pub use config::{
    CALLBACK_SINK, CallbackConfig, Compression, DiskConfig, Format, RetryConfig, SinkConfig, WebhookConfig,
};
