//! The page: HTML, CSS and pictures in one file, without scripts and without the network.

use std::fmt::Write as _;

use crate::audit::status::{self, Calendar, Entry, Gravity, State, Status};
use crate::cli::figures;
use crate::export::{Event, Week};

const STYLE: &str = include_str!("page.css");

/// The width of all pictures, in their own units.
const WIDTH: i64 = 776;
/// Where the weeks begin in the calendar: to the left stands the year.
const YEARS: i64 = 34;
/// From one week to the next in the calendar, and the size of one.
const PITCH: i64 = 14;
const CELL: i64 = 11;
/// Where the plot begins in a chart, and its height.
const AXIS: i64 = 52;
const HIGH: i64 = 96;

/// Text that stands for itself in HTML, in elements and in attributes.
fn esc(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // HTML has none, and the page may be printed to a terminal.
            control if control.is_control() => safe.push(char::REPLACEMENT_CHARACTER),
            other => safe.push(other),
        }
    }
    safe
}

/// Writes formatted text at the end of a `String`, which cannot fail.
macro_rules! put {
    ($to:expr, $($arg:tt)*) => {{ let _ = write!($to, $($arg)*); }};
}

/// The whole page.
pub fn page(status: &Status) -> String {
    let mut out = String::new();
    let archive = esc(&status.archive);
    put!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'\">\n<title>Answer Insights archive: {archive}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<header>\n\
         <h1>Answer Insights archive</h1>\n<p class=\"place\"><code>{archive}</code>, as of \
         <time datetime=\"{time}\">{minute}&nbsp;UTC</time></p>\n</header>\n",
        time = status.time,
        minute = minute(&status.time.to_string()),
    );
    verdict(&mut out, status);
    tiles(&mut out, status);
    let whole = status.guards.iter().chain(&status.remarks);
    let whole: Vec<_> = whole.map(|text| ("warn", text.clone())).collect();
    said(&mut out, &whole);
    if !status.exports.is_empty() {
        legend(&mut out, status);
    }
    for calendars in status.exports.chunk_by(|a, b| a.app == b.app) {
        app(&mut out, calendars);
    }
    put!(
        out,
        "<footer><p>Weeks begin on Monday, UTC. Made by insights-archive from the archive’s \
         manifests; <code>verify</code> checks the files themselves.</p></footer>\n\
         </main>\n</body>\n</html>\n"
    );
    out
}

/// `2025-03-05 12:00`
fn minute(time: &str) -> String {
    time.get(..16).unwrap_or(time).replace('T', " ")
}

fn verdict(out: &mut String, status: &Status) {
    let wanting = status
        .exports
        .iter()
        .flat_map(|calendar| &calendar.weeks)
        .filter(|entry| entry.state.is_wanting())
        .count() as u64;
    let (class, mark, words) = if status.complete {
        let weeks = || status.exports.iter().flat_map(|calendar| &calendar.weeks);
        let erased = weeks().any(|entry| matches!(entry.state, State::Erased { .. }));
        let erased = if erased { ", or was erased" } else { "" };
        let words =
            format!("Complete: every week shown below that is due stands in the archive{erased}.");
        ("", "M4 10.5l4 4 8-9", words)
    } else if status.totals.files == 0 && wanting == 0 {
        (
            " not",
            "M5 5l10 10M15 5L5 15",
            "Nothing is archived.".to_owned(),
        )
    } else {
        let verb = if wanting == 1 { "is" } else { "are" };
        let words = format!(
            "Not complete: {} that {verb} due {verb} not in the archive.",
            figures::counted(wanting, "week")
        );
        (" not", "M5 5l10 10M15 5L5 15", words)
    };
    let ink = if status.complete { "--r5" } else { "--bad" };
    put!(
        out,
        "<p class=\"verdict{class}\"><svg width=\"20\" height=\"20\" viewBox=\"0 0 20 20\" \
         aria-hidden=\"true\"><path d=\"{mark}\" fill=\"none\" stroke=\"var({ink})\" \
         stroke-width=\"2.5\" stroke-linecap=\"round\" stroke-linejoin=\"round\"/></svg>{words}</p>\n"
    );
}

