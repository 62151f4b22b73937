//! `--archive`: where the archive is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::usage::Usage;
use crate::archive::bucket::{Bucket, Location};
use crate::archive::folder::Folder;
use crate::aws;
use crate::export::Invalid;

/// Where an archive is, as written behind `--archive`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Site {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A bucket, and a prefix in it.
    Bucket(Location),
}

impl FromStr for Site {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.starts_with("s3://") {
            text.parse().map(Self::Bucket)
        } else {
            Ok(Self::Folder(text.into()))
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Bucket(place) => place.fmt(f),
        }
    }
}

/// An archive that was opened. Code that is generic over `Archive` is called in each arm.
#[derive(Debug)]
pub enum Opened {
    /// A folder of this machine.
    Folder(Folder),
    /// A bucket.
    Bucket(Bucket),
}

impl Site {
    /// Opens the archive for reading and writing.
    ///
    /// # Errors
    /// When it is not a place that can be written to: says what to do.
    pub async fn open(&self) -> Result<Opened, Usage> {
        match self {
            Self::Folder(path) => Folder::open(path).map(Opened::Folder).map_err(Usage::new),
            Self::Bucket(place) => bucket(place).await,
        }
    }

    /// Opens the archive for reading only, and changes nothing.
    ///
    /// # Errors
    /// When there is none: says what to do.
    pub async fn open_to_read(&self) -> Result<Opened, Usage> {
        match self {
            Self::Folder(path) => Folder::open_to_read(path)
                .map(Opened::Folder)
                .map_err(Usage::new),
            Self::Bucket(place) => bucket(place).await,
        }
    }
}

/// The bucket, reached as the environment and the AWS profile say. `S3_PATH_STYLE=true` is for local
/// servers, as in the functions.
async fn bucket(place: &Location) -> Result<Opened, Usage> {
    let config = aws::config(aws::Patience::PERSON).await;
    aws::check(&config).await.map_err(Usage::new)?;
    let path_style = std::env::var("S3_PATH_STYLE").is_ok_and(|value| value == "true");
    let client = aws::s3(&config, path_style);
    Ok(Opened::Bucket(Bucket::new(client, place.clone(), None)))
}
