//! How long this process may act for others to see: always, or while a lease is its own.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::clock::since_boot;

/// The time until which a process may send requests. Cheap to clone; clones share it.
///
/// It is compared with the time since the machine started, which goes on while the process is stopped and while the machine
/// sleeps: a process that wakes after its lease could have ended finds it over, and sends nothing.
#[derive(Clone, Debug, Default)]
pub struct Term(Option<Arc<watch::Sender<Duration>>>);

impl Term {
    /// Returns a term that has an end, and is over until it is extended. The default has none.
    #[must_use]
    pub fn leased() -> Self {
        Self(Some(Arc::default()))
    }

    /// Returns whether it has an end.
    #[must_use]
    pub fn is_leased(&self) -> bool {
        self.0.is_some()
    }

    /// Sets the end to `until`, a time since the machine started, if that is later than it is.
    pub fn extend(&self, until: Duration) {
        if let Some(end) = &self.0 {
            end.send_if_modified(|end| {
                let is_later = until > *end;
                *end = until.max(*end);
                is_later
            });
        }
    }

    /// Ends it now.
    pub fn end(&self) {
        if let Some(end) = &self.0 {
            end.send_replace(Duration::ZERO);
        }
    }

    /// Returns the time that is left; `None` without an end.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        self.0.as_ref().map(|end| end.borrow().saturating_sub(since_boot()))
    }

    /// Waits until it is not over.
    pub async fn holds(&self) {
        if let Some(end) = &self.0 {
            // It cannot be dropped meanwhile.
            let _ = end.subscribe().wait_for(|end| since_boot() < *end).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn it_holds_until_its_end_and_again_when_it_is_extended() {
        let term = Term::leased();
        assert!(term.holds().now_or_never().is_none());
        // An end that has passed.
        term.extend(since_boot());
        assert!(term.holds().now_or_never().is_none());
        assert_eq!(term.left(), Some(Duration::ZERO));

        let waiting = tokio::spawn({
            let term = term.clone();
            async move { term.holds().await }
        });
        tokio::task::yield_now().await;
        term.extend(since_boot() + HOUR);
        // An earlier end changes nothing.
        term.extend(since_boot());
        waiting.await.unwrap();
        assert!(term.left().unwrap() > HOUR / 2);
        term.end();
        assert!(term.holds().now_or_never().is_none());
        assert!(Term::default().holds().now_or_never().is_some());
    }
}
