//! One fragment on its way into the archive: bytes are counted, hashed and uploaded as they arrive,
//! and nothing is visible before it is verified.

use std::iter;
use std::mem;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use futures_util::future::join;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::{Instant, sleep, timeout_at};

use super::commit::hex;
use super::{Budget, Edges, Report, pace};
use crate::archive::key::{Key, Part};
use crate::archive::receipt::{self, Receipt};
use crate::archive::{About, Archive, ArchiveError, Crc64, Created, Download as _, Upload};
use crate::export::{Export, JobId};
use crate::kore::job::File;
use crate::kore::{Download, FileError, Kore};
use crate::records::{Counter, NotJson};

/// How often a download that breaks is tried within one run.
const MOST_BREAKS: u32 = 3;
/// A pause longer than this is spent in the queue, not in a running function.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often a file is read through whose count is another each time.
const MOST_PASSES: u32 = 5;
/// How many bytes are counted, hashed and copied one after the other while they are in the processor's
/// nearest cache.
const PIECE: usize = 16 * 1024;

/// One fragment to be copied.
pub(super) struct Source<'a> {
    /// What is being archived.
    pub export: &'a Export,
    /// The job that made it.
    pub job: &'a JobId,
    /// Its place in the job.
    pub part: Part,
    /// Where it is, and what the vendor says of it.
    pub file: &'a File,
    /// When a run that has a limit cuts off what has not arrived.
    pub cut: Option<Instant>,
}

/// How one fragment's copy ended.
pub(super) enum Ended {
    /// It stands in the archive and has its receipt.
    Stands(Receipt),
    /// Again later: the download or the archive fails in a way that passes.
    Troubled {
        why: String,
        retry_after: Option<Duration>,
    },
    /// The link does not work, or serves something else: a fresh look, then a new job.
    LinkRefused(String),
    /// This job's files cannot be archived under their keys.
    NewJob(String),
    /// Files may not come from there: a person is needed.
    Forbidden(String),
    /// The run's time is over.
    OutOfTime,
}

/// What is known of bytes that have been read to their end.
struct Facts {
    records: u64,
    bytes: u64,
    sha256: String,
    crc64nvme: Crc64,
}

/// How one pass over the file ended.
enum Pass {
    /// It stands, just written.
    Stored(Facts),
    /// Something stood at its key already.
    Exists,
    /// Well-formed with so many records, and not stored: another number was expected, or none was
    /// known for a file too large to be held.
    Counted(u64),
    /// Not a JSON array: why, and the part that shows it, so far as it was read, with the offset of its
    /// first byte.
    NotRecords {
        why: NotJson,
        sample: Bytes,
        offset: u64,
    },
    /// The file host or the link failed.
    Failed(FileError),
    /// The archive failed in a way that passes.
    Troubled(String),
    /// The run's time is over.
    OutOfTime,
}

/// Counts and hashes bytes as they pass.
struct Sums {
    counter: Counter,
    sha256: digest::Context,
    crc64nvme: crc_fast::Digest,
    /// The same of the bytes since the last [`cut`](Self::cut).
    part: crc_fast::Digest,
    bytes: u64,
}

