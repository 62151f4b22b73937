//! Everything that a run of the simulation is: the clock, the archive, the queues, the host, what goes
//! wrong, and the laws that are checked all along.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::hash::Hash as _;
use std::time::Duration;

use bytes::Bytes;
use insights_archive::archive::key::Place;
use insights_archive::archive::manifest::{self, Manifest};
use insights_archive::archive::{About, Created, ETag, Key};
use insights_archive::export::{Export, Time};
use insights_archive::queue::message::{ChainId, MOST_HOPS, Message};
use insights_archive::stages::claim::Claim;
use tokio::time::Instant;

use crate::fault::Fault;
use crate::host::{CANARY, Host};
use crate::rng::Rng;
use crate::seen::Print;
use crate::sqs::{Dead, Sqs};
use crate::store::{Store, crc};

/// SHA-256 by the provider that the crate uses; what is compared is what was stored.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().fold(String::new(), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

/// Who decides what goes wrong.
pub enum Fate {
    /// Chance, by rates per 10,000 and by windows in which something is away.
    Rates {
        rates: Vec<u32>,
        outages: Vec<(Duration, Duration, Fault)>,
    },
    /// A path through a tree of choices.
    Path(crate::path::Path),
}

/// What is known of a chain from outside.
#[derive(Debug, Default)]
pub struct Chain {
    /// Requests that may have started a job.
    pub starts: u32,
    pub first_start: Option<Duration>,
    /// How often its claim was taken away, by a fault or by another chain.
    pub disturbed: u32,
    /// When its first message was sent.
    pub born: Option<Duration>,
    pub export: Option<Export>,
}

/// What is expected of an export.
#[derive(Debug, Default)]
pub struct Watch {
    /// Messages that are not deleted and not in the dead-letter queue.
    in_flight: u32,
    pub most_in_flight: u32,
    /// What the messages of this bout are to replace.
    bases: BTreeSet<Option<ETag>>,
    /// When dead letters were written that tell of this bout.
    letters: Vec<Duration>,
    /// When a receipt was lost or garbled in this bout: the slice that wrote it is done, and the
    /// others wait for it until the next tick.
    receipt_lost: Option<Duration>,
    /// Whether a message of this bout has ended at a claim that looks alive where a clock is behind.
    turned_away: bool,
    /// When the API was asked about it in the last minute.
    asked: VecDeque<Duration>,
    pub most_asked: usize,
    /// Every manifest that ever stood, oldest first.
    pub manifests: Vec<(Manifest, String)>,
    pub archived_at: Option<Duration>,
}

/// The bounds that hold for a run, by its rules.
#[derive(Debug, Clone)]
pub struct Bounds {
    pub deadline: Duration,
    /// How long a claim may look alive that nobody renews.
    pub held: Duration,
    pub skew: Duration,
    pub in_flight: u32,
}

pub struct State {
    began: Instant,
    base: Time,
    pub rng: Rng,
    pub fate: Fate,
    pub bounds: Bounds,
    pub store: Store,
    pub sqs: Sqs,
    pub host: Host,
    pub chains: BTreeMap<ChainId, Chain>,
    pub watches: BTreeMap<Export, Watch>,
    pub faults: BTreeMap<Fault, u64>,
    pub effects: u64,
    /// Something may be ready to be delivered.
    pub changed: bool,
    pub violation: Option<String>,
    pub log: Option<Vec<String>>,
    /// Mixes everything that happens: two runs of one seed must agree on it.
    pub digest: u64,
    /// How often a job was carried on that another chain had started.
    pub adopted: u32,
    /// How often a run told that it has committed.
    pub committed: u32,
    /// The most jobs of one chain.
    pub most_starts: u32,
    /// How many files a job has, where that is fixed.
    pub files: Option<usize>,
}

