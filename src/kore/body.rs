//! The body of an answer as it comes: unpacked where it comes packed, and bounded.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use reqwest::Response;
use reqwest::header::CONTENT_ENCODING;

use super::words;

/// How much packed input is unpacked at once. It can grow a thousandfold: to 2 MiB, which is then the
/// most that a hostile body takes of memory.
const PIECE: usize = 2 * 1024;

/// Why a body cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// Cut, slow or malformed.
    #[error("{}", words::of_request(.0))]
    Broken(#[from] reqwest::Error),
    /// Packed in a way that was not asked for and is not understood.
    #[error("it comes packed as {0:?}, which was not asked for")]
    Packing(String),
    /// The packed stream is cut or corrupt.
    #[error("it cannot be unpacked: {0}")]
    Corrupt(#[from] io::Error),
    /// It is longer than what is taken.
    #[error("it has more than {0} bytes, and no more are taken")]
    TooLong(u64),
}

/// A body on its way in.
pub(super) struct Body {
    response: Response,
    announced: Option<u64>,
    /// Packed bytes that have come and are not unpacked yet, and what unpacks them.
    packed: Option<(Bytes, MultiGzDecoder<Vec<u8>>)>,
    received: u64,
    most: u64,
    /// It has ended, well or not, and must not be asked again.
    over: bool,
}

impl Body {
    /// Takes at most `announced` bytes where the length is told, else `unannounced`.
    pub(super) fn new(
        response: Response,
        announced: u64,
        unannounced: u64,
    ) -> Result<Self, BodyError> {
        let packed = match response.headers().get(CONTENT_ENCODING) {
            None => None,
            Some(packing) if packing == "identity" => None,
            Some(packing) if packing == "gzip" || packing == "x-gzip" => {
                Some((Bytes::new(), MultiGzDecoder::new(Vec::new())))
            }
            Some(other) => {
                let other = String::from_utf8_lossy(other.as_bytes());
                return Err(BodyError::Packing(words::fit(&other)));
            }
        };
        // The length of a packed body says nothing about what is in it.
        let length = response.content_length().filter(|_| packed.is_none());
        let most = length.map_or(unannounced, |_| announced);
        if length.is_some_and(|length| length > most) {
            return Err(BodyError::TooLong(most));
        }
        Ok(Self {
            response,
            announced: length,
            packed,
            received: 0,
            most,
            over: false,
        })
    }

    /// How many bytes will come, where that is known.
    pub(super) fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// The next bytes; `None` after the last. After an error there are none.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        if self.over {
            return Ok(None);
        }
        let chunk = self.next().await;
        match &chunk {
            Ok(Some(bytes)) => self.received += bytes.len() as u64,
            _ => self.over = true,
        }
        if self.received > self.most {
            self.over = true;
            return Err(BodyError::TooLong(self.most));
        }
        chunk
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        // The protocol's own library sees to it that a body is as long as was announced.
        let Some((input, unpacker)) = &mut self.packed else {
            return Ok(self.response.chunk().await?);
        };
        loop {
            let piece = input.split_to(input.len().min(PIECE));
            unpacker.write_all(&piece)?;
            if input.is_empty() {
                if let Some(more) = self.response.chunk().await? {
                    *input = more;
                } else {
                    unpacker.try_finish()?;
                    let last = std::mem::take(unpacker.get_mut());
                    self.packed = None;
                    return Ok(Some(last.into()).filter(|last: &Bytes| !last.is_empty()));
                }
            }
            let output = std::mem::take(unpacker.get_mut());
            if !output.is_empty() {
                return Ok(Some(output.into()));
            }
        }
    }

    /// The whole of it, or as much as is taken and why there is no more.
    pub(super) async fn whole(mut self) -> (Vec<u8>, Result<(), BodyError>) {
        let mut whole = Vec::new();
        loop {
            match self.chunk().await {
                Ok(Some(chunk)) => whole.extend_from_slice(&chunk),
                Ok(None) => return (whole, Ok(())),
                Err(error) => return (whole, Err(error)),
            }
        }
    }
}
