//! The poll stage: start the job, look at it, come back until it has succeeded.

use std::time::Duration;

use super::claim::{self, Amended, Claim, Take, Turn};
use super::commit::{self, Wanted};
use super::{
    Edges, Outcome, Report, Rules, StageError, carry_on, carry_on_despite, exhausted, give_up,
    pace, restart, restart_after, send_after,
};
use crate::archive::manifest::JobFacts;
use crate::export::{JobId, Time};
use crate::kore::job::{Job, Status};
use crate::kore::{ApiError, Kore as _};
use crate::queue::message::{Fragment, Looking, MOST_ATTEMPTS, Message, Slice, Work};
use crate::queue::{Outgoing, Queue as _};

/// How often in a row an answer that makes no sense is looked at again before it counts: with the
/// backoff, about five minutes.
const MOST_PUZZLED: u32 = 6;

/// No job yet: win the claim, start one, send the message that looks at it.
pub(super) async fn start<E: Edges>(edges: &E, message: &Message) -> Result<Outcome, StageError> {
    if let Wanted::No(outcome) = commit::wanted(edges, message).await? {
        return Ok(outcome);
    }
    let now = edges.now();
    let found = match claim::turn(message, claim::read(edges, &message.export).await?, now) {
        Turn::Held(until) => return Ok(held(edges, message, until)),
        Turn::Overtaken => return Ok(overtaken(edges, message)),
        Turn::Mine(found) => Some(found),
        Turn::Free(found) => found,
    };
    if let Some(reason) = exhausted(message, edges.rules(), now) {
        return give_up(edges, message, reason, false).await;
    }
    let claim = found.as_ref().and_then(|found| found.claim.as_ref());
    match opening(message, claim, now, edges.rules().poll_limit) {
        Opening::CarryOn { job, attempt } => {
            edges.report(&message.export, Report::Adopted { job: job.clone() });
            let message = Message {
                attempt,
                ..message.clone()
            };
            // The look takes the claim: if this run is cut off here, the job is still found in it.
            look_next(edges, &message, job).await
        }
        Opening::Wait(wait) => send_after(edges, message.clone(), wait).await,
        Opening::GiveUp => {
            let reason =
                format!("{MOST_ATTEMPTS} jobs were started; of the last nothing was heard");
            give_up(edges, message, reason, false).await
        }
        Opening::StartAfter(spent) => {
            let lease = edges.rules().lease;
            let take = Take {
                attempt: spent + 1,
                job: None,
                until: lease.until(now, &message.work, Duration::ZERO),
            };
            match claim::take(edges, message, found.as_ref(), take).await? {
                Some(_) => start_job(edges, message, spent).await,
                None => again(edges, message).await,
            }
        }
    }
}

/// What a start message does whose turn it is.
#[derive(Debug, PartialEq)]
enum Opening {
    /// There is a job already: look at it.
    CarryOn { job: JobId, attempt: u32 },
    /// Another delivery of the message may be starting it.
    Wait(Duration),
    /// Start a job, by the attempt after so many.
    StartAfter(u32),
    /// There are no attempts left.
    GiveUp,
}

/// Decides what a start message does with the claim that it has found: its own chain's, or one that has
/// lapsed. `limit` is how long a run of the stage may take. Pure.
fn opening(message: &Message, claim: Option<&Claim>, now: Time, limit: Duration) -> Opening {
    let mine = claim.filter(|claim| claim.chain == message.chain);
    // This very message, or another delivery of it, has won a later attempt and was cut off before it
    // could send the next one.
    let resumed = mine.filter(|claim| claim.attempt > message.attempt);
    let attempt = resumed.map_or(message.attempt, |claim| claim.attempt);
    // A dead chain's job will do, too; but what is to be replaced may be that very job's.
    let dead = claim.filter(|_| mine.is_none() && message.base.is_none());
    if let Some(job) = resumed.or(dead).and_then(|claim| claim.job.clone()) {
        return Opening::CarryOn { job, attempt };
    }
    // Somebody may be starting the job this very moment; after one function limit, nobody is.
    let since = resumed.map_or(limit, |claim| now.since(claim.tried_at));
    if since < limit {
        Opening::Wait(limit.saturating_sub(since))
    } else if attempt >= MOST_ATTEMPTS {
        Opening::GiveUp
    } else {
        Opening::StartAfter(attempt)
    }
}

