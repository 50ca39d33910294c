//! The target of a worker: a configured sink, or the callbacks of watches.

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

/// The target of a worker.
pub enum Target {
    /// A configured sink.
    Sink(Sink),
    /// The webhooks that watches name.
    Callbacks(Callbacks),
}

impl Target {
    /// Returns `webhook` or `disk`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sink(Sink::Disk(_)) => "disk",
            Self::Sink(Sink::Webhook(_)) | Self::Callbacks(_) => "webhook",
        }
    }

    /// Returns the address without credentials and query.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Sink(sink) => sink.shown(),
            Self::Callbacks(_) => "the callback of each watch".to_owned(),
        }
    }

    /// Reads the origin of a callback; `None` when the delivery is gone.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn callback_origin(
        store: &Store,
        key: DeliveryKey,
    ) -> Result<Option<CallbackOrigin>, StoreError> {
        let Some(delivery) = store.delivery(key).await? else { return Ok(None) };
        let callback = store.watch(delivery.watch).await?.and_then(|watch| watch.callback);
        Ok(Some(callback.map(|callback| CallbackOrigin::of(&callback.url)).unwrap_or_default()))
    }

    /// Sends the event of the delivery `key` to `sink` once.
    ///
    /// # Errors
    /// When the store cannot be used; nothing was sent then.
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
        // Read for each attempt: a caller may have replaced the callback.
        let Some(callback) = store.watch(event.watch).await?.and_then(|watch| watch.callback) else {
            return Ok(AttemptOutcome::misconfigured("the watch names no callback"));
        };
        match Webhook::callback(callbacks, &callback.url, callback.secret.as_ref()) {
            Ok(webhook) => Ok(webhook.attempt(&message, now).await),
            Err(error) => Ok(AttemptOutcome::misconfigured(error.to_string())),
        }
    }

    /// Sends a test event.
    pub async fn test(&self, message: &Message, now: Time) -> AttemptOutcome {
        match self {
            Self::Sink(sink) => sink.attempt(message, now).await,
            Self::Callbacks(_) => {
                AttemptOutcome::misconfigured("callbacks have no address of their own to test")
            }
        }
    }
}

/// Writes a file. The store records the file's owner before the file gets its name, so that two
/// jobs never take each other's file for their own.
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
    store.record_file(key, draft.mark(), draft.present()).await?;
    match draft.claim().await {
        Claim::Done(outcome) => Ok(outcome),
        Claim::Taken(draft, there) => {
            let owner = store.owner_of_file(watch, (key, sink), there).await?;
            Ok(draft.settle(owner).await)
        }
    }
}

/// Returns the message of an event: its attributes, and where its bytes are.
fn message(event: &Event, store: &Store) -> Message {
    let news = &event.news;
    let body = match (news.job(), &event.last_body) {
        (Some(job), _) => {
            let body = store.bodies().get(event.watch, news.event_id(), job);
            match body.bytes() {
                Ok(Some(bytes)) if bytes.len() as u64 == job.size => Body::Inline(bytes),
                // Reading it again says what is wrong with it.
                _ => Body::Stored { body, size: job.size },
            }
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