impl Sums {
    fn new() -> Self {
        let crc64nvme = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
        Self {
            counter: Counter::new(),
            sha256: digest::Context::new(&digest::SHA256),
            crc64nvme,
            part: crc64nvme,
            bytes: 0,
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), NotJson> {
        self.counter.feed(bytes)?;
        self.sha256.update(bytes);
        self.crc64nvme.update(bytes);
        self.part.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// A part ends here: its checksum.
    fn cut(&mut self) -> Crc64 {
        Crc64(self.part.finalize_reset())
    }

    fn finish(self) -> Result<Facts, NotJson> {
        Ok(Facts {
            records: self.counter.finish()?,
            bytes: self.bytes,
            sha256: hex(self.sha256.finish().as_ref()),
            crc64nvme: Crc64(self.crc64nvme.finalize()),
        })
    }
}

/// A download that is tallied and cut into parts.
struct Reader<'a, E, D> {
    edges: &'a E,
    source: &'a Source<'a>,
    body: D,
    sums: Sums,
    /// What came beyond the part that was filled last.
    rest: Bytes,
    ended: bool,
}

impl<E: Edges, D: Download> Reader<'_, E, D> {
    /// Fills the part, and learns whether the file ends with it.
    async fn fill(&mut self, part: &mut BytesMut) -> Result<(), Pass> {
        let whole = self.edges.budget().part_bytes;
        loop {
            let room = whole - part.len();
            let arrived = self.rest.split_to(room.min(self.rest.len()));
            for piece in arrived.chunks(PIECE) {
                if let Err(why) = self.sums.feed(piece) {
                    let offset = self.sums.bytes - part.len() as u64;
                    part.extend_from_slice(piece);
                    let sample = without_links(self.source, &self.body, mem::take(part).freeze());
                    return Err(Pass::NotRecords {
                        why,
                        sample,
                        offset,
                    });
                }
                part.extend_from_slice(piece);
            }
            if self.ended || !self.rest.is_empty() {
                return Ok(());
            }
            let next = match self.source.cut {
                None => self.body.chunk().await,
                Some(cut) => match timeout_at(cut, self.body.chunk()).await {
                    Ok(next) => next,
                    Err(_) => return Err(Pass::OutOfTime),
                },
            };
            match next.map_err(Pass::Failed)? {
                None => self.ended = true,
                Some(bytes) => {
                    let arrived = Report::Arrived {
                        bytes: bytes.len() as u64,
                    };
                    self.edges.report(self.source.export, arrived);
                    self.rest = bytes;
                }
            }
        }
    }

    /// What was read, once all of it was.
    fn facts(self, last: &[u8]) -> Result<Facts, Pass> {
        let read = self.sums.bytes;
        if let Some(announced) = self.body.announced().filter(|announced| *announced != read) {
            return Err(Pass::Failed(FileError::Broken {
                detail: format!("{announced} bytes were announced, {read} came"),
                retry_after: None,
            }));
        }
        let Self {
            body, source, sums, ..
        } = self;
        sums.finish().map_err(|why| Pass::NotRecords {
            why,
            sample: without_links(source, &body, Bytes::copy_from_slice(last)),
            offset: read - last.len() as u64,
        })
    }
}

/// What came instead of a file, without the signatures of the links that led to it.
fn without_links(source: &Source<'_>, body: &impl Download, bytes: Bytes) -> Bytes {
    let links = iter::once(&source.file.url).chain(body.redirects());
    links.fold(bytes, |bytes, link| link.blot(bytes))
}

