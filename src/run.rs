//! The three stages in one process: what `run` and `demo` are made of.
//!
//! The same stages as in the Lambda functions, with a queue in memory. A run that was killed
//! continues where it was: what it knew stands in the archive (receipts, claims with their jobs).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::archive::{Archive, ArchiveError};
use crate::export::{AppId, Export, Time};
use crate::kore::Kore;
use crate::queue::Line;
use crate::queue::local::{Delivery, LocalQueue};
use crate::queue::message::{ChainId, Message};
use crate::stages::enqueue::{self, AT_ONCE, Request, Scope, Summary};
use crate::stages::{
    Budget, Edges, Lease, Outcome, Report, Rules, StageError, claim, handle, new_chain,
};

/// A killed run's claims lapse within this time.
const LEASE: Duration = Duration::from_secs(60);
/// How often they are renewed: twice may fail.
const RENEWAL: Duration = Duration::from_secs(20);
/// Looks and starts at once.
const POLLS_AT_ONCE: usize = 16;
/// Slices at once: each copies several fragments, and all share one budget.
const COPIES_AT_ONCE: usize = 8;
/// So many chains an export gets in one run: where the functions wait for the next ticks, a run tries
/// again at once.
const MOST_CHAINS: usize = 3;
/// A message that comes back more often than this has met a defect of the program.
const MOST_DELIVERIES: u32 = 3;
/// How long work in progress is waited for when the run is stopped.
const GRACE: Duration = Duration::from_secs(10);
/// The wait before a message that failed is handled again.
const PAUSE: Duration = Duration::from_secs(5);

/// The outside, for one process.
#[derive(Debug)]
pub struct Local<K, A, C, W> {
    kore: K,
    archive: A,
    queue: LocalQueue,
    rules: Rules,
    budget: Budget,
    clock: C,
    watch: W,
}

impl<K, A, C, W> Local<K, A, C, W> {
    /// `clock` tells the time; `watch` is told what happens to each export.
    pub fn new(
        kore: K,
        archive: A,
        patience: Patience,
        budget: Budget,
        clock: C,
        watch: W,
    ) -> Self {
        Self {
            kore,
            archive,
            queue: LocalQueue::default(),
            rules: patience.rules(),
            budget,
            clock,
            watch,
        }
    }
}

/// How long to bear with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// A job that has not moved for this long is given up.
    pub stall: Duration,
    /// An export whose first job was started this long ago is given up.
    pub deadline: Duration,
}

impl Patience {
    /// What the stages go by in one local process.
    pub fn rules(self) -> Rules {
        Rules {
            stall: self.stall,
            deadline: self.deadline,
            // Longer than any request is given; a start that was cut off is tried again then.
            poll_limit: Duration::from_secs(60),
            lease: Lease::Renewed(LEASE),
        }
    }
}

impl<K, A, C, W> Edges for Local<K, A, C, W>
where
    K: Kore,
    A: Archive,
    C: Fn() -> Time + Send + Sync,
    W: Fn(&Export, &Report) + Send + Sync,
{
    type Kore = K;
    type Archive = A;
    type Queue = LocalQueue;

    fn kore(&self) -> &K {
        &self.kore
    }

    fn archive(&self) -> &A {
        &self.archive
    }

    fn queue(&self) -> &LocalQueue {
        &self.queue
    }

    fn rules(&self) -> &Rules {
        &self.rules
    }

    fn budget(&self) -> &Budget {
        &self.budget
    }

    fn now(&self) -> Time {
        (self.clock)()
    }

    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        // It cannot fail on the systems that this runs on; if it did, jitter would be lost, and
        // chains of one process could share an id, which costs work only.
        let _ = aws_lc_rs::rand::fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn report(&self, export: &Export, report: Report) {
        (self.watch)(export, &report);
    }
}

/// How an export ended in this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It stands in the archive.
    Archived,
    /// It does not, and why.
    Failed(String),
    /// The run was stopped first.
    Interrupted,
}

/// What a run did.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// What was found to be missing.
    pub summary: Summary,
    /// How each export that was missing, or to be replaced, ended.
    pub ends: BTreeMap<Export, End>,
}

/// Archives what the request asks for. When `stop` completes, work in progress is waited for
/// briefly, and the rest is left for the next run.
///
/// # Errors
/// When it cannot be found out what is missing.
pub async fn run<E>(
    local: Arc<E>,
    scope: &Scope,
    request: &Request,
    stop: impl Future<Output = ()>,
) -> Result<Finished, StageError>
where
    E: Edges<Queue = LocalQueue> + 'static,
{
    let summary = enqueue::run(&*local, scope, request).await?;
    let ends = if summary.dry_run {
        BTreeMap::new()
    } else {
        drive(local, &summary, stop).await
    };
    Ok(Finished { summary, ends })
}

