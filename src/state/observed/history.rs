//! What happened in the last hour, minute by minute. Pure, and of bounded size: about 60 KiB with 32 sources and 32 sinks.
//!
//! Nothing that polls or delivers knows of it. It is given what is counted since the start, and keeps the differences.
//! Steps follow the steady clock, so a jump of the wall clock changes none.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    model::job::Outcome,
    util::{delays::DelayCounts, units::Time},
};

/// Steps that are kept; the last one still runs.
pub(crate) const STEPS: usize = 60;

/// The same, as the numbers of steps count it.
const STEPS_SIGNED: i64 = 60;

/// The length of a step.
pub(crate) const STEP: Duration = Duration::from_secs(60);

/// Sources, and sinks, that are kept at most.
const MOST: usize = 32;

/// One value for each step, oldest first.
pub(crate) type Hour<T> = [T; STEPS];

/// What is counted since the start, as it is now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// Jobs that ended, in the order of [`Outcome::ALL`].
    pub(crate) ended: [u64; Outcome::ALL.len()],
    /// From the end of a job to the poll that noticed it.
    pub(crate) detection: DelayCounts,
    /// From an event to its first success at a sink.
    pub(crate) delivery: DelayCounts,
    pub(crate) sources: BTreeMap<String, SourceSample>,
    /// The backlog of each sink.
    pub(crate) pending: BTreeMap<String, u64>,
    /// In the order of [`Mishap`].
    pub(crate) mishaps: [u64; Mishap::ALL.len()],
}

/// What is known of a source.
#[derive(Clone, Debug, Default)]
pub(crate) struct SourceSample {
    /// Requests since the start.
    pub(crate) requests: u64,
    /// The requests a second that its budget allows now.
    pub(crate) rate: f64,
    /// The name of the budget, if it is shared.
    pub(crate) budget: Option<String>,
}

/// What should not happen, and is counted where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// An event that no sink took.
    Unrouted,
    /// A line of the log that was dropped.
    LineDropped,
    /// A panic of a task.
    Panic,
}

impl Mishap {
    pub(crate) const ALL: [Self; 3] = [Self::Unrouted, Self::LineDropped, Self::Panic];
}

/// One value for each step, the one of step `n` at `n % STEPS`.
#[derive(Clone, Debug)]
struct Ring<T>([T; STEPS]);

impl<T: Copy + Default> Default for Ring<T> {
    fn default() -> Self {
        Self([T::default(); STEPS])
    }
}

impl<T: Copy> Ring<T> {
    fn set(&mut self, step: i64, value: T) {
        self.0[place(step)] = value;
    }

    /// Returns the values of the steps up to `last`, oldest first.
    fn up_to(&self, last: i64) -> Hour<T> {
        std::array::from_fn(|n| self.0[(place(last) + 1 + n) % STEPS])
    }
}

fn place(step: i64) -> usize {
    usize::try_from(step.rem_euclid(STEPS_SIGNED)).unwrap_or(0)
}

/// Median and 99th percentile in seconds.
type Percentiles = [Option<f32>; 2];

/// The requests of a source in a step, and the share of the budget that was used.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    requests: u32,
    share: f32,
}

/// The last hour.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// The step that runs, when it was first seen, and what was counted then; unset before the first sample.
    current: Option<(i64, Time, Sample)>,
    ended: [Ring<u32>; Outcome::ALL.len()],
    detection: Ring<Percentiles>,
    delivery: Ring<Percentiles>,
    sources: BTreeMap<String, Ring<Used>>,
    pending: BTreeMap<String, Ring<u32>>,
    mishaps: [Ring<u32>; Mishap::ALL.len()],
}

