//! `/v1/watches`: registers jobs, shows their watches and returns their results.

use std::{io, ops::Range, sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::{
    AppState, accept,
    body::{Batch, Input, JsonBody, MAX_BATCH},
    convert::{watch_view, watch_views},
    problem::{Code, Named, Problem, Query, bad_parameter, unknown_parameter, word},
    range::{Wanted, wanted},
    requests::{
        self, Listed, cursor, cursor_text, id_prefix, limit, named_kind, registration, registration_of,
    },
    view::{BatchAnswer, BatchRequest, Page, Rejected, WatchRequest, WatchView},
};
use crate::{
    model::{
        group::GroupName,
        job::{Kind, Outcome, Phase},
    },
    store::{Found, Registered, Registration, StoreError, StoredJob, Watch, WatchFilter, is_missing},
    telemetry::TraceParent,
    util::{
        clock,
        units::{self},
    },
};

/// The longest wait of one request.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// Watch a job.
///
/// The watch is on disk before the answer, so a later crash does not lose it.
#[utoipa::path(
    post, path = "/v1/watches", tag = "watches", request_body = WatchRequest,
    responses(
        (status = 202, body = WatchView, description = "The watch is new, or it was finished and starts again"),
        (status = 200, body = WatchView, description = "The job is already watched; its labels were merged, the rest was replaced"),
        (status = 409, body = super::view::Problem, description = "A job with this id is watched with other `vars` or in another group, or the group is closed"),
        (status = 422, body = super::view::Problem, description = "The request is invalid; nothing was stored"),
        (status = 507, body = super::view::Problem, description = "The disk is full"),
    )
)]
pub(super) async fn register(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    Input(asked): Input<WatchRequest>,
) -> Result<(StatusCode, Json<WatchView>), Problem> {
    let now = clock::now();
    let registration =
        Registration { traceparent: TraceParent::of(&headers), ..registration(&state, asked, now)? };
    state.store.check_space()?;
    let registered = state.store.register(vec![registration], now).await?.pop();
    if let Some(registered) = &registered {
        state.record_registration(registered, now);
    }
    match registered {
        Some(Registered::New(watch) | Registered::Again(watch)) => {
            Ok((StatusCode::ACCEPTED, Json(watch_view(&state, &watch).await?)))
        }
        Some(Registered::Existing(watch)) => Ok((StatusCode::OK, Json(watch_view(&state, &watch).await?))),
        Some(Registered::OtherVars) => Err(other_vars()),
        Some(Registered::OtherGroup(present)) => Err(other_group(&present)),
        Some(Registered::GroupClosed) => Err(group_closed()),
        Some(Registered::Unreadable(reason)) => Err(unreadable(reason)),
        Some(Registered::TooManyLabels) | None => Err(too_many_labels()),
    }
}

fn too_many_labels() -> Problem {
    Problem::new(Code::InvalidLabels, "together with its present labels the watch would have more than 16")
}

/// Returns the problem of a watch whose record is damaged. `DELETE` can still remove it.
fn unreadable(reason: String) -> Problem {
    StoreError::Record(reason).into()
}

fn other_vars() -> Problem {
    let detail = "a job with this id is watched with other `vars`; jobs with equal ids need a source each";
    Problem::new(Code::VarsConflict, detail)
}

fn other_group(present: &GroupName) -> Problem {
    Problem::new(Code::GroupConflict, format!("the watch of this job belongs to the group `{present}`"))
}

fn group_closed() -> Problem {
    Problem::new(Code::GroupClosed, "the group is closed, and this job is none of its members")
}

