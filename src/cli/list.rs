//! `tidings list`: lists the watches.

use anyhow::Result;
use clap::{Args, builder::PossibleValuesParser};

use super::{
    args::{self, Format, PageArgs},
    client::{Client, Path},
    complete,
    console::Console,
    exit::ExitStatus,
    listing::Listing,
    phrases::{next_poll, relative},
    table::Fitted,
};
use crate::{api::view::WatchView, model::delivery::DeliveryState, util::units::Time};

/// The long description of the command.
pub(super) const ABOUT: &str =
    "Lists the watches of the running daemon, newest first. A watch must match every filter.";

/// The arguments of `tidings list`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        tidings list\n  \
        tidings list --phase dead --all\n  \
        tidings list --label team=billing --outcome failed --output json | jq -r '.data[].job_id'\n\n\
        Exit status: 0 done; 1 the daemon does not answer; 2 bad usage.")]
pub struct ListArgs {
    /// Only watches in this phase
    #[arg(long, value_parser = PossibleValuesParser::new(["watching", "fetching", "delivering", "done", "dead"]))]
    pub(super) phase: Option<String>,

    /// Only jobs of this source
    #[arg(long, value_name = "NAME", value_parser = args::name, add = complete::sources())]
    pub(super) source: Option<String>,

    /// Only jobs of this kind
    #[arg(long, value_name = "KIND")]
    pub(super) kind: Option<String>,

    /// Only jobs with this status, in the source's own word
    #[arg(long, value_name = "WORD")]
    pub(super) status: Option<String>,

    /// Only jobs with this outcome
    #[arg(long, value_parser = PossibleValuesParser::new(["completed", "failed", "cancelled", "expired", "lost"]))]
    pub(super) outcome: Option<String>,

    /// Only watches of this group
    #[arg(long, value_name = "NAME", add = complete::groups())]
    pub(super) group: Option<String>,

    /// Only watches with this label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = args::label)]
    pub(super) label: Vec<(String, String)>,

    /// The part of the list to show.
    #[command(flatten)]
    pub(super) pages: PageArgs,

    /// How to print them; json is one object with `data` and `next_cursor`
    #[arg(short = 'o', long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Format,
}

/// Lists watches.
///
/// # Errors
/// When the daemon does not answer, or the output is closed.
pub(super) async fn run(args: &ListArgs, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let mut path = Path::of(&["v1", "watches"])
        .maybe("phase", args.phase.as_deref())
        .maybe("source", args.source.as_deref())
        .maybe("kind", args.kind.as_deref())
        .maybe("status", args.status.as_deref())
        .maybe("outcome", args.outcome.as_deref())
        .maybe("group", args.group.as_deref());
    for (key, value) in &args.label {
        path = path.with(&format!("label.{key}"), value);
    }
    let headers =
        &["JOB", "SOURCE", "PHASE", "STATUS", "OUTCOME", "POLLS", "DELIVERED", "CREATED", "NEXT POLL"];
    let columns = Fitted { headers, spare: &["POLLS", "CREATED"], text: 30 };
    let listing = Listing { path, what: "watches", columns, row };
    listing.print(client, console, &args.pages, args.output).await?;
    Ok(ExitStatus::Done)
}

fn row(client: &Client, text: &str, now: Time) -> Result<Vec<String>> {
    let watch: WatchView = client.parse(text)?;
    let delivered = watch.deliveries.iter().filter(|one| one.state == DeliveryState::Delivered).count();
    let deliveries = match watch.deliveries.len() {
        0 => "-".to_owned(),
        all => format!("{delivered}/{all}"),
    };
    Ok(vec![
        watch.job_id.to_string(),
        watch.source,
        watch.phase.to_string(),
        watch.status.unwrap_or_else(|| "-".to_owned()),
        watch.outcome.map_or("-", |outcome| outcome.as_str()).to_owned(),
        watch.polls.to_string(),
        deliveries,
        relative(watch.created_at, now),
        next_poll(watch.next_poll_at, watch.next_poll_reason.as_deref(), now),
    ])
}
