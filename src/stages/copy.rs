//! The copy stage: every fragment of a slice into the archive; who completes the set commits.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio::time::Instant;

use super::claim::{self, Turn};
use super::commit::{self, Wanted};
use super::fragment::{self, Ended};
use super::poll::{held, overtaken};
use super::{
    Edges, Outcome, Report, StageError, carry_on, carry_on_despite, exhausted, give_up, pace,
    restart,
};
use crate::archive::key::{self, Part, Place};
use crate::archive::manifest::JobFacts;
use crate::archive::receipt::Receipt;
use crate::archive::{Archive as _, ArchiveError, Key};
use crate::kore::job::{File, Job, Status};
use crate::kore::{ApiError, Kore as _};
use crate::queue::message::{Fragment, Message, Slice, Work};

/// A run takes no new fragment when less than this is left to it.
const STOP_TAKING: Duration = Duration::from_secs(60);
/// A run cuts off what has not arrived when less than this is left to it.
const CUT: Duration = Duration::from_secs(20);
/// Runs in a row without one finished fragment.
const MOST_FRUITLESS: u32 = 2;
/// How many receipts are read at once to commit.
const RECEIPTS_AT_ONCE: usize = 32;

/// How the fragments of a slice ended, in one run.
#[derive(Default)]
struct Tally {
    /// By number: those that stand.
    stands: BTreeMap<u32, Receipt>,
    /// Left for a later run.
    left: Vec<Fragment>,
    /// What passes, it is hoped, and how long to wait at least.
    trouble: Option<(String, Option<Duration>)>,
    /// Links that were refused, and how.
    refused: Vec<(Fragment, String)>,
    /// Why a new job is needed.
    new_job: Option<String>,
    /// Why a person is needed.
    forbidden: Option<String>,
}

/// Copies one slice.
pub(super) async fn run<E: Edges>(
    edges: &E,
    message: &Message,
    slice: &Slice,
    limit: Option<Instant>,
) -> Result<Outcome, StageError> {
    if let Wanted::No(outcome) = commit::wanted(edges, message).await? {
        return Ok(outcome);
    }
    let now = edges.now();
    let until = edges
        .rules()
        .lease
        .until(now, &message.work, Duration::ZERO);
    match claim::turn(message, claim::read(edges, &message.export).await?, now) {
        Turn::Held(until) => return Ok(held(edges, message, until)),
        Turn::Overtaken => return Ok(overtaken(edges, message)),
        Turn::Mine(_) => {
            let (export, chain) = (&message.export, &message.chain);
            claim::prolong(edges, export, chain, until).await;
        }
        Turn::Free(_) => {}
    }
    if let Some(reason) = exhausted(message, edges.rules(), now) {
        return give_up(edges, message, reason, false).await;
    }
    let mut job = match looked_up(edges, message, slice).await {
        Ok(job) => job,
        Err(unusable) => {
            let left = slice.fragments.clone();
            return unusable.end(edges, message, slice, left).await;
        }
    };
    let standing = numbers_with_receipts(edges, message, slice).await?;
    let (there, missing): (Vec<_>, Vec<_>) = slice
        .fragments
        .iter()
        .cloned()
        .partition(|f| standing.contains(&f.number));
    let mut tally = Tally::default();
    let had = there.len();
    for (number, receipt) in read_receipts(
        edges,
        message,
        slice,
        there.iter().map(|f| f.number).collect(),
    )
    .await?
    {
        match receipt {
            Ok(receipt) => drop(tally.stands.insert(number, receipt)),
            Err(why) => return restart(edges, message, why).await,
        }
    }
    let files = by_id(&job);
    copy_all(edges, message, slice, &files, missing, limit, &mut tally).await?;
    if !tally.refused.is_empty() && !tally.must_stop() {
        // Links expire: a fresh look has fresh ones.
        let again: Vec<_> = tally
            .refused
            .drain(..)
            .map(|(fragment, _)| fragment)
            .collect();
        job = match looked_up(edges, message, slice).await {
            Ok(job) => job,
            Err(unusable) => {
                tally.left.extend(again);
                return unusable.end(edges, message, slice, tally.left).await;
            }
        };
        let files = by_id(&job);
        copy_all(edges, message, slice, &files, again, limit, &mut tally).await?;
    }
    // What is worst decides.
    if let Some(reason) = tally.forbidden {
        return give_up(edges, message, reason, true).await;
    }
    if let Some(why) = tally.new_job {
        return restart(edges, message, why).await;
    }
    if let Some((fragment, why)) = tally.refused.first() {
        let (number, of) = (fragment.number, slice.of);
        let why = format!("fragment {number} of {of} cannot be had: {why}");
        return restart(edges, message, why).await;
    }
    if let Some((why, wait)) = tally.trouble {
        return later(edges, message, slice, tally.left, why, wait).await;
    }
    if !tally.left.is_empty() {
        let fruitful = tally.stands.len() > had;
        return out_of_time(edges, message, slice, tally.left, fruitful).await;
    }
    complete(edges, message, slice, &job, tally.stands).await
}