/// Watch many jobs, in one durable commit.
#[utoipa::path(
    post, path = "/v1/watches/batch", tag = "watches", request_body = BatchRequest,
    responses(
        (status = 200, body = BatchAnswer, description = "The result of each entry; accepted watches are on disk"),
        (status = 422, body = super::view::Problem, description = "The body is not a batch; nothing was stored"),
    )
)]
pub(super) async fn register_batch(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Json<BatchAnswer>, Problem> {
    let Batch { watches, close_group } = body.parse()?;
    if watches.count > MAX_BATCH {
        let detail = format!("a batch holds at most {MAX_BATCH} watches; this one has {}", watches.count);
        return Err(Problem::new(Code::BatchTooLarge, detail));
    }
    let now = clock::now();
    let traceparent = TraceParent::of(&headers);
    let mut rejected = Vec::new();
    let mut indices = Vec::new();
    let mut registrations: Vec<Registration> = Vec::new();
    for (index, value) in watches.first.into_iter().enumerate() {
        match registration_of(&state, value, now) {
            Ok(registration) => {
                indices.push(index);
                registrations.push(Registration { traceparent, ..registration });
            }
            Err(problem) => rejected.push(reject(index, &problem)),
        }
    }
    state.store.check_space()?;
    if close_group && rejected.is_empty() && registrations.iter().all(|one| one.group.is_none()) {
        let detail = "`close_group` closes the groups that the watches name, and none names one";
        return Err(Problem::new(Code::InvalidBody, detail));
    }
    // A group must not finish without the jobs that the caller has to send again.
    let (results, closed) = match close_group && rejected.is_empty() {
        true => state.store.register_and_close(registrations, now).await?,
        false => (state.store.register(registrations, now).await?, Vec::new()),
    };
    let closed_groups = closed.into_iter().map(String::from).collect();
    let mut answer = BatchAnswer { accepted: 0, existing: 0, rejected: Vec::new(), closed_groups };
    for (index, registered) in indices.into_iter().zip(results) {
        state.record_registration(&registered, now);
        match registered {
            Registered::New(_) | Registered::Again(_) => answer.accepted += 1,
            Registered::Existing(_) => answer.existing += 1,
            Registered::TooManyLabels => rejected.push(reject(index, &too_many_labels())),
            Registered::OtherVars => rejected.push(reject(index, &other_vars())),
            Registered::OtherGroup(present) => rejected.push(reject(index, &other_group(&present))),
            Registered::GroupClosed => rejected.push(reject(index, &group_closed())),
            Registered::Unreadable(reason) => rejected.push(reject(index, &unreadable(reason))),
        }
    }
    rejected.sort_by_key(|rejected| rejected.index);
    answer.rejected = rejected;
    Ok(Json(answer))
}

fn reject(index: usize, problem: &Problem) -> Rejected {
    Rejected { index, code: problem.code().as_str().to_owned(), detail: problem.detail().to_owned() }
}

/// List watches, newest first.
#[utoipa::path(
    get, path = "/v1/watches", tag = "watches",
    params(
        ("phase" = Option<Phase>, Query, description = "Only watches in this phase"),
        ("source" = Option<String>, Query, description = "Only watches of this source"),
        ("kind" = Option<String>, Query, description = "Only watches of this kind of job"),
        ("status" = Option<String>, Query, description = "Only watches with this last status"),
        ("outcome" = Option<Outcome>, Query, description = "Only watches with this outcome"),
        ("group" = Option<String>, Query, description = "Only watches of this group"),
        ("label.KEY" = Option<String>, Query, description = "Only watches whose label KEY has this value"),
        ("job_id_prefix" = Option<String>, Query, description = "Only watches of jobs whose id begins like this"),
        ("limit" = Option<usize>, Query, description = "Entries a page, at most 1000; default 100"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the previous page"),
    ),
    responses((status = 200, body = Page<WatchView>))
)]
pub(super) async fn list(
    State(state): State<Arc<AppState>>,
    Query(query): Query,
) -> Result<Json<Page<WatchView>>, Problem> {
    const KNOWN: &str =
        "phase, source, kind, status, outcome, group, label.KEY, job_id_prefix, limit and cursor";
    let mut filter = WatchFilter::default();
    let (mut from, mut size) = (None, 100);
    for (key, value) in query {
        match key.as_str() {
            "phase" => filter.phase = Some(word(&key, &value)?),
            "outcome" => filter.outcome = Some(word(&key, &value)?),
            "source" => filter.source = Some(value),
            "kind" => filter.kind = Some(value),
            "status" => filter.status = Some(value),
            "group" => filter.group = Some(value),
            "job_id_prefix" => filter.job_id_prefix = Some(id_prefix(&key, value)?),
            "limit" => size = limit(&value)?,
            "cursor" => from = Some(cursor(Listed::Watches, &value)?),
            _ => match key.strip_prefix("label.") {
                Some(label) => filter.labels.push((label.to_owned(), value)),
                None => return Err(unknown_parameter(&key, KNOWN)),
            },
        }
    }
    let listing = state.store.watches(&filter, from, size).await?;
    let data = watch_views(&state, &listing.entries).await?;
    Ok(Json(Page { data, next_cursor: listing.next.map(|key| cursor_text(Listed::Watches, &key)) }))
}

