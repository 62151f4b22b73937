//! The command line: see `insights_archive::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    insights_archive::cli::main()
}
