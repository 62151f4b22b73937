//! Chance that can be thrown again: every number follows from a seed and from what it is for.

/// Mixes 64 bits well (`SplitMix64`'s finisher): near inputs give unrelated outputs.
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A seed narrowed by a further number.
pub(crate) fn fork(seed: u64, number: u64) -> u64 {
    mix(seed ^ mix(number))
}

/// A seed narrowed by a text (FNV-1a, then mixed).
pub(crate) fn fork_text(seed: u64, text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    fork(seed, hash)
}

/// The number as a point in 0 (included) to 1 (excluded).
#[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
pub(crate) fn unit(number: u64) -> f64 {
    (number >> 11) as f64 / (1_u64 << 53) as f64
}

/// The number folded evenly enough into `from..=to`.
pub(crate) fn within(number: u64, from: u64, to: u64) -> u64 {
    from + number % (to.saturating_sub(from) + 1)
}

/// One of a few.
pub(crate) fn pick<T: Copy>(number: u64, choices: &[T]) -> T {
    choices[usize::try_from(number % choices.len() as u64).unwrap_or(0)]
}

/// A number in the shape of a UUID, as the vendor's ids have it.
pub(crate) fn uuid(number: u64) -> String {
    let (a, b) = (mix(number), mix(number ^ u64::MAX));
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xffff,
        b >> 48,
        b & 0xffff_ffff_ffff
    )
}
