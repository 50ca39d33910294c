//! `tidings watch`: registers jobs, and waits for them when asked to.

mod ids;
mod register;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use self::register::Registration;
use super::{
    args::{self, Format},
    client::Client,
    complete,
    console::Console,
    exit::ExitStatus,
    group,
    phrases::clean,
    waiting::{Progress, RetryLimit, WaitLimits, wait_for},
};
use crate::{config, util::units::HumanDuration};

/// The long description of the command.
pub(super) const ABOUT: &str = "Registers jobs with the running daemon. When the command returns they are on the daemon's disk: \
        neither a crash nor a restart loses them. Registering a job again is harmless; labels are merged.\n\n\
        With --wait the command waits until each job has finished and its deliveries are settled. It keeps waiting \
        across daemon restarts. A failing delivery is tried for hours, so give a --timeout where that is too long.";

/// The arguments of `tidings watch`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        tidings watch job_V1St --label team=billing\n  \
        tidings watch job_1 job_2 --wait --timeout 1h\n  \
        tidings watch - --group nightly --close-group < ids.txt\n  \
        tidings watch job_1 --wait -o json | jq .outcome\n  \
        tidings watch - --wait < ids.txt      # one id a line; blank lines and # comments are skipped\n\n\
        Exit status: 0 done; 1 some job was refused or did not finish in time, or the daemon cannot be reached; 2 \
        bad usage; with --wait also 3 when every job ended but some outcome is not `completed`, 4 when a delivery \
        became a dead letter.")]
pub struct WatchArgs {
    /// The jobs; `-` reads ids from stdin, one a line
    #[arg(value_name = "JOB_ID", required = true)]
    pub(super) job_ids: Vec<String>,

    /// The source the jobs belong to [default: the only one, or retab]
    #[arg(long, value_name = "NAME", value_parser = args::name, add = complete::sources())]
    pub(super) source: Option<String>,

    /// The kind of the jobs [default: what the beginning of the id says, else that of the source]
    #[arg(long, value_name = "KIND")]
    pub(super) kind: Option<String>,

    /// Fill a variable of the source's paths; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = args::label)]
    pub(super) var: Vec<(String, String)>,

    /// Label the watches; may be repeated. Labels choose routes and come with the event
    #[arg(long, value_name = "KEY=VALUE", value_parser = args::label)]
    pub(super) label: Vec<(String, String)>,

    /// Put the jobs into this group, which makes one event when it is closed and all of it has ended
    #[arg(long, value_name = "NAME", add = complete::groups())]
    pub(super) group: Option<String>,

    /// Close the group once the jobs are registered; not if one was refused
    #[arg(long, requires = "group")]
    pub(super) close_group: bool,

    /// Send the events to this sink instead of where the routes say; may be repeated
    #[arg(long, value_name = "NAME", add = complete::sinks())]
    pub(super) sink: Vec<String>,

    /// Send the events to this URL too; it may not be a private address
    #[arg(long, value_name = "URL")]
    pub(super) callback: Option<String>,

    /// Sign what is sent to the callback with the secret in this file
    #[arg(long, value_name = "FILE", requires = "callback")]
    pub(super) callback_secret_file: Option<PathBuf>,

    /// Poll the jobs for this long (2h), or until then (RFC 3339); after that they are lost
    #[arg(long, value_name = "WHEN")]
    pub(super) deadline: Option<String>,

    /// How to print the jobs; json is one line for each: its watch, or the refusal with `code` and `detail`
    #[arg(
        short = 'o',
        long,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        long_help = "How to print the jobs. With json each job is a line, an object of its own: its watch as the API \
        shows it, with --wait once it is settled, else as it was registered; or `job_id`, `code` and `detail` of one \
        that was refused"
    )]
    pub(super) output: Format,

    /// Wait until the jobs have finished, and show their progress
    #[arg(long)]
    pub(super) wait: bool,

    /// Give up after this long, whatever the daemon does; its work goes on
    #[arg(long, value_name = "SPAN", requires = "wait")]
    pub(super) timeout: Option<HumanDuration>,
}

/// Registers jobs, and waits for them with `--wait`.
///
/// # Errors
/// When the daemon does not answer, or the output is closed. The refusal of one job is a remark.
pub(super) async fn run(args: &WatchArgs, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let retry = RetryLimit::start(args.timeout);
    let registered = Registration::new(args, args.wait.then_some(retry), client, console)?.run().await?;
    let several = registered.accepted + registered.existing > 1 || registered.rejected > 0;
    if several && args.output == Format::Table {
        writeln!(console.out, "{} accepted, {} existing", registered.accepted, registered.existing)?;
    }
    if args.source.is_none() && registered.accepted + registered.existing > 0 {
        note_source(client, console).await;
    }
    if let Some(group) = args.group.as_deref().filter(|_| args.close_group) {
        match registered.rejected {
            0 => drop(group::close(group, client).await?),
            _ => console.note(&format!(
                "the group {} stays open, because a job was refused; `tidings group close` closes it",
                clean(group)
            )),
        }
    }
    let refused = if registered.rejected > 0 { ExitStatus::Failed } else { ExitStatus::Done };
    if !args.wait || registered.jobs.is_empty() {
        return Ok(refused);
    }
    let jobs = registered.into_jobs();
    let limits = WaitLimits { retry, ..WaitLimits::default() };
    let mut progress = Progress::new(console, jobs.len());
    if args.output == Format::Json {
        progress = progress.in_json();
    }
    let results = wait_for(client, jobs, &limits, &mut progress).await;
    progress.finish()?;
    let status = results?.status();
    // Status 3 and 4 say that every job has finished, which is unknown of a refused one.
    Ok(if refused == ExitStatus::Failed { refused } else { status })
}

/// Says to which of several sources the jobs were taken to belong. Nothing depends on the answer.
async fn note_source(client: &Client, console: &mut Console<'_>) {
    let sources = client.sources().await.unwrap_or_default();
    if sources.len() > 1
        && let Ok(source) = config::default_source(sources.iter().map(String::as_str))
    {
        console.note(&format!("taken as jobs of the source {}; --source names another", clean(source)));
    }
}
