//! Whether a source may be asked at all: what it said of itself holds for all of its watches.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause after a failure; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The least pause while the key is refused: every request may count against a lockout.
const UNAUTHORIZED_PAUSE: Duration = Duration::from_secs(1);

/// What a source asks for is obeyed up to this. A longer wish is looked into once in a while.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// How a source is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It answers.
    Ok,
    /// It refuses the key.
    Unauthorized,
    /// It asks for patience.
    Limited,
    /// It does not answer, or answers 5xx.
    Failing,
}

impl State {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Unauthorized, Self::Limited, Self::Failing];

    /// The word used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unauthorized => "unauthorized",
            Self::Limited => "limited",
            Self::Failing => "failing",
        }
    }
}

/// The health of a source, with the pause that follows from it.
///
/// While it is not ok, one request at a time goes out when the pause is over: a probe. Any answer that is not
/// a failure makes it ok at once, but for a pause that the source asked for: that one is kept to its end, whatever
/// it still answers to requests that were under way.
#[derive(Debug)]
pub struct Health {
    state: State,
    failures: u32,
    paused_until: Option<Instant>,
    /// The end of the pause that the source asked for.
    asked_until: Option<Instant>,
    /// Counts the changes, so that requests sent before one cannot count as another.
    epoch: u64,
    longest: Duration,
}

impl Health {
    /// A source in good health whose pauses grow up to `longest`.
    #[must_use]
    pub fn new(longest: Duration) -> Self {
        Self {
            state: State::Ok,
            failures: 0,
            paused_until: None,
            asked_until: None,
            epoch: 0,
            longest: longest.max(UNAUTHORIZED_PAUSE),
        }
    }

    /// Keeps the patience that the source asked another one for. Of its other failures nothing is kept: what was changed may be
    /// their remedy.
    pub fn inherit(&mut self, before: &Self) {
        if before.state == State::Limited {
            *self = Self { longest: self.longest, ..*before };
        }
    }

    /// How it is doing.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// What a request sent now should be told back with.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Until when nothing is sent.
    #[must_use]
    pub fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.paused_until.filter(|until| *until > now)
    }

    /// How many requests may be under way, of `usual`.
    #[must_use]
    pub fn allowance(&self, usual: usize) -> usize {
        if self.state == State::Ok { usual } else { 1 }
    }

    /// The source answered. A probe that is answered ends the trouble.
    pub fn answered(&mut self, now: Instant) {
        if self.asked_until.is_some_and(|until| until > now) {
            return;
        }
        if self.state != State::Ok {
            self.state = State::Ok;
            self.epoch += 1;
        }
        self.failures = 0;
        self.paused_until = None;
    }

    /// The source failed a request that was sent in `epoch`. `random` lies in [0, 1).
    pub fn failed(
        &mut self,
        state: State,
        asked: Option<Duration>,
        epoch: u64,
        now: Instant,
        random: f64,
    ) -> Option<Duration> {
        // A longer wish counts, whoever brings it.
        let asked = asked.map(|asked| asked.min(MAX_RETRY_AFTER));
        if epoch != self.epoch {
            self.asked_until = self.asked_until.max(asked.map(|asked| now + asked));
            self.paused_until = self.paused_until.max(self.asked_until);
            return None;
        }
        self.epoch += 1;
        self.state = state;
        self.failures = self.failures.saturating_add(1);
        let first = if state == State::Unauthorized { UNAUTHORIZED_PAUSE } else { FIRST_PAUSE };
        let backoff = first.saturating_mul(1 << (self.failures - 1).min(16)).min(self.longest);
        let jittered = backoff.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
        // Never earlier than asked; a little later, so that many clients do not come back at once.
        let pause = asked.map_or(jittered, |asked| asked + FIRST_PAUSE.mul_f64(random.clamp(0.0, 1.0)));
        self.asked_until = self.asked_until.max(asked.map(|asked| now + asked));
        self.paused_until = self.asked_until.max(Some(now + pause));
        Some(pause)
    }

    /// The machine slept, and the pause went on meanwhile.
    pub fn slept(&mut self, by: Duration) {
        for until in [&mut self.paused_until, &mut self.asked_until] {
            *until = until.map(|until| until.checked_sub(by).unwrap_or(until));
        }
    }

    /// The reason for the pause may be gone: let one request through, unless the source asked for the pause.
    pub fn try_again(&mut self) {
        self.paused_until = self.asked_until;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn an_outage_counts_once_for_all_requests_under_way() {
        let now = Instant::now();
        let mut health = Health::new(LONGEST);
        let epoch = health.epoch();
        assert!(health.failed(State::Failing, None, epoch, now, 0.5).is_some());
        for _ in 0..30 {
            assert!(health.failed(State::Failing, None, epoch, now, 0.5).is_none());
        }
        assert!(health.paused_until(now).unwrap() - now <= FIRST_PAUSE);
        assert_eq!(health.allowance(32), 1, "one probe at a time");
        health.answered(now);
        assert_eq!((health.state(), health.allowance(32)), (State::Ok, 32));
        assert_eq!(health.paused_until(now), None);
    }

    #[tokio::test]
    async fn an_answer_does_not_cut_short_what_was_asked_for() {
        const ASKED: Duration = Duration::from_secs(60);
        let now = Instant::now();
        let mut health = Health::new(LONGEST);
        health.failed(State::Limited, Some(ASKED), 0, now, 0.0);
        health.answered(now);
        health.try_again();
        assert_eq!((health.state(), health.paused_until(now)), (State::Limited, Some(now + ASKED)));
        let later = now + ASKED;
        assert_eq!(health.paused_until(later), None);
        health.answered(later);
        assert_eq!((health.state(), health.allowance(32)), (State::Ok, 32));
        // The wish counts, too, when the trouble was known already.
        let epoch = health.epoch();
        health.failed(State::Failing, None, epoch, later, 0.0);
        health.failed(State::Limited, Some(ASKED), epoch, later, 0.0);
        health.answered(later);
        assert_eq!(health.paused_until(later), Some(later + ASKED));
    }

    #[tokio::test]
    async fn pauses_grow_up_to_the_longest() {
        let now = Instant::now();
        let mut health = Health::new(LONGEST);
        let mut last = Duration::ZERO;
        for _ in 0..200 {
            let epoch = health.epoch();
            last = health.failed(State::Failing, None, epoch, now, 0.999).unwrap();
            assert!(last <= LONGEST);
        }
        assert!(last > LONGEST.mul_f64(0.9));
    }

    #[tokio::test]
    async fn a_wish_for_patience_is_never_cut_short_but_bounded() {
        let now = Instant::now();
        for random in [0.0, 0.5, 0.999] {
            let mut health = Health::new(LONGEST);
            health.failed(State::Limited, Some(Duration::from_secs(90)), 0, now, random);
            assert!(health.paused_until(now).unwrap() >= now + Duration::from_secs(90));
        }
        let mut health = Health::new(LONGEST);
        health.failed(State::Limited, Some(Duration::MAX), 0, now, 0.0);
        assert_eq!(health.paused_until(now).unwrap(), now + MAX_RETRY_AFTER);
    }
}
