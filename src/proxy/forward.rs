//! Sends a request to its source, and the answer back, both unchanged. Streams both bodies.

use axum::{
    body::{Body, HttpBody as _},
    http::{StatusCode, request::Parts},
    response::Response,
};

use super::{headers, path};
use crate::{
    api::{Code, Problem},
    upstream::{Failure, Source, SourceKind},
};

/// Returns the address of a path. It stays below the base URL.
pub(super) fn address(source: &Source, path: &str, query: Option<&str>) -> Result<String, Problem> {
    let bad = |reason: &str| Problem::new(Code::BadProxyPath, format!("`{path}` {reason}"));
    path::check(path).map_err(bad)?;
    let text = match query {
        Some(query) => format!("{}{path}?{query}", source.base_url()),
        None => format!("{}{path}", source.base_url()),
    };
    let parsed = |text: &str| url::Url::parse(text).map_err(|_| bad("cannot follow the base URL"));
    let (base, whole) = (parsed(source.base_url())?, parsed(&text)?);
    let root = base.path().trim_end_matches('/');
    let is_below = whole.path().strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
    if !is_below || !source.is_own(&text) {
        return Err(bad("leads away from the base URL of the source"));
    }
    Ok(text)
}

/// Sends a request to its source.
pub(super) async fn send(
    (source, kind): (&Source, &SourceKind),
    address: &str,
    parts: Parts,
    body: Body,
) -> Result<reqwest::Response, Problem> {
    let mut head = parts.headers;
    headers::strip(&mut head);
    if !headers::pass(&mut head) {
        let detail =
            "the request passed a tidings proxy too often; check that base_url does not lead back here";
        return Err(Problem::new(Code::ProxyLoop, detail));
    }
    let body = (!body.is_end_stream()).then(|| reqwest::Body::wrap_stream(body.into_data_stream()));
    let inject = source.config.proxy.inject_key.then_some(kind);
    let answer = source.forward(parts.method, address, head, body, inject).await;
    let answer = answer.map_err(|failure| match failure {
        Failure::Credentials(reason) => Problem::new(Code::KeyUnreadable, reason),
        failure => Problem::new(Code::UpstreamUnreachable, failure.to_string()),
    })?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let detail = "the source switches to another protocol without an upgrade request";
        return Err(Problem::new(Code::UpstreamUnreachable, detail));
    }
    Ok(answer)
}

/// Returns the answer of the source as the answer of the proxy.
pub(super) fn response(answer: reqwest::Response) -> Response {
    let answer = http::Response::from(answer);
    let (mut parts, body) = answer.into_parts();
    headers::strip(&mut parts.headers);
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    response
}
