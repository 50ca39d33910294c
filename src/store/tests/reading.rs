//! Lists, page by page.

use super::*;
use crate::model::{delivery::DeliveryState, job::Phase};

/// Every page of watches, and how many pages there were.
async fn walk(store: &Store, filter: &WatchFilter, limit: usize) -> (Vec<String>, usize) {
    let (mut names, mut pages, mut cursor) = (Vec::new(), 0, None);
    loop {
        let page = store.watches(filter, cursor, limit).await.unwrap();
        assert!(page.entries.len() <= limit);
        names.extend(page.entries.into_iter().map(|watch| watch.job_id.to_string()));
        pages += 1;
        cursor = page.next;
        if cursor.is_none() {
            return (names, pages);
        }
    }
}

async fn pages_hold_every_watch_once_newest_first(kind: Kind) {
    let bench = Bench::on(kind);
    let all: Vec<String> = (0..25).map(|n| format!("job_{n}")).collect();
    for job in &all {
        bench.watch(job).await;
    }
    let newest_first: Vec<String> = all.iter().rev().cloned().collect();
    for limit in [1, 4, 25, 1000] {
        let (names, pages) = walk(&bench.store, &WatchFilter::default(), limit).await;
        assert_eq!(names, newest_first, "{limit} a page");
        assert!(pages >= 25_usize.div_ceil(limit), "{pages} pages of {limit}");
    }
}

async fn a_walk_misses_nothing_when_records_come_and_go_meanwhile(kind: Kind) {
    let bench = Bench::on(kind);
    for n in 0..6 {
        bench.watch(&format!("job_{n}")).await;
    }
    let first = bench.store.watches(&WatchFilter::default(), None, 2).await.unwrap();
    bench.watch("later").await;
    // The very record that the cursor names goes away.
    assert!(bench.store.remove("retab", &first.entries[1].job_id, None).await.unwrap());
    let rest = bench.store.watches(&WatchFilter::default(), first.next, 100).await.unwrap();
    let names: Vec<&str> = rest.entries.iter().map(|watch| watch.job_id.as_str()).collect();
    assert_eq!(names, ["job_3", "job_2", "job_1", "job_0"]);
}

async fn every_filter_of_watches_holds(kind: Kind) {
    let bench = Bench::on(kind);
    let labelled =
        Registration { labels: labels([("team", "a")]), ..Registration::new("other", id("labelled")) };
    bench.register(labelled, at(0)).await;
    let running = bench.watch("running").await;
    bench.store.record_running(running.number, &seen("in_progress", 1), 1, to(&[]), at(1)).await;
    let fetching = bench.watch("fetching").await;
    bench.store.record_finished(fetching.number, Outcome::Failed, &seen("failed", 1), 1, at(1)).await;
    bench.finish("done", &[]).await;
    bench.finish("delivering", &["app"]).await;
    let store = &bench.store;
    let names = async |filter: WatchFilter| walk(store, &filter, 10).await.0;
    let phase = |phase| WatchFilter { phase: Some(phase), ..WatchFilter::default() };
    assert_eq!(names(phase(Phase::Watching)).await, ["running", "labelled"]);
    assert_eq!(names(phase(Phase::Fetching)).await, ["fetching"]);
    assert_eq!(names(phase(Phase::Delivering)).await, ["delivering"]);
    assert_eq!(names(phase(Phase::Done)).await, ["done"]);
    assert!(names(phase(Phase::Dead)).await.is_empty());
    let none = WatchFilter::default;
    assert_eq!(names(WatchFilter { source: Some("other".to_owned()), ..none() }).await, ["labelled"]);
    assert_eq!(names(WatchFilter { status: Some("in_progress".to_owned()), ..none() }).await, ["running"]);
    assert_eq!(names(WatchFilter { outcome: Some(Outcome::Failed), ..none() }).await, ["fetching"]);
    let team = |value: &str| WatchFilter { labels: vec![("team".to_owned(), value.to_owned())], ..none() };
    assert_eq!((names(team("a")).await, names(team("b")).await), (vec!["labelled".to_owned()], Vec::new()));
}

async fn every_filter_of_deliveries_holds_on_either_index(kind: Kind) {
    let bench = Bench::on(kind);
    for (n, job) in ["one", "two", "three"].into_iter().enumerate() {
        let watch = bench.finish(job, &["app", "disk"]).await;
        let verdict = if n == 0 { AttemptVerdict::Dead("no".to_owned()) } else { AttemptVerdict::Delivered };
        bench
            .store
            .record_attempt(bench.key(&watch, "disk").await, &attempt(0, at(12), verdict), at(12))
            .await;
    }
    let names = async |filter: &DeliveryFilter, limit: usize| {
        let (mut names, mut cursor) = (Vec::new(), None);
        loop {
            let page = bench.store.deliveries(filter, cursor, limit).await.unwrap();
            names.extend(
                page.entries
                    .into_iter()
                    .map(|(_, one)| format!("{} {}", one.topic.job().unwrap().job_id, one.sink)),
            );
            cursor = page.next;
            if cursor.is_none() {
                return names;
            }
        }
    };
    let none = DeliveryFilter::default;
    let state = |state| DeliveryFilter { state: Some(state), ..none() };
    for limit in [1, 2, 100] {
        assert_eq!(names(&none(), limit).await.len(), 6, "{limit} a page");
        assert_eq!(names(&state(DeliveryState::Pending), limit).await, ["three app", "two app", "one app"]);
        assert_eq!(names(&state(DeliveryState::Delivered), limit).await, ["three disk", "two disk"]);
        assert_eq!(names(&state(DeliveryState::Dead), limit).await, ["one disk"]);
    }
    let job = DeliveryFilter { job_id: Some("two".to_owned()), ..none() };
    assert_eq!(names(&DeliveryFilter { sink: Some("app".to_owned()), ..job.clone() }, 9).await, ["two app"]);
    assert_eq!(names(&job, 9).await.len(), 2);
    assert_eq!(names(&DeliveryFilter { since: Some(at(11)), ..none() }, 9).await.len(), 6);
    assert_eq!(names(&DeliveryFilter { until: Some(at(11)), ..none() }, 9).await.len(), 0);
    assert_eq!(names(&DeliveryFilter { source: Some("other".to_owned()), ..none() }, 9).await.len(), 0);
}

async fn an_invented_cursor_finds_less_and_breaks_nothing(kind: Kind) {
    let bench = Bench::on(kind);
    bench.watch("job_1").await;
    let with = async |cursor| bench.store.watches(&WatchFilter::default(), Some(cursor), 10).await.unwrap();
    assert_eq!(with(0).await.entries.len(), 0);
    assert_eq!(with(u64::MAX).await.entries.len(), 1);
}

on_every_backend![
    pages_hold_every_watch_once_newest_first,
    a_walk_misses_nothing_when_records_come_and_go_meanwhile,
    every_filter_of_watches_holds,
    every_filter_of_deliveries_holds_on_either_index,
    an_invented_cursor_finds_less_and_breaks_nothing,
];
