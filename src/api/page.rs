//! The page for a browser: `/`, and its files under `/ui/`.
//!
//! `build.rs` compresses the built page into the binary. Its files hold no data, so they need no token;
//! what they show comes from the API, which does.

use std::{io::Read as _, sync::Arc};

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use flate2::read::GzDecoder;

use super::{
    AppState, accept, access,
    problem::{self, Name, Problem},
    view::Root,
};
use crate::config::{PageConfig, page_prefix};

/// Scripts, styles, images and data come from this server alone, and no script turns text into markup or code.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'self'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// A file of the built page.
struct PageFile {
    /// Its path below `ui/dist`.
    name: &'static str,
    media_type: &'static str,
    /// A hash of the content, for the `ETag`.
    hash: &'static str,
    gzip: &'static [u8],
}

/// Every file of the built page.
static FILES: &[PageFile] = include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// Marks a response that has a policy of its own: that of the page, or one that another replica made.
#[derive(Clone, Copy)]
pub(super) struct HasPolicy;

/// Returns whether a request is for the page or one of its files.
pub(super) fn is_page(method: &Method, uri: &Uri) -> bool {
    let path = uri.path();
    (method == Method::GET || method == Method::HEAD) && (path == "/" || path.starts_with("/ui/"))
}

/// Return the page to a browser, and the address of this document to any other client.
///
/// The page has HTML if `Accept` names `text/html`. Neither form needs the token.
#[utoipa::path(
    get, path = "/", tag = "page",
    responses((status = 200, content(
        (Root = "application/json"),
        (String = "text/html")
    ), description = "The page, where `Accept` prefers `text/html`"))
)]
pub(super) async fn root(State(state): State<Arc<AppState>>, request: Request) -> Response {
    let headers = request.headers();
    let config = &state.components().config.page;
    let prefix = prefix(config, headers);
    let mut response = match index() {
        Some(index) if config.enabled && accept::prefers_html(headers) => page(index, prefix, headers),
        _ => name(&state, &request, prefix),
    };
    let vary = HeaderValue::from_static("accept, x-forwarded-prefix");
    response.headers_mut().insert(header::VARY, vary);
    response
}

/// Returns a file of the page.
pub(super) async fn file(
    State(state): State<Arc<AppState>>,
    Name(name): Name,
    request: Request,
) -> Result<Response, Problem> {
    let is_enabled = state.components().config.page.enabled;
    // The page itself has its links right at `/` only.
    let found = FILES.iter().find(|file| is_enabled && file.name == name && file.name != INDEX);
    match found {
        Some(file) => Ok(file.response(request.headers())),
        None => Err(problem::no_route(request).await),
    }
}

/// The file that is served at `/`.
const INDEX: &str = "index.html";

fn index() -> Option<&'static PageFile> {
    FILES.iter().find(|file| file.name == INDEX)
}

/// Returns the path under which a reverse proxy serves the daemon; empty without one.
fn prefix<'a>(config: &'a PageConfig, headers: &'a HeaderMap) -> &'a str {
    let mut forwarded = headers.get_all(PREFIX).iter();
    let forwarded = match (forwarded.next(), forwarded.next()) {
        (Some(only), None) => only.to_str().ok(),
        _ => None,
    };
    let prefix = config.prefix.as_deref().or(forwarded);
    prefix.and_then(|prefix| page_prefix(prefix).ok()).unwrap_or_default()
}

/// Returns the name of this program and the address of the API's document.
fn name(state: &AppState, request: &Request, prefix: &str) -> Response {
    // Strangers learn no version.
    let version = access::has_token(&state.server, request).then(|| env!("CARGO_PKG_VERSION").to_owned());
    let root = Root { name: "tidings".to_owned(), version, api: format!("{prefix}/openapi.json") };
    ([(header::CACHE_CONTROL, "no-cache")], Json(root)).into_response()
}

/// Returns the page. Behind a prefix it says what its links begin with, because a request for the prefix without the
/// slash at its end shows it, too.
fn page(index: &PageFile, prefix: &str, headers: &HeaderMap) -> Response {
    let tag = format!("\"{}{prefix}\"", index.hash);
    // It is small, so it is sent as it is.
    let content = || {
        let html = String::from_utf8_lossy(&index.content()).into_owned();
        let base = format!("<head>\n    <base href=\"{prefix}/\">");
        Bytes::from(if prefix.is_empty() { html } else { html.replacen("<head>", &base, 1) })
    };
    answer(headers, &tag, index.media_type, content)
}

impl PageFile {
    /// Returns the bytes of the file. They were compressed by our own build, which cannot be damaged.
    fn content(&self) -> Vec<u8> {
        let mut content = Vec::new();
        if let Err(error) = GzDecoder::new(self.gzip).read_to_end(&mut content) {
            tracing::error!(%error, name = self.name, "file of the page unreadable");
        }
        content
    }

    fn response(&self, headers: &HeaderMap) -> Response {
        let takes_gzip = accept::takes_gzip(headers);
        let tag = format!("\"{}{}\"", self.hash, if takes_gzip { "-gzip" } else { "" });
        let content = || if takes_gzip { Bytes::from_static(self.gzip) } else { Bytes::from(self.content()) };
        let mut response = answer(headers, &tag, self.media_type, content);
        let has_body = response.status() == StatusCode::OK;
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if takes_gzip && has_body {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        // Vite puts a hash into the names of these files.
        if self.name.starts_with("assets/") {
            let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
            headers.insert(header::CACHE_CONTROL, forever);
        }
        response
    }
}

/// Returns a response of the page, without a body where the client has it.
fn answer(headers: &HeaderMap, tag: &str, media_type: &'static str, content: impl Fn() -> Bytes) -> Response {
    let mut response = match accept::has(headers, tag) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(header::CONTENT_TYPE, media_type)], content()).into_response(),
    };
    response.extensions_mut().insert(HasPolicy);
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::CACHE_CONTROL, "no-cache");
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    // Addresses of the page hold ids of jobs.
    set(header::REFERRER_POLICY, "no-referrer");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_built_and_links_to_files_that_are_there() {
        let html = String::from_utf8(index().expect("ui/dist/index.html").content()).unwrap();
        assert_eq!(html.matches("<head>").count(), 1, "{html}");
        let links = html.split('"').filter_map(|part| part.strip_prefix("./ui/"));
        let links: Vec<&str> = links.collect();
        assert!(links.len() >= 3, "{html}");
        for link in links {
            assert!(FILES.iter().any(|file| file.name == link), "{link}");
        }
        // The policy allows neither.
        assert!(!html.contains("<style") && !html.contains(" style="), "{html}");
        assert!(html.split("<script").skip(1).all(|script| script.contains("src=\"./ui/")), "{html}");
    }

    #[test]
    fn the_page_is_small_over_the_wire() {
        let size: usize = FILES.iter().map(|file| file.gzip.len()).sum();
        assert!(size <= 150 << 10, "{size} bytes");
    }
}
