//! `tidings sink test`: sends one event and prints the attempt.

use std::time::Duration;

use anyhow::Result;

use super::SinkTestArgs;
use crate::{
    api::view::AttemptView,
    cli::{
        args::Format,
        client::{Client, Path},
        console::Console,
        exit::ExitStatus,
        phrases::{clean, took},
    },
};

/// The longest wait for the attempt. It must exceed the sink's own timeout, which the operator chooses.
const TEST_TIMEOUT: Duration = Duration::from_mins(5);

/// Sends a test event, and prints the attempt.
pub(super) async fn run(
    args: &SinkTestArgs,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<ExitStatus> {
    let path = Path::of(&["v1", "sinks", &args.name, "test"]);
    let text = client.post_long::<()>(&path, None, TEST_TIMEOUT).await?;
    let attempt: AttemptView = client.parse(&text)?;
    match args.output {
        Format::Json => writeln!(console.out, "{}", text.trim_end())?,
        Format::Table => writeln!(console.out, "{}", describe(&args.name, &attempt))?,
    }
    Ok(if attempt.error.is_some() { ExitStatus::Failed } else { ExitStatus::Done })
}

/// Returns the attempt as one sentence, and the answer of the receiver.
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
