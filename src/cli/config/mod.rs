//! `tidings config`: checks, shows or describes the configuration here, or shows that of the running daemon.

mod check;
mod route;
mod running;

use std::io::Write;

use self::route::RouteArgs;
pub(super) use self::running::run;
use super::exit::{BadUsage, ExitStatus};
use crate::config::{Loader, ShowFormat, schema, show};

/// Checks, shows or describes the configuration, and starts nothing.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ConfigCommand {
    /// Check the configuration.
    ///
    /// Reads the file, the environment and the flags exactly as `tidings run` does. Reports every mistake at once: its
    /// place (file, line and column; variable; flag), its key, the reason and, for an unknown key, the nearest known one.
    /// Exit status: 0 valid; 2 not.
    #[command(after_help = "Examples:\n  tidings config check\n  tidings --config hub.toml config check\n  \
        tidings --config hub.toml config check --no-secret-files   # in CI, without the secrets")]
    Check {
        /// Do not read the files of secrets.
        ///
        /// For a machine that checks the configuration and does not hold its secrets.
        #[arg(long)]
        no_secret_files: bool,
    },
    /// Print the effective configuration, with the origin of each value.
    ///
    /// Prints every key with its origin: `default`, `FILE:LINE`, `environment NAME` or `flag NAME`. Secrets, values of
    /// headers, and credentials and queries in URLs are redacted, so the output can go into a report. A daemon cannot start
    /// with it.
    #[command(after_help = "Examples:\n  tidings config show\n  \
        tidings config show --output json | jq '.\"store.retention\"'")]
    Show {
        /// How to print it: a commented file (toml), or one object with `value` and `origin` for each key (json).
        #[arg(short = 'o', long, value_enum, default_value = "toml")]
        output: ShowFormat,
        /// Show the configuration of the running daemon, without origins
        #[arg(long, conflicts_with = "output")]
        running: bool,
    },
    /// Explain where an event would go.
    ///
    /// The flags describe an event. For each sink the command prints whether the sink would get it, and which route or
    /// condition decides that. Sends nothing. Uses the configuration of the running daemon, which may have flags of its own;
    /// if no daemon answers, or --config names a file, the configuration here. Exit status: 0, even if the event goes nowhere;
    /// 2 for an unknown name.
    #[command(after_help = "Examples:\n  tidings config route --outcome failed --label team=billing\n  \
        tidings config route --event job.updated --status in_progress --output json")]
    Route(RouteArgs),
    /// Print the JSON Schema of the configuration file.
    ///
    /// Editors complete and check with it. TOML (taplo): `#:schema ./tidings.schema.json` in the first
    /// line; YAML: `# yaml-language-server: $schema=./tidings.schema.json`; JSON: a key `$schema`.
    #[command(after_help = "Example:\n  tidings config schema > tidings.schema.json")]
    Schema,
}

impl ConfigCommand {
    /// Runs the command on the configuration that `loader` finds.
    ///
    /// # Errors
    /// [`BadUsage`] when the configuration has mistakes; an error of `out`.
    pub(crate) fn run(&self, loader: Loader, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
        // The configuration can be shown and explained without its secrets.
        let load = |loader: Loader| loader.load().map_err(|error| BadUsage::new(error.to_string()));
        let text = match self {
            Self::Check { no_secret_files: true } => check::summary(&load(loader.without_secret_files())?),
            Self::Check { no_secret_files: false } => check::summary(&load(loader)?),
            Self::Show { output, .. } => {
                show(&load(loader.without_secret_files())?, *output).map_err(anyhow::Error::msg)?
            }
            Self::Route(route) => route.explain(&load(loader.without_secret_files())?.config)?,
            Self::Schema => format!("{:#}\n", schema()),
        };
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(ExitStatus::Done)
    }
}
