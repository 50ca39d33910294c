//! `tidings unwatch`: ends watches.

use anyhow::Result;
use clap::Args;
use http::Method;
use serde_json::json;

use super::{
    args::{self, Format},
    client::{Client, Path, WRITE_TIMEOUT},
    complete,
    console::Console,
    exit::ExitStatus,
    phrases::clean,
};
use crate::model::job::JobId;

/// The long description of the command.
pub(super) const ABOUT: &str = "Ends watches: the daemon stops polling their jobs and drops their pending deliveries. The jobs \
        themselves continue.";

/// The arguments of `tidings unwatch`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        tidings unwatch job_V1St\n  \
        tidings unwatch --source replicate 1a2b 3c4d\n\n\
        Exit status: 0 done; 1 some watch could not be ended (the others were); 2 bad usage.")]
pub struct UnwatchArgs {
    /// The jobs
    #[arg(value_name = "JOB_ID", required = true, add = complete::jobs())]
    pub(super) job_ids: Vec<JobId>,

    /// The source the jobs belong to [default: the only one, or retab]
    #[arg(long, value_name = "NAME", value_parser = args::name, add = complete::sources())]
    pub(super) source: Option<String>,

    /// The kind of the jobs, for an id that is watched under several
    #[arg(long, value_name = "KIND")]
    pub(super) kind: Option<String>,

    /// How to print the result; json is one object with `data` and `next_cursor`
    #[arg(short = 'o', long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Format,
}

/// Ends watches, one after the other.
///
/// # Errors
/// When the daemon does not answer or the output is closed; a refusal of one watch is a remark.
pub(super) async fn run(
    args: &UnwatchArgs,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<ExitStatus> {
    let mut status = ExitStatus::Done;
    let mut results = Vec::new();
    let source = client.source(args.source.as_deref()).await?;
    for job_id in &args.job_ids {
        let path = Path::of(&["v1", "watches", &source, job_id.as_str()]).maybe("kind", args.kind.as_deref());
        let ended = match client.send(Method::DELETE, &path, None, Some(WRITE_TIMEOUT)).await {
            Ok(_) => true,
            Err(error) if error.is_transient() => return Err(error.into()),
            Err(error) => {
                console.note(&format!("{}: {error}", clean(job_id.as_str())));
                status = ExitStatus::Failed;
                false
            }
        };
        match args.output {
            Format::Json => results.push(json!({"source": source, "job_id": job_id, "ended": ended})),
            Format::Table if ended => writeln!(console.out, "stopped watching {}", clean(job_id.as_str()))?,
            Format::Table => {}
        }
    }
    if args.output == Format::Json {
        writeln!(console.out, "{}", json!({"data": results, "next_cursor": null}))?;
    }
    Ok(status)
}
