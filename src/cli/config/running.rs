//! The parts of `tidings config` that ask the running daemon: its configuration may come from flags and variables of its own.

use anyhow::Result;

use super::ConfigCommand;
use crate::{
    cli::{
        client::{Client, ClientError, Path},
        console::Console,
        exit::ExitStatus,
        global::Global,
    },
    config::{Config, Loader},
};

/// Runs `tidings config …`.
///
/// # Errors
/// When the configuration has mistakes, the daemon refuses, or the output is closed.
pub(in crate::cli) async fn run(
    command: &ConfigCommand,
    global: &Global,
    console: &mut Console<'_>,
) -> Result<ExitStatus> {
    if let Some(text) = of_daemon(command, global, console).await? {
        console.out.write_all(text.as_bytes())?;
        return Ok(ExitStatus::Done);
    }
    let loader = Loader::from_process(global.overrides());
    command.run(loader, console.out)
}

/// Returns the answer of the daemon; `None` if the command means the configuration here, or no daemon answers.
async fn of_daemon(
    command: &ConfigCommand,
    global: &Global,
    console: &mut Console<'_>,
) -> Result<Option<String>> {
    match command {
        ConfigCommand::Show { running: true, .. } => {
            Ok(Some(toml::to_string(&ask(&global.client()?).await?)?))
        }
        // A named file is the one that is meant.
        ConfigCommand::Route(route) if global.url.is_some() || global.overrides().config.is_none() => {
            // Mistakes in the configuration here show when it is read for the answer.
            let Ok(client) = global.client() else { return Ok(None) };
            match ask(&client).await {
                Ok(config) => Ok(Some(route.explain(&config)?)),
                Err(ClientError::Unreachable { url, .. }) => {
                    console.note(&format!("no daemon answers at {url}; this is the configuration here"));
                    Ok(None)
                }
                Err(error) => Err(error.into()),
            }
        }
        _ => Ok(None),
    }
}

async fn ask(client: &Client) -> Result<Config, ClientError> {
    client.get(&Path::of(&["v1", "config"])).await
}
