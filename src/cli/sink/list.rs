//! `tidings sink list`, and the rows of sinks that `tidings status` shows too.

use anyhow::Result;
use serde::Deserialize;

use super::SinkListArgs;
use crate::{
    api::view::{OriginView, SinkView},
    cli::{
        args::Format,
        client::{Client, Path},
        console::Console,
        exit::ExitStatus,
        phrases::{brief, clean, count, relative, relative_or_dash},
        table::Fitted,
    },
    model::sink::SinkState,
    util::{
        clock,
        units::{Time, rounded},
    },
};

/// A list of sinks, bare or as one page.
#[derive(Deserialize)]
#[serde(untagged)]
enum Sinks {
    Bare(Vec<SinkView>),
    Page { data: Vec<SinkView> },
}

/// Prints the sinks, and below them a sentence about each that is not well.
pub(super) async fn run(
    args: &SinkListArgs,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<ExitStatus> {
    let path =
        Path::of(&["v1", "sinks"]).maybe("state", args.state.as_deref()).maybe("type", args.kind.as_deref());
    let text = client.text(&path).await?;
    if args.output == Format::Json {
        writeln!(console.out, "{}", text.trim_end())?;
        return Ok(ExitStatus::Done);
    }
    let (Sinks::Bare(sinks) | Sinks::Page { data: sinks }) = client.parse(&text)?;
    if sinks.is_empty() && (args.state.is_some() || args.kind.is_some()) {
        console.note("no sinks match");
        return Ok(ExitStatus::Done);
    }
    if sinks.is_empty() {
        console.note("no sink is configured: finished jobs are kept, and go nowhere");
        return Ok(ExitStatus::Done);
    }
    let now = clock::now();
    let rows = sinks.iter().flat_map(|sink| rows(sink, now)).collect();
    console.out.write_all(COLUMNS.table(rows, console.width).as_bytes())?;
    let problems: Vec<String> = sinks.iter().flat_map(|sink| problems(sink, now)).collect();
    if !problems.is_empty() {
        writeln!(console.out, "\n{}", problems.join("\n"))?;
    }
    Ok(ExitStatus::Done)
}

pub(in crate::cli) const COLUMNS: Fitted<'_> = Fitted {
    headers: &[
        "SINK",
        "TYPE",
        "STATE",
        "PENDING",
        "OLDEST",
        "DELIVERED",
        "FAILED",
        "DEAD",
        "SUCCESS",
        "TARGET",
    ],
    spare: &["FAILED", "TYPE", "DELIVERED", "SUCCESS", "OLDEST"],
    text: 16,
};

/// Returns the rows of a sink: its own, and one for each receiver of callbacks.
pub(in crate::cli) fn rows(sink: &SinkView, now: Time) -> Vec<Vec<String>> {
    let none = || "-".to_owned();
    let own = vec![
        sink.name.clone(),
        sink.kind.clone(),
        sink.state.as_str().to_owned(),
        sink.pending.to_string(),
        sink.oldest_pending_at.map_or_else(none, |made| rounded(now.since(made))),
        sink.delivered.to_string(),
        sink.failed.to_string(),
        sink.dead.to_string(),
        relative_or_dash(sink.last_success_at, now),
        sink.target.clone(),
    ];
    let origin = |origin: &OriginView| {
        let (state, pending) = (origin.state.as_str().to_owned(), origin.pending.to_string());
        let (name, kind, target) = (sink.name.clone(), sink.kind.clone(), origin.origin.clone());
        vec![name, kind, state, pending, none(), none(), none(), none(), none(), target]
    };
    std::iter::once(own).chain(sink.origins.iter().map(origin)).collect()
}

/// Returns a sentence for each thing that is wrong with a sink.
pub(in crate::cli) fn problems(sink: &SinkView, now: Time) -> Vec<String> {
    let name = clean(&sink.name);
    let mut found = Vec::new();
    match sink.state {
        SinkState::Ok => {}
        SinkState::Paused => {
            let since =
                sink.paused_at.map(|at| format!(" for {}", rounded(now.since(at)))).unwrap_or_default();
            found.push(format!("sink {name} is paused{since}; `tidings sink resume {name}` resumes it"));
        }
        SinkState::NotConfigured => {
            let waiting = count(sink.pending, "delivery", "deliveries");
            found.push(format!("sink {name} is not configured, and keeps {waiting}"));
        }
        SinkState::Failing => {
            let row = count(sink.failures_in_row, "failure", "failures");
            let error = sink.last_error.as_deref().unwrap_or("no error is known");
            let share =
                sink.success_share.map(|share| format!(", {:.0} % taken in the last minute", share * 100.0));
            let probe = sink.next_probe_at.map(|at| format!(", next probe {}", relative(at, now)));
            let (share, probe) = (share.unwrap_or_default(), probe.unwrap_or_default());
            found.push(format!(
                "sink {name} is failing: {} ({row} in a row{share}{probe})",
                brief(error, 200)
            ));
        }
    }
    if let Some(until) = sink.quiet_until.filter(|until| *until > now) {
        found.push(format!("sink {name} asked for a pause, which ends {}", relative(until, now)));
    }
    let failing = sink.origins.iter().filter(|origin| origin.state == SinkState::Failing);
    found.extend(failing.map(|origin| {
        let error = origin.last_error.as_deref().unwrap_or("no error is known");
        format!("{name} to {} is failing: {}", clean(&origin.origin), brief(error, 200))
    }));
    found
}