impl Tally {
    fn must_stop(&self) -> bool {
        self.new_job.is_some() || self.forbidden.is_some()
    }
}

/// Why a job's files cannot be had now.
enum Unusable {
    Later(String, Option<Duration>),
    Restart(String),
    GiveUp(String),
}

impl Unusable {
    /// What becomes of the slice, of which these fragments are left.
    async fn end<E: Edges>(
        self,
        edges: &E,
        message: &Message,
        slice: &Slice,
        left: Vec<Fragment>,
    ) -> Result<Outcome, StageError> {
        match self {
            Self::Later(why, wait) => later(edges, message, slice, left, why, wait).await,
            Self::Restart(why) => restart(edges, message, why).await,
            Self::GiveUp(reason) => give_up(edges, message, reason, true).await,
        }
    }
}

/// Looks the job up: its links, fresh.
async fn looked_up<E: Edges>(edges: &E, message: &Message, slice: &Slice) -> Result<Job, Unusable> {
    let answer = edges.kore().look(&message.export.app, &slice.job).await;
    if let Err(error) = &answer {
        edges.report(&message.export, Report::HostTrouble(error.clone()));
    }
    usable(answer, slice)
}

/// Whether a job's answer has the files of the slice. Pure.
fn usable(answer: Result<Job, ApiError>, slice: &Slice) -> Result<Job, Unusable> {
    let job = match answer {
        Ok(job) => job,
        Err(ApiError::Gone { .. }) => {
            return Err(Unusable::Restart(format!("the job {} is gone", slice.job)));
        }
        Err(error @ (ApiError::Unauthorized { .. } | ApiError::Rejected { .. })) => {
            return Err(Unusable::GiveUp(error.to_string()));
        }
        Err(error) => {
            let wait = match &error {
                ApiError::Limited { retry_after, .. } | ApiError::Unclear { retry_after, .. } => {
                    *retry_after
                }
                _ => None,
            };
            return Err(Unusable::Later(error.to_string(), wait));
        }
    };
    let says = |words: String| {
        Err(Unusable::Restart(format!(
            "the job {} had succeeded, and now {words}",
            job.id
        )))
    };
    if job.status != Status::Success {
        return says("has not".to_owned());
    }
    if job.files.len() != slice.of as usize {
        return says(format!(
            "names {} files instead of {}",
            job.files.len(),
            slice.of
        ));
    }
    let files = by_id(&job);
    if files.len() != job.files.len() {
        return says("names a file twice".to_owned());
    }
    match slice
        .fragments
        .iter()
        .find(|fragment| !files.contains_key(fragment.file_id.as_str()))
    {
        Some(fragment) => says(format!("no longer names the file {:?}", fragment.file_id)),
        None => Ok(job),
    }
}

fn by_id(job: &Job) -> HashMap<&str, &File> {
    job.files
        .iter()
        .map(|file| (file.id.as_str(), file))
        .collect()
}

/// Copies fragments, several at a time within the budget.
async fn copy_all<E: Edges>(
    edges: &E,
    message: &Message,
    slice: &Slice,
    files: &HashMap<&str, &File>,
    fragments: Vec<Fragment>,
    limit: Option<Instant>,
    tally: &mut Tally,
) -> Result<(), StageError> {
    let stop_taking = limit.and_then(|limit| limit.checked_sub(STOP_TAKING));
    let cut = limit.and_then(|limit| limit.checked_sub(CUT));
    let budget = edges.budget();
    let copies = fragments.into_iter().map(|fragment| async move {
        // Closed by nobody.
        let _part = budget.parts.acquire().await;
        if stop_taking.is_some_and(|stop| Instant::now() >= stop) {
            return (fragment, Ok(Ended::OutOfTime));
        }
        let file = files.get(fragment.file_id.as_str()).copied();
        let part = Part::new(fragment.number, slice.of);
        let (Some(file), Ok(part)) = (file, part) else {
            let why = "the job no longer names one of its files".to_owned();
            return (fragment, Ok(Ended::NewJob(why)));
        };
        let source = fragment::Source {
            export: &message.export,
            job: &slice.job,
            part,
            file,
            cut,
        };
        let ended = fragment::copy(edges, &source).await;
        (fragment, ended)
    });
    let mut copies = stream::iter(copies).buffer_unordered(budget.at_once);
    let mut refusal = None;
    while let Some((fragment, ended)) = copies.next().await {
        match ended {
            Ok(ended) => tally.add(fragment, ended),
            Err(error) => {
                refusal = Some(error);
                break;
            }
        }
        if tally.must_stop() {
            break;
        }
    }
    refusal.map_or(Ok(()), |error: ArchiveError| Err(error.into()))
}

