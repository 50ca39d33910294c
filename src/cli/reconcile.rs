//! `tidings reconcile`: recovers jobs that have finished while nobody watched them.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::{
    args::{self, Format},
    client::{Client, Path},
    complete,
    console::Console,
    exit::ExitStatus,
    table::table,
};
use crate::{
    api::view::{ReconcileRequest, ReconcileView},
    util::units::Time,
};

/// The long description of the command.
pub(super) const ABOUT: &str = "Reads the list of a source back to a time. Registers the jobs that have finished while nobody watched \
        them, and waits until the list is read. Their results are fetched and delivered as those of any other job. Jobs that are \
        or were watched stay as they are, and so do jobs that are still running.";

/// The pause between two requests for the state.
const PAUSE: Duration = Duration::from_millis(200);

/// The arguments of `tidings reconcile`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        tidings reconcile --since 7d --dry-run   # how many jobs of the last week were missed\n  \
        tidings reconcile replicate --since 2026-11-23T17:00:00Z\n\n\
        Exit status: 0 done; 1 the list could not be read to its end, or the daemon does not answer; 2 bad usage.")]
pub struct ReconcileArgs {
    /// The source [default: the only one, or retab]
    #[arg(value_name = "SOURCE", value_parser = args::name, add = complete::sources())]
    pub(super) source: Option<String>,

    /// Jobs created or finished since then: a time (RFC 3339), or how long ago (7d)
    #[arg(long, value_name = "WHEN", value_parser = args::instant, default_value = "7d")]
    pub(super) since: Time,

    /// The kind of job [default: the kinds of `discover`, else the default kind of the source]
    #[arg(long, value_name = "KIND")]
    pub(super) kind: Option<String>,

    /// Count the jobs and register none
    #[arg(long)]
    pub(super) dry_run: bool,

    /// How to print the counts
    #[arg(short = 'o', long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Format,
}

/// Begins a reconciliation, waits for its end and prints the counts.
///
/// # Errors
/// When the daemon does not answer or refuses, or the output is closed.
pub(super) async fn run(
    args: &ReconcileArgs,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<ExitStatus> {
    let source = client.source(args.source.as_deref()).await?;
    let path = Path::of(&["v1", "sources", &source, "reconcile"]);
    let request = ReconcileRequest {
        since: Some(args.since.to_string()),
        dry_run: args.dry_run,
        kind: args.kind.clone(),
    };
    let answer = client.post(&path, Some(&request)).await?;
    let mut text = client.read_text(answer).await?;
    let mut view: ReconcileView = client.parse(&text)?;
    while !view.done {
        tokio::time::sleep(PAUSE).await;
        text = client.text(&path).await?;
        view = client.parse(&text)?;
    }
    if args.output == Format::Json {
        writeln!(console.out, "{}", text.trim_end())?;
    } else if view.error.is_none() || view.checked > 0 {
        let recovered = if view.dry_run { "WOULD RECOVER" } else { "RECOVERED" };
        let counts = [view.checked, view.known, view.running, view.recovered].map(|count| count.to_string());
        let row = [vec![view.source], counts.to_vec()].concat();
        let headers = ["SOURCE", "CHECKED", "KNOWN", "RUNNING", recovered];
        console.out.write_all(table(&headers, vec![row]).as_bytes())?;
    }
    match view.error {
        Some(error) => {
            console.note(&format!("the list was not read to its end: {error}"));
            Ok(ExitStatus::Failed)
        }
        None => Ok(ExitStatus::Done),
    }
}
