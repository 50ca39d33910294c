//! What is wrong now, each with the way out. `/readyz`, the overview and its readers all ask here.
//!
//! A sentence follows the rules for errors: lower case, no full stop.

use std::{collections::BTreeMap, time::Duration};

use super::{AppState, history::Mishap};
use crate::{
    deliver::CALLBACK_SINK,
    model::sink::{BreakerState, SinkState, SinkStatus},
    schedule::HealthState,
    state::StartStage,
    store::{Counts, StoreError},
    util::{clock, units::Time},
    watcher::SourceState,
};

/// The time after which a sink that an operator paused counts as forgotten.
const PAUSED_LONG: Duration = Duration::from_secs(15 * 60);

/// How bad a problem is. The worse one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Severity {
    /// Something waits, or may be lost later.
    Warning,
    /// Work stands still, or jobs are refused.
    Error,
}

/// What a problem is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Subject {
    Daemon,
    Store,
    Source(String),
    Sink(String),
}

/// What a problem means for `/readyz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Readiness {
    /// The daemon accepts no jobs.
    Unavailable,
    /// Open watches are being scheduled.
    Loading,
    /// A source, a sink or the place of large bodies fails.
    Degraded,
    /// Nothing.
    Ready,
}

/// Something that is wrong now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CurrentProblem {
    /// A word for programs.
    pub(crate) code: &'static str,
    pub(crate) severity: Severity,
    pub(crate) subject: Subject,
    pub(crate) readiness: Readiness,
    /// Since when, as far as that was seen.
    pub(crate) since: Option<Time>,
    /// What is wrong, with the error.
    pub(crate) summary: String,
    /// The way out.
    pub(crate) remedy: String,
}

impl CurrentProblem {
    fn new(
        code: &'static str,
        severity: Severity,
        subject: Subject,
        summary: String,
        remedy: String,
    ) -> Self {
        Self { code, severity, subject, readiness: Readiness::Ready, since: None, summary, remedy }
    }

    fn error(code: &'static str, subject: Subject, summary: String, remedy: String) -> Self {
        Self::new(code, Severity::Error, subject, summary, remedy)
    }

    fn warning(code: &'static str, subject: Subject, summary: String, remedy: String) -> Self {
        Self::new(code, Severity::Warning, subject, summary, remedy)
    }

    fn with(self, readiness: Readiness) -> Self {
        Self { readiness, ..self }
    }

    fn since(self, since: Time) -> Self {
        Self { since: Some(since), ..self }
    }

    /// Returns the code as `/readyz` shows it, with the name of a source or sink.
    pub(crate) fn reason(&self) -> String {
        match &self.subject {
            Subject::Source(name) | Subject::Sink(name) => format!("{}:{name}", self.code),
            Subject::Daemon | Subject::Store => self.code.to_owned(),
        }
    }
}

/// Returns the word for the readiness of a daemon with these problems.
pub(crate) fn state_word(problems: &[CurrentProblem]) -> &'static str {
    let any = |readiness| problems.iter().any(|problem| problem.readiness == readiness);
    match () {
        () if any(Readiness::Unavailable) => "unavailable",
        () if any(Readiness::Loading) => "loading",
        () if any(Readiness::Degraded) => "degraded",
        () => "ready",
    }
}

