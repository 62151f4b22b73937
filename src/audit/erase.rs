//! Erasing an export on a person's request, and saying so in its manifest's place.
//!
//! The tombstone is written first: from then on no stage exports the week, and no reader is sent to
//! its files. Cut off at any point, it is run again and finishes.

use super::survey::Document;
use crate::archive::erase::{Erase, Removed};
use crate::archive::key::{Kind, files_of};
use crate::archive::tombstone::{SCHEMA, Tombstone};
use crate::archive::{About, ArchiveError, Created, Key, Replaced};
use crate::export::{Export, Time};
use crate::stages::claim::Claim;

/// Who wants an export erased, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// Why an export was not erased.
#[derive(Debug, thiserror::Error)]
pub enum NotErased {
    /// The store did not do as asked.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A chain may still write.
    #[error(
        "{export} is being archived: what is written after an erasure would stay; erase it after \
         {until}"
    )]
    Underway {
        /// Which.
        export: Export,
        /// Until when.
        until: Time,
    },
    /// Somebody else wrote the manifest at the same time.
    #[error("the manifest of {export} was changed by someone else meanwhile; erase it again")]
    Changed {
        /// Which.
        export: Export,
    },
}

/// Erases an export: its fragments, receipts and what was set aside, in all versions, and the older
/// versions of its manifest.
///
/// # Errors
/// When it is being archived, or the store refuses. A part may be gone then: run it again.
pub async fn erase<A: Erase>(
    archive: &A,
    export: &Export,
    request: &Request,
    now: Time,
) -> Result<Removed, NotErased> {
    let claim = archive.get(&Key::claim(export)).await?;
    let claim: Option<Claim> = claim.and_then(|claim| serde_json::from_slice(&claim.bytes).ok());
    if let Some(claim) = claim.filter(|claim| claim.is_live(now)) {
        return Err(NotErased::Underway {
            export: export.clone(),
            until: claim.until,
        });
    }
    let key = Key::manifest(export);
    let stored = archive.get(&key).await?;
    let document = stored
        .as_ref()
        .map(|stored| Document::read(&stored.bytes, export));
    let erased = match &document {
        Some(Document::Manifest(manifest)) => Some(manifest.archived),
        _ => None,
    };
    let tombstone = Tombstone {
        schema: SCHEMA.to_owned(),
        app: export.app.clone(),
        event: export.event,
        week: export.week,
        erased_by: request.by.clone(),
        reason: request.reason.clone(),
        erased_at: now,
        erased,
    };
    let bytes = bytes::Bytes::from(tombstone.to_json());
    let written = match (stored, document) {
        // The first word on who, when and why stays.
        (_, Some(Document::Tombstone(_))) => true,
        (Some(stored), _) => matches!(
            archive.replace(&key, bytes, &stored.etag).await?,
            Replaced::Written(_)
        ),
        (None, _) => matches!(
            archive.create(&key, bytes, &About::default()).await?,
            Created::Written(_)
        ),
    };
    if !written {
        return Err(NotErased::Changed {
            export: export.clone(),
        });
    }
    let mut removed = archive.erase_history(&key).await?;
    for kind in [Kind::Data, Kind::Receipts, Kind::Quarantine] {
        removed = removed.and(archive.erase(&files_of(kind, export)).await?);
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::archive::Archive as _;
    use crate::audit::Range;
    use crate::audit::made::{Made, claim, export, time};
    use crate::audit::status::{State, status};
    use crate::audit::survey::survey;
    use crate::audit::verify::{Depth, verify};

    const NOW: &str = "2025-03-05T12:00:00Z";

    fn request() -> Request {
        Request {
            by: "Ada".to_owned(),
            reason: "ticket 7".to_owned(),
        }
    }

    #[tokio::test]
    async fn an_erased_week_leaves_a_tombstone_that_counts_as_archived() {
        let made = Made::new();
        let week = export("st-1/all/2025-02-17");
        let other = export("st-1/all/2025-02-24");
        made.archive(&week, &["[1,2]", "[3]"], 3).await;
        made.data(&week, "fj-0", &["[1]"]).await;
        made.archive(&other, &["[4]"], 1).await;
        let receipt =
            "receipts/app=st-1/event=all/week=2025-02-17/job=fj-1/part-00001-of-00002.json";
        made.write(receipt, "{}");
        let removed = erase(&made.folder, &week, &request(), time(NOW))
            .await
            .unwrap();
        assert_eq!((removed.versions, removed.bytes), (4, 13));
        assert!(
            !made
                .path("data/app=st-1/event=all/week=2025-02-17")
                .exists()
        );
        assert!(!made.path(receipt).exists());

        let range = Range::default();
        let seen = survey(&made.folder, &range).await.unwrap();
        let hour = std::time::Duration::from_secs(3600);
        let status = status(&seen, &range, String::new(), Vec::new(), hour, time(NOW));
        assert!(status.complete, "{status:?}");
        let State::Erased { by, reason, .. } = &status.exports[0].weeks[0].state else {
            panic!("{status:?}");
        };
        assert_eq!((by.as_str(), reason.as_str()), ("Ada", "ticket 7"));
        let shallow = Depth {
            deep: false,
            at_once: 1,
        };
        let archive = Arc::new(made.folder.clone());
        let verified = verify(&archive, &range, shallow, |_, _| false, |_| {})
            .await
            .unwrap();
        assert_eq!((verified.erased, verified.findings), (1, 0));

        // Written by someone who was late.
        made.data(&week, "fj-9", &["[5]"]).await;
        let verified = verify(&archive, &range, shallow, |_, _| false, |_| {})
            .await
            .unwrap();
        assert_eq!(verified.findings, 1);
        let later = Request {
            by: "Bob".to_owned(),
            ..request()
        };
        let removed = erase(&made.folder, &week, &later, time(NOW)).await.unwrap();
        assert_eq!(removed.versions, 1);
        let stored = made
            .folder
            .get(&Key::manifest(&week))
            .await
            .unwrap()
            .unwrap();
        let tombstone = Tombstone::read(&stored.bytes, &week).unwrap();
        assert_eq!(tombstone.erased_by, "Ada");
        assert_eq!(tombstone.erased.unwrap().records, 3);
        assert!(Tombstone::read(&stored.bytes, &other).is_err());
    }

    #[tokio::test]
    async fn a_week_that_is_being_archived_is_not_erased_and_one_without_manifest_is() {
        let made = Made::new();
        let week = export("st-1/all/2025-02-17");
        made.data(&week, "fj-1", &["[1]"]).await;
        made.claim(&week, &claim("2025-03-05T12:30:00Z", 0));
        let refused = erase(&made.folder, &week, &request(), time(NOW)).await;
        assert!(matches!(refused, Err(NotErased::Underway { .. })));
        let later = time("2025-03-05T13:00:00Z");
        let removed = erase(&made.folder, &week, &request(), later).await.unwrap();
        assert_eq!(removed.versions, 1);
        let stored = made
            .folder
            .get(&Key::manifest(&week))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(Tombstone::read(&stored.bytes, &week).unwrap().erased, None);
        // The stages take it for a manifest that they do not know, and leave it alone.
        let read = crate::archive::manifest::read(&stored.bytes, &week).unwrap();
        assert!(matches!(
            read,
            crate::archive::manifest::Read::Foreign { .. }
        ));
    }
}
