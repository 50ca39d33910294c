//! `tidings sink`: how the sinks are, and whether they work.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand, builder::PossibleValuesParser};
use serde::Deserialize;

use super::{
    args::{self, Format},
    client::Client,
    complete,
    exit::ExitStatus,
    output::{Console, Fitted, brief, clean, count, relative, relative_or_dash, took},
    target::Path,
};
use crate::{
    api::view::{AttemptView, Counted, MoveRequest, Moved, OriginView, SinkView},
    model::sink::SinkState,
    util::{
        clock,
        units::{Time, rounded},
    },
};

/// A test waits for the sink's own timeout, which the operator chose.
const TEST_PATIENCE: Duration = Duration::from_mins(5);

/// The long description of `sink test`.
const ABOUT_TEST: &str = "Sends a `tidings.test` event to a sink, signed and guarded like any other, and prints the \
        attempt. It is tried once and leaves no delivery behind. When the sink accepts it, its breaker closes.";

/// The long description of `sink pause`.
const ABOUT_PAUSE: &str = "Stops sending deliveries to a sink, for example while its receiver is being repaired. Attempts in \
        flight finish, new deliveries are kept, and none becomes a dead letter meanwhile. The pause lasts across daemon \
        restarts, until `tidings sink resume`.";

/// The long description of `sink resume`.
const ABOUT_RESUME: &str = "Resumes a paused sink, and sends what it kept meanwhile. Also closes the breaker of a failing sink and \
        ends a silence that it asked for: deliveries are sent again, slowly at first.";

/// The long description of `sink drop`.
const ABOUT_DROP: &str = "Ends all pending deliveries to a sink, and nothing else: the watches and their events stay, what \
        was delivered stays, and deliveries to other sinks go on. The sink may be one that is no longer configured. \
        `tidings deliver` can send the events once more.";

/// The long description of `sink move`.
const ABOUT_MOVE: &str = "Hands all pending deliveries of one sink to another, as after a rename: with a fresh schedule and \
        the same event ids. The first may be one that is no longer configured. An event that the other sink has already \
        is not delivered to it twice. Watches that name the old sink keep naming it.";

/// `tidings sink …`
#[derive(Clone, Debug, Subcommand)]
pub enum SinkCommand {
    /// Show the sinks and their health
    List(SinkListArgs),
    /// Send a `tidings.test` event to a sink, now and once
    #[command(long_about = ABOUT_TEST)]
    Test(SinkTestArgs),
    /// Stop sending deliveries to a sink, and keep them until it is resumed
    #[command(long_about = ABOUT_PAUSE)]
    Pause(SinkNameArgs),
    /// Resume a paused sink, or one whose breaker is open
    #[command(long_about = ABOUT_RESUME)]
    Resume(SinkNameArgs),
    /// End the pending deliveries of a sink, also of one that is no longer configured
    #[command(long_about = ABOUT_DROP, after_long_help = "Example:\n  tidings sink drop old")]
    Drop(SinkNameArgs),
    /// Hand the pending deliveries of a sink to another one, as after a rename
    #[command(long_about = ABOUT_MOVE, after_long_help = "Example:\n  tidings sink move old new")]
    Move(SinkMoveArgs),
}

/// The arguments of `tidings sink move`.
#[derive(Clone, Debug, Args)]
pub struct SinkMoveArgs {
    /// The sink whose pending deliveries are moved
    #[arg(value_name = "OLD", value_parser = args::name, add = complete::sinks())]
    pub old: String,

    /// The sink that gets them
    #[arg(value_name = "NEW", value_parser = args::name, add = complete::sinks())]
    pub new: String,
}

/// The arguments of `tidings sink list`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  tidings sink list\n  tidings sink list --state failing\n  \
        tidings sink list -o json | jq '.data[] | select(.pending > 0).name'")]
pub struct SinkListArgs {
    /// Only sinks in this state
    #[arg(long, value_parser = PossibleValuesParser::new(["ok", "failing", "paused", "not_configured"]))]
    pub state: Option<String>,

    /// Only sinks of this type
    #[arg(long = "type", value_name = "TYPE", value_parser = PossibleValuesParser::new(["webhook", "disk"]))]
    pub kind: Option<String>,

