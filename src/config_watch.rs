//! Reloads the configuration when its file changes.
//!
//! The file is asked for its stamp every second, which costs a few microseconds. Notifications of the system would not do: they are
//! bound to a folder that may be replaced, need care with links (a kubelet swaps `..data`), and are missing on network file
//! systems. The content decides: a changed stamp alone reloads nothing.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    select,
    time::{Instant, sleep},
};

use crate::{app::Handle, config::fingerprint, reload, secret::Stamp};

/// How often the stamp is read.
const ROUND: Duration = Duration::from_secs(1);

/// A file is read when its stamp has not changed for this long: writers take more than one step.
const QUIET: Duration = Duration::from_millis(500);

/// How often the content is read though the stamp is the same, for file systems whose stamps are coarse.
const UNPROMPTED: Duration = Duration::from_secs(30);

/// Reloads whenever the content of `file` differs from the one with the fingerprint `known`, until the daemon stops.
pub async fn watch(file: PathBuf, mut known: [u8; 32], handle: Handle) {
    let stop = handle.stopping();
    loop {
        let changed = change(&file, &mut known);
        if stop.run_until_cancelled(changed).await.is_none() {
            return;
        }
        // A newer content supersedes one whose reload is still being tried.
        let mut newer = known;
        select! {
            () = stop.cancelled() => return,
            () = reload::persistently(&handle) => {}
            () = change(&file, &mut newer) => {}
        }
    }
}

/// Waits until the content of `file` differs from `known`, which it then becomes. A file that is away for a moment is being
/// replaced, and no change.
async fn change(file: &Path, known: &mut [u8; 32]) {
    let mut read: Option<(Stamp, Instant)> = None;
    loop {
        if let Some(stamp) = stamp(file).await {
            let fresh = read.as_ref().is_some_and(|(of, at)| *of == stamp && at.elapsed() < UNPROMPTED);
            if !fresh {
                let settled = settle(file, stamp).await;
                read = settled.map(|stamp| (stamp, Instant::now()));
                if let Some(now) = content(file).await
                    && now != *known
                {
                    *known = now;
                    return;
                }
            }
        }
        sleep(ROUND).await;
    }
}

/// Waits until nothing happens to the file any more.
async fn settle(file: &Path, mut before: Stamp) -> Option<Stamp> {
    loop {
        sleep(QUIET).await;
        let now = stamp(file).await?;
        if now == before {
            return Some(now);
        }
        before = now;
    }
}

/// `None` while the file is not there or cannot be read.
async fn stamp(file: &Path) -> Option<Stamp> {
    let file = file.to_owned();
    tokio::task::spawn_blocking(move || Stamp::of(&file).ok()).await.ok()?
}

async fn content(file: &Path) -> Option<[u8; 32]> {
    Some(fingerprint(&tokio::fs::read(file).await.ok()?))
}
