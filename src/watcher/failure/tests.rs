use super::*;
use crate::schedule::FailureRow;

const SECOND: Duration = Duration::from_secs(1);

/// The facts by which a failure is judged. By default the source has 200 open jobs and answers
/// about others.
#[derive(Clone)]
struct Case {
    failure: Failure,
    /// Failures in a row, and for how long.
    row: (u32, Duration),
    grace: Option<Duration>,
    job: JobFacts,
    source: SourceFacts,
}

/// What a failure means for its job, without its history.
#[derive(Debug, PartialEq)]
enum Step {
    Blameless,
    Retry { asked: Option<Duration>, longest: Option<Duration> },
    Lost,
}

fn case(failure: Failure) -> Case {
    Case {
        failure,
        row: (1, Duration::ZERO),
        grace: None,
        job: JobFacts { history: FailureHistory::new(Instant::now()), was_seen: true, is_overdue: false },
        source: SourceFacts {
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

    fn with(mut self, change: impl FnOnce(&mut SourceFacts)) -> Self {
        change(&mut self.source);
        self
    }

    fn never_seen(mut self) -> Self {
        self.job.was_seen = false;
        self
    }

    fn overdue(mut self) -> Self {
        self.job.is_overdue = true;
        self
    }

    fn grace(self, seconds: u32) -> Self {
        Self { grace: Some(SECOND * seconds), ..self }
    }

    fn judge(&self) -> (Step, SourceSign) {
        let since = Instant::now();
        let (count, lasted) = self.row;
        let history = FailureHistory {
            count,
            row: FailureRow { kind: row_kind(&self.failure), count, since },
            ..FailureHistory::new(since)
        };
        let job = JobFacts { history, ..self.job.clone() };
        let meaning = judge(&self.failure, &job, &self.source, self.grace, since + lasted);
        let step = match meaning.job {
            JobMeaning::Blameless { .. } => Step::Blameless,
            JobMeaning::Retry(history) => Step::Retry { asked: history.asked, longest: history.longest },
            JobMeaning::Lost { .. } => Step::Lost,
        };
        (step, meaning.source)
    }

    fn is_lost(&self) -> bool {
        self.judge().0 == Step::Lost
    }
}

fn limited(status: u16, seconds: Option<u64>) -> Failure {
    Failure::RateLimited { status, retry_after: seconds.map(Duration::from_secs) }
}

fn transient() -> Failure {
    Failure::Transient("the source answered 500".to_owned())
}

fn silent() -> Failure {
    Failure::Silent("no answer within 30s".to_owned())
}

fn refused() -> Failure {
    Failure::Unreachable("no connection: refused".to_owned())
}

fn retry(asked: Option<u64>) -> Step {
    Step::Retry { asked: asked.map(Duration::from_secs), longest: None }
}

#[test]
fn a_failure_is_the_jobs_or_the_sources() {
    use HealthState::{Failing, Limited, Unauthorized};
    let suspect = |state| SourceSign::Suspect(state, None);
    let table = [
        (case(transient()), retry(None), SourceSign::Heard),
        (case(Failure::NotFound), retry(None), SourceSign::Well),
        (case(Failure::Gone), retry(None), SourceSign::Well),
        (case(Failure::Rejected(400)), retry(None), SourceSign::Well),
        (case(Failure::Refused("no `run`".to_owned())), retry(None), SourceSign::Silent),
        (case(silent()), retry(None), suspect(Failing)),
        (case(silent()).with(|source| source.state = Failing), Step::Blameless, suspect(Failing)),
        (case(refused()), Step::Blameless, SourceSign::Ill(Failing, None)),
        (case(refused()).with(|source| source.heard_since_sent = true), retry(None), SourceSign::Silent),
        (case(Failure::Unauthorized(401)), retry(None), suspect(Unauthorized)),
        (case(Failure::Unauthorized(403)), retry(None), suspect(Unauthorized)),
        (
            case(Failure::Unauthorized(401)).with(|source| source.state = Unauthorized),
            Step::Blameless,
            suspect(Unauthorized),
        ),
        (
            case(Failure::Credentials("no file".to_owned())),
            Step::Blameless,
            SourceSign::Ill(Unauthorized, None),
        ),
        (case(limited(429, Some(9))), Step::Blameless, SourceSign::Ill(Limited, Some(SECOND * 9))),
        (case(limited(403, Some(9))), Step::Blameless, SourceSign::Ill(Limited, Some(SECOND * 9))),
        (case(limited(503, Some(9))), retry(Some(9)), SourceSign::Suspect(Limited, Some(SECOND * 9))),
        // Others were answered while it was in flight: only a wait that is asked for counts then.
        (
            case(limited(429, None)).with(|source| source.well_since_sent = true),
            retry(None),
            SourceSign::Silent,
        ),
        (
            case(limited(429, Some(0))).with(|source| source.well_since_sent = true),
            retry(Some(0)),
            SourceSign::Silent,
        ),
        (
            case(limited(429, Some(9))).with(|source| source.well_since_sent = true),
            Step::Blameless,
            SourceSign::Ill(Limited, Some(SECOND * 9)),
        ),
        (
            case(limited(429, Some(9))).with(|source| source.well_since_limited = true),
            retry(Some(9)),
            SourceSign::OwnLimit,
        ),
        (
            case(limited(429, Some(9))).with(|source| source.limits_are_own = true),
            retry(Some(9)),
            SourceSign::Suspect(Limited, Some(SECOND * 9)),
        ),
        (
            case(limited(503, Some(9))).with(|source| source.state = Limited),
            Step::Blameless,
            SourceSign::Suspect(Limited, Some(SECOND * 9)),
        ),
    ];
    for (case, job, source) in table {
        assert_eq!(case.judge(), (job, source), "{:?}", case.failure);
    }
    let large = case(Failure::TooLarge(crate::util::units::Size::mib(1))).row(1000, 100_000).judge();
    assert_eq!(large.0, Step::Retry { asked: None, longest: Some(TOO_LARGE) });
}

#[test]
fn a_job_is_lost_only_after_enough_answers_over_enough_time() {
    let missing = || case(Failure::NotFound);
    let never_seen = || missing().never_seen();
    let forbidden = || case(Failure::Unauthorized(403));
    let table = [
        (never_seen().row(3, 31), false),
        (never_seen().row(4, 29), false),
        (never_seen().row(4, 30), true),
        (missing().row(100, 599), false),
        (missing().row(4, 600), true),
        (never_seen().grace(2).row(4, 2), true),
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
        (case(transient()).row(1000, 60_000), false),
        (case(silent()).row(1000, 60_000), false),
        (case(limited(429, None)).row(1000, 60_000), false),
        (case(refused()).row(1000, 60_000), false),
    ];
    for (case, is_lost) in table {
        assert_eq!(
            case.is_lost(),
            is_lost,
            "{:?} {:?} {:?} {:?}",
            case.failure,
            case.row,
            case.job,
            case.source
        );
    }
}

#[test]
fn none_is_lost_while_most_jobs_are_missing_at_once() {
    let many = |source: &mut SourceFacts| (source.missing, source.well_since_missing) = (40, 39);
    let few = |source: &mut SourceFacts| (source.missing, source.well_since_missing) = (40, 41);
    let seen = case(Failure::NotFound).row(400, 6000);
    assert!(!seen.clone().with(many).is_lost());
    assert!(seen.with(few).is_lost());
    let never_seen = case(Failure::NotFound).never_seen();
    assert!(!never_seen.clone().row(100, 599).with(many).is_lost());
    assert!(never_seen.clone().row(100, 600).with(many).is_lost(), "the source may know none of them");
    let gone = case(Failure::Gone).with(many);
    assert!(!gone.clone().row(100, 599).is_lost());
    assert!(gone.row(100, 600).is_lost(), "the source may have dropped them all");
    assert!(
        never_seen.row(4, 30).with(|source| (source.missing, source.well_since_missing) = (2, 0)).is_lost()
    );
    // A deadline that passes meanwhile changes nothing.
    let overdue = case(Failure::NotFound).row(400, 300).overdue();
    assert!(!overdue.clone().with(many).is_lost());
    assert!(overdue.is_lost());
}

#[test]
fn a_deadline_counts_only_where_the_source_can_be_asked() {
    let overdue = |failure| case(failure).overdue();
    let no_others = |source: &mut SourceFacts| source.well_since_first = false;
    let alone = |source: &mut SourceFacts| (source.well_since_first, source.open) = (false, 1);
    let table = [
        (overdue(transient()).row(3, 60), false),
        (overdue(transient()).row(400, 59), false),
        (overdue(transient()).row(4, 60), true),
        (overdue(silent()).row(4, 60), true),
        // All fail: perhaps the source does.
        (overdue(transient()).row(400, 6000).with(no_others), false),
        // There is no other to tell by.
        (overdue(transient()).row(400, 599).with(alone), false),
        (overdue(transient()).row(4, 600).with(alone), true),
        (overdue(refused()).row(400, 6000), false),
        (overdue(limited(429, None)).row(400, 6000), false),
        (overdue(transient()).row(400, 6000).with(|source| source.state = HealthState::Limited), false),
        (overdue(Failure::Credentials(String::new())).row(400, 6000), false),
    ];
    for (case, is_lost) in table {
        assert_eq!(
            case.is_lost(),
            is_lost,
            "{:?} {:?} {:?} {:?}",
            case.failure,
            case.row,
            case.job,
            case.source
        );
    }
}
