//! One attempt to hand an event to an HTTP endpoint.

pub mod address;
mod credentials;
mod exchange;
mod deadline;
mod redact;
pub mod sign;
pub mod tls;
mod transport;
mod upload;

use std::{pin::pin, sync::Arc, time::Duration};

use http::{
    HeaderValue, Request,
    header::{ACCEPT, CONTENT_LENGTH, USER_AGENT},
};
use sha2::{Digest as _, Sha256};
use tokio::{
    select,
    time::{Instant, sleep_until},
};
use url::Url;

use crate::{
    deliver::{
        config::{CALLBACK_SINK, CallbackConfig, WebhookConfig},
        encode::{
            Encoder,
            envelope::{Payload, Wrapping},
        },
        message::Message,
        outcome::{AttemptFailure, AttemptOutcome},
        sink::SinkError,
        webhook::{
            address::{Address, Endpoint, parse_url},
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
    telemetry::TRACEPARENT,
    util::{
        http_client::{
            self, ConnectionUse, Lease, Outgoing,
            guard::{Blocked, Trust, check_url},
            is_sent_again,
        },
        secret::{Secret, SecretList, SecretSource},
        units::Time,
    },
};

/// Connections that callbacks keep open to one host after use.
const CALLBACK_IDLE: usize = 4;

/// Connections that callbacks open, over all hosts, before those that are idle are let go. Every caller may name
/// another host, and each open connection takes one of the process's descriptors.
const CALLBACK_CONNECTIONS: usize = 256;

/// A request over a kept connection that breaks off within this time, unanswered, is sent once more at once: the
/// receiver had closed the connection, and nothing is wrong with it.
const INSTANT: Duration = Duration::from_secs(1);

/// An HTTP endpoint that events are posted to. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Webhook {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    address: Address,
    transport: Arc<Transport>,
    trust: Arc<Trust>,
    signer: Signer,
    credentials: Credentials,
    method: http::Method,
    encoding: Encoder,
    timeout: Duration,
}

/// What all callbacks share: one guarded client, so that connections are reused among them.
///
/// It goes through no proxy. A proxy resolves names for itself, so the guard would vouch for addresses that
/// it never saw.
#[derive(Clone, Debug)]
pub struct Callbacks {
    transport: Arc<Transport>,
    trust: Arc<Trust>,
}

/// Why a callback cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCallback {
    /// It is no URL that could be posted to.
    #[error("{0}")]
    Url(String),
    /// Callbacks may not reach its address.
    #[error(transparent)]
    Blocked(Blocked),
}

impl Callbacks {
    /// The client for callbacks.
    ///
    /// # Errors
    /// When the TLS library cannot be set up.
    pub fn new(config: &CallbackConfig) -> Result<Self, SinkError> {
        let trust = Trust::Callback { allow: config.allow.clone() };
        Self::resolving(Outgoing::direct(trust.clone()), Arc::new(trust))
    }

    fn resolving(outgoing: Outgoing, trust: Arc<Trust>) -> Result<Self, SinkError> {
        let route = TransportConfig::new(outgoing, CALLBACK_IDLE, WebhookConfig::to("").timeout.0);
        Self::over(TransportConfig { retire_after: CALLBACK_CONNECTIONS, ..route }, trust)
    }

    fn over(route: TransportConfig, trust: Arc<Trust>) -> Result<Self, SinkError> {
        let transport = Transport::new(route)
            .map_err(|_| SinkError::new(CALLBACK_SINK, "url", "the HTTP client cannot be set up"))?;
        Ok(Self { transport: Arc::new(transport), trust })
    }

    /// Whether a callback may name this URL, as far as that can be told without asking the DNS.
    ///
    /// # Errors
    /// What is wrong with it, in words for the caller.
    pub fn check(&self, url: &str) -> Result<Url, BadCallback> {
        let url = parse_url(url).map_err(BadCallback::Url)?;
        match check_url(&url, &self.trust) {
            Ok(()) => Ok(url),
            Err(blocked @ Blocked::Address(_)) => Err(BadCallback::Blocked(blocked)),
            Err(other) => Err(BadCallback::Url(other.to_string())),
        }
    }
}