fn tiles(out: &mut String, status: &Status) {
    let archived = |entry: &&Entry| entry.state.archived().is_some();
    let weeks = status.exports.iter().flat_map(|calendar| &calendar.weeks);
    let weeks = weeks.filter(archived).count() as u64;
    let first = status.exports.iter().filter_map(|calendar| calendar.first);
    let since = first.min().map_or("–".to_owned(), |week| week.to_string());
    let tiles = [
        ("Weeks archived", figures::count(weeks)),
        ("Records", figures::count(status.totals.records)),
        ("Size", short_bytes(status.totals.bytes)),
        ("Since", since),
    ];
    put!(out, "<dl class=\"tiles\">");
    for (name, value) in tiles {
        put!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    put!(out, "</dl>\n");
}

/// A list of sentences, each of a class.
fn said(out: &mut String, sentences: &[(&str, String)]) {
    if sentences.is_empty() {
        return;
    }
    put!(out, "<ul class=\"said\">");
    for (class, text) in sentences {
        put!(out, "<li class=\"{class}\">{}</li>", esc(text));
    }
    put!(out, "</ul>\n");
}

/// What the signs of the calendar mean; only of those that occur.
fn legend(out: &mut String, status: &Status) {
    let signs = [
        ("archived", "archived"),
        ("discrepancies", "with discrepancies"),
        ("empty", "archived, nothing in it"),
        ("missing", "missing"),
        ("waiting", "waiting after a failure"),
        ("underway", "under way"),
        ("unreadable", "manifest unreadable"),
        ("erased", "erased on request"),
        ("newer", "of a newer version"),
        ("notYetDue", "not due yet"),
    ];
    put!(out, "<ul class=\"legend\" aria-label=\"Legend\">");
    for (state, words) in signs {
        let mut counts = status.exports.iter().map(|calendar| &calendar.counts);
        if !counts.any(|counts| counts.contains_key(state)) {
            continue;
        }
        if state == "archived" {
            put!(
                out,
                "<li>fewer records <svg width=\"67\" height=\"13\" aria-hidden=\"true\">"
            );
            for level in 1..=5 {
                let x = (level - 1) * PITCH;
                rect(out, &format!("l{level}"), x, 1);
                put!(out, "/>");
            }
            put!(out, "</svg> more</li>");
            continue;
        }
        put!(
            out,
            "<li><svg width=\"13\" height=\"13\" aria-hidden=\"true\">"
        );
        sign(out, state, 3, 1, 1, "");
        put!(out, "</svg> {words}</li>");
    }
    put!(out, "</ul>\n");
}

/// The beginning of a week's square.
fn rect(out: &mut String, class: &str, x: i64, y: i64) {
    put!(
        out,
        "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{CELL}\" height=\"{CELL}\" rx=\"2.5\""
    );
}

/// A week's square, of a level from 1 to 5 where it has records, with a title for the pointer.
fn sign(out: &mut String, state: &str, level: u64, x: i64, y: i64, title: &str) {
    let class = match state {
        "archived" | "discrepancies" => format!("l{level}"),
        other => other.to_owned(),
    };
    if !title.is_empty() {
        put!(out, "<g><title>{}</title>", esc(title));
    }
    rect(out, &class, x, y);
    put!(out, "/>");
    let (middle_x, middle_y) = (x + CELL / 2, y + CELL / 2);
    match state {
        "missing" | "unreadable" => put!(
            out,
            "<path class=\"mark\" d=\"M{} {}l5 5m0-5l-5 5\"/>",
            x + 3,
            y + 3
        ),
        "waiting" => put!(
            out,
            "<path class=\"mark\" d=\"M{} {}v3m0 2.5v.01\"/>",
            f64_half(middle_x),
            y + 3
        ),
        "discrepancies" => put!(
            out,
            "<circle class=\"dot\" cx=\"{}\" cy=\"{}\" r=\"3\"/>",
            f64_half(middle_x),
            f64_half(middle_y)
        ),
        "erased" => put!(
            out,
            "<path class=\"gone\" d=\"M{} {}h5\"/>",
            x + 3,
            f64_half(middle_y)
        ),
        _ => {}
    }
    if !title.is_empty() {
        put!(out, "</g>");
    }
}

/// The middle of a square of odd size.
fn f64_half(n: i64) -> String {
    format!("{n}.5")
}

fn app(out: &mut String, calendars: &[Calendar]) {
    let Some(first) = calendars.first() else {
        return;
    };
    let name = esc(first.app.as_str());
    put!(
        out,
        "<section class=\"card\" aria-labelledby=\"app-{name}\">\n<h2 id=\"app-{name}\">{name}</h2>\n"
    );
    for calendar in calendars {
        map(out, calendar);
        said(out, &remarks(calendar));
        table(out, calendar);
    }
    // What holds everything, or else what there is.
    let whole = calendars
        .iter()
        .find(|calendar| calendar.event == Event::All);
    let whole = whole.unwrap_or(first);
    if whole.archived.records > 0 {
        let what = event_words(whole.event);
        let records = |entry: &Entry| entry.state.archived().map(|facts| facts.records);
        let bytes = |entry: &Entry| entry.state.archived().map(|facts| facts.bytes);
        put!(out, "<h3>Records a week<span>{what}</span></h3>\n");
        bars(out, whole, "Records a week", short_count, records);
        put!(out, "<h3>Bytes a week<span>{what}</span></h3>\n");
        bars(out, whole, "Bytes a week", short_bytes, bytes);
    }
    let of = |event| calendars.iter().find(|calendar| calendar.event == event);
    if let (Some(up), Some(down)) = (of(Event::ThumbsUp), of(Event::ThumbsDown)) {
        thumbs(out, up, down);
    }
    put!(out, "</section>\n");
}

fn event_words(event: Event) -> &'static str {
    match event {
        Event::All => "all records",
        Event::ThumbsUp => "thumbs up",
        Event::ThumbsDown => "thumbs down",
    }
}

