//! A job as the API tells of it: every documented shape, decoded at the edge.

use std::fmt;

use bytes::Bytes;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer as _};
use serde_json::value::RawValue;

use super::words;
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

    /// Blots out what makes the link a secret where it stands in bytes that came from its host, cut off at
    /// an end or whole: an error page may repeat what was asked for. The length stays.
    pub fn blot(&self, bytes: Bytes) -> Bytes {
        /// Shorter values are numbers and words that stand in any text.
        const SHORTEST: usize = 12;
        /// So much of a secret tells something, where the bytes end in the middle of it.
        const TELLING: usize = 4;
        let query = self.0.split_once('?').map_or("", |(_, query)| query);
        let decoded = percent_encoding::percent_decode_str(query).decode_utf8_lossy();
        // A value as it stands in the link, and as it is meant; and its letters, which are the same
        // however the signs between them are spelt.
        let sign = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.');
        let secrets = [query, &decoded]
            .into_iter()
            .flat_map(|text| text.split(['&', '=']).chain(text.split(sign)))
            .filter(|secret| secret.len() >= SHORTEST)
            .map(str::as_bytes);
        let mut blotted = Vec::from(bytes);
        for secret in secrets {
            let mut from = 0;
            while let Some(at) = find(&blotted[from..], secret) {
                blotted[from + at..][..secret.len()].fill(b'*');
                from += at + secret.len();
            }
            for cut in TELLING..secret.len() {
                let end = blotted.len().saturating_sub(cut);
                if blotted[end..] == secret[..cut] {
                    blotted[end..].fill(b'*');
                }
                if blotted.starts_with(&secret[secret.len() - cut..]) {
                    blotted[..cut].fill(b'*');
                }
            }
        }
        blotted.into()
    }
}

/// Where a text begins for the first time.
fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|part| part == text)
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

/// The most files of one job that are taken, so that what lists them (a manifest, the messages) stays
/// small: 1.5 million records at the vendor's default of 150 a file.
pub const MOST_FILES: u32 = 10_000;

/// The longest file id that is taken: it is kept in object metadata and in messages.
const LONGEST_FILE_ID: usize = 256;

/// The longest file name that is kept; a longer one tells nobody anything.
const LONGEST_FILE_NAME: usize = 1024;

/// The largest whole number that JSON carries without loss everywhere: 2^53 - 1.
const LARGEST_WHOLE: f64 = 9_007_199_254_740_991.0;

/// Why an answer is not one about a job: names the field, what was expected and what was seen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Undecodable(String);

impl Undecodable {
    fn field(name: &str, expected: &str, seen: &str) -> Self {
        let seen: String = words::fit(seen).chars().take(60).collect();
        Self(format!("{name} must be {expected}; got {seen}"))
    }
}

impl Job {
    /// Reads the answer to the start of a job.
    ///
    /// Types trade places in this API, so numbers may be strings and a field that is not needed may
    /// hold anything. Files and totals are read only where the job has succeeded: what a running or a
    /// failed job says of them is not acted on.
    ///
    /// # Errors
    /// When the body is not a JSON object, has no usable `_id`, or (on success) states files or
    /// numbers that cannot be.
    pub fn decode(body: &[u8]) -> Result<Self, Undecodable> {
        Self::read(body, None)
    }

    /// Reads the answer to a look at `asked`. An answer without an `_id` is about that job.
    ///
    /// # Errors
    /// As [`Job::decode`], and when the answer is about another job.
    pub fn decode_look(body: &[u8], asked: &JobId) -> Result<Self, Undecodable> {
        Self::read(body, Some(asked))
    }

