//! Synthetic records: what a simulated app's users asked, and what they thought of the answers.
//!
//! A week's records follow from seed, app and week alone, so that two jobs of one week serve the same
//! bytes. Nothing is held: a [`Fragment`] knows its length beforehand and is written piece by piece.
//!
//! In every five records (newest first) one is a feedback record, on one of the three searches before
//! it; of three of those, two are `thumbsUp`. This keeps counts and positions plain arithmetic.

use std::fmt::Write as _;
use std::ops::{Range, RangeInclusive};
use std::sync::OnceLock;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::dice::{fork, fork_text, mix, pick, uuid, within};
use crate::export::{AppId, Event, Time, Week, Window};

/// How records look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Style {
    /// Decides every value.
    pub seed: u64,
    /// The size of a search record in bytes; each has its own within the range. No record is smaller
    /// than [`Style::SMALLEST`]. Feedback records are small whatever this says.
    pub record_bytes: RangeInclusive<u64>,
}

impl Style {
    /// What a search record's fixed fields need, with room to spare.
    pub const SMALLEST: u64 = 2_048;

    fn search_bytes(&self, number: u64) -> u64 {
        let from = (*self.record_bytes.start()).max(Self::SMALLEST);
        within(mix(number), from, (*self.record_bytes.end()).max(from))
    }
}

/// A feedback record's length; its last tag fills it up.
const FEEDBACK_BYTES: usize = 768;

const WEEK: Duration = Duration::from_hours(7 * 24);

/// One week of one app: how many records it has, and what the n-th is.
#[derive(Debug, Clone)]
struct Weekly {
    week: Week,
    /// Of both kinds.
    records: u64,
    /// Decides this week's values.
    seed: u64,
}

impl Weekly {
    /// How many records an export of `event` holds.
    fn count(&self, event: Event) -> u64 {
        let feedback = (self.records + 3) / 5;
        match event {
            Event::All => self.records,
            Event::ThumbsUp => feedback - feedback / 3,
            Event::ThumbsDown => feedback / 3,
        }
    }

    /// Where the n-th record of an export of `event` stands among all records of the week.
    fn index(event: Event, n: u64) -> u64 {
        match event {
            Event::All => n,
            Event::ThumbsUp => 5 * (n / 2 * 3 + n % 2) + 1,
            Event::ThumbsDown => 5 * (3 * n + 2) + 1,
        }
    }

    /// The number that decides one record.
    fn number(&self, index: u64) -> u64 {
        fork(self.seed, index)
    }

