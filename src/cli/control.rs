//! `tidings reload` and `tidings quit`: what an operator asks of the running daemon, also in an image without a shell.

use anyhow::Result;
use clap::Args;

use super::{client::Client, exit::ExitStatus, output::Console, target::Path};
use crate::state::handle::Reloaded;

/// The long description of `tidings reload`.
pub(super) const RELOAD: &str = "Makes the running daemon read its configuration again: the file, and the environment and flags it was started \
        with. It is checked first; with a mistake the previous configuration stays. Sinks, sources, routes, callbacks, \
        watch, log.level and store.retention change at once; what needs a restart is named. SIGHUP does the same.";

/// The long description of `tidings quit`.
pub(super) const QUIT: &str = "Asks the running daemon to finish what is in flight and to end, as SIGTERM does. It has to be allowed by \
        `server.quit = true`. For a Kubernetes Job whose application ends beside a plain (not native) sidecar.";

/// The arguments of `tidings reload`.
#[derive(Clone, Debug, Args)]
#[command(
    after_long_help = "Examples:\n  tidings reload\n  tidings --url unix:/run/tidings/api.sock reload\n\n\
        Exit status: 0 applied; 1 refused, with every mistake, or the daemon cannot be asked."
)]
pub struct ReloadArgs {}

/// The arguments of `tidings quit`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Example:\n  tidings wait --delivered --timeout 10m; tidings quit\n\n\
        Exit status: 0 it is stopping; 1 it does not allow that, or cannot be asked.")]
pub struct QuitArgs {}

/// Has the configuration read again.
///
/// # Errors
/// When it is refused or the daemon cannot be asked.
pub async fn reload(client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let answer = client.post::<()>(&Path::of(&["v1", "reload"]), None).await?;
    let done: Reloaded = client.parse(&client.read_text(answer).await?)?;
    let list = |keys: &[String]| if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
    writeln!(console.out, "changed: {}", list(&done.changed))?;
    if !done.restart.is_empty() {
        console.note(&format!("changed, and holds only after a restart: {}", list(&done.restart)));
    }
    Ok(ExitStatus::Done)
}

/// Asks the daemon to end.
///
/// # Errors
/// When it does not allow that or cannot be asked.
pub async fn quit(client: &Client) -> Result<ExitStatus> {
    client.post::<()>(&Path::of(&["v1", "quit"]), None).await?;
    Ok(ExitStatus::Done)
}
