//! Webhooks: one attempt to send an event to an HTTP endpoint.
//!
//! ```text
//! Webhook::attempt ─▶ request (headers, sign, encode) ─▶ exchange (transport, upload, deadline) ─▶ classify ─▶ AttemptOutcome
//! ```
//!
//! The room returns facts about the attempt. It must not know retries, breakers or the store.

pub(crate) mod address;
mod callbacks;
mod classify;
mod credentials;
mod deadline;
mod exchange;
mod redact;
mod request;
pub mod sign;
pub(crate) mod tls;
mod transport;
mod upload;

use std::{pin::pin, sync::Arc, time::Duration};

use http::Request;
use tokio::{
    select,
    time::{Instant, sleep_until},
};

pub use callbacks::{BadCallback, Callbacks};

use crate::{
    deliver::{
        config::{CALLBACK_SINK, WebhookConfig},
        encode::{Encoder, wrapping::Wrapping},
        error::SinkError,
        message::Message,
        outcome::{AttemptFailure, AttemptOutcome},
        webhook::{
            address::{Address, Endpoint},
            credentials::Credentials,
            deadline::AttemptDeadline,
            exchange::{Exchange, ExchangeError},
            sign::{SignError, Signer},
            tls::TlsFiles,
            transport::{Transport, TransportConfig, WebClient},
            upload::{Upload, UploadBody},
        },
    },
    model::delivery::ErrorClass,
    util::{
        http_client::{
            ConnectionUse, Lease, Outgoing,
            guard::{Trust, check_url},
            is_sent_again,
        },
        secret::{Secret, SecretList, SecretSource},
        units::Time,
    },
};

/// The time within which an unanswered request over a kept connection is sent once more, because
/// the receiver had closed the connection.
const KEPT_RETRY_WITHIN: Duration = Duration::from_secs(1);

/// An HTTP endpoint that takes events. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Webhook {
    inner: Arc<WebhookInner>,
}

#[derive(Debug)]
struct WebhookInner {
    address: Address,
    transport: Arc<Transport>,
    trust: Arc<Trust>,
    signer: Signer,
    credentials: Credentials,
    method: http::Method,
    encoder: Encoder,
    timeout: Duration,
}

