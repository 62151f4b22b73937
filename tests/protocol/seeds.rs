//! A world by seed: its settings, its faults by chance, its schedule, its workers.

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use insights_archive::archive::{Key, PART_BYTES};
use insights_archive::export::{Event, Export, Time, Week};
use insights_archive::queue::Line;
use insights_archive::queue::message::{Fragment, Looking, MOST_HOPS, Message, Slice, Work};
use insights_archive::stages::claim::Claim;
use insights_archive::stages::enqueue::{self, Request, Scope, Summary, Wish};
use insights_archive::stages::{Budget, Lease, Outcome, Rules, StageError, handle};
use tokio::time::{Instant, sleep, sleep_until};

use crate::edge::{Edge, World};
use crate::fault::Fault;
use crate::rng::Rng;
use crate::sqs::MOST_RECEIVES;
use crate::world::{Bounds, Fate, State};

/// The functions' own limits; poll's is shorter than in the template.
pub const POLL_LIMIT: Duration = Duration::from_secs(30);
pub const COPY_LIMIT: Duration = Duration::from_secs(300);
/// Six times as much.
pub const POLL_VISIBILITY: Duration = Duration::from_secs(180);
pub const COPY_VISIBILITY: Duration = Duration::from_secs(1_800);
pub const DAY: Duration = Duration::from_secs(86_400);
pub const HOUR: Duration = Duration::from_secs(3_600);
pub const MINUTE: Duration = Duration::from_secs(60);

/// Which faults a run may have.
#[derive(Debug, Clone, Copy)]
pub enum Faults {
    None,
    /// This one alone, often.
    Only(Fault),
    /// This one, nearly every time, for a day and a half.
    Always(Fault),
    /// Any of them: the seed decides which, and how often each.
    Any,
}

/// How a run ended.
pub struct Ended {
    pub violation: Option<String>,
    pub history: String,
    pub digest: u64,
    pub faults: BTreeMap<Fault, u64>,
    pub effects: u64,
    /// The longest time from the end of all faults to the last week archived.
    pub healed_after: Duration,
    pub manifests: usize,
    pub replaced: usize,
    pub looks: u64,
    pub dead: usize,
    pub jobs: usize,
    pub most_in_flight: u32,
    pub most_starts: u32,
    pub most_asked: usize,
}

/// Runs the world of a seed until everything due is archived.
pub fn run(seed: u64, faults: Faults, log: bool) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async { Run::new(seed, faults, log).drive().await })
}

/// What came of one message.
pub struct Handled {
    pub now: Time,
    pub message: Message,
    pub dead: usize,
    /// Why, for each dead letter.
    pub reasons: Vec<String>,
    /// How often a run told that it has committed.
    pub committed: u32,
    /// A chain's.
    pub deadline: Duration,
    pub jobs: usize,
    /// Requests to the API, and for files.
    pub asked: (u64, u64),
    /// What came instead of files: where in them it begins, and what was kept of it.
    pub quarantined: Vec<(u64, Bytes)>,
    pub part_bytes: usize,
    pub archived: bool,
    pub claim: Option<Claim>,
    /// What was sent, with its delay.
    pub sent: Vec<(Message, Duration)>,
}

/// Handles one message in a world of its own: the start of a chain, unless it is prepared to be another.
/// The fault strikes wherever it can; `limit` is how long a run may take.
pub fn handled(
    fault: Option<Fault>,
    limit: Option<Duration>,
    prepare: impl FnOnce(&mut State, &mut Message),
) -> Handled {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let run = Run::new(0, Faults::None, false);
        let mut edge = run.edge("w0".to_owned(), 0);
        sleep(MINUTE).await;
        let now = run.state().now();
        let export = Export {
            app: run.scope.apps[0].clone(),
            event: Event::All,
            week: Week::of(now).back(1),
        };
        let chain = "a-chain".parse().expect("a chain's id");
        let mut message = Message::start(export.clone(), chain, None);
        prepare(&mut run.state(), &mut message);
        if let (Some(fault), Fate::Rates { rates, .. }) = (fault, &mut run.state().fate) {
            rates[fault as usize] = 10_000;
        }
        edge.message = Some(message.clone());
        let limit = limit.map(|limit| Instant::now() + limit);
        let ended = handle(&edge, &message, limit).await;
        ended.expect("an answer, whatever goes wrong");
        let state = run.state();
        let elapsed = state.elapsed();
        let sent = state.sqs.entries.values().map(|entry| {
            let message = Message::from_json(&entry.body).expect("checked when it was sent");
            (message, entry.visible.saturating_sub(elapsed))
        });
        Handled {
            now,
            message,
            dead: state.sqs.buried,
            reasons: state
                .sqs
                .dead
                .iter()
                .map(|letter| letter.reason.clone())
                .collect(),
            committed: state.committed,
            deadline: run.rules.deadline,
            jobs: state.host.jobs.len(),
            asked: edge.asked(),
            quarantined: state.store.quarantined(),
            part_bytes: run.part_bytes,
            archived: state.store.get(&Key::manifest(&export)).is_some(),
            claim: state.claim(&export),
            sent: sent.collect(),
        }
    })
}

