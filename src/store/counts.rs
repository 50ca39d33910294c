//! How many watches there are in each phase, and how many dead letters at each sink, kept in memory.
//!
//! A transaction notes every change of a phase and of a dead letter where it writes the record, and a durable commit tells
//! it here. What the start found is read in pieces afterwards, the newest first, beside everything else. What changes while
//! a piece is read counts as the change says, whatever was read of it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    DeliveryKey, Store, StoreError,
    records::{Records, Selection},
};
use crate::model::{delivery::DeliveryState, job::Phase};

/// Records that one piece reads.
const PIECE: usize = 1000;

/// The wait after a piece, as a multiple of the time that it took.
const SPARING: u32 = 2;

/// The wait before the next piece when one could not be read.
const AGAIN: Duration = Duration::from_secs(1);

/// Watches by source and phase, and dead letters by sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Watches by source and phase; what has none is missing.
    pub watches: BTreeMap<String, BTreeMap<Phase, u64>>,
    /// Dead letters by sink; a sink without any is missing.
    pub dead: BTreeMap<String, u64>,
}

impl Counts {
    /// Returns the watches in a phase.
    #[must_use]
    pub fn in_phase(&self, phase: Phase) -> u64 {
        self.watches.values().filter_map(|phases| phases.get(&phase)).sum()
    }

    /// Returns each source with its open watches: those that are polled or fetched.
    pub fn open(&self) -> impl Iterator<Item = (&str, u64)> {
        self.watches.iter().map(|(source, phases)| {
            let open = [Phase::Watching, Phase::Fetching].iter().filter_map(|phase| phases.get(phase));
            (source.as_str(), open.sum())
        })
    }
}

/// What changes for the counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CountChange {
    /// A watch of a source is in another phase. It has none before it is made and after it is dropped.
    Watch { number: u64, from: Option<(String, Phase)>, to: Option<(String, Phase)> },
    /// A delivery is a dead letter at another sink, or is none any more.
    Dead { key: DeliveryKey, from: Option<String>, to: Option<String> },
    /// Something went that could not be read, so nobody knows how it counted.
    Unknown,
}

/// How far the stored records are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached<K> {
    Nothing,
    /// This one and all later ones.
    From(K),
    All,
}

/// The counts of one kind of record by what each counts as, and how much of the stored ones they cover.
#[derive(Debug)]
struct Tracked<K, V> {
    counts: BTreeMap<V, u64>,
    reached: Reached<K>,
    /// A piece is being read.
    is_reading: bool,
    /// What changed since then, and is not covered.
    changed: BTreeMap<K, Option<V>>,
}

impl<K, V> Default for Tracked<K, V> {
    fn default() -> Self {
        Self {
            counts: BTreeMap::new(),
            reached: Reached::Nothing,
            is_reading: false,
            changed: BTreeMap::new(),
        }
    }
}

/// A part of the stored records.
#[derive(Debug)]
struct Piece<K, V> {
    /// Each with what it counts as.
    found: Vec<(K, Option<V>)>,
    /// There are no earlier ones.
    is_last: bool,
}

impl<K: Copy + Ord, V: Ord + Clone> Tracked<K, V> {
    fn is_complete(&self) -> bool {
        self.reached == Reached::All
    }

    fn covers(&self, key: K) -> bool {
        match self.reached {
            Reached::Nothing => false,
            Reached::From(first) => key >= first,
            Reached::All => true,
        }
    }

    /// Takes a change that is durable.
    fn change(&mut self, key: K, from: Option<V>, to: Option<V>) {
        if !self.covers(key) {
            if self.is_reading {
                self.changed.insert(key, to);
            }
            return;
        }
        if let Some(from) = from
            && let Some(count) = self.counts.get_mut(&from)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(&from);
            }
        }
        self.add(to);
    }

    fn add(&mut self, value: Option<V>) {
        if let Some(value) = value {
            *self.counts.entry(value).or_default() += 1;
        }
    }

    /// Begins to read a piece. Returns the key before which it begins.
    fn begin(&mut self) -> Option<K> {
        self.is_reading = true;
        self.changed.clear();
        match self.reached {
            Reached::From(first) => Some(first),
            Reached::Nothing | Reached::All => None,
        }
    }

    /// Adds a piece, as it is after every commit that was told.
    fn add_piece(&mut self, piece: Piece<K, V>) {
        let reached = match piece.found.last() {
            Some((last, _)) if !piece.is_last => Reached::From(*last),
            _ => Reached::All,
        };
        (self.reached, self.is_reading) = (reached, false);
        let mut states: BTreeMap<K, Option<V>> = piece.found.into_iter().collect();
        for (key, to) in std::mem::take(&mut self.changed) {
            if self.covers(key) {
                states.insert(key, to);
            }
        }
        for value in states.into_values() {
            self.add(value);
        }
    }
}

