//! `GET /v1/jobs`, `GET /v1/extractions` and the like: filters, order and pages.

use std::collections::{BTreeMap, HashMap};

use http::StatusCode;

use super::{
    payload::Payload,
    primitive::Primitive,
    refusal::Refusal,
    render::{self, Page, Show, Timestamps, Warn},
    routes::flag,
    state::{Jobs, MockJob, Shared, lock},
};
use crate::util::units::Time;

/// A parsed query.
#[derive(Debug)]
struct Query<'a> {
    primitive: Option<&'static Primitive>,
    limit: usize,
    after: Option<&'a str>,
    before: Option<&'a str>,
    newest_first: bool,
    status: Option<&'a str>,
    id: Option<&'a str>,
    endpoint: Option<&'a str>,
    metadata: BTreeMap<String, String>,
    show: Show,
}

impl<'a> Query<'a> {
    fn read(
        primitive: Option<&'static Primitive>,
        params: &'a HashMap<String, String>,
    ) -> Result<Self, Refusal> {
        let text = |key: &str| params.get(key).map(String::as_str);
        let show = Show {
            request: flag(params, "include_request", false)?,
            response: primitive.is_some() || flag(params, "include_response", false)?,
            warnings: Warn::Nothing,
        };
        let most = if show.response && primitive.is_none() { 20 } else { 100 };
        let limit = match text("limit") {
            None if primitive.is_some() => 10,
            None => 20,
            Some(limit) => {
                limit.parse().ok().filter(|limit| (1..=most).contains(limit)).ok_or_else(|| {
                    let msg = format!("Input should be a number from 1 to {most}");
                    Refusal::field(&["query", "limit"], &msg, "int_range")
                })?
            }
        };
        let newest_first = match text("order") {
            None | Some("desc") => true,
            Some("asc") => false,
            Some(_) => {
                return Err(Refusal::field(&["query", "order"], "Input should be 'asc' or 'desc'", "enum"));
            }
        };
        let (after, before) = (text("after"), text("before"));
        if after.is_some() && before.is_some() {
            return Err(Refusal::text(StatusCode::BAD_REQUEST, "Use either after or before"));
        }
        let metadata = match text("metadata") {
            None => BTreeMap::new(),
            Some(json) => serde_json::from_str(json).map_err(|_| {
                let msg = "Input should be a JSON object of strings";
                Refusal::field(&["query", "metadata"], msg, "json_invalid")
            })?,
        };
        let id = text("job_id").or(text("id"));
        let (status, endpoint) = (text("status"), text("endpoint"));
        Ok(Self { primitive, limit, after, before, newest_first, status, id, endpoint, metadata, show })
    }

    fn wants(&self, job: &MockJob, now: Time) -> bool {
        let has = |key: &str| job.metadata.as_ref().and_then(|all| all.get(key));
        job.is_of(self.primitive)
            && self.status.is_none_or(|status| render::word(job, &job.life.at(now)) == status)
            && self.id.is_none_or(|id| *job.id == *id)
            && self.endpoint.is_none_or(|endpoint| job.endpoint == endpoint)
            && self.metadata.iter().all(|(key, value)| has(key) == Some(value))
    }

    /// Returns the range of the listing that is the requested page.
    fn stretch(&self, found: &[(u64, &MockJob)]) -> Result<std::ops::Range<usize>, Refusal> {
        let place = |id: &str| {
            let place = found.iter().position(|(_, job)| *job.id == *id);
            place.ok_or_else(|| Refusal::text(StatusCode::BAD_REQUEST, "Invalid cursor"))
        };
        Ok(match (self.after, self.before) {
            (Some(id), _) => {
                let start = place(id)? + 1;
                start..(start + self.limit).min(found.len())
            }
            (None, Some(id)) => {
                let end = place(id)?;
                end.saturating_sub(self.limit)..end
            }
            (None, None) => 0..self.limit.min(found.len()),
        })
    }
}

/// Returns the page that a query asks for.
pub(super) fn page(
    shared: &Shared,
    primitive: Option<&'static Primitive>,
    params: &HashMap<String, String>,
) -> Result<Payload, Refusal> {
    let query = Query::read(primitive, params)?;
    let now = shared.now();
    let jobs: &Jobs = &lock(&shared.jobs);
    let mut found: Vec<_> = jobs.all().filter(|(_, job)| query.wants(job, now)).collect();
    // Jobs of the same instant keep the order of their creation.
    found.sort_by_key(|(number, job)| (job.life.created(), *number));
    if query.newest_first {
        found.reverse();
    }
    let range = query.stretch(&found)?;
    let (newer, more) = (range.start > 0, range.end < found.len());
    let shown = &found[range];
    // Runs are newer than the first version of the API.
    let form = if primitive.is_some() { Timestamps::Iso } else { shared.timestamps() };
    let rendered =
        shown.iter().map(|(_, job)| render::job(job, &job.life.at(now), form, query.show)).collect();
    let ends = shown.first().zip(shown.last()).map(|((_, first), (_, last))| (&*first.id, &*last.id));
    Ok(render::list(Page { jobs: rendered, ends, newer, more }, form))
}
