//! The turns of an ordered sink: a delivery is attempted once those of earlier events of its job
//! are settled.

use std::time::Duration;

use tokio::time::Instant;

use super::SinkWorker;
use crate::{
    deliver::queue::order::JobTurn,
    model::delivery::DeliveryState,
    store::{Delivery, DeliveryKey, StoreError},
    util::clock,
};

/// The wait after which a delivery checks again whether it has its turn, in case no other one wakes
/// it.
const TURN_CHECK_WAIT: Duration = Duration::from_secs(30);

/// A pending delivery, and its turn if the sink is ordered.
pub(super) type Prepared<'a> = (Delivery, Option<JobTurn<'a>>);

impl SinkWorker {
    /// Reads a delivery and takes its turn. Returns `None` when it is no longer pending, or another
    /// one goes first.
    pub(super) async fn prepare(&self, key: DeliveryKey) -> Result<Option<Prepared<'_>>, StoreError> {
        let pending =
            self.store.delivery(key).await?.filter(|delivery| delivery.state == DeliveryState::Pending);
        let Some(delivery) = pending else { return Ok(None) };
        let ordered = self.backlog().is_ordered();
        let turn = if ordered { self.take_turn(key, &delivery).await? } else { None };
        Ok((!ordered || turn.is_some()).then_some((delivery, turn)))
    }

    /// Takes the turn of a delivery. When another delivery of its job goes first, this one is
    /// deferred, and [`wake_next`](Self::wake_next) schedules it after the other one.
    async fn take_turn(
        &self,
        key: DeliveryKey,
        delivery: &Delivery,
    ) -> Result<Option<JobTurn<'_>>, StoreError> {
        let first = self.store.first_pending(&delivery.topic, &self.name, Some(key.event)).await?;
        let wait = match first {
            Some((_, due)) => due.since(clock::now()),
            None => match self.order.take(delivery.topic.watch().unwrap_or(key.event)) {
                Some(turn) => return Ok(Some(turn)),
                None => Duration::ZERO,
            },
        };
        self.backlog().with(key, |queue| queue.defer(key, Instant::now() + wait + TURN_CHECK_WAIT));
        Ok(None)
    }

    /// Schedules the delivery of the same job that goes after this one, if the sink is ordered.
    pub(super) async fn wake_next(&self, delivery: &Delivery) -> Result<(), StoreError> {
        if self.backlog().is_ordered()
            && let Some((next, due)) = self.store.first_pending(&delivery.topic, &self.name, None).await?
        {
            self.schedule(next, due, clock::now());
        }
        Ok(())
    }
}
