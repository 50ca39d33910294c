//! The faults of the mock. All of them can be changed while it runs.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};

use super::refusal::Refusal;

/// How the whole service is down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Down {
    /// It is not down.
    #[default]
    No,
    /// It accepts connections and closes them without an answer.
    Close,
    /// It answers 503 to every request.
    Unavailable {
        /// The text of the `Retry-After` header.
        retry_after: Option<String>,
    },
}

/// A rate limit that answers 429 to some requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// It refuses every n-th request; 1 refuses all.
    pub every: u64,
    /// The text of the `Retry-After` header: seconds or a date.
    pub retry_after: Option<String>,
}

/// A lag, as of a replica that is behind: a fresh job is not found at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// The number of reads of a job that answer 404.
    pub requests: u32,
    /// The time after the creation in which reads answer 404.
    pub period: Duration,
}

/// Cuts connections in the middle of a full body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The number of bytes after which it cuts, or the middle of a shorter body.
    pub after: u64,
    /// The number of bodies that it cuts; `u32::MAX` never ends in practice.
    pub times: u32,
}

/// Exact answers for one id, whether there is such a job or not. A body that is `None` is answered
/// as usual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// The HTTP status of both.
    pub code: u16,
    /// The body of the status route and of a retrieve without the response.
    pub status: Option<Bytes>,
    /// The body of a retrieve with the response.
    pub full: Option<Bytes>,
}

impl Raw {
    /// Answers 200 with these bodies.
    #[must_use]
    pub fn new(status: impl Into<Bytes>, full: impl Into<Bytes>) -> Self {
        Self { code: 200, status: Some(status.into()), full: Some(full.into()) }
    }

    /// Answers this HTTP status to every read of the job.
    #[must_use]
    pub fn code(code: u16) -> Self {
        let body = Bytes::from_static(br#"{"detail":"As told"}"#);
        Self { code, status: Some(body.clone()), full: Some(body) }
    }
}

/// The current faults.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The service as a whole.
    pub down: Down,
    /// The only accepted key, in `Api-Key` or `Authorization: Bearer`. `None` accepts every caller.
    pub key: Option<String>,
    /// The share of requests (0 to 1) that it answers with 500.
    pub error_rate: f64,
    /// The share of requests (0 to 1) whose connection it closes without an answer.
    pub drop_rate: f64,
    /// The rate limit.
    pub rate_limit: Option<RateLimit>,
    /// The delay of every answer.
    pub latency: Duration,
    /// Whether the status route is missing: it answers 404 while retrieve works.
    pub no_status_route: bool,
    /// The lag of fresh jobs.
    pub lag: Lag,
    /// Whether dispatch to a worker is late: create answers 202 with a warning, and retry answers
    /// 503 although it took effect.
    pub late_dispatch: bool,
    /// The cut of full bodies.
    pub cut: Option<Cut>,
    /// Exact answers by id.
    pub raw: HashMap<String, Raw>,
}

/// What happens to a request instead of its route.
#[derive(Debug)]
pub(super) enum Interception {
    Pass,
    Hangup,
    Refuse(Refusal),
}

/// The random numbers and the order of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lot {
    /// Between 0 and 1.
    pub error: f64,
    /// Between 0 and 1.
    pub drop: f64,
    /// Its number since the start, from 1.
    pub serial: u64,
}

impl Faults {
    pub(super) fn judge(&self, headers: &HeaderMap, lot: Lot) -> Interception {
        match &self.down {
            Down::Close => return Interception::Hangup,
            Down::Unavailable { retry_after } => {
                let refusal = Refusal::text(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable");
                return Interception::Refuse(refusal.retry_after(retry_after.as_deref()));
            }
            Down::No => {}
        }
        if lot.drop < self.drop_rate {
            return Interception::Hangup;
        }
        if self.key.as_deref().is_some_and(|key| presented(headers) != Some(key)) {
            return Interception::Refuse(Refusal::http(
                StatusCode::UNAUTHORIZED,
                "Unauthorized",
                "Invalid API key",
            ));
        }
        if let Some(limit) = &self.rate_limit
            && lot.serial.is_multiple_of(limit.every.max(1))
        {
            let refusal = Refusal::http(
                StatusCode::TOO_MANY_REQUESTS,
                "Too Many Requests",
                "Rate limit exceeded; slow down",
            );
            return Interception::Refuse(refusal.retry_after(limit.retry_after.as_deref()));
        }
        if lot.error < self.error_rate {
            return Interception::Refuse(Refusal::http(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Internal Server Error",
                "A fault of the mock",
            ));
        }
        Interception::Pass
    }

    /// Returns where to cut a body of this length, and counts the cut.
    pub(super) fn take_cut(&mut self, len: u64) -> Option<u64> {
        let cut = self.cut.as_mut().filter(|cut| cut.times > 0)?;
        cut.times -= 1;
        Some(if cut.after < len { cut.after } else { len / 2 })
    }
}

fn presented(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    text("api-key").or_else(|| text(header::AUTHORIZATION.as_str())?.strip_prefix("Bearer "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LUCKY: Lot = Lot { error: 0.99, drop: 0.99, serial: 1 };

    fn code(faults: &Faults, headers: &HeaderMap, lot: Lot) -> u16 {
        match faults.judge(headers, lot) {
            Interception::Pass => 200,
            Interception::Hangup => 0,
            Interception::Refuse(refusal) => refusal.status.as_u16(),
        }
    }

    #[test]
    fn either_header_lets_the_key_in_and_nothing_else_does() {
        let faults = Faults { key: Some("k".to_owned()), ..Faults::default() };
        let with = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(
                http::HeaderName::from_static(name),
                http::HeaderValue::from_static(value),
            )])
        };
        assert_eq!(code(&faults, &with("api-key", "k"), LUCKY), 200);
        assert_eq!(code(&faults, &with("authorization", "Bearer k"), LUCKY), 200);
        assert_eq!(code(&faults, &with("authorization", "Basic k"), LUCKY), 401);
        assert_eq!(code(&faults, &with("api-key", "old"), LUCKY), 401);
        assert_eq!(code(&faults, &HeaderMap::new(), LUCKY), 401);
    }

    #[test]
    fn each_fault_strikes_where_it_should() {
        let none = HeaderMap::new();
        let limit = RateLimit { every: 3, retry_after: None };
        let limited = Faults { rate_limit: Some(limit), ..Faults::default() };
        let codes: Vec<_> = (1..=6).map(|serial| code(&limited, &none, Lot { serial, ..LUCKY })).collect();
        assert_eq!(codes, [200, 200, 429, 200, 200, 429]);
        let flaky = Faults { error_rate: 0.5, drop_rate: 0.1, ..Faults::default() };
        assert_eq!(code(&flaky, &none, Lot { error: 0.49, ..LUCKY }), 500);
        assert_eq!(code(&flaky, &none, Lot { error: 0.5, ..LUCKY }), 200);
        assert_eq!(code(&flaky, &none, Lot { drop: 0.05, ..LUCKY }), 0);
        assert_eq!(code(&Faults { down: Down::Close, ..Faults::default() }, &none, LUCKY), 0);
        let down = Down::Unavailable { retry_after: None };
        assert_eq!(code(&Faults { down, ..Faults::default() }, &none, LUCKY), 503);
    }

    #[test]
    fn cuts_run_out() {
        let mut faults = Faults { cut: Some(Cut { after: 10, times: 2 }), ..Faults::default() };
        assert_eq!(faults.take_cut(100), Some(10));
        assert_eq!(faults.take_cut(8), Some(4));
        assert_eq!(faults.take_cut(100), None);
    }
}
