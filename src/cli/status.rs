//! `status`: is the archive complete?

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use console::{Style, measure_text_width};

use super::range::Selection;
use super::screen::Screen;
use super::site::{Opened, Site};
use super::{UNFULFILLED, figures, harmless, results};
use crate::audit::Range;
use crate::audit::status::{Calendar, State, Status, status};
use crate::audit::survey::survey;
use crate::export::Time;

/// What is looked at, and how it is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insights-archive status --archive ./archive
  insights-archive status --archive s3://bucket/kore --since 2024-01-01
  insights-archive status --archive ./archive --app st-1a2b --json | jq .complete

Exit status: 0 every due week is archived, 1 one is missing, 2 wrong usage or settings.")]
pub struct Args {
    /// The archive: a folder, or a bucket with an optional prefix
    #[arg(long, value_name = "DIR|s3://BUCKET/PREFIX")]
    archive: Site,
    #[command(flatten)]
    selection: Selection,
    /// A week is due this long after its end
    #[arg(long, value_name = "N", default_value_t = 60)]
    settle_minutes: u32,
    /// Print a document for programs (docs/STATUS.md)
    #[arg(long)]
    json: bool,
}

/// Prints the calendar.
pub async fn run(args: Args, _screen: &Screen) -> anyhow::Result<ExitCode> {
    let range = args.selection.range()?;
    let settle = Duration::from_secs(60 * u64::from(args.settle_minutes));
    let status = look(&args.archive, &range, settle).await?;
    if args.json {
        results(&format!("{}\n", status.to_json()))?;
    } else {
        results(&draw(&status))?;
    }
    Ok(if status.complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(UNFULFILLED)
    })
}

/// Reads an archive and decides how it stands now.
pub(super) async fn look(site: &Site, range: &Range, settle: Duration) -> anyhow::Result<Status> {
    // On the heap: what talks to a bucket is large.
    let (survey, guards) = match site.open_to_read().await? {
        Opened::Folder(folder) => (Box::pin(survey(&folder, range)).await?, Vec::new()),
        Opened::Bucket(bucket) => {
            let survey = Box::pin(survey(&bucket, range));
            let (survey, guards) = tokio::join!(survey, Box::pin(bucket.lacking_guards()));
            (survey?, guards)
        }
    };
    let name = site.to_string();
    Ok(status(&survey, range, name, guards, settle, Time::now()))
}

/// How a state is drawn: told apart without colour.
struct Look {
    state: &'static str,
    glyph: &'static str,
    word: &'static str,
    style: Style,
}

fn looks() -> [Look; 10] {
    let look = |state, glyph, word, style| Look {
        state,
        glyph,
        word,
        style,
    };
    let plain = Style::new();
    [
        look("archived", "■", "archived", plain.clone().green()),
        look("empty", "□", "empty", plain.clone().green()),
        look(
            "discrepancies",
            "!",
            "with discrepancies",
            plain.clone().yellow().bold(),
        ),
        look("erased", "e", "erased", plain.clone().dim()),
        look("newer", "n", "of a newer version", plain.clone().cyan()),
        look("unreadable", "?", "unreadable", plain.clone().red().bold()),
        look("missing", "✗", "missing", plain.clone().red().bold()),
        look(
            "waiting",
            "w",
            "waiting after a failure",
            plain.clone().red(),
        ),
        look("underway", "~", "under way", plain.clone().cyan()),
        look("notYetDue", "·", "not yet due", plain.dim()),
    ]
}

/// Above the weeks of a year: each month where its first whole week usually is.
const MONTHS: &str = "Jan  Feb Mar Apr  May Jun Jul  Aug Sep Oct  Nov Dec";