#[derive(Debug, Default)]
struct State {
    watches: Tracked<u64, (String, Phase)>,
    dead: Tracked<DeliveryKey, String>,
    /// Grows when the counts begin again.
    round: u64,
}

impl State {
    fn is_complete(&self) -> bool {
        self.watches.is_complete() && self.dead.is_complete()
    }

    fn apply(&mut self, change: CountChange) {
        match change {
            CountChange::Watch { number, from, to } => self.watches.change(number, from, to),
            CountChange::Dead { key, from, to } => self.dead.change(key, from, to),
            CountChange::Unknown => *self = Self { round: self.round + 1, ..Self::default() },
        }
    }
}

/// The counts of a store that is open.
#[derive(Debug)]
pub(super) struct Counting {
    state: Mutex<State>,
    /// Whether something is still to be read.
    unread: watch::Sender<bool>,
}

impl Default for Counting {
    fn default() -> Self {
        Self { state: Mutex::default(), unread: watch::Sender::new(true) }
    }
}

impl Counting {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the changes of a durable commit.
    pub(super) fn apply(&self, changes: Vec<CountChange>) {
        if !changes.is_empty() {
            self.update(|state| changes.into_iter().for_each(|change| state.apply(change)));
        }
    }

    /// Begins again: nobody knows what became durable.
    pub(super) fn begin_again(&self) {
        self.apply(vec![CountChange::Unknown]);
    }

    fn update<T>(&self, update: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let done = update(&mut state);
        let is_unread = !state.is_complete();
        drop(state);
        self.unread.send_if_modified(|known| std::mem::replace(known, is_unread) != is_unread);
        done
    }
}

impl Store {
    /// Returns how many watches there are in each phase, and how many dead letters; `None` until all that is stored was
    /// read. It costs the same at any size.
    #[must_use]
    pub fn counts(&self) -> Option<Counts> {
        let state = self.listeners.counts.state();
        state.is_complete().then(|| {
            let mut counts = Counts { dead: state.dead.counts.clone(), ..Counts::default() };
            for ((source, phase), count) in &state.watches.counts {
                counts.watches.entry(source.clone()).or_default().insert(*phase, *count);
            }
            counts
        })
    }

    /// Reads what is stored for [`counts`](Self::counts), in pieces with pauses, and again after the store was opened
    /// again. Never ends.
    pub async fn keep_counts(&self) {
        let mut unread = self.listeners.counts.unread.subscribe();
        while unread.wait_for(|unread| *unread).await.is_ok() {
            let begun = Instant::now();
            let pause = match self.count_piece(PIECE).await {
                Ok(()) => begun.elapsed() * SPARING,
                Err(_) => AGAIN,
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads the next `most` records for the counts.
    pub(super) async fn count_piece(&self, most: usize) -> Result<(), StoreError> {
        let counting = &self.listeners.counts;
        let (round, of_watches) = {
            let state = counting.state();
            if state.is_complete() {
                return Ok(());
            }
            (state.round, !state.watches.is_complete())
        };
        if of_watches {
            let before = counting.state().watches.begin();
            let piece = self.scan(move |records| read_watches(records, before, most)).await?;
            self.barrier().await?;
            counting.update(|state| {
                if state.round == round {
                    state.watches.add_piece(piece);
                }
            });
        } else {
            let before = counting.state().dead.begin();
            let piece = self.scan(move |records| read_dead(records, before, most)).await?;
            self.barrier().await?;
            counting.update(|state| {
                if state.round == round {
                    state.dead.add_piece(piece);
                }
            });
        }
        Ok(())
    }

    /// Waits until every commit was told whose writes a read up to now may have seen.
    async fn barrier(&self) -> Result<(), StoreError> {
        self.write(|_| Ok(())).await
    }
}

fn read_watches(
    records: &dyn Records,
    before: Option<u64>,
    most: usize,
) -> Result<Piece<u64, (String, Phase)>, StoreError> {
    let watches = records.watches(Selection::All, before).take(most);
    let counted = |entry: Result<(u64, Option<super::Watch>), _>| {
        entry.map(|(number, watch)| (number, watch.map(|watch| (watch.source.clone(), watch.phase()))))
    };
    let found = watches.map(counted).collect::<Result<Vec<_>, _>>()?;
    Ok(Piece { is_last: found.len() < most, found })
}

fn read_dead(
    records: &dyn Records,
    before: Option<DeliveryKey>,
    most: usize,
) -> Result<Piece<DeliveryKey, String>, StoreError> {
    let mut found = Vec::new();
    for entry in records.deliveries_before(Selection::All, before).take(most) {
        let (key, delivery) = entry?;
        let dead = delivery.filter(|delivery| delivery.state == DeliveryState::Dead);
        found.push((key, dead.map(|delivery| delivery.sink)));
    }
    Ok(Piece { is_last: found.len() < most, found })
}