    fn read(body: &[u8], asked: Option<&JobId>) -> Result<Self, Undecodable> {
        let wire: WireJob = object("the answer", body)?;
        let id = match (text(wire.id), asked) {
            (Some(id), _) => id.parse::<JobId>().map_err(|_| {
                Undecodable::field("_id", "a job id (letters, digits, - and _)", &id)
            })?,
            // With neither id nor status it is no job, such as an error with status 200.
            (None, Some(asked)) if wire.id.is_none() && wire.status.is_some() => asked.clone(),
            (None, _) => {
                let seen = wire.id.map_or("none", RawValue::get);
                return Err(Undecodable::field("_id", "a job id", seen));
            }
        };
        if let Some(asked) = asked.filter(|asked| **asked != id) {
            return Err(Undecodable::field("_id", asked.as_str(), id.as_str()));
        }
        let status = wire.status();
        let (files, totals) = if status == Status::Success {
            (wire.files(&id)?, wire.totals()?)
        } else {
            (Vec::new(), Totals::default())
        };
        Ok(Self {
            id,
            status,
            percent: wire.percentage_done.and_then(percent),
            created_on: text(wire.created_on)
                .filter(|time| time.len() <= 64 && time.bytes().all(|b| b.is_ascii_graphic())),
            files,
            totals,
        })
    }
}

/// The answer as it comes. Each field is kept as raw JSON until it is needed: an unknown or absurd
/// one then costs neither memory nor an error.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireJob<'a> {
    #[serde(borrow, rename = "_id")]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    percentage_done: Option<&'a RawValue>,
    #[serde(borrow)]
    timed_out: Option<&'a RawValue>,
    #[serde(borrow)]
    created_on: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    file_info: Option<&'a RawValue>,
    #[serde(borrow)]
    analytics_fragments: Option<&'a RawValue>,
    #[serde(borrow)]
    store: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireFile<'a> {
    #[serde(borrow)]
    file_id: Option<&'a RawValue>,
    #[serde(borrow)]
    file_name: Option<&'a RawValue>,
    #[serde(borrow)]
    file_url: Option<&'a RawValue>,
    #[serde(borrow)]
    record_count: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireStore<'a> {
    #[serde(borrow)]
    total_files: Option<&'a RawValue>,
    #[serde(borrow)]
    total_records: Option<&'a RawValue>,
}

impl WireJob<'_> {
    fn status(&self) -> Status {
        let status = text(self.status).unwrap_or_default();
        let word: String = status
            .chars()
            .filter(|c| !matches!(c, '_' | '-'))
            .flat_map(char::to_lowercase)
            .collect();
        let timed_out = text(self.timed_out).is_some_and(|text| text.eq_ignore_ascii_case("true"));
        match word.as_str() {
            "failed" | "failure" | "error" | "cancelled" | "canceled" | "aborted" | "timedout" => {
                Status::Failed(self.words(&status))
            }
            // Undocumented; read as "the server gave up", whatever the status says beside it.
            _ if timed_out => Status::Failed(self.words("timedOut")),
            "success" => Status::Success,
            _ => Status::Running,
        }
    }

    /// What the server says of a failure: its error, else its message, else the status alone.
    fn words(&self, status: &str) -> String {
        let said = self.error.and_then(|error| words::within(error.get()));
        let said = said.or_else(|| text(self.message));
        let said = words::fit(&said.unwrap_or_default());
        let status = words::fit(status);
        if said.is_empty() {
            status
        } else {
            format!("{status}: {said}")
        }
    }

    fn files(&self, job: &JobId) -> Result<Vec<File>, Undecodable> {
        let listed = match self.analytics_fragments {
            None => Vec::new(),
            Some(list) => bounded_list("analyticsFragments", list)?,
        };
        // A single file needs no name of its own: it is the job's.
        let fallback = (listed.len() <= 1).then_some(job);
        if !listed.is_empty() {
            return listed
                .iter()
                .enumerate()
                .map(|(index, entry)| {
                    let place = format!("analyticsFragments[{index}]");
                    let file = object(&place, entry.get().as_bytes())?;
                    read_file(&place, &file, fallback)
                })
                .collect();
        }
        let Some(info) = self.file_info else {
            return Ok(Vec::new());
        };
        let file: WireFile = object("fileInfo", info.get().as_bytes())?;
        if text(file.file_url).is_none() {
            return Ok(Vec::new());
        }
        Ok(vec![read_file("fileInfo", &file, fallback)?])
    }

    fn totals(&self) -> Result<Totals, Undecodable> {
        let Some(store) = self.store else {
            return Ok(Totals::default());
        };
        let store: WireStore = object("store", store.get().as_bytes())?;
        Ok(Totals {
            files: whole("store.totalFiles", store.total_files)?,
            records: whole("store.totalRecords", store.total_records)?,
        })
    }
}

