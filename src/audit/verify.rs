//! Is an archive right? Every object that a manifest names, against what the manifest states.
//!
//! Memory is bounded by the number of exports and of objects looked at at once, whatever is listed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use aws_lc_rs::digest;
use futures_util::stream::{self, StreamExt as _};
use serde::Serialize;
use tokio::task::{JoinError, JoinSet};

use super::Range;
use super::survey::{Document, archived};
use crate::archive::key::{Kind, Place, all_of};
use crate::archive::manifest::{FragmentFacts, Manifest};
use crate::archive::{Archive, ArchiveError, Crc64, Download as _, ETag, Key, Stored};
use crate::export::{Export, JobId};
use crate::records::Counter;
use crate::stages::claim::Claim;
use crate::stages::hex;

/// How many manifests are read ahead. One of 10,000 fragments has 5 MB.
const MANIFESTS_AHEAD: usize = 8;

/// How many jobs without a manifest of theirs are told apart; the others are only counted.
const MOST_JOBS: usize = 1_000;

/// How far is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Every byte is read, hashed and counted, wherever the archive is.
    pub deep: bool,
    /// How many objects are looked at at once.
    pub at_once: usize,
}

/// What is wrong with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Wrong {
    /// It is not there, and a manifest names it; or it is the manifest of files that stand.
    Missing,
    /// It is not what the manifest states.
    Changed,
    /// No part of this program writes such an object.
    Extra,
    /// It cannot be read.
    Unreadable,
    /// A newer version of this program wrote it: this one cannot check it.
    Newer,
    /// Its export was erased, and it still stands.
    NotErased,
}

impl Wrong {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Changed => "changed",
            Self::Extra => "extra",
            Self::Unreadable => "unreadable",
            Self::Newer => "newer",
            Self::NotErased => "not erased",
        }
    }
}

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub wrong: Wrong,
    /// With which object.
    pub key: String,
    /// What was expected and what was seen, and what to do.
    pub detail: String,
}

/// What happens while an archive is verified.
#[derive(Debug)]
pub enum Heard<'a> {
    /// So many exports have a manifest.
    Begun(u64),
    /// An object was looked at; so many of its bytes were read.
    Looked(u64),
    /// Something is wrong.
    Found(&'a Finding),
    /// All of an export's objects were looked at.
    Done {
        /// Which.
        export: &'a Export,
        /// The version of its manifest.
        manifest: &'a ETag,
        /// Whether all of it is right.
        right: bool,
    },
}

/// Objects, and the bytes that they take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Heap {
    /// How many.
    pub objects: u64,
    /// How much.
    pub bytes: u64,
}

impl Heap {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// Why the manifest of its export does not name a job's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Why {
    /// The manifest was replaced by one of a later job.
    Superseded,
    /// The job was given up, or another one was faster.
    Abandoned,
    /// The export has no manifest (yet).
    NotArchived,
    /// The manifest cannot be read by this program.
    Unknown,
}

impl Why {
    /// The words for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Superseded => "superseded",
            Self::Abandoned => "abandoned",
            Self::NotArchived => "not archived (yet)",
            Self::Unknown => "its manifest cannot be read",
        }
    }
}

/// A job whose files no manifest names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unaccounted {
    /// Its export.
    #[serde(flatten)]
    pub export: Export,
    /// The job.
    pub job: JobId,
    /// Why.
    pub why: Why,
    /// Its files.
    #[serde(flatten)]
    pub heap: Heap,
}

/// How an archive was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// Exports with a manifest, or something in its place.
    pub exports: u64,
    /// Of these, the ones that were erased.
    pub erased: u64,
    /// Of these, the ones that were skipped because they had been found right before.
    pub skipped: u64,
    /// What the manifests name.
    pub named: Heap,
    /// How many bytes were read.
    pub read: u64,
    /// How many things are wrong.
    pub findings: u64,
    /// What no manifest names: no error, but it takes room.
    pub unaccounted: Heap,
    /// The jobs that it is of: the first thousand.
    pub jobs: Vec<Unaccounted>,
    /// What came instead of fragments and was set aside.
    pub quarantined: Heap,
}