impl Webhook {
    /// The webhook of a configured sink.
    ///
    /// # Errors
    /// When the URL, a header, a secret, a certificate or `proxy` cannot be used; the error names the key.
    pub fn new(name: &str, config: &WebhookConfig, outgoing: &Outgoing) -> Result<Self, SinkError> {
        let bad = |key, reason: String| SinkError::new(name, key, reason);
        let trust = Arc::new(Trust::Operator);
        let address = Address::of(config).map_err(|(key, reason)| bad(key, reason))?;
        let outgoing = outgoing.choosing(config.proxy.as_deref());
        let outgoing = outgoing.map_err(|error| bad("proxy", error.to_string()))?;
        // More are never in use at once than are kept, so none that could be reused is closed.
        let route = TransportConfig {
            tls: TlsFiles::of(config).map_err(|error| bad(error.key, error.to_string()))?,
            ..TransportConfig::new(outgoing, config.max_in_flight, config.timeout.0)
        };
        let transport = Transport::new(route).map_err(|error| bad(error.key, error.to_string()))?;
        let inner = Inner {
            address,
            transport: Arc::new(transport),
            trust,
            signer: signer(name, config)?,
            credentials: Credentials::of(config).map_err(|(key, reason)| bad(key, reason))?,
            method: config.method.into(),
            encoding: Encoder::of(name, config)?,
            timeout: config.timeout.0,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The webhook that a watch brought along. An address that is out of bounds is told by the attempt.
    ///
    /// # Errors
    /// When the URL is none or the secret cannot sign.
    pub fn callback(callbacks: &Callbacks, url: &str, secret: Option<&Secret>) -> Result<Self, SinkError> {
        let bad = |key, reason: String| SinkError::new(CALLBACK_SINK, key, reason);
        let defaults = WebhookConfig::to(url);
        let secrets = secret.cloned().map(SecretSource::Inline).into_iter().collect();
        let endpoint = Endpoint::parse(url).map_err(|reason| bad("url", reason))?;
        let inner = Inner {
            address: Address::Fixed(endpoint),
            transport: Arc::clone(&callbacks.transport),
            trust: Arc::clone(&callbacks.trust),
            signer: Signer::new(secrets, None).map_err(|error| bad("secret", error.to_string()))?,
            credentials: Credentials::default(),
            method: defaults.method.into(),
            encoding: Encoder::Wrapped(Wrapping::Envelope),
            timeout: defaults.timeout.0,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The URL as it may be shown.
    #[must_use]
    pub fn target(&self) -> String {
        self.inner.address.shown()
    }

    /// Posts `message` once. `now` is the instant of this attempt and goes into `webhook-timestamp`.
    pub async fn attempt(&self, message: &Message, now: Time) -> AttemptOutcome {
        self.inner.attempt(message, now).await
    }
}

impl Inner {
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
        // Before every attempt: the client asks the resolver about names alone.
        check_url(&to.url, &self.trust)?;
        let mut limit = None;
        let mut tries = 1;
        loop {
            let lease = self.transport.lease()?;
            let (request, length) = self.request(to, message, now).await?;
            let limit =
                limit.get_or_insert_with(|| AttemptDeadline::new(self.timeout, length, Instant::now()));
            let Err(broken) = self.send(exchange, to, request, &lease, limit).await else { return Ok(()) };
            // The receiver may have seen the first: it is told the same event id by each.
            if !exchange.is_unanswered() || !is_sent_again(broken.refused, broken.kept, tries) {
                return Err(broken.failure);
            }
            tries += 1;
        }
    }

    /// Sends a request once.
    async fn send(
        &self,
        exchange: &mut Exchange,
        to: &Endpoint,
        mut request: Request<UploadBody>,
        lease: &Lease<WebClient>,
        limit: &mut AttemptDeadline,
    ) -> Result<(), ExchangeError> {
        let mut upload = Upload::of(&mut request);
        let (mut meter, captured) = (upload.meter(), upload.captured().clone());
        let (began, mut line) = (Instant::now(), None);
        let result = {
            let mut running = pin!(exchange.run(&lease.client, request, &mut upload, &to.url));
            loop {
                select! {
                    biased;
                    ended = &mut running => break ended,
                    () = meter.moved() => limit.moves(Instant::now()),
                    () = sleep_until(limit.until()) => break Err(limit.exceeded().into()),
                }
                line = line.or_else(|| ConnectionUse::of(&captured));
            }
        };
        let line: Option<ConnectionUse> = line.or_else(|| ConnectionUse::of(&captured));
        let reused = line.as_ref().is_some_and(|line| line.reused);
        if result.is_err() || !matches!(upload.is_complete(), Ok(true)) {
            // What was cut off is not gone from the connection, and one that broke or is silent serves nobody.
            line.iter().for_each(ConnectionUse::retire);
        }
        let mut broken = match result {
            Ok(()) => return Ok(()),
            Err(broken) => broken,
        };
        let class = broken.failure.class;
        broken.kept = reused && class == ErrorClass::Reset && began.elapsed() < INSTANT;
        if broken.refused || (reused && matches!(class, ErrorClass::Reset | ErrorClass::Timeout)) {
            self.transport.renew(lease);
        }
        Err(broken)
    }

    /// The request for a message, and how long its body is.
    async fn request(
        &self,
        to: &Endpoint,
        message: &Message,
        now: Time,
    ) -> Result<(Request<UploadBody>, u64), AttemptFailure> {
        let unusable = |reason| AttemptFailure::new(ErrorClass::Payload, reason);
        let payload = self.encoding.payload(message, self.timeout).await.map_err(unusable)?;
        let timestamp = now.unix_seconds();
        let signature = self.signature(&message.event_id, timestamp, &payload).await?;
        let length = payload.len();
        let mut request = Request::new(UploadBody::new(payload.stream().await?, length));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = to.uri.clone();
        let headers = request.headers_mut();
        *headers = self.credentials.headers()?;
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(http_client::USER_AGENT));
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        let value = |text: &str| {
            let wrong = |_| AttemptFailure::new(ErrorClass::Internal, "the event id is no header");
            HeaderValue::from_str(text).map_err(wrong)
        };
        headers.extend(payload.headers().clone());
        // A stream of unknown length would be sent chunked, which many receivers refuse.
        headers.insert(CONTENT_LENGTH, length.into());
        headers.insert("webhook-id", value(&message.event_id)?);
        headers.insert("webhook-timestamp", timestamp.into());
        if let Some(signature) = signature {
            headers.insert("webhook-signature", value(&signature)?);
        }
        let span =
            message.traceparent.map_or_else(|| traceparent(&message.event_id), |span| span.to_string());
        headers.insert(TRACEPARENT, value(&span)?);
        Ok((request, length))
    }

    /// The signature, made where blocking on the disk and hashing half a gigabyte hurts nobody.
    async fn signature(
        &self,
        id: &str,
        timestamp: i64,
        payload: &Payload,
    ) -> Result<Option<String>, AttemptFailure> {
        if self.signer.is_empty() {
            return Ok(None);
        }
        let (signer, id, payload) = (self.signer.clone(), id.to_owned(), payload.clone());
        let made: Result<String, SignError> =
            tokio::task::spawn_blocking(move || signer.sign(&id, timestamp, &payload))
                .await
                .map_err(|_| AttemptFailure::new(ErrorClass::Internal, "signing was interrupted"))?;
        Ok(Some(made?))
    }
}

/// Who signs for a configured sink. What receivers need to verify ed25519 signatures is told in the log.
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
        tracing::info!(sink = name, public_key, "this key verifies the `v1a` signatures of the sink");
    }
    Ok(signer)
}

/// W3C Trace Context, section 3.2: all attempts of an event are one trace, each is a span of it.
fn traceparent(event_id: &str) -> String {
    let trace = Sha256::digest(event_id.as_bytes());
    // An id of nothing but zeros is invalid.
    let span = rand::random::<u64>().max(1);
    format!("00-{}-{span:016x}-01", data_encoding::HEXLOWER.encode(&trace[..16]))
}

#[cfg(test)]
mod connections;
#[cfg(test)]
mod tests;
