//! `GET /v1/events`: a stream of events. Each reader reads the store at its own pace. A reader
//! holds its position and at most one page, however slow its client is.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::pending,
    sync::{Arc, atomic::Ordering},
    time::Duration,
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
    time::{Instant, sleep, sleep_until},
};

use super::{
    AppState,
    event_list::EventQuery,
    problem::{Code, Problem, Query},
    view::{EventView, Page},
    write_timeout::ConnectionFlags,
};
use crate::{
    config::StreamLimits,
    model::job::Kind,
    state::metrics::Metrics,
    store::{Event, EventFilter, NewestEvent, News, StoreError, Topic},
    util::path_segment,
};

/// The largest page that a reader reads at once: events, and about their bytes.
const PAGE: usize = 100;
const PAGE_BYTES: usize = 64 << 10;

/// Stream new events, or list the stored ones.
///
/// `Accept: application/json` returns pages of events, newest first. So does a request with
/// `routed` or a parameter of the list, if `Accept` prefers neither type. `routed=false` lists the
/// events without a delivery to any sink.
///
/// Every other request gets server-sent events: `id` is the opaque position of the event, `event`
/// its type, and `data` one line of JSON, the envelope without the job. The stream begins after
/// `Last-Event-ID`, or at the oldest stored event after it; without that header it begins with new
/// events. A comment arrives every 15 seconds. A reader that falls more than 1000 events behind
/// gets `event: dropped`, and the daemon closes the stream. It can continue with its last id.
///
/// With `changes=true` messages `event: changed` with the data `{}` and without an id come beside
/// them: something in the store changed, or the health of a source or a sink. The first comes at
/// once, and at most one a second.
#[utoipa::path(
    get, path = "/v1/events", tag = "events",
    params(
        ("types" = Option<String>, Query, description = "Only events of these types, separated by commas, with `*` for any text: `group.*,tidings.*`. Unset: those of jobs, `job.*`"),
        ("source" = Option<String>, Query, description = "Only events of this source"),
        ("label.KEY" = Option<String>, Query, description = "Only events whose label KEY has this value"),
        ("routed" = Option<bool>, Query, description = "`false`: only events without a delivery to any sink; `true`: only events with one"),
        ("changes" = Option<bool>, Query, description = "Stream: `true`: also tell that something changed, at most once a second"),
        ("outcome" = Option<crate::model::job::Outcome>, Query, description = "List: only finished jobs with this outcome"),
        ("since" = Option<String>, Query, description = "List: only events recorded at this time or later"),
        ("until" = Option<String>, Query, description = "List: only events recorded before this time"),
        ("limit" = Option<usize>, Query, description = "List: entries a page, at most 1000; default 100"),
        ("cursor" = Option<String>, Query, description = "List: `next_cursor` of the previous page"),
        ("Last-Event-ID" = Option<String>, Header, description = "Stream: the id of the last event that the client read"),
    ),
    responses(
        (status = 200, content((EventView = "text/event-stream"), (Page<EventView> = "application/json"))),
        (status = 400, body = super::view::Problem),
        (status = 503, body = super::view::Problem, description = "The limit of readers is reached"),
    )
)]
pub(super) async fn get(
    State(state): State<Arc<AppState>>,
    flags: Option<Extension<Arc<ConnectionFlags>>>,
    headers: HeaderMap,
    Query(query): Query,
) -> Result<Response, Problem> {
    let asked = EventQuery::of(query)?;
    if asked.is_list(&headers) {
        return Ok(asked.page(&state).await?.into_response());
    }
    let asked = asked.for_stream()?;
    let flags = flags.map(|Extension(flags)| flags);
    // nginx collects an answer unless it is told not to.
    let unbuffered = [("x-accel-buffering", "no")];
    Ok((unbuffered, stream_events(state, flags, &headers, asked)?).into_response())
}

fn stream_events(
    state: Arc<AppState>,
    flags: Option<Arc<ConnectionFlags>>,
    headers: &HeaderMap,
    (filter, changes): (EventFilter, bool),
) -> Result<Sse<impl Stream<Item = Result<Message, Infallible>> + use<>>, Problem> {
    let newest = state.store.newest_event();
    let now = *newest.borrow();
    let after = match headers.get("last-event-id") {
        // A larger id is from a data folder that was replaced; the stream then begins with new
        // events.
        Some(id) => last_id(id)?.min(now.number),
        None => now.number,
    };
    let slot = ReaderSlot::take(&state, flags)?;
    let limits = state.server.streams;
    let reader = EventReader {
        filter,
        newest,
        limits,
        position: after,
        goal: now,
        caught_up: false,
        // An id without data is no event, but moves the client's position, so that it can continue
        // from here.
        page: VecDeque::from([Message::default().id(after.to_string())]),
        beat: Instant::now() + limits.heartbeat,
        done: false,
        changes: changes.then(|| ChangeReader::new(&state)),
        slot,
        state,
    };
    Ok(Sse::new(stream::unfold(reader, EventReader::next)))
}