    /// How to print them
    #[arg(short = 'o', long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

/// The arguments of `tidings sink pause`, `resume` and `drop`.
#[derive(Clone, Debug, Args)]
pub struct SinkNameArgs {
    /// The sink
    #[arg(value_name = "NAME", value_parser = args::name, add = complete::sinks())]
    pub name: String,
}

/// The arguments of `tidings sink test`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Example:\n  tidings sink test app\n\n\
        Exit status: 0 the sink took it; 1 it did not, or the daemon cannot be asked; 2 bad usage.")]
pub struct SinkTestArgs {
    /// The sink
    #[arg(value_name = "NAME", value_parser = args::name, add = complete::sinks())]
    pub name: String,

    /// How to print the attempt
    #[arg(short = 'o', long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

/// A list, whether bare or as one page.
#[derive(Deserialize)]
#[serde(untagged)]
enum Sinks {
    Bare(Vec<SinkView>),
    Page { data: Vec<SinkView> },
}

/// Runs `tidings sink …`.
///
/// # Errors
/// When the daemon fails or the output is closed.
pub async fn run(command: &SinkCommand, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    match command {
        SinkCommand::List(args) => list(args, client, console).await,
        SinkCommand::Test(args) => test(args, client, console).await,
        SinkCommand::Pause(args) => pause(&args.name, true, client, console).await,
        SinkCommand::Resume(args) => pause(&args.name, false, client, console).await,
        SinkCommand::Drop(args) => drop_pending(&args.name, client, console).await,
        SinkCommand::Move(args) => move_pending(args, client, console).await,
    }
}

async fn list(args: &SinkListArgs, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let path =
        Path::of(&["v1", "sinks"]).maybe("state", args.state.as_deref()).maybe("type", args.kind.as_deref());
    let text = client.text(&path).await?;
    if args.output == Format::Json {
        writeln!(console.out, "{}", text.trim_end())?;
        return Ok(ExitStatus::Done);
    }
    let (Sinks::Bare(sinks) | Sinks::Page { data: sinks }) = client.parse(&text)?;
    if sinks.is_empty() && (args.state.is_some() || args.kind.is_some()) {
        console.note("no sinks match");
        return Ok(ExitStatus::Done);
    }
    if sinks.is_empty() {
        console.note("no sinks are configured: finished jobs are kept, and go nowhere");
        return Ok(ExitStatus::Done);
    }
    let now = clock::now();
    let rows = sinks.iter().flat_map(|sink| rows(sink, now)).collect();
    console.out.write_all(COLUMNS.table(rows, console.width).as_bytes())?;
    let troubles: Vec<String> = sinks.iter().flat_map(|sink| troubles(sink, now)).collect();
    if !troubles.is_empty() {
        writeln!(console.out, "\n{}", troubles.join("\n"))?;
    }
    Ok(ExitStatus::Done)
}

pub(super) const COLUMNS: Fitted<'_> = Fitted {
    headers: &[
        "SINK",
        "TYPE",
        "STATE",
        "PENDING",
        "OLDEST",
        "DELIVERED",
        "FAILED",
        "DEAD",
        "SUCCESS",
        "TARGET",
    ],
    spare: &["FAILED", "TYPE", "DELIVERED", "SUCCESS", "OLDEST"],
    text: 16,
};

/// The rows of a sink: its own, and one for each receiver of callbacks.
pub(super) fn rows(sink: &SinkView, now: Time) -> Vec<Vec<String>> {
    let none = || "-".to_owned();
    let own = vec![
        sink.name.clone(),
        sink.kind.clone(),
        sink.state.as_str().to_owned(),
        sink.pending.to_string(),
        sink.oldest_pending_at.map_or_else(none, |made| rounded(now.since(made))),
        sink.delivered.to_string(),
        sink.failed.to_string(),
        sink.dead.to_string(),
        relative_or_dash(sink.last_success_at, now),
        sink.target.clone(),
    ];
    let origin = |origin: &OriginView| {
        let (state, pending) = (origin.state.as_str().to_owned(), origin.pending.to_string());
        let (name, kind, target) = (sink.name.clone(), sink.kind.clone(), origin.origin.clone());
        vec![name, kind, state, pending, none(), none(), none(), none(), none(), target]
    };
    std::iter::once(own).chain(sink.origins.iter().map(origin)).collect()
}

/// What is wrong with a sink, a sentence each.
pub(super) fn troubles(sink: &SinkView, now: Time) -> Vec<String> {
    let name = clean(&sink.name);
    let mut found = Vec::new();
    match sink.state {
        SinkState::Ok => {}
        SinkState::Paused => {
            let since =
                sink.paused_at.map(|at| format!(" for {}", rounded(now.since(at)))).unwrap_or_default();
            found.push(format!("sink {name} is paused{since}; `tidings sink resume {name}` lets it go on"));
        }
        SinkState::NotConfigured => {
            let waiting = count(sink.pending, "delivery", "deliveries");
            found.push(format!("sink {name} is not configured, and keeps {waiting}"));
        }
        SinkState::Failing => {
            let row = count(sink.failures_in_row, "failure", "failures");
            let error = sink.last_error.as_deref().unwrap_or("no error is known");
            let share =
                sink.success_share.map(|share| format!(", {:.0} % taken in the last minute", share * 100.0));
            let probe = sink.next_probe_at.map(|at| format!(", next probe {}", relative(at, now)));
            let (share, probe) = (share.unwrap_or_default(), probe.unwrap_or_default());
            found.push(format!(
                "sink {name} is failing: {} ({row} in a row{share}{probe})",
                brief(error, 200)
            ));
        }
    }
    if let Some(until) = sink.quiet_until.filter(|until| *until > now) {
        found.push(format!("sink {name} asked for a silence; it ends {}", relative(until, now)));
    }
    let failing = sink.origins.iter().filter(|origin| origin.state == SinkState::Failing);
    found.extend(failing.map(|origin| {
        let error = origin.last_error.as_deref().unwrap_or("no error is known");
        format!("{name} to {} is failing: {}", clean(&origin.origin), brief(error, 200))
    }));
    found
}

async fn pause(name: &str, paused: bool, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let path = Path::of(&["v1", "sinks", name, if paused { "pause" } else { "resume" }]);
    let answer = client.post(&path, None::<&()>).await?;
    let sink: SinkView = client.parse(&client.read_text(answer).await?)?;
    let pending = count(sink.pending, "delivery", "deliveries");
    let said = match paused {
        true => format!("{name} is paused and keeps {pending} until `tidings sink resume {name}`"),
        false => format!("{name} goes on, with {pending} pending"),
    };
    writeln!(console.out, "{said}")?;
    Ok(ExitStatus::Done)
}

async fn drop_pending(name: &str, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let path = Path::of(&["v1", "sinks", name, "drop"]);
    let done: Counted = client.post_bulk(&path, None::<&()>).await?;
    let dropped = count(done.count, "delivery is", "deliveries are");
    writeln!(console.out, "{dropped} dropped that waited for {name}")?;
    Ok(ExitStatus::Done)
}

async fn move_pending(args: &SinkMoveArgs, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let SinkMoveArgs { old, new } = args;
    let path = Path::of(&["v1", "sinks", old, "move"]);
    let done: Moved = client.post_bulk(&path, Some(&MoveRequest { to: new.clone() })).await?;
    writeln!(
        console.out,
        "{} moved from {old} to {new}",
        count(done.count, "delivery is", "deliveries are")
    )?;
    if done.existing > 0 {
        let existing = count(done.existing, "event was", "events were");
        console.note(&format!("{existing} at {new} already; that many deliveries to {old} ended"));
    }
    Ok(ExitStatus::Done)
}

async fn test(args: &SinkTestArgs, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let path = Path::of(&["v1", "sinks", &args.name, "test"]);
    let text = client.post_long::<()>(&path, None, TEST_PATIENCE).await?;
    let attempt: AttemptView = client.parse(&text)?;
    match args.output {
        Format::Json => writeln!(console.out, "{}", text.trim_end())?,
        Format::Table => writeln!(console.out, "{}", describe(&args.name, &attempt))?,
    }
    Ok(if attempt.error.is_some() { ExitStatus::Failed } else { ExitStatus::Done })
}

/// One sentence, and what the receiver said.
fn describe(name: &str, attempt: &AttemptView) -> String {
    let took = took(attempt.duration_ms);
    let answered = attempt.status.map_or_else(String::new, |status| format!(" answered {status}"));
    let mut text = match &attempt.error {
        None => format!("{name} took the test event{} in {took}", answered.replace(" answered", " with")),
        Some(error) => {
            format!("{name} did not take the test event{answered}: {} ({took})", clean(error))
        }
    };
    if let Some(response) = attempt.response.as_deref().filter(|response| !response.trim().is_empty()) {
        text.push_str("\nthe receiver said: ");
        text.push_str(&clean(response.trim()));
    }
    text
}
