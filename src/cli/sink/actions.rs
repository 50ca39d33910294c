//! `tidings sink pause`, `resume`, `drop` and `move`.

use anyhow::Result;

use super::SinkMoveArgs;
use crate::{
    api::view::{Counted, MoveRequest, Moved, SinkView},
    cli::{
        client::{Client, Path},
        console::Console,
        exit::ExitStatus,
        phrases::count,
    },
};

/// Stops the deliveries of a sink.
pub(super) async fn pause(name: &str, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let pending = post(name, "pause", client).await?;
    writeln!(console.out, "{name} is paused and keeps {pending} until `tidings sink resume {name}`")?;
    Ok(ExitStatus::Done)
}

/// Resumes the deliveries of a sink.
pub(super) async fn resume(name: &str, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let pending = post(name, "resume", client).await?;
    writeln!(console.out, "{name} is resumed, with {pending} pending")?;
    Ok(ExitStatus::Done)
}

/// Posts an action, and returns the pending deliveries of the sink in words.
async fn post(name: &str, action: &str, client: &Client) -> Result<String> {
    let answer = client.post(&Path::of(&["v1", "sinks", name, action]), None::<&()>).await?;
    let sink: SinkView = client.parse(&client.read_text(answer).await?)?;
    Ok(count(sink.pending, "delivery", "deliveries"))
}

/// Ends the pending deliveries of a sink.
pub(super) async fn drop_pending(
    name: &str,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<ExitStatus> {
    let path = Path::of(&["v1", "sinks", name, "drop"]);
    let done: Counted = client.post_bulk(&path, None::<&()>).await?;
    let dropped = count(done.count, "pending delivery", "pending deliveries");
    writeln!(console.out, "dropped {dropped} to {name}")?;
    Ok(ExitStatus::Done)
}

/// Moves the pending deliveries of a sink to another one.
pub(super) async fn move_pending(
    args: &SinkMoveArgs,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<ExitStatus> {
    let SinkMoveArgs { old, new } = args;
    let path = Path::of(&["v1", "sinks", old, "move"]);
    let done: Moved = client.post_bulk(&path, Some(&MoveRequest { to: new.clone() })).await?;
    writeln!(console.out, "moved {} from {old} to {new}", count(done.count, "delivery", "deliveries"))?;
    if done.existing > 0 {
        let existing = count(done.existing, "event was", "events were");
        console.note(&format!("{existing} at {new} already; that many deliveries to {old} ended"));
    }
    Ok(ExitStatus::Done)
}
