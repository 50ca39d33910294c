//! The query of `/v1/events`, and the list of events as pages of JSON.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Json, http::HeaderMap};

use super::{
    AppState,
    events::view,
    problem::{Code, Problem, bad_parameter, time, unknown_parameter},
    requests::{Listed, cursor, cursor_text, limit},
    view::{EventView, Page},
};
use crate::{
    model::job::{EventType, Outcome},
    store::EventFilter,
    util::glob,
};

/// The types of events that a reader gets who names none.
const JOB_EVENTS: &str = "job.*";

/// Reads patterns of types.
fn types(text: &str) -> Result<Vec<String>, Problem> {
    let patterns: Vec<String> = text.split(',').map(|pattern| pattern.trim().to_owned()).collect();
    let matches =
        |pattern: &String| EventType::ALL.into_iter().any(|event| glob::matches(pattern, event.as_str()));
    match patterns.iter().all(matches) {
        true => Ok(patterns),
        false => {
            Err(bad_parameter("types", text, "types of events such as job.completed, group.* or tidings.*"))
        }
    }
}

/// The query of a request for events.
#[derive(Debug, Default)]
pub(super) struct EventQuery {
    pub(super) filter: EventFilter,
    /// Whether the stream also tells that something changed.
    pub(super) changes: bool,
    limit: Option<usize>,
    cursor: Option<u64>,
    /// The given parameters that only the list takes.
    list_only: BTreeSet<String>,
}

impl EventQuery {
    pub(super) fn of(query: Vec<(String, String)>) -> Result<Self, Problem> {
        const KNOWN: &str =
            "types, source, label.KEY, routed, changes, outcome, since, until, limit and cursor";
        let mut asked = Self::default();
        let filter = &mut asked.filter;
        // Readers of before there were other events get what they got.
        filter.types = vec![JOB_EVENTS.to_owned()];
        for (key, value) in query {
            match key.as_str() {
                "types" => filter.types = types(&value)?,
                "source" => filter.source = Some(value),
                "routed" => {
                    let wanted = || bad_parameter("routed", &value, "true or false");
                    filter.routed = Some(value.parse().map_err(|_| wanted())?);
                }
                "changes" => {
                    let wanted = || bad_parameter("changes", &value, "true or false");
                    asked.changes = value.parse().map_err(|_| wanted())?;
                }
                "outcome" => {
                    let known = Outcome::ALL.iter().find(|outcome| outcome.as_str() == value);
                    let wanted =
                        || bad_parameter("outcome", &value, "an outcome such as completed or failed");
                    filter.outcome = Some(*known.ok_or_else(wanted)?);
                }
                "since" => filter.since = Some(time(&key, &value)?),
                "until" => filter.until = Some(time(&key, &value)?),
                "limit" => asked.limit = Some(limit(&value)?),
                "cursor" => asked.cursor = Some(cursor(Listed::Events, &value)?),
                _ => match key.strip_prefix("label.") {
                    Some(label) => drop(filter.labels.insert(label.to_owned(), value)),
                    None => return Err(unknown_parameter(&key, KNOWN)),
                },
            }
            if matches!(key.as_str(), "outcome" | "since" | "until" | "limit" | "cursor") {
                asked.list_only.insert(key);
            }
        }
        Ok(asked)
    }

    /// Returns whether the request is for a page instead of the stream. `Accept` decides; without a
    /// preference there, the parameters do.
    pub(super) fn is_list(&self, headers: &HeaderMap) -> bool {
        let accept: Vec<&str> =
            headers.get_all(http::header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
        let accept = accept.join(",");
        let (json, stream) = (quality(&accept, "application/json"), quality(&accept, "text/event-stream"));
        match json == stream {
            true => self.filter.routed.is_some() || !self.list_only.is_empty(),
            false => json > stream,
        }
    }

    /// Returns the filter of the stream and whether it tells changes, or a problem for a parameter that only the list
    /// takes.
    pub(super) fn for_stream(self) -> Result<(EventFilter, bool), Problem> {
        match self.list_only.first() {
            Some(key) => {
                let detail = format!(
                    "the stream of events does not take `{key}`; the list does: send `Accept: application/json`"
                );
                Err(Problem::new(Code::BadParameter, detail))
            }
            None => Ok((self.filter, self.changes)),
        }
    }

    /// Reads the page from the store.
    pub(super) async fn page(self, state: &Arc<AppState>) -> Result<Json<Page<EventView>>, Problem> {
        let Self { filter, changes, limit, cursor, .. } = self;
        if changes {
            let detail = "the list of events does not take `changes`; the stream does: send `Accept: text/event-stream`";
            return Err(Problem::new(Code::BadParameter, detail));
        }
        let listing = state.store.events(&filter, cursor, limit.unwrap_or(100)).await?;
        let data = listing.entries.into_iter().map(view).collect();
        Ok(Json(Page { data, next_cursor: listing.next.map(|key| cursor_text(Listed::Events, &key)) }))
    }
}

/// Returns the weight of a media type in the header `Accept`, in thousandths. The most specific
/// range that contains the type decides.
fn quality(accept: &str, media_type: &str) -> u16 {
    if accept.trim().is_empty() {
        return 1000;
    }
    let family = media_type.split('/').next().unwrap_or_default();
    let ranges = accept.split(',').filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next()?.to_ascii_lowercase();
        let specific = match name.split_once('/')? {
            _ if name == media_type => 3,
            (kind, "*") if kind == family => 2,
            ("*", "*") => 1,
            _ => return None,
        };
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.trim().parse::<f32>().ok());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it lies between 0 and 1000"
        )]
        Some((specific, (weight.unwrap_or(1.0).clamp(0.0, 1.0) * 1000.0) as u16))
    });
    ranges.max().map_or(0, |(_, weight)| weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_asked_for_by_its_media_type_or_its_parameters() {
        let (none, routed, limited) = ("", "routed=false", "limit=5");
        let table = [
            ("", none, false),
            ("", routed, true),
            ("", limited, true),
            ("*/*", none, false),
            ("*/*", routed, true),
            ("application/json", none, true),
            ("application/json; charset=utf-8", routed, true),
            ("Application/*", none, true),
            ("text/event-stream", none, false),
            ("text/event-stream", routed, false),
            ("text/*, */*;q=0.1", routed, false),
            ("application/json, text/event-stream", none, false),
            ("application/json, text/event-stream", routed, true),
            ("application/json;q=0.5, text/event-stream", routed, false),
            ("text/event-stream;q=0, */*", none, true),
            ("text/html", none, false),
            ("nonsense;;q=x,", none, false),
        ];
        for (accept, query, is_list) in table {
            let pairs = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
            let mut headers = HeaderMap::new();
            if !accept.is_empty() {
                headers.insert("accept", accept.parse().unwrap());
            }
            let asked = EventQuery::of(pairs).unwrap();
            assert_eq!(asked.is_list(&headers), is_list, "{accept:?} {query:?}");
        }
    }
}
