//! What stands of what was asked for: a line for each week, and a sentence.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use console::style;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::figures;
use crate::archive::manifest::{self, Archived};
use crate::archive::tombstone::{self, Tombstone};
use crate::archive::{Archive, ArchiveError, Key};
use crate::export::{Export, Week};
use crate::run::End;
use crate::stages::enqueue::{Line, Summary};

/// How many manifests are read at once.
const READS_AT_ONCE: usize = 16;
/// The last sentence names no more than so many weeks of an app and event.
const MOST_NAMED: usize = 5;
/// So many discrepancies of a week are shown; its manifest has all of them.
const MOST_SHOWN: usize = 3;

/// All that was asked for.
#[derive(Debug)]
pub struct Table {
    sections: Vec<Section>,
    dry_run: bool,
}

/// One app and event.
#[derive(Debug)]
struct Section {
    line: Line,
    rows: Vec<Row>,
}

/// One week.
#[derive(Debug)]
struct Row {
    export: Export,
    found: Found,
    /// How this run ended for it, if it had to do with it.
    end: Option<End>,
    /// What a run would do.
    plan: Option<Plan>,
}

/// What the archive holds of a week.
#[derive(Debug)]
enum Found {
    Nothing,
    Archived {
        archived: Archived,
        discrepancies: Vec<String>,
    },
    /// It was archived, and erased on a person's request: it stays so.
    Erased(Tombstone),
    /// There is a manifest, which this program cannot check.
    Unreadable(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    Archive,
    Replace,
}

/// How a week stands.
enum Verdict {
    Verified,
    Erased(String),
    Planned(&'static str),
    /// Archived, but a person should look; or not archived.
    Wrong(&'static str, Vec<String>),
}

impl Table {
    /// Reads what stands of each week from `first` that was found to be due.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub async fn read<A: Archive>(
        archive: &A,
        first: Week,
        summary: &Summary,
        ends: &BTreeMap<Export, End>,
    ) -> Result<Self, ArchiveError> {
        let mut sections = Vec::new();
        for line in &summary.exports {
            let rows = weeks(line, first).map(|export| async {
                let found = find(archive, &export).await?;
                Ok(Row::new(line, ends, export, found))
            });
            let rows = stream::iter(rows).buffered(READS_AT_ONCE);
            sections.push(Section {
                line: line.clone(),
                rows: rows.try_collect().await?,
            });
        }
        Ok(Self {
            sections,
            dry_run: summary.dry_run,
        })
    }

    /// The same where there is no archive yet.
    pub fn empty(first: Week, summary: &Summary) -> Self {
        let none = BTreeMap::new();
        let section = |line: &Line| Section {
            line: line.clone(),
            rows: weeks(line, first)
                .map(|export| Row::new(line, &none, export, Found::Nothing))
                .collect(),
        };
        Self {
            sections: summary.exports.iter().map(section).collect(),
            dry_run: summary.dry_run,
        }
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.sections.iter().flat_map(|section| &section.rows)
    }

    /// Whether every due week stands archived and verified.
    pub fn is_fulfilled(&self) -> bool {
        self.rows().all(|row| row.verdict().is_right())
    }

    /// The table and its last sentence, for standard output.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for section in &self.sections {
            section.write(&mut text);
        }
        text + &self.sentence() + "\n"
    }

    fn sentence(&self) -> String {
        let all = self.rows().count();
        let weeks = figures::counted(all as u64, "week");
        let good = self.rows().filter(|row| row.verdict().is_right());
        let good = good.count();
        if all == 0 {
            return "No week that was asked for is over yet.".to_owned();
        }
        if self.dry_run {
            let planned = self.rows().filter(|row| row.plan.is_some()).count();
            return match planned {
                0 => format!(
                    "Nothing would be done: of {weeks}, {good} stand archived and verified."
                ),
                n if n == all => format!("{weeks} would be exported and archived."),
                n => format!("{n} of {weeks} would be exported and archived."),
            };
        }
        if good < all {
            let mut text = format!("Archived and verified: {good} of {weeks}. Not so:");
            for section in &self.sections {
                let bad = section.rows.iter().filter(|row| !row.verdict().is_right());
                let bad: Vec<_> = bad.map(|row| row.export.week.to_string()).collect();
                let more = match bad.len().saturating_sub(MOST_NAMED) {
                    0 => String::new(),
                    n => format!(" and {n} more"),
                };
                if !bad.is_empty() {
                    let named = bad[..bad.len().min(MOST_NAMED)].join(", ");
                    let Line { app, event, .. } = &section.line;
                    // Writing to a String cannot fail.
                    let _ = write!(text, "\n  {app} {event}: {named}{more}");
                }
            }
            return text;
        }
        let mut sum = Archived {
            files: 0,
            records: 0,
            bytes: 0,
        };
        for row in self.rows() {
            if let Found::Archived { archived, .. } = &row.found {
                sum.files += archived.files;
                sum.records += archived.records;
                sum.bytes += archived.bytes;
            }
        }
        let erased = self
            .rows()
            .filter(|row| matches!(row.found, Found::Erased(_)));
        let erased = match erased.count() {
            0 => String::new(),
            n => format!(" ({} of them erased on request)", figures::count(n as u64)),
        };
        let (stand, before) = (
            if all == 1 { "stands" } else { "stand" },
            if self.rows().all(|row| row.end.is_none()) {
                "Nothing to do. "
            } else {
                ""
            },
        );
        format!(
            "{before}{weeks}{erased} {stand} archived and verified: {} in {}, {}.",
            figures::counted(sum.records, "record"),
            figures::counted(sum.files, "file"),
            figures::bytes(sum.bytes)
        )
    }
}

