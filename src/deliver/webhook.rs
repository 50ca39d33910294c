//! One attempt at an HTTP endpoint, as Standard Webhooks wants it
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use reqwest::{Body, Client, Response};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout_at;
use url::Url;

use super::{
    Format, SinkError, WebhookConfig,
    envelope::Payload,
    guard::{GuardedResolver, Trust, check_url},
    parcel::Parcel,
    report::{Report, Verdict, class},
    sign::{SignError, Signer},
};
use crate::{
    clock, http_client,
    job::hex,
    retry_after::parse_retry_after,
    secret::{Secret, SecretSource},
    units::{Span, Time},
};

/// How much of an answer is read, and kept.
const MAX_ANSWER: usize = 1024;

/// How long a callback's whole exchange may take.
const CALLBACK_TIMEOUT: Span = Span::secs(15);

/// Connections kept open to one callback address.
const CALLBACK_IDLE: usize = 2;

/// An HTTP endpoint that events are posted to.
pub struct Webhook {
    client: Client,
    url: Url,
    headers: HeaderMap,
    signer: Signer,
    format: Format,
    timeout: Span,
    trust: Trust,
}

impl Webhook {
    /// The webhook of a configured sink. Its URL is the operator's word.
    ///
    /// # Errors
    /// When the URL, a header, a secret or the client cannot be used.
    pub fn new(config: &WebhookConfig, proxy: Option<&str>) -> Result<Self, SinkError> {
        let client = http_client::builder(proxy)?
            .dns_resolver(Arc::new(GuardedResolver::new(Arc::new(Trust::Operator))))
            .pool_max_idle_per_host(config.max_in_flight)
            .build()?;
        let url = Url::parse(&config.url).map_err(|error| SinkError::Url(error.to_string()))?;
        check_url(&url, &Trust::Operator).map_err(|blocked| SinkError::Url(blocked.to_string()))?;
        let one = SecretSource::of(config.secret.as_ref(), config.secret_file.as_deref());
        let more = config.secrets.iter().cloned().map(SecretSource::Inline);
        Ok(Self {
            client,
            url,
            headers: headers(config)?,
            signer: Signer::new(one.into_iter().chain(more).collect())?,
            format: config.format,
            timeout: config.timeout,
            trust: Trust::Operator,
        })
    }

    /// Where it points, without credentials and query.
    #[must_use]
    pub fn target(&self) -> String {
        let mut url = self.url.clone();
        // Neither can fail for a URL with a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_query(None);
        url.set_fragment(None);
        url.into()
    }

    /// Posts an event once.
    pub async fn attempt(&self, parcel: &Parcel, now: Time) -> Report {
        let begun = Instant::now();
        match self.post(parcel, now).await {
            Ok(report) => Report { duration: begun.elapsed(), ..report },
            Err(error) => Report::failed(error, begun.elapsed()),
        }
    }

    async fn post(&self, parcel: &Parcel, now: Time) -> Result<Report, String> {
        // A literal address never reaches the resolver, so it is judged here, every time.
        check_url(&self.url, &self.trust).map_err(|blocked| blocked.to_string())?;
        let payload = Payload::of(parcel, self.format);
        let headers = self.event_headers(parcel, &payload, now).await?;
        let stream = payload.stream().await.map_err(|error| error.to_string())?;
        let request = self.client.post(self.url.clone()).headers(headers).body(Body::wrap_stream(stream));
        let deadline = tokio::time::Instant::now() + self.timeout.0;
        let late = |_| format!("timed out after {}", self.timeout);
        let answer = timeout_at(deadline, request.send()).await.map_err(late)?;
        let answer = answer.map_err(|error| class(&error))?;
        let verdict = judge(&answer, clock::now());
        let (status, error) = (Some(answer.status().as_u16()), complaint(&answer));
        let response = match timeout_at(deadline, first_of(answer)).await.map_err(late).flatten() {
            Ok(text) => text,
            // Only a whole answer is a success; a refusal counts by its head alone.
            Err(broken) if verdict == Verdict::Delivered => return Err(broken),
            Err(_) => None,
        };
        Ok(Report { status, error, response, duration: Duration::ZERO, verdict })
    }

