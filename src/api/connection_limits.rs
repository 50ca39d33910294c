//! The limits of connections, and the choice of the one that is closed for a new one.
//!
//! A connection is idle, sends the head of a request, or has a request in flight. The daemon can
//! close one of the first two; its client only has to connect again. Near the limit, a new
//! connection evicts the one that has been idle longest. The number of unfinished heads is bounded.
//! Requests leave a reserve of connections in which the daemon still answers probes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The largest number of open connections, if the descriptors suffice.
const MAX_CONNECTIONS: usize = 4096;

/// The largest number of open connections of `server.admin_listen`.
const MAX_ADMIN_CONNECTIONS: usize = 64;

/// Descriptors that connections leave to the daemon: twenty at rest, and some for its work.
const OWN_DESCRIPTORS: usize = 64;

/// The largest number of unfinished heads. Each holds a buffer that its client fills.
const MAX_HEADS: usize = 256;

/// The limits of one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ListenerLimits {
    /// Open connections. The daemon does not accept further ones.
    connections: usize,
    /// Open connections above which each new one evicts the longest idle one.
    evict_above: usize,
    /// Requests in flight above which the daemon answers only probes.
    requests: usize,
    /// Connections with an unfinished head.
    heads: usize,
}

impl ListenerLimits {
    fn of(connections: usize) -> Self {
        let reserve = connections / 8;
        Self {
            connections,
            evict_above: connections - reserve,
            requests: connections - 2 * reserve,
            heads: (connections / 2).min(MAX_HEADS),
        }
    }

    /// Returns the limits of the API: at most half of the descriptors. The rest serves the store,
    /// polls and deliveries.
    fn of_api(descriptors: usize) -> Self {
        let left = descriptors.saturating_sub(OWN_DESCRIPTORS);
        Self::of((descriptors / 2).min(left).clamp(8, MAX_CONNECTIONS))
    }

    /// Returns the limits of `server.admin_listen`.
    fn of_admin(descriptors: usize) -> Self {
        Self::of((descriptors / 16).clamp(4, MAX_ADMIN_CONNECTIONS))
    }
}

/// The activity of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    /// No byte of a next request has arrived.
    Idle,
    /// The head of a request is incomplete.
    Head,
    /// A request is in flight.
    Request,
}

/// The open connections of one listener, and their limits.
pub(crate) struct ConnectionLimits {
    limits: ListenerLimits,
    connections: Mutex<Connections>,
    left: Notify,
}

#[derive(Default)]
struct Connections {
    /// The number of the next change. A smaller number is an older change.
    next: u64,
    /// Idle connections, by their last change.
    idle: BTreeMap<u64, CancellationToken>,
    /// Connections with an unfinished head, by their last change.
    heads: BTreeMap<u64, CancellationToken>,
    requests: usize,
    open: usize,
    /// New connections evict others, and the log says so.
    evicting: bool,
}

impl Connections {
    /// Evicts the connection with the oldest unfinished head.
    fn evict_oldest_head(&mut self) -> bool {
        self.heads.pop_first().inspect(|(_, eviction)| eviction.cancel()).is_some()
    }

    /// Evicts the oldest connection without a request.
    fn evict_oldest(&mut self) -> bool {
        let oldest = |all: &BTreeMap<u64, _>| all.first_key_value().map_or(u64::MAX, |(since, _)| *since);
        if oldest(&self.heads) < oldest(&self.idle) {
            return self.evict_oldest_head();
        }
        self.idle.pop_first().inspect(|(_, eviction)| eviction.cancel()).is_some()
    }
}

impl ConnectionLimits {
    /// Returns the limits of the API in a process with `descriptors`.
    pub(crate) fn of_api(descriptors: usize) -> Arc<Self> {
        Self::new(ListenerLimits::of_api(descriptors))
    }

    /// Returns the limits of `server.admin_listen` in a process with `descriptors`.
    pub(crate) fn of_admin(descriptors: usize) -> Arc<Self> {
        Self::new(ListenerLimits::of_admin(descriptors))
    }

    fn new(limits: ListenerLimits) -> Arc<Self> {
        Arc::new(Self { limits, connections: Mutex::default(), left: Notify::new() })
    }