/// Carries the chains that were enqueued to their ends, and tells these by export.
pub async fn drive<E>(
    local: Arc<E>,
    enqueued: &Summary,
    stop: impl Future<Output = ()>,
) -> BTreeMap<Export, End>
where
    E: Edges<Queue = LocalQueue> + 'static,
{
    let mut runner = Runner::new(local);
    let otherwise = if runner.drive(stop).await {
        End::Failed("its chain ended without a manifest; run again".to_owned())
    } else {
        End::Interrupted
    };
    let mut ends = runner.ends;
    for message in &enqueued.sent {
        ends.entry(message.export.clone())
            .or_insert_with(|| otherwise.clone());
    }
    ends
}

/// How a message's work ended; `None` of one that was not begun any more.
type Handled = Option<(Message, Result<Outcome, StageError>)>;

/// A chain that this process is at work on.
struct Active {
    chain: ChainId,
    /// A chain that is under way already goes on without one.
    _seat: Option<OwnedSemaphorePermit>,
}

struct Runner<E> {
    local: Arc<E>,
    polls: Arc<Semaphore>,
    copies: Arc<Semaphore>,
    /// Per app: how many exports may be under way at the vendor.
    seats: HashMap<AppId, Arc<Semaphore>>,
    /// Per app: chains that wait for a seat.
    waiting: HashMap<AppId, VecDeque<Delivery>>,
    active: BTreeMap<Export, Active>,
    /// The chains of an export that were given up. Several slices of one may be.
    given_up: HashMap<Export, BTreeSet<ChainId>>,
    /// Chains that a fresh one has followed.
    followed: HashSet<ChainId>,
    ends: BTreeMap<Export, End>,
    tasks: JoinSet<Handled>,
}

