use super::*;
use crate::util::units::Size;

const T0: Time = Time(1_700_000_000_000);

fn at(ms: u64) -> Time {
    T0.after(Duration::from_millis(ms))
}

fn defaults(endings: &Endings) -> Defaults<'_> {
    let retention = Duration::from_hours(1);
    Defaults { duration: Duration::from_secs(10), jitter: 0.2, endings, retention, seed: 1 }
}

fn life(plan: &JobPlan) -> Life {
    Life::new(plan, "job_x", T0, defaults(&Endings::always(Ending::Completed)))
}

fn second() -> JobPlan {
    JobPlan::new().lasting(Duration::from_secs(1))
}

fn retry(life: &mut Life, plan: &JobPlan, now: Time) -> bool {
    life.retry(plan, "job_x", now, defaults(&Endings::always(Ending::Completed)))
}

#[test]
fn a_job_goes_through_its_phases_in_order() {
    let life = life(&second());
    let steps =
        [(0, "validating"), (49, "validating"), (50, "queued"), (149, "queued"), (150, "in_progress")];
    for (ms, status) in steps {
        let moment = life.at(at(ms));
        assert_eq!((moment.status, moment.terminal, moment.completed_at), (status, false, None), "{ms}");
    }
    assert_eq!(life.at(at(999)).status, "in_progress");
    let end = life.at(at(1000));
    assert_eq!((end.status, end.terminal), ("completed", true));
    assert_eq!((end.started_at, end.completed_at), (Some(at(150)), Some(at(1000))));
    assert_eq!((end.attempt_count, end.last_attempt_at), (1, Some(at(150))));
    assert_eq!(life.at(at(5000)), end, "an end stays what it is");
}

#[test]
fn each_ending_shows_what_belongs_to_it() {
    let end = |ending| {
        let life = life(&second().ending(ending));
        let moment = life.at(at(2000));
        (moment.status.to_owned(), moment.terminal, moment.last_failure_code, moment.expires_at)
    };
    let hour = T0.after(Duration::from_hours(1));
    assert_eq!(end(Ending::Failed), ("failed".to_owned(), true, Some(FAILURE_CODE), hour));
    assert_eq!(end(Ending::Cancelled), ("cancelled".to_owned(), true, None, hour));
    assert_eq!(end(Ending::Expired), ("expired".to_owned(), true, None, at(1000)));
    assert_eq!(end(Ending::Stuck), ("in_progress".to_owned(), false, None, hour));
}

#[test]
fn what_ended_long_ago_expires_but_keeps_its_end() {
    let life = life(&second());
    let late = life.at(T0.after(Duration::from_hours(1)));
    assert_eq!((late.status, late.completed_at), ("expired", Some(at(1000))));
}

#[test]
fn a_word_of_its_own_stands_in_for_in_progress() {
    let life = life(&JobPlan { word: Some("paused".to_owned()), ..second() });
    assert_eq!(life.at(at(100)).status, "queued");
    assert_eq!(life.at(at(500)).status, "paused");
    assert_eq!(life.at(at(1000)).status, "completed");
}

#[test]
fn cancelling_in_the_queue_leaves_no_start_and_works_once() {
    let mut queued = life(&second());
    assert!(queued.cancel(at(100)));
    let moment = queued.at(at(9000));
    assert_eq!((moment.status, moment.completed_at), ("cancelled", Some(at(100))));
    assert_eq!((moment.started_at, moment.attempt_count), (None, 0));
    assert!(!queued.cancel(at(200)));
    let mut running = life(&second());
    assert!(running.cancel(at(500)));
    assert_eq!(running.at(at(500)).started_at, Some(at(150)));
    let mut over = life(&second());
    assert!(!over.cancel(at(1000)));
    assert_eq!(over.at(at(1000)).status, "completed");
}

