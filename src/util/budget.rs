//! The request budget of a source or a sink: a token bucket.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket that refills continuously. It holds at most the tokens of a tenth of a second,
/// and at least one, so that a burst after an outage or a restart stays close to the rate.
#[derive(Clone, Debug)]
pub struct Budget {
    /// The configured rate, in requests per second.
    full: f64,
    /// The present rate, in requests per second: lower while the source asks for less.
    rate: f64,
    capacity: f64,
    tokens: f64,
    refilled: Instant,
    /// The last time at which the rate shrank.
    shrunk: Option<Instant>,
    /// Recent requests: each counts as one at first, and fades over [`LATELY`].
    lately: f64,
}

/// The time that a smaller rate holds before it may shrink again.
const ONCE: Duration = Duration::from_secs(5);
/// The share of the rate that is left when it shrinks.
const SHRINK: f64 = 0.7;
/// The least share of the configured rate.
const LEAST: f64 = 0.05;
/// The share of the configured rate that comes back each second: 5 % in ten seconds.
const GROWTH: f64 = 0.005;
/// The seconds over which the use is averaged.
const LATELY: f64 = 10.0;

impl Budget {
    /// Returns a full bucket. `rate` is in requests per second and positive.
    #[must_use]
    pub fn new(rate: f64, now: Instant) -> Self {
        let capacity = (rate / 10.0).max(1.0);
        Self { full: rate, rate, capacity, tokens: capacity, refilled: now, shrunk: None, lately: 0.0 }
    }

    /// Takes out all tokens.
    pub(crate) fn empty(&mut self, now: Instant) {
        self.refill(now);
        self.tokens = 0.0;
    }

    /// Takes a token.
    ///
    /// # Errors
    /// The time of the next token, if the bucket has none.
    pub fn take(&mut self, now: Instant) -> Result<(), Instant> {
        self.take_beside(0, now)
    }

    /// Takes a token, and leaves one for each of `others`.
    ///
    /// # Errors
    /// The time at which that is possible if nothing is taken before. More tokens than the bucket
    /// holds are possible only after the others took theirs.
    pub fn take_beside(&mut self, others: usize, now: Instant) -> Result<(), Instant> {
        #[expect(clippy::cast_precision_loss, reason = "a count")]
        self.holds(others as f64 + 1.0, now)?;
        self.tokens -= 1.0;
        self.lately += 1.0;
        Ok(())
    }

    /// Returns whether the bucket holds so many tokens.
    ///
    /// # Errors
    /// The time at which it does.
    fn holds(&mut self, tokens: f64, now: Instant) -> Result<(), Instant> {
        self.refill(now);
        if self.tokens >= tokens {
            return Ok(());
        }
        let missing = Duration::from_secs_f64((tokens - self.tokens) / self.rate);
        // A timer may fire slightly early. One microsecond more saves an empty round.
        Err(now + missing + Duration::from_micros(1))
    }

    /// Pays for requests that were sent without a token. Later requests wait for them.
    pub(crate) fn pay(&mut self, requests: u32, now: Instant) {
        self.refill(now);
        self.tokens -= f64::from(requests);
        self.lately += f64::from(requests);
    }

    /// Returns a token that was not needed.
    pub(crate) fn refund(&mut self) {
        self.tokens = (self.tokens + 1.0).min(self.capacity);
        self.lately = (self.lately - 1.0).max(0.0);
    }

    /// Takes a token, and leaves another one in a bucket that holds more than one.
    ///
    /// # Errors
    /// The time at which that is possible.
    pub(crate) fn take_spare(&mut self, now: Instant) -> Result<(), Instant> {
        self.holds(self.capacity.min(2.0), now)?;
        self.take(now)
    }

    /// Shrinks the rate because the other side asks for less. It grows back by itself. Within five
    /// seconds the rate shrinks only once.
    pub(crate) fn shrink(&mut self, now: Instant) {
        self.refill(now);
        if self.shrunk.is_some_and(|at| now < at + ONCE) {
            return;
        }
        self.shrunk = Some(now);
        self.rate = (self.rate * SHRINK).max(self.full * LEAST);
    }

    /// Restores the configured rate: the other side did not ask for less after all.
    pub fn restore(&mut self, now: Instant) {
        self.refill(now);
        self.rate = self.full;
    }