/// The claim is won with the attempt after `spent`: start the job.
async fn start_job<E: Edges>(
    edges: &E,
    message: &Message,
    spent: u32,
) -> Result<Outcome, StageError> {
    let attempt = spent + 1;
    let error = match edges.kore().start(&message.export).await {
        Ok(job) => {
            let started = Report::Started {
                job: job.id.clone(),
                attempt,
            };
            edges.report(&message.export, started);
            match claim::note_job(edges, message, attempt, &job.id).await {
                Ok(Amended::Theirs) => return Ok(overtaken(edges, message)),
                // By another delivery of this message, on a clock that is ahead. Whether that run lives
                // is not known; this one's message would end at the attempt.
                Ok(Amended::Later) => return again(edges, message).await,
                Ok(Amended::Done) => {}
                // The next message carries the id as well, and only a run that is cut off right here
                // loses the job. To stop here would lose it for certain.
                Ok(Amended::Lost) | Err(_) => {
                    let (export, job) = (&message.export, &job.id);
                    tracing::warn!(%export, %job, "the job {job} could not be noted in the claim of {export}");
                }
            }
            return look_next(
                edges,
                &Message {
                    attempt,
                    ..message.clone()
                },
                job.id,
            )
            .await;
        }
        Err(error) => error,
    };
    edges.report(&message.export, Report::HostTrouble(error.clone()));
    match error {
        ApiError::Limited { retry_after, .. } => {
            free(edges, message, spent, retry_after, error.to_string()).await
        }
        ApiError::Unreachable { .. } => free(edges, message, spent, None, error.to_string()).await,
        ApiError::Unclear { retry_after, .. } => {
            let spent = Message {
                attempt,
                ..message.clone()
            };
            restart_after(edges, &spent, error.to_string(), retry_after).await
        }
        ApiError::Unauthorized { .. } | ApiError::Rejected { .. } | ApiError::Gone { .. } => {
            give_up(edges, message, error.to_string(), true).await
        }
    }
}

/// The job was not started for certain: the attempt is taken back, and the message comes again.
async fn free<E: Edges>(
    edges: &E,
    message: &Message,
    spent: u32,
    retry_after: Option<Duration>,
    why: String,
) -> Result<Outcome, StageError> {
    let refunded = claim::refund(edges, message, spent).await;
    let attempt = if refunded { spent } else { spent + 1 };
    let now = edges.now();
    let first_start = message.first_start.unwrap_or(now);
    let delay = pace::turned_away(retry_after, now.since(first_start), edges.random());
    let next = Message {
        attempt,
        first_start: Some(first_start),
        ..message.with(Work::Start)
    };
    carry_on_despite(edges, message, next, delay, why).await
}

/// The job runs: send the message that looks at it for the first time.
async fn look_next<E: Edges>(
    edges: &E,
    message: &Message,
    job: JobId,
) -> Result<Outcome, StageError> {
    let now = edges.now();
    let looking = Looking {
        id: job,
        started_at: now,
        looks: 0,
        percent: None,
        moved_at: now,
        puzzled: 0,
        unanswered: 0,
    };
    let next = Message {
        first_start: message.first_start.or(Some(now)),
        ..message.with(Work::Look(looking))
    };
    carry_on(edges, next, pace::first_look()).await
}

