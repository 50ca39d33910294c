//! `tidings get`: one watch, or its finished job.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;
use http::Method;

use super::{
    args::{self, Format},
    client::{Client, Path, READ_TIMEOUT},
    complete,
    console::Console,
    exit::ExitStatus,
    phrases::{next_attempt, next_poll, relative},
    table::table,
};
use crate::{
    api::view::{AttemptState, TimelineStep, TimelineView, WatchView},
    model::job::JobId,
    util::{
        clock,
        units::{Size, Time},
    },
};

/// The longest silence while the stored job is read.
const SILENCE: Duration = Duration::from_mins(1);

/// The long description of the command.
pub(super) const ABOUT: &str = "Shows one watch of the running daemon with its deliveries. With --job, prints the finished job instead, \
        byte for byte as the source sent it. With --timeline, prints what happened to the job.";

/// The arguments of `tidings get`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        tidings get job_V1St\n  \
        tidings get job_V1St --output json | jq .phase\n  \
        tidings get job_V1St --timeline\n  \
        tidings get job_V1St --job > job_V1St.json\n\n\
        Exit status: 0 done; 1 no such watch, its job has not finished (with --job), or the daemon does not \
        answer; 2 bad usage.")]
pub struct GetArgs {
    /// The job
    #[arg(value_name = "JOB_ID", add = complete::jobs())]
    pub(super) job_id: JobId,

    /// The source the job belongs to [default: the only one, or retab]
    #[arg(long, value_name = "NAME", value_parser = args::name, add = complete::sources())]
    pub(super) source: Option<String>,

    /// The kind of the job, for an id that is watched under several
    #[arg(long, value_name = "KIND")]
    pub(super) kind: Option<String>,

    /// Print the stored job itself, unchanged
    #[arg(long, conflicts_with = "output")]
    pub(super) job: bool,

    /// Show what happened to the job, one line a step
    #[arg(long, conflicts_with = "job")]
    pub(super) timeline: bool,

    /// How to print the watch
    #[arg(short = 'o', long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Format,
}

/// Shows a watch or its job.
///
/// # Errors
/// When the daemon does not answer, or the output is closed.
pub(super) async fn run(args: &GetArgs, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let source = client.source(args.source.as_deref()).await?;
    if args.job {
        let path = Path::of(&["v1", "watches", &source, args.job_id.as_str(), "job"])
            .maybe("kind", args.kind.as_deref());
        return print_job(&path, client, console).await;
    }
    let mut segments = vec!["v1", "watches", &source, args.job_id.as_str()];
    segments.extend(args.timeline.then_some("timeline"));
    let text = client.text(&Path::of(&segments).maybe("kind", args.kind.as_deref())).await?;
    match args.output {
        Format::Json => writeln!(console.out, "{}", text.trim_end())?,
        Format::Table if args.timeline => {
            let told: TimelineView = client.parse(&text)?;
            console.out.write_all(steps(&told).as_bytes())?;
            if told.truncated {
                console.note("earlier steps are no longer stored");
            }
        }
        Format::Table => console.out.write_all(describe(&client.parse(&text)?, clock::now()).as_bytes())?,
    }
    Ok(ExitStatus::Done)
}

/// Prints the job's bytes as they come: it may be larger than the memory.
async fn print_job(path: &Path, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let mut answer = client.send(Method::GET, path, None, Some(READ_TIMEOUT)).await?;
    loop {
        let next = client.chunk(&mut answer, SILENCE).await;
        match next.context("the job is printed only in part")? {
            Some(chunk) => console.out.write_all(&chunk)?,
            None => return Ok(ExitStatus::Done),
        }
    }
}