    /// Waits until the daemon may accept one more connection.
    pub(super) async fn wait_for_room(&self) {
        loop {
            let left = self.left.notified();
            if self.lock().open < self.limits.connections {
                return;
            }
            left.await;
        }
    }

    /// Records a new connection. Near the limit, evicts the longest idle one.
    pub(super) fn open_connection(self: &Arc<Self>) -> Arc<ConnectionSlot> {
        let eviction = CancellationToken::new();
        let mut connections = self.lock();
        connections.open += 1;
        if connections.open > self.limits.evict_above {
            connections.evict_oldest();
            if !std::mem::replace(&mut connections.evicting, true) {
                let limit = self.limits.connections;
                tracing::warn!(
                    limit,
                    "connections nearly full; closing the longest idle one for each new one"
                );
            }
        }
        let slot = ConnectionSlot { limits: Arc::clone(self), eviction, state: Mutex::default() };
        slot.change(&mut connections, Activity::Idle);
        drop(connections);
        Arc::new(slot)
    }

    /// Evicts the oldest connection without a request, to get a descriptor back.
    pub(super) fn evict_oldest(&self) {
        self.lock().evict_oldest();
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open connection. Its drop makes room for another one.
pub(super) struct ConnectionSlot {
    limits: Arc<ConnectionLimits>,
    eviction: CancellationToken,
    /// The activity and the number of its change. Written only while `connections` is locked.
    state: Mutex<Option<(Activity, u64)>>,
}

impl ConnectionSlot {
    /// Waits until the connection is evicted.
    pub(super) async fn evicted(&self) {
        self.eviction.cancelled().await;
    }

    /// Records that bytes arrived. Returns whether they belong to an unfinished head.
    pub(super) fn record_bytes(&self) -> bool {
        let mut connections = self.limits.lock();
        if self.activity() == Some(Activity::Idle) {
            self.change(&mut connections, Activity::Head);
            if connections.heads.len() > self.limits.limits.heads {
                connections.evict_oldest_head();
            }
        }
        self.activity() == Some(Activity::Head)
    }

    /// Returns whether the head of a request is incomplete.
    pub(super) fn is_in_head(&self) -> bool {
        self.activity() == Some(Activity::Head)
    }

    /// Records that the head of a request is complete. Returns a guard for the time of the request,
    /// and whether the limits allow more than a probe.
    pub(super) fn begin_request(self: &Arc<Self>) -> (RequestInFlight, bool) {
        let mut connections = self.limits.lock();
        self.change(&mut connections, Activity::Request);
        let served = connections.requests <= self.limits.limits.requests;
        (RequestInFlight(Arc::clone(self)), served)
    }

    /// Returns whether a request is in flight.
    pub(super) fn is_in_request(&self) -> bool {
        self.activity() == Some(Activity::Request)
    }

    fn activity(&self) -> Option<Activity> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).map(|(activity, _)| activity)
    }

    fn change(&self, connections: &mut Connections, activity: Activity) {
        let since = connections.next;
        connections.next += 1;
        self.forget(connections);
        match activity {
            // An evicted connection is not evicted again.
            Activity::Idle | Activity::Head if self.eviction.is_cancelled() => {}
            Activity::Idle => drop(connections.idle.insert(since, self.eviction.clone())),
            Activity::Head => drop(connections.heads.insert(since, self.eviction.clone())),
            Activity::Request => connections.requests += 1,
        }
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some((activity, since));
    }

    fn forget(&self, connections: &mut Connections) {
        match self.state.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some((Activity::Idle, since)) => drop(connections.idle.remove(&since)),
            Some((Activity::Head, since)) => drop(connections.heads.remove(&since)),
            Some((Activity::Request, _)) => connections.requests -= 1,
            None => {}
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut connections = self.limits.lock();
        self.forget(&mut connections);
        connections.open -= 1;
        if connections.open < self.limits.limits.evict_above / 2 {
            connections.evicting = false;
        }
        drop(connections);
        self.limits.left.notify_one();
    }
}

/// A request in flight. Its drop makes the connection idle.
pub(super) struct RequestInFlight(Arc<ConnectionSlot>);

