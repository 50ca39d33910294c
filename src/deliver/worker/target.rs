//! The target of a worker: a configured sink, or the callbacks of watches.

use std::io::ErrorKind;

use bytes::Bytes;

use crate::{
    deliver::{
        disk::{Claim, Disk},
        message::{About, Body, Message, Subject},
        outcome::AttemptOutcome,
        queue::origins::CallbackOrigin,
        sink::Sink,
        webhook::{Callbacks, Webhook},
    },
    store::{Callback, DeliveryKey, Event, GroupRef, News, Store, StoreError, StoredJob, Topic},
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
        let callback = callback_of(store, &delivery.topic).await?;
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
        let message = Message { traceparent: Some(span), ..message(event, body_of(event, store).await?) };
        // The records may have come late.
        store.term().holds().await;
        let callbacks = match self {
            Self::Sink(Sink::Disk(disk)) => {
                return write(disk, &message, store, (key, sink), event.topic.watch()).await;
            }
            Self::Sink(Sink::Webhook(webhook)) => return Ok(webhook.attempt(&message, now).await),
            Self::Callbacks(callbacks) => callbacks,
        };
        // Read for each attempt: a caller may have replaced the callback.
        let Some(callback) = callback_of(store, &event.topic).await? else {
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

/// Reads the callback of the watch whose job an event is about.
async fn callback_of(store: &Store, topic: &Topic) -> Result<Option<Callback>, StoreError> {
    let Some(number) = topic.watch() else { return Ok(None) };
    Ok(store.watch(number).await?.and_then(|watch| watch.callback))
}

/// Writes a file. The store records the file's owner before the file gets its name, so that two
/// jobs never take each other's file for their own.
async fn write(
    disk: &Disk,
    message: &Message,
    store: &Store,
    (key, sink): (DeliveryKey, &str),
    watch: Option<u64>,
) -> Result<AttemptOutcome, StoreError> {
    if disk.splits_results() {
        return Ok(disk.attempt_each(message).await);
    }
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

/// Returns where the bytes of an event are.
async fn body_of(event: &Event, store: &Store) -> Result<Body, StoreError> {
    let news = &event.news;
    Ok(match (news.job(), &event.last_body) {
        (Some(job), _) => {
            let body = store.bodies().get(event.topic.owner(), news.event_id(), job);
            match body.bytes().await {
                Ok(Some(bytes)) if bytes.len() as u64 == job.size => Body::Inline(bytes),
                // The store is away, and not the body: the attempt waits for it.
                Err(error) if error.kind() == ErrorKind::NotConnected => return Err(error.into()),
                // Reading it again says what is wrong with it.
                _ => Body::Stored { body, size: job.size },
            }
        }
        (None, Some(body)) => Body::Inline(Bytes::from(body.clone())),
        (None, None) => match news {
            News::Notice(given) => Body::Inline(Bytes::from(given.data.clone())),
            _ => Body::Null,
        },
    })
}

/// Returns the message of an event: its attributes, and its body.
fn message(event: &Event, body: Body) -> Message {
    let news = &event.news;
    let job = match &event.topic {
        Topic::Job(job) => job,
        Topic::Group(GroupRef { name, .. }) => {
            let about = About { key: "group", name: name.as_str().to_owned() };
            return Message::about(news.event_id().to_owned(), news.event_type(), news.time(), about, body);
        }
        Topic::Daemon => {
            let (key, name) = match news {
                News::Notice(given) if !given.notice.is_about_sink() => ("source", given.subject.clone()),
                News::Notice(given) => ("sink", given.subject.clone()),
                // No version writes such an event.
                _ => ("daemon", String::new()),
            };
            let about = About { key, name };
            return Message::about(news.event_id().to_owned(), news.event_type(), news.time(), about, body);
        }
    };
    let subject = Subject {
        source: job.source.clone(),
        job_id: job.job_id.clone(),
        kind: job.kind.clone(),
        outcome: news.event_type().outcome(),
        status: news.status().map(str::to_owned),
        labels: event.labels.clone(),
        reason: news.reason().map(str::to_owned),
    };
    let message = Message::job(news.event_id().to_owned(), news.event_type(), news.time(), subject, body);
    let job = news.job();
    Message {
        media_type: job.and_then(|job| job.foreign_type().map(str::to_owned)),
        has_several: job.is_some_and(StoredJob::has_several),
        has_mark: job.is_some_and(|job| job.has_mark),
        ..message
    }
}
