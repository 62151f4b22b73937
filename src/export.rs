//! What is archived: an app's events, week by week.
//!
//! The types here cannot hold nonsense: a [`Week`] starts on a Monday, an [`AppId`] is safe in a URL
//! and in a key, a [`Time`] has the precision that is written down.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::{Date, Weekday};
use jiff::{Timestamp, ToSpan as _, tz};
use serde::{Deserialize, Serialize};

/// Why a text does not name what it should: says what was expected and what was seen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {expected}; got {seen:?}")]
pub struct Invalid {
    what: &'static str,
    expected: &'static str,
    seen: String,
}

impl Invalid {
    /// `what` was expected to be `expected`, and `seen` is not. Long input is cut.
    pub fn new(what: &'static str, expected: &'static str, seen: &str) -> Self {
        Self {
            what,
            expected,
            seen: seen.chars().take(80).collect(),
        }
    }
}

/// The longest id taken: two of them and the rest of a key stay far below S3's 1,024 bytes.
const LONGEST_ID: usize = 128;

fn is_id(text: &str) -> bool {
    (1..=LONGEST_ID).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident, $what:literal, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::export::Invalid;
            fn from_str(text: &str) -> Result<Self, $crate::export::Invalid> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err($crate::export::Invalid::new($what, $expected, text))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::export::Invalid;
            fn try_from(text: String) -> Result<Self, $crate::export::Invalid> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
pub(crate) use text_newtype;

text_newtype!(
    /// One Kore.ai application (`st-…`). It becomes part of URLs and keys.
    AppId,
    "an AppID",
    "1 to 128 letters, digits, '-' and '_' (such as st-1a2b3c…, from the app's settings)",
    is_id
);

text_newtype!(
    /// The vendor's `DATA_EXPORT` job (`fj-…`) that produces an export's files. It becomes part of
    /// URLs and keys, so it is checked like an [`AppId`].
    JobId,
    "a job id",
    "1 to 128 letters, digits, '-' and '_'",
    is_id
);

/// Which records an export holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Event {
    /// Everything: no filter is sent.
    All,
    /// Answers that users liked.
    ThumbsUp,
    /// Answers that users disliked.
    ThumbsDown,
}

impl Event {
    /// Every event there is.
    pub const EVERY: [Self; 3] = [Self::All, Self::ThumbsUp, Self::ThumbsDown];

    /// The word in keys, messages and settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::ThumbsUp => "thumbsUp",
            Self::ThumbsDown => "thumbsDown",
        }
    }
}

impl FromStr for Event {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::EVERY
            .into_iter()
            .find(|event| event.as_str() == text)
            .ok_or_else(|| {
                Invalid::new(
                    "an event",
                    "all, thumbsUp or thumbsDown (case matters)",
                    text,
                )
            })
    }
}

impl TryFrom<String> for Event {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Event> for &'static str {
    fn from(event: Event) -> Self {
        event.as_str()
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A point in time, UTC, to the millisecond: what the vendor's API and every document here carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(Timestamp);

impl Time {
    /// The wall clock.
    pub fn now() -> Self {
        Self::from(Timestamp::now())
    }

    /// This long after the point; stays within the calendar.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self::from(self.0.saturating_add(span).unwrap_or(Timestamp::MAX))
    }

    /// This long before the point; stays within the calendar.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self::from(self.0.saturating_sub(span).unwrap_or(Timestamp::MIN))
    }

    /// How long since `earlier`; zero where `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0
            .duration_since(earlier.0)
            .try_into()
            .unwrap_or_default()
    }

    /// The UTC calendar day.
    pub fn date(self) -> Date {
        self.0.to_zoned(tz::TimeZone::UTC).date()
    }

    /// Whole seconds since 1970.
    pub fn unix_seconds(self) -> i64 {
        self.0.as_second()
    }

    /// Milliseconds since 1970.
    pub fn unix_millis(self) -> i64 {
        self.0.as_millisecond()
    }
}

impl From<Timestamp> for Time {
    /// Cuts what is finer than a millisecond.
    fn from(timestamp: Timestamp) -> Self {
        let millis = timestamp.as_millisecond();
        Self(Timestamp::from_millisecond(millis).unwrap_or(timestamp))
    }
}

impl FromStr for Time {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Timestamp::from_str(text).map(Self::from).map_err(|_| {
            Invalid::new(
                "a time",
                "ISO 8601 with a zone, such as 2025-01-27T06:00:00Z",
                text,
            )
        })
    }
}

impl TryFrom<String> for Time {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.to_string()
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

/// Reads a calendar day such as `2025-01-20`.
///
/// # Errors
/// When it is not of that form or does not exist.
pub fn parse_date(text: &str) -> Result<Date, Invalid> {
    let invalid = || Invalid::new("a date", "a day of the calendar, such as 2025-01-20", text);
    // jiff takes more forms (times, basic format); one form keeps keys and settings alike.
    if text.len() != 10 {
        return Err(invalid());
    }
    let date: Date = text.parse().map_err(|_| invalid())?;
    // Far from the calendar's ends, so that week arithmetic cannot leave it.
    if (1970..=9000).contains(&date.year()) {
        Ok(date)
    } else {
        Err(invalid())
    }
}

/// Midnight UTC at the start of a day.
fn midnight(date: Date) -> Timestamp {
    date.to_zoned(tz::TimeZone::UTC)
        .map_or(Timestamp::MAX, |zoned| zoned.timestamp())
}

/// An ISO week in UTC, named by its Monday.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Week(Date);

impl Week {
    /// The week that holds a day.
    pub fn containing(date: Date) -> Self {
        let days = date.weekday().since(Weekday::Monday);
        Self(date.saturating_sub(i64::from(days).days()))
    }

