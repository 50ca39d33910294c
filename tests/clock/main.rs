//! What the daemon does when the clocks of its machine jump, and when the machine sleeps. A process of its own: its tests
//! set the clocks, one after the other.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests stand outside: a clock, an environment and clients of their own"
)]

#[path = "../it/harness/mod.rs"]
mod harness;

use std::time::Duration;

use harness::{Daemon, Flow, Reply, eventually, webhook};
use serde_json::Value;
use tidings::{
    mock::{JobPlan, Mock},
    util::{
        clock::{self, seam},
        units::{HumanDuration, Time},
    },
};
use tokio::sync::{Mutex, MutexGuard};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// The clocks of this process, for one test at a time. They are put right at its end.
struct Clocks {
    off: i64,
    _alone: MutexGuard<'static, ()>,
}

impl Clocks {
    async fn take() -> Self {
        static ALONE: Mutex<()> = Mutex::const_new(());
        Self { off: 0, _alone: ALONE.lock().await }
    }

    fn set(&mut self, by: i64) {
        self.off += by;
        seam::set_wall_clock(by);
    }

    fn sleep(&mut self, millis: i64) {
        self.off += millis;
        seam::sleep_machine(millis);
    }
}

impl Drop for Clocks {
    fn drop(&mut self) {
        seam::set_wall_clock(-self.off);
    }
}

fn time(value: &Value) -> Time {
    Time::parse(value.as_str().unwrap_or_else(|| panic!("no time: {value}"))).unwrap()
}

/// Whether a stamp is of the last few minutes by the wall clock as it stands.
fn is_recent(stamp: &Value) -> bool {
    (clock::now().0 - time(stamp).0).abs() < 600_000
}

fn endless(mock: &Mock) -> String {
    mock.add_job(JobPlan::new().lasting(Duration::from_secs(1_000_000)))
}

/// The watch of a job once it was polled `more` times from now on.
async fn polled(daemon: &Daemon, job: &str, more: u64) -> Value {
    let (_, watch) = daemon.get(&format!("/v1/watches/retab/{job}")).await;
    let polls = watch["polls"].as_u64().unwrap();
    daemon.until(job, "is polled", |watch| watch["polls"].as_u64() >= Some(polls + more)).await
}