/// Copies one fragment, and writes its receipt.
///
/// # Errors
/// When the archive refuses.
pub(super) async fn copy<E: Edges>(edges: &E, source: &Source<'_>) -> Result<Ended, ArchiveError> {
    let began = Instant::now();
    let mut breaks = 0;
    let mut bad = 0;
    let mut seen = None;
    let mut agreed = None;
    let mut passes = 0;
    let facts = loop {
        match pass(edges, source, agreed).await? {
            Pass::Stored(facts) => break facts,
            Pass::Exists => match standing(edges, source).await? {
                Ok(facts) => break facts,
                Err(ended) => return Ok(ended),
            },
            Pass::Counted(records) => {
                passes += 1;
                if passes >= MOST_PASSES {
                    let why = "each download of the file holds another number of records";
                    return Ok(troubled(why.to_owned(), None));
                }
                // Against the vendor's word, a count must come out twice before it is expected of the
                // third pass; without its word, once.
                if source.file.records.is_none() || seen == Some(records) {
                    agreed = Some(records);
                }
                seen = Some(records);
            }
            Pass::NotRecords {
                why,
                sample,
                offset,
            } => {
                bad += 1;
                if bad >= 2 {
                    quarantine(edges, source, &why, sample, offset).await?;
                    return Ok(Ended::LinkRefused(why.to_string()));
                }
            }
            Pass::Failed(FileError::Broken {
                detail,
                retry_after,
            }) => {
                breaks += 1;
                let pause = retry_after
                    .unwrap_or_else(|| pace::backoff(breaks - 1, edges.random()).mul_f64(0.2));
                if breaks >= MOST_BREAKS || pause > LONGEST_PAUSE {
                    return Ok(troubled(detail, retry_after));
                }
                sleep(pause).await;
            }
            Pass::Failed(error @ FileError::Refused { .. }) => {
                return Ok(Ended::LinkRefused(error.to_string()));
            }
            Pass::Failed(FileError::Forbidden(why)) => return Ok(Ended::Forbidden(why)),
            Pass::Troubled(why) => return Ok(troubled(why, None)),
            Pass::OutOfTime => return Ok(Ended::OutOfTime),
        }
        if source.cut.is_some_and(|cut| Instant::now() >= cut) {
            return Ok(Ended::OutOfTime);
        }
    };
    let receipt = match write_receipt(edges, source, facts).await {
        Ok(receipt) => receipt,
        Err(ArchiveError::Unavailable { key, detail }) => {
            return Ok(troubled(format!("{key}: {detail}"), None));
        }
        Err(error) => return Err(error),
    };
    let copied = Report::Copied {
        number: source.part.number(),
        of: source.part.of(),
        bytes: receipt.bytes,
        records: receipt.records,
        took: began.elapsed(),
    };
    edges.report(source.export, copied);
    Ok(Ended::Stands(receipt))
}

fn troubled(why: String, retry_after: Option<Duration>) -> Ended {
    Ended::Troubled { why, retry_after }
}

/// Reads the file through once, and stores it where its count is as expected: as the vendor said, or
/// as the passes before `agreed`.
async fn pass<E: Edges>(
    edges: &E,
    source: &Source<'_>,
    agreed: Option<u64>,
) -> Result<Pass, ArchiveError> {
    let opened = match source.cut {
        None => edges.kore().open(&source.file.url).await,
        Some(cut) => match timeout_at(cut, edges.kore().open(&source.file.url)).await {
            Ok(opened) => opened,
            Err(_) => return Ok(Pass::OutOfTime),
        },
    };
    let body = match opened {
        Ok(body) => body,
        Err(error) => return Ok(Pass::Failed(error)),
    };
    let length = body
        .announced()
        .and_then(|length| usize::try_from(length).ok());
    let budget = edges.budget();
    let mut part = budget.part(length.unwrap_or(0).min(budget.part_bytes));
    let mut reader = Reader {
        edges,
        source,
        body,
        sums: Sums::new(),
        rest: Bytes::new(),
        ended: false,
    };
    let passed = async {
        reader.fill(&mut part).await?;
        if reader.ended {
            let facts = reader.facts(&part)?;
            let bytes = part.freeze();
            let stored = store_small(edges, source, agreed, facts, bytes.clone()).await;
            budget.reuse(bytes);
            return stored;
        }
        if let Some(expected) = agreed.or(source.file.records) {
            return store_large(edges, source, expected, reader, part).await;
        }
        while !reader.ended {
            part.clear();
            reader.fill(&mut part).await?;
        }
        Ok(Pass::Counted(reader.facts(&part)?.records))
    };
    match passed.await {
        Ok(pass) | Err(Interrupted::Pass(pass)) => Ok(pass),
        Err(Interrupted::Archive(ArchiveError::Unavailable { key, detail })) => {
            Ok(Pass::Troubled(format!("{key}: {detail}")))
        }
        Err(Interrupted::Archive(error)) => Err(error),
    }
}

/// Why a pass ended early.
enum Interrupted {
    Pass(Pass),
    Archive(ArchiveError),
}

