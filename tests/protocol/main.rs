//! The whole system under every fault, deterministically: the stages as they are shipped, with an
//! archive, queues and a vendor in memory, virtual time, and one seed that decides everything.
//!
//! - `cargo test --test protocol`: so many seeds, and every path through a small scope.
//! - `SEED=4711 cargo test --test protocol seed`: one seed, with its whole history.
//! - `SEEDS=100000 cargo test --release --test protocol seed -- --nocapture`: as many as you like.

mod edge;
mod fault;
mod host;
mod rng;
mod scope;
mod seeds;
mod sqs;
mod store;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fault::Fault;
use insights_archive::stages::message::MOST_HOPS;
use scope::{Limits, Scene};
use seeds::{Faults, run};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
    )
}

/// Runs a seed; where a law is broken, runs it again with its history and panics.
fn holds(seed: u64, faults: Faults) -> seeds::Ended {
    let ended = run(seed, faults, false);
    if ended.violation.is_some() {
        let ended = run(seed, faults, true);
        let law = ended.violation.expect("a seed decides everything");
        panic!(
            "{}\nseed {seed}, {faults:?}: {law}\n(SEED={seed} shows it again)",
            ended.history
        );
    }
    ended
}

#[test]
fn without_faults_every_week_is_archived_at_once() {
    for seed in 0..30 {
        let ended = holds(seed, Faults::None);
        assert!(ended.manifests > 0, "seed {seed}");
        assert_eq!(ended.dead, 0, "seed {seed}");
        // Each manifest by one job, looked at a few times, and once more per slice.
        assert_eq!(ended.jobs, ended.manifests + ended.replaced, "seed {seed}");
        let looks = 20 * u64::try_from(ended.jobs).expect("few");
        assert!(ended.looks <= looks, "seed {seed}: {} looks", ended.looks);
    }
}

#[test]
fn what_a_person_must_mend_is_left_in_peace() {
    for seed in 0..20 {
        // Four out of five requests are refused, for as long as there are faults: days and nights.
        let ended = holds(seed, Faults::Always(Fault::Unauthorized));
        assert!(
            ended.dead <= ended.manifests,
            "seed {seed}: {} dead letters for {} weeks",
            ended.dead,
            ended.manifests
        );
    }
}

#[test]
fn a_message_that_has_gone_round_too_often_is_the_last() {
    for (hop, ends) in [(MOST_HOPS - 1, false), (MOST_HOPS, true)] {
        for waits in [false, true] {
            let dead = seeds::one_message(hop, waits);
            assert_eq!(dead == 1, ends, "hop {hop}, waits {waits}");
        }
    }
}

#[test]
fn each_fault_alone_heals() {
    let mut broken = Vec::new();
    for fault in Fault::EVERY {
        for seed in 0..5 {
            let ended = run(seed, Faults::Only(*fault), false);
            broken.extend(ended.violation.map(|law| (*fault, seed, law)));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn under_every_fault_by_seed_nothing_is_lost_and_everything_heals() {
    if let Some(seed) = number("SEED") {
        let ended = run(seed, Faults::Any, true);
        print!("{}", ended.history);
        assert_eq!(ended.violation, None, "seed {seed}");
        return;
    }
    let seeds = number("SEEDS").unwrap_or(1_000);
    let from = number("FROM").unwrap_or(0);
    let next = AtomicU64::new(from);
    let sum = Mutex::new(Sum::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds {
                        return;
                    }
                    let ended = run(seed, Faults::Any, false);
                    sum.lock().expect("whole").add(seed, ended);
                }
            });
        }
    });
    let mut sum = sum.into_inner().expect("whole");
    println!("{seeds} seeds from {from}: {sum}");
    sum.broken.sort();
    for (seed, law) in &sum.broken {
        println!("seed {seed}: {law}");
    }
    if let Some((seed, _)) = sum.broken.first() {
        holds(*seed, Faults::Any);
    }
}

