//! Whether a source may be asked at all: what it said of itself holds for all of its watches.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

/// The first pause after a failure; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The least pause while the key is refused: every request may count against a lockout.
const UNAUTHORIZED_PAUSE: Duration = Duration::from_secs(1);

/// What a source asks for is obeyed up to this. A longer wish is looked into once in a while.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// A shorter wait that is asked for is as good as none: then the growing pause holds.
const SHORTEST_WISH: Duration = Duration::from_secs(1);

/// How a source is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthState {
    /// It answers.
    Ok,
    /// It refuses the key.
    Unauthorized,
    /// It asks for patience.
    Limited,
    /// It does not answer, or answers 5xx.
    Failing,
}

impl HealthState {
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

/// Further jobs that are asked one after another because of that, and have to fail in the same way, before the source is to
/// blame: jobs that fail come in crowds, and one witness may be of the crowd.
const WITNESSES: usize = 3;

/// Different jobs that have to fail in the same way, without a good answer between, before the source is doubted.
const DOUBTERS: usize = 3;

/// Jobs that have to be limited again, while others are answered, before limits count as those of single jobs.
const LIMITED: usize = 2;

/// How long no job may have been answered before a source is shown as failing whose jobs all fail for their own reasons.
const SILENCE: Duration = Duration::from_secs(10);

/// Good answers of which each is remembered.
const ANSWERS: usize = 64;

/// What one request says of its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceSign {
    /// It answered about the job.
    Well,
    /// It answered, and could not say anything about the job.
    Heard,
    /// It may be in this state, and ask for a wait: believed once enough jobs say so.
    Suspect(HealthState, Option<Duration>),
    /// It is in this state, and may have asked for a wait.
    Ill(HealthState, Option<Duration>),
    /// It limits this job again, although it answered about others meanwhile.
    OwnLimit,
    /// Nothing: no request was made.
    Silent,
}

/// One request: which job it was for, when it was sent and answered.
#[derive(Clone, Copy, Debug)]
pub struct RequestTimes {
    /// The number of the watch.
    pub number: u64,
    /// When it was sent.
    pub sent: Instant,
    /// When it was answered or failed.
    pub now: Instant,
}

/// The health of a source, with the pause that follows from it.
///
/// While it is not ok, one request goes out at the end of each pause: a probe, of a different job each time. Any answer
/// to a request that was sent after the failure makes it ok at once. A wait that the source asked for is kept to its end,
/// unless a request that was sent meanwhile, on somebody's word, is answered.
#[derive(Debug)]
pub struct Health {
    state: HealthState,
    failures: u32,
    /// The pause that the next probe is followed by.
    pause: Duration,
    paused_until: Option<Instant>,
    /// The end of the pause that the source asked for.
    asked_until: Option<Instant>,
    /// When the state or the pause changed: requests from before do not count as another failure.
    changed: Option<Instant>,
    /// Jobs whose last requests brought a sign of this state, and no other request a good answer since.
    suspects: (HealthState, Vec<u64>),
    /// The job that is asked because the source is doubted: its word decides.
    witness: Option<u64>,
    /// Jobs that failed for their own reasons since the last good answer, and since when.
    own_failures: (Vec<u64>, Option<Instant>),
    /// The first jobs that were limited again while others were answered. None, once a limited job was answered.
    own_limits: Vec<u64>,
    /// The last answer of any kind.
    heard: Option<Instant>,
    /// The last good answers, newest last.
    well: VecDeque<(Instant, u64)>,
    longest: Duration,
}

impl Health {
    /// A source in good health whose pauses grow up to `longest`.
    #[must_use]
    pub fn new(longest: Duration) -> Self {
        Self {
            state: HealthState::Ok,
            failures: 0,
            pause: Duration::ZERO,
            paused_until: None,
            asked_until: None,
            changed: None,
            suspects: (HealthState::Ok, Vec::new()),
            witness: None,
            own_failures: (Vec::new(), None),
            own_limits: Vec::new(),
            heard: None,
            well: VecDeque::new(),
            longest: longest.max(UNAUTHORIZED_PAUSE),
        }
    }

