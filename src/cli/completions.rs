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
    // clap_complete (clap-rs/clap#6421) takes the hyphen in the program's name for the border of a
    // subcommand in bash's labels, but not where it looks for them: no option would be completed.
    let script =
        String::from_utf8_lossy(&script).replace("insights__subcmd__archive", "insights__archive");
    results(&script)?;
    Ok(ExitCode::SUCCESS)
}
