//! What the outside tells the process, and what it tells the service manager. Signals: the first asks to stop, the second ends
//! at once; SIGHUP has the configuration read again.

use std::io;

use rustix::process::Signal as Number;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{reload, runtime::end_at_once},
    state::handle::Handle,
};

/// Signals that mean nothing here and would end the process by default: sent by mistake, or, for SIGXFSZ, where a write fails anyway.
/// std ignores SIGPIPE.
const IGNORED: [Number; 5] = [Number::USR1, Number::USR2, Number::ALARM, Number::IO, Number::XFSZ];

/// Cancels `stop` at the first SIGTERM or SIGINT; ends the process at the second. From now on no other signal but those that
/// ask for an end does so. Called before anything else: as process 1 of a container a signal without a handler is lost.
///
/// # Errors
/// When no signal handler can be installed.
pub fn stop_on_signals(stop: CancellationToken) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    for number in IGNORED {
        // The handler stays when nobody waits for it any more.
        drop(signal(SignalKind::from_raw(number.as_raw()))?);
    }
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
        end_at_once();
    });
    Ok(())
}

/// Takes up SIGHUP. Those that come before [`reload_on_hangup`] wait for it.
///
/// # Errors
/// When no signal handler can be installed.
pub fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Has the configuration read again at every SIGHUP, once the daemon has taken up what is open.
pub fn reload_on_hangup(mut hangups: Signal, handle: Handle) {
    tokio::spawn(async move {
        let mut asked = hangups.recv().await;
        while asked.is_some() {
            asked = tokio::select! {
                // The next signal asks for what is in the file then.
                biased;
                again = hangups.recv() => again,
                () = reload::persistently(&handle) => hangups.recv().await,
            };
        }
    });
}

/// Tells systemd, when it has asked (`Type=notify`, `WatchdogSec=`), that the daemon is ready, alive, and stopping
/// (`sd_notify(3)`). Nothing happens otherwise.
pub fn tell_service_manager(handle: Handle) {
    tokio::spawn(async move {
        handle.loaded().await;
        let stop = handle.stopping();
        if !stop.is_cancelled() {
            say(&[NotifyState::Ready]);
        }
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