    /// Newest first, evenly over the week, none on its edges.
    fn time(&self, index: u64) -> Time {
        let slots = u128::from(self.records) + 1;
        let slot = slots - 1 - u128::from(index).min(slots - 1);
        let millis = WEEK.as_millis() * slot / slots;
        self.week
            .start()
            .after(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
    }

    /// Which of an export's records lie inside a window: one run, since times only fall.
    fn inside(&self, event: Event, window: &Window) -> Range<u64> {
        let first = |earlier_than: &dyn Fn(Time) -> bool| {
            let (mut low, mut high) = (0, self.count(event));
            while low < high {
                let middle = low.midpoint(high);
                if earlier_than(self.time(Self::index(event, middle))) {
                    high = middle;
                } else {
                    low = middle + 1;
                }
            }
            low
        };
        first(&|time| time <= window.to)..first(&|time| time < window.from)
    }

    fn bytes(&self, style: &Style, index: u64) -> u64 {
        match feedback_on(index, self.number(index)) {
            Some(_) => FEEDBACK_BYTES as u64,
            None => style.search_bytes(self.number(index)),
        }
    }

    fn write(&self, style: &Style, app: &str, index: u64, out: &mut BytesMut) {
        let number = self.number(index);
        let start = out.len();
        let length = usize::try_from(self.bytes(style, index)).unwrap_or(usize::MAX);
        match feedback_on(index, number) {
            Some(search) => {
                let event = if index / 5 % 3 == 2 {
                    Event::ThumbsDown
                } else {
                    Event::ThumbsUp
                };
                let searched = self.number(search);
                write_feedback(app, event, number, searched, self.time(index), length, out);
            }
            None => write_search(number, self.time(index), length, out),
        }
        debug_assert_eq!(out.len() - start, length, "record {index}");
    }
}

/// The search that the record at `index` judges, where it is a feedback record. One past the end of
/// the week judges a search of an earlier week.
fn feedback_on(index: u64, number: u64) -> Option<u64> {
    (index % 5 == 1).then(|| index + 1 + number % 3)
}

/// Everything that one export holds, cut into fragments.
#[derive(Debug, Clone)]
pub struct Content {
    app: String,
    event: Event,
    style: Style,
    /// Newest week first; a window of 7 days touches two at most.
    runs: Vec<(Weekly, Range<u64>)>,
    records: u64,
    per_fragment: u64,
}

impl Content {
    /// The records of `event` inside a window. `records_of` says how many records (of both kinds) a
    /// week has; `per_fragment` of them, at least one, go into a file.
    pub fn new(
        app: &AppId,
        event: Event,
        window: &Window,
        style: &Style,
        per_fragment: u64,
        records_of: impl Fn(Week) -> u64,
    ) -> Self {
        let mut runs = Vec::new();
        let mut week = Week::of(window.to);
        while week.end() > window.from {
            let weekly = Weekly {
                week,
                records: records_of(week),
                seed: fork_text(fork_text(style.seed, app.as_str()), &week.to_string()),
            };
            let run = weekly.inside(event, window);
            if !run.is_empty() {
                runs.push((weekly, run));
            }
            week = week.back(1);
        }
        Self {
            app: app.to_string(),
            event,
            style: style.clone(),
            records: runs.iter().map(|(_, run)| run.end - run.start).sum(),
            runs,
            per_fragment: per_fragment.max(1),
        }
    }

    /// How many records there are.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// How many fragments they fill.
    pub fn fragments(&self) -> u64 {
        self.records.div_ceil(self.per_fragment)
    }

    /// The fragment with this number, from 0; past the end it is an empty array.
    pub fn fragment(&self, number: u64) -> Fragment {
        let from = number.saturating_mul(self.per_fragment).min(self.records);
        self.part(from..from.saturating_add(self.per_fragment).min(self.records))
    }

    /// All records in one file, as servers without fragments have it.
    pub fn whole(&self) -> Fragment {
        self.part(0..self.records)
    }

    fn part(&self, range: Range<u64>) -> Fragment {
        let mut before = 0;
        let mut runs = Vec::new();
        for (weekly, run) in &self.runs {
            let length = run.end - run.start;
            let from = range.start.clamp(before, before + length) - before;
            let to = range.end.clamp(before, before + length) - before;
            if from < to {
                runs.push((weekly.clone(), run.start + from..run.start + to));
            }
            before += length;
        }
        Fragment {
            app: self.app.clone(),
            event: self.event,
            style: self.style.clone(),
            runs,
            records: range.end - range.start,
        }
    }
}

/// One file's records.
#[derive(Debug, Clone)]
pub struct Fragment {
    app: String,
    event: Event,
    style: Style,
    runs: Vec<(Weekly, Range<u64>)>,
    records: u64,
}

impl Fragment {
    /// How many records it holds.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The file's length in bytes, without writing it.
    pub fn bytes(&self) -> u64 {
        if self.records == 0 {
            return EMPTY.len() as u64;
        }
        let own: u64 = self
            .runs
            .iter()
            .flat_map(|(weekly, run)| run.clone().map(move |n| (weekly, n)))
            .map(|(weekly, n)| weekly.bytes(&self.style, Weekly::index(self.event, n)))
            .sum();
        own + (OPEN.len() + CLOSE.len()) as u64 + (self.records - 1) * BETWEEN.len() as u64
    }

