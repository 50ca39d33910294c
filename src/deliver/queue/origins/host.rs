//! The share of a host, which its origins have in common.

use std::{collections::BTreeSet, sync::Arc};

use super::MAX_PER_HOST;
use crate::deliver::queue::decision::SinkSignal;

/// The most attempts in flight to a host without a success, for origins whose last attempt failed.
const FIRST_PER_HOST: usize = 2;

/// A host with its share of the attempts in flight.
#[derive(Debug)]
pub(super) struct Host {
    /// Lanes with deliveries.
    pub(super) lanes: usize,
    /// Attempts in flight.
    pub(super) running: usize,
    /// The most attempts in flight for origins whose last attempt failed.
    pub(super) window: usize,
    /// Whether its last attempt was answered.
    pub(super) proven: bool,
    /// Its lanes that wait for its share.
    pub(super) waiting: BTreeSet<Arc<str>>,
}

impl Default for Host {
    fn default() -> Self {
        Self { lanes: 0, running: 0, window: FIRST_PER_HOST, proven: false, waiting: BTreeSet::new() }
    }
}

impl Host {
    /// Returns the most attempts in flight for an origin of this host.
    pub(super) fn share(&self, has_failed: bool) -> usize {
        if has_failed { self.window } else { MAX_PER_HOST }
    }

    /// Updates the share by what an attempt said about the host.
    pub(super) fn update(&mut self, signal: SinkSignal) {
        (self.proven, self.window) = match signal {
            SinkSignal::Works | SinkSignal::Refuses => (true, (self.window + 1).min(MAX_PER_HOST)),
            SinkSignal::Nothing => return,
            SinkSignal::Fails | SinkSignal::FailsForOne | SinkSignal::Overloaded { .. } => {
                (false, (self.window / 2).max(1))
            }
        };
    }
}
