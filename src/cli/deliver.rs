//! `tidings deliver`: delivers past events to a sink that never got them.

use anyhow::Result;
use clap::Args;

use super::{
    args,
    client::{Client, Path},
    complete,
    console::Console,
    exit::ExitStatus,
    phrases::count,
};
use crate::{
    api::view::{DeliverRequest, Delivered},
    model::job::Outcome,
    util::units::Time,
};

/// The long description of the command.
pub(super) const ABOUT: &str = "Delivers past events to a sink that never got them, for example to a new sink. Events are kept for \
        `store.retention`. Skips an event that the sink already has a delivery of, in any state; `tidings redeliver` sends \
        those again.\n\n\
        Routes are ignored, and so is the sink's `events` for finished jobs. Progress goes only to a sink that asks for it.";

/// The arguments of `tidings deliver`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        tidings deliver --sink archive                     # every kept event, to a new sink\n  \
        tidings deliver --sink app --unrouted --since 6h   # what no sink took in the last six hours\n  \
        tidings deliver --sink app evt_vxdrpsvgo4zkwoybp4iirco3py\n\n\
        Exit status: 0 done; 1 no such event or sink, or the daemon does not answer; 2 bad usage, or an unknown --source.")]
pub struct DeliverArgs {
    /// The events, instead of filters
    #[arg(value_name = "EVT_ID", value_parser = args::name,
        conflicts_with_all = ["since", "until", "outcome", "source", "unrouted"])]
    pub(super) ids: Vec<String>,

    /// The sink
    #[arg(long, value_name = "NAME", add = complete::sinks())]
    pub(super) sink: String,

    /// Events made since then: a time (RFC 3339), or how long ago (6h)
    #[arg(long, value_name = "WHEN", value_parser = args::instant)]
    pub(super) since: Option<Time>,

    /// Events made before then: a time (RFC 3339), or how long ago (1h)
    #[arg(long, value_name = "WHEN", value_parser = args::instant)]
    pub(super) until: Option<Time>,

    /// Events of jobs with this outcome: completed, failed, cancelled, expired or lost
    #[arg(long, value_name = "OUTCOME", value_parser = outcome)]
    pub(super) outcome: Option<Outcome>,

    /// Events of this source
    #[arg(long, value_name = "NAME", add = complete::sources())]
    pub(super) source: Option<String>,

    /// Events that no sink took
    #[arg(long)]
    pub(super) unrouted: bool,

    /// Count the events and deliver none
    #[arg(long)]
    pub(super) dry_run: bool,
}

fn outcome(text: &str) -> Result<Outcome, String> {
    let known = Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == text);
    known.ok_or_else(|| "expected completed, failed, cancelled, expired or lost".to_owned())
}

/// Delivers past events.
///
/// # Errors
/// When the daemon does not answer or refuses, or the output is closed.
pub(super) async fn run(
    args: &DeliverArgs,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<ExitStatus> {
    let request = DeliverRequest {
        sink: args.sink.clone(),
        since: args.since,
        until: args.until,
        outcome: args.outcome,
        source: args.source.clone(),
        job_id: None,
        kind: None,
        routed: args.unrouted.then_some(false),
        event_ids: (!args.ids.is_empty()).then(|| args.ids.clone()),
        dry_run: args.dry_run,
    };
    let path = Path::of(&["v1", "deliveries", "deliver"]);
    let done: Delivered = client.post_bulk(&path, Some(&request)).await?;
    if done.count == 0 {
        client.check_source(args.source.as_deref()).await?;
    }
    let said = match args.dry_run {
        true => format!("would deliver {} to", count(done.count, "event", "events")),
        false => format!("delivering {} to", count(done.count, "event", "events")),
    };
    writeln!(console.out, "{said} {}", args.sink)?;
    if done.existing > 0 {
        let existing = count(done.existing, "event is", "events are");
        console.note(&format!("{existing} there already; `tidings redeliver` sends deliveries again"));
    }
    if done.missing > 0 {
        let missing = count(done.missing, "event", "events");
        console.note(&format!("{missing} skipped: the stored job is missing"));
    }
    Ok(ExitStatus::Done)
}
