//! How fast records are counted, beside what else could be done with the same bytes.
//!
//! Prints the counter, a search, a hash and other parsers over realistic fragments; then the counter
//! alone over texts that are hard on it. Rates are per second of one processor's time. With a file's
//! name it writes the fragment there instead, for others to measure with.

#[path = "../../../src/records.rs"]
mod records;
mod texts;

use std::hint::black_box;
use std::time::Duration;

use aws_lc_rs::digest;
use cpu_time::ThreadTime;
use records::{Counter, NotJson};
use serde::de::IgnoredAny;

/// What a read from a TLS connection gives at most.
const PIECE: usize = 16 * 1024;

/// How often all are run, one after the other, so that all see the same weather. The best time counts.
const ROUNDS: usize = 25;

/// What is measured: a name, and what it does with a text that it may change.
type Contestant = (&'static str, fn(&mut [u8]));

const CONTESTANTS: [Contestant; 9] = [
    ("the counter, fed 16 KiB at a time", |text| {
        use_up(count(text))
    }),
    ("memchr, for a byte that is not there", |text| {
        use_up(memchr::memchr(0, text))
    }),
    ("SHA-256, aws-lc-rs", |text| {
        use_up(digest::digest(&digest::SHA256, text))
    }),
    ("serde_json, skipping (IgnoredAny)", |text| {
        use_up(serde_json::from_slice::<Vec<IgnoredAny>>(text));
    }),
    ("serde_json, Value", |text| {
        use_up(serde_json::from_slice::<serde_json::Value>(text))
    }),
    ("simd-json, tape", |text| use_up(simd_json::to_tape(text))),
    ("simd-json, borrowed value", |text| {
        use_up(simd_json::to_borrowed_value(text))
    }),
    ("sonic-rs, skipping (IgnoredAny)", |text| {
        use_up(sonic_rs::from_slice::<Vec<IgnoredAny>>(text));
    }),
    ("sonic-rs, Value", |text| {
        use_up(sonic_rs::from_slice::<sonic_rs::Value>(text))
    }),
];

fn main() {
    if let Some(path) = std::env::args_os().nth(1) {
        return std::fs::write(path, texts::fragment(150)).expect("the file can be written");
    }
    // The vendor's default, which comes from memory here; and one that stays in a processor's cache,
    // as what has just arrived does.
    for records in [150, 12] {
        let fragment = texts::fragment(records);
        assert_eq!(count(&fragment), Ok(records as u64));
        let length = megabytes(fragment.len());
        println!("A fragment of {records} records, {length:.1} MB, pretty-printed:\n");
        compare(&fragment);
    }
    println!("The counter over other texts:\n");
    for (name, text) in texts::hard() {
        let best = (0..ROUNDS).map(|_| time(|| use_up(count(&text)))).min();
        let rate = rate(text.len(), best.unwrap_or_default());
        let records =
            count(&text).map_or_else(|refusal| refusal.to_string(), |n| format!("{n} records"));
        println!("{name:<44}{rate:>8.0} MB/s   {records}");
    }
}

fn compare(fragment: &[u8]) {
    let mut best = [Duration::MAX; CONTESTANTS.len()];
    let mut text = Vec::new();
    for _ in 0..ROUNDS {
        for ((_, run), best) in CONTESTANTS.iter().zip(&mut best) {
            text.clear();
            text.extend_from_slice(fragment); // some parse in place; no part of their time
            *best = time(|| run(&mut text)).min(*best);
        }
    }
    for ((name, _), time) in CONTESTANTS.iter().zip(best) {
        let rate = rate(fragment.len(), time);
        let ratio = time.as_secs_f64() / best[0].as_secs_f64();
        println!("{name:<44}{rate:>8.0} MB/s   {ratio:>6.2} x the counter's time");
    }
    println!();
}

fn count(text: &[u8]) -> Result<u64, NotJson> {
    let mut counter = Counter::new();
    for piece in text.chunks(PIECE) {
        counter.feed(piece)?;
    }
    counter.finish()
}

/// Keeps the compiler from leaving out the work, and frees what it made within the time measured.
fn use_up<T>(value: T) {
    drop(black_box(value));
}

fn time(run: impl FnOnce()) -> Duration {
    let start = ThreadTime::now();
    run();
    start.elapsed()
}

#[expect(clippy::cast_precision_loss, reason = "lengths are far below 2^52")]
fn megabytes(length: usize) -> f64 {
    length as f64 / 1e6
}

fn rate(length: usize, time: Duration) -> f64 {
    megabytes(length) / time.as_secs_f64()
}
