//! Callbacks share one queue but go to many receivers: one of them that hangs must not take all the room.

use std::collections::{BTreeSet, HashMap};

use crate::store::DeliveryKey;

/// Attempts under way at once to one origin.
pub const MAX_PER_ORIGIN: usize = 8;

#[derive(Debug, Default)]
struct Lane {
    running: usize,
    waiting: BTreeSet<DeliveryKey>,
}

/// The origins that attempts are under way to.
#[derive(Debug, Default)]
pub struct Origins {
    lanes: HashMap<String, Lane>,
    /// Where each attempt under way goes.
    running: HashMap<DeliveryKey, String>,
}

impl Origins {
    /// Asks for an attempt at `origin`. When it is refused, [`leave`](Self::leave) names the delivery later.
    pub fn enter(&mut self, origin: &str, key: DeliveryKey) -> bool {
        let lane = self.lanes.entry(origin.to_owned()).or_default();
        if lane.running == MAX_PER_ORIGIN {
            lane.waiting.insert(key);
            return false;
        }
        lane.waiting.remove(&key);
        lane.running += 1;
        self.running.insert(key, origin.to_owned());
        true
    }

    /// Ends an attempt. Returns the delivery of the oldest event that waits for the same origin.
    pub fn leave(&mut self, key: DeliveryKey) -> Option<DeliveryKey> {
        let origin = self.running.remove(&key)?;
        let lane = self.lanes.get_mut(&origin)?;
        lane.running -= 1;
        let next = lane.waiting.pop_first();
        if lane.running == 0 && lane.waiting.is_empty() {
            self.lanes.remove(&origin);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(event: u64) -> DeliveryKey {
        DeliveryKey::new(event, "evt", "callback")
    }

    #[test]
    fn one_origin_has_its_share_and_the_oldest_goes_next() {
        let mut origins = Origins::default();
        let slow = "http://slow.example";
        assert!((0..8).all(|event| origins.enter(slow, key(event))));
        assert!(!origins.enter(slow, key(9)) && !origins.enter(slow, key(8)));
        assert!(origins.enter("http://fast.example", key(10)));
        assert_eq!(origins.leave(key(0)), Some(key(8)));
        assert!(origins.enter(slow, key(8)) && !origins.enter(slow, key(11)));
        let left: Vec<_> = (1..=8).filter_map(|event| origins.leave(key(event))).collect();
        assert_eq!(left, [key(9), key(11)]);
        assert_eq!(origins.leave(key(10)), None);
        assert!(origins.lanes.is_empty() && origins.running.is_empty(), "{origins:?}");
    }
}
