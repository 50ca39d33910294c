//! The tasks of the daemon: starts them, replaces one once its predecessor has ended, and notices one that ended on its own.

use std::collections::BTreeMap;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A task that ended without being told to.
#[derive(Debug, thiserror::Error)]
#[error(
    "{task} ended unexpectedly: {reason}\nhint: the process ends too, so that its supervisor restarts it"
)]
pub struct TaskDied {
    task: &'static str,
    reason: String,
    /// Another process has the store.
    is_store_lost: bool,
}

impl TaskDied {
    /// Creates the error of `task`.
    pub(crate) fn new(task: &'static str, reason: &dyn std::fmt::Display) -> Self {
        Self { task, reason: reason.to_string(), is_store_lost: false }
    }

    /// Creates the error of a process whose store another one has now.
    pub(crate) fn lost_store(reason: &str) -> Self {
        Self { is_store_lost: true, ..Self::new("the store", &reason) }
    }

    /// Returns whether another process has the store now.
    #[must_use]
    pub fn is_store_lost(&self) -> bool {
        self.is_store_lost
    }
}

/// The kind of a source's task.
pub(crate) const SOURCE: &str = "a source";

/// The kind of a sink's task.
pub(crate) const SINK: &str = "a sink";

/// The owner of a task that can be replaced: its kind, and its name in the configuration.
pub(crate) type TaskKey = (&'static str, String);

/// A task that can be replaced.
#[derive(Clone, Debug)]
struct Running {
    /// Cancelled to end it.
    stop: CancellationToken,
    /// Cancelled once it has ended.
    ended: CancellationToken,
}

/// The tasks of the daemon, each with a name for the log.
pub(crate) struct Tasks {
    set: JoinSet<Option<TaskDied>>,
    replaceable: BTreeMap<TaskKey, Running>,
    stop: CancellationToken,
}

impl Tasks {
    /// Creates an empty set. All its tasks end when `stop` is cancelled.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self { set: JoinSet::new(), replaceable: BTreeMap::new(), stop }
    }

    /// Starts a task that runs until the daemon stops.
    pub(crate) fn start(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.set.spawn(async move {
            task.await;
            Some(TaskDied::new(name, &"it returned"))
        });
    }

    /// Starts a task that ends when its work is done.
    pub(crate) fn once(&mut self, task: impl Future<Output = Result<(), TaskDied>> + Send + 'static) {
        self.set.spawn(async move { task.await.err() });
    }

    /// Starts a task in place of the one with the same key. The predecessor is told to stop at once; `task` begins after the
    /// predecessor has finished its requests in flight.
    pub(crate) fn replace<F: Future<Output = ()> + Send>(
        &mut self,
        key: TaskKey,
        task: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) {
        let running = Running { stop: self.stop.child_token(), ended: CancellationToken::new() };
        let kind = key.0;
        let before = self.replaceable.insert(key, running.clone());
        if let Some(before) = &before {
            before.stop.cancel();
        }
        self.set.spawn(async move {
            if let Some(before) = before {
                before.ended.cancelled().await;
            }
            task(running.stop.clone()).await;
            running.ended.cancel();
            (!running.stop.is_cancelled()).then(|| TaskDied::new(kind, &"it returned"))
        });
    }

    /// Ends a task, then runs `after`. A later successor waits for both.
    pub(crate) fn remove(&mut self, key: TaskKey, after: impl FnOnce() + Send + 'static) {
        self.replace(key, |stop| async move {
            after();
            stop.cancelled().await;
        });
    }

    /// Waits until a task ends on its own.
    pub(crate) async fn died(&mut self) -> TaskDied {
        loop {
            let died = match self.set.join_next().await {
                Some(Ok(None)) => continue,
                Some(Ok(Some(_)) | Err(_)) | None if self.stop.is_cancelled() => std::future::pending().await,
                Some(Ok(Some(died))) => died,
                Some(Err(error)) => TaskDied::new("a task", &error),
                None => std::future::pending().await,
            };
            tracing::error!("{died}");
            return died;
        }
    }

    /// Waits until every task has ended.
    pub(crate) async fn finish(&mut self) {
        while self.set.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn key() -> TaskKey {
        ("a sink", "app".to_owned())
    }

    #[tokio::test]
    async fn a_task_begins_when_the_one_before_it_has_ended() {
        let stop = CancellationToken::new();
        let mut tasks = Tasks::new(stop.clone());
        let (said, mut heard) = mpsc::unbounded_channel();
        for round in 0..3 {
            let said = said.clone();
            tasks.replace(key(), move |stop| async move {
                said.send((round, "begins")).unwrap();
                stop.cancelled().await;
                // Work in flight.
                tokio::task::yield_now().await;
                said.send((round, "ends")).unwrap();
            });
        }
        let removed = said.clone();
        tasks.remove(key(), move || removed.send((9, "removed")).unwrap());
        drop(said);
        let mut all = Vec::new();
        while let Some(word) = heard.recv().await {
            all.push(word);
        }
        let expected: Vec<(i32, &str)> =
            (0..3).flat_map(|n| [(n, "begins"), (n, "ends")]).chain([(9, "removed")]).collect();
        assert_eq!(all, expected);
    }

    #[tokio::test]
    async fn only_a_task_that_was_not_told_to_end_has_died() {
        let mut tasks = Tasks::new(CancellationToken::new());
        tasks.replace(key(), |stop| async move { stop.cancelled().await });
        tasks.remove(key(), || {});
        tasks.start("retention", async {});
        assert!(tasks.died().await.to_string().starts_with("retention ended unexpectedly"));
    }
}
