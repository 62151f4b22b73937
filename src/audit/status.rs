//! Is an archive complete? The calendar of its weeks, decided from a survey.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::Range;
use super::survey::{Holding, Record, Survey};
use crate::archive::manifest::Archived;
use crate::export::{AppId, Event, Time, Week};
use crate::stages::claim::Claim;
use crate::stages::enqueue::peace;

/// The schema of the document.
pub const SCHEMA: &str = "insights-archive/status/1";

/// What is known of an archive's completeness.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// [`SCHEMA`]
    pub schema: &'static str,
    /// Where the archive is.
    pub archive: String,
    /// When this was true.
    pub time: Time,
    /// Whether every due week in the range is archived (or was erased).
    pub complete: bool,
    /// Everything in the range.
    pub totals: Archived,
    /// By app and event.
    pub exports: Vec<Calendar>,
    /// Guards that the bucket lacks or may lack; nothing for a folder.
    pub guards: Vec<String>,
    /// What else a person should know of the archive as a whole.
    pub remarks: Vec<String>,
}

/// The weeks of one app and event.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Calendar {
    /// Whose records.
    pub app: AppId,
    /// Which of them.
    pub event: Event,
    /// The first week that is archived.
    pub first: Option<Week>,
    /// The last week that is archived.
    pub last: Option<Week>,
    /// The first week that is not due yet.
    pub not_yet_due: Week,
    /// What stands there.
    pub archived: Archived,
    /// How many weeks are in which state.
    pub counts: BTreeMap<&'static str, u64>,
    /// What a person should know, in sentences.
    pub remarks: Vec<String>,
    /// Every week in the range, in order.
    pub weeks: Vec<Entry>,
}

/// One week.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Which.
    pub week: Week,
    /// How it stands.
    #[serde(flatten)]
    pub state: State,
}

/// How a week stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(
    tag = "state",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum State {
    /// Archived, with all that the vendor said there is.
    Archived {
        /// What stands there.
        #[serde(flatten)]
        archived: Archived,
        /// When it was committed.
        committed_at: Time,
    },
    /// Archived: there is nothing in it.
    Empty {
        /// When it was committed.
        committed_at: Time,
    },
    /// Archived, and not all that the vendor said agrees.
    Discrepancies {
        /// What stands there.
        #[serde(flatten)]
        archived: Archived,
        /// When it was committed.
        committed_at: Time,
        /// What does not agree.
        discrepancies: Vec<String>,
    },
    /// Erased on a person's request.
    Erased {
        /// When.
        at: Time,
        /// By whom.
        by: String,
        /// Why.
        reason: String,
    },
    /// Archived by a newer version of this program.
    Newer {
        /// What the manifest's schema calls itself.
        schema: String,
    },
    /// Its manifest cannot be used.
    Unreadable {
        /// Why.
        why: String,
    },
    /// Due, and nothing is there.
    Missing,
    /// Due, failed, and tried again after that time.
    Waiting {
        /// How many times in a row it was given up.
        failures: u32,
        /// Until when it is left in peace.
        until: Time,
    },
    /// Due, and being archived.
    Underway {
        /// Until when the work is taken to go on.
        until: Time,
    },
    /// Not due yet.
    NotYetDue,
}

impl State {
    /// The word for it in documents, as it is serialised.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Archived { .. } => "archived",
            Self::Empty { .. } => "empty",
            Self::Discrepancies { .. } => "discrepancies",
            Self::Erased { .. } => "erased",
            Self::Newer { .. } => "newer",
            Self::Unreadable { .. } => "unreadable",
            Self::Missing => "missing",
            Self::Waiting { .. } => "waiting",
            Self::Underway { .. } => "underway",
            Self::NotYetDue => "notYetDue",
        }
    }

    /// Whether the week is due and lacks a manifest that can be used.
    pub fn is_wanting(&self) -> bool {
        matches!(
            self,
            Self::Unreadable { .. } | Self::Missing | Self::Waiting { .. } | Self::Underway { .. }
        )
    }

    /// What stands there, where a manifest says so.
    pub fn archived(&self) -> Option<Archived> {
        match self {
            Self::Archived { archived, .. } | Self::Discrepancies { archived, .. } => {
                Some(*archived)
            }
            Self::Empty { .. } => Some(NOTHING),
            _ => None,
        }
    }
}

/// Nothing at all.
const NOTHING: Archived = Archived {
    files: 0,
    records: 0,
    bytes: 0,
};

