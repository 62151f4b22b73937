//! The document in the place of a manifest whose export was erased on a person's request.
//!
//! To the stages it is a manifest of a schema that they do not know: the export counts as archived,
//! and is never exported again or replaced.

use serde::{Deserialize, Serialize};

use super::manifest::Archived;
use crate::export::{AppId, Event, Export, Time, Week};

/// The schema that is written and read.
pub const SCHEMA: &str = "insights-archive/erased/1";

/// Says that an export was erased: who did so, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tombstone {
    /// [`SCHEMA`]
    pub schema: String,
    /// Whose records they were.
    pub app: AppId,
    /// Which of them.
    pub event: Event,
    /// From when.
    pub week: Week,
    /// Who erased them, in their own words.
    pub erased_by: String,
    /// Why, in their own words.
    pub reason: String,
    /// When.
    pub erased_at: Time,
    /// What the manifest said stood there; null where there was none that could be read.
    pub erased: Option<Archived>,
}

impl Tombstone {
    /// The document that is stored.
    pub fn to_json(&self) -> String {
        // A struct of texts and numbers always serialises.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Reads the tombstone of an export.
    ///
    /// # Errors
    /// In words, when it is not one, or one of another export.
    pub fn read(bytes: &[u8], export: &Export) -> Result<Self, String> {
        let tombstone: Self = serde_json::from_slice(bytes)
            .map_err(|error| format!("not a tombstone of {SCHEMA}: {error}"))?;
        let own = Export {
            app: tombstone.app.clone(),
            event: tombstone.event,
            week: tombstone.week,
        };
        if own == *export {
            Ok(tombstone)
        } else {
            Err(format!(
                "a tombstone of {own}, found where {export} belongs"
            ))
        }
    }
}
