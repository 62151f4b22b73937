//! What the simulated host answers, and how an answer misbehaves on its way.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::dice::{mix, within};
use super::records::{Fragment, Pieces};

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// The answer is sent.
    Sent,
    /// The connection closes without it.
    Lost,
    /// Nothing comes, and the connection stays open.
    Hanging,
    /// The body is followed by blanks without end.
    Endless,
}

/// An answer of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status; 0 where the connection closes without one.
    pub status: u16,
    /// Header names in lower case, and values.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
    /// Whether it arrives.
    pub conduct: Conduct,
}

const HTML: &str = "<!DOCTYPE html>\n<html><head><title>Just a moment…</title></head>\
    <body><h1>We are checking your connection</h1></body></html>\n";

impl Answer {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json; charset=utf-8".to_owned())],
            body: body.to_string().into(),
            conduct: Conduct::Sent,
        }
    }

    pub(crate) fn error(status: u16, message: &str) -> Self {
        Self::json(
            status,
            &json!({"errors": [{"msg": message, "code": status}]}),
        )
    }

    pub(crate) fn html() -> Self {
        Self {
            status: 200,
            headers: vec![("content-type", "text/html; charset=utf-8".to_owned())],
            body: Bytes::from_static(HTML.as_bytes()),
            conduct: Conduct::Sent,
        }
    }

    pub(crate) fn empty() -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: Bytes::new(),
            conduct: Conduct::Sent,
        }
    }

    pub(crate) fn lost() -> Self {
        Self {
            status: 0,
            conduct: Conduct::Lost,
            ..Self::empty()
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn conducted(self, conduct: Conduct) -> Self {
        Self { conduct, ..self }
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

fn header<'a>(headers: &'a [(&'static str, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find_map(|(key, value)| (*key == name).then_some(value.as_str()))
}

/// An answer of the file host.
#[derive(Debug)]
pub struct FileAnswer {
    /// HTTP status.
    pub status: u16,
    /// Header names in lower case, and values; none about length or encoding.
    pub headers: Vec<(&'static str, String)>,
    /// What follows.
    pub body: FileBody,
}

impl FileAnswer {
    pub(crate) fn ok(body: FileBody) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type", "application/json".to_owned())],
            body,
        }
    }

    pub(crate) fn of(answer: &Answer) -> Self {
        Self {
            status: answer.status,
            headers: answer.headers.clone(),
            body: FileBody::text(answer.body.clone()),
        }
    }

    pub(crate) fn refused(status: u16) -> Self {
        Self::of(&Answer::error(
            status,
            "The link is not valid or has expired",
        ))
    }

    pub(crate) fn redirect(location: String) -> Self {
        Self::of(&Answer {
            status: 302,
            ..Answer::empty().with("location", location)
        })
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

/// How a body's end is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By a Content-Length stated before.
    Length,
    /// By an empty chunk.
    Chunked,
    /// By the connection's end, so that nobody can tell a cut from it.
    UntilClosed,
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With its last byte.
    Whole,
    /// The connection closes after so many bytes.
    Cut(u64),
    /// Nothing more comes after so many bytes, and the connection stays open.
    Stalled(u64),
}

/// A file on its way out: an iterator over its bytes in pieces, and how they are to be sent. The
/// iterator itself ends where a cut or stalled body has its last byte.
#[derive(Debug)]
pub struct FileBody {
    source: Source,
    /// How long the whole body is.
    length: u64,
    /// How many bytes have been given out.
    sent: u64,
    /// The rest of a piece that was too long.
    held: Bytes,
    /// Comes after the source.
    suffix: Bytes,
    /// Whether it travels compressed; then its length is not stated.
    pub gzip: bool,
    /// How its end is told.
    pub framing: Framing,
    /// How it ends.
    pub end: End,
    /// How long to wait before each piece.
    pub pause: Duration,
    /// No piece is longer.
    longest_piece: usize,
}

#[derive(Debug)]
enum Source {
    Records(Box<Pieces>),
    Text(Bytes),
}

impl FileBody {
    pub(crate) fn new(fragment: Fragment) -> Self {
        let length = fragment.bytes();
        Self::from(Source::Records(Box::new(fragment.pieces())), length)
    }

    fn text(text: Bytes) -> Self {
        let length = text.len() as u64;
        Self::from(Source::Text(text), length)
    }

    fn from(source: Source, length: u64) -> Self {
        Self {
            source,
            length,
            sent: 0,
            held: Bytes::new(),
            suffix: Bytes::new(),
            gzip: false,
            framing: Framing::Length,
            end: End::Whole,
            pause: Duration::ZERO,
            longest_piece: usize::MAX,
        }
    }

    /// What Content-Length says, where it is there.
    pub fn announced(&self) -> Option<u64> {
        (self.framing == Framing::Length && !self.gzip).then_some(self.length)
    }

    /// A place before the last byte.
    pub(crate) fn somewhere(&self, number: u64) -> u64 {
        within(mix(number), 0, self.length.saturating_sub(1))
    }

    /// Makes it a file that HTTP has no complaint about and JSON has.
    pub(crate) fn damage(&mut self, number: u64) {
        if number.is_multiple_of(2) {
            self.length = self.somewhere(number);
        } else {
            self.suffix = Bytes::from_static(b"[]\n");
            self.length += self.suffix.len() as u64;
        }
    }

    /// Spreads it over about so long a time, whatever its length.
    pub(crate) fn drip(&mut self, time: Duration) {
        const PIECES: u32 = 15;
        self.pause = time / PIECES;
        let piece = self.length.div_ceil(u64::from(PIECES)).max(1);
        self.longest_piece = usize::try_from(piece).unwrap_or(usize::MAX);
    }

    /// The next bytes, whatever becomes of them.
    fn take(&mut self) -> Option<Bytes> {
        let take = |bytes: &mut Bytes| (!bytes.is_empty()).then(|| std::mem::take(bytes));
        take(&mut self.held)
            .or_else(|| match &mut self.source {
                Source::Records(pieces) => pieces.next(),
                Source::Text(text) => take(text),
            })
            .or_else(|| take(&mut self.suffix))
    }
}

impl Iterator for FileBody {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let last = match self.end {
            End::Whole => self.length,
            End::Cut(at) | End::Stalled(at) => at.min(self.length),
        };
        let left = usize::try_from(last - self.sent).unwrap_or(usize::MAX);
        if left == 0 {
            return None;
        }
        let mut piece = self.take()?;
        let longest = left.min(self.longest_piece);
        if piece.len() > longest {
            self.held = piece.split_off(longest);
        }
        self.sent += piece.len() as u64;
        Some(piece)
    }
}
