//! `tidings demo --keep`: a mock whose jobs go on, a receiver that fails for a while, and the page in the browser.

use std::{collections::BTreeMap, io::IsTerminal as _, time::Duration};

use anyhow::Result;
use axum::{Router, http::StatusCode, routing::post};
use rand::Rng;
use tokio::{net::TcpListener, time::Instant};

use crate::{
    deliver::{RetryConfig, WebhookConfig},
    mock::{Ending, JobPlan, Mock},
    state::handle::Handle,
    store::Registration,
    util::{clock, units::HumanDuration},
};

/// The time for which the demonstration keeps finished jobs.
pub(super) const RETENTION: HumanDuration = HumanDuration::secs(3600);

/// The number of jobs that the mock keeps: those of the retention and more.
pub(super) const JOBS_KEPT: usize = 2000;

/// The number of jobs after which no more are made, about eight hours.
const MOST_JOBS: u32 = 10_000;

/// The receiver that fails answers for this long, and then fails for that long.
const ANSWERS: Duration = Duration::from_secs(90);
const FAILS: Duration = Duration::from_secs(45);

const TEAMS: [&str; 3] = ["billing", "claims", "search"];
const ENDPOINTS: [&str; 3] = ["/v1/extractions", "/v1/parses", "/v1/splits"];

/// Returns the sink that fails for a while. Its schedule is short, so that there are dead letters to send again.
pub(super) fn unsteady(url: &str) -> WebhookConfig {
    let schedule = [2, 4, 8, 15].map(HumanDuration::secs).to_vec();
    WebhookConfig { retry: RetryConfig { schedule, jitter: 0.2 }, ..WebhookConfig::to(url) }
}

/// Serves the receiver that fails for a while, again and again.
pub(super) async fn receive_unsteadily(listener: TcpListener) {
    let start = Instant::now();
    let answer = move || async move {
        match has_failed(start.elapsed()) {
            true => (StatusCode::SERVICE_UNAVAILABLE, "down for the demonstration"),
            false => (StatusCode::OK, ""),
        }
    };
    if let Err(error) = axum::serve(listener, Router::new().route("/hooks/unsteady", post(answer))).await {
        tracing::error!(%error, "demo receiver failed");
    }
}

fn has_failed(since_start: Duration) -> bool {
    since_start.as_secs() % (ANSWERS + FAILS).as_secs() >= ANSWERS.as_secs()
}

/// Makes and watches a job every few seconds, until the daemon stops.
pub(super) async fn make_jobs(mock: &Mock, handle: &Handle) -> Result<()> {
    let source = handle.default_source();
    let stopping = handle.stopping();
    for number in 0..MOST_JOBS {
        let (plan, labels, pause) = draw(number, &mut rand::rng());
        let job_id = mock.add_job(plan).parse()?;
        let kind = handle.state().kind_by_id(&source, &job_id);
        let job = Registration { kind, labels, ..Registration::new(&source, job_id) };
        handle.state().store.register(vec![job], clock::now()).await?;
        if stopping.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            break;
        }
    }
    Ok(())
}

/// Draws a job, its labels, and the pause until the next one. Each endpoint has a usual duration, so that there is something
/// to learn.
fn draw(number: u32, random: &mut impl Rng) -> (JobPlan, BTreeMap<String, String>, Duration) {
    let ending = match random.random_range(0..40) {
        0..4 => Ending::Failed,
        4 => Ending::Cancelled,
        5 => Ending::Expired,
        _ => Ending::Completed,
    };
    let kind = random.random_range(0..ENDPOINTS.len());
    let usual = [3.0, 9.0, 25.0][kind];
    let lasts = Duration::from_secs_f64(usual * random.random_range(0.6..1.6));
    let mut plan = JobPlan::new().lasting(lasts).ending(ending);
    plan.endpoint = Some(ENDPOINTS[kind].to_owned());
    plan = plan.with_metadata("document", &format!("invoice-{number:05}.pdf"));
    let team = TEAMS[random.random_range(0..TEAMS.len())];
    let labels = BTreeMap::from([("team".to_owned(), team.to_owned())]);
    (plan, labels, Duration::from_secs_f64(random.random_range(1.0..5.0)))
}

/// Opens the page in the browser, if somebody at a desktop sees the output. A failure changes nothing: the address is printed.
pub(super) fn open_page(url: &str) {
    let has_display = cfg!(any(target_os = "macos", windows))
        || ["DISPLAY", "WAYLAND_DISPLAY"]
            .iter()
            .any(|name| std::env::var_os(name).is_some_and(|it| !it.is_empty()));
    if has_display && std::io::stdout().is_terminal() {
        let url = url.to_owned();
        // It waits a moment for the browser.
        tokio::task::spawn_blocking(move || open::that_detached(url));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_receiver_fails_for_a_while_again_and_again() {
        let fails = |second| has_failed(Duration::from_secs(second));
        assert!(!fails(0) && !fails(89) && fails(90) && fails(134) && !fails(135) && fails(225));
    }

    #[test]
    fn jobs_are_of_every_kind_and_end_in_every_way() {
        let mut random = rand::rng();
        let drawn: Vec<_> = (0..2000).map(|number| draw(number, &mut random)).collect();
        for ending in [Ending::Completed, Ending::Failed, Ending::Cancelled, Ending::Expired] {
            assert!(drawn.iter().any(|(plan, ..)| plan.ending == Some(ending)), "{ending:?}");
        }
        for team in TEAMS {
            assert!(drawn.iter().any(|(_, labels, _)| labels["team"] == team), "{team}");
        }
        assert!(drawn.iter().all(|(.., pause)| (1..5).contains(&pause.as_secs())));
    }
}
