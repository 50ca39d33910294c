//! The tasks of the stages: which run, which one ended although nobody asked it to, and which follows on another.

use std::collections::BTreeMap;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A stage that ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
#[error("{stage} ended unexpectedly; the process ends too, so that it can be started again: {reason}")]
pub struct StageDied {
    stage: &'static str,
    reason: String,
}

impl StageDied {
    /// Says which one, and what is known of the reason.
    pub(crate) fn new(stage: &'static str, reason: &dyn std::fmt::Display) -> Self {
        Self { stage, reason: reason.to_string() }
    }
}

/// The kind of a source's stage.
pub(crate) const SOURCE: &str = "a source";

/// The kind of a sink's stage.
pub(crate) const SINK: &str = "a sink";

/// What a stage that can be replaced belongs to: its name in the log, and the name in the configuration.
pub(crate) type StageKey = (&'static str, String);

/// A stage that can be replaced: how it is told to stop, and how it tells that it has.
#[derive(Clone, Debug)]
struct Running {
    stop: CancellationToken,
    ended: CancellationToken,
}

/// The tasks of the stages, each with a name for the log.
pub(crate) struct Stages {
    tasks: JoinSet<Option<&'static str>>,
    replaceable: BTreeMap<StageKey, Running>,
    stop: CancellationToken,
}

impl Stages {
    /// None yet. All of them end with `stop`.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self { tasks: JoinSet::new(), replaceable: BTreeMap::new(), stop }
    }

    /// Starts a stage that stays until the end.
    pub(crate) fn start(&mut self, name: &'static str, stage: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            stage.await;
            Some(name)
        });
    }

    /// Starts a stage in the place of the one with the same key. That one is told to stop at once; `stage` begins when it has
    /// ended, with what is under way there done.
    pub(crate) fn replace<F: Future<Output = ()> + Send>(
        &mut self,
        key: StageKey,
        stage: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) {
        let running = Running { stop: self.stop.child_token(), ended: CancellationToken::new() };
        let kind = key.0;
        let before = self.replaceable.insert(key, running.clone());
        if let Some(before) = &before {
            before.stop.cancel();
        }
        self.tasks.spawn(async move {
            if let Some(before) = before {
                before.ended.cancelled().await;
            }
            stage(running.stop.clone()).await;
            running.ended.cancel();
            (!running.stop.is_cancelled()).then_some(kind)
        });
    }

    /// Ends a stage, and then does what is left to do for it. One that comes in its place later waits for that, too.
    pub(crate) fn remove(&mut self, key: StageKey, after: impl FnOnce() + Send + 'static) {
        self.replace(key, |stop| async move {
            after();
            stop.cancelled().await;
        });
    }

    /// Waits for a stage to end before it was asked to.
    pub(crate) async fn died(&mut self) -> StageDied {
        loop {
            let died = match self.tasks.join_next().await {
                Some(Ok(None)) => continue,
                Some(Ok(Some(_)) | Err(_)) | None if self.stop.is_cancelled() => std::future::pending().await,
                Some(Ok(Some(stage))) => StageDied::new(stage, &"it returned"),
                Some(Err(error)) => StageDied::new("a stage", &error),
                None => std::future::pending().await,
            };
            tracing::error!("{died}");
            return died;
        }
    }

    /// Waits until all have ended.
    pub(crate) async fn finish(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn key() -> StageKey {
        ("a sink", "app".to_owned())
    }

    #[tokio::test]
    async fn a_stage_begins_when_the_one_before_it_has_ended() {
        let stop = CancellationToken::new();
        let mut stages = Stages::new(stop.clone());
        let (said, mut heard) = mpsc::unbounded_channel();
        for round in 0..3 {
            let said = said.clone();
            stages.replace(key(), move |stop| async move {
                said.send((round, "begins")).unwrap();
                stop.cancelled().await;
                // Work that was under way.
                tokio::task::yield_now().await;
                said.send((round, "ends")).unwrap();
            });
        }
        let removed = said.clone();
        stages.remove(key(), move || removed.send((9, "removed")).unwrap());
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
    async fn only_a_stage_that_nobody_asked_to_end_has_died() {
        let mut stages = Stages::new(CancellationToken::new());
        stages.replace(key(), |stop| async move { stop.cancelled().await });
        stages.remove(key(), || {});
        stages.start("retention", async {});
        assert!(stages.died().await.to_string().starts_with("retention ended unexpectedly"));
    }
}