/// There is a job: look at it.
pub(super) async fn look<E: Edges>(
    edges: &E,
    message: &Message,
    looking: &Looking,
) -> Result<Outcome, StageError> {
    if let Wanted::No(outcome) = commit::wanted(edges, message).await? {
        return Ok(outcome);
    }
    let now = edges.now();
    match claim::turn(message, claim::read(edges, &message.export).await?, now) {
        Turn::Held(until) => return Ok(held(edges, message, until)),
        Turn::Overtaken => return Ok(overtaken(edges, message)),
        Turn::Mine(_) => {}
        Turn::Free(found) => {
            let take = Take {
                attempt: message.attempt,
                job: Some(looking.id.clone()),
                until: edges
                    .rules()
                    .lease
                    .until(now, &message.work, Duration::ZERO),
            };
            let taken = claim::take(edges, message, found.as_ref(), take).await?;
            if taken.is_none() {
                return again(edges, message).await;
            }
        }
    }
    if let Some(reason) = exhausted(message, edges.rules(), now) {
        return give_up(edges, message, reason, false).await;
    }
    let answer = edges.kore().look(&message.export.app, &looking.id).await;
    match &answer {
        Ok(job) => edges.report(
            &message.export,
            Report::Looked {
                percent: job.percent,
            },
        ),
        Err(error) => edges.report(&message.export, Report::HostTrouble(error.clone())),
    }
    let trouble = answer.as_ref().err().map(ToString::to_string);
    // The look may have taken a while.
    let now = edges.now();
    match decide(looking, answer, now, edges.rules(), edges.random()) {
        Decision::Again { looking, delay } => {
            let puzzle = "the job has succeeded, and its files and totals do not agree";
            let puzzle = (looking.puzzled > 0).then(|| puzzle.to_owned());
            let next = message.with(Work::Look(looking));
            match trouble.or(puzzle) {
                Some(why) => carry_on_despite(edges, message, next, delay, why).await,
                None => carry_on(edges, next, delay).await,
            }
        }
        Decision::Copy(job) => {
            let exported = Report::Exported {
                job: job.id.clone(),
                files: u32::try_from(job.files.len()).unwrap_or(u32::MAX),
                records: job.totals.records,
                looks: looking.looks + 1,
                took: now.since(looking.started_at),
            };
            edges.report(&message.export, exported);
            send_slices(edges, message, &job).await
        }
        Decision::CommitEmpty(job) => {
            let facts = JobFacts {
                id: job.id,
                created_on: job.created_on,
            };
            commit::commit(edges, message, facts, job.totals, &[]).await
        }
        Decision::Restart(why) => restart(edges, message, why).await,
        Decision::GiveUp(reason) => give_up(edges, message, reason, true).await,
    }
}

/// What follows from a look.
#[derive(Debug, Clone, PartialEq)]
enum Decision {
    /// Come back.
    Again { looking: Looking, delay: Duration },
    /// Its files are ready.
    Copy(Job),
    /// It has succeeded, and there is nothing.
    CommitEmpty(Job),
    /// A new job is needed.
    Restart(String),
    /// A person is needed.
    GiveUp(String),
}

/// Decides what follows from a look. Pure.
fn decide(
    looking: &Looking,
    answer: Result<Job, ApiError>,
    now: Time,
    rules: &Rules,
    random: u64,
) -> Decision {
    let mut next = Looking {
        looks: looking.looks.saturating_add(1),
        ..looking.clone()
    };
    let job = match answer {
        Ok(job) => job,
        Err(ApiError::Gone { .. }) => {
            return Decision::Restart(format!("the job {} is gone", looking.id));
        }
        Err(error @ (ApiError::Unauthorized { .. } | ApiError::Rejected { .. })) => {
            return Decision::GiveUp(error.to_string());
        }
        Err(ApiError::Limited { retry_after, .. } | ApiError::Unclear { retry_after, .. }) => {
            return unanswered(next, retry_after, random);
        }
        Err(ApiError::Unreachable { .. }) => return unanswered(next, None, random),
    };
    next.unanswered = 0;
    match &job.status {
        Status::Failed(words) => {
            Decision::Restart(format!("the job {} has failed: {words}", job.id))
        }
        Status::Running => {
            next.puzzled = 0;
            if job.percent != looking.percent && job.percent.is_some() {
                next.percent = job.percent;
                next.moved_at = now;
            }
            let still = now.since(next.moved_at);
            if still >= rules.stall {
                let minutes = still.as_secs() / 60;
                return Decision::Restart(format!(
                    "the job {} has not moved for {minutes} minutes",
                    job.id
                ));
            }
            let delay = pace::next_look(now.since(looking.started_at), job.percent, random);
            // However long it may still take, one that stops moving is noticed in time.
            let delay = delay.min(rules.stall);
            Decision::Again {
                looking: next,
                delay,
            }
        }
        Status::Success => match puzzle(&job) {
            None if job.files.is_empty() => Decision::CommitEmpty(job),
            None => Decision::Copy(job),
            Some(_) if next.puzzled < MOST_PUZZLED => {
                let delay = pace::backoff(next.puzzled, random);
                next.puzzled += 1;
                Decision::Again {
                    looking: next,
                    delay,
                }
            }
            Some(Puzzle::NothingSaid) => Decision::CommitEmpty(job),
            Some(Puzzle::Contradiction(words)) => Decision::Restart(words),
        },
    }
}

fn unanswered(mut next: Looking, retry_after: Option<Duration>, random: u64) -> Decision {
    let delay = pace::patient(retry_after, next.unanswered, random);
    next.unanswered = next.unanswered.saturating_add(1);
    Decision::Again {
        looking: next,
        delay,
    }
}

