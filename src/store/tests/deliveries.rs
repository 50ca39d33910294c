//! Attempts and what follows from them.

use super::*;
use crate::model::{delivery::DeliveryState, job::Phase};

async fn a_failed_attempt_is_due_again_and_a_success_settles_the_watch(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.finish("job_1", &["app"]).await;
    let key = bench.key(&watch, "app").await;
    bench.told();
    bench.store.record_attempt(key, &attempt(0, at(12), AttemptVerdict::Retry(at(17))), at(12)).await;
    assert_eq!(
        bench.told(),
        [Change::DeliveryDue { sink: "app".to_owned(), key, due: at(17), as_of: at(12) }]
    );
    let bench = bench.reopen();
    assert_eq!(bench.pending(), [("app".to_owned(), key, at(17))]);
    bench.store.record_attempt(key, &nth(2, attempt(0, at(17), AttemptVerdict::Delivered)), at(17)).await;
    let delivery = bench.store.delivery(key).await.unwrap().unwrap();
    assert_eq!((delivery.state, delivery.attempt_count, delivery.step), (DeliveryState::Delivered, 2, 2));
    let statuses: Vec<_> = delivery.attempts.iter().map(|attempt| attempt.status).collect();
    assert_eq!(statuses, [Some(503), Some(204)]);
    let watch = bench.read(watch.number);
    assert_eq!((watch.phase(), watch.closed_at, bench.pending().len()), (Phase::Done, Some(at(17)), 0));
    assert!(bench.told().contains(&Change::WatchSettled { watch: watch.number }));
}

async fn a_dead_letter_makes_the_watch_dead_once_nothing_is_pending(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.finish("job_1", &["app", "disk"]).await;
    let (app, disk) = (bench.key(&watch, "app").await, bench.key(&watch, "disk").await);
    let dead = || AttemptVerdict::Dead("it is gone".to_owned());
    bench.store.record_attempt(app, &attempt(0, at(12), dead()), at(12)).await;
    assert_eq!(bench.read(watch.number).phase(), Phase::Delivering);
    bench.store.record_attempt(disk, &attempt(0, at(13), AttemptVerdict::Delivered), at(13)).await;
    let watch = bench.read(watch.number);
    assert_eq!((watch.phase(), watch.dead, watch.closed_at), (Phase::Dead, 1, Some(at(13))));
    let delivery = bench.store.delivery(app).await.unwrap().unwrap();
    assert_eq!((delivery.state, delivery.reason.as_deref()), (DeliveryState::Dead, Some("it is gone")));
}

async fn a_deferred_attempt_costs_no_step(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.finish("job_1", &["app"]).await;
    let key = bench.key(&watch, "app").await;
    let verdicts = [
        AttemptVerdict::Defer(at(14)),
        AttemptVerdict::Defer(at(17)),
        AttemptVerdict::Retry(at(20)),
        AttemptVerdict::Defer(at(21)),
    ];
    let mut counted = Vec::new();
    for (number, verdict) in (1..).zip(verdicts) {
        bench.store.record_attempt(key, &nth(number, attempt(0, at(12), verdict)), at(12)).await;
        let delivery = bench.store.delivery(key).await.unwrap().unwrap();
        counted.push((delivery.attempt_count, delivery.step, delivery.spared, delivery.spared_ms));
    }
    assert_eq!(counted, [(1, 0, 1, 2000), (2, 0, 2, 7000), (3, 1, 0, 7000), (4, 1, 1, 16_000)]);
    assert_eq!(bench.pending(), [("app".to_owned(), key, at(21))]);
    bench.store.redeliver(vec![key], at(30)).await.unwrap();
    let delivery = bench.store.delivery(key).await.unwrap().unwrap();
    assert_eq!((delivery.step, delivery.spared, delivery.spared_ms), (0, 0, 0));
}

async fn the_same_attempt_counts_once(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.finish("job_1", &["app"]).await;
    let key = bench.key(&watch, "app").await;
    let done = attempt(0, at(12), AttemptVerdict::Retry(at(17)));
    bench.store.record_attempt(key, &done, at(12)).await;
    bench.store.record_attempt(key, &done, at(13)).await;
    assert_eq!(bench.store.delivery(key).await.unwrap().unwrap().attempt_count, 1);
}

