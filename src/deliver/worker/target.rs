//! What a worker carries events with: a configured sink, or the webhooks that watches bring along.

use bytes::Bytes;

use crate::{
    deliver::{
        disk::{Claim, Disk},
        message::{Body, Message, Subject},
        outcome::AttemptOutcome,
        queue::origins::CallbackOrigin,
        sink::Sink,
        webhook::{Callbacks, Webhook},
    },
    store::{DeliveryKey, Event, Store, StoreError},
    telemetry::TraceParent,
    util::units::Time,
};

/// What a worker carries events with.
pub enum Target {
    /// A configured sink.
    Sink(Sink),
    /// Webhooks that watches bring along.
    Callbacks(Callbacks),
}

impl Target {
    /// `webhook` or `disk`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sink(Sink::Disk(_)) => "disk",
            Self::Sink(Sink::Webhook(_)) | Self::Callbacks(_) => "webhook",
        }
    }

    /// Where it points, without credentials and query.
    #[must_use]
    pub fn target(&self) -> String {
        match self {
            Self::Sink(sink) => sink.target(),
            Self::Callbacks(_) => "the callback of each watch".to_owned(),
        }
    }

    /// Where a delivery of the callbacks goes; `None` when it is gone.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn callback_origin(store: &Store, key: DeliveryKey) -> Result<Option<CallbackOrigin>, StoreError> {
        let Some(delivery) = store.delivery(key)? else { return Ok(None) };
        let callback = store.watch(delivery.watch)?.and_then(|watch| watch.callback);
        Ok(Some(callback.map(|callback| CallbackOrigin::of(&callback.url)).unwrap_or_default()))
    }

    /// One attempt of the delivery `key` to `sink`.
    ///
    /// # Errors
    /// When the store cannot be used; nothing was attempted then.
    pub async fn attempt(
        &self,
        store: &Store,
        (key, sink): (DeliveryKey, &str),
        event: &Event,
        span: TraceParent,
        now: Time,
    ) -> Result<AttemptOutcome, StoreError> {
        let message = Message { traceparent: Some(span), ..message(event, store) };
        let callbacks = match self {
            Self::Sink(Sink::Disk(disk)) => {
                return write(disk, &message, store, (key, sink), event.watch).await;
            }
            Self::Sink(Sink::Webhook(webhook)) => return Ok(webhook.attempt(&message, now).await),
            Self::Callbacks(callbacks) => callbacks,
        };
        // Read afresh: a callback that was given again replaces the one before.
        let Some(callback) = store.watch(event.watch)?.and_then(|watch| watch.callback) else {
            return Ok(AttemptOutcome::refused("the watch names no callback"));
        };
        match Webhook::callback(callbacks, &callback.url, callback.secret.as_ref()) {
            Ok(webhook) => Ok(webhook.attempt(&message, now).await),
            Err(error) => Ok(AttemptOutcome::refused(error.to_string())),
        }
    }

    /// Sends a test event.
    pub async fn test(&self, message: &Message, now: Time) -> AttemptOutcome {
        match self {
            Self::Sink(sink) => sink.attempt(message, now).await,
            Self::Callbacks(_) => AttemptOutcome::refused("callbacks have no address of their own to test"),
        }
    }
}

/// Writes a file. Before it gets its name it is recorded whose it is, so that no other job's file is taken for this one's, nor
/// this one's for another's.
async fn write(
    disk: &Disk,
    message: &Message,
    store: &Store,
    (key, sink): (DeliveryKey, &str),
    watch: u64,
) -> Result<AttemptOutcome, StoreError> {
    let draft = match disk.draft(message).await {
        Ok(draft) => draft,
        Err(outcome) => return Ok(*outcome),
    };
    store.name_file(key, draft.mark(), draft.present()).await?;
    match draft.claim().await {
        Claim::Done(outcome) => Ok(outcome),
        Claim::Taken(draft, there) => {
            let owner = store.owner_of_file(watch, (key, sink), there)?;
            Ok(draft.settle(owner).await)
        }
    }
}

/// An event with the bytes that belong to it.
fn message(event: &Event, store: &Store) -> Message {
    let news = &event.news;
    let body = match (news.job(), &event.last_body) {
        (Some(job), _) => {
            Body::Stored { body: store.bodies().get(event.watch, news.event_id()), size: job.size }
        }
        (None, Some(body)) => Body::Inline(Bytes::from(body.clone())),
        (None, None) => Body::Null,
    };
    let subject = Subject {
        source: event.source.clone(),
        job_id: event.job_id.clone(),
        outcome: news.event_type().outcome(),
        status: news.status().map(str::to_owned),
        labels: event.labels.clone(),
        reason: news.reason().map(str::to_owned),
    };
    let message = Message::job(news.event_id().to_owned(), news.event_type(), news.time(), subject, body);
    let job = news.job();
    Message {
        media_type: job.and_then(|job| job.content_type.clone()),
        has_mark: job.is_some_and(|job| job.has_mark),
        ..message
    }
}
