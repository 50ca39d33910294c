//! Places for connections: how many there may be, and which one gives way to a newcomer.
//!
//! A connection waits (it has said nothing, or its request was answered), sends the head of a request, or has a request in
//! flight. One that waits or sends a head can be closed at no cost but a new connection; one with a request cannot. So a
//! newcomer to a full house takes the place of the one that has waited longest, unfinished heads are few whatever comes, and
//! requests leave a reserve of places in which a probe is still answered.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Connections at once, where the descriptors suffice.
const MAX_CONNECTIONS: usize = 4096;

/// The same for an address that serves probes and metrics alone.
const MAX_ADMIN_CONNECTIONS: usize = 64;

/// Descriptors that no connection to the API takes: the daemon has twenty open at rest, and some for its work.
const OWN_DESCRIPTORS: usize = 64;

/// Unfinished heads at once: each holds a buffer that its client fills.
const MAX_HEADS: usize = 256;

/// Bounds of the connections of one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    /// Connections at once. A further one is not accepted.
    connections: usize,
    /// From so many on the longest idle one gives way to each newcomer.
    comfortable: usize,
    /// Requests in flight beside which only probes are answered.
    requests: usize,
    /// Unfinished heads.
    heads: usize,
}

impl Limits {
    fn of(connections: usize) -> Self {
        let reserve = connections / 8;
        Self {
            connections,
            comfortable: connections - reserve,
            requests: connections - 2 * reserve,
            heads: (connections / 2).min(MAX_HEADS),
        }
    }

    /// Of the API: at most half of the descriptors, and all but some, so that the rest is there for the store, for polls and for
    /// deliveries.
    fn of_api(descriptors: usize) -> Self {
        let left = descriptors.saturating_sub(OWN_DESCRIPTORS);
        Self::of((descriptors / 2).min(left).clamp(8, MAX_CONNECTIONS))
    }

    /// Of the admin address.
    fn of_admin(descriptors: usize) -> Self {
        Self::of((descriptors / 16).clamp(4, MAX_ADMIN_CONNECTIONS))
    }
}

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Waiting,
    Head,
    Request,
}

/// The places of one listener.
pub(crate) struct Places {
    limits: Limits,
    house: Mutex<House>,
    left: Notify,
}

#[derive(Default)]
struct House {
    /// Counts every change, so that a smaller number is an older one.
    next: u64,
    /// Those that can be told to go, by the change that made them what they are.
    waiting: BTreeMap<u64, CancellationToken>,
    heads: BTreeMap<u64, CancellationToken>,
    requests: usize,
    open: usize,
    /// Newcomers take the places of others since it was last said.
    crowded: bool,
}

impl House {
    /// Tells the oldest head to go.
    fn end_oldest_head(&mut self) -> bool {
        self.heads.pop_first().inspect(|(_, leave)| leave.cancel()).is_some()
    }

    /// Tells the oldest of those without a request to go.
    fn end_oldest(&mut self) -> bool {
        let oldest = |all: &BTreeMap<u64, _>| all.first_key_value().map_or(u64::MAX, |(since, _)| *since);
        if oldest(&self.heads) < oldest(&self.waiting) {
            return self.end_oldest_head();
        }
        self.waiting.pop_first().inspect(|(_, leave)| leave.cancel()).is_some()
    }
}

impl Places {
    /// Places of the API in a process with so many descriptors.
    pub(crate) fn of_api(descriptors: usize) -> Arc<Self> {
        Self::new(Limits::of_api(descriptors))
    }

    /// Places of the admin address.
    pub(crate) fn of_admin(descriptors: usize) -> Arc<Self> {
        Self::new(Limits::of_admin(descriptors))
    }

    fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, house: Mutex::default(), left: Notify::new() })
    }

    /// Waits until one more connection may be accepted.
    pub(super) async fn room(&self) {
        loop {
            let left = self.left.notified();
            if self.house().open < self.limits.connections {
                return;
            }
            left.await;
        }
    }

    /// Takes a place; when few are left, the connection that has waited longest gives way.
    pub(super) fn enter(self: &Arc<Self>) -> Arc<Place> {
        let leave = CancellationToken::new();
        let mut house = self.house();
        house.open += 1;
        if house.open > self.limits.comfortable {
            house.end_oldest();
            if !std::mem::replace(&mut house.crowded, true) {
                let connections = self.limits.connections;
                tracing::warn!(
                    connections,
                    "connections nearly full; the longest idle one is closed for each new one"
                );
            }
        }
        let place = Place { places: Arc::clone(self), leave, state: Mutex::default() };
        place.change(&mut house, Doing::Waiting);
        drop(house);
        Arc::new(place)
    }

    /// Makes room by one connection: the process has no descriptor left.
    pub(super) fn end_oldest(&self) {
        self.house().end_oldest();
    }

    fn house(&self) -> MutexGuard<'_, House> {
        self.house.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection. Dropped, it is free.
pub(super) struct Place {
    places: Arc<Places>,
    leave: CancellationToken,
    /// What it does, and since which change. Written with the house locked.
    state: Mutex<Option<(Doing, u64)>>,
}

impl Place {
    /// Waits until it has to give way.
    pub(super) async fn leave(&self) {
        self.leave.cancelled().await;
    }

    /// Bytes came. Returns whether they belong to the head of a request that is not complete.
    pub(super) fn heard(&self) -> bool {
        let mut house = self.places.house();
        if self.doing() == Some(Doing::Waiting) {
            self.change(&mut house, Doing::Head);
            if house.heads.len() > self.places.limits.heads {
                house.end_oldest_head();
            }
        }
        self.doing() == Some(Doing::Head)
    }

    /// Returns whether the head of a request has begun and is not complete.
    pub(super) fn is_in_head(&self) -> bool {
        self.doing() == Some(Doing::Head)
    }

    /// The head of a request is complete. Returns what holds the place for it until it is answered, and whether there is room
    /// for more than a probe.
    pub(super) fn begin_request(self: &Arc<Self>) -> (InRequest, bool) {
        let mut house = self.places.house();
        self.change(&mut house, Doing::Request);
        let served = house.requests <= self.places.limits.requests;
        (InRequest(Arc::clone(self)), served)
    }

    /// Returns whether a request is in flight.
    pub(super) fn is_in_request(&self) -> bool {
        self.doing() == Some(Doing::Request)
    }

    fn doing(&self) -> Option<Doing> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).map(|(doing, _)| doing)
    }

    fn change(&self, house: &mut House, doing: Doing) {
        let since = house.next;
        house.next += 1;
        self.forget(house);
        match doing {
            // One that was told to go is not told again.
            Doing::Waiting | Doing::Head if self.leave.is_cancelled() => {}
            Doing::Waiting => drop(house.waiting.insert(since, self.leave.clone())),
            Doing::Head => drop(house.heads.insert(since, self.leave.clone())),
            Doing::Request => house.requests += 1,
        }
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some((doing, since));
    }

    fn forget(&self, house: &mut House) {
        match self.state.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some((Doing::Waiting, since)) => drop(house.waiting.remove(&since)),
            Some((Doing::Head, since)) => drop(house.heads.remove(&since)),
            Some((Doing::Request, _)) => house.requests -= 1,
            None => {}
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut house = self.places.house();
        self.forget(&mut house);
        house.open -= 1;
        if house.open < self.places.limits.comfortable / 2 {
            house.crowded = false;
        }
        drop(house);
        self.places.left.notify_one();
    }
}

/// A request in flight. Dropped, its connection waits for the next one.
pub(super) struct InRequest(Arc<Place>);

