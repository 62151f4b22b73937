//! The archive in memory: create-only, replace-if-unchanged, uploads visible when finished.

use std::collections::BTreeMap;
use std::hash::Hash as _;

use bytes::Bytes;
use insights_archive::archive::key::Place;
use insights_archive::archive::{About, Created, ETag, Head, Key, Listed, Replaced, Stored};

use crate::seen::Print;
use crate::world::sha256;

#[derive(Debug, Clone)]
pub struct Object {
    pub bytes: Bytes,
    pub metadata: Vec<(String, String)>,
    pub crc64nvme: String,
    pub etag: ETag,
}

#[derive(Debug, Default)]
pub struct Store {
    pub objects: BTreeMap<String, Object>,
    /// Somebody else is always faster to write a claim.
    pub contended: bool,
}

impl Store {
    fn is_too_late(&self, key: &Key) -> bool {
        self.contended && key.as_str().starts_with("claims/")
    }
}

/// CRC-64/NVME in base64 of the big-endian bytes, made here independently of the crate's own.
pub fn crc(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(crc_fast::crc64_nvme(bytes).to_be_bytes())
}

/// A claim without its writer.
pub fn unsigned(claim: &[u8]) -> Option<String> {
    let mut claim: serde_json::Value = serde_json::from_slice(claim).ok()?;
    claim.as_object_mut()?.remove("writer");
    Some(claim.to_string())
}

impl Store {
    /// What stands. Of a claim that nobody at work has read, it makes no difference who wrote it.
    pub fn print(&self, print: &mut Print, alone: bool) {
        for (key, object) in &self.objects {
            (key, &object.metadata).hash(print);
            match key.parse() {
                Ok(Place::Claim(_)) if alone => unsigned(&object.bytes).hash(print),
                _ => object.etag.as_str().hash(print),
            }
        }
    }

    pub fn list(&self, prefix: &str) -> Vec<Listed> {
        self.objects
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, object)| Listed {
                key: key.clone(),
                bytes: object.bytes.len() as u64,
            })
            .collect()
    }

    /// What came instead of files: where in them it begins, and what was kept of it.
    pub fn quarantined(&self) -> Vec<(u64, Bytes)> {
        let objects = self.objects.iter();
        let kept = objects.filter(|(key, _)| key.starts_with("quarantine/"));
        let offset = |object: &Object| {
            let found = object.metadata.iter().find(|(name, _)| name == "offset");
            found.and_then(|(_, offset)| offset.parse().ok())
        };
        kept.map(|(key, object)| {
            let offset = offset(object).unwrap_or_else(|| panic!("{key} does not say where"));
            (offset, object.bytes.clone())
        })
        .collect()
    }

    pub fn get(&self, key: &Key) -> Option<Stored> {
        self.objects.get(key.as_str()).map(|object| Stored {
            bytes: object.bytes.clone(),
            etag: object.etag.clone(),
        })
    }

    pub fn head(&self, key: &Key) -> Option<Head> {
        self.objects.get(key.as_str()).map(|object| Head {
            bytes: object.bytes.len() as u64,
            metadata: object.metadata.clone(),
            crc64nvme: Some(object.crc64nvme.clone()),
        })
    }

    fn put(&mut self, key: &str, bytes: Bytes, about: &About) -> ETag {
        // Made of the bytes, as S3 makes it.
        let etag: ETag = sha256(&bytes)[..32].parse().expect("an ETag");
        let mut metadata: Vec<_> = about
            .metadata
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        metadata.sort();
        let object = Object {
            crc64nvme: crc(&bytes),
            bytes,
            metadata,
            etag: etag.clone(),
        };
        self.objects.insert(key.to_owned(), object);
        etag
    }

    /// `None`: the bytes do not have the checksum that they should.
    pub fn create(&mut self, key: &Key, bytes: Bytes, about: &About) -> Option<Created> {
        if about
            .crc64nvme
            .is_some_and(|stated| stated.to_string() != crc(&bytes))
        {
            return None;
        }
        Some(
            if self.is_too_late(key) || self.objects.contains_key(key.as_str()) {
                Created::Exists
            } else {
                Created::Written(self.put(key.as_str(), bytes, about))
            },
        )
    }

    pub fn replace(&mut self, key: &Key, bytes: Bytes, base: &ETag) -> Replaced {
        match self.objects.get(key.as_str()) {
            Some(object) if object.etag == *base && !self.is_too_late(key) => {
                Replaced::Written(self.put(key.as_str(), bytes, &About::default()))
            }
            _ => Replaced::Changed,
        }
    }

    /// What no code of the crate can do: a lifecycle rule, a person.
    pub fn vandalise(&mut self, key: &Key, bytes: Option<&'static [u8]>) {
        if self.objects.remove(key.as_str()).is_some()
            && let Some(bytes) = bytes
        {
            self.put(key.as_str(), Bytes::from_static(bytes), &About::default());
        }
    }
}
