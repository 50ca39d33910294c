//! `tidings status`: the sources, the sinks, what is open and what is wrong, on one screen.

use anyhow::Result;
use clap::Args;
use http::Method;
use serde::{Serialize, de::IgnoredAny};
use serde_json::{Value, json};

use super::{
    args::Format,
    client::{Client, ClientError, READ},
    exit::ExitStatus,
    output::{Console, brief, clean, count},
    sink, source,
    target::Path,
};
use crate::{
    api::view::{Page, Readiness, SinkView, SourceView},
    util::{
        clock,
        units::{Time, rounded},
    },
};

/// The long description of the command.
pub(super) const ABOUT: &str = "Shows on one screen how the running daemon is: its sources, its sinks, what is open, and what is wrong. \
        It reads only, and ends with 0 also when something is wrong; `tidings healthcheck` tells readiness by its exit \
        status.";

/// The arguments of `tidings status`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        tidings status\n  \
        tidings status -o json | jq -r '.wrong[]'\n\n\
        Exit status: 0 done; 1 the daemon cannot be asked; 2 bad usage.")]
pub struct StatusArgs {
    /// How to print it; json is one object
    #[arg(short = 'o', long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

/// What was asked of the daemon.
struct Status {
    readiness: Readiness,
    sources: Vec<SourceView>,
    sinks: Vec<SinkView>,
    /// Dead letters that are kept.
    dead: Counted,
    /// Events that no sink took.
    unrouted: Counted,
}

/// The entries of a list, as far as one page tells.
#[derive(Clone, Copy, Serialize)]
struct Counted {
    count: u64,
    /// Whether there are more of them.
    more: bool,
}

impl Counted {
    async fn ask(client: &Client, path: Path) -> Result<Self, ClientError> {
        let page: Page<IgnoredAny> = client.get(&path.with("limit", "1000")).await?;
        Ok(Self { count: page.data.len() as u64, more: page.next_cursor.is_some() })
    }

    /// `3 dead letters`, `at least 1000 dead letters`; `None` when there are none.
    fn say(self, singular: &str, plural: &str) -> Option<String> {
        let least = if self.more { "at least " } else { "" };
        (self.count > 0 || self.more).then(|| format!("{least}{}", count(self.count, singular, plural)))
    }
}

/// Shows how the daemon is.
///
/// # Errors
/// When the daemon cannot be asked or the output is closed.
pub async fn run(args: &StatusArgs, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let status = ask(client).await?;
    let now = clock::now();
    match args.output {
        Format::Json => writeln!(console.out, "{}", status.json(now))?,
        Format::Table => {
            let text = status.text(client.address(), now, console.width);
            console.out.write_all(text.as_bytes())?;
        }
    }
    Ok(ExitStatus::Done)
}

async fn ask(client: &Client) -> Result<Status, ClientError> {
    // Its body says how the daemon is whatever its status is.
    let ready = client.ask(Method::GET, &Path::of(&["readyz"]), None, Some(READ)).await?;
    let readiness = client.parse(&client.read_text(ready).await?)?;
    let sources: Page<SourceView> = client.get(&Path::of(&["v1", "sources"])).await?;
    let sinks: Page<SinkView> = client.get(&Path::of(&["v1", "sinks"])).await?;
    let dead = Counted::ask(client, Path::of(&["v1", "deliveries"]).with("state", "dead")).await?;
    let unrouted = Counted::ask(client, Path::of(&["v1", "events"]).with("routed", "false")).await?;
    Ok(Status { readiness, sources: sources.data, sinks: sinks.data, dead, unrouted })
}

impl Status {
    fn open(&self) -> (u64, u64) {
        let watches = self.sources.iter().map(|source| source.open_watches).sum();
        let deliveries = self.sinks.iter().map(|sink| sink.pending).sum();
        (watches, deliveries)
    }

    /// What is wrong, a sentence each.
    fn wrong(&self, now: Time) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.readiness.status == "unavailable" {
            let reasons = clean(&self.readiness.reasons.join("; "));
            wrong.push(format!("the daemon accepts no jobs: {reasons}"));
        }
        wrong.extend(self.sources.iter().filter(|source| source.state != "ok").map(|source| {
            let error = source.last_error.as_deref().unwrap_or("no error is known");
            format!("source {} is {}: {}", clean(&source.name), clean(&source.state), brief(error, 200))
        }));
        wrong.extend(self.sinks.iter().flat_map(|sink| sink::troubles(sink, now)));
        let dead = self.dead.say("dead letter", "dead letters");
        wrong.extend(dead.map(|dead| format!("{dead}; `tidings deliveries --state dead` lists them")));
        wrong
    }

    fn json(&self, now: Time) -> Value {
        let (watches, deliveries) = self.open();
        json!({
            "status": self.readiness.status,
            "sources": self.sources,
            "sinks": self.sinks,
            "open": {"watches": watches, "deliveries": deliveries},
            "dead_letters": self.dead,
            "unrouted_events": self.unrouted,
            "wrong": self.wrong(now),
        })
    }

    fn text(&self, address: &str, now: Time, width: usize) -> String {
        let heading = format!("tidings at {address} is {}", clean(&self.readiness.status));
        let sources = source::COLUMNS.table(self.sources.iter().map(source::row).collect(), width);
        let sinks = match self.sinks.as_slice() {
            [] => "no sinks are configured\n".to_owned(),
            sinks => {
                sink::COLUMNS.table(sinks.iter().flat_map(|sink| sink::rows(sink, now)).collect(), width)
            }
        };
        let (watches, deliveries) = self.open();
        let (watches, deliveries) =
            (count(watches, "job", "jobs"), count(deliveries, "delivery", "deliveries"));
        let oldest = self.sinks.iter().filter_map(|sink| sink.oldest_pending_at).min();
        let oldest = oldest.map(|made| format!(", the oldest for {}", rounded(now.since(made))));
        let oldest = oldest.unwrap_or_default();
        // That may be meant, so it is not wrong.
        let kept = self.unrouted.say("event", "events").map(|events| {
            format!("kept    {events} that no sink took; `tidings events --unrouted` lists them\n")
        });
        let kept = kept.unwrap_or_default();
        let wrong = self.wrong(now);
        let wrong = if wrong.is_empty() { "nothing".to_owned() } else { wrong.join("\n        ") };
        format!(
            "{heading}\n\n{sources}\n{sinks}\nopen    {watches}, {deliveries}{oldest}\n{kept}wrong   {wrong}\n"
        )
    }
}
