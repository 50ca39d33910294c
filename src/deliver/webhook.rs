//! One attempt to hand an event to an HTTP endpoint.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use reqwest::{
    Body as RequestBody, Client, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER},
};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    CALLBACK_SINK, CallbackConfig, WebhookConfig,
    encoding::Encoding,
    envelope::{Payload, Wrapping},
    guard::{Blocked, GuardedResolver, Trust, check_url},
    parcel::Parcel,
    report::{Report, Verdict, class},
    sign::{SignError, Signer},
    sink::SinkError,
};
use crate::{
    http_client,
    retry_after::parse_retry_after,
    secret::{Secret, SecretSource},
    units::{Span, Time},
};

/// How much of an answer's body is kept.
const MAX_RESPONSE: usize = 1024;

/// How much of the receiver's words goes into a sentence of ours.
const MAX_QUOTE: usize = 200;

/// Connections that callbacks keep open to one host after use.
const CALLBACK_IDLE: usize = 4;

/// Headers that are ours to set, or that would change how the request is framed.
const RESERVED: [&str; 11] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "keep-alive",
    "te",
    "traceparent",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// An HTTP endpoint that events are posted to. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Webhook {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    url: Url,
    client: Client,
    trust: Arc<Trust>,
    signer: Signer,
    headers: HeaderMap,
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
    client: Client,
    trust: Arc<Trust>,
}

impl Callbacks {
    /// The client for callbacks.
    ///
    /// # Errors
    /// When the TLS library cannot be set up.
    pub fn new(config: &CallbackConfig) -> Result<Self, SinkError> {
        let trust = Arc::new(Trust::Callback { allow: config.allow.clone() });
        let timeout = WebhookConfig::to("").timeout.0;
        let client = client(None, &trust, CALLBACK_IDLE, timeout)
            .map_err(|_| SinkError::new(CALLBACK_SINK, "url", "the HTTP client cannot be set up"))?;
        Ok(Self { client, trust })
    }

    /// Whether a callback may name this URL, as far as that can be told without asking the DNS.
    ///
    /// # Errors
    /// What is wrong with it, in words for the caller.
    pub fn check(&self, url: &str) -> Result<Url, String> {
        let url = parse_url(url)?;
        check_url(&url, &self.trust).map_err(|blocked| blocked.to_string())?;
        Ok(url)
    }
}

