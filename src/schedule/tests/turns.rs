//! Polls that are asked for and polls that are due by their own time take turns.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    super::{Strategy as Way, *},
    request, wall, watch,
};
use crate::{store::WatchStage, util::units::HumanDuration};

/// The jobs whose polls are asked for without end.
const ASKED: std::ops::Range<u64> = 0..100;
/// The jobs beside them.
const OTHERS: std::ops::Range<u64> = 1000..1010;
const STEP: Duration = Duration::from_millis(50);

type Ask = fn(&mut Schedule, u64, Instant, Time);

fn polls_now(schedule: &mut Schedule, number: u64, now: Instant, _: Time) {
    schedule.poll_now(number, now);
}

fn announces(schedule: &mut Schedule, number: u64, now: Instant, wall: Time) {
    schedule.announce(number, now, wall);
}

fn does_both(schedule: &mut Schedule, number: u64, now: Instant, wall: Time) {
    polls_now(schedule, number, now, wall);
    announces(schedule, number, now, wall);
}

fn paced(strategy: Way) -> PollingConfig {
    let second = HumanDuration::secs(1);
    PollingConfig { strategy, interval: second, max_delay: Some(second), ..PollingConfig::default() }
}

fn add(schedule: &mut Schedule, numbers: std::ops::Range<u64>, now: Instant, wall: Time) {
    for number in numbers {
        let mut job = watch(number, WatchStage::Watching);
        (job.registered_at, job.updated_at, job.created_at) = (wall, wall, wall);
        schedule.add(&job, now, wall);
    }
}

/// Sends what a schedule may send now. All jobs still run, and a page of a list answers none.
fn send(schedule: &mut Schedule, (now, wall): (Instant, Time), sent: &mut Vec<Option<u64>>) {
    loop {
        match schedule.next(now, wall) {
            Next::Run(number) => {
                sent.push(Some(number));
                schedule.record_answer(request(number, now));
                schedule.record_running(number, &StatusAnswer::default(), now, wall);
                schedule.done(number, Task::Poll, true, now, wall, 0.5);
            }
            Next::List(list) => {
                sent.push(None);
                schedule.list_done(list);
                if let ListUse::Polls(kind) = list {
                    schedule.list_answered(kind, 0, now);
                }
            }
            Next::Yield => {}
            Next::Wait(_) => return,
            Next::Cut => panic!("none is slow"),
        }
    }
}

/// Asks in each step for the polls of a hundred jobs of the first schedule, and after five seconds
/// adds the other jobs to each. Returns the requests from then on.
fn flood(schedules: &mut [Schedule], ask: Ask, lists: bool, start: Instant) -> Vec<Option<u64>> {
    let mut sent = Vec::new();
    add(&mut schedules[0], ASKED, start, wall());
    for step in 0..600 {
        let span = STEP * step;
        let (now, wall) = (start + span, wall().after(span));
        for number in ASKED {
            ask(&mut schedules[0], number, now, wall);
        }
        if step == 100 {
            sent.clear();
            for (first, schedule) in (OTHERS.start..).step_by(100).zip(schedules.iter_mut()) {
                add(schedule, first..first + 10, now, wall);
            }
        }
        for schedule in schedules.iter_mut() {
            if lists {
                schedule.ask_for_list();
            }
            send(schedule, (now, wall), &mut sent);
        }
    }
    sent
}

/// Returns the different jobs among some requests.
fn jobs(sent: &[Option<u64>]) -> BTreeSet<u64> {
    sent.iter().copied().flatten().collect()
}

#[test]
fn however_much_is_asked_for_the_others_are_served() {
    for ask in [polls_now as Ask, announces, does_both] {
        for strategy in [Way::Learned, Way::Fixed, Way::Backoff] {
            let start = Instant::now();
            let mut schedule = Schedule::new(&paced(strategy), 20.0, 32, start);
            schedule.expect_hooks(true);
            let sent = flood(std::slice::from_mut(&mut schedule), ask, false, start);
            assert!((495..=510).contains(&sent.len()), "{strategy:?}: {} in 25 s at 20 a second", sent.len());
            // They are due within a second, and get every second request.
            let soon = jobs(&sent[..45]);
            assert!(OTHERS.eq(soon.range(OTHERS).copied()), "{strategy:?}: {soon:?}");
            let all = jobs(&sent);
            assert!(ASKED.eq(all.range(ASKED).copied()), "{strategy:?}: those asked for take turns: {all:?}");
        }
    }
}

#[test]
fn turns_hold_within_a_shared_budget_and_beside_pages_of_lists() {
    let start = Instant::now();
    let limits = Limits { rate: 20.0, max_in_flight: 32, longest_pause: Duration::from_mins(15) };
    let budget = Arc::new(SharedBudget::new(Some("acme"), limits, start));
    let mut schedules = [(); 2].map(|()| {
        let claim = Claim::new(&budget, Arc::default());
        Schedule::with_claim(&paced(Way::Fixed), claim, start)
    });
    let sent = flood(&mut schedules, polls_now, false, start);
    let soon = jobs(&sent[..70]);
    assert_eq!((soon.range(1000..1010).count(), soon.range(1100..1110).count()), (10, 10), "{soon:?}");

    let mut schedule = Schedule::new(&paced(Way::Fixed), 20.0, 32, start);
    schedule.set_lists([true], true);
    schedule.uses_list(0);
    let sent = flood(std::slice::from_mut(&mut schedule), polls_now, true, start);
    let soon = &sent[..55];
    assert!(soon.contains(&None), "the list has its turn");
    assert_eq!(jobs(soon).range(OTHERS).count(), 10, "{soon:?}");
}

#[test]
fn a_poll_that_is_asked_for_alone_and_one_at_its_deadline_go_before_a_crowd() {
    let start = Instant::now();
    let mut schedule = Schedule::new(&paced(Way::Fixed), 20.0, 32, start);
    add(&mut schedule, 0..1000, start, wall());
    let mut last = watch(2000, WatchStage::Watching);
    let early = Duration::from_secs(5);
    last.registered_at = wall().after(early);
    last.deadline = Some(wall().after(Duration::from_millis(5020)));
    schedule.add(&last, start + early, wall().after(early));
    let mut sent = Vec::new();
    for step in 0..=102 {
        let span = STEP * step;
        let (now, wall) = (start + span, wall().after(span));
        if step == 101 {
            sent.clear();
            for _ in 0..10 {
                schedule.poll_now(999, now);
            }
        }
        send(&mut schedule, (now, wall), &mut sent);
    }
    let soon = jobs(&sent);
    assert!(sent.len() <= 3 && soon.contains(&999) && soon.contains(&2000), "{sent:?}");
}
