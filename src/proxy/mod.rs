//! The drop-in proxy: the requests of an application to its job API pass through here as they are, and the jobs that they
//! create are watched.
//!
//! A request → its [`ProxyRoute`] → answered from what is `known`, or passed on by `forward`. The id of a created job is taken from the
//! answer (`created`) and is a durable watch before the answer goes on.

mod created;
mod forward;
mod headers;
mod known;
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
    upstream::{ProxyRoute, Vars},
    util::clock,
    watcher::SourceState,
};

/// The longest that the answer to the creation of a job is waited for after the caller has gone.
const MAX_CREATION: Duration = Duration::from_secs(30 * 60);

/// Tells the caller whether the job that he created is watched.
const WATCH_HEADER: &str = "tidings-watch";

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
    let route = watcher.source.routes.route(&parts.method, rest, parts.uri.query());
    let hit = match &route {
        ProxyRoute::Status(job) => known::status(&state, &watcher, job, &parts.headers).await?,
        ProxyRoute::Result(job) => known::result(&state, &watcher, job, &parts.headers).await?,
        _ => None,
    };
    let passing = Passing { state, watcher, address, route };
    match hit {
        Some(response) => Ok(passing.counted(response, "known")),
        None => passing.go(parts, body).await,
    }
}

/// Refuses what is about the connection and not about the source.
///
/// # Errors
/// For `CONNECT`, for `TRACE` and its namesake `TRACK`, which send the key back to the caller, and for another protocol.
fn check_protocol(parts: &Parts) -> Result<(), Problem> {
    let method = parts.method.as_str();
    if ["CONNECT", "TRACE", "TRACK"].iter().any(|refused| method.eq_ignore_ascii_case(refused)) {
        return Err(Problem::new(Code::NotProxied, format!("{method} is not passed on")));
    }
    if headers::asks_for_upgrade(&parts.headers) {
        let detail = "another protocol is not passed on; send the request without `Upgrade`";
        return Err(Problem::new(Code::NotProxied, detail));
    }
    Ok(())
}

/// The source and the path that follows it.
fn split(path: &str) -> (&str, &str) {
    let rest = path.strip_prefix("/proxy/").unwrap_or_default();
    rest.find('/').map_or((rest, "/"), |at| rest.split_at(at))
}

/// A request on its way to its source.
struct Passing {
    state: Arc<AppState>,
    watcher: Arc<SourceState>,
    address: String,
    route: ProxyRoute,
}

impl Passing {
    async fn go(self, parts: Parts, body: Body) -> Result<Response, Problem> {
        if matches!(self.route, ProxyRoute::Status(_) | ProxyRoute::Result(_) | ProxyRoute::Other) {
            let answer = forward::send(&self.watcher.source, &self.address, parts, body).await?;
            return Ok(self.counted(forward::response(answer), "forwarded"));
        }
        // What cannot be watched is better not created.
        if matches!(self.route, ProxyRoute::Create(_) | ProxyRoute::Retry(_)) {
            self.state.store.check_space()?;
            if let Some(trouble) = self.state.store.trouble() {
                return Err(trouble.into());
            }
        }
        // A caller that goes away must not take the id of its job along: the task goes on without it.
        let task = tokio::spawn(tokio::time::timeout(MAX_CREATION, self.change(parts, body)));
        match task.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                let detail = "the source did not answer within half an hour";
                Err(Problem::new(Code::UpstreamUnreachable, detail))
            }
            Err(error) => Err(Problem::new(Code::Internal, error.to_string())),
        }
    }

    /// A request that makes or changes a job.
    async fn change(self, mut parts: Parts, body: Body) -> Result<Response, Problem> {
        let caller = TraceParent::of(&parts.headers);
        if matches!(self.route, ProxyRoute::Create(_)) {
            // The id has to be read.
            parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let answer = forward::send(&self.watcher.source, &self.address, parts, body).await?;
        let done = answer.status().is_success();
        let mut watched = None;
        let response = match &self.route {
            ProxyRoute::Create(vars) if done => {
                let id_at = self.watcher.source.profile.create.as_ref().map(|(_, id_at)| id_at);
                let (id, response) = created::read(answer, id_at.map_or("", String::as_str)).await;
                watched = Some(self.watch(id, vars, caller).await);
                response
            }
            ProxyRoute::Retry(job) => {
                // 503 says that the retry was taken and starts late.
                let taken = done || answer.status() == StatusCode::SERVICE_UNAVAILABLE;
                if taken {
                    watched = Some(self.watch(Ok(job.id.clone()), &job.vars, caller).await);
                }
                forward::response(answer)
            }
            ProxyRoute::Touch(id) if done => {
                self.look_again(id);
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

    /// Makes a job a durable watch, and says what became of that.
    async fn watch(
        &self,
        id: Result<JobId, String>,
        vars: &Vars,
        traceparent: Option<TraceParent>,
    ) -> &'static str {
        let source = &self.watcher.source;
        let failed = |error: String| {
            tracing::error!(
                source = source.name,
                error,
                "a job was created through the proxy and is not watched"
            );
            "failed"
        };
        let id = match id {
            Ok(id) => id,
            Err(reason) => return failed(reason),
        };
        self.look_again(&id);
        let vars = self.watcher.source.routes.needed(vars, &source.profile);
        let registration = Registration { vars, traceparent, ..Registration::new(&source.name, id.clone()) };
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

    /// What was known of a job may no longer hold.
    fn look_again(&self, id: &JobId) {
        let watcher = &self.watcher;
        if let Ok(Found::Watch(watch)) = self.state.store.find(&watcher.source.name, id) {
            watcher.status_cache.forget(watch.number);
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
