//! `GET /v1/events`: the events as they happen, read from the store by each reader at its own pace. A reader
//! holds its place and at most one page, whatever its client does.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
};

use axum::{
    Extension,
    extract::State,
    http::HeaderMap,
    response::{
        IntoResponse as _, Response,
        sse::{Event as Message, Sse},
    },
};
use futures_util::{Stream, stream};
use tokio::{
    select,
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep_until},
};

use super::{
    AppState,
    event_list::Asked,
    patience::Line,
    problem::{Code, Problem, Query},
    requests::aside,
    view::{EventView, Page},
};
use crate::{
    config::StreamLimits,
    state::metrics::Metrics,
    store::{Event, EventFilter, NewestEvent},
    util::path_segment,
};

/// Events read at once, and about how many bytes of them.
const PAGE: usize = 100;
const PAGE_BYTES: usize = 64 << 10;

/// Follow the events, or list those that are kept.
///
/// With `Accept: application/json` pages of events, newest first; also without a preference in `Accept` when `routed` or
/// a parameter of the list is there. `routed=false` lists the events that no sink took.
///
/// Otherwise server-sent events: `id` is where the event stands (opaque), `event` its type, `data` one line of JSON: the
/// envelope without the job. Without `Last-Event-ID` it begins with what happens from now on, with it after that
/// event, or at the oldest that is kept. A comment comes every 15 seconds. A reader that falls more than 1000
/// events behind is sent `event: dropped` and cut off; it may come back with its last id.
#[utoipa::path(
    get, path = "/v1/events", tag = "events",
    params(
        ("source" = Option<String>, Query, description = "Only those of this source"),
        ("label.KEY" = Option<String>, Query, description = "Only those whose label KEY has this value"),
        ("routed" = Option<bool>, Query, description = "`false`: only those without a delivery to any sink; `true`: only those with one"),
        ("outcome" = Option<crate::model::job::Outcome>, Query, description = "List: only ends with this outcome"),
        ("since" = Option<String>, Query, description = "List: only those made at this time or later"),
        ("until" = Option<String>, Query, description = "List: only those made before this time"),
        ("limit" = Option<usize>, Query, description = "List: entries a page, at most 1000; 100 when left out"),
        ("cursor" = Option<String>, Query, description = "List: from `next_cursor` of the page before"),
        ("Last-Event-ID" = Option<String>, Header, description = "Stream: the id of the last event that was read"),
    ),
    responses(
        (status = 200, content((EventView = "text/event-stream"), (Page<EventView> = "application/json"))),
        (status = 400, body = super::view::Problem),
        (status = 503, body = super::view::Problem, description = "Too many readers"),
    )
)]
pub(super) async fn get(
    State(state): State<Arc<AppState>>,
    line: Option<Extension<Arc<Line>>>,
    headers: HeaderMap,
    Query(query): Query,
) -> Result<Response, Problem> {
    let asked = Asked::of(query)?;
    if asked.is_list(&headers) {
        return Ok(asked.page(&state).await?.into_response());
    }
    let filter = asked.for_stream()?;
    let line = line.map(|Extension(line)| line);
    Ok(follow(state, line, &headers, filter)?.into_response())
}

fn follow(
    state: Arc<AppState>,
    line: Option<Arc<Line>>,
    headers: &HeaderMap,
    filter: EventFilter,
) -> Result<Sse<impl Stream<Item = Result<Message, Infallible>> + use<>>, Problem> {
    let newest = state.store.newest_event();
    let now = *newest.borrow();
    let after = match headers.get("last-event-id") {
        // One of a data folder that was replaced: there is nothing before now that it could mean.
        Some(id) => last_id(id)?.min(now.number),
        None => now.number,
    };
    let place = Place::take(&state, line)?;
    let limits = state.server.streams;
    let reader = Reader {
        filter,
        newest,
        limits,
        position: after,
        goal: now,
        caught_up: false,
        // An id alone moves the client's place without being an event, so that it can come back from here.
        page: VecDeque::from([Message::default().id(after.to_string())]),
        beat: Instant::now() + limits.heartbeat,
        over: false,
        place,
        state,
    };
    Ok(Sse::new(stream::unfold(reader, Reader::next)))
}

fn last_id(id: &http::HeaderValue) -> Result<u64, Problem> {
    id.to_str().ok().and_then(|id| id.parse().ok()).ok_or_else(|| {
        Problem::new(
            Code::BadLastEventId,
            "the header Last-Event-ID must be the id of an event of this stream",
        )
    })
}

