//! Passes a request on to the replica that owns the work, and its answer back. Must not know what a request means, but whether it
//! may be sent twice.
//!
//! A replica that dies is replaced within seconds, so a request waits for the next owner. One that certainly was not sent, or
//! that may be repeated, is then sent to that one, and its caller notices a delay and nothing else.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use axum::{
    body::{self, Body, HttpBody as _},
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, request::Parts},
    response::Response,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    body::{BODY_TIMEOUT, incomplete, too_slow},
    page::HasPolicy,
    problem::{Code, Problem},
    write_timeout::ConnectionFlags,
};
use crate::{
    store::ReplicaOwner,
    util::{
        hop_by_hop,
        http_client::{self, Outgoing, guard::Trust, innermost, plain},
    },
};

/// How long a request waits for an owner: as long as one may be missing after it was killed.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// The pause before a request is sent again whose owner did not answer.
const AGAIN: Duration = Duration::from_millis(250);

/// The time for a connection to the owner to open.
const CONNECT: Duration = Duration::from_secs(2);

/// How often a connection to the owner is tried that is quiet, while an answer may take long.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// The tries without an answer after which it is dead.
const DEAD_AFTER: u32 = 2;

/// The largest body that is kept to be sent again.
const MAX_KEPT: u64 = 1 << 20;

/// The unit in which kept bodies are counted.
const KIB: u64 = 1 << 10;

/// The KiB of bodies that may be kept at once. They bound the memory while no replica owns the work.
static KEPT: Semaphore = Semaphore::const_new(64 << 10);

/// Marks a request that a replica has passed on, and the answer of one that does not own the work.
pub(super) const PASSED_ON: &str = "tidings-passed-on";

/// What a replica knows of the owner of the work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KnownOwner {
    /// The owner; `None` while there is none.
    pub(crate) owner: Option<ReplicaOwner>,
    /// Why the database could not be asked last.
    pub(crate) trouble: Option<String>,
}

/// Sends requests to the owner.
pub(super) struct PassOn {
    http: reqwest::Client,
    known: watch::Receiver<KnownOwner>,
    /// The epoch of the last owner of which the log says that it does not answer.
    unreached: AtomicI64,
}

/// No owner has it.
const NO_EPOCH: i64 = -1;

/// A request, ready to be sent, and perhaps to be sent again.
struct Outbound {
    parts: Parts,
    /// Path and query as they are sent.
    path: String,
    body: OutboundBody,
    is_repeatable: bool,
}

/// A body in memory, and the room that it takes there.
#[derive(Default)]
struct Kept {
    bytes: Bytes,
    _room: Option<SemaphorePermit<'static>>,
}

enum OutboundBody {
    Kept(Kept),
    Stream(Untouched),
}

/// A body that may be sent until its first byte was asked for, which a connection that does not open never does.
struct Untouched(Arc<Mutex<Option<Body>>>);

impl Untouched {
    fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Some(body))))
    }

    /// Returns its bytes; `None` when some of them were sent.
    fn stream(&self) -> Option<impl Stream<Item = Result<Bytes, axum::Error>> + Send + use<>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?;
        let body = Arc::clone(&self.0);
        let take = async move { body.lock().unwrap_or_else(PoisonError::into_inner).take() };
        Some(stream::once(take).flat_map(|body| body.unwrap_or_default().into_data_stream()))
    }
}

impl PassOn {
    pub(super) fn new(known: watch::Receiver<KnownOwner>) -> reqwest::Result<Self> {
        let outgoing = Outgoing::direct(Trust::Operator);
        let http = http_client::builder(&outgoing, http_client::tls())
            .connect_timeout(CONNECT)
            .tcp_keepalive(KEEPALIVE)
            .tcp_keepalive_interval(KEEPALIVE)
            .tcp_keepalive_retries(DEAD_AFTER)
            .tcp_user_timeout(KEEPALIVE * DEAD_AFTER)
            .build()?;
        Ok(Self { http, known, unreached: AtomicI64::new(NO_EPOCH) })
    }

