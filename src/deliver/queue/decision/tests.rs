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
                AttemptVerdict::Retry(at) => (history.step, history.spared, now) = (history.step + 1, 0, at),
                AttemptVerdict::Dead(_) => break,
                AttemptVerdict::Delivered => panic!("{outcome:?}"),
            }
        }
        assert_eq!(history.step, 3, "every step was an attempt");
        assert!(now.since(NOW) < Duration::from_hours(30), "{outcome:?}");
    }
}
