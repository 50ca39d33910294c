//! `tidings deliveries`: lists deliveries, or shows one with its attempts.

use anyhow::Result;
use clap::Args;

use super::{
    args::{self, Format, PageArgs},
    client::{Client, Path},
    complete,
    console::Console,
    exit::ExitStatus,
    listing::Listing,
    phrases::{brief, next_attempt, relative, source_and_job, took},
    table::{Fitted, table},
};
use crate::{
    api::view::{AttemptView, DeliveryView},
    model::delivery::DeliveryState,
    util::{clock, units::Time},
};

/// The long description of the command.
pub(super) const ABOUT: &str = "Lists the deliveries of the running daemon, newest first. There is one for each event and sink. With an \
        id, shows that one and its attempts.";

/// The arguments of `tidings deliveries`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        tidings deliveries --state dead\n  \
        tidings deliveries --sink app --since 1h --all --output json\n  \
        tidings deliveries dlv_4fzq\n\n\
        Exit status: 0 done; 1 no such delivery, or the daemon does not answer; 2 bad usage.")]
pub struct DeliveriesArgs {
    /// Show this delivery with its attempts
    #[arg(value_name = "DLV_ID", value_parser = args::name,
        conflicts_with_all = ["state", "sink", "source", "job_id", "since", "limit", "all"], add = complete::deliveries())]
    pub(super) id: Option<String>,

    /// Only deliveries in this state
    #[arg(long, value_enum)]
    pub(super) state: Option<DeliveryState>,

    /// Only deliveries to this sink
    #[arg(long, value_name = "NAME", add = complete::sinks())]
    pub(super) sink: Option<String>,

    /// Only deliveries of jobs of this source
    #[arg(long, value_name = "NAME", add = complete::sources())]
    pub(super) source: Option<String>,

    /// Only deliveries of this job
    #[arg(long, value_name = "JOB_ID", add = complete::jobs())]
    pub(super) job_id: Option<String>,

    /// Only deliveries of events made since then: a time (RFC 3339), or how long ago (1h)
    #[arg(long, value_name = "WHEN", value_parser = args::instant)]
    pub(super) since: Option<Time>,

    /// The part of the list to show.
    #[command(flatten)]
    pub(super) pages: PageArgs,

    /// How to print them; json is one object with `data` and `next_cursor`, or the one delivery
    #[arg(short = 'o', long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Format,
}

/// Lists deliveries or shows one.
///
/// # Errors
/// When the daemon does not answer, or the output is closed.
pub(super) async fn run(
    args: &DeliveriesArgs,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<ExitStatus> {
    if let Some(id) = &args.id {
        let text = client.text(&Path::of(&["v1", "deliveries", id])).await?;
        match args.output {
            Format::Json => writeln!(console.out, "{}", text.trim_end())?,
            Format::Table => {
                let text = describe(client.parse(&text)?, clock::now(), console.width);
                console.out.write_all(text.as_bytes())?;
            }
        }
        return Ok(ExitStatus::Done);
    }
    let path = Path::of(&["v1", "deliveries"])
        .maybe("state", args.state.map(DeliveryState::as_str))
        .maybe("sink", args.sink.as_deref())
        .maybe("source", args.source.as_deref())
        .maybe("job_id", args.job_id.as_deref())
        .maybe("since", args.since);
    let headers =
        &["DELIVERY", "SINK", "STATE", "EVENT", "SOURCE", "JOB", "TRIES", "CREATED", "NEXT", "ERROR"];
    let columns = Fitted { headers, spare: &["CREATED"], text: 40 };
    let listing = Listing { path, what: "deliveries", columns, row };
    listing.print(client, console, &args.pages, args.output).await?;
    Ok(ExitStatus::Done)
}

fn row(client: &Client, text: &str, now: Time) -> Result<Vec<String>> {
    let delivery: DeliveryView = client.parse(text)?;
    let (source, job) = source_and_job(delivery.source, delivery.job_id, delivery.group);
    Ok(vec![
        delivery.id,
        delivery.sink,
        delivery.state.as_str().to_owned(),
        delivery.event_type,
        source,
        job,
        delivery.attempt_count.to_string(),
        relative(delivery.created_at, now),
        next_attempt(delivery.next_attempt_at, delivery.waits_for, now),
        delivery.reason.unwrap_or_else(|| "-".to_owned()),
    ])
}

/// Returns the fields of a delivery, one a line, and below them its attempts.
fn describe(delivery: DeliveryView, now: Time, width: usize) -> String {
    let when = |time: Time| format!("{time} ({})", relative(time, now));
    let at = delivery.next_attempt_at.map(|at| format!("{at}, ")).unwrap_or_default();
    let pending = delivery.state == DeliveryState::Pending;
    let next =
        pending.then(|| format!("{at}{}", next_attempt(delivery.next_attempt_at, delivery.waits_for, now)));
    let fields = [
        ("delivery", Some(delivery.id)),
        ("sink", Some(delivery.sink)),
        ("state", Some(delivery.state.as_str().to_owned())),
        ("event", Some(format!("{} {}", delivery.event_type, delivery.event_id))),
        ("source", delivery.source),
        ("job", delivery.job_id.map(String::from)),
        ("group", delivery.group),
        ("created", Some(when(delivery.created_at))),
        ("next attempt", next),
        ("reason", delivery.reason),
        ("attempts", Some(delivery.attempt_count.to_string())),
    ];
    let rows = fields.into_iter().filter_map(|(key, value)| value.map(|text| vec![key.to_owned(), text]));
    let mut text = table(&[], rows.collect());
    if !delivery.attempts.is_empty() {
        text.push('\n');
        let headers = ["AT", "TOOK", "STATUS", "ERROR", "ANSWER"];
        let columns = Fitted { headers: &headers, spare: &[], text: 30 };
        text.push_str(&columns.table(delivery.attempts.iter().map(attempt).collect(), width));
    }
    text
}

fn attempt(one: &AttemptView) -> Vec<String> {
    let or_dash = |text: &Option<String>| match text.as_deref() {
        None | Some("") => "-".to_owned(),
        Some(text) => brief(text, 60),
    };
    vec![
        one.at.to_string(),
        took(one.duration_ms),
        one.status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
        or_dash(&one.error),
        one.response.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned()),
    ]
}
