//! `tidings poll`: polls jobs now.

use anyhow::Result;
use clap::Args;

use super::{
    args,
    client::{Client, Path},
    complete,
    console::Console,
    exit::ExitStatus,
    phrases::clean,
};
use crate::{
    api::view::WatchView,
    model::job::{JobId, Phase},
};

/// The long description of the command.
pub(super) const ABOUT: &str = "Polls jobs now instead of at their scheduled time, for example because you know that they have just \
        finished. These polls count against the request budget of the source too.";

/// The arguments of `tidings poll`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        tidings poll job_V1St\n  \
        tidings poll --source replicate 1a2b 3c4d\n\n\
        Exit status: 0 done; 1 some job is not watched (the others are polled); 2 bad usage.")]
pub struct PollArgs {
    /// The jobs
    #[arg(value_name = "JOB_ID", required = true, add = complete::jobs())]
    pub(super) job_ids: Vec<JobId>,

    /// The source the jobs belong to [default: the only one, or retab]
    #[arg(long, value_name = "NAME", value_parser = args::name, add = complete::sources())]
    pub(super) source: Option<String>,

    /// The kind of the jobs, for an id that is watched under several
    #[arg(long, value_name = "KIND")]
    pub(super) kind: Option<String>,
}

/// Polls jobs, one after the other.
///
/// # Errors
/// When the daemon does not answer or the output is closed; a refusal of one job is a remark.
pub(super) async fn run(args: &PollArgs, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let mut status = ExitStatus::Done;
    let source = client.source(args.source.as_deref()).await?;
    for job_id in &args.job_ids {
        let shown = clean(job_id.as_str());
        let path = Path::of(&["v1", "watches", &source, job_id.as_str(), "poll"])
            .maybe("kind", args.kind.as_deref());
        let answer = match client.post(&path, None::<&()>).await {
            Ok(answer) => answer,
            Err(error) if error.is_transient() => return Err(error.into()),
            Err(error) => {
                console.note(&format!("{shown}: {error}"));
                status = ExitStatus::Failed;
                continue;
            }
        };
        let watch: WatchView = client.parse(&client.read_text(answer).await?)?;
        match watch.phase {
            Phase::Watching => writeln!(console.out, "polling {shown} now")?,
            Phase::Fetching => writeln!(console.out, "{shown} has finished and is being fetched")?,
            phase => writeln!(console.out, "{shown} has finished ({phase}); no poll is needed")?,
        }
    }
    Ok(status)
}