    /// Changes the configured rate. The bucket gets no new tokens by it, and a rate that shrank stays
    /// as much smaller.
    pub(crate) fn set_rate(&mut self, rate: f64, now: Instant) {
        self.refill(now);
        self.rate = self.rate / self.full * rate;
        self.full = rate;
        self.capacity = (rate / 10.0).max(1.0);
        self.tokens = self.tokens.min(self.capacity);
    }

    /// Continues for another bucket as well: it has no more tokens than that one has, and its rate
    /// shrank by as much.
    pub(crate) fn absorb(&mut self, other: &Self, now: Instant) {
        self.refill(now);
        let elapsed = now.saturating_duration_since(other.refilled).as_secs_f64();
        self.tokens = self.tokens.min(other.tokens + elapsed * other.rate);
        self.rate = self.rate.min(other.rate / other.full * self.full);
        self.lately = self.lately.max(other.lately);
    }

    /// Returns the configured rate in requests per second.
    #[must_use]
    pub(crate) fn full(&self) -> f64 {
        self.full
    }

    /// Returns the present rate in requests per second, and the share of it that was used recently
    /// (0 to 1).
    #[must_use]
    pub(crate) fn in_use(&self, now: Instant) -> (f64, f64) {
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        let rate = (self.rate + elapsed * self.full * GROWTH).min(self.full);
        (rate, (self.lately * (-elapsed / LATELY).exp() / LATELY / rate).min(1.0))
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.rate).min(self.capacity);
        self.rate = (self.rate + elapsed * self.full * GROWTH).min(self.full);
        self.lately *= (-elapsed / LATELY).exp();
        self.refilled = self.refilled.max(now);
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
            budget.take(at).unwrap();
        }

        #[test]
        fn a_spare_token_leaves_one_for_the_next(rate in 20.0..500.0f64) {
            let now = Instant::now();
            let mut budget = Budget::new(rate, now);
            let at = loop { if let Err(at) = budget.take_spare(now) { break at; } };
            budget.take(now).unwrap();
            budget.take_spare(at).unwrap_err();
            let later = budget.take_spare(at).unwrap_err();
            budget.take_spare(later).unwrap();
        }
    }

    #[test]
    fn a_change_of_the_rate_grants_no_new_tokens() {
        let start = Instant::now();
        let mut budget = Budget::new(10.0, start);
        budget.take(start).unwrap();
        budget.set_rate(1000.0, start);
        budget.take(start).unwrap_err();
        let mut other = Budget::new(1000.0, start);
        other.absorb(&budget, start + Duration::from_millis(5));
        assert_eq!((0..100).take_while(|_| other.take(start).is_ok()).count(), 5);
        budget.shrink(start);
        budget.set_rate(10.0, start);
        assert!((budget.in_use(start).0 - 7.0).abs() < 1e-9);
    }

    #[test]
    fn requests_without_a_token_are_paid_later() {
        let start = Instant::now();
        let mut budget = Budget::new(10.0, start);
        budget.take(start).unwrap();
        budget.pay(5, start);
        let wait = budget.take(start).unwrap_err() - start;
        assert!((wait.as_secs_f64() - 0.6).abs() < 1e-4, "{wait:?}");
    }

    #[test]
    fn a_shrunken_rate_grows_back() {
        let start = Instant::now();
        let mut budget = Budget::new(100.0, start);
        for _ in 0..20 {
            budget.shrink(start);
        }
        assert!((budget.in_use(start).0 - 70.0).abs() < 1e-9, "it counts once");
        budget.rate = 5.0;
        let mut taken = 0;
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        assert!((budget.in_use(after(10)).0 - 10.0).abs() < 1e-9);
        for tick in 0..1000_u32 {
            while budget.take(start + Duration::from_millis(10) * tick).is_ok() {
                taken += 1;
            }
        }
        assert!((60..=90).contains(&taken), "{taken} in ten seconds at 5 to 10 a second and a burst of 10");
        let (rate, share) = budget.in_use(after(10));
        assert!((9.9..10.1).contains(&rate) && (0.4..=1.0).contains(&share), "{rate} {share}");
        assert!((budget.in_use(after(1000)).0 - 100.0).abs() < 1e-9);
    }
}
