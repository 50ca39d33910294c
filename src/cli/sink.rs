//! `tidings sink`: how the sinks are, and whether they work.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use http::Method;
use serde::Deserialize;

use super::{
    args::{self, Format},
    client::Client,
    exit::ExitStatus,
    output::{Console, brief, clean, count, relative, relative_or_dash, table},
    target::Path,
};
use crate::{
    api::view::{AttemptView, OriginView, SinkView},
    clock,
};

/// A test waits for the sink's own timeout, which the operator chose.
const TEST_PATIENCE: Duration = Duration::from_mins(5);

/// The long description of `sink test`.
const ABOUT_TEST: &str = "Sends a `tidings.test` event to a sink, signed and guarded like any other, and prints what came \
        of it. It is tried once and leaves no delivery behind. When the sink takes it, its breaker closes.";

/// The long description of `sink pause`.
const ABOUT_PAUSE: &str = "Stops handing deliveries to a sink, for example while its receiver is being repaired. Attempts under \
        way go on, what comes in is kept, and nothing becomes a dead letter meanwhile. It holds over a restart of the \
        daemon, until `tidings sink resume`.";

/// The long description of `sink resume`.
const ABOUT_RESUME: &str = "Lets a paused sink go on, with everything that came in meanwhile. Closes the breaker of a \
        sink that kept failing, and ends a silence that it asked for: deliveries go out again, slowly at first.";

/// `tidings sink …`
#[derive(Clone, Debug, Subcommand)]
pub enum SinkCommand {
    /// Show the sinks and how they are doing
    List(SinkListArgs),
    /// Send a `tidings.test` event to a sink, now and once
    #[command(long_about = ABOUT_TEST)]
    Test(SinkTestArgs),
    /// Stop handing deliveries to a sink; they are kept until it is resumed
    #[command(long_about = ABOUT_PAUSE)]
    Pause(SinkNameArgs),
    /// Let a paused sink go on, or one whose breaker is open, with everything that came in meanwhile
    #[command(long_about = ABOUT_RESUME)]
    Resume(SinkNameArgs),
}

/// The arguments of `tidings sink list`.
#[derive(Clone, Debug, Args)]
pub struct SinkListArgs {
    /// How to print them
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

/// The arguments of `tidings sink pause` and `resume`.
#[derive(Clone, Debug, Args)]
pub struct SinkNameArgs {
    /// The sink
    #[arg(value_name = "NAME", value_parser = args::name)]
    pub name: String,
}

/// The arguments of `tidings sink test`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Example:\n  tidings sink test app\n\n\
        Exit status: 0 the sink took it; 1 it did not, or the daemon cannot be asked; 2 bad usage.")]
pub struct SinkTestArgs {
    /// The sink
    #[arg(value_name = "NAME", value_parser = args::name)]
    pub name: String,

