//! The token of a source while it lives: kept in memory alone, renewed before its end, and asked
//! for by one task at a time.
//!
//! Pure: the time and the randomness are arguments. [`Auth`](super::Auth) runs the task.

use std::time::Duration;

use tokio::sync::watch;

use super::request::Minted;
use crate::util::units::Time;

/// The longest time before its end at which a token is renewed.
const LONGEST_LEAD: Duration = Duration::from_mins(5);

/// The longest time before its end at which a token is no longer used: a request takes a while.
const LONGEST_MARGIN: Duration = Duration::from_secs(30);

/// How long requests share a failure. It is shorter than any pause of the source, so that each
/// probe asks the server.
const SHARED: Duration = Duration::from_millis(400);

/// The pause after the first failure to renew a token that still works. Each further one doubles
/// it.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// A refused token that has never worked is not replaced sooner than this: another one would be
/// refused as well.
const NEW: Duration = Duration::from_secs(10);

/// What the task that asks for a token tells those who wait for it.
pub(super) type Told<T> = Option<Result<Held<T>, String>>;

/// A token that is kept.
#[derive(Clone, Debug)]
pub(super) struct Held<T> {
    pub value: T,
    /// Which token of this source it is.
    number: u64,
    minted: Time,
    /// When the next one is asked for.
    renew: Time,
    /// When it is no longer used.
    ends: Time,
    /// The source has taken it.
    worked: bool,
}

/// The token of a source, or why there is none.
#[derive(Debug)]
pub(super) struct Cache<T> {
    held: Option<Held<T>>,
    minting: Option<watch::Receiver<Told<T>>>,
    failed: Option<Failed>,
    minted: u64,
}

#[derive(Debug)]
struct Failed {
    at: Time,
    reason: String,
    in_a_row: u32,
}

/// What to do for a request that needs a token.
#[derive(Debug)]
pub(super) enum Need<T> {
    /// Use this token.
    Use(Held<T>),
    /// Use this token, and ask for the next one.
    Renew(Held<T>),
    /// Wait for the token that was asked for.
    Wait(watch::Receiver<Told<T>>),
    /// Ask for a token.
    Mint,
    /// There is none.
    Fail(String),
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self { held: None, minting: None, failed: None, minted: 0 }
    }
}

impl<T: Clone> Cache<T> {
    /// Returns what to do for a request.
    pub(super) fn need(&self, now: Time) -> Need<T> {
        // A task that ended without a word tells nothing any more.
        let minting = self.minting.as_ref().filter(|told| told.has_changed().is_ok());
        if let Some(held) = self.held.as_ref().filter(|held| now < held.ends) {
            let is_early = now < held.renew || minting.is_some() || self.is_paused(now);
            return if is_early { Need::Use(held.clone()) } else { Need::Renew(held.clone()) };
        }
        match (minting, &self.failed) {
            (Some(told), _) => Need::Wait(told.clone()),
            (None, Some(failed)) if now < failed.at.after(SHARED) && now >= failed.at => {
                Need::Fail(failed.reason.clone())
            }
            _ => Need::Mint,
        }
    }

    /// Records that a token was asked for. Returns where to tell the result.
    pub(super) fn begin(&mut self) -> (watch::Sender<Told<T>>, watch::Receiver<Told<T>>) {
        let (tell, told) = watch::channel(None);
        self.minting = Some(told.clone());
        (tell, told)
    }

    /// Records the result. `random` lies in [0, 1). Returns it with the failures in a row.
    pub(super) fn settle(
        &mut self,
        result: Result<Minted<T>, String>,
        now: Time,
        random: f64,
    ) -> (Result<Held<T>, String>, u32) {
        self.minting = None;
        match result {
            Ok(Minted { value, lifetime }) => {
                self.failed = None;
                self.minted += 1;
                let lead = (lifetime / 4).min(LONGEST_LEAD);
                let lead = lead + lead.mul_f64(random.clamp(0.0, 1.0) / 2.0);
                let margin = (lifetime / 10).min(LONGEST_MARGIN);
                let held = Held {
                    value,
                    number: self.minted,
                    minted: now,
                    renew: now.after(lifetime.saturating_sub(lead)),
                    ends: now.after(lifetime.saturating_sub(margin)),
                    worked: false,
                };
                self.held = Some(held.clone());
                (Ok(held), 0)
            }
            Err(reason) => {
                let in_a_row = self.failed.as_ref().map_or(0, |failed| failed.in_a_row).saturating_add(1);
                self.failed = Some(Failed { at: now, reason: reason.clone(), in_a_row });
                (Err(reason), in_a_row)
            }
        }
    }