/// Makes the message a slice that is all of a job of two files, which has succeeded.
pub fn a_slice(state: &mut State, message: &mut Message) -> Slice {
    let (export, began) = (&message.export, Duration::ZERO);
    let job = state
        .host
        .start(export, began, None, &mut state.rng, Some(2));
    let fragments = (1..=2).map(|number| Fragment {
        number,
        file_id: format!("f-1-{number}"),
    });
    let slice = Slice {
        job,
        of: 2,
        fragments: fragments.collect(),
        fruitless: 0,
        troubled: 0,
    };
    message.attempt = 1;
    message.first_start = Some(state.now());
    message.work = Work::Copy(slice.clone());
    slice
}

/// Makes every file one of several parts; `declared`: the vendor says how many records it has.
pub fn enlarge(state: &mut State, declared: bool) {
    for job in state.host.jobs.values_mut() {
        for file in &mut job.files {
            file.records = 100;
            file.bytes = format!("[{}]", vec!["{\"a\": 1}"; 100].join(",")).into();
            file.declared = declared.then_some(file.records);
        }
        let records = job.files.iter().map(|file| file.records).sum();
        job.totals.records = declared.then_some(records);
    }
}

/// Makes the message a look at a job of two files, which has succeeded.
pub fn a_look(state: &mut State, message: &mut Message) {
    let slice = a_slice(state, message);
    message.work = Work::Look(Looking {
        id: slice.job,
        started_at: state.now(),
        looks: 1,
        percent: None,
        moved_at: state.now(),
        puzzled: 0,
        unanswered: 0,
    });
}

/// A tick that finds so many weeks missing, the oldest of which was given up ten days ago; and its time.
pub fn first_tick(weeks: u32) -> (Time, Summary) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut run = Run::new(0, Faults::None, false);
        let now = run.state().now();
        let oldest = Week::of(now).back(weeks);
        run.scope.since = Some(oldest.monday());
        run.scope.events = vec![Event::All];
        let export = Export {
            app: run.scope.apps[0].clone(),
            event: Event::All,
            week: oldest,
        };
        let claim = Claim {
            chain: "given-up".parse().expect("a chain's id"),
            attempt: 4,
            tried_at: now.before(10 * DAY),
            hop: MOST_HOPS + 2,
            job: None,
            until: now.before(10 * DAY),
            writer: String::new(),
            failures: 1,
        };
        run.state().put(&Key::claim(&export), &claim);
        let edge = run.edge("tick".to_owned(), 0);
        let summary = enqueue::run(&edge, &run.scope, &Request::Tick(now)).await;
        (now, summary.expect("nothing goes wrong"))
    })
}

/// How many messages of one export may be under way at once. Slices have no fences, and while the archive
/// is away nobody has: a message that is delivered again is sent again.
fn in_flight_allowed(outages: &[(Duration, Duration, Fault)]) -> u32 {
    let away = outages
        .iter()
        .any(|(.., kind)| *kind == Fault::ArchiveOutage);
    if away { 1_000 } else { 200 }
}

/// What happens at a time of the calendar.
enum Planned {
    Enqueue(Request),
    Redrive,
}

/// What a worker did.
enum Done {
    Message {
        id: u64,
        worker: usize,
        ended: Option<Result<Outcome, StageError>>,
    },
    Tick,
}

type Working = Pin<Box<dyn Future<Output = Done>>>;