/// What is odd about a success.
enum Puzzle {
    /// No file and no totals: empty, or not ready.
    NothingSaid,
    /// Files and totals contradict each other.
    Contradiction(String),
}

fn puzzle(job: &Job) -> Option<Puzzle> {
    let files = job.files.len() as u64;
    let says = |words: String| {
        Some(Puzzle::Contradiction(format!(
            "the job {} has succeeded, but {words}",
            job.id
        )))
    };
    let mut ids: Vec<_> = job.files.iter().map(|file| &file.id).collect();
    ids.sort_unstable();
    if let Some([twice, _]) = ids.array_windows().find(|[a, b]| a == b) {
        return says(format!("names the file {twice:?} twice"));
    }
    match (job.totals.files, job.totals.records) {
        (Some(stated), _) if stated != files => {
            says(format!("names {files} files and states {stated}"))
        }
        (_, Some(records)) if files == 0 && records > 0 => {
            says(format!("names no file and states {records} records"))
        }
        (None, None) if files == 0 => Some(Puzzle::NothingSaid),
        _ => None,
    }
}

/// Sends the job's fragments to the copy stage, in slices.
async fn send_slices<E: Edges>(
    edges: &E,
    message: &Message,
    job: &Job,
) -> Result<Outcome, StageError> {
    let fragments: Vec<_> = (1u32..)
        .zip(&job.files)
        .map(|(number, file)| Fragment {
            number,
            file_id: file.id.clone(),
        })
        .collect();
    let of = u32::try_from(fragments.len()).unwrap_or(u32::MAX);
    let slices: Vec<_> = fragments
        .chunks(edges.budget().fragments_a_slice(fragments.len()))
        .map(|fragments| {
            let slice = Slice {
                job: job.id.clone(),
                of,
                fragments: fragments.to_vec(),
                fruitless: 0,
                troubled: 0,
            };
            Outgoing {
                message: message.with(Work::Copy(slice)),
                delay: Duration::ZERO,
            }
        })
        .collect();
    let Some(until) = slices.first().map(|first| {
        edges
            .rules()
            .lease
            .until(edges.now(), &first.message.work, Duration::ZERO)
    }) else {
        return Ok(Outcome::Continues);
    };
    edges.queue().send(slices).await?;
    claim::advance(
        edges,
        &message.export,
        &message.chain,
        message.attempt,
        message.hop + 1,
        until,
    )
    .await;
    Ok(Outcome::Continues)
}

/// Somebody else wrote the claim in between: the same message again, to decide afresh.
async fn again<E: Edges>(edges: &E, message: &Message) -> Result<Outcome, StageError> {
    if let Some(reason) = exhausted(message, edges.rules(), edges.now()) {
        return give_up(edges, message, reason, false).await;
    }
    let delay = pace::jittered(pace::first_look(), edges.random());
    send_after(edges, message.with(message.work.clone()), delay).await
}

/// Another chain is at work.
pub(super) fn held<E: Edges>(edges: &E, message: &Message, until: Time) -> Outcome {
    let why = "another chain is at work on it";
    edges.report(&message.export, Report::Ended { why });
    Outcome::Held(until)
}

/// The chain goes on elsewhere.
pub(super) fn overtaken<E: Edges>(edges: &E, message: &Message) -> Outcome {
    let why = "a duplicate: its chain has gone on";
    edges.report(&message.export, Report::Ended { why });
    Outcome::Overtaken
}

#[cfg(test)]
mod tests {
    use super::super::Lease;
    use super::*;
    use crate::export::{Event, Export};
    use crate::kore::job::{File, FileUrl, Totals};

