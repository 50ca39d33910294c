//! Answers without a request to the source: from the last poll, or from the store. Only a caller that presents the source's own
//! key gets one.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use tokio::time::{Instant, timeout};

use crate::{
    api::{Problem, stored_body},
    model::{job::Outcome, status_answer::StatusClass},
    schedule::HealthState,
    state::AppState,
    store::{Found, StoreError, Watch, WatchStage},
    upstream::{RoutedJob, SourceKind},
    watcher::SourceState,
};

/// The longest wait for a poll, or for the fetch of a finished job, before the request is forwarded.
const MAX_HOLD: Duration = Duration::from_secs(20);

/// The header of an answer from the cache (RFC 9211).
const CACHE_STATUS: &str = "cache-status";

/// Returns the status of a watched job, or `None` if only the source can tell it.
pub(super) async fn status(
    state: &AppState,
    watcher: &SourceState,
    job: (&SourceKind, &RoutedJob),
    headers: &HeaderMap,
) -> Result<Option<Response>, Problem> {
    let Some(watch) = find(state, watcher, job, headers).await? else { return Ok(None) };
    if watch.stage != WatchStage::Watching {
        return finished(state, watcher, watch).await;
    }
    let max_age = watcher.source.config.proxy.max_age.0;
    if let Some((body, age)) = recent(watcher, watch.number, max_age) {
        return Ok(Some(json(body, age)));
    }
    // One poll within the budget answers all callers that ask for the same job. While the source fails, each caller gets the
    // source's own answer.
    state.load_early(&watch);
    let polled = watcher.polled.wait(watch.number);
    let is_well = watcher.schedule().state() == HealthState::Ok;
    if !is_well || !watcher.poll_now(watch.number) || timeout(MAX_HOLD, polled).await.is_err() {
        return Ok(None);
    }
    let Some(watch) = find(state, watcher, job, headers).await? else { return Ok(None) };
    if watch.stage != WatchStage::Watching {
        return finished(state, watcher, watch).await;
    }
    Ok(recent(watcher, watch.number, max_age.max(MAX_HOLD)).map(|(body, age)| json(body, age)))
}

/// Returns the result of a finished job, or `None` if only the source can tell it.
pub(super) async fn result(
    state: &AppState,
    watcher: &SourceState,
    job: (&SourceKind, &RoutedJob),
    headers: &HeaderMap,
) -> Result<Option<Response>, Problem> {
    match find(state, watcher, job, headers).await? {
        Some(watch) if watch.stage != WatchStage::Watching => stored(state, watcher, watch).await,
        _ => Ok(None),
    }
}

/// Returns the watch of a job, if the caller may see it.
async fn find(
    state: &AppState,
    watcher: &SourceState,
    (kind, job): (&SourceKind, &RoutedJob),
    headers: &HeaderMap,
) -> Result<Option<Watch>, StoreError> {
    let source = &watcher.source;
    // Nobody else has the credentials that are made here.
    if source.auth_type().is_some() {
        return Ok(None);
    }
    if !watcher.source.config.proxy.inject_key && !source.is_own_key(headers) {
        return Ok(None);
    }
    let watch = match state.store.find(&source.name, &job.id, source.recorded(kind).as_ref()).await {
        Ok(Found::Watch(watch)) => watch,
        // The source answers for a job whose record is gone or damaged here.
        Ok(Found::Dropped | Found::Nothing | Found::Several(_)) | Err(StoreError::Record(_)) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let var = |name: &String| watch.vars.get(name).or_else(|| kind.profile.vars.get(name));
    let is_same = job.vars.iter().all(|(name, value)| var(name) == Some(value));
    // A job registered again during its fetch: the record is about the previous run.
    Ok((is_same && !watch.rewatch).then_some(*watch))
}

/// Returns the kind of job of a watch; `None` when the configuration no longer has it.
fn kind<'a>(watcher: &'a SourceState, watch: &Watch) -> Option<&'a SourceKind> {
    watcher.source.kind(watch.kind.as_ref().map(|kind| kind.name.as_str()))
}

/// Returns the last status and its age, if it is at most `max_age` old and was read with the current key.
fn recent(watcher: &SourceState, watch: u64, max_age: Duration) -> Option<(Bytes, Duration)> {
    let key = watcher.source.key_fingerprint()?;
    watcher.status_cache.get(watch, &key, max_age, Instant::now())
}

/// Returns the status of a finished job: the body of the poll that saw it finished.
async fn finished(
    state: &AppState,
    watcher: &SourceState,
    watch: Watch,
) -> Result<Option<Response>, Problem> {
    let Some(kind) = kind(watcher, &watch) else { return Ok(None) };
    let profile = &kind.profile;
    if profile.result_path.is_none() && profile.results.is_empty() {
        return stored(state, watcher, watch).await;
    }
    if !may_tell(watcher, &watch) {
        return Ok(None);
    }
    // The last body is an earlier one if the final one was too large to keep.
    let is_end = |body: &String| {
        profile
            .read(body.as_bytes())
            .is_ok_and(|(answer, _)| matches!(answer.class, StatusClass::Finished(_)))
    };
    Ok(watch.last_body.filter(is_end).map(|body| json(body.into(), Duration::ZERO)))
}

/// Returns whether the record came from the source with its current key.
fn may_tell(watcher: &SourceState, watch: &Watch) -> bool {
    let known = watch.current_completion().is_some_and(|end| end.outcome != Outcome::Lost && !end.refused);
    known && watch.key.is_some() && watch.key == watcher.source.key_fingerprint()
}

/// Returns the stored bytes of a job. Waits for a fetch in flight, so that the source sends the result once.
async fn stored(state: &AppState, watcher: &SourceState, watch: Watch) -> Result<Option<Response>, Problem> {
    let settled = state.waiters.wait(watch.number);
    let mut watch = watch;
    if watch.stage == WatchStage::Fetching {
        // Read again after the waiter is armed, so that no change falls in between.
        let is_fetching =
            |watch: &Option<Watch>| matches!(watch, Some(watch) if watch.stage == WatchStage::Fetching);
        let mut now = state.store.watch(watch.number).await?;
        if is_fetching(&now) && timeout(MAX_HOLD, settled).await.is_ok() {
            now = state.store.watch(watch.number).await?;
        }
        let Some(now) = now else { return Ok(None) };
        watch = now;
    }
    let is_whole = kind(watcher, &watch).is_some_and(|kind| kind.profile.result_at.is_empty());
    if watch.stage != WatchStage::Finished || !is_whole || !may_tell(watcher, &watch) {
        return Ok(None);
    }
    let Some((end, job)) = watch.completion.as_ref().and_then(|end| Some((end, end.job.as_ref()?))) else {
        return Ok(None);
    };
    // If the file is gone, the source answers.
    let response = stored_body(state, watch.number, &end.event_id, job, None).await;
    Ok(response.ok().map(|response| hit(response, Duration::ZERO)))
}

fn json(body: Bytes, age: Duration) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    hit(response, age)
}

fn hit(mut response: Response, age: Duration) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_STATUS, HeaderValue::from_static("tidings; hit"));
    headers.insert(header::AGE, age.as_secs().into());
    response
}
