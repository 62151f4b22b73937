//! What every store does, as one test that each of them passes.

use bytes::Bytes;

use super::key::Part;
use super::{
    About, Archive, ArchiveError, Crc64, Created, Download as _, Head, Key, PART_BYTES, Replaced,
    Upload as _,
};
use crate::export::{Event, Export};

fn export() -> Export {
    Export {
        app: "st-1".parse().unwrap(),
        event: Event::All,
        week: "2025-01-20".parse().unwrap(),
    }
}

pub fn data_key(number: u32) -> Key {
    let part = Part::new(number, 99_999_999).unwrap();
    Key::data(&export(), &"fj-1".parse().unwrap(), part)
}

pub fn claim_key(weeks_back: u32) -> Key {
    let week = export().week.back(weeks_back);
    Key::claim(&Export { week, ..export() })
}

fn about(number: u32) -> About {
    About {
        // Not in the order of the names.
        metadata: vec![
            ("record-count", number.to_string()),
            ("file-id", format!("file {number}")),
        ],
        crc64nvme: None,
    }
}

fn content(number: u32) -> Bytes {
    format!("[{number}]").repeat(100).into()
}

/// Creates the object of that number; whether it was not there yet.
pub async fn create_one(archive: &impl Archive, number: u32) -> bool {
    let bytes = content(number);
    let about = About {
        crc64nvme: Some(Crc64::of(&bytes)),
        ..about(number)
    };
    match archive.create(&data_key(number), bytes, &about).await {
        Ok(created) => created != Created::Exists,
        Err(error) => panic!("{error}"),
    }
}

/// Panics unless the object of that number is as [`create_one`] makes it.
pub async fn is_whole(archive: &impl Archive, number: u32) {
    let key = data_key(number);
    let bytes = content(number);
    assert_eq!(read(archive, &key).await.unwrap(), bytes, "{key}");
    let head = archive.head(&key).await.unwrap().unwrap();
    assert_eq!(head, expected_head(number, &bytes), "{key}");
}

fn expected_head(number: u32, bytes: &[u8]) -> Head {
    Head {
        bytes: bytes.len() as u64,
        metadata: vec![
            ("file-id".to_owned(), format!("file {number}")),
            ("record-count".to_owned(), number.to_string()),
        ],
        crc64nvme: Some(Crc64::of(bytes).to_string()),
    }
}

async fn read(archive: &impl Archive, key: &Key) -> Option<Vec<u8>> {
    let mut download = archive.open(key).await.unwrap()?;
    let mut bytes = Vec::new();
    while let Some(chunk) = download.chunk().await.unwrap() {
        assert!(!chunk.is_empty());
        bytes.extend(chunk);
    }
    Some(bytes)
}

/// The keys under a prefix, sorted.
pub async fn listed(archive: &impl Archive, prefix: &str) -> Vec<String> {
    let mut keys = Vec::new();
    archive
        .list(prefix, |object| keys.push(object.key))
        .await
        .unwrap();
    keys.sort();
    keys
}

/// The archive is empty before.
pub async fn an_archive_behaves(archive: &impl Archive) {
    nothing_is_found_where_nothing_is(archive).await;
    a_document_is_created_once_and_replaced_by_version(archive).await;
    an_object_keeps_what_is_said_about_it(archive).await;
    an_upload_is_visible_when_it_is_finished(archive).await;
    bytes_with_another_checksum_are_not_kept(archive).await;
    a_listing_has_what_starts_with_the_prefix(archive).await;
    of_many_writers_one_wins(archive).await;
}

async fn nothing_is_found_where_nothing_is(archive: &impl Archive) {
    let key = claim_key(0);
    assert_eq!(archive.get(&key).await.unwrap(), None);
    assert_eq!(archive.head(&key).await.unwrap(), None);
    assert!(archive.open(&key).await.unwrap().is_none());
    assert!(listed(archive, "").await.is_empty());
    let base = "0123456789abcdef".parse().unwrap();
    let replaced = archive.replace(&key, content(1), &base).await;
    assert_eq!(replaced.unwrap(), Replaced::Changed);
    assert_eq!(archive.get(&key).await.unwrap(), None);
}

async fn a_document_is_created_once_and_replaced_by_version(archive: &impl Archive) {
    let key = claim_key(0);
    let plain = About::default();
    let Created::Written(first) = archive.create(&key, content(1), &plain).await.unwrap() else {
        panic!("{key} was there");
    };
    let again = archive.create(&key, content(2), &plain).await.unwrap();
    assert_eq!(again, Created::Exists);
    let stored = archive.get(&key).await.unwrap().unwrap();
    assert_eq!((stored.bytes, &stored.etag), (content(1), &first));

    let replaced = archive.replace(&key, content(3), &first).await.unwrap();
    let Replaced::Written(second) = replaced else {
        panic!("{key} was changed by someone else");
    };
    assert_ne!(first, second);
    let stale = archive.replace(&key, content(4), &first).await.unwrap();
    assert_eq!(stale, Replaced::Changed);
    let stored = archive.get(&key).await.unwrap().unwrap();
    assert_eq!((stored.bytes, stored.etag), (content(3), second));
}

