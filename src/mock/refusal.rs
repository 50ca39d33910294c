//! Error answers, in the several shapes that the API uses.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use super::{payload::Payload, render::json};

/// An error answer.
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: StatusCode,
    body: Vec<u8>,
    retry_after: Option<HeaderValue>,
}

#[derive(Serialize)]
struct Detail<T> {
    detail: T,
}

#[derive(Serialize)]
struct Why<'a> {
    error: &'a str,
}

#[derive(Serialize)]
struct Coded<'a> {
    code: &'a str,
    message: &'a str,
    details: Why<'a>,
}

#[derive(Serialize)]
struct FieldError<'a> {
    loc: &'a [&'a str],
    msg: &'a str,
    r#type: &'a str,
}

#[derive(Serialize)]
struct Global<'a> {
    status_code: u32,
    message: &'a str,
    data: Option<()>,
}

impl Refusal {
    fn new(status: StatusCode, body: &impl Serialize) -> Self {
        Self { status, body: json(body), retry_after: None }
    }

    /// `{"detail":"text"}`.
    pub fn text(status: StatusCode, detail: &str) -> Self {
        Self::new(status, &Detail { detail })
    }

    /// No such job.
    pub fn unknown_job() -> Self {
        Self::text(StatusCode::NOT_FOUND, "Job not found")
    }

    /// No such route.
    pub fn unknown_route() -> Self {
        Self::text(StatusCode::NOT_FOUND, "Not Found")
    }

    /// No such method on this route.
    pub fn unknown_method() -> Self {
        Self::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
    }

    /// `{"detail":{"code","message","details":{"error"}}}` with the generic code.
    pub fn http(status: StatusCode, message: &str, error: &str) -> Self {
        let detail = Coded { code: "HTTP_EXCEPTION", message, details: Why { error } };
        Self::new(status, &Detail { detail })
    }

    /// 422 of the framework: `{"detail":[{"loc","msg","type"}]}`.
    pub fn field(loc: &[&str], msg: &str, kind: &str) -> Self {
        let detail = [FieldError { loc, msg, r#type: kind }];
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, &Detail { detail })
    }

    /// 422 of the jobs route itself: `{"code","message","details"}` without `detail`.
    pub fn invalid(message: &str, error: &str) -> Self {
        let body = Coded { code: "VALIDATION_ERROR", message, details: Why { error } };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, &body)
    }

    /// 422 of the global handler, whose `status_code` is not the HTTP status.
    pub fn global(loc: &[&str], msg: &str, kind: &str) -> Self {
        let message = json(&[FieldError { loc, msg, r#type: kind }]);
        let message = String::from_utf8_lossy(&message);
        let body = Global { status_code: 10422, message: &message, data: None };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, &body)
    }

    /// Adds this `Retry-After`, unless it cannot be a header.
    pub fn retry_after(mut self, text: Option<&str>) -> Self {
        self.retry_after = text.and_then(|text| HeaderValue::from_str(text).ok());
        self
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = answer(self.status, Payload::default().text(self.body), None);
        if let Some(value) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }
}

/// Returns a JSON answer of known length, cut if asked to.
pub(super) fn answer(status: StatusCode, payload: Payload, cut: Option<u64>) -> Response {
    let len = payload.len();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    response.map(|_| payload.into_body(cut))
}
