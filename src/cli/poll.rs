//! `tidings poll`: polls jobs now.

use anyhow::Result;
use clap::Args;

use super::{
    args,
    client::Client,
    complete,
    exit::ExitStatus,
    output::{Console, clean},
    target::Path,
};
use crate::{
    api::view::WatchView,
    model::job::{JobId, Phase},
};

/// The long description of the command.
pub(super) const ABOUT: &str = "Polls jobs now instead of when their polls are due, for example because you know that they \
        have just ended. The request budget of their source holds for these polls, too.";

/// The arguments of `tidings poll`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        tidings poll job_V1St\n  \
        tidings poll --source replicate 1a2b 3c4d\n\n\
        Exit status: 0 done; 1 some job is not watched (the others are polled); 2 bad usage.")]
pub struct PollArgs {
    /// The jobs
    #[arg(value_name = "JOB_ID", required = true, add = complete::jobs())]
    pub job_ids: Vec<JobId>,

    /// The source the jobs belong to [default: the only one, or retab]
    #[arg(long, value_name = "NAME", value_parser = args::name, add = complete::sources())]
    pub source: Option<String>,
}

/// Has jobs polled, one after the other.
///
/// # Errors
/// When the daemon cannot be asked or the output is closed; a refusal of one job is a remark.
pub async fn run(args: &PollArgs, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let mut status = ExitStatus::Done;
    let source = client.source(args.source.as_deref()).await?;
    for job_id in &args.job_ids {
        let shown = clean(job_id.as_str());
        let path = Path::of(&["v1", "watches", &source, job_id.as_str(), "poll"]);
        let answer = match client.post(&path, None::<&()>).await {
            Ok(answer) => answer,
            Err(error) if error.may_pass() => return Err(error.into()),
            Err(error) => {
                console.note(&format!("{shown}: {error}"));
                status = ExitStatus::Failed;
                continue;
            }
        };
        let watch: WatchView = client.parse(&client.read_text(answer).await?)?;
        match watch.phase {
            Phase::Watching => writeln!(console.out, "{shown} is polled now")?,
            Phase::Fetching => writeln!(console.out, "{shown} has ended and is fetched")?,
            phase => writeln!(console.out, "{shown} has ended ({phase}); there is nothing to poll")?,
        }
    }
    Ok(status)
}
