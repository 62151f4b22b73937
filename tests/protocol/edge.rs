//! The outside, as a stage under test sees it: every effect is a point where something can go wrong.

use std::collections::VecDeque;
use std::fmt::{Debug, Display};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use insights_archive::archive::key::Place;
use insights_archive::archive::{
    self, About, Archive, ArchiveError, Crc64, Created, ETag, Head, Key, Listed, Replaced, Stored,
};
use insights_archive::export::{AppId, Export, JobId, Time};
use insights_archive::kore::job::{FileUrl, Job};
use insights_archive::kore::{self, ApiError, FileError, Kore};
use insights_archive::queue::message::{Message, Work};
use insights_archive::queue::{DeadLetter, Outgoing, Queue, QueueError};
use insights_archive::stages::{Budget, Edges, Report, Rules};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::fault::Fault;
use crate::host::Served;
use crate::scope::Turnstile;
use crate::seen::Answer;
use crate::world::State;

pub type World = Arc<Mutex<State>>;

/// Jitter has so many steps.
const JITTER: u64 = 2_000;

/// One invocation's view of the world.
#[derive(Clone)]
pub struct Edge {
    pub world: World,
    pub name: String,
    /// How far its clock is ahead, in milliseconds.
    pub skew: i64,
    /// The message at work, where there is one.
    pub message: Option<Message>,
    pub rules: Arc<Rules>,
    pub budget: Budget,
    life: Arc<Life>,
    calls: Arc<Calls>,
    /// Where a scheduler lets effects pass one by one.
    turnstile: Option<Arc<Turnstile>>,
}

/// Whether whoever is at work is alive.
#[derive(Debug, Default)]
struct Life {
    over: AtomicBool,
    changed: Notify,
}

impl Life {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }
}

/// What one invocation has asked of the vendor.
#[derive(Debug, Default)]
struct Calls {
    api: AtomicU64,
    files: AtomicU64,
}

/// A pass over a file may break twice, be no JSON once and count otherwise four times before the last
/// one; and there are two rounds, the second with fresh links.
const MOST_DOWNLOADS: u64 = 2 * (2 + 1 + 4 + 1);

impl Calls {
    /// A poll asks the API once, a copy twice: for its links, and for fresh ones.
    fn api(&self, edge: &Edge, export: Option<&Export>) {
        let asked = 1 + self.api.fetch_add(1, Ordering::Relaxed);
        let mut state = edge.state();
        if let Some(export) = export {
            state.asked(export);
        }
        let most = match edge.message.as_ref().map(|message| &message.work) {
            None => return,
            Some(Work::Copy(_)) => 2,
            Some(_) => 1,
        };
        if asked > most {
            state.broken(format!("one message asks the API {asked} times"));
        }
    }

    fn file(&self, edge: &Edge) {
        let asked = 1 + self.files.fetch_add(1, Ordering::Relaxed);
        let Some(message) = &edge.message else { return };
        let most = match &message.work {
            Work::Copy(slice) => MOST_DOWNLOADS * slice.fragments.len() as u64,
            _ => 0,
        };
        if asked > most {
            edge.state()
                .broken(format!("one message asks for files {asked} times"));
        }
    }
}

impl Edge {
    pub fn new(
        world: &World,
        name: String,
        skew: i64,
        rules: &Arc<Rules>,
        budget: &Budget,
    ) -> Self {
        Self {
            world: Arc::clone(world),
            name,
            skew,
            message: None,
            rules: Arc::clone(rules),
            budget: budget.clone(),
            life: Arc::default(),
            calls: Arc::default(),
            turnstile: None,
        }
    }

    /// The same for another try, alive.
    pub fn clone_alive(&self) -> Self {
        Self {
            life: Arc::default(),
            calls: Arc::default(),
            ..self.clone()
        }
    }

    /// How often this invocation has asked the API, and for files.
    pub fn asked(&self) -> (u64, u64) {
        let of = |calls: &AtomicU64| calls.load(Ordering::Relaxed);
        (of(&self.calls.api), of(&self.calls.files))
    }

    pub fn with_turnstile(self, turnstile: &Arc<Turnstile>) -> Self {
        Self {
            turnstile: Some(Arc::clone(turnstile)),
            ..self
        }
    }

