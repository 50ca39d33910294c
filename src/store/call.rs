//! One caller's operation, from the call to its durable answer.

use tokio::sync::oneshot;

use super::{
    BodyPlace, REOPEN_FIRST, REOPEN_LAST, Store, StoreError, backend::Call, bodies::SmallBody, records::Txn,
};
use crate::util::units::rounded;

struct Pending<F, T> {
    operation: Option<F>,
    bodies: Vec<SmallBody>,
    places: Vec<BodyPlace>,
    value: Option<Result<T, StoreError>>,
    may_wait: bool,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Call for Pending<F, T>
where
    F: FnOnce(&mut Txn<'_>, &[BodyPlace]) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn may_wait(&self) -> bool {
        self.may_wait
    }

    fn bodies(&self) -> &[SmallBody] {
        &self.bodies
    }

    fn set_places(&mut self, places: Vec<BodyPlace>) {
        self.places = places;
    }

    fn apply(&mut self, txn: &mut Txn<'_>) -> Result<(), StoreError> {
        let Some(operation) = self.operation.take() else { return Ok(()) };
        match operation(txn, &self.places) {
            Ok(value) => self.value = Some(Ok(value)),
            // A record that cannot be read fails its own caller alone.
            Err(error @ StoreError::Record(_)) => {
                txn.abandon_operation();
                self.value = Some(Err(error));
            }
            Err(error) => return Err(error),
        }
        txn.end_operation()
    }

    fn answer(self: Box<Self>, result: Result<(), StoreError>) {
        let Self { value, reply, .. } = *self;
        let unanswered = || StoreError::Unavailable("an operation was not carried out".to_owned());
        // A caller that went away no longer cares; its operation is durable all the same.
        let _ = reply.send(result.and_then(|()| value.unwrap_or_else(|| Err(unanswered()))));
    }
}

impl Store {
    /// Carries out `operation` in a group commit and answers when it is durable.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Txn<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.submit(Vec::new(), move |txn, _| operation(txn), false).await
    }

    /// Does the same with small bodies, which are durable before `operation` gets their places. A backend without places
    /// names none.
    pub(super) async fn write_with<T: Send + 'static>(
        &self,
        bodies: Vec<SmallBody>,
        operation: impl FnOnce(&mut Txn<'_>, &[BodyPlace]) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.submit(bodies, operation, false).await
    }

    async fn submit<T: Send + 'static>(
        &self,
        bodies: Vec<SmallBody>,
        operation: impl FnOnce(&mut Txn<'_>, &[BodyPlace]) -> Result<T, StoreError> + Send + 'static,
        may_wait: bool,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let (operation, places, value) = (Some(operation), Vec::new(), None);
        self.backend.submit(Box::new(Pending { operation, bodies, places, value, may_wait, reply }))?;
        let gone = |_| StoreError::Unavailable("the writer has stopped".to_owned());
        answer.await.map_err(gone)?
    }

    /// Carries out a step of the daemon's own that its caller must not lose; it may wait a moment to share the commit of
    /// others. After a failure it waits until the store is back and tries again. Every operation finds by itself what was already done.
    pub(super) async fn write_until_durable<T, F>(&self, operation: impl Fn() -> F) -> T
    where
        T: Send + 'static,
        F: FnOnce(&mut Txn<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let with = || {
            let operation = operation();
            move |txn: &mut Txn<'_>, _: &[BodyPlace]| operation(txn)
        };
        self.write_until_durable_with(None, with).await
    }

    /// Does the same with a small body.
    pub(super) async fn write_until_durable_with<T, F>(
        &self,
        body: Option<&SmallBody>,
        operation: impl Fn() -> F,
    ) -> T
    where
        T: Send + 'static,
        F: FnOnce(&mut Txn<'_>, &[BodyPlace]) -> Result<T, StoreError> + Send + 'static,
    {
        let mut wait = REOPEN_FIRST;
        loop {
            let bodies = body.cloned().into_iter().collect();
            match self.submit(bodies, operation(), true).await {
                Ok(value) => return value,
                Err(error) => {
                    tracing::warn!(%error, retry_in = %rounded(wait), "step not stored; retrying");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(REOPEN_LAST);
                }
            }
        }
    }
}
