//! How many requests a source, or a sink, may be sent: a token bucket.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket that refills continuously. It holds a tenth of a second's worth of tokens at the most (and one
/// at the least), so that a burst after an outage or a restart stays close to the rate.
#[derive(Debug)]
pub struct Budget {
    rate: f64,
    capacity: f64,
    tokens: f64,
    refilled: Instant,
}

impl Budget {
    /// A full bucket. `rate` is in requests per second and positive.
    #[must_use]
    pub fn new(rate: f64, now: Instant) -> Self {
        let capacity = (rate / 10.0).max(1.0);
        Self { rate, capacity, tokens: capacity, refilled: now }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// When there is none: the time at which there will be.
    pub fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.rate).min(self.capacity);
        self.refilled = self.refilled.max(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let missing = Duration::from_secs_f64((1.0 - self.tokens) / self.rate);
        // A timer may fire a hair early; a microsecond more saves an empty round.
        Err(now + missing + Duration::from_micros(1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_stretch_of_time_stays_within_rate_and_burst(
            rate in 0.1..500.0f64, gaps in prop::collection::vec(0u64..400, 1..400),
        ) {
            let start = Instant::now();
            let mut budget = Budget::new(rate, start);
            let burst = (rate / 10.0).max(1.0);
            // How far the requests are ahead of the rate, over the stretch that ends now and is worst.
            let (mut ahead, mut now, mut last) = (0.0_f64, start, start);
            for gap in gaps {
                now += Duration::from_millis(gap);
                while budget.take(now).is_ok() {
                    ahead = (ahead - (now - last).as_secs_f64() * rate).max(0.0) + 1.0;
                    last = now;
                    prop_assert!(ahead <= burst + 1e-6, "{ahead} over a burst of {burst}");
                }
            }
        }

        #[test]
        fn the_promised_time_holds(rate in 0.1..500.0f64) {
            let now = Instant::now();
            let mut budget = Budget::new(rate, now);
            let at = loop { if let Err(at) = budget.take(now) { break at; } };
            prop_assert!(budget.take(at).is_ok());
        }
    }
}