    pub fn turnstile(&self) -> Option<Arc<Turnstile>> {
        self.turnstile.clone()
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.world
            .lock()
            .expect("no stage holds it while it panics")
    }

    /// Does the work until it ends, or the invocation is killed or reaches its limit: `None`.
    pub async fn live<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut limit = pin!(sleep(limit));
        let ended = std::future::poll_fn(|cx| {
            if let Poll::Ready(value) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(value));
            }
            if self.life.is_over() || limit.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            Poll::Pending
        });
        let ended = ended.await;
        if ended.is_none() {
            self.state().note(&self.name, || "is killed".to_owned());
        }
        ended
    }

    async fn die<T>(&self) -> T {
        self.life.end();
        std::future::pending().await
    }

    /// Waits until the process has been killed.
    pub async fn death(&self) {
        while !self.life.is_over() {
            self.life.changed.notified().await;
        }
    }

    /// Kills the process: what it has begun elsewhere has no effect any more either.
    pub fn kill(&self) {
        self.life.end();
    }

    /// The time that an effect takes.
    async fn arrive(&self) {
        if let Some(turnstile) = &self.turnstile {
            return turnstile.pass().await;
        }
        let delay = {
            let mut state = self.state();
            if state.fault(&[Fault::Slow]).is_some() {
                state.rng.between(1_000, 90_000)
            } else if state.rng.chance(4_000) {
                0
            } else {
                state.rng.between(1, 40)
            }
        };
        if delay > 0 {
            sleep(Duration::from_millis(delay)).await;
        }
    }

    /// One effect: it takes its time, and it happens, or goes wrong, or both.
    async fn effect<T: Debug + Answer>(
        &self,
        what: &'static str,
        of: &(dyn Display + Sync),
        faults: &[Fault],
        act: impl FnOnce(&mut State) -> T + Send,
    ) -> Result<T, Fault> {
        self.arrive().await;
        if self.life.is_over() {
            return std::future::pending().await;
        }
        let fault = {
            let mut state = self.state();
            state.effects += 1;
            let kill = &[Fault::Kill][..usize::from(!self.spares(what))];
            let fault = state.fault(kill).or_else(|| state.fault(faults));
            let happens = fault.is_none_or(Fault::after);
            let done = happens.then(|| act(&mut state));
            if let Some(turnstile) = &self.turnstile {
                let told = done.as_ref().filter(|_| fault.is_none());
                turnstile.told(state.elapsed(), fault, told);
            }
            state.note(&self.name, || {
                let mut words = format!("{done:?}");
                if words.len() > 160 {
                    words.truncate(words.floor_char_boundary(160));
                }
                match fault {
                    None => format!("{what} {of}: {words}"),
                    Some(fault) => format!("{what} {of}: {words} !!! {}", fault.words()),
                }
            });
            match (fault, done) {
                (None, Some(done)) => return Ok(done),
                (fault, _) => fault,
            }
        };
        match fault {
            Some(fault) if !fault.kills() => Err(fault),
            _ => self.die().await,
        }
    }

    /// Whether it makes no difference to be killed before this effect or before the next one: it changes
    /// nothing. (Where it is the last one, a message that is not deleted is the same.)
    fn spares(&self, what: &str) -> bool {
        self.turnstile.is_some() && ["get", "head", "list", "open", "fetch"].contains(&what)
    }

    async fn read<T: Debug + Answer>(
        &self,
        what: &'static str,
        key: &(dyn Display + Sync),
        act: impl FnOnce(&mut State) -> T + Send,
    ) -> Result<T, ArchiveError> {
        let faults = [Fault::Unavailable, Fault::Refused];
        let result = self.effect(what, key, &faults, act).await;
        result.map_err(|fault| trouble(key, fault))
    }

    async fn write<T: Debug + Answer>(
        &self,
        what: &'static str,
        key: &(dyn Display + Sync),
        act: impl FnOnce(&mut State) -> T + Send,
    ) -> Result<T, ArchiveError> {
        let faults = [
            Fault::KillAfter,
            Fault::LostAnswer,
            Fault::Unavailable,
            Fault::Refused,
        ];
        let result = self.effect(what, key, &faults, act).await;
        result.map_err(|fault| trouble(key, fault))
    }
}