    /// The same file without its last record: well-formed, and one short.
    #[must_use]
    pub fn without_the_last(mut self) -> Self {
        if let Some((_, run)) = self.runs.last_mut() {
            run.end -= 1;
            self.records -= 1;
        }
        if self.runs.last().is_some_and(|(_, run)| run.is_empty()) {
            self.runs.pop();
        }
        self
    }

    /// The file in pieces of about 64 KiB, or of one record where that is more.
    pub fn pieces(self) -> Pieces {
        let next = self.runs.first().map_or(0, |(_, run)| run.start);
        Pieces {
            fragment: self,
            run: 0,
            next,
            begun: false,
        }
    }
}

const EMPTY: &[u8] = b"[]";
const OPEN: &[u8] = b"[\n";
const BETWEEN: &[u8] = b",\n";
const CLOSE: &[u8] = b"\n]\n";

/// A file being written.
#[derive(Debug, Clone)]
pub struct Pieces {
    fragment: Fragment,
    run: usize,
    next: u64,
    begun: bool,
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        const PIECE_BYTES: usize = 64 * 1024;
        if self.fragment.records == 0 {
            return (!std::mem::replace(&mut self.begun, true)).then(|| Bytes::from_static(EMPTY));
        }
        let mut out = BytesMut::new();
        while out.len() < PIECE_BYTES {
            let Some((weekly, run)) = self.fragment.runs.get(self.run) else {
                break;
            };
            if out.is_empty() {
                out.reserve(PIECE_BYTES + PIECE_BYTES / 8);
            }
            out.extend_from_slice(if self.begun { BETWEEN } else { OPEN });
            self.begun = true;
            let index = Weekly::index(self.fragment.event, self.next);
            weekly.write(&self.fragment.style, &self.fragment.app, index, &mut out);
            self.next += 1;
            if self.next == run.end {
                self.run += 1;
                match self.fragment.runs.get(self.run) {
                    Some((_, run)) => self.next = run.start,
                    None => out.extend_from_slice(CLOSE),
                }
            }
        }
        (!out.is_empty()).then(|| out.freeze())
    }
}

/// What people ask, and what stands in the documents that answer: many scripts, and what JSON escapes.
const QUESTIONS: [&str; 8] = [
    "How do I reset my password?",
    "Wie kündige ich meinen Vertrag zum Monatsende?",
    "¿Dónde está mi pedido nº 4711?",
    "返品の手続きを教えてください",
    "Где посмотреть \\\"историю платежей\\\"?",
    "ما هي ساعات العمل؟",
    "C:\\\\Users\\\\anna\\\\report.xlsx won't open 😕",
    "Can I share [my] plan {family, 5 people}, and at what price?",
];

const SENTENCES: [&str; 12] = [
    "Open the settings, choose \\\"Security\\\" and follow the steps on the screen. ",
    "The request is confirmed by e-mail within 24 hours; on public holidays it may take longer.\\n",
    "Für Verträge ab 2023 gilt eine Frist von vier Wochen, für ältere die gesetzliche. ",
    "Das Formular (§ 12, Absatz 3) finden Sie unter C:\\\\Formulare\\\\Kündigung.pdf. ",
    "El reembolso llega en 5 a 7 días hábiles: depende de su banco.\\n\\n",
    "商品到着後14日以内であれば、返品を受け付けています。",
    "Оплата картой доступна во всех отделениях, кроме выходных дней. ",
    "\\u2022 step one\\t\\u2022 step two\\t\\u2022 \\ud83d\\udc4d done\\r\\n",
    "Totals: [1, 2, 3], {\\\"a\\\": [true, null]}, 10\\/3 \\u2248 3.33. ",
    "If the answer is not here, ask a colleague 🙋‍♀️ or open a ticket 🎫. ",
    "Customers with more than one account sign in with the address of the first one. ",
    "يمكنك تغيير اللغة من القائمة الرئيسية في أي وقت. ",
];

