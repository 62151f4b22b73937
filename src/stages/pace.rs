//! When to come back: to a job that runs, to a host that refuses. Pure.

use std::time::Duration;

/// No sooner than this, so that a job of a second costs one or two looks.
const SOONEST: Duration = Duration::from_secs(3);
/// At first no later than this, whatever the percentages promise.
const LATEST_AT_FIRST: Duration = Duration::from_secs(15);
/// Then no later than this share of the job's age: a wrong prediction costs at most that much.
const SHARE_OF_AGE: f64 = 0.25;
/// The first pause after trouble.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause after trouble.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How long after the start of a job to look at it for the first time.
pub fn first_look() -> Duration {
    SOONEST
}

/// How long until the next look at a job of this age that has just told its percentage, with
/// `random` bits for jitter.
pub fn next_look(age: Duration, percent: Option<f64>, random: u64) -> Duration {
    let age = age.as_secs_f64();
    let latest = LATEST_AT_FIRST.as_secs_f64().max(age * SHARE_OF_AGE);
    let left = match percent {
        Some(percent) if percent > 0.0 => age * (100.0 - percent.min(100.0)) / percent,
        _ => latest,
    };
    let delay = Duration::from_secs_f64(left.clamp(SOONEST.as_secs_f64(), latest));
    jittered(delay, random).max(SOONEST)
}

/// How long to wait after the `n`th trouble in a row, counted from 0: twice as long each time.
pub fn backoff(n: u32, random: u64) -> Duration {
    let pause = FIRST_PAUSE
        .saturating_mul(1 << n.min(16))
        .min(LONGEST_PAUSE);
    jittered(pause, random)
}

/// A tenth more or less, so that many waiters do not come back together.
pub fn jittered(delay: Duration, random: u64) -> Duration {
    const STEPS: u32 = 2_000;
    let step = u32::try_from(random % u64::from(STEPS)).unwrap_or(0);
    delay.mul_f64(0.9 + 0.2 * f64::from(step) / f64::from(STEPS))
}
