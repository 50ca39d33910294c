//! `tidings config route`: where an event would go, and why.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        args::{Format, label},
        output::table,
    },
    config::{Config, default_source, did_you_mean, listed},
    model::job::{EventType, Outcome},
    routing::{Facts, Router},
};

/// An event, as far as routes look at it.
#[derive(Clone, Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["outcome", "event"])))]
pub struct RouteArgs {
    /// The end of a job: completed, failed, cancelled, expired or lost
    #[arg(long, value_name = "OUTCOME", value_parser = outcome)]
    outcome: Option<EventType>,

    /// The event's type: job.completed … job.lost, job.started or job.updated
    #[arg(long, value_name = "TYPE", value_parser = event)]
    event: Option<EventType>,

    /// The source's own last word
    #[arg(long, value_name = "WORD")]
    status: Option<String>,

    /// The source's name [default: the only one, or retab]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,

    /// The operation that the job ran
    #[arg(long, value_name = "PATH")]
    endpoint: Option<String>,

    /// A label of the watch; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,

    /// A pair of the job's own metadata; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    metadata: Vec<(String, String)>,

    /// A sink that the watch names, instead of what the routes say; may be given several times
    #[arg(long = "sink", value_name = "NAME")]
    sinks: Vec<String>,

    /// For people (table) or for programs (json)
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

/// That there is no such name, and which there are.
fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let there = match known {
        [] => "none is configured".to_owned(),
        [only] => format!("there is `{only}`"),
        _ => format!("there are {}", listed(known, "and")),
    };
    format!("there is no {what} `{name}`, {there}{}", did_you_mean(name, known.iter().copied()))
}

impl RouteArgs {
    /// Says of each sink of `config` whether it would get the event, and why.
    ///
    /// # Errors
    /// In words, when a source or a sink is not configured.
    pub fn explain(&self, config: &Config) -> Result<String, String> {
        let sources: Vec<&str> = config.sources.keys().map(String::as_str).collect();
        let source = match self.source.as_deref() {
            None => default_source(sources.iter().copied())?,
            Some(name) if sources.contains(&name) => name,
            Some(name) => return Err(unknown("source", name, &sources)),
        };
        let sinks: Vec<&str> = config.sinks.keys().map(String::as_str).collect();
        if let Some(name) = self.sinks.iter().find(|name| !sinks.contains(&name.as_str())) {
            return Err(unknown("sink", name, &sinks));
        }
        // The group makes one of the two certain.
        let event = self.event.or(self.outcome).unwrap_or(EventType::Ended(Outcome::Completed));
        let pairs = |pairs: &[(String, String)]| pairs.iter().cloned().collect::<BTreeMap<_, _>>();
        let (labels, metadata) = (pairs(&self.labels), pairs(&self.metadata));
        let facts = Facts {
            event,
            source,
            status: self.status.as_deref(),
            endpoint: self.endpoint.as_deref(),
            labels: &labels,
            metadata: Some(&metadata),
            sinks: (!self.sinks.is_empty()).then_some(self.sinks.as_slice()),
            callback: false,
        };
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
        let event = format!("{} of source {}", facts.event, facts.source);
        let mut text = match takers.as_slice() {
            _ if decisions.is_empty() => format!("{event} goes nowhere: there are no sinks\n"),
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
