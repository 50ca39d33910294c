//! One kind of job: its clocks, and how observations of a job go into them.

use std::sync::Arc;

use super::{
    bins::{age as sane, within},
    clock::Clock,
    curve::Curve,
    forecast::{Forecast, Phases, Progress},
    reliability::Reliability,
};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RunEnd {
    /// By its own doing, well or badly: at this age in seconds, if the source told.
    Finished(Option<f64>),
    /// Cancelled, expired or lost: the time that it would have taken is unknown.
    Dropped,
}

/// The observations of one kind of job.
#[derive(Clone, Debug, Default)]
pub struct JobKind {
    total: Clock,
    /// Queued and running, once a job has told when it started.
    phases: Option<Box<[Clock; 2]>>,
    /// Whether two clocks pay, and when that was computed.
    pays: Option<(f64, bool)>,
    /// How reliably hooks announce its ends.
    pub(super) hooks: Reliability,
    /// When the kind was last used, in seconds.
    pub(super) used: f64,
}

impl JobKind {
    /// Records that a job is still running. `before` is its progress before, `now` its progress
    /// since.
    pub fn record_running(&mut self, before: Progress, now: Progress) {
        let (from, to) = (sane(before.age), sane(now.age));
        self.total.record_running(from, to);
        self.record_phases(before, now);
    }

    fn record_phases(&mut self, before: Progress, now: Progress) {
        if now.started.is_some() && self.phases.is_none() {
            self.phases = Some(Box::default());
        }
        let Some(phases) = &mut self.phases else { return };
        let [queue, run] = &mut **phases;
        let (from, to) = (sane(before.age), sane(now.age));
        match (before.started, now.started) {
            (None, None) => queue.record_running(from, to),
            (None, Some(start)) => {
                queue.record_finish(from.min(sane(start)), sane(start));
                run.record_running(0.0, sane(to - start));
            }
            (Some(start), _) => run.record_running(sane(from - start), sane(to - start)),
        }
    }

    /// Records that a job finished. `now.age` is the age at which that was noticed. If the source
    /// does not tell the age at the end, it lies between the two polls: `random` in [0, 1) says
    /// where.
    pub fn record_finished(&mut self, before: Progress, now: Progress, end: RunEnd, random: f64) {
        let RunEnd::Finished(at) = end else { return };
        // A start that was seen only now bounds the end from below.
        let from = sane(before.age).max(now.started.map_or(0.0, sane)).min(sane(now.age));
        let at = at.map_or(from + (sane(now.age) - from) * within(random, 0.0, 1.0), sane);
        self.total.record_finish(sane(before.age).min(at), at);
        let Some(start) = now.started.map(sane) else { return };
        self.record_phases(before, Progress { age: before.age.max(start), started: Some(start) });
        if let Some(phases) = &mut self.phases {
            let known = sane(before.age.max(start) - start);
            phases[1].record_finish(known.min(sane(at - start)), sane(at - start));
        }
    }

    /// Returns the number of finishes that the kind has learned from.
    #[must_use]
    pub fn finishes(&self) -> u64 {
        self.total.finishes()
    }

    /// Returns how reliably hooks announce the ends of its jobs.
    #[must_use]
    pub fn hooks(&self) -> &Reliability {
        &self.hooks
    }

    /// Returns the curves as of `now` (seconds on a clock that does not go back). `theta` decides
    /// which costs less: one clock or two. A new kind starts from its parent's curves.
    pub fn forecast(&mut self, now: f64, theta: f64, parent: Option<&Forecast>) -> Forecast {
        let total = self.total.curve(now, parent.map(|parent| &*parent.total));
        let finishes = self.finishes() + parent.map_or(0, |parent| parent.finishes);
        let Some(phases) = &mut self.phases else { return Forecast { total, phases: None, finishes } };
        let inherited = parent.and_then(|parent| parent.phases.as_ref());
        let [queue, run] = &mut **phases;
        let phases = Phases {
            queue: queue.curve(now, inherited.map(|phases| &*phases.queue)),
            run: run.curve(now, inherited.map(|phases| &*phases.run)),
        };
        let known = self.pays.filter(|(at, _)| now - at < WEIGH_AFTER).map(|(_, pay)| pay);
        let enough = run.finishes() > FEW;
        let pay = known.unwrap_or_else(|| enough && phases.pay(&total, theta));
        if known.is_none() {
            self.pays = Some((now, pay));
        }
        Forecast { total, phases: pay.then_some(phases), finishes }
    }

    /// Returns the curve from creation to the end as it was last built, or as it would be without a
    /// parent.
    #[must_use]
    pub fn curve(&self) -> Arc<Curve> {
        self.total.latest().map_or_else(|| Arc::new(self.total.build(None)), |(_, curve)| Arc::clone(curve))
    }

    /// Returns the number of curves that a forecast at this time built.
    pub(super) fn built_at(&self, time: f64) -> usize {
        self.clocks().filter(|clock| clock.latest().is_some_and(|(at, _)| at >= time)).count()
    }

    /// Returns the clocks: one over the whole, and those of the queue and the run if they are
    /// known.
    pub fn clocks(&self) -> impl Iterator<Item = &Clock> {
        std::iter::once(&self.total).chain(self.phases.iter().flat_map(|phases| phases.iter()))
    }

    /// Creates a kind from its clocks, as [`JobKind::clocks`] returns them: one or three.
    #[must_use]
    pub fn from_clocks(clocks: Vec<Clock>) -> Option<Self> {
        let mut clocks = clocks.into_iter();
        let total = clocks.next()?;
        let phases = match (clocks.next(), clocks.next(), clocks.next()) {
            (None, ..) => None,
            (Some(queue), Some(run), None) => Some(Box::new([queue, run])),
            _ => return None,
        };
        Some(Self { total, phases, ..Self::default() })
    }

    /// Returns the memory in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.clocks().map(Clock::bytes).sum::<usize>()
    }
}

/// So few finishes cannot tell whether two clocks pay.
const FEW: u64 = 50;
/// The shortest time between two computations of whether they pay, in seconds.
const WEIGH_AFTER: f64 = 10.0;
