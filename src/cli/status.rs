//! `tidings status`: sources, sinks, open work and problems on one screen.

use anyhow::Result;
use clap::Args;
use http::Method;
use serde::{Deserialize, Serialize, de::IgnoredAny};
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
    api::view::{Page, ProblemView, Readiness, ReplicaView, SinkView, SourceView},
    util::{
        clock,
        units::{Time, rounded},
    },
};

/// The long description of the command.
pub(super) const ABOUT: &str = "Shows the sources, the sinks, the open work and every problem of the running daemon on one screen. It \
        changes nothing, and ends with 0 even if something is wrong. What the daemon cannot tell, for example because its \
        database is away, is named as unknown. `tidings healthcheck` has readiness as its exit status.";

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
    overview: Answer<Overview>,
    /// Empty for a daemon with a data folder of its own; `None` when it cannot tell.
    replicas: Option<Vec<ReplicaView>>,
    /// Kept dead letters.
    dead: Answer<Counted>,
    /// Events that no sink took.
    unrouted: Answer<Counted>,
}

/// What the daemon tells, or why it cannot tell that now.
type Answer<T> = Result<T, String>;

/// What the screen shows of `/v1/overview`.
#[derive(Deserialize)]
struct Overview {
    problems: Vec<ProblemView>,
    sources: Vec<SourceView>,
    sinks: Vec<SinkView>,
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
    let overview = known(client.get(&Path::of(&["v1", "overview"])).await)?;
    let (dead, unrouted) = match &overview {
        Ok(_) => {
            let dead = Counted::ask(client, Path::of(&["v1", "deliveries"]).with("state", "dead")).await;
            let unrouted = Counted::ask(client, Path::of(&["v1", "events"]).with("routed", "false")).await;
            (known(dead)?, known(unrouted)?)
        }
        // Each would wait as long for the same answer.
        Err(reason) => (Err(reason.clone()), Err(reason.clone())),
    };
    let replicas = replicas::ask(client).await?;
    Ok(Status { readiness, overview, replicas, dead, unrouted })
}

