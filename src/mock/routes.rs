//! The routes, and the gate in front of them that applies faults and counts requests.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, MatchedPath, Path, Query, Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::StreamExt;
use http::{HeaderValue, Method, StatusCode};
use serde_json::value::RawValue;

use super::{
    counters::Kind,
    faults::{Interception, Raw},
    job::JobPlan,
    list,
    payload::Payload,
    primitive::{PRIMITIVES, Primitive},
    refusal::{Refusal, answer},
    render::{self, Show, Warn},
    state::{Shared, lock},
};

/// The largest body of a create request.
const LARGEST_REQUEST: usize = 64 << 20;

type Held = State<Arc<Shared>>;
type Params = Query<HashMap<String, String>>;

/// Marks a response: the server closes the connection instead of answering.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hangup;

/// Returns the whole API, with and without the version in front, since clients use both.
pub(super) fn router(shared: &Arc<Shared>) -> Router {
    let jobs = || {
        let jobs = Router::new()
            .route("/jobs", post(create).get(list))
            .route("/jobs/{id}", get(retrieve))
            .route("/jobs/{id}/status", get(status))
            .route("/jobs/{id}/cancel", post(cancel))
            .route("/jobs/{id}/retry", post(retry));
        let with_runs = PRIMITIVES.iter().fold(jobs, |router, primitive| {
            let path = format!("/{}", primitive.path);
            let of = Extension(primitive);
            router
                .route(&path, post(start).get(list_runs).layer(of))
                .route(&format!("{path}/{{id}}"), get(retrieve_run).layer(of))
                .route(&format!("{path}/{{id}}/cancel"), post(cancel_run).layer(of))
        });
        with_runs.method_not_allowed_fallback(async || Refusal::unknown_method())
    };
    Router::new()
        .merge(jobs())
        .nest("/v1", jobs())
        .fallback(async || Refusal::unknown_route())
        .layer(DefaultBodyLimit::max(LARGEST_REQUEST))
        .layer(from_fn_with_state(Arc::clone(shared), gate))
        .with_state(Arc::clone(shared))
}

fn kind_of(method: &Method, path: Option<&MatchedPath>, params: &HashMap<String, String>) -> Kind {
    let path = path.map_or("", MatchedPath::as_str);
    let path = path.strip_prefix("/v1").unwrap_or(path);
    let Some((thing, rest)) = path.strip_prefix('/').map(|path| path.split_once('/').unwrap_or((path, "")))
    else {
        return Kind::Other;
    };
    let is_full = match thing {
        "jobs" => flag(params, "include_response", false),
        _ => flag(params, "include_output", true),
    };
    match (method, rest) {
        (&Method::POST, "") => Kind::Create,
        (&Method::GET, "") => Kind::List,
        (&Method::GET, "{id}/status") => Kind::Status,
        (&Method::GET, "{id}") if is_full.unwrap_or(false) => Kind::Full,
        (&Method::GET, "{id}") => Kind::Light,
        (&Method::POST, "{id}/cancel") => Kind::Cancel,
        (&Method::POST, "{id}/retry") => Kind::Retry,
        _ => Kind::Other,
    }
}

async fn gate(
    State(shared): Held,
    path: Option<MatchedPath>,
    id: Option<Path<String>>,
    Query(params): Params,
    request: Request,
    next: Next,
) -> Response {
    let kind = kind_of(request.method(), path.as_ref(), &params);
    let id = id.map_or_else(String::new, |Path(id)| id);
    let in_flight = shared.counters.arrive(kind, &id);
    let lot = shared.lot();
    let latency = lock(&shared.faults).latency;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let verdict = lock(&shared.faults).judge(request.headers(), lot);
    let mut response = match verdict {
        Interception::Pass => next.run(request).await,
        Interception::Refuse(refusal) => refusal.into_response(),
        Interception::Hangup => {
            shared.counters.answered(0);
            let mut response = Response::new(Body::empty());
            response.extensions_mut().insert(Hangup);
            return response;
        }
    };
    shared.counters.answered(response.status().as_u16());
    if let Ok(value) = HeaderValue::from_str(&format!("req_mock{:08x}", lot.serial)) {
        response.headers_mut().insert("x-request-id", value);
    }
    // The request counts as open until the last byte of its answer is out.
    response.map(|body| {
        Body::from_stream(body.into_data_stream().map(move |chunk| {
            let _open = &in_flight;
            chunk
        }))
    })
}

/// Reads a boolean of the query.
pub(super) fn flag(params: &HashMap<String, String>, key: &str, absent: bool) -> Result<bool, Refusal> {
    match params.get(key).map(String::as_str) {
        None => Ok(absent),
        Some("false" | "False" | "0") => Ok(false),
        Some("true" | "True" | "1") => Ok(true),
        Some(_) => Err(Refusal::field(&["query", key], "Input should be a valid boolean", "bool_parsing")),
    }
}

