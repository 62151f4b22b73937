//! Every path through a small scope: one export with two slices, two workers, and at every effect,
//! every delivery and every switch between the workers all that may happen, within bounds.
//!
//! A path is the list of the choices that differ from "nothing goes wrong, and whoever is at work
//! goes on". Each run of a path tells which choices it had after the last of them, and so which paths
//! come next: none is run twice, none is left out.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::Duration;

use insights_archive::export::{Event, Week};
use insights_archive::queue::Line;
use insights_archive::stages::enqueue::{self, Request, Scope};
use insights_archive::stages::message::Message;
use insights_archive::stages::{Budget, Lease, Outcome, Rules, StageError, handle};
use tokio::time::{Instant, sleep};

use crate::edge::{Edge, World};
use crate::fault::Fault;
use crate::rng::Rng;
use crate::seeds::{COPY_LIMIT, COPY_VISIBILITY, DAY, HOUR, MINUTE, POLL_LIMIT, POLL_VISIBILITY};
use crate::sqs::MOST_RECEIVES;
use crate::world::{Bounds, Fate, State};

/// What may go wrong here. A kill after an effect is a kill before the next one, or a message that is
/// not deleted.
pub const POSSIBLE: &[Fault] = &[
    Fault::Kill,
    Fault::Unavailable,
    Fault::LostAnswer,
    Fault::ClaimLost,
    Fault::QueueDown,
    Fault::QueueLost,
    Fault::QueuePartial,
    Fault::Limited,
    Fault::Unclear,
    Fault::UnclearAfter,
    Fault::Gone,
    Fault::LinkRefused,
    Fault::Html,
    Fault::CutSilently,
    Fault::Duplicate,
    Fault::Late,
    Fault::DeleteLost,
    Fault::JobFails,
    Fault::JobSwaps,
    Fault::JobRelapses,
];

/// The worst of them: what is done and not known, what is lost, what comes twice, what is gone.
pub const WORST: &[Fault] = &[
    Fault::Kill,
    Fault::LostAnswer,
    Fault::QueueLost,
    Fault::Gone,
    Fault::Duplicate,
    Fault::DeleteLost,
];

/// Where an export begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// One chain.
    One,
    /// Two chains, of two ticks that overlapped: two may commit.
    Two,
    /// Two chains that replace the same manifest.
    Replace,
}

impl Scene {
    pub const EVERY: [Self; 3] = [Self::One, Self::Two, Self::Replace];
}

/// How much may differ from the plainest run.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub faults: u32,
    pub preemptions: u32,
    /// Faults and preemptions together.
    pub together: u32,
    /// Which faults.
    pub possible: &'static [Fault],
}

/// The choices of one run.
#[derive(Debug, Clone)]
pub struct Path {
    pub scene: Scene,
    limits: Limits,
    /// What differs: at the so-manieth choice, this option.
    differs: Vec<(usize, usize)>,
    /// How many choices there were so far.
    count: usize,
    /// The choices after the last that differs: which, and how many options.
    open: Vec<(usize, usize)>,
    faults: u32,
    preemptions: u32,
}

impl Path {
    fn new(scene: Scene, limits: Limits, differs: Vec<(usize, usize)>) -> Self {
        Self {
            scene,
            limits,
            differs,
            count: 0,
            open: Vec::new(),
            faults: 0,
            preemptions: 0,
        }
    }

    /// One of so many options; 0 is the plain one.
    fn choose(&mut self, options: usize) -> usize {
        if options < 2 {
            return 0;
        }
        let index = self.count;
        self.count += 1;
        let found = self.differs.iter().find(|(at, _)| *at == index);
        if let Some((_, option)) = found {
            return *option;
        }
        if self.differs.last().is_none_or(|(last, _)| *last < index) {
            self.open.push((index, options));
        }
        0
    }

    fn exhausted(&self) -> bool {
        self.faults + self.preemptions >= self.limits.together
    }

    pub fn fault(&mut self, among: &[Fault]) -> Option<Fault> {
        if self.exhausted() || self.faults >= self.limits.faults {
            return None;
        }
        let possible: Vec<_> = among
            .iter()
            .copied()
            .filter(|fault| self.limits.possible.contains(fault))
            .collect();
        let chosen = self.choose(1 + possible.len());
        let fault = possible.get(chosen.checked_sub(1)?).copied();
        self.faults += u32::from(fault.is_some());
        fault
    }

    fn preempts(&mut self) -> bool {
        if self.exhausted() || self.preemptions >= self.limits.preemptions {
            return false;
        }
        let yes = self.choose(2) == 1;
        self.preemptions += u32::from(yes);
        yes
    }

    /// The paths that differ from this one in one choice more.
    fn next(&self) -> impl Iterator<Item = Vec<(usize, usize)>> + '_ {
        self.open.iter().flat_map(|(index, options)| {
            (1..*options).map(|option| {
                let mut differs = self.differs.clone();
                differs.push((*index, option));
                differs
            })
        })
    }
}

/// A path as text: `Two 12=1 40=3`.
#[derive(Debug, Clone)]
pub struct Name(pub Scene, pub Vec<(usize, usize)>);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)?;
        for (index, option) in &self.1 {
            write!(f, " {index}={option}")?;
        }
        Ok(())
    }
}

impl FromStr for Name {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a path such as 'Two 12=1 40=3'");
        let mut words = text.split_whitespace();
        let name = words.next().ok_or_else(bad)?;
        let scene = Scene::EVERY
            .into_iter()
            .find(|scene| format!("{scene:?}") == name)
            .ok_or_else(bad)?;
        let differs = words.map(|word| {
            let (index, option) = word.split_once('=')?;
            Some((index.parse().ok()?, option.parse().ok()?))
        });
        let differs = differs.collect::<Option<_>>().ok_or_else(bad)?;
        Ok(Self(scene, differs))
    }
}

