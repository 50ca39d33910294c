//! `tidings healthcheck`: checks that the daemon is ready, for a container's HEALTHCHECK.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use http::{Method, StatusCode};

use super::{
    client::{Client, Path},
    exit::ExitStatus,
    phrases::clean,
};
use crate::api::view::Readiness;

/// The longest wait for the answer. A slower daemon counts as not ready.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The long description of the command.
pub(super) const ABOUT: &str = "Asks the running daemon whether it is ready to accept jobs (`/readyz`). The exit status alone is the \
        answer; a failure is explained on stderr. Needs no token.";

/// The arguments of `tidings healthcheck`.
#[derive(Clone, Debug, Args)]
#[command(
    after_long_help = "Example, in a Dockerfile:\n  HEALTHCHECK --interval=10s CMD [\"tidings\", \"healthcheck\"]\n\n\
        Exit status: 0 ready; 1 not ready, or no answer within 3s."
)]
pub struct HealthcheckArgs {}

/// Asks whether the daemon is ready.
///
/// # Errors
/// When the daemon is not ready, or does not answer.
pub(super) async fn run(client: &Client) -> Result<ExitStatus> {
    match tokio::time::timeout(TIMEOUT, ask(client)).await {
        Ok(ready) => ready,
        Err(_) => Err(client.slow(TIMEOUT).into()),
    }
}

async fn ask(client: &Client) -> Result<ExitStatus> {
    let answer = client.send_any(Method::GET, &Path::of(&["readyz"]), None, None).await?;
    if answer.status() == StatusCode::OK {
        return Ok(ExitStatus::Done);
    }
    let status = answer.status();
    let text = client.read_text(answer).await.unwrap_or_default();
    match serde_json::from_str::<Readiness>(&text) {
        Ok(Readiness { reasons, details, .. }) => {
            let why = if details.is_empty() { reasons } else { details };
            bail!("the daemon is not ready: {}", clean(&why.join("; ")))
        }
        Err(_) => bail!("the daemon is not ready: it answered {status}"),
    }
}
