//! `tidings reload` and `tidings shutdown`: signals to the running daemon, also in an image without a shell.

use anyhow::Result;
use clap::Args;

use super::{
    client::{Client, Path},
    console::Console,
    exit::ExitStatus,
};
use crate::state::handle::Reloaded;

/// The long description of `tidings reload`.
pub(super) const RELOAD: &str = "Makes the running daemon read its configuration again: the file, with the environment and the flags of its \
        start. A configuration with a mistake is rejected, and the previous one stays. Sinks, sources, routes, callbacks, \
        watch, log.level and store.retention change at once. Other changed keys are named and need a restart. SIGHUP does \
        the same.";

/// The long description of `tidings shutdown`.
pub(super) const SHUTDOWN: &str = "Asks the running daemon to finish the requests in flight and to stop, as SIGTERM does. Needs \
        `server.shutdown = true`. For a Kubernetes Job whose application ends beside a plain (not native) sidecar.";

/// The arguments of `tidings reload`.
#[derive(Clone, Debug, Args)]
#[command(
    after_long_help = "Examples:\n  tidings reload\n  tidings --url unix:/run/tidings/api.sock reload\n\n\
        Exit status: 0 applied; 1 rejected, with every mistake, or the daemon does not answer."
)]
pub struct ReloadArgs {}

/// The arguments of `tidings shutdown`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Example:\n  tidings wait --delivered --timeout 10m; tidings shutdown\n\n\
        Exit status: 0 the daemon is stopping; 1 its configuration does not allow that, or does not answer.")]
pub struct ShutdownArgs {}

/// Reads the configuration again.
///
/// # Errors
/// When the configuration is rejected, or the daemon does not answer.
pub(super) async fn reload(client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let answer = client.post::<()>(&Path::of(&["v1", "reload"]), None).await?;
    let done: Reloaded = client.parse(&client.read_text(answer).await?)?;
    let list = |keys: &[String]| if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
    writeln!(console.out, "changed: {}", list(&done.changed))?;
    if !done.restart.is_empty() {
        console.note(&format!("changed, but needs a restart: {}", list(&done.restart)));
    }
    Ok(ExitStatus::Done)
}

/// Stops the daemon.
///
/// # Errors
/// When its configuration does not allow that, or it does not answer.
pub(super) async fn shutdown(client: &Client) -> Result<ExitStatus> {
    client.post::<()>(&Path::of(&["v1", "shutdown"]), None).await?;
    Ok(ExitStatus::Done)
}
