//! `tidings run`: the daemon.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{Global, exit::ExitStatus};
use crate::job::JobId;

/// The long description of the command.
pub(super) const ABOUT: &str = "Starts the daemon: it watches jobs until they end and hands each one to the sinks.\n\n\
        It stays in the foreground and logs to stderr. SIGTERM or Ctrl-C finishes what is in flight and stops; \
        a second one stops at once. What was acknowledged is on disk, so a restart goes on where it left off. \
        Flags win over the environment, which wins over the configuration file.";

/// The arguments of `tidings run`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        # Watch two jobs, send their results to a local service, stop when both were delivered\n  \
        tidings run --once --watch job_1 --watch job_2 --webhook http://127.0.0.1:9000/hooks/jobs\n\n  \
        # Write every finished job into a folder\n  \
        tidings run --out results\n\n  \
        # A configured daemon\n  \
        tidings run --config /etc/tidings/tidings.toml\n\n\
        Exit status: 0 stopped or done; 1 failure at run time; 2 bad usage or configuration, nothing was \
        started; with --once also 3 when every job ended but some outcome is not `completed`, 4 when a \
        delivery became a dead letter.")]
pub struct RunArgs {
    /// Serve the API at this address, `unix:/path/to.sock` for a socket [default: 127.0.0.1:8787]
    #[arg(
        long,
        value_name = "ADDR",
        long_help = "Serve the API at this address: host:port (port 0 takes any \
        free one), or unix:/path/to.sock. Anything but loopback or a socket needs `server.token_file` \
        [default: 127.0.0.1:8787]"
    )]
    pub listen: Option<String>,

    /// Keep the daemon's state in this folder [default: data]
    #[arg(
        long,
        value_name = "DIR",
        long_help = "Keep the daemon's state in this folder. One daemon at a time: \
        a second one is refused [default: data]"
    )]
    pub data_dir: Option<PathBuf>,

    /// Send events to this URL too, by a sink named `webhook`
    #[arg(long, value_name = "URL")]
    pub webhook: Option<String>,

    /// Write finished jobs to this folder too, by a sink named `disk`
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Watch this job from the start; may be repeated
    #[arg(long, value_name = "JOB_ID")]
    pub watch: Vec<JobId>,

    /// Watch what is given, deliver it, and exit
    #[arg(
        long,
        long_help = "Watch what is given with --watch or in the configuration, deliver it, and exit; \
        the exit status tells how it went"
    )]
    pub once: bool,
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// When it cannot start, or ends by a failure.
#[expect(clippy::unused_async, reason = "wired together with the app")]
pub async fn run(_args: RunArgs, _global: &Global) -> Result<ExitStatus> {
    anyhow::bail!("not wired yet")
}
