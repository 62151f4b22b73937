//! Every path through a small scope: one export with two slices, two workers, and at every effect,
//! every delivery and every switch between the workers all that may happen, within bounds.
//!
//! A path is the list of the choices that differ from "nothing goes wrong, and whoever is at work
//! goes on". Each run of a path tells which choices it had after the last of them, and so which paths
//! come next: none is run twice, none is left out. A run that comes to a world which another has been
//! in ends there (`seen.rs` says why nothing is missed by that).
//!
//! What is chance elsewhere is fixed here: jitter is the least, a `Retry-After` and the place of a cut
//! follow from the message. So a world has few neighbours that differ in nothing that matters.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash as _, Hasher as _};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::Duration;

use insights_archive::archive::Key;
use insights_archive::export::{Event, Week};
use insights_archive::queue::Line;
use insights_archive::queue::message::Message;
use insights_archive::stages::enqueue::{self, Request, Scope};
use insights_archive::stages::{Budget, Lease, Outcome, Rules, StageError, handle};
use tokio::time::{Instant, sleep};

use crate::edge::{Edge, World};
use crate::fault::Fault;
use crate::path::{Limits, Name, Path, Scene};
use crate::rng::Rng;
use crate::seeds::{COPY_LIMIT, COPY_VISIBILITY, DAY, HOUR, MINUTE, POLL_LIMIT, POLL_VISIBILITY};
use crate::seen::{Answer, Print, Worlds};
use crate::sqs::MOST_RECEIVES;
use crate::store::unsigned;
use crate::world::{Bounds, Fate, State};

/// Where a stage waits before each effect until the scheduler lets it pass, and what it was told.
#[derive(Debug, Default)]
pub struct Turnstile {
    waiting: AtomicBool,
    open: AtomicBool,
    waker: Mutex<Option<Waker>>,
    told: Mutex<Print>,
}

