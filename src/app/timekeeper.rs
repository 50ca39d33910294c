//! Detects jumps of the wall clock and sleep of the machine, and corrects ages, deadlines and retries.

use std::{sync::Arc, time::Duration};

use crate::{
    state::{AppState, dispatch},
    store::{ClockMark, Leap, Store, StoreError},
    util::{
        clock::{self, Change, Moment, Period, jump},
        units::{Time, rounded},
    },
};

/// The time between two comparisons of the clocks.
const TICK: Duration = Duration::from_secs(2);

/// The longest gap between two starts of the machine that is no leap of the clock, in milliseconds.
const SHORT_STOP: i64 = 3_600_000;

/// The result of comparing the clocks at a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    /// The wall clock at the start of the stretch in which it did not jump.
    since: Time,
    /// The stretch before, and by how much the clock jumped at its end.
    jumped: Option<(Period, i64)>,
    leap: Option<Leap>,
}

/// Compares the clock with the one that stamped the last records. `newest` is the newest stamp in the store.
fn compare(mark: Option<&ClockMark>, boot_id: &str, now: Moment, newest: Option<Time>) -> Found {
    let Some(mark) = mark else { return Found { since: now.wall, jumped: None, leap: None } };
    let boot_ms = u64::try_from(now.boot.as_millis()).unwrap_or(u64::MAX);
    if !boot_id.is_empty() && mark.boot_id == boot_id && boot_ms >= mark.boot_ms {
        let expected = mark.wall.after(Duration::from_millis(boot_ms - mark.boot_ms));
        return match jump(now.wall.0.saturating_sub(expected.0)) {
            0 => Found { since: mark.since, jumped: None, leap: mark.leap },
            by => Found {
                since: now.wall,
                jumped: Some((Period { since: mark.since, until: expected }, by)),
                leap: leap(now.wall, by),
            },
        };
    }
    // The machine restarted: only the wall clock tells how long it was off, and it may be wrong.
    let reached =
        newest.filter(|newest| *newest <= now.wall).map_or(mark.wall, |newest| newest.max(mark.wall));
    let by = now.wall.0.saturating_sub(reached.0);
    let leap = if by < SHORT_STOP { mark.leap.filter(|_| by >= 0) } else { leap(now.wall, by) };
    Found { since: now.wall, jumped: None, leap }
}

fn leap(at: Time, by_ms: i64) -> Option<Leap> {
    (by_ms > 0).then_some(Leap { at, by_ms })
}

/// Returns the instant before which finished watches are removed. After a leap of the clock a watch is kept that would be
/// younger by the clock before, until it has been kept for the retention again.
#[must_use]
pub fn cutoff(now: Time, retention: Duration, leap: Option<Leap>) -> Time {
    let millis = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    let held =
        leap.filter(|leap| now >= leap.at && now < leap.at.after(retention)).map_or(0, |leap| leap.by_ms);
    Time(now.0.saturating_sub(millis).saturating_sub(held))
}

/// Returns the kernel's id of this start of the machine, or an empty text without one.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn mark(now: Moment, since: Time, leap: Option<Leap>) -> ClockMark {
    let boot_ms = u64::try_from(now.boot.as_millis()).unwrap_or(u64::MAX);
    ClockMark { boot_id: boot_id(), boot_ms, wall: now.wall, since, leap }
}

/// Detects a jump of the clock while no process ran, and corrects the stamps. Comes before any open work is scheduled.
///
/// # Errors
/// When the store cannot be read or written.
pub async fn begin(store: &Store) -> Result<(), StoreError> {
    let now = clock::moment();
    let known = store.clock_mark().await?;
    let found = compare(known.as_ref(), &boot_id(), now, store.newest_stamp().await?);
    clock::timeline().start_period(found.since, now);
    if let Some((period, by)) = found.jumped {
        let moved = store.move_stamps(period, by).await?;
        let (by, watches, deliveries) = (shown(by), moved.watches, moved.deliveries);
        tracing::warn!(by, watches, deliveries, "wall clock jumped before this start; ages were kept");
    }
    store.set_clock_mark(mark(now, found.since, found.leap)).await
}

/// Compares the clocks until the daemon stops, and corrects stamps and schedules after a jump.
pub async fn watch(state: Arc<AppState>) {
    let mut before = clock::moment();
    loop {
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = state.shutdown.cancelled() => return,
        }
        let now = clock::moment();
        if let Some(change) = now.change_since(before) {
            adapt(&state, now, change).await;
        }
        before = now;
    }
}

