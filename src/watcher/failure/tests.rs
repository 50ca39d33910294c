use super::*;
use crate::schedule::{FailureHistory, FailureRow};

const SECOND: Duration = Duration::from_secs(1);

/// What a failure is judged by, as it usually is: 200 open jobs, of which others are answered.
#[derive(Clone)]
struct Case {
    failure: Failure,
    /// Failures in a row, and for how long.
    row: (u32, Duration),
    grace: Option<Duration>,
    known: Standpoint,
}

fn case(failure: Failure) -> Case {
    Case {
        failure,
        row: (1, Duration::ZERO),
        grace: None,
        known: Standpoint {
            history: FailureHistory::new(Instant::now()),
            was_seen: true,
            is_overdue: false,
            state: HealthState::Ok,
            open: 200,
            heard_since_sent: false,
            well_since_sent: false,
            well_since_first: true,
            well_since_limited: false,
            limits_are_own: false,
            missing: 1,
            well_since_missing: 64,
        },
    }
}

impl Case {
    fn row(mut self, count: u32, seconds: u32) -> Self {
        self.row = (count, SECOND * seconds);
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Standpoint)) -> Self {
        change(&mut self.known);
        self
    }

    fn stranger(self) -> Self {
        self.with(|known| known.was_seen = false)
    }

    fn grace(self, seconds: u32) -> Self {
        Self { grace: Some(SECOND * seconds), ..self }
    }

    fn decide(&self) -> Decision {
        let since = Instant::now();
        let (count, lasted) = self.row;
        let history = FailureHistory {
            count,
            row: FailureRow { kind: row_kind(&self.failure), count, since },
            ..FailureHistory::new(since)
        };
        let known = Standpoint { history, ..self.known.clone() };
        decide(&self.failure, &known, self.grace, since + lasted)
    }

    fn is_lost(&self) -> bool {
        matches!(self.decide().job, JobStep::Lost(_))
    }
}

fn limited(status: u16, seconds: Option<u64>) -> Failure {
    Failure::RateLimited { status, retry_after: seconds.map(Duration::from_secs) }
}

fn trouble() -> Failure {
    Failure::Transient("the source answered 500".to_owned())
}

fn silent() -> Failure {
    Failure::Silent("no answer within 30s".to_owned())
}

fn refused() -> Failure {
    Failure::Unreachable("no connection: refused".to_owned())
}

fn retry(asked: Option<u64>) -> JobStep {
    JobStep::Retry { asked: asked.map(Duration::from_secs), longest: None }
}

#[test]
fn a_failure_is_the_jobs_or_the_sources() {
    use HealthState::{Failing, Limited, Unauthorized};
    let suspect = |state| SourceSign::Suspect(state, None);
    let table = [
        (case(trouble()), retry(None), SourceSign::Heard),
        (case(Failure::NotFound), retry(None), SourceSign::Well),
        (case(Failure::Gone), retry(None), SourceSign::Well),
        (case(Failure::Rejected(400)), retry(None), SourceSign::Well),
        (case(Failure::Refused("no `run`".to_owned())), retry(None), SourceSign::Silent),
        (case(silent()), retry(None), suspect(Failing)),
        (case(silent()).with(|known| known.state = Failing), JobStep::Blameless, suspect(Failing)),
        (case(refused()), JobStep::Blameless, SourceSign::Ill(Failing, None)),
        (case(refused()).with(|known| known.heard_since_sent = true), retry(None), SourceSign::Silent),
        (case(Failure::Unauthorized(401)), retry(None), suspect(Unauthorized)),
        (case(Failure::Unauthorized(403)), retry(None), suspect(Unauthorized)),
        (
            case(Failure::Unauthorized(401)).with(|known| known.state = Unauthorized),
            JobStep::Blameless,
            suspect(Unauthorized),
        ),
        (
            case(Failure::Credentials("no file".to_owned())),
            JobStep::Blameless,
            SourceSign::Ill(Unauthorized, None),
        ),
        (case(limited(429, Some(9))), JobStep::Blameless, SourceSign::Ill(Limited, Some(SECOND * 9))),
        (case(limited(403, Some(9))), JobStep::Blameless, SourceSign::Ill(Limited, Some(SECOND * 9))),
        (case(limited(503, Some(9))), retry(Some(9)), SourceSign::Suspect(Limited, Some(SECOND * 9))),
        // Others were answered while it was in flight: only a wait that is asked for counts then.
        (
            case(limited(429, None)).with(|known| known.well_since_sent = true),
            retry(None),
            SourceSign::Silent,
        ),
        (
            case(limited(429, Some(0))).with(|known| known.well_since_sent = true),
            retry(Some(0)),
            SourceSign::Silent,
        ),
        (
            case(limited(429, Some(9))).with(|known| known.well_since_sent = true),
            JobStep::Blameless,
            SourceSign::Ill(Limited, Some(SECOND * 9)),
        ),
        (
            case(limited(429, Some(9))).with(|known| known.well_since_limited = true),
            retry(Some(9)),
            SourceSign::OwnLimit,
        ),
        (
            case(limited(429, Some(9))).with(|known| known.limits_are_own = true),
            retry(Some(9)),
            SourceSign::Suspect(Limited, Some(SECOND * 9)),
        ),
        (
            case(limited(503, Some(9))).with(|known| known.state = Limited),
            JobStep::Blameless,
            SourceSign::Suspect(Limited, Some(SECOND * 9)),
        ),
    ];
    for (case, job, source) in table {
        assert_eq!(case.decide(), Decision { job, source }, "{:?}", case.failure);
    }
    let large = case(Failure::TooLarge(crate::util::units::Size::mib(1))).row(1000, 100_000).decide();
    assert_eq!(large.job, JobStep::Retry { asked: None, longest: Some(TOO_LARGE) });
}

