//! Taking objects away for good, in all their versions.
//!
//! Not part of [`Archive`]: the stages are generic over that one, so no code that runs in a function
//! can delete anything.

use super::{Archive, ArchiveError, Key};

/// What was taken away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// How many versions of objects.
    pub versions: u64,
    /// How many bytes in all of them.
    pub bytes: u64,
}

impl Removed {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            versions: self.versions + other.versions,
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// A store that can take objects away for good. Cut off half-way, it is asked again.
pub trait Erase: Archive {
    /// Takes away every object whose key starts with `folder`, which ends in a slash, in all its
    /// versions.
    fn erase(&self, folder: &str) -> impl Future<Output = Result<Removed, ArchiveError>> + Send;

    /// Takes away the versions of an object before the present one.
    fn erase_history(
        &self,
        key: &Key,
    ) -> impl Future<Output = Result<Removed, ArchiveError>> + Send;
}