/// Returns the fields of a watch, one a line, and below them its deliveries.
fn describe(watch: &WatchView, now: Time) -> String {
    let pairs = |map: &std::collections::BTreeMap<String, String>| {
        map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    };
    let when = |time: Time| format!("{time} ({})", relative(time, now));
    let reason = watch.next_poll_reason.as_deref();
    let fields: [(&str, Option<String>); 18] = [
        ("job", Some(watch.job_id.to_string())),
        ("source", Some(watch.source.clone())),
        ("kind", watch.kind.clone()),
        ("group", watch.group.clone()),
        ("phase", Some(watch.phase.to_string())),
        ("status", watch.status.clone()),
        ("outcome", watch.outcome.map(|outcome| outcome.to_string())),
        ("endpoint", watch.endpoint.clone()),
        ("labels", Some(pairs(&watch.labels))),
        ("metadata", watch.metadata.as_ref().map(pairs)),
        ("created", Some(when(watch.created_at))),
        ("finished", watch.finished_at.map(when)),
        ("polls", Some(watch.polls.to_string())),
        ("next poll", watch.next_poll_at.map(|at| format!("{at} ({})", next_poll(Some(at), reason, now)))),
        ("decided by", watch.next_poll_reason.clone()),
        ("event", watch.event_id.clone()),
        ("job size", watch.job_size.map(|bytes| Size(bytes).to_string())),
        ("last error", watch.last_error.clone()),
    ];
    let rows = fields
        .into_iter()
        .filter_map(|(key, value)| {
            value.filter(|text| !text.is_empty()).map(|text| vec![key.to_owned(), text])
        })
        .collect();
    let mut text = table(&[], rows);
    if !watch.deliveries.is_empty() {
        let _ = writeln!(text);
        text.push_str(&deliveries(watch, now));
    }
    text
}

fn deliveries(watch: &WatchView, now: Time) -> String {
    let row = |one: &crate::api::view::DeliveryBrief| {
        vec![
            one.id.clone(),
            one.sink.clone(),
            one.state.as_str().to_owned(),
            one.attempts.to_string(),
            one.last_status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
            next_attempt(one.next_attempt_at, one.waits_for, now),
        ]
    };
    let headers = ["DELIVERY", "SINK", "STATE", "ATTEMPTS", "LAST STATUS", "NEXT ATTEMPT"];
    table(&headers, watch.deliveries.iter().map(row).collect())
}

/// Returns the steps of a job, one a line.
fn steps(told: &TimelineView) -> String {
    let rows = told.data.iter().map(|entry| {
        let (step, details) = step(&entry.step);
        let details = details.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", ");
        vec![entry.at.to_string(), step.to_owned(), details]
    });
    table(&["TIME", "STEP", "DETAILS"], rows.collect())
}

/// Returns the words for a step, and what else is known of it.
fn step(step: &TimelineStep) -> (&'static str, Vec<String>) {
    match step {
        TimelineStep::Registered => ("registered", Vec::new()),
        TimelineStep::RegisteredAgain => ("registered again", Vec::new()),
        TimelineStep::Hook => ("hook", Vec::new()),
        TimelineStep::PollRequested => ("poll requested", Vec::new()),
        TimelineStep::Status { status } => ("status", vec![status.clone()]),
        TimelineStep::Finished { outcome, detection_seconds, error, .. } => {
            let delay = detection_seconds.map(|seconds| format!("noticed after {seconds:.1}s"));
            let error = error.clone().unwrap_or_default();
            ("finished", vec![outcome.to_string(), delay.unwrap_or_default(), error])
        }
        TimelineStep::Fetched { size, deliveries, .. } => {
            let sinks = if *deliveries == 0 { "no sink" } else { "" };
            ("fetched", vec![Size(*size).to_string(), sinks.to_owned()])
        }
        TimelineStep::PollFailed { error } => ("poll failed", vec![error.clone()]),
        TimelineStep::FetchFailed { error } => ("fetch failed", vec![error.clone()]),
        TimelineStep::Attempt { sink, event_type, number, state, status, duration_ms, error, .. } => {
            let state = match state {
                AttemptState::Delivered => "delivered",
                AttemptState::Failed => "failed",
                AttemptState::Dead => "dead letter",
            };
            let answer = status.map(|status| format!("answered {status}"));
            let details = vec![
                format!("{event_type} to {sink}"),
                format!("attempt {number}"),
                state.to_owned(),
                error.clone().or(answer).unwrap_or_default(),
                format!("{duration_ms} ms"),
            ];
            ("attempt", details)
        }
    }
}
