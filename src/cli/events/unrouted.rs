//! `tidings events --unrouted`: the events that no sink took.

use anyhow::Result;

use crate::{
    api::view::EventView,
    cli::{
        args::{Format, PageArgs},
        client::{Client, Path},
        console::Console,
        exit::ExitStatus,
        listing::Listing,
        phrases::{relative_or_dash, source_and_job},
        table::Fitted,
    },
    util::units::Time,
};

/// Lists the events at `path`.
///
/// # Errors
/// When the daemon does not answer, or the output is closed.
pub(super) async fn list(
    path: Path,
    pages: &PageArgs,
    format: Format,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<ExitStatus> {
    let headers = &["EVENT", "TYPE", "SOURCE", "JOB", "MADE"];
    let columns = Fitted { headers, spare: &[], text: 10 };
    let listing = Listing { path, what: "events", columns, row };
    listing.print(client, console, pages, format).await?;
    Ok(ExitStatus::Done)
}

fn row(client: &Client, text: &str, now: Time) -> Result<Vec<String>> {
    let event: EventView = client.parse(text)?;
    let made = relative_or_dash(event.created_at, now);
    let (source, job) = source_and_job(event.source, event.job_id, event.group);
    Ok(vec![event.id, event.event_type, source, job, made])
}