struct Run {
    world: World,
    scope: Scope,
    rules: Arc<Rules>,
    budget: Budget,
    part_bytes: usize,
    /// How far each worker's clock is ahead, in milliseconds.
    skews: Vec<i64>,
    idle: Vec<usize>,
    working: FuturesUnordered<Working>,
    calm_at: Duration,
    /// Ticks to come: when, and the time that each was planned for.
    ticks: BTreeMap<(Duration, u64), Planned>,
    planned: u64,
    /// When the faults stopped, or a person sent the dead letters again after that for the last time.
    undisturbed_since: Duration,
    /// How often in a row each export had been given up at that time.
    failures: BTreeMap<Export, u32>,
    next_day: Duration,
    fair: bool,
}

impl Run {
    fn new(seed: u64, faults: Faults, log: bool) -> Self {
        let mut rng = Rng::new(seed);
        let calm_at = match faults {
            Faults::None => Duration::ZERO,
            Faults::Always(_) => 36 * HOUR,
            _ => Duration::from_secs(rng.pick(&[2, 4, 12, 36]) * 3_600 + rng.below(3_600)),
        };
        let mut rates = vec![0; Fault::EVERY.len()];
        let mut outages = Vec::new();
        let mut allow = |fault: Fault, rate: u32, rng: &mut Rng| match fault {
            Fault::ArchiveOutage | Fault::QueueOutage | Fault::HostOutage => {
                let from = Duration::from_secs(rng.below(calm_at.as_secs()));
                let to = from + Duration::from_secs(rng.between(60, 3 * 3_600));
                outages.push((from, to.min(calm_at), fault));
            }
            _ => rates[fault as usize] = rate,
        };
        match faults {
            Faults::None => {}
            Faults::Only(fault) => {
                let often = if fault.of_a_job() { 6_000 } else { 1_500 };
                allow(fault, often, &mut rng);
            }
            Faults::Always(fault) => allow(fault, 8_000, &mut rng),
            Faults::Any => {
                // Few kinds often, or many: what hides behind one fault is found where it is rare.
                let kinds = rng.pick(&[1_000, 3_000, 6_000]);
                for fault in Fault::EVERY.iter().copied() {
                    if rng.chance(kinds) {
                        let rate = match fault {
                            Fault::Wish | Fault::Redrive => rng.pick(&[3_000, 9_000]),
                            _ if fault.of_a_job() => rng.pick(&[300, 1_500, 4_000]),
                            _ => rng.pick(&[20, 100, 300, 1_000]),
                        };
                        allow(fault, rate, &mut rng);
                    }
                }
            }
        }
        let skewed = rng.chance(5_000);
        let workers = usize::try_from(rng.between(1, 4)).unwrap_or(1);
        let skew = if skewed && !matches!(faults, Faults::None) {
            rng.pick(&[2_000, 60_000, 600_000])
        } else {
            0
        };
        let skews: Vec<_> = (0..workers)
            .map(|_| i64::try_from(rng.below(2 * skew + 1)).unwrap_or(0) - skew.cast_signed())
            .collect();
        let rules = Rules {
            stall: rng.pick(&[20, 120]) * MINUTE,
            deadline: rng.pick(&[4, 24]) * HOUR,
            poll_limit: POLL_LIMIT,
            lease: Lease::Delivery {
                poll: POLL_VISIBILITY,
                copy: COPY_VISIBILITY,
            },
        };
        let slice = usize::try_from(rng.between(1, 3)).unwrap_or(1);
        let parts = usize::try_from(rng.between(1, 4)).unwrap_or(1);
        let part_bytes = usize::try_from(rng.between(30, 200)).unwrap_or(30);
        let at_once = usize::try_from(rng.between(1, 3)).unwrap_or(1);
        let budget = Budget::new(parts * PART_BYTES, at_once).in_miniature(part_bytes, slice);
        let weeks = rng.pick(&[1, 1, 2, 2, 3, 4]);
        let events = rng.pick(&[&[Event::All][..], &[Event::All, Event::ThumbsUp]]);
        let fair = rng.chance(5_000);
        let bounds = Bounds {
            deadline: rules.deadline,
            held: COPY_VISIBILITY + 2 * HOUR,
            skew: Duration::from_millis(2 * skew),
            in_flight: in_flight_allowed(&outages),
        };
        let lookback_weeks = rng.pick(&[0, 0, 1, 2]);
        let fate = Fate::Rates { rates, outages };
        let state = State::new(rng, fate, bounds, log);
        let today = Week::of(state.now());
        let scope = Scope {
            apps: vec!["st-1".parse().expect("an AppID")],
            events: events.to_vec(),
            since: Some(today.back(weeks).monday()),
            catch_up_weeks: 4,
            lookback_weeks,
            settle: HOUR,
            apart: MINUTE,
        };
        Self {
            world: Arc::new(Mutex::new(state)),
            scope,
            rules: Arc::new(rules),
            budget,
            part_bytes,
            idle: (0..skews.len()).collect(),
            skews,
            working: FuturesUnordered::new(),
            calm_at,
            ticks: BTreeMap::new(),
            planned: 0,
            failures: BTreeMap::new(),
            undisturbed_since: calm_at,
            next_day: HOUR,
            fair,
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.world.lock().expect("nothing panics while it holds it")
    }

    fn edge(&self, name: String, worker: usize) -> Edge {
        let skew = self.skews[worker];
        Edge::new(&self.world, name, skew, &self.rules, &self.budget)
    }

    async fn drive(mut self) -> Ended {
        let mut calm = false;
        // A give-up is left in peace for 28 days at most; then a tick comes within one.
        let longest = self.calm_at + 40 * DAY;
        loop {
            let now = self.state().elapsed();
            if self.state().violation.is_some() {
                break;
            }
            if !calm && now >= self.calm_at {
                calm = true;
                self.skews.fill(0);
                let failures = self.state().failures();
                self.failures = failures;
                let mut state = self.state();
                state.calm();
                state.note("fate", || "nothing goes wrong from now on".to_owned());
            }
            self.plan(now);
            self.deliver(now);
            if calm && self.working.is_empty() && self.state().sqs.entries.is_empty() {
                if self.is_complete().await {
                    break;
                }
                if now > longest {
                    self.state()
                        .broken("not everything is archived 40 days later".to_owned());
                    break;
                }
            }
            self.wait(now, calm).await;
        }
        self.end()
    }

    /// Puts ticks and wishes on the calendar.
    fn plan(&mut self, now: Duration) {
        while self.next_day <= now + DAY {
            let at = self.next_day;
            self.next_day += DAY;
            let world = Arc::clone(&self.world);
            let mut state = world.lock().expect("nothing panics while it holds it");
            let time = state.time(at);
            let mut whens = vec![at];
            if state.fault(&[Fault::TickTwice]).is_some() {
                whens.push(at + Duration::from_secs(state.rng.below(120)));
            }
            if state.fault(&[Fault::TickMissed]).is_some() {
                whens.pop();
            }
            for when in whens {
                let late = match state.fault(&[Fault::TickLate]) {
                    Some(_) => Duration::from_secs(state.rng.below(20 * 3_600)),
                    None => Duration::ZERO,
                };
                self.planned += 1;
                self.ticks.insert(
                    (when + late, self.planned),
                    Planned::Enqueue(Request::Tick(time)),
                );
            }
            for _ in 0..8 {
                if state.fault(&[Fault::Wish]).is_some() {
                    let within = self.calm_at.as_secs().min(86_400);
                    let when = at + Duration::from_secs(state.rng.below(within));
                    let wish = Wish {
                        since: self.scope.since.expect("set above"),
                        until: None,
                        apps: None,
                        events: None,
                        replace: state.rng.chance(5_000),
                        dry_run: state.rng.chance(1_000),
                    };
                    self.planned += 1;
                    self.ticks.insert(
                        (when, self.planned),
                        Planned::Enqueue(Request::Explicit(wish)),
                    );
                }
                if state.fault(&[Fault::Redrive]).is_some() {
                    let when = at + Duration::from_secs(state.rng.below(86_400));
                    self.planned += 1;
                    self.ticks.insert((when, self.planned), Planned::Redrive);
                }
            }
        }
        while let Some(due) = self.ticks.first_entry().filter(|due| due.key().0 <= now) {
            let ((_, number), planned) = due.remove_entry();
            let request = match planned {
                Planned::Enqueue(request) => request,
                Planned::Redrive => {
                    let mut state = self.state();
                    let letters = state.sqs.dead.len();
                    state.note("person", || {
                        format!("sends all {letters} dead letters again")
                    });
                    state.redrive();
                    let failures = state.failures();
                    drop(state);
                    if letters > 0 && now > self.calm_at {
                        self.undisturbed_since = now;
                        self.failures = failures;
                    }
                    continue;
                }
            };
            let worker = usize::try_from(number).unwrap_or(0) % self.skews.len();
            let edge = self.edge(format!("tick{number}"), worker);
            let scope = self.scope.clone();
            self.working.push(Box::pin(async move {
                // An asynchronous invocation is tried again twice.
                for again in 0..3 {
                    let edge = Edge::clone_alive(&edge);
                    edge.state().note(&edge.name, || format!("{request:?}"));
                    let run = enqueue::run(&edge, &scope, &request);
                    if let Some(Ok(summary)) = edge.live(COPY_LIMIT, run).await {
                        edge.state()
                            .note(&edge.name, || format!("{:?}", summary.exports));
                        break;
                    }
                    sleep(MINUTE * (again + 1)).await;
                }
                Done::Tick
            }));
        }
    }

    /// Gives messages that are visible to workers that are idle.
    fn deliver(&mut self, now: Duration) {
        loop {
            let world = Arc::clone(&self.world);
            let mut state = world.lock().expect("nothing panics while it holds it");
            state.changed = false;
            let visible = state.sqs.visible(now);
            if visible.is_empty() || self.idle.is_empty() {
                return;
            }
            let id = if self.fair {
                visible[0]
            } else {
                state.rng.pick(&visible)
            };
            let twice = state.fault(&[Fault::Duplicate]).is_some();
            let soon = Duration::from_millis(state.rng.below(5_000));
            let entry = state.sqs.entries.get_mut(&id).expect("visible");
            if entry.receives >= MOST_RECEIVES {
                state.gone(id, Some("received too often"));
                continue;
            }
            entry.receives += 1;
            let line = entry.line;
            let (visibility, limit) = match line {
                Line::Poll => (POLL_VISIBILITY, POLL_LIMIT),
                Line::Copy => (COPY_VISIBILITY, COPY_LIMIT),
            };
            entry.visible = now + if twice { soon } else { visibility };
            let (body, receives) = (entry.body.clone(), entry.receives);
            let message = match Message::from_json(&body) {
                Ok(message) => message,
                Err(error) => {
                    state.gone(id, Some(&format!("unreadable: {error}")));
                    continue;
                }
            };
            let worker = self.idle.remove(state.rng.index(self.idle.len()));
            let name = format!("w{worker}");
            state.note(&name, || {
                let chain = &message.chain.as_str()[..6];
                let (hop, attempt) = (message.hop, message.attempt);
                format!("receives {id}, time {receives}: chain {chain} hop {hop} attempt {attempt}")
            });
            drop(state);
            let mut edge = self.edge(name, worker);
            edge.message = Some(message);
            self.working.push(Box::pin(async move {
                let message = edge.message.clone().expect("set above");
                let end = match line {
                    Line::Poll => None,
                    Line::Copy => Some(Instant::now() + limit),
                };
                let ended = edge.live(limit, handle(&edge, &message, end)).await;
                Done::Message { id, worker, ended }
            }));
        }
    }

    /// Until a worker is done, or something else may be.
    async fn wait(&mut self, now: Duration, calm: bool) {
        let next = {
            let state = self.state();
            let visible = state.sqs.next_visible().filter(|_| !self.idle.is_empty());
            let tick = self.ticks.keys().next().map(|(at, _)| *at);
            let calm_at = (!calm).then_some(self.calm_at);
            [
                visible,
                tick,
                calm_at,
                Some(self.next_day.saturating_sub(DAY)),
            ]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now + DAY)
        };
        let mut timer = pin!(sleep_until(Instant::now() + next.saturating_sub(now)));
        let world = Arc::clone(&self.world);
        let working = &mut self.working;
        let done = std::future::poll_fn(|cx| {
            if let Poll::Ready(Some(done)) = working.poll_next_unpin(cx) {
                return Poll::Ready(Some(done));
            }
            let changed = world
                .lock()
                .expect("nothing panics while it holds it")
                .changed;
            if changed || timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            Poll::Pending
        });
        let done = done.await;
        if let Some(Done::Message { id, worker, ended }) = done {
            self.idle.push(worker);
            let mut state = self.state();
            state.note(&format!("w{worker}"), || format!("ends {id}: {ended:?}"));
            // What failed comes again when its time is over.
            if let Some(Ok(outcome)) = ended
                && state.fault(&[Fault::DeleteLost]).is_none()
            {
                if let Outcome::Held(_) = outcome {
                    state.held(id);
                }
                state.gone(id, None);
            }
        }
    }

