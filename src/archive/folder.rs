//! An archive in a folder: the keys are paths, writes are create-only and whole, whoever else writes.
//!
//! # How a write stays whole
//! The bytes go to a file of their own under `.tmp/` and to the disk (`fsync`) before anything is
//! visible. Then, for a moment, the writer holds the lock on `.lock`, which excludes every other
//! process and thread: the metadata file gets its name by a rename, the object its name by a hard
//! link, which fails if the name is taken. A process killed at any instant leaves no object, or a
//! whole one; what may be left besides is a metadata file that the next writer of the key replaces,
//! and files under `.tmp/`, which belong to a process that is seen to be dead (it holds a lock for as
//! long as it lives) and are removed when the folder is next opened.

mod erase;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    About, Archive, ArchiveError, Crc64, Created, Download, ETag, Head, Key, LARGEST_DOCUMENT,
    Listed, Replaced, Stored, Upload,
};

/// Held while names change. Never removed: a lock on a removed file excludes nobody.
const LOCK: &str = ".lock";

/// Where files are before they have their name: one folder per process.
const SCRATCH: &str = ".tmp";

/// In a process's scratch folder, the file that it holds locked for as long as it lives.
const ALIVE: &str = "alive";

/// What follows an object's name in the name of its metadata file.
const METADATA: &str = ".metadata";

/// How much of an object is read at once, in bytes.
const CHUNK_BYTES: u64 = 256 * 1024;

/// How many entries of a listing are handed over at once.
const LISTED_AT_ONCE: usize = 1_000;

/// An archive in a folder of this machine. Clones are the same archive.
#[derive(Debug, Clone)]
pub struct Folder {
    disk: Arc<Disk>,
}

impl Folder {
    /// Opens the archive in the folder `root` for reading and writing; makes the folder if there is
    /// none, and removes what killed processes left unfinished.
    ///
    /// # Errors
    /// When `root` is not a folder, or not one that can be written to.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, ArchiveError> {
        let mut disk = Disk::at(root.into());
        fs::create_dir_all(&disk.root).map_err(|error| {
            if disk.root.exists() && !disk.root.is_dir() {
                disk.not_a_folder()
            } else {
                disk.failed("make the archive's folder", &error)
            }
        })?;
        disk.scratch = Some(disk.make_scratch()?);
        Ok(Self {
            disk: Arc::new(disk),
        })
    }

    /// Opens the archive in the folder `root` for reading only; works where nothing can be written,
    /// and changes nothing.
    ///
    /// # Errors
    /// When `root` is not a folder.
    pub fn open_to_read(root: impl Into<PathBuf>) -> Result<Self, ArchiveError> {
        let disk = Disk::at(root.into());
        match fs::metadata(&disk.root) {
            Ok(found) if found.is_dir() => Ok(Self {
                disk: Arc::new(disk),
            }),
            Ok(_) => Err(disk.not_a_folder()),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(disk
                .refused("there is no such folder; check the path, or archive something into it")),
            Err(error) => Err(disk.failed("open the archive's folder", &error)),
        }
    }

    /// Does a piece of file-system work where it may block.
    async fn on_disk<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&Arc<Disk>) -> Result<T, ArchiveError> + Send + 'static,
    ) -> Result<T, ArchiveError> {
        let disk = Arc::clone(&self.disk);
        blocking(name, move || work(&disk)).await
    }
}

async fn blocking<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, ArchiveError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ArchiveError::Unavailable {
            key: name.to_owned(),
            detail: format!("work on the disk was broken off: {error}"),
        }),
    }
}

impl Archive for Folder {
    type Upload = FolderUpload;
    type Download = FolderDownload;

    async fn list(
        &self,
        prefix: &str,
        mut each: impl FnMut(Listed) + Send,
    ) -> Result<(), ArchiveError> {
        let (send, mut receive) = tokio::sync::mpsc::channel(4);
        let (root, start) = (self.disk.name(), prefix.to_owned());
        let walk = self.on_disk(&root, move |disk| disk.walk(&start, &send));
        let hand_over = async {
            while let Some(batch) = receive.recv().await {
                Vec::into_iter(batch).for_each(&mut each);
            }
        };
        tokio::join!(walk, hand_over).0
    }

