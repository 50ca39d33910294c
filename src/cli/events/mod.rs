//! `tidings events`: prints events as they happen, or lists those that no sink took.

mod message;
mod stream;
mod unrouted;

use anyhow::Result;
use clap::Args;

use super::{
    args::{Format, PageArgs, label},
    client::{Client, Path},
    complete,
    console::Console,
    exit::ExitStatus,
};

/// The long description of the command.
pub(super) const ABOUT: &str = "Prints events as they happen, a line each: finished jobs and, where a sink asks for it, their start and progress.\n\n\
    It keeps waiting across daemon restarts, and resumes without a gap. Ctrl-C ends it with status 0. It gives up with \
    status 1 when it reaches no daemon within 10s of its start.\n\n\
    With --unrouted it lists the events that no sink took, newest first, and ends.";

/// The arguments of `tidings events`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  tidings events --label team=billing\n  tidings events --types 'group.*,tidings.*'\n  tidings events --output json | jq .job_id\n  \
        tidings events --unrouted --all"
)]
pub struct EventsArgs {
    /// Only those of these types, separated by commas, such as `group.*,tidings.*` [default: those of jobs]
    #[arg(long, value_name = "TYPES")]
    pub(super) types: Option<String>,

    /// Only those of this source
    #[arg(long, value_name = "NAME", add = complete::sources())]
    pub(super) source: Option<String>,

    /// Only those with this label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(super) labels: Vec<(String, String)>,

    /// Start after this id of the stream; 0 starts with the oldest stored event
    #[arg(long, value_name = "N")]
    pub(super) since_id: Option<u64>,

    /// List the events that no sink took, and end
    #[arg(long, conflicts_with = "since_id")]
    pub(super) unrouted: bool,

    /// How many of them to list
    #[command(flatten)]
    pub(super) pages: UnroutedPages,

    /// How to print them: a line for people (table) or a JSON object a line (json)
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    pub(super) output: Format,
}

/// How many unrouted events to list.
#[derive(Clone, Debug, Args)]
pub struct UnroutedPages {
    /// With --unrouted: list at most this many, newest first [default: 100]
    #[arg(long, value_name = "N", requires = "unrouted", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) limit: Option<u64>,

    /// With --unrouted: list all of them, however many there are
    #[arg(long, requires = "unrouted", conflicts_with = "limit")]
    pub(super) all: bool,
}

/// Prints events until Ctrl-C, or lists the unrouted ones.
///
/// # Errors
/// When the daemon does not answer at the start, refuses, or the output is closed.
pub(super) async fn run(args: &EventsArgs, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let filters = |mut path: Path| {
        path = path.maybe("types", args.types.as_deref()).maybe("source", args.source.as_deref());
        for (key, value) in &args.labels {
            path = path.with(&format!("label.{key}"), value);
        }
        path
    };
    let path = Path::of(&["v1", "events"]);
    if args.unrouted {
        let path = filters(path.with("routed", "false"));
        let pages = PageArgs { limit: args.pages.limit.unwrap_or(100), all: args.pages.all };
        return unrouted::list(path, &pages, args.output, client, console).await;
    }
    let path = filters(path);
    tokio::select! {
        failed = stream::print_events(&path, args.since_id, args.output, client, console) => failed,
        stopped = tokio::signal::ctrl_c() => Ok(stopped.map(|()| ExitStatus::Done)?),
    }
}