fn last_id(id: &http::HeaderValue) -> Result<u64, Problem> {
    id.to_str().ok().and_then(|id| id.parse().ok()).ok_or_else(|| {
        Problem::new(
            Code::BadLastEventId,
            "the header Last-Event-ID must be the id of an event of this stream",
        )
    })
}

/// One of the bounded number of readers. Its drop makes room for another one.
struct ReaderSlot {
    metrics: Arc<Metrics>,
    flags: Option<Arc<ConnectionFlags>>,
    _permit: OwnedSemaphorePermit,
}

impl ReaderSlot {
    fn take(state: &AppState, flags: Option<Arc<ConnectionFlags>>) -> Result<Self, Problem> {
        let permit = Arc::clone(&state.server.readers).try_acquire_owned().map_err(|_| {
            let detail =
                format!("{} readers stream events, which is the limit", state.server.streams.readers);
            Problem::new(Code::TooManyReaders, detail)
        })?;
        if let Some(flags) = &flags {
            flags.streaming.store(true, Ordering::Release);
        }
        state.metrics.event_readers.inc();
        Ok(Self { metrics: Arc::clone(&state.metrics), flags, _permit: permit })
    }
}

impl Drop for ReaderSlot {
    fn drop(&mut self) {
        self.metrics.event_readers.dec();
        if let Some(flags) = &self.flags {
            flags.streaming.store(false, Ordering::Release);
            if flags.stalled.load(Ordering::Acquire) {
                self.metrics.event_readers_dropped.with_label_values(&["write_timeout"]).inc();
            }
        }
    }
}

/// The stream of one client.
struct EventReader {
    state: Arc<AppState>,
    filter: EventFilter,
    newest: watch::Receiver<NewestEvent>,
    limits: StreamLimits,
    /// The last event that was read from the store.
    position: u64,
    /// The newest event of the present stretch.
    goal: NewestEvent,
    /// Whether the reader has reached the newest event once. Before that it may read at any pace.
    caught_up: bool,
    page: VecDeque<Message>,
    beat: Instant,
    done: bool,
    /// What it knows of changes, if it asked for them.
    changes: Option<ChangeReader>,
    slot: ReaderSlot,
}

impl EventReader {
    /// Returns the next message. Called only when the client has taken the previous one.
    async fn next(mut self) -> Option<(Result<Message, Infallible>, Self)> {
        let stop = self.state.shutdown.clone();
        loop {
            if let Some(message) = self.page.pop_front() {
                self.beat = Instant::now() + self.limits.heartbeat;
                return Some((Ok(message), self));
            }
            if self.done || stop.is_cancelled() {
                return None;
            }
            let newest = *self.newest.borrow_and_update();
            if self.caught_up && newest.count.saturating_sub(self.goal.count) > self.limits.behind {
                self.drop_reader();
            } else if self.position < self.goal.number {
                self.read().await;
            } else if newest.number > self.goal.number {
                self.goal = newest;
            } else {
                self.caught_up = true;
                select! {
                    // A reader that waited is not behind, however many events arrive at once.
                    changed = self.newest.changed() => match changed {
                        Ok(()) => self.goal = *self.newest.borrow_and_update(),
                        Err(_) => self.done = true,
                    },
                    () = changed(self.changes.as_mut(), &self.state) => {
                        self.page.push_back(Message::default().event("changed").data("{}"));
                    }
                    () = sleep_until(self.beat) => {
                        self.page.push_back(Message::default().comment("").id(self.position.to_string()));
                    }
                    () = stop.cancelled() => return None,
                }
            }
        }
    }

    async fn read(&mut self) {
        match self.next_page().await {
            Ok((position, page)) => (self.position, self.page) = (position, page),
            Err(error) => {
                tracing::warn!(%error, "event reader closed: the store cannot be read");
                self.done = true;
            }
        }
    }

