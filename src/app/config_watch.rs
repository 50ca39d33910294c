//! Reloads the configuration when its file changes.
//!
//! It reads the stamp of the file every second, which costs a few microseconds. File notifications would not do: they are
//! bound to a folder that may be replaced, need care with links (a kubelet swaps `..data`), and are missing on network file
//! systems. The content decides: a changed stamp alone reloads nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    select,
    time::{Instant, sleep},
};

use crate::{app::reload, state::handle::Reloads, util::secret::Stamp};

/// The time between two reads of the stamp.
const ROUND: Duration = Duration::from_secs(1);

/// The time for which the stamp must stay the same before the file is read: writers take more than one step.
const QUIET: Duration = Duration::from_millis(500);

/// The time for which a content must stay that is a beginning of the previous one. It is most likely half of a write, and
/// half a configuration may be valid and send events elsewhere.
const HALF_WRITTEN: Duration = Duration::from_secs(10);

/// The time between two reads of the content under the same stamp, for file systems with coarse stamps.
const UNPROMPTED: Duration = Duration::from_secs(30);

/// Reloads whenever the content of `file` differs from `known`, until the daemon stops.
pub async fn watch(file: PathBuf, mut known: Vec<u8>, reloads: Reloads) {
    let stop = reloads.stopping();
    loop {
        let changed = change(&file, &mut known);
        if stop.run_until_cancelled(changed).await.is_none() {
            return;
        }
        // A newer content replaces one whose reload is still being tried.
        let mut newer = known.clone();
        select! {
            () = stop.cancelled() => return,
            () = reload::persistently(&reloads) => {}
            () = change(&file, &mut newer) => {}
        }
    }
}

/// Waits until the content of `file` differs from `known`, and updates `known`. A missing file is being replaced, and is no
/// change.
async fn change(file: &Path, known: &mut Vec<u8>) {
    let mut half = HalfWritten::default();
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
                    if half.is_over(&now, known, Instant::now()) {
                        *known = now;
                        return;
                    }
                    read = None;
                }
            }
        }
        sleep(ROUND).await;
    }
}

/// A content that is a beginning of the previous one, and the time it was first seen.
#[derive(Default)]
struct HalfWritten(Option<(Vec<u8>, Instant)>);

impl HalfWritten {
    /// Returns whether `content` may replace `known`.
    fn is_over(&mut self, content: &[u8], known: &[u8], now: Instant) -> bool {
        // A content that ends within a line is rejected by the parser.
        if !content.ends_with(b"\n") || !known.starts_with(content) {
            return true;
        }
        match &self.0 {
            Some((seen, since)) if seen == content => now - *since >= HALF_WRITTEN,
            _ => {
                self.0 = Some((content.to_owned(), now));
                false
            }
        }
    }
}

/// Waits until the file stops changing. Returns its stamp, or `None` when it is gone.
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

/// Returns the stamp, or `None` while the file is missing or unreadable.
async fn stamp(file: &Path) -> Option<Stamp> {
    let file = file.to_owned();
    tokio::task::spawn_blocking(move || Stamp::of(&file).ok()).await.ok()?
}

/// Returns the content, or `None` for anything but a regular file: reading a pipe would block.
async fn content(file: &Path) -> Option<Vec<u8>> {
    let file = file.to_owned();
    let read = move || -> io::Result<Option<Vec<u8>>> {
        if fs::metadata(&file)?.is_file() { fs::read(&file).map(Some) } else { Ok(None) }
    };
    tokio::task::spawn_blocking(read).await.ok()?.ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_the_content_before_counts_when_it_stays() {
        let known = b"[sinks.a]\n[[routes]]\nto = [\"a\"]\nwhen = { status = [\"x\"] }\n";
        let (cut, shorter) = (&known[..known.len() - 26], &known[..10]);
        assert!(cut.ends_with(b"[\"a\"]\n"));
        let (mut half, start) = (HalfWritten::default(), Instant::now());
        let mut after =
            |content: &[u8], share: f64| half.is_over(content, known, start + HALF_WRITTEN.mul_f64(share));
        assert!(after(b"[sinks.b]\n", 0.0));
        assert!(!after(cut, 0.0));
        assert!(!after(cut, 0.9));
        // It is written again.
        assert!(!after(shorter, 1.1));
        assert!(!after(shorter, 1.9));
        assert!(after(shorter, 2.2));
    }
}
