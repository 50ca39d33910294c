//! The parts of `tidings config` that are about a running daemon: it may have been set up by flags and variables that no file here
//! tells of.

use anyhow::Result;

use super::{
    Global,
    client::{Client, ClientError},
    config::ConfigCommand,
    exit::{BadUsage, ExitStatus},
    output::Console,
    target::Path,
};
use crate::config::Config;

/// Runs `tidings config …`.
///
/// # Errors
/// When the daemon refuses, or the output is closed. Mistakes of the configuration are on stderr, and an exit status.
pub async fn run(command: &ConfigCommand, global: &Global, console: &mut Console<'_>) -> Result<ExitStatus> {
    if let Some(text) = of_daemon(command, global, console).await? {
        console.out.write_all(text.as_bytes())?;
        return Ok(ExitStatus::Done);
    }
    let loader = global.loader(global.overrides());
    Ok(ExitStatus::of_code(command.run(loader, console.out, console.err)))
}

/// What a daemon says to the command. `None` where the configuration of this folder is meant, or no daemon answers.
async fn of_daemon(
    command: &ConfigCommand,
    global: &Global,
    console: &mut Console<'_>,
) -> Result<Option<String>> {
    match command {
        ConfigCommand::Show { running: true, .. } => {
            Ok(Some(toml::to_string(&ask(&global.client()?).await?)?))
        }
        // Who names a file asks about that file.
        ConfigCommand::Route(route) if global.url.is_some() || global.overrides().config.is_none() => {
            // What is wrong with the configuration here is told when it is read for the answer.
            let Ok(client) = global.client() else { return Ok(None) };
            match ask(&client).await {
                Ok(config) => Ok(Some(route.explain(&config).map_err(BadUsage)?)),
                Err(ClientError::Unreachable { url, .. }) => {
                    console.note(&format!(
                        "no daemon answers at {url}; this is what the configuration here says"
                    ));
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