async fn a_redelivery_has_the_same_event_and_a_fresh_schedule(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.finish("job_1", &["app"]).await;
    let key = bench.key(&watch, "app").await;
    bench.store.record_attempt(key, &attempt(0, at(12), AttemptVerdict::Dead("no".to_owned())), at(12)).await;
    let before = bench.store.delivery(key).await.unwrap().unwrap();
    bench.told();
    let unknown = DeliveryKey::new(999, "evt_none", "app");
    assert_eq!(bench.store.redeliver(vec![key, unknown], at(20)).await.unwrap(), 1);
    let after = bench.store.delivery(key).await.unwrap().unwrap();
    assert_eq!((after.state, after.step, after.generation), (DeliveryState::Pending, 0, 1));
    assert_eq!((&after.event_id, after.attempt_count, after.reason), (&before.event_id, 1, None));
    let watch = bench.read(watch.number);
    assert_eq!((watch.phase(), watch.dead, watch.closed_at), (Phase::Delivering, 0, None));
    assert!(bench.told().contains(&Change::DeliveryDue {
        sink: "app".to_owned(),
        key,
        due: at(20),
        as_of: at(20)
    }));
    // It is pending, so retention leaves it alone.
    assert_eq!(bench.store.drop_finished(at(100), at(100)).await.unwrap().watches, 0);
    bench.store.record_attempt(key, &nth(2, attempt(1, at(21), AttemptVerdict::Delivered)), at(21)).await;
    assert_eq!(bench.read(watch.number).phase(), Phase::Done);
}

async fn an_attempt_begun_before_a_redelivery_does_not_end_it(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.finish("job_1", &["app"]).await;
    let key = bench.key(&watch, "app").await;
    assert_eq!(bench.store.redeliver(vec![key], at(12)).await.unwrap(), 1);
    assert_eq!(bench.read(watch.number).pending, 1, "it was pending already");
    bench
        .store
        .record_attempt(key, &attempt(0, at(13), AttemptVerdict::Dead("old".to_owned())), at(13))
        .await;
    let delivery = bench.store.delivery(key).await.unwrap().unwrap();
    assert_eq!((delivery.state, delivery.step, delivery.attempt_count), (DeliveryState::Pending, 0, 1));
    assert_eq!(bench.pending(), [("app".to_owned(), key, at(12))]);
}

async fn a_delivery_of_an_earlier_run_goes_on_while_the_job_is_watched_again(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.finish("job_1", &["app"]).await;
    let key = bench.key(&watch, "app").await;
    bench.watch("job_1").await;
    bench.store.record_attempt(key, &attempt(0, at(20), AttemptVerdict::Delivered), at(20)).await;
    let watch = bench.read(watch.number);
    assert_eq!((watch.phase(), watch.pending, watch.closed_at), (Phase::Watching, 0, None));
    assert_eq!(bench.open_watches().len(), 1);
}

async fn an_attempt_at_what_was_removed_meanwhile_changes_nothing(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.finish("job_1", &["app"]).await;
    let key = bench.key(&watch, "app").await;
    assert!(bench.store.remove("retab", &id("job_1"), None).await.unwrap());
    bench.store.record_attempt(key, &attempt(0, at(20), AttemptVerdict::Retry(at(25))), at(20)).await;
    assert_eq!((bench.store.delivery(key).await.unwrap(), bench.pending().len()), (None, 0));
    assert_eq!(bench.store.redeliver(vec![key], at(21)).await.unwrap(), 0);
}

async fn a_delivery_remembers_a_bounded_number_of_attempts(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.finish("job_1", &["app"]).await;
    let key = bench.key(&watch, "app").await;
    for (number, n) in (1..).zip(0..25) {
        let done = nth(number, attempt(0, at(n), AttemptVerdict::Retry(at(n + 1))));
        bench.store.record_attempt(key, &done, at(n)).await;
    }
    let delivery = bench.store.delivery(key).await.unwrap().unwrap();
    assert_eq!((delivery.attempt_count, delivery.attempts.len()), (25, 20));
    assert_eq!((delivery.attempts[0].at, delivery.attempts[19].at), (at(5), at(24)));
}

on_every_backend![
    a_failed_attempt_is_due_again_and_a_success_settles_the_watch,
    a_dead_letter_makes_the_watch_dead_once_nothing_is_pending,
    a_deferred_attempt_costs_no_step,
    the_same_attempt_counts_once,
    a_redelivery_has_the_same_event_and_a_fresh_schedule,
    an_attempt_begun_before_a_redelivery_does_not_end_it,
    a_delivery_of_an_earlier_run_goes_on_while_the_job_is_watched_again,
    an_attempt_at_what_was_removed_meanwhile_changes_nothing,
    a_delivery_remembers_a_bounded_number_of_attempts,
];