fn trouble(key: &(dyn Display + Sync), fault: Fault) -> ArchiveError {
    let (key, detail) = (key.to_string(), fault.words().to_owned());
    match fault {
        Fault::Refused => ArchiveError::Refused { key, detail },
        _ => ArchiveError::Unavailable { key, detail },
    }
}

impl Edges for Edge {
    type Kore = Self;
    type Archive = Self;
    type Queue = Self;

    fn kore(&self) -> &Self {
        self
    }

    fn archive(&self) -> &Self {
        self
    }

    fn queue(&self) -> &Self {
        self
    }

    fn rules(&self) -> &Rules {
        &self.rules
    }

    fn budget(&self) -> &Budget {
        &self.budget
    }

    fn now(&self) -> Time {
        let state = self.state();
        if let Some(turnstile) = &self.turnstile {
            turnstile.told(state.elapsed(), None, None::<&()>);
        }
        let now = state.now();
        drop(state);
        let skew = Duration::from_millis(self.skew.unsigned_abs());
        if self.skew < 0 {
            now.before(skew)
        } else {
            now.after(skew)
        }
    }

    fn random(&self) -> u64 {
        let random = self.state().rng.next();
        if self.turnstile.is_some() {
            // Enough to tell writers apart, and always the same jitter: it comes of the remainder.
            return random / JITTER * JITTER;
        }
        random
    }

    fn report(&self, export: &Export, report: Report) {
        let quiet = matches!(report, Report::Arrived { .. });
        let mut state = self.state();
        state.adopted += u32::from(matches!(report, Report::Adopted { .. }));
        state.committed += u32::from(matches!(report, Report::Committed { .. }));
        if !quiet {
            state.note(&self.name, || format!("reports of {export}: {report:?}"));
        }
    }
}

impl Queue for Edge {
    async fn send(&self, messages: Vec<Outgoing>) -> Result<(), QueueError> {
        let faults = [
            Fault::KillAfter,
            Fault::QueueDown,
            Fault::QueueLost,
            Fault::QueuePartial,
        ];
        let count = messages.len();
        let what = format!("{count} messages");
        let out = |state: &mut State, messages: &[Outgoing]| {
            for outgoing in messages {
                let late = match state.fault(&[Fault::Late]) {
                    Some(_) => Duration::from_secs(state.rng.between(30, 3_600)),
                    None => Duration::ZERO,
                };
                state.sent(&outgoing.message, outgoing.delay, late);
            }
        };
        let sent = self
            .effect("send", &what, &faults, |state| out(state, &messages))
            .await;
        sent.map_err(|fault| {
            if fault == Fault::QueuePartial {
                let mut state = self.state();
                let kept = state.some_of(&messages);
                out(&mut state, &kept);
            }
            QueueError {
                queue: "work",
                detail: fault.words().to_owned(),
            }
        })
    }

    async fn bury(&self, letter: DeadLetter) -> Result<(), QueueError> {
        let faults = [Fault::KillAfter, Fault::QueueDown, Fault::QueueLost];
        let export = &letter.start.export;
        let buried = self.effect("bury", export, &faults, |state| {
            state.bury(export, letter.start.to_json(), &letter.reason);
        });
        buried.await.map_err(|fault| QueueError {
            queue: "dead-letter",
            detail: fault.words().to_owned(),
        })
    }
}

/// An object on its way in.
pub struct Incoming {
    edge: Edge,
    key: Key,
    about: About,
    parts: Vec<Bytes>,
}

/// An object on its way out.
pub struct Outward {
    edge: Edge,
    key: Key,
    rest: Bytes,
}

impl Archive for Edge {
    type Upload = Incoming;
    type Download = Outward;

    async fn list(
        &self,
        prefix: &str,
        mut each: impl FnMut(Listed) + Send,
    ) -> Result<(), ArchiveError> {
        let prefix = prefix.to_owned();
        let found = self.read("list", &prefix, |state| state.store.list(&prefix));
        for listed in found.await? {
            each(listed);
        }
        Ok(())
    }

    async fn get(&self, key: &Key) -> Result<Option<Stored>, ArchiveError> {
        let get = |state: &mut State| {
            state.vandalise(key);
            state.store.get(key)
        };
        self.read("get", key, get).await
    }

