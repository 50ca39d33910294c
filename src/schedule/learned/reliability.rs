//! How reliable the hooks of a kind of job are: the share of ends that a hook announced before a
//! poll found them.
//!
//! A poll is worth θ seconds of delay. With hooks, only the ends that no hook announces wait for a
//! poll, a share m of all. The cost θ·N + m·D has its least where polls lie as if one were worth
//! θ / m, so their rate falls with √m.

/// The length of the two memories, as half-lives in ends.
const HALF_LIVES: [f64; 2] = [100.0, 5.0];
/// The ends that the lasting memory stands for in the recent one.
const LASTING: f64 = 2.0;
/// The difference between both memories at which the lasting one is outdated.
const CHANGED: f64 = 0.5;

/// Ends that a hook announced, and ends that a poll found first. Both lose weight with each end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ends {
    /// The weight of the announced ends.
    pub announced: f64,
    /// The weight of the others.
    pub missed: f64,
}

impl Ends {
    /// Records an end. `half_life` is in ends.
    pub(in crate::schedule) fn record(&mut self, is_announced: bool, half_life: f64) {
        let kept = 0.5_f64.powf(1.0 / half_life);
        self.announced *= kept;
        self.missed *= kept;
        *(if is_announced { &mut self.announced } else { &mut self.missed }) += 1.0;
    }

    fn count(self) -> f64 {
        self.announced + self.missed
    }

    /// Returns the share of missed ends, if `weight` further ends had the share `prior`.
    pub(in crate::schedule) fn missed_beside(self, prior: f64, weight: f64) -> f64 {
        (self.missed + prior * weight) / (self.count() + weight)
    }
}

/// What is known of the hooks of a kind of job.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reliability {
    lasting: Ends,
    recent: Ends,
}

impl Reliability {
    /// Records an end, and whether a hook announced it before a poll found it.
    pub fn record(&mut self, is_announced: bool) {
        let [long, short] = HALF_LIVES;
        self.lasting.record(is_announced, long);
        self.recent.record(is_announced, short);
        // Hooks that stop, or come back, do so all at once: what held before says nothing then.
        if (self.recent_share(1.0) - self.lasting_share(1.0)).abs() > CHANGED {
            self.lasting = self.recent;
        }
    }

    fn lasting_share(&self, prior: f64) -> f64 {
        self.lasting.missed_beside(prior, 1.0)
    }

    fn recent_share(&self, prior: f64) -> f64 {
        self.recent.missed_beside(self.lasting_share(prior), LASTING)
    }

    /// Returns the share of ends to expect without a hook (0 to 1): that of the lasting memory and
    /// its standard deviation, or that of the recent memory if it is larger. `prior` is the share
    /// before any end. At 1 all ends count as missed, so polls thin out only for hooks that came.
    #[must_use]
    pub fn missed(&self, prior: f64) -> f64 {
        let share = self.lasting_share(prior);
        let deviation = (share * (1.0 - share) / (self.lasting.count() + 2.0)).sqrt();
        (share + deviation).max(self.recent_share(prior)).min(1.0)
    }

    /// Returns the share of ends that hooks announced (0 to 1), or `None` before any end.
    #[must_use]
    pub fn announced(&self) -> Option<f64> {
        let count = self.lasting.count();
        (count > 0.0).then(|| self.lasting.announced / count)
    }

    /// Returns the lasting and the recent memory.
    #[must_use]
    pub fn memories(&self) -> [Ends; 2] {
        [self.lasting, self.recent]
    }

    /// Restores what [`Reliability::memories`] returned. Weights that no memory can have count as
    /// none.
    #[must_use]
    pub fn restore(memories: [Ends; 2]) -> Self {
        let most = |half_life: f64| 1.0 / (1.0 - 0.5_f64.powf(1.0 / half_life)) + 1.0;
        let mut kept = memories.into_iter().zip(HALF_LIVES).map(|(ends, half_life)| {
            let fits = |weight: f64| (0.0..=most(half_life)).contains(&weight);
            if fits(ends.announced) && fits(ends.missed) { ends } else { Ends::default() }
        });
        Self { lasting: kept.next().unwrap_or_default(), recent: kept.next().unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(ends: impl IntoIterator<Item = bool>) -> Reliability {
        let mut hooks = Reliability::default();
        for is_announced in ends {
            hooks.record(is_announced);
        }
        hooks
    }

    #[test]
    fn nothing_known_means_no_hooks() {
        assert!((Reliability::default().missed(1.0) - 1.0).abs() < 1e-9);
        assert_eq!(Reliability::default().announced(), None);
        assert!((after([false; 50]).missed(1.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn hooks_that_come_are_trusted_within_some_jobs() {
        let missed = [3, 10, 30, 200].map(|count| after(std::iter::repeat_n(true, count)).missed(1.0));
        assert!(missed[0] < 0.5 && missed[1] < 0.2 && missed[2] < 0.08, "{missed:?}");
        assert!((0.005..0.02).contains(&missed[3]), "the net never goes: {missed:?}");
    }

    #[test]
    fn hooks_that_stop_are_distrusted_within_a_few_jobs() {
        let stopped = |misses| {
            after(std::iter::repeat_n(true, 1000).chain(std::iter::repeat_n(false, misses))).missed(1.0)
        };
        let missed = [1, 3, 5, 15].map(stopped);
        assert!(missed[0] > 0.1 && missed[1] > 0.25 && missed[2] > 0.4 && missed[3] > 0.9, "{missed:?}");
    }

    #[test]
    fn hooks_that_come_back_are_trusted_again() {
        let mut hooks = after(std::iter::repeat_n(false, 1000));
        let mut at = 0;
        while hooks.missed(1.0) > 0.2 {
            hooks.record(true);
            at += 1;
        }
        assert!(at <= 30, "{at} jobs");
    }

    #[test]
    fn a_share_of_hooks_is_learned() {
        let hooks = after((0..1000).map(|at| at % 10 != 0));
        let missed = hooks.missed(1.0);
        assert!((0.1..0.25).contains(&missed), "{missed}");
        assert!((hooks.announced().unwrap() - 0.9).abs() < 0.05);
    }

    proptest! {
        #[test]
        fn the_share_is_one_and_a_save_keeps_it(ends in prop::collection::vec(any::<bool>(), 0..400)) {
            let hooks = after(ends);
            let missed = hooks.missed(1.0);
            prop_assert!(missed > 0.0 && missed <= 1.0, "{missed}");
            prop_assert_eq!(Reliability::restore(hooks.memories()), hooks);
        }

        #[test]
        fn an_announced_end_never_lowers_the_trust(ends in prop::collection::vec(any::<bool>(), 0..200)) {
            let before = after(ends);
            let (mut announced, mut missed) = (before, before);
            announced.record(true);
            missed.record(false);
            prop_assert!(announced.missed(1.0) <= missed.missed(1.0) + 1e-12);
        }
    }
}
