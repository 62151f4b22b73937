//! What passes between the stages: small, versioned, without secrets and without URLs.
//!
//! A message is data from outside: every field is checked when it is read.

use serde::{Deserialize, Serialize};

use crate::archive::ETag;
use crate::export::{AppId, Event, Export, Invalid, JobId, Time, Week, text_newtype};

/// The version that is written. The version before it is read as well, from the second one on, so
/// that a deploy kills no chain.
const VERSION: u32 = 1;

/// Three jobs a chain: one, and two more for what passes.
pub const MOST_ATTEMPTS: u32 = 3;

/// The message loop's own bound. Pauses are such that a deadline of a few days comes first.
pub const MOST_HOPS: u32 = 2_000;

/// The most fragments of one job, so that a manifest and a message stay small.
pub const MOST_FRAGMENTS: u32 = crate::kore::job::MOST_FILES;

text_newtype!(
    /// The messages that carry one export from its first to its end have one of these in common.
    ChainId,
    "a chain's id",
    "1 to 64 letters, digits and '-'",
    |text| (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
);

/// One message of a chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// What is being archived.
    pub export: Export,
    /// Whose messages these are.
    pub chain: ChainId,
    /// How many jobs the chain has started, the one under way included.
    pub attempt: u32,
    /// How many messages the chain has sent: the fence against duplicates and the loop's bound.
    pub hop: u32,
    /// When the chain first started a job; the deadline counts from here.
    pub first_start: Option<Time>,
    /// Before this it is only delayed again.
    pub not_before: Option<Time>,
    /// How often in a row the archive did not answer; sets the backoff.
    pub weathered: u32,
    /// The version of the manifest to replace; `None` for a week that is missing.
    pub base: Option<ETag>,
    /// What is to be done.
    pub work: Work,
}

/// The stage that a message is for, and what it needs to know.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Start a job.
    Start,
    /// Look at the job.
    Look(Looking),
    /// Copy a run of fragments.
    Copy(Slice),
}

/// What the looks so far have shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Looking {
    /// The job.
    pub id: JobId,
    /// When it was started.
    pub started_at: Time,
    /// How many looks it has had.
    pub looks: u32,
    /// The last percentage that it told.
    pub percent: Option<f64>,
    /// When that last moved.
    pub moved_at: Time,
    /// How many looks in a row gave an answer that cannot be acted on (no files, too few, no sense).
    pub puzzled: u32,
    /// How many looks in a row got no answer.
    pub unanswered: u32,
}

/// A run of fragments of one job, the work of one copy message.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// The job that made them.
    pub job: JobId,
    /// How many fragments the job has in all.
    pub of: u32,
    /// Those of this slice.
    pub fragments: Vec<Fragment>,
    /// Runs in a row that ended at the time limit without one finished fragment.
    pub fruitless: u32,
    /// Runs in a row that met trouble which passes; sets the backoff.
    pub troubled: u32,
}

/// One fragment, by its place and the vendor's name for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fragment {
    /// Counted from 1.
    pub number: u32,
    /// The vendor's id of the file.
    pub file_id: String,
}

/// The stage, on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stage {
    Poll,
    Copy,
}

/// The message, on the wire: one flat envelope.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wire {
    version: u32,
    stage: Stage,
    app: AppId,
    event: Event,
    week: Week,
    chain: ChainId,
    attempt: u32,
    hop: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_start: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<Time>,
    #[serde(default, skip_serializing_if = "is_zero")]
    weathered: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<ETag>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    job: Option<Looking>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slice: Option<WireSlice>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireSlice {
    job: JobId,
    of: u32,
    fragments: Vec<Fragment>,
    #[serde(default)]
    fruitless: u32,
    #[serde(default)]
    troubled: u32,
}

/// Why a body is not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Not JSON, or not of the message's shape.
    #[error("not a message of this system: {0}")]
    Shape(String),
    /// Of a version that this code does not read.
    #[error("a message of version {0}; this code reads version {VERSION}")]
    Version(u64),
    /// A field is out of its range.
    #[error("not a message of this system: {0}")]
    Range(#[from] Invalid),
}

impl Message {
    /// The first message of a chain.
    pub fn start(export: Export, chain: ChainId, base: Option<ETag>) -> Self {
        Self {
            export,
            chain,
            attempt: 0,
            hop: 0,
            first_start: None,
            not_before: None,
            weathered: 0,
            base,
            work: Work::Start,
        }
    }

    /// The next message of the chain.
    #[must_use]
    pub fn with(&self, work: Work) -> Self {
        Self {
            hop: self.hop + 1,
            not_before: None,
            weathered: 0,
            work,
            ..self.clone()
        }
    }

