//! `tidings mock`.

use std::{
    io::{self, Write},
    net::SocketAddr,
};

use anyhow::Context;

use super::{
    Cut, Down, Endings, Faults, JobPlan, Lag, Mock, MockConfig, MockHooks, RateLimit, Timestamps, job::Ending,
};
use crate::{
    deliver::check_secret,
    util::{
        secret::Secret,
        units::{HumanDuration, Size},
    },
};

/// A pretend Retab API on loopback, for trying out integrations: jobs, and primitives that run in the background.
#[derive(clap::Args, Clone, Debug)]
#[command(after_long_help = "\
A job or a run in the background can ask for its own fate in its metadata, which wins over the flags:
  mock_duration=800ms   how long it takes
  mock_outcome=failed   completed, failed, cancelled, expired (of runs: failed) or stuck
  mock_retry_outcome=…  the same for runs after a retry (default: completed)
  mock_size=64MiB       size of response.body, or of a run's output, made while it is sent
  mock_status=paused    a status word shown in place of in_progress")]
pub struct MockArgs {
    /// Where to listen; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8788")]
    pub listen: SocketAddr,
    /// How instants are written: `iso` as since May 2026, `epoch` (integer seconds) as before
    #[arg(long, value_enum, default_value_t)]
    pub timestamps: Timestamps,
    /// How long a job takes
    #[arg(long, value_name = "TIME", default_value = "2s")]
    pub duration: HumanDuration,
    /// By what share the time varies either way: 0.2 makes 2s anything from 1.6s to 2.4s
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, value_parser = share)]
    pub jitter: f64,
    /// How jobs end: completed, failed, cancelled, expired, stuck, or a mix: `completed=8,failed=1,stuck=1`
    #[arg(long, value_name = "WORD|MIX", default_value = "completed")]
    pub outcome: Endings,
    /// Share of the jobs that fail; short for `--outcome completed=…,failed=…`
    #[arg(long, value_name = "SHARE", conflicts_with = "outcome", value_parser = share)]
    pub fail_rate: Option<f64>,
    /// Size of each response body or output, such as 64MiB; small when not given
    #[arg(long, value_name = "SIZE")]
    pub size: Option<Size>,
    /// Creates so many jobs at the start and prints their ids
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub jobs: usize,
    /// How long after its start a finished job turns `expired`
    #[arg(long, value_name = "TIME", default_value = "7d")]
    pub retention: HumanDuration,
    /// Beyond so many jobs the oldest are forgotten
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    pub max_jobs: usize,
    /// What everything random is drawn from: the same seed, the same ids, times and outcomes
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// The hooks.
    #[command(flatten)]
    pub hooks: HookArgs,
    /// The faults.
    #[command(flatten)]
    pub faults: FaultArgs,
}

/// The hooks that it sends, by flag.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Hooks")]
pub struct HookArgs {
    /// Send a hook here when a job ends: the route `/hooks/NAME` of a daemon
    #[arg(long = "hook", value_name = "URL", requires = "hook_secret")]
    pub hook: Option<String>,
    /// The secret that signs the hooks after Standard Webhooks
    #[arg(long, value_name = "WHSEC", requires = "hook", value_parser = hook_secret)]
    pub hook_secret: Option<Secret>,
    /// Share of the ends that a hook announces
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share, requires = "hook")]
    pub hook_share: f64,
}

fn hook_secret(text: &str) -> Result<Secret, String> {
    let secret = Secret::new(text);
    check_secret(&secret).map_err(|error| error.to_string())?;
    Ok(secret)
}

/// What goes wrong, by flag.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Faults")]
pub struct FaultArgs {
    /// The only key that is let in (`Api-Key` or `Authorization: Bearer`); anybody when not given
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Share of the requests that is answered 500
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub error_rate: f64,
    /// Share of the requests whose connection is closed without an answer
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub drop_rate: f64,
    /// Answers 429 to every N-th request
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub rate_limit_every: Option<u64>,
    /// The Retry-After of the 429 and of `--down`: seconds or an HTTP date
    #[arg(long, value_name = "SECONDS|DATE")]
    pub retry_after: Option<String>,
    /// Every answer waits this long
    #[arg(long, value_name = "TIME", default_value = "0s")]
    pub latency: HumanDuration,
    /// Answers 503 to everything
    #[arg(long)]
    pub down: bool,
    /// Leaves out the status route: it answers 404 while retrieve works
    #[arg(long)]
    pub no_status_route: bool,
    /// The first N reads of a job answer 404, as a replica that is behind would
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub lag_requests: u32,
    /// Reads within this time after a job's creation answer 404
    #[arg(long, value_name = "TIME", default_value = "0s")]
    pub lag: HumanDuration,
    /// The queue of jobs is late: create answers 202 with a warning, retry 503 although it took effect
    #[arg(long)]
    pub late_dispatch: bool,
    /// Cuts the connection after so many bytes of a full body
    #[arg(long, value_name = "SIZE")]
    pub cut_after: Option<Size>,
    /// Cuts only the first N full bodies
    #[arg(long, value_name = "N", requires = "cut_after")]
    pub cut_times: Option<u32>,
}

fn share(text: &str) -> Result<f64, String> {
    let share: Option<f64> = text.parse().ok();
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| format!("`{text}` is not a share; write a number from 0 to 1"))
}

