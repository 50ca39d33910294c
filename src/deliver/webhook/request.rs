//! The request of one attempt: its headers, its signature and its body.

use std::future::ready;

use bytes::Bytes;
use futures_util::stream;
use http::{
    HeaderValue, Request,
    header::{ACCEPT, CONTENT_LENGTH, USER_AGENT},
};
use sha2::{Digest as _, Sha256};

use super::{WebhookInner, address::Endpoint, sign::SignError, upload::UploadBody};
use crate::{
    deliver::{encode::payload::Payload, message::Message, outcome::AttemptFailure},
    model::delivery::ErrorClass,
    telemetry::TRACEPARENT,
    util::{http_client, units::Time},
};

impl WebhookInner {
    /// Builds the request for a message. Returns it with the length of its body.
    pub(super) async fn request(
        &self,
        to: &Endpoint,
        message: &Message,
        now: Time,
    ) -> Result<(Request<UploadBody>, u64), AttemptFailure> {
        let unusable = |reason| AttemptFailure::new(ErrorClass::Payload, reason);
        let payload = self.encoder.encode(message, self.timeout).await.map_err(unusable)?;
        let timestamp = now.unix_seconds();
        let whole = payload.whole().await?;
        let signature = self.signature(&message.event_id, timestamp, &payload, whole.as_ref()).await?;
        let length = payload.len();
        let body = match whole {
            Some(bytes) => UploadBody::new(stream::once(ready(Ok(bytes))), length),
            None => UploadBody::new(payload.stream().await?, length),
        };
        let mut request = Request::new(body);
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
        // Without it the body would be sent chunked, which many receivers refuse.
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

    /// Signs a payload. One that is not in memory, or a secret in a file, is read on a blocking
    /// thread: the disk may be slow, and half a gigabyte takes its time.
    async fn signature(
        &self,
        id: &str,
        timestamp: i64,
        payload: &Payload,
        whole: Option<&Bytes>,
    ) -> Result<Option<String>, AttemptFailure> {
        if self.signer.is_empty() {
            return Ok(None);
        }
        let whole = whole.cloned();
        if let Some(bytes) = whole.as_ref().filter(|_| !self.signer.reads_files()) {
            return Ok(Some(self.signer.sign_bytes(id, timestamp, bytes)?));
        }
        let (signer, id, payload) = (self.signer.clone(), id.to_owned(), payload.clone());
        let sign = move || match whole {
            Some(bytes) => signer.sign_bytes(&id, timestamp, &bytes),
            None => signer.sign(&id, timestamp, &payload),
        };
        let made: Result<String, SignError> = tokio::task::spawn_blocking(sign)
            .await
            .map_err(|_| AttemptFailure::new(ErrorClass::Internal, "signing was interrupted"))?;
        Ok(Some(made?))
    }
}

/// Returns a `traceparent` (W3C Trace Context, section 3.2). All attempts of an event are spans of
/// one trace.
fn traceparent(event_id: &str) -> String {
    let trace = Sha256::digest(event_id.as_bytes());
    // An id of zeros is invalid.
    let span = rand::random::<u64>().max(1);
    format!("00-{}-{span:016x}-01", data_encoding::HEXLOWER.encode(&trace[..16]))
}
