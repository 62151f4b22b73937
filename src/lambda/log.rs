//! The functions' log: JSON lines on standard output, each with its export's name.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::export::Export;
use crate::stages::Report;

/// Sends the log to standard output from here on, panics included.
pub fn init(level: LevelFilter) {
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_writer(std::io::stdout);
    tracing_subscriber::registry()
        .with(lines)
        .with(filter(level))
        .init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let place = place.as_deref().unwrap_or("an unknown place");
        let why = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(
            place,
            "a defect of this program: panicked at {place}: {why}"
        );
    }));
}

/// What is written at a level. Other crates never write below a warning: what they trace, headers
/// and bodies among it, may hold a token or a signature.
fn filter(level: LevelFilter) -> Targets {
    Targets::new()
        .with_target("insights_archive", level)
        .with_default(level.min(LevelFilter::WARN))
        // It repeats what the handler has said, and how a failed invocation is told anyway.
        .with_target("lambda_runtime::layers::panic", LevelFilter::OFF)
}

/// Writes what happened to an export.
pub fn report(export: &Export, report: &Report) {
    match report {
        Report::Arrived { .. } => {}
        Report::Started { job, attempt } => {
            tracing::info!(%export, %job, attempt, "{export}: job {job} was started (attempt {attempt})");
        }
        Report::Adopted { job } => {
            tracing::info!(%export, %job, "{export}: job {job}, which was under way, is carried on");
        }
        Report::Looked { percent } => {
            let done = percent.unwrap_or_default();
            tracing::info!(%export, percent, "{export}: {done} % exported");
        }
        Report::HostTrouble(error) => {
            tracing::warn!(%export, %error, "{export}: {error}");
        }
        Report::Delayed { delay, why } => {
            let seconds = delay.as_secs_f64();
            tracing::warn!(%export, seconds, why, "{export}: again in {seconds:.1} s: {why}");
        }
        Report::Exported {
            job,
            files,
            records,
            looks,
            took,
        } => {
            let seconds = took.as_secs_f64();
            tracing::info!(%export, %job, files, records, looks, seconds, "{export}: job {job} has succeeded with {files} files; copying begins");
        }
        Report::Copied {
            number,
            of,
            bytes,
            records,
            took,
        } => {
            let seconds = took.as_secs_f64();
            tracing::info!(%export, number, of, bytes, records, seconds, "{export}: fragment {number} of {of} stands in the archive");
        }
        Report::Quarantined { key, why } => {
            tracing::error!(%export, key, why, "{export}: no records came but something else, kept as {key}: {why}");
        }
        Report::Continued { left } => {
            tracing::info!(%export, left, "{export}: {left} fragments are left to the next run");
        }
        Report::Restarting { why } => {
            tracing::warn!(%export, why, "{export}: a new job is needed: {why}");
        }
        Report::Committed {
            files,
            records,
            bytes,
            discrepancies,
            took,
        } => {
            let seconds = took.as_secs_f64();
            if discrepancies.is_empty() {
                tracing::info!(%export, files, records, bytes, seconds, "{export}: archived and verified: {records} records in {files} files");
            } else {
                let discrepancies = discrepancies.join("; ");
                tracing::error!(%export, files, records, bytes, seconds, discrepancies, "{export}: archived with discrepancies: {discrepancies}");
            }
        }
        Report::GaveUp { reason } => {
            tracing::error!(%export, reason, "{export}: given up, and put into the dead-letter queue: {reason}");
        }
        Report::Ended { why } => {
            tracing::info!(%export, why, "{export}: nothing to do: {why}");
        }
    }
}
