//! A failure belongs to one job or to the source: however many jobs fail, the others are served as if these were not there.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tidings::{upstream::SourceConfig, util::units::HumanDuration};

use crate::harness::{
    Flow, Setup, eventually,
    script::{Ask, Reply, Script},
    together,
};

/// A flow whose upstream answers by this rule. Its source is as it is by default, but for its place and this change.
async fn scripted(
    rule: impl Fn(&Ask) -> Reply + Send + 'static,
    change: impl FnOnce(&mut SourceConfig),
) -> (Flow, Script) {
    let script = Script::start(rule).await;
    let setup = Setup::new().await.retab(|source| {
        source.base_url = Some(script.url());
        source.not_found_grace = None;
        change(source);
    });
    (setup.start().await, script)
}

impl Flow {
    /// Registers so many jobs `bad-NUMBER` and as many `good-NUMBER` in one batch.
    async fn register_both(&self, count: usize) -> (Vec<String>, Vec<String>) {
        let named = |kind: &str| (0..count).map(|number| format!("{kind}-{number}")).collect::<Vec<_>>();
        let (bad, good) = (named("bad"), named("good"));
        self.register_all(&[bad.clone(), good.clone()].concat()).await;
        (bad, good)
    }

    /// Registers so many jobs `job-NUMBER` in one batch.
    async fn register_jobs(&self, count: usize) -> Vec<String> {
        let jobs: Vec<String> = (0..count).map(|number| format!("job-{number}")).collect();
        self.register_all(&jobs).await;
        jobs
    }

    async fn register_all(&self, jobs: &[String]) {
        let watches: Vec<_> = jobs.iter().map(|job| json!({"job_id": job})).collect();
        let (status, answer) = self.daemon.post("/v1/watches/batch", &json!({"watches": watches})).await;
        assert_eq!((status, answer["accepted"].as_u64()), (200, Some(jobs.len() as u64)), "{answer}");
    }

    async fn all_completed(&self, jobs: &[String]) {
        for job in jobs {
            let watch = self.daemon.finished(job).await;
            assert_eq!(watch["outcome"], "completed", "{watch}");
        }
    }

    async fn all_open(&self, jobs: &[String]) {
        for job in jobs {
            let (_, watch) = self.daemon.get(&format!("/v1/watches/retab/{job}")).await;
            assert!(watch["phase"] == "watching" || watch["phase"] == "fetching", "{watch}");
        }
    }

    async fn source_is(&self, state: &str) -> bool {
        self.source().await["state"] == state
    }
}

fn is_bad(ask: &Ask) -> bool {
    ask.job.starts_with("bad")
}

/// Jobs whose third status says that they ended.
fn honest(ask: &Ask) -> Reply {
    Reply::status(ask, if ask.full || ask.nth >= 3 { "completed" } else { "in_progress" })
}

