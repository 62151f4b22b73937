//! What stands in an archive, by its manifests and claims; no data is read.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt as _};

use super::Range;
use crate::archive::key::{Kind, Place, all_of};
use crate::archive::manifest::{self, Archived, Manifest};
use crate::archive::tombstone::{self, Tombstone};
use crate::archive::{Archive, ArchiveError, Key};
use crate::export::{AppId, Event, Export, Time, Week};
use crate::stages::claim::Claim;

/// How many manifests and claims are read at once: a bucket answers each in some 20 ms.
const READS_AT_ONCE: usize = 64;

/// How many foreign objects are named; the others are counted.
const MOST_FOREIGN: usize = 20;

/// What stands at the place of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// A manifest.
    Manifest(Box<Manifest>),
    /// The export was erased.
    Tombstone(Tombstone),
    /// The export is archived, by code that knew more.
    Newer {
        /// What its schema calls itself.
        schema: String,
    },
    /// Nothing that can be used.
    Unreadable {
        /// Why.
        why: String,
    },
}

impl Document {
    /// Reads what stands at the place of an export's manifest.
    pub fn read(bytes: &[u8], export: &Export) -> Self {
        let read = match manifest::read(bytes, export) {
            Ok(manifest::Read::Known(manifest)) => Ok(Self::Manifest(manifest)),
            Ok(manifest::Read::Foreign { schema }) if schema == tombstone::SCHEMA => {
                Tombstone::read(bytes, export).map(Self::Tombstone)
            }
            Ok(manifest::Read::Foreign { schema }) => Ok(Self::Newer { schema }),
            Err(why) => Err(why),
        };
        read.unwrap_or_else(|why| Self::Unreadable { why })
    }
}

/// What is kept of a document: little, however many fragments an export has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Archived.
    Archived {
        /// What stands there.
        archived: Archived,
        /// What a person should know.
        discrepancies: Vec<String>,
        /// When it was committed.
        committed_at: Time,
    },
    /// Erased.
    Erased(Tombstone),
    /// Archived, by code that knew more.
    Newer {
        /// What its schema calls itself.
        schema: String,
    },
    /// Something stands there that cannot be used.
    Unreadable {
        /// Why.
        why: String,
    },
}

impl From<Document> for Record {
    fn from(document: Document) -> Self {
        match document {
            Document::Manifest(manifest) => Self::Archived {
                archived: manifest.archived,
                discrepancies: manifest.discrepancies,
                committed_at: manifest.committed_at,
            },
            Document::Tombstone(tombstone) => Self::Erased(tombstone),
            Document::Newer { schema } => Self::Newer { schema },
            Document::Unreadable { why } => Self::Unreadable { why },
        }
    }
}

/// What stands there of one app and event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holding {
    /// By week, what stands at the manifest's place.
    pub records: BTreeMap<Week, Record>,
    /// By week, the claim of an export that has no manifest.
    pub claims: BTreeMap<Week, Claim>,
}

/// Objects that no part of this program writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Foreign {
    /// How many.
    pub count: u64,
    /// The keys of the first few.
    pub keys: Vec<String>,
}

impl Foreign {
    /// Notes one.
    fn add(&mut self, key: String) {
        self.count += 1;
        if self.keys.len() < MOST_FOREIGN {
            self.keys.push(key);
        }
    }
}

/// What stands in an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// By app and event; those that were asked for by name are there, whatever stands of them.
    pub holdings: BTreeMap<(AppId, Event), Holding>,
    /// Objects among the manifests that are none.
    pub foreign: Foreign,
}

/// The exports in the range that have a manifest, in order, and what else stands among the manifests.
///
/// # Errors
/// When the archive cannot be listed.
pub async fn archived<A: Archive>(
    archive: &A,
    range: &Range,
) -> Result<(BTreeSet<Export>, Foreign), ArchiveError> {
    let mut foreign = Foreign::default();
    let exports = listed(archive, range, Kind::Manifests, &mut foreign).await?;
    Ok((exports, foreign))
}

async fn listed<A: Archive>(
    archive: &A,
    range: &Range,
    kind: Kind,
    foreign: &mut Foreign,
) -> Result<BTreeSet<Export>, ArchiveError> {
    let mut exports = BTreeSet::new();
    for app in range.listed_apps() {
        let note = |listed: crate::archive::Listed| match listed.key.parse() {
            Ok(Place::Manifest(export) | Place::Claim(export)) => {
                if range.holds(&export) {
                    exports.insert(export);
                }
            }
            _ => foreign.add(listed.key),
        };
        archive.list(&all_of(kind, app), note).await?;
    }
    Ok(exports)
}

/// Looks at what stands in the range: the listings of manifests and claims, every manifest, and the
/// claims of what has none.
///
/// # Errors
/// When the archive cannot be listed or read. A document that is not what it should be is no error.
pub async fn survey<A: Archive>(archive: &A, range: &Range) -> Result<Survey, ArchiveError> {
    let mut survey = Survey::default();
    let archived = listed(archive, range, Kind::Manifests, &mut survey.foreign).await?;
    let mut claimed = listed(archive, range, Kind::Claims, &mut survey.foreign).await?;
    claimed.retain(|export| !archived.contains(export));

    let mut events: BTreeMap<&AppId, BTreeSet<Event>> = BTreeMap::new();
    for app in &range.apps {
        events.entry(app).or_default();
    }
    for export in archived.iter().chain(&claimed) {
        events.entry(&export.app).or_default().insert(export.event);
    }
    for (app, mut events) in events {
        events.extend(&range.events);
        if events.is_empty() {
            events.insert(Event::All);
        }
        for event in events {
            survey.holdings.entry((app.clone(), event)).or_default();
        }
    }

    let mut documents = stream::iter(&archived)
        .map(|export| async move { (export, archive.get(&Key::manifest(export)).await) })
        .buffer_unordered(READS_AT_ONCE);
    while let Some((export, stored)) = documents.next().await {
        // Gone since it was listed: a week that is missing.
        if let Some(stored) = stored? {
            let record = Document::read(&stored.bytes, export).into();
            survey.holding(export).records.insert(export.week, record);
        }
    }
    let mut claims = stream::iter(&claimed)
        .map(|export| async move { (export, archive.get(&Key::claim(export)).await) })
        .buffer_unordered(READS_AT_ONCE);
    while let Some((export, stored)) = claims.next().await {
        // What is no claim is none to the stages, too, and is written over.
        let claim = stored?.and_then(|stored| serde_json::from_slice(&stored.bytes).ok());
        if let Some(claim) = claim {
            survey.holding(export).claims.insert(export.week, claim);
        }
    }
    Ok(survey)
}

impl Survey {
    fn holding(&mut self, export: &Export) -> &mut Holding {
        self.holdings
            .entry((export.app.clone(), export.event))
            .or_default()
    }
}
