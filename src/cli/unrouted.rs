//! `tidings events --unrouted`: the events that no sink took.

use anyhow::Result;
use clap::Args;

use super::{
    args::PageArgs,
    client::Client,
    events::EventsArgs,
    exit::ExitStatus,
    output::{Console, Fitted, Listing, relative_or_dash},
    target::Path,
};
use crate::{api::view::EventView, util::units::Time};

/// How much of the list is wanted.
#[derive(Clone, Debug, Args)]
pub struct UnroutedPages {
    /// With --unrouted: list at most this many, newest first [default: 100]
    #[arg(long, value_name = "N", requires = "unrouted", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,

    /// With --unrouted: list all of them, however many there are
    #[arg(long, requires = "unrouted", conflicts_with = "limit")]
    pub all: bool,
}

/// Lists them.
///
/// # Errors
/// When the daemon fails or the output is closed.
pub(super) async fn list(
    args: &EventsArgs,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<ExitStatus> {
    let mut path =
        Path::of(&["v1", "events"]).with("routed", "false").maybe("source", args.source.as_deref());
    for (key, value) in &args.labels {
        path = path.with(&format!("label.{key}"), value);
    }
    let headers = &["EVENT", "TYPE", "SOURCE", "JOB", "MADE"];
    let columns = Fitted { headers, spare: &[], text: 10 };
    let pages = PageArgs { limit: args.pages.limit.unwrap_or(100), all: args.pages.all };
    let listing = Listing { path, what: "events", columns, row };
    listing.print(client, console, &pages, args.output).await?;
    Ok(ExitStatus::Done)
}

fn row(client: &Client, text: &str, now: Time) -> Result<Vec<String>> {
    let event: EventView = client.parse(text)?;
    let made = relative_or_dash(event.created_at, now);
    Ok(vec![event.id, event.event_type, event.source, event.job_id.to_string(), made])
}
