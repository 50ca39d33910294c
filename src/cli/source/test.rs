//! `tidings source test`: polls a job once, and shows how the answer is read.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;

use super::{test_list as list, test_report};
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
    upstream::{JobRef, ProbeAnswer, Source, SourceKind},
};

/// The long description of the command.
pub(super) const ABOUT: &str = "Polls a job once, as the daemon would. Shows the request, the answer, the value at each pointer of the \
        source, and what they mean. With --list reads the first page of its list, as discovery does. The command asks the source itself with the \
        key of the configuration. It needs no \
        daemon and stores nothing. Exit status: 0 if the status was understood, else 1.";

/// The arguments of `tidings source test`.
#[derive(Clone, Debug, Args)]
pub struct SourceTestArgs {
    /// The source
    #[arg(value_name = "NAME", value_parser = args::name, add = complete::sources())]
    pub(super) name: String,

    /// The job
    #[arg(value_name = "JOB_ID", required_unless_present = "list", conflicts_with = "list")]
    pub(super) job_id: Option<JobId>,

    /// Read the first page of the source's list instead, and show the jobs on it
    #[arg(long)]
    pub(super) list: bool,

    /// The kind of job; default: what the beginning of the id says, else that of the source
    #[arg(long, value_name = "KIND")]
    pub(super) kind: Option<String>,

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
    let kind = match &args.kind {
        None => args.job_id.as_ref().map_or(source.default_kind(), |id| source.kind_by_id(id)),
        Some(name) => source.kind(Some(name)).ok_or_else(|| no_such_kind(&source, name))?,
    };
    let Some(job_id) = &args.job_id else {
        return list::run(&source, kind, console).await;
    };
    let job = JobRef { id: job_id, kind: kind.name(), vars: &vars };
    let probes = source.probe(job).await.map_err(|failure| BadUsage::new(failure.to_string()))?;
    let mut understood = false;
    for probe in &probes {
        test_report::show_exchange(&source, kind, probe, console)?;
        understood = match &probe.answer {
            Ok(ProbeAnswer { status, body: Ok(body), place, .. })
                if body.listed.is_some() || matches!(status, 200..=299) =>
            {
                let place = place.as_ref().and_then(|place| place.as_deref().ok());
                test_report::show_reading(&source, (kind, job), body, place, console)?
            }
            _ => {
                test_report::show_refusal(&source, probe, console)?;
                false
            }
        };
    }
    Ok(if understood { ExitStatus::Done } else { ExitStatus::Failed })
}

/// Returns the error of a kind that the source does not have.
fn no_such_kind(source: &Source, name: &str) -> BadUsage {
    let known: Vec<&str> = source.kinds().iter().filter_map(SourceKind::name).collect();
    let text = match known.as_slice() {
        [] => format!("the source `{}` has no kinds", source.name),
        known => {
            format!("the source `{}` has no kind `{name}`: it has {}", source.name, join_words(known, "and"))
        }
    };
    BadUsage::new(text).maybe_hint(did_you_mean(name, known))
}