/// A reader's place among the bounded number of them.
struct Place {
    metrics: Arc<Metrics>,
    line: Option<Arc<Line>>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn take(state: &AppState, line: Option<Arc<Line>>) -> Result<Self, Problem> {
        let permit = Arc::clone(&state.server.readers).try_acquire_owned().map_err(|_| {
            let detail = format!("{} readers follow the events already", state.server.streams.readers);
            Problem::new(Code::TooManyReaders, detail)
        })?;
        if let Some(line) = &line {
            line.streaming.store(true, Ordering::Release);
        }
        state.metrics.event_readers.inc();
        Ok(Self { metrics: Arc::clone(&state.metrics), line, _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.event_readers.dec();
        if let Some(line) = &self.line {
            line.streaming.store(false, Ordering::Release);
            if line.stalled.load(Ordering::Acquire) {
                self.metrics.event_readers_dropped.with_label_values(&["write_timeout"]).inc();
            }
        }
    }
}

/// One client that follows the events.
struct Reader {
    state: Arc<AppState>,
    filter: EventFilter,
    newest: watch::Receiver<NewestEvent>,
    limits: StreamLimits,
    /// Everything up to here was looked at.
    position: u64,
    /// How far the present stretch goes.
    goal: NewestEvent,
    /// It has been at the newest event; before that it is catching up and may take its time.
    caught_up: bool,
    page: VecDeque<Message>,
    beat: Instant,
    over: bool,
    place: Place,
}

impl Reader {
    /// The next message; it is asked for only when the client has taken what came before.
    async fn next(mut self) -> Option<(Result<Message, Infallible>, Self)> {
        let stop = self.state.shutdown.clone();
        loop {
            if let Some(message) = self.page.pop_front() {
                self.beat = Instant::now() + self.limits.heartbeat;
                return Some((Ok(message), self));
            }
            if self.over || stop.is_cancelled() {
                return None;
            }
            let newest = *self.newest.borrow_and_update();
            if self.caught_up && newest.count.saturating_sub(self.goal.count) > self.limits.behind {
                self.drop_out();
            } else if self.position < self.goal.number {
                self.read().await;
            } else if newest.number > self.goal.number {
                self.goal = newest;
            } else {
                self.caught_up = true;
                select! {
                    // News for one that waited is no falling behind, however much it is.
                    changed = self.newest.changed() => match changed {
                        Ok(()) => self.goal = *self.newest.borrow_and_update(),
                        Err(_) => self.over = true,
                    },
                    () = sleep_until(self.beat) => {
                        self.page.push_back(Message::default().comment("").id(self.position.to_string()));
                    }
                    () = stop.cancelled() => return None,
                }
            }
        }
    }

    async fn read(&mut self) {
        let (after, until) = (self.position, self.goal.number);
        let filter = self.filter.clone();
        let read = aside(&self.state, move |state| {
            let events = state.store.events_after(after, until, PAGE, PAGE_BYTES)?;
            // A page that is empty although there should be more: those were dropped.
            let position = events.last().map_or(until, |(number, _)| *number);
            let mut page = VecDeque::new();
            for (number, event) in events.into_iter().filter(|(_, event)| filter.takes(event)) {
                if filter.routed.is_none() || filter.routed == Some(state.store.is_routed(number)?) {
                    page.push_back(message(number, event));
                }
            }
            Ok((position, page))
        });
        match read.await {
            Ok((position, page)) => (self.position, self.page) = (position, page),
            Err(problem) => {
                tracing::warn!(error = problem.detail(), "a reader of the events is sent away");
                self.over = true;
            }
        }
    }

    fn drop_out(&mut self) {
        let reason = format!("the reader fell more than {} events behind", self.limits.behind);
        tracing::warn!(reason, "a reader of the events was dropped");
        self.place.metrics.event_readers_dropped.with_label_values(&["behind"]).inc();
        let data = serde_json::json!({"code": "behind", "reason": reason}).to_string();
        self.page.push_back(Message::default().event("dropped").data(data));
        self.over = true;
    }
}

fn message(number: u64, event: Event) -> Message {
    let view = view(event);
    // A record of texts and numbers is always JSON.
    let data = serde_json::to_string(&view).unwrap_or_default();
    Message::default().id(number.to_string()).event(view.event_type).data(data)
}

pub(super) fn view(event: Event) -> EventView {
    let news = event.news;
    let job = news.job();
    let path = format!(
        "/v1/watches/{}/{}/job",
        path_segment::encode(&event.source),
        path_segment::encode(event.job_id.as_str())
    );
    EventView {
        event_type: news.event_type().as_str().to_owned(),
        timestamp: news.time(),
        created_at: Some(event.created_at),
        id: news.event_id().to_owned(),
        outcome: news.event_type().outcome(),
        status: news.status().map(str::to_owned),
        reason: news.reason().map(str::to_owned),
        job_size: job.map(|job| job.size),
        job: job.map(|_| path),
        source: event.source,
        job_id: event.job_id,
        labels: event.labels,
    }
}