    async fn get(&self, key: &Key) -> Result<Option<Stored>, ArchiveError> {
        let name = key.clone();
        self.on_disk(key.as_str(), move |disk| disk.read(&name))
            .await
    }

    async fn head(&self, key: &Key) -> Result<Option<Head>, ArchiveError> {
        let name = key.clone();
        self.on_disk(key.as_str(), move |disk| disk.head(&name))
            .await
    }

    async fn open(&self, key: &Key) -> Result<Option<FolderDownload>, ArchiveError> {
        let name = key.clone();
        let opened = self.on_disk(key.as_str(), move |disk| disk.open(&name));
        Ok(opened.await?.map(|(file, _)| FolderDownload {
            key: key.clone(),
            file: Arc::new(file),
        }))
    }

    async fn create(
        &self,
        key: &Key,
        bytes: Bytes,
        about: &About,
    ) -> Result<Created, ArchiveError> {
        let (name, about) = (key.clone(), about.clone());
        self.on_disk(key.as_str(), move |disk| disk.create(&name, &bytes, about))
            .await
    }

    async fn replace(
        &self,
        key: &Key,
        bytes: Bytes,
        base: &ETag,
    ) -> Result<Replaced, ArchiveError> {
        let (name, base) = (key.clone(), base.clone());
        self.on_disk(key.as_str(), move |disk| disk.replace(&name, &bytes, &base))
            .await
    }

    async fn begin(&self, key: &Key, about: &About) -> Result<FolderUpload, ArchiveError> {
        let (name, about) = (key.clone(), about.clone());
        let writing = self.on_disk(key.as_str(), move |disk| {
            Ok(Writing {
                file: Scratch::file(disk, &name)?,
                metadata: about.metadata,
                bytes: 0,
                crc64nvme: Crc64::NOTHING,
                sha256: digest::Context::new(&digest::SHA256),
            })
        });
        Ok(FolderUpload {
            key: key.clone(),
            folder: self.clone(),
            writing: Some(writing.await?),
        })
    }
}

/// An object on its way into a folder. Dropped, it leaves nothing either.
#[derive(Debug)]
pub struct FolderUpload {
    key: Key,
    folder: Folder,
    /// `None` while the disk works on it, and after the end.
    writing: Option<Writing>,
}

struct Writing {
    file: TemporaryFile,
    metadata: Vec<(&'static str, String)>,
    bytes: u64,
    crc64nvme: Crc64,
    sha256: digest::Context,
}

impl std::fmt::Debug for Writing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writing")
            .field("path", &self.file.path)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl FolderUpload {
    fn take(&mut self) -> Result<Writing, ArchiveError> {
        self.writing
            .take()
            .ok_or_else(|| ArchiveError::Unavailable {
                key: self.key.to_string(),
                detail: "this upload has ended, or was broken off; begin another".to_owned(),
            })
    }
}

impl Upload for FolderUpload {
    async fn write(&mut self, part: Bytes, crc64nvme: Crc64) -> Result<(), ArchiveError> {
        let mut writing = self.take()?;
        let key = self.key.clone();
        let written = self.folder.on_disk(self.key.as_str(), move |_| {
            same_checksum(&key, crc64nvme, Crc64::of(&part))?;
            writing.file.write(&key, &part)?;
            let length = part.len() as u64;
            writing.bytes += length;
            writing.crc64nvme = writing.crc64nvme.followed_by(crc64nvme, length);
            writing.sha256.update(&part);
            Ok(writing)
        });
        self.writing = Some(written.await?);
        Ok(())
    }

    async fn finish(&mut self, crc64nvme: Crc64) -> Result<Created, ArchiveError> {
        let writing = self.take()?;
        let key = self.key.clone();
        let finished = self.folder.on_disk(self.key.as_str(), move |disk| {
            same_checksum(&key, crc64nvme, writing.crc64nvme)?;
            let facts = MetadataFile::new(writing.metadata, writing.crc64nvme, writing.bytes);
            let etag = etag_of(writing.sha256.finish());
            disk.publish(&key, &writing.file, Some(facts), etag)
        });
        finished.await
    }