/// What is remembered of an export's manifest.
enum Known {
    Archived {
        job: JobId,
        files: u64,
        superseded: Vec<JobId>,
    },
    Erased,
    Unknown,
}

/// An export whose objects are being looked at.
struct Open {
    export: Export,
    manifest: ETag,
    left: usize,
    right: bool,
}

/// Verifies the range. `skip` tells which exports, in which version of their manifest, need not be
/// looked at again.
///
/// # Errors
/// When the archive cannot be listed: what was found until then has been told.
pub async fn verify<A: Archive + 'static>(
    archive: &Arc<A>,
    range: &Range,
    depth: Depth,
    skip: impl Fn(&Export, &ETag) -> bool,
    mut watch: impl FnMut(Heard<'_>) + Send,
) -> Result<Verified, ArchiveError> {
    let (exports, foreign) = archived(archive.as_ref(), range).await?;
    let mut sight = Sight {
        verified: Verified {
            exports: exports.len() as u64,
            ..Verified::default()
        },
        watch: &mut watch,
        open: HashMap::new(),
    };
    (sight.watch)(Heard::Begun(sight.verified.exports));
    let others = foreign.count - foreign.keys.len() as u64;
    for key in foreign.keys {
        let detail = "it is no manifest; move it away".to_owned();
        sight.find(Wrong::Extra, key, detail);
    }
    if others > 0 {
        let detail = format!("{others} more objects are no manifests; move them away");
        sight.find(Wrong::Extra, "manifests/".to_owned(), detail);
    }

    let mut known: BTreeMap<Export, Known> = BTreeMap::new();
    // Tasks of their own: they go on while others are waited for.
    let mut documents = stream::iter(exports)
        .map(|export| {
            let archive = Arc::clone(archive);
            tokio::spawn(async move {
                let stored = archive.get(&Key::manifest(&export)).await;
                (export, stored)
            })
        })
        .buffered(MANIFESTS_AHEAD);
    let mut running: JoinSet<(usize, Checked)> = JoinSet::new();
    let mut number = 0;
    while let Some(read) = documents.next().await {
        let (export, stored) = read.unwrap_or_else(fell);
        let stored = match stored {
            // Moved away since it was listed.
            Ok(None) => continue,
            Ok(Some(stored)) => Ok(stored),
            Err(error) => Err(error),
        };
        let (manifest, etag) = match usable(stored, &export) {
            Usable::Manifest(manifest, etag) => (manifest, etag),
            Usable::Erased => {
                sight.verified.erased += 1;
                known.insert(export, Known::Erased);
                continue;
            }
            Usable::Not(wrong, detail) => {
                sight.find(wrong, Key::manifest(&export).to_string(), detail);
                known.insert(export, Known::Unknown);
                continue;
            }
        };
        let files = manifest.fragments.len();
        sight.verified.named.objects += files as u64;
        sight.verified.named.bytes += manifest.archived.bytes;
        let superseded = manifest.supersedes.iter().map(|old| old.job.id.clone());
        known.insert(
            export.clone(),
            Known::Archived {
                job: manifest.job.id.clone(),
                files: files as u64,
                superseded: superseded.collect(),
            },
        );
        if skip(&export, &etag) {
            sight.verified.skipped += 1;
            continue;
        }
        number += 1;
        let open = Open {
            export,
            manifest: etag,
            left: files,
            right: true,
        };
        if files == 0 {
            sight.done(&open);
            continue;
        }
        sight.open.insert(number, open);
        for facts in manifest.fragments {
            while running.len() >= depth.at_once.max(1) {
                if let Some(checked) = running.join_next().await {
                    sight.checked(checked.unwrap_or_else(fell));
                }
            }
            let archive = Arc::clone(archive);
            running
                .spawn(async move { (number, check(archive.as_ref(), facts, depth.deep).await) });
        }
    }
    while let Some(checked) = running.join_next().await {
        sight.checked(checked.unwrap_or_else(fell));
    }

    weigh(archive.as_ref(), range, &known, &mut sight).await?;
    Ok(sight.verified)
}

