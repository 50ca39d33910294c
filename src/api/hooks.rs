//! `/hooks/{source}`: takes the webhooks that a source itself sends.
//!
//! Anybody may call it: there is no token, and every name of the server is right, since it is reached
//! through an ingress. A request that is not verified changes nothing, and what is read of it is
//! bounded in size, time and number.

use std::{sync::Arc, time::Duration};

use axum::{
    BoxError,
    body::{Body, HttpBody as _},
    extract::{Request, State},
    http::StatusCode,
};
use bytes::BytesMut;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use super::{
    AppState,
    problem::{Code, Name, Problem},
};
use crate::{
    model::job::JobId,
    store::{Found, Registered, Registration},
    upstream::{Hooks, NamedJob, SourceKind, Unverified},
    util::clock,
    watcher::{HookResult, SourceState},
};

/// The largest hook.
const MAX_HOOK: usize = 1 << 20;
/// A hook of at most this size needs no place: the limits of connections bound the memory.
const SMALL: usize = 16 << 10;
/// The longest time for a hook to arrive, and the longest wait for a place.
const HOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// The larger hooks that are read or handled at once.
static PLACES: Semaphore = Semaphore::const_new(64);

/// Returns whether a path is one of hooks, which prove themselves.
pub(super) fn is_hook(path: &str) -> bool {
    path.starts_with("/hooks/")
}

/// Take a webhook of the source itself.
///
/// A verified hook makes the poll of the job that it names due now. It is never believed: the poll
/// decides. The route needs no token, and each source proves itself as `hooks` of its configuration
/// says.
#[utoipa::path(
    post, path = "/hooks/{source}", tag = "sources", params(("source" = String, Path)),
    responses(
        (status = 204, description = "The hook is verified, and what can be done is done"),
        (status = 401, body = super::view::Problem, description = "The hook is not verified; nothing happened"),
        (status = 404, body = super::view::Problem, description = "No such source, or it has no hooks"),
        (status = 413, body = super::view::Problem, description = "The hook is larger than 1 MiB"),
        (status = 503, body = super::view::Problem, description = "Its job cannot be registered now; send it again"),
        (status = 507, body = super::view::Problem, description = "The disk is full; send it again"),
    )
)]
pub(super) async fn receive(
    State(state): State<Arc<AppState>>,
    Name(name): Name,
    request: Request,
) -> Result<StatusCode, Problem> {
    let watcher = state.components().watchers.get(&name).cloned();
    // Strangers do not learn which sources there are.
    let none = || Problem::new(Code::NoHooks, "there is no source of this name that sends hooks");
    let watcher = watcher.ok_or_else(none)?;
    let hooks = watcher.source.hooks.as_ref().ok_or_else(none)?;
    let refused = |error: Unverified| refused(&watcher, &error);
    let failed = |problem: Problem| {
        watcher.record_hook(HookResult::Failed, problem.detail());
        problem
    };
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    hooks.verify_head(&parts.headers, query).map_err(refused)?;
    let (body, _place) = arrived(body).await.map_err(failed)?;
    let now = clock::now().0.div_euclid(1000);
    hooks.verify(&parts.headers, query, &body, now).map_err(refused)?;
    let result = act(&state, &watcher, hooks, hooks.named_job(&body)).await.map_err(failed)?;
    watcher.record_hook(result, "it names no job at the pointers of id_at");
    Ok(StatusCode::NO_CONTENT)
}

fn refused(watcher: &SourceState, error: &Unverified) -> Problem {
    if let Unverified::Secret(reason) = error {
        watcher.record_hook(HookResult::Failed, reason);
        return Problem::new(
            Code::HookSecretUnreadable,
            "the secret for the hooks of this source cannot be used",
        );
    }
    let reason = error.to_string();
    watcher.record_hook(HookResult::Unverified, &reason);
    Problem::new(Code::HookUnverified, format!("the hook is not verified: {reason}"))
}

