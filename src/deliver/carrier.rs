//! What a courier carries events with: a configured sink, or the webhooks that watches bring along.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::{Body, Callbacks, Parcel, Report, Sink, Subject, Webhook, origins::Origins};
use crate::{
    store::{DeliveryKey, Event, Store, StoreError},
    telemetry::TraceParent,
    units::Time,
};

/// What a courier carries events with.
pub enum Carrier {
    /// A configured sink.
    Sink(Sink),
    /// Webhooks that watches bring along.
    Callbacks(Callbacks, Mutex<Origins>),
}

impl Carrier {
    /// `webhook` or `disk`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sink(Sink::Disk(_)) => "disk",
            Self::Sink(Sink::Webhook(_)) | Self::Callbacks(..) => "webhook",
        }
    }

    /// Where it points, without credentials and query.
    #[must_use]
    pub fn target(&self) -> String {
        match self {
            Self::Sink(sink) => sink.target(),
            Self::Callbacks(..) => "the callback of each watch".to_owned(),
        }
    }

    /// One attempt; `None` when the delivery has to wait for another one to the same origin. Tell
    /// [`leave`](Self::leave) afterwards, whatever came of it.
    ///
    /// # Errors
    /// When the store cannot be read; nothing was attempted then.
    pub async fn carry(
        &self,
        store: &Store,
        key: DeliveryKey,
        event: &Event,
        span: TraceParent,
        now: Time,
    ) -> Result<Option<Report>, StoreError> {
        let parcel = Parcel { traceparent: Some(span), ..parcel(event, store) };
        let (callbacks, origins) = match self {
            Self::Sink(sink) => return Ok(Some(sink.attempt(&parcel, now).await)),
            Self::Callbacks(callbacks, origins) => (callbacks, origins),
        };
        // Read afresh: a callback that was given again replaces the one before.
        let Some(callback) = store.watch(event.watch)?.and_then(|watch| watch.callback) else {
            return Ok(Some(Report::refused("the watch names no callback")));
        };
        let webhook = match Webhook::callback(callbacks, &callback.url, callback.secret.as_ref()) {
            Ok(webhook) => webhook,
            Err(error) => return Ok(Some(Report::refused(error.to_string()))),
        };
        let free = origins.lock().unwrap_or_else(PoisonError::into_inner).enter(&webhook.origin(), key);
        Ok(match free {
            true => Some(webhook.attempt(&parcel, now).await),
            false => None,
        })
    }

    /// Ends an attempt; returns the delivery that waited for its turn.
    pub fn leave(&self, key: DeliveryKey) -> Option<DeliveryKey> {
        match self {
            Self::Sink(_) => None,
            Self::Callbacks(_, origins) => origins.lock().unwrap_or_else(PoisonError::into_inner).leave(key),
        }
    }

    /// Sends a test event.
    pub async fn test(&self, parcel: &Parcel, now: Time) -> Report {
        match self {
            Self::Sink(sink) => sink.attempt(parcel, now).await,
            Self::Callbacks(..) => Report::refused("callbacks have no address of their own to test"),
        }
    }
}

/// An event with the bytes that belong to it.
fn parcel(event: &Event, store: &Store) -> Parcel {
    let news = &event.news;
    let body = match (news.job(), &event.last_body) {
        (Some(job), _) => {
            Body::File { path: store.spool().path(event.watch, news.event_id()), size: job.size }
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
    let parcel = Parcel::job(news.event_id().to_owned(), news.event_type(), news.time(), subject, body);
    Parcel { media_type: news.job().and_then(|job| job.content_type.clone()), ..parcel }
}