    /// Returns what is known of the owner.
    pub(super) fn known(&self) -> KnownOwner {
        self.known.borrow().clone()
    }

    /// Passes a request on, and returns the answer.
    pub(super) async fn send(&self, request: Request) -> Result<Response, Problem> {
        let until = Instant::now() + LONGEST_WAIT;
        let flags = request.extensions().get::<Arc<ConnectionFlags>>().cloned();
        let outbound = Outbound::new(request).await?;
        let mut known = self.known.clone();
        loop {
            let owner = present(&mut known, until).await?;
            let Some(request) = outbound.request(&self.http, &owner) else {
                return Err(gone(&owner, "its body cannot be sent twice"));
            };
            let mut sent = false;
            tokio::select! {
                answer = request.send() => match answer {
                    Ok(answer) if answer.headers().contains_key(PASSED_ON) => {}
                    Ok(answer) => return Ok(response(answer, (known, owner.epoch), flags)),
                    Err(error) => {
                        sent = !error.is_connect();
                        tracing::debug!(owner = owner.name, error = plain(&innermost(&error)), "owner did not answer");
                    }
                },
                () = is_replaced(&mut known, owner.epoch) => sent = true,
            }
            if sent && !outbound.is_repeatable {
                return Err(gone(&owner, "it may be done or not"));
            }
            if Instant::now() >= until {
                let known = known.borrow();
                if let Some(owner) = &known.owner
                    && self.unreached.swap(owner.epoch, Ordering::Relaxed) != owner.epoch
                {
                    let address = owner.address.as_deref().unwrap_or_default();
                    tracing::warn!(
                        owner = owner.name,
                        address,
                        "the owner of the work does not answer there; its store.advertise must be an address that every replica \
                         reaches"
                    );
                }
                return Err(nobody(&known));
            }
            tokio::select! {
                () = sleep(AGAIN) => {}
                Ok(()) = known.changed() => {}
            }
        }
    }
}

impl Outbound {
    async fn new(request: Request) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let path = spelled(&parts.uri)?;
        let is_repeatable = is_repeatable(&parts);
        // The token of this API, which a request through the proxy carries so.
        let token = parts.headers.get(header::PROXY_AUTHORIZATION).cloned();
        hop_by_hop::strip(&mut parts.headers);
        if let Some(token) = token {
            parts.headers.insert(header::PROXY_AUTHORIZATION, token);
        }
        // They were checked here, and name this address.
        parts.headers.remove(header::ORIGIN);
        parts.headers.remove("sec-fetch-site");
        parts.headers.insert(PASSED_ON, HeaderValue::from_static("1"));
        let body = match body.size_hint().exact() {
            _ if body.is_end_stream() => OutboundBody::Kept(Kept::default()),
            Some(size) if size <= MAX_KEPT => OutboundBody::Kept(keep(body, size).await?),
            _ => OutboundBody::Stream(Untouched::new(body)),
        };
        Ok(Self { parts, path, body, is_repeatable })
    }

    /// Returns the request to `owner`; `None` when its body is gone.
    fn request(&self, http: &reqwest::Client, owner: &ReplicaOwner) -> Option<reqwest::RequestBuilder> {
        let address = owner.address.as_deref().unwrap_or_default().trim_end_matches('/');
        let request = http
            .request(self.parts.method.clone(), format!("{address}{}", self.path))
            .headers(self.parts.headers.clone());
        Some(match &self.body {
            OutboundBody::Kept(kept) if kept.bytes.is_empty() => request,
            OutboundBody::Kept(kept) => request.body(kept.bytes.clone()),
            OutboundBody::Stream(body) => request.body(reqwest::Body::wrap_stream(body.stream()?)),
        })
    }
}

