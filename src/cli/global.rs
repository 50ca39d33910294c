//! The flags that every command takes, and the daemon that they name.

use std::path::PathBuf;

use anyhow::Result;
use clap::{ArgAction, Args};

use super::{
    client::{Client, Target},
    exit::BadUsage,
};
use crate::{
    config::{FlagOverrides, Loader},
    telemetry::LogFormat,
    util::secret::{Secret, SecretSource},
};

/// Flags that every command takes.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// Read this configuration file (TOML, YAML or JSON by its extension)
    #[arg(
        short = 'c',
        long,
        global = true,
        value_name = "FILE",
        env = "TIDINGS_CONFIG",
        value_parser = path,
        help_heading = "Global options",
        long_help = "Read this configuration file (TOML, YAML or JSON by its extension). Without it \
        the first that exists: ./tidings.toml, /etc/tidings/tidings.toml"
    )]
    pub(super) config: Option<PathBuf>,

    /// Ask the daemon at this address [default: the configured listen address]
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "TIDINGS_URL",
        help_heading = "Global options",
        long_help = "Ask the daemon at this address: http://host:port, host:port or unix:/path/to.sock \
        [default: the configured listen address]"
    )]
    pub(super) url: Option<String>,

    /// Send this bearer token to the daemon; --token-file keeps it out of the process list
    #[arg(long, global = true, value_name = "TOKEN", env = "TIDINGS_TOKEN", hide_env_values = true,
        help_heading = "Global options", value_parser = secret)]
    pub(super) token: Option<Secret>,

    /// Send the bearer token in this file to the daemon
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "TIDINGS_TOKEN_FILE",
        value_parser = path,
        help_heading = "Global options"
    )]
    pub(super) token_file: Option<PathBuf>,

    /// Format of log lines
    #[arg(long, global = true, value_enum, value_name = "FORMAT", help_heading = "Global options")]
    pub(super) log_format: Option<LogFormat>,

    /// Print only results and errors, without remarks and progress; log only warnings and errors
    #[arg(short = 'q', long, global = true, help_heading = "Global options")]
    pub(super) quiet: bool,

    /// Log more: -v for the debug lines of tidings, -vv for the trace of everything
    #[arg(
        short = 'v',
        long,
        global = true,
        action = ArgAction::Count,
        conflicts_with_all = ["quiet", "log_level"],
        help_heading = "Global options"
    )]
    pub(super) verbose: u8,

    /// Log level: error, warn, info, debug, trace, or a filter such as `info,tidings::deliver=debug`
    #[arg(long, global = true, value_name = "LEVEL", help_heading = "Global options")]
    pub(super) log_level: Option<String>,
}

/// Accepts an empty variable, by which many scripts mean "none". clap's own parser of paths rejects it.
#[expect(clippy::unnecessary_wraps, reason = "clap calls it as a parser that can fail")]
fn path(text: &str) -> Result<PathBuf, std::convert::Infallible> {
    Ok(text.into())
}

#[expect(clippy::unnecessary_wraps, reason = "clap calls it as a parser that can fail")]
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

impl Global {
    /// Returns the keys of the configuration that the flags set.
    #[must_use]
    pub(super) fn overrides(&self) -> FlagOverrides {
        FlagOverrides {
            config: self.config.clone().filter(|path| !path.as_os_str().is_empty()),
            log_level: self.level(),
            log_format: self.log_format,
            ..FlagOverrides::default()
        }
    }

    /// Returns the log level of the flags.
    #[must_use]
    pub(super) fn level(&self) -> Option<String> {
        let short = match (self.quiet, self.verbose) {
            (true, _) => Some("warn"),
            (false, 0) => None,
            // What the libraries say at this level drowns what tidings says.
            (false, 1) => Some("info,tidings=debug"),
            (false, _) => Some("trace"),
        };
        self.log_level.clone().or_else(|| short.map(str::to_owned))
    }

    /// Builds a client of the daemon that the flags, the environment or the configuration name.
    ///
    /// # Errors
    /// When they contradict each other, or the configuration or the token's file cannot be read.
    pub(super) fn client(&self) -> Result<Client> {
        // Many scripts mean "none" by an empty variable.
        let url = self.url.as_deref().filter(|url| !url.trim().is_empty());
        let token = self.token.as_ref().filter(|token| !token.expose().trim().is_empty());
        let file = self.token_file.as_deref().filter(|path| !path.as_os_str().is_empty());
        if token.is_some() && file.is_some() {
            let hint = "keep one of --token (TIDINGS_TOKEN) and --token-file (TIDINGS_TOKEN_FILE)";
            return Err(BadUsage::new("the daemon's token is given twice").hint(hint).into());
        }
        let given = SecretSource::of(token, file);
        let (address, source) = if let Some(url) = url {
            (url.to_owned(), given)
        } else {
            let configured = configured_daemon(self)?;
            // A configured token belongs to the configured address alone.
            (configured.listen, given.or(configured.token))
        };
        let token = source.map(|source| source.get()).transpose()?;
        Ok(Client::new(Target::parse(&address)?, token.as_ref())?)
    }
}

/// The address and the token of the configured daemon.
struct ConfiguredDaemon {
    listen: String,
    token: Option<SecretSource>,
}

/// Returns the configured daemon. It is read only if no URL is given: then a broken configuration file is no obstacle.
///
/// # Errors
/// When the configuration cannot be loaded.
fn configured_daemon(global: &Global) -> Result<ConfiguredDaemon> {
    // A client needs only the token of the daemon's secrets, and may not be allowed to read others.
    let needed = ["server.listen", "server.token", "server.token_file"];
    let loader = Loader::from_process(global.overrides()).only(&needed);
    let server = loader.load().map_err(|error| BadUsage::new(error.to_string()))?.config.server;
    let token = SecretSource::of(server.token.as_ref(), server.token_file.as_deref());
    Ok(ConfiguredDaemon { listen: server.listen, token })
}
