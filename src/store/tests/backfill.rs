//! Past events for a sink that never got them, and deliveries that are dropped or moved.

use proptest::{prelude::*, sample::Index};

use super::*;
use crate::model::{delivery::DeliveryState, job::Phase};

impl Bench {
    pub(in crate::store) async fn deliver_all(&self, sink: &str, now: Time) -> u64 {
        let until = self.store.last_event().await.unwrap();
        let past =
            self.store.past(sink, &EventFilter::default(), |_| true, (0, until), usize::MAX).await.unwrap();
        self.store.deliver_past(sink, past.events, now).await.unwrap()
    }

    pub(in crate::store) async fn unrouted(&self) -> Vec<String> {
        let filter = EventFilter { routed: Some(false), ..EventFilter::default() };
        let page = self.store.events(&filter, None, 100).await.unwrap();
        page.entries.into_iter().map(|event| event.topic.job().unwrap().job_id.to_string()).collect()
    }

    async fn pending_of(&self, sink: &str) -> Vec<DeliveryKey> {
        self.store.pending_of(sink, None, u64::MAX, usize::MAX).await.unwrap()
    }
}

async fn an_event_for_nobody_is_told_once(kind: Kind) {
    let bench = Bench::on(kind);
    let nobody = bench.finish("nobody", &[]).await;
    bench.finish("app", &["app"]).await;
    let told: Vec<_> =
        bench.told().into_iter().filter(|told| matches!(told, Change::EventUnrouted { .. })).collect();
    let event_id = nobody.completion.as_ref().unwrap().event_id.clone();
    assert_eq!(told, [Change::EventUnrouted { source: "retab".to_owned(), job_id: id("nobody"), event_id }]);
    assert_eq!(bench.unrouted().await, ["nobody"]);
    let lost = bench.watch("lost").await;
    bench.store.lose(lost.number, "gone", (1, None), to(&[]), at(30)).await;
    assert_eq!(bench.unrouted().await, ["lost", "nobody"]);
}

