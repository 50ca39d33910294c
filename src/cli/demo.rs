//! `tidings demo`: everything at once on loopback, to see what it does.

use anyhow::Result;
use clap::Args;

use super::{Global, exit::ExitStatus};

/// The long description of the command.
pub(super) const ABOUT: &str = "Shows what tidings does, without a key and without a network: starts a mock upstream, the \
        daemon and a webhook receiver on loopback, watches a few jobs to their end, and prints what happened. \
        Nothing is kept afterwards.";

/// The arguments of `tidings demo`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        tidings demo\n  \
        tidings demo --jobs 50\n  \
        tidings demo --keep      # then try `tidings list` and `curl` from another terminal\n\n\
        Exit status: 0 every job was delivered; 1 failure at run time; 2 bad usage.")]
pub struct DemoArgs {
    /// Leave it running afterwards, to try commands against it
    #[arg(long)]
    pub keep: bool,

    /// How many jobs to watch
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub jobs: u32,
}

/// Runs the demonstration.
///
/// # Errors
/// When a part of it cannot start or fails.
#[expect(clippy::unused_async, reason = "wired together with the app")]
pub async fn run(_args: DemoArgs, _global: &Global) -> Result<ExitStatus> {
    anyhow::bail!("not wired yet")
}
