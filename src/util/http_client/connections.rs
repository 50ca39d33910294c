//! The client in use, and when a new one replaces it.
//!
//! A client keeps using its connections even when they are dead. So a new client replaces it when a
//! kept connection broke or stayed silent, and when it is [`LIFE`] old, because only a new
//! connection asks the DNS again. Requests in flight finish on the old one.

use std::{
    error::Error,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The age at which a new client replaces the old one.
pub const LIFE: Duration = Duration::from_secs(5 * 60);

/// The most times to send a request that the peer did not handle.
const REFUSED_TRIES: u32 = 4;

/// A client that `build` makes from a key, such as the stamps of certificate files. Another key
/// makes a new client.
pub struct Connections<C, E, K = ()> {
    build: Build<C, E, K>,
    life: Duration,
    live: Mutex<Live<C, K>>,
}

type Build<C, E, K> = Box<dyn Fn(&K) -> Result<C, E> + Send + Sync>;

struct Live<C, K> {
    client: C,
    key: K,
    since: Instant,
    number: u64,
    given_up: bool,
}

/// A client for one request.
#[derive(Clone, Debug)]
pub struct Lease<C> {
    /// The client.
    pub client: C,
    number: u64,
}

impl<C: Clone, E, K: PartialEq> Connections<C, E, K> {
    /// Builds the first client.
    ///
    /// # Errors
    /// The error of `build`.
    pub fn new(
        life: Duration,
        key: K,
        build: impl Fn(&K) -> Result<C, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        let (client, since) = (build(&key)?, Instant::now());
        let live = Live { client, key, since, number: 0, given_up: false };
        Ok(Self { build: Box::new(build), life, live: Mutex::new(live) })
    }

    /// Returns the client to use now.
    ///
    /// # Errors
    /// The error of `build` for a new one; the next call tries again.
    pub fn lease(&self, key: K) -> Result<Lease<C>, E> {
        let mut live = self.live();
        if live.given_up || live.key != key || live.since.elapsed() >= self.life {
            let (client, since, number) = ((self.build)(&key)?, Instant::now(), live.number + 1);
            *live = Live { client, key, since, number, given_up: false };
        }
        Ok(Lease { client: live.client.clone(), number: live.number })
    }

    /// Makes the next request use a new client, unless a new one has replaced that of `lease`.
    pub fn renew(&self, lease: &Lease<C>) {
        let mut live = self.live();
        live.given_up |= live.number == lease.number;
    }

    fn live(&self) -> MutexGuard<'_, Live<C, K>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether to send a request again after `tries` failures. `kept` says that the request may
/// be repeated, and that it used a kept connection.
#[must_use]
pub const fn is_sent_again(refused: bool, kept: bool, tries: u32) -> bool {
    (refused && tries < REFUSED_TRIES) || (kept && tries == 1)
}

/// Returns whether the peer certainly did not handle a request: it was not sent, or the peer says so
/// (RFC 9113, section 6.8 for GOAWAY and 8.7 for `REFUSED_STREAM`).
#[must_use]
pub fn was_refused(error: &(dyn Error + 'static)) -> bool {
    let mut chain = std::iter::successors(Some(error), |error| (*error).source());
    let unhandled = |error: &(dyn Error + 'static)| {
        let by_peer = error.downcast_ref::<h2::Error>().filter(|h2| h2.is_remote());
        let refused =
            by_peer.is_some_and(|h2| h2.is_go_away() || h2.reason() == Some(h2::Reason::REFUSED_STREAM));
        refused || error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
    };
    chain.any(unhandled)
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::atomic::AtomicU32};

    use super::*;

    type Counted = Connections<u32, Infallible, &'static str>;

    /// Clients that are numbers, counted as they are built.
    fn counted(life: Duration) -> Counted {
        let built = AtomicU32::new(0);
        let build = move |_: &_| Ok(built.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let Ok(connections) = Connections::new(life, "a", build);
        connections
    }

    fn leased(connections: &Counted, key: &'static str) -> Lease<u32> {
        let Ok(lease) = connections.lease(key);
        lease
    }

    #[test]
    fn a_client_lives_for_a_time_and_for_its_key() {
        let connections = counted(Duration::MAX);
        let clients = ["a", "a", "b", "b", "a"].map(|key| leased(&connections, key).client);
        assert_eq!(clients, [0, 0, 1, 1, 2]);
        let connections = counted(Duration::ZERO);
        let clients = ["a", "a", "a"].map(|key| leased(&connections, key).client);
        assert_eq!(clients, [1, 2, 3], "names are asked for again under steady traffic");
    }

    #[test]
    fn many_that_give_up_the_same_client_cause_one_new_one() {
        let connections = counted(LIFE);
        let (first, second) = (leased(&connections, "a"), leased(&connections, "a"));
        connections.renew(&first);
        let third = leased(&connections, "a");
        assert_eq!(third.client, 1);
        connections.renew(&second);
        assert_eq!(leased(&connections, "a").client, 1, "the client that failed is gone already");
        connections.renew(&third);
        assert_eq!(leased(&connections, "a").client, 2);
    }

    #[test]
    fn what_is_sent_again() {
        for (refused, kept, tries, again) in [
            (false, false, 1, false),
            (false, true, 1, true),
            (false, true, 2, false),
            (true, false, 1, true),
            (true, false, 3, true),
            (true, true, 4, false),
        ] {
            assert_eq!(is_sent_again(refused, kept, tries), again, "{refused} {kept} {tries}");
        }
    }

    #[test]
    fn only_the_word_of_the_peer_is_a_refusal() {
        let own: h2::Error = h2::Reason::REFUSED_STREAM.into();
        assert!(!was_refused(&own));
        assert!(!was_refused(&std::io::Error::from(std::io::ErrorKind::ConnectionReset)));
    }
}
