//! Shell completion: commands and flags from the parser, names of sinks, sources, jobs and deliveries from the running
//! daemon. One that does not answer at once is passed over in silence: a person waits at the prompt.

use std::{ffi::OsStr, time::Duration};

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};
use clap_complete::{
    CompleteEnv,
    engine::{ArgValueCompleter, CompletionCandidate},
};
use serde_json::Value;
use tokio::{runtime::Builder, time::timeout};

use super::{Cli, Global, target::Path};
use crate::api::view::Page;

/// The variable by which the script of a shell asks for completions. It is no `TIDINGS_` variable: those are keys of the
/// configuration.
pub(super) const VARIABLE: &str = "_TIDINGS_COMPLETE";

/// How long the daemon may take for all of its answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// The newest jobs or deliveries that are offered.
const OFFERED: &str = "200";

/// Answers a shell that asks for completions, and ends the process. Returns when none asks.
pub fn answer() {
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete();
}

/// Completes the name of a sink.
#[must_use]
pub fn sinks() -> ArgValueCompleter {
    offer(|_| Path::of(&["v1", "sinks"]), "name", "state")
}

/// Completes the name of a source.
#[must_use]
pub fn sources() -> ArgValueCompleter {
    offer(|_| Path::of(&["v1", "sources"]), "name", "state")
}

/// Completes the id of a job, of the source that the command line names.
#[must_use]
pub fn jobs() -> ArgValueCompleter {
    let path = |matches: &ArgMatches| {
        let source = matches.try_get_one::<String>("source").ok().flatten();
        Path::of(&["v1", "watches"]).with("limit", OFFERED).maybe("source", source)
    };
    offer(path, "job_id", "phase")
}

/// Completes the id of a delivery.
#[must_use]
pub fn deliveries() -> ArgValueCompleter {
    offer(|_| Path::of(&["v1", "deliveries"]).with("limit", OFFERED), "id", "state")
}

/// Offers the field `name` of the entries of a list, explained by their field `help`.
fn offer(path: fn(&ArgMatches) -> Path, name: &'static str, help: &'static str) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| {
        let Some(current) = current.to_str() else { return Vec::new() };
        let text = |entry: &Value, key: &str| entry[key].as_str().map(str::to_owned);
        let named = |entry: &Value| {
            let value = text(entry, name).filter(|value| is_plain(value))?;
            let help = text(entry, help).filter(|help| is_plain(help));
            value.starts_with(current).then(|| CompletionCandidate::new(value).help(help.map(Into::into)))
        };
        entries(path).unwrap_or_default().iter().filter_map(named).collect()
    })
}

/// Whether every shell takes a text for itself and for one word. Shells insert what is offered as it is, so `$(…)` in the id of a
/// job would be run with the command line.
fn is_plain(text: &str) -> bool {
    let is_safe = |c: char| c.is_alphanumeric() || "_-.:/@%+=,".contains(c);
    !text.starts_with('-') && text.chars().all(is_safe)
}

/// The entries of a list of the daemon that the command line so far names; `None` when it does not answer.
fn entries(path: fn(&ArgMatches) -> Path) -> Option<Vec<Value>> {
    // The script calls `tidings -- WORD…`, with the words of the line so far.
    let words = std::env::args_os().skip_while(|word| word != "--").skip(1);
    let (global, path) = read(words, path)?;
    let client = global.client().ok()?;
    let runtime = Builder::new_current_thread().enable_all().build().ok()?;
    let page: Page<Value> =
        runtime.block_on(async { timeout(PATIENCE, client.get(&path)).await }).ok()?.ok()?;
    Some(page.data)
}

/// Reads a command line that is not complete.
fn read<I>(words: I, path: fn(&ArgMatches) -> Path) -> Option<(Global, Path)>
where
    I: IntoIterator,
    I::Item: Into<std::ffi::OsString> + Clone,
{
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(words).ok()?;
    let global = Global::from_arg_matches(&matches).ok()?;
    let mut innermost = &matches;
    while let Some((_, inner)) = innermost.subcommand() {
        innermost = inner;
    }
    Some((global, path(innermost)))
}
