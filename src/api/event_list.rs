//! The query of `/v1/events`, and the list of events as pages of JSON.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Json, http::HeaderMap};

use super::{
    AppState,
    events::view,
    problem::{Code, Problem, bad_parameter, unknown_parameter},
    requests::{cursor, cursor_text, limit},
    view::{EventView, Page},
};
use crate::{model::job::Outcome, store::EventFilter, util::units::Time};

/// The query of a request for events.
#[derive(Debug, Default)]
pub(super) struct EventQuery {
    pub(super) filter: EventFilter,
    limit: Option<usize>,
    cursor: Option<u64>,
    /// The given parameters that only the list takes.
    list_only: BTreeSet<String>,
}

impl EventQuery {
    pub(super) fn of(query: Vec<(String, String)>) -> Result<Self, Problem> {
        const KNOWN: &str = "source, label.KEY, routed, outcome, since, until, limit and cursor";
        let mut asked = Self::default();
        let filter = &mut asked.filter;
        let time = |key: &str, value: &str| {
            Time::parse(value).ok_or_else(|| bad_parameter(key, value, "a time such as 2026-11-23T17:00:00Z"))
        };
        for (key, value) in query {
            match key.as_str() {
                "source" => filter.source = Some(value),
                "routed" => {
                    let wanted = || bad_parameter("routed", &value, "true or false");
                    filter.routed = Some(value.parse().map_err(|_| wanted())?);
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
                "cursor" => asked.cursor = Some(cursor(&value)?),
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

    /// Returns the filter of the stream, or a problem for a parameter that only the list takes.
    pub(super) fn for_stream(self) -> Result<EventFilter, Problem> {
        match self.list_only.first() {
            Some(key) => {
                let detail = format!(
                    "the stream of events does not take `{key}`; the list does: send `Accept: application/json`"
                );
                Err(Problem::new(Code::BadParameter, detail))
            }
            None => Ok(self.filter),
        }
    }

    /// Reads the page from the store.
    pub(super) async fn page(self, state: &Arc<AppState>) -> Result<Json<Page<EventView>>, Problem> {
        let Self { filter, limit, cursor, .. } = self;
        let listing = state.store.events(&filter, cursor, limit.unwrap_or(100)).await?;
        let data = listing.entries.into_iter().map(view).collect();
        Ok(Json(Page { data, next_cursor: listing.next.map(cursor_text) }))
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