async fn past_events_are_found_step_by_step_in_their_order(kind: Kind) {
    let bench = Bench::on(kind);
    let mut expected = Vec::new();
    for n in 0..25 {
        let sinks: &[&str] = if n % 3 == 0 { &["app"] } else { &[] };
        let watch = bench.finish(&format!("job_{n:02}"), sinks).await;
        if n % 3 != 0 {
            expected.extend(watch.end_events);
        }
    }
    let until = bench.store.last_event().await.unwrap();
    let (mut found, mut after, mut steps) = (Vec::new(), 0, 0);
    loop {
        let past =
            bench.store.past("app", &EventFilter::default(), |_| true, (after, until), 4).await.unwrap();
        assert!(past.events.len() <= 4);
        found.extend(past.events);
        steps += 1;
        match past.next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!((found, steps), (expected, 5));
    let named = bench.store.events_named(&["evt_none".to_owned()]).await.unwrap();
    assert!(named.is_empty());
}

/// What is done to a store, to one of its watches and sinks.
#[derive(Clone, Debug)]
enum Act {
    Finish(u8),
    Again(Index),
    Deliver(u8),
    Drop(u8),
    Move(u8, u8),
    Redeliver(Index),
    Attempt(Index, bool),
}

fn act() -> impl Strategy<Value = Act> {
    let sink = 0u8..3;
    prop_oneof![
        3 => (0u8..8).prop_map(Act::Finish),
        1 => any::<Index>().prop_map(Act::Again),
        2 => sink.clone().prop_map(Act::Deliver),
        1 => sink.clone().prop_map(Act::Drop),
        2 => (sink.clone(), sink).prop_map(|(from, to)| Act::Move(from, to)),
        1 => any::<Index>().prop_map(Act::Redeliver),
        4 => (any::<Index>(), any::<bool>()).prop_map(|(one, good)| Act::Attempt(one, good)),
    ]
}

const SINKS: [&str; 3] = ["a", "b", "c"];

/// Carries out `acts`, and holds after each that nothing is taken by a sink twice and that the store is sound.
async fn hold(kind: Kind, acts: Vec<Act>) -> Result<(), TestCaseError> {
    let bench = Bench::on(kind);
    let mut jobs: Vec<String> = Vec::new();
    // How often each sink took each event.
    let mut taken: BTreeMap<(String, String), u32> = BTreeMap::new();
    let mut asked_again: std::collections::BTreeSet<(String, String)> = std::collections::BTreeSet::new();
    for (n, act) in (0..).zip(acts) {
        let now = at(100 + n);
        match act {
            Act::Finish(sinks) => {
                let job = format!("job_{n}");
                let sinks: Vec<&str> =
                    (0..3).filter(|bit| sinks & (1 << bit) != 0).map(|bit| SINKS[bit]).collect();
                bench.finish(&job, &sinks).await;
                jobs.push(job);
            }
            Act::Again(one) if !jobs.is_empty() => {
                let watch = bench.watch(&jobs[one.index(jobs.len())]).await;
                let run = 2 + u32::try_from(n).unwrap();
                let ended = bench
                    .store
                    .record_finished(watch.number, Outcome::Failed, &seen("failed", run), 3, now)
                    .await;
                let Finished::Fetch(watch) = ended else { panic!("a new end") };
                bench.fan_out(&watch, &["a"], now).await;
            }
            Act::Deliver(sink) => {
                bench.deliver_all(SINKS[usize::from(sink)], now).await;
            }
            Act::Drop(sink) => {
                let sink = SINKS[usize::from(sink)];
                let keys = bench.pending_of(sink).await;
                let count = keys.len() as u64;
                prop_assert_eq!(bench.store.drop_pending(sink, keys, now).await.unwrap(), count);
                prop_assert!(bench.pending_of(sink).await.is_empty());
            }
            Act::Move(from, to) if from != to => {
                let (from, to) = (SINKS[usize::from(from)], SINKS[usize::from(to)]);
                let keys = bench.pending_of(from).await;
                let count = keys.len() as u64;
                let handed = bench.store.move_pending(from, to, keys, |_| true, now).await.unwrap();
                prop_assert_eq!(handed.moved + handed.existing, count);
                prop_assert!(bench.pending_of(from).await.is_empty());
            }
            Act::Redeliver(one) => {
                let all =
                    bench.store.deliveries(&DeliveryFilter::default(), None, 1000).await.unwrap().entries;
                if !all.is_empty() {
                    let (key, delivery) = &all[one.index(all.len())];
                    asked_again.insert((delivery.sink.clone(), delivery.event_id.clone()));
                    bench.store.redeliver(vec![*key], now).await.unwrap();
                }
            }
            Act::Attempt(one, good) => {
                let pending = bench.pending();
                if !pending.is_empty() {
                    let key = pending[one.index(pending.len())].1;
                    let delivery = bench.store.delivery(key).await.unwrap().unwrap();
                    let verdict =
                        if good { AttemptVerdict::Delivered } else { AttemptVerdict::Dead("no".to_owned()) };
                    if good {
                        *taken.entry((delivery.sink.clone(), delivery.event_id.clone())).or_default() += 1;
                    }
                    let done = nth(delivery.attempt_count + 1, attempt(delivery.generation, now, verdict));
                    bench.store.record_attempt(key, &done, now).await;
                }
            }
            Act::Again(_) | Act::Move(..) => {}
        }
        prop_assert_eq!(bench.store.check(false).await.unwrap(), []);
        for job in &jobs {
            let Found::Watch(watch) = bench.store.find("retab", &id(job), None).await.unwrap() else {
                return Err(TestCaseError::fail("a watch is gone"));
            };
            let deliveries = bench.store.deliveries_of(&watch).await.unwrap();
            let of = |state| deliveries.iter().filter(|(_, one)| one.state == state).count();
            let expected = match (of(DeliveryState::Pending), of(DeliveryState::Dead)) {
                (0, 0) => Phase::Done,
                (0, _) => Phase::Dead,
                _ => Phase::Delivering,
            };
            prop_assert_eq!(watch.phase(), expected);
            prop_assert_eq!(watch.closed_at.is_some(), expected != Phase::Delivering);
        }
    }
    for (who, times) in taken {
        prop_assert!(times == 1 || asked_again.contains(&who), "{:?} took it {} times", who, times);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_is_asked_for_the_store_is_sound_and_no_sink_takes_an_event_twice(
        acts in prop::collection::vec(act(), 1..24),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for kind in [Kind::Sled, Kind::Memory] {
            runtime.block_on(hold(kind, acts.clone()))?;
        }
    }
}

async fn the_last_event_is_the_one_that_a_reader_sees_already(kind: Kind) {
    let bench = Bench::on(kind);
    let seen: Arc<Mutex<Vec<(u64, u64)>>> = Arc::default();
    let (store, told) = (bench.store.clone(), Arc::clone(&seen));
    // What is being made durable can be read, and is not told yet.
    bench.store.on_flush(move |_| {
        let newest = store.newest_event().borrow().number;
        told.lock().unwrap().push((store.read(|records| records.newest_event()).unwrap(), newest));
    });
    let watch = bench.finish("job", &[]).await;
    let (last, newest) = *seen.lock().unwrap().last().unwrap();
    assert_eq!((last, newest), (watch.end_events[0], 0));
}

on_every_backend![
    an_event_for_nobody_is_told_once,
    past_events_are_found_step_by_step_in_their_order,
    the_last_event_is_the_one_that_a_reader_sees_already,
];
