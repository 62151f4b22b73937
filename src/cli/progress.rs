//! Live progress: one line for each export under way, a bar for all of them; log lines where nobody
//! watches.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use console::{Style, measure_text_width, truncate_str};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};
use tracing::Level;

use super::figures;
use super::screen::Screen;
use crate::export::{AppId, Event, Export};
use crate::stages::Report;
use crate::stages::enqueue::Summary;

/// How often the picture is drawn.
const FRAME: Duration = Duration::from_millis(100);
/// Lines of the terminal that are left to what has scrolled up.
const LINES_LEFT: usize = 4;
/// How much of an export's work is done when its job has succeeded; the rest is the copy.
const EXPORTED: f64 = 0.8;
/// How much of the newest measurement goes into a rate: about two seconds are averaged.
const NEWEST: f64 = 0.05;
/// Characters of a bar, where there is room, and at least.
const BAR: usize = 24;
const SHORTEST_BAR: usize = 8;
/// What stands beside the bar on a line, its label aside: phase, figure, rate.
const BESIDE_BAR: usize = 38;
/// Long ids of apps are cut in the middle to this many characters.
const APP: usize = 16;

/// What is known of all exports of a run. Clones are the same.
#[derive(Debug, Clone)]
pub struct Progress {
    screen: Screen,
    state: Arc<Mutex<State>>,
}

impl Progress {
    /// Shows nothing yet.
    pub fn new(screen: &Screen) -> Self {
        Self {
            screen: screen.clone(),
            state: Arc::default(),
        }
    }

    /// Takes note of what is to be done, and shows it until the result is dropped.
    pub fn begin(&self, summary: &Summary) -> Drawing {
        *self.state() = State::new(summary);
        if !self.screen.is_live() {
            return Drawing(None);
        }
        let bar = self.screen.bars().add(ProgressBar::no_length());
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        let (progress, shown) = (self.clone(), bar.clone());
        let drawer = tokio::spawn(async move {
            let mut frames = interval(FRAME);
            loop {
                frames.tick().await;
                let (rows, columns) = Screen::size();
                let picture = progress.state().picture(rows, columns, Instant::now());
                shown.set_message(picture);
                shown.tick();
            }
        });
        Drawing(Some((bar, drawer)))
    }