    async fn head(&self, key: &Key) -> Result<Option<Head>, ArchiveError> {
        self.read("head", key, |state| state.store.head(key)).await
    }

    async fn open(&self, key: &Key) -> Result<Option<Outward>, ArchiveError> {
        let get = |state: &mut State| state.store.get(key);
        let stored = self.read("open", key, get).await?;
        Ok(stored.map(|stored| Outward {
            edge: self.clone(),
            key: key.clone(),
            rest: stored.bytes,
        }))
    }

    async fn create(
        &self,
        key: &Key,
        bytes: Bytes,
        about: &About,
    ) -> Result<Created, ArchiveError> {
        let base = self.message.as_ref().map(|message| message.base.clone());
        let create = |state: &mut State| {
            if key.as_str().starts_with("manifests/") && base.is_some_and(|base| base.is_some()) {
                state.broken(format!("{key} is created instead of replaced"));
            }
            let bytes = state.in_transit(key, &bytes);
            state.create(key, bytes, about)
        };
        let created = self.write("create", key, create).await?;
        created.ok_or_else(|| wrong_sum(key))
    }

    async fn replace(
        &self,
        key: &Key,
        bytes: Bytes,
        base: &ETag,
    ) -> Result<Replaced, ArchiveError> {
        let asked = self.message.as_ref().map(|message| message.base.clone());
        let replace = |state: &mut State| {
            state.vandalise(key);
            let other = asked.is_some_and(|asked| asked.as_ref() != Some(base));
            if key.as_str().starts_with("manifests/") && other {
                state.broken(format!(
                    "{key}: {base} is replaced, where another was asked for"
                ));
            }
            let claim = match key.as_str().parse() {
                Ok(Place::Claim(export)) => state.claim(&export).map(|claim| (export, claim)),
                _ => None,
            };
            let replaced = state.store.replace(key, bytes.clone(), base);
            if let Replaced::Written(_) = replaced {
                if let Some((export, before)) = claim
                    && let Some(after) = state.claim(&export)
                    && before.chain != after.chain
                {
                    state.disturb(&export, Some(&after.chain));
                }
                state.written(key, true);
                if state.fault(&[Fault::Repeated]).is_some() {
                    return Replaced::Changed;
                }
            }
            replaced
        };
        self.write("replace", key, replace).await
    }

    async fn begin(&self, key: &Key, about: &About) -> Result<Incoming, ArchiveError> {
        self.write("begin", key, |_| ()).await?;
        Ok(Incoming {
            edge: self.clone(),
            key: key.clone(),
            about: about.clone(),
            parts: Vec::new(),
        })
    }
}

fn wrong_sum(key: &Key) -> ArchiveError {
    ArchiveError::Unavailable {
        key: key.to_string(),
        detail: "the bytes do not have the checksum stated".to_owned(),
    }
}

impl archive::Upload for Incoming {
    async fn write(&mut self, part: Bytes, crc64nvme: Crc64) -> Result<(), ArchiveError> {
        let key = &self.key;
        let arrive = |state: &mut State| state.in_transit(key, &part);
        let part = self.edge.write("part", key, arrive).await?;
        if Crc64::of(&part) != crc64nvme {
            return Err(wrong_sum(key));
        }
        self.parts.push(part);
        Ok(())
    }

    async fn finish(&mut self, crc64nvme: Crc64) -> Result<Created, ArchiveError> {
        let bytes = Bytes::from(self.parts.concat());
        let about = About {
            crc64nvme: Some(crc64nvme),
            ..self.about.clone()
        };
        let key = self.key.clone();
        let finish = |state: &mut State| state.create(&key, bytes.clone(), &about);
        let created = self.edge.write("finish", &self.key, finish).await?;
        created.ok_or_else(|| wrong_sum(&self.key))
    }

    async fn abort(&mut self) -> Result<(), ArchiveError> {
        self.parts.clear();
        self.edge.write("abort", &self.key, |_| ()).await
    }
}

