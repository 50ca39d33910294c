//! Has the configuration read again when its file changes.
//!
//! What is watched is the folder, not the file: an editor or a kubelet puts another file (or a link, `..data`) in its place.
//! Events are only hints; what counts is the content, which is looked at once in a while without any, for file systems that
//! tell nothing.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use notify::Watcher as _;
use sha2::{Digest as _, Sha256};
use tokio::{
    select,
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use crate::app::Handle;

/// A file is read when nothing has happened to it for this long: writers take more than one step.
const QUIET: Duration = Duration::from_millis(500);

/// How often the content is looked at without a hint.
const SLOWLY: Duration = Duration::from_secs(30);

/// Reloads whenever the content of `file` is another, until the daemon stops.
pub async fn watch(file: PathBuf, handle: Handle) {
    let stop = handle.stopping();
    let (hint, mut hints) = mpsc::channel(1);
    // Kept alive until the end: it stops to tell when it is dropped.
    let watcher = tell(&file, hint);
    if let Err(error) = &watcher {
        tracing::warn!(%error, "changes of the configuration file are not told by the system; it is looked at every 30s");
    }
    let mut known = print(&file).await;
    let mut slowly = Instant::now() + SLOWLY;
    loop {
        select! {
            () = stop.cancelled() => return,
            () = sleep_until(slowly) => {}
            Some(()) = hints.recv(), if watcher.is_ok() => {
                // Until it is quiet.
                while tokio::time::timeout(QUIET, hints.recv()).await.is_ok() {}
            }
        }
        slowly = Instant::now() + SLOWLY;
        let now = print(&file).await;
        // A file that is away for a moment is being replaced.
        if now.is_some() && now != known {
            known = now;
            // The reload says in the log what came of it.
            let _ = handle.reload().await;
        }
        // Hints that never end must not keep the processor busy.
        sleep(Duration::from_millis(10)).await;
    }
}

/// Sends a hint whenever something happens in the folder of `file`.
fn tell(file: &Path, hint: mpsc::Sender<()>) -> notify::Result<notify::RecommendedWatcher> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = parent.unwrap_or(Path::new(".")).to_owned();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // That somebody has read a file is no news.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // One hint that waits is as good as many.
            let _ = hint.try_send(());
        }
    })?;
    watcher.watch(&folder, notify::RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// What tells one content from another; `None` while it cannot be read.
async fn print(file: &Path) -> Option<[u8; 32]> {
    let bytes = tokio::fs::read(file).await.ok()?;
    Some(Sha256::digest(bytes).into())
}
