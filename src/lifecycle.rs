//! What the outside tells the process, and what it tells the service manager. Signals: the first asks to stop, the second ends
//! at once; SIGHUP has the configuration read again.

use std::io;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::app::Handle;

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

/// Has the configuration read again at every SIGHUP.
///
/// # Errors
/// When no signal handler can be installed.
pub fn reload_on_hangup(handle: Handle) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            // It says in the log what came of it.
            let _ = handle.reload().await;
        }
    });
    Ok(())
}

/// Tells systemd, when it has asked (`Type=notify`, `WatchdogSec=`), that the daemon is ready, alive, and stopping
/// (`sd_notify(3)`). Nothing happens otherwise.
pub fn tell_service_manager(handle: Handle) {
    tokio::spawn(async move {
        handle.loaded().await;
        say(&[NotifyState::Ready]);
        let stop = handle.stopping();
        let mut stopping = false;
        // Half of what is asked for, as sd_watchdog_enabled(3) advises. It goes on while the daemon drains.
        let period = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        loop {
            tokio::select! {
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    say(&[NotifyState::Stopping]);
                }
                () = tick(period) => say(&[NotifyState::Watchdog]),
            }
        }
    });
}

async fn tick(period: Option<std::time::Duration>) {
    match period {
        Some(period) => tokio::time::sleep(period).await,
        None => std::future::pending().await,
    }
}

fn say(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
