//! One attempt to hand an event to an HTTP endpoint.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use reqwest::{
    Body as RequestBody, Request,
    header::{CONTENT_LENGTH, HeaderValue},
};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    CALLBACK_SINK, CallbackConfig, WebhookConfig,
    credentials::Credentials,
    encoding::Encoding,
    envelope::{Payload, Wrapping},
    exchange::{Exchange, shown},
    guard::{Blocked, GuardedResolver, Trust, check_url},
    parcel::Parcel,
    report::{ErrorClass, Failure, Report, classify},
    sign::{SignError, Signer},
    sink::SinkError,
    tls::TlsFiles,
    transport::{Route, Transport, TransportError, noticing_reuse},
};
use crate::{
    secret::{Secret, SecretList, SecretSource},
    telemetry::TRACEPARENT,
    units::{Span, Time},
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
    url: Url,
    transport: Arc<Transport>,
    trust: Arc<Trust>,
    signer: Signer,
    credentials: Credentials,
    method: reqwest::Method,
    encoding: Encoding,
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
        let trust = Arc::new(Trust::Callback { allow: config.allow.clone() });
        Self::resolving(GuardedResolver::new(Arc::clone(&trust)), trust)
    }

    fn resolving(resolver: GuardedResolver, trust: Arc<Trust>) -> Result<Self, SinkError> {
        let route = Route {
            proxy: None,
            resolver,
            idle: CALLBACK_IDLE,
            timeout: WebhookConfig::to("").timeout.0,
            retire_after: CALLBACK_CONNECTIONS,
            tls: TlsFiles::default(),
        };
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
    pub fn new(name: &str, config: &WebhookConfig, proxy: Option<&str>) -> Result<Self, SinkError> {
        let bad = |key, reason: String| SinkError::new(name, key, reason);
        let trust = Arc::new(Trust::Operator);
        let url = parse_url(&config.url).map_err(|reason| bad("url", reason))?;
        check_url(&url, &trust).map_err(|blocked| bad("url", blocked.to_string()))?;
        let route = Route {
            proxy: proxy.map(str::to_owned),
            resolver: GuardedResolver::new(Arc::clone(&trust)),
            // More are never in use at once, so none that could be reused is closed.
            idle: config.max_in_flight,
            timeout: config.timeout.0,
            retire_after: usize::MAX,
            tls: TlsFiles::of(config).map_err(|error| bad(error.key, error.to_string()))?,
        };
        let transport = Transport::new(route).map_err(|error| match &error {
            TransportError::Tls(tls) => bad(tls.key, tls.to_string()),
            TransportError::Client(_) => bad("url", error.to_string()),
        })?;
        let inner = Inner {
            url,
            transport: Arc::new(transport),
            trust,
            signer: signer(name, config)?,
            credentials: Credentials::of(config).map_err(|(key, reason)| bad(key, reason))?,
            method: config.method.into(),
            encoding: Encoding::of(name, config)?,
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
        let inner = Inner {
            url: parse_url(url).map_err(|reason| bad("url", reason))?,
            transport: Arc::clone(&callbacks.transport),
            trust: Arc::clone(&callbacks.trust),
            signer: Signer::new(secrets, None).map_err(|error| bad("secret", error.to_string()))?,
            credentials: Credentials::default(),
            method: defaults.method.into(),
            encoding: Encoding::Wrapped(Wrapping::Envelope),
            timeout: defaults.timeout.0,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The URL without credentials, query and fragment.
    #[must_use]
    pub fn target(&self) -> String {
        shown(&self.inner.url)
    }

    /// Scheme, host and port.
    #[must_use]
    pub fn origin(&self) -> String {
        self.inner.url.origin().ascii_serialization()
    }

    /// Posts `parcel` once. `now` is the instant of this attempt and goes into `webhook-timestamp`.
    pub async fn attempt(&self, parcel: &Parcel, now: Time) -> Report {
        self.inner.attempt(parcel, now).await
    }
}

impl Inner {
    async fn attempt(&self, parcel: &Parcel, now: Time) -> Report {
        let began = Instant::now();
        let mut exchange = Exchange::default();
        let failure = self.exchange(&mut exchange, parcel, now).await.err();
        exchange.report(failure, &self.url, now, began.elapsed())
    }

    async fn exchange(&self, exchange: &mut Exchange, parcel: &Parcel, now: Time) -> Result<(), Failure> {
        // Before every attempt: the client asks the resolver about names alone.
        check_url(&self.url, &self.trust)?;
        // Dropping it ends the request's body, which an answer that came early leaves behind unsent.
        let ended = CancellationToken::new();
        let _end = ended.clone().drop_guard();
        let request = self.request(parcel, now, ended.clone()).await?;
        // One deadline for everything, so a receiver that drips gains nothing.
        let late = |_| Failure::new(ErrorClass::Timeout, format!("timed out after {}", Span(self.timeout)));
        let sent = self.send(exchange, request, parcel, now, ended);
        tokio::time::timeout(self.timeout, sent).await.map_err(late)?
    }

    /// Sends the request, and once more when all that failed was a kept connection. The receiver may have seen the
    /// first: it is told the same event id by both.
    async fn send(
        &self,
        exchange: &mut Exchange,
        request: Request,
        parcel: &Parcel,
        now: Time,
        ended: CancellationToken,
    ) -> Result<(), Failure> {
        let client = self.transport.client()?;
        let began = Instant::now();
        let (first, reused) = noticing_reuse(exchange.run(&client, request)).await;
        let Err(failure) = first.map_err(|error| classify(&error)) else { return Ok(()) };
        let stale = reused && failure.class == ErrorClass::Reset && began.elapsed() < INSTANT;
        if !stale || !exchange.is_unanswered() {
            return Err(failure);
        }
        let again = self.request(parcel, now, ended).await?;
        exchange.run(&client, again).await.map_err(|error| classify(&error))
    }

    async fn request(
        &self,
        parcel: &Parcel,
        now: Time,
        ended: CancellationToken,
    ) -> Result<Request, Failure> {
        let unusable = |reason| Failure::new(ErrorClass::Payload, reason);
        let payload = self.encoding.payload(parcel).await.map_err(unusable)?;
        let timestamp = now.unix_seconds();
        let signature = self.signature(&parcel.event_id, timestamp, &payload).await?;
        let length = payload.len();
        let stream = payload.stream().await?;
        let body = RequestBody::wrap_stream(stream.take_until(ended.cancelled_owned()));
        let mut request = Request::new(self.method.clone(), self.url.clone());
        *request.body_mut() = Some(body);
        let headers = request.headers_mut();
        *headers = self.credentials.headers()?;
        let value = |text: &str| {
            let wrong = |_| Failure::new(ErrorClass::Internal, "the event id is no header");
            HeaderValue::from_str(text).map_err(wrong)
        };
        headers.extend(payload.headers().clone());
        // A stream of unknown length would be sent chunked, which many receivers refuse.
        headers.insert(CONTENT_LENGTH, length.into());
        headers.insert("webhook-id", value(&parcel.event_id)?);
        headers.insert("webhook-timestamp", timestamp.into());
        if let Some(signature) = signature {
            headers.insert("webhook-signature", value(&signature)?);
        }
        let span = parcel.traceparent.map_or_else(|| traceparent(&parcel.event_id), |span| span.to_string());
        headers.insert(TRACEPARENT, value(&span)?);
        Ok(request)
    }

    /// The signature, made where blocking on the disk and hashing half a gigabyte hurts nobody.
    async fn signature(
        &self,
        id: &str,
        timestamp: i64,
        payload: &Payload,
    ) -> Result<Option<String>, Failure> {
        if self.signer.is_empty() {
            return Ok(None);
        }
        let (signer, id, payload) = (self.signer.clone(), id.to_owned(), payload.clone());
        let made: Result<String, SignError> =
            tokio::task::spawn_blocking(move || signer.sign(&id, timestamp, &payload))
                .await
                .map_err(|_| Failure::new(ErrorClass::Internal, "signing was interrupted"))?;
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

fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("it is not a URL: {error}"))?;
    match check_url(&url, &Trust::Operator) {
        Err(blocked @ (Blocked::Scheme(_) | Blocked::NoHost)) => Err(blocked.to_string()),
        _ => Ok(url),
    }
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
