//! The lease of one chain on one export. It saves work: duplicates of messages end early, and one
//! chain works per export. Every safety promise holds if a claim vanishes at any instant.

use serde::{Deserialize, Serialize};

use super::Edges;
use super::message::{ChainId, MOST_ATTEMPTS, MOST_HOPS, Message, Work};
use crate::archive::{Archive as _, ArchiveError, Created, ETag, Key, Replaced};
use crate::export::{Export, JobId, Time};

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
    /// The highest hop of the poll stage that has been sent; more than it can have once it has ended.
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

/// No message has this hop, nor the one that a message may have at most (`MOST_HOPS` and one).
const ENDED_HOP: u32 = MOST_HOPS + 2;
/// No message has this attempt.
const ENDED_ATTEMPT: u32 = MOST_ATTEMPTS + 1;

/// A claim and its version.
pub(super) type Held = (Claim, ETag);

/// How often a write that others interfere with is tried.
const TRIES: u32 = 6;

/// Reads the claim of an export. One that cannot be read as a claim counts as absent: it is a lease,
/// and its object is written over.
pub(super) async fn read<E: Edges>(
    edges: &E,
    export: &Export,
) -> Result<Option<(Option<Claim>, ETag)>, ArchiveError> {
    let stored = edges.archive().get(&Key::claim(export)).await?;
    Ok(stored.map(|stored| (serde_json::from_slice(&stored.bytes).ok(), stored.etag)))
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
        Some((Some(found), etag)) if found == *claim => Ok(Some(etag)),
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
    Mine(Held),
    /// Go on; there is no claim, or a lapsed one of another chain, whose version and facts these are.
    Free(Option<(Option<Claim>, ETag)>),
    /// Another chain is at work until then.
    Held(Time),
    /// The message is a duplicate or was overtaken.
    Overtaken,
}

/// Decides whose turn it is. Pure.
pub(super) fn turn(message: &Message, found: Option<(Option<Claim>, ETag)>, now: Time) -> Turn {
    let Some((Some(claim), etag)) = found else {
        return Turn::Free(found);
    };
    if claim.chain != message.chain {
        return if claim.is_live(now) {
            Turn::Held(claim.until)
        } else {
            Turn::Free(Some((Some(claim), etag)))
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
        Turn::Mine((claim, etag))
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
    found: Option<(Option<&Claim>, &ETag)>,
    take: Take,
) -> Result<Option<Held>, ArchiveError> {
    let claim = Claim {
        chain: message.chain.clone(),
        attempt: take.attempt,
        tried_at: edges.now(),
        hop: message.hop,
        job: take.job,
        until: take.until,
        writer: writer(edges),
        failures: found
            .and_then(|(claim, _)| claim)
            .map_or(0, |claim| claim.failures),
    };
    let base = found.map(|(_, etag)| etag);
    let etag = write(edges, &message.export, &claim, base).await?;
    Ok(etag.map(|etag| (claim, etag)))
}

/// How a change of the claim ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Amended {
    /// It is as it should be.
    Done,
    /// It is another chain's.
    Theirs,
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
        let Some((Some(found), etag)) = read(edges, export).await? else {
            return Ok(Amended::Lost);
        };
        if found.chain != *chain {
            return Ok(Amended::Theirs);
        }
        let mut claim = found.clone();
        change(&mut claim);
        if claim == found {
            return Ok(Amended::Done);
        }
        claim.writer = writer(edges);
        if write(edges, export, &claim, Some(&etag)).await?.is_some() {
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
    amend(edges, &message.export, &message.chain, |claim| {
        if claim.attempt == attempt {
            claim.job = Some(job.clone());
        }
    })
    .await
}

/// Takes back an attempt that cost nothing. `false`: it stays spent.
pub(super) async fn refund<E: Edges>(edges: &E, message: &Message, attempt: u32) -> bool {
    let change = |claim: &mut Claim| {
        if claim.attempt == attempt + 1 && claim.job.is_none() {
            claim.attempt = attempt;
        }
    };
    let result = amend(edges, &message.export, &message.chain, change).await;
    matches!(result, Ok(Amended::Done))
}

/// Raises the hop after the next message was sent, and renews. A failure costs work at most: the
/// message has been sent.
pub(super) async fn advance<E: Edges>(
    edges: &E,
    export: &Export,
    chain: &ChainId,
    hop: u32,
    until: Time,
) {
    let change = |claim: &mut Claim| {
        if !claim.has_ended() {
            claim.hop = claim.hop.max(hop);
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
    use super::super::message::{Looking, Slice};
    use super::*;
    use crate::export::Event;

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
        let found = claim.map(|claim| (Some(claim), "e1".parse().unwrap()));
        match turn(message, found, now()) {
            Turn::Mine(_) => "mine",
            Turn::Free(None) => "free",
            Turn::Free(Some(_)) => "lapsed",
            Turn::Held(_) => "held",
            Turn::Overtaken => "overtaken",
        }
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
        let found = Some((None, "e1".parse().unwrap()));
        let turn = turn(&message(Work::Start), found, now());
        assert!(matches!(turn, Turn::Free(Some((None, _)))), "{turn:?}");
    }

    #[test]
    fn no_message_that_can_be_read_passes_a_chain_that_has_ended() {
        let mut claim = claim("mine");
        claim.end(now());
        let last = Message {
            attempt: MOST_ATTEMPTS,
            hop: MOST_HOPS + 1,
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