const TAGS: [&str; 4] = [
    "Incorrect Formatting",
    "Incomplete Answer",
    "Irrelevant Answer",
    "Too Long",
];

/// Plain text for the last bytes of a field that must have an exact length; longer than any block.
const FILLER: &str = "The quick brown fox jumps over the lazy dog. ";

/// Ready pieces of JSON string content: writing a record is then mostly copying.
struct Blocks {
    texts: Vec<String>,
    filler: String,
}

fn blocks() -> &'static Blocks {
    static BLOCKS: OnceLock<Blocks> = OnceLock::new();
    BLOCKS.get_or_init(|| {
        let texts: Vec<String> = (0..64)
            .map(|block| {
                let mut text = String::new();
                let mut number = block;
                while text.len() < 1_000 {
                    number = mix(number);
                    text.push_str(pick(number, &SENTENCES));
                }
                text
            })
            .collect();
        let longest = texts.iter().map(String::len).max().unwrap_or(0);
        let filler = FILLER.repeat(longest / FILLER.len() + 1);
        Blocks { texts, filler }
    })
}

/// Fills a string's content with text of exactly so many bytes.
fn write_text(number: u64, mut bytes: usize, out: &mut BytesMut) {
    let blocks = blocks();
    let mut number = number;
    loop {
        number = mix(number);
        let block = &blocks.texts[usize::try_from(number % 64).unwrap_or(0)];
        if block.len() > bytes {
            break;
        }
        out.extend_from_slice(block.as_bytes());
        bytes -= block.len();
    }
    while bytes > 0 {
        let part = bytes.min(blocks.filler.len());
        out.extend_from_slice(&blocks.filler.as_bytes()[..part]);
        bytes -= part;
    }
}