/// Reads a body that is small enough to be kept, once there is room for it.
async fn keep(body: Body, size: u64) -> Result<Kept, Problem> {
    let units = u32::try_from(size.div_ceil(KIB)).unwrap_or(u32::MAX);
    let Ok(Ok(room)) = timeout(LONGEST_WAIT, KEPT.acquire_many(units)).await else {
        let detail =
            "too many requests wait for the replica that owns the work; send the request again later";
        return Err(Problem::new(Code::Busy, detail));
    };
    let arrived = timeout(BODY_TIMEOUT, body::to_bytes(body, usize::MAX)).await.map_err(|_| too_slow())?;
    Ok(Kept { bytes: arrived.map_err(|error| incomplete(&error))?, _room: Some(room) })
}

/// Returns path and query of a request such that the owner reads them as they are.
fn spelled(uri: &Uri) -> Result<String, Problem> {
    let (path, query) = (uri.path(), uri.query());
    let is_dots = |segment: &str| {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        segment == "." || segment == ".."
    };
    if !path.starts_with('/') {
        return Err(Problem::new(Code::NoSuchRoute, "there is no route without a path"));
    }
    // A URL has no such segments: they would lead to another path, which was not checked here.
    if path.split(['/', '\\']).any(is_dots) {
        return Err(Problem::new(Code::NoSuchRoute, "there is no route with a segment `.` or `..`"));
    }
    let path = path.replace('\\', "%5C");
    Ok(query.map_or_else(|| path.clone(), |query| format!("{path}?{query}")))
}

/// Whether a request does the same when it arrives twice. Of creations at a source nobody knows.
fn is_repeatable(parts: &Parts) -> bool {
    let path = parts.uri.path();
    match parts.method {
        Method::GET | Method::HEAD | Method::OPTIONS => true,
        _ if path.starts_with("/proxy/") => false,
        Method::PUT | Method::DELETE => true,
        _ => matches!(path, "/v1/watches" | "/v1/watches/batch") || path.starts_with("/hooks/"),
    }
}

/// Waits for an owner.
async fn present(known: &mut watch::Receiver<KnownOwner>, until: Instant) -> Result<ReplicaOwner, Problem> {
    let is_settled = |known: &KnownOwner| known.owner.is_some() || known.trouble.is_some();
    // Its sender lives as long as the replica waits; what was known last holds after that.
    let _ = timeout_at(until, known.wait_for(is_settled)).await;
    let known = known.borrow();
    let owner = known.owner.clone().ok_or_else(|| nobody(&known))?;
    match owner.address {
        Some(_) => Ok(owner),
        None => Err(Problem::new(Code::NoOwner, no_address(&owner))),
    }
}

/// Why no replica can pass a request on to this owner.
pub(super) fn no_address(owner: &ReplicaOwner) -> String {
    format!("the replica {} owns the work and says no address; set store.advertise there", owner.name)
}

/// Waits until the owner is another one, or none.
async fn is_replaced(known: &mut watch::Receiver<KnownOwner>, epoch: i64) {
    let is_other = |known: &KnownOwner| known.owner.as_ref().is_none_or(|owner| owner.epoch != epoch);
    if known.wait_for(is_other).await.is_err() {
        // This replica became the owner, or ends.
        std::future::pending::<()>().await;
    }
}

fn nobody(known: &KnownOwner) -> Problem {
    match &known.trouble {
        Some(trouble) => Problem::new(Code::StoreUnavailable, trouble),
        None => match &known.owner {
            Some(ReplicaOwner { name, address, .. }) => {
                let detail = format!(
                    "the replica {name} owns the work and does not answer at {}; its store.advertise must be an address that \
                     every replica reaches",
                    address.as_deref().unwrap_or_default()
                );
                Problem::new(Code::NoOwner, detail)
            }
            None => {
                Problem::new(Code::NoOwner, "no replica owns the work yet; one takes it within 15 seconds")
            }
        },
    }
}