fn add(to: &mut Archived, more: Archived) {
    to.files = to.files.saturating_add(more.files);
    to.records = to.records.saturating_add(more.records);
    to.bytes = to.bytes.saturating_add(more.bytes);
}

/// Decides how every week in the range stands. A week is due `settle` after its end. Pure.
pub fn status(
    survey: &Survey,
    range: &Range,
    archive: String,
    guards: Vec<String>,
    settle: Duration,
    now: Time,
) -> Status {
    let calendars = survey
        .holdings
        .iter()
        .map(|((app, event), holding)| calendar(app, *event, holding, range, settle, now));
    let exports: Vec<Calendar> = calendars.collect();
    let mut totals = NOTHING;
    for calendar in &exports {
        add(&mut totals, calendar.archived);
    }
    let complete = !exports.is_empty() && exports.iter().all(Calendar::is_complete);
    let mut remarks = Vec::new();
    if exports.is_empty() {
        let all = *range == Range::default();
        let what = if all { "" } else { " of what was asked for" };
        remarks.push(format!("Nothing{what} is archived here."));
    }
    let foreign = &survey.foreign;
    if foreign.count > 0 {
        let more = foreign.count - foreign.keys.len() as u64;
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        remarks.push(format!(
            "Among the manifests and claims stand objects that this program did not write: {}{more}. \
             Move them away.",
            foreign.keys.join(", ")
        ));
    }
    Status {
        schema: SCHEMA,
        archive,
        time: now,
        complete,
        totals,
        exports,
        guards,
        remarks,
    }
}

fn calendar(
    app: &AppId,
    event: Event,
    holding: &Holding,
    range: &Range,
    settle: Duration,
    now: Time,
) -> Calendar {
    let due_end = Week::of(now.before(settle));
    let oldest = [holding.records.keys().next(), holding.claims.keys().next()];
    let oldest = oldest.into_iter().flatten().min().copied();
    let start = range.since.or(oldest);
    // The week that is running is shown, where the range has it.
    let end = range.until.unwrap_or_else(|| {
        let newest = holding.records.keys().next_back();
        Week::of(now).max(newest.copied().unwrap_or(due_end)).next()
    });
    let weeks: Vec<Entry> = start
        .into_iter()
        .flat_map(|start| start.until(end))
        .map(|week| Entry {
            week,
            state: state(
                holding.records.get(&week),
                holding.claims.get(&week),
                week < due_end,
                now,
            ),
        })
        .collect();

    let mut archived = NOTHING;
    let mut counts = BTreeMap::new();
    let (mut first, mut last) = (None, None);
    for entry in &weeks {
        *counts.entry(entry.state.as_str()).or_default() += 1;
        if let Some(facts) = entry.state.archived() {
            add(&mut archived, facts);
            first = first.or(Some(entry.week));
            last = Some(entry.week);
        }
    }
    Calendar {
        app: app.clone(),
        event,
        first,
        last,
        not_yet_due: due_end,
        archived,
        counts,
        remarks: texts(remarks(&weeks)),
        weeks,
    }
}

fn state(record: Option<&Record>, claim: Option<&Claim>, due: bool, now: Time) -> State {
    match record.cloned() {
        Some(Record::Archived {
            archived,
            discrepancies,
            committed_at,
        }) => {
            if !discrepancies.is_empty() {
                State::Discrepancies {
                    archived,
                    committed_at,
                    discrepancies,
                }
            } else if archived.files == 0 {
                State::Empty { committed_at }
            } else {
                State::Archived {
                    archived,
                    committed_at,
                }
            }
        }
        Some(Record::Erased(tombstone)) => State::Erased {
            at: tombstone.erased_at,
            by: tombstone.erased_by,
            reason: tombstone.reason,
        },
        Some(Record::Newer { schema }) => State::Newer { schema },
        Some(Record::Unreadable { why }) => State::Unreadable { why },
        None if !due => State::NotYetDue,
        None => match claim {
            Some(claim) if claim.is_live(now) => State::Underway { until: claim.until },
            Some(claim) => match peace(Some(claim.until), claim.failures) {
                Some(until) if now < until => State::Waiting {
                    failures: claim.failures,
                    until,
                },
                _ => State::Missing,
            },
            None => State::Missing,
        },
    }
}

/// Weeks in a row: `2025-01-20`, or `2025-01-20 to 2025-02-10`.
fn spans(weeks: impl IntoIterator<Item = Week>) -> Vec<(Week, Week)> {
    let mut spans: Vec<(Week, Week)> = Vec::new();
    for week in weeks {
        match spans.last_mut() {
            Some((_, last)) if last.next() == week => *last = week,
            _ => spans.push((week, week)),
        }
    }
    spans
}