impl Drop for RequestInFlight {
    fn drop(&mut self) {
        let mut connections = self.0.limits.lock();
        self.0.change(&mut connections, Activity::Idle);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_evicted(slot: &ConnectionSlot) -> bool {
        slot.eviction.is_cancelled()
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
            let (one, other) = (ListenerLimits::of_api(descriptors), ListenerLimits::of_admin(descriptors));
            assert_eq!((one.connections, other.connections), (state, admin), "{descriptors}");
            assert!(one.requests < one.evict_above && one.evict_above < one.connections, "{one:?}");
            assert!(one.heads <= MAX_HEADS, "{one:?}");
        }
    }

    #[test]
    fn the_longest_idle_gives_way_and_never_one_with_a_request() {
        let limits =
            ConnectionLimits::new(ListenerLimits { connections: 4, evict_above: 3, requests: 2, heads: 2 });
        let (busy, answered, silent) =
            (limits.open_connection(), limits.open_connection(), limits.open_connection());
        let (in_flight, served) = busy.begin_request();
        assert!(served);
        // This one changed last.
        drop(answered.begin_request());
        let newcomer = limits.open_connection();
        assert_eq!(
            [&busy, &answered, &silent, &newcomer].map(|one| is_evicted(one)),
            [false, false, true, false]
        );
        drop(silent);
        drop(in_flight);
        let _second = limits.open_connection();
        assert_eq!([&busy, &answered, &newcomer].map(|one| is_evicted(one)), [false, true, false]);
    }

    #[test]
    fn too_many_unfinished_heads_cost_the_oldest() {
        let limits =
            ConnectionLimits::new(ListenerLimits { connections: 10, evict_above: 9, requests: 8, heads: 2 });
        let all: Vec<_> = (0..4).map(|_| limits.open_connection()).collect();
        for slot in &all[..3] {
            assert!(slot.record_bytes() && slot.record_bytes());
        }
        assert_eq!(all.iter().map(|one| is_evicted(one)).collect::<Vec<_>>(), [true, false, false, false]);
        // A complete head no longer counts.
        let _request = all[1].begin_request();
        assert!(!all[1].record_bytes() && all[3].record_bytes());
        assert!(!is_evicted(&all[2]) && !is_evicted(&all[3]));
    }

    #[test]
    fn requests_leave_room_for_a_probe() {
        let limits =
            ConnectionLimits::new(ListenerLimits { connections: 6, evict_above: 4, requests: 3, heads: 2 });
        let all: Vec<_> = (0..4).map(|_| limits.open_connection()).collect();
        let served: Vec<_> = all.iter().map(ConnectionSlot::begin_request).collect();
        assert_eq!(served.iter().map(|(_, served)| *served).collect::<Vec<_>>(), [true, true, true, false]);
    }

    proptest! {
        /// The counts are right after any steps of connections, and the limits hold.
        #[test]
        fn the_counts_add_up(steps in proptest::collection::vec((0..4_u8, 0..12_usize), 1..200)) {
            let limits = ConnectionLimits::new(ListenerLimits { connections: 6, evict_above: 4, requests: 3, heads: 2 });
            let mut there: Vec<(Arc<ConnectionSlot>, Option<RequestInFlight>)> = Vec::new();
            for (step, which) in steps {
                let (which, before) = (which.checked_rem(there.len()), there.len());
                match (step, which) {
                    (0, Some(which)) => drop(there.swap_remove(which)),
                    (1, Some(which)) => drop(there[which].0.record_bytes()),
                    (2, Some(which)) if there[which].1.is_none() => {
                        let (request, _) = there[which].0.begin_request();
                        there[which].1 = Some(request);
                    }
                    (3, Some(which)) => there[which].1 = None,
                    _ => there.push((limits.open_connection(), None)),
                }
                // Evicted connections close, unless they have a request in flight.
                there.retain(|(slot, request)| request.is_some() || !is_evicted(slot));
                let connections = limits.lock();
                let requests = there.iter().filter(|(_, request)| request.is_some()).count();
                prop_assert_eq!((connections.open, connections.requests), (there.len(), requests));
                prop_assert_eq!(connections.idle.len() + connections.heads.len(), there.len() - requests);
                prop_assert!(connections.heads.len() <= 2);
                // Above the eviction limit a new connection replaces one without a request.
                prop_assert!(connections.open <= before.max(4).max(requests + 1), "{} of {requests}", connections.open);
            }
        }
    }
}