/// Since when each problem is seen.
#[derive(Debug, Default)]
pub(super) struct Onsets(BTreeMap<(&'static str, Subject), Time>);

impl Onsets {
    /// Notes the problems that are new, and forgets those that are over. Completes their times.
    pub(super) fn see(&mut self, problems: &mut [CurrentProblem], now: Time) {
        let known = std::mem::take(&mut self.0);
        for problem in problems {
            let key = (problem.code, problem.subject.clone());
            let since = problem.since.or(known.get(&key).copied()).unwrap_or(now);
            problem.since = Some(since);
            self.0.insert(key, since);
        }
    }
}

/// Returns what is wrong now, worst first. `sinks` is the health of every sink.
pub(super) fn find(state: &AppState, sinks: &[SinkStatus]) -> Vec<CurrentProblem> {
    let live = state.components();
    let mut problems = of_daemon(state);
    let now = tokio::time::Instant::now();
    let counts = state.store.counts().unwrap_or_default();
    problems.extend(live.watchers.values().flat_map(|watcher| of_source(watcher, now)));
    problems.extend(orphaned(&counts, |source| live.watchers.contains_key(source)));
    problems.extend(sinks.iter().flat_map(of_sink));
    problems.extend(dead_letters(counts.dead));
    problems.extend(of_history(state, live.sinks.names().next()));
    problems.extend(refused_reload(state));
    problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
    one_each(problems)
}

/// Keeps the first problem of each code and subject.
fn one_each(problems: Vec<CurrentProblem>) -> Vec<CurrentProblem> {
    let mut kept: Vec<CurrentProblem> = Vec::new();
    for problem in problems {
        if !kept.iter().any(|known| known.code == problem.code && known.subject == problem.subject) {
            kept.push(problem);
        }
    }
    kept
}

/// Returns why the daemon as a whole takes no jobs, or knows not all of them yet.
fn of_daemon(state: &AppState) -> Vec<CurrentProblem> {
    let mut problems = Vec::new();
    let stage = *state.start.borrow();
    if stage == StartStage::Restoring {
        let (summary, remedy) = ("the store is loading", "wait; the daemon takes jobs when it is done");
        let problem = CurrentProblem::warning("store_loading", Subject::Store, summary.into(), remedy.into());
        problems.push(problem.with(Readiness::Unavailable));
    }
    if state.shutdown.is_cancelled() {
        let remedy = "start it again; accepted jobs and open deliveries are on disk";
        let summary = "the daemon is stopping".to_owned();
        let problem = CurrentProblem::warning("stopping", Subject::Daemon, summary, remedy.into());
        problems.push(problem.with(Readiness::Unavailable));
    }
    // What failed says more than how much is free.
    let errors = state.store.trouble().into_iter().chain(state.store.check_space().err());
    problems.extend(errors.map(|error| of_store(&error, state.store.seat().is_some())));
    problems.extend(over_lease(state).filter(|_| stage != StartStage::Restoring));
    if let Some(why) = state.store.bodies().trouble() {
        let summary = format!("finished jobs over 256 KiB wait to be stored: {why}");
        let remedy =
            "see to the object storage of `store.bodies`; the daemon tries it again by itself".to_owned();
        let problem = CurrentProblem::error("bodies_unavailable", Subject::Store, summary, remedy);
        problems.push(problem.with(Readiness::Degraded));
    }
    let unreadable = state.store.unreadable();
    if unreadable > 0 {
        let summary = format!("{} cannot be read, and {} passed over", records(unreadable), were(unreadable));
        let remedy = "`tidings store check` on the stopped daemon names them; `tidings unwatch` removes such a \
                      watch";
        let problem = CurrentProblem::error("records_unreadable", Subject::Store, summary, remedy.to_owned());
        problems.push(problem);
    }
    if stage == StartStage::Loading {
        let summary = "open watches are being scheduled after the start; jobs are accepted".to_owned();
        let remedy = "wait; a job that is asked for by its id is scheduled at once".to_owned();
        let problem = CurrentProblem::warning("watches_loading", Subject::Store, summary, remedy);
        problems.push(problem.with(Readiness::Loading));
    }
    problems
}

fn records(count: usize) -> String {
    if count == 1 { "one record of the store".to_owned() } else { format!("{count} records of the store") }
}

fn were(count: usize) -> &'static str {
    if count == 1 { "was" } else { "were" }
}

/// Returns the problem of an owner whose lease on the database is over. Another process may have it, or nobody.
fn over_lease(state: &AppState) -> Option<CurrentProblem> {
    state.store.term().left().filter(Duration::is_zero)?;
    let summary = "the lease on the database is over, so nothing is sent to sources, sinks and callbacks";
    let remedy = "see to the database and the network to it: a commit took longer than 7 seconds; the daemon goes on with \
                  the next one, or another replica takes over";
    let problem = CurrentProblem::error("lease_over", Subject::Store, summary.to_owned(), remedy.to_owned());
    Some(problem.with(Readiness::Degraded))
}

fn of_store(error: &StoreError, is_database: bool) -> CurrentProblem {
    let (code, remedy) = match error {
        StoreError::Full(_) if is_database => {
            ("disk_full", "free or enlarge the volume of the database; the daemon then takes jobs again")
        }
        StoreError::ReadOnly(_) if is_database => (
            "store_unavailable",
            "let `store.url` lead to a server that takes writes, such as the primary; the daemon then goes on by itself",
        ),
        StoreError::Unavailable(_) if is_database => (
            "store_unavailable",
            "see to the database and the network to it; the daemon goes on by itself once it is back",
        ),
        StoreError::Full(_) => (
            "disk_full",
            "free or enlarge the volume of the data folder, or lower `store.min_free`; the daemon then takes jobs again",
        ),
        StoreError::ReadOnly(_) => (
            "store_unavailable",
            "make the volume of the data folder writable; the daemon opens the store again by itself",
        ),
        StoreError::Unavailable(_) => (
            "store_unavailable",
            "see to the volume of the data folder; the daemon opens the store again by itself, unless the folder was replaced",
        ),
        StoreError::Damaged(_) => (
            "store_damaged",
            "stop the daemon, copy the data folder, and run `tidings store check`; a backup restores it",
        ),
        StoreError::Record(_) => ("record_unreadable", "`tidings store check` names the record"),
    };
    CurrentProblem::error(code, Subject::Store, error.to_string(), remedy.to_owned())
        .with(Readiness::Unavailable)
}

fn of_source(watcher: &SourceState, now: tokio::time::Instant) -> Vec<CurrentProblem> {
    let name = &watcher.source.name;
    let subject = || Subject::Source(name.clone());
    let mut problems = Vec::new();
    let health = watcher.schedule().shown_state(now);
    let summary = || {
        let error = watcher.last_error().unwrap_or_default();
        format!("source `{name}` is {}: {error}", health.as_str())
    };
    let budget = watcher.budget.name().map_or_else(
        || format!("sources.{name}.max_requests_per_second"),
        |budget| format!("budgets.{budget}.max_requests_per_second"),
    );
    let found = match health {
        HealthState::Ok => None,
        HealthState::Unauthorized => Some(CurrentProblem::error(
            "source_unauthorized",
            subject(),
            summary(),
            format!(
                "give it valid credentials: a file that `sources.{name}` names is read again by itself; after a change of \
                 the configuration run `tidings reload`, after one of the environment restart the daemon"
            ),
        )),
        HealthState::Failing => Some(CurrentProblem::error(
            "source_failing",
            subject(),
            summary(),
            format!("`tidings source test {name}` shows its answer; polling goes on once it answers"),
        )),
        HealthState::Limited => Some(CurrentProblem::warning(
            "source_limited",
            subject(),
            summary(),
            format!(
                "wait: polling goes on by itself; lower `{budget}` and run `tidings reload` if it happens often"
            ),
        )),
    };
    problems.extend(found.map(|problem| problem.with(Readiness::Degraded)));
    // Without the number of them: anybody can send one, and each would make every page read again.
    if let (_, Some(why)) = watcher.hooks.refused() {
        let summary = format!("the last hook for source `{name}` was refused: {why}");
        let remedy = format!(
            "compare the secret in `sources.{name}.hooks` with the one at the source; polls find the ends meanwhile"
        );
        problems.push(CurrentProblem::warning("hooks_refused", subject(), summary, remedy));
    }
    let list = watcher.lists.stats();
    if health == HealthState::Ok
        && let Some(why) = list.discovery_error.or(list.last_error)
    {
        let summary = format!("the list of source `{name}` cannot be read: {why}");
        let remedy = format!("`tidings source test {name} --list` shows its first page");
        problems.push(CurrentProblem::warning("list_failing", subject(), summary, remedy));
    }
    problems
}

/// Returns the sources that are not configured any more and have open watches.
fn orphaned(counts: &Counts, is_configured: impl Fn(&str) -> bool) -> Vec<CurrentProblem> {
    let orphaned = counts.open().filter(|(source, open)| *open > 0 && !is_configured(source));
    let problem = |(source, open): (&str, u64)| {
        let waiting =
            if open == 1 { "one open watch waits".to_owned() } else { format!("{open} open watches wait") };
        let summary = format!("source `{source}` is not configured, and {waiting} for it");
        let remedy = format!(
            "configure it again; or end them: `tidings list --source {source}` lists them, and `tidings unwatch --source \
             {source} JOB_ID` ends one"
        );
        CurrentProblem::error("source_not_configured", Subject::Source(source.to_owned()), summary, remedy)
    };
    orphaned.map(problem).collect()
}

fn of_sink(sink: &SinkStatus) -> Vec<CurrentProblem> {
    let name = &sink.name;
    let subject = || Subject::Sink(name.clone());
    let mut problems = Vec::new();
    let waiting = match sink.pending {
        1 => "one delivery waits".to_owned(),
        pending => format!("{pending} deliveries wait"),
    };
    match sink.state {
        SinkState::Failing => {
            let error = sink.last_error.as_deref().unwrap_or_default();
            let remedy = match sink.breaker {
                BreakerState::Closed => format!(
                    "repair the receiver; a delivery that succeeds ends this, and so does `tidings sink test {name}` unless the receiver \
                     refuses single events"
                ),
                BreakerState::Open | BreakerState::HalfOpen => format!(
                    "repair the receiver; `tidings sink test {name}` closes the breaker with a success, and `tidings sink \
                     pause {name}` keeps deliveries from becoming dead letters"
                ),
            };
            let summary = format!("sink `{name}` is failing: {error}");
            let problem = CurrentProblem::error("sink_failing", subject(), summary, remedy);
            problems.push(problem.with(Readiness::Degraded));
        }
        SinkState::NotConfigured => {
            let summary = format!("sink `{name}` is not configured, and {waiting} for it");
            let remedy = format!(
                "configure it again; or move its backlog with `tidings sink move {name} OTHER`, or drop it with `tidings \
                 sink drop {name}`"
            );
            problems.push(CurrentProblem::error("sink_not_configured", subject(), summary, remedy));
        }
        SinkState::Paused => {
            if let Some(since) = sink.paused_at.filter(|since| clock::age(*since) >= PAUSED_LONG) {
                let summary = format!("sink `{name}` is paused by an operator, and {waiting} for it");
                let remedy = format!("run `tidings sink resume {name}` once it may take deliveries");
                problems
                    .push(CurrentProblem::warning("sink_paused", subject(), summary, remedy).since(since));
            }
        }
        SinkState::Ok => {
            if sink.quiet_until.is_some() {
                let summary = format!("sink `{name}` asked for a pause, and {waiting} for it");
                let remedy = format!(
                    "wait: deliveries continue by themselves; lower `sinks.{name}.max_per_second` if it happens often"
                );
                problems.push(CurrentProblem::warning("sink_limited", subject(), summary, remedy));
            }
        }
    }
    if name == CALLBACK_SINK
        && let failing = sink.origins.iter().filter(|origin| origin.state == SinkState::Failing)
        && let (Some(first), count) = (failing.clone().next(), failing.count())
    {
        let error = first.last_error.as_deref().unwrap_or_default();
        let others = match count {
            1 => String::new(),
            count => format!(", and {} more", count - 1),
        };
        let summary = format!("the callback receiver {} is failing{others}: {error}", first.origin);
        let remedy =
            "repair the receivers; `tidings deliveries --sink callback --state pending` shows what waits"
                .to_owned();
        problems.push(CurrentProblem::warning("callback_failing", subject(), summary, remedy));
    }
    problems
}

/// Returns the sinks with dead letters, which stay until retention.
fn dead_letters(dead: BTreeMap<String, u64>) -> Vec<CurrentProblem> {
    let problem = |(name, count): (String, u64)| {
        let summary = format!("{} of sink `{name}` failed for good", dead_deliveries(count));
        let remedy = format!(
            "`tidings deliveries --state dead --sink {name}` shows the reasons; repair the cause, then run `tidings redeliver \
             --state dead --sink {name} --all`"
        );
        CurrentProblem::warning("dead_letters", Subject::Sink(name), summary, remedy)
    };
    dead.into_iter().map(problem).collect()
}

fn dead_deliveries(count: u64) -> String {
    if count == 1 { "one delivery".to_owned() } else { format!("{count} deliveries") }
}

/// Returns what happened in the last hour and cannot be undone by waiting. `sink` is one that is configured.
fn of_history(state: &AppState, sink: Option<&str>) -> Vec<CurrentProblem> {
    let history = state.observed.history();
    let mut problems = Vec::new();
    let panics = history.mishaps(Mishap::Panic);
    if panics > 0 {
        let summary = format!(
            "{} in the last hour; the work on one job each was stopped and tried again",
            counted(panics, "panic")
        );
        let remedy = "find `panic:` in the log and report it with the line before it".to_owned();
        problems.push(CurrentProblem::error("panics", Subject::Daemon, summary, remedy));
    }
    let unrouted = history.mishaps(Mishap::Unrouted);
    // Without a sink, applications read results by the API alone.
    if let Some(sink) = sink.filter(|_| unrouted > 0) {
        let summary = format!("no sink took {} in the last hour", counted(unrouted, "event"));
        let remedy = format!(
            "`tidings events --unrouted` lists them; repair the routes, run `tidings reload`, then `tidings deliver --sink \
             {sink} --unrouted`"
        );
        problems.push(CurrentProblem::warning("events_unrouted", Subject::Daemon, summary, remedy));
    }
    let lines = history.mishaps(Mishap::LineDropped);
    if lines > 0 {
        let summary = format!(
            "{} dropped in the last hour, because nothing reads stderr fast enough",
            counted(lines, "log line")
        );
        let remedy = "see to what reads the log of the daemon, or set `log.level` to `warn`".to_owned();
        problems.push(CurrentProblem::warning("log_lines_dropped", Subject::Daemon, summary, remedy));
    }
    problems
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("one {what}") } else { format!("{count} {what}s") }
}

