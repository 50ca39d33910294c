//! The clocks. [`now`] is the wall clock, for times that are stored or shown; people and time
//! servers set it, so it may jump. [`steady`] is the same clock without its jumps, for ages and
//! deadlines. Waits use `tokio::time`, which stands still while the machine sleeps.

mod timeline;

use std::{
    sync::{LazyLock, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::time::{ClockId, clock_gettime};

use crate::util::units::Time;

pub use timeline::{Change, Moment, Period, Timeline, jump};

/// The first readings of this process, from which the steady clock continues.
static START: LazyLock<(Time, Duration)> = LazyLock::new(|| (wall(), since_boot()));

static TIMELINE: LazyLock<Mutex<Timeline>> = LazyLock::new(|| Mutex::new(Timeline::starting(moment())));

/// Returns the present instant by the wall clock.
#[must_use]
pub fn now() -> Time {
    wall()
}

/// Returns the present instant by a clock that never jumps: the wall clock at the start of this
/// process, and the time since then, sleep included.
#[must_use]
pub(crate) fn steady() -> Time {
    moment().steady
}

/// The readings of every clock at one moment.
#[must_use]
pub fn moment() -> Moment {
    /// The longest time between two readings of one moment. A thread that is held up longer reads
    /// again.
    const CLOSE: Duration = Duration::from_millis(20);
    let start = *START;
    let mut tries = 0;
    loop {
        let before = since_boot();
        let (wall, awake) = (wall(), Instant::now());
        let boot = since_boot();
        tries += 1;
        if boot.saturating_sub(before) < CLOSE || tries == 5 {
            return Moment { wall, steady: start.0.after(boot.saturating_sub(start.1)), boot, awake };
        }
    }
}

/// Returns the age of a stamp of the wall clock. A stamp in the future was made by a wrong clock:
/// it is at least as old as this process.
#[must_use]
pub fn age(stamp: Time) -> Duration {
    let moment = moment();
    if stamp <= moment.wall.after(Duration::from_secs(1)) {
        return moment.wall.since(stamp);
    }
    moment.steady.since(START.0)
}

/// The jumps of the wall clock in this process.
pub(crate) fn timeline() -> MutexGuard<'static, Timeline> {
    TIMELINE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::disallowed_methods, reason = "this is the one place")]
fn wall() -> Time {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
    Time(millis.saturating_add(seam::WALL.load(Ordering::Relaxed)))
}

/// Returns the time since the start of the machine, sleep included.
pub(crate) fn since_boot() -> Duration {
    let boot = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) =
        (u64::try_from(boot.tv_sec).unwrap_or(0), u32::try_from(boot.tv_nsec).unwrap_or(0));
    let asleep = u64::try_from(seam::ASLEEP.load(Ordering::Relaxed)).unwrap_or(0);
    Duration::new(seconds, nanos) + Duration::from_millis(asleep)
}

/// Changes the clocks of a machine, for tests in a process of their own. Nothing in the crate calls
/// it, and no configuration reaches it.
#[doc(hidden)]
pub mod seam {
    use std::sync::atomic::{AtomicI64, Ordering};

    pub(super) static WALL: AtomicI64 = AtomicI64::new(0);
    pub(super) static ASLEEP: AtomicI64 = AtomicI64::new(0);

    /// Sets the wall clock forward, or back, by `milliseconds`.
    pub fn set_wall_clock(by: i64) {
        WALL.fetch_add(by, Ordering::Relaxed);
    }

    /// Lets the machine have slept for `milliseconds`.
    pub fn sleep_machine(millis: i64) {
        ASLEEP.fetch_add(millis, Ordering::Relaxed);
        WALL.fetch_add(millis, Ordering::Relaxed);
    }
}