/// What a person should know of a calendar, with the class of each sentence.
fn remarks(calendar: &Calendar) -> Vec<(&'static str, String)> {
    let remarks = status::remarks(&calendar.weeks).into_iter();
    let classed = remarks.map(|(gravity, text)| {
        let class = match gravity {
            Gravity::Grave => "bad",
            Gravity::Doubtful => "warn",
            Gravity::Plain => "plain",
        };
        (class, text)
    });
    classed.collect()
}

/// One row for each year, one square for each week.
fn map(out: &mut String, calendar: &Calendar) {
    let span = match (calendar.first, calendar.last) {
        (Some(first), Some(last)) => format!(
            "{first} to {last}, {}, {}",
            figures::counted(calendar.archived.records, "record"),
            short_bytes(calendar.archived.bytes)
        ),
        _ => "no week archived".to_owned(),
    };
    let what = event_words(calendar.event);
    let title = format!("{}{}", what[..1].to_uppercase(), &what[1..]);
    put!(out, "<h3>{title}<span>{span}</span></h3>\n");
    let (Some(from), Some(to)) = (calendar.weeks.first(), calendar.weeks.last()) else {
        return;
    };
    let year = |week: Week| i64::from(week.monday().iso_week_date().year());
    let (from_year, to_year) = (year(from.week), year(to.week));
    let height = 16 + (to_year - from_year + 1) * PITCH;
    let counts = calendar.counts.iter();
    let counts: Vec<_> = counts.map(|(state, n)| format!("{n} {state}")).collect();
    put!(
        out,
        "<figure class=\"scroll\" tabindex=\"0\"><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"Calendar of weeks, {what}: {}. The table below has every week.\">\n",
        counts.join(", ")
    );
    let months = [
        ("Jan", 0),
        ("Feb", 5),
        ("Mar", 9),
        ("Apr", 13),
        ("May", 18),
        ("Jun", 22),
        ("Jul", 26),
        ("Aug", 31),
        ("Sep", 35),
        ("Oct", 39),
        ("Nov", 44),
        ("Dec", 48),
    ];
    for (month, week) in months {
        put!(
            out,
            "<text x=\"{}\" y=\"10\">{month}</text>",
            YEARS + week * PITCH
        );
    }
    for row in from_year..=to_year {
        let y = 16 + (row - from_year) * PITCH + 9;
        put!(out, "<text x=\"0\" y=\"{y}\">{row}</text>");
    }
    let records = |entry: &Entry| entry.state.archived().map_or(0, |facts| facts.records);
    let most = calendar.weeks.iter().map(records).max().unwrap_or(0).max(1);
    for entry in &calendar.weeks {
        let date = entry.week.monday().iso_week_date();
        let x = YEARS + i64::from(date.week() - 1) * PITCH + 1;
        let y = 16 + (i64::from(date.year()) - from_year) * PITCH + 1;
        // Squares of the level, so that a busy week leaves the others apart.
        let n = u128::from(records(entry));
        let level = (1..5).find(|level| n * 25 <= u128::from(level * level * most));
        let title = format!("{}: {}", entry.week, state_words(&entry.state));
        sign(out, entry.state.as_str(), level.unwrap_or(5), x, y, &title);
    }
    put!(out, "\n</svg></figure>\n");
}

