//! A simulated job: how it advances, what becomes of it, and what the API says of it.

use std::time::Duration;

use serde_json::{Value, json};

use super::dice::{fork, fork_text, mix, pick, unit, uuid, within};
use super::plan::{Empty, Shape};
use super::records::{Content, Fragment};
use crate::export::{Export, Time};

/// How a job ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fate {
    /// With its files.
    Success,
    /// Never: it stands still from this part of its work on.
    Stuck(f64),
    /// Badly, after this part of its work.
    Failing(f64),
    /// Forgotten after this part of its work, or later where that is more than 1.
    Vanishing(f64),
}

/// What a job says that is not so, or not expected; numbers choose the variant.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Quirks {
    pub(crate) unknown_status: Option<u64>,
    pub(crate) early_files: Option<u64>,
    pub(crate) wrong_records: Option<u64>,
    pub(crate) wrong_total_records: Option<u64>,
}

/// What one look says that is not so; numbers choose the variant.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Slips {
    pub(crate) wrong_total_files: Option<u64>,
    pub(crate) repeated_file: Option<u64>,
    pub(crate) reordered_files: Option<u64>,
    pub(crate) absurd_numbers: Option<u64>,
}

/// One `DATA_EXPORT` job.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: String,
    /// Whose and which; its week is the one that the window starts in.
    pub(crate) export: Export,
    pub(crate) started: Time,
    pub(crate) content: Content,
    pub(crate) shape: Shape,
    pub(crate) empty: Empty,
    /// How long the whole job takes, if it comes to an end.
    pub(crate) takes: Duration,
    pub(crate) fate: Fate,
    pub(crate) quirks: Quirks,
    /// Decides its ids and variants.
    pub(crate) number: u64,
}

/// Where a job stands.
enum Phase {
    Running { percent: f64, files: u64 },
    Failed,
    Gone,
    Done,
}

impl Job {
    /// How many files it makes.
    pub(crate) fn files(&self) -> u64 {
        match (self.content.records(), self.shape) {
            (0, _) => u64::from(self.empty == Empty::EmptyFile),
            (_, Shape::Older) => 1,
            _ => self.content.fragments(),
        }
    }

    /// One of its files, by number from 0.
    pub(crate) fn file(&self, number: u64) -> Fragment {
        match self.shape {
            Shape::Older => self.content.whole(),
            _ => self.content.fragment(number),
        }
    }

    /// The id of a file in links.
    pub(crate) fn link_id(&self, number: u64) -> String {
        format!("f-{}", uuid(fork(self.number, number)))
    }