#[test]
fn a_job_is_lost_only_after_enough_answers_over_enough_time() {
    let missing = || case(Failure::NotFound);
    let stranger = || missing().stranger();
    let forbidden = || case(Failure::Unauthorized(403));
    let table = [
        (stranger().row(3, 31), false),
        (stranger().row(4, 29), false),
        (stranger().row(4, 30), true),
        (missing().row(100, 599), false),
        (missing().row(4, 600), true),
        (stranger().grace(2).row(4, 2), true),
        (missing().grace(2).row(4, 1), false),
        (missing().grace(2).row(4, 2), true),
        (case(Failure::Gone).row(4, 59), false),
        (case(Failure::Gone).row(3, 60), false),
        (case(Failure::Gone).row(4, 60), true),
        (case(Failure::Rejected(400)).row(100, 599), false),
        (case(Failure::Rejected(422)).row(9, 6000), false),
        (case(Failure::Rejected(422)).row(10, 600), true),
        (case(Failure::Refused("no `run`".to_owned())).row(10, 600), true),
        (forbidden().row(10, 600), true),
        (case(Failure::Unauthorized(401)).row(1000, 60_000), false),
        (case(trouble()).row(1000, 60_000), false),
        (case(silent()).row(1000, 60_000), false),
        (case(limited(429, None)).row(1000, 60_000), false),
        (case(refused()).row(1000, 60_000), false),
    ];
    for (case, is_lost) in table {
        assert_eq!(case.is_lost(), is_lost, "{:?} {:?} {:?}", case.failure, case.row, case.known);
    }
}

#[test]
fn none_is_lost_while_most_jobs_are_missing_at_once() {
    let many = |known: &mut Standpoint| (known.missing, known.well_since_missing) = (40, 39);
    let few = |known: &mut Standpoint| (known.missing, known.well_since_missing) = (40, 41);
    let seen = case(Failure::NotFound).row(400, 6000);
    assert!(!seen.clone().with(many).is_lost());
    assert!(seen.with(few).is_lost());
    let stranger = case(Failure::NotFound).stranger();
    assert!(!stranger.clone().row(100, 599).with(many).is_lost());
    assert!(stranger.clone().row(100, 600).with(many).is_lost(), "they are all strangers");
    let gone = case(Failure::Gone).with(many);
    assert!(!gone.clone().row(100, 599).is_lost());
    assert!(gone.row(100, 600).is_lost(), "the source may have dropped them all");
    assert!(stranger.row(4, 30).with(|known| (known.missing, known.well_since_missing) = (2, 0)).is_lost());
    // A deadline that passes meanwhile changes nothing.
    let overdue = case(Failure::NotFound).row(400, 300).with(|known| known.is_overdue = true);
    assert!(!overdue.clone().with(many).is_lost());
    assert!(overdue.is_lost());
}

#[test]
fn a_deadline_counts_only_where_the_source_can_be_asked() {
    let overdue = |failure| case(failure).with(|known| known.is_overdue = true);
    let no_others = |known: &mut Standpoint| known.well_since_first = false;
    let alone = |known: &mut Standpoint| (known.well_since_first, known.open) = (false, 1);
    let table = [
        (overdue(trouble()).row(3, 60), false),
        (overdue(trouble()).row(400, 59), false),
        (overdue(trouble()).row(4, 60), true),
        (overdue(silent()).row(4, 60), true),
        // All fail: perhaps the source does.
        (overdue(trouble()).row(400, 6000).with(no_others), false),
        // There is no other to tell by.
        (overdue(trouble()).row(400, 599).with(alone), false),
        (overdue(trouble()).row(4, 600).with(alone), true),
        (overdue(refused()).row(400, 6000), false),
        (overdue(limited(429, None)).row(400, 6000), false),
        (overdue(trouble()).row(400, 6000).with(|known| known.state = HealthState::Limited), false),
        (overdue(Failure::Credentials(String::new())).row(400, 6000), false),
    ];
    for (case, is_lost) in table {
        assert_eq!(case.is_lost(), is_lost, "{:?} {:?} {:?}", case.failure, case.row, case.known);
    }
}