/// Show one watch.
#[utoipa::path(
    get, path = "/v1/watches/{source}/{job_id}", tag = "watches",
    params(
        ("source" = String, Path), ("job_id" = String, Path, description = "Percent-encoded"),
        ("kind" = Option<String>, Query, description = "The kind of the job, for an id that is watched under several"),
    ),
    responses((status = 200, body = WatchView), (status = 404, body = super::view::Problem))
)]
pub(super) async fn get(
    State(state): State<Arc<AppState>>,
    named: Named,
) -> Result<Json<WatchView>, Problem> {
    let watch = find(&state, &named).await?;
    Ok(Json(watch_view(&state, &watch).await?))
}

/// Returns what is known of a job. A kind that left the configuration still has its watches.
///
/// # Errors
/// If the job is watched under several kinds and none is named, or nobody knows the named kind.
async fn known(state: &AppState, named: &Named) -> Result<Found, Problem> {
    let (kind, unknown) = kind(state, named);
    match (state.store.find(&named.source, &named.job_id, kind.as_ref()).await?, unknown) {
        (Found::Several(kinds), _) => {
            let kinds = requests::list(kinds.iter().map(String::as_str));
            let detail = format!("the job `{}` is watched as {kinds}; name one as `kind`", named.job_id);
            Err(Problem::new(Code::KindMissing, detail))
        }
        (Found::Nothing, Some(problem)) => Err(problem),
        (found, _) => Ok(found),
    }
}

/// Returns the kind that a request names, and the problem if the configuration does not have it.
fn kind(state: &AppState, named: &Named) -> (Option<Kind>, Option<Problem>) {
    let Some(name) = &named.kind else { return (None, None) };
    match named_kind(state, &named.source, name) {
        Ok(kind) => (Some(kind), None),
        Err(problem) => (Some(Kind { name: name.clone(), is_default: false }), Some(problem.about_path())),
    }
}

pub(super) async fn find(state: &AppState, named: &Named) -> Result<Watch, Problem> {
    match known(state, named).await? {
        Found::Watch(watch) => Ok(*watch),
        Found::Dropped | Found::Nothing | Found::Several(_) => {
            Err(Problem::no_watch(&named.source, &named.job_id))
        }
    }
}

/// End a watch: the daemon stops polling the job and drops its pending deliveries.
#[utoipa::path(
    delete, path = "/v1/watches/{source}/{job_id}", tag = "watches",
    params(
        ("source" = String, Path), ("job_id" = String, Path, description = "Percent-encoded"),
        ("kind" = Option<String>, Query, description = "The kind of the job, for an id that is watched under several"),
    ),
    responses((status = 204), (status = 404, body = super::view::Problem))
)]
pub(super) async fn remove(State(state): State<Arc<AppState>>, named: Named) -> Result<StatusCode, Problem> {
    match known(&state, &named).await {
        // A record that cannot be read can be removed.
        Ok(_) => {}
        Err(problem) if problem.code() == Code::RecordUnreadable => {}
        Err(problem) => return Err(problem),
    }
    let (kind, _) = kind(&state, &named);
    match state.store.remove(&named.source, &named.job_id, kind.as_ref()).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::no_watch(&named.source, &named.job_id)),
    }
}

