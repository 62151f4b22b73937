//! `completions`: the script that completes this command line in a shell.

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, results};

/// Which shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insights-archive completions bash > ~/.local/share/bash-completion/completions/insights-archive
  insights-archive completions zsh  > ~/.zfunc/_insights-archive
  insights-archive completions fish > ~/.config/fish/completions/insights-archive.fish")]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    let mut command = Cli::command();
    clap_complete::generate(args.shell, &mut command, "insights-archive", &mut script);
    results(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