async fn adapt(state: &Arc<AppState>, now: Moment, change: Change) {
    if change.jumped != 0 {
        let period = clock::timeline().end_period(now);
        tracing::warn!(by = shown(change.jumped), now = %now.wall, "wall clock jumped; ages are kept");
        while let Err(error) = record_jump(&state.store, period, change.jumped, now).await {
            tracing::warn!(%error, "stamps not moved yet");
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = state.shutdown.cancelled() => return,
            }
        }
        clock::timeline().forget_former();
    }
    if !change.slept.is_zero() {
        tracing::info!(slept = %rounded(change.slept), "machine slept; overdue work runs now");
        state.components().slept(change.slept);
    }
    if let Err(error) = dispatch_again(state, change.jumped != 0).await {
        tracing::warn!(%error, "open work unreadable; it keeps its previous schedule");
    }
}

async fn record_jump(store: &Store, period: Period, by: i64, now: Moment) -> Result<(), StoreError> {
    // First, so that retention waits from now on.
    store.set_clock_mark(mark(now, now.wall, leap(now.wall, by))).await?;
    store.move_stamps(period, by).await.map(drop)
}

/// Schedules pending deliveries, and with `with_watches` open watches, by the clocks as they are now.
async fn dispatch_again(state: &AppState, with_watches: bool) -> Result<(), StoreError> {
    let components = state.components();
    dispatch::pending_deliveries(state, &components).await?;
    if with_watches {
        dispatch::open_watches(state, &components).await?;
    }
    Ok(())
}

/// Formats milliseconds with their sign, for the log.
fn shown(by: i64) -> String {
    let sign = if by < 0 { "-" } else { "+" };
    format!("{sign}{}", rounded(Duration::from_millis(by.unsigned_abs())))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const HOUR: i64 = 3_600_000;
    const DAY: i64 = 24 * HOUR;
    const START: Time = Time(1_800_000_000_000);

    /// An hour after [`mark`], with the wall clock ahead by `skew`.
    fn later(skew: i64) -> Moment {
        let steady = Time(START.0 + HOUR);
        let wall = Time(steady.0 + skew);
        Moment { wall, steady, boot: Duration::from_millis(10_000_000 + 3_600_000), awake: Instant::now() }
    }

    fn written() -> ClockMark {
        let boot_id = "this".to_owned();
        ClockMark { boot_id, boot_ms: 10_000_000, wall: START, since: Time(START.0 - DAY), leap: None }
    }

    #[test]
    fn a_start_finds_out_what_the_clock_did_meanwhile() {
        let mark = written();
        let same = |skew| compare(Some(&mark), "this", later(skew), None);
        assert_eq!(same(0), Found { since: mark.since, jumped: None, leap: None });
        assert_eq!(same(9_000).jumped, None);
        let period = Period { since: mark.since, until: Time(START.0 + HOUR) };
        for by in [9 * DAY, -9 * DAY, 400 * DAY, -20_000 * DAY] {
            let found = same(by);
            assert_eq!(found.jumped, Some((period, by)));
            assert_eq!(found.since, later(by).wall);
            assert_eq!(found.leap, (by > 0).then(|| Leap { at: later(by).wall, by_ms: by }));
        }
        // After another start of the machine nobody knows; a gap may be a leap.
        let other = |skew, newest| compare(Some(&mark), "other", later(skew), newest);
        assert_eq!(other(-HOUR / 2, None), Found { since: later(-HOUR / 2).wall, jumped: None, leap: None });
        assert_eq!(other(9 * DAY, None).leap, Some(Leap { at: later(9 * DAY).wall, by_ms: 9 * DAY + HOUR }));
        let newest = Some(Time(START.0 + 9 * DAY));
        assert_eq!(other(9 * DAY, newest).leap, Some(Leap { at: later(9 * DAY).wall, by_ms: HOUR }));
        assert_eq!(
            other(-400 * DAY, newest),
            Found { since: later(-400 * DAY).wall, jumped: None, leap: None }
        );
        assert_eq!(compare(None, "this", later(0), newest).leap, None);
        assert_eq!(
            compare(Some(&ClockMark { boot_id: String::new(), ..mark.clone() }), "", later(DAY), None).jumped,
            None
        );
    }

    #[test]
    fn a_leap_of_the_clock_drops_nothing_that_may_be_young() {
        let week = Duration::from_secs(7 * 86_400);
        let now = START;
        let old = |leap, after: i64| cutoff(Time(now.0 + after), week, leap).0 - now.0;
        assert_eq!(old(None, 0), -7 * DAY);
        let leap = Some(Leap { at: now, by_ms: 400 * DAY });
        assert_eq!(old(leap, 0), -407 * DAY);
        assert_eq!(old(leap, 6 * DAY), -401 * DAY);
        assert_eq!(old(leap, 7 * DAY), 0, "what was there at the leap has been kept for a week by now");
        assert_eq!(old(leap, -DAY), -8 * DAY, "the clock went back");
        assert_eq!(cutoff(now, Duration::MAX, leap).0, now.0 - i64::MAX - 400 * DAY);
    }
}
