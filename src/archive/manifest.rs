//! The commit record of an export: where it stands, the week is archived; where it does not, it isn't.

use serde::{Deserialize, Serialize};

use super::key::{Key, Part};
use super::receipt::Receipt;
use crate::export::{AppId, Event, Export, JobId, Time, Week, Window};
use crate::kore::job::Totals;

/// The schema that is written.
pub const SCHEMA: &str = "insights-archive/manifest/1";

/// The commit record of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// [`SCHEMA`]
    pub schema: String,
    /// Whose records.
    pub app: AppId,
    /// Which of them.
    pub event: Event,
    /// From when.
    pub week: Week,
    /// What the API was asked for.
    pub window: Window,
    /// The job that produced the files.
    pub job: JobFacts,
    /// What the vendor said there is; null where it did not say.
    pub declared: Declared,
    /// What stands in the archive.
    pub archived: Archived,
    /// True only where `discrepancies` is empty.
    pub verified: bool,
    /// Sentences that a person can act on.
    pub discrepancies: Vec<String>,
    /// Every file, in the vendor's order.
    pub fragments: Vec<FragmentFacts>,
    /// The manifests that this one replaced, oldest first.
    pub supersedes: Vec<Superseded>,
    /// When it was written.
    pub committed_at: Time,
}

/// The job that produced an export's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobFacts {
    /// Its id.
    pub id: JobId,
    /// When it was made, in the server's words.
    pub created_on: Option<String>,
}

/// What the vendor said there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// How many files.
    pub files: Option<u64>,
    /// How many records in all of them.
    pub records: Option<u64>,
}

/// What stands in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archived {
    /// How many files.
    pub files: u64,
    /// How many records in all of them, counted.
    pub records: u64,
    /// How many bytes in all of them.
    pub bytes: u64,
}

/// One file of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FragmentFacts {
    /// Where its bytes stand, relative to the archive's root.
    pub key: String,
    /// The vendor's id of the file.
    pub file_id: String,
    /// The vendor's name for the file.
    pub file_name: Option<String>,
    /// How many records the vendor said it holds.
    pub declared_records: Option<u64>,
    /// How many it holds, counted.
    pub records: u64,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its bytes, in lower-case hex.
    pub sha256: String,
    /// CRC-64/NVME of its bytes, in base64 of the big-endian value, as S3 states it.
    pub crc64nvme: String,
}

/// A manifest that was replaced; its data still stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Superseded {
    /// Its job.
    pub job: JobFacts,
    /// When it was committed.
    pub committed_at: Time,
    /// SHA-256 of the manifest itself, in lower-case hex.
    pub sha256: String,
}

/// A stored manifest, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// Of the present schema.
    Known(Box<Manifest>),
    /// Of another schema: the week is archived, by code that knew more, and stays as it is.
    Foreign {
        /// What it calls itself.
        schema: String,
    },
}

/// Reads the manifest of an export.
///
/// # Errors
/// In words, when it is not a manifest, or of another export, or contradicts itself.
pub fn read(bytes: &[u8], export: &Export) -> Result<Read, String> {
    #[derive(Deserialize)]
    struct Named {
        schema: String,
    }
    let Named { schema } =
        serde_json::from_slice(bytes).map_err(|error| format!("not a manifest: {error}"))?;
    if schema != SCHEMA {
        return Ok(Read::Foreign { schema });
    }
    let manifest: Manifest = serde_json::from_slice(bytes)
        .map_err(|error| format!("not a manifest of {SCHEMA}: {error}"))?;
    manifest.check(export)?;
    Ok(Read::Known(Box::new(manifest)))
}