    /// Takes note of what happened to an export.
    pub fn note(&self, export: &Export, report: &Report) {
        let label = {
            let mut state = self.state();
            state.note(export, report);
            state.label(export)
        };
        let Some((level, words)) = words(report) else {
            return;
        };
        if self.screen.is_live() && level <= Level::INFO {
            if let Some(words) = worth_a_line(report) {
                let line = format!("  {label}  {words}");
                let (_, columns) = Screen::size();
                // What ended badly is said in full.
                let line = match report {
                    Report::GaveUp { .. } => line.into(),
                    _ => truncate_str(&line, columns.saturating_sub(1), "…"),
                };
                self.screen.say(&line);
            }
            tracing::debug!("{export}: {words}");
            return;
        }
        match level {
            Level::ERROR => tracing::error!("{export}: {words}"),
            Level::WARN => tracing::warn!("{export}: {words}"),
            Level::INFO => tracing::info!("{export}: {words}"),
            _ => tracing::debug!("{export}: {words}"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The picture on the terminal; it goes when this is dropped.
pub struct Drawing(Option<(ProgressBar, JoinHandle<()>)>);

impl Drop for Drawing {
    fn drop(&mut self) {
        if let Some((bar, drawer)) = self.0.take() {
            drawer.abort();
            bar.finish_and_clear();
        }
    }
}

/// How far one export is.
#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Waiting,
    Exporting { percent: f64 },
    Copying { done: u32, of: u32 },
    Ended,
}

impl Phase {
    /// From 0 to 1.
    fn share(&self) -> f64 {
        match self {
            Self::Waiting => 0.0,
            Self::Exporting { percent } => EXPORTED * percent / 100.0,
            Self::Copying { done, of } => {
                EXPORTED + (1.0 - EXPORTED) * f64::from(*done) / f64::from((*of).max(1))
            }
            Self::Ended => 1.0,
        }
    }
}

#[derive(Debug, Clone)]
struct Item {
    phase: Phase,
    /// What is in its way, if anything.
    trouble: Option<String>,
    arrived: u64,
    /// Bytes a second, and from when and how many that was reckoned.
    rate: f64,
    reckoned: (Instant, u64),
}

impl Item {
    fn reckon(&mut self, now: Instant) {
        let (then, had) = self.reckoned;
        let span = now.saturating_duration_since(then).as_secs_f64();
        if span > 0.0 {
            #[expect(clippy::cast_precision_loss, reason = "it is shown with three digits")]
            let rate = (self.arrived - had) as f64 / span;
            self.rate += (rate - self.rate) * NEWEST;
            self.reckoned = (now, self.arrived);
        }
    }
}

#[derive(Debug, Default)]
struct State {
    began: Option<Instant>,
    items: BTreeMap<Export, Item>,
    /// Whether there is more than one app, and more than one event.
    apps: bool,
    events: bool,
}

impl State {
    fn new(summary: &Summary) -> Self {
        let now = Instant::now();
        let waiting = Item {
            phase: Phase::Waiting,
            trouble: None,
            arrived: 0,
            rate: 0.0,
            reckoned: (now, 0),
        };
        let first = summary.exports.first();
        Self {
            began: Some(now),
            items: summary
                .sent
                .iter()
                .map(|message| {
                    // Another run was at work on it; its claim lapses when it is dead.
                    let trouble = message.not_before.map(|until| {
                        let until = &until.to_string()[11..16];
                        format!("another run holds it until {until} UTC, or held it when it died")
                    });
                    let item = Item {
                        trouble,
                        ..waiting.clone()
                    };
                    (message.export.clone(), item)
                })
                .collect(),
            apps: summary
                .exports
                .iter()
                .any(|line| Some(&line.app) != first.map(|first| &first.app)),
            events: summary
                .exports
                .iter()
                .any(|line| Some(line.event) != first.map(|first| first.event)),
        }
    }

    fn note(&mut self, export: &Export, report: &Report) {
        let Some(item) = self.items.get_mut(export) else {
            return;
        };
        match report {
            Report::Arrived { bytes } => {
                item.arrived += bytes;
                return;
            }
            Report::HostTrouble(error) => {
                item.trouble = Some(brief(&error.to_string()).to_owned());
                return;
            }
            Report::Delayed { why, .. } => {
                item.trouble = Some(brief(why).to_owned());
                return;
            }
            Report::Restarting { why } => {
                item.phase = Phase::Waiting;
                item.trouble = Some(format!("new job soon: {}", brief(why)));
                return;
            }
            Report::Quarantined { .. } | Report::Continued { .. } => return,
            Report::Started { .. } | Report::Adopted { .. } => {
                item.phase = Phase::Exporting { percent: 0.0 };
            }
            Report::Looked { percent } => {
                let percent = percent.unwrap_or(0.0).clamp(0.0, 100.0);
                if let Phase::Exporting { .. } | Phase::Waiting = item.phase {
                    item.phase = Phase::Exporting { percent };
                }
            }
            Report::Exported { files, .. } => {
                item.phase = Phase::Copying {
                    done: 0,
                    of: *files,
                };
            }
            Report::Copied { of, .. } => {
                let done = match item.phase {
                    Phase::Copying { done, .. } => done + 1,
                    _ => 1,
                };
                item.phase = Phase::Copying {
                    done: done.min(*of),
                    of: *of,
                };
            }
            Report::Committed { .. } | Report::GaveUp { .. } | Report::Ended { .. } => {
                item.phase = Phase::Ended;
            }
        }
        item.trouble = None;
    }

    /// What tells an export from the others of the run.
    fn label(&self, export: &Export) -> String {
        let mut label = String::new();
        if self.apps {
            let _ = write!(label, "{:APP$}  ", short(&export.app));
        }
        if self.events || export.event != Event::All {
            let _ = write!(label, "{:10}  ", export.event);
        }
        label + &export.week.to_string()
    }

    /// All lines, for a terminal of this size.
    fn picture(&mut self, rows: usize, columns: usize, now: Instant) -> String {
        let mut ended = 0usize;
        let mut share = 0.0;
        let mut under_way = Vec::new();
        let mut waiting = Vec::new();
        for (export, item) in &mut self.items {
            item.reckon(now);
            share += item.phase.share();
            match (&item.phase, &item.trouble) {
                (Phase::Ended, _) => ended += 1,
                (Phase::Waiting, None) => waiting.push(export.clone()),
                _ => under_way.push(export.clone()),
            }
        }
        let room = rows.saturating_sub(LINES_LEFT).max(1);
        let label = self.items.first_key_value();
        let label = label.map_or(0, |(export, _)| measure_text_width(&self.label(export)));
        let width = columns
            .saturating_sub(label + BESIDE_BAR)
            .clamp(SHORTEST_BAR, BAR);
        let under_way_hidden = under_way.len().saturating_sub(room);
        let waiting_shown = (room - under_way.len().min(room)).min(waiting.len()).min(3);
        let dim = style().dim();
        let mut lines = Vec::new();
        for export in under_way.iter().take(room) {
            let item = &self.items[export];
            lines.push(format!("  {}  {}", self.label(export), line(item, width)));
        }
        for export in waiting.iter().take(waiting_shown) {
            let words = format!("{}  waiting", self.label(export));
            lines.push(format!("  {}", dim.apply_to(words)));
        }
        let hidden = [
            (under_way_hidden, "under way"),
            (waiting.len() - waiting_shown, "waiting"),
        ];
        let hidden: Vec<_> = hidden
            .into_iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, what)| format!("{n} more {what}"))
            .collect();
        if !hidden.is_empty() {
            let words = format!("… {}", hidden.join(", "));
            lines.push(format!("  {}", dim.apply_to(words)));
        }
        lines.push(String::new());
        lines.push(self.overall(ended, share, now));
        let lines = lines
            .iter()
            .map(|line| truncate_str(line, columns.saturating_sub(1), "…"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The line for all exports together.
    fn overall(&self, ended: usize, share: f64, now: Instant) -> String {
        let total = self.items.len();
        #[expect(clippy::cast_precision_loss, reason = "a number of weeks")]
        let share = share / total.max(1) as f64;
        let elapsed = self
            .began
            .map(|began| now.saturating_duration_since(began))
            .unwrap_or_default();
        let left = left(elapsed, share).map_or_else(String::new, |left| format!("  {left}"));
        let of = format!(
            "{} of {}",
            figures::count(ended as u64),
            figures::counted(total as u64, "week")
        );
        format!(
            "  {}  {:3.0} %  {}{}",
            style().bold().apply_to(of),
            (share * 100.0).floor(),
            bar(share, BAR, &style().green()),
            style().dim().apply_to(left)
        )
    }
}

/// An export under way, in words, figures and a bar.
fn line(item: &Item, width: usize) -> String {
    let mut text = match &item.phase {
        Phase::Waiting => "waiting  ".to_owned(),
        Phase::Exporting { percent } => {
            let bar = bar(percent / 100.0, width, &style().blue());
            format!("exporting  {:>7} %  {bar}", percent.floor())
        }
        Phase::Copying { done, of } => {
            let share = f64::from(*done) / f64::from((*of).max(1));
            let bar = bar(share, width, &style().cyan());
            let figure = format!("{done} of {of}");
            let mut text = format!("copying    {figure:>9}  {bar}");
            // What is left of an average where nothing moves is no rate.
            if item.rate >= 1_000.0 {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a positive number of bytes"
                )]
                let rate = figures::bytes(item.rate as u64);
                let _ = write!(text, "  {rate}/s");
            }
            text
        }
        Phase::Ended => String::new(),
    };
    if let Some(trouble) = &item.trouble {
        let _ = write!(text, "  {}", style().yellow().apply_to(trouble));
    }
    text
}

/// `━━━━━━╸─────────`
fn bar(share: f64, width: usize, style: &Style) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "between 0 and twice the bar's width"
    )]
    let halves = (share.clamp(0.0, 1.0) * (2 * width) as f64).round() as usize;
    let mut full = "━".repeat(halves / 2);
    if halves % 2 == 1 {
        full.push('╸');
    }
    let rest = "─".repeat(width - halves.div_ceil(2));
    let dim = self::style().dim();
    format!("{}{}", style.apply_to(full), dim.apply_to(rest))
}

