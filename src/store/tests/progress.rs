//! What is made of a job on its way, for sinks that ask for it.

use super::*;
use crate::model::{delivery::DeliveryState, job::Phase};

/// A status answer of a job that is being worked on.
fn at_work(run: u32) -> StatusAnswer {
    StatusAnswer { at_work: true, ..seen("in_progress", run) }
}

impl Bench {
    /// Records a poll, and tells what was made of it for one sink.
    async fn poll(&self, watch: &Watch, seen: &StatusAnswer, now: Time) -> Vec<&'static str> {
        let made = self.store.record_running(watch.number, seen, 1, to(&["app"]), now).await;
        made.into_iter().map(EventType::as_str).collect()
    }

    fn news(&self, number: u64) -> News {
        self.store.read(|records| records.event(number)).unwrap().unwrap().news
    }

    /// Ends a run, with no delivery of its end.
    async fn end_run(&self, watch: &Watch, run: u32, now: Time) {
        let ended =
            self.store.record_finished(watch.number, Outcome::Failed, &seen("failed", run), 1, now).await;
        let Finished::Fetch(watch) = ended else { panic!("run {run}: {ended:?}") };
        self.fan_out(&watch, &[], now).await;
    }
}

async fn a_change_of_status_and_the_start_of_work_are_news(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.watch("job_1").await;
    assert!(bench.poll(&watch, &seen("validating", 1), at(1)).await.is_empty(), "a first word is no change");
    assert_eq!(bench.poll(&watch, &seen("queued", 1), at(2)).await, ["job.updated"]);
    bench.told();
    assert_eq!(bench.poll(&watch, &at_work(1), at(3)).await, ["job.started", "job.updated"]);
    assert_eq!(bench.told().len(), 2, "both deliveries are due");
    assert!(bench.poll(&watch, &at_work(1), at(4)).await.is_empty(), "the step done twice makes nothing");
    let watch = bench.read(watch.number);
    let [first, started, last] = watch.progress_events[..] else { panic!("{watch:?}") };
    let News::Progress(step) = bench.news(started) else { panic!("progress") };
    assert_eq!((step.status.as_str(), step.noticed_at), ("in_progress", at(3)));
    let event = bench.store.event(started).await.unwrap().unwrap();
    assert_eq!((event.news.time(), event.news.status()), (at(3), Some("in_progress")));
    assert_eq!(event.last_body.as_deref(), Some(r#"{"status":"in_progress"}"#));
    let mut ids: Vec<_> = [first, started, last].map(|event| bench.news(event).event_id().to_owned()).into();
    ids.dedup();
    assert_eq!(ids.len(), 3, "{ids:?}");
    assert_eq!((watch.phase(), watch.pending, watch.end_events.len()), (Phase::Watching, 3, 0));
    assert_eq!(bench.store.deliveries_of(&watch).await.unwrap().len(), 3);
}

async fn nothing_is_made_that_goes_nowhere(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.watch("job_1").await;
    bench.store.record_running(watch.number, &seen("queued", 1), 1, to(&[]), at(1)).await;
    assert!(bench.store.record_running(watch.number, &at_work(1), 2, to(&[]), at(2)).await.is_empty());
    let watch = bench.read(watch.number);
    assert_eq!(
        (watch.status.as_deref(), watch.progress_events.len(), watch.progress_count),
        (Some("in_progress"), 0, 0)
    );
}

async fn a_run_starts_once_and_a_retry_in_place_is_another_run(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.watch("job_1").await;
    assert_eq!(bench.poll(&watch, &at_work(1), at(1)).await, ["job.started"]);
    assert_eq!(bench.poll(&watch, &seen("queued", 1), at(2)).await, ["job.updated"]);
    assert_eq!(bench.poll(&watch, &at_work(2), at(3)).await, ["job.started", "job.updated"]);
    let other = StatusAnswer { status: "nearly_done".to_owned(), ..at_work(2) };
    assert_eq!(bench.poll(&watch, &other, at(4)).await, ["job.updated"]);
    bench.end_run(&watch, 2, at(5)).await;
    bench.watch("job_1").await;
    assert_eq!(bench.poll(&watch, &at_work(3), at(6)).await, ["job.started", "job.updated"]);
}

async fn a_job_that_was_lost_at_work_does_not_start_again(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.watch("job_1").await;
    bench.poll(&watch, &at_work(1), at(1)).await;
    bench.store.lose(watch.number, "past its deadline", (2, None), to(&[]), at(2)).await;
    bench.watch("job_1").await;
    assert!(bench.poll(&watch, &at_work(1), at(3)).await.is_empty());
}

async fn progress_counts_for_where_its_own_run_stands(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.watch("job_1").await;
    bench.poll(&watch, &at_work(1), at(1)).await;
    bench.end_run(&watch, 1, at(2)).await;
    assert_eq!(bench.read(watch.number).phase(), Phase::Delivering, "its start is still to be delivered");
    let key = bench.pending()[0].1;
    let dead = attempt(0, at(3), AttemptVerdict::Dead("no".to_owned()));
    bench.store.record_attempt(key, &dead, at(3)).await;
    let settled = bench.read(watch.number);
    assert_eq!((settled.phase(), settled.dead, settled.dead_current_run), (Phase::Dead, 1, 0));
    assert_eq!(settled.completion.as_ref().unwrap().noticed_at, at(2), "the end is the end");
    // A later run leaves it behind, and a redelivery of it no longer matters.
    bench.watch("job_1").await;
    bench.end_run(&watch, 2, at(4)).await;
    assert_eq!(bench.read(watch.number).phase(), Phase::Done);
    bench.store.redeliver(vec![key], at(5)).await.unwrap();
    assert_eq!(bench.read(watch.number).phase(), Phase::Delivering);
    let again = nth(2, attempt(1, at(6), AttemptVerdict::Dead("no".to_owned())));
    bench.store.record_attempt(key, &again, at(6)).await;
    assert_eq!(bench.read(watch.number).phase(), Phase::Done);
}

async fn dead_progress_before_the_end_is_told_at_the_end(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.watch("job_1").await;
    bench.poll(&watch, &at_work(1), at(1)).await;
    let key = bench.pending()[0].1;
    bench.store.record_attempt(key, &attempt(0, at(2), AttemptVerdict::Dead("no".to_owned())), at(2)).await;
    assert_eq!(bench.read(watch.number).dead_current_run, 1);
    bench.end_run(&watch, 1, at(3)).await;
    assert_eq!(bench.read(watch.number).phase(), Phase::Dead);
    bench.store.redeliver(vec![key], at(4)).await.unwrap();
    bench.store.record_attempt(key, &nth(2, attempt(1, at(5), AttemptVerdict::Delivered)), at(5)).await;
    assert_eq!(bench.read(watch.number).phase(), Phase::Done);
}

async fn much_progress_pushes_out_no_end_and_no_dead_letter(kind: Kind) {
    let bench = Bench::on(kind);
    let end = bench.finish("job_1", &["app"]).await;
    let dead_end = bench.key(&end, "app").await;
    bench
        .store
        .record_attempt(dead_end, &attempt(0, at(12), AttemptVerdict::Dead("no".to_owned())), at(12))
        .await;
    let watch = bench.watch("job_1").await;
    let mut dead_step = None;
    for turn in 0..60 {
        let word = seen(if turn % 2 == 0 { "queued" } else { "paused" }, 2);
        bench.poll(&watch, &word, at(20 + turn)).await;
        let key = bench.pending()[0].1;
        let verdict =
            if turn == 0 { AttemptVerdict::Dead("no".to_owned()) } else { AttemptVerdict::Delivered };
        bench.store.record_attempt(key, &attempt(0, at(20 + turn), verdict), at(20 + turn)).await;
        dead_step = dead_step.or(Some(key));
    }
    let watch = bench.read(watch.number);
    assert!(watch.progress_events.len() <= 18, "{} are kept", watch.progress_events.len());
    for key in [dead_end, dead_step.unwrap()] {
        assert_eq!(bench.store.delivery(key).await.unwrap().unwrap().state, DeliveryState::Dead);
    }
    assert_eq!(watch.end_events, end.end_events);
    // Undelivered, it is bounded as well.
    for turn in 0..300 {
        bench.poll(&watch, &seen(if turn % 2 == 0 { "queued" } else { "paused" }, 2), at(100 + turn)).await;
    }
    let watch = bench.read(watch.number);
    assert_eq!(watch.progress_events.len(), 256);
    let numbers = watch.all_events();
    assert!(bench.store.remove("retab", &watch.job_id, None).await.unwrap());
    for number in numbers {
        assert_eq!(bench.store.event(number).await.unwrap(), None);
    }
    assert!(bench.pending().is_empty());
}

on_every_backend![
    a_change_of_status_and_the_start_of_work_are_news,
    nothing_is_made_that_goes_nowhere,
    a_run_starts_once_and_a_retry_in_place_is_another_run,
    a_job_that_was_lost_at_work_does_not_start_again,
    progress_counts_for_where_its_own_run_stands,
    dead_progress_before_the_end_is_told_at_the_end,
    much_progress_pushes_out_no_end_and_no_dead_letter,
];