    /// Whether everything that was due when the faults stopped is archived, and nothing is to be
    /// replaced any more.
    async fn is_complete(&mut self) -> bool {
        let mut edge = self.edge("judge".to_owned(), 0);
        edge.skew = 0;
        let now = self.state().now();
        let summary = enqueue::run(
            &edge,
            &Scope {
                ..self.scope.clone()
            },
            &Request::Explicit(Wish {
                since: self.scope.since.expect("set above"),
                until: None,
                apps: None,
                events: None,
                replace: false,
                dry_run: true,
            }),
        )
        .await;
        let Ok(summary) = summary else { return false };
        let end = Week::of(self.state().time(self.calm_at).before(HOUR));
        let due = |export: &Export| export.week < end;
        let missing = summary.sent.iter().any(|message| due(&message.export));
        if missing {
            return false;
        }
        // Late feedback: what was committed before its last week's end had settled is replaced.
        let settled = Week::of(now.before(HOUR));
        let state = self.state();
        let mut weeks = self.scope.events.iter().flat_map(|event| {
            let first = Week::containing(self.scope.since.expect("set above"));
            first.until(end).map(|week| Export {
                app: self.scope.apps[0].clone(),
                event: *event,
                week,
            })
        });
        weeks.all(|export| {
            let watch = &state.watches[&export];
            let (current, _) = watch.manifests.last().expect("archived");
            let looked_back = settled.back(self.scope.lookback_weeks) <= export.week;
            !looked_back || current.committed_at >= settled.start().after(HOUR)
        })
    }