fn texts(remarks: Vec<(Gravity, String)>) -> Vec<String> {
    remarks.into_iter().map(|(_, text)| text).collect()
}

/// How grave a remark is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gravity {
    /// The archive is not complete.
    Grave,
    /// Somebody should look at it.
    Doubtful,
    /// Good to know.
    Plain,
}

/// What a person should know of these weeks, in sentences.
pub fn remarks(weeks: &[Entry]) -> Vec<(Gravity, String)> {
    let mut remarks = Vec::new();
    if weeks.is_empty() {
        remarks.push((Gravity::Grave, "Nothing is archived.".to_owned()));
    }
    let missing = weeks.iter().filter(|entry| entry.state == State::Missing);
    for (first, last) in spans(missing.map(|entry| entry.week)) {
        let text = if first == last {
            format!("The week of {first} is missing.")
        } else {
            let count = first.until(last.next()).count();
            format!("{count} weeks are missing: {first} to {last}.")
        };
        remarks.push((Gravity::Grave, text));
    }
    for Entry { week, state } in weeks {
        let remark = match state {
            State::Waiting { failures, until } => {
                let times = if *failures == 1 {
                    "once".to_owned()
                } else {
                    format!("{failures} times")
                };
                let text = format!(
                    "The week of {week} was given up {times} and is tried again after {until}; the \
                     reason stands in the dead-letter queue, or in the run's log."
                );
                (Gravity::Grave, text)
            }
            State::Underway { until } => {
                let text = format!(
                    "The week of {week} is being archived; a sign of life is due by {until}."
                );
                (Gravity::Plain, text)
            }
            State::Discrepancies { discrepancies, .. } => {
                let text = format!("The week of {week}: {}", discrepancies.join(" "));
                (Gravity::Doubtful, text)
            }
            State::Erased { at, by, reason } => {
                let day = at.date();
                let text = format!("The week of {week} was erased on {day} by {by}: {reason}");
                (Gravity::Plain, text)
            }
            State::Newer { schema } => {
                let text = format!(
                    "The week of {week} was archived by a newer version of this program \
                     ({schema}): update it to see more."
                );
                (Gravity::Doubtful, text)
            }
            State::Unreadable { why } => {
                let text = format!(
                    "The manifest of the week of {week} cannot be read: {why}. It counts as \
                     archived for the stages: restore its last version, or move it away to archive \
                     the week again."
                );
                (Gravity::Grave, text)
            }
            _ => continue,
        };
        remarks.push(remark);
    }
    remarks
}

impl Calendar {
    /// Whether every due week in the range is archived or was erased.
    pub fn is_complete(&self) -> bool {
        !self.weeks.is_empty() && !self.weeks.iter().any(|entry| entry.state.is_wanting())
    }
}

