//! The local runner under faults: several processes on one archive, each of which renews its claims
//! while it lives, and is killed, stopped, or left to end.
//!
//! The seed decides all faults. Which of two tasks that are ready goes first is the runtime's choice, so
//! a world may go differently when it is run again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::join_all;
use insights_archive::archive::Key;
use insights_archive::export::{Event, Export, Time, Week};
use insights_archive::queue::local::LocalQueue;
use insights_archive::run::{self, End, Patience};
use insights_archive::stages::enqueue::{Request, Scope, Wish};
use insights_archive::stages::{Budget, Edges, Report, Rules};
use tokio::time::{sleep, sleep_until};

use crate::edge::{Edge, World};
use crate::fault::Fault;
use crate::rng::Rng;
use crate::seeds::{HOUR, MINUTE};
use crate::world::{Bounds, Fate, State};

/// How long a claim outlives the last sign of life of its process.
const LEASE: Duration = MINUTE;
/// So many runs without faults are to end all that went before.
const MOST_LAST_RUNS: usize = 3;

/// One process: the outside as others have it, and a queue of its own.
struct Laptop {
    edge: Edge,
    queue: LocalQueue,
}

impl Edges for Laptop {
    type Kore = Edge;
    type Archive = Edge;
    type Queue = LocalQueue;

    fn kore(&self) -> &Edge {
        &self.edge
    }

    fn archive(&self) -> &Edge {
        &self.edge
    }

    fn queue(&self) -> &LocalQueue {
        &self.queue
    }

    fn rules(&self) -> &Rules {
        self.edge.rules()
    }

    fn budget(&self) -> &Budget {
        self.edge.budget()
    }

    fn now(&self) -> Time {
        self.edge.now()
    }

    fn random(&self) -> u64 {
        self.edge.random()
    }

    fn report(&self, export: &Export, report: Report) {
        self.edge.report(export, report);
    }
}

/// How a world of laptops ended.
#[derive(Debug)]
pub struct Ended {
    pub violation: Option<String>,
    pub history: String,
    pub faults: BTreeMap<Fault, u64>,
    pub effects: u64,
    pub manifests: usize,
    pub replaced: usize,
    pub jobs: usize,
    pub adopted: u32,
    pub killed: u32,
    /// How long the runs took that had no faults.
    pub healed_after: Duration,
}

/// How a process is to end.
#[derive(Debug, Clone, Copy)]
enum Plan {
    Killed(Duration),
    Stopped(Duration),
    Left,
}

/// Runs processes on one archive, with or without faults, then others without, until everything is
/// archived.
pub fn run(seed: u64, faults: bool, log: bool) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(Desk::new(seed, faults, log).work(faults))
}

struct Desk {
    world: World,
    rules: Arc<Rules>,
    scope: Scope,
    skew: u64,
    slice: usize,
    killed: u32,
}

