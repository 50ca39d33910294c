//! One caller's operation, from the call to its durable answer.

use tokio::sync::oneshot;

use super::{REOPEN_FIRST, REOPEN_LAST, Store, StoreError, backend::Call, records::Txn};
use crate::util::units::rounded;

struct Pending<F, T> {
    operation: Option<F>,
    value: Option<Result<T, StoreError>>,
    may_wait: bool,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Call for Pending<F, T>
where
    F: FnOnce(&mut Txn<'_>) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn may_wait(&self) -> bool {
        self.may_wait
    }

    fn apply(&mut self, txn: &mut Txn<'_>) -> Result<(), StoreError> {
        let Some(operation) = self.operation.take() else { return Ok(()) };
        match operation(txn) {
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
        self.submit(operation, false).await
    }

    async fn submit<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Txn<'_>) -> Result<T, StoreError> + Send + 'static,
        may_wait: bool,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.backend.submit(Box::new(Pending {
            operation: Some(operation),
            value: None,
            may_wait,
            reply,
        }))?;
        let gone = |_| StoreError::Unavailable("the writer has stopped".to_owned());
        answer.await.map_err(gone)?
    }

    /// Carries out a step of the daemon's own that its caller must not lose; it may wait a moment to share the commit of others. After a failure it waits until the store is
    /// back and tries again. Every operation finds by itself what was already done.
    pub(super) async fn write_until_durable<T, F>(&self, operation: impl Fn() -> F) -> T
    where
        T: Send + 'static,
        F: FnOnce(&mut Txn<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let mut wait = REOPEN_FIRST;
        loop {
            match self.submit(operation(), true).await {
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