impl Manifest {
    /// The document that is stored.
    pub fn to_json(&self) -> String {
        // A struct of texts and numbers always serialises.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Builds the commit record from the receipts of all fragments, in order.
    ///
    /// # Errors
    /// In words, when the receipts are not exactly one for each fragment with distinct file ids, or
    /// contradict the number of files stated: nothing may be committed then.
    pub fn of(
        export: &Export,
        job: JobFacts,
        totals: Totals,
        receipts: &[Receipt],
        supersedes: Vec<Superseded>,
        now: Time,
    ) -> Result<Self, String> {
        let files = receipts.len() as u64;
        for (receipt, number) in receipts.iter().zip(1u32..) {
            let part = Part::new(number, u32::try_from(files).unwrap_or(u32::MAX))
                .map_err(|error| error.to_string())?;
            let key = Key::data(export, &job.id, part);
            if receipt.key != key.as_str() {
                return Err(format!(
                    "the receipt of {key} is missing; found {}",
                    receipt.key
                ));
            }
        }
        if let Some(stated) = totals.files.filter(|stated| *stated != files) {
            return Err(format!(
                "{files} files stand in the archive; the job states {stated}"
            ));
        }
        let mut ids: Vec<_> = receipts.iter().map(|receipt| &receipt.file_id).collect();
        ids.sort_unstable();
        if let Some([twice, _]) = ids.array_windows().find(|[a, b]| a == b) {
            return Err(format!("the file {twice:?} stands in the archive twice"));
        }
        let archived = Archived {
            files,
            records: sum(receipts.iter().map(|receipt| receipt.records)),
            bytes: sum(receipts.iter().map(|receipt| receipt.bytes)),
        };
        let discrepancies = discrepancies(totals, receipts, archived.records);
        Ok(Self {
            schema: SCHEMA.to_owned(),
            app: export.app.clone(),
            event: export.event,
            week: export.week,
            window: export.week.window(),
            job,
            declared: Declared {
                files: totals.files,
                records: totals.records,
            },
            archived,
            verified: discrepancies.is_empty(),
            discrepancies,
            fragments: receipts.iter().map(FragmentFacts::from).collect(),
            supersedes,
            committed_at: now,
        })
    }

    /// Its export.
    pub fn export(&self) -> Export {
        Export {
            app: self.app.clone(),
            event: self.event,
            week: self.week,
        }
    }

    /// Whether it is the record of that export and agrees with itself.
    fn check(&self, export: &Export) -> Result<(), String> {
        let own = self.export();
        if own != *export {
            return Err(format!("a manifest of {own}, found where {export} belongs"));
        }
        let files = self.fragments.len() as u64;
        let records = sum(self.fragments.iter().map(|fragment| fragment.records));
        let bytes = sum(self.fragments.iter().map(|fragment| fragment.bytes));
        if self.archived
            != (Archived {
                files,
                records,
                bytes,
            })
        {
            return Err("its totals are not the sum of its fragments".to_owned());
        }
        if self.verified != self.discrepancies.is_empty() {
            return Err("`verified` contradicts `discrepancies`".to_owned());
        }
        for (fragment, number) in self.fragments.iter().zip(1u32..) {
            let part = Part::new(number, u32::try_from(files).unwrap_or(u32::MAX))
                .map_err(|error| error.to_string())?;
            let key = Key::data(export, &self.job.id, part);
            if fragment.key != key.as_str() {
                return Err(format!("names {:?} where {key} belongs", fragment.key));
            }
        }
        Ok(())
    }
}

/// A sum that a nonsense document cannot overflow.
fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

impl From<&Receipt> for FragmentFacts {
    fn from(receipt: &Receipt) -> Self {
        Self {
            key: receipt.key.clone(),
            file_id: receipt.file_id.clone(),
            file_name: receipt.file_name.clone(),
            declared_records: receipt.declared_records,
            records: receipt.records,
            bytes: receipt.bytes,
            sha256: receipt.sha256.clone(),
            crc64nvme: receipt.crc64nvme.clone(),
        }
    }
}

/// What a person should know about an archive that holds all that the vendor served.
fn discrepancies(totals: Totals, receipts: &[Receipt], records: u64) -> Vec<String> {
    let mut found: Vec<_> = receipts
        .iter()
        .filter_map(|receipt| {
            let declared = receipt.declared_records.filter(|n| *n != receipt.records)?;
            Some(format!(
                "{} holds {} records; the vendor stated {declared}. It was downloaded three \
                 times with the same result. Ask the vendor, then run the week again with `replace`.",
                receipt.key, receipt.records
            ))
        })
        .collect();
    if let Some(stated) = totals.records.filter(|stated| *stated != records) {
        found.push(format!(
            "The files hold {records} records in all; the job states {stated}. Ask the vendor, \
             then run the week again with `replace`."
        ));
    }
    if receipts.is_empty() && totals.files.is_none() && totals.records.is_none() {
        found.push(
            "The job succeeded without a file and without totals: the week was taken to be empty. \
             If it should not be, run it again with `replace`."
                .to_owned(),
        );
    }
    found
}
