//! The counter's verdict on any bytes, split anywhere, is that of an independent parser.
//!
//! Of the input the first two bytes say how the rest is split, so that a corpus stays readable.

#![no_main]

#[path = "../../src/records.rs"]
mod records;

use libfuzzer_sys::fuzz_target;
use records::{Counter, NotJson, Why};
use serde::de::IgnoredAny;

fuzz_target!(|input: &[u8]| {
    let [first, step, text @ ..] = input else {
        return;
    };
    let whole = count([text]);
    let (head, tail) = text.split_at(usize::from(*first).min(text.len()));
    let pieces = tail.chunks(usize::from(*step) + 1);
    assert_eq!(
        count(std::iter::once(head).chain(pieces)),
        whole,
        "the split matters"
    );

    match whole {
        // The counter's own limit, which the other parser does not have.
        Err(NotJson {
            why: Why::TooDeep, ..
        }) => {}
        whole => assert_eq!(whole.ok(), other(text), "the verdicts differ: {whole:?}"),
    }
});

fn count<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<u64, NotJson> {
    let mut counter = Counter::new();
    for piece in pieces {
        counter.feed(piece)?;
    }
    counter.finish()
}

fn other(text: &[u8]) -> Option<u64> {
    let text = str::from_utf8(text).ok()?;
    let elements: Vec<IgnoredAny> = serde_json::from_str(text).ok()?;
    Some(elements.len() as u64)
}
