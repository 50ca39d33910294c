//! What goes wrong, and when. Everything here can be changed while the mock runs.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};

use super::refusal::Refusal;

/// How the whole service is out of order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Down {
    /// It is not.
    #[default]
    No,
    /// Connections are accepted and closed without an answer.
    Close,
    /// Every request is answered 503.
    Unavailable {
        /// The `Retry-After` header, as it is to be sent.
        retry_after: Option<String>,
    },
}

/// Answers 429 to some requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Every n-th request is refused; 1 refuses all.
    pub every: u64,
    /// The `Retry-After` header, as it is to be sent: seconds or a date.
    pub retry_after: Option<String>,
}

/// A fresh job is not found at first, as on a replica that is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// So many reads of a job answer 404.
    pub requests: u32,
    /// Reads within this time after the creation answer 404.
    pub period: Duration,
}

/// Breaks connections in the middle of a full body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// After so many bytes of the body, or in the middle of one that is not longer.
    pub after: u64,
    /// How many bodies are cut before the fault is over; `u32::MAX` never ends in practice.
    pub times: u32,
}

/// Exact answers for one id, whether there is such a job or not. What is `None` is answered as usual.
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
    /// These bodies with 200.
    #[must_use]
    pub fn new(status: impl Into<Bytes>, full: impl Into<Bytes>) -> Self {
        Self { code: 200, status: Some(status.into()), full: Some(full.into()) }
    }

    /// This HTTP status on every read of the job.
    #[must_use]
    pub fn code(code: u16) -> Self {
        let body = Bytes::from_static(br#"{"detail":"As told"}"#);
        Self { code, status: Some(body.clone()), full: Some(body) }
    }
}

/// The faults in force.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The service as a whole.
    pub down: Down,
    /// The only key that is let in, by `Api-Key` or `Authorization: Bearer`. `None`: anybody.
    pub key: Option<String>,
    /// The share of requests (0 to 1) that is answered 500.
    pub error_rate: f64,
    /// The share of requests (0 to 1) whose connection is closed without an answer.
    pub drop_rate: f64,
    /// Refuses some requests with 429.
    pub rate_limit: Option<RateLimit>,
    /// Every answer waits this long.
    pub latency: Duration,
    /// There is no status route: it answers 404 while retrieve works.
    pub no_status_route: bool,
    /// Fresh jobs are not found at first.
    pub lag: Lag,
    /// Handing over to a worker is late: create answers 202 with a warning, and retry 503 although it
    /// took effect.
    pub late_dispatch: bool,
    /// Full bodies break off.
    pub cut: Option<Cut>,
    /// Exact answers by id.
    pub raw: HashMap<String, Raw>,
}

/// What a request meets instead of its route.
#[derive(Debug)]
pub(super) enum Verdict {
    Pass,
    Hangup,
    Refuse(Refusal),
}

/// What chance and order gave one request.
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
    pub(super) fn judge(&self, headers: &HeaderMap, lot: Lot) -> Verdict {
        match &self.down {
            Down::Close => return Verdict::Hangup,
            Down::Unavailable { retry_after } => {
                let refusal = Refusal::text(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable");
                return Verdict::Refuse(refusal.retry_after(retry_after.as_deref()));
            }
            Down::No => {}
        }
        if lot.drop < self.drop_rate {
            return Verdict::Hangup;
        }
        if self.key.as_deref().is_some_and(|key| presented(headers) != Some(key)) {
            return Verdict::Refuse(Refusal::http(
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
            return Verdict::Refuse(refusal.retry_after(limit.retry_after.as_deref()));
        }
        if lot.error < self.error_rate {
            return Verdict::Refuse(Refusal::http(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Internal Server Error",
                "A fault of the mock",
            ));
        }
        Verdict::Pass
    }

    /// Where to cut a body of this length, and one cut fewer to come.
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
            Verdict::Pass => 200,
            Verdict::Hangup => 0,
            Verdict::Refuse(refusal) => refusal.status.as_u16(),
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