/// Takes an answer that the daemon cannot give now, for example because its database is away, as unknown.
fn known<T>(answer: Result<T, ClientError>) -> Result<Answer<T>, ClientError> {
    match answer {
        Ok(answer) => Ok(Ok(answer)),
        Err(ClientError::Refused { status, detail, .. }) if status.is_server_error() => Ok(Err(detail)),
        Err(error @ ClientError::Slow { .. }) => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

impl Status {
    fn open(overview: &Overview) -> (u64, u64) {
        let watches = overview.sources.iter().map(|source| source.open_watches).sum();
        let deliveries = overview.sinks.iter().map(|sink| sink.pending).sum();
        (watches, deliveries)
    }

    /// Returns a sentence for each problem.
    fn wrong(&self, now: Time) -> Vec<String> {
        let mut wrong = Vec::new();
        let Readiness { status, reasons, details } = &self.readiness;
        let reasons = clean(&if details.is_empty() { reasons } else { details }.join("; "));
        match (status.as_str(), &self.overview) {
            ("unavailable", _) => wrong.push(format!("the daemon accepts no jobs: {reasons}")),
            ("degraded", Err(_)) => wrong.push(format!("the daemon is degraded: {reasons}")),
            _ => {}
        }
        if let Ok(Overview { problems, sources, sinks }) = &self.overview {
            wrong.extend(problems.iter().filter(|problem| is_of_daemon(problem)).map(sentence));
            wrong.extend(sources.iter().flat_map(source::problems));
            wrong.extend(sinks.iter().flat_map(|sink| sink::problems(sink, now)));
        }
        let dead = self.dead.as_ref().ok().and_then(|dead| dead.say("dead letter", "dead letters"));
        wrong.extend(dead.map(|dead| format!("{dead}; `tidings deliveries --state dead` lists them")));
        wrong
    }

    /// Returns what the daemon cannot tell now, and why; `None` when it told everything.
    fn unknown(&self) -> Option<String> {
        let mut reason = None;
        let mut missing = |names: &[&'static str], why: Option<&String>| {
            reason = reason.take().or(why.cloned());
            if why.is_some() { names.to_vec() } else { Vec::new() }
        };
        let names = [
            missing(&["sources", "sinks", "open work"], self.overview.as_ref().err()),
            missing(&["dead letters"], self.dead.as_ref().err()),
            missing(&["kept events"], self.unrouted.as_ref().err()),
        ];
        reason.map(|reason| format!("{}: {}", names.concat().join(", "), clean(&reason)))
    }

    fn json(&self, now: Time) -> Value {
        let overview = self.overview.as_ref().ok();
        let open = overview.map(Self::open);
        json!({
            "status": self.readiness.status,
            "sources": overview.map(|overview| &overview.sources),
            "sinks": overview.map(|overview| &overview.sinks),
            "open": open.map(|(watches, deliveries)| json!({"watches": watches, "deliveries": deliveries})),
            "replicas": self.replicas,
            "dead_letters": self.dead.as_ref().ok(),
            "unrouted_events": self.unrouted.as_ref().ok(),
            "unknown": self.unknown(),
            "wrong": self.wrong(now),
        })
    }

    fn text(&self, address: &str, now: Time, width: usize) -> String {
        let heading = format!("tidings at {address} is {}", clean(&self.readiness.status));
        let work = self.overview.as_ref().map(|overview| self.work(overview, now, width));
        let work = work.unwrap_or_default();
        // The routes may mean it, so it is no problem.
        let kept = self.unrouted.as_ref().ok().and_then(|events| events.say("event", "events"));
        let kept = kept.map(|events| {
            format!("kept    {events} that no sink took; `tidings events --unrouted` lists them\n")
        });
        let kept = kept.unwrap_or_default();
        let shared = self.replicas.as_deref().and_then(replicas::summary);
        let shared = shared.map(|replicas| format!("shared  {}\n", clean(&replicas))).unwrap_or_default();
        let unknown = self.unknown().map(|unknown| format!("unknown {unknown}\n")).unwrap_or_default();
        let wrong = self.wrong(now);
        let wrong = if wrong.is_empty() { "nothing".to_owned() } else { wrong.join("\n        ") };
        format!("{heading}\n\n{work}{kept}{shared}{unknown}wrong   {wrong}\n")
    }

    /// Returns the tables of the sources and the sinks, and the open work below.
    fn work(&self, overview: &Overview, now: Time, width: usize) -> String {
        let sources = source::COLUMNS.table(overview.sources.iter().map(source::row).collect(), width);
        let sinks = match overview.sinks.as_slice() {
            [] => "no sink is configured\n".to_owned(),
            sinks => {
                sink::COLUMNS.table(sinks.iter().flat_map(|sink| sink::rows(sink, now)).collect(), width)
            }
        };
        let (watches, deliveries) = Self::open(overview);
        let so_far = if self.readiness.status == "loading" { " so far (more are being read)" } else { "" };
        let (watches, deliveries) =
            (count(watches, "job", "jobs"), count(deliveries, "delivery", "deliveries"));
        let oldest = overview.sinks.iter().filter_map(|sink| sink.oldest_pending_at).min();
        let oldest = oldest.map(|made| format!(", the oldest for {}", rounded(now.since(made))));
        let oldest = oldest.unwrap_or_default();
        format!("{sources}\n{sinks}\nopen    {watches}{so_far}, {deliveries}{oldest}\n")
    }
}

/// Whether the screen shows a problem that the tables and the lines below them do not have.
fn is_of_daemon(problem: &ProblemView) -> bool {
    matches!(problem.subject.kind.as_str(), "daemon" | "store")
        && !matches!(problem.code.as_str(), "events_unrouted" | "watches_loading")
}

fn sentence(problem: &ProblemView) -> String {
    format!("{}; {}", clean(&problem.summary), clean(&problem.remedy))
}
