//! `tidings config …`.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use super::config_route::RouteArgs;
use crate::{
    config::{ConfigError, Loaded, Loader, ShowFormat, schema, show},
    deliver::{Disk, SinkConfig},
};

/// Checks, shows or describes the configuration; starts nothing.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ConfigCommand {
    /// Say whether the configuration can be started with.
    ///
    /// Reads the file, the environment and the flags exactly as `tidings run` does and reports every mistake
    /// at once, each with its key, its place (file, line and column; variable; flag), the reason and, for an
    /// unknown key, the nearest known one. Exit status: 0 when it is fine, 2 when it is not.
    #[command(after_help = "Examples:\n  tidings config check\n  tidings --config hub.toml config check\n  \
        tidings --config hub.toml config check --no-secret-files   # in CI, where no secret is")]
    Check {
        /// Do not look at the files that secrets are in.
        ///
        /// For a machine that checks the configuration but does not hold its secrets.
        #[arg(long)]
        no_secret_files: bool,
    },
    /// Print the effective configuration and where each value was set.
    ///
    /// Every key is there, the defaults too, each with its origin: `default`, `FILE:LINE`, `environment
    /// NAME` or `flag NAME`. Secrets, values of headers, and credentials and queries in URLs are redacted, so
    /// the output can go into a report; for that reason it is no configuration to start with as it stands.
    #[command(after_help = "Examples:\n  tidings config show\n  \
        tidings config show --output json | jq '.\"store.retention\"'")]
    Show {
        /// A commented file (toml), or one object with `value` and `origin` for each key (json).
        #[arg(short = 'o', long, value_enum, default_value = "toml")]
        output: ShowFormat,
        /// Show what the running daemon works with, whatever the files and variables here say; without origins
        #[arg(long, conflicts_with = "output")]
        running: bool,
    },
    /// Explain where an event would go.
    ///
    /// Describe an event; for each sink it says whether it would get it, and which route or which condition
    /// decides that. Nothing is sent. The running daemon is asked, for it may have been set up by flags; where none answers, or
    /// --config names a file, the configuration here decides. Exit status: 0, also when the event goes nowhere; 2 for a name that is
    /// not configured.
    #[command(after_help = "Examples:\n  tidings config route --outcome failed --label team=billing\n  \
        tidings config route --event job.updated --status in_progress --output json")]
    Route(RouteArgs),
    /// Print the JSON Schema of the configuration file.
    ///
    /// Editors complete and check against it. TOML (taplo): `#:schema ./tidings.schema.json` in the first
    /// line; YAML: `# yaml-language-server: $schema=./tidings.schema.json`; JSON: a key `$schema`.
    #[command(after_help = "Example:\n  tidings config schema > tidings.schema.json")]
    Schema,
}

impl ConfigCommand {
    /// Does what was asked for and answers the exit status: 0, 1 when the output cannot be written, or 2 when
    /// the configuration has mistakes, which are then in `err`.
    pub fn run(&self, loader: Loader, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
        let text = match self {
            Self::Check { no_secret_files } => {
                let loader = if *no_secret_files { loader.without_secret_files() } else { loader };
                loader.load().map(|loaded| verdict(&loaded))
            }
            // It should show what is set also where the secrets are not.
            Self::Show { output, .. } => match loader.without_secret_files().load() {
                Ok(effective) => match show(&effective, *output) {
                    Ok(text) => Ok(text),
                    Err(reason) => return failed(err, &reason),
                },
                Err(error) => Err(error),
            },
            Self::Route(route) => match loader.without_secret_files().load() {
                Ok(loaded) => match route.explain(&loaded.config) {
                    Ok(text) => Ok(text),
                    Err(reason) => return misused(err, &reason),
                },
                Err(error) => Err(error),
            },
            Self::Schema => Ok(format!("{:#}\n", schema())),
        };
        match text {
            Ok(text) => match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                Ok(()) => 0,
                // `config show | head` is no failure.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
                Err(error) => failed(err, &error.to_string()),
            },
            Err(error) => refused(err, &error),
        }
    }
}

fn failed(err: &mut dyn Write, reason: &str) -> u8 {
    // Where stderr is gone there is nobody left to tell.
    let _ = writeln!(err, "{reason}");
    1
}

fn misused(err: &mut dyn Write, reason: &str) -> u8 {
    let _ = writeln!(err, "{reason}");
    2
}

fn refused(err: &mut dyn Write, error: &ConfigError) -> u8 {
    let _ = write!(err, "{error}");
    2
}

/// What a good configuration amounts to, and what in it may surprise.
fn verdict(loaded: &Loaded) -> String {
    let config = &loaded.config;
    let names = |names: Vec<&String>| {
        let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let file = loaded.file.as_ref().map_or("no file: defaults".to_owned(), |file| file.display().to_string());
    // Writing to a string cannot fail.
    let mut text = format!("the configuration is fine ({file})\n");
    let rows = [
        ("listens on", config.server.listen.clone()),
        ("sources", names(config.sources.keys().collect())),
        ("sinks", names(config.sinks.keys().collect())),
        ("routes", config.routes.len().to_string()),
    ];
    for (what, is) in rows {
        let _ = writeln!(text, "  {what:<12}{is}");
    }
    for warning in &loaded.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    for name in loaded.sources_without_a_key() {
        let _ =
            writeln!(text, "note: sources.{name} has no api_key or api_key_file; it is asked without one");
    }
    for (name, sink) in &config.sinks {
        if let SinkConfig::Disk(disk) = sink
            && !Disk::tells_jobs_apart(&disk.path, config.sources.len())
        {
            let _ = writeln!(
                text,
                "note: sinks.{name}.path can be the same for two jobs; the second is then written beside the first, with a hash in \
                 its name. A path like {{source}}/{{job_id}}.json cannot"
            );
        }
    }
    if config.sinks.is_empty() {
        text.push_str("note: there are no sinks; finished jobs are kept and can be read from the API\n");
    }
    text
}
