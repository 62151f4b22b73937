//! How fast records are counted, beside what else could be done with the same bytes.
//!
//! `cargo run --release --manifest-path benches/records/Cargo.toml` prints two tables: the counter, a
//! hash, a search and full parsers over one realistic fragment, in bytes per second and as multiples
//! of the counter's time; then the counter alone over texts that are hard on it. With a file's name
//! it writes the fragment there instead, for others to measure with.

#[path = "../../../src/records.rs"]
mod records;
mod texts;

use std::hint::black_box;
use std::time::{Duration, Instant};

use records::Counter;
use serde::de::IgnoredAny;

/// What a read from a TLS connection gives at most.
const PIECE: usize = 16 * 1024;

/// Rounds over everything that is compared: one after the other in each round, so that all see the
/// same weather. The best time of each counts.
const ROUNDS: usize = 15;

fn main() {
    let fragment = texts::fragment(150);
    if let Some(path) = std::env::args_os().nth(1) {
        return std::fs::write(path, fragment).expect("the file can be written");
    }
    println!(
        "One fragment: 150 records, {:.1} MB, pretty-printed; one core, best of {ROUNDS} rounds.\n",
        megabytes(fragment.len())
    );
    compare(&fragment);
    println!("\nThe counter alone, over 8 MB of:\n");
    for (name, text) in texts::hard() {
        let records = count(&text).expect("the text is a JSON array");
        let best = (0..ROUNDS).map(|_| time(|| count(&text))).min();
        let rate = rate(text.len(), best.unwrap_or_default());
        println!("{name:<44} {rate:>8.0} MB/s {records:>9} records");
    }
}

fn compare(fragment: &[u8]) {
    let text = str::from_utf8(fragment).expect("the text is UTF-8");
    type Contestant<'a> = (&'a str, Box<dyn Fn(&mut Vec<u8>) + 'a>);
    let contestants: [Contestant; 11] = [
        ("the counter, fed 16 KiB at a time", Box::new(|_| drop(black_box(count(fragment))))),
        (
            "memchr for a byte that is not there (floor)",
            Box::new(|_| drop(black_box(memchr::memchr(0, fragment)))),
        ),
        (
            "memchr2 for quotes and backslashes",
            Box::new(|_| {
                black_box(memchr::memchr2_iter(b'"', b'\\', fragment).count());
            }),
        ),
        (
            "SHA-256 (aws-lc-rs)",
            Box::new(|_| {
                black_box(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, fragment));
            }),
        ),
        (
            "UTF-8 check alone (std)",
            Box::new(|_| drop(black_box(std::str::from_utf8(fragment)))),
        ),
        (
            "serde_json, Vec<IgnoredAny> (skips, no values)",
            Box::new(|_| drop(black_box(serde_json::from_str::<Vec<IgnoredAny>>(text)))),
        ),
        (
            "serde_json, Value",
            Box::new(|_| drop(black_box(serde_json::from_slice::<serde_json::Value>(fragment)))),
        ),
        (
            "simd-json, tape",
            Box::new(|copy| drop(black_box(simd_json::to_tape(copy)))),
        ),
        (
            "simd-json, borrowed value",
            Box::new(|copy| drop(black_box(simd_json::to_borrowed_value(copy)))),
        ),
        (
            "sonic-rs, Vec<IgnoredAny> (skips, no values)",
            Box::new(|_| drop(black_box(sonic_rs::from_slice::<Vec<IgnoredAny>>(fragment)))),
        ),
        (
            "sonic-rs, Value",
            Box::new(|_| drop(black_box(sonic_rs::from_slice::<sonic_rs::Value>(fragment)))),
        ),
    ];
    let mut best = [Duration::MAX; 11];
    let mut copy = Vec::new();
    for _ in 0..ROUNDS {
        for ((_, run), best) in contestants.iter().zip(&mut best) {
            copy.clear();
            copy.extend_from_slice(fragment); // some parse in place: not part of their time
            *best = time(|| run(&mut copy)).min(*best);
        }
    }
    for ((name, _), time) in contestants.iter().zip(best) {
        let rate = rate(fragment.len(), time);
        let times = time.as_secs_f64() / best[0].as_secs_f64();
        println!("{name:<48} {rate:>8.0} MB/s {times:>8.2} x the counter's time");
    }
}

fn count(text: &[u8]) -> Result<u64, records::NotJson> {
    let mut counter = Counter::new();
    for piece in text.chunks(PIECE) {
        counter.feed(black_box(piece))?;
    }
    counter.finish()
}

fn time<T>(run: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    black_box(run());
    start.elapsed()
}

#[expect(clippy::cast_precision_loss, reason = "lengths are far below 2^52")]
fn megabytes(length: usize) -> f64 {
    length as f64 / 1e6
}

fn rate(length: usize, time: Duration) -> f64 {
    megabytes(length) / time.as_secs_f64()
}
