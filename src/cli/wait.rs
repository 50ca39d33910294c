//! `tidings wait`: waits until watched jobs have finished.

use anyhow::Result;
use clap::Args;

use super::{
    args,
    client::{Client, ClientError, Path, default_source},
    complete,
    console::Console,
    exit::ExitStatus,
    waiting::{AwaitedJob, Progress, RetryLimit, WaitLimits, wait_for},
};
use crate::{
    api::view::{Page, WatchView},
    model::job::JobId,
    util::units::HumanDuration,
};

/// The phases of open watches.
const OPEN: [&str; 3] = ["watching", "fetching", "delivering"];

/// The long description of the command.
pub(super) const ABOUT: &str = "Waits until the named jobs have finished and are stored; with --delivered, also until their deliveries are \
        settled. Without names it waits for all open jobs, and for those registered meanwhile. In a Kubernetes Job \
        the application runs it last, because the sidecar ends with the application.\n\n\
        While the daemon restarts, or is not there yet, the command asks again until --timeout; without one, for a \
        minute.";

/// The arguments of `tidings wait`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        tidings wait --delivered --timeout 10m       # all open jobs\n  \
        tidings wait job_V1St --timeout 1h\n  \
        tidings wait --label team=billing --delivered\n\n\
        Exit status: 0 done; 1 the time was up, or the daemon does not answer; 2 bad usage; 3 when every job ended \
        but some outcome is not `completed`, 4 when a delivery became a dead letter.")]
pub struct WaitArgs {
    /// The jobs [default: all open ones]
    #[arg(value_name = "JOB_ID", add = complete::jobs())]
    pub(super) job_ids: Vec<JobId>,

    /// The source of the jobs; without a job, only open jobs of this source
    #[arg(long, value_name = "NAME", value_parser = args::name, add = complete::sources())]
    pub(super) source: Option<String>,

    /// The kind of the jobs; without a job, only open jobs of this kind
    #[arg(long, value_name = "KIND")]
    pub(super) kind: Option<String>,

    /// Only open jobs with this label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = args::label, conflicts_with = "job_ids")]
    pub(super) label: Vec<(String, String)>,

    /// Wait for their deliveries too
    #[arg(long)]
    pub(super) delivered: bool,

    /// Give up after this long; the daemon continues its work [default: wait for ever]
    #[arg(long, value_name = "SPAN")]
    pub(super) timeout: Option<HumanDuration>,
}

/// Waits for jobs.
///
/// # Errors
/// When the time is up or the daemon does not answer.
pub(super) async fn run(args: &WaitArgs, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let retry = RetryLimit::start(args.timeout);
    let mut status = ExitStatus::Done;
    let mut jobs = match args.job_ids.is_empty() {
        true => retry.ask(client, console, async |_| open(args, client).await).await?,
        false => named(args, client, &retry, console).await?,
    };
    while !jobs.is_empty() {
        let limits = WaitLimits { retry, delivered: args.delivered, ..WaitLimits::default() };
        let mut progress = Progress::new(console, jobs.len());
        let results = wait_for(client, jobs, &limits, &mut progress).await;
        progress.finish()?;
        status = status.worse(results?.status());
        jobs = match args.job_ids.is_empty() {
            true => retry.ask(client, console, async |_| open(args, client).await).await?,
            false => Vec::new(),
        };
    }
    Ok(status)
}

/// Returns the jobs that the command line names.
async fn named(
    args: &WaitArgs,
    client: &Client,
    retry: &RetryLimit,
    console: &mut Console<'_>,
) -> Result<Vec<AwaitedJob>> {
    let source = match &args.source {
        Some(name) => name.clone(),
        None => default_source(
            &retry.ask(client, console, async |_| client.sources().await).await?,
            "name one with --source",
        )?,
    };
    let job = |id: &JobId| AwaitedJob { source: source.clone(), job_id: id.clone(), kind: args.kind.clone() };
    Ok(args.job_ids.iter().map(job).collect())
}

/// Returns the open jobs.
async fn open(args: &WaitArgs, client: &Client) -> Result<Vec<AwaitedJob>, ClientError> {
    let mut open = Vec::new();
    let phases = if args.delivered { &OPEN[..] } else { &OPEN[..2] };
    for phase in phases {
        let mut cursor: Option<String> = None;
        loop {
            let mut path = Path::of(&["v1", "watches"]).with("phase", phase).with("limit", "1000");
            path = path.maybe("source", args.source.as_ref()).maybe("cursor", cursor.as_ref());
            path = path.maybe("kind", args.kind.as_ref());
            for (key, value) in &args.label {
                path = path.with(&format!("label.{key}"), value);
            }
            let page: Page<WatchView> = client.get(&path).await?;
            open.extend(page.data.into_iter().map(|watch| AwaitedJob {
                source: watch.source,
                job_id: watch.job_id,
                kind: watch.kind,
            }));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
    }
    Ok(open)
}
