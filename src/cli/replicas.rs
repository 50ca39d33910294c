//! `tidings replicas`: the processes that share the daemon's database.

use anyhow::Result;
use clap::Args;

use super::{
    args::Format,
    client::{Client, ClientError, Path},
    console::Console,
    exit::ExitStatus,
    phrases::{count, relative},
    table::Fitted,
};
use crate::{
    api::view::{Page, ReplicaView},
    util::{clock, units::Time},
};

/// The long description of the command.
pub(super) const ABOUT: &str = "Shows the live replicas that share the daemon's database: the address at which the others reach each, since \
        when it runs, when it last said that it is alive, and what it owns. One replica owns all of the work; the others \
        pass requests on to it. Any of them answers. A daemon with a data folder of its own has no replicas.";

/// The arguments of `tidings replicas`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        tidings replicas\n  \
        tidings replicas -o json | jq -r '.data[] | select(.units != []) | .name'\n\n\
        Exit status: 0 done; 1 the daemon does not answer, or its database is away; 2 bad usage.")]
pub struct ReplicasArgs {
    /// How to print them
    #[arg(short = 'o', long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

const COLUMNS: Fitted<'_> = Fitted {
    headers: &["NAME", "ADDRESS", "SINCE", "RENEWED", "UNITS"],
    spare: &["SINCE", "RENEWED"],
    text: 20,
};

/// Prints the replicas.
///
/// # Errors
/// When the daemon does not answer or the output is closed.
pub(super) async fn run(
    args: &ReplicasArgs,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<ExitStatus> {
    let text = client.text(&path()).await?;
    if args.output == Format::Json {
        writeln!(console.out, "{}", text.trim_end())?;
        return Ok(ExitStatus::Done);
    }
    let replicas: Page<ReplicaView> = client.parse(&text)?;
    if replicas.data.is_empty() {
        console.note("no replicas: this daemon has a data folder of its own");
        return Ok(ExitStatus::Done);
    }
    let now = clock::now();
    let rows = replicas.data.iter().map(|replica| row(replica, now)).collect();
    console.out.write_all(COLUMNS.table(rows, console.width).as_bytes())?;
    Ok(ExitStatus::Done)
}

/// Asks for the replicas; `None` when the daemon cannot tell.
pub(super) async fn ask(client: &Client) -> Result<Option<Vec<ReplicaView>>, ClientError> {
    match client.get::<Page<ReplicaView>>(&path()).await {
        Ok(page) => Ok(Some(page.data)),
        // A daemon of an older version, or one whose database is away.
        Err(ClientError::Refused { .. } | ClientError::Foreign { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns one line about several replicas.
pub(super) fn summary(replicas: &[ReplicaView]) -> Option<String> {
    let owner = replicas.iter().find(|replica| !replica.units.is_empty());
    let owner = owner
        .map_or_else(|| "none owns the work".to_owned(), |owner| format!("{} owns the work", owner.name));
    (replicas.len() > 1).then(|| format!("{}, {owner}", count(replicas.len() as u64, "replica", "replicas")))
}

fn path() -> Path {
    Path::of(&["v1", "replicas"])
}

fn row(replica: &ReplicaView, now: Time) -> Vec<String> {
    let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    vec![
        replica.name.clone(),
        dash(replica.address.clone()),
        relative(replica.since, now),
        relative(replica.renewed_at, now),
        dash(replica.units.join(" ")),
    ]
}
