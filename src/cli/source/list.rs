//! `tidings source list`, and the rows of sources that `tidings status` shows too.

use std::time::Duration;

use anyhow::Result;

use super::SourceListArgs;
use crate::{
    api::view::{Page, SourceView},
    cli::{
        args::Format,
        client::{Client, Path},
        console::Console,
        exit::ExitStatus,
        table::{Fitted, table},
    },
    upstream::{SourceType, TYPES},
    util::units::rounded,
};

/// Prints the built-in types.
pub(super) fn types(console: &mut Console<'_>) -> Result<ExitStatus> {
    let row = |name: &&str| {
        let (title, docs) = match SourceType::named(name).and_then(SourceType::built_in) {
            Some(built_in) => (built_in.title, built_in.docs),
            None => {
                ("Another API, described in the configuration".to_owned(), "docs/guide/sources.md".to_owned())
            }
        };
        vec![(*name).to_owned(), title, docs]
    };
    let rows = TYPES.iter().map(row).collect();
    console.out.write_all(table(&["TYPE", "API", "DOCUMENTATION"], rows).as_bytes())?;
    Ok(ExitStatus::Done)
}

/// Prints the sources, and below them the built-in types.
pub(super) async fn run(
    args: &SourceListArgs,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<ExitStatus> {
    let path = Path::of(&["v1", "sources"]).maybe("state", args.state.as_deref());
    let text = client.text(&path).await?;
    if args.output == Format::Json {
        writeln!(console.out, "{}", text.trim_end())?;
        return Ok(ExitStatus::Done);
    }
    let sources: Page<SourceView> = client.parse(&text)?;
    if sources.data.is_empty() {
        console.note("no sources match");
        return Ok(ExitStatus::Done);
    }
    let rows = sources.data.iter().map(row).collect();
    console.out.write_all(COLUMNS.table(rows, console.width).as_bytes())?;
    if args.state.is_some() {
        return Ok(ExitStatus::Done);
    }
    writeln!(console.out)?;
    types(console)
}

pub(in crate::cli) const COLUMNS: Fitted<'_> = Fitted {
    headers: &["SOURCE", "STATE", "OPEN", "POLLING", "POLLS/JOB", "MEAN DELAY", "BUDGET", "LAST ERROR"],
    spare: &["POLLING", "POLLS/JOB", "MEAN DELAY"],
    text: 20,
};

/// Returns the row of a source.
pub(in crate::cli) fn row(source: &SourceView) -> Vec<String> {
    let polling = &source.polling;
    vec![
        source.name.clone(),
        source.state.clone(),
        source.open_watches.to_string(),
        polling.strategy.clone(),
        figure(polling.polls_per_job),
        seconds(polling.mean_delay_seconds),
        budget(polling.requests_per_second, polling.budget_used),
        source.last_error.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

pub(super) fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"))
}

pub(super) fn seconds(value: Option<f64>) -> String {
    let span = value.and_then(|value| Duration::try_from_secs_f64(value).ok());
    span.map_or_else(|| "-".to_owned(), rounded)
}

pub(super) fn budget(rate: f64, used: f64) -> String {
    format!("{:.0} % of {rate:.0}/s", used * 100.0)
}
