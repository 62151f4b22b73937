//! When to come back: to a job that runs, to a host that refuses. Pure.

use std::time::Duration;

/// No sooner than this, so that a job of a second costs one or two looks.
const SOONEST: Duration = Duration::from_secs(3);
/// Without a percentage: no later than this at first, then no later than a share of the job's age.
const LATEST_AT_FIRST: Duration = Duration::from_secs(15);
/// What a look can be late by, without a percentage, as a share of the job's age.
const SHARE_UNTOLD: f64 = 0.25;
/// At 0 percent a job has just begun: after so many times its age it is looked at again.
const AGES_AT_ZERO: f64 = 2.0;
/// Of the time left as the percentage predicts it, this share is slept: the rest is looked at closer,
/// when the percentage is more exact. Small, because files are of unequal size.
const SHARE_LEFT: f64 = 0.4;
/// On top of that, a share of the age: it ends the approach, and is what a look is late by.
const SHARE_LATE: f64 = 0.04;
/// A percentage is trusted for so many times the job's age.
const MOST_AGES: f64 = 6.0;
/// The first pause after trouble.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The first pause when the archive does not answer.
const FIRST_WEATHER: Duration = Duration::from_secs(30);
/// The longest: what one message can be delayed.
const LONGEST_WEATHER: Duration = crate::queue::LONGEST_DELAY;
/// The longest wait that the host may ask for: its limits roll over an hour. Without this bound a wrong
/// header would keep an export, and its claim, for years.
const LONGEST_ASKED: Duration = Duration::from_secs(3_600);
/// The longest pause after trouble.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The host's limits begin anew each minute.
const HALF_A_WINDOW: Duration = Duration::from_secs(30);
/// The longest pause that is taken by itself where the host turns a start away.
const LONGEST_TURNED_AWAY: Duration = Duration::from_secs(600);
const SECOND: Duration = Duration::from_secs(1);

/// How long after the start of a job to look at it for the first time.
pub fn first_look() -> Duration {
    SOONEST
}

/// How long until the next look at a job of this age that has just told its percentage, with
/// `random` bits for jitter.
///
/// A percentage of 1 means "from 1 to 2": the time left is predicted from the next whole one, so that
/// a job is looked at before it can have ended, and then again when the prediction is better.
/// `docs/PERFORMANCE.md` shows what this costs beside fixed intervals and exponential back-off.
pub fn next_look(age: Duration, percent: Option<f64>, random: u64) -> Duration {
    let age = age.as_secs_f64();
    let delay = match percent {
        None => LATEST_AT_FIRST.as_secs_f64().max(age * SHARE_UNTOLD),
        Some(percent) if percent < 1.0 => age * AGES_AT_ZERO,
        Some(percent) => {
            let at_most = (percent.floor() + 1.0).min(100.0);
            let left = age * (100.0 - at_most) / at_most;
            (left * SHARE_LEFT + age * SHARE_LATE).min(age * MOST_AGES)
        }
    };
    let delay = Duration::from_secs_f64(delay.max(SOONEST.as_secs_f64()));
    jittered(delay, random).max(SOONEST)
}

/// How long to wait after the `n`th trouble in a row, counted from 0: twice as long each time.
pub fn backoff(n: u32, random: u64) -> Duration {
    let pause = FIRST_PAUSE
        .saturating_mul(1 << n.min(16))
        .min(LONGEST_PAUSE);
    jittered(pause, random)
}

/// How long to wait when the archive did not answer for the `n`th time in a row, counted from 0.
///
/// While it is away nothing tells a duplicate from its original, so each round may double messages:
/// there are to be few, up to one in a quarter of an hour.
pub fn weather(n: u32, random: u64) -> Duration {
    let pause = FIRST_WEATHER
        .saturating_mul(1 << n.min(16))
        .min(LONGEST_WEATHER);
    jittered(pause, random).min(LONGEST_WEATHER)
}

/// How long to wait after the `n`th trouble in a row with the host, counted from 0: what it asks for, and
/// no shorter than without its word.
pub fn patient(retry_after: Option<Duration>, n: u32, random: u64) -> Duration {
    let backoff = backoff(n, random);
    asked(retry_after).map_or(backoff, |asked| asked.max(backoff))
}

/// How long to wait where the host turns away the start of a job, `since` after the chain's first one: what
/// it asks for, or half a rate window; as time goes by ever longer, so that a deadline of a week comes
/// before the last message.
pub fn turned_away(retry_after: Option<Duration>, since: Duration, random: u64) -> Duration {
    let asked = asked(retry_after).unwrap_or(HALF_A_WINDOW);
    let pause = asked.max((since / 10).min(LONGEST_TURNED_AWAY)).max(SECOND);
    jittered(pause, random).max(pause)
}

/// What the host asks for, within reason.
fn asked(retry_after: Option<Duration>) -> Option<Duration> {
    retry_after.map(|asked| asked.min(LONGEST_ASKED))
}

