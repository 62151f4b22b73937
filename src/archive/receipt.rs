//! The object that says: this fragment stands in the archive, with these facts.

use serde::{Deserialize, Serialize};

use super::key::{Key, Part};
use crate::export::{Export, JobId, Time};

/// The schema that is written and read.
pub const SCHEMA: &str = "insights-archive/receipt/1";

/// What is known of a fragment that stands in the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Receipt {
    /// [`SCHEMA`]
    pub schema: String,
    /// Where its bytes stand.
    pub key: String,
    /// The fragment's number, counted from 1.
    pub number: u32,
    /// How many the job has.
    pub of: u32,
    /// The vendor's id of the file.
    pub file_id: String,
    /// The vendor's name for the file.
    pub file_name: Option<String>,
    /// How many records the vendor said it holds.
    pub declared_records: Option<u64>,
    /// How many it holds.
    pub records: u64,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its bytes, in lower-case hex.
    pub sha256: String,
    /// CRC-64/NVME of its bytes, in base64 of the big-endian value, as S3 states it.
    pub crc64nvme: String,
    /// When this was written.
    pub written_at: Time,
}

impl Receipt {
    /// The document that is stored.
    pub fn to_json(&self) -> String {
        // A struct of texts and numbers always serialises.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Reads a stored receipt of one fragment of one job.
    ///
    /// # Errors
    /// In words, when it is not a receipt, or not of that fragment.
    pub fn read(bytes: &[u8], export: &Export, job: &JobId, part: Part) -> Result<Self, String> {
        let receipt: Self = serde_json::from_slice(bytes)
            .map_err(|error| format!("not a receipt of this schema: {error}"))?;
        if receipt.schema != SCHEMA {
            return Err(format!("schema {:?}, expected {SCHEMA:?}", receipt.schema));
        }
        let key = Key::data(export, job, part);
        if receipt.key != key.as_str() || receipt.number != part.number() || receipt.of != part.of()
        {
            return Err(format!(
                "a receipt of {}, expected one of {key}",
                receipt.key
            ));
        }
        Ok(receipt)
    }
}