impl Webhook {
    /// The webhook of a configured sink.
    ///
    /// # Errors
    /// When the URL, a header, a secret or `proxy` cannot be used; the error names the key.
    pub fn new(name: &str, config: &WebhookConfig, proxy: Option<&str>) -> Result<Self, SinkError> {
        let bad = |key, reason: String| SinkError::new(name, key, reason);
        let trust = Arc::new(Trust::Operator);
        let url = parse_url(&config.url).map_err(|reason| bad("url", reason))?;
        check_url(&url, &trust).map_err(|blocked| bad("url", blocked.to_string()))?;
        let first = SecretSource::of(config.secret.as_ref(), config.secret_file.as_deref());
        let more = config.secrets.iter().cloned().map(SecretSource::Inline);
        let key = match (&config.secret, &config.secret_file) {
            (Some(_), _) => "secret",
            (None, Some(_)) => "secret_file",
            (None, None) => "secrets",
        };
        let signer = Signer::new(first.into_iter().chain(more).collect())
            .map_err(|error| bad(key, error.to_string()))?;
        let inner = Inner {
            url,
            client: client(proxy, &trust, config.max_in_flight, config.timeout.0).map_err(|_| {
                bad("url", "the HTTP client cannot be set up; is server.proxy a URL?".to_owned())
            })?,
            trust,
            signer,
            headers: headers(config).map_err(|reason| bad("headers", reason))?,
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
            client: callbacks.client.clone(),
            trust: Arc::clone(&callbacks.trust),
            signer: Signer::new(secrets).map_err(|error| bad("secret", error.to_string()))?,
            headers: HeaderMap::new(),
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
        // Before every attempt: the client asks the resolver about names alone.
        if let Err(blocked) = check_url(&self.url, &self.trust) {
            return Report::failed(blocked.to_string(), began.elapsed());
        }
        // Dropping it ends the request's body, which an answer that came early leaves behind unsent.
        let ended = CancellationToken::new();
        let _end = ended.clone().drop_guard();
        let request = match self.request(parcel, now, ended).await {
            Ok(request) => request,
            Err(error) => return Report::failed(error, began.elapsed()),
        };
        let mut exchange = Exchange::default();
        // One deadline for everything, so a receiver that drips gains nothing.
        let error = match tokio::time::timeout(self.timeout, exchange.run(&self.client, request)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(class(&error)),
            Err(_) => Some(format!("timed out after {}", Span(self.timeout))),
        };
        exchange.report(error, &self.url, now, began.elapsed())
    }

    async fn request(&self, parcel: &Parcel, now: Time, ended: CancellationToken) -> Result<Request, String> {
        let payload = self.encoding.payload(parcel).await?;
        let timestamp = now.unix_seconds();
        let signature = self.signature(&parcel.event_id, timestamp, &payload).await?;
        let length = payload.len();
        let stream = payload.stream().await.map_err(|error| error.to_string())?;
        let body = RequestBody::wrap_stream(stream.take_until(ended.cancelled_owned()));
        let mut request = Request::new(self.method.clone(), self.url.clone());
        *request.body_mut() = Some(body);
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        let value =
            |text: &str| HeaderValue::from_str(text).map_err(|_| "the event id is no header".to_owned());
        headers.extend(payload.headers().clone());
        // A stream of unknown length would be sent chunked, which many receivers refuse.
        headers.insert(CONTENT_LENGTH, length.into());
        headers.insert("webhook-id", value(&parcel.event_id)?);
        headers.insert("webhook-timestamp", timestamp.into());
        if let Some(signature) = signature {
            headers.insert("webhook-signature", value(&signature)?);
        }
        headers.insert("traceparent", value(&traceparent(&parcel.event_id))?);
        Ok(request)
    }

    /// The signature, made where blocking on the disk and hashing half a gigabyte hurts nobody.
    async fn signature(&self, id: &str, timestamp: i64, payload: &Payload) -> Result<Option<String>, String> {
        if self.signer.is_empty() {
            return Ok(None);
        }
        let (signer, id, payload) = (self.signer.clone(), id.to_owned(), payload.clone());
        let made: Result<String, SignError> =
            tokio::task::spawn_blocking(move || signer.sign(&id, timestamp, &payload))
                .await
                .map_err(|_| "signing was interrupted".to_owned())?;
        made.map(Some).map_err(|error| error.to_string())
    }
}

/// What came back so far. It outlives the deadline, so that a status is known although the body never ended.
#[derive(Default)]
struct Exchange {
    status: Option<StatusCode>,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Exchange {
    async fn run(&mut self, client: &Client, request: Request) -> Result<(), reqwest::Error> {
        let mut response: Response = client.execute(request).await?;
        self.status = Some(response.status());
        self.headers = std::mem::take(response.headers_mut());
        // An answer longer than what is kept costs its connection; reading on could take for ever.
        while self.body.len() < MAX_RESPONSE
            && let Some(chunk) = response.chunk().await?
        {
            let room = MAX_RESPONSE - self.body.len();
            self.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
        Ok(())
    }

    fn report(self, error: Option<String>, url: &Url, now: Time, duration: Duration) -> Report {
        let Some(status) = self.status else {
            return Report::failed(error.unwrap_or_default(), duration);
        };
        let response = Some(readable(&self.body)).filter(|text| !text.is_empty());
        let (error, verdict) = self.judge(status, error, response.as_deref(), url, now);
        Report { status: Some(status.as_u16()), error, response, duration, verdict }
    }

    /// A status other than 2xx says all there is to say, whatever became of the body after it.
    fn judge(
        &self,
        status: StatusCode,
        error: Option<String>,
        response: Option<&str>,
        url: &Url,
        now: Time,
    ) -> (Option<String>, Verdict) {
        let retry = Verdict::Retry { not_before: None };
        let header = |name: HeaderName| self.headers.get(name)?.to_str().ok();
        let answered = format!("answered {}", status.as_u16());
        match status {
            _ if status.is_success() && error.is_none() => (None, Verdict::Delivered),
            _ if status.is_success() => (error, retry),
            StatusCode::GONE => {
                let said = response.map(|text| format!(": {}", quote(text))).unwrap_or_default();
                (Some(answered.clone()), Verdict::Dead { reason: format!("{answered} Gone{said}") })
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let not_before = header(RETRY_AFTER).and_then(|value| parse_retry_after(value, now));
                (Some(answered), Verdict::Retry { not_before })
            }
            _ if status.is_redirection() => match header(LOCATION).and_then(|to| url.join(to).ok()) {
                Some(to) => (Some(format!("redirect to {} refused", quote(&shown(&to)))), retry),
                None => (Some(answered), retry),
            },
            _ => (Some(answered), retry),
        }
    }
}

fn client(
    proxy: Option<&str>,
    trust: &Arc<Trust>,
    idle: usize,
    timeout: Duration,
) -> reqwest::Result<Client> {
    let builder = http_client::builder(proxy)?.pool_max_idle_per_host(idle);
    // A receiver that stops reading would hold the connection of an attempt that is long over.
    #[cfg(target_os = "linux")]
    let builder = builder.tcp_user_timeout(timeout.max(Duration::from_secs(1)));
    #[cfg(not(target_os = "linux"))]
    let _ = timeout;
    // Behind a proxy the resolver would judge the proxy's own address.
    match proxy {
        Some(_) => builder.build(),
        None => builder.dns_resolver(GuardedResolver::new(Arc::clone(trust))).build(),
    }
}

fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("it is not a URL: {error}"))?;
    match check_url(&url, &Trust::Operator) {
        Err(blocked @ (Blocked::Scheme(_) | Blocked::NoHost)) => Err(blocked.to_string()),
        _ => Ok(url),
    }
}

/// A URL as it may be shown.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail for URLs that can hold no credentials, such as `mailto:`, and then there are none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

fn headers(config: &WebhookConfig) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let key: HeaderName = name.parse().map_err(|_| format!("`{name}` is not a header name"))?;
        if RESERVED.contains(&key.as_str()) || key.as_str().starts_with("webhook-") {
            return Err(format!("`{name}` is set by tidings itself"));
        }
        let mut value: HeaderValue =
            value.parse().map_err(|_| format!("the value of `{name}` cannot be sent in a header"))?;
        value.set_sensitive(true);
        headers.append(key, value);
    }
    Ok(headers)
}

/// W3C Trace Context, section 3.2: all attempts of an event are one trace, each is a span of it.
fn traceparent(event_id: &str) -> String {
    let trace = Sha256::digest(event_id.as_bytes());
    // An id of nothing but zeros is invalid.
    let span = rand::random::<u64>().max(1);
    format!("00-{}-{span:016x}-01", data_encoding::HEXLOWER.encode(&trace[..16]))
}

/// The receiver's bytes as text: what is not UTF-8 replaced, control characters (which could drive a terminal)
/// turned into spaces, not longer than the bytes were allowed to be.
fn readable(bytes: &[u8]) -> String {
    let keep = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
    let mut text: String = String::from_utf8_lossy(bytes).chars().map(keep).collect();
    text.truncate(text.floor_char_boundary(MAX_RESPONSE));
    text.truncate(text.trim_end().len());
    text
}

fn quote(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_QUOTE)]
}

#[cfg(test)]
mod tests;