/// The due weeks of an app and event, from the first that was asked for.
fn weeks(line: &Line, first: Week) -> impl Iterator<Item = Export> {
    first.until(line.not_yet_due).map(|week| Export {
        app: line.app.clone(),
        event: line.event,
        week,
    })
}

/// Reads a week's manifest.
async fn find<A: Archive>(archive: &A, export: &Export) -> Result<Found, ArchiveError> {
    let Some(stored) = archive.get(&Key::manifest(export)).await? else {
        return Ok(Found::Nothing);
    };
    Ok(match manifest::read(&stored.bytes, export) {
        Ok(manifest::Read::Known(manifest)) => Found::Archived {
            archived: manifest.archived,
            discrepancies: manifest.discrepancies,
        },
        Ok(manifest::Read::Foreign { schema }) if schema == tombstone::SCHEMA => {
            match Tombstone::read(&stored.bytes, export) {
                Ok(tombstone) => Found::Erased(tombstone),
                Err(why) => Found::Unreadable(why),
            }
        }
        Ok(manifest::Read::Foreign { schema }) => Found::Unreadable(format!(
            "its manifest is of the schema {schema:?}, which this version cannot check: use a newer one"
        )),
        Err(why) => Found::Unreadable(format!(
            "{} cannot be read: {why}; look at it, and move it away to have the week exported again",
            Key::manifest(export)
        )),
    })
}

impl Row {
    fn new(line: &Line, ends: &BTreeMap<Export, End>, export: Export, found: Found) -> Self {
        let plan = if line.enqueued.contains(&export.week) {
            Some(Plan::Archive)
        } else if line.replacing.contains(&export.week) {
            Some(Plan::Replace)
        } else {
            None
        };
        let end = ends.get(&export).cloned();
        Self {
            export,
            found,
            plan: plan.filter(|_| end.is_none()),
            end,
        }
    }

    fn verdict(&self) -> Verdict {
        let why = match &self.end {
            None | Some(End::Archived) => None,
            Some(End::Failed(why)) => Some(why.clone()),
            Some(End::Interrupted) => {
                return Verdict::Wrong(
                    match self.found {
                        Found::Nothing => "not yet: run again to continue",
                        _ => "not replaced yet: run again to continue",
                    },
                    Vec::new(),
                );
            }
        };
        match (&self.found, why) {
            (Found::Nothing, _) if self.plan.is_some() => Verdict::Planned("would be archived"),
            (Found::Nothing, why) => Verdict::Wrong("missing", why.into_iter().collect()),
            (Found::Erased(tombstone), _) => Verdict::Erased(format!(
                "erased on {} by {}: {}",
                tombstone.erased_at.date(),
                tombstone.erased_by,
                tombstone.reason
            )),
            (Found::Unreadable(words), _) => Verdict::Wrong("unknown", vec![words.clone()]),
            (Found::Archived { .. }, _) if self.plan.is_some() => {
                Verdict::Planned("would be replaced")
            }
            (Found::Archived { .. }, Some(why)) => Verdict::Wrong("not replaced", vec![why]),
            (Found::Archived { discrepancies, .. }, None) if discrepancies.is_empty() => {
                Verdict::Verified
            }
            (Found::Archived { discrepancies, .. }, None) => {
                let mut shown = discrepancies.clone();
                if shown.len() > MOST_SHOWN {
                    let more = shown.len() - MOST_SHOWN;
                    shown.truncate(MOST_SHOWN);
                    shown.push(format!("and {more} more, in its manifest"));
                }
                Verdict::Wrong("unverified", shown)
            }
        }
    }
}

impl Verdict {
    /// Whether nobody has to do anything about it.
    fn is_right(&self) -> bool {
        matches!(self, Self::Verified | Self::Erased(_))
    }
}

impl Section {
    fn write(&self, text: &mut String) {
        let Line { app, event, .. } = &self.line;
        let title = style(format!("{app}  {event}")).bold();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{title}");
        let heading = format!(
            "  {:10}  {:>9}  {:>7}  {:>10}",
            "week", "records", "files", "bytes"
        );
        let _ = writeln!(text, "{}", style(heading).dim());
        let mut said = Vec::new();
        for row in &self.rows {
            let (records, files, bytes) = match &row.found {
                Found::Archived { archived, .. } => (
                    figures::count(archived.records),
                    figures::count(archived.files),
                    figures::bytes(archived.bytes),
                ),
                _ => ("–".to_owned(), "–".to_owned(), "–".to_owned()),
            };
            let (state, notes) = match row.verdict() {
                Verdict::Verified => {
                    let empty = if records == "0" {
                        ", nothing in it"
                    } else {
                        ""
                    };
                    (style(format!("✔ verified{empty}")).green(), Vec::new())
                }
                Verdict::Erased(words) => (style(format!("· {words}")).dim(), Vec::new()),
                Verdict::Planned(words) => (style(format!("· {words}")).cyan(), Vec::new()),
                Verdict::Wrong(words, notes) => (style(format!("✘ {words}")).red(), notes),
            };
            let week = row.export.week;
            let _ = write!(
                text,
                "  {week}  {records:>9}  {files:>7}  {bytes:>10}  {state}"
            );
            if !notes.is_empty() && notes == said {
                let _ = writeln!(text, ", as above");
                continue;
            }
            let _ = writeln!(text);
            for note in &notes {
                let _ = writeln!(text, "      {note}");
            }
            said = notes;
        }
        let _ = writeln!(text);
    }
}