/// The last hour as it is shown.
#[derive(Clone, Debug)]
pub(crate) struct LastHour {
    /// The time from the beginning of the first step to now.
    pub(crate) age: Duration,
    /// In the order of [`Outcome::ALL`].
    pub(crate) ended: [Hour<u32>; Outcome::ALL.len()],
    pub(crate) detection: Hour<Percentiles>,
    pub(crate) delivery: Hour<Percentiles>,
    pub(crate) requests: BTreeMap<String, Hour<u32>>,
    pub(crate) budget_used: BTreeMap<String, Hour<f32>>,
    pub(crate) pending: BTreeMap<String, Hour<u32>>,
}

impl LastHour {
    /// Returns an hour in which nothing happened.
    pub(crate) fn empty() -> Self {
        Self {
            age: STEP * u32::try_from(STEPS).unwrap_or(0),
            ended: [[0; STEPS]; Outcome::ALL.len()],
            detection: [[None; 2]; STEPS],
            delivery: [[None; 2]; STEPS],
            requests: BTreeMap::new(),
            budget_used: BTreeMap::new(),
            pending: BTreeMap::new(),
        }
    }
}

impl History {
    /// Returns whether a step has ended since the last sample.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        self.current.as_ref().is_none_or(|(step, ..)| step_at(now) > *step)
    }

    /// Records what is counted at `now` by the steady clock.
    pub(crate) fn record(&mut self, sample: Sample, now: Time) {
        let step = step_at(now);
        self.keep_only(&sample);
        let Some((running, since, base)) = self.current.take() else {
            // The counters began at zero with the process.
            self.write(step, now, now, &Sample::default(), &sample);
            self.current = Some((step, now, Sample::default()));
            return;
        };
        // What came since the last sample belongs to the step that was running, also when the machine slept meanwhile.
        self.write(running, since, now.min(begin_of(running + 1)), &base, &sample);
        if step <= running {
            self.current = Some((running, since, base));
            return;
        }
        for passed in (running + 1).max(step - STEPS_SIGNED)..=step {
            self.write(passed, now, now, &sample, &sample);
        }
        let mut next = sample;
        for (name, source) in base.sources {
            // Its counter goes on if it is configured again.
            next.sources.entry(name).or_insert(source);
        }
        self.current = Some((step, begin_of(step), next));
    }

    /// Writes the values of a step, in which `base` became `sample`.
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "for charts")]
    fn write(&mut self, step: i64, since: Time, until: Time, base: &Sample, sample: &Sample) {
        let counted = |now: u64, before: u64| u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX);
        for ((ring, now), before) in self.ended.iter_mut().zip(sample.ended).zip(base.ended) {
            ring.set(step, counted(now, before));
        }
        for ((ring, now), before) in self.mishaps.iter_mut().zip(sample.mishaps).zip(base.mishaps) {
            ring.set(step, counted(now, before));
        }
        let percentiles = |delays: DelayCounts| [0.5, 0.99].map(|q| delays.quantile(q).map(|it| it as f32));
        self.detection.set(step, percentiles(sample.detection.since(&base.detection)));
        self.delivery.set(step, percentiles(sample.delivery.since(&base.delivery)));
        let requests = |name: &String, now: &SourceSample| {
            counted(now.requests, base.sources.get(name).map_or(0, |before| before.requests))
        };
        let seconds = until.since(since).as_secs_f64().max(1.0);
        for (name, ring) in &mut self.sources {
            let Some(now) = sample.sources.get(name) else { continue };
            let sharing = |(other, its): &(&String, &SourceSample)| {
                *other == name || (its.budget.is_some() && its.budget == now.budget)
            };
            let together: u64 = sample
                .sources
                .iter()
                .filter(sharing)
                .map(|(other, its)| u64::from(requests(other, its)))
                .sum();
            let share = together as f64 / (now.rate * seconds);
            let share = if share.is_finite() { share.clamp(0.0, 1.0) as f32 } else { 0.0 };
            ring.set(step, Used { requests: requests(name, now), share });
        }
        for (name, ring) in &mut self.pending {
            let pending = sample.pending.get(name).copied().unwrap_or(0);
            ring.set(step, u32::try_from(pending).unwrap_or(u32::MAX));
        }
    }

    /// Makes room for the sources and sinks of a sample, and drops the others.
    fn keep_only(&mut self, sample: &Sample) {
        keep(&mut self.sources, &sample.sources);
        keep(&mut self.pending, &sample.pending);
    }

    /// Returns how often a mishap happened in the last hour.
    pub(crate) fn mishaps(&self, mishap: Mishap) -> u64 {
        self.mishaps[mishap as usize].0.iter().map(|count| u64::from(*count)).sum()
    }

    /// Returns the last hour at `now` by the steady clock, as of the last sample; `None` before the first.
    pub(crate) fn last_hour(&self, now: Time) -> Option<LastHour> {
        let (last, ..) = self.current.as_ref()?;
        let used = |value: fn(Used) -> f32| {
            let hours = self.sources.iter();
            hours.map(move |(name, ring)| (name.clone(), ring.up_to(*last).map(value))).collect()
        };
        let requests = self.sources.iter();
        Some(LastHour {
            age: now.since(begin_of(last + 1 - STEPS_SIGNED)),
            ended: self.ended.each_ref().map(|ring| ring.up_to(*last)),
            detection: self.detection.up_to(*last),
            delivery: self.delivery.up_to(*last),
            requests: requests
                .map(|(name, ring)| (name.clone(), ring.up_to(*last).map(|used| used.requests)))
                .collect(),
            budget_used: used(|used| used.share),
            pending: self.pending.iter().map(|(name, ring)| (name.clone(), ring.up_to(*last))).collect(),
        })
    }
}

