//! `tidings source`: the health of the sources, the job durations they have learned, and one poll to test one.

mod list;
mod plot;
mod show;
mod test;
mod test_list;
mod test_report;

use anyhow::Result;
use clap::{Args, Subcommand, builder::PossibleValuesParser};

pub(super) use self::list::{COLUMNS, problems, row};
use super::{
    args::{self, Format},
    complete,
    console::Console,
    exit::ExitStatus,
    global::Global,
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
    /// Poll a job once, and show how the answer is read
    #[command(long_about = test::ABOUT)]
    Test(test::SourceTestArgs),
}

/// The arguments of `tidings source list`.
#[derive(Clone, Debug, Args)]
pub struct SourceListArgs {
    /// List the built-in types of source, without asking a daemon
    #[arg(long, conflicts_with = "output")]
    pub(super) types: bool,

    /// Only sources in this state
    #[arg(long, conflicts_with = "types",
        value_parser = PossibleValuesParser::new(["ok", "unauthorized", "limited", "failing"]))]
    pub(super) state: Option<String>,

    /// How to print them
    #[arg(short = 'o', long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Format,
}

/// The arguments of `tidings source show`.
#[derive(Clone, Debug, Args)]
pub struct SourceShowArgs {
    /// The source
    #[arg(value_name = "NAME", value_parser = args::name, add = complete::sources())]
    pub(super) name: String,

    /// Draw how long its jobs take, and when a new one is polled
    #[arg(long, conflicts_with = "output")]
    pub(super) plot: bool,

    /// How to print it
    #[arg(short = 'o', long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Format,
}

/// Runs `tidings source …`.
///
/// # Errors
/// When the daemon or the source does not answer, or the output is closed.
pub(super) async fn run(
    command: &SourceCommand,
    global: &Global,
    console: &mut Console<'_>,
) -> Result<ExitStatus> {
    match command {
        SourceCommand::List(args) if args.types => list::types(console),
        SourceCommand::List(args) => list::run(args, &global.client()?, console).await,
        SourceCommand::Show(args) => show::run(args, &global.client()?, console).await,
        SourceCommand::Test(args) => test::run(args, global, console).await,
    }
}
