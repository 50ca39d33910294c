//! `tidings source show`: one source, and the job durations it has learned.

use anyhow::Result;

use super::{
    SourceShowArgs,
    list::{budget, figure, seconds},
    plot::plot,
};
use crate::{
    api::view::{HooksView, KindView, ListView, SourceView},
    cli::{
        args::Format,
        client::{Client, Path},
        console::Console,
        exit::ExitStatus,
        phrases::{clean, count, relative},
        table::table,
    },
    util::clock,
};

/// Prints the health of a source and its job durations, as a table or a plot.
pub(super) async fn run(
    args: &SourceShowArgs,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<ExitStatus> {
    let text = client.text(&Path::of(&["v1", "sources", &args.name])).await?;
    if args.output == Format::Json {
        writeln!(console.out, "{}", text.trim_end())?;
        return Ok(ExitStatus::Done);
    }
    let source: SourceView = client.parse(&text)?;
    console.out.write_all(table(&[], facts(&source)).as_bytes())?;
    let kinds = &source.polling.kinds;
    if kinds.is_empty() {
        console.note("no job durations are known yet");
        return Ok(ExitStatus::Done);
    }
    if args.plot {
        for kind in kinds {
            writeln!(console.out, "\n{} ({} finishes)", clean(&name(kind)), kind.finishes)?;
            console.out.write_all(plot(&kind.survival, &kind.poll_ages).as_bytes())?;
        }
        return Ok(ExitStatus::Done);
    }
    let rows = kinds.iter().map(|kind| {
        vec![name(kind), kind.finishes.to_string(), seconds(kind.median_seconds), seconds(kind.p90_seconds)]
    });
    writeln!(console.out)?;
    console
        .out
        .write_all(table(&["KIND OR ENDPOINT", "FINISHES", "MEDIAN", "90 %"], rows.collect()).as_bytes())?;
    Ok(ExitStatus::Done)
}

fn facts(source: &SourceView) -> Vec<Vec<String>> {
    let polling = &source.polling;
    let fact = |what: &str, value: String| vec![what.to_owned(), value];
    vec![
        fact("source", source.name.clone()),
        fact("state", source.state.clone()),
        fact("open watches", source.open_watches.to_string()),
        fact("polling", polling.strategy.clone()),
        fact("cost of a poll", seconds(Some(polling.cost_of_a_poll_seconds))),
        fact("budget", budget(source)),
        fact("finished jobs", polling.finished.to_string()),
        fact("polls per job", figure(polling.polls_per_job)),
        fact("mean delay", seconds(polling.mean_delay_seconds)),
        fact("list", source.list.as_ref().map_or_else(|| "none".to_owned(), list)),
        fact("hooks", source.hooks.as_ref().map_or_else(|| "none".to_owned(), hooks)),
        fact("last error", source.last_error.clone().unwrap_or_else(|| "-".to_owned())),
    ]
}

/// Returns what was read of the list.
fn list(list: &ListView) -> String {
    let read = format!(
        "{}, {} discovered, {} answered",
        count(list.pages, "page", "pages"),
        count(list.discovered, "job", "jobs"),
        count(list.answered, "poll", "polls"),
    );
    match (&list.last_error, list.last_page_at) {
        (Some(error), _) => format!("{read}; {error}"),
        (None, Some(at)) => {
            let jobs = count(list.last_page_jobs, "job", "jobs");
            format!("{read}; {jobs} on the last page, read {}", relative(at, clock::now()))
        }
        (None, None) => "not read yet".to_owned(),
    }
}

/// Returns what came of the hooks.
fn hooks(hooks: &HooksView) -> String {
    let share = hooks.reliability.map(|share| format!(", reliability {:.0} %", share * 100.0));
    let refusal = hooks.last_refusal.as_ref().map(|reason| format!("; the last one: {reason}"));
    let [share, refusal] = [share, refusal].map(Option::unwrap_or_default);
    format!("{} received, {} refused{share}{refusal}", hooks.received, hooks.refused)
}

fn name(kind: &KindView) -> String {
    let endpoint = if kind.endpoint.is_empty() { "(no endpoint)" } else { &kind.endpoint };
    kind.label.as_ref().map_or_else(|| endpoint.to_owned(), |label| format!("{endpoint} {label}"))
}