impl Desk {
    fn new(seed: u64, faults: bool, log: bool) -> Self {
        let mut rng = Rng::new(seed);
        let mut rates = vec![0; Fault::EVERY.len()];
        let mut skew = 0;
        if faults {
            let kinds = rng.pick(&[1_000, 3_000, 6_000]);
            for fault in Fault::EVERY.iter().copied() {
                // Windows of time are for the other worlds.
                let outage = [Fault::ArchiveOutage, Fault::QueueOutage, Fault::HostOutage];
                if rng.chance(kinds) && !outage.contains(&fault) {
                    rates[fault as usize] = match fault {
                        Fault::Kill | Fault::KillAfter => rng.pick(&[10, 50, 200]),
                        _ if fault.of_a_job() => rng.pick(&[300, 1_500, 4_000]),
                        _ => rng.pick(&[20, 100, 300, 1_000]),
                    };
                }
            }
            skew = rng.pick(&[0, 0, 2_000, 60_000]);
        }
        let patience = Patience {
            stall: rng.pick(&[20, 120]) * MINUTE,
            deadline: rng.pick(&[4, 24]) * HOUR,
        };
        let rules = patience.rules();
        let bounds = Bounds {
            deadline: rules.deadline,
            held: LEASE,
            skew: Duration::from_millis(2 * skew),
            in_flight: u32::MAX,
        };
        let slice = usize::try_from(rng.between(1, 3)).unwrap_or(1);
        let weeks = rng.pick(&[1, 2, 4, 12]);
        let outages = Vec::new();
        let state = State::new(rng, Fate::Rates { rates, outages }, bounds, log);
        let today = Week::of(state.now());
        let scope = Scope {
            apps: vec!["st-1".parse().expect("an AppID")],
            events: vec![Event::All],
            since: Some(today.back(weeks).monday()),
            catch_up_weeks: 4,
            lookback_weeks: 0,
            settle: HOUR,
            apart: Duration::ZERO,
        };
        Self {
            world: Arc::new(Mutex::new(state)),
            rules: Arc::new(rules),
            scope,
            skew,
            slice,
            killed: 0,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.world.lock().expect("nothing panics while it holds it")
    }

    fn process(&self, name: String) -> Arc<Laptop> {
        let skew = i64::try_from(self.state().rng.below(2 * self.skew + 1)).unwrap_or(0);
        let skew = skew - self.skew.cast_signed();
        let bytes = 2 * insights_archive::archive::PART_BYTES;
        let budget = Budget::new(bytes, 2).in_miniature(100, self.slice);
        Arc::new(Laptop {
            edge: Edge::new(&self.world, name, skew, &self.rules, &budget),
            queue: LocalQueue::default(),
        })
    }

    /// One process, from its start to its end: how its exports ended, where it could tell.
    async fn live(
        &self,
        laptop: Arc<Laptop>,
        plan: Plan,
        replace: bool,
    ) -> Option<BTreeMap<Export, End>> {
        let edge = laptop.edge.clone();
        edge.state()
            .note(&edge.name, || format!("starts, to be {plan:?}"));
        let wish = Wish {
            since: self.scope.since.expect("set above"),
            until: None,
            apps: None,
            events: None,
            replace,
            dry_run: false,
        };
        let stop = async {
            match plan {
                Plan::Stopped(after) => sleep(after).await,
                _ => std::future::pending().await,
            }
        };
        let killed = async {
            match plan {
                Plan::Killed(after) => sleep(after).await,
                _ => std::future::pending().await,
            }
        };
        let request = Request::Explicit(wish);
        let ended = tokio::select! {
            biased;
            () = edge.death() => None,
            () = killed => None,
            ended = run::run(Arc::clone(&laptop), &self.scope, &request, stop) => Some(ended),
        };
        // Dropped, it has left tasks behind that a killed process would not have.
        edge.kill();
        let mut state = edge.state();
        state.note(&edge.name, || format!("ends: {ended:?}"));
        for letter in laptop.queue.dead_letters() {
            if letter.reason.contains(crate::host::CANARY) {
                state.broken(format!("a reason holds a link: {}", letter.reason));
            }
        }
        let ends = ended?.ok()?.ends;
        for (export, _) in ends.iter().filter(|(_, end)| **end == End::Archived) {
            if state.store.get(&Key::manifest(export)).is_none() {
                state.broken(format!(
                    "a run says that {export} is archived, and it is not"
                ));
            }
        }
        Some(ends)
    }

    async fn work(mut self, faults: bool) -> Ended {
        let count = self.state().rng.between(1, 4);
        let mut processes = Vec::new();
        let mut killed = 0;
        for number in 0..count {
            let laptop = self.process(format!("pc{number}"));
            let (after, plan, replace) = {
                let mut state = self.state();
                let rng = &mut state.rng;
                let most = rng.pick(&[10, 300, 7_200]);
                let after = Duration::from_secs(rng.below(most));
                let span = rng.pick(&[20, 600, 10_800]);
                let span = Duration::from_millis(rng.below(span * 1_000));
                let plan = match rng.below(10) {
                    _ if !faults => Plan::Left,
                    0..=5 => Plan::Killed(span),
                    6..=7 => Plan::Stopped(span),
                    _ => Plan::Left,
                };
                (after, plan, faults && rng.chance(2_000))
            };
            killed += u32::from(matches!(plan, Plan::Killed(_)));
            let this = &self;
            processes.push(async move {
                sleep(after).await;
                this.live(laptop, plan, replace).await
            });
        }
        // Nothing goes wrong after half a day; who still is at work may go on.
        let (world, calm_at) = (
            Arc::clone(&self.world),
            tokio::time::Instant::now() + 12 * HOUR,
        );
        let calm = tokio::spawn(async move {
            sleep_until(calm_at).await;
            world.lock().expect("no panic").calm();
        });
        join_all(processes).await;
        calm.abort();
        self.state().calm();
        self.skew = 0;
        self.killed = killed;
        let began = self.state().elapsed();
        self.state()
            .note("fate", || "nothing goes wrong from now on".to_owned());
        for number in 0..=MOST_LAST_RUNS {
            if self.missing().is_empty() {
                break;
            }
            if number == MOST_LAST_RUNS {
                let missing = self.missing();
                self.state().broken(format!(
                    "after {number} runs without faults {missing:?} are missing"
                ));
                break;
            }
            let laptop = self.process(format!("last{number}"));
            self.live(laptop, Plan::Left, false).await;
        }
        self.end(began)
    }

    /// What is due and not archived.
    fn missing(&self) -> Vec<Export> {
        let state = self.state();
        let end = Week::of(state.now().before(HOUR));
        let first = Week::containing(self.scope.since.expect("set above"));
        let weeks = first.until(end).map(|week| Export {
            app: self.scope.apps[0].clone(),
            event: Event::All,
            week,
        });
        weeks
            .filter(|export| state.store.get(&Key::manifest(export)).is_none())
            .collect()
    }

    fn end(&self, began: Duration) -> Ended {
        let mut state = self.state();
        let healed_after = state.elapsed().saturating_sub(began);
        // One chain may hold on to a job of before until its deadline; then another begins.
        if healed_after > self.rules.deadline + self.rules.stall + HOUR {
            state.broken(format!("it took {healed_after:?} to archive everything"));
        }
        let exports: Vec<_> = state.watches.keys().cloned().collect();
        let (mut manifests, mut replaced) = (0, 0);
        for export in exports {
            let stood = state.watches[&export].manifests.len();
            manifests += stood.min(1);
            replaced += stood.saturating_sub(1);
            if stood > 0
                && state.violation.is_none()
                && let Err(law) = state.check_manifest(&export)
            {
                state.broken(format!("in the end, {export}: {law}"));
            }
        }
        Ended {
            violation: state.violation.clone(),
            history: state.history(),
            faults: state.faults.clone(),
            effects: state.effects,
            manifests,
            replaced,
            jobs: state.host.jobs.len(),
            adopted: state.adopted,
            killed: self.killed,
            healed_after,
        }
    }
}