impl Webhook {
    /// Builds the webhook of a configured sink.
    ///
    /// # Errors
    /// When the URL, a header, a secret, a certificate or `proxy` cannot be used; the error names
    /// the key.
    pub fn new(name: &str, config: &WebhookConfig, outgoing: &Outgoing) -> Result<Self, SinkError> {
        let bad = |key, reason: String| SinkError::new(name, key, reason);
        let trust = Arc::new(Trust::Operator);
        let address = Address::of(config).map_err(|(key, reason)| bad(key, reason))?;
        let outgoing = outgoing.choosing(config.proxy.as_deref());
        let outgoing = outgoing.map_err(|error| bad("proxy", error.to_string()))?;
        // Keeps as many connections as can be in use, so that each is reused.
        let settings = TransportConfig {
            tls: TlsFiles::of(config).map_err(|error| bad(error.key, error.to_string()))?,
            ..TransportConfig::new(outgoing, config.max_in_flight, config.timeout.0)
        };
        let transport = Transport::new(settings).map_err(|error| bad(error.key, error.to_string()))?;
        let inner = WebhookInner {
            address,
            transport: Arc::new(transport),
            trust,
            signer: signer(name, config)?,
            credentials: Credentials::of(config).map_err(|(key, reason)| bad(key, reason))?,
            method: config.method.into(),
            encoder: Encoder::of(name, config)?,
            timeout: config.timeout.0,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Builds the webhook that a watch names. The attempt reports a blocked address.
    ///
    /// # Errors
    /// When the URL is invalid or the secret cannot sign.
    pub fn callback(callbacks: &Callbacks, url: &str, secret: Option<&Secret>) -> Result<Self, SinkError> {
        let bad = |key, reason: String| SinkError::new(CALLBACK_SINK, key, reason);
        let defaults = WebhookConfig::to(url);
        let secrets = secret.cloned().map(SecretSource::Inline).into_iter().collect();
        let endpoint = Endpoint::parse(url).map_err(|reason| bad("url", reason))?;
        let inner = WebhookInner {
            address: Address::Fixed(endpoint),
            transport: Arc::clone(&callbacks.transport),
            trust: Arc::clone(&callbacks.trust),
            signer: Signer::new(secrets, None).map_err(|error| bad("secret", error.to_string()))?,
            credentials: Credentials::default(),
            method: defaults.method.into(),
            encoder: Encoder::Wrapped(Wrapping::Envelope),
            timeout: defaults.timeout.0,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns the URL for display.
    #[must_use]
    pub fn shown(&self) -> String {
        self.inner.address.shown()
    }

    /// Sends `message` once. `now`, the time of the attempt, goes into `webhook-timestamp`.
    pub async fn attempt(&self, message: &Message, now: Time) -> AttemptOutcome {
        self.inner.attempt(message, now).await
    }
}

impl WebhookInner {
    async fn attempt(&self, message: &Message, now: Time) -> AttemptOutcome {
        let began = Instant::now();
        let to = match self.address.get() {
            Ok(to) => to,
            Err(failure) => return AttemptOutcome::failed(failure, began.elapsed()),
        };
        let mut exchange = Exchange::default();
        let failure = self.exchange(&mut exchange, &to, message, now).await.err();
        exchange.outcome(failure, &to.url, now, began.elapsed())
    }

    async fn exchange(
        &self,
        exchange: &mut Exchange,
        to: &Endpoint,
        message: &Message,
        now: Time,
    ) -> Result<(), AttemptFailure> {
        // The resolver checks names only, so each attempt checks a literal address here.
        check_url(&to.url, &self.trust)?;
        let mut deadline = None;
        let mut tries = 1;
        loop {
            let lease = self.transport.lease()?;
            let (request, length) = self.request(to, message, now).await?;
            let deadline =
                deadline.get_or_insert_with(|| AttemptDeadline::new(self.timeout, length, Instant::now()));
            let Err(error) = self.send(exchange, to, request, &lease, deadline).await else { return Ok(()) };
            // The receiver may have seen the first request. Both carry the same event id.
            if !exchange.is_unanswered() || !is_sent_again(error.refused, error.kept, tries) {
                return Err(error.failure);
            }
            tries += 1;
        }
    }

    /// Sends a request once, within the deadline.
    async fn send(
        &self,
        exchange: &mut Exchange,
        to: &Endpoint,
        mut request: Request<UploadBody>,
        lease: &Lease<WebClient>,
        deadline: &mut AttemptDeadline,
    ) -> Result<(), ExchangeError> {
        let mut upload = Upload::of(&mut request);
        let (mut meter, captured) = (upload.meter(), upload.captured().clone());
        let (began, mut connection) = (Instant::now(), None);
        let result = {
            let mut running = pin!(exchange.run(&lease.client, request, &mut upload, &to.url));
            loop {
                select! {
                    biased;
                    ended = &mut running => break ended,
                    () = meter.moved() => deadline.moves(Instant::now()),
                    () = sleep_until(deadline.until()) => break Err(deadline.exceeded().into()),
                }
                connection = connection.or_else(|| ConnectionUse::of(&captured));
            }
        };
        let connection: Option<ConnectionUse> = connection.or_else(|| ConnectionUse::of(&captured));
        let reused = connection.as_ref().is_some_and(|connection| connection.reused);
        if result.is_err() || !matches!(upload.is_complete(), Ok(true)) {
            // The rest of the upload would block the connection, and a broken or silent connection
            // is useless.
            connection.iter().for_each(ConnectionUse::retire);
        }
        let mut error = match result {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let class = error.failure.class;
        error.kept = reused && class == ErrorClass::Reset && began.elapsed() < KEPT_RETRY_WITHIN;
        if error.refused || (reused && matches!(class, ErrorClass::Reset | ErrorClass::Timeout)) {
            self.transport.renew(lease);
        }
        Err(error)
    }
}

/// Builds the signer of a configured sink, and logs the public keys that receivers need for ed25519
/// signatures.
fn signer(name: &str, config: &WebhookConfig) -> Result<Signer, SinkError> {
    let first = SecretSource::of(config.secret.as_ref(), config.secret_file.as_deref());
    let more = config.secrets.iter().cloned().map(SecretSource::Inline);
    let list = config.secrets_file.as_deref().map(SecretList::file);
    let key = match (&config.secret, &config.secret_file, &list) {
        (Some(_), ..) => "secret",
        (_, Some(_), _) => "secret_file",
        (.., Some(_)) => "secrets_file",
        _ => "secrets",
    };
    let bad = |error: SignError| SinkError::new(name, key, error.to_string());
    let signer = Signer::new(first.into_iter().chain(more).collect(), list).map_err(bad)?;
    for public_key in signer.public_keys().map_err(bad)? {
        tracing::info!(sink = name, public_key, "signing key loaded for `v1a` signatures");
    }
    Ok(signer)
}

#[cfg(test)]
mod connections;
#[cfg(test)]
mod tests;
