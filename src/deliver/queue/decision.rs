//! The meaning of an attempt for its delivery and for the sink. Pure, and the only place that makes
//! a dead letter.
//!
//! | the outcome | the delivery | the sink |
//! | --- | --- | --- |
//! | 2xx | delivered | works |
//! | 410, 413 without `Retry-After` | dead letter | answers, refuses this event |
//! | 400, 409, 413, 415, 422 | next step | answers, refuses this event |
//! | 429 with `Retry-After` | deferred, no step | overloaded, silent for that long |
//! | 503, 529 with `Retry-After` while it takes no others | next step, not before | overloaded, silent for that long |
//! | 429, 503, 529 while it takes others | deferred, no step | overloaded |
//! | 429, 503, 529 otherwise | next step | fails |
//! | any other answer, no answer | next step | fails, unless it took others since this delivery last failed |
//! | the event cannot be read or encoded | next step, or a dead letter if the record is gone | nothing |

use std::time::Duration;

use crate::{
    deliver::{
        config::RetryConfig,
        outcome::{AttemptOutcome, AttemptResult},
        queue::retry::{defer, next_attempt},
    },
    model::delivery::ErrorClass,
    store::AttemptVerdict,
    util::units::Time,
};

/// Attempts in a row that may fail by overload without using a step of the schedule.
const MAX_SPARED: u32 = 8;

/// The total of deferred waits after which every attempt uses a step.
const MAX_SPARED_FOR: Duration = Duration::from_hours(24);

/// Overload failures in a row after which the event is to blame, if the sink takes others.
const OWN_OVERLOAD: u32 = 3;

/// The history of a delivery when its attempt ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Steps of the schedule that it has used.
    pub step: u32,
    /// Attempts in a row that used no step.
    pub spared: u32,
    /// The total wait after attempts that used no step.
    pub spared_for: Duration,
    /// Whether the sink took another event since this delivery last failed.
    pub passed_by: bool,
}

/// What an attempt says about the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkSignal {
    /// The sink took the event.
    Works,
    /// The sink answers, and refuses this event.
    Refuses,
    /// The sink fails.
    Fails,
    /// The sink fails for this event, and took others meanwhile.
    FailsForOne,
    /// The sink is overloaded, and may ask for silence.
    Overloaded {
        /// The silence that it asked for.
        quiet: Option<Duration>,
    },
    /// Nothing: the failure was not the sink's.
    Nothing,
}

/// The meaning of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The next step of the delivery.
    pub next_step: AttemptVerdict,
    /// What the attempt says about the sink.
    pub signal: SinkSignal,
}

