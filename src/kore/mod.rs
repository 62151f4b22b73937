//! The vendor's side: starting exports, looking at jobs, opening files.

mod body;
pub mod client;
pub mod job;
pub mod limits;
pub mod out_of_reach;
pub mod source;
pub mod token;
mod words;

use std::time::Duration;

use bytes::Bytes;

use crate::export::{AppId, Export, JobId};
use job::{FileUrl, Job};

/// Why the API did not give a job's state, by what the caller does about it. The message names the
/// request and holds no secret.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ApiError {
    /// Refused for now, and nothing was done (429): try later, at no cost.
    #[error("{request}: the API limits the rate of requests (429)")]
    Limited {
        /// Method and path.
        request: String,
        /// How long to wait, where the server said.
        retry_after: Option<Duration>,
    },
    /// The request never reached the API (no connection was made): try later, at no cost.
    #[error("{request}: cannot connect: {detail}")]
    Unreachable {
        /// Method and path.
        request: String,
        /// What went wrong.
        detail: String,
    },
    /// Whether it had an effect is unknown: a 5xx, a time-out, a broken connection, an answer that
    /// cannot be understood.
    #[error("{request}: {detail}")]
    Unclear {
        /// Method and path.
        request: String,
        /// What came instead.
        detail: String,
        /// How long to wait, where the server said.
        retry_after: Option<Duration>,
    },
    /// Credentials or scopes are wrong (401, 403), read afresh or not: a person must act.
    #[error("{request}: {detail}")]
    Unauthorized {
        /// Method and path.
        request: String,
        /// The status and what to check.
        detail: String,
    },
    /// There is no such job (404 on a look).
    #[error("{request}: no such job")]
    Gone {
        /// Method and path.
        request: String,
    },
    /// Any other 4xx: a person must act.
    #[error("{request}: {detail}")]
    Rejected {
        /// Method and path.
        request: String,
        /// Status and the API's own words.
        detail: String,
    },
}

/// Why a file did not come, by what the caller does about it. The message holds no signature.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FileError {
    /// The link no longer works (401, 403, 404, 410 or another 4xx): a fresh look, then a new job.
    #[error("the file host refused the link with status {status}")]
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// The file's host or address is not one that files may come from: a person must act.
    #[error("{0}")]
    Forbidden(String),
    /// Cut, slow, 429, 5xx: again later.
    #[error("{detail}")]
    Broken {
        /// What went wrong.
        detail: String,
        /// How long to wait, where the server said.
        retry_after: Option<Duration>,
    },
}

/// What the stages need of the vendor.
pub trait Kore: Send + Sync {
    /// A file on its way in.
    type Download: Download;

    /// Starts an export job for a week's window.
    fn start(&self, export: &Export) -> impl Future<Output = Result<Job, ApiError>> + Send;

    /// Looks at a job.
    fn look(&self, app: &AppId, job: &JobId) -> impl Future<Output = Result<Job, ApiError>> + Send;

    /// Opens a file. The link goes out byte for byte, without the token.
    fn open(&self, url: &FileUrl)
    -> impl Future<Output = Result<Self::Download, FileError>> + Send;
}

/// A file's bytes as they arrive, after any transfer encoding.
pub trait Download: Send {
    /// How many bytes the server announced, where it did and no transfer encoding hides it.
    fn announced(&self) -> Option<u64>;

    /// The links that the host redirected to on the way here: secrets as much as the first one.
    fn redirects(&self) -> &[FileUrl] {
        &[]
    }

    /// The next bytes; `None` at the end of a body that came whole as far as the protocol can tell.
    fn chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>, FileError>> + Send;
}
