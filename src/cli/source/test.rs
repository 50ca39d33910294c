//! `tidings source test`: polls a job once, and shows how the answer is read.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;

use super::test_report;
use crate::{
    cli::{
        args, complete,
        console::Console,
        exit::{BadUsage, ExitStatus},
        global::Global,
    },
    config::{
        Loader,
        wording::{did_you_mean, join_words},
    },
    model::job::JobId,
    upstream::{JobRef, Source},
};

/// The long description of the command.
pub(super) const ABOUT: &str = "Polls a job once, as the daemon would. Shows the request, the answer, the value at each pointer of the \
        source, and what they mean. The command asks the source itself with the key of the configuration. It needs no \
        daemon and stores nothing. Exit status: 0 if the status was understood, else 1.";

/// The arguments of `tidings source test`.
#[derive(Clone, Debug, Args)]
pub struct SourceTestArgs {
    /// The source
    #[arg(value_name = "NAME", value_parser = args::name, add = complete::sources())]
    pub(super) name: String,

    /// The job
    #[arg(value_name = "JOB_ID")]
    pub(super) job_id: JobId,

    /// Fill a variable of the source's paths; may be repeated
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = args::label)]
    pub(super) vars: Vec<(String, String)>,
}

/// Runs `tidings source test`.
///
/// # Errors
/// When the configuration has mistakes or no such source, or the output is closed.
pub(super) async fn run(
    args: &SourceTestArgs,
    global: &Global,
    console: &mut Console<'_>,
) -> Result<ExitStatus> {
    let loader =
        Loader::from_process(global.overrides()).only(&["server.proxy", &format!("sources.{}", args.name)]);
    let config = loader.load().map_err(|error| BadUsage::new(error.to_string()))?.config;
    let Some(source) = config.sources.get(&args.name) else {
        let known: Vec<&str> = config.sources.keys().map(String::as_str).collect();
        let text = format!(
            "no source is named `{}`: the configuration has {}",
            args.name,
            join_words(&known, "and")
        );
        return Err(BadUsage::new(text).maybe_hint(did_you_mean(&args.name, known)).into());
    };
    let outgoing =
        config.server.outgoing().map_err(|error| BadUsage::new(format!("server.proxy: {error}")))?;
    let source =
        Source::new(&args.name, source, &outgoing).map_err(|error| BadUsage::new(error.to_string()))?;
    let vars: BTreeMap<String, String> = args.vars.iter().cloned().collect();
    let job = JobRef { id: &args.job_id, vars: &vars };
    let probes = source.probe(job).await.map_err(|failure| BadUsage::new(failure.to_string()))?;
    let mut understood = false;
    for probe in &probes {
        test_report::show_exchange(&source, probe, console)?;
        understood = match &probe.body {
            Some(body) if matches!(probe.answer, Ok((200..=299, ..))) => {
                test_report::show_reading(&source, job, body, console)?
            }
            _ => false,
        };
    }
    Ok(if understood { ExitStatus::Done } else { ExitStatus::Failed })
}
