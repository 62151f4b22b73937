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
    /// A bucket, under an optional prefix.
    Bucket(Location),
}

impl FromStr for Site {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.split_once("://") {
            // Also for another scheme, which is not the name of a folder: it says what is expected.
            Some(_) => text.parse().map(Self::Bucket),
            None if text.trim().is_empty() => Err(Invalid::new(
                "an archive",
                "a folder, or s3://bucket/prefix",
                text,
            )),
            None => Ok(Self::Folder(text.into())),
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
    /// Opens the archive for reading and writing; makes a folder that is not there.
    ///
    /// # Errors
    /// When it is not a place that can be written to, or AWS is not set up: says what to do.
    pub async fn open(&self) -> Result<Opened, Usage> {
        match self {
            Self::Folder(path) => Folder::open(path).map(Opened::Folder).map_err(wrong),
            Self::Bucket(place) => bucket(place).await.map(Opened::Bucket),
        }
    }

    /// Opens the archive for reading only, and changes nothing.
    ///
    /// # Errors
    /// When there is no such folder, or AWS is not set up: says what to do.
    pub async fn open_to_read(&self) -> Result<Opened, Usage> {
        match self {
            Self::Folder(path) => Folder::open_to_read(path)
                .map(Opened::Folder)
                .map_err(wrong),
            Self::Bucket(place) => bucket(place).await.map(Opened::Bucket),
        }
    }
}

fn wrong(why: impl fmt::Display) -> Usage {
    Usage::with("--archive: ", why)
}

async fn bucket(place: &Location) -> Result<Bucket, Usage> {
    let config = aws::config(aws::Patience::PERSON).await;
    aws::check(&config).await.map_err(wrong)?;
    // AWS_ENDPOINT_URL names a server of one's own, which seldom has a host name for each bucket.
    let path_style = config.endpoint_url().is_some();
    let client = aws::s3(&config, path_style);
    Ok(Bucket::new(client, place.clone(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_and_a_bucket_are_told_apart() {
        let folder = |path: &str| Ok(Site::Folder(path.into()));
        for path in ["archive", "./archive", "/srv/archive", "s3/archive", "a:b"] {
            assert_eq!(path.parse(), folder(path));
        }
        let bucket: Site = "s3://bucket/some/prefix".parse().unwrap();
        assert_eq!(bucket.to_string(), "s3://bucket/some/prefix/");
        for bad in ["", " ", "s3://", "s3://B", "gs://bucket", "https://bucket"] {
            let error = bad.parse::<Site>().unwrap_err().to_string();
            assert!(error.contains("s3://bucket"), "{bad}: {error}");
        }
    }
}
