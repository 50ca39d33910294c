//! Errors as RFC 9457 problems, and the extractors that produce them.

use axum::{
    Json,
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, Request, rejection::PathRejection},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use std::time::Duration;

use super::view;
use crate::{
    job::{BadJobId, JobId},
    store::StoreError,
};

/// The largest body of a request.
pub(super) const MAX_BODY: usize = 8 << 20;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A request that failed, and changed nothing.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into() }
    }

    pub(crate) fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub(super) fn unprocessable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    pub(crate) fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    pub(super) fn no_watch(source: &str, job_id: &JobId) -> Self {
        Self::not_found("watch_not_found", format!("no watch of job `{job_id}` of source `{source}`"))
    }

    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    pub(super) fn detail(&self) -> &str {
        &self.detail
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let problem = view::Problem {
            kind: "about:blank".to_owned(),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            code: self.code.to_owned(),
        };
        let mut response = (self.status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::INSUFFICIENT_STORAGE) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let (status, code) = match &error {
            StoreError::Full(_) => (StatusCode::INSUFFICIENT_STORAGE, "disk_full"),
            StoreError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable"),
            StoreError::Damaged(_) => (StatusCode::SERVICE_UNAVAILABLE, "store_damaged"),
            StoreError::Record(_) => (StatusCode::INTERNAL_SERVER_ERROR, "record_unreadable"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<BadJobId> for Problem {
    fn from(error: BadJobId) -> Self {
        Self::unprocessable("invalid_job_id", error.to_string())
    }
}

/// A JSON body, bounded in size and time.
pub(super) struct Input<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Input<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_json",
                "send JSON, with the header `content-type: application/json`",
            ));
        }
        read_json(&read_body(request.into_body()).await?).map(Self)
    }
}

async fn read_body(body: Body) -> Result<Bytes, Problem> {
    let body = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await;
    let late = |_| {
        let detail = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
        Problem::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", detail)
    };
    body.map_err(late)?.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            let detail = format!("a request's body may hold {} MiB at the most", MAX_BODY >> 20);
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
        } else {
            Problem::bad_request("body_cut", "the body ended before it was complete")
        }
    })
}

fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if inner.is_data() {
            let place = if path == "." { String::new() } else { format!("`{path}`: ") };
            Problem::unprocessable("invalid_body", format!("{place}{}", mismatch(&inner)))
        } else {
            bad_json(&inner)
        }
    })?;
    json.end().map_err(|error| bad_json(&error))?;
    Ok(value)
}

/// What does not fit, without the text that the caller wrote there: it may be a secret in the wrong place, and answers
/// end up in logs.
pub(super) fn mismatch(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match (text.find("string \""), text.rfind("\", expected ")) {
        (Some(from), Some(to)) if from < to => format!("{}text{}", &text[..from], &text[to + 1..]),
        _ => text,
    }
}

fn bad_json(error: &serde_json::Error) -> Problem {
    Problem::bad_request("bad_json", format!("the body is no JSON: {error}"))
}

/// The source and the job that a path names.
pub(super) struct Named {
    pub(super) source: String,
    pub(super) job_id: JobId,
}

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((source, job_id)) = path.map_err(|error| bad_path(&error))?;
        Ok(Self { source, job_id: job_id.parse()? })
    }
}

/// One name in a path.
pub(super) struct Name(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Self(name)).map_err(|error| bad_path(&error))
    }
}

fn bad_path(error: &PathRejection) -> Problem {
    Problem::bad_request("bad_path", error.body_text())
}

/// The query as pairs, in order.
pub(super) struct Query(pub(super) Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }
}

/// A query value that cannot be read.
pub(super) fn bad_parameter(name: &str, value: &str, wanted: &str) -> Problem {
    Problem::bad_request("bad_parameter", format!("`{name}` is `{value}`; it must be {wanted}"))
}

/// A query key that nobody knows.
pub(super) fn unknown_parameter(name: &str, known: &str) -> Problem {
    Problem::bad_request("unknown_parameter", format!("there is no parameter `{name}`; there are {known}"))
}

pub(super) async fn no_route(request: Request) -> Problem {
    let path = request.uri().path();
    Problem::not_found("no_such_route", format!("there is no `{path}`; /openapi.json lists what there is"))
}

pub(super) async fn wrong_method(request: Request) -> Problem {
    let (method, path) = (request.method(), request.uri().path());
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("`{path}` does not take {method}; /openapi.json lists what it takes"),
    )
}
