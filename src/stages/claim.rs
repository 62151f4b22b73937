//! The lease of one chain on one export. It saves work: duplicates of messages end early, and one
//! chain works per export. Every safety promise holds if a claim vanishes at any instant.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::Edges;
use crate::archive::{Archive as _, ArchiveError, Created, ETag, Key, Replaced};
use crate::export::{Export, JobId, Time};
use crate::queue::message::{ChainId, MOST_ATTEMPTS, MOST_HOPS, Message, Work};

/// The claim, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// Whose it is.
    pub chain: ChainId,
    /// How many jobs the chain has started, the one being started included; more than it can have
    /// once it has ended.
    pub attempt: u32,
    /// When that attempt was won.
    pub tried_at: Time,
    /// Messages of the chain's poll stage with a lower hop are overtaken; more than any message can have
    /// once the chain has ended.
    pub hop: u32,
    /// The job under way.
    pub job: Option<JobId>,
    /// Until when it is live.
    pub until: Time,
    /// Random, per write: settles a lost answer by reading back.
    pub writer: String,
    /// How many chains in a row have given the export up.
    pub failures: u32,
}

impl Claim {
    /// Whether its chain is taken to be at work. Once it has ended it is not, whatever the clocks of
    /// others say.
    pub fn is_live(&self, now: Time) -> bool {
        !self.has_ended() && now < self.until
    }

    /// Whether its chain has ended with the export archived.
    pub fn has_archived(&self) -> bool {
        self.has_ended() && self.failures == 0
    }

    /// Whether its chain has committed the export or given it up.
    fn has_ended(&self) -> bool {
        self.hop >= ENDED_HOP
    }

    /// Overtakes every message that the chain may still have.
    fn end(&mut self, now: Time) {
        self.until = now;
        self.job = None;
        self.hop = ENDED_HOP;
        self.attempt = ENDED_ATTEMPT;
    }
}

/// No message has this hop.
const ENDED_HOP: u32 = MOST_HOPS + 1;
/// No message has this attempt.
const ENDED_ATTEMPT: u32 = MOST_ATTEMPTS + 1;

/// What stands at the place of a claim.
#[derive(Debug)]
pub(super) struct Found {
    /// The claim. `None` where it cannot be read as one: it is a lease, and its object is written over.
    pub claim: Option<Claim>,
    /// Its version.
    pub etag: ETag,
}

/// How often a write that others interfere with is tried.
const TRIES: u32 = 6;

/// Reads the claim of an export.
pub(super) async fn read<E: Edges>(
    edges: &E,
    export: &Export,
) -> Result<Option<Found>, ArchiveError> {
    let stored = edges.archive().get(&Key::claim(export)).await?;
    Ok(stored.map(|stored| Found {
        claim: serde_json::from_slice(&stored.bytes).ok(),
        etag: stored.etag,
    }))
}

/// Writes a claim over exactly what was read, or creates it where nothing was. `None`: somebody else
/// was faster.
async fn write<E: Edges>(
    edges: &E,
    export: &Export,
    claim: &Claim,
    base: Option<&ETag>,
) -> Result<Option<ETag>, ArchiveError> {
    let key = Key::claim(export);
    // A struct of texts and numbers always serialises.
    let bytes = bytes::Bytes::from(serde_json::to_vec_pretty(claim).unwrap_or_default());
    let archive = edges.archive();
    let written = match base {
        None => match archive
            .create(&key, bytes, &crate::archive::About::default())
            .await
        {
            Ok(Created::Written(etag)) => return Ok(Some(etag)),
            Ok(Created::Exists) => Ok(()),
            Err(error) => Err(error),
        },
        Some(base) => match archive.replace(&key, bytes, base).await {
            Ok(Replaced::Written(etag)) => return Ok(Some(etag)),
            Ok(Replaced::Changed) => Ok(()),
            Err(error) => Err(error),
        },
    };
    if let Err(error @ ArchiveError::Refused { .. }) = written {
        return Err(error);
    }
    // Lost, or the answer was: `writer` tells, in a second look.
    match read(edges, export).await? {
        Some(found) if found.claim.as_ref() == Some(claim) => Ok(Some(found.etag)),
        _ => written.map(|()| None),
    }
}

