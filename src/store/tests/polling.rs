//! From a status to an event.

use super::*;
use crate::model::job::Phase;

async fn an_observation_is_taken_in_and_marks_the_run_as_seen(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.watch("job_1").await;
    let more = StatusAnswer {
        endpoint: Some("/v1/extractions".to_owned()),
        metadata: Some(labels([("order", "204")])),
        ..seen("in_progress", 1)
    };
    bench.store.record_running(watch.number, &more, 2, to(&[]), at(1)).await;
    // What a later answer leaves out stays.
    bench
        .store
        .record_running(watch.number, &StatusAnswer { body: None, ..seen("odd", 1) }, 3, to(&[]), at(2))
        .await;
    let watch = bench.read(watch.number);
    assert_eq!((watch.status.as_deref(), watch.polls, watch.seen_running), (Some("odd"), 3, true));
    assert_eq!(watch.endpoint.as_deref(), Some("/v1/extractions"));
    assert_eq!(watch.metadata, Some(labels([("order", "204")])));
    assert_eq!(watch.last_body.as_deref(), Some(r#"{"status":"in_progress"}"#));
}

async fn an_end_makes_one_event_with_a_delivery_to_each_sink(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.watch("job_1").await;
    bench.told();
    let ended =
        bench.store.record_finished(watch.number, Outcome::Failed, &seen("failed", 1), 4, at(10)).await;
    let Finished::Fetch(fetching) = ended else { panic!("a new end") };
    assert_eq!(
        (fetching.phase(), bench.told()),
        (Phase::Fetching, vec![Change::WatchOpened(fetching.clone())])
    );
    assert_eq!(bench.open_watches(), [Watch::clone(&fetching)]);
    bench.fan_out(&fetching, &["app", "disk"], at(11)).await;
    let watch = bench.read(watch.number);
    assert_eq!(
        (watch.phase(), watch.pending, watch.pending_completion.as_ref()),
        (Phase::Delivering, 2, None)
    );
    let end = watch.current_completion().unwrap();
    assert_eq!((end.outcome, end.job.as_ref().unwrap().size), (Outcome::Failed, BODY.len() as u64));
    assert_eq!(Some(&end.event_id), fetching.pending_completion.as_ref().map(|ending| &ending.event_id));
    assert_eq!(
        bench.store.event(watch.end_events[0]).await.unwrap().unwrap().news,
        News::Completion(end.clone())
    );
    assert!(bench.open_watches().is_empty());
    let sinks: Vec<_> = bench.pending().into_iter().map(|(sink, _, due)| (sink, due)).collect();
    assert_eq!(sinks.len(), 2);
    assert!(sinks.contains(&("app".to_owned(), at(11))) && sinks.contains(&("disk".to_owned(), at(11))));
    let told = bench.told();
    let due = told.iter().filter(|change| matches!(change, Change::DeliveryDue { .. })).count();
    assert_eq!((due, told.contains(&Change::WatchSettled { watch: watch.number })), (2, true), "{told:?}");
}

async fn a_result_that_came_with_the_poll_makes_the_event_at_once(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.watch("job_1").await;
    bench.told();
    let answer = seen("completed", 1);
    let end = watch.completion_in(Outcome::Completed, &answer, at(2));
    let mut incoming = bench.store.bodies().begin(watch.number, &end.event_id);
    incoming.write(BODY).await.unwrap();
    let body = incoming.finish().await.unwrap();
    let facts = (watch.number, Outcome::Completed, 4);
    let record = |event_id| {
        let store = bench.store.clone();
        let (answer, body) = (answer.clone(), body.clone());
        async move { store.record_result(facts, &answer, (&body, event_id), None, to(&["app"]), at(2)).await }
    };
    let recorded = record(&end.event_id).await;
    assert!(matches!(recorded, Finished::Complete(_)), "{recorded:?}");
    let told = bench.told();
    assert!(
        !told.iter().any(|change| matches!(change, Change::WatchOpened(_))),
        "nothing is fetched: {told:?}"
    );
    let watch = bench.read(watch.number);
    assert_eq!((watch.phase(), watch.polls, watch.end_events.len()), (Phase::Delivering, 4, 1));
    let job = watch.completion.as_ref().unwrap().job.clone().unwrap();
    let stored = bench.store.bodies().get(watch.number, &end.event_id, &job);
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut stored.read().unwrap(), &mut bytes).unwrap();
    assert_eq!(bytes, BODY);
    assert_eq!(record(&end.event_id).await, Finished::Gone, "done twice it is one event");
    assert_eq!(bench.read(watch.number).end_events.len(), 1);
}

async fn a_result_for_another_event_is_fetched(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.watch("job_1").await;
    let mut incoming = bench.store.bodies().begin(watch.number, "evt_other");
    incoming.write(BODY).await.unwrap();
    let body = incoming.finish().await.unwrap();
    bench.told();
    let facts = (watch.number, Outcome::Completed, 1);
    let answer = seen("completed", 1);
    let recorded =
        bench.store.record_result(facts, &answer, (&body, "evt_other"), None, to(&["app"]), at(2)).await;
    let Finished::Fetch(fetching) = recorded else { panic!("{recorded:?}") };
    assert_eq!((fetching.phase(), bench.told()), (Phase::Fetching, vec![Change::WatchOpened(fetching)]));
    assert!(bench.pending().is_empty());
}

async fn a_step_done_twice_makes_one_event(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.watch("job_1").await;
    bench.store.record_finished(watch.number, Outcome::Completed, &seen("completed", 1), 1, at(1)).await;
    let again =
        bench.store.record_finished(watch.number, Outcome::Completed, &seen("completed", 1), 1, at(2)).await;
    assert_eq!(again, Finished::Gone);
    let fetching = bench.read(watch.number);
    bench.fan_out(&fetching, &["app"], at(3)).await;
    let job = NewBody::stored(StoredJob { size: 1, sha256: "other".to_owned(), ..StoredJob::default() });
    assert!(bench.store.complete(watch.number, &job, None, to(&["app"]), at(4)).await);
    bench.store.lose(watch.number, "too late", (9, None), to(&["app"]), at(5)).await;
    let watch = bench.read(watch.number);
    assert_eq!((watch.end_events.len(), bench.pending().len(), watch.polls), (1, 1, 1));
    assert!(!bench.store.complete(999, &job, None, to(&["app"]), at(6)).await, "there is no such watch");
}

async fn what_a_job_says_of_its_end_makes_the_event_and_its_id(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.watch("job_1").await;
    let ended =
        bench.store.record_finished(watch.number, Outcome::Completed, &seen("completed", 1), 4, at(10)).await;
    let Finished::Fetch(fetching) = ended else { panic!("a new end") };
    let seen_end = fetching.pending_completion.as_deref().unwrap().clone();
    let said = |outcome: Outcome| Said {
        status: outcome.as_str().to_owned(),
        outcome,
        error: Some("no page 3".to_owned()),
    };
    // What a killed process stored and did not record is worked out again, and comes to the same.
    let end = seen_end.clone().said_by(&fetching, &said(Outcome::Failed));
    assert_eq!(end, seen_end.clone().said_by(&fetching, &said(Outcome::Failed)));
    let id = crate::model::job::event_id("retab", None, &fetching.job_id, Outcome::Failed, &seen_end.attempt);
    assert_eq!(
        (end.outcome, end.event_id.as_str(), &end.attempt),
        (Outcome::Failed, id.as_str(), &seen_end.attempt)
    );
    assert_eq!(seen_end, seen_end.clone().said_by(&fetching, &said(Outcome::Completed)));

    let job = NewBody::stored(StoredJob { size: 2, ..StoredJob::default() });
    let failed = said(Outcome::Failed);
    for now in [at(11), at(12)] {
        assert!(bench.store.complete(watch.number, &job, Some(&failed), to(&["app"]), now).await);
    }
    let told = bench.read(watch.number);
    let known = told.current_completion().unwrap();
    assert_eq!((known.outcome, &known.event_id, told.end_events.len()), (Outcome::Failed, &id, 1));
    assert_eq!((told.status.as_deref(), told.last_error.as_deref()), (Some("failed"), Some("no page 3")));

    // A status route that goes on to say otherwise makes no second event of the same run.
    bench.watch("job_1").await;
    bench.store.record_finished(watch.number, Outcome::Completed, &seen("completed", 1), 5, at(20)).await;
    assert!(bench.store.complete(watch.number, &job, Some(&failed), to(&["app"]), at(21)).await);
    let again = bench.read(watch.number);
    assert_eq!(
        (again.end_events.clone(), again.current_completion(), again.pending),
        (told.end_events.clone(), told.current_completion(), told.pending)
    );
}

async fn a_run_that_was_told_makes_no_second_event_and_a_new_run_does(kind: Kind) {
    let bench = Bench::on(kind);
    let done = bench.finish("job_1", &[]).await;
    bench.watch("job_1").await;
    // The same run, its data gone by now, and a route that leaves a field out.
    let same = StatusAnswer { run: Run::default(), ..seen("expired", 1) };
    assert_eq!(
        bench.store.record_finished(done.number, Outcome::Expired, &same, 5, at(20)).await,
        Finished::Known
    );
    let back = bench.read(done.number);
    assert_eq!((back.phase(), back.completion.as_ref()), (Phase::Done, done.completion.as_ref()));
    assert_eq!((back.end_events.as_slice(), bench.open_watches().len()), (done.end_events.as_slice(), 0));
    bench.watch("job_1").await;
    let ended =
        bench.store.record_finished(done.number, Outcome::Completed, &seen("completed", 2), 6, at(30)).await;
    let Finished::Fetch(fetching) = ended else { panic!("a second run") };
    bench.fan_out(&fetching, &[], at(31)).await;
    let second = bench.read(done.number);
    assert_eq!(second.end_events.len(), 2);
    assert_ne!(second.completion.unwrap().event_id, done.completion.unwrap().event_id);
}

async fn a_run_that_ends_otherwise_is_another_run_even_in_the_same_second(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.watch("job_1").await;
    let ended =
        bench.store.record_finished(watch.number, Outcome::Failed, &seen("failed", 1), 1, at(1)).await;
    let Finished::Fetch(fetching) = ended else { panic!("a first run") };
    bench.fan_out(&fetching, &[], at(2)).await;
    bench.watch("job_1").await;
    let ended =
        bench.store.record_finished(watch.number, Outcome::Completed, &seen("completed", 1), 2, at(3)).await;
    assert!(matches!(ended, Finished::Fetch(_)), "{ended:?}");
}

async fn a_silent_source_has_a_new_run_only_after_it_was_seen_running(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.watch("job_1").await;
    let gone = silent("completed");
    let end = |now| bench.store.record_finished(watch.number, Outcome::Completed, &gone, 1, now);
    let Finished::Fetch(first) = end(at(1)).await else { panic!("the first run") };
    bench.fan_out(&first, &[], at(2)).await;
    bench.watch("job_1").await;
    assert_eq!(end(at(3)).await, Finished::Known);
    bench.watch("job_1").await;
    bench.store.record_running(watch.number, &silent("queued"), 2, to(&[]), at(4)).await;
    let Finished::Fetch(second) = end(at(5)).await else { panic!("it ran again") };
    let ids = [&first, &second].map(|watch| watch.pending_completion.as_ref().unwrap().event_id.clone());
    assert_ne!(ids[0], ids[1]);
}

async fn a_lost_job_has_an_event_that_says_why_and_may_turn_up_after_all(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.watch("job_1").await;
    bench.store.record_running(watch.number, &seen("queued", 0), 2, to(&[]), at(1)).await;
    bench.store.lose(watch.number, "nobody knows it", (7, None), to(&["app"]), at(2)).await;
    let lost = bench.read(watch.number);
    let end = lost.current_completion().unwrap();
    assert_eq!((end.outcome, end.reason.as_deref()), (Outcome::Lost, Some("nobody knows it")));
    assert_eq!((lost.phase(), lost.polls, end.job.as_ref()), (Phase::Delivering, 7, None));
    let event = bench.store.event(lost.end_events[0]).await.unwrap().unwrap();
    assert_eq!(event.last_body.as_deref(), Some(r#"{"status":"queued"}"#));
    bench.watch("job_1").await;
    // Lost once more is no news.
    bench.store.lose(watch.number, "still nobody", (8, None), to(&["app"]), at(3)).await;
    assert_eq!(bench.read(watch.number).end_events.len(), 1);
    bench.watch("job_1").await;
    let ended =
        bench.store.record_finished(watch.number, Outcome::Completed, &seen("completed", 1), 9, at(4)).await;
    assert!(matches!(ended, Finished::Fetch(_)), "{ended:?}");
}

async fn a_job_lost_while_it_is_watched_again_goes_back_to_its_end(kind: Kind) {
    let bench = Bench::on(kind);
    let done = bench.finish("job_1", &[]).await;
    bench.watch("job_1").await;
    bench.store.lose(done.number, "forgotten by its source", (9, None), to(&["app"]), at(40)).await;
    let back = bench.read(done.number);
    assert_eq!(
        (back.phase(), back.completion.as_ref(), back.end_events.len()),
        (Phase::Done, done.completion.as_ref(), 1)
    );
    assert_eq!(back.closed_at, Some(at(40)));
}

async fn a_fetched_job_that_runs_again_is_watched_on(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.watch("job_1").await;
    bench.store.record_finished(watch.number, Outcome::Failed, &seen("failed", 1), 1, at(1)).await;
    bench.store.resume_watching(watch.number, at(2)).await;
    let watch = bench.read(watch.number);
    assert_eq!(
        (watch.stage, watch.pending_completion.as_ref(), watch.seen_running),
        (WatchStage::Watching, None, true)
    );
    assert_eq!(bench.told().last(), Some(&Change::WatchOpened(watch.into())));
}

async fn a_job_registered_while_it_is_fetched_is_watched_again_afterwards(kind: Kind) {
    let bench = Bench::on(kind);
    let watch = bench.watch("job_1").await;
    bench.store.record_finished(watch.number, Outcome::Completed, &seen("completed", 1), 1, at(1)).await;
    let again = bench.register(Registration::new("retab", id("job_1")), at(2)).await;
    let Registered::Existing(fetching) = again else { panic!("it is being watched: {again:?}") };
    bench.fan_out(&fetching, &["app"], at(3)).await;
    let watch = bench.read(watch.number);
    assert_eq!((watch.stage, watch.end_events.len(), watch.registered_at), (WatchStage::Watching, 1, at(3)));
    assert_eq!(bench.open_watches(), [watch]);
}

async fn a_watch_keeps_a_bounded_number_of_settled_events(kind: Kind) {
    let bench = Bench::on(kind);
    let number = bench.finish("job_1", &["app"]).await.number;
    for run in 2..=12 {
        bench.watch("job_1").await;
        let ended = bench
            .store
            .record_finished(number, Outcome::Completed, &seen("completed", run), 1, at(run.into()))
            .await;
        let Finished::Fetch(watch) = ended else { panic!("run {run}") };
        bench.fan_out(&watch, &[], at(run.into())).await;
    }
    // The first event is the oldest, and it stays because its delivery is still to be made.
    let watch = bench.read(number);
    assert_eq!((watch.end_events.len(), watch.phase(), bench.pending().len()), (12, Phase::Delivering, 1));
    let key = bench.pending()[0].1;
    bench.store.record_attempt(key, &attempt(0, at(50), AttemptVerdict::Delivered), at(50)).await;
    bench.watch("job_1").await;
    let ended =
        bench.store.record_finished(number, Outcome::Completed, &seen("completed", 13), 1, at(60)).await;
    let Finished::Fetch(watch) = ended else { panic!("run 13") };
    bench.fan_out(&watch, &[], at(60)).await;
    let watch = bench.read(number);
    assert_eq!(watch.end_events.len(), 8);
    assert_eq!(bench.store.delivery(key).await.unwrap(), None);
}

on_every_backend![
    an_observation_is_taken_in_and_marks_the_run_as_seen,
    an_end_makes_one_event_with_a_delivery_to_each_sink,
    a_result_that_came_with_the_poll_makes_the_event_at_once,
    a_result_for_another_event_is_fetched,
    a_step_done_twice_makes_one_event,
    what_a_job_says_of_its_end_makes_the_event_and_its_id,
    a_run_that_was_told_makes_no_second_event_and_a_new_run_does,
    a_run_that_ends_otherwise_is_another_run_even_in_the_same_second,
    a_silent_source_has_a_new_run_only_after_it_was_seen_running,
    a_lost_job_has_an_event_that_says_why_and_may_turn_up_after_all,
    a_job_lost_while_it_is_watched_again_goes_back_to_its_end,
    a_fetched_job_that_runs_again_is_watched_on,
    a_job_registered_while_it_is_fetched_is_watched_again_afterwards,
    a_watch_keeps_a_bounded_number_of_settled_events,
];
