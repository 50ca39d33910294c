//! Errors as RFC 9457 problems, and the extractors that return them.

use axum::{
    Json,
    extract::{FromRequestParts, Path, Request, rejection::PathRejection},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};

mod code;

pub use code::Code;

use super::view;
use crate::{
    model::{
        group::BadGroupName,
        job::{BadJobId, JobId},
    },
    store::StoreError,
    util::units::Time,
};

/// The error of a request that changed nothing.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: Code,
    detail: String,
}

impl Problem {
    /// Returns a problem with the usual status of `code`.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { status: code.status(), code, detail: detail.into() }
    }

    /// Returns a problem with a name in the path, whose status is always 404.
    pub(crate) fn in_path(code: Code, detail: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, ..Self::new(code, detail) }
    }

    /// Returns the problem for a name that the path or the query has.
    pub(super) fn about_path(self) -> Self {
        Self { status: StatusCode::NOT_FOUND, ..self }
    }

    pub(super) fn no_watch(source: &str, job_id: &JobId) -> Self {
        Self::new(Code::WatchNotFound, format!("the job `{job_id}` of the source `{source}` is not watched"))
    }

    pub(super) fn code(&self) -> Code {
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
            code: self.code.as_str().to_owned(),
        };
        let mut response = (self.status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.code == Code::Unauthorized {
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
        let code = match &error {
            StoreError::Full(_) => Code::DiskFull,
            StoreError::Unavailable(_) | StoreError::ReadOnly(_) => Code::StoreUnavailable,
            StoreError::Damaged(_) => Code::StoreDamaged,
            StoreError::Record(_) => Code::RecordUnreadable,
        };
        Self::new(code, error.to_string())
    }
}

impl From<BadGroupName> for Problem {
    fn from(error: BadGroupName) -> Self {
        Self::new(Code::InvalidGroup, error.to_string())
    }
}

impl From<BadJobId> for Problem {
    fn from(error: BadJobId) -> Self {
        Self::new(Code::InvalidJobId, error.to_string())
    }
}

/// The source and the job in a path, and the kind in the query.
pub(super) struct Named {
    pub(super) source: String,
    pub(super) job_id: JobId,
    pub(super) kind: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((source, job_id)) = path.map_err(|error| bad_path(&error))?;
        let query = parts.uri.query().unwrap_or_default();
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        let kind = pairs.find(|(key, _)| key == "kind").map(|(_, value)| value.into_owned());
        Ok(Self { source, job_id: job_id.parse()?, kind })
    }
}

/// The only name in a path.
pub(super) struct Name(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Self(name)).map_err(|error| bad_path(&error))
    }
}

fn bad_path(error: &PathRejection) -> Problem {
    Problem::new(Code::BadPath, error.body_text())
}

/// The pairs of a query, in their order.
pub(super) struct Query(pub(super) Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }
}

/// Returns the problem of an invalid query value.
pub(super) fn bad_parameter(name: &str, value: &str, wanted: &str) -> Problem {
    Problem::new(Code::BadParameter, format!("`{name}` is `{value}`; it must be {wanted}"))
}

/// Reads a query value as a word of an enumeration.
pub(super) fn word<T: serde::de::DeserializeOwned>(name: &str, text: &str) -> Result<T, Problem> {
    serde_json::from_value(text.into())
        .map_err(|error| Problem::new(Code::BadParameter, format!("`{name}`: {error}")))
}

/// Reads a query value as a time.
pub(super) fn time(name: &str, text: &str) -> Result<Time, Problem> {
    Time::parse(text).ok_or_else(|| bad_parameter(name, text, "a time such as 2026-11-23T17:00:00Z"))
}

/// Returns the problem of an unknown query key.
pub(super) fn unknown_parameter(name: &str, known: &str) -> Problem {
    Problem::new(Code::UnknownParameter, format!("there is no parameter `{name}`; there are {known}"))
}

pub(super) async fn no_route(request: Request) -> Problem {
    let path = request.uri().path();
    Problem::new(Code::NoSuchRoute, format!("there is no route `{path}`; /openapi.json lists the routes"))
}

pub(super) async fn wrong_method(request: Request) -> Problem {
    let (method, path) = (request.method(), request.uri().path());
    Problem::new(
        Code::MethodNotAllowed,
        format!("`{path}` does not take {method}; /openapi.json lists its methods"),
    )
}