fn write_feedback(
    app: &str,
    event: Event,
    number: u64,
    searched: u64,
    time: Time,
    length: usize,
    out: &mut BytesMut,
) {
    const TAIL: &str = "\"\n    }\n  }";
    let end = out.len() + length;
    let (id, search) = (mix(number), uuid(searched));
    let query = pick(searched, &QUESTIONS);
    let millis = time.unix_millis();
    // `id` twice, cut to the 24 hex digits of the vendor's own ids
    let _ = write!(
        out,
        r#"  {{
    "_id": "{id:016x}{:08x}",
    "searchRequestId": "fsh-{search}",
    "event": "{event}",
    "query": "{query}",
    "botId": "{app}",
    "timeStampValue": {millis},
    "createdOn": "{time}",
    "isDev": {},
    "comments": {{
      "tags": [
        "{}"
      ],
      "comment": ""#,
        id >> 32,
        number.is_multiple_of(16),
        pick(number, &TAGS),
    );
    let room = end.saturating_sub(out.len() + TAIL.len());
    write_text(number, room, out);
    out.extend_from_slice(TAIL.as_bytes());
}

fn write_search(number: u64, time: Time, length: usize, out: &mut BytesMut) {
    const PROMPT: &str = "\n        ],\n        \"prompt\": ";
    let end = out.len() + length;
    let (search, millis) = (uuid(number), time.unix_millis());
    let query = pick(number, &QUESTIONS);
    let has_results = !number.is_multiple_of(9);
    // numbers and strings trade places, and some fields are missing now and then, as at the vendor's
    let score_as_text = number.is_multiple_of(5);
    let _ = write!(
        out,
        r#"  {{
    "_id": "fsh-{search}",
    "searchRequestId": "fsh-{search}",
    "event": "search",
    "sessionId": "{:024x}",
    "userId": "u-{}",
    "query": "{query}",
    "language": "{}",
    "hasResults": {has_results},
    "timeStampValue": {millis},
    "createdOn": "{time}",
"#,
        mix(number ^ 1),
        uuid(number ^ 2),
        pick(number, &["en", "de", "es", "ja", "ru", "ar", "en", "en"]),
    );
    if !number.is_multiple_of(3) {
        let _ = writeln!(out, "    \"modelName\": \"{}\",", pick(number, &MODELS));
    }
    let _ = write!(
        out,
        r#"    "graphAnswer": "{}",
    "answerDebug": [
      {{
        "_id": "fad-{}",
        "latency": {},
        "generativeChunks": ["#,
        pick(mix(number ^ 3), &SENTENCES),
        uuid(number ^ 4),
        if score_as_text { "\"1.84\"" } else { "1.84" },
    );
    let (open, close) = if number.is_multiple_of(4) {
        (
            "{\n          \"role\": \"user\",\n          \"content\": \"",
            "\"\n        }",
        )
    } else {
        ("\"", "\"")
    };
    let completion = if number.is_multiple_of(7) {
        "\"\"".to_owned()
    } else {
        format!(
            "{{\n              \"answer\": \"{}\",\n              \"chunkIds\": [\"chk-{:x}\"]\n            }}",
            pick(mix(number ^ 5), &SENTENCES),
            number >> 40,
        )
    };
    let tail = format!(
        r#"{close},
        "llmResponse": {{
          "responseDetails": {{
            "completionText": {completion}
          }}
        }}
      }}
    ]
  }}"#
    );
    let room =
        |out: &BytesMut| end.saturating_sub(out.len() + PROMPT.len() + open.len() + tail.len());
    // half of what is left goes into chunks, the other half into the prompt that repeats them
    let leave = room(out) / 2;
    let mut chunk = number;
    while has_results && room(out) > leave + 1_500 {
        if chunk != number {
            out.extend_from_slice(b",");
        }
        chunk = mix(chunk);
        let score = chunk % 1_000;
        let _ = write!(
            out,
            "\n          {{\n            \"chunkId\": \"chk-{:x}\",\n            \"score\": {}0.{score:03}{},\n            \"sourceUrl\": \"https:\\/\\/help.example.com\\/articles\\/{}\",\n            \"chunkText\": \"",
            chunk >> 40,
            if score_as_text { "\"" } else { "" },
            if score_as_text { "\"" } else { "" },
            chunk % 100_000,
        );
        let text = &blocks().texts[usize::try_from(chunk % 64).unwrap_or(0)];
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(b"\"\n          }");
    }
    out.extend_from_slice(PROMPT.as_bytes());
    out.extend_from_slice(open.as_bytes());
    let fill = end.saturating_sub(out.len() + tail.len());
    write_text(number, fill, out);
    out.extend_from_slice(tail.as_bytes());
}

const MODELS: [&str; 3] = ["gpt-4o-mini", "gpt-4o", "claude-3-5-sonnet"];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn content(event: Event, window: &Window, record_bytes: RangeInclusive<u64>) -> Content {
        let style = Style {
            seed: 1,
            record_bytes,
        };
        // the longest AppID there is
        let app = "s".repeat(128).parse().unwrap();
        Content::new(&app, event, window, &style, 150, |_| 400)
    }

    fn week() -> Week {
        "2025-01-20".parse().unwrap()
    }

    fn text(fragment: &Fragment) -> Vec<u8> {
        fragment.clone().pieces().flatten().collect()
    }

    fn records(content: &Content) -> Vec<Value> {
        (0..content.fragments())
            .flat_map(|number| {
                let fragment = content.fragment(number);
                let text = text(&fragment);
                assert_eq!(text.len() as u64, fragment.bytes());
                let records: Vec<Value> = serde_json::from_slice(&text).unwrap();
                assert_eq!(records.len() as u64, fragment.records());
                records
            })
            .collect()
    }

    fn time(record: &Value) -> Time {
        let text = record["createdOn"].as_str().unwrap();
        let time: Time = text.parse().unwrap();
        assert_eq!(record["timeStampValue"], time.unix_millis());
        time
    }

    #[test]
    fn records_are_of_both_kinds_newest_first_and_inside_their_window() {
        let window = week().window();
        let all = records(&content(Event::All, &window, 2_048..=20_000));
        assert_eq!(all.len(), 400);
        assert!(all.is_sorted_by(|newer, older| time(newer) > time(older)));
        assert!(
            all.iter()
                .all(|record| (window.from..=window.to).contains(&time(record)))
        );
        let (searches, feedback): (Vec<_>, Vec<_>) =
            all.iter().partition(|record| record["event"] == "search");
        assert_eq!(feedback.len(), 80);
        let mut ids: Vec<_> = all.iter().map(|record| record["_id"].to_string()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 400);
        for search in &searches {
            assert_eq!(search["_id"], search["searchRequestId"]);
        }
        let joined = feedback.iter().filter(|feedback| {
            let id = &feedback["searchRequestId"];
            searches
                .iter()
                .any(|search| search["_id"] == *id && search["query"] == feedback["query"])
        });
        assert!(
            joined.count() >= 79,
            "only the oldest may judge an older week's search"
        );
        for event in [Event::ThumbsUp, Event::ThumbsDown] {
            let own = records(&content(event, &window, 2_048..=20_000));
            let of_all: Vec<_> = feedback
                .iter()
                .filter(|record| record["event"] == event.as_str())
                .collect();
            assert!(own.iter().eq(of_all.into_iter().copied()), "{event}");
        }
    }

    #[test]
    fn types_and_sizes_vary_as_the_vendors_do() {
        let all = records(&content(Event::All, &week().window(), 2_048..=20_000));
        let searches: Vec<_> = all
            .iter()
            .filter(|record| record["event"] == "search")
            .collect();
        let debug = |path: &'static str| {
            searches
                .iter()
                .map(move |search| search["answerDebug"][0].pointer(path).unwrap())
        };
        assert!(debug("/prompt").any(Value::is_string) && debug("/prompt").any(Value::is_object));
        let completion = "/llmResponse/responseDetails/completionText";
        assert!(debug(completion).any(|it| it == "") && debug(completion).any(Value::is_object));
        let chunks = "/generativeChunks/0/score";
        let scores: Vec<_> = searches
            .iter()
            .filter_map(|search| search["answerDebug"][0].pointer(chunks))
            .collect();
        assert!(scores.iter().any(|it| it.is_number()) && scores.iter().any(|it| it.is_string()));
        assert!(
            searches
                .iter()
                .any(|search| search.get("modelName").is_none())
        );
        let mean = |bytes| {
            content(Event::All, &week().window(), bytes)
                .fragment(0)
                .bytes()
                / 150
        };
        assert_eq!(
            mean(0..=0),
            1_794,
            "four of five have the least, and one is feedback"
        );
        assert!((60_000..110_000).contains(&mean(2_048..=200_000)));
    }

    #[test]
    fn a_window_across_weeks_holds_its_part_of_each() {
        let whole = |week: Week| records(&content(Event::All, &week.window(), 2_048..=2_048));
        let window = Window {
            from: week().start().after(Duration::from_hours(90)),
            to: week().end().after(Duration::from_hours(50)),
        };
        let expected: Vec<_> = [whole(week().next()), whole(week())]
            .concat()
            .into_iter()
            .filter(|record| (window.from..=window.to).contains(&time(record)))
            .collect();
        assert!(records(&content(Event::All, &window, 2_048..=2_048)) == expected);
    }

    #[test]
    fn a_file_can_lack_its_last_record() {
        let fragment = content(Event::All, &week().window(), 2_048..=2_048).fragment(2);
        let short = fragment.clone().without_the_last();
        let all: Vec<Value> = serde_json::from_slice(&text(&fragment)).unwrap();
        let fewer: Vec<Value> = serde_json::from_slice(&text(&short)).unwrap();
        assert_eq!((all.len(), short.records()), (100, 99));
        assert!(fewer == all[..99]);
    }
}
