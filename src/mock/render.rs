//! Jobs as JSON, in both versions of the API. It serialises structs and no maps: a byte-faithful
//! reader can see the order of the keys.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    job::{Ending, FAILURE_CODE, JobSnapshot},
    payload::Payload,
    primitive::Run,
    state::MockJob,
};
use crate::util::units::Time;

/// How instants are written, and which other fields a job has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Timestamps {
    /// Integer seconds, `organization_id`, envelopes with `has_more`: the API before May 2026.
    Epoch,
    /// ISO 8601 text, `attempt_count` and its companions, envelopes with `list_metadata`.
    #[default]
    Iso,
}

/// The fields that a route shows beside the life of the job.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Show {
    pub request: bool,
    pub response: bool,
    pub warnings: Warn,
}

/// The field `warnings` of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Warn {
    /// There is no such field.
    #[default]
    Never,
    /// The field is empty.
    Nothing,
    /// The field warns that dispatch is late.
    Late,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Stamp {
    Seconds(i64),
    Text(Time),
}

impl Timestamps {
    fn stamp(self, time: Time) -> Stamp {
        match self {
            Self::Epoch => Stamp::Seconds(time.unix_seconds()),
            Self::Iso => Stamp::Text(time),
        }
    }
}

#[derive(Serialize)]
struct Details {
    stage: &'static str,
    timeout_s: u32,
}

#[derive(Serialize)]
struct JobError {
    code: &'static str,
    message: &'static str,
    details: Details,
}

#[derive(Serialize)]
struct Warning {
    code: &'static str,
    message: &'static str,
    details: Option<()>,
}

/// Returns `null` or the list.
#[derive(Serialize)]
struct Warnings(Option<[Warning; 1]>);

#[derive(Serialize)]
struct IsoTail {
    cancelled: bool,
    attempt_count: u32,
    last_attempt_at: Option<Stamp>,
    last_failure_code: Option<&'static str>,
}

#[derive(Serialize)]
struct Head<'a> {
    id: &'a str,
    object: &'static str,
    status: &'a str,
    endpoint: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a RawValue>,
    error: Option<JobError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<Warnings>,
    created_at: Stamp,
    started_at: Option<Stamp>,
    completed_at: Option<Stamp>,
    expires_at: Stamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<&'static str>,
    metadata: Option<&'a BTreeMap<String, String>>,
    #[serde(flatten)]
    tail: Option<IsoTail>,
}

/// Returns the status word of a job or run. Runs have fewer words: none for the check of the request, and none for lost data.
pub(super) fn word<'a>(job: &MockJob, moment: &JobSnapshot<'a>) -> &'a str {
    match moment.status {
        "validating" if job.run.is_some() => "queued",
        "expired" if job.run.is_some() => Ending::Failed.as_str(),
        status => status,
    }
}

const FAILURE: JobError = JobError {
    code: FAILURE_CODE,
    message: "The model did not answer in time.",
    details: Details { stage: "extract", timeout_s: 300 },
};

#[derive(Serialize)]
struct Credits {
    credits: f32,
}

/// What follows the output of a run.
#[derive(Serialize)]
struct RunTail<'a> {
    status: &'a str,
    error: Option<JobError>,
    metadata: Option<&'a BTreeMap<String, String>>,
    usage: Option<Credits>,
    created_at: Time,
}

/// Renders a run as the API shows it at that moment. Without `show.response` its output is empty.
fn run(job: &MockJob, run: &Run, moment: &JobSnapshot<'_>, show: Show) -> Payload {
    let status = word(job, moment);
    let is_complete = status == Ending::Completed.as_str();
    let mut tail = json(&RunTail {
        status,
        error: (status == Ending::Failed.as_str()).then_some(FAILURE),
        metadata: job.metadata.as_ref(),
        usage: is_complete.then_some(Credits { credits: 1.0 }),
        created_at: moment.created_at,
    });
    if let Some(brace) = tail.first_mut() {
        *brace = b',';
    }
    let file = r#"{"id":"file_mock","filename":"invoice.pdf","mime_type":"application/pdf"}"#;
    Payload::default()
        .text([b"{\"id\":", json(&&*job.id).as_slice()].concat())
        .text(format!(",\"file\":{file},\"model\":\"retab-small\","))
        .text(run.repeated.clone())
        .text(",\"output\":")
        .then(run.primitive.output(is_complete && show.response, job.size))
        .text(tail)
}

