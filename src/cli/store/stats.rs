//! `tidings store stats` and `check`.

use anyhow::Result;

use crate::{
    cli::{
        args::Format,
        console::Console,
        exit::ExitStatus,
        phrases::{clean, count},
        table::table,
    },
    model::{delivery::DeliveryState, job::Phase},
    store::{Stats, Store},
    util::units::Size,
};

/// Prints the numbers of records.
pub(super) async fn stats(store: &Store, format: Format, console: &mut Console<'_>) -> Result<ExitStatus> {
    let stats = store.stats().await?;
    if matches!(format, Format::Json) {
        writeln!(console.out, "{:#}", serde_json::to_value(&stats)?)?;
        return Ok(ExitStatus::Done);
    }
    write!(console.out, "{}", shown(&stats))?;
    Ok(ExitStatus::Done)
}

fn shown(stats: &Stats) -> String {
    let mut rows = Vec::new();
    for (source, phases) in &stats.watches {
        let of = |(phase, count): (&Phase, &u64)| {
            [format!("watches of {}", clean(source)), phase.as_str().to_owned(), count.to_string()]
        };
        rows.extend(phases.iter().map(of));
    }
    for (sink, states) in &stats.deliveries {
        let of = |(state, count): (&DeliveryState, &u64)| {
            [format!("deliveries to {}", clean(sink)), state.as_str().to_owned(), count.to_string()]
        };
        rows.extend(states.iter().map(of));
    }
    let mut one = |what: &str, is: String| rows.push([what.to_owned(), String::new(), is]);
    one("events", stats.events.to_string());
    if stats.unreadable > 0 {
        one("unreadable records", stats.unreadable.to_string());
    }
    one("stored jobs", format!("{} ({})", stats.jobs, Size(stats.job_bytes)));
    one("database", Size(stats.database_bytes).to_string());
    for (what, at) in [("oldest watch", stats.oldest_watch), ("newest watch", stats.newest_watch)] {
        if let Some(at) = at {
            one(what, at.to_string());
        }
    }
    for (sink, since) in &stats.paused {
        one(&format!("{} is paused", clean(sink)), format!("since {since}"));
    }
    for source in &stats.learned {
        one("learned durations of", clean(source));
    }
    table(&["WHAT", "", "COUNT"], rows.into_iter().map(|row| row.to_vec()).collect())
}

/// Prints every problem of a store.
pub(super) async fn check(store: &Store, hashes: bool, console: &mut Console<'_>) -> Result<ExitStatus> {
    let problems = store.check(hashes).await?;
    for problem in &problems {
        writeln!(console.out, "{} {}", clean(&problem.at), clean(&problem.what))?;
    }
    if problems.is_empty() {
        writeln!(console.out, "the store is sound")?;
        return Ok(ExitStatus::Done);
    }
    let problems = count(problems.len() as u64, "problem", "problems");
    console.note(&format!(
        "{problems} found; the daemon passes over what it cannot read\nhint: a backup brings back what is missing"
    ));
    Ok(ExitStatus::Failed)
}