    async fn abort(&mut self) -> Result<(), ArchiveError> {
        let writing = self.writing.take();
        let removed = self.folder.on_disk(self.key.as_str(), move |_| {
            drop(writing);
            Ok(())
        });
        removed.await
    }
}

/// An object being read from a folder.
#[derive(Debug)]
pub struct FolderDownload {
    key: Key,
    file: Arc<File>,
}

impl Download for FolderDownload {
    async fn chunk(&mut self) -> Result<Option<Bytes>, ArchiveError> {
        let (key, file) = (self.key.clone(), Arc::clone(&self.file));
        let read = blocking(self.key.as_str(), move || {
            let capacity = usize::try_from(CHUNK_BYTES).unwrap_or_default();
            let mut chunk = Vec::with_capacity(capacity);
            let read = file.take(CHUNK_BYTES).read_to_end(&mut chunk);
            read.map_err(|error| failed(key.as_str(), "read it", &error))?;
            Ok(chunk)
        });
        let chunk = read.await?;
        Ok((!chunk.is_empty()).then(|| chunk.into()))
    }
}

/// What is written beside an object, in `<key>.metadata`.
#[derive(Debug, Serialize, Deserialize)]
struct MetadataFile {
    metadata: BTreeMap<String, String>,
    crc64nvme: String,
    /// The object's length: the checksum is of that many bytes.
    bytes: u64,
}

impl MetadataFile {
    fn new(metadata: Vec<(&'static str, String)>, crc64nvme: Crc64, bytes: u64) -> Self {
        let named = |(name, value): (&str, String)| (name.to_owned(), value);
        Self {
            metadata: metadata.into_iter().map(named).collect(),
            crc64nvme: crc64nvme.to_string(),
            bytes,
        }
    }
}

/// The blocking half: everything that touches the file system.
#[derive(Debug)]
struct Disk {
    root: PathBuf,
    /// `None` where the archive was opened for reading only.
    scratch: Option<Scratch>,
}

impl Disk {
    fn at(root: PathBuf) -> Self {
        Self {
            root,
            scratch: None,
        }
    }

    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn refused(&self, detail: &str) -> ArchiveError {
        ArchiveError::Refused {
            key: self.name(),
            detail: detail.to_owned(),
        }
    }

    fn not_a_folder(&self) -> ArchiveError {
        self.refused("this is a file, and an archive needs a folder; name another path")
    }

    fn failed(&self, to: &str, error: &io::Error) -> ArchiveError {
        failed(&self.name(), to, error)
    }

    fn path(&self, key: &Key) -> PathBuf {
        // Segment by segment: the separator of a path is not '/' everywhere.
        let mut path = self.root.clone();
        path.extend(key.as_str().split('/'));
        path
    }

    /// Excludes every other writer, of this process and of others, until it is dropped.
    fn lock(&self) -> Result<File, ArchiveError> {
        let path = self.root.join(LOCK);
        // Opened anew each time: a lock belongs to an opened file, so threads exclude each other too.
        let opened = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path);
        let locked = opened.and_then(|file| file.lock().map(|()| file));
        locked.map_err(|error| failed(&path.display().to_string(), "lock it", &error))
    }

    /// Makes this process's scratch folder, and removes those of processes that are dead.
    fn make_scratch(&self) -> Result<Scratch, ArchiveError> {
        // Under the lock, so that nobody takes a folder made this instant for a dead process's.
        let _lock = self.lock()?;
        let all = self.root.join(SCRATCH);
        let made = || -> io::Result<Scratch> {
            fs::create_dir_all(&all)?;
            for entry in fs::read_dir(&all)? {
                let path = entry?.path();
                if is_dead(&path) {
                    // What cannot be removed does no harm, and is tried again next time.
                    let _ = fs::remove_dir_all(&path);
                }
            }
            let mut random = [0; 8];
            aws_lc_rs::rand::fill(&mut random)
                .map_err(|_| io::Error::other("no random numbers"))?;
            let path = all.join(format!("{:016x}", u64::from_be_bytes(random)));
            fs::create_dir(&path)?;
            let alive = File::create_new(path.join(ALIVE))?;
            alive.lock()?;
            Ok(Scratch {
                path,
                next: AtomicU64::new(0),
                _alive: alive,
            })
        };
        made().map_err(|error| failed(&all.display().to_string(), "write there", &error))
    }