    fn now() -> Time {
        "2025-01-27T06:00:00Z".parse().unwrap()
    }

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(minutes * 60)
    }

    fn rules() -> Rules {
        Rules {
            stall: minutes(120),
            deadline: minutes(24 * 60),
            poll_limit: Duration::from_secs(30),
            lease: Lease::Renewed(minutes(1)),
        }
    }

    fn looking() -> Looking {
        Looking {
            id: "fj-1".parse().unwrap(),
            started_at: now().before(minutes(10)),
            looks: 4,
            percent: Some(40.0),
            moved_at: now().before(minutes(5)),
            puzzled: 0,
            unanswered: 0,
        }
    }

    fn job(status: Status, percent: f64) -> Job {
        Job {
            id: "fj-1".parse().unwrap(),
            status,
            percent: Some(percent),
            created_on: None,
            files: Vec::new(),
            totals: Totals::default(),
        }
    }

    fn success(files: &[&str], stated: Option<u64>, records: Option<u64>) -> Job {
        let file = |id: &&str| File {
            id: (*id).to_owned(),
            name: None,
            url: FileUrl::new("https://h/f"),
            records: Some(2),
        };
        Job {
            files: files.iter().map(file).collect(),
            totals: Totals {
                files: stated,
                records,
            },
            ..job(Status::Success, 100.0)
        }
    }

    fn kind(decision: &Decision) -> &'static str {
        match decision {
            Decision::Again { .. } => "again",
            Decision::Copy(_) => "copy",
            Decision::CommitEmpty(_) => "commit empty",
            Decision::Restart(_) => "restart",
            Decision::GiveUp(_) => "give up",
        }
    }

    #[test]
    fn a_start_carries_on_what_there_is_and_starts_a_job_where_nobody_else_may_be() {
        let limit = minutes(2);
        let claim = |chain: &str, attempt, job: Option<&str>, ago| Claim {
            chain: chain.parse().unwrap(),
            attempt,
            tried_at: now().before(ago),
            hop: 0,
            job: job.map(|job| job.parse().unwrap()),
            until: now(),
            writer: String::new(),
            failures: 0,
        };
        let long_ago = minutes(90);
        let carry_on = |attempt| Opening::CarryOn {
            job: "fj-1".parse().unwrap(),
            attempt,
        };
        // The message's attempt, the claim, and what follows: to archive, and to replace.
        for (spent, found, expected, replacing) in [
            (0, None, Opening::StartAfter(0), Opening::StartAfter(0)),
            (3, None, Opening::GiveUp, Opening::GiveUp),
            // Another chain's that has lapsed.
            (
                0,
                Some(claim("dead", 2, None, long_ago)),
                Opening::StartAfter(0),
                Opening::StartAfter(0),
            ),
            (
                1,
                Some(claim("dead", 2, Some("fj-1"), long_ago)),
                carry_on(1),
                Opening::StartAfter(1),
            ),
            // Its own, of an attempt that is over.
            (
                1,
                Some(claim("mine", 1, Some("fj-1"), long_ago)),
                Opening::StartAfter(1),
                Opening::StartAfter(1),
            ),
            // Its own, of an attempt that it does not know of.
            (
                0,
                Some(claim("mine", 1, Some("fj-1"), minutes(0))),
                carry_on(1),
                carry_on(1),
            ),
            (
                0,
                Some(claim("mine", 1, None, minutes(1))),
                Opening::Wait(minutes(1)),
                Opening::Wait(minutes(1)),
            ),
            (
                0,
                Some(claim("mine", 1, None, minutes(2))),
                Opening::StartAfter(1),
                Opening::StartAfter(1),
            ),
            (
                2,
                Some(claim("mine", 3, None, minutes(1))),
                Opening::Wait(minutes(1)),
                Opening::Wait(minutes(1)),
            ),
            (
                2,
                Some(claim("mine", 3, None, minutes(2))),
                Opening::GiveUp,
                Opening::GiveUp,
            ),
        ] {
            for (base, expected) in [(None, expected), (Some("e-1"), replacing)] {
                let export = Export {
                    app: "st-1".parse().unwrap(),
                    event: Event::All,
                    week: "2025-01-20".parse().unwrap(),
                };
                let base = base.map(|base| base.parse().unwrap());
                let message = Message {
                    attempt: spent,
                    ..Message::start(export, "mine".parse().unwrap(), base)
                };
                let seen = opening(&message, found.as_ref(), now(), limit);
                assert_eq!(seen, expected, "{spent} {found:?} {:?}", message.base);
            }
        }
    }

    #[test]
    fn a_success_is_copied_where_files_and_totals_agree_and_looked_at_again_where_not() {
        // Then, after so many looks that it will not get better.
        for (files, stated, records, at_first, in_the_end) in [
            (&["a", "b"][..], Some(2), Some(4), "copy", "copy"),
            // The sum is compared when all is counted: a difference is kept and told.
            (&["a", "b"], Some(2), Some(5), "copy", "copy"),
            // Older servers state nothing.
            (&["a"], None, None, "copy", "copy"),
            (&[], Some(0), Some(0), "commit empty", "commit empty"),
            (&[], Some(0), None, "commit empty", "commit empty"),
            (&[], None, Some(0), "commit empty", "commit empty"),
            (&[], None, None, "again", "commit empty"),
            (&[], None, Some(3), "again", "restart"),
            (&[], Some(0), Some(3), "again", "restart"),
            (&[], Some(1), Some(3), "again", "restart"),
            (&["a"], Some(2), Some(4), "again", "restart"),
            (&["a", "b", "c"], Some(2), Some(4), "again", "restart"),
            (&["a", "a"], Some(2), Some(4), "again", "restart"),
            (&["a", "b", "a"], None, None, "again", "restart"),
        ] {
            for (puzzled, expected) in [(0, at_first), (MOST_PUZZLED, in_the_end)] {
                let looking = Looking {
                    puzzled,
                    ..looking()
                };
                let answer = Ok(success(files, stated, records));
                let decision = decide(&looking, answer, now(), &rules(), 0);
                assert_eq!(
                    kind(&decision),
                    expected,
                    "{files:?} {stated:?} {records:?} {puzzled}"
                );
            }
        }
    }

    #[test]
    fn an_answer_without_a_job_costs_a_look_a_job_or_the_chain() {
        let request = || "GET job".to_owned();
        let detail = || "words".to_owned();
        let unclear = |retry_after| ApiError::Unclear {
            request: request(),
            detail: detail(),
            retry_after,
        };
        for (error, expected) in [
            (
                ApiError::Limited {
                    request: request(),
                    retry_after: None,
                },
                "again",
            ),
            (
                ApiError::Unreachable {
                    request: request(),
                    detail: detail(),
                },
                "again",
            ),
            (unclear(None), "again"),
            (unclear(Some(Duration::MAX)), "again"),
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
            let decision = decide(&looking(), Err(error.clone()), now(), &rules(), 0);
            assert_eq!(kind(&decision), expected, "{error}");
            if let Decision::Again { looking, delay } = decision {
                assert_eq!((looking.looks, looking.unanswered), (5, 1), "{error}");
                assert!(delay <= minutes(60), "{error}: {delay:?}");
            }
        }
        let again = Looking {
            unanswered: 3,
            ..looking()
        };
        match decide(&again, Ok(job(Status::Running, 41.0)), now(), &rules(), 0) {
            Decision::Again { looking, .. } => assert_eq!(looking.unanswered, 0),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_job_that_fails_or_stands_still_is_replaced_and_one_that_moves_is_not() {
        let failed = Status::Failed("FAILED: words".to_owned());
        for (status, percent, moved, expected) in [
            (failed, 40.0, 5, "restart"),
            (Status::Running, 40.0, 119, "again"),
            (Status::Running, 40.0, 120, "restart"),
            (Status::Running, 41.0, 1_000, "again"),
            // Backwards is a movement, too.
            (Status::Running, 3.0, 1_000, "again"),
        ] {
            let looking = Looking {
                moved_at: now().before(minutes(moved)),
                started_at: now().before(minutes(2_000)),
                ..looking()
            };
            let decision = decide(&looking, Ok(job(status, percent)), now(), &rules(), 0);
            assert_eq!(kind(&decision), expected, "{percent} {moved}");
            match decision {
                Decision::Again { delay, .. } => assert!(delay <= rules().stall, "{delay:?}"),
                Decision::Restart(why) => {
                    assert!(moved < 120 || why.contains("for 120 minutes"), "{why}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn answers_that_make_no_sense_are_counted_and_spaced() {
        for (puzzled, low, high) in [(0, 4, 6), (1, 9, 11), (3, 38, 42)] {
            let looking = Looking {
                puzzled,
                ..looking()
            };
            let answer = Ok(success(&["a"], Some(2), None));
            match decide(&looking, answer, now(), &rules(), 1_000) {
                Decision::Again { looking, delay } => {
                    assert_eq!(looking.puzzled, puzzled + 1);
                    assert!((low..=high).contains(&delay.as_secs()), "{delay:?}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_job_that_says_no_percentage_stands_still_from_its_start() {
        let looking = Looking {
            percent: None,
            moved_at: now().before(minutes(120)),
            ..looking()
        };
        let silent = Job {
            percent: None,
            ..job(Status::Running, 0.0)
        };
        let decision = decide(&looking, Ok(silent), now(), &rules(), 0);
        assert_eq!(kind(&decision), "restart");
    }
}
