//! The archive: objects under keys, written once, in a folder or a bucket.
//!
//! Keys here are relative to the archive's root; a bucket's prefix is the bucket's own business, so
//! an archive can be moved without rewriting its manifests.

#[cfg(test)]
pub(crate) mod behaviour;
pub mod bucket;
pub mod erase;
pub mod folder;
pub mod key;
pub mod manifest;
pub mod receipt;
pub mod tombstone;

use bytes::Bytes;

pub use key::Key;

use crate::export::text_newtype;

/// The size up to which a fragment is written in one request, and of a part above it, in bytes.
/// 8 MiB × 10,000 parts bounds a fragment at 78 GiB; smaller parts would mean more requests.
pub const PART_BYTES: usize = 8 * 1024 * 1024;

text_newtype!(
    /// The version of a stored object; a replacement states the one that it replaces.
    ETag,
    "an ETag",
    "1 to 256 visible characters",
    |text| (1..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
);

/// What is written beside an object's bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// User metadata, as name and value; both are visible ASCII.
    pub metadata: Vec<(&'static str, String)>,
    /// The CRC-64/NVME of the bytes, if known: the store refuses bytes that do not have it.
    pub crc64nvme: Option<Crc64>,
}

/// A CRC-64/NVME, the checksum that S3 computes and keeps over a whole object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crc64(pub u64);

impl Crc64 {
    /// The checksum of no bytes at all.
    pub const NOTHING: Self = Self(0);

    /// The checksum of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(crc_fast::crc64_nvme(bytes))
    }

    /// The checksum of these bytes and so many more, given theirs.
    #[must_use]
    pub fn followed_by(self, next: Self, length: u64) -> Self {
        if self == Self::NOTHING {
            return next; // for every file of one part
        }
        let algorithm = crc_fast::CrcAlgorithm::Crc64Nvme;
        Self(crc_fast::checksum_combine(
            algorithm, self.0, next.0, length,
        ))
    }
}

impl std::fmt::Display for Crc64 {
    /// Base64 of the big-endian bytes, as S3 shows it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use base64::Engine as _;
        f.write_str(&base64::engine::general_purpose::STANDARD.encode(self.0.to_be_bytes()))
    }
}

/// The result of a create-only write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// The object was written, and this is its version.
    Written(ETag),
    /// An object was there already; nothing was changed.
    Exists,
}

/// The result of a replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replaced {
    /// The object was replaced, and this is its new version.
    Written(ETag),
    /// The version there is another, or there is none; nothing was changed.
    Changed,
}

/// A small object, read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its bytes.
    pub bytes: Bytes,
    /// Its version.
    pub etag: ETag,
}

/// What a store says of an object without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its length in bytes.
    pub bytes: u64,
    /// User metadata, as name and value, sorted by name.
    pub metadata: Vec<(String, String)>,
    /// The CRC-64/NVME over the whole object, base64, where the store keeps one.
    pub crc64nvme: Option<String>,
}

impl Head {
    /// The value of a piece of user metadata.
    pub fn metadata(&self, name: &str) -> Option<&str> {
        let found = self.metadata.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// One object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key, relative to the archive's root. A foreign object may have any key.
    pub key: String,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Why the archive did not do as asked. The message names the object and says what to do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ArchiveError {
    /// Trying again as it is will not help: permissions, a missing bucket, a full or read-only disk.
    #[error("{key}: {detail}")]
    Refused {
        /// The object, or the archive's root.
        key: String,
        /// What was refused, and the remedy.
        detail: String,
    },
    /// It may work later, and a write may have happened: throttling, time-outs, broken connections.
    #[error("{key}: {detail}")]
    Unavailable {
        /// The object.
        key: String,
        /// What went wrong.
        detail: String,
    },
}

/// What the stages need of a store. Reads see every completed write (as S3 and file systems do).
pub trait Archive: Send + Sync {
    /// An object on its way in.
    type Upload: Upload;
    /// An object on its way out.
    type Download: Download;

    /// Whether the length and checksum in a [`Head`] are the store's own, taken of the bytes that it
    /// keeps, and so prove them. Where they are only notes beside the object, reading alone proves.
    const HEAD_PROVES: bool = false;

    /// Calls `each` for every object whose key starts with `prefix`, in no particular order,
    /// without holding the whole listing.
    fn list(
        &self,
        prefix: &str,
        each: impl FnMut(Listed) + Send,
    ) -> impl Future<Output = Result<(), ArchiveError>> + Send;

    /// A small object (a manifest, receipt or claim), or `None` where there is none. More than
    /// [`LARGEST_DOCUMENT`] bytes are refused.
    fn get(&self, key: &Key) -> impl Future<Output = Result<Option<Stored>, ArchiveError>> + Send;

    /// Size, metadata and checksum, or `None` where there is no such object.
    fn head(&self, key: &Key) -> impl Future<Output = Result<Option<Head>, ArchiveError>> + Send;

    /// The bytes of an object of any size, or `None` where there is none.
    fn open(
        &self,
        key: &Key,
    ) -> impl Future<Output = Result<Option<Self::Download>, ArchiveError>> + Send;

    /// Writes an object that must not exist yet, whole or not at all.
    fn create(
        &self,
        key: &Key,
        bytes: Bytes,
        about: &About,
    ) -> impl Future<Output = Result<Created, ArchiveError>> + Send;

    /// Writes over exactly the version `base`, whole or not at all.
    fn replace(
        &self,
        key: &Key,
        bytes: Bytes,
        base: &ETag,
    ) -> impl Future<Output = Result<Replaced, ArchiveError>> + Send;

    /// Starts writing an object too large to be held. Nothing is visible before
    /// [`finish`](Upload::finish).
    fn begin(
        &self,
        key: &Key,
        about: &About,
    ) -> impl Future<Output = Result<Self::Upload, ArchiveError>> + Send;
}

/// The largest document that is read whole, in bytes: a manifest of 10,000 fragments has 5 MB.
pub const LARGEST_DOCUMENT: u64 = 64 * 1024 * 1024;

/// An object being written in parts. Whoever holds one ends it with [`finish`](Self::finish) or
/// [`abort`](Self::abort), on every path.
pub trait Upload: Send {
    /// Adds a part of [`PART_BYTES`], if it arrives with this checksum; only the last may be shorter.
    fn write(
        &mut self,
        part: Bytes,
        crc64nvme: Crc64,
    ) -> impl Future<Output = Result<(), ArchiveError>> + Send;

    /// Makes the object visible, create-only, if its parts, one after the other, have this checksum.
    /// After an error the outcome is unknown and the upload may still be aborted.
    fn finish(
        &mut self,
        crc64nvme: Crc64,
    ) -> impl Future<Output = Result<Created, ArchiveError>> + Send;

    /// Drops what was written.
    fn abort(&mut self) -> impl Future<Output = Result<(), ArchiveError>> + Send;
}

/// An object being read.
pub trait Download: Send {
    /// The next bytes, or `None` at the end.
    fn chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>, ArchiveError>> + Send;
}