    /// The object's file and its length.
    fn open(&self, key: &Key) -> Result<Option<(File, u64)>, ArchiveError> {
        let path = self.path(key);
        let opened = || -> io::Result<(File, fs::Metadata)> {
            // Asked first: opening a named pipe would wait for its other end.
            let found = fs::metadata(&path)?;
            Ok((File::open(&path)?, found))
        };
        match opened() {
            Ok((file, found)) if found.is_file() => Ok(Some((file, found.len()))),
            Ok(_) => Err(ArchiveError::Refused {
                key: key.to_string(),
                detail: "expected a file there, and it is something else; move it away".to_owned(),
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(key.as_str(), "open it", &error)),
        }
    }

    fn read(&self, key: &Key) -> Result<Option<Stored>, ArchiveError> {
        let Some((file, _)) = self.open(key)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(LARGEST_DOCUMENT + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| failed(key.as_str(), "read it", &error))?;
        if bytes.len() as u64 > LARGEST_DOCUMENT {
            return Err(ArchiveError::Refused {
                key: key.to_string(),
                detail: format!(
                    "expected a document of at most {LARGEST_DOCUMENT} bytes, and it is larger: \
                     not one that this program wrote; move it away"
                ),
            });
        }
        let etag = etag(&bytes);
        let bytes = bytes.into();
        Ok(Some(Stored { bytes, etag }))
    }

    fn head(&self, key: &Key) -> Result<Option<Head>, ArchiveError> {
        let Some((_, bytes)) = self.open(key)? else {
            return Ok(None);
        };
        let path = metadata_path(&self.path(key));
        let facts: Option<MetadataFile> = match fs::read(&path) {
            Ok(text) => Some(serde_json::from_slice(&text).map_err(|error| {
                ArchiveError::Refused {
                    key: key.to_string(),
                    detail: format!(
                        "its metadata file {} was not written by this program: {error}; restore it",
                        path.display()
                    ),
                }
            })?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed(key.as_str(), "read its metadata", &error)),
        };
        let (metadata, crc64nvme) = match facts {
            // Of another length, it is not the object that the checksum was taken of.
            Some(facts) if facts.bytes != bytes => (facts.metadata, None),
            Some(facts) => (facts.metadata, Some(facts.crc64nvme)),
            None => (BTreeMap::new(), None),
        };
        Ok(Some(Head {
            bytes,
            metadata: metadata.into_iter().collect(),
            crc64nvme,
        }))
    }

    fn create(
        self: &Arc<Self>,
        key: &Key,
        bytes: &[u8],
        about: About,
    ) -> Result<Created, ArchiveError> {
        // Seen now, it spares writing the bytes; seen later, under the lock, it decides.
        if is_there(&self.path(key)) {
            return Ok(Created::Exists);
        }
        let facts = if about == About::default() {
            None
        } else {
            let seen = Crc64::of(bytes);
            same_checksum(key, about.crc64nvme.unwrap_or(seen), seen)?;
            Some(MetadataFile::new(about.metadata, seen, bytes.len() as u64))
        };
        let mut file = Scratch::file(self, key)?;
        file.write(key, bytes)?;
        self.publish(key, &file, facts, etag(bytes))
    }

    /// Gives a written file its name, unless that is taken.
    fn publish(
        self: &Arc<Self>,
        key: &Key,
        object: &TemporaryFile,
        facts: Option<MetadataFile>,
        etag: ETag,
    ) -> Result<Created, ArchiveError> {
        let failed = |error: io::Error| failed(key.as_str(), "write it", &error);
        let path = self.path(key);
        let beside = metadata_path(&path);
        object.sync().map_err(failed)?;
        let facts = match facts {
            None => None,
            Some(facts) => {
                let text = serde_json::to_vec_pretty(&facts).map_err(io::Error::other);
                let mut file = Scratch::file(self, key)?;
                file.write(key, &text.map_err(failed)?)?;
                file.sync().map_err(failed)?;
                Some(file)
            }
        };
        self.make_folder_of(&path).map_err(failed)?;
        let locked = self.lock()?;
        let created = if is_there(&path) {
            Created::Exists
        } else {
            // The metadata first: an object is never seen without it.
            match facts {
                Some(facts) => facts.rename(&beside),
                None => remove_if_there(&beside),
            }
            .map_err(failed)?;
            match fs::hard_link(&object.path, &path) {
                Ok(()) => Created::Written(etag),
                // By someone who does not honour the lock: on some network file systems, another
                // machine.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Created::Exists,
                Err(error) => return Err(failed(error)),
            }
        };
        drop(locked);
        // Where it exists already, too: the one who wrote it may not have come to this yet.
        sync_folder_of(&path).map_err(failed)?;
        Ok(created)
    }

    fn replace(
        self: &Arc<Self>,
        key: &Key,
        bytes: &[u8],
        base: &ETag,
    ) -> Result<Replaced, ArchiveError> {
        let failed = |error: io::Error| failed(key.as_str(), "replace it", &error);
        let path = self.path(key);
        let mut file = Scratch::file(self, key)?;
        file.write(key, bytes)?;
        file.sync().map_err(failed)?;
        let locked = self.lock()?;
        match self.read(key)? {
            Some(stored) if stored.etag == *base => {}
            _ => return Ok(Replaced::Changed),
        }
        // It would describe the bytes before.
        remove_if_there(&metadata_path(&path)).map_err(failed)?;
        file.rename(&path).map_err(failed)?;
        drop(locked);
        sync_folder_of(&path).map_err(failed)?;
        Ok(Replaced::Written(etag(bytes)))
    }

    /// Makes the folders above `path` that are missing, each one durable in the one above it.
    fn make_folder_of(&self, path: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = path
            .ancestors()
            .skip(1)
            .take_while(|folder| *folder != self.root && !folder.is_dir())
            .collect();
        for folder in missing.into_iter().rev() {
            match fs::create_dir(folder) {
                // Another writer may have made it meanwhile.
                Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
                made => made?,
            }
            sync_folder_of(folder)?;
        }
        Ok(())
    }

    /// Sends every object under `prefix`, in batches, until nobody listens.
    fn walk(
        &self,
        prefix: &str,
        send: &tokio::sync::mpsc::Sender<Vec<Listed>>,
    ) -> Result<(), ArchiveError> {
        let (folder, start) = match prefix.rsplit_once('/') {
            Some((folder, start)) => (Some(folder), start),
            None => (None, prefix),
        };
        let mut path = self.root.clone();
        let mut key = String::new();
        for segment in folder.iter().flat_map(|folder| folder.split('/')) {
            // No key has such a segment, and a path must not leave the root by one.
            if matches!(segment, "" | "." | "..") {
                return Ok(());
            }
            path.push(segment);
            key = format!("{key}{segment}/");
        }
        let mut batch = Vec::new();
        let mut folders = vec![(path, key)];
        while let Some((path, under)) = folders.pop() {
            let failed = |error: &io::Error| {
                let name = path.display().to_string();
                failed(&name, "list this folder", error)
            };
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                // Missing, or a file: no key starts so.
                Err(error)
                    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
                        && path != self.root =>
                {
                    continue;
                }
                Err(error) => return Err(failed(&error)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| failed(&error))?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let key = format!("{under}{name}");
                let own = under.is_empty() && (name == LOCK || name == SCRATCH);
                if own || !(under.len() >= prefix.len() || name.starts_with(start)) {
                    continue;
                }
                // Of the entry itself, not of what a symbolic link points to: links could go in
                // circles.
                let found = match entry.metadata() {
                    Ok(found) => found,
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => return Err(failed(&error)),
                };
                if found.is_dir() {
                    folders.push((entry.path(), format!("{key}/")));
                } else if found.is_file() && !name.ends_with(METADATA) {
                    let bytes = found.len();
                    batch.push(Listed { key, bytes });
                }
                if batch.len() == LISTED_AT_ONCE
                    && send.blocking_send(std::mem::take(&mut batch)).is_err()
                {
                    return Ok(());
                }
            }
        }
        // Whoever stopped listening misses nothing.
        let _ = send.blocking_send(batch);
        Ok(())
    }
}

/// Where one process keeps its unfinished files.
#[derive(Debug)]
struct Scratch {
    path: PathBuf,
    next: AtomicU64,
    /// Locked: who can lock it knows that the process is dead.
    _alive: File,
}

impl Scratch {
    fn file(disk: &Arc<Disk>, key: &Key) -> Result<TemporaryFile, ArchiveError> {
        let Some(scratch) = &disk.scratch else {
            return Err(ArchiveError::Refused {
                key: key.to_string(),
                detail: "the archive was opened for reading only".to_owned(),
            });
        };
        let number = scratch.next.fetch_add(1, Ordering::Relaxed);
        let path = scratch.path.join(number.to_string());
        match File::create_new(&path) {
            Ok(file) => Ok(TemporaryFile {
                path,
                file,
                _disk: Arc::clone(disk),
            }),
            Err(error) => Err(failed(key.as_str(), "make a temporary file for it", &error)),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is removed when the folder is next opened.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Whether a scratch folder's process has ended. All is done under the archive's lock.
fn is_dead(scratch: &Path) -> bool {
    let alive = OpenOptions::new()
        .read(true)
        .write(true)
        .open(scratch.join(ALIVE));
    match alive {
        Ok(file) => file.try_lock().is_ok(),
        // Killed before it made the file.
        Err(error) => error.kind() == ErrorKind::NotFound && scratch.is_dir(),
    }
}

/// A file without its final name; removed when dropped.
struct TemporaryFile {
    path: PathBuf,
    file: File,
    /// Keeps the scratch folder while there is a file in it.
    _disk: Arc<Disk>,
}

impl TemporaryFile {
    fn write(&mut self, key: &Key, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.file
            .write_all(bytes)
            .map_err(|error| failed(key.as_str(), "write it", &error))
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn rename(self, to: &Path) -> io::Result<()> {
        fs::rename(&self.path, to)
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // Renamed, it is not there; otherwise what stays is removed with the scratch folder.
        let _ = fs::remove_file(&self.path);
    }
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Makes the names in the folder above `path` durable.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        // Elsewhere a folder cannot be opened as a file, and names are durable without it.
        Some(folder) if cfg!(unix) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

fn metadata_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(METADATA);
    name.into()
}

fn same_checksum(key: &Key, expected: Crc64, seen: Crc64) -> Result<(), ArchiveError> {
    if expected == seen {
        return Ok(());
    }
    Err(ArchiveError::Unavailable {
        key: key.to_string(),
        detail: format!(
            "the bytes to write have the CRC-64/NVME {seen}, expected {expected}: they changed on \
             the way, and nothing was written"
        ),
    })
}

fn etag(bytes: &[u8]) -> ETag {
    etag_of(digest::digest(&digest::SHA256, bytes))
}

/// Half of a SHA-256 tells versions apart as surely as all of it.
fn etag_of(sha256: digest::Digest) -> ETag {
    let mut half = [0; 16];
    half.copy_from_slice(&sha256.as_ref()[..16]);
    let hex = format!("{:032x}", u128::from_be_bytes(half));
    hex.parse()
        .unwrap_or_else(|_| unreachable!("32 hex digits are an ETag"))
}

/// What the things begin with that need no permission to write.
const READING: [&str; 3] = ["list", "open", "read"];

/// What a failure of the file system means for the archive, and what to do about it.
fn failed(name: &str, to: &str, error: &io::Error) -> ArchiveError {
    let remedy = match error.kind() {
        ErrorKind::StorageFull => "the disk is full; free some space and run again",
        ErrorKind::QuotaExceeded => "the disk quota is used up; free some space and run again",
        ErrorKind::PermissionDenied if READING.iter().any(|verb| to.starts_with(verb)) => {
            "give this user permission to read there"
        }
        ErrorKind::PermissionDenied => {
            "give this user permission to read and write there; the file system must also have \
             hard links"
        }
        ErrorKind::ReadOnlyFilesystem => {
            "the file system is read-only; mount it writable or name another folder"
        }
        ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::AlreadyExists => {
            "something else has the name that is needed here; move it away"
        }
        ErrorKind::FileTooLarge => "the file system takes no file of this size; use another one",
        ErrorKind::InvalidFilename => "the file system takes no such name; use another one",
        ErrorKind::Unsupported => {
            "the file system has no locks or no hard links; use a folder on another one"
        }
        _ => {
            return ArchiveError::Unavailable {
                key: name.to_owned(),
                detail: format!("cannot {to}: {error}"),
            };
        }
    };
    ArchiveError::Refused {
        key: name.to_owned(),
        detail: format!("cannot {to}: {error}; {remedy}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::behaviour;
    use super::*;
    use std::process::{Child, Command, Stdio};

    /// Names the folder to the processes that the tests start.
    const FOLDER: &str = "INSIGHTS_ARCHIVE_TEST_FOLDER";

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// This test program, as another process that runs one (ignored) test of it.
    fn process(test: &str, root: &Path) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture"])
            .arg(format!(
                "{}::{test}",
                module_path!().split_once("::").unwrap().1
            ))
            .env(FOLDER, root)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    #[tokio::test]
    async fn a_folder_behaves_as_an_archive() {
        let root = tempfile::tempdir().unwrap();
        // In a folder that does not exist yet.
        let folder = Folder::open(root.path().join("new/archive")).unwrap();
        behaviour::an_archive_behaves(&folder).await;
        let scratch = folder.disk.scratch.as_ref().unwrap().path.clone();
        assert_eq!(names(&scratch), [ALIVE], "unfinished files are left");
        drop(folder);
        assert!(!scratch.exists());
    }

    #[tokio::test(start_paused = true)]
    async fn work_on_the_disk_does_not_let_virtual_time_run_on() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let before = tokio::time::Instant::now();
        let work = behaviour::an_archive_behaves(&folder);
        tokio::time::timeout(std::time::Duration::from_millis(1), work)
            .await
            .unwrap();
        assert_eq!(before.elapsed(), std::time::Duration::ZERO);
    }

    #[tokio::test]
    async fn a_listing_passes_over_what_is_not_an_object() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        behaviour::create_one(&folder, 1).await;
        fs::write(root.path().join("notes.txt"), "mine").unwrap();
        fs::create_dir(root.path().join("data-of-mine")).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::symlink;
            symlink("/", root.path().join("data/everything")).unwrap();
            symlink("nowhere", root.path().join("data/nothing")).unwrap();
        }
        let key = behaviour::data_key(1).to_string();
        assert_eq!(
            behaviour::listed(&folder, "").await,
            [key.as_str(), "notes.txt"]
        );
        assert_eq!(behaviour::listed(&folder, "data").await, [key.as_str()]);
        assert_eq!(behaviour::listed(&folder, "data/").await, [key.as_str()]);
        for outside in ["/", "../", "data/../", "data//", "notes.txt/"] {
            assert!(behaviour::listed(&folder, outside).await.is_empty());
        }
    }

    #[tokio::test]
    async fn what_is_no_folder_is_refused_with_a_remedy() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        for (path, says) in [
            (file.clone(), "name another path"),
            (file.join("x"), "cannot make"),
        ] {
            let error = Folder::open(&path).unwrap_err();
            assert!(matches!(error, ArchiveError::Refused { .. }), "{error}");
            assert!(error.to_string().contains(says), "{error}");
        }
        let error = Folder::open_to_read(root.path().join("missing")).unwrap_err();
        assert!(error.to_string().contains("no such folder"), "{error}");
        assert!(!root.path().join("missing").exists());

        let read = Folder::open_to_read(root.path()).unwrap();
        let key = behaviour::data_key(1);
        let refused = read.create(&key, Bytes::new(), &About::default()).await;
        assert!(matches!(refused, Err(ArchiveError::Refused { .. })));
    }

    #[test]
    fn failures_that_a_person_must_mend_are_refusals() {
        for (kind, refused) in [
            (ErrorKind::StorageFull, true),
            (ErrorKind::QuotaExceeded, true),
            (ErrorKind::PermissionDenied, true),
            (ErrorKind::ReadOnlyFilesystem, true),
            (ErrorKind::Unsupported, true),
            (ErrorKind::NotADirectory, true),
            (ErrorKind::Interrupted, false),
            (ErrorKind::NotFound, false),
            (ErrorKind::Other, false),
        ] {
            let error = failed("data/x", "write it", &io::Error::from(kind));
            assert_eq!(
                matches!(error, ArchiveError::Refused { .. }),
                refused,
                "{error}"
            );
            assert!(
                error.to_string().starts_with("data/x: cannot write it: "),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn metadata_without_its_object_is_replaced_by_the_next_writer() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let beside = metadata_path(&folder.disk.path(&behaviour::data_key(1)));
        fs::create_dir_all(beside.parent().unwrap()).unwrap();
        fs::write(&beside, "of a killed run").unwrap();
        behaviour::create_one(&folder, 1).await;
        let head = folder.head(&behaviour::data_key(1)).await.unwrap().unwrap();
        assert_eq!(head.metadata("file-id"), Some("file 1"));
    }

    #[tokio::test]
    async fn a_checksum_is_not_stated_for_a_file_of_another_length() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        behaviour::create_one(&folder, 1).await;
        let key = behaviour::data_key(1);
        assert!(
            folder
                .head(&key)
                .await
                .unwrap()
                .unwrap()
                .crc64nvme
                .is_some()
        );
        fs::write(folder.disk.path(&key), "cut").unwrap();
        let head = folder.head(&key).await.unwrap().unwrap();
        assert_eq!((head.bytes, head.crc64nvme), (3, None));
    }

    #[tokio::test]
    async fn of_two_processes_that_write_one_key_one_wins() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let counter = behaviour::claim_key(0);
        let zero = Bytes::from_static(b"0");
        folder
            .create(&counter, zero, &About::default())
            .await
            .unwrap();
        let processes = [(); 2].map(|()| process("one_of_two_writers", root.path()));
        let mut created = Vec::new();
        for process in processes {
            let output = process.wait_with_output().unwrap();
            assert!(output.status.success());
            let said = String::from_utf8(output.stdout).unwrap();
            let numbers = said.lines().filter_map(|line| line.split_once("created "));
            created.extend(numbers.map(|(_, number)| number.parse::<u32>().unwrap()));
        }
        created.sort_unstable();
        assert_eq!(created, (1..=CREATED).collect::<Vec<_>>());
        // No raise is lost: none was made on top of a version that another process had replaced.
        let stored = folder.get(&counter).await.unwrap().unwrap();
        assert_eq!(stored.bytes, (2 * RAISED).to_string());
    }

    const CREATED: u32 = 50;
    const RAISED: u32 = 30;

    #[tokio::test]
    #[ignore = "the other process of `of_two_processes_that_write_one_key_one_wins`"]
    async fn one_of_two_writers() {
        let folder = Folder::open(std::env::var(FOLDER).unwrap()).unwrap();
        for number in 1..=CREATED {
            if behaviour::create_one(&folder, number).await {
                println!("\ncreated {number}");
            }
        }
        let counter = behaviour::claim_key(0);
        let mut raised = 0;
        while raised < RAISED {
            let stored = folder.get(&counter).await.unwrap().unwrap();
            let text = std::str::from_utf8(&stored.bytes).unwrap();
            let next = (text.parse::<u32>().unwrap() + 1).to_string();
            let replaced = folder.replace(&counter, next.into(), &stored.etag).await;
            raised += u32::from(matches!(replaced, Ok(Replaced::Written(_))));
        }
    }

    #[tokio::test]
    async fn a_killed_writer_leaves_whole_objects_and_hinders_nobody() {
        use std::io::BufRead as _;
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        for lines in [1, 5, 20] {
            let mut process = process("a_writer_without_end", root.path());
            let said = io::BufReader::new(process.stdout.take().unwrap()).lines();
            let writes = said.filter(|line| line.as_ref().unwrap().contains("wrote"));
            assert_eq!(writes.take(lines).count(), lines);
            process.kill().unwrap();
            assert!(!process.wait().unwrap().success());
        }
        assert_eq!(
            names(&root.path().join(SCRATCH)).len(),
            2,
            "mine and the last one's"
        );
        let again = Folder::open(root.path()).unwrap();
        assert_eq!(names(&root.path().join(SCRATCH)).len(), 2, "both mine");
        let keys = behaviour::listed(&folder, "data/").await;
        assert!(keys.len() >= 26, "{}", keys.len());
        for number in 1..=u32::try_from(keys.len()).unwrap() {
            behaviour::is_whole(&again, number).await;
        }
        assert!(behaviour::create_one(&again, 1_000_000).await);
    }

    #[tokio::test]
    #[ignore = "the other process of `a_killed_writer_leaves_whole_objects_and_hinders_nobody`"]
    async fn a_writer_without_end() {
        let folder = Folder::open(std::env::var(FOLDER).unwrap()).unwrap();
        for number in 1.. {
            if behaviour::create_one(&folder, number).await {
                println!("\nwrote {number}");
            }
        }
    }
}