impl Status {
    /// The document that is printed.
    pub fn to_json(&self) -> String {
        // A struct of texts and numbers always serialises.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::made::{Made, claim, export, time};
    use crate::audit::survey::survey;

    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: &str = "2025-03-05T12:00:00Z";

    async fn look(made: &Made, range: &Range) -> Status {
        let survey = survey(&made.folder, range).await.unwrap();
        status(&survey, range, "here".into(), Vec::new(), HOUR, time(NOW))
    }

    fn states(calendar: &Calendar) -> Vec<(String, &str)> {
        let told = |entry: &Entry| (entry.week.to_string(), entry.state.as_str());
        calendar.weeks.iter().map(told).collect()
    }

    #[tokio::test]
    async fn every_week_has_its_state_and_every_trouble_its_sentence() {
        let made = Made::new();
        let week = |week: &str| export(&format!("st-1/all/{week}"));
        made.archive(&week("2024-12-30"), &["[1,2]", "[3]"], 3)
            .await;
        made.archive(&week("2025-01-06"), &[], 0).await;
        made.archive(&week("2025-01-13"), &["[1]"], 2).await;
        made.manifest(&week("2025-01-20"), "<html>").await;
        let newer = r#"{"schema": "insights-archive/manifest/2"}"#;
        made.manifest(&week("2025-01-27"), newer).await;
        made.claim(&week("2025-02-03"), &claim("2025-03-05T09:00:00Z", 2));
        made.claim(&week("2025-02-10"), &claim("2025-03-05T12:20:00Z", 0));
        // Left in peace long enough: it is missing.
        made.claim(&week("2025-02-17"), &claim("2025-02-24T09:00:00Z", 1));
        made.archive(&week("2025-02-24"), &["[7]"], 1).await;
        let status = look(&made, &Range::default()).await;
        assert!(!status.complete);
        let [calendar] = &status.exports[..] else {
            panic!("{:?}", status.exports);
        };
        let expected = [
            ("2024-12-30", "archived"),
            ("2025-01-06", "empty"),
            ("2025-01-13", "discrepancies"),
            ("2025-01-20", "unreadable"),
            ("2025-01-27", "newer"),
            ("2025-02-03", "waiting"),
            ("2025-02-10", "underway"),
            ("2025-02-17", "missing"),
            ("2025-02-24", "archived"),
            ("2025-03-03", "notYetDue"),
        ];
        let expected = expected.map(|(week, state)| (week.to_owned(), state));
        assert_eq!(states(calendar), expected);
        assert_eq!(calendar.archived.records, 5);
        assert_eq!(calendar.first.unwrap().to_string(), "2024-12-30");
        assert_eq!(calendar.last.unwrap().to_string(), "2025-02-24");
        assert_eq!(calendar.not_yet_due.to_string(), "2025-03-03");
        let all = calendar.remarks.join("\n");
        for said in [
            "The week of 2025-02-17 is missing.",
            "The week of 2025-02-03 was given up 2 times and is tried again after \
             2025-03-09T09:00:00.000Z",
            "dead-letter queue",
            "2025-02-10 is being archived",
            "the job states 2",
            "newer version of this program (insights-archive/manifest/2)",
            "2025-01-20 cannot be read: not a manifest",
        ] {
            assert!(all.contains(said), "{said} in {all}");
        }
    }

    #[tokio::test]
    async fn a_range_narrows_and_widens_what_is_seen() {
        let made = Made::new();
        made.archive(&export("st-1/all/2025-02-10"), &["[1]"], 1)
            .await;
        made.archive(&export("st-2/thumbsUp/2025-02-24"), &["[1]"], 1)
            .await;
        let range = Range {
            apps: vec!["st-1".parse().unwrap(), "st-3".parse().unwrap()],
            since: Some("2025-01-27".parse().unwrap()),
            until: Some("2025-02-17".parse().unwrap()),
            ..Range::default()
        };
        let status = look(&made, &range).await;
        assert!(!status.complete);
        let told: Vec<_> = status
            .exports
            .iter()
            .map(|calendar| (calendar.app.as_str(), calendar.remarks.join(" ")))
            .collect();
        assert_eq!(
            told,
            [
                (
                    "st-1",
                    "2 weeks are missing: 2025-01-27 to 2025-02-03.".to_owned()
                ),
                (
                    "st-3",
                    "3 weeks are missing: 2025-01-27 to 2025-02-10.".to_owned()
                ),
            ]
        );
        let narrow = Range {
            apps: vec!["st-2".parse().unwrap()],
            ..Range::default()
        };
        let status = look(&made, &narrow).await;
        assert!(status.complete, "{status:?}");
    }

    #[tokio::test]
    async fn an_empty_archive_is_not_complete_and_foreign_objects_are_named() {
        let made = Made::new();
        let status = look(&made, &Range::default()).await;
        assert!(!status.complete);
        assert_eq!(status.remarks, ["Nothing is archived here."]);
        made.write("manifests/notes.txt", "hello");
        made.write("manifests/app=st-1/event=all/week=2025-01-21.json", "{}");
        let status = look(&made, &Range::default()).await;
        assert!(
            status.remarks[1].contains("manifests/notes.txt"),
            "{status:?}"
        );
        assert!(status.remarks[1].contains("week=2025-01-21.json"));
    }

    #[tokio::test]
    async fn the_document_has_the_documented_shape() {
        let made = Made::new();
        made.archive(&export("st-1/all/2025-02-17"), &["[1]"], 1)
            .await;
        let status = look(&made, &Range::default()).await;
        let mut seen: serde_json::Value = serde_json::from_str(&status.to_json()).unwrap();
        seen["archive"] = "archive".into();
        let documented = include_str!("../../docs/STATUS.md");
        let example = documented
            .split("```json\n")
            .nth(1)
            .and_then(|rest| rest.split("```").next())
            .unwrap();
        let example: serde_json::Value = serde_json::from_str(example).unwrap();
        assert_eq!(seen, example, "{seen:#}");
    }
}