/// What many seeds came to.
#[derive(Default)]
struct Sum {
    broken: Vec<(u64, String)>,
    faults: BTreeMap<Fault, u64>,
    effects: u64,
    looks: u64,
    manifests: usize,
    replaced: usize,
    dead: usize,
    most_in_flight: (u32, u64),
    healed_after: (Duration, u64),
}

impl Sum {
    fn add(&mut self, seed: u64, ended: seeds::Ended) {
        self.broken.extend(ended.violation.map(|law| (seed, law)));
        for (fault, times) in ended.faults {
            *self.faults.entry(fault).or_default() += times;
        }
        self.effects += ended.effects;
        self.looks += ended.looks;
        self.manifests += ended.manifests;
        self.replaced += ended.replaced;
        self.dead += ended.dead;
        self.most_in_flight = self.most_in_flight.max((ended.most_in_flight, seed));
        self.healed_after = self.healed_after.max((ended.healed_after, seed));
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let faults: u64 = self.faults.values().sum();
        writeln!(f, "{} effects, {faults} faults", self.effects)?;
        writeln!(
            f,
            "{} weeks archived, {} replaced; {} dead letters, {} looks at jobs",
            self.manifests, self.replaced, self.dead, self.looks
        )?;
        let (most, seed) = self.most_in_flight;
        writeln!(
            f,
            "at most {most} messages of one export in flight (seed {seed})"
        )?;
        let (longest, seed) = self.healed_after;
        let hours = longest.as_secs_f64() / 3_600.0;
        writeln!(
            f,
            "healed at most {hours:.1} h after the last fault (seed {seed})"
        )?;
        for (fault, times) in &self.faults {
            writeln!(f, "{times:>10}  {}", fault.words())?;
        }
        Ok(())
    }
}

#[test]
fn a_seed_decides_everything() {
    for seed in 0..5 {
        let digests = [false, true].map(|log| run(seed, Faults::Any, log).digest);
        assert_eq!(digests[0], digests[1], "seed {seed}");
    }
}

#[test]
fn every_path_through_a_small_scope_holds() {
    let bound = |name, otherwise| number(name).map_or(otherwise, |n| u32::try_from(n).expect(name));
    let limits = Limits {
        faults: bound("SCOPE_FAULTS", 2),
        preemptions: bound("SCOPE_PREEMPTIONS", 2),
        together: bound("SCOPE_TOGETHER", 1),
        possible: scope::POSSIBLE,
    };
    if let Ok(text) = std::env::var("SCOPE") {
        let limits = Limits {
            together: bound("SCOPE_TOGETHER", 2),
            ..limits
        };
        let name = text
            .parse()
            .unwrap_or_else(|error| panic!("SCOPE: {error}"));
        let ended = scope::walk(&name, limits, true);
        print!("{}", ended.history);
        assert_eq!(ended.violation, None, "{name}");
        return;
    }
    explore(&Scene::EVERY, limits);
    if number("SCOPE_TOGETHER").is_none() {
        let worst = Limits {
            together: 2,
            possible: scope::WORST,
            ..limits
        };
        explore(&[Scene::One], worst);
    }
}

/// Walks every path, and says how many there are; where a law is broken, shows how and panics.
fn explore(scenes: &[Scene], limits: Limits) {
    let explored = scope::explore(scenes, limits);
    let paths: u64 = explored.paths.values().sum();
    let effects = explored.effects;
    println!("{paths} paths, {effects} effects, with {limits:?}:");
    for (kind, count) in &explored.paths {
        println!("{count:>10}  {kind}");
    }
    for (fault, times) in &explored.faults {
        println!("{times:>10}  {}", fault.words());
    }
    if let Some((name, law)) = explored.broken {
        let name: scope::Name = name.parse().expect("as it was written");
        let history = scope::walk(&name, limits, true).history;
        panic!("{history}\n{law}\n(SCOPE='{name}' shows it again, with the same limits)");
    }
}