async fn metric(daemon: &Daemon, line: &str) -> f64 {
    let (_, text) = daemon.get_bytes("/metrics").await;
    let text = String::from_utf8(text).unwrap();
    let found = text.lines().find(|found| found.starts_with(line));
    found.unwrap_or_else(|| panic!("{line} in {text}")).split_whitespace().last().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_put_right_while_it_runs_loses_no_job() {
    for by in [9 * DAY, 56 * YEAR, -9 * DAY, -400 * DAY] {
        let mut clocks = Clocks::take().await;
        clocks.set(-by);
        let flow = Flow::start(&[], |_| {}).await;
        let job = endless(&flow.mock);
        flow.daemon.watch(&job).await;
        polled(&flow.daemon, &job, 1).await;
        clocks.set(by);
        // Registered again at once, before anybody can have noticed.
        flow.daemon.watch(&job).await;
        let watch = flow.daemon.until(&job, "has its age", |watch| is_recent(&watch["created_at"])).await;
        assert_eq!(watch["phase"], "watching", "{by}: {watch}");
        let watch = polled(&flow.daemon, &job, 3).await;
        assert_eq!(watch["phase"], "watching", "{by}: {watch}");
        let flow = flow.restart(|_| {}).await;
        let watch = polled(&flow.daemon, &job, 3).await;
        assert_eq!((&watch["phase"], is_recent(&watch["created_at"])), (&"watching".into(), true), "{watch}");
        flow.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_put_right_between_two_runs_loses_no_job() {
    for by in [9 * DAY, 56 * YEAR, -400 * DAY] {
        let mut clocks = Clocks::take().await;
        clocks.set(-by);
        let flow = Flow::start(&[], |_| {}).await;
        let job = endless(&flow.mock);
        flow.daemon.watch(&job).await;
        let down = flow.down().await;
        clocks.set(by);
        let flow = down.start().await;
        let watch = polled(&flow.daemon, &job, 3).await;
        assert_eq!((&watch["phase"], is_recent(&watch["created_at"])), (&"watching".into(), true), "{watch}");
        flow.stop().await;
    }
}

/// One delivery that failed and is tried again in an hour.
async fn waiting(flow: &Flow) -> Value {
    flow.receiver.then([Reply::status(503)]);
    let job = flow.job().await;
    flow.receiver.at_least(1).await;
    let watch = flow.daemon.until(&job, "waits", |watch| watch["deliveries"][0]["attempts"] == 1).await;
    watch["deliveries"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_ahead_puts_no_delivery_off() {
    let mut clocks = Clocks::take().await;
    clocks.set(400 * DAY);
    let flow = Flow::start(&[HumanDuration::secs(3600)], |_| {}).await;
    let delivery = waiting(&flow).await;
    clocks.set(-400 * DAY);
    let path = format!("/v1/deliveries/{}", delivery["id"].as_str().unwrap());
    let moved = eventually("its next attempt is within the hour", || async {
        let (_, delivery) = flow.daemon.get(&path).await;
        let ahead = time(&delivery["next_attempt_at"]).0 - clock::now().0;
        (ahead <= HOUR).then_some(delivery)
    })
    .await;
    assert!(is_recent(&moved["created_at"]), "{moved}");
    let name = "tidings_oldest_pending_delivery_seconds{sink=\"app\"}";
    let age = eventually("it has an age", || async {
        Some(metric(&flow.daemon, name).await).filter(|age| *age > 0.0)
    })
    .await;
    assert!(age < 600.0, "{age}");
    // The same over a restart; the machine's next hour brings it.
    let flow = flow.restart(|_| {}).await;
    clocks.sleep(HOUR);
    flow.receiver.at_least(2).await;
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_eight_hours_of_sleep_what_is_overdue_is_done() {
    let mut clocks = Clocks::take().await;
    let flow = Flow::start(&[HumanDuration::secs(6 * 3600)], |config| {
        let polling = &mut config.sources.get_mut("retab").unwrap().polling;
        polling.min_interval = HumanDuration::secs(4 * 3600);
        polling.max_interval = Some(HumanDuration::secs(4 * 3600));
    })
    .await;
    // With polls four hours apart only the first, and those that are asked for, come soon.
    flow.receiver.then([Reply::status(503)]);
    let (slow, done) = (endless(&flow.mock), flow.mock.add_job(JobPlan::new().lasting(Duration::ZERO)));
    flow.daemon.watch(&slow).await;
    flow.daemon.watch(&done).await;
    for job in [&slow, &done] {
        let (status, _) = flow.daemon.post(&format!("/v1/watches/retab/{job}/poll"), &Value::Null).await;
        assert_eq!(status, 202);
    }
    let watch = flow.daemon.until(&slow, "is polled", |watch| watch["polls"].as_u64() >= Some(1)).await;
    let polls = watch["polls"].as_u64();
    flow.daemon.until(&done, "waits", |watch| watch["deliveries"][0]["attempts"] == 1).await;
    clocks.sleep(8 * HOUR);
    flow.receiver.at_least(2).await;
    flow.daemon.until(&slow, "is polled again", |watch| watch["polls"].as_u64() > polls).await;
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leap_of_the_clock_drops_nothing_before_it_has_been_kept_for_its_time() {
    let mut clocks = Clocks::take().await;
    let flow = Flow::start(&[], |config| {
        webhook(config, |_| {});
        config.store.retention = HumanDuration::secs(4);
    })
    .await;
    let begun = tokio::time::Instant::now();
    let job = flow.job().await;
    flow.daemon.finished(&job).await;
    clocks.set(400 * DAY);
    eventually("retention drops it", || async {
        let (status, _) = flow.daemon.get(&format!("/v1/watches/retab/{job}")).await;
        (status == 404).then_some(())
    })
    .await;
    assert!(begun.elapsed() >= Duration::from_secs(4), "dropped after {:?}", begun.elapsed());
    flow.stop().await;
}
