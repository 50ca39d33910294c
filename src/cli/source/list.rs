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
        phrases::{brief, clean},
        table::{Fitted, table},
    },
    upstream::{SourceType, TYPES},
    util::units::rounded,
};

/// Characters of an error that a problem shows.
const ERROR: usize = 200;

/// Prints the built-in types.
pub(super) fn types(console: &mut Console<'_>) -> Result<ExitStatus> {
    let row = |name: &&str| {
        let (title, docs) = match SourceType::named(name).and_then(SourceType::built_in) {
            Some(built_in) => (built_in.title, built_in.docs),
            None => {
                ("Another API, described in the configuration".to_owned(), "docs/guide/any-api.md".to_owned())
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
        budget(source),
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

/// Returns a sentence for each problem of a source.
pub(in crate::cli) fn problems(source: &SourceView) -> Vec<String> {
    let name = clean(&source.name);
    let mut found = Vec::new();
    let discovery = source.list.as_ref().and_then(|list| list.discovery_error.as_deref());
    if source.state != "ok" {
        let error = source.last_error.as_deref().unwrap_or("no error is known");
        found.push(format!("source {name} is {}: {}", clean(&source.state), brief(error, ERROR)));
    } else if let Some(error) = discovery {
        found.push(format!("source {name} cannot read its list: {}", brief(error, ERROR)));
    }
    if let Some(reason) = source.hooks.as_ref().and_then(|hooks| hooks.last_refusal.as_deref()) {
        found.push(format!("the last hook of source {name} was refused: {}", brief(reason, ERROR)));
    }
    found
}

/// Returns the use of a source's budget, with the name of a shared one.
pub(super) fn budget(source: &SourceView) -> String {
    let polling = &source.polling;
    let name = source.budget.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    format!("{:.0} % of {:.0}/s{name}", polling.budget_used * 100.0, polling.requests_per_second)
}
