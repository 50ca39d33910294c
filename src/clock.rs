//! The wall clock, for what is persisted or shown. Waits use `tokio::time`, which never jumps.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::units::Time;

/// The present instant.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Time {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
