//! `tidings group`: lists groups of watches, shows one, and ends its growth.

use anyhow::Result;
use clap::{Args, Subcommand};
use http::StatusCode;

use super::{
    args::{Format, PageArgs},
    client::{Client, Path},
    complete,
    console::Console,
    exit::ExitStatus,
    listing::Listing,
    phrases::{clean, relative},
    table::{Fitted, table},
};
use crate::{
    api::view::{GroupView, MemberView},
    model::group::GroupName,
    util::{clock, units::Time},
};

/// The long description of `group get`.
const ABOUT_GET: &str = "Shows a group: whether it is closed, how many of its jobs are open, how the others ended, and the deliveries of its \
        event. With --jobs lists its jobs instead.";

/// The long description of `group close`.
const ABOUT_CLOSE: &str = "Ends the growth of a group: it takes no more jobs. When every job of it has ended, the daemon makes one event \
        `group.finished`. Closing a group again is harmless.";

/// `tidings group …`
#[derive(Clone, Debug, Subcommand)]
pub enum GroupCommand {
    /// List the groups, sorted by name
    List(GroupListArgs),
    /// Show a group, or its jobs
    #[command(long_about = ABOUT_GET)]
    Get(GroupGetArgs),
    /// End the growth of a group, so that its event follows
    #[command(long_about = ABOUT_CLOSE, after_long_help = "Example:\n  tidings group close nightly")]
    Close(GroupNameArgs),
}

/// The arguments of `tidings group list`.
#[derive(Clone, Debug, Args)]
pub struct GroupListArgs {
    /// The part of the list to show.
    #[command(flatten)]
    pages: PageArgs,

    /// How to print them; json is one object with `data` and `next_cursor`
    #[arg(short = 'o', long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// The arguments of `tidings group get`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        tidings group get nightly\n  \
        tidings group get nightly --jobs --all --output json | jq -r '.data[] | select(.outcome == \"failed\").job_id'")]
pub struct GroupGetArgs {
    /// The group
    #[arg(value_name = "NAME", add = complete::groups())]
    name: GroupName,

    /// List its jobs and how each ended
    #[arg(long)]
    jobs: bool,

    /// The part of the list to show.
    #[command(flatten)]
    pages: PageArgs,

    /// How to print it
    #[arg(short = 'o', long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// The arguments of a command on one group.
#[derive(Clone, Debug, Args)]
pub struct GroupNameArgs {
    /// The group
    #[arg(value_name = "NAME", add = complete::groups())]
    name: GroupName,
}

/// Runs `tidings group …`.
///
/// # Errors
/// When the daemon does not answer, or the output is closed.
pub(super) async fn run(
    command: &GroupCommand,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<ExitStatus> {
    match command {
        GroupCommand::List(args) => {
            let headers = &["GROUP", "STATE", "JOBS", "OPEN", "COMPLETED", "OTHERS", "CREATED"];
            let columns = Fitted { headers, spare: &["CREATED"], text: 30 };
            let listing = Listing { path: Path::of(&["v1", "groups"]), what: "groups", columns, row };
            listing.print(client, console, &args.pages, args.output).await?;
        }
        GroupCommand::Get(args) if args.jobs => {
            let path = Path::of(&["v1", "groups", args.name.as_str(), "jobs"]);
            let columns = Fitted { headers: &["JOB", "SOURCE", "OUTCOME", "EVENT"], spare: &[], text: 30 };
            let listing = Listing { path, what: "jobs", columns, row: job_row };
            listing.print(client, console, &args.pages, args.output).await?;
        }
        GroupCommand::Get(args) => {
            let text = client.text(&Path::of(&["v1", "groups", args.name.as_str()])).await?;
            match args.output {
                Format::Json => writeln!(console.out, "{}", text.trim_end())?,
                Format::Table => {
                    console.out.write_all(describe(client.parse(&text)?, clock::now()).as_bytes())?;
                }
            }
        }
        GroupCommand::Close(args) => {
            let (status, group) = close(args.name.as_str(), client).await?;
            let word = if status == StatusCode::ACCEPTED { "closed" } else { "was closed already" };
            let (jobs, open) = (group.jobs, group.open);
            writeln!(console.out, "{} {word}: {jobs} jobs, {open} open", clean(args.name.as_str()))?;
        }
    }
    Ok(ExitStatus::Done)
}

/// Closes a group. Returns whether it was open, as the status of the answer.
pub(super) async fn close(name: &str, client: &Client) -> Result<(StatusCode, GroupView)> {
    let answer = client.post::<()>(&Path::of(&["v1", "groups", name, "close"]), None).await?;
    let status = answer.status();
    Ok((status, client.parse(&client.read_text(answer).await?)?))
}

fn completed(group: &GroupView) -> u64 {
    group.counts.get("completed").copied().unwrap_or_default()
}

fn row(client: &Client, text: &str, now: Time) -> Result<Vec<String>> {
    let group: GroupView = client.parse(text)?;
    let others = group.jobs - group.open - completed(&group);
    Ok(vec![
        group.name.clone(),
        group.state.clone(),
        group.jobs.to_string(),
        group.open.to_string(),
        completed(&group).to_string(),
        others.to_string(),
        relative(group.created_at, now),
    ])
}

fn job_row(client: &Client, text: &str, _now: Time) -> Result<Vec<String>> {
    let member: MemberView = client.parse(text)?;
    let dash = || "-".to_owned();
    Ok(vec![
        member.job_id.into(),
        member.source,
        member.outcome.map_or_else(dash, String::from),
        member.event_id.unwrap_or_else(dash),
    ])
}

/// Returns the fields of a group, one a line, and below them the deliveries of its event.
fn describe(group: GroupView, now: Time) -> String {
    let when = |time: Time| format!("{time} ({})", relative(time, now));
    let ended = group.counts.iter().filter(|(_, count)| **count > 0);
    let ended: Vec<String> = ended.map(|(word, count)| format!("{count} {word}")).collect();
    let fields = [
        ("group", Some(group.name)),
        ("state", Some(group.state)),
        ("jobs", Some(group.jobs.to_string())),
        ("open", Some(group.open.to_string())),
        ("ended", Some(ended.join(", ")).filter(|text| !text.is_empty())),
        ("created", Some(when(group.created_at))),
        ("closed", group.closed_at.map(when)),
        ("finished", group.finished_at.map(when)),
        ("event", group.event_id),
    ];
    let rows = fields.into_iter().filter_map(|(key, value)| value.map(|text| vec![key.to_owned(), text]));
    let mut text = table(&[], rows.collect());
    let deliveries = group.deliveries.unwrap_or_default();
    if !deliveries.is_empty() {
        let row = |one: &crate::api::view::DeliveryBrief| {
            vec![one.id.clone(), one.sink.clone(), one.state.as_str().to_owned(), one.attempts.to_string()]
        };
        text.push('\n');
        text.push_str(&table(
            &["DELIVERY", "SINK", "STATE", "ATTEMPTS"],
            deliveries.iter().map(row).collect(),
        ));
    }
    text
}