/// Up to a twentieth more or less, so that many waiters do not come back together.
pub fn jittered(delay: Duration, random: u64) -> Duration {
    const STEPS: u32 = 2_000;
    let step = u32::try_from(random % u64::from(STEPS)).unwrap_or(0);
    delay.mul_f64(0.95 + 0.1 * f64::from(step) / f64::from(STEPS))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM: [u64; 3] = [0, 1_000, 1_999];

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn pauses_double_up_to_a_bound_whatever_the_number() {
        for random in RANDOM {
            for (n, low, high) in [(0, 4, 6), (1, 9, 11), (5, 150, 170), (6, 280, 316)] {
                let pause = backoff(n, random);
                assert!(
                    seconds(low) <= pause && pause <= seconds(high),
                    "{n}: {pause:?}"
                );
            }
            for (n, low, high) in [(0, 28, 32), (3, 220, 260), (5, 850, 900)] {
                let pause = weather(n, random);
                assert!(
                    seconds(low) <= pause && pause <= seconds(high),
                    "{n}: {pause:?}"
                );
            }
            assert!(backoff(u32::MAX, random) <= LONGEST_PAUSE.mul_f64(1.05));
            assert!(weather(u32::MAX, random) <= crate::queue::LONGEST_DELAY);
        }
    }

    #[test]
    fn jitter_is_a_twentieth_to_either_side_whatever_the_random_bits() {
        for (random, millis) in [
            (0, 950_000),
            (500, 975_000),
            (1_000, 1_000_000),
            (1_999, 1_049_950),
            (2_000, 950_000),
            (u64::MAX - u64::MAX % 2_000 + 1_000, 1_000_000),
        ] {
            let pause = jittered(seconds(1_000), random);
            let off = pause.abs_diff(Duration::from_millis(millis));
            assert!(off < Duration::from_millis(1), "{random}: {pause:?}");
        }
    }

    #[test]
    fn a_job_is_looked_at_soon_after_its_start_and_never_at_once() {
        assert_eq!(first_look(), seconds(3));
        assert_eq!(next_look(Duration::ZERO, Some(0.0), 0), seconds(3));
    }

    #[test]
    fn a_host_that_asks_for_less_than_the_usual_pause_waits_no_shorter() {
        for random in RANDOM {
            assert_eq!(patient(None, 2, random), backoff(2, random));
            assert_eq!(patient(Some(seconds(1)), 2, random), backoff(2, random));
            assert_eq!(patient(Some(seconds(40)), 2, random), seconds(40));
            assert_eq!(patient(Some(seconds(9_999)), 2, random), LONGEST_ASKED);
        }
    }

    #[test]
    fn a_start_that_is_turned_away_again_and_again_outlives_the_longest_deadline() {
        use crate::queue::message::MOST_HOPS;
        for random in RANDOM {
            for retry_after in [None, Some(0), Some(1), Some(60)] {
                let (mut waited, mut hops) = (Duration::ZERO, 0);
                while waited < seconds(168 * 3_600) {
                    let pause = turned_away(retry_after.map(seconds), waited, random);
                    assert!(pause >= seconds(retry_after.unwrap_or(30).max(1)));
                    assert!(pause <= LONGEST_TURNED_AWAY.mul_f64(1.05));
                    waited += pause;
                    hops += 1;
                }
                assert!(hops < MOST_HOPS, "{retry_after:?}: {hops}");
            }
            let asked = turned_away(Some(seconds(900)), Duration::ZERO, random);
            assert!((seconds(900)..=seconds(945)).contains(&asked), "{asked:?}");
        }
    }

    #[test]
    fn a_host_may_ask_for_an_hour_and_no_more() {
        for (retry_after, waits) in [
            (None, None),
            (Some(0), Some(0)),
            (Some(900), Some(900)),
            (Some(86_400), Some(3_600)),
            (Some(u64::MAX), Some(3_600)),
        ] {
            assert_eq!(asked(retry_after.map(seconds)), waits.map(seconds));
        }
    }

    #[test]
    fn the_next_look_is_near_the_end_that_the_percentage_promises() {
        for (age, percent, low, high) in [
            // Nothing is told: a quarter of the age, at first a quarter of a minute.
            (0, None, 14, 16),
            (600, None, 140, 160),
            // Just begun: twice as long again.
            (60, Some(0.0), 114, 126),
            // Nearly done: soon, and never at once.
            (10, Some(99.0), 3, 4),
            (1_000, Some(99.9), 38, 42),
            // Half way: a good part of what is left.
            (1_000, Some(50.0), 402, 446),
            // A percentage is not trusted without bound.
            (1_000, Some(1.0), 5_700, 6_300),
        ] {
            for random in RANDOM {
                let look = next_look(seconds(age), percent, random);
                assert!(
                    seconds(low) <= look && look <= seconds(high),
                    "{age} {percent:?}: {look:?}"
                );
            }
        }
    }
}
