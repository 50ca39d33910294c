//! `tidings completions`: shell completion.

use anyhow::Result;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, exit::ExitStatus, output::Console};

/// The long description of the command.
pub(super) const ABOUT: &str =
    "Prints a script that teaches a shell to complete the commands and flags of tidings.";

/// The arguments of `tidings completions`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        tidings completions bash > ~/.local/share/bash-completion/completions/tidings\n  \
        tidings completions zsh > ~/.zfunc/_tidings\n  \
        tidings completions fish > ~/.config/fish/completions/tidings.fish")]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// When the output is closed.
pub fn run(args: &CompletionsArgs, console: &mut Console<'_>) -> Result<ExitStatus> {
    // Into memory first: the generator panics when it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tidings", &mut script);
    console.out.write_all(&script)?;
    Ok(ExitStatus::Done)
}
