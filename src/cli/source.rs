//! `tidings source`: how the sources are, and what was learned of their jobs.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand, builder::PossibleValuesParser};

use super::{
    Global,
    args::{self, Format},
    client::Client,
    complete,
    exit::ExitStatus,
    output::{Console, Fitted, clean, table},
    plot::plot,
    source_test::{self, SourceTestArgs},
    target::Path,
};
use crate::{
    api::view::{KindView, Page, SourceView},
    upstream::{SourceType, TYPES},
    util::units::rounded,
};

/// The long description of `source show`.
const ABOUT_SHOW: &str = "Shows the health of a source, the cost of its polling, and the job durations that it has learned. With --plot \
        draws a curve for each kind: the share of jobs still running at each age, and below it the polls of a new job.";

/// The long description of `source list`.
const ABOUT_LIST: &str = "Shows the sources of the daemon with their health, and below them the built-in types of source: the values of \
        `type` in [sources.NAME]. With --types shows only those, without asking a daemon.";

/// `tidings source …`
#[derive(Clone, Debug, Subcommand)]
pub enum SourceCommand {
    /// Show the sources with their health, and the built-in types
    #[command(long_about = ABOUT_LIST)]
    List(SourceListArgs),
    /// Show a source, and the job durations that it has learned
    #[command(long_about = ABOUT_SHOW)]
    Show(SourceShowArgs),
    /// Poll a job once, and show what was found in the answer
    #[command(long_about = source_test::ABOUT)]
    Test(SourceTestArgs),
}

/// The arguments of `tidings source list`.
#[derive(Clone, Debug, Args)]
pub struct SourceListArgs {
    /// List the built-in types of source, without asking a daemon
    #[arg(long, conflicts_with = "output")]
    pub types: bool,

    /// Only sources in this state
    #[arg(long, conflicts_with = "types",
        value_parser = PossibleValuesParser::new(["ok", "unauthorized", "limited", "failing"]))]
    pub state: Option<String>,

    /// How to print them
    #[arg(short = 'o', long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

/// The arguments of `tidings source show`.
#[derive(Clone, Debug, Args)]
pub struct SourceShowArgs {
    /// The source
    #[arg(value_name = "NAME", value_parser = args::name, add = complete::sources())]
    pub name: String,

    /// Draw how long its jobs take, and when a new one is polled
    #[arg(long, conflicts_with = "output")]
    pub plot: bool,

    /// How to print it
    #[arg(short = 'o', long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

/// Runs `tidings source …`.
///
/// # Errors
/// When the daemon or the source fails, or the output is closed.
pub async fn run(command: &SourceCommand, global: &Global, console: &mut Console<'_>) -> Result<ExitStatus> {
    match command {
        SourceCommand::List(args) if args.types => types(console),
        SourceCommand::List(args) => list(args, &global.client()?, console).await,
        SourceCommand::Show(args) => show(args, &global.client()?, console).await,
        SourceCommand::Test(args) => source_test::run(args, global, console).await,
    }
}

/// The types that are built in.
fn types(console: &mut Console<'_>) -> Result<ExitStatus> {
    let row = |name: &&str| {
        let (title, docs) = match SourceType::named(name).and_then(SourceType::built_in) {
            Some(built_in) => (built_in.title, built_in.docs),
            None => (
                "Another API, all of it in the configuration".to_owned(),
                "docs/reference/sources.md".to_owned(),
            ),
        };
        vec![(*name).to_owned(), title, docs]
    };
    let rows = TYPES.iter().map(row).collect();
    console.out.write_all(table(&["TYPE", "API", "DOCUMENTATION"], rows).as_bytes())?;
    Ok(ExitStatus::Done)
}

async fn list(args: &SourceListArgs, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
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

pub(super) const COLUMNS: Fitted<'_> = Fitted {
    headers: &["SOURCE", "STATE", "OPEN", "POLLING", "POLLS/JOB", "MEAN DELAY", "BUDGET", "LAST ERROR"],
    spare: &["POLLING", "POLLS/JOB", "MEAN DELAY"],
    text: 20,
};

/// The row of a source.
pub(super) fn row(source: &SourceView) -> Vec<String> {
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

async fn show(args: &SourceShowArgs, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
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
            console.out.write_all(plot(&kind.survival, &kind.looks).as_bytes())?;
        }
        return Ok(ExitStatus::Done);
    }
    let rows = kinds.iter().map(|kind| {
        vec![name(kind), kind.finishes.to_string(), seconds(kind.median_seconds), seconds(kind.p90_seconds)]
    });
    writeln!(console.out)?;
    console.out.write_all(table(&["KIND", "FINISHES", "MEDIAN", "90 %"], rows.collect()).as_bytes())?;
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
        fact("budget", budget(polling.requests_per_second, polling.budget_used)),
        fact("finished jobs", polling.finished.to_string()),
        fact("polls per job", figure(polling.polls_per_job)),
        fact("mean delay", seconds(polling.mean_delay_seconds)),
        fact("last error", source.last_error.clone().unwrap_or_else(|| "-".to_owned())),
    ]
}

fn name(kind: &KindView) -> String {
    let endpoint = if kind.endpoint.is_empty() { "(no endpoint)" } else { &kind.endpoint };
    kind.label.as_ref().map_or_else(|| endpoint.to_owned(), |label| format!("{endpoint} {label}"))
}

fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"))
}

fn seconds(value: Option<f64>) -> String {
    let span = value.and_then(|value| Duration::try_from_secs_f64(value).ok());
    span.map_or_else(|| "-".to_owned(), rounded)
}

fn budget(rate: f64, used: f64) -> String {
    format!("{:.0} % of {rate:.0}/s", used * 100.0)
}