impl Tally {
    fn add(&mut self, fragment: Fragment, ended: Ended) {
        match ended {
            Ended::Stands(receipt) => drop(self.stands.insert(fragment.number, receipt)),
            Ended::OutOfTime => self.left.push(fragment),
            Ended::LinkRefused(why) => self.refused.push((fragment, why)),
            Ended::NewJob(why) => self.new_job = Some(why),
            Ended::Forbidden(why) => self.forbidden = Some(why),
            Ended::Troubled { why, retry_after } => {
                let longest = self
                    .trouble
                    .take()
                    .and_then(|(_, wait)| wait)
                    .max(retry_after);
                self.trouble = Some((why, longest));
                self.left.push(fragment);
            }
        }
    }
}

/// The rest of the slice, after a pause.
async fn later<E: Edges>(
    edges: &E,
    message: &Message,
    slice: &Slice,
    left: Vec<Fragment>,
    why: String,
    wait: Option<Duration>,
) -> Result<Outcome, StageError> {
    let delay = pace::patient(wait, slice.troubled, edges.random());
    let rest = Slice {
        fragments: left,
        troubled: slice.troubled.saturating_add(1),
        ..slice.clone()
    };
    let next = message.with(Work::Copy(rest));
    carry_on_despite(edges, message, next, delay, why).await
}

/// The rest of the slice, for a run of its own.
async fn out_of_time<E: Edges>(
    edges: &E,
    message: &Message,
    slice: &Slice,
    left: Vec<Fragment>,
    fruitful: bool,
) -> Result<Outcome, StageError> {
    let fruitless = if fruitful { 0 } else { slice.fruitless + 1 };
    if fruitless >= MOST_FRUITLESS {
        let reason = format!(
            "{MOST_FRUITLESS} runs in a row could not copy one fragment in the time they have"
        );
        return give_up(edges, message, reason, false).await;
    }
    edges.report(&message.export, Report::Continued { left: left.len() });
    let rest = Slice {
        fragments: left,
        fruitless,
        troubled: 0,
        ..slice.clone()
    };
    carry_on(edges, message.with(Work::Copy(rest)), Duration::ZERO).await
}

/// The slice is done. Where every fragment of the job has a receipt, commits.
async fn complete<E: Edges>(
    edges: &E,
    message: &Message,
    slice: &Slice,
    job: &Job,
    mut stands: BTreeMap<u32, Receipt>,
) -> Result<Outcome, StageError> {
    if stands.len() < slice.of as usize {
        let numbers = numbers_with_receipts(edges, message, slice).await?;
        if numbers.len() < slice.of as usize {
            // Another slice is at work, and will come here.
            return Ok(Outcome::Continues);
        }
        let others = numbers
            .into_iter()
            .filter(|number| !stands.contains_key(number));
        let others: Vec<_> = others.collect();
        for (number, receipt) in read_receipts(edges, message, slice, others).await? {
            match receipt {
                Ok(receipt) => drop(stands.insert(number, receipt)),
                Err(why) => return restart(edges, message, why).await,
            }
        }
    }
    // A file may have been copied by another run, from another answer about the job.
    let files = by_id(job);
    if let Some(other) = stands
        .values()
        .find(|receipt| !files.contains_key(receipt.file_id.as_str()))
    {
        let why = format!(
            "{} holds the file {:?}, which the job no longer names",
            other.key, other.file_id
        );
        return restart(edges, message, why).await;
    }
    let receipts: Vec<_> = stands.into_values().collect();
    let facts = JobFacts {
        id: slice.job.clone(),
        created_on: job.created_on.clone(),
    };
    commit::commit(edges, message, facts, job.totals, &receipts).await
}

/// Which fragments of the job stand in the archive.
async fn numbers_with_receipts<E: Edges>(
    edges: &E,
    message: &Message,
    slice: &Slice,
) -> Result<BTreeSet<u32>, StageError> {
    let mut numbers = BTreeSet::new();
    let prefix = key::receipts_of(&message.export, &slice.job);
    let note = |listed: crate::archive::Listed| {
        if let Ok(Place::Receipt(_, _, part)) = listed.key.parse()
            && part.of() == slice.of
        {
            numbers.insert(part.number());
        }
    };
    edges.archive().list(&prefix, note).await?;
    Ok(numbers)
}

