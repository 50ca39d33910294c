//! `tidings events`: the stream of events, resumed after each outage of the daemon.

use std::time::Duration;

use anyhow::Result;
use reqwest::Response;
use tokio::time::sleep;

use super::message::{Message, MessageReader};
use crate::{
    api::view::EventView,
    cli::{
        args::Format,
        client::{Client, Path, READ_TIMEOUT},
        console::Console,
        exit::ExitStatus,
        phrases::clean,
        waiting::RetryLimit,
    },
    model::job::JobId,
};

/// The pause before the first reconnection, doubled up to the last.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LAST_WAIT: Duration = Duration::from_secs(10);

/// The longest outage of the daemon at the start.
const START: Duration = Duration::from_secs(10);

/// The longest silence of a stream: the daemon sends a sign of life every 15 s.
const SILENCE: Duration = Duration::from_mins(1);

/// Prints the events at `path` for ever, and reconnects after each outage.
///
/// # Errors
/// When the daemon does not answer at the start, refuses, or the output is closed.
pub(super) async fn print_events(
    path: &Path,
    since_id: Option<u64>,
    format: Format,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<ExitStatus> {
    let mut last_id = since_id.map(|id| id.to_string());
    let open = async |_: &mut Console<'_>| client.stream(path, last_id.as_deref(), READ_TIMEOUT).await;
    let mut answer = RetryLimit::of_outages(START).ask(client, console, open).await?;
    loop {
        let broken = read(&mut answer, &mut last_id, format, client, console).await?;
        console.note(&format!("{broken}; trying again"));
        let mut wait = FIRST_WAIT;
        answer = loop {
            sleep(wait).await;
            match client.stream(path, last_id.as_deref(), READ_TIMEOUT).await {
                Ok(answer) => break answer,
                Err(error) if !error.is_transient() => return Err(error.into()),
                Err(error) if wait >= LAST_WAIT => console.note(&format!("{error}; trying again")),
                Err(_) => {}
            }
            wait = (wait * 2).min(LAST_WAIT);
        };
    }
}

/// Prints the events of one answer. Returns the reason why it ended.
async fn read(
    answer: &mut Response,
    last_id: &mut Option<String>,
    format: Format,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<String> {
    let mut messages = MessageReader::default();
    loop {
        match client.chunk(answer, SILENCE).await {
            Ok(Some(chunk)) => messages.push(&chunk, last_id)?,
            Ok(None) => return Ok("the stream ended".to_owned()),
            Err(error) => return Ok(error.to_string()),
        }
        while let Some(message) = messages.ready.pop_front() {
            print(&message, format, client, console)?;
        }
        console.out.flush()?;
    }
}

/// Returns what an event is about: a job with its source, a group, or nothing that has a name here.
fn about(source: Option<&str>, job_id: Option<&JobId>, group: Option<&str>) -> String {
    match (source.zip(job_id), group) {
        (Some((source, job_id)), _) => format!("{source}/{job_id}"),
        (None, Some(group)) => format!("group {group}"),
        (None, None) => "-".to_owned(),
    }
}

fn print(message: &Message, format: Format, client: &Client, console: &mut Console<'_>) -> Result<()> {
    if message.event == "dropped" {
        console.note(&format!("the daemon dropped this reader: {}", clean(&message.data)));
    } else if format == Format::Json {
        writeln!(console.out, "{}", message.data)?;
    } else {
        let event: EventView = client.parse(&message.data)?;
        let more = event.status.or(event.reason).unwrap_or_default();
        let labels: Vec<String> = event.labels.iter().map(|(key, value)| format!(" {key}={value}")).collect();
        let labels = labels.concat();
        let about = about(event.source.as_deref(), event.job_id.as_ref(), event.group.as_deref());
        let line = format!("{}  {:<13}  {about}{labels}  {more}", event.timestamp, event.event_type);
        writeln!(console.out, "{}", clean(line.trim_end()))?;
    }
    Ok(())
}
