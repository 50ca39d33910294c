//! `tidings sink`: the health of the sinks, and operations on one.

mod actions;
mod list;
mod test;

use anyhow::Result;
use clap::{Args, Subcommand, builder::PossibleValuesParser};

pub(super) use self::list::{COLUMNS, problems, rows};
use super::{
    args::{self, Format},
    client::Client,
    complete,
    console::Console,
    exit::ExitStatus,
};

/// The long description of `sink test`.
const ABOUT_TEST: &str = "Sends a `tidings.test` event to a sink, signed and guarded like any other, and prints the attempt. It is \
        tried once and leaves no delivery behind. If the sink accepts it, its breaker closes.";

/// The long description of `sink pause`.
const ABOUT_PAUSE: &str = "Stops sending deliveries to a sink, for example while its receiver is being repaired. Attempts in \
        flight finish, new deliveries are kept, and none becomes a dead letter meanwhile. The pause lasts across daemon \
        restarts, until `tidings sink resume`.";

/// The long description of `sink resume`.
const ABOUT_RESUME: &str = "Resumes a paused sink, and sends the deliveries that it kept. Also closes the breaker of a failing sink, \
        and ends a pause that the receiver asked for: deliveries resume, slowly at first.";

/// The long description of `sink drop`.
const ABOUT_DROP: &str = "Ends all pending deliveries to a sink. Watches, events and the deliveries to other sinks stay. The sink \
        may no longer be configured. `tidings deliver` can send the events later.";

/// The long description of `sink move`.
const ABOUT_MOVE: &str = "Moves all pending deliveries of one sink to another, for example after a rename. Their schedules start \
        again, and the event ids stay. The old sink may no longer be configured. An event that the new sink has already is not \
        delivered to it twice. Watches that name the old sink keep naming it.";

/// `tidings sink …`
#[derive(Clone, Debug, Subcommand)]
pub enum SinkCommand {
    /// Show the sinks and their health
    List(SinkListArgs),
    /// Send a `tidings.test` event to a sink, now and once
    #[command(long_about = ABOUT_TEST)]
    Test(SinkTestArgs),
    /// Stop sending deliveries to a sink, and keep them until it is resumed
    #[command(long_about = ABOUT_PAUSE)]
    Pause(SinkNameArgs),
    /// Resume a paused sink, or one whose breaker is open
    #[command(long_about = ABOUT_RESUME)]
    Resume(SinkNameArgs),
    /// End the pending deliveries of a sink, even of one that is no longer configured
    #[command(long_about = ABOUT_DROP, after_long_help = "Example:\n  tidings sink drop old")]
    Drop(SinkNameArgs),
    /// Move the pending deliveries of a sink to another one, for example after a rename
    #[command(long_about = ABOUT_MOVE, after_long_help = "Example:\n  tidings sink move old new")]
    Move(SinkMoveArgs),
}

/// The arguments of `tidings sink move`.
#[derive(Clone, Debug, Args)]
pub struct SinkMoveArgs {
    /// The sink whose pending deliveries are moved
    #[arg(value_name = "OLD", value_parser = args::name, add = complete::sinks())]
    pub(super) old: String,

    /// The sink that gets them
    #[arg(value_name = "NEW", value_parser = args::name, add = complete::sinks())]
    pub(super) new: String,
}

/// The arguments of `tidings sink list`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  tidings sink list\n  tidings sink list --state failing\n  \
        tidings sink list -o json | jq '.data[] | select(.pending > 0).name'")]
pub struct SinkListArgs {
    /// Only sinks in this state
    #[arg(long, value_parser = PossibleValuesParser::new(["ok", "failing", "paused", "not_configured"]))]
    pub(super) state: Option<String>,

    /// Only sinks of this type
    #[arg(long = "type", value_name = "TYPE", value_parser = PossibleValuesParser::new(["webhook", "disk"]))]
    pub(super) kind: Option<String>,

    /// How to print them
    #[arg(short = 'o', long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Format,
}

/// The arguments of `tidings sink pause`, `resume` and `drop`.
#[derive(Clone, Debug, Args)]
pub struct SinkNameArgs {
    /// The sink
    #[arg(value_name = "NAME", value_parser = args::name, add = complete::sinks())]
    pub(super) name: String,
}

/// The arguments of `tidings sink test`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Example:\n  tidings sink test app\n\n\
        Exit status: 0 the sink took it; 1 it did not, or the daemon cannot be asked; 2 bad usage.")]
pub struct SinkTestArgs {
    /// The sink
    #[arg(value_name = "NAME", value_parser = args::name, add = complete::sinks())]
    pub(super) name: String,

    /// How to print the attempt
    #[arg(short = 'o', long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Format,
}

/// Runs `tidings sink …`.
///
/// # Errors
/// When the daemon does not answer, or the output is closed.
pub(super) async fn run(
    command: &SinkCommand,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<ExitStatus> {
    match command {
        SinkCommand::List(args) => list::run(args, client, console).await,
        SinkCommand::Test(args) => test::run(args, client, console).await,
        SinkCommand::Pause(args) => actions::pause(&args.name, client, console).await,
        SinkCommand::Resume(args) => actions::resume(&args.name, client, console).await,
        SinkCommand::Drop(args) => actions::drop_pending(&args.name, client, console).await,
        SinkCommand::Move(args) => actions::move_pending(args, client, console).await,
    }
}