fn gone(owner: &ReplicaOwner, consequence: &str) -> Problem {
    let name = &owner.name;
    Problem::new(Code::NoOwner, format!("the replica {name} went away during the request; {consequence}"))
}

/// Returns the answer of the owner. It breaks off when the owner is another one before its end.
fn response(
    answer: reqwest::Response,
    (known, epoch): (watch::Receiver<KnownOwner>, i64),
    flags: Option<Arc<ConnectionFlags>>,
) -> Response {
    let (mut parts, body) = http::Response::from(answer).into_parts();
    hop_by_hop::strip(&mut parts.headers);
    let endless = flags.filter(|_| is_event_stream(&parts.headers)).map(Endless::new);
    let bytes = Body::new(body).into_data_stream().map_err(std::io::Error::other).boxed();
    let begin = (bytes, known, endless);
    let body = stream::try_unfold(begin, move |(mut bytes, mut known, endless)| async move {
        tokio::select! {
            biased;
            next = bytes.try_next() => Ok(next?.map(|read| (read, (bytes, known, endless)))),
            () = is_replaced(&mut known, epoch) => {
                Err(std::io::Error::new(std::io::ErrorKind::ConnectionAborted, "another replica owns the work now"))
            }
        }
    });
    // A body of known size keeps it, by its header.
    let mut response = Response::new(Body::from_stream(body));
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    response.extensions_mut().insert(HasPolicy);
    response
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    media_type.starts_with(b"text/event-stream")
}

/// An answer without an end, which a stop of this process does not wait for.
struct Endless(Arc<ConnectionFlags>);

impl Endless {
    fn new(flags: Arc<ConnectionFlags>) -> Self {
        flags.streaming.store(true, Ordering::Release);
        Self(flags)
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.streaming.store(false, Ordering::Release);
    }
}

/// Returns the answer to a request that another replica passed on: this one does not own the work either.
pub(super) fn turn_away(mut response: Response) -> Response {
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(PASSED_ON, HeaderValue::from_static("1"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_arrives_as_it_was_sent() {
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        for path in [
            "/",
            "/v1/watches?x=a%2Fb&y=..",
            "/v1/watches/retab/a%2F..%2Fb",
            "/v1/watches/retab/...",
            "/a//b/",
        ] {
            assert_eq!(spelled(&uri(path)).unwrap(), path);
            let url = url::Url::parse(&format!("http://127.0.0.1:1{path}")).unwrap();
            assert!(url.as_str().ends_with(path), "{url}");
        }
        assert_eq!(spelled(&uri("/v1/watches/retab/a\\b")).unwrap(), "/v1/watches/retab/a%5Cb");
        for path in ["*", "/hooks/../v1/watches", "/hooks/%2E%2e/v1", "/a/.", "/a/%2e?x", "/hooks/..\\v1"] {
            assert_eq!(spelled(&uri(path)).unwrap_err().code().as_str(), "no_such_route", "{path}");
        }
    }

    #[tokio::test]
    async fn a_body_can_be_sent_until_it_was_asked_for() {
        let body = Untouched::new(Body::from("whole"));
        drop(body.stream().unwrap());
        let sent: Vec<_> = body.stream().unwrap().try_collect().await.unwrap();
        assert_eq!(sent, [Bytes::from("whole")]);
        assert!(body.stream().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn kept_bodies_are_bounded_together() {
        let whole = || keep(Body::from(vec![0; 1 << 20]), MAX_KEPT);
        let mut kept = Vec::new();
        for _ in 0..64 {
            kept.push(whole().await.unwrap_or_else(|problem| panic!("{}", problem.detail())));
        }
        let refused = whole().await.err().unwrap();
        assert_eq!(refused.code().as_str(), "busy");
        kept.pop();
        assert!(whole().await.is_ok());
        let slow = Body::from_stream(stream::pending::<Result<Bytes, axum::Error>>());
        assert_eq!(keep(slow, 7).await.err().unwrap().code().as_str(), "body_too_slow");
    }
}
