//! What polling costs and how late it notices the end: the real delay function beside others.
//!
//! Jobs last from 1 s to 6 h (each decade alike) and tell whole percentages, steadily or in steps of
//! log-normal length. Prints one line for each way of polling and kind of progress, tab-separated:
//! its name, the kind, how many jobs in 100 are noticed at most 5 % or 3 s late after at most 12
//! looks, the median and the 95th percentile of looks, and the same of lateness in percent of the
//! job's length (a look up to 3 s late counts as in time).

#[expect(dead_code, reason = "the stages use the rest of it")]
#[path = "../../../src/stages/pace.rs"]
mod pace;

/// What that file takes from the rest of the program; nothing here depends on its value.
mod queue {
    pub const LONGEST_DELAY: std::time::Duration = std::time::Duration::from_secs(900);
}

use std::time::Duration;

/// Jobs for each line.
const JOBS: usize = 4_000;
/// The shortest and the longest job, in seconds.
const LENGTHS: (f64, f64) = (1.0, 21_600.0);
/// Nobody minds a look that is so late, in seconds: it is the shortest time between two looks.
const IN_TIME: f64 = 3.0;
/// The bar: late by this share of the job's length at most …
const LATE: f64 = 0.05;
/// … after so many looks at most.
const LOOKS: usize = 12;
/// A way that has looked so often at one job is not followed further.
const MOST_LOOKS: usize = 10_000;

/// Random numbers that are the same each time (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits of it are meant")]
    fn share(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Normally distributed, by Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.share()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.share()).cos()
    }
}

/// How a job's percentage grows.
#[derive(Clone, Copy)]
enum Progress {
    /// With time.
    Steady,
    /// Step by step (a file each), the steps of log-normal length; so many of them.
    Steps(&'static [usize]),
}

/// A job: how long it takes, and when each of its steps is done.
struct Job {
    length: f64,
    steps: Vec<f64>,
}

impl Job {
    fn new(progress: Progress, dice: &mut Dice) -> Self {
        let (shortest, longest) = LENGTHS;
        let length = shortest * (longest / shortest).powf(dice.share());
        let steps = match progress {
            Progress::Steady => Vec::new(),
            Progress::Steps(counts) => {
                let pick = dice.roll() % counts.len() as u64;
                let count = counts[usize::try_from(pick).unwrap_or(0)];
                let mut sum = 0.0;
                let ends: Vec<f64> = (0..count)
                    .map(|_| {
                        sum += dice.normal().exp();
                        sum
                    })
                    .collect();
                ends.iter().map(|end| length * end / sum).collect()
            }
        };
        Self { length, steps }
    }

    #[expect(clippy::cast_precision_loss, reason = "there are at most 200 steps")]
    fn percent(&self, age: f64) -> f64 {
        let done = if self.steps.is_empty() {
            age / self.length
        } else {
            self.steps.partition_point(|end| *end <= age) as f64 / self.steps.len() as f64
        };
        (done * 100.0).floor().min(100.0)
    }

    /// How many looks notice its end, and how late the last one is, in seconds.
    fn watch(
        &self,
        first: f64,
        next: &dyn Fn(f64, f64, u64) -> f64,
        dice: &mut Dice,
    ) -> (usize, f64) {
        let (mut age, mut looks) = (first, 1);
        while age < self.length && looks < MOST_LOOKS {
            age += next(age, self.percent(age), dice.roll());
            looks += 1;
        }
        (looks, age - self.length)
    }
}

/// A way of polling: its name, when it looks first, and how long it waits at an age and a percentage.
type Way = (String, f64, Box<dyn Fn(f64, f64, u64) -> f64>);

fn ways() -> Vec<Way> {
    let ours = |age: f64, percent: f64, random: u64| {
        pace::next_look(Duration::from_secs_f64(age), Some(percent), random).as_secs_f64()
    };
    let mut ways: Vec<Way> = vec![(
        "ours".to_owned(),
        pace::first_look().as_secs_f64(),
        Box::new(ours),
    )];
    for seconds in [3.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0] {
        let name = format!("every {seconds} s");
        ways.push((name, seconds, Box::new(move |_, _, _| seconds)));
    }
    for factor in [1.05, 1.1, 1.2, 1.35, 1.5, 2.0, 3.0] {
        let name = format!("back-off × {factor}");
        let wait = move |age: f64, _: f64, _| (age * (factor - 1.0)).max(3.0);
        ways.push((name, 3.0, Box::new(wait)));
    }
    ways
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small counts"
)]
fn main() {
    for (progress, kind) in [
        (Progress::Steady, "steady"),
        (
            Progress::Steps(&[80, 120, 200]),
            "log-normal, 80 to 200 files",
        ),
        (
            Progress::Steps(&[3, 5, 8, 13, 30]),
            "log-normal, 3 to 30 files",
        ),
    ] {
        for (name, first, next) in ways() {
            let (jobs_dice, looks_dice) = (&mut Dice(1), &mut Dice(2));
            let mut met = 0;
            let (mut all_looks, mut all_late) = (Vec::new(), Vec::new());
            for _ in 0..JOBS {
                let job = Job::new(progress, jobs_dice);
                let (looks, late) = job.watch(first, &*next, looks_dice);
                let late = if late <= IN_TIME {
                    0.0
                } else {
                    late / job.length
                };
                met += usize::from(looks <= LOOKS && late <= LATE);
                all_looks.push(looks);
                all_late.push(late);
            }
            all_looks.sort_unstable();
            all_late.sort_unstable_by(f64::total_cmp);
            let at = |share: f64| (share * (JOBS - 1) as f64) as usize;
            println!(
                "{name}\t{kind}\t{:.1}\t{}\t{}\t{:.2}\t{:.2}",
                100.0 * met as f64 / JOBS as f64,
                all_looks[at(0.5)],
                all_looks[at(0.95)],
                100.0 * all_late[at(0.5)],
                100.0 * all_late[at(0.95)],
            );
        }
    }
}