    /// The body that is sent.
    pub fn to_json(&self) -> String {
        let (stage, job, slice) = match &self.work {
            Work::Start => (Stage::Poll, None, None),
            Work::Look(looking) => (Stage::Poll, Some(looking.clone()), None),
            Work::Copy(slice) => (Stage::Copy, None, Some(WireSlice::from(slice.clone()))),
        };
        let wire = Wire {
            version: VERSION,
            stage,
            app: self.export.app.clone(),
            event: self.export.event,
            week: self.export.week,
            chain: self.chain.clone(),
            attempt: self.attempt,
            hop: self.hop,
            first_start: self.first_start,
            not_before: self.not_before,
            weathered: self.weathered,
            base: self.base.clone(),
            job,
            slice,
        };
        // Maps with text keys and finite numbers always serialise.
        serde_json::to_string(&wire).unwrap_or_default()
    }

    /// Reads a body.
    ///
    /// # Errors
    /// When it is not JSON, of another version, or a field is out of its range.
    pub fn from_json(body: &str) -> Result<Self, Unreadable> {
        let shape = |error: serde_json::Error| Unreadable::Shape(error.to_string());
        let value: serde_json::Value = serde_json::from_str(body).map_err(shape)?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            Some(other) => return Err(Unreadable::Version(other)),
            None => return Err(Unreadable::Shape("no version".to_owned())),
        }
        let wire: Wire = serde_json::from_value(value).map_err(shape)?;
        if wire.attempt > MOST_ATTEMPTS {
            let seen = wire.attempt.to_string();
            return Err(Invalid::new("attempt", "from 0 to 3", &seen).into());
        }
        if wire.hop > MOST_HOPS {
            return Err(Invalid::new("hop", "from 0 to 2000", &wire.hop.to_string()).into());
        }
        let work = match (wire.stage, wire.job, wire.slice) {
            (Stage::Poll, None, None) => Work::Start,
            (Stage::Poll, Some(looking), None) => Work::Look(looking.checked()?),
            (Stage::Copy, None, Some(slice)) => Work::Copy(slice.checked()?),
            (Stage::Poll, ..) => {
                return Err(Unreadable::Shape("a poll message has no slice".to_owned()));
            }
            (Stage::Copy, ..) => {
                return Err(Unreadable::Shape(
                    "a copy message has a slice and no job".to_owned(),
                ));
            }
        };
        Ok(Self {
            export: Export {
                app: wire.app,
                event: wire.event,
                week: wire.week,
            },
            chain: wire.chain,
            attempt: wire.attempt,
            hop: wire.hop,
            first_start: wire.first_start,
            not_before: wire.not_before,
            weathered: wire.weathered,
            base: wire.base,
            work,
        })
    }
}

impl Looking {
    fn checked(self) -> Result<Self, Invalid> {
        match self.percent {
            Some(percent) if !(0.0..=100.0).contains(&percent) => Err(Invalid::new(
                "percent",
                "from 0 to 100",
                &percent.to_string(),
            )),
            _ => Ok(self),
        }
    }
}

impl WireSlice {
    fn checked(self) -> Result<Slice, Invalid> {
        if !(1..=MOST_FRAGMENTS).contains(&self.of) {
            return Err(Invalid::new("of", "from 1 to 10000", &self.of.to_string()));
        }
        if self.fragments.is_empty() {
            return Err(Invalid::new("fragments", "at least one", "none"));
        }
        for (index, fragment) in self.fragments.iter().enumerate() {
            if !(1..=self.of).contains(&fragment.number) {
                let seen = format!("{} of {}", fragment.number, self.of);
                return Err(Invalid::new("a fragment's number", "from 1 to `of`", &seen));
            }
            let twice = |other: &Fragment| {
                other.number == fragment.number || other.file_id == fragment.file_id
            };
            if self.fragments[..index].iter().any(twice) {
                let seen = fragment.number.to_string();
                return Err(Invalid::new(
                    "fragments",
                    "distinct in number and file id",
                    &seen,
                ));
            }
        }
        Ok(Slice {
            job: self.job,
            of: self.of,
            fragments: self.fragments,
            fruitless: self.fruitless,
            troubled: self.troubled,
        })
    }
}