    /// Keeps the wait that the source asked a predecessor for. Of its other failures nothing is kept: what was changed may
    /// be their remedy.
    pub fn inherit(&mut self, before: &Self) {
        if before.state == HealthState::Limited {
            self.state = before.state;
            (self.failures, self.pause) = (before.failures, before.pause);
            (self.paused_until, self.asked_until) = (before.paused_until, before.asked_until);
            self.changed = before.changed;
        }
    }

    /// Returns the state that decides what is sent.
    #[must_use]
    pub fn state(&self) -> HealthState {
        self.state
    }

    /// Returns the state to show: also failing while every job that is asked fails for its own reasons.
    #[must_use]
    pub fn shown(&self, open: usize, now: Instant) -> HealthState {
        let (jobs, since) = &self.own_failures;
        let is_silent = since.is_some_and(|since| now.saturating_duration_since(since) >= SILENCE);
        let all_fail = is_silent && jobs.len() >= DOUBTERS.min(open.max(1));
        if self.state == HealthState::Ok && all_fail { HealthState::Failing } else { self.state }
    }

    /// Returns the jobs by which the source is doubted, while one more is to be asked to know.
    #[must_use]
    pub fn doubters(&self) -> Option<&[u64]> {
        let doubters = &self.suspects.1;
        let is_doubted =
            self.state == HealthState::Ok && doubters.len() >= DOUBTERS && self.witness.is_none();
        is_doubted.then_some(doubters)
    }

    /// Records which job is asked because the source is doubted.
    pub fn call_witness(&mut self, number: u64) {
        self.witness = Some(number);
    }

    /// Records that the request for a job has ended, whatever came of it.
    pub fn dismiss(&mut self, number: u64) {
        self.witness = self.witness.filter(|witness| *witness != number);
    }