    fn phase(&self, now: Time) -> Phase {
        let done = now.since(self.started).as_secs_f64() / self.takes.as_secs_f64().max(0.001);
        let at = match self.fate {
            Fate::Vanishing(at) if done >= at => return Phase::Gone,
            Fate::Failing(at) if done >= at => return Phase::Failed,
            Fate::Stuck(at) => done.min(at),
            _ if done >= 1.0 => return Phase::Done,
            _ => done,
        };
        // the percentage moves when a file is finished
        #[expect(clippy::cast_precision_loss, reason = "far fewer files than 2^53")]
        let all = self.files().max(1) as f64;
        let finished = (at * all).floor();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number, at least 0 and below the number of files"
        )]
        let files = finished as u64;
        Phase::Running {
            percent: 100.0 * finished / all,
            files,
        }
    }

    /// What the API says to who starts it: the beginning, even of a job that is done at once.
    pub(crate) fn first_answer(&self) -> Value {
        let mut answer = self.frame(self.running_word(), &json!(0), self.started);
        self.abridge(&mut answer);
        answer
    }

    /// What the API says of it; `None` where it knows no such job. `link` gives a file's address.
    pub(crate) fn answer(
        &self,
        now: Time,
        slips: &Slips,
        link: impl Fn(&str) -> String,
    ) -> Option<Value> {
        let phase = self.phase(now);
        let (status, percent, files) = match phase {
            Phase::Gone => return None,
            Phase::Running { percent, files } if self.quirks.early_files.is_some() => {
                (self.running_word(), percent, files)
            }
            Phase::Running { percent, .. } => (self.running_word(), percent, 0),
            Phase::Failed => (self.failed_word(), 50.0, 0),
            Phase::Done => (self.success_word(), 100.0, self.files()),
        };
        let done = matches!(phase, Phase::Done);
        let mut answer = self.frame(status, &self.percentage(percent, slips), now);
        if matches!(phase, Phase::Failed) {
            answer["message"] = json!("Export failed");
            answer["error"] = json!({"msg": "Something went wrong"});
            answer["timedOut"] = json!(status == "INPROGRESS");
        }
        if done || files > 0 {
            self.add_files(&mut answer, files, slips, link);
        }
        if done {
            self.add_totals(&mut answer, slips);
        }
        self.abridge(&mut answer);
        Some(answer)
    }

    /// The members that every answer has.
    fn frame(&self, status: &str, percent: &Value, now: Time) -> Value {
        let title = "Exporting Analytics Data - JSON";
        json!({
            "_id": self.id, "hidden": false, "read": false, "status": status,
            "percentageDone": percent, "title": title, "message": title,
            "lMod": now.to_string(), "startedAt": self.started.to_string(), "timedOut": false,
            "jobType": "DATA_EXPORT", "streamId": self.export.app.as_str(),
            "searchIndexId": format!("sidx-{}", uuid(mix(self.number))), "fileInfo": {"ext": "json"},
            "createdBy": format!("u-{}", uuid(self.number ^ 1)), "directoryInfo": null,
            "opType": "Manual", "extractionSourceId": null, "contentId": null,
            "error": if self.number.is_multiple_of(3) { json!([]) } else { Value::Null },
            "parentJobId": null, "createdOn": self.started.to_string(), "__v": 0,
        })
    }

    fn abridge(&self, answer: &mut Value) {
        const KEPT: [&str; 6] = [
            "_id",
            "status",
            "percentageDone",
            "fileInfo",
            "analyticsFragments",
            "hasAnalyticsFragments",
        ];
        if self.shape == Shape::Abridged
            && let Some(members) = answer.as_object_mut()
        {
            members.retain(|name, _| KEPT.contains(&name.as_str()));
        }
    }

    fn add_files(
        &self,
        answer: &mut Value,
        files: u64,
        slips: &Slips,
        link: impl Fn(&str) -> String,
    ) {
        let all = self.files();
        let mut entries: Vec<Value> = (0..files)
            .map(|number| self.entry(number, slips, &link))
            .collect();
        if let (Some(number), [first, others @ ..]) = (slips.repeated_file, &mut entries[..])
            && !others.is_empty()
        {
            let at = usize::try_from(number).unwrap_or(0) % others.len();
            others[at]["fileId"] = first["fileId"].clone();
        }
        if let Some(number) = slips.reordered_files {
            entries.sort_by_key(|entry| fork_text(number, &entry["fileId"].to_string()));
        }
        answer["fileInfo"] = match &entries[..] {
            [only] if all == 1 => {
                let mut info = only.clone();
                info.as_object_mut()
                    .map(|members| members.remove("recordCount"));
                info
            }
            _ => json!({}),
        };
        if self.shape != Shape::Older {
            answer["analyticsFragments"] = Value::Array(entries);
            answer["hasAnalyticsFragments"] = json!(all > 1);
        }
    }

    /// What `analyticsFragments` says of one file.
    fn entry(&self, number: u64, slips: &Slips, link: impl Fn(&str) -> String) -> Value {
        let (all, millis) = (self.files(), self.started.unix_millis());
        let part = if all > 1 {
            format!("_part_{}_of_{all}", number + 1)
        } else {
            String::new()
        };
        let records = self.file(number).records();
        let count = match (slips.absurd_numbers, self.quirks.wrong_records) {
            (Some(absurd), _) if (absurd >> 8).is_multiple_of(2) => json!(-1),
            (_, Some(wrong)) if wrong % all == number => json!(off_by_some(records, wrong)),
            _ => json!(records),
        };
        json!({
            "fileId": format!("{:016x}{:08x}", fork(self.number, number), self.number >> 32),
            "fileName": format!("analytics_data_{millis}{part}"),
            "fileUrl": link(&self.link_id(number)),
            "recordCount": count,
        })
    }

    fn add_totals(&self, answer: &mut Value, slips: &Slips) {
        let (files, records) = (self.files(), self.content.records());
        answer["message"] = json!(format!(
            "ANALYTICS DATA JSON Export Completed - {files} file(s) with {records} total records"
        ));
        let untold = records == 0 && self.empty == Empty::NoTotals;
        if self.shape == Shape::Older || untold {
            return;
        }
        let off = |right, wrong: Option<u64>| wrong.map_or(right, |by| off_by_some(right, by));
        answer["store"] = json!({
            "urlParams": format!("&clientfilename=analytics_data_{}", self.started.unix_millis()),
            "totalFiles": off(files, slips.wrong_total_files),
            "totalRecords": off(records, self.quirks.wrong_total_records),
        });
    }

    /// Half of the jobs count in whole numbers, half do not.
    fn percentage(&self, percent: f64, slips: &Slips) -> Value {
        #[expect(clippy::cast_possible_truncation, reason = "0 to 100")]
        match slips.absurd_numbers {
            Some(number) => pick(number, &ABSURD)(),
            None if self.number.is_multiple_of(2) => json!(percent as i64),
            None => json!(percent),
        }
    }

    fn running_word(&self) -> &'static str {
        match self.quirks.unknown_status {
            Some(number) => pick(number, &["QUEUED", "IN_PROGRESS", "running", "MERGING"]),
            None => "INPROGRESS",
        }
    }

    fn success_word(&self) -> &'static str {
        match self.quirks.unknown_status {
            Some(number) => pick(number >> 8, &["SUCCESS", "success"]),
            None => "SUCCESS",
        }
    }

    /// One in three jobs that fail only says that it has timed out.
    fn failed_word(&self) -> &'static str {
        pick(self.number, &["FAILED", "failed", "INPROGRESS"])
    }
}

const ABSURD: [fn() -> Value; 4] = [
    || json!(-3),
    || json!(1e300),
    || json!("almost done"),
    || Value::Null,
];

/// Another number than the right one: one or a few more, or fewer where there are any.
fn off_by_some(right: u64, number: u64) -> u64 {
    let by = within(number >> 1, 1, 3);
    if number.is_multiple_of(2) && right >= by {
        right - by
    } else {
        right + by
    }
}

impl Fate {
    /// Where in its work a job's fate strikes: anywhere up to `end` times its length.
    pub(crate) fn point(number: u64, end: f64) -> f64 {
        unit(mix(number)) * end
    }
}