impl From<Pass> for Interrupted {
    fn from(pass: Pass) -> Self {
        Self::Pass(pass)
    }
}

impl From<ArchiveError> for Interrupted {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

/// A file of one part: counted already, put in one request.
async fn store_small<E: Edges>(
    edges: &E,
    source: &Source<'_>,
    agreed: Option<u64>,
    facts: Facts,
    bytes: Bytes,
) -> Result<Pass, Interrupted> {
    let declared = source.file.records;
    let as_expected = declared.is_none_or(|records| records == facts.records);
    if !as_expected && agreed != Some(facts.records) {
        return Ok(Pass::Counted(facts.records));
    }
    let mut about = about(source, facts.records);
    about.crc64nvme = Some(facts.crc64nvme);
    let key = Key::data(source.export, source.job, source.part);
    match edges.archive().create(&key, bytes, &about).await? {
        Created::Written(_) => Ok(Pass::Stored(facts)),
        Created::Exists => Ok(Pass::Exists),
    }
}

/// A file of several parts: uploaded as it arrives, completed only if its count is as expected.
async fn store_large<E: Edges, D: Download>(
    edges: &E,
    source: &Source<'_>,
    expected: u64,
    reader: Reader<'_, E, D>,
    first: BytesMut,
) -> Result<Pass, Interrupted> {
    let key = Key::data(source.export, source.job, source.part);
    let mut upload = edges
        .archive()
        .begin(&key, &about(source, expected))
        .await?;
    let streamed = stream(edges, expected, reader, first, &mut upload).await;
    if let Ok(Pass::Stored(_)) = streamed {
        return streamed;
    }
    // On every other path: nothing may remain of it. After an unknown outcome, look whether it is
    // there, before and after.
    let unknown = matches!(streamed, Err(Interrupted::Archive(_)));
    if unknown && edges.archive().head(&key).await?.is_some() {
        return Ok(Pass::Exists);
    }
    if let Err(error) = upload.abort().await {
        let export = source.export;
        tracing::warn!(%export, %error, "an unfinished upload of {export} could not be aborted");
    }
    if unknown && edges.archive().head(&key).await?.is_some() {
        return Ok(Pass::Exists);
    }
    streamed
}

/// Moves the parts, reading ahead while one is uploaded where the budget has room.
async fn stream<E: Edges, D: Download>(
    edges: &E,
    expected: u64,
    mut reader: Reader<'_, E, D>,
    first: BytesMut,
    upload: &mut <E::Archive as Archive>::Upload,
) -> Result<Pass, Interrupted> {
    let budget = edges.budget();
    let mut part = first;
    while !reader.ended {
        let full = mem::take(&mut part);
        let writing = write(budget, upload, full, reader.sums.cut());
        if let Ok(_room) = budget.parts.try_acquire() {
            part = budget.part(budget.part_bytes);
            let (written, filled) = join(writing, reader.fill(&mut part)).await;
            written?;
            filled?;
        } else {
            writing.await?;
            part = budget.part(budget.part_bytes);
            reader.fill(&mut part).await?;
        }
    }
    let crc64nvme = reader.sums.cut();
    let facts = reader.facts(&part)?;
    if facts.records != expected {
        return Ok(Pass::Counted(facts.records));
    }
    write(budget, upload, part, crc64nvme).await?;
    match upload.finish(facts.crc64nvme).await? {
        Created::Written(_) => Ok(Pass::Stored(facts)),
        Created::Exists => Ok(Pass::Exists),
    }
}

/// Writes a part; its memory is free then.
async fn write(
    budget: &Budget,
    upload: &mut impl Upload,
    part: BytesMut,
    crc64nvme: Crc64,
) -> Result<(), ArchiveError> {
    let part = part.freeze();
    upload.write(part.clone(), crc64nvme).await?;
    budget.reuse(part);
    Ok(())
}

/// What stands beside a fragment's bytes.
fn about(source: &Source<'_>, records: u64) -> About {
    let Source {
        export,
        job,
        part,
        file,
        ..
    } = source;
    let window = export.week.window();
    About {
        metadata: vec![
            ("record-count", records.to_string()),
            ("file-id", encoded(&file.id)),
            ("job-id", job.to_string()),
            ("app-id", export.app.to_string()),
            ("event", export.event.to_string()),
            ("week", export.week.to_string()),
            ("window-from", window.from.to_string()),
            ("window-to", window.to.to_string()),
            ("fragment", format!("{}/{}", part.number(), part.of())),
        ],
        crc64nvme: None,
    }
}

/// A file id as metadata can hold it.
fn encoded(id: &str) -> String {
    // Ids as they are known pass unchanged.
    const KEPT: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~');
    utf8_percent_encode(id, KEPT).to_string()
}

/// Something stands at the fragment's key. If it is this file, the receipt describes what is stored.
async fn standing<E: Edges>(
    edges: &E,
    source: &Source<'_>,
) -> Result<Result<Facts, Ended>, ArchiveError> {
    let key = Key::data(source.export, source.job, source.part);
    let read = async {
        let Some(head) = edges.archive().head(&key).await? else {
            return Ok(Err(troubled(format!("{key}: there and not there"), None)));
        };
        let stored = head.metadata("file-id").unwrap_or_default();
        if stored != encoded(&source.file.id) {
            let why = format!("{key} holds another file ({stored})");
            return Ok(Err(Ended::NewJob(why)));
        }
        let Some(mut body) = edges.archive().open(&key).await? else {
            return Ok(Err(troubled(format!("{key}: there and not there"), None)));
        };
        let mut sums = Sums::new();
        while let Some(bytes) = body.chunk().await? {
            if let Err(why) = sums.feed(&bytes) {
                return Ok(Err(Ended::NewJob(format!("{key} is stored, but {why}"))));
            }
        }
        let facts = match sums.finish() {
            Ok(facts) => facts,
            Err(why) => return Ok(Err(Ended::NewJob(format!("{key} is stored, but {why}")))),
        };
        if facts.bytes != head.bytes
            || head.metadata("record-count") != Some(&facts.records.to_string())
        {
            let why = format!("{key} is not what its metadata says");
            return Ok(Err(Ended::NewJob(why)));
        }
        Ok(Ok(facts))
    };
    let read = match source.cut {
        None => read.await,
        Some(cut) => match timeout_at(cut, read).await {
            Ok(read) => read,
            Err(_) => return Ok(Err(Ended::OutOfTime)),
        },
    };
    match read {
        Err(ArchiveError::Unavailable { key, detail }) => {
            Ok(Err(troubled(format!("{key}: {detail}"), None)))
        }
        other => other,
    }
}

/// Writes the receipt, or reads the one that another run has written meanwhile.
async fn write_receipt<E: Edges>(
    edges: &E,
    source: &Source<'_>,
    facts: Facts,
) -> Result<Receipt, ArchiveError> {
    let key = Key::receipt(source.export, source.job, source.part);
    let receipt = Receipt {
        schema: receipt::SCHEMA.to_owned(),
        key: Key::data(source.export, source.job, source.part).to_string(),
        number: source.part.number(),
        of: source.part.of(),
        file_id: source.file.id.clone(),
        file_name: source.file.name.clone(),
        declared_records: source.file.records,
        records: facts.records,
        bytes: facts.bytes,
        sha256: facts.sha256,
        crc64nvme: facts.crc64nvme.to_string(),
        written_at: edges.now(),
    };
    let bytes = Bytes::from(receipt.to_json());
    let created = edges
        .archive()
        .create(&key, bytes, &About::default())
        .await?;
    if created == Created::Exists
        && let Some(stored) = edges.archive().get(&key).await?
        && let Ok(stored) = Receipt::read(&stored.bytes, source.export, source.job, source.part)
    {
        return Ok(stored);
    }
    Ok(receipt)
}

/// Puts what came instead of a fragment where a person finds it.
async fn quarantine<E: Edges>(
    edges: &E,
    source: &Source<'_>,
    why: &NotJson,
    sample: Bytes,
    offset: u64,
) -> Result<(), ArchiveError> {
    let key = Key::quarantine(source.export, source.job, source.part);
    let about = About {
        metadata: vec![
            ("file-id", encoded(&source.file.id)),
            ("reason", why.to_string()),
            ("offset", offset.to_string()),
        ],
        crc64nvme: None,
    };
    match edges.archive().create(&key, sample, &about).await {
        Ok(_) => {}
        Err(error @ ArchiveError::Refused { .. }) => return Err(error),
        Err(error) => {
            let export = source.export;
            tracing::warn!(%export, %error, "what came instead of a fragment of {export} could not be kept");
        }
    }
    let report = Report::Quarantined {
        key: key.to_string(),
        why: why.to_string(),
    };
    edges.report(source.export, report);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::Event;
    use crate::kore::job::FileUrl;

    #[test]
    fn a_file_id_is_told_as_it_is_where_metadata_can_hold_it_and_else_escaped() {
        for (id, expected) in [
            ("65f0c1a2-b3.c4_d5~e6", "65f0c1a2-b3.c4_d5~e6"),
            ("a/b c%", "a%2Fb%20c%25"),
            ("ü", "%C3%BC"),
        ] {
            assert_eq!(encoded(id), expected);
        }
    }

    #[test]
    fn what_stands_beside_a_fragment_says_whose_it_is() {
        let export = Export {
            app: "st-1".parse().unwrap(),
            event: Event::ThumbsUp,
            week: "2025-01-20".parse().unwrap(),
        };
        let file = File {
            id: "f 1".to_owned(),
            name: None,
            url: FileUrl::new("https://h/f"),
            records: None,
        };
        let source = Source {
            export: &export,
            job: &"fj-2".parse().unwrap(),
            part: Part::new(2, 3).unwrap(),
            file: &file,
            cut: None,
        };
        let about = about(&source, 7);
        let seen: Vec<_> = about
            .metadata
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let expected = [
            ("record-count", "7"),
            ("file-id", "f%201"),
            ("job-id", "fj-2"),
            ("app-id", "st-1"),
            ("event", "thumbsUp"),
            ("week", "2025-01-20"),
            ("window-from", "2025-01-20T00:00:00.000Z"),
            ("window-to", "2025-01-26T23:59:59.999Z"),
            ("fragment", "2/3"),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn bytes_are_counted_and_hashed_as_one_text_however_they_arrive() {
        for pieces in [&["[1, 2]"][..], &["[", "1, ", "", "2]"]] {
            let mut sums = Sums::new();
            for piece in pieces {
                sums.feed(piece.as_bytes()).unwrap();
            }
            let facts = sums.finish().unwrap();
            assert_eq!((facts.records, facts.bytes), (2, 6), "{pieces:?}");
            assert_eq!(
                facts.sha256, "3a316d6d3226f84c1e46e4447fa8d5fd800bff4a1bc6498152523cd4a602b69b",
                "{pieces:?}"
            );
            assert_eq!(facts.crc64nvme, Crc64::of(b"[1, 2]"), "{pieces:?}");
        }
        assert!(Sums::new().feed(&[b'x'; 64]).is_err());
    }

    #[test]
    fn each_part_has_its_own_checksum_and_the_whole_that_of_all() {
        for parts in [&["[1, 2]"][..], &["[1,", " 2]"], &["[1,", " 2", "]", ""]] {
            let mut sums = Sums::new();
            for part in parts {
                sums.feed(part.as_bytes()).unwrap();
                assert_eq!(sums.cut(), Crc64::of(part.as_bytes()), "{parts:?}");
            }
            let facts = sums.finish().unwrap();
            assert_eq!(facts.crc64nvme, Crc64::of(b"[1, 2]"), "{parts:?}");
        }
    }
}