fn read_file(place: &str, file: &WireFile, fallback: Option<&JobId>) -> Result<File, Undecodable> {
    let name = text(file.file_name).filter(|name| name.len() <= LONGEST_FILE_NAME);
    let id = text(file.file_id)
        .or_else(|| name.clone())
        .or_else(|| fallback.map(|job| job.as_str().to_owned()));
    let id = id.filter(|id| id.len() <= LONGEST_FILE_ID).ok_or_else(|| {
        let seen = file.file_id.map_or("none", RawValue::get);
        Undecodable::field(&format!("{place}.fileId"), "1 to 256 bytes", seen)
    })?;
    let url = text(file.file_url).ok_or_else(|| {
        // The kind only: the text might be half a signed link.
        let seen = if file.file_url.is_none() {
            "none"
        } else {
            "something else"
        };
        Undecodable::field(&format!("{place}.fileUrl"), "a link", seen)
    })?;
    Ok(File {
        id,
        name,
        url: FileUrl::new(url),
        records: whole(&format!("{place}.recordCount"), file.record_count)?,
    })
}

/// Reads an object's known fields. Serde would take an array for a struct; here that is an error.
fn object<'a, T: Deserialize<'a>>(place: &str, json: &'a [u8]) -> Result<T, Undecodable> {
    match json.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(json)
            .map_err(|error| Undecodable(format!("{place} is not the JSON of a job: {error}"))),
        seen => {
            let seen = match seen {
                None => "nothing",
                Some(b'<') => "markup, such as an HTML page",
                Some(b'[') => "an array",
                Some(_) => "something else",
            };
            Err(Undecodable::field(place, "a JSON object", seen))
        }
    }
}

/// A string that is not empty, or a number's or boolean's own text.
fn text(raw: Option<&RawValue>) -> Option<String> {
    let raw = raw?.get();
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str(raw)
            .ok()
            .filter(|text: &String| !text.is_empty()),
        b'{' | b'[' | b'n' => None,
        _ => Some(raw.to_owned()),
    }
}

/// A count, where there is one.
fn whole(name: &str, raw: Option<&RawValue>) -> Result<Option<u64>, Undecodable> {
    let Some(raw) = raw else { return Ok(None) };
    let number = text(Some(raw)).and_then(|text| text.trim().parse::<f64>().ok());
    match number {
        Some(number) if number.fract() == 0.0 && (0.0..=LARGEST_WHOLE).contains(&number) =>
        {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whole, not negative and below 2^53"
            )]
            Ok(Some(number as u64))
        }
        _ => Err(Undecodable::field(
            name,
            "a whole number from 0 to 2^53 - 1",
            raw.get(),
        )),
    }
}

/// A percentage; one outside 0 to 100 tells nothing.
fn percent(raw: &RawValue) -> Option<f64> {
    let number: f64 = text(Some(raw))?.trim().trim_end_matches('%').parse().ok()?;
    (0.0..=100.0).contains(&number).then_some(number)
}