/// Poll a job now.
#[utoipa::path(
    post, path = "/v1/watches/{source}/{job_id}/poll", tag = "watches",
    params(
        ("source" = String, Path), ("job_id" = String, Path, description = "Percent-encoded"),
        ("kind" = Option<String>, Query, description = "The kind of the job, for an id that is watched under several"),
    ),
    responses(
        (status = 202, body = WatchView, description = "A poll is due now, if the job is still being polled"),
        (status = 404, body = super::view::Problem),
    )
)]
pub(super) async fn poll(
    State(state): State<Arc<AppState>>,
    named: Named,
) -> Result<(StatusCode, Json<WatchView>), Problem> {
    let watch = find(&state, &named).await?;
    state.load_early(&watch);
    if let Some(watcher) = state.components().watchers.get(&watch.source) {
        watcher.request_now(watch.number);
    }
    Ok((StatusCode::ACCEPTED, Json(watch_view(&state, &watch).await?)))
}

/// Wait until a job is finished and its result is stored.
#[utoipa::path(
    get, path = "/v1/watches/{source}/{job_id}/wait", tag = "watches",
    params(
        ("source" = String, Path), ("job_id" = String, Path, description = "Percent-encoded"),
        ("kind" = Option<String>, Query, description = "The kind of the job, for an id that is watched under several"),
        ("timeout" = Option<String>, Query, description = "At most 5m; default 30s"),
    ),
    responses(
        (status = 200, body = WatchView, description = "The job finished"),
        (status = 202, body = WatchView, description = "The timeout passed first"),
        (status = 404, body = super::view::Problem),
    )
)]
pub(super) async fn wait(
    State(state): State<Arc<AppState>>,
    named: Named,
    Query(query): Query,
) -> Result<(StatusCode, Json<WatchView>), Problem> {
    let mut timeout = Duration::from_secs(30);
    for (key, value) in query {
        match key.as_str() {
            "timeout" => {}
            "kind" => continue,
            _ => return Err(unknown_parameter(&key, "timeout and kind")),
        }
        let wanted = || bad_parameter("timeout", &value, "a duration such as 30s, at most 5m");
        let span: units::HumanDuration = value.parse().map_err(|_| wanted())?;
        timeout = Some(span.0).filter(|timeout| *timeout <= MAX_WAIT).ok_or_else(wanted)?;
    }
    let number = find(&state, &named).await?.number;
    let deadline = tokio::time::Instant::now() + timeout;
    loop {
        // Armed before the record is read, so that no completion is missed in between.
        let settled = state.waiters.wait(number);
        let watch = find(&state, &named).await?;
        if !matches!(watch.phase(), Phase::Watching | Phase::Fetching) {
            return Ok((StatusCode::OK, Json(watch_view(&state, &watch).await?)));
        }
        let stopped = state.shutdown.cancelled();
        let in_time = tokio::select! {
            done = tokio::time::timeout_at(deadline, settled) => done.is_ok(),
            () = stopped => false,
        };
        if !in_time {
            return Ok((StatusCode::ACCEPTED, Json(watch_view(&state, &find(&state, &named).await?).await?)));
        }
    }
}

