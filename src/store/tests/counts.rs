//! What is counted on the way is what a full count finds.

use super::*;
use crate::model::{delivery::DeliveryState, job::Phase};

/// Counts every watch and every dead letter.
pub(super) fn full(stats: &Stats) -> Counts {
    let mut counts = Counts { watches: stats.watches.clone(), ..Counts::default() };
    for (sink, states) in &stats.deliveries {
        counts.dead.extend(states.get(&DeliveryState::Dead).map(|count| (sink.clone(), *count)));
    }
    counts
}

on_every_backend!(
    nothing_is_known_before_all_is_read_and_everything_after,
    what_changes_while_it_is_read_counts_once
);

async fn nothing_is_known_before_all_is_read_and_everything_after(kind: Kind) {
    let bench = Bench::on(kind);
    bench.watch("open").await;
    bench.finish("done", &[]).await;
    let dead = bench.finish("dead", &["app"]).await;
    let died = attempt(0, at(12), AttemptVerdict::Dead("no".to_owned()));
    bench.store.record_attempt(bench.key(&dead, "app").await, &died, at(12)).await;
    let bench = bench.reopen();
    for _ in 0..3 {
        bench.store.count_piece(1).await.unwrap();
        assert_eq!(bench.store.counts(), None, "there is more to read");
    }
    // One piece finds that there are no more watches. The next reads the delivery, the last finds that it was the last.
    for _ in 0..3 {
        bench.store.count_piece(1).await.unwrap();
    }
    let counts = bench.store.counts().unwrap();
    let phases = [Phase::Watching, Phase::Done, Phase::Dead, Phase::Fetching];
    assert_eq!(phases.map(|phase| counts.in_phase(phase)), [1, 1, 1, 0]);
    assert_eq!(counts.dead, [("app".to_owned(), 1)].into());
    assert!(bench.store.remove("retab", &id("dead"), None).await.unwrap());
    let counts = bench.store.counts().unwrap();
    assert_eq!(
        (counts.in_phase(Phase::Dead), counts.dead.len()),
        (0, 0),
        "the dead letter went with its watch"
    );
}

async fn what_changes_while_it_is_read_counts_once(kind: Kind) {
    let bench = Bench::on(kind);
    for n in 0..40 {
        bench.finish(&format!("job_{n}"), &["app"]).await;
    }
    let bench = Arc::new(bench);
    let working = Arc::clone(&bench);
    let work = tokio::spawn(async move {
        for n in 0..40 {
            let watch = match working.store.find("retab", &id(format!("job_{n}")), None).await.unwrap() {
                Found::Watch(watch) => *watch,
                other => panic!("{other:?}"),
            };
            let verdict =
                if n % 2 == 0 { AttemptVerdict::Delivered } else { AttemptVerdict::Dead("no".to_owned()) };
            let key = working.key(&watch, "app").await;
            working.store.record_attempt(key, &attempt(0, at(20), verdict), at(20)).await;
            if n % 5 == 0 {
                assert!(working.store.remove("retab", &watch.job_id, None).await.unwrap());
            }
            working.watch(&format!("new_{n}")).await;
        }
    });
    let mut rounds = 0;
    while !work.is_finished() {
        bench.store.count_piece(3).await.unwrap();
        if bench.store.counts().is_some() {
            // As after the database was opened again.
            bench.store.listeners.counts.begin_again();
            rounds += 1;
        }
        tokio::task::yield_now().await;
    }
    work.await.unwrap();
    while bench.store.counts().is_none() {
        bench.store.count_piece(3).await.unwrap();
    }
    let stats = bench.store.stats().await.unwrap();
    assert_eq!(bench.store.counts().unwrap(), full(&stats), "after {rounds} rounds");
}
