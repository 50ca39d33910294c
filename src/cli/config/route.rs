//! `tidings config route`: the sinks that an event would go to, and why.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        args::{Format, label},
        exit::BadUsage,
        table::table,
    },
    config::{
        Config, default_source,
        wording::{did_you_mean, join_words},
    },
    model::job::{EventType, Outcome},
    routing::{Facts, Router},
};

/// The event, as far as routes read it.
#[derive(Clone, Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["outcome", "event"])))]
pub struct RouteArgs {
    /// The outcome of the job: completed, failed, cancelled, expired or lost
    #[arg(long, value_name = "OUTCOME", value_parser = outcome)]
    outcome: Option<EventType>,

    /// The event's type: job.completed … job.lost, job.started or job.updated
    #[arg(long, value_name = "TYPE", value_parser = event)]
    event: Option<EventType>,

    /// The status of the job, in the source's own word
    #[arg(long, value_name = "WORD")]
    status: Option<String>,

    /// The source's name [default: the only one, or retab]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,

    /// The kind of the job
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,

    /// The endpoint of the job
    #[arg(long, value_name = "PATH")]
    endpoint: Option<String>,

    /// A label of the watch; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,

    /// A pair of the job's own metadata; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    metadata: Vec<(String, String)>,

    /// A sink that the watch names, instead of the routes; may be repeated
    #[arg(long = "sink", value_name = "NAME")]
    sinks: Vec<String>,

    /// How to print the answer: for people (table) or for programs (json)
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    output: Format,
}

fn outcome(text: &str) -> Result<EventType, String> {
    let known = Outcome::ALL.map(Outcome::as_str);
    let found = Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == text);
    found.map(EventType::Ended).ok_or_else(|| unknown("outcome", text, &known))
}

fn event(text: &str) -> Result<EventType, String> {
    let known = EventType::ALL.map(EventType::as_str);
    let found = EventType::ALL.into_iter().find(|event| event.as_str() == text);
    found.ok_or_else(|| unknown("event", text, &known))
}

/// Returns the message of an unknown name.
fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    match known {
        [] => format!("no {what} is named `{name}`: none is configured"),
        _ => format!("no {what} is named `{name}`: expected {}", join_words(known, "or")),
    }
}

/// Returns the error of an unknown name, with the nearest known one.
fn unknown_name(what: &str, name: &str, known: &[&str]) -> BadUsage {
    BadUsage::new(unknown(what, name, known)).maybe_hint(did_you_mean(name, known.iter().copied()))
}

impl RouteArgs {
    /// Returns for each sink of `config` whether it would get the event, and why.
    ///
    /// # Errors
    /// When a source or a sink is not configured.
    pub(super) fn explain(&self, config: &Config) -> Result<String, BadUsage> {
        let sources: Vec<&str> = config.sources.keys().map(String::as_str).collect();
        let source = match self.source.as_deref() {
            None => default_source(sources.iter().copied())
                .map_err(|reason| BadUsage::new(reason).hint("name one with --source"))?,
            Some(name) if sources.contains(&name) => name,
            Some(name) => return Err(unknown_name("source", name, &sources)),
        };
        let sinks: Vec<&str> = config.sinks.keys().map(String::as_str).collect();
        if let Some(name) = self.sinks.iter().find(|name| !sinks.contains(&name.as_str())) {
            return Err(unknown_name("sink", name, &sinks));
        }
        // The group of arguments makes sure that one of the two is set.
        let event = self.event.or(self.outcome).unwrap_or(EventType::Ended(Outcome::Completed));
        let pairs = |pairs: &[(String, String)]| pairs.iter().cloned().collect::<BTreeMap<_, _>>();
        let (labels, metadata) = (pairs(&self.labels), pairs(&self.metadata));
        let facts = Facts {
            event,
            source: Some(source),
            status: self.status.as_deref(),
            kind: self.kind.as_deref(),
            endpoint: self.endpoint.as_deref(),
            labels: &labels,
            metadata: Some(&metadata),
            sinks: (!self.sinks.is_empty()).then_some(self.sinks.as_slice()),
            callback: false,
        };
        let facts = if event.is_of_job() { facts } else { Facts::without_job(event) };
        Ok(self.print(config, &facts))
    }

    fn print(&self, config: &Config, facts: &Facts<'_>) -> String {
        let decisions = Router::new(&config.sinks, &config.routes).explain(facts);
        if self.output == Format::Json {
            let sinks = decisions
                .iter()
                .map(|one| json!({"sink": one.sink, "gets": one.gets(), "why": one.reason.to_string()}))
                .collect::<Vec<_>>();
            let explained = json!({"type": facts.event.as_str(), "source": facts.source, "sinks": sinks});
            return format!("{explained:#}\n");
        }
        let takers: Vec<&str> =
            decisions.iter().filter(|one| one.gets()).map(|one| one.sink.as_str()).collect();
        let event = match facts.source {
            Some(source) => format!("{} of source {source}", facts.event),
            None => facts.event.to_string(),
        };
        let mut text = match takers.as_slice() {
            _ if decisions.is_empty() => format!("{event} goes nowhere: no sink is configured\n"),
            [] => format!("{event} goes nowhere\n\n"),
            takers => format!("{event} goes to {}\n\n", takers.join(", ")),
        };
        let row = |one: &crate::routing::RouteDecision| {
            let gets = if one.gets() { "yes" } else { "no" };
            vec![one.sink.clone(), gets.to_owned(), one.reason.to_string()]
        };
        if !decisions.is_empty() {
            text.push_str(&table(&["SINK", "GETS IT", "WHY"], decisions.iter().map(row).collect()));
        }
        text
    }
}
