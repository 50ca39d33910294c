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
mod tests;
