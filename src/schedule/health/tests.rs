use super::*;

const LONGEST: Duration = Duration::from_secs(30);
const OPEN: usize = 200;

/// A request for a job that was sent and answered at these seconds.
fn at(start: Instant, number: u64, sent: f64, answered: f64) -> RequestTimes {
    let after = |seconds| start + Duration::from_secs_f64(seconds);
    RequestTimes { number, sent: after(sent), now: after(answered) }
}

fn ill(asked: Option<u64>) -> SourceSign {
    SourceSign::Ill(HealthState::Limited, asked.map(Duration::from_secs))
}

const DOWN: SourceSign = SourceSign::Ill(HealthState::Failing, None);
const SILENT: SourceSign = SourceSign::Suspect(HealthState::Failing, None);
const REFUSED: SourceSign = SourceSign::Suspect(HealthState::Unauthorized, None);

#[tokio::test(start_paused = true)]
async fn an_outage_counts_once_for_all_requests_in_flight() {
    let start = Instant::now();
    let mut health = Health::new(LONGEST);
    health.record(at(start, 0, 0.0, 1.0), DOWN, OPEN, 0.5).unwrap();
    for number in 1..30 {
        assert_eq!(health.record(at(start, number, 0.0, 1.0), DOWN, OPEN, 0.5), None);
    }
    let now = start + Duration::from_secs(1);
    assert!(health.paused_until(now).unwrap() - now <= FIRST_PAUSE);
    health.record(at(start, 7, 2.0, 2.1), SourceSign::Well, OPEN, 0.0);
    assert_eq!((health.state(), health.paused_until(now)), (HealthState::Ok, None));
}

#[tokio::test(start_paused = true)]
async fn three_different_jobs_and_their_witnesses_make_it_the_sources_failure() {
    let start = Instant::now();
    for sign in [SILENT, REFUSED] {
        let mut health = Health::new(LONGEST);
        for attempt in 0..50 {
            // One job alone, however often.
            let sent = f64::from(attempt);
            assert_eq!(health.record(at(start, 1, sent, sent + 0.5), sign, OPEN, 0.0), None);
        }
        assert_eq!(health.record(at(start, 2, 60.0, 61.0), sign, OPEN, 0.0), None);
        // A good answer between: counting starts over.
        health.record(at(start, 9, 61.0, 61.5), SourceSign::Well, OPEN, 0.0);
        for number in 3..5 {
            assert_eq!(health.record(at(start, number, 62.0, 63.0), sign, OPEN, 0.0), None);
        }
        assert_eq!(health.doubters(), None);
        assert_eq!(health.record(at(start, 5, 62.0, 63.0), sign, OPEN, 0.0), None);
        assert_eq!(health.doubters(), Some([3, 4, 5].as_slice()));
        health.call_witness(6);
        assert_eq!(
            health.record(at(start, 7, 63.0, 64.0), sign, OPEN, 0.0),
            None,
            "it was not asked for this"
        );
        for witness in [6, 8] {
            health.call_witness(witness);
            assert_eq!(health.record(at(start, witness, 63.0, 64.0), sign, OPEN, 0.0), None);
            health.dismiss(witness);
            assert_eq!(health.doubters().map(<[u64]>::last), Some(Some(&witness)));
        }
        health.call_witness(9);
        health.record(at(start, 9, 63.0, 64.0), sign, OPEN, 0.0).unwrap();
        assert_ne!(health.state(), HealthState::Ok);
    }
    let mut health = Health::new(LONGEST);
    assert!(health.record(at(start, 1, 0.0, 1.0), SILENT, 1, 0.0).is_some(), "it is the only one");
}

#[tokio::test(start_paused = true)]
async fn silence_during_which_others_were_answered_says_nothing_of_the_source() {
    let start = Instant::now();
    let mut health = Health::new(LONGEST);
    for number in 0..32 {
        if number % 8 == 0 {
            health.record(at(start, 100, 10.0, 20.0), SourceSign::Heard, OPEN, 0.0);
        }
        assert_eq!(health.record(at(start, number, 0.0, 30.0), SILENT, OPEN, 0.0), None);
    }
    assert_eq!(health.state(), HealthState::Ok);
}

