//! The three stages: enqueue, poll, copy. Every decision of the system is made here.
//!
//! A stage reads and acts through [`Edges`] only, so the same code runs in the Lambda functions, in
//! one local process, and under a simulator that injects faults. What it decides from what it has
//! read is a pure function beside it.
//!
//! Safety never rests on a claim or on the order of messages: objects under `data/` are create-only,
//! and the manifest is written with a condition. Claims and hops only save work.

pub mod claim;
mod commit;
pub mod copy;
pub mod enqueue;
mod fragment;
pub mod pace;
pub mod poll;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::archive::{Archive, ArchiveError, PART_BYTES};
use crate::export::{Export, Invalid, JobId, Time};
use crate::kore::{ApiError, Kore};
use crate::queue::message::{ChainId, MOST_ATTEMPTS, MOST_HOPS, Message, Work};
use crate::queue::{DeadLetter, LONGEST_DELAY, Outgoing, Queue, QueueError};
pub(crate) use commit::hex;

/// The outside, as the stages see it.
pub trait Edges: Send + Sync {
    /// The vendor.
    type Kore: Kore;
    /// The store.
    type Archive: Archive;
    /// What carries messages.
    type Queue: Queue;

    /// The vendor.
    fn kore(&self) -> &Self::Kore;
    /// The store.
    fn archive(&self) -> &Self::Archive;
    /// What carries messages.
    fn queue(&self) -> &Self::Queue;
    /// What the decisions go by.
    fn rules(&self) -> &Rules;
    /// The memory that fragments in flight may take.
    fn budget(&self) -> &Budget;
    /// The wall clock.
    fn now(&self) -> Time;
    /// Random bits, for ids and jitter.
    fn random(&self) -> u64;
    /// Takes note of what happened to an export: for logs, metrics and progress.
    fn report(&self, export: &Export, report: Report);
}

/// What the decisions of poll and copy go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// A job whose percentage has not moved for this long is given up (`StallMinutes`).
    pub stall: Duration,
    /// A chain that started its first job this long ago is given up (`DeadlineHours`).
    pub deadline: Duration,
    /// How long one run of the poll stage can last.
    pub poll_limit: Duration,
    /// How long a claim outlives its last sign of life.
    pub lease: Lease,
}

/// How long a claim outlives its last sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// Until the next message has been due for so long that the queue has delivered it again: the
    /// message's delay plus the visibility time-out of its queue.
    Delivery {
        /// The poll queue's visibility time-out.
        poll: Duration,
        /// The copy queue's visibility time-out.
        copy: Duration,
    },
    /// This long; somebody renews it while the process lives ([`claim::renew`]).
    Renewed(Duration),
}

impl Lease {
    /// Until when a claim is good whose next message goes to a stage with a delay.
    fn until(self, now: Time, to: &Work, delay: Duration) -> Time {
        now.after(match (self, to) {
            (Self::Renewed(span), _) => span,
            (Self::Delivery { copy, .. }, Work::Copy(_)) => delay + copy,
            (Self::Delivery { poll, .. }, _) => delay + poll,
        })
    }
}

/// How much is taken on at once: the memory that fragments in flight may take, shared by all of them,
/// and the work of one message.
///
/// Each fragment in flight holds one part for certain; a second, to read ahead while the first one
/// is uploaded, only while there is room. So nothing waits while holding what others wait for.
#[derive(Debug, Clone)]
pub struct Budget {
    parts: Arc<Semaphore>,
    /// Memory of parts that are done with, kept for the next ones: pages that are touched for the first
    /// time cost as much as what is copied into them. It cannot grow beyond the most parts that were ever
    /// in flight together, because new memory is taken only where there is none here.
    spare: Arc<Mutex<Vec<BytesMut>>>,
    at_once: usize,
    part_bytes: usize,
    fragments_a_slice: usize,
}

/// About a minute's work: a fragment has tens of megabytes at most by default, and a function moves
/// about ten in a second.
const FRAGMENTS_A_SLICE: usize = 20;
/// A job with more fragments than fit into so many slices has larger ones: each slice looks the whole
/// job up and lists its receipts, which would otherwise cost the square of the fragments. With the most
/// files that a job may have, a slice has 200: at most some 60 KB of message, and a few minutes' work.
const MOST_SLICES: usize = 50;

impl Budget {
    /// A budget of so many bytes and so many fragments at once; at least one part and one fragment.
    pub fn new(bytes: usize, at_once: usize) -> Self {
        let parts = (bytes / PART_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            parts: Arc::new(Semaphore::new(parts)),
            spare: Arc::default(),
            at_once: at_once.clamp(1, parts),
            part_bytes: PART_BYTES,
            fragments_a_slice: FRAGMENTS_A_SLICE,
        }
    }

