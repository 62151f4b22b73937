//! What an invocation tells `CloudWatch`: one line in the embedded metric format, on standard output.
//!
//! No metric has a dimension: each combination of dimensions is a metric of its own, and is paid for.
//! Which export, which reason, which refusal stand beside the values, where a query of the log finds
//! them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::export::{Export, Time};
use crate::kore::ApiError;
use crate::stages::Report;
use crate::stages::enqueue::{Request, Summary};

/// `CloudWatch` takes so many values of one metric in a line. An invocation has ten messages, so
/// nothing is cut unless somebody raises that tenfold.
const MOST_VALUES: usize = 100;

/// What one invocation has to tell.
#[derive(Debug, Default)]
pub struct Metrics {
    started: u64,
    committed: Vec<Committed>,
    failures: Vec<Value>,
    looks: Vec<u32>,
    copied: u64,
    quarantined: u64,
    refusals: BTreeMap<&'static str, u64>,
    /// Messages that failed and will come again. Lambda does not count them among a function's errors.
    failed_messages: u64,
    /// Weeks missing, where the invocation was a tick.
    tick: Option<usize>,
}

#[derive(Debug)]
struct Committed {
    files: u64,
    records: u64,
    bytes: u64,
    discrepancies: usize,
    seconds: f64,
}

impl Metrics {
    /// Takes note of what happened to an export.
    pub fn note(&mut self, export: &Export, report: &Report) {
        match report {
            Report::Started { .. } => self.started += 1,
            Report::Exported { looks, .. } => self.looks.push(*looks),
            Report::Copied { bytes, .. } => self.copied += bytes,
            Report::Quarantined { .. } => self.quarantined += 1,
            Report::HostTrouble(error) => *self.refusals.entry(kind(error)).or_default() += 1,
            Report::GaveUp { reason } => self
                .failures
                .push(json!({"export": export.to_string(), "reason": reason})),
            Report::Committed {
                files,
                records,
                bytes,
                discrepancies,
                took,
            } => self.committed.push(Committed {
                files: *files,
                records: *records,
                bytes: *bytes,
                discrepancies: discrepancies.len(),
                seconds: took.as_secs_f64(),
            }),
            Report::Adopted { .. }
            | Report::Looked { .. }
            | Report::Delayed { .. }
            | Report::Arrived { .. }
            | Report::Continued { .. }
            | Report::Restarting { .. }
            | Report::Ended { .. } => {}
        }
    }

    /// Takes note of a message that failed and will come again.
    pub fn message_failed(&mut self) {
        self.failed_messages += 1;
    }

    /// Takes note of what enqueue found. An explicit request sees a part of the weeks only, so it is
    /// no tick and says nothing about what is missing.
    pub fn enqueued(&mut self, request: &Request, summary: &Summary) {
        if let Request::Tick(_) = request {
            self.tick = Some(summary.exports.iter().map(|line| line.missing).sum());
        }
    }