/// Where a stage waits before each effect until the scheduler lets it pass.
#[derive(Debug, Default)]
pub struct Turnstile {
    waiting: AtomicBool,
    open: AtomicBool,
    waker: Mutex<Option<Waker>>,
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
}

/// How a message's work ended; `None`: it was killed.
type End = Option<Result<Outcome, StageError>>;

/// A message at work.
struct Work {
    id: u64,
    edge: Edge,
    turnstile: Arc<Turnstile>,
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

struct Walk {
    world: World,
    rules: Arc<Rules>,
    budget: Budget,
    scope: Scope,
    workers: [Option<Work>; 2],
}

/// Runs one path.
pub fn walk(name: &Name, limits: Limits, log: bool) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(Walk::new(name, limits, log).drive())
}

impl Walk {
    fn new(name: &Name, limits: Limits, log: bool) -> Self {
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
            lease: COPY_VISIBILITY,
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
        let one = insights_archive::archive::PART_BYTES;
        Self {
            world: Arc::new(Mutex::new(state)),
            rules: Arc::new(rules),
            budget: Budget::new(one, 1).in_miniature(1_000, 1),
            scope,
            workers: [None, None],
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
        let limits = self.path(|path| std::mem::replace(&mut path.limits.faults, 0));
        let edge = Edge::new(&self.world, "tick".to_owned(), 0, &self.rules, &self.budget);
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
        self.path(|path| path.limits.faults = limits);
    }

    async fn drive(mut self) -> Ended {
        let scene = self.path(|path| path.scene);
        if scene == Scene::Replace {
            let limits = self.path(|path| {
                let limits = path.limits;
                path.limits.together = 0;
                limits
            });
            self.tick(false).await;
            self.run().await;
            sleep(HOUR).await;
            self.path(|path| path.limits = limits);
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
        self.path(|path| path.limits.together = 0);
        let export = self
            .state()
            .watches
            .keys()
            .next()
            .cloned()
            .expect("one was enqueued");
        for _ in 0..32 {
            let archived = !self.state().watches[&export].manifests.is_empty();
            if archived || self.state().violation.is_some() {
                break;
            }
            sleep(DAY).await;
            self.tick(false).await;
            self.run().await;
        }
        let mut state = self.state();
        if state.violation.is_none()
            && let Err(law) = state.check_manifest(&export)
        {
            state.broken(format!("in the end: {law}"));
        }
        let history = state.history();
        let path = match &state.fate {
            Fate::Path(path) => path.clone(),
            Fate::Rates { .. } => unreachable!("a path was given"),
        };
        Ended {
            violation: state.violation.clone(),
            history,
            faults: state.faults.clone(),
            path,
            effects: state.effects,
        }
    }

    /// Until there are no messages left.
    async fn run(&mut self) {
        let mut current = 0;
        while self.state().violation.is_none() {
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
            match work.step().await {
                Step::AtEffect => self.workers[current] = Some(work),
                Step::Ended(ended) => self.ended(&work, &ended),
            }
        }
    }

    fn visible(&self) -> Vec<u64> {
        let state = self.state();
        state.sqs.visible(state.elapsed())
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
        let name = format!("w{worker}");
        state.note(&name, || {
            let chain = &message.chain.as_str()[..6];
            let (hop, attempt) = (message.hop, message.attempt);
            format!("receives {id}: chain {chain} hop {hop} attempt {attempt}")
        });
        drop(state);
        let turnstile = Arc::new(Turnstile::default());
        let mut edge =
            Edge::new(&self.world, name, 0, &self.rules, &self.budget).with_turnstile(&turnstile);
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
    pub effects: u64,
    pub faults: BTreeMap<Fault, u64>,
    pub broken: Option<(String, String)>,
}

/// Runs every path through the scenes within the limits, on every core.
pub fn explore(scenes: &[Scene], limits: Limits) -> Explored {
    struct Shared {
        left: Vec<Name>,
        busy: usize,
        explored: Explored,
    }
    let plain = |scene: &Scene| Name(*scene, Vec::new());
    let left = scenes.iter().map(plain).collect();
    let shared = Mutex::new(Shared {
        left,
        busy: 0,
        explored: Explored::default(),
    });
    let more = Condvar::new();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let name = {
                        let mut shared = shared.lock().expect("no panic");
                        loop {
                            if shared.explored.broken.is_some() {
                                return;
                            }
                            if let Some(name) = shared.left.pop() {
                                shared.busy += 1;
                                break name;
                            }
                            if shared.busy == 0 {
                                more.notify_all();
                                return;
                            }
                            shared = more.wait(shared).expect("no panic");
                        }
                    };
                    let ended = walk(&name, limits, false);
                    let mut shared = shared.lock().expect("no panic");
                    shared.busy -= 1;
                    let kind = format!(
                        "{:?}, {} faults, {} preemptions",
                        name.0, ended.path.faults, ended.path.preemptions
                    );
                    *shared.explored.paths.entry(kind).or_default() += 1;
                    shared.explored.effects += ended.effects;
                    for (fault, times) in &ended.faults {
                        *shared.explored.faults.entry(*fault).or_default() += times;
                    }
                    if let Some(law) = ended.violation {
                        shared
                            .explored
                            .broken
                            .get_or_insert((name.to_string(), law));
                    }
                    shared
                        .left
                        .extend(ended.path.next().map(|differs| Name(name.0, differs)));
                    more.notify_all();
                }
            });
        }
    });
    shared.into_inner().expect("no panic").explored
}