/// What is wrong with an export that has files and had no manifest: nothing where it has one by now, or where
/// its claim says that it is not archived yet.
async fn unarchived<A: Archive>(archive: &A, export: &Export) -> Option<(Wrong, String)> {
    let unreadable = |error: ArchiveError| Some((Wrong::Unreadable, error.to_string()));
    // In this order: a claim says that its week is archived when the manifest stands, not before.
    let claim = match archive.get(&Key::claim(export)).await {
        Ok(stored) => stored.and_then(|s| serde_json::from_slice::<Claim>(&s.bytes).ok()),
        Err(error) => return unreadable(error),
    };
    if claim.is_some_and(|claim| !claim.has_archived()) {
        return None;
    }
    match archive.head(&Key::manifest(export)).await {
        Ok(Some(_)) => None,
        Ok(None) => {
            let detail = "files of its week stand, and nobody is at work on it: restore the manifest's \
                          last version if it was deleted; or else archive the week again, or `erase` it \
                          if it is not wanted";
            Some((Wrong::Missing, detail.to_owned()))
        }
        Err(error) => unreadable(error),
    }
}

/// Lists what stands under `data/` and `quarantine/`, and judges it by the manifests.
async fn weigh<A: Archive, W: FnMut(Heard<'_>) + Send>(
    archive: &A,
    range: &Range,
    known: &BTreeMap<Export, Known>,
    sight: &mut Sight<'_, W>,
) -> Result<(), ArchiveError> {
    let mut orphaned = BTreeSet::new();
    for app in range.listed_apps() {
        let mut jobs = BTreeMap::new();
        let look = |listed: crate::archive::Listed| {
            orphaned.extend(sight.judge(known, range, &mut jobs, listed));
        };
        archive.list(&all_of(Kind::Data, app), look).await?;
        sight.verified.jobs.extend(jobs.into_values());
        let quarantined = &mut sight.verified.quarantined;
        let count = |listed: crate::archive::Listed| {
            if let Ok(Place::Quarantine(export, ..)) = listed.key.parse()
                && range.holds(&export)
            {
                quarantined.add(listed.bytes);
            }
        };
        archive.list(&all_of(Kind::Quarantine, app), count).await?;
    }
    for export in orphaned {
        if let Some((wrong, detail)) = unarchived(archive, &export).await {
            sight.find(wrong, Key::manifest(&export).to_string(), detail);
        }
    }
    Ok(())
}

/// What stands at the place of a manifest.
enum Usable {
    /// A manifest, in this version.
    Manifest(Box<Manifest>, ETag),
    /// Nothing, on a person's request.
    Erased,
    /// What cannot be used, and why.
    Not(Wrong, String),
}

fn usable(stored: Result<Stored, ArchiveError>, export: &Export) -> Usable {
    let stored = match stored {
        Ok(stored) => stored,
        Err(error) => return Usable::Not(Wrong::Unreadable, error.to_string()),
    };
    match Document::read(&stored.bytes, export) {
        Document::Manifest(manifest) => Usable::Manifest(manifest, stored.etag),
        Document::Tombstone(_) => Usable::Erased,
        Document::Newer { schema } => Usable::Not(
            Wrong::Newer,
            format!("its schema is {schema:?}: update this program to check it"),
        ),
        Document::Unreadable { why } => Usable::Not(
            Wrong::Unreadable,
            format!("{why}; restore its last version"),
        ),
    }
}

/// A task that was not cancelled ended without a result because it panicked.
fn fell<T>(error: JoinError) -> T {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => unreachable!("no task is cancelled: {error}"),
    }
}

/// What is seen, added up and told on.
struct Sight<'a, W> {
    verified: Verified,
    watch: &'a mut W,
    open: HashMap<usize, Open>,
}