/// Returns the exact answer for this id, if there is one.
fn raw(shared: &Shared, id: &str, body: impl Fn(&Raw) -> Option<Bytes>) -> Option<(StatusCode, Payload)> {
    let faults = lock(&shared.faults);
    let raw = faults.raw.get(id)?;
    let status = StatusCode::from_u16(raw.code).unwrap_or(StatusCode::OK);
    Some((status, Payload::default().text(body(raw)?)))
}

/// Reads a job or run, and counts the read.
fn read(shared: &Shared, primitive: Option<&Primitive>, id: &str, show: Show) -> Result<Payload, Refusal> {
    let lag = lock(&shared.faults).lag;
    let now = shared.now();
    let mut jobs = lock(&shared.jobs);
    let job = jobs.find(primitive, id)?;
    job.reads = job.reads.saturating_add(1);
    if job.reads <= lag.requests || now.since(job.life.created()) < lag.period {
        return Err(Refusal::unknown_job());
    }
    Ok(render::job(job, &job.life.at(now), shared.timestamps(), show))
}

async fn status(State(shared): Held, Path(id): Path<String>) -> Result<Response, Refusal> {
    if lock(&shared.faults).no_status_route {
        return Err(Refusal::unknown_route());
    }
    if let Some((code, body)) = raw(&shared, &id, |raw| raw.status.clone()) {
        return Ok(answer(code, body, None));
    }
    Ok(answer(StatusCode::OK, read(&shared, None, &id, Show::default())?, None))
}

async fn retrieve(
    State(shared): Held,
    Path(id): Path<String>,
    Query(params): Params,
) -> Result<Response, Refusal> {
    let show = Show {
        request: flag(&params, "include_request", false)?,
        response: flag(&params, "include_response", false)?,
        warnings: Warn::Nothing,
    };
    whole_or_light(&shared, None, &id, show)
}

/// Answers a retrieve, whose bytes a fault may set or cut.
fn whole_or_light(
    shared: &Shared,
    primitive: Option<&Primitive>,
    id: &str,
    show: Show,
) -> Result<Response, Refusal> {
    let exact = if show.response {
        raw(shared, id, |raw| raw.full.clone())
    } else {
        raw(shared, id, |raw| raw.status.clone())
    };
    let (code, body) = match exact {
        Some(exact) => exact,
        None => (StatusCode::OK, read(shared, primitive, id, show)?),
    };
    let cut = show.response.then(|| lock(&shared.faults).take_cut(body.len())).flatten();
    Ok(answer(code, body, cut))
}

async fn list(State(shared): Held, Query(params): Params) -> Result<Response, Refusal> {
    Ok(answer(StatusCode::OK, list::page(&shared, None, &params)?, None))
}

async fn create(State(shared): Held, body: Bytes) -> Result<Response, Refusal> {
    let plan = read_create(&body)?;
    let late = lock(&shared.faults).late_dispatch;
    let job = shared.make(plan, None);
    let (status, warnings) =
        if late { (StatusCode::ACCEPTED, Warn::Late) } else { (StatusCode::OK, Warn::Nothing) };
    let show = Show { request: true, response: true, warnings };
    Ok(answer(status, render::job(&job, &job.life.fresh(), shared.timestamps(), show), None))
}

async fn list_runs(
    State(shared): Held,
    Extension(primitive): Extension<&'static Primitive>,
    Query(params): Params,
) -> Result<Response, Refusal> {
    Ok(answer(StatusCode::OK, list::page(&shared, Some(primitive), &params)?, None))
}

async fn retrieve_run(
    State(shared): Held,
    Extension(primitive): Extension<&'static Primitive>,
    Path(id): Path<String>,
    Query(params): Params,
) -> Result<Response, Refusal> {
    let show = Show { response: flag(&params, "include_output", true)?, ..Show::default() };
    whole_or_light(&shared, Some(primitive), &id, show)
}

/// Starts a run in the background, or completes one at once.
async fn start(
    State(shared): Held,
    Extension(primitive): Extension<&'static Primitive>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let fields = fields(&body)?;
    let run = primitive.run(&fields)?;
    let is_set = |key: &str| match fields.get(key).map(|raw| raw.get()) {
        None | Some("false" | "null") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Refusal::field(&["body", key], "Input should be a valid boolean", "bool_type")),
    };
    if is_set("stream")? {
        return Err(Refusal::invalid("Unsupported field", "the mock does not stream"));
    }
    let is_in_background = is_set("background")?;
    let mut plan = JobPlan { metadata: metadata(&fields)?, ..JobPlan::default() };
    plan.heed_metadata().map_err(|error| Refusal::invalid("Bad wish for the mock", &error))?;
    if !is_in_background {
        plan.duration = Some(Duration::ZERO);
    }
    let job = shared.make(plan, Some(run));
    let moment = if is_in_background { job.life.fresh() } else { job.life.at(shared.now()) };
    let show = Show { response: true, ..Show::default() };
    Ok(answer(StatusCode::CREATED, render::job(&job, &moment, shared.timestamps(), show), None))
}

