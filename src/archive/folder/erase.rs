//! Taking objects away from a folder.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::{Disk, Folder, METADATA, failed, sync_folder_of};
use crate::archive::erase::{Erase, Removed};
use crate::archive::{ArchiveError, Key};

impl Erase for Folder {
    async fn erase(&self, folder: &str) -> Result<Removed, ArchiveError> {
        let name = folder.to_owned();
        self.on_disk(folder, move |disk| disk.erase(&name)).await
    }

    /// A folder keeps no versions.
    async fn erase_history(&self, _key: &Key) -> Result<Removed, ArchiveError> {
        Ok(Removed::default())
    }
}

impl Disk {
    fn erase(&self, folder: &str) -> Result<Removed, ArchiveError> {
        let mut path = self.root.clone();
        for segment in folder.trim_end_matches('/').split('/') {
            // No key has such a segment, and a path must not leave the root by one.
            if matches!(segment, "" | "." | "..") {
                return Ok(Removed::default());
            }
            path.push(segment);
        }
        // Nobody writes meanwhile.
        let _locked = self.lock()?;
        let mut removed = Removed::default();
        let erased = erase_below(&path, &mut removed).and_then(|()| match sync_folder_of(&path) {
            // The folder above was never made.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            synced => synced,
        });
        match erased {
            Ok(()) => Ok(removed),
            Err(error) => Err(failed(folder, "erase it", &error)),
        }
    }
}

/// Removes a folder with all that is in it. A symbolic link is removed, not followed.
fn erase_below(path: &Path, removed: &mut Removed) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let found = entry.metadata()?;
        if found.is_dir() {
            erase_below(&entry.path(), removed)?;
        } else {
            fs::remove_file(entry.path())?;
            if !entry.file_name().to_string_lossy().ends_with(METADATA) {
                removed.versions += 1;
                removed.bytes += found.len();
            }
        }
    }
    fs::remove_dir(path)
}
