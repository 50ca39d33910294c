//! `tidings healthcheck`: whether the daemon is ready, for a container's HEALTHCHECK.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use http::{Method, StatusCode};

use super::{client::Client, exit::ExitStatus, output::clean, target::Path};
use crate::api::view::Readiness;

/// A daemon that needs longer to say that it is ready is not.
const PATIENCE: Duration = Duration::from_secs(3);

/// The long description of the command.
pub(super) const ABOUT: &str = "Asks the running daemon whether it is ready to accept jobs (`/readyz`) and says so by the exit \
        status alone; only a failure is explained on stderr. Needs no token.";

/// The arguments of `tidings healthcheck`.
#[derive(Clone, Debug, Args)]
#[command(
    after_long_help = "Example, in a Dockerfile:\n  HEALTHCHECK --interval=10s CMD [\"tidings\", \"healthcheck\"]\n\n\
        Exit status: 0 ready; 1 not ready, or no answer within 3s."
)]
pub struct HealthcheckArgs {}

/// Asks for readiness.
///
/// # Errors
/// When the daemon is not ready, or cannot be asked.
pub async fn run(client: &Client) -> Result<ExitStatus> {
    match tokio::time::timeout(PATIENCE, ask(client)).await {
        Ok(ready) => ready,
        Err(_) => Err(client.slow(PATIENCE).into()),
    }
}

async fn ask(client: &Client) -> Result<ExitStatus> {
    let answer = client.ask(Method::GET, &Path::of(&["readyz"]), None, None).await?;
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
