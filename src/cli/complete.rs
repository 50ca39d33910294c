//! Shell completion: commands and flags from the parser, names of sinks, sources, jobs and deliveries from the running daemon.
//! A daemon that does not answer at once offers no names, without an error: a person waits at the prompt.

use std::{ffi::OsStr, sync::OnceLock, time::Duration};

use clap::{ArgMatches, Command, FromArgMatches as _};
use clap_complete::{
    CompleteEnv,
    engine::{ArgValueCompleter, CompletionCandidate},
};
use serde_json::Value;
use tokio::{runtime::Builder, time::timeout};

use super::{client::Path, global::Global};
use crate::api::view::Page;

/// The variable by which the script of a shell asks for completions. `TIDINGS_…` would be a key of the configuration.
pub(super) const VARIABLE: &str = "_TIDINGS_COMPLETE";

/// The longest wait for the daemon's answer.
const TIMEOUT: Duration = Duration::from_millis(500);

/// The most jobs or deliveries that are offered, newest first.
const OFFERED: &str = "200";

/// Builds the parser of the command line, which offers names through this module.
type Parser = fn() -> Command;

static PARSER: OnceLock<Parser> = OnceLock::new();

/// Answers a shell that asks for completions, and ends the process. Returns if none asks.
pub fn answer(parser: Parser) {
    let parser = *PARSER.get_or_init(|| parser);
    CompleteEnv::with_factory(parser).var(VARIABLE).complete();
}

/// Completes the name of a sink.
#[must_use]
pub(super) fn sinks() -> ArgValueCompleter {
    offer(|_| Path::of(&["v1", "sinks"]), "name", "state")
}

/// Completes the name of a source.
#[must_use]
pub(super) fn sources() -> ArgValueCompleter {
    offer(|_| Path::of(&["v1", "sources"]), "name", "state")
}

/// Completes the name of a group.
#[must_use]
pub(super) fn groups() -> ArgValueCompleter {
    offer(|_| Path::of(&["v1", "groups"]).with("limit", OFFERED), "name", "state")
}

/// Completes the id of a job of the source that the command line names.
#[must_use]
pub(super) fn jobs() -> ArgValueCompleter {
    let path = |matches: &ArgMatches| {
        let source = matches.try_get_one::<String>("source").ok().flatten();
        Path::of(&["v1", "watches"]).with("limit", OFFERED).maybe("source", source)
    };
    offer(path, "job_id", "phase")
}

/// Completes the id of a delivery.
#[must_use]
pub(super) fn deliveries() -> ArgValueCompleter {
    offer(|_| Path::of(&["v1", "deliveries"]).with("limit", OFFERED), "id", "state")
}

/// Offers the field `name` of each entry of a list, with its field `help` as the explanation.
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

/// Whether every shell reads `text` as one plain word. Shells insert an offer unquoted, so they would run `$(…)` in the id of a job.
fn is_plain(text: &str) -> bool {
    let is_safe = |c: char| c.is_alphanumeric() || "_-.:/@%+=,".contains(c);
    !text.starts_with('-') && text.chars().all(is_safe)
}

/// Returns the entries of a list; `None` if the daemon does not answer.
fn entries(path: fn(&ArgMatches) -> Path) -> Option<Vec<Value>> {
    // The script calls `tidings -- WORD…` with the words of the line so far.
    let words = std::env::args_os().skip_while(|word| word != "--").skip(1);
    let (global, path) = read(words, path)?;
    let client = global.client().ok()?;
    let runtime = Builder::new_current_thread().enable_all().build().ok()?;
    let page: Page<Value> =
        runtime.block_on(async { timeout(TIMEOUT, client.get(&path)).await }).ok()?.ok()?;
    Some(page.data)
}

/// Reads an incomplete command line.
fn read<I>(words: I, path: fn(&ArgMatches) -> Path) -> Option<(Global, Path)>
where
    I: IntoIterator,
    I::Item: Into<std::ffi::OsString> + Clone,
{
    let matches = PARSER.get()?().ignore_errors(true).try_get_matches_from(words).ok()?;
    let global = Global::from_arg_matches(&matches).ok()?;
    let mut innermost = &matches;
    while let Some((_, inner)) = innermost.subcommand() {
        innermost = inner;
    }
    Some((global, path(innermost)))
}