/// How long it will take from here, once that can be guessed.
fn left(elapsed: Duration, share: f64) -> Option<String> {
    if elapsed < Duration::from_secs(3) || !(0.03..1.0).contains(&share) {
        return None;
    }
    let seconds = elapsed.as_secs_f64() * (1.0 - share) / share;
    let seconds = Duration::try_from_secs_f64(seconds).ok()?.as_secs();
    let rounded = match seconds {
        0..60 => seconds.next_multiple_of(5).max(5),
        _ => seconds.next_multiple_of(60),
    };
    let span = figures::span(Duration::from_secs(rounded));
    Some(format!("about {span} left"))
}

fn short(app: &AppId) -> String {
    let app = app.as_str();
    if app.len() <= APP {
        return app.to_owned();
    }
    // An AppID is ASCII.
    format!("{}…{}", &app[..6], &app[app.len() - (APP - 7)..])
}

/// Without the request that went wrong, where the words begin with one: a log has the whole.
fn brief(why: &str) -> &str {
    match why.split_once(": ") {
        Some((request, why)) if request.contains(" /api/") => why,
        _ => why,
    }
}

fn style() -> Style {
    Style::new().for_stderr()
}

/// What happened, in words, and how much it matters.
fn words(report: &Report) -> Option<(Level, String)> {
    Some(match report {
        Report::Arrived { .. } => return None,
        Report::Started { job, attempt: 1 } => (Level::INFO, format!("started job {job}")),
        Report::Started { job, attempt } => {
            (Level::INFO, format!("started job {job}, attempt {attempt}"))
        }
        Report::Adopted { job } => (Level::INFO, format!("carries on job {job}")),
        Report::Looked { percent: None } => (Level::DEBUG, "exporting".to_owned()),
        Report::Looked {
            percent: Some(percent),
        } => (Level::DEBUG, format!("exporting, {percent} %")),
        Report::HostTrouble(error) => (Level::INFO, error.to_string()),
        Report::Delayed { delay, why } => {
            let delay = figures::span(*delay);
            (Level::INFO, format!("again in {delay}: {why}"))
        }
        Report::Exported {
            files,
            records,
            took,
            ..
        } => {
            let files = figures::counted(u64::from(*files), "file");
            let records = records.map_or_else(String::new, |records| {
                format!(" with {}", figures::counted(records, "record"))
            });
            let took = figures::span(*took);
            (Level::INFO, format!("exported in {took}: {files}{records}"))
        }
        Report::Copied {
            number,
            of,
            records,
            bytes,
            ..
        } => {
            let (records, bytes) = (figures::counted(*records, "record"), figures::bytes(*bytes));
            (
                Level::DEBUG,
                format!("copied {number} of {of}: {records}, {bytes}"),
            )
        }
        Report::Quarantined { key, why } => (
            Level::WARN,
            format!("not a fragment, put aside as {key}: {why}"),
        ),
        Report::Continued { left } => (Level::DEBUG, format!("{left} fragments left")),
        Report::Restarting { why } => (Level::WARN, format!("a new job is needed: {why}")),
        Report::Committed {
            files,
            records,
            bytes,
            discrepancies,
            took,
        } => {
            let (level, verified) = if discrepancies.is_empty() {
                (Level::INFO, "verified".to_owned())
            } else {
                (Level::WARN, discrepancies.join("; "))
            };
            let facts = format!(
                "{} in {}, {}, after {}",
                figures::counted(*records, "record"),
                figures::counted(*files, "file"),
                figures::bytes(*bytes),
                figures::span(*took)
            );
            (level, format!("archived: {facts}; {verified}"))
        }
        Report::GaveUp { reason } => (Level::ERROR, format!("given up: {reason}")),
        Report::Ended { why } => (Level::DEBUG, (*why).to_owned()),
    })
}