fn refused_reload(state: &AppState) -> Option<CurrentProblem> {
    let (at, why) = state.observed.refused_reload()?;
    let summary = format!("the last reload was refused, and the configuration before it holds: {why}");
    let remedy =
        "`tidings config check` lists every mistake; repair the file and run `tidings reload`, or restart the daemon for what \
         only a start can change".to_owned();
    Some(CurrentProblem::warning("reload_refused", Subject::Daemon, summary, remedy).since(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(code: &'static str, name: &str) -> CurrentProblem {
        CurrentProblem::error(code, Subject::Sink(name.to_owned()), String::new(), String::new())
    }

    #[test]
    fn a_problem_is_as_old_as_it_has_been_seen_without_a_break() {
        let mut onsets = Onsets::default();
        let seen = |onsets: &mut Onsets, names: &[&str], now| {
            let mut problems: Vec<_> = names.iter().map(|name| problem("sink_failing", name)).collect();
            onsets.see(&mut problems, Time(now));
            problems.into_iter().map(|problem| problem.since.unwrap().0).collect::<Vec<_>>()
        };
        assert_eq!(seen(&mut onsets, &["a"], 1), [1]);
        assert_eq!(seen(&mut onsets, &["b", "a"], 2), [2, 1]);
        assert_eq!(seen(&mut onsets, &["b"], 3), [2]);
        assert_eq!(seen(&mut onsets, &["a", "b"], 4), [4, 2], "it was well meanwhile");
        assert_eq!(seen(&mut onsets, &["a", "a"], 5), [4, 4], "it is there twice");
        assert_eq!(seen(&mut onsets, &["a", "a"], 6), [4, 4]);
        let mut told = [problem("sink_paused", "a").since(Time(0))];
        onsets.see(&mut told, Time(9));
        assert_eq!(told[0].since, Some(Time(0)), "it says so itself");
    }

    #[test]
    fn a_subject_has_one_problem_of_a_code() {
        let told = |summary: &str| CurrentProblem { summary: summary.to_owned(), ..problem("full", "a") };
        let kept = one_each(vec![told("first"), problem("full", "b"), told("second"), problem("slow", "a")]);
        let kept: Vec<_> = kept.iter().map(|problem| (problem.reason(), problem.summary.as_str())).collect();
        let wanted = [("full:a", "first"), ("full:b", ""), ("slow:a", "")];
        assert_eq!(kept, wanted.map(|(reason, summary)| (reason.to_owned(), summary)));
    }

    #[test]
    fn the_worst_decides_the_state() {
        let with = |readiness| problem("x", "a").with(readiness);
        let all =
            [Readiness::Ready, Readiness::Degraded, Readiness::Loading, Readiness::Unavailable].map(with);
        let words = [1, 2, 3, 4].map(|count| state_word(&all[..count]));
        assert_eq!(words, ["ready", "degraded", "loading", "unavailable"]);
        assert_eq!(state_word(&[]), "ready");
    }
}