impl archive::Download for Outward {
    async fn chunk(&mut self) -> Result<Option<Bytes>, ArchiveError> {
        self.edge.read("chunk", &self.key, |_| ()).await?;
        Ok((!self.rest.is_empty()).then(|| self.rest.split_to(self.rest.len().min(50))))
    }
}

/// A file on its way in.
pub struct Body {
    edge: Edge,
    name: String,
    announced: Option<u64>,
    chunks: VecDeque<Bytes>,
    cut: bool,
}

impl Kore for Edge {
    type Download = Body;

    async fn start(&self, export: &Export) -> Result<Job, ApiError> {
        let request = || "POST analytics-export".to_owned();
        let faults = [
            Fault::KillAfter,
            Fault::Limited,
            Fault::LimitedLong,
            Fault::Unreachable,
            Fault::Unclear,
            Fault::UnclearAfter,
            Fault::Unauthorized,
        ];
        self.calls.api(self, Some(export));
        let message = self.message.as_ref();
        let start = |state: &mut State| {
            state.starting(export, message);
            let now = state.elapsed();
            let odd = Fault::EVERY
                .iter()
                .copied()
                .filter(|fault| fault.of_a_job());
            let odd = state.fault(&odd.collect::<Vec<_>>());
            let files = state.files;
            let mut rng = state.rng.clone();
            let id = state.host.start(export, now, odd, &mut rng, files);
            state.rng = rng;
            if let Some(odd) = odd {
                state.note("host", || format!("of job {id}: {}", odd.words()));
            }
            Job {
                id,
                status: kore::job::Status::Running,
                percent: Some(0.0),
                created_on: None,
                files: Vec::new(),
                totals: kore::job::Totals::default(),
            }
        };
        let started = self.effect("start", export, &faults, start).await;
        started.map_err(|fault| match fault {
            // Nothing was asked of the host as far as anybody can tell, or it may have been.
            Fault::Limited => ApiError::Limited {
                request: request(),
                retry_after: self.retry_after(),
            },
            Fault::LimitedLong => ApiError::Limited {
                request: request(),
                retry_after: Some(self.long()),
            },
            Fault::Unreachable => ApiError::Unreachable {
                request: request(),
                detail: fault.words().to_owned(),
            },
            Fault::Unauthorized => ApiError::Unauthorized {
                request: request(),
                detail: fault.words().to_owned(),
            },
            Fault::Unclear => {
                self.state().starting(export, message);
                self.unclear(request(), fault)
            }
            _ => self.unclear(request(), fault),
        })
    }

    async fn look(&self, _: &AppId, job: &JobId) -> Result<Job, ApiError> {
        let request = format!("GET jobs/{job}");
        let export = self
            .state()
            .host
            .jobs
            .get(job)
            .map(|job| job.export.clone());
        self.calls.api(self, export.as_ref());
        let faults = [
            Fault::Limited,
            Fault::LimitedLong,
            Fault::Unreachable,
            Fault::Unclear,
            Fault::Unauthorized,
            Fault::Gone,
        ];
        let look = |state: &mut State| {
            let now = state.elapsed();
            let mut rng = state.rng.clone();
            let found = state.host.look(job, now, &mut rng);
            state.rng = rng;
            found
        };
        let gone = |request| ApiError::Gone { request };
        match self.effect("look at", job, &faults, look).await {
            Ok(Some(job)) => Ok(job),
            Ok(None) | Err(Fault::Gone) => Err(gone(request)),
            Err(Fault::Limited) => Err(ApiError::Limited {
                request,
                retry_after: self.retry_after(),
            }),
            Err(Fault::LimitedLong) => Err(ApiError::Limited {
                request,
                retry_after: Some(self.long()),
            }),
            Err(fault @ Fault::Unreachable) => Err(ApiError::Unreachable {
                request,
                detail: fault.words().to_owned(),
            }),
            Err(fault @ Fault::Unauthorized) => Err(ApiError::Unauthorized {
                request,
                detail: fault.words().to_owned(),
            }),
            Err(fault) => Err(self.unclear(request, fault)),
        }
    }

