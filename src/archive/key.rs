//! Where each object of the archive stands. Nothing else builds or reads a key.

use std::fmt;
use std::str::FromStr;

use crate::export::{AppId, Event, Export, Invalid, JobId};

/// One fragment's place in its job: the `number`th `of` so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    number: u32,
    of: u32,
}

impl Part {
    /// # Errors
    /// Unless `1 <= number <= of`.
    pub fn new(number: u32, of: u32) -> Result<Self, Invalid> {
        if (1..=of).contains(&number) {
            Ok(Self { number, of })
        } else {
            let seen = format!("{number} of {of}");
            Err(Invalid::new(
                "a fragment's number",
                "from 1 to the number of fragments",
                &seen,
            ))
        }
    }

    /// Counted from 1.
    pub fn number(self) -> u32 {
        self.number
    }

    /// How many the job has.
    pub fn of(self) -> u32 {
        self.of
    }
}

impl fmt::Display for Part {
    /// The last segment of a key, padded so that names sort as numbers do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, of } = self;
        let digits = of.to_string().len().max(5);
        write!(f, "part-{number:0digits$}-of-{of:0digits$}.json")
    }
}

impl FromStr for Part {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let numbers = || {
            let (number, of) = text
                .strip_prefix("part-")?
                .strip_suffix(".json")?
                .split_once("-of-")?;
            Self::new(number.parse().ok()?, of.parse().ok()?).ok()
        };
        // Only the canonical spelling: a key read is the key that would be written.
        numbers()
            .filter(|part| part.to_string() == text)
            .ok_or_else(|| {
                Invalid::new(
                    "a fragment's name",
                    "part-00001-of-00003.json and the like",
                    text,
                )
            })
    }
}

/// What stands at a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The commit record of an export.
    Manifest(Export),
    /// A fragment, byte for byte.
    Data(Export, JobId, Part),
    /// What is known of a fragment that stands in the archive.
    Receipt(Export, JobId, Part),
    /// The lease of one chain on an export.
    Claim(Export),
    /// What came instead of a fragment.
    Quarantine(Export, JobId, Part),
}

/// The place of one object, relative to the archive's root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// The key of a place.
    pub fn of(place: &Place) -> Self {
        Self(match place {
            Place::Manifest(export) => format!("manifests/{export}.json"),
            Place::Claim(export) => format!("claims/{export}.json"),
            Place::Data(export, job, part) => format!("data/{export}/job={job}/{part}"),
            Place::Receipt(export, job, part) => format!("receipts/{export}/job={job}/{part}"),
            Place::Quarantine(export, job, part) => format!("quarantine/{export}/job={job}/{part}"),
        })
    }

    /// `manifests/app=…/event=…/week=….json`
    pub fn manifest(export: &Export) -> Self {
        Self::of(&Place::Manifest(export.clone()))
    }

    /// `claims/app=…/event=…/week=….json`
    pub fn claim(export: &Export) -> Self {
        Self::of(&Place::Claim(export.clone()))
    }

    /// `data/app=…/event=…/week=…/job=…/part-….json`
    pub fn data(export: &Export, job: &JobId, part: Part) -> Self {
        Self::of(&Place::Data(export.clone(), job.clone(), part))
    }

    /// `receipts/app=…/event=…/week=…/job=…/part-….json`
    pub fn receipt(export: &Export, job: &JobId, part: Part) -> Self {
        Self::of(&Place::Receipt(export.clone(), job.clone(), part))
    }

    /// `quarantine/app=…/event=…/week=…/job=…/part-….json`
    pub fn quarantine(export: &Export, job: &JobId, part: Part) -> Self {
        Self::of(&Place::Quarantine(export.clone(), job.clone(), part))
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The first segment of a key: what an object is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Commit records.
    Manifests,
    /// Fragments.
    Data,
    /// What is known of fragments, while their export is under way.
    Receipts,
    /// Leases.
    Claims,
    /// What came instead of fragments.
    Quarantine,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Manifests => "manifests",
            Self::Data => "data",
            Self::Receipts => "receipts",
            Self::Claims => "claims",
            Self::Quarantine => "quarantine",
        }
    }
}

/// What starts the keys of all objects of a kind, of one app or of all.
pub fn all_of(kind: Kind, app: Option<&AppId>) -> String {
    let kind = kind.as_str();
    app.map_or_else(|| format!("{kind}/"), |app| format!("{kind}/app={app}/"))
}

/// What starts the keys of all objects of a kind that belong to one export and are many.
pub fn files_of(kind: Kind, export: &Export) -> String {
    format!("{}/{export}/", kind.as_str())
}

/// What starts the keys of all manifests of one app and event.
pub fn manifests_of(app: &AppId, event: Event) -> String {
    format!("manifests/app={app}/event={event}/")
}

/// What starts the keys of all receipts of one job.
pub fn receipts_of(export: &Export, job: &JobId) -> String {
    format!("receipts/{export}/job={job}/")
}

impl FromStr for Place {
    type Err = Invalid;

    /// Reads a key back. Only the canonical spelling of a key is one.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        parse(text)
            .filter(|place| Key::of(place).as_str() == text)
            .ok_or_else(|| {
                Invalid::new(
                    "a key",
                    "manifests/app=…/event=…/week=….json and the like",
                    text,
                )
            })
    }
}