impl From<&FaultArgs> for Faults {
    fn from(args: &FaultArgs) -> Self {
        let retry_after = args.retry_after.clone();
        Self {
            down: if args.down { Down::Unavailable { retry_after: retry_after.clone() } } else { Down::No },
            key: args.key.clone(),
            error_rate: args.error_rate,
            drop_rate: args.drop_rate,
            rate_limit: args.rate_limit_every.map(|every| RateLimit { every, retry_after }),
            latency: args.latency.0,
            no_status_route: args.no_status_route,
            lag: Lag { requests: args.lag_requests, period: args.lag.0 },
            late_dispatch: args.late_dispatch,
            cut: args
                .cut_after
                .map(|after| Cut { after: after.0, times: args.cut_times.unwrap_or(u32::MAX) }),
            ..Self::default()
        }
    }
}

impl From<&MockArgs> for MockConfig {
    fn from(args: &MockArgs) -> Self {
        Self {
            timestamps: args.timestamps,
            duration: args.duration.0,
            jitter: args.jitter,
            endings: args.fail_rate.map_or_else(|| args.outcome.clone(), Endings::failing),
            size: args.size,
            retention: args.retention.0,
            seed: args.seed,
            max_jobs: args.max_jobs,
            faults: (&args.faults).into(),
        }
    }
}

/// Runs the mock until it is told to stop.
///
/// # Errors
///
/// When the address cannot be bound or standard output is closed.
pub async fn run(args: MockArgs) -> anyhow::Result<()> {
    let listen = args.listen;
    let mock =
        Mock::start((&args).into(), listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    if let (Some(url), Some(secret)) = (args.hooks.hook, args.hooks.hook_secret) {
        mock.send_hooks(MockHooks { url, secret, share: args.hooks.hook_share })?;
    }
    let jobs: Vec<_> = (0..args.jobs).map(|_| mock.add_job(JobPlan::new())).collect();
    let mut out = io::stdout().lock();
    out.write_all(greeting(&mock.base_url(), args.faults.key.is_some(), &jobs).as_bytes())?;
    out.flush()?;
    drop(out);
    told_to_stop().await?;
    let farewell = farewell(mock.total(), &mock.requests_by_kind());
    mock.stop().await;
    crate::telemetry::say(&farewell);
    Ok(())
}

fn farewell(total: u64, by_kind: &str) -> String {
    let colon = if by_kind.is_empty() { "" } else { ": " };
    format!("stopped after {total} requests{colon}{by_kind}")
}

fn greeting(base: &str, keyed: bool, jobs: &[String]) -> String {
    let header = if keyed { " -H \"Api-Key: $RETAB_API_KEY\"" } else { "" };
    let key = if keyed { "" } else { "RETAB_API_KEY=any " };
    let known = if jobs.is_empty() { String::new() } else { format!("\nJobs: {}\n", jobs.join(" ")) };
    let id = jobs.first().map_or("JOB_ID", String::as_str);
    let end = Ending::Completed.as_str();
    format!(
        "The mock of Retab's API listens at {base}\n{known}
Create a job that is {end} after three seconds:

  curl -s {base}/v1/jobs{header} -H 'content-type: application/json' \\
    -d '{{\"endpoint\":\"/v1/extractions\",\"request\":{{}},\"metadata\":{{\"mock_duration\":\"3s\"}}}}'

Or run an extraction in the background:

  curl -s {base}/v1/extractions{header} -H 'content-type: application/json' \\
    -d '{{\"document\":{{}},\"json_schema\":{{}},\"background\":true,\"metadata\":{{\"mock_duration\":\"3s\"}}}}'

Register it with the daemon:

  RETAB_API_BASE_URL={base} {key}tidings run --once --watch {id} --out out

Ctrl-C stops it.
"
    )
}

#[cfg(unix)]
async fn told_to_stop() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = tokio::signal::ctrl_c() => done,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn told_to_stop() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::*;

    fn parse(args: &[&str]) -> Result<MockArgs, clap::Error> {
        let command = MockArgs::augment_args(Command::new("mock").no_binary_name(true));
        MockArgs::from_arg_matches(&command.try_get_matches_from(args)?)
    }

    #[test]
    fn flags_become_faults_and_defaults() {
        let plain = MockConfig::from(&parse(&[]).unwrap());
        let own = MockConfig::default();
        assert_eq!((plain.duration, plain.retention), (own.duration, own.retention));
        assert_eq!((plain.endings, plain.max_jobs), (own.endings, own.max_jobs));
        let args =
            ["--fail-rate", "0.5", "--rate-limit-every", "3", "--retry-after", "2", "--cut-after", "1KiB"];
        let config = MockConfig::from(&parse(&args).unwrap());
        assert_eq!(config.endings, Endings::failing(0.5));
        let limit = RateLimit { every: 3, retry_after: Some("2".to_owned()) };
        assert_eq!(config.faults.rate_limit, Some(limit));
        assert_eq!(config.faults.cut, Some(Cut { after: 1024, times: u32::MAX }));
        for wrong in [
            &["--error-rate", "2"][..],
            &["--outcome", "vanished"],
            &["--fail-rate", "0.1", "--outcome", "failed"],
            &["--rate-limit-every", "0"],
            &["--hook", "http://127.0.0.1:1"],
            &["--hook", "http://127.0.0.1:1", "--hook-secret", "short"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_last_line_counts_the_requests_by_route() {
        assert_eq!(farewell(0, ""), "stopped after 0 requests");
        assert_eq!(farewell(3, "create=1 status=2"), "stopped after 3 requests: create=1 status=2");
    }

    #[test]
    fn the_greeting_can_be_pasted() {
        let text = greeting("http://127.0.0.1:8788", true, &["job_a".to_owned()]);
        assert!(text.contains("Api-Key") && text.contains("--watch job_a"));
        assert!(!greeting("http://127.0.0.1:8788", false, &[]).contains("Api-Key"));
    }
}