fn state_words(state: &State) -> String {
    match state {
        State::Archived { archived, .. } => format!(
            "{}, {}",
            figures::counted(archived.records, "record"),
            short_bytes(archived.bytes)
        ),
        State::Discrepancies { archived, .. } => format!(
            "{}, with discrepancies",
            figures::counted(archived.records, "record")
        ),
        State::Empty { .. } => "archived, nothing in it".to_owned(),
        State::Erased { .. } => "erased on request".to_owned(),
        State::Newer { .. } => "archived by a newer version".to_owned(),
        State::Unreadable { .. } => "manifest unreadable".to_owned(),
        State::Missing => "missing".to_owned(),
        State::Waiting { until, .. } => {
            format!("failed, tried again after {}", minute(&until.to_string()))
        }
        State::Underway { .. } => "under way".to_owned(),
        State::NotYetDue => "not due yet".to_owned(),
    }
}

/// Every week in words, for whoever does not see the calendar.
fn table(out: &mut String, calendar: &Calendar) {
    if calendar.weeks.is_empty() {
        return;
    }
    let what = event_words(calendar.event);
    put!(
        out,
        "<details><summary>Week by week, {what}</summary><table><caption>{} weeks, the latest first\
         </caption><thead><tr><th scope=\"col\">Week</th><th scope=\"col\">State</th>\
         <th scope=\"col\" class=\"n\">Records</th><th scope=\"col\" class=\"n\">Files</th>\
         <th scope=\"col\" class=\"n\">Size</th></tr></thead><tbody>\n",
        calendar.weeks.len()
    );
    for Entry { week, state } in calendar.weeks.iter().rev() {
        let (words, numbers) = match state.archived() {
            Some(facts) => (
                match state {
                    State::Discrepancies { .. } => "archived, with discrepancies".to_owned(),
                    State::Archived { .. } => "archived".to_owned(),
                    other => state_words(other),
                },
                [
                    figures::count(facts.records),
                    figures::count(facts.files),
                    short_bytes(facts.bytes),
                ],
            ),
            None => (state_words(state), [(); 3].map(|()| "–".to_owned())),
        };
        put!(
            out,
            "<tr><th scope=\"row\">{week}</th><td>{words}</td>",
            words = esc(&words)
        );
        for number in numbers {
            put!(out, "<td class=\"n\">{number}</td>");
        }
        put!(out, "</tr>\n");
    }
    put!(out, "</tbody></table></details>\n");
}

/// The least round number that is not below `n`.
fn nice(n: u64) -> u64 {
    let mut power: u64 = 1;
    loop {
        for step in [1, 2, 3, 4, 5, 6, 8] {
            let nice = power.saturating_mul(step);
            if nice >= n || nice == u64::MAX {
                return nice;
            }
        }
        power = power.saturating_mul(10);
    }
}

