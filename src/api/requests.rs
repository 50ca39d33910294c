//! Checks requests before the store changes.

use serde_json::value::RawValue;

use super::{
    AppState, body,
    bulk_deliveries::check_sink,
    problem::{Code, Problem, bad_parameter},
    view::{CallbackRequest, WatchRequest},
};
use crate::{
    deliver::{BadCallback, check_secret},
    model::{
        group::GroupName,
        job::{JobId, Kind},
    },
    store::{Callback, DeliveryKey, MemberKey, Registration},
    upstream::{JobRef, SourceKind},
    util::{
        secret::Secret,
        units::{HumanDuration, Time},
    },
};

/// Limits of labels, equal to those of Retab's metadata.
const MAX_LABELS: usize = 16;
const MAX_LABEL_KEY: usize = 64;
const MAX_LABEL_VALUE: usize = 512;

/// The longest URL of a callback.
const MAX_URL: usize = 2048;

/// Returns the registration that a request asks for, or the first problem of the request.
pub(super) fn registration(
    state: &AppState,
    asked: WatchRequest,
    now: Time,
) -> Result<Registration, Problem> {
    let source = source_name(state, asked.source)?;
    let job_id: JobId = asked.job_id.parse()?;
    let kind = registered_kind(state, &source, &job_id, asked.kind.as_deref())?;
    check_vars(state, &source, JobRef { id: &job_id, kind: name_of(kind.as_ref()), vars: &asked.vars })?;
    check_labels(&asked.labels)?;
    for sink in asked.sinks.iter().flatten() {
        check_sink(state, sink)?;
    }
    Ok(Registration {
        source,
        job_id,
        kind,
        vars: asked.vars,
        labels: asked.labels,
        group: asked.group.map(GroupName::try_from).transpose()?,
        sinks: asked.sinks,
        callback: asked.callback.map(|asked| callback(state, asked)).transpose()?,
        deadline_is_fixed: asked.deadline.as_deref().is_some_and(|text| Time::parse(text).is_some()),
        deadline: asked.deadline.as_deref().map(|text| deadline(text, now)).transpose()?,
        traceparent: None,
        only_new: false,
    })
}

/// Returns the kind of a job that is registered: the one that the request names, else the one whose
/// ids begin like this one, else the default kind.
fn registered_kind(
    state: &AppState,
    source: &str,
    job_id: &JobId,
    asked: Option<&str>,
) -> Result<Option<Kind>, Problem> {
    match asked {
        Some(name) => named_kind(state, source, name).map(Some),
        None => Ok(state.kind_by_id(source, job_id)),
    }
}

/// Returns the kind of a source with this name.
///
/// # Errors
/// If the source has no such kind.
pub(super) fn named_kind(state: &AppState, source: &str, name: &str) -> Result<Kind, Problem> {
    let live = state.components();
    let Some(watcher) = live.watchers.get(source) else {
        // Its watches outlive a source that left the configuration.
        return Ok(Kind { name: name.to_owned(), is_default: false });
    };
    let client = &watcher.source;
    if let Some(kind) = client.kind(Some(name)).and_then(|kind| client.recorded(kind)) {
        return Ok(kind);
    }
    let known: Vec<&str> = client.kinds().iter().filter_map(SourceKind::name).collect();
    let name: String = name.chars().take(100).collect();
    let detail = match known.as_slice() {
        [] => format!("the source `{source}` has no kinds; leave `kind` out"),
        known => {
            format!("the source `{source}` has no kind `{name}`; it has {}", list(known.iter().copied()))
        }
    };
    Err(Problem::new(Code::UnknownKind, detail))
}

fn name_of(kind: Option<&Kind>) -> Option<&str> {
    kind.map(|kind| kind.name.as_str())
}

/// Checks that the variables fill the paths of the source, and that its key may go to the URL.
fn check_vars(state: &AppState, source: &str, job: JobRef<'_>) -> Result<(), Problem> {
    let live = state.components();
    let Some(watcher) = live.watchers.get(source) else { return Ok(()) };
    let invalid = |detail: String| Err(Problem::new(Code::InvalidVars, detail));
    let Ok(kind) = watcher.source.kind_of(job) else { return Ok(()) };
    let (profile, vars) = (&kind.profile, job.vars);
    let takes = || list(profile.known_vars().collect::<std::collections::BTreeSet<_>>().into_iter());
    if let Some(name) = vars.keys().find(|name| profile.known_vars().all(|known| known != *name)) {
        let name: String = name.chars().take(100).collect();
        return invalid(format!("the source `{source}` has no variable `{name}`; it takes {}", takes()));
    }
    let missing = profile.wanted_vars().find(|name| !vars.contains_key(*name));
    if let Some(name) = missing {
        return invalid(format!("the variable `{name}` is missing; the source `{source}` takes {}", takes()));
    }
    let checked = watcher.source.check_job(job);
    checked.or_else(|failure| invalid(failure.to_string()))
}

/// Returns the registration of one entry of a batch. An invalid entry does not affect the others.
pub(super) fn registration_of(
    state: &AppState,
    value: &RawValue,
    now: Time,
) -> Result<Registration, Problem> {
    registration(state, body::entry(value)?, now)
}

/// Returns the named source, or the default source of a request without a name.
pub(super) fn source_name(state: &AppState, asked: Option<String>) -> Result<String, Problem> {
    let known = || list(state.components().watchers.keys().map(String::as_str));
    match asked {
        Some(name) if state.components().watchers.contains_key(&name) => Ok(name),
        Some(name) => Err(Problem::new(
            Code::UnknownSource,
            format!("there is no source `{name}`; there are {}", known()),
        )),
        None => state.default_source().map_err(|reason| Problem::new(Code::SourceMissing, reason)),
    }
}