    /// Reads the next messages from the store, with the position after them.
    async fn next_page(&self) -> Result<(u64, VecDeque<Message>), StoreError> {
        let (after, until) = (self.position, self.goal.number);
        let (store, filter) = (&self.state.store, &self.filter);
        let events = store.events_after(after, until, PAGE, PAGE_BYTES).await?;
        // Retention dropped the events of an empty page.
        let position = events.last().map_or(until, |(number, _)| *number);
        let mut page = VecDeque::new();
        for (number, event) in events.into_iter().filter(|(_, event)| filter.takes(event)) {
            if filter.routed.is_none() || filter.routed == Some(store.is_routed(number).await?) {
                page.push_back(message(number, event));
            }
        }
        Ok((position, page))
    }

    fn drop_reader(&mut self) {
        let reason = format!("the reader fell more than {} events behind", self.limits.behind);
        tracing::warn!(reason, "event reader dropped");
        self.slot.metrics.event_readers_dropped.with_label_values(&["behind"]).inc();
        let data = serde_json::json!({"code": "behind", "reason": reason}).to_string();
        self.page.push_back(Message::default().event("dropped").data(data));
        self.done = true;
    }
}

/// The least time between two messages `changed` of one reader. As often its health is compared.
const CHANGES: Duration = Duration::from_secs(1);

/// What a reader knows of changes. A slow reader costs no more: what it does not take becomes one message.
struct ChangeReader {
    revision: watch::Receiver<u64>,
    health: u64,
    /// Something changed since the last message.
    is_news: bool,
    /// When the last message was made.
    told: Option<Instant>,
}

impl ChangeReader {
    fn new(state: &AppState) -> Self {
        let (revision, health) = (state.store.revisions(), state.health_mark());
        Self { revision, health, is_news: false, told: None }
    }

    /// Waits until something changed and the last message is a second old. It may be dropped while it waits.
    async fn changed(&mut self, state: &AppState) {
        while !self.is_news {
            if self.health != state.health_mark() {
                break;
            }
            select! {
                // The sender lives as long as the store.
                _ = self.revision.changed() => self.is_news = true,
                () = sleep(CHANGES) => {}
            }
        }
        if let Some(told) = self.told {
            sleep_until(told + CHANGES).await;
        }
        self.revision.mark_unchanged();
        (self.health, self.is_news, self.told) = (state.health_mark(), false, Some(Instant::now()));
    }
}

/// Waits for a change, or for ever without a reader of changes.
async fn changed(reader: Option<&mut ChangeReader>, state: &AppState) {
    match reader {
        Some(reader) => reader.changed(state).await,
        None => pending().await,
    }
}

fn message(number: u64, event: Event) -> Message {
    let view = view(event);
    // A value of texts and numbers always becomes JSON.
    let data = serde_json::to_string(&view).unwrap_or_default();
    Message::default().id(number.to_string()).event(view.event_type).data(data)
}

pub(super) fn view(event: Event) -> EventView {
    let news = event.news;
    let (topic, group) = match event.topic {
        Topic::Job(job) => (Some(job), None),
        Topic::Group(group) => (None, Some(group.name.into())),
        Topic::Daemon => (None, None),
    };
    let job = topic.as_ref().and(news.job());
    let path = topic.as_ref().map(|topic| {
        let (source, job_id) =
            (path_segment::encode(&topic.source), path_segment::encode(topic.job_id.as_str()));
        let path = format!("/v1/watches/{source}/{job_id}/job");
        match topic.kind.as_ref().and_then(Kind::beside_id) {
            Some(kind) => format!("{path}?kind={}", path_segment::encode(kind)),
            None => path,
        }
    });
    let kind = topic.as_ref().and_then(|topic| Some(topic.kind.as_ref()?.name.clone()));
    let (source, job_id) = topic.map(|topic| (topic.source, topic.job_id)).unzip();
    EventView {
        event_type: news.event_type().as_str().to_owned(),
        timestamp: news.time(),
        created_at: Some(event.created_at),
        id: news.event_id().to_owned(),
        outcome: news.event_type().outcome(),
        status: news.status().map(str::to_owned),
        reason: news.reason().map(str::to_owned),
        job_size: job.map(|job| job.size),
        job: path.filter(|_| job.is_some()),
        data: match &news {
            News::Notice(given) => serde_json::from_str(&given.data).ok(),
            News::Completion(_) | News::Progress(_) | News::Group(_) => None,
        },
        source,
        job_id,
        kind,
        group,
        labels: event.labels,
    }
}