    /// The same in miniature, for a simulator whose fragments are tiny: so many bytes a part, so many
    /// fragments a slice, and never less than one of each.
    #[must_use]
    pub fn in_miniature(self, part_bytes: usize, fragments_a_slice: usize) -> Self {
        Self {
            part_bytes: part_bytes.max(1),
            fragments_a_slice: fragments_a_slice.max(1),
            ..self
        }
    }

    /// An empty part with room for so many bytes, of at most a part's.
    fn part(&self, bytes: usize) -> BytesMut {
        let used_before = self.spare().pop();
        used_before.unwrap_or_else(|| BytesMut::with_capacity(bytes))
    }

    /// Keeps the memory of a part that is done with, if it has room for a whole one.
    fn reuse(&self, part: Bytes) {
        // Only what nobody else holds a share of can be written to again.
        let Ok(mut part) = part.try_into_mut() else {
            return;
        };
        part.clear();
        if part.capacity() >= self.part_bytes {
            self.spare().push(part);
        }
    }

    fn spare(&self) -> MutexGuard<'_, Vec<BytesMut>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of a job's fragments one message takes on.
    fn fragments_a_slice(&self, of: usize) -> usize {
        self.fragments_a_slice.max(of.div_ceil(MOST_SLICES))
    }
}

/// What happened to an export.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// A job was started.
    Started {
        /// Its id.
        job: JobId,
        /// Which one of the chain, counted from 1.
        attempt: u32,
    },
    /// A job that an earlier chain started is carried on.
    Adopted {
        /// Its id.
        job: JobId,
    },
    /// A look found the job under way.
    Looked {
        /// How far it says it is.
        percent: Option<f64>,
    },
    /// The vendor answered with an error.
    HostTrouble(ApiError),
    /// Something passes, it is hoped: tried again after the delay.
    Delayed {
        /// How long.
        delay: Duration,
        /// What passes.
        why: String,
    },
    /// The job has succeeded; copying begins.
    Exported {
        /// Its id.
        job: JobId,
        /// How many files it has.
        files: u32,
        /// How many records it says they have.
        records: Option<u64>,
        /// How many looks it took.
        looks: u32,
        /// How long it took, as far as the looks can tell.
        took: Duration,
    },
    /// Bytes of a fragment have arrived.
    Arrived {
        /// How many.
        bytes: u64,
    },
    /// A fragment stands in the archive and has its receipt.
    Copied {
        /// Its number.
        number: u32,
        /// How many the job has.
        of: u32,
        /// Its length.
        bytes: u64,
        /// How many records it holds.
        records: u64,
        /// How long this took.
        took: Duration,
    },
    /// Something else came instead of a fragment, twice.
    Quarantined {
        /// Where it was put.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// A run of the copy stage has ended with fragments left.
    Continued {
        /// How many.
        left: usize,
    },
    /// A new job is needed.
    Restarting {
        /// Why.
        why: String,
    },
    /// The export was committed by this run.
    Committed {
        /// Files in the archive.
        files: u64,
        /// Records in them.
        records: u64,
        /// Bytes in them.
        bytes: u64,
        /// What a person should look at.
        discrepancies: Vec<String>,
        /// Since the chain first started a job.
        took: Duration,
    },
    /// The export was given up, and its start message put into the dead-letter queue.
    GaveUp {
        /// Why.
        reason: String,
    },
    /// There was nothing to do.
    Ended {
        /// Why.
        why: &'static str,
    },
}

/// How one message's work ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Another message carries the chain on.
    Continues,
    /// The export stands in the archive (in another version than `base`, for a replacement).
    Archived,
    /// Another chain is at work on it, until then at least.
    Held(Time),
    /// The message is a duplicate or was overtaken; its chain goes on elsewhere.
    Overtaken,
    /// The export was given up.
    GaveUp {
        /// Why.
        reason: String,
        /// Whether only a person can help: another chain would end like this one.
        for_a_person: bool,
    },
}

/// Why a message's work could not be done or handed on: the message must come again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StageError {
    /// The archive failed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Does one message's work. `limit` is when this run must have ended, where it must.