fn parse(text: &str) -> Option<Place> {
    let mut segments = text.split('/');
    let kind = segments.next()?;
    let app = segments.next()?.strip_prefix("app=")?.parse().ok()?;
    let event = segments.next()?.strip_prefix("event=")?.parse().ok()?;
    let week = segments.next()?.strip_prefix("week=")?;
    let place = if let "manifests" | "claims" = kind {
        let week = week.strip_suffix(".json")?.parse().ok()?;
        let export = Export { app, event, week };
        match kind {
            "manifests" => Place::Manifest(export),
            _ => Place::Claim(export),
        }
    } else {
        let week = week.parse().ok()?;
        let export = Export { app, event, week };
        let job = segments.next()?.strip_prefix("job=")?.parse().ok()?;
        let part = segments.next()?.parse().ok()?;
        match kind {
            "data" => Place::Data(export, job, part),
            "receipts" => Place::Receipt(export, job, part),
            "quarantine" => Place::Quarantine(export, job, part),
            _ => return None,
        }
    };
    segments.next().is_none().then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_as_documented() {
        let export = Export {
            app: "st-1".parse().unwrap(),
            event: Event::ThumbsUp,
            week: "2025-01-20".parse().unwrap(),
        };
        let job = "fj-2".parse().unwrap();
        let part = Part::new(1, 3).unwrap();
        for (key, text) in [
            (
                Key::manifest(&export),
                "manifests/app=st-1/event=thumbsUp/week=2025-01-20.json",
            ),
            (
                Key::claim(&export),
                "claims/app=st-1/event=thumbsUp/week=2025-01-20.json",
            ),
            (
                Key::data(&export, &job, part),
                "data/app=st-1/event=thumbsUp/week=2025-01-20/job=fj-2/part-00001-of-00003.json",
            ),
            (
                Key::receipt(&export, &job, part),
                "receipts/app=st-1/event=thumbsUp/week=2025-01-20/job=fj-2/part-00001-of-00003.json",
            ),
            (
                Key::quarantine(&export, &job, part),
                "quarantine/app=st-1/event=thumbsUp/week=2025-01-20/job=fj-2/part-00001-of-00003.json",
            ),
        ] {
            assert_eq!(key.as_str(), text);
            assert_eq!(key.to_string(), text);
        }
        assert_eq!((part.number(), part.of()), (1, 3));
        assert_eq!(
            Part::new(7, 123_456).unwrap().to_string(),
            "part-000007-of-123456.json"
        );
    }

    #[test]
    fn keys_begin_with_the_prefixes_by_which_they_are_listed() {
        let export = Export {
            app: "st-1".parse().unwrap(),
            event: Event::All,
            week: "2025-01-20".parse().unwrap(),
        };
        let job = "fj-2".parse().unwrap();
        let part = Part::new(1, 3).unwrap();
        let manifest = Key::manifest(&export).to_string();
        let receipt = Key::receipt(&export, &job, part).to_string();
        assert_eq!(
            manifests_of(&export.app, export.event),
            "manifests/app=st-1/event=all/"
        );
        assert!(manifest.starts_with(&manifests_of(&export.app, export.event)));
        assert_eq!(
            receipts_of(&export, &job),
            "receipts/app=st-1/event=all/week=2025-01-20/job=fj-2/"
        );
        assert!(receipt.starts_with(&receipts_of(&export, &job)));
        for (kind, key) in [
            (Kind::Manifests, manifest),
            (Kind::Claims, Key::claim(&export).to_string()),
            (Kind::Data, Key::data(&export, &job, part).to_string()),
            (Kind::Receipts, receipt),
            (
                Kind::Quarantine,
                Key::quarantine(&export, &job, part).to_string(),
            ),
        ] {
            let word = key.split('/').next().unwrap();
            assert_eq!(all_of(kind, None), format!("{word}/"));
            assert_eq!(all_of(kind, Some(&export.app)), format!("{word}/app=st-1/"));
            assert_eq!(
                files_of(kind, &export),
                format!("{word}/app=st-1/event=all/week=2025-01-20/")
            );
        }
    }

    #[test]
    fn what_is_not_a_key_is_not_read_as_one() {
        for foreign in [
            "",
            "manifests/",
            "manifests/app=st-1/event=all/week=2025-01-21.json",
            "manifests/app=st-1/event=all/week=2025-01-20.json.metadata",
            "manifests/app=st-1/event=all/week=2025-01-20.json/x",
            "data/app=st-1/event=all/week=2025-01-20/job=fj/part-1-of-3.json",
            "data/app=st-1/event=all/week=2025-01-20/job=fj/part-00004-of-00003.json",
            "data/app=st-1/event=all/week=2025-01-20/job=fj/part-+0001-of-00003.json",
            "other/app=st-1/event=all/week=2025-01-20/job=fj/part-00001-of-00003.json",
        ] {
            assert!(foreign.parse::<Place>().is_err(), "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn every_key_reads_back(
            app in "[A-Za-z0-9_-]{1,20}", job in "[A-Za-z0-9_-]{1,20}",
            event in 0usize..3, weeks in 0u32..3000, of in 1u32..200_000, number in 0u32..200_000, kind in 0..5,
        ) {
            let last: crate::export::Week = "2035-01-01".parse().unwrap();
            let export = Export { app: app.parse().unwrap(), event: Event::EVERY[event], week: last.back(weeks) };
            let (job, part) = (job.parse().unwrap(), Part::new(number % of + 1, of).unwrap());
            let place = match kind {
                0 => Place::Manifest(export),
                1 => Place::Claim(export),
                2 => Place::Data(export, job, part),
                3 => Place::Receipt(export, job, part),
                _ => Place::Quarantine(export, job, part),
            };
            prop_assert_eq!(Key::of(&place).as_str().parse::<Place>(), Ok(place));
        }
    }
}
