//! The drop-in proxy: forwards the requests of an application to its job API unchanged, and watches the jobs that they create.
//! Must not know the handlers of the API.
//!
//! - `cached`: answers from the status cache and the store.
//! - `forward`: sends a request to the source, and its answer back.
//! - `creation`: reads the id of a created job from the answer.
//! - `pacing`: holds creations to the request budget.
//! - `headers`, `path`: what may be forwarded.
//!
//! A request → its [`ProxyRoute`] → answered from `cached`, or sent on by `forward`. The id of a created job is read from the answer
//! (`creation`), and is a durable watch before the caller gets the answer.

mod creation;
mod forward;
mod headers;
mod cached;
mod pacing;
mod path;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::Response,
    routing::any,
};

use crate::{
    api::{Code, Problem},
    model::job::JobId,
    state::AppState,
    store::{Found, Registered, Registration},
    telemetry::TraceParent,
    upstream::{ProxyRoute, SourceKind, Vars},
    util::clock,
    watcher::SourceState,
};

/// The longest wait for the answer to a creation, whether the caller is still there or not.
const MAX_CREATION: Duration = Duration::from_secs(30 * 60);

/// The header that tells the caller whether the created job is watched.
const WATCH_HEADER: &str = "tidings-watch";

/// What it says of a job that has ended with its creation: there is nothing to watch.
const FINAL: &str = "final";

/// Returns the routes of the proxy.
pub fn routes() -> Router<Arc<AppState>> {
    Router::new().route("/proxy/{source}", any(handle)).route("/proxy/{source}/{*rest}", any(handle))
}

/// `ANY /proxy/{source}/…`
async fn handle(State(state): State<Arc<AppState>>, request: Request) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let (name, rest) = split(&path);
    let Some(watcher) = state.components().watchers.get(name).cloned() else {
        let detail = format!("there is no source `{name}`; /v1/sources lists those there are");
        return Err(Problem::in_path(Code::UnknownSource, detail));
    };
    check_protocol(&parts)?;
    headers::strip_own_token(&mut parts.headers, state.server.token.is_some());
    let address = forward::address(&watcher.source, rest, parts.uri.query())?;
    let (kind, route) = watcher.source.route(&parts.method, rest, parts.uri.query());
    let hit = match &route {
        ProxyRoute::Status(job) => cached::status(&state, &watcher, (kind, job), &parts.headers).await?,
        ProxyRoute::Result(job) => cached::result(&state, &watcher, (kind, job), &parts.headers).await?,
        _ => None,
    };
    let kind = kind.name().map(str::to_owned);
    let forwarding = Forwarding { state, watcher, address, kind, route };
    match hit {
        Some(response) => Ok(forwarding.counted(response, "known")),
        None => forwarding.go(parts, body).await,
    }
}

/// Rejects a request that is about the connection and not about the source.
///
/// # Errors
/// For `CONNECT`, for `TRACE` and `TRACK`, which would send the key back to the caller, and for an upgrade.
fn check_protocol(parts: &Parts) -> Result<(), Problem> {
    let method = parts.method.as_str();
    if ["CONNECT", "TRACE", "TRACK"].iter().any(|refused| method.eq_ignore_ascii_case(refused)) {
        return Err(Problem::new(Code::NotProxied, format!("{method} is not forwarded")));
    }
    if headers::asks_for_upgrade(&parts.headers) {
        let detail = "an upgrade is not forwarded; send the request without `Upgrade`";
        return Err(Problem::new(Code::NotProxied, detail));
    }
    Ok(())
}

/// Splits a path into the source's name and the rest.
fn split(path: &str) -> (&str, &str) {
    let rest = path.strip_prefix("/proxy/").unwrap_or_default();
    rest.find('/').map_or((rest, "/"), |at| rest.split_at(at))
}

/// A request that is forwarded to its source.
struct Forwarding {
    state: Arc<AppState>,
    watcher: Arc<SourceState>,
    address: String,
    /// The name of the kind of job that the request is about.
    kind: Option<String>,
    route: ProxyRoute,
}