    /// The line of an invocation that took so long; `None` where there is nothing to tell.
    pub fn line(&self, namespace: &str, now: Time, took: Duration) -> Option<String> {
        let mut line = Line::default();
        if let Some(missing) = self.tick {
            line.put("Ticks", "Count", json!(1));
            line.put("WeeksMissing", "Count", json!(missing));
        }
        line.count("ExportsStarted", self.started);
        line.count("ExportsCommitted", self.committed.len() as u64);
        line.count("ExportsFailed", self.failures.len() as u64);
        if !self.committed.is_empty() {
            // Zero is news here: a week with nothing in it was archived.
            let sum = |of: fn(&Committed) -> u64| json!(self.committed.iter().map(of).sum::<u64>());
            line.put("Records", "Count", sum(|committed| committed.records));
            line.put("Bytes", "Bytes", sum(|committed| committed.bytes));
            line.put("Fragments", "Count", sum(|committed| committed.files));
            let found = sum(|committed| committed.discrepancies as u64);
            line.put("Discrepancies", "Count", found);
            let seconds = self.committed.iter().map(|committed| committed.seconds);
            line.values("ExportSeconds", "Seconds", seconds);
        }
        line.values("LooksPerJob", "Count", self.looks.iter().copied());
        if self.copied > 0 {
            #[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
            let rate = self.copied as f64 / took.as_secs_f64().max(0.001);
            line.put("CopyBytesPerSecond", "Bytes/Second", json!(rate.round()));
        }
        line.count("Quarantined", self.quarantined);
        line.count("HostRefusals", self.refusals.values().sum());
        line.count("MessagesFailed", self.failed_messages);
        if line.defined.is_empty() {
            return None;
        }
        if !self.refusals.is_empty() {
            line.members
                .insert("refusals".to_owned(), json!(self.refusals));
        }
        if !self.failures.is_empty() {
            line.members
                .insert("failures".to_owned(), json!(self.failures));
        }
        let head = json!({
            "Timestamp": now.unix_millis(),
            "CloudWatchMetrics": [
                {"Namespace": namespace, "Dimensions": [[]], "Metrics": line.defined}
            ],
        });
        line.members.insert("_aws".to_owned(), head);
        Some(Value::Object(line.members).to_string())
    }
}

/// A line in the making: which members are metrics, and all members.
#[derive(Default)]
struct Line {
    defined: Vec<Value>,
    members: Map<String, Value>,
}

impl Line {
    fn put(&mut self, name: &str, unit: &str, value: Value) {
        self.defined.push(json!({"Name": name, "Unit": unit}));
        self.members.insert(name.to_owned(), value);
    }

    fn count(&mut self, name: &str, count: u64) {
        if count > 0 {
            self.put(name, "Count", json!(count));
        }
    }

    fn values<T: Into<Value>>(&mut self, name: &str, unit: &str, values: impl Iterator<Item = T>) {
        let values: Vec<Value> = values.take(MOST_VALUES).map(Into::into).collect();
        if !values.is_empty() {
            self.put(name, unit, Value::Array(values));
        }
    }
}