impl Turnstile {
    pub async fn pass(&self) {
        std::future::poll_fn(|cx| {
            if self.open.swap(false, Ordering::Relaxed) {
                self.waiting.store(false, Ordering::Relaxed);
                return Poll::Ready(());
            }
            self.waiting.store(true, Ordering::Relaxed);
            *self.waker.lock().expect("no panic") = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// An answer has come, at this time.
    pub fn told(&self, now: Duration, fault: Option<Fault>, answer: Option<&impl Answer>) {
        let mut told = self.told.lock().expect("no panic");
        (now, fault).hash(&mut *told);
        if let Some(answer) = answer {
            answer.tell(&mut told);
        }
    }

    fn let_pass(&self) {
        self.open.store(true, Ordering::Relaxed);
        if let Some(waker) = self.waker.lock().expect("no panic").take() {
            waker.wake();
        }
    }
}

/// How a path ended.
pub struct Ended {
    pub violation: Option<String>,
    pub history: String,
    pub faults: BTreeMap<Fault, u64>,
    path: Path,
    pub effects: u64,
    /// The world in which it ended; `None`: in one that had been seen.
    last: Option<u128>,
}

/// How a message's work ended; `None`: it was killed.
type End = Option<Result<Outcome, StageError>>;

/// A message at work.
struct Work {
    id: u64,
    edge: Edge,
    turnstile: Arc<Turnstile>,
    /// Chance, for this invocation: it follows from the message, so that it is the same whatever
    /// else goes on.
    rng: Rng,
    future: Pin<Box<dyn Future<Output = End>>>,
}

enum Step {
    AtEffect,
    Ended(End),
}

impl Work {
    /// To the next effect, or to the end; where it sleeps, time passes.
    async fn step(&mut self) -> Step {
        self.turnstile.let_pass();
        std::future::poll_fn(|cx| match self.future.as_mut().poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Step::Ended(ended)),
            Poll::Pending if self.turnstile.waiting.load(Ordering::Relaxed) => {
                Poll::Ready(Step::AtEffect)
            }
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

struct Walk<'a> {
    world: World,
    rules: Arc<Rules>,
    scope: Scope,
    workers: [Option<Work>; 2],
    limits: Limits,
    /// The worlds that other runs have seen.
    worlds: Option<&'a Worlds>,
    /// How often everybody had done everything.
    rounds: u32,
    merged: bool,
}

/// Runs one path: to its end, or into a world that was seen.
pub fn walk(name: &Name, limits: Limits, worlds: Option<&Worlds>, log: bool) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(Walk::new(name, limits, worlds, log).drive())
}

/// What one function has for itself: one fragment at once, one a slice.
fn budget() -> Budget {
    Budget::new(insights_archive::archive::PART_BYTES, 1).in_miniature(1_000, 1)
}

impl<'a> Walk<'a> {
    fn new(name: &Name, limits: Limits, worlds: Option<&'a Worlds>, log: bool) -> Self {
        let rules = Rules {
            stall: 120 * MINUTE,
            deadline: 24 * HOUR,
            poll_limit: POLL_LIMIT,
            lease: Lease::Delivery {
                poll: POLL_VISIBILITY,
                copy: COPY_VISIBILITY,
            },
        };
        let bounds = Bounds {
            deadline: rules.deadline,
            held: COPY_VISIBILITY + 2 * HOUR,
            skew: Duration::ZERO,
            in_flight: 20,
        };
        let path = Path::new(name.0, limits, name.1.clone());
        let mut state = State::new(Rng::new(0), Fate::Path(path), bounds, log);
        state.files = Some(2);
        let week = Week::of(state.now()).back(1);
        let scope = Scope {
            apps: vec!["st-1".parse().expect("an AppID")],
            events: vec![Event::All],
            since: Some(week.monday()),
            catch_up_weeks: 1,
            lookback_weeks: 0,
            settle: HOUR,
            apart: MINUTE,
        };
        Self {
            world: Arc::new(Mutex::new(state)),
            rules: Arc::new(rules),
            scope,
            workers: [None, None],
            limits,
            worlds,
            rounds: 0,
            merged: false,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.world.lock().expect("nothing panics while it holds it")
    }

    fn path<T>(&self, choose: impl FnOnce(&mut Path) -> T) -> T {
        match &mut self.state().fate {
            Fate::Path(path) => choose(path),
            Fate::Rates { .. } => unreachable!("a path was given"),
        }
    }

    /// A tick, or a person's wish to replace, without faults.
    async fn tick(&self, replace: bool) {
        let plain = self.path(|path| std::mem::replace(&mut path.plain, true));
        let edge = Edge::new(&self.world, "tick".to_owned(), 0, &self.rules, &budget());
        // Its effects happen one after another, with nobody in between.
        let edge = edge.with_turnstile(&Arc::new(Turnstile::default()));
        let time = self.state().now();
        let request = if replace {
            Request::Explicit(enqueue::Wish {
                since: self.scope.since.expect("set above"),
                until: None,
                apps: None,
                events: None,
                replace: true,
                dry_run: false,
            })
        } else {
            Request::Tick(time)
        };
        let turnstile = edge.turnstile().expect("set above");
        let mut run = Box::pin(enqueue::run(&edge, &self.scope, &request));
        let run = std::future::poll_fn(|cx| {
            loop {
                turnstile.let_pass();
                match run.as_mut().poll(cx) {
                    Poll::Ready(done) => return Poll::Ready(done),
                    Poll::Pending if turnstile.is_waiting() => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        if let Err(error) = run.await {
            self.state()
                .broken(format!("a tick without faults fails: {error}"));
        }
        self.path(|path| path.plain = plain);
    }

    async fn drive(mut self) -> Ended {
        let scene = self.path(|path| path.scene);
        if scene == Scene::Replace {
            self.path(|path| path.plain = true);
            self.tick(false).await;
            self.run().await;
            sleep(HOUR).await;
            self.path(|path| path.plain = false);
            self.tick(true).await;
            self.tick(true).await;
        } else {
            self.tick(false).await;
            if scene == Scene::Two {
                self.tick(false).await;
            }
        }
        self.run().await;
        // What was given up, or lies with the dead letters, heals at a tick, at the latest after four
        // weeks in peace.
        self.path(|path| path.plain = true);
        let export = self
            .state()
            .watches
            .keys()
            .next()
            .cloned()
            .expect("one was enqueued");
        for _ in 0..32 {
            let archived = !self.state().watches[&export].manifests.is_empty();
            if archived || self.merged || self.state().violation.is_some() {
                break;
            }
            sleep(DAY).await;
            self.tick(false).await;
            self.run().await;
        }
        let mut state = self.state();
        if state.violation.is_none()
            && !self.merged
            && let Err(law) = state.check_manifest(&export)
        {
            state.broken(format!("in the end: {law}"));
        }
        let history = state.history();
        let path = match &state.fate {
            Fate::Path(path) => path.clone(),
            Fate::Rates { .. } => unreachable!("a path was given"),
        };
        let last = (!self.merged).then(|| self.world(&state));
        Ended {
            violation: state.violation.clone(),
            history,
            faults: state.faults.clone(),
            path,
            effects: state.effects,
            last,
        }
    }

    /// What the world is now.
    fn world(&self, state: &State) -> u128 {
        let Fate::Path(path) = &state.fate else {
            unreachable!("a path was given")
        };
        let mut print = Print::of((self.rounds, path.plain));
        state.print(&mut print, self.workers.iter().all(Option::is_none));
        self.workers[0].is_some().hash(&mut print);
        for work in self.workers.iter().flatten() {
            let entry = state.sqs.entries.get(&work.id);
            let entry = entry.map(|entry| entry.print().digest());
            let told = work.turnstile.told.lock().expect("no panic").digest();
            (entry, told, &work.rng).hash(&mut print);
        }
        print.digest()
    }

    /// Whether another run has been here: it goes on with all that may follow.
    fn is_seen(&self) -> bool {
        let Some(worlds) = self.worlds else {
            return false;
        };
        let state = self.state();
        let Fate::Path(path) = &state.fate else {
            unreachable!("a path was given")
        };
        if !path.is_beyond() {
            return false;
        }
        // Where there is no choice any more, it makes no difference what went wrong before.
        let (faults, preemptions) = if path.plain {
            (0, 0)
        } else {
            (path.faults, path.preemptions)
        };
        worlds.has(self.world(&state), faults, preemptions, self.limits)
    }

    /// Until there are no messages left.
    async fn run(&mut self) {
        let mut current = 0;
        self.rounds += 1;
        while self.state().violation.is_none() {
            // Who is who makes no difference: the one at work comes first.
            if current == 1 {
                self.workers.swap(0, 1);
                current = 0;
            }
            if self.is_seen() {
                self.merged = true;
                return;
            }
            let other = 1 - current;
            if self.workers[current].is_none() {
                // Whose turn it is now is free to choose.
                let visible = self.visible();
                let paused = usize::from(self.workers[other].is_some());
                let options = visible.len() + paused;
                if options == 0 {
                    let Some(next) = self.state().sqs.next_visible() else {
                        return;
                    };
                    let now = self.state().elapsed();
                    sleep(next.saturating_sub(now)).await;
                    continue;
                }
                let chosen = self.path(|path| path.choose(options));
                match visible.get(chosen) {
                    Some(id) => self.receive(current, *id),
                    None => current = other,
                }
                continue;
            }
            let could = self.workers[other].is_some() || !self.visible().is_empty();
            if could && self.path(Path::preempts) {
                if self.workers[other].is_none() {
                    let visible = self.visible();
                    let chosen = self.path(|path| path.choose(visible.len()));
                    self.receive(other, visible[chosen]);
                }
                current = other;
            }
            let Some(mut work) = self.workers[current].take() else {
                continue;
            };
            std::mem::swap(&mut self.state().rng, &mut work.rng);
            let step = work.step().await;
            std::mem::swap(&mut self.state().rng, &mut work.rng);
            match step {
                Step::AtEffect => self.workers[current] = Some(work),
                Step::Ended(ended) => self.ended(&work, &ended),
            }
        }
    }

    fn visible(&self) -> Vec<u64> {
        let state = self.state();
        let mut visible = state.sqs.visible(state.elapsed());
        // Which was sent first is of no account: where nothing is chosen, the world alone decides.
        visible.sort_by_cached_key(|id| state.sqs.entries[id].print().digest());
        visible
    }

    fn receive(&mut self, worker: usize, id: u64) {
        let world = Arc::clone(&self.world);
        let mut state = world.lock().expect("nothing panics while it holds it");
        let now = state.elapsed();
        let twice = state.fault(&[Fault::Duplicate]).is_some();
        let entry = state.sqs.entries.get_mut(&id).expect("visible");
        if entry.receives >= MOST_RECEIVES {
            return state.gone(id, Some("received too often"));
        }
        entry.receives += 1;
        let (visibility, limit, line) = match entry.line {
            Line::Poll => (POLL_VISIBILITY, POLL_LIMIT, Line::Poll),
            Line::Copy => (COPY_VISIBILITY, COPY_LIMIT, Line::Copy),
        };
        if !twice {
            entry.visible = now + visibility;
        }
        let message = Message::from_json(&entry.body).expect("checked when it was sent");
        let print = entry.print();
        let claim = state.store.get(&Key::claim(&message.export));
        let claim = claim.map(|stored| unsigned(&stored.bytes));
        let received = Print::of((print.digest(), now, claim));
        let name = format!("m{id}");
        state.note(&name, || {
            let chain = &message.chain.as_str()[..6];
            let (hop, attempt) = (message.hop, message.attempt);
            format!("receives {id}: chain {chain} hop {hop} attempt {attempt}")
        });
        drop(state);
        let turnstile = Arc::new(Turnstile::default());
        let rng = Rng::new(received.finish());
        *turnstile.told.lock().expect("no panic") = received;
        let mut edge =
            Edge::new(&self.world, name, 0, &self.rules, &budget()).with_turnstile(&turnstile);
        edge.message = Some(message.clone());
        let own = edge.clone();
        let future = Box::pin(async move {
            let end = match line {
                Line::Poll => None,
                Line::Copy => Some(Instant::now() + limit),
            };
            own.live(limit, handle(&own, &message, end)).await
        });
        self.workers[worker] = Some(Work {
            id,
            edge,
            turnstile,
            rng,
            future,
        });
    }

    fn ended(&self, work: &Work, ended: &End) {
        let mut state = self.state();
        state.note(&work.edge.name, || format!("ends {}: {ended:?}", work.id));
        if let Some(Ok(_)) = ended
            && state.fault(&[Fault::DeleteLost]).is_none()
        {
            state.gone(work.id, None);
        }
    }
}

impl Turnstile {
    fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// What all paths of the scope came to.
#[derive(Debug, Default)]
pub struct Explored {
    pub paths: BTreeMap<String, u64>,
    /// Those that ended where another had been.
    pub merged: u64,
    /// The worlds in which the others ended.
    pub ends: BTreeSet<u128>,
    pub worlds: usize,
    pub effects: u64,
    pub faults: BTreeMap<Fault, u64>,
    pub broken: Option<(String, String)>,
}

/// Runs every path through the scenes within the limits, on every core: those with the least that
/// goes wrong first, because worlds that they have seen hold for all. Where nothing is pruned, each is
/// run to its end.
pub fn explore(scenes: &[Scene], limits: Limits, prune: bool) -> Explored {
    struct Shared {
        /// By how much goes wrong.
        left: Vec<Vec<Name>>,
        busy: usize,
        explored: Explored,
    }
    let plain = |scene: &Scene| Name(*scene, Vec::new());
    let mut left = vec![Vec::new(); limits.together as usize + 1];
    left[0].extend(scenes.iter().map(plain));
    let shared = Mutex::new(Shared {
        left,
        busy: 0,
        explored: Explored::default(),
    });
    let worlds = Worlds::default();
    let more = Condvar::new();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let take = || {
        let mut shared = shared.lock().expect("no panic");
        loop {
            if shared.explored.broken.is_some() {
                return None;
            }
            if let Some(name) = shared.left.iter_mut().find_map(Vec::pop) {
                shared.busy += 1;
                return Some(name);
            }
            if shared.busy == 0 {
                more.notify_all();
                return None;
            }
            shared = more.wait(shared).expect("no panic");
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(name) = take() {
                    let ended = walk(&name, limits, prune.then_some(&worlds), false);
                    let path = &ended.path;
                    let kind = format!(
                        "{:?}, {} faults, {} pre-emptions",
                        name.0, path.faults, path.preemptions
                    );
                    let mut guard = shared.lock().expect("no panic");
                    let shared = &mut *guard;
                    shared.busy -= 1;
                    *shared.explored.paths.entry(kind).or_default() += 1;
                    shared.explored.merged += u64::from(ended.last.is_none());
                    shared.explored.ends.extend(ended.last);
                    shared.explored.effects += ended.effects;
                    for (fault, times) in &ended.faults {
                        *shared.explored.faults.entry(*fault).or_default() += times;
                    }
                    if let Some(law) = ended.violation {
                        let found = (name.to_string(), law);
                        shared.explored.broken.get_or_insert(found);
                    }
                    // At least as much as this path will have gone wrong on those that follow.
                    let wrong = (path.faults + path.preemptions) as usize;
                    let next = path.next().map(|differs| Name(name.0, differs));
                    shared.left[wrong].extend(next);
                    let done: u64 = shared.explored.paths.values().sum();
                    if done.is_multiple_of(100_000) {
                        let left: Vec<_> = shared.left.iter().map(Vec::len).collect();
                        eprintln!("{done} paths, {} worlds, to come {left:?}", worlds.count());
                    }
                    more.notify_all();
                }
            });
        }
    });
    let mut explored = shared.into_inner().expect("no panic").explored;
    explored.worlds = worlds.count();
    explored
}