    /// Records that the source refused a token. Returns whether another one may do: the source took
    /// this one before, or it is old, or it is not the current one.
    pub(super) fn refused(&mut self, used: &Held<T>, now: Time) -> bool {
        let Some(held) = self.held.as_ref().filter(|held| held.number == used.number) else { return true };
        let may_help = held.worked || now >= held.minted.after(NEW);
        if may_help {
            self.held = None;
        }
        may_help
    }

    /// Records that the source took a token.
    pub(super) fn worked(&mut self, used: &Held<T>) {
        if let Some(held) = self.held.as_mut().filter(|held| held.number == used.number) {
            held.worked = true;
        }
    }

    /// Returns the current token, whether it can still be used or not.
    pub(super) fn current(&self) -> Option<&T> {
        self.held.as_ref().map(|held| &held.value)
    }

    /// Returns whether a token that works waits before it is asked for again.
    fn is_paused(&self, now: Time) -> bool {
        self.failed.as_ref().is_some_and(|failed| {
            let pause = FIRST_PAUSE.saturating_mul(1 << (failed.in_a_row - 1).min(16)).min(LONGEST_PAUSE);
            now < failed.at.after(pause)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Time = Time(1_000_000);

    #[expect(clippy::unnecessary_wraps, reason = "a mint may fail")]
    fn minted(seconds: u64) -> Result<Minted<&'static str>, String> {
        Ok(Minted { value: "t", lifetime: Duration::from_secs(seconds) })
    }

    fn at(seconds: u64) -> Time {
        START.after(Duration::from_secs(seconds))
    }

    #[test]
    fn one_task_asks_and_the_others_wait_or_use_what_works() {
        let mut cache = Cache::default();
        assert!(matches!(cache.need(START), Need::Mint));
        let (tell, told) = cache.begin();
        let Need::Wait(waiting) = cache.need(START) else { panic!() };
        let (settled, _) = cache.settle(minted(3600), START, 0.0);
        tell.send_replace(Some(settled));
        assert!(waiting.borrow().as_ref().unwrap().is_ok() && told.borrow().is_some());
        assert!(matches!(cache.need(at(3299)), Need::Use(_)));
        assert!(matches!(cache.need(at(3300)), Need::Renew(_)));
        let (tell, _told) = cache.begin();
        assert!(matches!(cache.need(at(3301)), Need::Use(_)));
        // The task died: another one may ask.
        drop(tell);
        assert!(matches!(cache.need(at(3302)), Need::Renew(_)));
        assert!(matches!(cache.need(at(3570)), Need::Mint));
    }

    #[test]
    fn a_token_that_works_is_used_while_no_other_can_be_had() {
        let mut cache = Cache::default();
        cache.settle(minted(3600), START, 0.0).0.unwrap();
        for (second, in_a_row) in [(3300, 1), (3301, 2), (3302, 3)] {
            assert!(matches!(cache.need(at(second)), Need::Renew(_)), "{second}");
            cache.begin();
            assert_eq!(cache.settle(Err("away".to_owned()), at(second), 0.0).1, in_a_row);
            assert!(matches!(cache.need(at(second)), Need::Use(_)), "{second}");
        }
        assert!(matches!(cache.need(at(3570)), Need::Mint));
        cache.settle(Err("away".to_owned()), at(3571), 0.0).0.unwrap_err();
        assert!(matches!(cache.need(at(3571)), Need::Fail(reason) if reason == "away"));
        assert!(matches!(cache.need(at(3572)), Need::Mint));
    }

    #[test]
    fn a_refused_token_is_replaced_once() {
        let mut cache = Cache::default();
        let first = cache.settle(minted(3600), START, 0.0).0.unwrap();
        cache.worked(&first);
        assert!(cache.refused(&first, at(1)));
        assert!(matches!(cache.need(at(1)), Need::Mint) && cache.current().is_none());
        let second = cache.settle(minted(3600), at(1), 0.0).0.unwrap();
        assert!(cache.refused(&first, at(2)), "there is another one already");
        assert!(!cache.refused(&second, at(2)), "a new one would be refused as well");
        assert!(matches!(cache.need(at(2)), Need::Use(_)));
        assert!(cache.refused(&second, at(11)));
    }

    proptest! {
        #[test]
        fn a_token_is_renewed_before_it_ends(millis in 100..200_000_000_u64, random in 0.0..1.0) {
            let lifetime = Duration::from_millis(millis);
            let mut cache = Cache::default();
            let held = cache.settle(Ok(Minted { value: (), lifetime }), START, random).0.unwrap();
            prop_assert!(START < held.renew && held.renew < held.ends && held.ends < START.after(lifetime));
            let lead = held.ends.since(held.renew);
            prop_assert!(lead >= (lifetime / 8).min(Duration::from_mins(4)) && lead <= LONGEST_LEAD * 3 / 2);
        }
    }
}