/// Keeps the series of what is there, up to the bound.
fn keep<T: Copy + Default, S>(rings: &mut BTreeMap<String, Ring<T>>, there: &BTreeMap<String, S>) {
    rings.retain(|name, _| there.contains_key(name));
    for name in there.keys() {
        if rings.len() < MOST && !rings.contains_key(name) {
            rings.insert(name.clone(), Ring::default());
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a minute")]
const STEP_MS: i64 = STEP.as_millis() as i64;

fn step_at(now: Time) -> i64 {
    now.0.div_euclid(STEP_MS)
}

fn begin_of(step: i64) -> Time {
    Time(step.saturating_mul(STEP_MS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::delays::Delays;

    fn at(second: i64) -> Time {
        Time(1_800_000_000_000 + second * 1000)
    }

    /// A daemon with one source and one sink, and what they count.
    #[derive(Default)]
    struct Counted {
        sample: Sample,
        detection: Delays,
    }

    impl Counted {
        fn source(&mut self, name: &str, requests: u64, budget: Option<&str>) {
            let source = SourceSample { requests, rate: 2.0, budget: budget.map(str::to_owned) };
            self.sample.sources.insert(name.to_owned(), source);
        }

        fn now(&self) -> Sample {
            Sample { detection: self.detection.counts(), ..self.sample.clone() }
        }
    }

    #[test]
    fn what_is_counted_stands_at_the_minute_in_which_it_happened() {
        let (mut history, mut counted) = (History::default(), Counted::default());
        assert!(history.last_hour(at(0)).is_none() && history.is_due(at(0)));
        counted.sample.ended[0] = 2;
        counted.source("a", 10, None);
        counted.sample.pending.insert("app".to_owned(), 7);
        history.record(counted.now(), at(10));
        assert!(!history.is_due(at(59)) && history.is_due(at(60)));
        counted.sample.ended[0] = 5;
        counted.source("a", 30, None);
        counted.detection.observe(4.0);
        history.record(counted.now(), at(61));
        counted.sample.ended[4] = 1;
        counted.source("a", 1000, None);
        counted.sample.pending.insert("app".to_owned(), 9);
        history.record(counted.now(), at(90));
        let hour = history.last_hour(at(90)).unwrap();
        assert_eq!(hour.age, Duration::from_secs(59 * 60 + 30));
        assert_eq!((hour.ended[0][57..].to_vec(), hour.ended[4][58..].to_vec()), (vec![0, 5, 0], vec![0, 1]));
        assert_eq!(hour.requests["a"][57..], [0, 30, 970]);
        assert_eq!(hour.pending["app"][57..], [0, 7, 9]);
        let [median, p99] = hour.detection[58];
        assert!((median.unwrap() - 4.0).abs() < 0.4 && median == p99, "{median:?}");
        assert_eq!(hour.detection[59], [None, None]);
        let used = hour.budget_used["a"];
        assert!((used[58] - 0.3).abs() < 0.01, "30 of 100 in the 50 seconds: {used:?}");
        assert!((used[59] - 1.0).abs() < 0.01, "never more than all of it");
    }

    #[test]
    fn a_machine_that_slept_leaves_a_gap_and_an_hour_later_nothing_is_left() {
        let (mut history, mut counted) = (History::default(), Counted::default());
        history.record(counted.now(), at(0));
        counted.sample.ended[1] = 3;
        counted.sample.pending.insert("app".to_owned(), 4);
        history.record(counted.now(), at(600));
        let hour = history.last_hour(at(600)).unwrap();
        assert_eq!((hour.ended[1][49], hour.ended[1].iter().sum::<u32>()), (3, 3));
        assert_eq!(hour.pending["app"][50..], [4; 10]);
        for later in [4_100, 100_000, 100_000_000] {
            let mut history = history.clone();
            history.record(counted.now(), at(later));
            assert_eq!(history.last_hour(at(later)).unwrap().ended[1], [0; STEPS]);
        }
        // The steady clock does not go back; if it did, nothing would break.
        history.record(counted.now(), at(-600));
        assert_eq!(history.last_hour(at(600)).unwrap().ended[1][49], 3);
    }

    #[test]
    fn sources_of_one_budget_use_it_together_and_the_room_is_bounded() {
        let (mut history, mut counted) = (History::default(), Counted::default());
        for n in 0..100 {
            counted.source(&format!("s{n:03}"), 1, (n < 30).then_some("key"));
            counted.sample.pending.insert(format!("k{n:03}"), 1);
        }
        history.record(Sample::default(), at(0));
        history.record(counted.now(), at(30));
        let hour = history.last_hour(at(30)).unwrap();
        assert_eq!((hour.requests.len(), hour.pending.len()), (MOST, MOST));
        let (shared, own) = (hour.budget_used["s001"][59], hour.budget_used["s030"][59]);
        assert!((shared - 0.5).abs() < 0.001 && (own - 1.0 / 60.0).abs() < 0.001, "{shared} {own}");
        let rings = size_of::<Ring<Used>>() + size_of::<Ring<u32>>();
        let bytes = size_of::<History>() + MOST * (rings + 200);
        assert!(bytes < 64 << 10, "{bytes}");
        // What a reload removed makes room for what it added, and comes back with its count.
        history.record(counted.now(), at(60));
        history.record(Sample::default(), at(120));
        assert!(history.last_hour(at(120)).unwrap().requests.is_empty());
        counted.source("s000", 4, None);
        history.record(counted.now(), at(181));
        assert_eq!(history.last_hour(at(181)).unwrap().requests["s000"][57..], [0, 3, 0]);
    }

    #[test]
    fn mishaps_are_forgotten_after_an_hour() {
        let (mut history, mut counted) = (History::default(), Counted::default());
        history.record(counted.now(), at(0));
        counted.sample.mishaps[Mishap::Panic as usize] = 2;
        history.record(counted.now(), at(1));
        assert_eq!(history.mishaps(Mishap::Panic), 2);
        history.record(counted.now(), at(3500));
        assert_eq!((history.mishaps(Mishap::Panic), history.mishaps(Mishap::Unrouted)), (2, 0));
        history.record(counted.now(), at(3600));
        assert_eq!(history.mishaps(Mishap::Panic), 0);
    }
}