#[tokio::test(start_paused = true)]
async fn an_answer_does_not_cut_short_what_was_asked_for() {
    let start = Instant::now();
    let mut health = Health::new(LONGEST);
    health.record(at(start, 1, 0.0, 1.0), ill(Some(60)), OPEN, 0.0);
    let until = start + Duration::from_secs(61);
    // Sent before, answered after; and a key that changed.
    health.record(at(start, 2, 0.0, 1.5), SourceSign::Well, OPEN, 0.0);
    health.try_again();
    let now = start + Duration::from_secs(2);
    assert_eq!((health.state(), health.paused_until(now)), (HealthState::Limited, Some(until)));
    // Somebody forced: an error is no reason to go on, an answer is.
    health.record(at(start, 3, 5.0, 5.5), SourceSign::Heard, OPEN, 0.0);
    assert_eq!(health.paused_until(now), Some(until));
    health.record(at(start, 3, 6.0, 6.5), SourceSign::Well, OPEN, 0.0);
    assert_eq!((health.state(), health.paused_until(now)), (HealthState::Ok, None));
}

#[tokio::test(start_paused = true)]
async fn answers_in_flight_do_not_end_a_limit() {
    let start = Instant::now();
    let mut health = Health::new(LONGEST);
    health.record(at(start, 1, 0.0, 1.0), ill(None), OPEN, 0.5);
    for number in 2..32 {
        health.record(at(start, number, 0.0, 1.1), SourceSign::Well, OPEN, 0.0);
    }
    assert_eq!(health.state(), HealthState::Limited);
    health.record(at(start, 2, 2.0, 2.1), SourceSign::Heard, OPEN, 0.0);
    assert_eq!(health.state(), HealthState::Ok, "a probe is answered");
}

#[tokio::test(start_paused = true)]
async fn a_longer_wish_counts_from_any_request() {
    let start = Instant::now();
    let mut health = Health::new(LONGEST);
    health.record(at(start, 1, 0.0, 1.0), ill(Some(5)), OPEN, 0.0);
    health.record(at(start, 2, 0.0, 1.0), ill(Some(60)), OPEN, 0.0);
    let now = start + Duration::from_secs(1);
    assert_eq!(health.paused_until(now), Some(now + Duration::from_secs(60)));
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_up_to_the_longest_and_a_wait_of_nothing_is_none() {
    let start = Instant::now();
    for sign in [DOWN, ill(None), ill(Some(0))] {
        let mut health = Health::new(LONGEST);
        let mut pauses = Vec::new();
        for attempt in 0..200 {
            let sent = f64::from(attempt) * 60.0;
            pauses.push(health.record(at(start, 1, sent, sent + 1.0), sign, OPEN, 0.999).unwrap());
        }
        assert!(pauses.iter().all(|pause| *pause <= LONGEST) && pauses[199] > LONGEST.mul_f64(0.9));
        // Six requests in the first twenty seconds, not twenty-six.
        let early: Duration = pauses[..7].iter().sum();
        assert!(early > Duration::from_secs(20), "{early:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wish_is_never_cut_short_but_bounded() {
    let start = Instant::now();
    for random in [0.0, 0.5, 0.999] {
        for asked in [90, 1] {
            let mut health = Health::new(LONGEST);
            health.record(at(start, 1, 0.0, 0.0), ill(Some(asked)), OPEN, random);
            assert!(health.paused_until(start).unwrap() >= start + Duration::from_secs(asked));
        }
        let mut health = Health::new(LONGEST);
        let half = SourceSign::Ill(HealthState::Limited, Some(Duration::from_millis(700)));
        health.record(at(start, 1, 0.0, 0.0), half, OPEN, random);
        assert!(health.paused_until(start).unwrap() >= start + Duration::from_millis(700));
    }
    let mut health = Health::new(LONGEST);
    health.record(at(start, 1, 0.0, 0.0), ill(Some(u64::MAX)), OPEN, 0.0);
    assert_eq!(health.paused_until(start).unwrap(), start + MAX_RETRY_AFTER);
}

#[tokio::test(start_paused = true)]
async fn a_source_whose_jobs_all_fail_is_shown_as_failing_and_not_paused() {
    let start = Instant::now();
    let mut health = Health::new(LONGEST);
    for second in 0..20_u32 {
        let sent = f64::from(second);
        health.record(at(start, u64::from(second % 5), sent, sent), SourceSign::Heard, OPEN, 0.0);
    }
    let now = start + Duration::from_secs(20);
    assert_eq!((health.state(), health.shown(OPEN, now)), (HealthState::Ok, HealthState::Failing));
    assert_eq!(health.paused_until(now), None);
    health.record(at(start, 9, 20.0, 20.0), SourceSign::Well, OPEN, 0.0);
    assert_eq!(health.shown(OPEN, now), HealthState::Ok);
}
