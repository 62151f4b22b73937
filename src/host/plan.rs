//! What a simulated host is to be like.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::faults::Faults;
use super::token::Credentials;
use crate::export::AppId;

/// How job answers are spelt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Shape {
    /// As today's servers answer.
    #[default]
    Full,
    /// Id, status, percentage and files; no totals, nothing else.
    Abridged,
    /// As servers before fragments: one file, whatever its size, and no totals.
    Older,
}

/// What a week without records comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Empty {
    /// No file, and totals of zero.
    #[default]
    NoFile,
    /// One file that holds `[]`.
    EmptyFile,
    /// No file, and no totals.
    NoTotals,
}

/// How many requests an app may make in rolling spans of time, both endpoints together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In 60 s.
    pub per_minute: u32,
    /// In 3,600 s.
    pub per_hour: u32,
}

impl Limits {
    /// What the vendor publishes for most of its APIs.
    pub const PUBLISHED: Self = Self {
        per_minute: 60,
        per_hour: 1_800,
    };
}

/// What a simulated host is to be like. The same plan gives the same host.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// The apps there are; `None`: any.
    pub apps: Option<BTreeSet<AppId>>,
    /// The one API client of all apps.
    pub credentials: Credentials,
    /// Whether a token is good only once (its `jti`).
    pub tokens_once: bool,
    /// How answers are spelt.
    pub shape: Shape,
    /// How many records a week has, of both kinds; each week has its own number within the range.
    pub records_per_week: RangeInclusive<u64>,
    /// How many weeks have none, in percent.
    pub empty_weeks: f64,
    /// What those come to.
    pub empty: Empty,
    /// How many records go into one file.
    pub records_per_fragment: u64,
    /// The size of search records in bytes.
    pub record_bytes: RangeInclusive<u64>,
    /// How long a job takes before its first file.
    pub job_time: Duration,
    /// How long each of its files takes.
    pub fragment_time: Duration,
    /// How often the API may be asked; `None`: without limit.
    pub limits: Option<Limits>,
    /// How long a link to a file works after the look that gave it.
    pub link_lifetime: Duration,
    /// How long a job and its files are kept after its start.
    pub job_lifetime: Duration,
    /// How long a file takes that arrives slowly ([`Fault::Drip`](super::faults::Fault::Drip)).
    pub drip_time: Duration,
    /// What goes wrong.
    pub faults: Faults,
}

impl Default for Plan {
    /// A healthy host with small weeks of one to three files, quick enough to watch.
    fn default() -> Self {
        Self {
            seed: 1,
            apps: None,
            credentials: Credentials {
                client_id: "cs-demo".to_owned(),
                client_secret: "demo-secret".into(),
            },
            tokens_once: true,
            shape: Shape::Full,
            records_per_week: 100..=400,
            empty_weeks: 0.0,
            empty: Empty::NoFile,
            records_per_fragment: 150,
            record_bytes: 2_048..=8_192,
            job_time: Duration::from_millis(200),
            fragment_time: Duration::from_secs(1),
            limits: Some(Limits::PUBLISHED),
            link_lifetime: Duration::from_mins(15),
            job_lifetime: Duration::from_hours(7 * 24),
            drip_time: Duration::from_secs(3),
            faults: Faults::none(),
        }
    }
}