    /// The week that holds a point in time.
    pub fn of(time: Time) -> Self {
        Self::containing(time.date())
    }

    /// Its Monday.
    pub fn monday(self) -> Date {
        self.0
    }

    /// Monday 00:00:00.000Z.
    pub fn start(self) -> Time {
        Time(midnight(self.0))
    }

    /// The next week's start: the first instant that is no longer in this one.
    pub fn end(self) -> Time {
        self.next().start()
    }

    /// The week after.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1.week()))
    }

    /// So many weeks before.
    #[must_use]
    pub fn back(self, weeks: u32) -> Self {
        Self(self.0.saturating_sub(i64::from(weeks).weeks()))
    }

    /// What the API is asked for.
    pub fn window(self) -> Window {
        Window {
            from: self.start(),
            to: self.end().before(Duration::from_millis(1)),
        }
    }

    /// The weeks from this one up to, not including, `end`.
    pub fn until(self, end: Self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self), |week| Some(week.next())).take_while(move |w| *w < end)
    }
}

impl FromStr for Week {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let date = parse_date(text)?;
        if date.weekday() == Weekday::Monday {
            Ok(Self(date))
        } else {
            Err(Invalid::new(
                "a week",
                "the date of its Monday, such as 2025-01-20",
                text,
            ))
        }
    }
}

impl TryFrom<String> for Week {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Week> for String {
    fn from(week: Week) -> Self {
        week.to_string()
    }
}

impl fmt::Display for Week {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The span of time that one export asks for, both ends included: 7 days less 1 ms, so that windows
/// touch, never overlap, and stay within the 7 days that the API allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Monday 00:00:00.000Z.
    pub from: Time,
    /// Sunday 23:59:59.999Z.
    pub to: Time,
}

/// The unit of archiving: one app × event × week.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Export {
    /// Whose records.
    pub app: AppId,
    /// Which of them.
    pub event: Event,
    /// From when.
    pub week: Week,
}

impl fmt::Display for Export {
    /// As in keys, so that a log line and an object find each other.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { app, event, week } = self;
        write!(f, "app={app}/event={event}/week={week}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_day() -> impl Strategy<Value = Date> {
        (0..40_000i64).prop_map(|days| jiff::civil::date(1990, 1, 1).saturating_add(days.days()))
    }

    proptest! {
        #[test]
        fn weeks_tile_time_without_gap_or_overlap(day in any_day()) {
            let week = Week::containing(day);
            prop_assert_eq!(week.monday().weekday(), Weekday::Monday);
            prop_assert!(week.monday() <= day && day < week.next().monday());
            let window = week.window();
            prop_assert_eq!(window.to.after(Duration::from_millis(1)), week.next().window().from);
            prop_assert_eq!(window.to.since(window.from), Duration::from_millis(7 * 86_400_000 - 1));
            prop_assert_eq!(Week::of(window.from), week);
            prop_assert_eq!(Week::of(window.to), week);
            prop_assert_eq!(week.next().back(1), week);
            prop_assert_eq!(week.back(2).until(week).collect::<Vec<_>>(), [week.back(2), week.back(1)]);
            prop_assert_eq!(week.until(week).count(), 0);
            prop_assert_eq!(week.until(week.back(1)).count(), 0);
        }

        #[test]
        fn weeks_and_times_round_trip_as_text(day in any_day(), millis in 0u64..7 * 86_400_000) {
            let week = Week::containing(day);
            prop_assert_eq!(week.to_string().parse(), Ok(week));
            let time = week.start().after(Duration::from_millis(millis));
            prop_assert_eq!(time.to_string().parse(), Ok(time));
            prop_assert_eq!(time.to_string().len(), 24);
            prop_assert_eq!(Week::of(time), week);
        }
    }

    #[test]
    fn weeks_cross_leap_days_and_year_ends() {
        for (day, monday, sunday) in [
            ("2024-02-29", "2024-02-26", "2024-03-03T23:59:59.999Z"),
            ("2024-12-31", "2024-12-30", "2025-01-05T23:59:59.999Z"),
            ("2025-01-05", "2024-12-30", "2025-01-05T23:59:59.999Z"),
            ("2026-12-28", "2026-12-28", "2027-01-03T23:59:59.999Z"),
            ("2100-02-28", "2100-02-22", "2100-02-28T23:59:59.999Z"),
        ] {
            let week = Week::containing(parse_date(day).unwrap());
            assert_eq!(week.to_string(), monday, "{day}");
            assert_eq!(week.window().to.to_string(), sunday, "{day}");
        }
    }

    #[test]
    fn a_time_is_told_in_seconds_in_milliseconds_and_in_words() {
        let time: Time = "2025-01-27T06:00:00.250Z".parse().unwrap();
        assert_eq!(time.unix_seconds(), 1_737_957_600);
        assert_eq!(time.unix_millis(), 1_737_957_600_250);
        assert_eq!(String::from(time), "2025-01-27T06:00:00.250Z");
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for bad in ["", "st/1", "st.1", "../x", "st 1", "stä", &"x".repeat(129)] {
            let error = bad.parse::<AppId>().unwrap_err().to_string();
            assert!(error.starts_with("an AppID must be"), "{error}");
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
        for bad in [
            "2025-02-29",
            "2025-13-01",
            "20250120",
            "2025-1-20",
            "",
            "0001-01-01",
            "2025-01-20T",
        ] {
            assert!(parse_date(bad).is_err(), "{bad}");
        }
        assert!(
            "2025-01-21"
                .parse::<Week>()
                .unwrap_err()
                .to_string()
                .contains("Monday")
        );
        assert!(
            "thumbsup"
                .parse::<Event>()
                .unwrap_err()
                .to_string()
                .contains("case matters")
        );
        assert!("2025-01-20T00:00:00".parse::<Time>().is_err());
    }
}
