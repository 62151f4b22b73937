//! The functions' log: JSON lines on standard output, each with its export's name.

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::export::Export;
use crate::stages::Report;

/// Sends the log to standard output from here on, panics included.
pub fn init(level: LevelFilter) {
    subscriber(level, std::io::stdout).init();
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

fn subscriber<W>(level: LevelFilter, to: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_writer(to);
    tracing_subscriber::registry()
        .with(lines)
        .with(filter(level))
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
            let done = percent.map_or_else(|| "?".to_owned(), |percent| percent.to_string());
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::Duration;

    use serde_json::Value;

    use super::*;
    use crate::export::JobId;
    use crate::kore::ApiError;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut buffer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            buffer.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that are written at a level.
    fn lines(level: LevelFilter, write: impl FnOnce()) -> Vec<Value> {
        let buffer = Buffer::default();
        let to = buffer.clone();
        tracing::subscriber::with_default(subscriber(level, move || to.clone()), write);
        let text = buffer.0.lock().unwrap().clone();
        let lines = serde_json::Deserializer::from_slice(&text).into_iter();
        lines.map(Result::unwrap).collect()
    }

    fn every_report() -> Vec<Report> {
        let job: JobId = "fj-1".parse().unwrap();
        let span = Duration::from_millis(1_500);
        let why = || "reasons".to_owned();
        let committed = |discrepancies| Report::Committed {
            files: 3,
            records: 400,
            bytes: 9,
            discrepancies,
            took: span,
        };
        vec![
            Report::Started {
                job: job.clone(),
                attempt: 1,
            },
            Report::Adopted { job: job.clone() },
            Report::Looked {
                percent: Some(40.0),
            },
            Report::HostTrouble(ApiError::Gone { request: why() }),
            Report::Delayed {
                delay: span,
                why: why(),
            },
            Report::Exported {
                job,
                files: 3,
                records: Some(400),
                looks: 2,
                took: span,
            },
            Report::Copied {
                number: 1,
                of: 3,
                bytes: 9,
                records: 150,
                took: span,
            },
            Report::Quarantined {
                key: "quarantine/x".to_owned(),
                why: why(),
            },
            Report::Continued { left: 2 },
            Report::Restarting { why: why() },
            committed(Vec::new()),
            committed(vec![why()]),
            Report::GaveUp { reason: why() },
            Report::Ended { why: "reasons" },
        ]
    }

    #[test]
    fn each_report_is_one_line_that_names_its_export_twice() {
        let name = "app=st-1/event=all/week=2025-01-20";
        let export = Export {
            app: "st-1".parse().unwrap(),
            event: "all".parse().unwrap(),
            week: "2025-01-20".parse().unwrap(),
        };
        for of in every_report() {
            let lines = lines(LevelFilter::INFO, || report(&export, &of));
            let [line] = &lines[..] else {
                panic!("{of:?}: {lines:?}")
            };
            assert_eq!(line["export"], name, "{line}");
            let message = line["message"].as_str().unwrap();
            assert!(message.starts_with(name), "{message}");
        }
        let arrived = Report::Arrived { bytes: 9 };
        let lines = lines(LevelFilter::TRACE, || report(&export, &arrived));
        assert_eq!(lines, [] as [Value; 0]);
    }

    #[test]
    fn other_crates_never_say_more_than_warnings() {
        for (level, ours, others) in [
            (LevelFilter::TRACE, 2, 1),
            (LevelFilter::INFO, 1, 1),
            (LevelFilter::ERROR, 0, 0),
        ] {
            let written = |write: fn()| lines(level, write).len();
            assert_eq!(
                written(|| {
                    tracing::info!("a");
                    tracing::trace!("b");
                }),
                ours
            );
            assert_eq!(
                written(|| {
                    tracing::warn!(target: "aws_smithy_runtime", "a");
                    tracing::info!(target: "aws_smithy_runtime", "b");
                    tracing::trace!(target: "hyper_util", "c");
                }),
                others
            );
        }
    }
}
