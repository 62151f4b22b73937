//! `report`: the state of the archive as one page of HTML.

mod page;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::range::Selection;
use super::screen::Screen;
use super::site::Site;
use super::usage::Usage;
use super::{UNFULFILLED, results, status};

/// What is looked at, and where the page goes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insights-archive report --archive ./archive --out report.html
  insights-archive report --archive s3://bucket/kore --since 2024-01-01 > report.html

One file without scripts that needs no network: it can be mailed, printed, or put on a web server.

Exit status: as of `status`; the page is written all the same.")]
pub struct Args {
    /// The archive: a folder, or a bucket with an optional prefix
    #[arg(long, value_name = "DIR|s3://BUCKET/PREFIX")]
    archive: Site,
    #[command(flatten)]
    selection: Selection,
    /// A week is due this long after its end
    #[arg(long, value_name = "N", default_value_t = 60)]
    settle_minutes: u32,
    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Writes the page.
pub async fn run(args: Args, _screen: &Screen) -> anyhow::Result<ExitCode> {
    let range = args.selection.range()?;
    let settle = Duration::from_secs(60 * u64::from(args.settle_minutes));
    let status = status::look(&args.archive, &range, settle).await?;
    let page = page::page(&status);
    match &args.out {
        None => results(&page)?,
        Some(path) => std::fs::write(path, page).map_err(|error| {
            Usage::new(format!("--out {}: {error}", path.display()))
                .with_hint("name a file in a folder that is there and can be written to")
        })?,
    }
    Ok(if status.complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(UNFULFILLED)
    })
}
