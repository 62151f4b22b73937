//! The command line: what each subcommand takes, what it says where, how it ends.
//!
//! Results go to standard output, progress and logs to standard error. The exit status is 0 where
//! everything asked for stands, 1 where something does not (and is named), 2 for wrong usage or
//! settings. Nothing but this module reads the environment or writes to a terminal.
//!
//! Each subcommand is a file with its `Args` and `async fn run(Args, &Screen) -> Result<ExitCode>`.

mod completions;
mod demo;
mod erase;
mod figures;
mod progress;
mod range;
mod report;
mod run;
mod screen;
mod simulate;
mod site;
mod status;
mod stop;
mod table;
mod usage;
mod verify;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use screen::Screen;
use usage::Usage;

/// Something that was asked for does not stand.
const UNFULFILLED: u8 = 1;
/// Wrong usage or settings, as clap has it.
const WRONG_USAGE: u8 = 2;

/// Keeps a complete, verified, immutable archive of a Kore.ai Search AI app's Answer Insights: every
/// week, every fragment, in your own folder or bucket.
#[derive(Debug, Parser)]
#[command(name = "insights-archive", version = env!("INSIGHTS_VERSION"), after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  insights-archive demo                     watch four weeks being archived; needs no account
  insights-archive run --help               archive your own app's weeks
  insights-archive status --archive DIR     is anything missing?

Environment:
  KORE_JWT, or KORE_CLIENT_ID and KORE_CLIENT_SECRET
                                            the app's credentials, for `run`
  INSIGHTS_LOG=off|error|warn|info|debug|trace
                                            how much is logged to standard error
  NO_COLOR                                  no colours

Exit status: 0 all that was asked for stands archived and verified, 1 something does not and is
named, 2 wrong usage or settings.";

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Run(run::Args),
    Simulate(simulate::Args),
    /// Is the archive complete? Show the calendar of its weeks
    Status(status::Args),
    /// Is the archive right? Check every object against its manifest
    Verify(verify::Args),
    /// Write the state of the archive as one page of HTML
    Report(report::Args),
    /// Take a week out of the archive for good, on a person's request
    Erase(erase::Args),
    /// Print a script that completes this command line in your shell
    Completions(completions::Args),
}

impl Command {
    async fn run(self, screen: &Screen) -> anyhow::Result<ExitCode> {
        match self {
            Self::Demo(args) => demo::run(args, screen).await,
            Self::Run(args) => run::run(args, screen).await,
            Self::Simulate(args) => simulate::run(args, screen).await,
            Self::Status(args) => Box::pin(status::run(args, screen)).await,
            Self::Verify(args) => verify::run(args, screen).await,
            Self::Report(args) => Box::pin(report::run(args, screen)).await,
            Self::Erase(args) => erase::run(args, screen).await,
            Self::Completions(args) => completions::run(&args),
        }
    }
}

/// Reads the command line, does as it says, and tells how it ended.
pub fn main() -> ExitCode {
    // Prints help or what is wrong by itself, and ends with 0 or 2.
    let cli = Cli::parse();
    let screen = match Screen::new(std::env::var("INSIGHTS_LOG").ok().as_deref()) {
        Ok(screen) => screen,
        Err(error) => return complain(&error.into()),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error.into()),
    };
    let ended = runtime.block_on(cli.command.run(&screen));
    // Work on the disk that is still going on is cut off: every write is whole or not at all.
    runtime.shutdown_background();
    ended.unwrap_or_else(|error| complain(&error))
}

/// Says what is wrong and what to do about it, in one place and one form.
fn complain(error: &anyhow::Error) -> ExitCode {
    let usage = error.downcast_ref::<Usage>();
    let word = |word| console::style(word).bold().for_stderr();
    let mut text = format!("{} {error:#}\n", word("error:").red());
    if let Some(hint) = usage.and_then(Usage::hint) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {hint}", word("hint:").cyan());
    }
    // Nobody is left to be told where standard error is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
    ExitCode::from(if usage.is_some() {
        WRONG_USAGE
    } else {
        UNFULFILLED
    })
}

/// Writes a result to standard output. A reader that has seen enough (`| head`) is no error.
fn results(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot write the results to standard output"))
        }
        _ => Ok(()),
    }
}

/// What others wrote, such as the name of a foreign object, without what would steer a terminal.
fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