/// Reads receipts, several at once. What is not one is said in words.
async fn read_receipts<E: Edges>(
    edges: &E,
    message: &Message,
    slice: &Slice,
    numbers: Vec<u32>,
) -> Result<Vec<(u32, Result<Receipt, String>)>, StageError> {
    let reads = numbers.into_iter().map(|number| async move {
        let part = match Part::new(number, slice.of) {
            Ok(part) => part,
            Err(error) => return Ok((number, Err(error.to_string()))),
        };
        let key = Key::receipt(&message.export, &slice.job, part);
        let receipt = match edges.archive().get(&key).await? {
            None => Err(format!("{key} was listed and is gone")),
            Some(stored) => Receipt::read(&stored.bytes, &message.export, &slice.job, part)
                .map_err(|why| format!("{key}: {why}")),
        };
        Ok((number, receipt))
    });
    let reads: Vec<Result<_, StageError>> = stream::iter(reads)
        .buffer_unordered(RECEIPTS_AT_ONCE)
        .collect()
        .await;
    reads.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kore::job::{FileUrl, Totals};

    fn job(status: Status, ids: &[&str]) -> Job {
        let file = |id: &&str| File {
            id: (*id).to_owned(),
            name: None,
            url: FileUrl::new("https://h/f"),
            records: None,
        };
        Job {
            id: "fj-1".parse().unwrap(),
            status,
            percent: None,
            created_on: None,
            files: ids.iter().map(file).collect(),
            totals: Totals::default(),
        }
    }

    fn slice() -> Slice {
        let fragment = |(number, id): (u32, &str)| Fragment {
            number,
            file_id: id.to_owned(),
        };
        Slice {
            job: "fj-1".parse().unwrap(),
            of: 3,
            fragments: [(1, "a"), (2, "b")].map(fragment).to_vec(),
            fruitless: 0,
            troubled: 0,
        }
    }

    fn verdict(answer: Result<Job, ApiError>) -> &'static str {
        match usable(answer, &slice()) {
            Ok(_) => "usable",
            Err(Unusable::Later(..)) => "later",
            Err(Unusable::Restart(_)) => "restart",
            Err(Unusable::GiveUp(_)) => "give up",
        }
    }

    #[test]
    fn a_job_is_copied_only_while_it_names_the_files_of_the_slice_and_as_many_as_before() {
        for (ids, expected) in [
            (&["a", "b", "c"][..], "usable"),
            // An order that changes between looks does no harm.
            (&["c", "b", "a"], "usable"),
            (&["a", "b", "d"], "usable"),
            (&["a", "c", "d"], "restart"),
            (&["a", "b"], "restart"),
            (&["a", "b", "c", "d"], "restart"),
            (&["a", "b", "b"], "restart"),
            (&[], "restart"),
        ] {
            assert_eq!(verdict(Ok(job(Status::Success, ids))), expected, "{ids:?}");
        }
        let failed = Status::Failed("FAILED".to_owned());
        for status in [Status::Running, failed] {
            let job = job(status, &["a", "b", "c"]);
            assert_eq!(verdict(Ok(job.clone())), "restart", "{:?}", job.status);
        }
    }

    #[test]
    fn an_answer_without_a_job_costs_a_pause_a_job_or_the_chain() {
        let request = || "GET job".to_owned();
        let detail = || "words".to_owned();
        for (error, expected) in [
            (
                ApiError::Limited {
                    request: request(),
                    retry_after: None,
                },
                "later",
            ),
            (
                ApiError::Unreachable {
                    request: request(),
                    detail: detail(),
                },
                "later",
            ),
            (
                ApiError::Unclear {
                    request: request(),
                    detail: detail(),
                    retry_after: None,
                },
                "later",
            ),
            (ApiError::Gone { request: request() }, "restart"),
            (
                ApiError::Unauthorized {
                    request: request(),
                    detail: detail(),
                },
                "give up",
            ),
            (
                ApiError::Rejected {
                    request: request(),
                    detail: detail(),
                },
                "give up",
            ),
        ] {
            assert_eq!(verdict(Err(error.clone())), expected, "{error}");
        }
    }

    #[test]
    fn a_wait_that_an_answer_asks_for_is_kept() {
        let (request, detail) = ("GET job".to_owned(), "words".to_owned());
        for retry_after in [None, Some(Duration::from_mins(7))] {
            for error in [
                ApiError::Limited {
                    request: request.clone(),
                    retry_after,
                },
                ApiError::Unclear {
                    request: request.clone(),
                    detail: detail.clone(),
                    retry_after,
                },
            ] {
                let usable = usable(Err(error), &slice());
                let waits = matches!(usable, Err(Unusable::Later(_, wait)) if wait == retry_after);
                assert!(waits, "{retry_after:?}");
            }
        }
    }
}