/// So many of the plot's units: `n` of `most`, on a height.
fn scaled(n: u64, most: u64, high: i64) -> String {
    let tenths = u128::from(n) * u128::from(high.unsigned_abs()) * 10 / u128::from(most.max(1));
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// Where the `at`th of `of` weeks begins, in hundredths of the plot's units.
fn across(at: usize, of: usize) -> i64 {
    let (at, of) = (
        i64::try_from(at).unwrap_or(0),
        i64::try_from(of).unwrap_or(1),
    );
    AXIS * 100 + at * (WIDTH - AXIS) * 100 / of.max(1)
}

fn hundredths(n: i64) -> String {
    format!("{}.{:02}", n / 100, n % 100)
}

/// The bar of the `at`th of `of` weeks: its left edge and width.
fn bar(at: usize, of: usize) -> (String, String) {
    let (left, right) = (across(at, of), across(at + 1, of));
    // A narrow gap, which takes at most a fifth.
    let gap = (right - left).min(1_000) / 5;
    (hundredths(left), hundredths(right - left - gap))
}

/// Under a chart: years, or months where there are few weeks.
fn dates(out: &mut String, weeks: &[Entry], y: i64) {
    let months = weeks.len() <= 60;
    let mut last = None;
    // No label before this, or it would lie over the one before.
    let mut free = 0;
    for (at, entry) in weeks.iter().enumerate() {
        let date = entry.week.monday();
        let label = if months {
            date.strftime("%b %Y").to_string()
        } else {
            date.year().to_string()
        };
        let x = across(at, weeks.len());
        let new = last.as_ref() != Some(&label);
        // The first week is rarely the first of its month or year.
        if new && x >= free && x <= (WIDTH - 40) * 100 {
            put!(
                out,
                "<text x=\"{}\" y=\"{y}\">{label}</text>",
                hundredths(x)
            );
            free = x + 5_500;
        }
        if new {
            last = Some(label);
        }
    }
}

/// One bar a week.
fn bars(
    out: &mut String,
    calendar: &Calendar,
    what: &str,
    words: fn(u64) -> String,
    value: impl Fn(&Entry) -> Option<u64>,
) {
    let weeks = &calendar.weeks;
    let values: Vec<_> = weeks.iter().map(value).collect();
    let most = values.iter().flatten().max().copied().unwrap_or(0);
    let top = nice(most);
    put!(
        out,
        "<figure class=\"scroll\" tabindex=\"0\"><svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" \
         aria-label=\"{what}, from {} to {}: at most {}. The table above has the numbers.\">\n",
        HIGH + 24,
        weeks
            .first()
            .map_or(String::new(), |entry| entry.week.to_string()),
        weeks
            .last()
            .map_or(String::new(), |entry| entry.week.to_string()),
        words(most),
    );
    // No line where half of it would not be a whole number.
    let half = top.is_multiple_of(2).then_some((top / 2, 6 + HIGH / 2));
    for (part, y) in half.into_iter().chain([(top, 6)]) {
        put!(
            out,
            "<path class=\"grid\" d=\"M{AXIS} {y}.5H{WIDTH}\"/>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            AXIS - 6,
            y + 4,
            words(part)
        );
    }
    for (at, (entry, n)) in weeks.iter().zip(&values).enumerate() {
        let Some(n) = n.filter(|n| *n > 0) else {
            continue;
        };
        let (x, width) = bar(at, weeks.len());
        let high = scaled(n, top, HIGH);
        put!(
            out,
            "<path class=\"up\" d=\"M{x} {}v-{high}h{width}v{high}z\"><title>{}: {}</title></path>",
            6 + HIGH,
            entry.week,
            words(n)
        );
    }
    let base = 6 + HIGH;
    put!(out, "<path class=\"axis\" d=\"M{AXIS} {base}.5H{WIDTH}\"/>");
    dates(out, weeks, base + 14);
    put!(out, "\n</svg></figure>\n");
}

/// Likes above the line, dislikes below it, for the weeks that have both archived.
fn thumbs(out: &mut String, up: &Calendar, down: &Calendar) {
    let votes = |calendar: &Calendar, week: Week| {
        let found = calendar.weeks.iter().find(|entry| entry.week == week);
        found?.state.archived().map(|facts| facts.records)
    };
    let both: Vec<_> = up
        .weeks
        .iter()
        .map(|entry| (entry, votes(up, entry.week).zip(votes(down, entry.week))))
        .collect();
    let total = both.iter().filter_map(|(_, votes)| *votes);
    let (ups, downs) = total.fold((0u64, 0u64), |(ups, downs), (up, down)| {
        (ups.saturating_add(up), downs.saturating_add(down))
    });
    if ups.saturating_add(downs) == 0 {
        return;
    }
    let share = u128::from(ups) * 100 / (u128::from(ups) + u128::from(downs));
    let words = format!(
        "{share} % of {} are up",
        figures::counted(ups.saturating_add(downs), "vote")
    );
    let most = both.iter().filter_map(|(_, votes)| *votes);
    let (most_up, most_down) = most.fold((1, 1), |(a, b), (up, down)| (a.max(up), b.max(down)));
    let (top, bottom) = (nice(most_up), nice(most_down));
    // One scale for both, so that heights compare.
    let whole = HIGH * 4 / 3;
    let share_of = |part: u64| {
        let all = u128::from(top) + u128::from(bottom);
        let part = u128::from(part) * u128::from(whole.unsigned_abs()) / all;
        i64::try_from(part).unwrap_or(whole)
    };
    let (above, below) = (share_of(top), share_of(bottom));
    let middle = 6 + above;
    put!(
        out,
        "<h3>Thumbs up and down a week<span>{words}</span></h3>\n\
         <figure class=\"scroll\" tabindex=\"0\"><svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" \
         aria-label=\"Thumbs up and down a week: {words}, at most {} up and {} down. The tables \
         above have the numbers.\">\n",
        above + below + 24,
        figures::count(most_up),
        figures::count(most_down)
    );
    for (n, sign, y) in [(top, "+", 6), (bottom, "−", middle + below)] {
        put!(
            out,
            "<path class=\"grid\" d=\"M{AXIS} {y}.5H{WIDTH}\"/><text x=\"{}\" y=\"{}\" \
             text-anchor=\"end\">{sign}{}</text>",
            AXIS - 6,
            y + 4,
            short_count(n)
        );
    }
    for (at, (entry, votes)) in both.iter().enumerate() {
        let Some((up, down)) = votes else {
            continue;
        };
        let (x, width) = bar(at, both.len());
        let (high, low) = (scaled(*up, top, above), scaled(*down, bottom, below));
        put!(
            out,
            "<g><title>{}: {up} up, {down} down</title>\
             <path class=\"up\" d=\"M{x} {middle}v-{high}h{width}v{high}z\"/>\
             <path class=\"down\" d=\"M{x} {middle}v{low}h{width}v-{low}z\"/></g>",
            entry.week
        );
    }
    put!(out, "<path class=\"axis\" d=\"M{AXIS} {middle}H{WIDTH}\"/>");
    dates(out, &up.weeks, middle + below + 14);
    put!(out, "\n</svg></figure>\n");
}

/// Three digits at most and a letter for the rest.
fn short(n: u64, units: &[&str]) -> String {
    let (mut whole, mut tenths, mut unit) = (n, 0, 0);
    while whole >= 1000 && unit + 1 < units.len() {
        tenths = whole % 1000 / 100;
        whole /= 1000;
        unit += 1;
    }
    let unit = units[unit];
    if tenths > 0 && whole < 100 {
        format!("{whole}.{tenths}{unit}")
    } else {
        format!("{whole}{unit}")
    }
}

fn short_count(n: u64) -> String {
    short(n, &["", "k", "M", "G"])
}

fn short_bytes(n: u64) -> String {
    short(n, &[" B", " kB", " MB", " GB", " TB"])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::audit::Range;
    use crate::audit::made::{Made, export, time};
    use crate::audit::status::status;
    use crate::audit::survey::survey;

    async fn of(made: &Made, archive: &str) -> String {
        let range = Range::default();
        let survey = survey(&made.folder, &range).await.unwrap();
        let hour = Duration::from_secs(3600);
        let now = time("2025-03-05T12:00:00Z");
        let guards = vec!["The bucket <b> has no \"policy\".".to_owned()];
        page(&status(
            &survey,
            &range,
            archive.to_owned(),
            guards,
            hour,
            now,
        ))
    }

    /// Whether every element that is opened is closed, in order.
    fn assert_well_formed(page: &str) {
        let mut open = Vec::new();
        let body = page.split_once("</style>").unwrap().1;
        for tag in body.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').unwrap_or_else(|| panic!("{tag}"));
            let name = tag.split([' ', '\n']).next().unwrap();
            if let Some(name) = name.strip_prefix('/') {
                if let "head" | "html" = name {
                    continue;
                }
                assert_eq!(open.pop(), Some(name), "{tag}");
            } else if !tag.ends_with('/') {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[tokio::test]
    async fn an_empty_archive_has_a_page() {
        let page = of(&Made::new(), "here").await;
        assert!(page.contains("Nothing is archived."), "{page}");
        assert_well_formed(&page);
    }

    #[tokio::test]
    async fn nothing_from_outside_becomes_markup_and_nothing_is_fetched() {
        let made = Made::new();
        let week = |text: &str| export(&format!("st-1/{text}"));
        made.archive(&week("all/2024-12-23"), &["[1,2,3]"], 3).await;
        made.archive(&week("all/2025-01-13"), &["[1]"], 2).await;
        made.archive(&week("thumbsUp/2025-02-17"), &["[1,2,3]"], 3)
            .await;
        made.archive(&week("thumbsDown/2025-02-17"), &["[1]"], 1)
            .await;
        let newer = r#"{"schema": "<script>alert(1)</script>"}"#;
        made.manifest(&week("all/2025-01-06"), newer).await;
        made.manifest(
            &week("all/2025-01-20"),
            r#"{"schema": "insights-archive/erased/1", "app": "st-1", "event": "all",
                "week": "2025-01-20", "erasedBy": "<img src=x onerror=y>", "reason": "a & b",
                "erasedAt": "2025-02-01T00:00:00Z", "erased": null}"#,
        )
        .await;
        let page = of(&made, "./<archive> & \"more\"").await;
        for (hostile, shown) in [
            ("<script", "&lt;script&gt;alert(1)"),
            ("<img", "&lt;img src=x onerror=y&gt;: a &amp; b"),
            ("<archive>", "./&lt;archive&gt; &amp; &quot;more&quot;"),
            ("<b>", "The bucket &lt;b&gt; has no &quot;policy&quot;."),
        ] {
            assert!(!page.contains(hostile), "{hostile}");
            assert!(page.contains(shown), "{shown} in {page}");
        }
        for fetched in ["http:", "https:", "src=\"", "url(", "@import", "<link"] {
            assert!(!page.contains(fetched), "{fetched}");
        }
        assert!(page.contains("75 % of 4 votes are up"), "{page}");
        assert!(
            page.contains("weeks are missing: 2025-01-27 to 2025-02-24."),
            "{page}"
        );
        assert_well_formed(&page);
    }

    #[test]
    fn numbers_are_short_and_scales_are_round() {
        for (n, words) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_050, "1 kB"),
            (61_234_567, "61.2 MB"),
        ] {
            assert_eq!(short_bytes(n), words);
        }
        for (n, round) in [
            (0, 1),
            (1, 1),
            (3, 3),
            (11, 20),
            (1_000, 1_000),
            (u64::MAX, u64::MAX),
        ] {
            assert_eq!(nice(n), round);
        }
        assert_eq!(scaled(u64::MAX, u64::MAX, 96), "96.0");
    }
}
