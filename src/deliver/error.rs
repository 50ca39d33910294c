//! The error of a sink whose configuration cannot be used.

/// A key of a sink that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("sinks.{sink}.{key}: {reason}")]
pub struct SinkError {
    /// The sink's name.
    pub sink: String,
    /// The key below the sink.
    pub key: &'static str,
    /// The reason, without secrets.
    pub reason: String,
}

impl SinkError {
    pub(super) fn new(sink: &str, key: &'static str, reason: impl Into<String>) -> Self {
        Self { sink: sink.to_owned(), key, reason: reason.into() }
    }
}
