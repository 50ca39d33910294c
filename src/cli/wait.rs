//! `tidings wait`: until jobs that are being watched have ended, or all that is open has.

use anyhow::Result;
use clap::Args;

use super::{
    args,
    client::{Client, ClientError, default_source},
    complete,
    exit::ExitStatus,
    follow::{Followed, Limits, follow},
    output::Console,
    patience::Patience,
    progress::Progress,
    target::Path,
};
use crate::{
    api::view::{Page, WatchView},
    model::job::JobId,
    util::units::HumanDuration,
};

/// The phases in which something is left to do.
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
        tidings wait --delivered --timeout 10m       # everything that is open\n  \
        tidings wait job_V1St --timeout 1h\n  \
        tidings wait --label team=billing --delivered\n\n\
        Exit status: 0 done; 1 the time was up, or the daemon cannot be asked; 2 bad usage; 3 when every job ended \
        but some outcome is not `completed`, 4 when a delivery became a dead letter.")]
pub struct WaitArgs {
    /// The jobs; everything that is open when none is named
    #[arg(value_name = "JOB_ID", add = complete::jobs())]
    pub job_ids: Vec<JobId>,

    /// Their source; without names, only what is open of this one
    #[arg(long, value_name = "NAME", value_parser = args::name, add = complete::sources())]
    pub source: Option<String>,

    /// Only what is open with this label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = args::label, conflicts_with = "job_ids")]
    pub label: Vec<(String, String)>,

    /// Wait for the deliveries, too
    #[arg(long)]
    pub delivered: bool,

    /// Give up after this long, whatever the daemon does; its work goes on [default: wait for ever]
    #[arg(long, value_name = "SPAN")]
    pub timeout: Option<HumanDuration>,
}

/// Waits.
///
/// # Errors
/// When the time is up or the daemon cannot be asked.
pub async fn run(args: &WaitArgs, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let patience = Patience::start(args.timeout);
    let mut status = ExitStatus::Done;
    let mut jobs = match args.job_ids.is_empty() {
        true => patience.ask(client, console, async |_| open(args, client).await).await?,
        false => named(args, client, &patience, console).await?,
    };
    while !jobs.is_empty() {
        let limits = Limits { patience, delivered: args.delivered, ..Limits::default() };
        let mut progress = Progress::new(console, jobs.len());
        let tally = follow(client, jobs, &limits, &mut progress).await;
        progress.finish()?;
        status = status.worse(tally?.status());
        jobs = match args.job_ids.is_empty() {
            true => patience.ask(client, console, async |_| open(args, client).await).await?,
            false => Vec::new(),
        };
    }
    Ok(status)
}

/// The jobs that the command names.
async fn named(
    args: &WaitArgs,
    client: &Client,
    patience: &Patience,
    console: &mut Console<'_>,
) -> Result<Vec<Followed>> {
    let source = match &args.source {
        Some(name) => name.clone(),
        None => default_source(&patience.ask(client, console, async |_| client.sources().await).await?)?,
    };
    Ok(args.job_ids.iter().map(|id| Followed { source: source.clone(), job_id: id.clone() }).collect())
}

/// What is open now.
async fn open(args: &WaitArgs, client: &Client) -> Result<Vec<Followed>, ClientError> {
    let mut open = Vec::new();
    let phases = if args.delivered { &OPEN[..] } else { &OPEN[..2] };
    for phase in phases {
        let mut cursor: Option<String> = None;
        loop {
            let mut path = Path::of(&["v1", "watches"]).with("phase", phase).with("limit", "1000");
            path = path.maybe("source", args.source.as_ref()).maybe("cursor", cursor.as_ref());
            for (key, value) in &args.label {
                path = path.with(&format!("label.{key}"), value);
            }
            let page: Page<WatchView> = client.get(&path).await?;
            open.extend(
                page.data.into_iter().map(|watch| Followed { source: watch.source, job_id: watch.job_id }),
            );
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
    }
    Ok(open)
}
