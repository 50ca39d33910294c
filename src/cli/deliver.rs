//! `tidings deliver`: delivers past events to a sink that never got them.

use anyhow::Result;
use clap::Args;

use super::{
    args,
    client::Client,
    complete,
    exit::ExitStatus,
    output::{Console, count},
    target::Path,
};
use crate::{
    api::view::{Counted, DeliverRequest},
    model::job::Outcome,
    util::units::Time,
};

/// The long description of the command.
pub(super) const ABOUT: &str = "Delivers past events to a sink that never got them: to one that is new, or events that no sink \
        took when they were made. Events are kept until `store.retention` is over. An event that the sink has a delivery of \
        already, in any state, is passed over; `tidings redeliver` sends such again.\n\n\
        Routes do not count, and neither does the sink's `events` for the ends of jobs. Progress goes only to a sink that \
        asks for it.";

/// The arguments of `tidings deliver`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        tidings deliver --sink archive                     # everything that is kept, to a new sink\n  \
        tidings deliver --sink app --unrouted --since 6h   # what no sink took in the last six hours\n  \
        tidings deliver --sink app evt_vxdrpsvgo4zkwoybp4iirco3py\n\n\
        Exit status: 0 done; 1 there is no such event or sink, or the daemon cannot be asked; 2 bad usage.")]
pub struct DeliverArgs {
    /// Exactly these events
    #[arg(value_name = "EVT_ID", value_parser = args::name,
        conflicts_with_all = ["since", "until", "outcome", "source", "unrouted"])]
    pub ids: Vec<String>,

    /// The sink
    #[arg(long, value_name = "NAME", add = complete::sinks())]
    pub sink: String,

    /// Events made since then: a time (RFC 3339), or how long ago (6h)
    #[arg(long, value_name = "WHEN", value_parser = args::instant)]
    pub since: Option<Time>,

    /// Events made before then: a time (RFC 3339), or how long ago (1h)
    #[arg(long, value_name = "WHEN", value_parser = args::instant)]
    pub until: Option<Time>,

    /// Ends with this outcome: completed, failed, cancelled, expired or lost
    #[arg(long, value_name = "OUTCOME", value_parser = outcome)]
    pub outcome: Option<Outcome>,

    /// Events of this source
    #[arg(long, value_name = "NAME", add = complete::sources())]
    pub source: Option<String>,

    /// Events that no sink took
    #[arg(long)]
    pub unrouted: bool,

    /// Count them and deliver nothing
    #[arg(long)]
    pub dry_run: bool,
}

fn outcome(text: &str) -> Result<Outcome, String> {
    let known = Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == text);
    known.ok_or_else(|| "it is completed, failed, cancelled, expired or lost".to_owned())
}

/// Has past events delivered.
///
/// # Errors
/// When the daemon cannot be asked or refuses, or the output is closed.
pub async fn run(args: &DeliverArgs, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let request = DeliverRequest {
        sink: args.sink.clone(),
        since: args.since,
        until: args.until,
        outcome: args.outcome,
        source: args.source.clone(),
        routed: args.unrouted.then_some(false),
        event_ids: (!args.ids.is_empty()).then(|| args.ids.clone()),
        dry_run: args.dry_run,
    };
    let path = Path::of(&["v1", "deliveries", "deliver"]);
    let done: Counted = client.post_bulk(&path, Some(&request)).await?;
    let said = match args.dry_run {
        true => format!("{} would go to", count(done.count, "event", "events")),
        false => format!("{} on the way to", count(done.count, "event is", "events are")),
    };
    writeln!(console.out, "{said} {}", args.sink)?;
    Ok(ExitStatus::Done)
}
