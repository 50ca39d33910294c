//! Signals: the first asks to stop, the second ends at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels `stop` at the first SIGTERM or SIGINT; ends the process at the second.
///
/// # Errors
/// When no signal handler can be installed.
pub fn stop_on_signals(stop: CancellationToken) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let name = next().await;
        tracing::info!("{name}: stopping; a second signal ends at once");
        stop.cancel();
        let name = next().await;
        tracing::warn!("{name} again: ending at once");
        #[expect(clippy::disallowed_methods, reason = "a second signal asks for just that")]
        std::process::exit(1);
    });
    Ok(())
}
