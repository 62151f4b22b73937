//! A job as the API tells of it: every documented shape, decoded at the edge.

use std::fmt;

use crate::export::JobId;

/// A signed link to a file. It is a secret: it has no `Display`, and `Debug` hides all of it but the
/// host.
#[derive(Clone, PartialEq, Eq)]
pub struct FileUrl(String);

impl FileUrl {
    /// Keeps the text as it came; whether files may come from there is checked when it is opened.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The link with its signature, for the one request that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for FileUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = url::Url::parse(&self.0)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned));
        write!(f, "FileUrl({}/…)", host.as_deref().unwrap_or("?"))
    }
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Its files are ready.
    Success,
    /// It has failed, or the server gave up on it; the words say how.
    Failed(String),
    /// It runs, or says something never seen before: look again.
    Running,
}

/// One file of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct File {
    /// The vendor's name for it, stable between looks.
    pub id: String,
    /// The name that a person would see; never part of a key.
    pub name: Option<String>,
    /// Where its bytes are, for a while.
    pub url: FileUrl,
    /// How many records it should hold.
    pub records: Option<u64>,
}

/// What the vendor says a job produced, where it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// `store.totalFiles`
    pub files: Option<u64>,
    /// `store.totalRecords`
    pub records: Option<u64>,
}

/// One answer about a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Where it stands.
    pub status: Status,
    /// How far it says it is, 0 to 100.
    pub percent: Option<f64>,
    /// When it was made, in the server's words.
    pub created_on: Option<String>,
    /// Its files, in the server's order; empty unless it has succeeded.
    pub files: Vec<File>,
    /// How many files and records there should be.
    pub totals: Totals,
}