fn callback(state: &AppState, asked: CallbackRequest) -> Result<Callback, Problem> {
    let Some(callbacks) = &state.components().callbacks else {
        return Err(Problem::new(
            Code::CallbacksDisabled,
            "callbacks are disabled; send the event to a sink, or set callbacks.enabled",
        ));
    };
    let invalid = |detail: String| Problem::new(Code::CallbackRefused, detail);
    if asked.url.len() > MAX_URL {
        return Err(invalid(format!("a callback URL has at most {MAX_URL} bytes")));
    }
    callbacks.check(&asked.url).map_err(|wrong| {
        let detail = format!("invalid callback URL: {wrong}");
        match wrong {
            BadCallback::Url(_) => invalid(detail),
            BadCallback::Blocked(_) => Problem::new(
                Code::CallbackBlocked,
                format!("{detail}; callbacks.allow can open a range of addresses"),
            ),
        }
    })?;
    let secret = asked.secret.map(Secret::new);
    if let Some(secret) = &secret {
        check_secret(secret).map_err(|error| invalid(format!("invalid callback secret: {error}")))?;
    }
    Ok(Callback { url: asked.url, secret })
}

fn check_labels(labels: &std::collections::BTreeMap<String, String>) -> Result<(), Problem> {
    let invalid = |detail: String| Err(Problem::new(Code::InvalidLabels, detail));
    if labels.len() >= body::MAX_PAIRS {
        return invalid(format!(
            "a watch has at most {MAX_LABELS} labels; these are {} or more",
            labels.len()
        ));
    }
    if labels.len() > MAX_LABELS {
        return invalid(format!("a watch has at most {MAX_LABELS} labels; these are {}", labels.len()));
    }
    for (key, value) in labels {
        let (keys, values) = (key.chars().count(), value.chars().count());
        if key.is_empty() || keys > MAX_LABEL_KEY {
            return invalid(format!("a label's key has 1 to {MAX_LABEL_KEY} characters; one has {keys}"));
        }
        if values > MAX_LABEL_VALUE {
            return invalid(format!(
                "a label's value has at most {MAX_LABEL_VALUE} characters; that of `{key}` has {values}"
            ));
        }
    }
    Ok(())
}

/// Reads a duration from now, or a time.
fn deadline(text: &str, now: Time) -> Result<Time, Problem> {
    let invalid = |detail: String| Err(Problem::new(Code::InvalidDeadline, detail));
    let at = match (Time::parse(text), text.parse::<HumanDuration>()) {
        (Some(at), _) => at,
        (None, Ok(span)) => now.after(span.0),
        (None, Err(reason)) => return invalid(format!("{reason}, or a time such as 2026-11-23T17:00:00Z")),
    };
    if at <= now {
        return invalid(format!("the deadline `{text}` is in the past"));
    }
    if at > now.after(HumanDuration::LONGEST.0) {
        return invalid(format!("the deadline `{text}` is too far ahead; it is at most 36500d"));
    }
    Ok(at)
}

/// Reads the size of a page.
pub(super) fn limit(text: &str) -> Result<usize, Problem> {
    let limit = text.parse().ok().filter(|limit| (1..=1000).contains(limit));
    limit.ok_or_else(|| bad_parameter("limit", text, "a number from 1 to 1000"))
}

/// Reads the begin of a job id.
pub(super) fn id_prefix(name: &str, text: String) -> Result<String, Problem> {
    // The index separates its parts by a control character.
    match text.is_empty() || text.contains(char::is_control) {
        true => Err(bad_parameter(name, &text, "the begin of a job id")),
        false => Ok(text),
    }
}

/// A list with pages. A cursor of one means nothing to another.
#[derive(Clone, Copy, Debug)]
pub(super) enum Listed {
    Watches,
    Events,
    Deliveries,
    Groups,
    Members,
}

impl Listed {
    /// The first byte of its cursors.
    const fn tag(self) -> u8 {
        match self {
            Self::Watches => b'w',
            Self::Events => b'e',
            Self::Deliveries => b'd',
            Self::Groups => b'g',
            Self::Members => b'm',
        }
    }
}

/// A key of a record that serves as the cursor of a page.
pub(super) trait Cursor: Sized {
    fn to_bytes(&self) -> Vec<u8>;

    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

/// The number of a watch or an event.
impl Cursor for u64 {
    fn to_bytes(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_be_bytes)
    }
}

impl Cursor for GroupName {
    fn to_bytes(&self) -> Vec<u8> {
        self.as_str().as_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok()?.parse().ok()
    }
}

impl Cursor for MemberKey {
    fn to_bytes(&self) -> Vec<u8> {
        self.to_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::from_bytes(bytes)
    }
}

impl Cursor for DeliveryKey {
    fn to_bytes(&self) -> Vec<u8> {
        self.to_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::from_bytes(bytes)
    }
}

/// Reads the cursor of a page.
pub(super) fn cursor<C: Cursor>(list: Listed, text: &str) -> Result<C, Problem> {
    let bytes = data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()).unwrap_or_default();
    let key = bytes.split_first().filter(|(tag, _)| **tag == list.tag());
    let key = key.and_then(|(_, key)| C::from_bytes(key));
    key.ok_or_else(|| bad_parameter("cursor", text, "the `next_cursor` of a previous page of this list"))
}

/// Returns the text of a cursor.
pub(super) fn cursor_text<C: Cursor>(list: Listed, key: &C) -> String {
    data_encoding::BASE64URL_NOPAD.encode(&[&[list.tag()], key.to_bytes().as_slice()].concat())
}

/// Joins names for a message.
pub(super) fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
