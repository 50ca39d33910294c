//! `tidings events`: follows the events in the terminal.

use std::{collections::VecDeque, time::Duration};

use anyhow::Result;
use clap::Args;
use reqwest::Response;
use tokio::time::sleep;

use super::{
    args::{Format, label},
    client::{Client, ClientError, READ},
    complete,
    exit::ExitStatus,
    output::{Console, clean},
    patience::Patience,
    target::Path,
    unrouted::{self, UnroutedPages},
};
use crate::api::view::EventView;

/// The command in a paragraph.
pub const ABOUT: &str = "Prints events as they happen, a line each: finished jobs and, where a sink asks for it, their start and progress.\n\n\
    It keeps waiting across daemon restarts, and resumes without a gap. Ctrl-C ends it with status 0. It gives up with \
    status 1 when it reaches no daemon within 10s of its start.\n\n\
    With --unrouted it lists the events that no sink took, newest first, and ends.";

/// The wait before the first attempt to come back, doubled up to the last.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LAST_WAIT: Duration = Duration::from_secs(10);

/// How long the daemon may stay away at the start.
const START: Duration = Duration::from_secs(10);

/// The longest silence of a stream: the daemon shows every 15 s that it is alive.
const SILENCE: Duration = Duration::from_mins(1);

/// A longer line is no line of ours: 16 labels of 576 characters are the most of an event.
const MAX_LINE: usize = 1 << 20;

/// Which events to follow.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  tidings events --label team=billing\n  tidings events --output json | jq .job_id\n  \
        tidings events --unrouted --all"
)]
pub struct EventsArgs {
    /// Only those of this source
    #[arg(long, value_name = "NAME", add = complete::sources())]
    pub source: Option<String>,

    /// Only those with this label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,

    /// Start after this id of the stream; 0 starts with the oldest stored event
    #[arg(long, value_name = "N")]
    pub since_id: Option<u64>,

    /// List the events that no sink took, and end
    #[arg(long, conflicts_with = "since_id")]
    pub unrouted: bool,

    /// How many of them to list
    #[command(flatten)]
    pub pages: UnroutedPages,

    /// A line for people (table) or a JSON object a line (json)
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    pub output: Format,
}

/// Follows until Ctrl-C.
///
/// # Errors
/// When the daemon could never be reached, refuses, or the output is closed.
pub async fn run(args: &EventsArgs, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    if args.unrouted {
        return unrouted::list(args, client, console).await;
    }
    tokio::select! {
        failed = follow(args, client, console) => failed,
        stopped = tokio::signal::ctrl_c() => Ok(stopped.map(|()| ExitStatus::Done)?),
    }
}

async fn follow(args: &EventsArgs, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let mut path = Path::of(&["v1", "events"]).maybe("source", args.source.as_deref());
    for (key, value) in &args.labels {
        path = path.with(&format!("label.{key}"), value);
    }
    let mut last_id = args.since_id.map(|id| id.to_string());
    let open = async |_: &mut Console<'_>| client.stream(&path, last_id.as_deref(), READ).await;
    let mut answer = Patience::of_outages(START).ask(client, console, open).await?;
    loop {
        let broken = read(&mut answer, &mut last_id, args.output, client, console).await?;
        console.note(&format!("{broken}; trying again"));
        let mut wait = FIRST_WAIT;
        answer = loop {
            sleep(wait).await;
            match client.stream(&path, last_id.as_deref(), READ).await {
                Ok(answer) => break answer,
                Err(error) if !error.may_pass() => return Err(error.into()),
                Err(error) if wait >= LAST_WAIT => console.note(&format!("{error}; trying again")),
                Err(_) => {}
            }
            wait = (wait * 2).min(LAST_WAIT);
        };
    }
}

/// Prints the events of one answer until it breaks off; what broke it.
async fn read(
    answer: &mut Response,
    last_id: &mut Option<String>,
    format: Format,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<String> {
    let mut lines = Lines::default();
    loop {
        match client.chunk(answer, SILENCE).await {
            Ok(Some(chunk)) => lines.push(&chunk, last_id)?,
            Ok(None) => return Ok("the stream ended".to_owned()),
            Err(error) => return Ok(error.to_string()),
        }
        while let Some(message) = lines.ready.pop_front() {
            print(&message, format, client, console)?;
        }
        console.out.flush()?;
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
        let line = format!(
            "{}  {:<13}  {}/{}{labels}  {more}",
            event.timestamp, event.event_type, event.source, event.job_id
        );
        writeln!(console.out, "{}", clean(line.trim_end()))?;
    }
    Ok(())
}

/// A message of the stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    event: String,
    data: String,
}

/// Server-sent events out of chunks, as <https://html.spec.whatwg.org/multipage/server-sent-events.html> has
/// them; our own daemon ends lines with a line feed.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
    open: Message,
    ready: VecDeque<Message>,
}

impl Lines {
    fn push(&mut self, chunk: &[u8], last_id: &mut Option<String>) -> Result<(), ClientError> {
        self.rest.extend_from_slice(chunk);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => *last_id = Some(value.to_owned()),
                "event" => value.clone_into(&mut self.open.event),
                "data" => self.open.data.push_str(value),
                "" if line.is_empty() => {
                    let message = std::mem::take(&mut self.open);
                    // An id alone moves the place and is no event.
                    if !message.data.is_empty() {
                        self.ready.push_back(message);
                    }
                }
                _ => {}
            }
        }
        if self.rest.len() > MAX_LINE {
            return Err(ClientError::Setup(
                "a line of the stream is too long to be one of tidings".to_owned(),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_from_chunks_however_they_are_cut() {
        let text = ": hi\nid: 7\n\nevent: job.failed\r\ndata: {\"a\": \"ü\"}\nid: 8\n\n:\nid: 9\n\n";
        for size in 1..text.len() {
            let (mut lines, mut last_id) = (Lines::default(), None);
            for chunk in text.as_bytes().chunks(size) {
                lines.push(chunk, &mut last_id).unwrap();
            }
            let expected = Message { event: "job.failed".to_owned(), data: "{\"a\": \"ü\"}".to_owned() };
            assert_eq!(lines.ready, [expected]);
            assert_eq!(last_id.as_deref(), Some("9"));
        }
    }
}