/// A list's elements, and an error as soon as there are more than [`MOST_FILES`].
fn bounded_list<'a>(name: &str, raw: &'a RawValue) -> Result<Vec<&'a RawValue>, Undecodable> {
    struct Elements;
    impl<'de> Visitor<'de> for Elements {
        type Value = Vec<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut elements = Vec::new();
            while let Some(element) = list.next_element()? {
                if elements.len() == MOST_FILES as usize {
                    return Err(A::Error::custom("too many"));
                }
                elements.push(element);
            }
            Ok(elements)
        }
    }
    let text = raw.get();
    if !text.starts_with('[') {
        return Err(Undecodable::field(name, "a list", "something else"));
    }
    serde_json::Deserializer::from_str(text)
        .deserialize_seq(Elements)
        .map_err(|_| Undecodable::field(name, &format!("a list of at most {MOST_FILES}"), "more"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const ID: &str = "fj-2618a702-0211-50ca-8504-c1ac377a2402";

    macro_rules! fixture {
        ($name:literal) => {
            include_bytes!(concat!("../../tests/fixtures/kore/", $name, ".json"))
        };
    }

    fn sum(job: &Job) -> (usize, Option<u64>, Option<u64>, Option<u64>) {
        let records = job.files.iter().map(|file| file.records).sum();
        (
            job.files.len(),
            records,
            job.totals.files,
            job.totals.records,
        )
    }

    #[test]
    fn every_documented_shape_is_understood() {
        use Status::{Failed, Running, Success};
        const NOTHING: (usize, Option<u64>, Option<u64>, Option<u64>) = (0, Some(0), None, None);
        let failed = |words: &str| Failed(words.to_owned());
        let table: [(&[u8], Status, Option<f64>, _); 11] = [
            (fixture!("started"), Running, Some(0.0), NOTHING),
            (fixture!("started-abridged"), Running, Some(0.0), NOTHING),
            (fixture!("running"), Running, Some(33.333_333), NOTHING),
            (
                fixture!("success-one-file"),
                Success,
                Some(100.0),
                (1, Some(9), Some(1), Some(9)),
            ),
            (
                fixture!("success-several-files"),
                Success,
                Some(100.0),
                (3, Some(400), Some(3), Some(400)),
            ),
            (
                fixture!("success-older-server"),
                Success,
                Some(100.0),
                (1, None, None, None),
            ),
            (
                fixture!("success-older-server-nameless"),
                Success,
                Some(100.0),
                (1, None, None, None),
            ),
            (
                fixture!("success-no-files"),
                Success,
                Some(100.0),
                (0, Some(0), Some(0), Some(0)),
            ),
            (
                fixture!("success-types-traded"),
                Success,
                Some(100.0),
                (3, None, Some(3), Some(12)),
            ),
            (
                fixture!("failed"),
                failed("FAILED: Export worker lost"),
                Some(40.0),
                NOTHING,
            ),
            (
                fixture!("timed-out"),
                failed("timedOut: Exporting Analytics Data - JSON"),
                Some(60.0),
                NOTHING,
            ),
        ];
        for (body, status, percent, sums) in table {
            let shown = String::from_utf8_lossy(body);
            let job = Job::decode(body).unwrap();
            assert_eq!(job.id.as_str(), ID);
            assert_eq!(job.status, status, "{shown}");
            assert_eq!(job.percent, percent, "{shown}");
            assert_eq!(sum(&job), sums, "{shown}");
            assert_eq!(Job::decode_look(body, &job.id), Ok(job));
        }
    }

    #[test]
    fn files_keep_their_ids_names_and_links() {
        let job = Job::decode(fixture!("success-several-files")).unwrap();
        let second = &job.files[1];
        assert_eq!(second.id, "68622f60b1d5e3a9f0c7d412");
        assert_eq!(
            second.name.as_deref(),
            Some("analytics_data_1751266272195_part_2_of_3")
        );
        assert!(second.url.expose().ends_with("Ig%24%24"), "byte for byte");
        assert_eq!(job.created_on.as_deref(), Some("2025-06-30T06:51:12.140Z"));

        let job = Job::decode(fixture!("success-one-file")).unwrap();
        assert!(job.files[0].url.expose().ends_with("Ig$$"), "byte for byte");
        assert_eq!(
            format!("{:?}", job.files[0].url),
            "FileUrl(qa1-uxo.kore.ai/…)"
        );

        let job = Job::decode(fixture!("success-older-server-nameless")).unwrap();
        assert_eq!(
            job.files[0].id, ID,
            "a single file without a name is the job's"
        );

        let job = Job::decode(fixture!("success-types-traded")).unwrap();
        let ids: Vec<_> = job.files.iter().map(|file| file.id.as_str()).collect();
        assert_eq!(ids, ["42", "43", "third"]);
    }

    /// A success answer with one member changed to a JSON text, which may be absurd.
    fn with(path: &str, json: &str) -> Vec<u8> {
        let mut job: Value = serde_json::from_slice(fixture!("success-one-file")).unwrap();
        *job.pointer_mut(path).unwrap() = Value::from("@");
        job.to_string().replace(r#""@""#, json).into_bytes()
    }

    #[test]
    fn statuses_are_compared_by_their_letters_alone() {
        let failed = |words: &str| Status::Failed(words.to_owned());
        for (status, read) in [
            ("Success", Status::Success),
            ("IN_PROGRESS", Status::Running),
            ("in-progress", Status::Running),
            ("QUEUED", Status::Running),
            ("", Status::Running),
            ("failed", failed("failed: no luck")),
            ("Timed_Out", failed("Timed_Out: no luck")),
            ("CANCELLED", failed("CANCELLED: no luck")),
        ] {
            let body = format!(r#"{{"_id":"fj-1","status":{status:?},"error":["no luck"]}}"#);
            assert_eq!(Job::decode(body.as_bytes()).unwrap().status, read);
        }
        for body in [r#"{"_id":"fj-1"}"#, r#"{"_id":"fj-1","status":null}"#] {
            assert_eq!(
                Job::decode(body.as_bytes()).unwrap().status,
                Status::Running
            );
        }
    }

    #[test]
    fn the_words_of_a_failure_are_found_and_hold_no_signature() {
        for (error, words) in [
            ("null", "FAILED: Exporting"),
            ("[]", "FAILED: Exporting"),
            (r#""out of memory""#, "FAILED: out of memory"),
            (r#"{"errors":[{"msg":"deep","code":1}]}"#, "FAILED: deep"),
            (r#"{"code":17}"#, r#"FAILED: {"code":17}"#),
            (
                r#""no https://h/f?s=secret here""#,
                "FAILED: no https://h/f?… here",
            ),
        ] {
            let body = format!(
                r#"{{"_id":"fj-1","status":"FAILED","message":"Exporting","error":{error}}}"#
            );
            let status = Job::decode(body.as_bytes()).unwrap().status;
            assert_eq!(status, Status::Failed(words.to_owned()));
        }
    }

    #[test]
    fn absurd_percentages_tell_nothing() {
        for value in [
            "-1", "101", "1e300", r#""NaN""#, r#""inf""#, "[]", "null", r#""""#,
        ] {
            let job = Job::decode(&with("/percentageDone", value)).unwrap();
            assert_eq!(job.percent, None, "{value}");
        }
        let job = Job::decode(&with("/percentageDone", r#""12.5""#)).unwrap();
        assert_eq!(job.percent, Some(12.5));
    }

    #[test]
    fn what_cannot_be_is_refused_and_named() {
        for (path, value, named) in [
            ("/_id", "null", "_id must be a job id; got none"),
            ("/_id", r#""../etc""#, "_id must be a job id"),
            ("/_id", "{}", "_id must be a job id; got {}"),
            (
                "/store/totalFiles",
                "-1",
                "store.totalFiles must be a whole number from 0 to 2^53 - 1; got -1",
            ),
            ("/store/totalRecords", "0.5", "store.totalRecords must be"),
            (
                "/store/totalRecords",
                "9007199254740993",
                "store.totalRecords must be",
            ),
            ("/store/totalRecords", "1e400", "got 1e400"),
            ("/store", "[1]", "store must be a JSON object"),
            (
                "/analyticsFragments/0/recordCount",
                "-9",
                "analyticsFragments[0].recordCount must be",
            ),
            (
                "/analyticsFragments/0/recordCount",
                r#""many""#,
                "got \"many\"",
            ),
            ("/analyticsFragments/0/recordCount", "true", "got true"),
            (
                "/analyticsFragments/0/fileUrl",
                "null",
                "analyticsFragments[0].fileUrl must be a link",
            ),
            (
                "/analyticsFragments/0",
                "[]",
                "analyticsFragments[0] must be a JSON object",
            ),
            (
                "/analyticsFragments",
                r#"{"a":1}"#,
                "analyticsFragments must be a list",
            ),
        ] {
            let error = Job::decode(&with(path, value)).unwrap_err().to_string();
            assert!(error.contains(named), "{path} {value}: {error}");
        }
        let nameless = r#"{"fileUrl":"https://h.kore.ai/f?s=secret"}"#;
        let error = Job::decode(&with(
            "/analyticsFragments",
            &format!("[{nameless},{nameless}]"),
        ));
        let error = error.unwrap_err().to_string();
        assert_eq!(
            error,
            "analyticsFragments[0].fileId must be 1 to 256 bytes; got none"
        );
    }

    #[test]
    fn more_files_than_can_be_kept_are_refused() {
        let list = |count: u32| {
            let files: Vec<_> = (0..count)
                .map(|n| format!(r#"{{"fileId":{n},"fileUrl":"u"}}"#))
                .collect();
            Job::decode(&with(
                "/analyticsFragments",
                &format!("[{}]", files.join(",")),
            ))
        };
        assert_eq!(list(MOST_FILES).unwrap().files.len(), 10_000);
        let error = list(MOST_FILES + 1).unwrap_err().to_string();
        assert_eq!(
            error,
            "analyticsFragments must be a list of at most 10000; got more"
        );
    }

    #[test]
    fn an_answer_that_is_no_job_is_refused() {
        for (body, named) in [
            ("", "must be a JSON object; got nothing"),
            ("<!doctype html><p>sign in", "got markup"),
            ("[]", "got an array"),
            ("null", "got something else"),
            (r#"{"_id":"fj-1""#, "EOF"),
            (
                r#"{"errors":[{"msg":"Invalid SDK credentials","code":4002}]}"#,
                "_id must be",
            ),
        ] {
            for error in [
                Job::decode(body.as_bytes()),
                Job::decode_look(body.as_bytes(), &"fj-1".parse().unwrap()),
            ] {
                let error = error.unwrap_err().to_string();
                assert!(error.contains(named), "{body}: {error}");
            }
        }
        let deep = format!(r#"{{"_id":"fj-1","x":{}"#, "[".repeat(1_000_000));
        assert!(Job::decode(deep.as_bytes()).is_err());
    }

    #[test]
    fn an_answer_to_a_look_is_about_the_job_that_was_asked_for() {
        let asked: JobId = "fj-1".parse().unwrap();
        let look = |body: &str| Job::decode_look(body.as_bytes(), &asked);
        assert_eq!(look(r#"{"status":"INPROGRESS"}"#).unwrap().id, asked);
        let error = look(r#"{"_id":"fj-2","status":"SUCCESS"}"#)
            .unwrap_err()
            .to_string();
        assert_eq!(error, "_id must be fj-1; got fj-2");
    }

    #[test]
    fn a_page_that_repeats_a_link_keeps_nothing_of_its_signature() {
        let signature = "c2lnbmF0dXJlLW9mLWEtbGluaw";
        for end in ["$$", "%24%24", ""] {
            let url = FileUrl::new(format!(
                "https://h.kore.ai/f.json?n=12&e=1753869600&s={signature}{end}"
            ));
            let page = format!("<a href='/f.json?n=12&amp;e=1&amp;s={signature}{end}'>{signature}");
            let kept = url.blot(Bytes::from(page.clone()));
            let stars = |text: &str| "*".repeat(text.len());
            let value = format!("{signature}{end}");
            let blotted = page.replace(&value, &stars(&value));
            assert_eq!(kept, blotted.replace(signature, &stars(signature)));
            for cut in 4..signature.len() {
                let page = format!("{}<a>{}", &signature[cut..], &signature[..cut]);
                let kept = url.blot(Bytes::from(page.clone()));
                let tail = if signature.len() - cut < 4 {
                    &page[..signature.len() - cut]
                } else {
                    ""
                };
                let stars = "*".repeat(signature.len() - cut - tail.len());
                assert_eq!(
                    kept,
                    format!("{stars}{tail}<a>{}", "*".repeat(cut)),
                    "{cut}"
                );
            }
        }
        // A signature as it stands in the link, and as it is meant, however short its parts are.
        let url = FileUrl::new("https://h/f?e=1&s=c2lnbmF0%2BdXJl%2Fb2YK3d%3D%3D");
        for (value, padding) in [
            ("c2lnbmF0%2BdXJl%2Fb2YK3d%3D%3D", ""),
            ("c2lnbmF0+dXJl/b2YK3d", "=="),
        ] {
            let page = format!("s={value}{padding}.");
            let kept = format!("s={}{padding}.", "*".repeat(value.len()));
            assert_eq!(url.blot(Bytes::from(page)), kept);
        }
        let plain = Bytes::from_static(b"<html>please sign in</html>");
        assert_eq!(FileUrl::new("https://h/f").blot(plain.clone()), plain);
    }
}
