//! The client in use, and the moments at which its connections give way to new ones.
//!
//! A client keeps connections and goes on using them, also when they lead nowhere any more. So a client is given up, and
//! the next request goes out by a new one, when a kept connection broke or stayed silent, and when it is [`LIFE`] old:
//! only a new connection asks the DNS again. Requests in flight finish on the old one.

use std::{
    error::Error,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The age at which a client gives way to a new one.
pub const LIFE: Duration = Duration::from_secs(5 * 60);

/// The number of times a request that the peer did not handle is sent.
const REFUSED_TRIES: u32 = 4;

/// A client, made by `build` out of a key such as the state of its certificate files, and made anew when the key changes.
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
    /// That of `build`.
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
    /// That of building a new one; the next call tries again.
    pub fn lease(&self, key: K) -> Result<Lease<C>, E> {
        let mut live = self.live();
        if live.given_up || live.key != key || live.since.elapsed() >= self.life {
            let (client, since, number) = ((self.build)(&key)?, Instant::now(), live.number + 1);
            *live = Live { client, key, since, number, given_up: false };
        }
        Ok(Lease { client: live.client.clone(), number: live.number })
    }

    /// Has the next request go out by a new client, unless it does so already.
    pub fn renew(&self, lease: &Lease<C>) {
        let mut live = self.live();
        live.given_up |= live.number == lease.number;
    }

    fn live(&self) -> MutexGuard<'_, Live<C, K>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a request that failed `tries` times is sent once more. `kept` says that it may be repeated, and that it went
/// over a connection that had been in use before.
#[must_use]
pub const fn is_sent_again(refused: bool, kept: bool, tries: u32) -> bool {
    (refused && tries < REFUSED_TRIES) || (kept && tries == 1)
}

/// Whether a request was surely not handled: it was not sent, or the peer says so (RFC 9113, sections 6.8 for GOAWAY and 8.7
/// for `REFUSED_STREAM`).
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