    /// Returns until when nothing is sent.
    #[must_use]
    pub fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.paused_until.filter(|until| *until > now)
    }

    /// Returns until when the source asked for silence.
    #[must_use]
    pub fn asked_until(&self, now: Instant) -> Option<Instant> {
        self.asked_until.filter(|until| *until > now)
    }

    /// Returns whether limits are those of single jobs here, so that one more says nothing of the source.
    #[must_use]
    pub fn limits_are_own(&self) -> bool {
        self.own_limits.len() >= LIMITED
    }

    /// Records that a job was answered that had been limited: it was the source's limit.
    pub fn limit_passed(&mut self) {
        self.own_limits.clear();
    }

    /// Returns whether any answer came at or after a time.
    #[must_use]
    pub fn was_heard_since(&self, since: Instant) -> bool {
        self.heard.is_some_and(|heard| heard >= since)
    }

    /// Returns whether another job was answered well at or after a time.
    #[must_use]
    pub fn was_well_since(&self, since: Instant) -> bool {
        self.well.back().is_some_and(|(at, _)| *at >= since)
    }

    /// Returns how many jobs were answered well since a time, as far as is remembered.
    #[must_use]
    pub fn well_since(&self, since: Instant) -> usize {
        let jobs: BTreeSet<u64> =
            self.well.iter().filter(|(at, _)| *at >= since).map(|(_, number)| *number).collect();
        jobs.len()
    }

    /// Records that a probe goes out: the next one follows after the pause, whether this one is answered by then or not.
    pub fn probed(&mut self, now: Instant) {
        self.paused_until = self.paused_until.max(Some(now + self.pause.max(FIRST_PAUSE)));
    }

    /// Records what a request says of the source, which has `open` watches. `random` lies in [0, 1). Returns the pause that
    /// begins with it.
    pub fn record(
        &mut self,
        request: RequestTimes,
        sign: SourceSign,
        open: usize,
        random: f64,
    ) -> Option<Duration> {
        match sign {
            SourceSign::Silent => None,
            SourceSign::OwnLimit => {
                note(&mut self.own_limits, request.number);
                None
            }
            SourceSign::Well => {
                self.heard(request, true);
                self.own_failures = (Vec::new(), None);
                if self.well.len() == ANSWERS {
                    self.well.pop_front();
                }
                self.well.push_back((request.now, request.number));
                None
            }
            SourceSign::Heard => {
                self.heard(request, false);
                let (jobs, since) = &mut self.own_failures;
                note(jobs, request.number);
                since.get_or_insert(request.now);
                None
            }
            SourceSign::Suspect(state, asked) => {
                // A refusal is an answer, too: the connection works again.
                if self.state == HealthState::Failing && state != HealthState::Failing {
                    self.recover(request.now);
                }
                if !self.suspect(request, state, open) {
                    return None;
                }
                if state == HealthState::Limited && self.state != state {
                    self.limit_passed();
                }
                self.failed(request, state, asked, random)
            }
            SourceSign::Ill(state, asked) => self.failed(request, state, asked, random),
        }
    }

    /// Returns whether enough different jobs brought a sign of `state`, with no answer since this one was asked.
    fn suspect(&mut self, request: RequestTimes, state: HealthState, open: usize) -> bool {
        if self.was_heard_since(request.sent) {
            return false;
        }
        if self.suspects.0 != state {
            self.suspects = (state, Vec::new());
        }
        if self.witness == Some(request.number) && self.suspects.1.len() >= DOUBTERS {
            self.suspects.1.push(request.number);
        } else {
            note(&mut self.suspects.1, request.number);
        }
        // All that are open, or one that was asked after several others had raised the doubt.
        let is_witnessed = self.suspects.1.len() >= DOUBTERS + WITNESSES;
        self.state == state || is_witnessed || self.suspects.1.len() >= open
    }

    fn heard(&mut self, request: RequestTimes, is_well: bool) {
        self.heard = Some(request.now);
        self.suspects.1.clear();
        let is_from_before = self.changed.is_some_and(|changed| request.sent < changed);
        let holds = match self.state {
            HealthState::Ok | HealthState::Failing => false,
            HealthState::Unauthorized | HealthState::Limited => is_from_before,
        };
        let is_asked = self.asked_until(request.now).is_some() && (is_from_before || !is_well);
        if !holds && !is_asked {
            self.recover(request.now);
        }
    }

    fn recover(&mut self, now: Instant) {
        if self.state != HealthState::Ok {
            self.changed = Some(now);
        }
        self.state = HealthState::Ok;
        self.failures = 0;
        self.paused_until = None;
        self.asked_until = None;
    }

    fn failed(
        &mut self,
        request: RequestTimes,
        state: HealthState,
        asked: Option<Duration>,
        random: f64,
    ) -> Option<Duration> {
        let now = request.now;
        let asked = asked.map(|asked| asked.min(MAX_RETRY_AFTER));
        self.asked_until = self.asked_until.max(asked.map(|asked| now + asked));
        // An outage counts once for all requests in flight; a longer wish counts, whoever brings it.
        if self.state != HealthState::Ok && self.changed.is_some_and(|changed| request.sent < changed) {
            self.paused_until = self.paused_until.max(self.asked_until);
            return None;
        }
        self.state = state;
        self.changed = Some(now);
        self.failures = self.failures.saturating_add(1);
        let first = if state == HealthState::Unauthorized { UNAUTHORIZED_PAUSE } else { FIRST_PAUSE };
        let backoff = first.saturating_mul(1 << (self.failures - 1).min(16)).min(self.longest);
        self.pause = backoff.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
        // Never earlier than asked; a little later, so that many clients do not come back at once.
        let pause = match asked {
            Some(asked) if asked >= SHORTEST_WISH => asked + FIRST_PAUSE.mul_f64(random.clamp(0.0, 1.0)),
            asked => self.pause.max(asked.unwrap_or_default()),
        };
        self.paused_until = self.asked_until.max(Some(now + pause));
        Some(pause)
    }

    /// The machine slept, and the pause went on meanwhile.
    pub fn slept(&mut self, by: Duration) {
        for until in [&mut self.paused_until, &mut self.asked_until] {
            *until = until.map(|until| until.checked_sub(by).unwrap_or(until));
        }
    }

    /// Lets one request through, since the reason for the pause may be gone; unless the source asked for the pause.
    pub fn try_again(&mut self) {
        self.paused_until = self.asked_until;
    }
}

/// Adds a job to the first few different ones.
fn note(jobs: &mut Vec<u64>, number: u64) {
    if jobs.len() < DOUBTERS && !jobs.contains(&number) {
        jobs.push(number);
    }
}

#[cfg(test)]
mod tests;
