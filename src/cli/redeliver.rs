//! `tidings redeliver`: sends deliveries again.

use anyhow::Result;
use clap::Args;

use super::{
    args,
    client::{Client, Path},
    complete,
    console::Console,
    exit::{BadUsage, ExitStatus},
    phrases::count,
};
use crate::{
    api::view::{Counted, RedeliverRequest},
    model::{delivery::DeliveryState, job::JobId},
    util::units::Time,
};

/// The long description of the command.
pub(super) const ABOUT: &str = "Sends deliveries again: those named by id, or all that match the filters. An event keeps its id, so a \
        receiver recognizes one that it has seen. The schedule of attempts starts again.\n\n\
        Filters match dead letters only, unless --state says otherwise.";

/// The arguments of `tidings redeliver`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        tidings redeliver dlv_4fzq\n  \
        tidings redeliver --sink app --since 6h     # after an outage of the receiver\n  \
        tidings redeliver --source retab --job-id job_V1St --state delivered\n  \
        tidings redeliver --all --dry-run           # how many dead letters are there?\n\n\
        Exit status: 0 done; 1 some delivery could not be sent again (the others are); 2 bad usage, no \
        delivery named, or an unknown --source.")]
pub struct RedeliverArgs {
    /// The deliveries
    #[arg(value_name = "DLV_ID", value_parser = args::name,
        conflicts_with_all = ["state", "sink", "source", "job_id", "since", "until", "all", "dry_run"],
        add = complete::deliveries())]
    pub(super) ids: Vec<String>,

    /// All in this state [default: dead]
    #[arg(long, value_enum)]
    pub(super) state: Option<DeliveryState>,

    /// All to this sink
    #[arg(long, value_name = "NAME", add = complete::sinks())]
    pub(super) sink: Option<String>,

    /// All of jobs of this source
    #[arg(long, value_name = "NAME", add = complete::sources())]
    pub(super) source: Option<String>,

    /// All of this job
    #[arg(long, value_name = "JOB_ID")]
    pub(super) job_id: Option<JobId>,

    /// All that became dead letters since then: a time (RFC 3339), or how long ago (6h)
    #[arg(long, value_name = "WHEN", value_parser = args::instant)]
    pub(super) since: Option<Time>,

    /// All that became dead letters before then: a time (RFC 3339), or how long ago (1h)
    #[arg(long, value_name = "WHEN", value_parser = args::instant)]
    pub(super) until: Option<Time>,

    /// Every dead letter, or every delivery in --state
    #[arg(long)]
    pub(super) all: bool,

    /// Count the deliveries and send none
    #[arg(long)]
    pub(super) dry_run: bool,
}

impl RedeliverArgs {
    /// Whether neither an id nor a filter is given. That must not mean every delivery.
    fn names_nothing(&self) -> bool {
        let names = self.sink.is_some() || self.source.is_some() || self.job_id.is_some();
        let filtered = names || self.state.is_some() || self.since.is_some() || self.until.is_some();
        self.ids.is_empty() && !filtered && !self.all
    }
}

/// Sends deliveries again.
///
/// # Errors
/// When the daemon does not answer or the output is closed; a refusal of one delivery is a remark.
pub(super) async fn run(
    args: &RedeliverArgs,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<ExitStatus> {
    if args.names_nothing() {
        let hint = "name them by id, by --state, --sink, --source, --job-id, --since or --until, or with --all for every dead letter";
        return Err(BadUsage::new("no delivery is named").hint(hint).into());
    }
    if !args.ids.is_empty() {
        return by_id(&args.ids, client, console).await;
    }
    let request = RedeliverRequest {
        state: Some(args.state.unwrap_or(DeliveryState::Dead)),
        sink: args.sink.clone(),
        source: args.source.clone(),
        job_id: args.job_id.as_ref().map(ToString::to_string),
        since: args.since,
        until: args.until,
        dry_run: args.dry_run,
    };
    let path = Path::of(&["v1", "deliveries", "redeliver"]);
    let done: Counted = client.post_bulk(&path, Some(&request)).await?;
    if done.count == 0 {
        client.check_source(args.source.as_deref()).await?;
    }
    match args.dry_run {
        true => writeln!(console.out, "would send {} again", count(done.count, "delivery", "deliveries"))?,
        false => writeln!(console.out, "sending {} again", count(done.count, "delivery", "deliveries"))?,
    }
    Ok(ExitStatus::Done)
}

async fn by_id(ids: &[String], client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let mut status = ExitStatus::Done;
    for id in ids {
        let path = Path::of(&["v1", "deliveries", id, "redeliver"]);
        match client.post(&path, None::<&()>).await {
            Ok(_) => writeln!(console.out, "sending {id} again")?,
            Err(error) if error.is_transient() => return Err(error.into()),
            Err(error) => {
                console.note(&format!("{id}: {error}"));
                status = ExitStatus::Failed;
            }
        }
    }
    Ok(status)
}
