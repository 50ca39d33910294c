//! Reloads the configuration when its file changes.
//!
//! The file is asked for its stamp every second, which costs a few microseconds. Notifications of the system would not do: they are
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

use crate::{app::reload, state::handle::Handle, util::secret::Stamp};

/// How often the stamp is read.
const ROUND: Duration = Duration::from_secs(1);

/// A file is read when its stamp has not changed for this long: writers take more than one step.
const QUIET: Duration = Duration::from_millis(500);

/// How long a content stays that is the beginning of the one before, before it counts. It is most likely half of a write, and may
/// be a whole configuration that sends events elsewhere.
const HALF_WRITTEN: Duration = Duration::from_secs(10);

/// How often the content is read though the stamp is the same, for file systems whose stamps are coarse.
const UNPROMPTED: Duration = Duration::from_secs(30);

/// Reloads whenever the content of `file` differs from `known`, until the daemon stops.
pub async fn watch(file: PathBuf, mut known: Vec<u8>, handle: Handle) {
    let stop = handle.stopping();
    loop {
        let changed = change(&file, &mut known);
        if stop.run_until_cancelled(changed).await.is_none() {
            return;
        }
        // A newer content supersedes one whose reload is still being tried.
        let mut newer = known.clone();
        select! {
            () = stop.cancelled() => return,
            () = reload::persistently(&handle) => {}
            () = change(&file, &mut newer) => {}
        }
    }
}

/// Waits until the content of `file` differs from `known`, which it then becomes. A file that is away for a moment is being
/// replaced, and no change.
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

/// A content that is the beginning of the one before, and when it was first seen.
#[derive(Default)]
struct HalfWritten(Option<(Vec<u8>, Instant)>);

impl HalfWritten {
    /// Whether `content` counts as what follows on `known`.
    fn is_over(&mut self, content: &[u8], known: &[u8], now: Instant) -> bool {
        // One that ends within a line is refused in any case.
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

/// `None` also for a pipe, which would be waited for.
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