    async fn event_headers(
        &self,
        parcel: &Parcel,
        payload: &Payload,
        now: Time,
    ) -> Result<HeaderMap, String> {
        let id = &parcel.event_id;
        let timestamp = now.unix_seconds();
        let mut headers = self.headers.clone();
        let mut set = |name: &'static str, value: &str| {
            let value =
                HeaderValue::from_str(value).map_err(|_| format!("the header {name} cannot be sent"))?;
            headers.insert(HeaderName::from_static(name), value);
            Ok::<_, String>(())
        };
        set("content-type", "application/json")?;
        set("content-length", &payload.len().to_string())?;
        set("webhook-id", id)?;
        set("webhook-timestamp", &timestamp.to_string())?;
        set("traceparent", &traceparent(id))?;
        if !self.signer.is_empty() {
            let signature = self.sign(id, timestamp, payload).await.map_err(|error| error.to_string())?;
            set("webhook-signature", &signature)?;
        }
        Ok(headers)
    }

    /// The signature comes before the body, so a body on disk is read twice rather than held in memory.
    async fn sign(&self, id: &str, timestamp: i64, payload: &Payload) -> Result<String, SignError> {
        if payload.is_inline() {
            return self.signer.sign(id, timestamp, payload);
        }
        let (signer, id, payload) = (self.signer.clone(), id.to_owned(), payload.clone());
        let signed = tokio::task::spawn_blocking(move || signer.sign(&id, timestamp, &payload)).await;
        signed.unwrap_or_else(|error| {
            Err(super::envelope::PayloadError::from(std::io::Error::other(error)).into())
        })
    }
}

/// The webhooks that watches bring along. They share one client, whose every connection goes through the guard,
/// and never a proxy: a proxy would resolve names where the guard does not see it.
pub struct Callbacks {
    client: Client,
    trust: Trust,
}

impl Callbacks {
    /// Callbacks that reach as far as `trust` says.
    ///
    /// # Errors
    /// When no client can be built.
    pub fn new(trust: Trust) -> Result<Self, SinkError> {
        let client = http_client::builder(None)?
            .dns_resolver(Arc::new(GuardedResolver::new(Arc::new(trust.clone()))))
            .pool_max_idle_per_host(CALLBACK_IDLE)
            .build()?;
        Ok(Self { client, trust })
    }

    /// The webhook of one callback.
    ///
    /// # Errors
    /// When its URL or its secret cannot be used.
    pub fn to(&self, url: &str, secret: Option<&Secret>) -> Result<Webhook, SinkError> {
        Ok(Webhook {
            client: self.client.clone(),
            url: Url::parse(url).map_err(|error| SinkError::Url(error.to_string()))?,
            headers: HeaderMap::new(),
            signer: Signer::new(secret.cloned().map(SecretSource::Inline).into_iter().collect())?,
            format: Format::Envelope,
            timeout: CALLBACK_TIMEOUT,
            trust: self.trust.clone(),
        })
    }
}

fn headers(config: &WebhookConfig) -> Result<HeaderMap, SinkError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let bad = || SinkError::Header(name.clone());
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        headers.insert(key, HeaderValue::from_str(value).map_err(|_| bad())?);
    }
    Ok(headers)
}

/// W3C Trace Context (<https://www.w3.org/TR/trace-context/#traceparent-header>): one trace an event, one span
/// an attempt.
fn traceparent(event_id: &str) -> String {
    let trace = hex(&Sha256::digest(event_id)[..16]);
    format!("00-{trace}-{:016x}-01", rand::random::<u64>().max(1))
}

/// Standard Webhooks: 2xx is success and nothing else is, a redirect is a failure, 410 means that no further
/// event is wanted, and a receiver that asks for patience is heeded.
fn judge(response: &Response, now: Time) -> Verdict {
    match response.status() {
        status if status.is_success() => Verdict::Delivered,
        StatusCode::GONE => {
            Verdict::Dead { reason: "answered 410: the receiver wants no more of this".to_owned() }
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let asked = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            Verdict::Retry { not_before: asked.and_then(|text| parse_retry_after(text, now)) }
        }
        _ => Verdict::Retry { not_before: None },
    }
}

fn complaint(response: &Response) -> Option<String> {
    let status = response.status();
    if status.is_success() {
        return None;
    }
    let code = status.as_u16();
    if !status.is_redirection() {
        return Some(format!("answered {code}"));
    }
    // Only the origin: the rest of a location may hold a token.
    let to = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let to = to.and_then(|text| response.url().join(text).ok()).map(|url| url.origin().ascii_serialization());
    Some(match to {
        Some(origin) => format!("answered {code}: a redirect to {origin} is not followed"),
        None => format!("answered {code}: a redirect is not followed"),
    })
}

/// The first KiB of the answer as text. What follows is not read; the connection goes with it.
async fn first_of(mut response: Response) -> Result<Option<String>, String> {
    let mut body: Vec<u8> = Vec::new();
    while body.len() < MAX_ANSWER {
        let Some(chunk) = response.chunk().await.map_err(|error| class(&error))? else { break };
        let room = MAX_ANSWER - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    let text = String::from_utf8_lossy(&Bytes::from(body)).into_owned();
    let shown = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
    let text: String = text.chars().map(shown).collect();
    Ok(Some(text).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests;
