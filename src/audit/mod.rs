//! Reading an archive: is it complete, is it right?
//!
//! # Layout
//! - [`survey`]: what stands there, by its manifests and claims
//! - [`status`]: is it complete? The calendar of weeks
//! - [`verify`](mod@verify): is it right? Every object against its manifest
//! - [`erase`](mod@erase): the one thing here that writes: a week's end

pub mod erase;
pub mod status;
pub mod survey;
pub mod verify;

use crate::export::{AppId, Event, Export, Week};

/// Which exports are looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Range {
    /// Whose; of all that are found where empty.
    pub apps: Vec<AppId>,
    /// Which records; all that are found where empty.
    pub events: Vec<Event>,
    /// From this week on.
    pub since: Option<Week>,
    /// Up to the week before this one.
    pub until: Option<Week>,
}

impl Range {
    /// Whether an export lies in it.
    pub fn holds(&self, export: &Export) -> bool {
        (self.apps.is_empty() || self.apps.contains(&export.app))
            && (self.events.is_empty() || self.events.contains(&export.event))
            && self.holds_week(export.week)
    }

    /// Whether a week lies in it.
    pub fn holds_week(&self, week: Week) -> bool {
        self.since.is_none_or(|since| since <= week) && self.until.is_none_or(|until| week < until)
    }

    /// The apps to list, one after the other: `None` lists all at once.
    fn listed_apps(&self) -> Vec<Option<&AppId>> {
        if self.apps.is_empty() {
            vec![None]
        } else {
            self.apps.iter().map(Some).collect()
        }
    }
}

#[cfg(test)]
pub(crate) mod made {
    //! Archives made by hand, for the tests here.

    use std::path::PathBuf;

    use crate::archive::folder::Folder;
    use crate::archive::key::Part;
    use crate::archive::manifest::{JobFacts, Manifest};
    use crate::archive::receipt::{self, Receipt};
    use crate::archive::{About, Archive as _, Crc64, Key};
    use crate::export::{Export, Time};
    use crate::kore::job::Totals;
    use crate::stages::claim::Claim;

    pub fn export(text: &str) -> Export {
        let (app, rest) = text.split_once('/').unwrap();
        let (event, week) = rest.split_once('/').unwrap();
        Export {
            app: app.parse().unwrap(),
            event: event.parse().unwrap(),
            week: week.parse().unwrap(),
        }
    }

    pub fn time(text: &str) -> Time {
        text.parse().unwrap()
    }

    /// An archive in a folder that goes with it.
    pub struct Made {
        pub folder: Folder,
        path: tempfile::TempDir,
    }

    impl Made {
        pub fn new() -> Self {
            let path = tempfile::tempdir().unwrap();
            let folder = Folder::open(path.path()).unwrap();
            Self { folder, path }
        }

        pub fn path(&self, key: &str) -> PathBuf {
            self.path.path().join(key)
        }

        /// Writes a file behind the archive's back.
        pub fn write(&self, key: &str, bytes: &str) {
            let path = self.path(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }

        /// Writes the fragments of a job.
        pub async fn data(&self, export: &Export, job: &str, texts: &[&str]) -> Vec<Receipt> {
            let job = job.parse().unwrap();
            let mut receipts = Vec::new();
            for (text, number) in texts.iter().zip(1..) {
                let part = Part::new(number, u32::try_from(texts.len()).unwrap()).unwrap();
                let key = Key::data(export, &job, part);
                let records = serde_json::from_str::<Vec<serde_json::Value>>(text).unwrap();
                let crc64nvme = Crc64::of(text.as_bytes());
                let about = About {
                    metadata: vec![("record-count", records.len().to_string())],
                    crc64nvme: Some(crc64nvme),
                };
                let bytes = bytes::Bytes::copy_from_slice(text.as_bytes());
                self.folder.create(&key, bytes, &about).await.unwrap();
                let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
                receipts.push(Receipt {
                    schema: receipt::SCHEMA.to_owned(),
                    key: key.to_string(),
                    number,
                    of: part.of(),
                    file_id: format!("file-{number}"),
                    file_name: None,
                    declared_records: Some(records.len() as u64),
                    records: records.len() as u64,
                    bytes: text.len() as u64,
                    sha256: crate::stages::hex(sha256.as_ref()),
                    crc64nvme: crc64nvme.to_string(),
                    written_at: export.week.end(),
                });
            }
            receipts
        }

        /// Archives an export; `stated` is what the job says there are.
        pub async fn archive(&self, export: &Export, texts: &[&str], stated: u64) -> Manifest {
            let receipts = self.data(export, "fj-1", texts).await;
            let job = JobFacts {
                id: "fj-1".parse().unwrap(),
                created_on: None,
            };
            let totals = Totals {
                files: Some(texts.len() as u64),
                records: Some(stated),
            };
            let end = export.week.end();
            let manifest = Manifest::of(export, job, totals, &receipts, Vec::new(), end).unwrap();
            self.manifest(export, &manifest.to_json()).await;
            manifest
        }

        pub async fn manifest(&self, export: &Export, text: &str) {
            let bytes = bytes::Bytes::copy_from_slice(text.as_bytes());
            let key = Key::manifest(export);
            let about = About::default();
            self.folder.create(&key, bytes, &about).await.unwrap();
        }

        pub fn claim(&self, export: &Export, claim: &Claim) {
            let text = serde_json::to_string(claim).unwrap();
            self.write(Key::claim(export).as_str(), &text);
        }
    }

    /// The claim of a chain that has not ended.
    pub fn claim(until: &str, failures: u32) -> Claim {
        Claim {
            chain: "0123456789abcdef".parse().unwrap(),
            attempt: 1,
            tried_at: time(until),
            hop: 1,
            job: None,
            until: time(until),
            writer: String::new(),
            failures,
        }
    }
}