impl From<Slice> for WireSlice {
    fn from(slice: Slice) -> Self {
        Self {
            job: slice.job,
            of: slice.of,
            fragments: slice.fragments,
            fruitless: slice.fruitless,
            troubled: slice.troubled,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn start() -> Message {
        let export = Export {
            app: "st-1".parse().unwrap(),
            event: Event::ThumbsUp,
            week: "2025-01-20".parse().unwrap(),
        };
        Message::start(export, "c-1".parse().unwrap(), None)
    }

    fn at(text: &str) -> Time {
        text.parse().unwrap()
    }

    fn look() -> Message {
        let started_at = at("2025-01-27T06:00:00Z");
        Message {
            attempt: 1,
            hop: 4,
            first_start: Some(started_at),
            not_before: Some(at("2025-01-27T07:00:00Z")),
            weathered: 2,
            base: Some("e1".parse().unwrap()),
            work: Work::Look(Looking {
                id: "fj-1".parse().unwrap(),
                started_at,
                looks: 3,
                percent: Some(12.5),
                moved_at: at("2025-01-27T06:10:00Z"),
                puzzled: 1,
                unanswered: 2,
            }),
            ..start()
        }
    }

    fn copy() -> Message {
        let fragment = |(number, id): (u32, &str)| Fragment {
            number,
            file_id: id.to_owned(),
        };
        let slice = Slice {
            job: "fj-1".parse().unwrap(),
            of: 3,
            fragments: [(1, "a"), (3, "c")].map(fragment).to_vec(),
            fruitless: 1,
            troubled: 2,
        };
        start().with(Work::Copy(slice))
    }

    #[test]
    fn a_message_reads_back_as_it_was_written() {
        for message in [start(), look(), copy()] {
            let body = message.to_json();
            assert_eq!(Message::from_json(&body), Ok(message), "{body}");
        }
    }

    #[test]
    fn the_first_message_says_what_is_to_be_archived_and_no_more() {
        let seen: Value = serde_json::from_str(&start().to_json()).unwrap();
        let expected = json!({
            "version": 1, "stage": "poll", "app": "st-1", "event": "thumbsUp",
            "week": "2025-01-20", "chain": "c-1", "attempt": 0, "hop": 0,
        });
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_next_message_is_a_hop_on_due_at_once_and_otherwise_the_same() {
        let expected = Message {
            hop: 5,
            not_before: None,
            weathered: 0,
            work: Work::Start,
            ..look()
        };
        assert_eq!(look().with(Work::Start), expected);
    }

    /// How a message is read in which one value is another.
    fn read(message: &Message, pointer: &str, value: Value) -> Result<Message, Unreadable> {
        let mut wire: Value = serde_json::from_str(&message.to_json()).unwrap();
        *wire.pointer_mut(pointer).unwrap() = value;
        Message::from_json(&wire.to_string())
    }

    #[test]
    fn a_number_out_of_its_range_is_refused_by_name() {
        for (message, pointer, good, bad) in [
            (start(), "/attempt", json!(3), json!(4)),
            (start(), "/hop", json!(2_000), json!(2_001)),
            (look(), "/job/percent", json!(0.0), json!(-0.1)),
            (look(), "/job/percent", json!(100.0), json!(100.1)),
            (copy(), "/slice/of", json!(10_000), json!(10_001)),
            (copy(), "/slice/of", json!(3), json!(0)),
            (copy(), "/slice/fragments/1/number", json!(3), json!(4)),
            (copy(), "/slice/fragments/1/number", json!(2), json!(0)),
            // Distinct, in number and file id.
            (copy(), "/slice/fragments/1/number", json!(2), json!(1)),
            (copy(), "/slice/fragments/1/fileId", json!("b"), json!("a")),
            (
                copy(),
                "/slice/fragments",
                json!([{ "number": 2, "fileId": "b" }]),
                json!([]),
            ),
        ] {
            let read = |value: &Value| read(&message, pointer, value.clone());
            assert!(read(&good).is_ok(), "{pointer} {good}: {:?}", read(&good));
            let refused = matches!(read(&bad), Err(Unreadable::Range(_)));
            assert!(refused, "{pointer} {bad}: {:?}", read(&bad));
        }
    }

    #[test]
    fn a_message_of_another_version_or_shape_is_refused() {
        for version in [0, 2] {
            let seen = read(&start(), "/version", json!(version));
            assert_eq!(seen, Err(Unreadable::Version(version)));
        }
        for (message, pointer, value) in [
            (start(), "/version", json!(null)),
            (start(), "/stage", json!("copy")),
            (look(), "/stage", json!("copy")),
            (copy(), "/stage", json!("poll")),
            (copy(), "/slice/fragments/0", json!({ "number": 1 })),
        ] {
            let seen = read(&message, pointer, value.clone());
            let refused = matches!(seen, Err(Unreadable::Shape(_)));
            assert!(refused, "{pointer} {value}: {seen:?}");
        }
        assert!(matches!(
            Message::from_json("<html>"),
            Err(Unreadable::Shape(_))
        ));
    }
}