fn writer<E: Edges>(edges: &E) -> String {
    format!("{:016x}", edges.random())
}

/// What a message of a chain may do.
#[derive(Debug)]
pub(super) enum Turn {
    /// Go on; the claim is this chain's.
    Mine(Found),
    /// Go on; there is no claim, or a lapsed one of another chain.
    Free(Option<Found>),
    /// Another chain is at work until then.
    Held(Time),
    /// The message is a duplicate or was overtaken.
    Overtaken,
}

/// Decides whose turn it is. Pure.
pub(super) fn turn(message: &Message, found: Option<Found>, now: Time) -> Turn {
    let Some(found) = found else {
        return Turn::Free(None);
    };
    let Some(claim) = &found.claim else {
        return Turn::Free(Some(found));
    };
    if claim.chain != message.chain {
        return if claim.is_live(now) {
            Turn::Held(claim.until)
        } else {
            Turn::Free(Some(found))
        };
    }
    let overtaken = match message.work {
        // A higher attempt does not overtake it: the message itself may have won that attempt before
        // it was cut off, and come back with a higher hop. Then it must go on, or nobody does.
        Work::Start => claim.hop > message.hop,
        Work::Look(_) => claim.hop > message.hop || claim.attempt > message.attempt,
        Work::Copy(_) => claim.attempt > message.attempt,
    };
    if overtaken {
        Turn::Overtaken
    } else {
        Turn::Mine(found)
    }
}

/// The claim that a message makes where it has its turn.
pub(super) struct Take {
    /// Jobs started, the next one included where one is about to be.
    pub attempt: u32,
    /// The job under way.
    pub job: Option<JobId>,
    /// Until when.
    pub until: Time,
}

/// Makes the claim the message's own, over exactly what was found. `None`: somebody was faster.
pub(super) async fn take<E: Edges>(
    edges: &E,
    message: &Message,
    found: Option<&Found>,
    take: Take,
) -> Result<Option<Found>, ArchiveError> {
    let claim = Claim {
        chain: message.chain.clone(),
        attempt: take.attempt,
        tried_at: edges.now(),
        hop: message.hop,
        job: take.job,
        until: take.until,
        writer: writer(edges),
        failures: found
            .and_then(|found| found.claim.as_ref())
            .map_or(0, |claim| claim.failures),
    };
    let base = found.map(|found| &found.etag);
    let etag = write(edges, &message.export, &claim, base).await?;
    Ok(etag.map(|etag| Found {
        claim: Some(claim),
        etag,
    }))
}

/// How a change of the claim ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Amended {
    /// It is as it should be.
    Done,
    /// It is another chain's.
    Theirs,
    /// A later attempt of the chain has been won.
    Later,
    /// It is gone, or nonsense, or written by others all the time.
    Lost,
}

/// Changes the claim while it is this chain's, whoever else writes to it.
async fn amend<E: Edges>(
    edges: &E,
    export: &Export,
    chain: &ChainId,
    change: impl Fn(&mut Claim) + Send + Sync,
) -> Result<Amended, ArchiveError> {
    for _ in 0..TRIES {
        let Some(found) = read(edges, export).await? else {
            return Ok(Amended::Lost);
        };
        let Some(before) = found.claim else {
            return Ok(Amended::Lost);
        };
        if before.chain != *chain {
            return Ok(Amended::Theirs);
        }
        let mut claim = before.clone();
        change(&mut claim);
        if claim == before {
            return Ok(Amended::Done);
        }
        claim.writer = writer(edges);
        let written = write(edges, export, &claim, Some(&found.etag)).await?;
        if written.is_some() {
            return Ok(Amended::Done);
        }
    }
    Ok(Amended::Lost)
}

