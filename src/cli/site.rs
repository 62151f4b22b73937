//! `--archive`: where the archive is.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::usage::Usage;
use crate::archive::folder::Folder;

/// Where an archive is, as written behind `--archive`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Site {
    /// A folder of this machine.
    Folder(PathBuf),
}

impl FromStr for Site {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::Folder(text.into()))
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
        }
    }
}

/// An archive that was opened. Code that is generic over `Archive` is called in each arm.
#[derive(Debug)]
pub enum Opened {
    /// A folder of this machine.
    Folder(Folder),
}

impl Site {
    /// Opens the archive for reading and writing.
    ///
    /// # Errors
    /// When it is not a place that can be written to: says what to do.
    pub async fn open(&self) -> Result<Opened, Usage> {
        match self {
            Self::Folder(path) => Folder::open(path).map(Opened::Folder).map_err(Usage::new),
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
        }
    }
}