    /// How to print the attempt
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

/// A list, whether bare or as one page.
#[derive(Deserialize)]
#[serde(untagged)]
enum Sinks {
    Bare(Vec<SinkView>),
    Page { data: Vec<SinkView> },
}

/// Runs `tidings sink …`.
///
/// # Errors
/// When the daemon fails or the output is closed.
pub async fn run(command: &SinkCommand, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    match command {
        SinkCommand::List(args) => list(args, client, console).await,
        SinkCommand::Test(args) => test(args, client, console).await,
        SinkCommand::Pause(args) => pause(&args.name, true, client, console).await,
        SinkCommand::Resume(args) => pause(&args.name, false, client, console).await,
    }
}

async fn list(args: &SinkListArgs, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let text = client.text(&Path::of(&["v1", "sinks"])).await?;
    if args.output == Format::Json {
        writeln!(console.out, "{}", text.trim_end())?;
        return Ok(ExitStatus::Done);
    }
    let (Sinks::Bare(sinks) | Sinks::Page { data: sinks }) = client.parse(&text)?;
    if sinks.is_empty() {
        console.note("no sinks are configured: finished jobs are kept, and go nowhere");
        return Ok(ExitStatus::Done);
    }
    let now = clock::now();
    let rows = sinks.into_iter().flat_map(|mut sink| {
        let origins = std::mem::take(&mut sink.origins);
        let row = vec![
            sink.name,
            sink.kind,
            sink.target,
            sink.state.as_str().to_owned(),
            sink.pending.to_string(),
            sink.oldest_pending_at.map_or_else(|| "-".to_owned(), |made| relative(made, now)),
            sink.in_flight.to_string(),
            sink.delivered.to_string(),
            sink.failed.to_string(),
            sink.failures_in_row.to_string(),
            sink.dead.to_string(),
            sink.success_share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share * 100.0)),
            relative_or_dash(sink.last_success_at, now),
            sink.last_error.map_or_else(|| "-".to_owned(), |error| brief(&error, 60)),
        ];
        let (name, kind) = (row[0].clone(), row[1].clone());
        std::iter::once(row).chain(origins.into_iter().map(move |origin| origin_row(&name, &kind, origin)))
    });
    let headers = [
        "SINK",
        "TYPE",
        "TARGET",
        "STATE",
        "PENDING",
        "OLDEST",
        "IN FLIGHT",
        "DELIVERED",
        "FAILED",
        "IN A ROW",
        "DEAD",
        "TAKEN",
        "LAST SUCCESS",
        "LAST ERROR",
    ];
    console.out.write_all(table(&headers, rows.collect()).as_bytes())?;
    Ok(ExitStatus::Done)
}

/// A row for one receiver of callbacks.
fn origin_row(name: &str, kind: &str, origin: OriginView) -> Vec<String> {
    let none = || "-".to_owned();
    vec![
        name.to_owned(),
        kind.to_owned(),
        clean(&origin.origin),
        origin.state.as_str().to_owned(),
        origin.pending.to_string(),
        none(),
        origin.in_flight.to_string(),
        none(),
        none(),
        origin.failures_in_row.to_string(),
        none(),
        none(),
        none(),
        origin.last_error.map_or_else(none, |error| brief(&error, 60)),
    ]
}

async fn pause(name: &str, paused: bool, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let path = Path::of(&["v1", "sinks", name, if paused { "pause" } else { "resume" }]);
    let answer = client.post(&path, None::<&()>).await?;
    let sink: SinkView = client.parse(&client.read_text(answer).await?)?;
    let pending = count(sink.pending, "delivery", "deliveries");
    let said = match paused {
        true => format!("{name} is paused and keeps {pending} until `tidings sink resume {name}`"),
        false => format!("{name} goes on, with {pending} pending"),
    };
    writeln!(console.out, "{said}")?;
    Ok(ExitStatus::Done)
}

async fn test(args: &SinkTestArgs, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let path = Path::of(&["v1", "sinks", &args.name, "test"]);
    let answer = client.send(Method::POST, &path, None, Some(TEST_PATIENCE)).await?;
    let text = client.read_text(answer).await?;
    let attempt: AttemptView = client.parse(&text)?;
    match args.output {
        Format::Json => writeln!(console.out, "{}", text.trim_end())?,
        Format::Table => writeln!(console.out, "{}", describe(&args.name, &attempt))?,
    }
    Ok(if attempt.error.is_some() { ExitStatus::Failed } else { ExitStatus::Done })
}

/// One sentence, and what the receiver said.
fn describe(name: &str, attempt: &AttemptView) -> String {
    let answered = attempt.status.map_or_else(String::new, |status| format!(" answered {status}"));
    let mut text = match &attempt.error {
        None => format!(
            "{name} took the test event{} in {}ms",
            answered.replace(" answered", " with"),
            attempt.duration_ms
        ),
        Some(error) => {
            format!(
                "{name} did not take the test event{answered}: {} ({}ms)",
                clean(error),
                attempt.duration_ms
            )
        }
    };
    if let Some(response) = attempt.response.as_deref().filter(|response| !response.trim().is_empty()) {
        text.push_str("\nthe receiver said: ");
        text.push_str(&clean(response.trim()));
    }
    text
}
