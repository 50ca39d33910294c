//! One exchange over HTTP: sends the request, reads the answer, and makes the outcome of the
//! attempt.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, Request, StatusCode,
    header::{CONTENT_LENGTH, LOCATION, RETRY_AFTER},
};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::select;
use url::Url;

use crate::{
    deliver::{
        outcome::{AttemptFailure, AttemptOutcome, AttemptResult},
        webhook::{
            classify::classify,
            redact::SecretRedactor,
            transport::WebClient,
            upload::{Upload, UploadBody, UploadCut},
        },
    },
    model::delivery::ErrorClass,
    util::{
        http_client::{ProxyError, was_refused},
        redact,
        retry_after::parse_retry_after,
        units::Time,
    },
};

/// Bytes of an answer's body to keep.
pub(super) const MAX_RESPONSE: usize = 1024;

/// Bytes of the receiver's text to quote in an error.
const MAX_QUOTE: usize = 200;

/// The answer so far. It outlives the deadline, so that a status is known although the body never
/// ends.
#[derive(Default)]
pub(super) struct Exchange {
    sent: String,
    redactor: SecretRedactor,
    status: Option<StatusCode>,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// The error that ended an exchange early.
pub(super) struct ExchangeError {
    pub(super) failure: AttemptFailure,
    /// Whether the receiver certainly did not handle the request.
    pub(super) refused: bool,
    /// Whether a kept connection failed at once.
    pub(super) kept: bool,
}

impl From<AttemptFailure> for ExchangeError {
    fn from(failure: AttemptFailure) -> Self {
        Self { failure, refused: false, kept: false }
    }
}

impl Exchange {
    /// Sends the request and reads the answer. A 2xx may come before the receiver took the whole
    /// event; the rest is still sent. Any other status ends the exchange.
    pub(super) async fn run(
        &mut self,
        client: &WebClient,
        mut request: Request<UploadBody>,
        upload: &mut Upload,
        url: &Url,
    ) -> Result<(), ExchangeError> {
        let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        length.unwrap_or_default().clone_into(&mut self.sent);
        client.authorize(&mut request);
        self.redactor = SecretRedactor::of(request.headers(), url);
        let broken = |error: hyper_util::client::legacy::Error| ExchangeError {
            refused: was_refused(&error),
            kept: false,
            failure: classify(&error, error.is_connect()),
        };
        let uri = request.uri().clone();
        let (head, mut body) = client.send(request).await.map_err(broken)?.into_parts();
        if head.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED
            && let Some(proxy) = client.proxy_between(&uri)
        {
            return Err(AttemptFailure::from(ProxyError::unauthorized(proxy)).into());
        }
        self.status = Some(head.status);
        self.headers = head.headers;
        if !head.status.is_success() {
            while self.read(&mut body).await? {}
            return Ok(());
        }
        let (mut is_complete, mut is_over) = (false, false);
        while !is_complete || !(is_over || self.body.len() >= MAX_RESPONSE) {
            select! {
                whole = upload.complete(), if !is_complete => {
                    whole.map_err(|UploadCut| AttemptFailure::cut_short(head.status.as_u16()))?;
                    is_complete = true;
                }
                // Reads the answer during the upload, so that the receiver does not wait for a
                // reader.
                more = self.next(&mut body), if !is_over => is_over = !more?,
            }
        }
        Ok(())
    }

    /// Reads the next frame, up to [`MAX_RESPONSE`]. A longer answer costs its connection, since
    /// reading it could take for ever.
    async fn read(&mut self, body: &mut Incoming) -> Result<bool, AttemptFailure> {
        Ok(self.body.len() < MAX_RESPONSE && self.next(body).await?)
    }

    /// Reads the next frame and keeps the beginning of the body. Returns whether more may come.
    async fn next(&mut self, body: &mut Incoming) -> Result<bool, AttemptFailure> {
        let Some(frame) = body.frame().await else { return Ok(false) };
        let frame = frame.map_err(|error| classify(&error, false))?;
        if let Some(chunk) = frame.data_ref() {
            let room = MAX_RESPONSE - self.body.len();
            self.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
        Ok(true)
    }

    /// Returns whether no status has come.
    pub(super) fn is_unanswered(&self) -> bool {
        self.status.is_none()
    }

    /// Returns the outcome of the attempt. `failure` is the error that ended the exchange early.
    pub(super) fn outcome(
        self,
        failure: Option<AttemptFailure>,
        url: &Url,
        now: Time,
        duration: Duration,
    ) -> AttemptOutcome {
        let Some(status) = self.status else {
            let unknown = || AttemptFailure::new(ErrorClass::Internal, "it ended without an answer");
            return AttemptOutcome::failed(failure.unwrap_or_else(unknown), duration);
        };
        let response = Some(self.redactor.redact(readable(&self.body))).filter(|text| !text.is_empty());
        let (failure, result) = match failure {
            None if status.is_success() => (None, AttemptResult::Delivered),
            Some(failure) if status.is_success() => {
                (Some(failure), AttemptResult::Failed { retry_after: None })
            }
            // A status other than 2xx decides, whatever happened to the body after it.
            _ => {
                let (failure, result) = self.refusal(status, response.as_deref(), url, now);
                (Some(failure), result)
            }
        };
        let (error, error_class) = failure.map(|failure| (failure.text, failure.class)).unzip();
        AttemptOutcome { status: Some(status.as_u16()), error, error_class, response, duration, result }
    }

    /// Returns the failure and the result for a status other than 2xx.
    fn refusal(
        &self,
        status: StatusCode,
        response: Option<&str>,
        url: &Url,
        now: Time,
    ) -> (AttemptFailure, AttemptResult) {
        let header = |name: HeaderName| self.headers.get(name)?.to_str().ok();
        // `Retry-After` may come with any status (RFC 9110, 10.2.3).
        let retry_after = header(RETRY_AFTER).and_then(|value| parse_retry_after(value, now));
        let answered = format!("answered {}", status.as_u16());
        let result = match (status, retry_after) {
            (StatusCode::GONE, _) => {
                let said = response.map(|text| format!(": {}", quote(text))).unwrap_or_default();
                AttemptResult::FailedForGood { reason: format!("{answered} Gone{said}") }
            }
            // With `Retry-After` the refusal is temporary (RFC 9110, 15.5.14); without it the same
            // bytes would be refused again.
            (StatusCode::PAYLOAD_TOO_LARGE, None) => AttemptResult::FailedForGood {
                reason: format!("{answered} Content Too Large to {} bytes", self.sent),
            },
            _ => AttemptResult::Failed { retry_after },
        };
        let target = header(LOCATION).filter(|_| status.is_redirection()).and_then(|to| url.join(to).ok());
        let failure = match target {
            Some(to) => {
                let text = format!("redirect to {} refused", quote(&redact::url(&to)));
                AttemptFailure::new(ErrorClass::Redirect, text)
            }
            None => AttemptFailure::new(ErrorClass::Status, answered),
        };
        (failure, result)
    }
}

/// Returns the receiver's bytes as text of at most [`MAX_RESPONSE`] bytes. Replaces what is not
/// UTF-8, and control characters, which could drive a terminal, by spaces.
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
