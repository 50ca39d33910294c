//! The creations of a source that the proxy holds to the budget. They go out in the order in which
//! they came; a creation that the source did not take keeps its place.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    select,
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::schedule::{Claim, SharedBudget};

/// When a creation that waited in vain may be sent again, if nothing tells a better time.
const AGAIN: Duration = Duration::from_secs(1);

/// The creations of one source that wait for the budget.
pub struct Creations {
    claim: Claim,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    /// The number of the next ticket.
    next: u64,
    waiting: BTreeMap<u64, Arc<Notify>>,
}

/// The place of a creation in the order of arrival.
#[derive(Clone, Copy, Debug)]
pub struct Ticket(u64);

impl Creations {
    pub(super) fn new(budget: &Arc<SharedBudget>) -> Self {
        Self { claim: Claim::new(budget, Arc::default()), line: Mutex::default() }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a creation that has just come its place.
    pub fn arrive(&self) -> Ticket {
        let mut line = self.line();
        line.next += 1;
        Ticket(line.next)
    }

    /// Waits for its turn and for a token of the budget. While the source asks for fewer requests, no
    /// creation goes out before the end of the pause.
    ///
    /// # Errors
    /// The time at which it may be sent, if that is after `until`.
    pub async fn turn(&self, ticket: Ticket, until: Instant) -> Result<(), Instant> {
        let own = self.enter(ticket);
        let _leave = Leave(self, ticket);
        loop {
            // Woken when it becomes the first, or when one that came before it is back.
            if self.is_first(ticket) {
                select! {
                    taken = self.claim.take_unless_limited(until) => return taken,
                    () = own.notified() => {}
                }
            } else {
                select! {
                    () = own.notified() => {}
                    () = sleep_until(until) => return Err(Instant::now() + AGAIN),
                }
            }
        }
    }

    /// Records the answer to a creation with the key of the source: whether it was a limit, with the
    /// status and the wait that it asks for.
    pub fn answered(&self, sent: Instant, limit: Option<(u16, Option<Duration>)>, random: f64) {
        self.claim.record_creation(sent, limit, Instant::now(), random);
    }

    fn enter(&self, Ticket(number): Ticket) -> Arc<Notify> {
        let mut line = self.line();
        if let Some((_, displaced)) = line.waiting.first_key_value().filter(|(first, _)| **first > number) {
            displaced.notify_one();
        }
        Arc::clone(line.waiting.entry(number).or_default())
    }

    fn is_first(&self, Ticket(number): Ticket) -> bool {
        self.line().waiting.first_key_value().is_some_and(|(first, _)| *first == number)
    }
}

/// Takes a creation out of the line when dropped, and calls the next one.
struct Leave<'a>(&'a Creations, Ticket);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut line = self.0.line();
        line.waiting.remove(&self.1.0);
        if let Some((_, first)) = line.waiting.first_key_value() {
            first.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;
    use crate::schedule::Limits;

    fn creations(rate: f64) -> Arc<Creations> {
        let limits = Limits { rate, max_in_flight: 1, longest_pause: Duration::from_secs(30) };
        Arc::new(Creations::new(&Arc::new(SharedBudget::new(None, limits, Instant::now()))))
    }

    #[tokio::test(start_paused = true)]
    async fn creations_go_out_in_their_order_and_a_limit_keeps_it() {
        let creations = creations(10.0);
        let tickets: Vec<Ticket> = (0..5).map(|_| creations.arrive()).collect();
        let until = Instant::now() + Duration::from_secs(30);
        let began = Instant::now();
        creations.turn(tickets[0], until).await.unwrap();
        let sent = Instant::now();
        let (mut order, mut tasks) = (Vec::new(), JoinSet::new());
        for ticket in tickets[1..].iter().copied() {
            let creations = Arc::clone(&creations);
            tasks.spawn(async move { (ticket.0, creations.turn(ticket, until).await) });
            tokio::task::yield_now().await;
        }
        // The first is not taken, and comes back before the others.
        creations.answered(sent, Some((429, Some(Duration::from_secs(3)))), 0.0);
        creations.turn(tickets[0], until).await.unwrap();
        assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
        creations.answered(Instant::now(), None, 0.0);
        while let Some(done) = tasks.join_next().await {
            let (number, turn) = done.unwrap();
            turn.unwrap();
            order.push(number);
        }
        assert_eq!(order, [2, 3, 4, 5]);
        assert!(began.elapsed() <= Duration::from_secs(5), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_cannot_be_sent_in_time_hears_so_and_one_that_leaves_holds_up_nobody() {
        let creations = creations(1.0);
        let until = Instant::now() + Duration::from_secs(2);
        let [first, gone, third, late] = [(); 4].map(|()| creations.arrive());
        creations.turn(first, until).await.unwrap();
        {
            let mut leaves = Box::pin(creations.turn(gone, until));
            assert!(futures_util::poll!(&mut leaves).is_pending());
        }
        let (third, late) = tokio::join!(creations.turn(third, until), creations.turn(late, until));
        third.unwrap();
        late.unwrap_err();
        // A pause that lasts longer than the caller would wait.
        creations.answered(Instant::now(), Some((429, Some(Duration::from_secs(60)))), 0.0);
        let began = Instant::now();
        let ticket = creations.arrive();
        let at = creations.turn(ticket, Instant::now() + Duration::from_secs(5)).await.unwrap_err();
        assert_eq!((began.elapsed(), at - began), (Duration::ZERO, Duration::from_secs(60)));
    }
}