#[test]
fn a_retry_starts_over_and_remembers_the_failure() {
    let plan = second().ending(Ending::Failed);
    let mut life = life(&plan);
    assert!(!retry(&mut life, &plan, at(500)), "still running");
    assert!(retry(&mut life, &plan, at(2000)));
    let fresh = life.at(at(2000));
    assert_eq!((fresh.status, fresh.created_at), ("queued", T0));
    assert_eq!((fresh.started_at, fresh.completed_at), (None, None));
    assert_eq!((fresh.attempt_count, fresh.last_attempt_at), (1, Some(at(150))));
    assert_eq!(fresh.last_failure_code, Some(FAILURE_CODE));
    assert_eq!(fresh.expires_at, at(2000).after(Duration::from_hours(1)));
    let end = life.at(at(3000));
    assert_eq!((end.status, end.completed_at, end.attempt_count), ("completed", Some(at(3000)), 2));
    assert!(!retry(&mut life, &plan, at(4000)), "completed");
}

#[test]
fn a_retry_may_end_badly_again() {
    let plan = JobPlan { retry_ending: Some(Ending::Failed), ..second().ending(Ending::Cancelled) };
    let mut life = life(&plan);
    for run in 1..4 {
        assert!(retry(&mut life, &plan, at(run * 2000)));
        assert_eq!(life.at(at(run * 2000 + 1000)).status, "failed");
    }
}

#[test]
fn a_run_without_length_is_fresh_when_made_and_over_at_once() {
    let life = life(&JobPlan::new().lasting(Duration::ZERO));
    assert_eq!(life.fresh().status, "validating");
    assert_eq!(life.at(T0).status, "completed");
}

#[test]
fn draws_depend_on_seed_id_and_run_and_on_nothing_else() {
    let mix: Endings = "completed=1,failed=1".parse().unwrap();
    let end = |seed, id: &str| {
        let life = Life::new(&JobPlan::new(), id, T0, Defaults { seed, ..defaults(&mix) });
        let moment = life.at(T0.after(Duration::from_mins(1)));
        (moment.status.to_owned(), moment.completed_at)
    };
    let names: Vec<_> = (0..200).map(|n| format!("job_{n}")).collect();
    let ends: Vec<_> = names.iter().map(|id| end(1, id)).collect();
    assert_eq!(ends, names.iter().map(|id| end(1, id)).collect::<Vec<_>>());
    assert_ne!(ends, names.iter().map(|id| end(2, id)).collect::<Vec<_>>());
    let failed = ends.iter().filter(|(status, _)| status == "failed").count();
    assert!((60..140).contains(&failed), "{failed} of 200 failed at even odds");
    let band = at(8000)..=at(12_000);
    assert!(ends.iter().all(|(_, completed)| band.contains(&completed.unwrap())), "jitter is 20 %");
}

#[test]
fn endings_read_back_and_refuse_nonsense() {
    let mix: Endings = "completed=8, failed=1,stuck".parse().unwrap();
    assert_eq!(mix.to_string(), "completed=8,failed=1,stuck=1");
    assert_eq!(mix.at(0.0), Ending::Completed);
    assert_eq!(mix.at(0.85), Ending::Failed);
    assert_eq!(mix.at(0.999), Ending::Stuck);
    for wrong in ["", "lost", "failed=-1", "failed=x", "failed=0", "failed=inf"] {
        assert!(wrong.parse::<Endings>().is_err(), "{wrong}");
    }
}

#[test]
fn wishes_in_the_metadata_fill_only_what_is_open() {
    let mut plan = JobPlan::new()
        .lasting(Duration::from_secs(9))
        .with_metadata("mock_duration", "800ms")
        .with_metadata("mock_outcome", "failed")
        .with_metadata("mock_size", "64KiB")
        .with_metadata("mock_status", "paused");
    plan.heed_metadata().unwrap();
    assert_eq!(plan.duration, Some(Duration::from_secs(9)));
    assert_eq!(plan.ending, Some(Ending::Failed));
    assert_eq!(plan.size, Some(Size::kib(64)));
    assert_eq!(plan.word.as_deref(), Some("paused"));
    let error = JobPlan::new().with_metadata("mock_size", "huge").heed_metadata().unwrap_err();
    assert!(error.contains("mock_size") && error.contains("not a size"), "{error}");
}