/// Reads a hook. A large one holds its place until that is dropped. A small one needs none, so that
/// strangers whose hooks never arrive keep nobody out.
async fn arrived(body: Body) -> Result<(BytesMut, Option<SemaphorePermit<'static>>), Problem> {
    let told = body.size_hint().lower();
    if told > MAX_HOOK as u64 {
        return Err(too_large());
    }
    let (mut body, mut read) = (Limited::new(body, MAX_HOOK), BytesMut::new());
    if told <= SMALL as u64 && read_up_to(SMALL, &mut body, &mut read).await? {
        return Ok((read, None));
    }
    let Ok(Ok(place)) = timeout(HOOK_TIMEOUT, PLACES.acquire()).await else {
        return Err(Problem::new(Code::Busy, "other hooks are being read; send the hook again later"));
    };
    read_up_to(MAX_HOOK, &mut body, &mut read).await?;
    Ok((read, Some(place)))
}

/// Reads on until there are more than `most` bytes. Returns whether the body ended before.
async fn read_up_to(most: usize, body: &mut Limited<Body>, read: &mut BytesMut) -> Result<bool, Problem> {
    let reading = async {
        while read.len() <= most {
            let Some(frame) = body.frame().await else { return Ok(true) };
            read.extend_from_slice(&frame?.into_data().unwrap_or_default());
        }
        Ok::<_, BoxError>(false)
    };
    match timeout(HOOK_TIMEOUT, reading).await {
        Ok(Ok(has_ended)) => Ok(has_ended),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(Code::BodyCut, "the body ended before it was complete")),
        Err(_) => {
            let detail = format!("the hook did not arrive within {} s", HOOK_TIMEOUT.as_secs());
            Err(Problem::new(Code::BodyTooSlow, detail))
        }
    }
}

fn too_large() -> Problem {
    Problem::new(Code::BodyTooLarge, format!("a hook has at most {} MiB", MAX_HOOK >> 20))
}

/// Makes the poll of the named job due.
async fn act(
    state: &AppState,
    watcher: &SourceState,
    hooks: &Hooks,
    named: NamedJob,
) -> Result<HookResult, Problem> {
    // What cannot be written as text is not the id that the source gave.
    let id = named.id.filter(|id| !id.contains('\u{fffd}'));
    let Some(id) = id.and_then(|id| id.parse::<JobId>().ok()) else { return Ok(HookResult::NoId) };
    let source = &watcher.source;
    let told = named.kind.as_deref().map(|kind| source.kind(Some(kind)));
    // A kind that the source does not have is none of ours.
    let Some(told) = told.map_or(Some(None), |kind| kind.map(Some)) else { return Ok(HookResult::Unknown) };
    let kind = told.and_then(|kind| source.recorded(kind));
    match state.store.find(&source.name, &id, kind.as_ref()).await? {
        Found::Watch(watch) => {
            state.load_early(&watch);
            let is_polled = watcher.announce(watch.number);
            tracing::debug!(source = source.name, job_id = %id, is_polled, "hook received");
            Ok(if is_polled { HookResult::Polled } else { HookResult::Finished })
        }
        Found::Dropped => Ok(HookResult::Finished),
        Found::Nothing if hooks.register => {
            let kind = told.unwrap_or_else(|| source.kind_by_id(&id));
            register(state, watcher, id, kind).await
        }
        // A hook that does not say which of several kinds is meant announces none.
        Found::Nothing | Found::Several(_) => Ok(HookResult::Unknown),
    }
}

async fn register(
    state: &AppState,
    watcher: &SourceState,
    id: JobId,
    kind: &SourceKind,
) -> Result<HookResult, Problem> {
    if kind.profile.wanted_vars().next().is_some() {
        // A hook brings no variables.
        return Ok(HookResult::Unknown);
    }
    state.store.check_space()?;
    let now = clock::now();
    let kind = watcher.source.recorded(kind);
    let registration = Registration { kind, only_new: true, ..Registration::new(&watcher.source.name, id) };
    let registered = state.store.register(vec![registration], now).await?.pop();
    if let Some(registered) = &registered {
        state.record_registration(registered, now);
    }
    Ok(match registered {
        Some(Registered::New(watch) | Registered::Again(watch)) => {
            watcher.announce(watch.number);
            HookResult::Registered
        }
        Some(Registered::Existing(watch)) if watcher.announce(watch.number) => HookResult::Polled,
        _ => HookResult::Finished,
    })
}
