//! `tidings status`: sources, sinks, open work and problems on one screen.

use anyhow::Result;
use clap::Args;
use http::Method;
use serde::{Serialize, de::IgnoredAny};
use serde_json::{Value, json};

use super::{
    args::Format,
    client::{Client, ClientError, Path, READ_TIMEOUT},
    console::Console,
    exit::ExitStatus,
    phrases::{clean, count},
    replicas, sink, source,
};
use crate::{
    api::view::{Page, Readiness, ReplicaView, SinkView, SourceView},
    util::{
        clock,
        units::{Time, rounded},
    },
};

/// The long description of the command.
pub(super) const ABOUT: &str = "Shows the sources, the sinks, the open work and every problem of the running daemon on one screen. It \
        changes nothing, and ends with 0 even if something is wrong. `tidings healthcheck` has readiness as its exit status.";

/// The arguments of `tidings status`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        tidings status\n  \
        tidings status -o json | jq -r '.wrong[]'\n\n\
        Exit status: 0 done; 1 the daemon does not answer; 2 bad usage.")]
pub struct StatusArgs {
    /// How to print it; json is one object
    #[arg(short = 'o', long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Format,
}

/// The answers of the daemon.
struct Status {
    readiness: Readiness,
    sources: Vec<SourceView>,
    sinks: Vec<SinkView>,
    /// Empty for a daemon with a data folder of its own; `None` when it cannot tell.
    replicas: Option<Vec<ReplicaView>>,
    /// Kept dead letters.
    dead: Counted,
    /// Events that no sink took.
    unrouted: Counted,
}

/// The number of entries on the first page of a list.
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

    /// Returns `3 dead letters` or `at least 1000 dead letters`; `None` for zero.
    fn say(self, singular: &str, plural: &str) -> Option<String> {
        let least = if self.more { "at least " } else { "" };
        (self.count > 0 || self.more).then(|| format!("{least}{}", count(self.count, singular, plural)))
    }
}

/// Shows the state of the daemon.
///
/// # Errors
/// When the daemon does not answer or the output is closed.
pub(super) async fn run(args: &StatusArgs, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
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
    // Whatever the status, the body has the state.
    let ready = client.send_any(Method::GET, &Path::of(&["readyz"]), None, Some(READ_TIMEOUT)).await?;
    let readiness = client.parse(&client.read_text(ready).await?)?;
    let sources: Page<SourceView> = client.get(&Path::of(&["v1", "sources"])).await?;
    let sinks: Page<SinkView> = client.get(&Path::of(&["v1", "sinks"])).await?;
    let dead = Counted::ask(client, Path::of(&["v1", "deliveries"]).with("state", "dead")).await?;
    let unrouted = Counted::ask(client, Path::of(&["v1", "events"]).with("routed", "false")).await?;
    let replicas = replicas::ask(client).await?;
    Ok(Status { readiness, sources: sources.data, sinks: sinks.data, replicas, dead, unrouted })
}

impl Status {
    fn open(&self) -> (u64, u64) {
        let watches = self.sources.iter().map(|source| source.open_watches).sum();
        let deliveries = self.sinks.iter().map(|sink| sink.pending).sum();
        (watches, deliveries)
    }

    /// Returns a sentence for each problem.
    fn wrong(&self, now: Time) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.readiness.status == "unavailable" {
            let reasons = clean(&self.readiness.reasons.join("; "));
            wrong.push(format!("the daemon accepts no jobs: {reasons}"));
        }
        wrong.extend(self.sources.iter().flat_map(source::problems));
        wrong.extend(self.sinks.iter().flat_map(|sink| sink::problems(sink, now)));
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
            "replicas": self.replicas,
            "dead_letters": self.dead,
            "unrouted_events": self.unrouted,
            "wrong": self.wrong(now),
        })
    }

    fn text(&self, address: &str, now: Time, width: usize) -> String {
        let heading = format!("tidings at {address} is {}", clean(&self.readiness.status));
        let sources = source::COLUMNS.table(self.sources.iter().map(source::row).collect(), width);
        let sinks = match self.sinks.as_slice() {
            [] => "no sink is configured\n".to_owned(),
            sinks => {
                sink::COLUMNS.table(sinks.iter().flat_map(|sink| sink::rows(sink, now)).collect(), width)
            }
        };
        let (watches, deliveries) = self.open();
        let so_far = if self.readiness.status == "loading" { " so far (more are being read)" } else { "" };
        let (watches, deliveries) =
            (count(watches, "job", "jobs"), count(deliveries, "delivery", "deliveries"));
        let oldest = self.sinks.iter().filter_map(|sink| sink.oldest_pending_at).min();
        let oldest = oldest.map(|made| format!(", the oldest for {}", rounded(now.since(made))));
        let oldest = oldest.unwrap_or_default();
        // The routes may mean it, so it is no problem.
        let kept = self.unrouted.say("event", "events").map(|events| {
            format!("kept    {events} that no sink took; `tidings events --unrouted` lists them\n")
        });
        let kept = kept.unwrap_or_default();
        let shared = self.replicas.as_deref().and_then(replicas::summary);
        let shared = shared.map(|replicas| format!("shared  {}\n", clean(&replicas))).unwrap_or_default();
        let wrong = self.wrong(now);
        let wrong = if wrong.is_empty() { "nothing".to_owned() } else { wrong.join("\n        ") };
        format!(
            "{heading}\n\n{sources}\n{sinks}\nopen    {watches}{so_far}, {deliveries}{oldest}\n{kept}{shared}wrong   {wrong}\n"
        )
    }
}