/// Cancels a run. One that has ended stays as it is.
async fn cancel_run(
    State(shared): Held,
    Extension(primitive): Extension<&'static Primitive>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let now = shared.now();
    let mut jobs = lock(&shared.jobs);
    let job = jobs.find(Some(primitive), &id)?;
    job.life.cancel(now);
    let show = Show { response: true, ..Show::default() };
    Ok(answer(StatusCode::OK, render::job(job, &job.life.at(now), shared.timestamps(), show), None))
}

/// The fields of a request, each as it is written.
type Fields = BTreeMap<String, Box<RawValue>>;

fn fields(body: &[u8]) -> Result<Fields, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| Refusal::field(&["body"], &error.to_string(), "json_invalid"))
}

/// Checks the body of a create request as the API does: each kind of mistake has its own shape.
fn read_create(body: &[u8]) -> Result<JobPlan, Refusal> {
    let fields = fields(body)?;
    let field = |key: &'static str| {
        let missing = || Refusal::field(&["body", key], "Field required", "missing");
        fields.get(key).filter(|raw| raw.get() != "null").ok_or_else(missing)
    };
    let endpoint: String = serde_json::from_str(field("endpoint")?.get()).map_err(|_| {
        Refusal::field(&["body", "endpoint"], "Input should be a valid string", "string_type")
    })?;
    let request = field("request")?;
    if !request.get().starts_with('{') {
        let msg = "Input should be a valid dictionary";
        return Err(Refusal::field(&["body", "request"], msg, "dict_type"));
    }
    if !endpoint.starts_with("/v1/") || endpoint.starts_with("/v1/jobs") {
        return Err(Refusal::invalid("Unsupported endpoint", &format!("`{endpoint}` cannot run as a job")));
    }
    let metadata = metadata(&fields)?;
    let mut plan =
        JobPlan { endpoint: Some(endpoint), request: Some(request.clone()), metadata, ..JobPlan::default() };
    plan.heed_metadata().map_err(|error| Refusal::invalid("Bad wish for the mock", &error))?;
    Ok(plan)
}

fn metadata(fields: &Fields) -> Result<Option<BTreeMap<String, String>>, Refusal> {
    let metadata: Option<BTreeMap<String, String>> = match fields.get("metadata") {
        None => None,
        Some(raw) => serde_json::from_str(raw.get()).map_err(|_| {
            let msg = "Input should be a dictionary of strings";
            Refusal::field(&["body", "metadata"], msg, "dict_type")
        })?,
    };
    if let Some(pairs) = &metadata {
        check_metadata(pairs).map_err(|msg| Refusal::global(&["body", "metadata"], msg, "value_error"))?;
    }
    Ok(metadata)
}

fn check_metadata(pairs: &BTreeMap<String, String>) -> Result<(), &'static str> {
    if pairs.len() > 16 {
        Err("Value error, metadata holds at most 16 pairs")
    } else if pairs.keys().any(|key| key.len() > 64) {
        Err("Value error, a metadata key has at most 64 characters")
    } else if pairs.values().any(|value| value.len() > 512) {
        Err("Value error, a metadata value has at most 512 characters")
    } else {
        Ok(())
    }
}

/// Cancels or retries a job, if its state allows that.
fn change(shared: &Shared, id: &str, kind: Kind) -> Result<Payload, Refusal> {
    let now = shared.now();
    let mut jobs = lock(&shared.jobs);
    let job = jobs.find(None, id)?;
    let (verb, done) = match kind {
        Kind::Retry => ("retry", job.retry(now, shared.defaults())),
        _ => ("cancel", job.life.cancel(now)),
    };
    if !done {
        let error = format!("Cannot {verb} a job that is {}", job.life.at(now).status);
        return Err(Refusal::http(StatusCode::BAD_REQUEST, "Bad Request", &error));
    }
    if kind == Kind::Retry {
        shared.announce(job, now);
    }
    let moment = if kind == Kind::Retry { job.life.fresh() } else { job.life.at(now) };
    let show = Show { response: true, warnings: Warn::Nothing, ..Show::default() };
    Ok(render::job(job, &moment, shared.timestamps(), show))
}

async fn cancel(State(shared): Held, Path(id): Path<String>) -> Result<Response, Refusal> {
    Ok(answer(StatusCode::OK, change(&shared, &id, Kind::Cancel)?, None))
}

async fn retry(State(shared): Held, Path(id): Path<String>) -> Result<Response, Refusal> {
    let body = change(&shared, &id, Kind::Retry)?;
    if lock(&shared.faults).late_dispatch {
        // The official client must find the job queued all the same.
        let text = "Retry queued; dispatch is delayed";
        return Err(Refusal::text(StatusCode::SERVICE_UNAVAILABLE, text));
    }
    Ok(answer(StatusCode::OK, body, None))
}
