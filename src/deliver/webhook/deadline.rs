//! The deadline of an attempt.
//!
//! `timeout` limits silence: the wait for the connection, between two steps of the upload, and for
//! the whole answer after it. A large body may take longer in all, as long as it makes progress.

use std::time::Duration;

use tokio::time::Instant;

use crate::{deliver::outcome::AttemptFailure, model::delivery::ErrorClass, util::units::HumanDuration};

/// The slowest accepted upload, in bytes a second.
const SLOWEST: u64 = 128 << 10;

/// The most time that the size of a body adds.
const MOST: Duration = Duration::from_secs(60 * 60);

/// The deadline of one attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttemptDeadline {
    timeout: Duration,
    /// The time that the size of the body adds.
    added: Duration,
    end: Instant,
    moved: Instant,
}

/// Returns the time that a body of `length` bytes adds to an exchange.
fn added(length: u64) -> Duration {
    Duration::from_millis(length.saturating_mul(1000) / SLOWEST).min(MOST)
}

impl AttemptDeadline {
    /// Returns the deadline of an attempt that begins `now`.
    pub(super) fn new(timeout: Duration, length: u64, now: Instant) -> Self {
        let added = added(length);
        Self { timeout, added, end: now + timeout + added, moved: now }
    }

    /// Records progress of the upload.
    pub(super) fn moves(&mut self, now: Instant) {
        self.moved = now;
    }

    /// Returns the deadline without further progress.
    pub(super) fn until(&self) -> Instant {
        self.end.min(self.moved + self.timeout)
    }

    /// Returns the failure of an attempt past its deadline.
    pub(super) fn exceeded(&self) -> AttemptFailure {
        let silent = self.until() < self.end || self.added < Duration::from_secs(1);
        let text = match silent {
            true => format!("timed out after {}", HumanDuration(self.timeout)),
            false => format!("timed out: the receiver took less than {} KiB a second", SLOWEST >> 10),
        };
        AttemptFailure::new(ErrorClass::Timeout, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(15);

    #[test]
    fn the_time_grows_with_the_size_and_is_bounded() {
        for (length, seconds) in
            [(0, 0), (700, 0), (1 << 20, 8), (48 << 20, 384), (512 << 20, 3600), (u64::MAX, 3600)]
        {
            assert_eq!(added(length).as_secs(), seconds, "{length} bytes");
        }
    }

    #[test]
    fn what_moves_has_more_time_but_not_for_ever() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut limit = AttemptDeadline::new(TIMEOUT, 1 << 20, start);
        assert_eq!(limit.until(), start + TIMEOUT);
        assert_eq!(limit.exceeded().text, "timed out after 15s");
        limit.moves(start + 5 * second);
        assert_eq!(limit.until(), start + 20 * second);
        limit.moves(start + 22 * second);
        assert_eq!(limit.until(), start + 23 * second);
        assert_eq!(limit.exceeded().text, "timed out: the receiver took less than 128 KiB a second");
        let mut small = AttemptDeadline::new(TIMEOUT, 700, start);
        small.moves(start + second);
        assert!(
            small.until() < start + TIMEOUT + second,
            "a small event has its time-out for all of the exchange"
        );
        assert_eq!(small.exceeded().text, "timed out after 15s");
    }
}
