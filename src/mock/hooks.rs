//! Hooks that the mock sends when a job ends, signed after Standard Webhooks.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, task::JoinSet, time::sleep};

use super::job::dice;
use crate::{
    deliver::webhook::sign::signature,
    telemetry::say,
    util::{
        clock,
        http_client::{self, Outgoing, guard::Trust},
        secret::Secret,
    },
};

/// The longest wait for the answer to a hook. The mock sends none twice.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The hooks of a mock.
#[derive(Clone, Debug)]
pub struct MockHooks {
    /// Where they go.
    pub url: String,
    /// The secret that signs them: `whsec_…`.
    pub secret: Secret,
    /// The share of jobs (0 to 1) whose end is announced.
    pub share: f64,
}

/// The end of a job that may be announced.
struct PlannedEnd {
    after: Duration,
    id: Arc<str>,
    number: u32,
}

/// The sender of hooks. Dropping it stops all that are on their way.
#[derive(Debug)]
pub(super) struct HookSender(mpsc::UnboundedSender<PlannedEnd>);

impl HookSender {
    /// Starts to send, on the current runtime. `seed` decides which ends are announced.
    ///
    /// # Errors
    /// If the client cannot be built.
    pub fn start(hooks: MockHooks, seed: u64) -> reqwest::Result<Self> {
        let client = http_client::builder(&Outgoing::direct(Trust::Operator), http_client::tls())
            .timeout(ANSWER_TIMEOUT)
            .build()?;
        let (sender, mut ends) = mpsc::unbounded_channel::<PlannedEnd>();
        tokio::spawn(async move {
            let hooks = Arc::new(hooks);
            let mut sending = JoinSet::new();
            loop {
                tokio::select! {
                    end = ends.recv() => match end {
                        Some(end) if end.is_announced(hooks.share, seed) => {
                            sending.spawn(send(client.clone(), Arc::clone(&hooks), end));
                        }
                        Some(_) => {}
                        None => return,
                    },
                    Some(_) = sending.join_next() => {}
                }
            }
        });
        Ok(Self(sender))
    }

    /// Announces the end of a run after this time.
    pub fn plan(&self, after: Duration, id: &Arc<str>, number: u32) {
        // Without a receiver the runtime is going down.
        let _ = self.0.send(PlannedEnd { after, id: Arc::clone(id), number });
    }
}

impl PlannedEnd {
    fn is_announced(&self, share: f64, seed: u64) -> bool {
        use rand::Rng as _;
        dice(seed, &format!("hook {}", self.id), self.number).random::<f64>() < share
    }
}

async fn send(client: reqwest::Client, hooks: Arc<MockHooks>, end: PlannedEnd) {
    sleep(end.after).await;
    let body = format!("{{\"type\":\"job.ended\",\"data\":{{\"id\":\"{}\"}}}}", end.id);
    let (id, at) = (format!("hook_{}_{}", end.id, end.number), (clock::now().0 / 1000).to_string());
    let sum = match signature(&hooks.secret, &id, &at, body.as_bytes()) {
        Ok(sum) => sum,
        Err(error) => return say(&format!("hook not signed: {error}")),
    };
    let request = client
        .post(&hooks.url)
        .header("content-type", "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", at)
        .header("webhook-signature", sum)
        .body(body);
    match request.send().await {
        Ok(answer) if answer.status().is_success() => {}
        Ok(answer) => say(&format!("hook of {} refused: {}", end.id, answer.status())),
        Err(error) => say(&format!("hook of {} not sent: {}", end.id, error.without_url())),
    }
}