///
/// # Errors
/// When the archive refuses, or the queue fails: the message must be delivered again. Trouble of the
/// archive that passes is not an error: the message goes round.
pub async fn handle<E: Edges>(
    edges: &E,
    message: &Message,
    limit: Option<Instant>,
) -> Result<Outcome, StageError> {
    let now = edges.now();
    if let Some(due) = message.not_before.filter(|due| now < *due) {
        if let Some(reason) = exhausted(message, edges.rules(), now) {
            return give_up(edges, message, reason, false).await;
        }
        let wait = due.since(now);
        return send_after(edges, message.with(message.work.clone()), wait).await;
    }
    let result = match &message.work {
        Work::Copy(slice) => copy::run(edges, message, slice, limit).await,
        Work::Start => poll::start(edges, message).await,
        Work::Look(looking) => poll::look(edges, message, looking).await,
    };
    match result {
        Err(StageError::Archive(error @ ArchiveError::Unavailable { .. })) => {
            if let Some(reason) = exhausted(message, edges.rules(), edges.now()) {
                return give_up(edges, message, format!("{reason}; {error}"), false).await;
            }
            let delay = pace::weather(message.weathered, edges.random());
            let why = error.to_string();
            edges.report(&message.export, Report::Delayed { delay, why });
            let next = Message {
                weathered: message.weathered.saturating_add(1),
                ..message.with(message.work.clone())
            };
            send_after(edges, next, delay).await
        }
        other => other,
    }
}

/// Sends one message after a delay of any length: what exceeds the queue's longest is made of hops.
async fn send_after<E: Edges>(
    edges: &E,
    mut message: Message,
    delay: Duration,
) -> Result<Outcome, StageError> {
    message.not_before = (delay > LONGEST_DELAY).then(|| edges.now().after(delay));
    let delay = delay.min(LONGEST_DELAY);
    edges
        .queue()
        .send(vec![Outgoing { message, delay }])
        .await?;
    Ok(Outcome::Continues)
}

/// Sends one message after a delay, then renews the claim; a message of the poll stage overtakes what was
/// sent before it. The hops of copies are not fences: slices of one job go on side by side.
async fn carry_on<E: Edges>(
    edges: &E,
    message: Message,
    delay: Duration,
) -> Result<Outcome, StageError> {
    let (export, chain) = (message.export.clone(), message.chain.clone());
    let (attempt, hop) = (message.attempt, message.hop);
    let copies = matches!(message.work, Work::Copy(_));
    let until = edges.rules().lease.until(edges.now(), &message.work, delay);
    let outcome = send_after(edges, message, delay).await?;
    if copies {
        claim::prolong(edges, &export, &chain, until).await;
    } else {
        claim::advance(edges, &export, &chain, attempt, hop, until).await;
    }
    Ok(outcome)
}

/// After trouble: carries on with `next` after a delay, or gives up now where the chain would be over by
/// then, so that the reason tells the trouble.
async fn carry_on_despite<E: Edges>(
    edges: &E,
    message: &Message,
    next: Message,
    delay: Duration,
    why: String,
) -> Result<Outcome, StageError> {
    if let Some(reason) = over_by_then(edges, &next, delay, &why) {
        return give_up(edges, message, reason, false).await;
    }
    edges.report(&message.export, Report::Delayed { delay, why });
    carry_on(edges, next, delay).await
}

/// Where the chain would be over when its next message comes: that, and the trouble.
fn over_by_then<E: Edges>(edges: &E, next: &Message, delay: Duration, why: &str) -> Option<String> {
    let reason = exhausted(next, edges.rules(), edges.now().after(delay))?;
    Some(format!("{reason}; {why}"))
}

/// A new job for the chain, after a pause; or the end, after three.
async fn restart<E: Edges>(
    edges: &E,
    message: &Message,
    why: String,
) -> Result<Outcome, StageError> {
    restart_after(edges, message, why, None).await
}

/// The same, where the host asks for a pause.
async fn restart_after<E: Edges>(
    edges: &E,
    message: &Message,
    why: String,
    retry_after: Option<Duration>,
) -> Result<Outcome, StageError> {
    if message.attempt >= MOST_ATTEMPTS {
        let reason = format!("{MOST_ATTEMPTS} jobs were tried; the last one: {why}");
        return give_up(edges, message, reason, false).await;
    }
    let delay = pace::patient(retry_after, message.attempt, edges.random());
    let next = message.with(Work::Start);
    if let Some(reason) = over_by_then(edges, &next, delay, &why) {
        return give_up(edges, message, reason, false).await;
    }
    edges.report(&message.export, Report::Restarting { why });
    carry_on(edges, next, delay).await
}

/// Ends the chain: the export's start message goes where someone finds it, and the claim holds new
/// ticks off. If the dead letter cannot be sent, the message fails instead.
async fn give_up<E: Edges>(
    edges: &E,
    message: &Message,
    reason: String,
    for_a_person: bool,
) -> Result<Outcome, StageError> {
    let start = Message::start(
        message.export.clone(),
        new_chain(edges),
        message.base.clone(),
    );
    let letter = DeadLetter {
        start,
        reason: reason.clone(),
    };
    edges.queue().bury(letter).await?;
    claim::fail(edges, message).await;
    edges.report(
        &message.export,
        Report::GaveUp {
            reason: reason.clone(),
        },
    );
    Ok(Outcome::GaveUp {
        reason,
        for_a_person,
    })
}

