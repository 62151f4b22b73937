//! The vendor, for what never calls it.

use super::job::{FileUrl, Job};
use super::{ApiError, Download, FileError, Kore};
use crate::export::{AppId, Export, JobId};

/// The vendor, for the function that has neither its address nor the credentials: enqueue.
pub struct OutOfReach;

/// What it would say, were it asked.
const NO_CALLS: &str = "this function calls no API";

impl OutOfReach {
    fn refused<T>() -> Result<T, ApiError> {
        Err(ApiError::Rejected {
            request: "no request".to_owned(),
            detail: NO_CALLS.to_owned(),
        })
    }
}

impl Kore for OutOfReach {
    type Download = Never;

    async fn start(&self, _: &Export) -> Result<Job, ApiError> {
        Self::refused()
    }

    async fn look(&self, _: &AppId, _: &JobId) -> Result<Job, ApiError> {
        Self::refused()
    }

    async fn open(&self, _: &FileUrl) -> Result<Never, FileError> {
        Err(FileError::Forbidden(NO_CALLS.to_owned()))
    }
}

/// There is no such thing.
pub enum Never {}

impl Download for Never {
    fn announced(&self) -> Option<u64> {
        match *self {}
    }

    async fn chunk(&mut self) -> Result<Option<bytes::Bytes>, FileError> {
        match *self {}
    }
}