impl State {
    pub fn new(rng: Rng, fate: Fate, bounds: Bounds, log: bool) -> Self {
        Self {
            began: Instant::now(),
            base: "2025-01-28T05:00:00.000Z".parse().expect("a time"),
            rng,
            fate,
            bounds,
            store: Store::default(),
            sqs: Sqs::default(),
            host: Host::default(),
            chains: BTreeMap::new(),
            watches: BTreeMap::new(),
            faults: BTreeMap::new(),
            effects: 0,
            changed: false,
            violation: None,
            log: log.then(Vec::new),
            digest: 0,
            adopted: 0,
            committed: 0,
            most_starts: 0,
            files: None,
        }
    }

    /// Since the world began, in whole milliseconds: timers are as exact, and what the paused clock has
    /// beyond that is of the real one.
    pub fn elapsed(&self) -> Duration {
        let elapsed = self.began.elapsed() + Duration::from_micros(500);
        Duration::from_millis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn now(&self) -> Time {
        self.base.after(self.elapsed())
    }

    pub fn time(&self, at: Duration) -> Time {
        self.base.after(at)
    }

    /// Takes note of what happens; the words are made only where somebody reads them.
    pub fn note(&mut self, who: &str, what: impl FnOnce() -> String) {
        let now = self.elapsed();
        let mix = now.as_secs() << 12 ^ u64::from(now.subsec_millis()) ^ (who.len() as u64) << 48;
        self.digest = (self.digest ^ mix)
            .wrapping_mul(0x0100_0000_01b3)
            .rotate_left(23);
        if let Some(log) = &mut self.log {
            let s = now.as_secs();
            let (d, h, m) = (s / 86_400, s / 3_600 % 24, s / 60 % 60);
            let (s, ms) = (s % 60, now.subsec_millis());
            log.push(format!(
                "{d}d {h:02}:{m:02}:{s:02}.{ms:03} {who:<5} {}",
                what()
            ));
        }
    }

    /// A law is broken; the first one counts.
    pub fn broken(&mut self, law: String) {
        self.note("LAW", || law.clone());
        self.violation.get_or_insert(law);
    }

    /// Decides which of these goes wrong now, if any.
    pub fn fault(&mut self, among: &[Fault]) -> Option<Fault> {
        let now = self.elapsed();
        let found = match &mut self.fate {
            Fate::Rates { rates, outages } => {
                let away = outages
                    .iter()
                    .filter(|(from, to, _)| (*from..*to).contains(&now))
                    .map(|(_, _, what)| *what)
                    .find_map(|what| {
                        let fault = match what {
                            Fault::ArchiveOutage => Fault::Unavailable,
                            Fault::QueueOutage => Fault::QueueDown,
                            Fault::HostOutage => Fault::Unclear,
                            other => other,
                        };
                        let fault = if what == Fault::HostOutage && among.contains(&Fault::Broken) {
                            Fault::Broken
                        } else {
                            fault
                        };
                        among.contains(&fault).then_some((what, fault))
                    });
                match away {
                    Some((what, fault)) => {
                        *self.faults.entry(what).or_default() += 1;
                        return Some(fault);
                    }
                    None => among
                        .iter()
                        .copied()
                        .find(|fault| self.rng.chance(rates[*fault as usize])),
                }
            }
            Fate::Path(path) => path.fault(among),
        };
        if let Some(fault) = found {
            *self.faults.entry(fault).or_default() += 1;
        }
        found
    }

    /// Nothing goes wrong from now on.
    pub fn calm(&mut self) {
        if let Fate::Rates { rates, outages } = &mut self.fate {
            rates.fill(0);
            outages.clear();
        }
    }

    // What the laws say, at each kind of event.

    /// A message has gone out.
    pub fn sent(&mut self, message: &Message, delay: Duration, late: Duration) {
        let now = self.elapsed();
        if delay > insights_archive::queue::LONGEST_DELAY {
            self.broken(format!("a message is delayed by {delay:?}"));
        }
        let body = message.to_json();
        if body.contains(CANARY) || body.contains("https://") {
            self.broken(format!("a message holds a link: {body}"));
        }
        match Message::from_json(&body) {
            Ok(read) if read == *message => {}
            Ok(_) => self.broken(format!("a message is read back as another: {body}")),
            Err(error) => self.broken(format!("a message cannot be read: {error}: {body}")),
        }
        if message.hop > MOST_HOPS {
            self.broken(format!("a message has hop {}", message.hop));
        }
        let slack = Duration::from_secs(3 * 3_600) + self.bounds.skew;
        if let Some(first) = self.chains.get(&message.chain).and_then(|c| c.first_start)
            && now > first + self.bounds.deadline + slack
        {
            let chain = &message.chain;
            self.broken(format!(
                "chain {chain} sends messages after its deadline: first start {first:?}"
            ));
        }
        self.out(message, delay + late);
    }

    fn out(&mut self, message: &Message, wait: Duration) {
        let now = self.elapsed();
        let chain = self.chains.entry(message.chain.clone()).or_default();
        chain.export.get_or_insert_with(|| message.export.clone());
        // A run may still be at work whose message is gone: what was told since its chain began tells
        // of it too.
        let born = *chain.born.get_or_insert(now);
        let watch = self.watches.entry(message.export.clone()).or_default();
        if watch.in_flight == 0 {
            watch.turned_away = false;
            watch.bases.clear();
            watch.receipt_lost = watch.receipt_lost.filter(|at| *at >= born);
            // Where clocks differ, a chain may end at the claim of another that has gone to the dead
            // letters a moment ago: while that looks alive to anybody, its letter tells of this one.
            let fresh = match self.bounds.skew {
                Duration::ZERO => Duration::ZERO,
                skew => self.bounds.held + skew,
            };
            watch.letters.retain(|at| *at >= born || now < *at + fresh);
        }
        watch.in_flight += 1;
        watch.most_in_flight = watch.most_in_flight.max(watch.in_flight);
        watch.bases.insert(message.base.clone());
        let in_flight = watch.in_flight;
        if in_flight > self.bounds.in_flight {
            let export = &message.export;
            self.broken(format!("{export} has {in_flight} messages in flight"));
        }
        let id = self.sqs.send(message, now + wait);
        self.changed = true;
        self.note("queue", || {
            format!("message {id} is due in {wait:?}: {}", message.to_json())
        });
    }

    /// A message ends at the claim of another chain. Where a clock is further behind than a request waits for
    /// a claim to lapse, it may have lapsed by the others' clocks.
    pub fn held(&mut self, id: u64) {
        let behind = self.bounds.skew > Duration::from_secs(5);
        if let Some(entry) = self.sqs.entries.get(&id) {
            let watch = self.watches.entry(entry.export.clone()).or_default();
            watch.turned_away |= behind;
        }
    }

    /// A message is gone: deleted, or to the dead-letter queue with a reason.
    pub fn gone(&mut self, id: u64, dead: Option<&str>) {
        let Some(entry) = self.sqs.entries.remove(&id) else {
            return;
        };
        if let Some(reason) = dead {
            self.bury(&entry.export, entry.body.clone(), reason);
        }
        let watch = self.watches.entry(entry.export.clone()).or_default();
        watch.in_flight -= 1;
        if watch.in_flight > 0
            || watch.turned_away
            || !watch.letters.is_empty()
            || watch.receipt_lost.is_some()
        {
            return;
        }
        // Nobody is at work any more, and nothing is in a place where it is found.
        let etag = self.manifest_etag(&entry.export);
        let bases = &self.watches[&entry.export].bases;
        let unmet = bases.iter().find(|base| match base {
            None => etag.is_none(),
            Some(_) => etag == **base,
        });
        if let Some(base) = unmet {
            let (export, base) = (&entry.export, base.clone());
            self.broken(format!(
                "the last message of {export} is gone, it is not archived (base {base:?}), and no \
                 dead letter tells of it"
            ));
        }
    }

    pub fn bury(&mut self, export: &Export, body: String, reason: &str) {
        if reason.contains(CANARY) {
            self.broken(format!("a reason holds a link: {reason}"));
        }
        let now = self.elapsed();
        let watch = self.watches.entry(export.clone()).or_default();
        watch.letters.push(now);
        self.note("queue", || {
            format!("{export} goes to the dead letters: {reason}")
        });
        self.sqs.buried += 1;
        self.sqs.dead.push(Dead {
            export: export.clone(),
            body,
            reason: reason.to_owned(),
        });
    }

    /// Sends all dead letters again.
    pub fn redrive(&mut self) {
        let letters = std::mem::take(&mut self.sqs.dead);
        let starts: BTreeSet<_> = letters
            .iter()
            .filter(|letter| letter.starts_anew())
            .map(|letter| letter.export.clone())
            .collect();
        for letter in letters {
            let now = self.elapsed();
            let skew = self.bounds.skew;
            let alive = self
                .claim(&letter.export)
                .is_some_and(|claim| claim.until.after(skew) > self.now());
            let slices_alone = !starts.contains(&letter.export);
            if let Some(watch) = self.watches.get_mut(&letter.export) {
                // No letter tells of it any more.
                watch.letters.clear();
                if alive || slices_alone {
                    // Sent again too early: the claim of the chain that gave up could not be marked, and
                    // what was sent ends at it. Or there are only slices, which do their part and end
                    // where others are gone undone. The next tick finds the week missing.
                    watch.letters.push(now);
                }
            }
            match Message::from_json(&letter.body) {
                Ok(message) => {
                    // The start message of a chain does not know when it was handled first.
                    if let Some(chain) = self.chains.get_mut(&message.chain)
                        && message.first_start.is_none()
                    {
                        chain.first_start = None;
                    }
                    self.out(&message, Duration::ZERO);
                }
                Err(error) => self.broken(format!("a dead letter cannot be read: {error}")),
            }
        }
    }

    /// Puts a document into the store, as if somebody had written it before.
    pub fn put(&mut self, key: &Key, document: &impl serde::Serialize) {
        let bytes = serde_json::to_vec(document).expect("plain").into();
        self.store.create(key, bytes, &About::default());
    }

    /// How often in a row each export has been given up.
    pub fn failures(&self) -> BTreeMap<Export, u32> {
        let failures = |export: &Export| self.claim(export).map_or(0, |claim| claim.failures);
        let exports = self.watches.keys();
        exports
            .map(|export| (export.clone(), failures(export)))
            .collect()
    }

    fn manifest_etag(&self, export: &Export) -> Option<ETag> {
        self.store
            .get(&Key::manifest(export))
            .map(|stored| stored.etag)
    }

    pub fn claim(&self, export: &Export) -> Option<Claim> {
        let stored = self.store.get(&Key::claim(export))?;
        serde_json::from_slice(&stored.bytes).ok()
    }

    /// A job is about to be started: for a message's chain, or, in a process of which no more is known,
    /// for the one that has the claim.
    pub fn starting(&mut self, export: &Export, message: Option<&Message>) {
        let now = self.elapsed();
        let claim = self.claim(export);
        let holder = claim.as_ref().map(|claim| claim.chain.clone());
        let Some(chain) = message.map(|message| message.chain.clone()).or(holder) else {
            return;
        };
        let disturbed = self.chains.get(&chain).map_or(0, |chain| chain.disturbed);
        let mine = claim.as_ref().is_some_and(|claim| claim.chain == chain);
        if !mine && disturbed == 0 {
            let claim = claim.map(|claim| (claim.chain, claim.until.to_string()));
            self.broken(format!(
                "chain {chain} starts a job while the claim is {claim:?}"
            ));
        }
        let known = self.chains.entry(chain.clone()).or_default();
        known.export.get_or_insert_with(|| export.clone());
        known.first_start.get_or_insert(now);
        known.starts += 1;
        let starts = known.starts;
        self.most_starts = self.most_starts.max(starts);
        if starts > insights_archive::queue::message::MOST_ATTEMPTS * (1 + disturbed) {
            self.broken(format!(
                "chain {chain} starts its job number {starts}, its claim was taken {disturbed} times"
            ));
        }
    }

    /// The API was asked something about an export.
    pub fn asked(&mut self, export: &Export) {
        if let Fate::Path(_) = self.fate {
            // Who asks how often is bounded by the invocation there.
            return;
        }
        let now = self.elapsed();
        let watch = self.watches.entry(export.clone()).or_default();
        watch.asked.push_back(now);
        let minute = Duration::from_secs(60);
        while watch.asked.front().is_some_and(|at| *at + minute <= now) {
            watch.asked.pop_front();
        }
        watch.most_asked = watch.most_asked.max(watch.asked.len());
    }

    /// Some of what was to be sent: any, not the first ones.
    pub fn some_of<T: Clone>(&mut self, all: &[T]) -> Vec<T> {
        if let Fate::Path(path) = &mut self.fate {
            // None is a queue that does not answer, all is an answer that is lost.
            let sent = path.choose(all.len());
            return vec![all[sent].clone()];
        }
        let kept = |_: &&T| self.rng.chance(5_000);
        all.iter().filter(kept).cloned().collect()
    }

    /// All that what comes next depends on, but for the invocations at work; `alone`: there are none.
    pub fn print(&self, print: &mut Print, alone: bool) {
        (self.elapsed(), &self.rng).hash(print);
        self.store.print(print, alone);
        self.sqs.print(print);
        self.host.print(print);
        for (id, chain) in &self.chains {
            let Chain {
                starts,
                first_start,
                disturbed,
                born,
                export,
            } = chain;
            (id, starts, first_start, disturbed, born, export).hash(print);
        }
        for (export, watch) in &self.watches {
            (export, watch.in_flight, &watch.bases, &watch.letters).hash(print);
            (watch.receipt_lost, watch.archived_at.is_some()).hash(print);
            for (_, sha256) in &watch.manifests {
                sha256.hash(print);
            }
        }
    }

    /// A claim was written over, or made nonsense of: whose it was may not know.
    pub fn disturb(&mut self, export: &Export, but: Option<&ChainId>) {
        for (id, chain) in &mut self.chains {
            if chain.export.as_ref() == Some(export) && but != Some(id) {
                chain.disturbed += 1;
            }
        }
    }

    /// What may happen to a lease, or to a receipt, at any time.
    pub fn vandalise(&mut self, key: &Key) {
        let kinds = match key.as_str().split('/').next() {
            Some("claims") => [Fault::ClaimLost, Fault::ClaimGarbled],
            Some("receipts") => [Fault::ReceiptLost, Fault::ReceiptGarbled],
            _ => return,
        };
        if self.store.get(key).is_none() {
            return;
        }
        let Some(fault) = self.fault(&kinds) else {
            return;
        };
        let now = self.elapsed();
        let bytes = (fault == kinds[1]).then_some(&b"{}"[..]);
        match key.as_str().parse() {
            Ok(Place::Claim(export)) => self.disturb(&export, None),
            Ok(Place::Receipt(export, ..)) => {
                self.watches.entry(export).or_default().receipt_lost = Some(now);
            }
            _ => {}
        }
        self.store.vandalise(key, bytes);
        self.note("fate", || format!("{key} becomes {bytes:?}"));
    }

    /// A fragment's bytes on their way, which a checksum keeps; documents have none but the client's. What
    /// arrives shares no memory with what was sent, which the sender may use again.
    pub fn in_transit(&mut self, key: &Key, bytes: &[u8]) -> Bytes {
        let fragment = key.as_str().starts_with("data/") && !bytes.is_empty();
        let mut bytes = bytes.to_vec();
        if fragment && self.fault(&[Fault::Corrupted]).is_some() {
            let at = self.rng.index(bytes.len());
            // A digit more or less leaves JSON what it is.
            bytes[at] ^= 1;
        }
        bytes.into()
    }

    /// Writes an object that must not be there; `None` where its bytes do not have the checksum stated.
    pub fn create(&mut self, key: &Key, bytes: Bytes, about: &About) -> Option<Created> {
        let created = self.store.create(key, bytes, about);
        if let Some(Created::Written(_)) = created {
            self.written(key, false);
            if self.fault(&[Fault::Repeated]).is_some() {
                return Some(Created::Exists);
            }
        }
        created
    }

    /// An object was written.
    pub fn written(&mut self, key: &Key, replaced: bool) {
        let Ok(place) = key.as_str().parse::<Place>() else {
            return self.broken(format!("{key} is not a key of the archive"));
        };
        let object = self.store.objects[key.as_str()].clone();
        let text = String::from_utf8_lossy(&object.bytes);
        if text.contains(CANARY)
            || object
                .metadata
                .iter()
                .any(|(_, value)| value.contains(CANARY))
        {
            self.broken(format!("{key} holds a link"));
        }
        if replaced && !matches!(place, Place::Manifest(_) | Place::Claim(_)) {
            self.broken(format!("{key} was written over"));
        }
        match place {
            Place::Manifest(export) => {
                let kept = self.keep_manifest(&export, &object.bytes);
                if let Err(law) = kept.and_then(|()| self.check_manifest(&export)) {
                    self.broken(format!("{key}: {law}"));
                }
            }
            Place::Claim(_) => {
                let claim: Claim = match serde_json::from_slice(&object.bytes) {
                    Ok(claim) => claim,
                    Err(error) => return self.broken(format!("{key}: {error}")),
                };
                let longest = self.now().after(self.bounds.held + self.bounds.skew);
                if claim.until > longest {
                    let until = claim.until;
                    self.broken(format!("{key} is held until {until}"));
                }
            }
            Place::Data(export, job, _) => {
                if let Err(law) = self.check_data(&export, &job, key) {
                    self.broken(format!("{key}: {law}"));
                }
            }
            Place::Receipt(..) | Place::Quarantine(..) => {}
        }
    }

    fn check_data(
        &self,
        export: &Export,
        job: &insights_archive::export::JobId,
        key: &Key,
    ) -> Result<(), String> {
        let object = &self.store.objects[key.as_str()];
        let of = |name: &str| {
            let found = object.metadata.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        let records: Vec<serde::de::IgnoredAny> = serde_json::from_slice(&object.bytes)
            .map_err(|error| format!("visible, and {error}"))?;
        if of("record-count") != records.len().to_string() {
            return Err(format!(
                "holds {} records, says {}",
                records.len(),
                of("record-count")
            ));
        }
        let job_model = self.host.jobs.get(job).ok_or("of no job")?;
        if job_model.export != *export {
            return Err("of another export's job".to_owned());
        }
        let file = job_model
            .file(of("file-id"))
            .ok_or("of no file of its job")?;
        let served = self
            .host
            .served
            .get(&(job.clone(), of("file-id").to_owned()));
        // What is not the file itself was downloaded three times with the same count before it was kept.
        let times = |served: &Vec<Bytes>| served.iter().filter(|b| **b == object.bytes).count();
        if file.bytes != object.bytes && served.map_or(0, times) < 3 {
            return Err("not what the host served for this file, three times".to_owned());
        }
        Ok(())
    }

    /// The list of predecessors, kept from outside.
    fn keep_manifest(&mut self, export: &Export, bytes: &[u8]) -> Result<(), String> {
        let manifest = match manifest::read(bytes, export) {
            Ok(manifest::Read::Known(manifest)) => *manifest,
            other => return Err(format!("cannot be read: {other:?}")),
        };
        let now = self.elapsed();
        let watch = self.watches.entry(export.clone()).or_default();
        let before: Vec<_> = watch
            .manifests
            .iter()
            .map(|(old, sha256)| (old.job.clone(), old.committed_at, sha256.clone()))
            .collect();
        let listed: Vec<_> = manifest
            .supersedes
            .iter()
            .map(|old| (old.job.clone(), old.committed_at, old.sha256.clone()))
            .collect();
        watch.letters.clear();
        watch.manifests.push((manifest, sha256(bytes)));
        watch.archived_at.get_or_insert(now);
        if before == listed {
            Ok(())
        } else {
            Err(format!(
                "its predecessors are {before:?}; it lists {listed:?}"
            ))
        }
    }

    /// The current manifest of an export names what stands there, exact and verified.
    pub fn check_manifest(&self, export: &Export) -> Result<(), String> {
        let stored = self.store.get(&Key::manifest(export)).ok_or("is absent")?;
        let manifest = match manifest::read(&stored.bytes, export) {
            Ok(manifest::Read::Known(manifest)) => *manifest,
            other => return Err(format!("cannot be read: {other:?}")),
        };
        let id = &manifest.job.id;
        let job = self.host.jobs.get(id).ok_or(format!("{id} is no job"))?;
        if job.export != *export {
            return Err(format!("{id} is the job of {}", job.export));
        }
        let mut true_to_life = true;
        for fragment in &manifest.fragments {
            let key = &fragment.key;
            let object = self
                .store
                .objects
                .get(key)
                .ok_or(format!("{key} is absent"))?;
            let records: Vec<serde::de::IgnoredAny> =
                serde_json::from_slice(&object.bytes).map_err(|error| format!("{key}: {error}"))?;
            let of = |name: &str| {
                let found = object.metadata.iter().find(|(key, _)| key == name);
                found.map(|(_, value)| value.as_str()).unwrap_or_default()
            };
            let seen = (
                object.bytes.len() as u64,
                records.len() as u64,
                sha256(&object.bytes),
                crc(&object.bytes),
                of("file-id"),
                of("record-count").to_owned(),
            );
            let stated = (
                fragment.bytes,
                fragment.records,
                fragment.sha256.clone(),
                fragment.crc64nvme.clone(),
                fragment.file_id.as_str(),
                fragment.records.to_string(),
            );
            if seen != stated {
                return Err(format!("{key} is {seen:?}, stated as {stated:?}"));
            }
            let file = job
                .file(&fragment.file_id)
                .ok_or(format!("{key}: {id} has no file {}", fragment.file_id))?;
            if fragment.declared_records != file.declared {
                return Err(format!("{key}: the vendor declared {:?}", file.declared));
            }
            true_to_life &= file.bytes == object.bytes
                && file
                    .declared
                    .is_none_or(|declared| declared == fragment.records);
        }
        let mut ids: Vec<_> = manifest
            .fragments
            .iter()
            .map(|fragment| fragment.file_id.clone())
            .collect();
        ids.sort();
        if !job.listings.contains(&ids) {
            return Err(format!("no answer of {id} ever named just {ids:?}"));
        }
        if ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(format!("{id}: a file is archived twice: {ids:?}"));
        }
        let silent = job.odd == Some(Fault::JobSilent)
            && ids.is_empty()
            && manifest.declared.files.is_none()
            && manifest.declared.records.is_none();
        if silent {
            true_to_life = false;
        } else if ids.len() != job.files.len() {
            return Err(format!("{id} has {} files: {ids:?}", job.files.len()));
        }
        let sum = manifest.archived.records;
        true_to_life &= silent || job.totals.records.is_none_or(|stated| stated == sum);
        if manifest.verified != true_to_life {
            return Err(format!(
                "verified is {}, and it should be {true_to_life}: {:?}",
                manifest.verified, manifest.discrepancies
            ));
        }
        Ok(())
    }

    /// What a person would want to see after a broken law.
    pub fn history(&self) -> String {
        let mut text = String::new();
        for line in self.log.iter().flatten() {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}
