//! Numbers as people read them.

use std::time::Duration;

use indicatif::{DecimalBytes, HumanCount};

/// `1,234`
pub fn count(n: u64) -> String {
    HumanCount(n).to_string()
}

/// `1 week`, `2 weeks`: the count of a thing whose plural ends in s.
pub fn counted(n: u64, thing: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{} {thing}{s}", count(n))
}

/// `23.78 MB`, in powers of ten.
pub fn bytes(n: u64) -> String {
    DecimalBytes(n).to_string()
}

/// `12 s`, `3 min 20 s`, `2 h 5 min`
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, 0) => format!("{m} min"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, 0, _) => format!("{h} h"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(counted(1, "week"), "1 week");
        assert_eq!(counted(1_234, "record"), "1,234 records");
        assert_eq!(bytes(23_777_564), "23.78 MB");
        for (seconds, words) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (200, "3 min 20 s"),
            (7_500, "2 h 5 min"),
            (7_200, "2 h"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), words);
        }
    }
}