/// Notes the job that was started, so that it is found again if the next message does not go out.
pub(super) async fn note_job<E: Edges>(
    edges: &E,
    message: &Message,
    attempt: u32,
    job: &JobId,
) -> Result<Amended, ArchiveError> {
    let later = AtomicBool::new(false);
    let change = |claim: &mut Claim| {
        if claim.attempt == attempt {
            claim.job = Some(job.clone());
        }
        later.store(claim.attempt > attempt, Ordering::Relaxed);
    };
    let amended = amend(edges, &message.export, &message.chain, change).await?;
    Ok(if amended == Amended::Done && later.into_inner() {
        Amended::Later
    } else {
        amended
    })
}

/// Takes back an attempt that cost nothing, where nobody has gone on from it. `false`: it may stay spent.
pub(super) async fn refund<E: Edges>(edges: &E, message: &Message, attempt: u32) -> bool {
    let change = |claim: &mut Claim| {
        if claim.attempt == attempt + 1 && claim.job.is_none() {
            claim.attempt = attempt;
        }
    };
    let result = amend(edges, &message.export, &message.chain, change).await;
    matches!(result, Ok(Amended::Done))
}

/// Overtakes what has a lower hop than the message of the poll stage that was sent next, and renews. A
/// failure costs work at most: the message has been sent.
pub(super) async fn advance<E: Edges>(
    edges: &E,
    export: &Export,
    chain: &ChainId,
    attempt: u32,
    hop: u32,
    until: Time,
) {
    let change = |claim: &mut Claim| {
        if !claim.has_ended() {
            // Unless another message has won a later attempt: were it overtaken, nobody would go on.
            if claim.attempt <= attempt {
                claim.hop = claim.hop.max(hop);
            }
            claim.until = claim.until.max(until);
        }
    };
    noted(export, amend(edges, export, chain, change).await);
}

/// Renews the lease of a chain that is alive in this process.
///
/// # Errors
/// When the archive fails; the next renewal may succeed.
pub async fn renew<E: Edges>(
    edges: &E,
    export: &Export,
    chain: &ChainId,
    until: Time,
) -> Result<(), ArchiveError> {
    let change = |claim: &mut Claim| {
        if !claim.has_ended() {
            claim.until = claim.until.max(until);
        }
    };
    amend(edges, export, chain, change).await.map(|_| ())
}

/// Renews the lease of a slice's chain while it lives, and never a lapsed one: a slice cannot carry an
/// export alone, and would turn away the messages that can. A failure costs work at most.
pub(super) async fn prolong<E: Edges>(edges: &E, export: &Export, chain: &ChainId, until: Time) {
    let now = edges.now();
    let change = |claim: &mut Claim| {
        if claim.is_live(now) {
            claim.until = claim.until.max(until);
        }
    };
    noted(export, amend(edges, export, chain, change).await);
}

/// Lets a chain's claim lapse now: its process stops, and the next run may carry on at once.
///
/// # Errors
/// When the archive fails; the claim then lapses by itself.
pub async fn release<E: Edges>(
    edges: &E,
    export: &Export,
    chain: &ChainId,
) -> Result<(), ArchiveError> {
    let now = edges.now();
    let change = |claim: &mut Claim| claim.until = claim.until.min(now);
    amend(edges, export, chain, change).await.map(|_| ())
}

/// The export is archived: the claim lapses now and forgets failures and job.
pub(super) async fn finish<E: Edges>(edges: &E, message: &Message) {
    let now = edges.now();
    let change = |claim: &mut Claim| {
        if !claim.has_ended() {
            claim.end(now);
        }
        claim.failures = 0;
    };
    noted(
        &message.export,
        amend(edges, &message.export, &message.chain, change).await,
    );
}

/// The export was given up: the claim lapses now and counts one more failure; every other message
/// of the chain is overtaken.
pub(super) async fn fail<E: Edges>(edges: &E, message: &Message) {
    let now = edges.now();
    let change = |claim: &mut Claim| {
        // Two slices may give up at once: that is one failure.
        if !claim.has_ended() {
            claim.end(now);
            claim.failures = claim.failures.saturating_add(1);
        }
    };
    noted(
        &message.export,
        amend(edges, &message.export, &message.chain, change).await,
    );
}