/// The calendar for a terminal.
fn draw(status: &Status) -> String {
    let looks = looks();
    let mut text = String::new();
    // Writing to a String cannot fail.
    for calendar in &status.exports {
        let _ = writeln!(text, "{}", heading(calendar));
        if !calendar.weeks.is_empty() {
            let _ = writeln!(text, "        {}", Style::new().dim().apply_to(MONTHS));
        }
        let mut year = None;
        for entry in &calendar.weeks {
            let date = entry.week.monday().iso_week_date();
            if year != Some(date.year()) {
                if year.is_some() {
                    text.push('\n');
                }
                year = Some(date.year());
                let before = usize::try_from(date.week() - 1).unwrap_or_default();
                let _ = write!(text, "  {}  {}", date.year(), " ".repeat(before));
            }
            let found = looks.iter().find(|look| look.state == entry.state.as_str());
            if let Some(look) = found {
                let _ = write!(text, "{}", look.style.apply_to(look.glyph));
            }
        }
        if year.is_some() {
            text.push('\n');
        }
        for remark in &calendar.remarks {
            let _ = writeln!(text, "  - {}", harmless(remark));
        }
        text.push('\n');
    }
    let seen = |look: &&Look| {
        let mut counted = status.exports.iter().map(|calendar| &calendar.counts);
        counted.any(|counts| counts.contains_key(look.state))
    };
    let legend: Vec<String> = looks
        .iter()
        .filter(seen)
        .map(|look| format!("{} {}", look.style.apply_to(look.glyph), look.word))
        .collect();
    if !legend.is_empty() {
        let _ = writeln!(text, "{}\n", wrapped(&legend, 76));
    }
    for said in status.guards.iter().chain(&status.remarks) {
        let _ = writeln!(text, "{}", harmless(said));
    }
    let verdict = if status.complete {
        Style::new().green().apply_to("complete")
    } else {
        Style::new().red().bold().apply_to("not complete")
    };
    let _ = writeln!(
        text,
        "{}: {verdict}. {}, {}, {} in all.",
        status.archive,
        figures::counted(status.totals.records, "record"),
        figures::counted(status.totals.files, "file"),
        figures::bytes(status.totals.bytes),
    );
    text
}

fn heading(calendar: &Calendar) -> String {
    let name = format!("{} {}", calendar.app, calendar.event);
    let name = Style::new().bold().apply_to(name);
    let count = |state: &State| {
        calendar
            .counts
            .get(state.as_str())
            .copied()
            .unwrap_or_default()
    };
    let missing = count(&State::Missing);
    let span = match (calendar.first, calendar.last) {
        (Some(first), Some(last)) => format!(
            "{first} to {last}: {}, {}",
            figures::counted(calendar.archived.records, "record"),
            figures::bytes(calendar.archived.bytes)
        ),
        _ => "no week archived".to_owned(),
    };
    let missing = match missing {
        0 => String::new(),
        n => format!(", {} missing", figures::counted(n, "week")),
    };
    format!("{name}  {span}{missing}")
}

/// Words in lines of at most so many columns.
fn wrapped(words: &[String], columns: usize) -> String {
    let mut text = String::new();
    let mut used = 0;
    for word in words {
        let width = measure_text_width(word);
        if used > 0 && used + 3 + width > columns {
            text.push('\n');
            used = 0;
        } else if used > 0 {
            text.push_str("   ");
            used += 3;
        }
        text.push_str(word);
        used += width;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::made::{Made, export, time};

    #[tokio::test]
    async fn the_calendar_is_readable_without_colour() {
        let made = Made::new();
        made.archive(&export("st-1/all/2024-12-23"), &["[1,2]"], 2)
            .await;
        made.archive(&export("st-1/all/2025-01-06"), &[], 0).await;
        made.archive(&export("st-1/all/2025-01-13"), &["[1]"], 2)
            .await;
        let range = Range::default();
        let survey = survey(&made.folder, &range).await.unwrap();
        let hour = Duration::from_secs(3600);
        let now = time("2025-01-23T12:00:00Z");
        let status = status(&survey, &range, "here".into(), Vec::new(), hour, now);
        console::set_colors_enabled(false);
        let weeks = " ".repeat(51);
        let expected = format!(
            "st-1 all  2024-12-23 to 2025-01-13: 3 records, 8 B, 1 week missing
        {MONTHS}
  2024  {weeks}■
  2025  ✗□!·
  - The week of 2024-12-30 is missing.
  - The week of 2025-01-13: The files hold 1 records in all; the job states 2. Ask the vendor, then \
             run the week again with `replace`.

■ archived   □ empty   ! with discrepancies   ✗ missing   · not yet due

here: not complete. 3 records, 2 files, 8 B in all.
"
        );
        assert_eq!(draw(&status), expected);
    }

    #[test]
    fn every_state_has_its_own_glyph() {
        let mut glyphs = looks().map(|look| look.glyph);
        glyphs.sort_unstable();
        assert!(glyphs.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