async fn an_object_keeps_what_is_said_about_it(archive: &impl Archive) {
    assert!(create_one(archive, 1).await);
    is_whole(archive, 1).await;
    assert!(!create_one(archive, 1).await);

    let empty = data_key(2);
    let created = archive.create(&empty, Bytes::new(), &about(2)).await;
    assert!(matches!(created, Ok(Created::Written(_))));
    assert_eq!(read(archive, &empty).await.unwrap(), b"");
    let head = archive.head(&empty).await.unwrap().unwrap();
    assert_eq!(head, expected_head(2, b""));
}

async fn an_upload_is_visible_when_it_is_finished(archive: &impl Archive) {
    let key = data_key(3);
    let parts = [
        Bytes::from(vec![b'x'; PART_BYTES]),
        Bytes::from_static(b"and the rest"),
    ];
    let whole = parts.concat();
    for (ends, exists) in [("abort", false), ("finish", false), ("finish", true)] {
        let mut upload = archive.begin(&key, &about(3)).await.unwrap();
        for part in &parts {
            upload.write(part.clone(), Crc64::of(part)).await.unwrap();
        }
        assert_eq!(archive.head(&key).await.unwrap().is_some(), exists);
        if ends == "abort" {
            upload.abort().await.unwrap();
            assert_eq!(archive.head(&key).await.unwrap(), None);
            continue;
        }
        let created = upload.finish(Crc64::of(&whole)).await.unwrap();
        assert_eq!(created == Created::Exists, exists);
        // Whoever holds an upload may abort it whatever became of it.
        upload.abort().await.unwrap();
        assert_eq!(read(archive, &key).await.unwrap(), whole);
        let head = archive.head(&key).await.unwrap().unwrap();
        assert_eq!(head, expected_head(3, &whole));
    }
}

async fn bytes_with_another_checksum_are_not_kept(archive: &impl Archive) {
    let key = data_key(4);
    let wrong = Crc64::of(b"other bytes");
    let about = About {
        crc64nvme: Some(wrong),
        ..about(4)
    };
    let refused = archive.create(&key, content(4), &about).await;
    assert!(matches!(refused, Err(ArchiveError::Unavailable { .. })));
    let mut upload = archive.begin(&key, &about).await.unwrap();
    let refused = upload.write(content(4), wrong).await;
    assert!(matches!(refused, Err(ArchiveError::Unavailable { .. })));
    upload.abort().await.unwrap();
    // Each part is right, and the whole is not what they were to make.
    let mut upload = archive.begin(&key, &about).await.unwrap();
    upload
        .write(content(4), Crc64::of(&content(4)))
        .await
        .unwrap();
    let refused = upload.finish(wrong).await;
    assert!(matches!(refused, Err(ArchiveError::Unavailable { .. })));
    upload.abort().await.unwrap();
    assert_eq!(archive.head(&key).await.unwrap(), None);
}

async fn a_listing_has_what_starts_with_the_prefix(archive: &impl Archive) {
    let data = [1, 2, 3].map(|number| data_key(number).to_string());
    let claim = claim_key(0).to_string();
    assert_eq!(listed(archive, "data/").await, data);
    assert_eq!(listed(archive, "data/app=st-1/event=a").await, data);
    assert_eq!(listed(archive, &data[1]).await, data[1..2]);
    assert_eq!(listed(archive, "data/app=st-1/event=b").await, [""; 0]);
    let mut all = vec![claim];
    all.extend(data);
    assert_eq!(listed(archive, "").await, all);
    let mut sizes = Vec::new();
    archive
        .list("data/", |object| sizes.push(object.bytes))
        .await
        .unwrap();
    sizes.sort_unstable();
    assert_eq!(sizes, [0, 300, PART_BYTES as u64 + 12]);
}

async fn of_many_writers_one_wins(archive: &impl Archive) {
    const WRITERS: u32 = 8;
    let key = claim_key(1);
    let plain = About::default();
    let writes = (0..WRITERS).map(|number| archive.create(&key, content(number), &plain));
    let written: Vec<_> = futures_util::future::join_all(writes).await;
    let winner = |number: &usize| matches!(written[*number], Ok(Created::Written(_)));
    let winners: Vec<_> = (0..written.len()).filter(winner).collect();
    assert_eq!(winners.len(), 1, "{written:?}");
    let stored = archive.get(&key).await.unwrap().unwrap();
    assert_eq!(stored.bytes, content(u32::try_from(winners[0]).unwrap()));

    let base = stored.etag;
    let writes = (10..10 + WRITERS).map(|number| archive.replace(&key, content(number), &base));
    let replaced: Vec<_> = futures_util::future::join_all(writes).await;
    let winner = |result: &&Result<_, _>| matches!(result, Ok(Replaced::Written(_)));
    assert_eq!(replaced.iter().filter(winner).count(), 1, "{replaced:?}");
}