/// Return the full job: the unchanged bytes of the source, or with `Range` a part of them.
#[utoipa::path(
    get, path = "/v1/watches/{source}/{job_id}/job", tag = "watches",
    params(
        ("source" = String, Path), ("job_id" = String, Path, description = "Percent-encoded"),
        ("kind" = Option<String>, Query, description = "The kind of the job, for an id that is watched under several"),
    ),
    responses(
        (status = 200, content_type = "application/json", description = "The job as its source sent it, with an ETag"),
        (status = 206, content_type = "application/json", description = "The bytes that `Range` names"),
        (status = 304, description = "The job is the one that If-None-Match names"),
        (status = 404, body = super::view::Problem, description = "No such watch, or the job was lost"),
        (status = 409, body = super::view::Problem, description = "It has not ended"),
        (status = 410, body = super::view::Problem, description = "It was dropped after retention"),
        (status = 416, body = super::view::Problem, description = "`Range` lies behind its end; `Content-Range` has its size"),
    )
)]
pub(super) async fn job(
    State(state): State<Arc<AppState>>,
    named: Named,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let gone = || {
        let detail = format!("the job `{}` was dropped after retention", named.job_id);
        Problem::new(Code::JobDropped, detail)
    };
    let watch = match known(&state, &named).await? {
        Found::Watch(watch) => watch,
        Found::Dropped => return Err(gone()),
        Found::Nothing | Found::Several(_) => return Err(Problem::no_watch(&named.source, &named.job_id)),
    };
    if matches!(watch.phase(), Phase::Watching | Phase::Fetching) {
        let detail =
            format!("the job `{}` is not finished yet; its phase is {}", named.job_id, watch.phase());
        return Err(Problem::new(Code::JobNotEnded, detail));
    }
    let Some((event_id, job)) =
        watch.completion.as_ref().and_then(|end| end.job.as_ref().map(|job| (&end.event_id, job)))
    else {
        let reason = watch
            .completion
            .as_ref()
            .and_then(|end| end.reason.as_deref())
            .unwrap_or("it could not be watched");
        return Err(Problem::new(Code::JobLost, format!("the job `{}` was lost: {reason}", named.job_id)));
    };
    let etag = format!("\"{}\"", job.sha256);
    if accept::has(&headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let part = match wanted(&method, &headers, &etag, job.size) {
        Wanted::Whole => None,
        Wanted::Part(part) => Some(part),
        Wanted::Nothing => return Ok(behind_end(job.size)),
    };
    // One that cannot be read now is not gone.
    let unread = |error: io::Error| match is_missing(&error) {
        true => gone(),
        false => StoreError::from(error).into(),
    };
    let mut response = stored_body(&state, watch.number, event_id, job, part).await.map_err(unread)?;
    response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    Ok(response)
}

/// Returns the answer to a range that lies behind the end of a job of this size.
fn behind_end(size: u64) -> Response {
    let detail = format!("the range lies behind the end of the job, which has {size} bytes");
    let problem = Problem::new(Code::RangeNotSatisfiable, detail);
    ([(header::CONTENT_RANGE, format!("bytes */{size}"))], problem).into_response()
}

/// The size of the chunks in which a stored job is read.
const CHUNK: usize = 64 << 10;

/// Returns an answer with the bytes of a stored job, or with a part of them, and their media type.
pub(crate) async fn stored_body(
    state: &AppState,
    watch: u64,
    event_id: &str,
    job: &StoredJob,
    part: Option<Range<u64>>,
) -> io::Result<Response> {
    let stored = state.store.bodies().get(watch, event_id, job);
    let Range { start, end } = part.clone().unwrap_or(0..job.size);
    let body = if let Some(bytes) = stored.bytes().await? {
        Body::from(cut(&bytes, start..end))
    } else {
        let mut stream = stored.stream(CHUNK).await?;
        if part.is_some() {
            stream.narrow(start..end).await?;
        }
        Body::from_stream(ReaderStream::with_capacity(stream.take(end - start), CHUNK))
    };
    let media_type = job.foreign_type().unwrap_or("application/json").to_owned();
    let is_json = is_json(&media_type);
    let headers = [
        (header::CONTENT_TYPE, media_type),
        (header::CONTENT_LENGTH, (end - start).to_string()),
        (header::ETAG, format!("\"{}\"", job.sha256)),
    ];
    let mut response = (headers, body).into_response();
    if part.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {start}-{}/{}", end.saturating_sub(1), job.size);
        let range = HeaderValue::try_from(range).map_err(io::Error::other)?;
        response.headers_mut().insert(header::CONTENT_RANGE, range);
    }
    if !is_json {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    }
    Ok(response)
}

/// Returns a part of these bytes, as far as they go.
fn cut(bytes: &Bytes, part: Range<u64>) -> Bytes {
    let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(place(part.start)..place(part.end))
}

/// Returns whether browsers show every body of this media type as text.
fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}