/// Decides what an attempt means for its delivery and for the sink. `taking` says that the sink
/// took an event recently; `random` lies in [0, 1).
#[must_use]
pub fn decide(
    outcome: &AttemptOutcome,
    history: History,
    taking: bool,
    retry: &RetryConfig,
    now: Time,
    random: f64,
) -> Decision {
    let ours = matches!(outcome.error_class, Some(ErrorClass::Payload | ErrorClass::Internal));
    match &outcome.result {
        AttemptResult::Delivered => {
            return Decision { next_step: AttemptVerdict::Delivered, signal: SinkSignal::Works };
        }
        AttemptResult::FailedForGood { reason } => {
            let signal = if ours { SinkSignal::Nothing } else { SinkSignal::Refuses };
            return Decision { next_step: AttemptVerdict::Dead(reason.clone()), signal };
        }
        AttemptResult::Failed { .. } => {}
    }
    let asked = outcome.retry_after();
    let overload = matches!(outcome.status, Some(429 | 503 | 529));
    let limited = outcome.status == Some(429) && asked.is_some();
    // If the sink takes others, a 503 asks for silence for this event alone.
    let silent = limited || (overload && asked.is_some() && !taking && !history.passed_by);
    let signal = match outcome.status {
        _ if ours => SinkSignal::Nothing,
        Some(400 | 409 | 413 | 415 | 422) => SinkSignal::Refuses,
        _ if overload && history.passed_by && history.spared >= OWN_OVERLOAD => SinkSignal::FailsForOne,
        _ if silent || (overload && taking) => SinkSignal::Overloaded { quiet: asked.filter(|_| silent) },
        _ if history.passed_by => SinkSignal::FailsForOne,
        _ => SinkSignal::Fails,
    };
    let spares = history.spared_for < MAX_SPARED_FOR
        && (limited || (overload && taking && history.spared < MAX_SPARED));
    let next_step = if spares {
        AttemptVerdict::Defer(defer(retry, history.spared, asked, now, random))
    } else {
        let error = outcome.error.as_deref().unwrap_or("it failed");
        let next = next_attempt(retry, history.step.saturating_add(1), asked, now, random);
        next.map_or_else(
            || AttemptVerdict::Dead(format!("the last attempt failed: {error}")),
            AttemptVerdict::Retry,
        )
    };
    Decision { next_step, signal }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{deliver::outcome::AttemptFailure, util::units::HumanDuration};

    const NOW: Time = Time(1_700_000_000_000);

    fn answered(status: u16, asked: Option<u64>) -> AttemptOutcome {
        let failure = AttemptFailure::new(ErrorClass::Status, format!("answered {status}"));
        let result = AttemptResult::Failed { retry_after: asked.map(Duration::from_secs) };
        AttemptOutcome { status: Some(status), result, ..AttemptOutcome::failed(failure, Duration::ZERO) }
    }

    fn broken(class: ErrorClass) -> AttemptOutcome {
        AttemptOutcome::failed(AttemptFailure::new(class, "no answer"), Duration::ZERO)
    }

    fn dead(status: u16) -> AttemptOutcome {
        AttemptOutcome {
            result: AttemptResult::FailedForGood { reason: "gone".to_owned() },
            ..answered(status, None)
        }
    }

    fn after(seconds: u64) -> Time {
        NOW.after(Duration::from_secs(seconds))
    }

    const FIRST: History = History { step: 0, spared: 0, spared_for: Duration::ZERO, passed_by: false };
    const PASSED: History = History { passed_by: true, ..FIRST };
    const LAST: History = History { step: 2, ..FIRST };

    #[test]
    fn each_attempt_means_one_thing_for_its_delivery_and_one_for_the_sink() {
        let retry =
            RetryConfig { schedule: vec![HumanDuration::secs(10), HumanDuration::secs(300)], jitter: 0.0 };
        let quiet = |seconds| SinkSignal::Overloaded { quiet: Some(Duration::from_secs(seconds)) };
        let overloaded = SinkSignal::Overloaded { quiet: None };
        let spared = History { spared: 3, ..FIRST };
        let weary = History { spared: MAX_SPARED, ..FIRST };
        let long = History { spared_for: MAX_SPARED_FOR, ..FIRST };
        let own = History { spared: OWN_OVERLOAD, ..PASSED };
        let ended = || AttemptVerdict::Dead("the last attempt failed: answered 422".to_owned());
        let retry_in = |seconds| AttemptVerdict::Retry(after(seconds));
        let defer = |seconds| AttemptVerdict::Defer(after(seconds));
        let gone = AttemptVerdict::Dead("gone".to_owned());
        let table = [
            (
                AttemptOutcome::delivered(Duration::ZERO),
                FIRST,
                false,
                AttemptVerdict::Delivered,
                SinkSignal::Works,
            ),
            // The event's own failures, whatever the others do.
            (answered(400, None), FIRST, false, retry_in(10), SinkSignal::Refuses),
            (answered(409, None), FIRST, true, retry_in(10), SinkSignal::Refuses),
            (answered(413, Some(60)), FIRST, true, retry_in(60), SinkSignal::Refuses),
            (answered(415, None), PASSED, true, retry_in(10), SinkSignal::Refuses),
            (answered(422, None), History { step: 1, ..FIRST }, false, retry_in(300), SinkSignal::Refuses),
            (answered(422, None), LAST, false, ended(), SinkSignal::Refuses),
            (dead(410), FIRST, true, gone.clone(), SinkSignal::Refuses),
            (dead(413), FIRST, true, gone, SinkSignal::Refuses),
            // The sink's.
            (answered(500, None), FIRST, true, retry_in(10), SinkSignal::Fails),
            (answered(401, None), FIRST, true, retry_in(10), SinkSignal::Fails),
            (answered(403, None), FIRST, true, retry_in(10), SinkSignal::Fails),
            (answered(404, None), FIRST, true, retry_in(10), SinkSignal::Fails),
            (answered(405, None), FIRST, true, retry_in(10), SinkSignal::Fails),
            (answered(301, None), FIRST, true, retry_in(10), SinkSignal::Fails),
            (answered(500, Some(86_400 * 9)), FIRST, true, retry_in(86_400), SinkSignal::Fails),
            (broken(ErrorClass::Timeout), FIRST, true, retry_in(10), SinkSignal::Fails),
            (broken(ErrorClass::Connect), FIRST, false, retry_in(10), SinkSignal::Fails),
            (broken(ErrorClass::Config), FIRST, false, retry_in(10), SinkSignal::Fails),
            // A sink that took others since this one failed is well.
            (answered(500, None), PASSED, true, retry_in(10), SinkSignal::FailsForOne),
            (broken(ErrorClass::Timeout), PASSED, false, retry_in(10), SinkSignal::FailsForOne),
            // Overload.
            (answered(503, None), FIRST, true, defer(1), overloaded),
            (answered(429, None), spared, true, defer(8), overloaded),
            (answered(503, Some(20)), FIRST, true, defer(20), overloaded),
            (answered(503, None), weary, true, retry_in(10), overloaded),
            (answered(503, None), FIRST, false, retry_in(10), SinkSignal::Fails),
            (answered(503, Some(40)), FIRST, false, retry_in(40), quiet(40)),
            (answered(503, Some(40)), PASSED, false, retry_in(40), SinkSignal::FailsForOne),
            (answered(429, None), FIRST, false, retry_in(10), SinkSignal::Fails),
            (answered(503, None), own, true, defer(8), SinkSignal::FailsForOne),
            // It says itself when.
            (answered(429, Some(7)), FIRST, false, defer(7), quiet(7)),
            (answered(429, Some(0)), FIRST, true, defer(1), quiet(0)),
            (answered(429, Some(86_400 * 9)), weary, false, defer(86_400), quiet(86_400 * 9)),
            (answered(429, Some(7)), LAST, true, defer(7), quiet(7)),
            (answered(429, Some(7)), long, true, retry_in(10), quiet(7)),
            (answered(429, Some(7)), own, true, defer(8), SinkSignal::FailsForOne),
            // Nobody's.
            (broken(ErrorClass::Payload), FIRST, false, retry_in(10), SinkSignal::Nothing),
            (
                AttemptOutcome::unreadable("lost"),
                FIRST,
                false,
                AttemptVerdict::Dead("lost".to_owned()),
                SinkSignal::Nothing,
            ),
            (broken(ErrorClass::Internal), PASSED, true, retry_in(10), SinkSignal::Nothing),
        ];
        for (outcome, history, taking, next_step, signal) in table {
            let decision = decide(&outcome, history, taking, &retry, NOW, 0.0);
            assert_eq!(decision, Decision { next_step, signal }, "{outcome:?} {history:?} {taking}");
        }
    }

    #[test]
    fn no_answer_repeated_for_ever_keeps_a_delivery_for_ever() {
        let retry = RetryConfig { schedule: vec![HumanDuration::secs(1); 3], jitter: 0.0 };
        for outcome in [answered(429, Some(1)), answered(429, Some(3600)), answered(503, None)] {
            let (mut history, mut now, mut attempts) = (FIRST, NOW, 0);
            loop {
                attempts += 1;
                assert!(attempts < 100_000, "{outcome:?}");
                match decide(&outcome, history, true, &retry, now, 0.5).next_step {
                    AttemptVerdict::Defer(at) => {
                        history.spared += 1;
                        history.spared_for += at.since(now);
                        now = at;
                    }
                    AttemptVerdict::Retry(at) => {
                        (history.step, history.spared, now) = (history.step + 1, 0, at)
                    }
                    AttemptVerdict::Dead(_) => break,
                    AttemptVerdict::Delivered => panic!("{outcome:?}"),
                }
            }
            assert_eq!(history.step, 3, "every step was an attempt");
            assert!(now.since(NOW) < Duration::from_hours(30), "{outcome:?}");
        }
    }
}