/// The kind of a refusal, for the log's reader.
fn kind(error: &ApiError) -> &'static str {
    match error {
        ApiError::Limited { .. } => "limited",
        ApiError::Unreachable { .. } => "unreachable",
        ApiError::Unclear { .. } => "unclear",
        ApiError::Unauthorized { .. } => "unauthorized",
        ApiError::Gone { .. } => "gone",
        ApiError::Rejected { .. } => "rejected",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export() -> Export {
        Export {
            app: "st-1".parse().unwrap(),
            event: "all".parse().unwrap(),
            week: "2025-01-20".parse().unwrap(),
        }
    }

    fn now() -> Time {
        "2025-01-27T06:00:00Z".parse().unwrap()
    }

    fn line(reports: &[Report]) -> Option<Value> {
        let mut metrics = Metrics::default();
        for report in reports {
            metrics.note(&export(), report);
        }
        let line = metrics.line("InsightsArchive/test", now(), Duration::from_secs(2))?;
        assert!(!line.contains('\n'), "one line: {line}");
        Some(serde_json::from_str(&line).unwrap())
    }

    fn committed(records: u64, discrepancies: &[&str]) -> Report {
        Report::Committed {
            files: 3,
            records,
            bytes: records * 10,
            discrepancies: discrepancies.iter().map(|&text| text.to_owned()).collect(),
            took: Duration::from_millis(1500),
        }
    }

    #[test]
    fn an_invocation_is_one_line_with_every_metric_and_no_dimension() {
        let job: crate::export::JobId = "fj-1".parse().unwrap();
        let limited = || {
            Report::HostTrouble(ApiError::Limited {
                request: "GET /job".to_owned(),
                retry_after: None,
            })
        };
        let reports = [
            Report::Started {
                job: job.clone(),
                attempt: 1,
            },
            Report::Exported {
                job,
                files: 3,
                records: Some(400),
                looks: 4,
                took: Duration::from_secs(30),
            },
            Report::Arrived { bytes: 9 },
            Report::Copied {
                number: 1,
                of: 3,
                bytes: 3_000,
                records: 150,
                took: Duration::from_secs(1),
            },
            committed(400, &["one"]),
            committed(0, &[]),
            limited(),
            limited(),
            Report::Quarantined {
                key: "quarantine/x".to_owned(),
                why: "not JSON".to_owned(),
            },
            Report::GaveUp {
                reason: "3 jobs were tried".to_owned(),
            },
        ];
        assert_eq!(
            line(&reports).unwrap(),
            json!({
                "_aws": {
                    "Timestamp": 1_737_957_600_000_u64,
                    "CloudWatchMetrics": [{
                        "Namespace": "InsightsArchive/test",
                        "Dimensions": [[]],
                        "Metrics": [
                            {"Name": "ExportsStarted", "Unit": "Count"},
                            {"Name": "ExportsCommitted", "Unit": "Count"},
                            {"Name": "ExportsFailed", "Unit": "Count"},
                            {"Name": "Records", "Unit": "Count"},
                            {"Name": "Bytes", "Unit": "Bytes"},
                            {"Name": "Fragments", "Unit": "Count"},
                            {"Name": "Discrepancies", "Unit": "Count"},
                            {"Name": "ExportSeconds", "Unit": "Seconds"},
                            {"Name": "LooksPerJob", "Unit": "Count"},
                            {"Name": "CopyBytesPerSecond", "Unit": "Bytes/Second"},
                            {"Name": "Quarantined", "Unit": "Count"},
                            {"Name": "HostRefusals", "Unit": "Count"},
                        ],
                    }],
                },
                "ExportsStarted": 1,
                "ExportsCommitted": 2,
                "ExportsFailed": 1,
                "Records": 400,
                "Bytes": 4_000,
                "Fragments": 6,
                "Discrepancies": 1,
                "ExportSeconds": [1.5, 1.5],
                "LooksPerJob": [4],
                "CopyBytesPerSecond": 1_500.0,
                "Quarantined": 1,
                "HostRefusals": 2,
                "refusals": {"limited": 2},
                "failures": [
                    {"export": "app=st-1/event=all/week=2025-01-20", "reason": "3 jobs were tried"}
                ],
            })
        );
    }

    #[test]
    fn an_invocation_without_news_writes_no_line() {
        assert_eq!(line(&[Report::Looked { percent: Some(4.0) }]), None);
    }

    #[test]
    fn messages_that_fail_are_counted() {
        let mut metrics = Metrics::default();
        metrics.message_failed();
        metrics.message_failed();
        let line = metrics.line("InsightsArchive/test", now(), Duration::ZERO);
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(line["MessagesFailed"], 2);
    }

    #[test]
    fn a_line_never_has_more_values_than_cloudwatch_takes() {
        let reports: Vec<_> = (0..101).map(|records| committed(records, &[])).collect();
        let line = line(&reports).unwrap();
        assert_eq!(line["ExportsCommitted"], 101);
        assert_eq!(line["ExportSeconds"].as_array().map(Vec::len), Some(100));
    }

    #[test]
    fn only_a_tick_tells_how_many_weeks_are_missing() {
        let summary = Summary {
            time: now(),
            dry_run: false,
            exports: Vec::new(),
            sent: Vec::new(),
        };
        let lines = [r#"{"since": "2025-01-20"}"#, "{}"].map(|event| {
            let event = serde_json::from_str(event).unwrap();
            let request = Request::from_json(&event, now()).unwrap();
            let mut metrics = Metrics::default();
            metrics.enqueued(&request, &summary);
            metrics.line("x", now(), Duration::ZERO)
        });
        assert_eq!(lines[0], None);
        let tick: Value = serde_json::from_str(lines[1].as_ref().unwrap()).unwrap();
        assert_eq!(
            (&tick["Ticks"], &tick["WeeksMissing"]),
            (&json!(1), &json!(0))
        );
    }
}