    /// How long after the last disturbance a week may take: the chain at work may come to nothing until its
    /// deadline, then it is left in peace, then a tick comes and all goes well.
    fn patience(&self, export: &Export) -> Duration {
        let failures = self.failures.get(export).copied().unwrap_or(0) + 1;
        let peace = DAY * 2_u32.saturating_pow(failures).min(28);
        self.rules.deadline + self.rules.stall + peace + DAY + 2 * HOUR
    }

    fn end(self) -> Ended {
        let mut state = self.state();
        let exports: Vec<_> = state.watches.keys().cloned().collect();
        let mut healed_after = Duration::ZERO;
        let (mut manifests, mut replaced, mut most_in_flight, mut most_asked) = (0, 0, 0, 0);
        for export in exports {
            if state.violation.is_none()
                && let Err(law) = state.check_manifest(&export)
            {
                state.broken(format!("in the end, {export}: {law}"));
            }
            let patience = self.undisturbed_since + self.patience(&export);
            let was_due = export.week.end().after(HOUR) <= state.time(self.calm_at);
            if was_due
                && state.watches[&export]
                    .archived_at
                    .is_some_and(|at| at > patience)
            {
                state.broken(format!("{export} took longer than {patience:?}"));
            }
            let watch = &state.watches[&export];
            most_in_flight = most_in_flight.max(watch.most_in_flight);
            most_asked = most_asked.max(watch.most_asked);
            manifests += watch.manifests.len().min(1);
            replaced += watch.manifests.len().saturating_sub(1);
            if let Some(at) = watch.archived_at.filter(|_| was_due) {
                healed_after = healed_after.max(at.saturating_sub(self.calm_at));
            }
        }
        Ended {
            violation: state.violation.clone(),
            history: state.history(),
            digest: state.digest,
            faults: state.faults.clone(),
            effects: state.effects,
            healed_after,
            manifests,
            replaced,
            looks: state.host.looks,
            dead: state.sqs.buried,
            jobs: state.host.jobs.len(),
            most_in_flight,
            most_starts: state.most_starts,
            most_asked,
        }
    }
}