/// Renders a job or run as the API shows it at that moment.
pub(super) fn job(job: &MockJob, moment: &JobSnapshot<'_>, form: Timestamps, show: Show) -> Payload {
    if let Some(of) = &job.run {
        return run(job, of, moment, show);
    }
    let iso = form == Timestamps::Iso;
    let status_is = |ending: Ending| moment.status == ending.as_str();
    let late = show.warnings == Warn::Late;
    let warning = [Warning { code: "dispatch_delayed", message: "Stored; start is delayed.", details: None }];
    let head = Head {
        id: &job.id,
        object: "job",
        status: moment.status,
        endpoint: &job.endpoint,
        request: job.request.as_deref().filter(|_| show.request),
        error: status_is(Ending::Failed).then_some(FAILURE),
        warnings: (late || (iso && show.warnings == Warn::Nothing))
            .then(|| Warnings(late.then_some(warning))),
        created_at: form.stamp(moment.created_at),
        started_at: moment.started_at.map(|at| form.stamp(at)),
        completed_at: moment.completed_at.map(|at| form.stamp(at)),
        expires_at: form.stamp(moment.expires_at),
        organization_id: (!iso).then_some("org_mock"),
        metadata: job.metadata.as_ref(),
        tail: iso.then(|| IsoTail {
            cancelled: status_is(Ending::Cancelled),
            attempt_count: moment.attempt_count,
            last_attempt_at: moment.last_attempt_at.map(|at| form.stamp(at)),
            last_failure_code: moment.last_failure_code,
        }),
    };
    let mut text = json(&head);
    if !show.response {
        return Payload::default().text(text);
    }
    // The response may be huge, so it is appended to the text instead of being serialised with the
    // rest.
    text.pop();
    text.extend_from_slice(b",\"response\":");
    let payload = Payload::default().text(text);
    if !status_is(Ending::Completed) {
        return payload.text("null}");
    }
    payload.text("{\"status_code\":200,\"body\":").then(response_body(job)).text("}}")
}

/// Renders the result of a job: a body of the requested size, or a small one in the shape of its
/// endpoint. Both hold what a reader that rewrites JSON would spoil: odd spaces, a big integer, a
/// trailing zero.
fn response_body(job: &MockJob) -> Payload {
    let name = job.id.strip_prefix("job_").unwrap_or(&job.id);
    let id = json(&format!("extr_{name}"));
    if let Some(size) = job.size {
        let front = [b"{\"id\":", id.as_slice(), b",\"output\":{\"text\":\""].concat();
        let back = "\"}}";
        let overhead = (front.len() + back.len()) as u64;
        return Payload::default().text(front).filler(size.0.saturating_sub(overhead)).text(back);
    }
    if job.endpoint.starts_with("/v1/documents/") {
        return Payload::default().text(concat!(
            r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"{\"total\":118.40}","#,
            r#""parsed":{"total":118.40,"serial": 9007199254740993}},"finish_reason":"stop"}]}"#
        ));
    }
    let front = [b"{\"id\":", id.as_slice()].concat();
    Payload::default().text(front).text(concat!(
        r#","file":{"id":"file_mock","filename":"invoice.pdf","mime_type":"application/pdf"},"#,
        r#""model":"retab-small","n_consensus":1,"output":{"invoice_number":"204","total":118.40,"#,
        r#""serial": 9007199254740993,"lines":[{"sku":"A1","qty":2}]},"#,
        r#""consensus":{"choices":[],"likelihoods":null},"usage":{"credits":1.0}}"#
    ))
}

#[derive(Serialize)]
struct EpochEnvelope<'a> {
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
    has_more: bool,
}

#[derive(Serialize)]
struct Cursors<'a> {
    before: Option<&'a str>,
    after: Option<&'a str>,
}

#[derive(Serialize)]
struct IsoEnvelope<'a> {
    list_metadata: Cursors<'a>,
}

/// A page: its rendered jobs, the ids at its ends, and whether there is more on either side.
pub(super) struct Page<'a> {
    pub jobs: Vec<Payload>,
    pub ends: Option<(&'a str, &'a str)>,
    pub newer: bool,
    pub more: bool,
}

/// The envelope of a list.
pub(super) fn list(page: Page<'_>, form: Timestamps) -> Payload {
    let (first, last) = page.ends.unzip();
    let (front, mut rest) = match form {
        Timestamps::Epoch => (
            r#"{"object":"list","data":["#,
            json(&EpochEnvelope { first_id: first, last_id: last, has_more: page.more }),
        ),
        Timestamps::Iso => {
            let cursors = Cursors { before: first.filter(|_| page.newer), after: last.filter(|_| page.more) };
            (r#"{"data":["#, json(&IsoEnvelope { list_metadata: cursors }))
        }
    };
    let mut payload = Payload::default().text(front);
    for (index, job) in page.jobs.into_iter().enumerate() {
        payload = payload.text(if index == 0 { "" } else { "," }).then(job);
    }
    // The envelope's own fields follow the data: its opening brace becomes the comma.
    if let Some(brace) = rest.first_mut() {
        *brace = b',';
    }
    payload.text("]").text(rest)
}

/// Serialises plain structs with text keys, which cannot fail.
pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