impl<W: FnMut(Heard<'_>)> Sight<'_, W> {
    fn find(&mut self, wrong: Wrong, key: String, detail: String) {
        self.tell(&Finding { wrong, key, detail });
    }

    fn tell(&mut self, finding: &Finding) {
        self.verified.findings += 1;
        (self.watch)(Heard::Found(finding));
    }

    fn done(&mut self, open: &Open) {
        (self.watch)(Heard::Done {
            export: &open.export,
            manifest: &open.manifest,
            right: open.right,
        });
    }

    fn checked(&mut self, (number, checked): (usize, Checked)) {
        self.verified.read += checked.read;
        (self.watch)(Heard::Looked(checked.read));
        if let Some(finding) = &checked.finding {
            self.tell(finding);
        }
        let Some(open) = self.open.get_mut(&number) else {
            return;
        };
        open.left -= 1;
        open.right &= checked.finding.is_none();
        if open.left == 0
            && let Some(open) = self.open.remove(&number)
        {
            self.done(&open);
        }
    }

    /// Whether an object under `data/` is one that should be there. Answers with its export where that has no
    /// manifest.
    fn judge(
        &mut self,
        known: &BTreeMap<Export, Known>,
        range: &Range,
        jobs: &mut BTreeMap<(Export, JobId), Unaccounted>,
        listed: crate::archive::Listed,
    ) -> Option<Export> {
        let Ok(Place::Data(export, job, part)) = listed.key.parse() else {
            let detail = format!(
                "{} bytes that this program did not write; move them away",
                listed.bytes
            );
            self.find(Wrong::Extra, listed.key, detail);
            return None;
        };
        if !range.holds(&export) {
            return None;
        }
        let why = match known.get(&export) {
            Some(Known::Archived {
                job: own, files, ..
            }) if *own == job && *files == u64::from(part.of()) => return None,
            Some(Known::Archived { superseded, .. }) if superseded.contains(&job) => {
                Why::Superseded
            }
            Some(Known::Archived { .. }) => Why::Abandoned,
            Some(Known::Unknown) => Why::Unknown,
            Some(Known::Erased) => {
                let detail = "its week was erased: run `erase` for it again".to_owned();
                self.find(Wrong::NotErased, listed.key, detail);
                return None;
            }
            None => Why::NotArchived,
        };
        self.verified.unaccounted.add(listed.bytes);
        let seen = (export, job);
        if self.verified.jobs.len() + jobs.len() < MOST_JOBS || jobs.contains_key(&seen) {
            let new = || Unaccounted {
                export: seen.0.clone(),
                job: seen.1.clone(),
                why,
                heap: Heap::default(),
            };
            let job = jobs.entry(seen.clone()).or_insert_with(new);
            job.heap.add(listed.bytes);
        }
        (why == Why::NotArchived).then_some(seen.0)
    }
}

/// What became of one object.
struct Checked {
    finding: Option<Finding>,
    read: u64,
}

/// Looks at one object.
async fn check<A: Archive>(archive: &A, facts: FragmentFacts, deep: bool) -> Checked {
    let mut read = 0;
    let wrong = match look(archive, &facts, deep, &mut read).await {
        Ok(()) => None,
        Err((wrong, detail)) => Some(Finding {
            wrong,
            key: facts.key,
            detail,
        }),
    };
    Checked {
        finding: wrong,
        read,
    }
}

/// The key that a manifest names. It was checked when the manifest was read.
fn key_of(facts: &FragmentFacts) -> Option<Key> {
    match facts.key.parse() {
        Ok(Place::Data(export, job, part)) => Some(Key::data(&export, &job, part)),
        _ => None,
    }
}

async fn look<A: Archive>(
    archive: &A,
    facts: &FragmentFacts,
    deep: bool,
    read: &mut u64,
) -> Result<(), (Wrong, String)> {
    let missing = || {
        let detail = "a manifest names it, and it is not there; restore it from a backup or an older \
                      version, or archive its week again with `run --replace`";
        (Wrong::Missing, detail.to_owned())
    };
    let unreadable = |error: ArchiveError| (Wrong::Unreadable, error.to_string());
    let Some(key) = key_of(facts) else {
        return Err((Wrong::Unreadable, "not the key of a fragment".to_owned()));
    };
    let Some(head) = archive.head(&key).await.map_err(unreadable)? else {
        return Err(missing());
    };
    let same = |what: &str, expected: &str, seen: &str| {
        if expected == seen {
            Ok(())
        } else {
            let detail = format!("its {what} is {seen}, and the manifest states {expected}");
            Err((Wrong::Changed, detail))
        }
    };
    let number = |n: u64| n.to_string();
    same("length in bytes", &number(facts.bytes), &number(head.bytes))?;
    if let Some(count) = head.metadata("record-count") {
        same("metadata `record-count`", &number(facts.records), count)?;
    }
    if A::HEAD_PROVES
        && let Some(crc64nvme) = &head.crc64nvme
    {
        same("CRC-64/NVME", &facts.crc64nvme, crc64nvme)?;
        if !deep {
            return Ok(());
        }
    }
    let Some(mut download) = archive.open(&key).await.map_err(unreadable)? else {
        return Err(missing());
    };
    let mut sha256 = digest::Context::new(&digest::SHA256);
    let mut crc64nvme = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    let mut counter = deep.then(Counter::new);
    let mut not_json = None;
    while let Some(chunk) = download.chunk().await.map_err(unreadable)? {
        *read += chunk.len() as u64;
        sha256.update(&chunk);
        crc64nvme.update(&chunk);
        if let Some(counting) = &mut counter
            && let Err(error) = counting.feed(&chunk)
        {
            not_json = Some(error);
            counter = None;
        }
    }
    same("length in bytes", &number(facts.bytes), &number(*read))?;
    same("SHA-256", &facts.sha256, &hex(sha256.finish().as_ref()))?;
    let crc64nvme = Crc64(crc64nvme.finalize()).to_string();
    same("CRC-64/NVME", &facts.crc64nvme, &crc64nvme)?;
    let records = match (counter.map(Counter::finish), not_json) {
        (_, Some(error)) | (Some(Err(error)), _) => {
            return Err((
                Wrong::Changed,
                format!("it is no array of records: {error}"),
            ));
        }
        (Some(Ok(records)), None) => records,
        (None, None) => return Ok(()),
    };
    same(
        "number of records",
        &number(facts.records),
        &number(records),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::key::Part;
    use crate::audit::made::{Made, claim, export};

    const SHALLOW: Depth = Depth {
        deep: false,
        at_once: 4,
    };
    const DEEP: Depth = Depth {
        deep: true,
        at_once: 4,
    };

    /// What was found, as word and key and a part of the sentence.
    async fn findings(made: &Made, depth: Depth) -> (Verified, Vec<(Wrong, String, String)>) {
        let archive = Arc::new(made.folder.clone());
        let mut found = Vec::new();
        let watch = |heard: Heard<'_>| {
            if let Heard::Found(Finding { wrong, key, detail }) = heard {
                found.push((*wrong, key.clone(), detail.clone()));
            }
        };
        let verified = verify(&archive, &Range::default(), depth, |_, _| false, watch).await;
        found.sort_by(|a, b| a.1.cmp(&b.1));
        (verified.unwrap(), found)
    }

    #[tokio::test]
    async fn a_right_archive_has_no_findings_and_says_what_it_read() {
        let made = Made::new();
        made.archive(&export("st-1/all/2025-01-06"), &["[1,2]", "[3]"], 3)
            .await;
        made.archive(&export("st-1/all/2025-01-13"), &[], 0).await;
        for depth in [SHALLOW, DEEP] {
            let (verified, found) = findings(&made, depth).await;
            assert!(found.is_empty(), "{found:?}");
            let named = Heap {
                objects: 2,
                bytes: 8,
            };
            assert_eq!((verified.exports, verified.named), (2, named));
            // A folder's own notes prove nothing.
            assert_eq!(verified.read, 8);
        }
    }

    #[tokio::test]
    async fn whatever_was_done_to_an_object_is_found() {
        let made = Made::new();
        let week = export("st-1/all/2025-01-06");
        made.archive(&week, &["[1,2]", "[3]", "[4]", "[5]"], 5)
            .await;
        let key = |number| {
            Key::data(
                &week,
                &"fj-1".parse().unwrap(),
                Part::new(number, 4).unwrap(),
            )
            .to_string()
        };
        std::fs::remove_file(made.path(&key(1))).unwrap();
        made.write(&key(2), "[3 ]");
        made.write(&key(3), "[9]");
        let metadata = format!("{}.metadata", key(4));
        let lies = std::fs::read_to_string(made.path(&metadata)).unwrap();
        made.write(&metadata, &lies.replace("\"1\"", "\"7\""));
        made.write("data/.DS_Store", "x");
        made.write("data/app=st-1/event=all/week=2025-01-06/notes.txt", "x");
        made.write("manifests/readme.txt", "x");
        let (verified, found) = findings(&made, SHALLOW).await;
        let expected = [
            (Wrong::Extra, "data/.DS_Store", "did not write"),
            (Wrong::Missing, &key(1), "run --replace"),
            (
                Wrong::Changed,
                &key(2),
                "its length in bytes is 4, and the manifest states 3",
            ),
            (Wrong::Changed, &key(3), "its SHA-256 is"),
            (Wrong::Changed, &key(4), "`record-count` is 7"),
            (
                Wrong::Extra,
                "data/app=st-1/event=all/week=2025-01-06/notes.txt",
                "did not write",
            ),
            (Wrong::Extra, "manifests/readme.txt", "no manifest"),
        ];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        assert_eq!(verified.findings, expected.len() as u64);
        for ((wrong, key, detail), expected) in found.iter().zip(expected) {
            assert_eq!((*wrong, key.as_str()), (expected.0, expected.1));
            assert!(detail.contains(expected.2), "{detail}");
        }
    }

    #[tokio::test]
    async fn only_a_deep_look_counts_the_records() {
        let made = Made::new();
        let week = export("st-1/all/2025-01-06");
        let mut manifest = made.archive(&week, &["[1,2]"], 2).await;
        // The manifest lies, and agrees with itself.
        manifest.fragments[0].records = 3;
        manifest.archived.records = 3;
        std::fs::remove_file(made.path(Key::manifest(&week).as_str())).unwrap();
        made.manifest(&week, &manifest.to_json()).await;
        let notes = format!("{}.metadata", manifest.fragments[0].key);
        std::fs::remove_file(made.path(&notes)).unwrap();
        assert!(findings(&made, SHALLOW).await.1.is_empty());
        let (_, found) = findings(&made, DEEP).await;
        assert!(found[0].2.contains("number of records is 2"), "{found:?}");
    }

    #[tokio::test]
    async fn a_manifest_that_cannot_be_used_is_found_and_its_data_unjudged() {
        let made = Made::new();
        let week = |week: &str| export(&format!("st-1/all/{week}"));
        made.data(&week("2025-01-06"), "fj-1", &["[1]"]).await;
        made.manifest(&week("2025-01-06"), "not JSON").await;
        made.manifest(
            &week("2025-01-13"),
            r#"{"schema": "insights-archive/manifest/9"}"#,
        )
        .await;
        let lying = week("2025-01-20");
        let mut manifest = made.archive(&week("2025-01-27"), &["[1]"], 1).await;
        manifest.week = lying.week;
        made.manifest(&lying, &manifest.to_json()).await;
        let (verified, found) = findings(&made, SHALLOW).await;
        let told: Vec<_> = found.iter().map(|(wrong, ..)| *wrong).collect();
        assert_eq!(told, [Wrong::Unreadable, Wrong::Newer, Wrong::Unreadable]);
        assert!(found[0].2.contains("not a manifest"), "{found:?}");
        assert!(found[1].2.contains("update this program"), "{found:?}");
        let outside = "names \"data/app=st-1/event=all/week=2025-01-27";
        assert!(found[2].2.contains(outside), "{found:?}");
        assert_eq!(verified.jobs[0].why, Why::Unknown);
    }

    #[tokio::test]
    async fn what_no_manifest_names_is_weighed_and_is_no_finding() {
        let made = Made::new();
        let week = export("st-1/all/2025-01-06");
        let mut manifest = made.archive(&week, &["[1]"], 1).await;
        made.data(&week, "fj-0", &["[1,2,3]", "[4]"]).await;
        made.data(&week, "fj-2", &["[1]"]).await;
        made.data(&export("st-1/all/2025-01-13"), "fj-3", &["[1]"])
            .await;
        manifest
            .supersedes
            .push(crate::archive::manifest::Superseded {
                job: crate::archive::manifest::JobFacts {
                    id: "fj-0".parse().unwrap(),
                    created_on: None,
                },
                committed_at: manifest.committed_at,
                sha256: String::new(),
            });
        std::fs::remove_file(made.path(Key::manifest(&week).as_str())).unwrap();
        made.manifest(&week, &manifest.to_json()).await;
        made.write(
            "quarantine/app=st-1/event=all/week=2025-01-06/job=fj-2/part-00001-of-00001.json",
            "<html>",
        );
        made.claim(&export("st-1/all/2025-01-13"), &cut_off());
        let (verified, found) = findings(&made, DEEP).await;
        assert!(found.is_empty(), "{found:?}");
        let jobs: Vec<_> = verified
            .jobs
            .iter()
            .map(|job| (job.job.as_str(), job.why, job.heap.objects, job.heap.bytes))
            .collect();
        assert_eq!(
            jobs,
            [
                ("fj-0", Why::Superseded, 2, 10),
                ("fj-2", Why::Abandoned, 1, 3),
                ("fj-3", Why::NotArchived, 1, 3),
            ]
        );
        assert_eq!(verified.unaccounted.bytes, 16);
        assert_eq!(verified.quarantined.bytes, 6);
    }

    /// The claim of a chain of long ago that has not ended.
    fn cut_off() -> Claim {
        claim("2025-01-27T06:00:00Z", 0)
    }

    #[tokio::test]
    async fn a_week_with_files_and_without_a_manifest_is_found_unless_it_is_not_archived_yet() {
        let ended = |failures| Claim {
            hop: u32::MAX,
            failures,
            ..cut_off()
        };
        for (claim, expected) in [
            (None, 1),
            (Some(cut_off()), 0),
            (Some(ended(0)), 1),
            (Some(ended(2)), 0),
        ] {
            let made = Made::new();
            made.archive(&export("st-1/all/2025-01-06"), &["[1]"], 1)
                .await;
            let week = export("st-1/all/2025-01-13");
            made.archive(&week, &["[1]", "[2]"], 2).await;
            if let Some(claim) = &claim {
                made.claim(&week, claim);
            }
            std::fs::remove_file(made.path(Key::manifest(&week).as_str())).unwrap();
            let (verified, found) = findings(&made, SHALLOW).await;
            assert_eq!(found.len(), expected, "{claim:?}: {found:?}");
            for (wrong, key, detail) in found {
                assert_eq!(
                    (wrong, key),
                    (Wrong::Missing, Key::manifest(&week).to_string())
                );
                assert!(
                    detail.contains("restore the manifest's last version"),
                    "{detail}"
                );
            }
            assert_eq!(verified.jobs[0].why, Why::NotArchived);
        }
    }

    #[tokio::test]
    async fn what_was_found_right_before_is_skipped_until_its_manifest_changes() {
        let made = Made::new();
        let archive = Arc::new(made.folder.clone());
        let week = export("st-1/all/2025-01-06");
        made.archive(&week, &["[1]"], 1).await;
        made.archive(&export("st-1/all/2025-01-13"), &["[2]"], 1)
            .await;
        let mut done = Vec::new();
        let watch = |heard: Heard<'_>| {
            if let Heard::Done {
                export,
                manifest,
                right: true,
            } = heard
            {
                done.push((export.clone(), manifest.clone()));
            }
        };
        let range = Range::default();
        let first = verify(&archive, &range, SHALLOW, |_, _| false, watch).await;
        assert_eq!((first.unwrap().skipped, done.len()), (0, 2));
        done.retain(|(export, _)| *export == week);
        let skip = |export: &Export, etag: &ETag| done.contains(&(export.clone(), etag.clone()));
        let again = verify(&archive, &range, SHALLOW, skip, |_| {})
            .await
            .unwrap();
        assert_eq!(
            (again.skipped, again.read, again.unaccounted.objects),
            (1, 3, 0)
        );
    }
}