/// Half of the jobs fail in one way at one place; the other half ends as usual, each polled and fetched as often as alone.
async fn half_fails(full: bool, failure: impl Fn() -> Reply + Send + 'static) {
    let rule = move |ask: &Ask| match is_bad(ask) {
        true if ask.full == full => failure(),
        true => Reply::status(ask, "completed"),
        false => honest(ask),
    };
    let (flow, script) = scripted(rule, |source| source.max_in_flight = 8).await;
    let (bad, good) = flow.register_both(40).await;
    flow.all_completed(&good).await;
    // A request that takes a second is cut and made again where others wait: on a slow machine a few are.
    for (full, alone) in [(false, 3), (true, 1)] {
        let asked: usize = good.iter().map(|job| script.count(job, full)).sum();
        let alone = alone * good.len();
        assert!(
            (alone..=alone + alone / 10).contains(&asked),
            "{asked} requests, and {alone} alone ({full})"
        );
    }
    flow.all_open(&bad).await;
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_whose_status_fails_do_not_hold_up_others() {
    let statuses = [500, 400, 408];
    for code in statuses {
        half_fails(false, move || Reply::Code(code, Vec::new())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_whose_result_fails_do_not_hold_up_others() {
    let answers: [fn() -> Reply; 5] = [
        || Reply::Code(500, Vec::new()),
        || Reply::Code(503, Vec::new()),
        || Reply::Code(404, Vec::new()),
        || Reply::Code(422, Vec::new()),
        || Reply::Json("<html>".to_owned()),
    ];
    for answer in answers {
        half_fails(true, answer).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_are_limited_again_and_again_do_not_hold_up_others() {
    let wait = || vec![("retry-after", "3600".to_owned())];
    half_fails(true, move || Reply::Code(503, wait())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_hang_or_drip_hold_no_place() {
    let answers: [(bool, fn() -> Reply); 3] =
        [(false, || Reply::Hang), (true, || Reply::Hang), (true, || Reply::Drip)];
    together(answers.into_iter().map(|(full, answer)| half_fails(full, answer))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_forbidden_results_are_no_refused_key() {
    // In turn, so that no answer lies between them: then the key is doubted, and the first other job clears it.
    half_fails(true, || Reply::Code(403, Vec::new())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_routes_loses_nothing() {
    together([404, 400, 408, 410].into_iter().map(loses_nothing_by)).await;
}

/// Every request is answered with this code for a while.
async fn loses_nothing_by(code: u16) {
    let is_broken = Arc::new(AtomicBool::new(false));
    let broken = Arc::clone(&is_broken);
    let rule = move |ask: &Ask| match broken.load(Ordering::Relaxed) {
        true => Reply::Code(code, Vec::new()),
        false => Reply::status(ask, "in_progress"),
    };
    let (flow, script) = scripted(rule, |_| ()).await;
    let jobs = flow.register_jobs(50).await;
    eventually("each has been seen", || async {
        jobs.iter().all(|job| script.count(job, false) > 0).then_some(())
    })
    .await;
    is_broken.store(true, Ordering::Relaxed);
    let before = script.asked().len();
    eventually("each was refused often enough to be given up", || async {
        let mut asked = std::collections::HashMap::new();
        for ask in &script.asked()[before..] {
            *asked.entry(ask.job.clone()).or_insert(0) += 1;
        }
        // Pages of the list are requested, too.
        jobs.iter().all(|job| asked.get(job).is_some_and(|count| *count > 12)).then_some(())
    })
    .await;
    flow.all_open(&jobs).await;
    script.set(|ask| Reply::status(ask, "completed"));
    flow.all_completed(&jobs).await;
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_by_403_is_a_limit() {
    let reset = || {
        let at = tidings::util::clock::now().0 / 1000 + 3;
        vec![("x-ratelimit-remaining", "0".to_owned()), ("x-ratelimit-reset", at.to_string())]
    };
    let rule = move |ask: &Ask| match ask.nth {
        1 if !ask.full => Reply::Code(403, reset()),
        _ => Reply::status(ask, "completed"),
    };
    let (flow, script) = scripted(rule, |_| ()).await;
    let jobs = flow.register_jobs(1).await;
    eventually("it is limited", || async { flow.source_is("limited").await.then_some(()) }).await;
    flow.all_completed(&jobs).await;
    let asked = script.asked();
    // By the second, as the header says it.
    assert!(asked[1].at >= asked[0].at + Duration::from_secs(2), "{asked:?}");
    assert_eq!(script.count(&jobs[0], false), 2);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_a_source_asked_for_lasts_over_a_restart() {
    let rule = |ask: &Ask| match ask.nth {
        1 if !ask.full => Reply::Code(429, vec![("retry-after", "1800".to_owned())]),
        _ => Reply::status(ask, "completed"),
    };
    let (flow, script) = scripted(rule, |_| ()).await;
    let jobs = flow.register_jobs(1).await;
    eventually("it is limited", || async { flow.source_is("limited").await.then_some(()) }).await;
    let before = flow.source().await["paused_until"].clone();
    let flow = flow.restart(|_| ()).await;
    flow.until(&jobs[0], "waits for the source", |watch| watch["next_poll_reason"] == "source_limited").await;
    let time = |value: &Value| tidings::util::units::Time::parse(value.as_str().unwrap()).unwrap();
    let after = flow.source().await["paused_until"].clone();
    let apart = time(&before).since(time(&after)).max(time(&after).since(time(&before)));
    assert!(apart < Duration::from_secs(2), "{before} {after}");
    assert_eq!(script.asked().len(), 1, "it is not asked again");
    // Somebody who asks may try.
    let (status, _) = flow.daemon.post(&format!("/v1/watches/retab/{}/poll", jobs[0]), &json!({})).await;
    assert_eq!(status, 202);
    flow.all_completed(&jobs).await;
    let flow = flow.restart(|_| ()).await;
    assert_eq!(flow.source().await["state"], "ok", "the wait was over");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_asks_for_a_poll_gets_one_during_a_long_pause() {
    let rule = |ask: &Ask| match ask.nth {
        1 if !ask.full => Reply::Code(429, vec![("retry-after", "86400".to_owned())]),
        _ => Reply::status(ask, "completed"),
    };
    let (flow, _script) = scripted(rule, |_| ()).await;
    let jobs = flow.register_jobs(1).await;
    eventually("it is limited", || async { flow.source_is("limited").await.then_some(()) }).await;
    flow.until(&jobs[0], "waits for the source", |watch| watch["next_poll_reason"] == "source_limited").await;
    let (status, _) = flow.daemon.post(&format!("/v1/watches/retab/{}/poll", jobs[0]), &json!({})).await;
    assert_eq!(status, 202);
    flow.all_completed(&jobs).await;
    assert_eq!(flow.source().await["state"], "ok");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_whose_deadline_passed_while_the_daemon_was_down_are_polled() {
    let (flow, script) = scripted(|ask| Reply::status(ask, "in_progress"), |_| ()).await;
    let jobs = flow.register_jobs(60).await;
    let registered = std::time::Instant::now();
    let down = flow.down().await;
    // At the start the source is out of order in one way or another; all jobs have ended meanwhile.
    let since = Arc::new(std::sync::Mutex::new(None::<std::time::Instant>));
    script.set(move |ask| {
        let mut since = since.lock().unwrap();
        match since.get_or_insert_with(std::time::Instant::now).elapsed() < Duration::from_secs(1) {
            true => Reply::Code([500, 503, 401, 404][ask.job.len() % 4], Vec::new()),
            false => Reply::status(ask, "completed"),
        }
    });
    eventually("the deadlines have passed", || async {
        (registered.elapsed() > Duration::from_millis(400)).then_some(())
    })
    .await;
    let flow = down.retab(|source| source.polling.deadline = HumanDuration::millis(300)).start().await;
    flow.all_completed(&jobs).await;
    let told: BTreeSet<String> =
        flow.receiver.requests().iter().map(|request| request.json()["type"].to_string()).collect();
    assert_eq!(told, ["\"job.completed\"".to_owned()].into());
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_about_which_two_routes_disagree_is_polled_more_and_more_rarely() {
    let rule = |ask: &Ask| Reply::status(ask, if ask.full { "in_progress" } else { "completed" });
    let (flow, script) = scripted(rule, |_| ()).await;
    let jobs = flow.register_jobs(1).await;
    let asked = eventually("the status is asked again", || async {
        let asked = script.asked();
        (asked.iter().filter(|ask| !ask.full).count() > 1).then_some(asked)
    })
    .await;
    let full: Vec<bool> = asked.iter().take(6).map(|ask| ask.full).collect();
    assert_eq!(full, [false, true, true, true, true, false]);
    flow.all_open(&jobs).await;
    script.set(|ask| Reply::status(ask, "completed"));
    flow.all_completed(&jobs).await;
    flow.stop().await;
}