impl<E: Edges<Queue = LocalQueue> + 'static> Runner<E> {
    fn new(local: Arc<E>) -> Self {
        Self {
            local,
            polls: Arc::new(Semaphore::new(POLLS_AT_ONCE)),
            copies: Arc::new(Semaphore::new(COPIES_AT_ONCE)),
            seats: HashMap::new(),
            waiting: HashMap::new(),
            active: BTreeMap::new(),
            given_up: HashMap::new(),
            followed: HashSet::new(),
            ends: BTreeMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Delivers messages; whether until there were none, and not until it was stopped.
    async fn drive(&mut self, stop: impl Future<Output = ()>) -> bool {
        let queue = self.local.queue().clone();
        let mut stop = std::pin::pin!(stop);
        let mut renewal = interval(RENEWAL);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => {
                    self.stop().await;
                    return false;
                }
                Some(ended) = self.tasks.join_next() => self.ended(ended),
                _ = renewal.tick() => self.renew(),
                delivery = queue.next(Line::Copy) => self.begin(delivery),
                delivery = queue.next(Line::Poll) => self.begin(delivery),
                () = queue.idle(), if self.tasks.is_empty() => return true,
            }
        }
    }

    /// Gives a message to its stage, or lets it wait for a seat.
    fn begin(&mut self, delivery: Delivery) {
        let message = delivery.message().clone();
        if let Some(due) = message.not_before.filter(|due| self.local.now() < *due) {
            let wait = due.since(self.local.now());
            return delivery.postpone(wait.min(crate::queue::LONGEST_DELAY));
        }
        if delivery.deliveries() > MOST_DELIVERIES {
            let why = "the program failed on it several times: a defect; its log says more";
            self.end(&message.export, End::Failed(why.to_owned()));
            return delivery.done();
        }
        if !self.active.contains_key(&message.export) {
            let app = &message.export.app;
            let seats = self
                .seats
                .entry(app.clone())
                .or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE as usize)));
            let seat = Arc::clone(seats).try_acquire_owned().ok();
            if seat.is_none() && message.hop == 0 {
                let waiting = self.waiting.entry(app.clone()).or_default();
                return waiting.push_back(delivery);
            }
            let active = Active {
                chain: message.chain.clone(),
                _seat: seat,
            };
            self.active.insert(message.export.clone(), active);
        }
        let local = Arc::clone(&self.local);
        let turns = match Line::of(&message) {
            Line::Poll => Arc::clone(&self.polls),
            Line::Copy => Arc::clone(&self.copies),
        };
        self.tasks.spawn(async move {
            // Closed when the run stops; then the message is left for the next one.
            let _turn = turns.acquire().await.ok()?;
            // A file that arrives byte by byte would otherwise never end.
            let limit = Instant::now() + local.rules().deadline;
            let result = handle(&*local, &message, Some(limit)).await;
            match &result {
                // What passes: the archive or the queue did not answer.
                Err(
                    StageError::Archive(ArchiveError::Unavailable { .. }) | StageError::Queue(_),
                ) => {
                    delivery.again(PAUSE);
                }
                Ok(_) | Err(StageError::Archive(ArchiveError::Refused { .. })) => delivery.done(),
            }
            Some((message, result))
        });
    }

    /// Takes note of how a message's work ended.
    fn ended(&mut self, ended: Result<Handled, JoinError>) {
        let (message, result) = match ended {
            Ok(Some(ended)) => ended,
            Ok(None) => return,
            Err(error) => {
                // The message comes again by itself.
                tracing::error!(%error, "a stage panicked: {error}");
                return;
            }
        };
        let export = &message.export;
        match result {
            Ok(Outcome::Continues) => {}
            Ok(Outcome::Archived) => self.end(export, End::Archived),
            Ok(Outcome::GaveUp {
                reason,
                for_a_person,
            }) => {
                let given_up = self.given_up.entry(export.clone()).or_default();
                given_up.insert(message.chain.clone());
                if for_a_person || given_up.len() >= MOST_CHAINS {
                    self.end(export, End::Failed(reason));
                } else if self.begin_again(&message, None) {
                    tracing::warn!(%export, %reason, "{export} is tried once more: {reason}");
                }
            }
            // Its chain has other messages, which take its place again; or it ends in silence.
            Ok(Outcome::Overtaken) => {
                if self
                    .active
                    .get(export)
                    .is_some_and(|active| active.chain == message.chain)
                {
                    self.leave(export);
                }
            }
            // Another process is at work on it: look again when its claim has lapsed.
            Ok(Outcome::Held(until)) => {
                self.begin_again(&message, Some(until));
            }
            Err(error @ StageError::Archive(ArchiveError::Refused { .. })) => {
                self.end(export, End::Failed(error.to_string()));
            }
            Err(error) => tracing::warn!(%export, %error, "{export} comes again: {error}"),
        }
    }

    /// A fresh chain for the export of one that is over, at the end of the line, and not before a time.
    /// `false` where there is one already: several messages of the old one may end.
    fn begin_again(&mut self, message: &Message, not_before: Option<Time>) -> bool {
        if !self.followed.insert(message.chain.clone()) {
            return false;
        }
        self.leave(&message.export);
        let start = Message {
            not_before,
            ..Message::start(
                message.export.clone(),
                new_chain(&*self.local),
                message.base.clone(),
            )
        };
        self.local.queue().put(start);
        true
    }

    fn end(&mut self, export: &Export, end: End) {
        // A slice may end late and badly after another has committed.
        let ended = self
            .ends
            .entry(export.clone())
            .or_insert_with(|| end.clone());
        if end == End::Archived {
            *ended = end;
        }
        self.leave(export);
    }

    /// Gives the seat to the next that waits.
    fn leave(&mut self, export: &Export) {
        if self.active.remove(export).is_some()
            && let Some(waiting) = self.waiting.get_mut(&export.app)
            && let Some(next) = waiting.pop_front()
        {
            self.begin(next);
        }
    }

    /// Renews the claims of all chains at work.
    fn renew(&mut self) {
        let until = self.local.now().after(LEASE);
        for (export, active) in &self.active {
            let (local, export, chain) = (
                Arc::clone(&self.local),
                export.clone(),
                active.chain.clone(),
            );
            tokio::spawn(async move {
                if let Err(error) = claim::renew(&*local, &export, &chain, until).await {
                    tracing::warn!(%export, %error, "the claim of {export} could not be renewed");
                }
            });
        }
    }

    /// Waits briefly for work in progress, and lets the claims lapse, so that the next run need not
    /// wait for them.
    async fn stop(&mut self) {
        // A seat or a turn that becomes free now is for nobody.
        self.waiting.clear();
        self.polls.close();
        self.copies.close();
        let patience = Instant::now() + GRACE;
        loop {
            tokio::select! {
                () = sleep_until(patience) => break,
                ended = self.tasks.join_next() => match ended {
                    Some(ended) => self.ended(ended),
                    None => break,
                },
            }
        }
        self.tasks.shutdown().await;
        for (export, active) in &self.active {
            if let Err(error) = claim::release(&*self.local, export, &active.chain).await {
                tracing::warn!(%export, %error, "the claim of {export} could not be released");
            }
        }
    }
}