impl Drop for InRequest {
    fn drop(&mut self) {
        let mut house = self.0.places.house();
        self.0.change(&mut house, Doing::Waiting);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn has_to_leave(place: &Place) -> bool {
        place.leave.is_cancelled()
    }

    #[test]
    fn connections_leave_descriptors_for_the_work() {
        for (descriptors, state, admin) in [
            (20, 8, 4),
            (64, 8, 4),
            (96, 32, 6),
            (128, 64, 8),
            (256, 128, 16),
            (1024, 512, 64),
            (20_000, 4096, 64),
            (usize::MAX, 4096, 64),
        ] {
            let (one, other) = (Limits::of_api(descriptors), Limits::of_admin(descriptors));
            assert_eq!((one.connections, other.connections), (state, admin), "{descriptors}");
            assert!(one.requests < one.comfortable && one.comfortable < one.connections, "{one:?}");
            assert!(one.heads <= MAX_HEADS, "{one:?}");
        }
    }

    #[test]
    fn the_longest_idle_gives_way_and_never_one_with_a_request() {
        let places = Places::new(Limits { connections: 4, comfortable: 3, requests: 2, heads: 2 });
        let (busy, answered, silent) = (places.enter(), places.enter(), places.enter());
        let (in_flight, served) = busy.begin_request();
        assert!(served);
        // It was the last to do anything.
        drop(answered.begin_request());
        let newcomer = places.enter();
        assert_eq!(
            [&busy, &answered, &silent, &newcomer].map(|one| has_to_leave(one)),
            [false, false, true, false]
        );
        drop(silent);
        drop(in_flight);
        let _second = places.enter();
        assert_eq!([&busy, &answered, &newcomer].map(|one| has_to_leave(one)), [false, true, false]);
    }

    #[test]
    fn too_many_unfinished_heads_cost_the_oldest() {
        let places = Places::new(Limits { connections: 10, comfortable: 9, requests: 8, heads: 2 });
        let all: Vec<_> = (0..4).map(|_| places.enter()).collect();
        for place in &all[..3] {
            assert!(place.heard() && place.heard());
        }
        assert_eq!(all.iter().map(|one| has_to_leave(one)).collect::<Vec<_>>(), [true, false, false, false]);
        // A head that is complete is none any more.
        let _request = all[1].begin_request();
        assert!(!all[1].heard() && all[3].heard());
        assert!(!has_to_leave(&all[2]) && !has_to_leave(&all[3]));
    }

    #[test]
    fn requests_leave_room_for_a_probe() {
        let places = Places::new(Limits { connections: 6, comfortable: 4, requests: 3, heads: 2 });
        let all: Vec<_> = (0..4).map(|_| places.enter()).collect();
        let served: Vec<_> = all.iter().map(Place::begin_request).collect();
        assert_eq!(served.iter().map(|(_, served)| *served).collect::<Vec<_>>(), [true, true, true, false]);
    }

    proptest! {
            /// Whatever connections do in whatever order, the counts fit, and a full house does not grow.
            #[test]
            fn the_house_adds_up(steps in proptest::collection::vec((0..4_u8, 0..12_usize), 1..200)) {
                let places = Places::new(Limits { connections: 6, comfortable: 4, requests: 3, heads: 2 });
                let mut there: Vec<(Arc<Place>, Option<InRequest>)> = Vec::new();
                for (step, which) in steps {
                    let (which, before) = (which.checked_rem(there.len()), there.len());
                    match (step, which) {
                        (0, Some(which)) => drop(there.swap_remove(which)),
                        (1, Some(which)) => drop(there[which].0.heard()),
                        (2, Some(which)) if there[which].1.is_none() => {
                            let (request, _) = there[which].0.begin_request();
                            there[which].1 = Some(request);
                        }
                        (3, Some(which)) => there[which].1 = None,
                        _ => there.push((places.enter(), None)),
                    }
                    // Those that were told to go do so, unless a request holds them.
                    there.retain(|(place, request)| request.is_some() || !has_to_leave(place));
                    let house = places.house();
                    let requests = there.iter().filter(|(_, request)| request.is_some()).count();
                    prop_assert_eq!((house.open, house.requests), (there.len(), requests));
                    prop_assert_eq!(house.waiting.len() + house.heads.len(), there.len() - requests);
                    prop_assert!(house.heads.len() <= 2);
    // A newcomer beyond the comfortable number takes the place of one that has no request.
                    prop_assert!(house.open <= before.max(4).max(requests + 1), "{} of {requests}", house.open);
                }
            }
        }
}