/// Whether the chain has to end, and why.
fn exhausted(message: &Message, rules: &Rules, now: Time) -> Option<String> {
    let overdue = |first: &Time| now.since(*first) >= rules.deadline;
    if message.hop >= MOST_HOPS {
        Some(format!("{MOST_HOPS} messages were sent without an end"))
    } else if let Some(first) = message.first_start.filter(overdue) {
        let hours = rules.deadline.as_secs_f64() / 3600.0;
        Some(format!(
            "not archived within {hours} hours after the first job was started at {first}"
        ))
    } else {
        None
    }
}

/// A fresh chain's id: 128 random bits.
pub(crate) fn new_chain<E: Edges>(edges: &E) -> ChainId {
    let text = format!("{:016x}{:016x}", edges.random(), edges.random());
    text.parse()
        .unwrap_or_else(|_: Invalid| unreachable!("32 hex digits are a chain's id"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::Event;
    use crate::queue::message::{Looking, Slice};

    fn now() -> Time {
        "2025-01-27T06:00:00Z".parse().unwrap()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_memory_of_a_whole_part_is_used_again_once_nobody_holds_a_share_of_it() {
        let budget = Budget::new(0, 1).in_miniature(100, 1);
        let mut part = budget.part(100);
        part.extend_from_slice(&[b'x'; 70]);
        let memory = part.as_ptr();
        let bytes = part.freeze();
        let share = bytes.clone();
        budget.reuse(bytes);
        budget.reuse(BytesMut::with_capacity(99).freeze());
        assert!(budget.spare().is_empty());
        budget.reuse(share);
        let again = budget.part(10);
        assert_eq!((again.as_ptr(), again.len()), (memory, 0));
        assert!(budget.spare().is_empty());
    }

    #[test]
    fn a_claim_outlives_the_delivery_of_the_next_message_or_as_long_as_it_is_renewed() {
        let looking = Work::Look(Looking {
            id: "fj-1".parse().unwrap(),
            started_at: now(),
            looks: 0,
            percent: None,
            moved_at: now(),
            puzzled: 0,
            unanswered: 0,
        });
        let copying = Work::Copy(Slice {
            job: "fj-1".parse().unwrap(),
            of: 1,
            fragments: Vec::new(),
            fruitless: 0,
            troubled: 0,
        });
        let delivery = Lease::Delivery {
            poll: seconds(60),
            copy: seconds(5_400),
        };
        let renewed = Lease::Renewed(seconds(30));
        for (lease, work, span) in [
            (delivery, Work::Start, 360),
            (delivery, looking, 360),
            (delivery, copying.clone(), 5_700),
            (renewed, Work::Start, 30),
            (renewed, copying, 30),
        ] {
            let until = lease.until(now(), &work, seconds(300));
            assert_eq!(until, now().after(seconds(span)), "{lease:?} {work:?}");
        }
    }

    #[test]
    fn a_chain_ends_after_its_deadline_or_its_last_hop() {
        let rules = Rules {
            stall: seconds(7_200),
            deadline: seconds(36 * 3_600),
            poll_limit: seconds(30),
            lease: Lease::Renewed(seconds(30)),
        };
        let export = Export {
            app: "st-1".parse().unwrap(),
            event: Event::All,
            week: "2025-01-20".parse().unwrap(),
        };
        let chain: ChainId = "c-1".parse().unwrap();
        for (hop, started_ago, words) in [
            (0, None, None),
            (MOST_HOPS - 1, None, None),
            (MOST_HOPS, None, Some("2000 messages")),
            (1, Some(36 * 3_600 - 1), None),
            (
                1,
                Some(36 * 3_600),
                Some("not archived within 36 hours after"),
            ),
        ] {
            let message = Message {
                hop,
                first_start: started_ago.map(|span| now().before(seconds(span))),
                ..Message::start(export.clone(), chain.clone(), None)
            };
            let reason = exhausted(&message, &rules, now());
            match words {
                None => assert_eq!(reason, None, "{hop} {started_ago:?}"),
                Some(words) => assert!(
                    reason.as_ref().is_some_and(|reason| reason.contains(words)),
                    "{hop} {started_ago:?}: {reason:?}"
                ),
            }
        }
    }

    #[test]
    fn a_slice_is_a_minutes_work_until_a_job_would_have_more_than_fifty() {
        let budget = Budget::new(0, 1);
        for (of, a_slice) in [
            (1, 20),
            (20, 20),
            (1_000, 20),
            (1_001, 21),
            (3_000, 60),
            (10_000, 200),
        ] {
            assert_eq!(budget.fragments_a_slice(of), a_slice, "{of}");
            assert!(of.div_ceil(a_slice) <= MOST_SLICES, "{of}");
        }
    }
}