    async fn open(&self, url: &FileUrl) -> Result<Body, FileError> {
        let faults = [
            Fault::LinkRefused,
            Fault::Broken,
            Fault::BrokenLong,
            Fault::Html,
            Fault::Miscounted,
            Fault::CutSilently,
            Fault::CutLoudly,
        ];
        self.calls.file(self);
        let open = |state: &mut State| {
            let now = state.elapsed();
            let (job, file, served) = state.host.open(url, now);
            match served {
                Served::Bytes(bytes) => Ok((job, file, bytes)),
                Served::Refused(status) => Err(status),
            }
        };
        let shown = format!("{url:?}");
        let opened = self.effect("fetch", &shown, &faults, open).await;
        let broken = |fault: Fault, retry_after| FileError::Broken {
            detail: fault.words().to_owned(),
            retry_after,
        };
        let (served, fault) = match opened {
            Ok(Ok(served)) => (served, None),
            Ok(Err(status)) => return Err(FileError::Refused { status }),
            Err(Fault::LinkRefused) => return Err(FileError::Refused { status: 403 }),
            Err(fault @ Fault::Broken) => return Err(broken(fault, None)),
            Err(fault @ Fault::BrokenLong) => return Err(broken(fault, Some(self.long()))),
            Err(fault) => {
                let mut state = self.state();
                let served = open(&mut state);
                if let Some(turnstile) = &self.turnstile {
                    turnstile.told(state.elapsed(), None, Some(&served));
                }
                match served {
                    Ok(served) => (served, Some(fault)),
                    Err(status) => return Err(FileError::Refused { status }),
                }
            }
        };
        let mut state = self.state();
        let (job, file, bytes) = served;
        let declared = state.host.jobs[&job].file(&file).and_then(|f| f.declared);
        let (bytes, cut) = match fault {
            // It repeats what it was asked for, as some do.
            Some(Fault::Html) => {
                let page = format!("<html>please sign in to see {}</html>", url.expose());
                (Bytes::from(page), false)
            }
            // Without a count to compare nobody can tell.
            Some(Fault::Miscounted) if declared.is_some() => {
                let other = Bytes::from_static(b"[1,2,3,4,5,6,7,8,9]");
                let served = state.host.served.entry((job.clone(), file.clone()));
                served.or_default().push(other.clone());
                (other, false)
            }
            Some(Fault::CutSilently | Fault::CutLoudly) => {
                let at = state.rng.index(bytes.len());
                (bytes.slice(..at), fault == Some(Fault::CutLoudly))
            }
            _ => (bytes, false),
        };
        let announced = state.rng.chance(5_000).then_some(bytes.len() as u64);
        let mut chunks = VecDeque::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let size = usize::try_from(state.rng.between(10, 200)).unwrap_or(10);
            chunks.push_back(rest.split_to(size.min(rest.len())));
        }
        Ok(Body {
            edge: self.clone(),
            name: shown,
            announced,
            chunks,
            cut,
        })
    }
}

impl Edge {
    fn unclear(&self, request: String, fault: Fault) -> ApiError {
        ApiError::Unclear {
            request,
            detail: fault.words().to_owned(),
            retry_after: self.retry_after(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        let mut state = self.state();
        let seconds = state.rng.pick(&[None, None, Some(1), Some(60), Some(900)]);
        seconds.map(Duration::from_secs)
    }

    fn long(&self) -> Duration {
        let hours = self.state().rng.pick(&[1, 2, 24, 24 * 365]);
        Duration::from_secs(hours * 3_600)
    }
}

impl kore::Download for Body {
    fn announced(&self) -> Option<u64> {
        self.announced
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, FileError> {
        let chunks = &mut self.chunks;
        if self.edge.turnstile.is_some() {
            // What is on its way to one invocation alone is no business of others: to be killed or
            // overtaken here is to be killed or overtaken at the next effect.
            return match chunks.pop_front() {
                None if self.cut => Err(broken_off()),
                next => Ok(next),
            };
        }
        let next = self
            .edge
            .effect("read", &self.name, &[], |_| chunks.pop_front());
        match next.await {
            Ok(None) if self.cut => Err(broken_off()),
            Ok(next) => Ok(next),
            Err(fault) => Err(FileError::Broken {
                detail: fault.words().to_owned(),
                retry_after: None,
            }),
        }
    }
}

fn broken_off() -> FileError {
    FileError::Broken {
        detail: "the connection broke".to_owned(),
        retry_after: None,
    }
}