/// What scrolls up on a terminal: how an export ended, and what needs an eye.
fn worth_a_line(report: &Report) -> Option<String> {
    Some(match report {
        Report::Committed {
            files,
            records,
            bytes,
            discrepancies,
            took,
        } => {
            let facts = format!(
                "{:>14}  {:>9}  {:>9}",
                figures::counted(*records, "record"),
                figures::counted(*files, "file"),
                figures::bytes(*bytes),
            );
            let took = style()
                .dim()
                .apply_to(format!("in {}", figures::span(*took)))
                .to_string();
            if discrepancies.is_empty() {
                let archived = style().green().apply_to("✔ archived");
                format!("{archived} {facts}  {took}")
            } else {
                let archived = style().yellow().apply_to("! archived");
                format!(
                    "{archived} {facts}  {took}\n      {}",
                    discrepancies.join("\n      ")
                )
            }
        }
        Report::GaveUp { reason } => {
            format!("{}  {reason}", style().red().apply_to("✘ given up"))
        }
        Report::Restarting { why } => {
            let words = format!("! new job   {}", brief(why));
            style().yellow().apply_to(words).to_string()
        }
        Report::Quarantined { why, .. } => {
            let words = format!("! put aside instead of a file: {why}");
            style().yellow().apply_to(words).to_string()
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kore::ApiError;

    fn export(app: &str, week: &str) -> Export {
        Export {
            app: app.parse().unwrap(),
            event: Event::All,
            week: week.parse().unwrap(),
        }
    }

    /// So many weeks of an app, all waiting.
    fn state(weeks: usize) -> State {
        let item = Item {
            phase: Phase::Waiting,
            trouble: None,
            arrived: 0,
            rate: 0.0,
            reckoned: (Instant::now(), 0),
        };
        let mut state = State {
            began: Some(Instant::now()),
            ..State::default()
        };
        let mut next = export("st-1", "2025-01-06");
        for _ in 0..weeks {
            state.items.insert(next.clone(), item.clone());
            next.week = next.week.next();
        }
        state
    }

    fn looked(percent: f64) -> Report {
        let percent = Some(percent);
        Report::Looked { percent }
    }

    fn exported(files: u32) -> Report {
        Report::Exported {
            job: "fj-1".parse().unwrap(),
            files,
            records: None,
            looks: 1,
            took: Duration::ZERO,
        }
    }

    fn copied(number: u32, of: u32) -> Report {
        Report::Copied {
            number,
            of,
            bytes: 1,
            records: 1,
            took: Duration::ZERO,
        }
    }

    fn committed() -> Report {
        Report::Committed {
            files: 2,
            records: 300,
            bytes: 1_000,
            discrepancies: Vec::new(),
            took: Duration::ZERO,
        }
    }

    #[test]
    fn each_export_has_a_line_with_its_phase_and_all_have_a_bar() {
        let mut state = state(4);
        let weeks: Vec<_> = state.items.keys().cloned().collect();
        state.note(&weeks[0], &committed());
        state.note(&weeks[1], &exported(34));
        for number in 1..=12 {
            state.note(&weeks[1], &copied(number, 34));
        }
        state.note(&weeks[2], &looked(40.0));
        let later = state.began.unwrap() + Duration::from_secs(60);
        let picture = state.picture(40, 100, later);
        let lines: Vec<_> = picture.lines().collect();
        let [copying, exporting, waiting, "", all] = lines[..] else {
            panic!("{picture}");
        };
        assert!(
            copying.starts_with("  2025-01-13  copying     12 of 34  ━━━━"),
            "{copying}"
        );
        assert!(
            exporting.starts_with("  2025-01-20  exporting       40 %  ━━━━"),
            "{exporting}"
        );
        assert_eq!(waiting, "  2025-01-27  waiting");
        assert!(all.starts_with("  1 of 4 weeks   54 %  ━━━━"), "{all}");
        assert!(all.ends_with("about 50 s left"), "{all}");
    }

    #[test]
    fn trouble_is_shown_until_it_has_passed() {
        let mut state = state(1);
        let week = state.items.keys().next().unwrap().clone();
        let trouble = ApiError::Limited {
            request: "GET /api/public/bot/st-1/search/jobs/fj-1".to_owned(),
            retry_after: None,
        };
        state.note(&week, &Report::HostTrouble(trouble));
        let now = Instant::now();
        let picture = state.picture(40, 100, now);
        assert!(
            picture.contains("the API limits the rate") && !picture.contains("/api/"),
            "{picture}"
        );
        state.note(&week, &looked(1.0));
        let picture = state.picture(40, 100, now);
        assert!(!picture.contains("the API limits"), "{picture}");
    }

    #[test]
    fn the_picture_fits_the_terminal() {
        for (rows, columns) in [(24, 80), (8, 30), (1, 1), (60, 200)] {
            let mut state = state(500);
            state.apps = true;
            let weeks: Vec<_> = state.items.keys().take(100).cloned().collect();
            for week in &weeks {
                state.note(week, &looked(50.0));
            }
            let picture = state.picture(rows, columns, Instant::now());
            let lines = picture.lines().count();
            assert!(
                lines <= rows.max(LINES_LEFT),
                "{lines} lines in {rows} rows"
            );
            for line in picture.lines() {
                assert!(measure_text_width(line) < columns.max(2), "{line}");
            }
        }
    }

    #[test]
    fn long_apps_are_told_apart_by_both_ends() {
        let app = "st-1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d".parse().unwrap();
        assert_eq!(short(&app), "st-1a2…f3a4b5c6d");
        assert_eq!(measure_text_width(&short(&app)), APP);
        assert_eq!(short(&"st-1".parse().unwrap()), "st-1");
    }

    #[test]
    fn the_time_left_is_guessed_once_there_is_something_to_go_by() {
        for (elapsed, share, words) in [
            (1, 0.5, None),
            (60, 0.01, None),
            (60, 0.5, Some("about 1 min left")),
            (30, 0.75, Some("about 10 s left")),
            (3_600, 0.25, Some("about 3 h left")),
            (60, 1.0, None),
        ] {
            let left = left(Duration::from_secs(elapsed), share);
            assert_eq!(left.as_deref(), words, "{elapsed} s, {share}");
        }
    }
}
