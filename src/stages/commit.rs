//! The end of an export: its manifest, written once, or over exactly the version to be replaced.

use aws_lc_rs::digest;
use bytes::Bytes;

use super::{Edges, Outcome, Report, StageError, claim, restart};
use crate::archive::manifest::{self, JobFacts, Manifest, Superseded};
use crate::archive::receipt::Receipt;
use crate::archive::{About, Archive as _, Created, Key, Replaced};
use crate::kore::job::Totals;
use crate::queue::message::Message;

/// Whether the message's work is still wanted.
pub(super) enum Wanted {
    /// It is.
    Yes,
    /// The chain ends here.
    No(Outcome),
}

/// Reads the manifest: is the export archived, in another version than the one to replace?
pub(super) async fn wanted<E: Edges>(edges: &E, message: &Message) -> Result<Wanted, StageError> {
    let stored = edges.archive().get(&Key::manifest(&message.export)).await?;
    let (why, outcome) = match (stored, &message.base) {
        (None, None) => return Ok(Wanted::Yes),
        (Some(stored), Some(base)) if stored.etag == *base => {
            match manifest::read(&stored.bytes, &message.export) {
                Ok(manifest::Read::Known(_)) => return Ok(Wanted::Yes),
                _ => (
                    "its manifest is of another schema and stays",
                    Outcome::Archived,
                ),
            }
        }
        (Some(_), None) => ("it is archived", Outcome::Archived),
        (Some(_), Some(_)) => ("its manifest was replaced already", Outcome::Archived),
        (None, Some(_)) => ("the manifest to replace is gone", Outcome::Overtaken),
    };
    if outcome == Outcome::Archived {
        // The run that committed may have been cut off, or not have heard that it did.
        claim::finish(edges, message).await;
    }
    edges.report(&message.export, Report::Ended { why });
    Ok(Wanted::No(outcome))
}

/// Commits an export from the receipts of all its fragments. Several may try: one wins, the others
/// find it done.
pub(super) async fn commit<E: Edges>(
    edges: &E,
    message: &Message,
    job: JobFacts,
    totals: Totals,
    receipts: &[Receipt],
) -> Result<Outcome, StageError> {
    let key = Key::manifest(&message.export);
    let supersedes = match &message.base {
        None => Vec::new(),
        Some(base) => match edges.archive().get(&key).await? {
            Some(stored) if stored.etag == *base => {
                match manifest::read(&stored.bytes, &message.export) {
                    Ok(manifest::Read::Known(old)) => superseded(*old, &stored.bytes),
                    _ => return Ok(Outcome::Archived),
                }
            }
            _ => return Ok(Outcome::Archived),
        },
    };
    let now = edges.now();
    let manifest = match Manifest::of(&message.export, job, totals, receipts, supersedes, now) {
        Ok(manifest) => manifest,
        Err(why) => return restart(edges, message, why).await,
    };
    let bytes = Bytes::from(manifest.to_json());
    let written = match &message.base {
        None => {
            let about = About::default();
            let created = edges.archive().create(&key, bytes.clone(), &about);
            matches!(created.await?, Created::Written(_))
        }
        Some(base) => {
            let replaced = edges.archive().replace(&key, bytes.clone(), base);
            matches!(replaced.await?, Replaced::Written(_))
        }
    };
    // A write whose answer was lost is made again by the client, and finds itself.
    let written = written || {
        let stands = edges.archive().get(&key).await?;
        stands.is_some_and(|stands| stands.bytes == bytes)
    };
    claim::finish(edges, message).await;
    let report = if written {
        Report::Committed {
            files: manifest.archived.files,
            records: manifest.archived.records,
            bytes: manifest.archived.bytes,
            discrepancies: manifest.discrepancies,
            took: message
                .first_start
                .map(|first| now.since(first))
                .unwrap_or_default(),
        }
    } else {
        Report::Ended {
            why: "another run committed it first",
        }
    };
    edges.report(&message.export, report);
    Ok(Outcome::Archived)
}

/// The list that a replacement carries: the old one's own, and the old one.
fn superseded(old: Manifest, bytes: &[u8]) -> Vec<Superseded> {
    let mut list = old.supersedes;
    list.push(Superseded {
        job: old.job,
        committed_at: old.committed_at,
        sha256: hex(digest::digest(&digest::SHA256, bytes).as_ref()),
    });
    list
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::{Event, Export};

    #[test]
    fn bytes_are_told_in_two_digits_each() {
        assert_eq!(hex(&[]), "");
        assert_eq!(hex(&[0x00, 0x0f, 0xa0, 0xff]), "000fa0ff");
    }

    #[test]
    fn a_replacement_lists_all_before_it_the_oldest_first() {
        let export = Export {
            app: "st-1".parse().unwrap(),
            event: Event::All,
            week: "2025-01-20".parse().unwrap(),
        };
        let manifest = |job: &str, supersedes| {
            let facts = JobFacts {
                id: job.parse().unwrap(),
                created_on: None,
            };
            let now = "2025-01-27T06:00:00Z".parse().unwrap();
            Manifest::of(&export, facts, Totals::default(), &[], supersedes, now).unwrap()
        };
        let first = superseded(manifest("fj-1", Vec::new()), b"abc");
        let second = superseded(manifest("fj-2", first), b"");
        let seen: Vec<_> = second
            .iter()
            .map(|old| (old.job.id.as_str(), old.sha256.as_str()))
            .collect();
        let expected = [
            (
                "fj-1",
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                "fj-2",
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            ),
        ];
        assert_eq!(seen, expected);
    }
}
