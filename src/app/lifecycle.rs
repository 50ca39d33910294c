//! Signals and the service manager. The first SIGTERM or SIGINT drains, the second ends the process at once; SIGHUP reloads the
//! configuration.

use std::{env, io, os::unix::process::CommandExt as _, process::Command, time::Duration};

use rustix::process::Signal as Number;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{reload, runtime::end_at_once},
    state::handle::{Handle, Reloads},
    telemetry,
};

/// How long the last lines of the log may take.
const FLUSH: Duration = Duration::from_millis(200);

/// Signals that have no meaning here and whose default would end the process. SIGXFSZ comes with a failed write, which is
/// handled as such. std ignores SIGPIPE.
const IGNORED: [Number; 5] = [Number::USR1, Number::USR2, Number::ALARM, Number::IO, Number::XFSZ];

/// Cancels `stop` at the first SIGTERM or SIGINT, and ends the process at the second. The signals in [`IGNORED`] no longer end
/// it. Comes before anything else: process 1 of a container loses a signal that has no handler.
///
/// # Errors
/// When no signal handler can be installed.
pub fn stop_on_signals(stop: CancellationToken) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    for number in IGNORED {
        // The handler stays installed after the drop.
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
        tracing::info!(signal = name, "stopping; a second signal ends at once");
        stop.cancel();
        let name = next().await;
        tracing::warn!(signal = name, "second signal received; ending at once");
        end_at_once();
    });
    Ok(())
}

/// Installs the handler of SIGHUP. A signal that comes before [`reload_on_hangup`] waits for it.
///
/// # Errors
/// When no signal handler can be installed.
pub fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Reloads the configuration at every SIGHUP.
pub fn reload_on_hangup(mut hangups: Signal, reloads: Reloads) {
    tokio::spawn(async move {
        let mut asked = hangups.recv().await;
        while asked.is_some() {
            asked = tokio::select! {
                // A newer signal asks for the newer content.
                biased;
                again = hangups.recv() => again,
                () = reload::persistently(&reloads) => hangups.recv().await,
            };
        }
    });
}

/// Reports to systemd that the daemon is ready, alive or stopping (`sd_notify(3)`), if the unit asks for it (`Type=notify`,
/// `WatchdogSec=`).
pub fn tell_service_manager(handle: Handle) {
    let stop = handle.stopping();
    tell_when(async move { handle.serving().await }, stop);
}

/// Reports that a process is ready which waits for its store: it does what it was started for, and may wait for longer than a
/// start may take.
pub(super) fn tell_waiting(stop: CancellationToken, state: &str) {
    tell_when(async {}, stop);
    tell_status(state);
}

/// Reports the state of a process that is ready at the end of `started`, until `stop` is cancelled.
fn tell_when(started: impl Future<Output = ()> + Send + 'static, stop: CancellationToken) {
    tokio::spawn(async move {
        started.await;
        if !stop.is_cancelled() {
            say(&[NotifyState::Ready]);
        }
        let mut stopping = false;
        // Half of the limit, as sd_watchdog_enabled(3) advises. The watchdog is fed while the daemon drains, too.
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

/// Reports the state of the daemon in words, for `systemctl status`.
pub(super) fn tell_status(words: &str) {
    say(&[NotifyState::Status(words)]);
}

/// Replaces this process by a new one under the same id, with the same arguments: what it knows belongs to another process now.
/// Returns only when the system refuses.
#[must_use]
pub fn begin_again() -> io::Error {
    telemetry::flush(FLUSH);
    let own = match env::current_exe() {
        Ok(own) => own,
        Err(error) => return error,
    };
    Command::new(own).args(env::args_os().skip(1)).exec()
}

async fn tick(period: Option<Duration>) {
    match period {
        Some(period) => tokio::time::sleep(period).await,
        None => std::future::pending().await,
    }
}

fn say(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "service manager not notified");
    }
}
