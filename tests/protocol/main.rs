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

use fault::Fault;
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
    let mut faults: BTreeMap<Fault, u64> = BTreeMap::new();
    let (mut effects, mut manifests, mut replaced, mut dead, mut looks) = (0, 0, 0, 0, 0);
    let mut most_in_flight = 0;
    let mut healed_after = std::time::Duration::ZERO;
    let mut broken = Vec::new();
    for seed in from..from + seeds {
        let ended = run(seed, Faults::Any, false);
        broken.extend(ended.violation.map(|law| (seed, law)));
        for (fault, times) in ended.faults {
            *faults.entry(fault).or_default() += times;
        }
        effects += ended.effects;
        manifests += ended.manifests;
        replaced += ended.replaced;
        dead += ended.dead;
        looks += ended.looks;
        most_in_flight = most_in_flight.max(ended.most_in_flight);
        healed_after = healed_after.max(ended.healed_after);
    }
    for (seed, law) in &broken {
        println!("seed {seed}: {law}");
    }
    println!("{seeds} seeds from {from}: {effects} effects, {looks} looks, {manifests} exports");
    println!(
        "archived, {replaced} replaced, {dead} dead letters, {most_in_flight} messages of one"
    );
    println!("export in flight at most, all healed within {healed_after:?}; faults:");
    for (fault, times) in faults {
        println!("{times:>10}  {}", fault.words());
    }
    if let Some((seed, _)) = broken.first() {
        holds(*seed, Faults::Any);
    }
}

#[test]
fn a_seed_decides_everything() {
    for seed in 0..5 {
        let digests = [false, true].map(|log| run(seed, Faults::Any, log).digest);
        assert_eq!(digests[0], digests[1], "seed {seed}");
    }
}
