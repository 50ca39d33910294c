//! `tidings completions`: shell completion.

use anyhow::Result;
use clap::Args;
use clap_complete::{Shell, env::Shells};

use super::{
    complete,
    console::Console,
    exit::{BadUsage, ExitStatus},
};

/// The long description of the command.
pub(super) const ABOUT: &str = "Prints a script that teaches a shell to complete the commands and flags of tidings, and the names of sinks, \
    sources, jobs and deliveries. The script asks the running daemon for names, and waits at most half a second.";

/// The arguments of `tidings completions`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        tidings completions bash > ~/.local/share/bash-completion/completions/tidings\n  \
        tidings completions zsh > ~/.zfunc/_tidings\n  \
        tidings completions fish > ~/.config/fish/completions/tidings.fish")]
pub struct CompletionsArgs {
    /// The shell
    pub(super) shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// When the output is closed.
pub(super) fn run(args: &CompletionsArgs, console: &mut Console<'_>) -> Result<ExitStatus> {
    let shell = args.shell.to_string();
    let shells = Shells::builtins();
    let script =
        shells.completer(&shell).ok_or_else(|| BadUsage::new(format!("no completion exists for {shell}")))?;
    let mut text = Vec::new();
    script.write_registration(complete::VARIABLE, "tidings", "tidings", "tidings", &mut text)?;
    console.out.write_all(&text)?;
    Ok(ExitStatus::Done)
}
