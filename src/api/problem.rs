//! Errors as RFC 9457 problems, and the extractors that produce them.

use axum::{
    Json,
    extract::{FromRequestParts, Path, Request, rejection::PathRejection},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};

use super::view;
use crate::{
    job::{BadJobId, JobId},
    store::StoreError,
};

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