/// A claim only saves work, so trouble with it is told and not passed on.
fn noted(export: &Export, result: Result<Amended, ArchiveError>) {
    if let Err(error) = result {
        tracing::warn!(%export, %error, "the claim of {export} could not be brought up to date");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bytes::Bytes;

    use super::super::{Budget, Report, Rules};
    use super::*;
    use crate::archive::folder::Folder;
    use crate::archive::{About, Archive, Head, Listed, Stored};
    use crate::export::Event;
    use crate::kore::out_of_reach::OutOfReach;
    use crate::queue::message::{Looking, Slice};
    use crate::queue::{DeadLetter, Outgoing, Queue, QueueError};

    fn now() -> Time {
        "2025-01-27T06:00:00Z".parse().unwrap()
    }

    fn minutes(minutes: u64) -> std::time::Duration {
        std::time::Duration::from_secs(minutes * 60)
    }

    fn message(work: Work) -> Message {
        let export = Export {
            app: "st-1".parse().unwrap(),
            event: Event::All,
            week: "2025-01-20".parse().unwrap(),
        };
        Message {
            attempt: 1,
            hop: 5,
            work,
            ..Message::start(export, "mine".parse().unwrap(), None)
        }
    }

    fn look() -> Work {
        Work::Look(Looking {
            id: "fj-1".parse().unwrap(),
            started_at: now(),
            looks: 0,
            percent: None,
            moved_at: now(),
            puzzled: 0,
            unanswered: 0,
        })
    }

    fn copy() -> Work {
        Work::Copy(Slice {
            job: "fj-1".parse().unwrap(),
            of: 1,
            fragments: Vec::new(),
            fruitless: 0,
            troubled: 0,
        })
    }

    fn claim(chain: &str) -> Claim {
        Claim {
            chain: chain.parse().unwrap(),
            attempt: 1,
            tried_at: now(),
            hop: 5,
            job: None,
            until: now().after(minutes(1)),
            writer: "w".to_owned(),
            failures: 0,
        }
    }

    fn verdict(message: &Message, claim: Option<Claim>) -> &'static str {
        let found = claim.map(|claim| Found {
            claim: Some(claim),
            etag: "e1".parse().unwrap(),
        });
        match turn(message, found, now()) {
            Turn::Mine(_) => "mine",
            Turn::Free(None) => "free",
            Turn::Free(Some(_)) => "lapsed",
            Turn::Held(_) => "held",
            Turn::Overtaken => "overtaken",
        }
    }

    /// What goes wrong with a write.
    #[derive(Debug, Clone, Copy)]
    enum Trouble {
        /// It is done, and the answer is lost.
        Lost,
        /// It is not done.
        NotDone,
        /// It is not done, nor ever will be.
        Refused,
    }

    /// An archive that holds a claim and nothing else, at one instant.
    #[derive(Default)]
    struct Outside {
        stored: Mutex<Option<Stored>>,
        /// What the next write meets.
        trouble: Mutex<Option<Trouble>>,
        writes: Mutex<u64>,
        random: Mutex<u64>,
    }

    impl Outside {
        fn claim(&self) -> Option<Claim> {
            let stored = self.stored.lock().unwrap();
            serde_json::from_slice(&stored.as_ref()?.bytes).ok()
        }

        fn writes(&self) -> u64 {
            *self.writes.lock().unwrap()
        }

        fn write(&self, bytes: Bytes) -> Result<ETag, ArchiveError> {
            let key = "claims/one.json".to_owned();
            let detail = "words".to_owned();
            let trouble = self.trouble.lock().unwrap().take();
            match trouble {
                Some(Trouble::NotDone) => return Err(ArchiveError::Unavailable { key, detail }),
                Some(Trouble::Refused) => return Err(ArchiveError::Refused { key, detail }),
                Some(Trouble::Lost) | None => {}
            }
            let mut writes = self.writes.lock().unwrap();
            *writes += 1;
            let etag: ETag = format!("e{writes}").parse().unwrap();
            *self.stored.lock().unwrap() = Some(Stored {
                bytes,
                etag: etag.clone(),
            });
            match trouble {
                None => Ok(etag),
                Some(_) => Err(ArchiveError::Unavailable { key, detail }),
            }
        }
    }

    impl Archive for Outside {
        type Upload = <Folder as Archive>::Upload;
        type Download = <Folder as Archive>::Download;

        async fn get(&self, _: &Key) -> Result<Option<Stored>, ArchiveError> {
            Ok(self.stored.lock().unwrap().clone())
        }

        async fn create(&self, _: &Key, bytes: Bytes, _: &About) -> Result<Created, ArchiveError> {
            if self.stored.lock().unwrap().is_some() {
                return Ok(Created::Exists);
            }
            self.write(bytes).map(Created::Written)
        }

        async fn replace(
            &self,
            _: &Key,
            bytes: Bytes,
            base: &ETag,
        ) -> Result<Replaced, ArchiveError> {
            let etag = self.stored.lock().unwrap().as_ref().map(|s| s.etag.clone());
            if etag.as_ref() != Some(base) {
                return Ok(Replaced::Changed);
            }
            self.write(bytes).map(Replaced::Written)
        }

        async fn list(&self, _: &str, _: impl FnMut(Listed) + Send) -> Result<(), ArchiveError> {
            unreachable!("a claim needs no list")
        }

        async fn head(&self, _: &Key) -> Result<Option<Head>, ArchiveError> {
            unreachable!("a claim is read")
        }

        async fn open(&self, _: &Key) -> Result<Option<Self::Download>, ArchiveError> {
            unreachable!("a claim is small")
        }

        async fn begin(&self, _: &Key, _: &About) -> Result<Self::Upload, ArchiveError> {
            unreachable!("a claim is small")
        }
    }

    impl Queue for Outside {
        async fn send(&self, _: Vec<Outgoing>) -> Result<(), QueueError> {
            unreachable!("a claim sends nothing")
        }

        async fn bury(&self, _: DeadLetter) -> Result<(), QueueError> {
            unreachable!("a claim sends nothing")
        }
    }

    impl Edges for Outside {
        type Kore = OutOfReach;
        type Archive = Self;
        type Queue = Self;

        fn kore(&self) -> &OutOfReach {
            &OutOfReach
        }

        fn archive(&self) -> &Self {
            self
        }

        fn queue(&self) -> &Self {
            self
        }

        fn rules(&self) -> &Rules {
            unreachable!("a claim has no rules")
        }

        fn budget(&self) -> &Budget {
            unreachable!("a claim takes no memory")
        }

        fn now(&self) -> Time {
            now()
        }

        fn random(&self) -> u64 {
            let mut random = self.random.lock().unwrap();
            *random += 1;
            *random
        }

        fn report(&self, _: &Export, _: Report) {}
    }

    /// The message wins the claim over what it found, or does not.
    async fn taken(edges: &Outside, found: Option<&Found>) -> Result<Option<Found>, ArchiveError> {
        let take = Take {
            attempt: 2,
            job: None,
            until: now().after(minutes(3)),
        };
        super::take(edges, &message(Work::Start), found, take).await
    }

    #[tokio::test]
    async fn a_claim_is_won_although_the_answer_is_lost() {
        for trouble in [None, Some(Trouble::Lost)] {
            let edges = Outside::default();
            *edges.trouble.lock().unwrap() = trouble;
            let first = taken(&edges, None).await.unwrap();
            assert!(first.is_some(), "{trouble:?}");
            *edges.trouble.lock().unwrap() = trouble;
            let second = taken(&edges, first.as_ref()).await.unwrap();
            let claim = second.and_then(|found| found.claim);
            assert!(claim.is_some() && claim == edges.claim(), "{trouble:?}");
        }
    }

    #[tokio::test]
    async fn of_two_deliveries_of_one_message_in_one_instant_one_wins() {
        let edges = Outside::default();
        let first = taken(&edges, None).await.unwrap();
        assert!(first.is_some());
        assert!(taken(&edges, None).await.unwrap().is_none());
        let second = taken(&edges, first.as_ref()).await.unwrap();
        assert!(second.is_some());
        assert!(taken(&edges, first.as_ref()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_claim_that_cannot_be_written_is_an_error() {
        for trouble in [Trouble::NotDone, Trouble::Refused] {
            let edges = Outside::default();
            *edges.trouble.lock().unwrap() = Some(trouble);
            let error = taken(&edges, None).await.unwrap_err();
            let refused = matches!(error, ArchiveError::Refused { .. });
            assert_eq!(refused, matches!(trouble, Trouble::Refused), "{error}");
        }
    }

    #[tokio::test]
    async fn a_message_overtakes_what_is_behind_it_but_not_who_has_won_a_later_attempt() {
        for (attempt, hop, expected) in [(2, 6, 6), (3, 9, 9), (2, 4, 5), (1, 6, 5)] {
            let edges = Outside::default();
            taken(&edges, None).await.unwrap();
            let message = message(Work::Start);
            let until = now().after(minutes(9));
            advance(&edges, &message.export, &message.chain, attempt, hop, until).await;
            let claim = edges.claim().unwrap();
            assert_eq!(
                (claim.hop, claim.until),
                (expected, until),
                "{attempt} {hop}"
            );
        }
    }

    #[tokio::test]
    async fn an_end_overtakes_every_message_of_its_chain_and_a_failure_counts_once() {
        let mine = message(Work::Start);
        let others = Message {
            chain: "other".parse().unwrap(),
            ..mine.clone()
        };
        let edges = Outside::default();
        taken(&edges, None).await.unwrap();
        let claim = edges.claim();
        fail(&edges, &others).await;
        finish(&edges, &others).await;
        assert_eq!(edges.claim(), claim, "another chain's end");

        fail(&edges, &mine).await;
        fail(&edges, &mine).await;
        let failed = edges.claim().unwrap();
        assert!(failed.has_ended() && failed.until == now() && failed.failures == 1);
        advance(
            &edges,
            &mine.export,
            &mine.chain,
            9,
            MOST_HOPS,
            now().after(minutes(9)),
        )
        .await;
        renew(&edges, &mine.export, &mine.chain, now().after(minutes(9)))
            .await
            .unwrap();
        assert_eq!(edges.claim().unwrap(), failed);

        finish(&edges, &mine).await;
        let finished = edges.claim().unwrap();
        assert!(finished.has_ended() && finished.failures == 0);

        let edges = Outside::default();
        taken(&edges, None).await.unwrap();
        finish(&edges, &mine).await;
        let finished = edges.claim().unwrap();
        assert!(finished.has_ended() && finished.until == now() && finished.job.is_none());
    }

    #[tokio::test]
    async fn a_lease_is_renewed_and_released_by_its_own_chain_alone() {
        let mine = message(Work::Start);
        let other: ChainId = "other".parse().unwrap();
        let edges = Outside::default();
        taken(&edges, None).await.unwrap();
        let later = now().after(minutes(9));
        for (chain, until) in [(&other, now().after(minutes(3))), (&mine.chain, later)] {
            renew(&edges, &mine.export, chain, later).await.unwrap();
            assert_eq!(edges.claim().unwrap().until, until);
        }
        prolong(&edges, &mine.export, &mine.chain, later.after(minutes(1))).await;
        assert_eq!(edges.claim().unwrap().until, later.after(minutes(1)));
        let later = later.after(minutes(1));
        // It is never shortened but by its release.
        renew(&edges, &mine.export, &mine.chain, now())
            .await
            .unwrap();
        for (chain, until) in [(&other, later), (&mine.chain, now())] {
            release(&edges, &mine.export, chain).await.unwrap();
            assert_eq!(edges.claim().unwrap().until, until);
        }
        // A slice renews no lapsed one.
        prolong(&edges, &mine.export, &mine.chain, later).await;
        assert_eq!(edges.claim().unwrap().until, now());
    }

    #[tokio::test]
    async fn an_attempt_is_taken_back_once_and_only_without_a_job() {
        let edges = Outside::default();
        taken(&edges, None).await.unwrap();
        let message = message(Work::Start);
        for (attempt, left) in [(0, 2), (2, 2), (1, 1), (1, 1)] {
            assert!(refund(&edges, &message, attempt).await);
            assert_eq!(edges.claim().unwrap().attempt, left);
        }
        // What changes nothing is not written.
        assert_eq!(edges.writes(), 2);
        let job: JobId = "fj-1".parse().unwrap();
        let noted = note_job(&edges, &message, 1, &job).await;
        assert_eq!(noted.unwrap(), Amended::Done);
        assert!(refund(&edges, &message, 0).await);
        let claim = edges.claim().unwrap();
        assert_eq!((claim.attempt, &claim.job), (1, &Some(job)));
        // Won by another delivery of the same message, or ended.
        let noted = note_job(&edges, &message, 0, &"fj-2".parse().unwrap()).await;
        assert_eq!(noted.unwrap(), Amended::Later);
        assert_eq!(edges.claim(), Some(claim));
        let others = Message {
            chain: "other".parse().unwrap(),
            ..message
        };
        assert!(!refund(&edges, &others, 0).await);
    }

    #[test]
    fn a_message_goes_on_unless_its_own_chain_or_another_is_ahead() {
        let with = |change: fn(&mut Claim)| {
            let mut claim = claim("mine");
            change(&mut claim);
            Some(claim)
        };
        let table = [
            ("no claim", None, ["free"; 3]),
            ("its own", with(|_| ()), ["mine"; 3]),
            (
                "its own, lapsed",
                with(|claim| claim.until = now()),
                ["mine"; 3],
            ),
            // The hops of copies are no fences.
            (
                "the next message is out",
                with(|claim| claim.hop = 6),
                ["overtaken", "overtaken", "mine"],
            ),
            // The start may be the very one that won the attempt, with the same hop or a lower one.
            (
                "an attempt more",
                with(|claim| claim.attempt = 2),
                ["mine", "overtaken", "overtaken"],
            ),
            (
                "an attempt more, won with a lower hop",
                with(|claim| (claim.attempt, claim.hop) = (2, 4)),
                ["mine", "overtaken", "overtaken"],
            ),
            (
                "its chain has ended",
                with(|claim| claim.end(now())),
                ["overtaken"; 3],
            ),
            (
                "another's",
                with(|claim| claim.chain = "other".parse().unwrap()),
                ["held"; 3],
            ),
            (
                "another's, lapsed",
                Some(Claim {
                    until: now(),
                    ..claim("other")
                }),
                ["lapsed"; 3],
            ),
            (
                "another's that has ended, on a clock that is ahead",
                with(|claim| {
                    claim.end(now().after(minutes(10)));
                    claim.chain = "other".parse().unwrap();
                }),
                ["lapsed"; 3],
            ),
        ];
        for (what, claim, verdicts) in table {
            let seen =
                [Work::Start, look(), copy()].map(|work| verdict(&message(work), claim.clone()));
            assert_eq!(seen, verdicts, "{what}");
        }
    }

    #[test]
    fn what_is_no_claim_is_written_over() {
        let found = Found {
            claim: None,
            etag: "e1".parse().unwrap(),
        };
        let turn = turn(&message(Work::Start), Some(found), now());
        assert!(
            matches!(turn, Turn::Free(Some(Found { claim: None, .. }))),
            "{turn:?}"
        );
    }

    #[test]
    fn no_message_that_can_be_read_passes_a_chain_that_has_ended() {
        let mut claim = claim("mine");
        claim.end(now());
        let last = Message {
            attempt: MOST_ATTEMPTS,
            hop: MOST_HOPS,
            ..message(Work::Start)
        };
        assert!(Message::from_json(&last.to_json()).is_ok());
        for work in [Work::Start, look(), copy()] {
            let last = Message {
                work,
                ..last.clone()
            };
            assert_eq!(verdict(&last, Some(claim.clone())), "overtaken");
        }
    }
}