impl Forwarding {
    async fn go(self, parts: Parts, body: Body) -> Result<Response, Problem> {
        if matches!(self.route, ProxyRoute::Status(_) | ProxyRoute::Result(_) | ProxyRoute::Other) {
            let answer =
                forward::send((&self.watcher.source, self.kind()), &self.address, parts, body).await?;
            return Ok(self.counted(forward::response(answer), "forwarded"));
        }
        // Better no job than one that cannot be watched.
        if matches!(self.route, ProxyRoute::Create(_) | ProxyRoute::Retry(_)) {
            self.state.store.check_space()?;
            if let Some(trouble) = self.state.store.trouble() {
                return Err(trouble.into());
            }
        }
        let is_paced = self.watcher.source.config.proxy.pace && matches!(self.route, ProxyRoute::Create(_));
        let admitted = match is_paced {
            true => match pacing::admit(&self.watcher).await {
                Ok(admitted) => Some(admitted),
                Err(refused) => return Ok(refused),
            },
            false => None,
        };
        // A caller that disconnects must not lose its job: the task goes on without it.
        let task = tokio::spawn(tokio::time::timeout(MAX_CREATION, self.change(parts, body, admitted)));
        match task.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                let detail = "the source did not answer within half an hour";
                Err(Problem::new(Code::UpstreamUnreachable, detail))
            }
            Err(error) => Err(Problem::new(Code::Internal, error.to_string())),
        }
    }

    /// Forwards a request that creates or changes a job.
    async fn change(
        self,
        mut parts: Parts,
        body: Body,
        admitted: Option<pacing::Admitted>,
    ) -> Result<Response, Problem> {
        let caller = TraceParent::of(&parts.headers);
        if matches!(self.route, ProxyRoute::Create(_)) {
            // The id has to be readable.
            parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let (source, kind) = (&self.watcher.source, self.kind());
        let answer = match admitted {
            Some(admitted) => pacing::send(&self.watcher, kind, &self.address, parts, body, admitted).await?,
            None => forward::send((source, kind), &self.address, parts, body).await?,
        };
        let done = answer.status().is_success();
        let mut watched = None;
        let response = match &self.route {
            ProxyRoute::Create(vars) if done => {
                let named = source.located(self.kind(), answer.url(), answer.headers(), vars);
                if let Some(named) = named {
                    let (id, vars) =
                        named.map_or_else(|reason| (Err(reason), Vars::new()), |job| (Ok(job.id), job.vars));
                    watched = Some(self.watch(id, &vars, caller).await);
                    forward::response(answer)
                } else if creation::is_stream(&answer) {
                    tracing::debug!(
                        source = source.name,
                        "creation answered with a stream; no job is watched"
                    );
                    watched = Some("failed");
                    forward::response(answer)
                } else {
                    let profile = &self.kind().profile;
                    let id_at = profile.create.as_ref().and_then(|(_, id_at)| id_at.as_deref());
                    let (created, response) = match id_at {
                        Some(id_at) => {
                            let silence = source.config.timeout.0;
                            creation::read(answer, id_at, profile, &self.watcher.late_answers, silence).await
                        }
                        None => (Err(creation::no_header(profile)), forward::response(answer)),
                    };
                    watched = Some(match created {
                        Ok(created) if created.is_final => FINAL,
                        created => self.watch(created.map(|created| created.id), vars, caller).await,
                    });
                    response
                }
            }
            ProxyRoute::Retry(job) => {
                // With 503 the source has accepted the retry and starts it later.
                let taken = done || answer.status() == StatusCode::SERVICE_UNAVAILABLE;
                if taken {
                    watched = Some(self.watch(Ok(job.id.clone()), &job.vars, caller).await);
                }
                forward::response(answer)
            }
            ProxyRoute::Touch(id) if done => {
                self.poll_again(id).await;
                forward::response(answer)
            }
            _ => forward::response(answer),
        };
        let mut response = self.counted(response, "forwarded");
        if let Some(word) = watched {
            response.headers_mut().insert(WATCH_HEADER, HeaderValue::from_static(word));
        }
        Ok(response)
    }

    fn kind(&self) -> &SourceKind {
        let source = &self.watcher.source;
        source.kind(self.kind.as_deref()).unwrap_or(source.default_kind())
    }

    /// Registers a durable watch. Returns the value of the header that tells the result.
    async fn watch(
        &self,
        id: Result<JobId, String>,
        vars: &Vars,
        traceparent: Option<TraceParent>,
    ) -> &'static str {
        let source = &self.watcher.source;
        let failed = |error: String| {
            tracing::error!(source = source.name, error, "job created through the proxy is not watched");
            "failed"
        };
        let id = match id {
            Ok(id) => id,
            Err(reason) => return failed(reason),
        };
        self.poll_again(&id).await;
        let kind = self.kind();
        let vars = kind.routes.needed(vars, &kind.profile);
        let kind = source.recorded(kind);
        let registration =
            Registration { kind, vars, traceparent, ..Registration::new(&source.name, id.clone()) };
        let now = clock::now();
        let registered = self.state.store.register(vec![registration], now).await.map(|mut all| all.pop());
        if let Ok(Some(registered)) = &registered {
            self.state.record_registration(registered, now);
        }
        match registered {
            Ok(Some(Registered::New(_) | Registered::Again(_))) => "accepted",
            Ok(Some(Registered::Existing(_))) => "existing",
            Ok(_) => failed(format!("`{id}` is watched with other vars")),
            Err(error) => failed(format!("`{id}` cannot be recorded: {error}")),
        }
    }

    /// Polls a job now: its cached status may be out of date.
    async fn poll_again(&self, id: &JobId) {
        let watcher = &self.watcher;
        let kind = watcher.source.recorded(self.kind());
        let found = self.state.store.find(&watcher.source.name, id, kind.as_ref()).await;
        if let Ok(Found::Watch(watch)) = found {
            watcher.status_cache.remove(watch.number);
            self.state.load_early(&watch);
            watcher.poll_now(watch.number);
        }
    }

    fn counted(&self, response: Response, how: &str) -> Response {
        let source = self.watcher.source.name.as_str();
        self.state.metrics.sources.proxied.with_label_values(&[source, how]).inc();
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_the_first_segment() {
        assert_eq!(split("/proxy/retab/v1/jobs"), ("retab", "/v1/jobs"));
        assert_eq!(split("/proxy/retab"), ("retab", "/"));
        assert_eq!(split("/proxy/retab/"), ("retab", "/"));
        assert_eq!(split("/proxy//v1"), ("", "/v1"));
    }
}
