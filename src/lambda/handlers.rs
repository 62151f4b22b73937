//! What wakes the functions, and what they answer.
//!
//! Each message of a batch is read and handled by itself, beside the others: one that cannot be read,
//! panics, or takes too long does not touch its neighbours.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::outside::{BuryRaw, Outside};
use crate::archive::Archive;
use crate::kore::Kore;
use crate::queue::message::Message;
use crate::queue::{Line, Outgoing, Queue};
use crate::stages::enqueue::{self, BadRequest, Request, Scope, Summary};
use crate::stages::{Edges as _, StageError, handle};

/// Work is cut off so long before the function would be: enough to answer for the other messages and
/// to write the metrics.
const ANSWER: Duration = Duration::from_secs(3);

/// Why an invocation failed as a whole.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The event is not a request to enqueue.
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    /// The archive or the queue failed.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The event is not a batch of messages.
    #[error(
        "not a batch of queue messages: {0}. Expected {{\"Records\": [{{\"messageId\", \"body\"}}]}}"
    )]
    NoBatch(String),
    /// There was too much to do.
    #[error(
        "the work was cut off just before the function's time limit; what was done stands, and the \
         next run goes on from there"
    )]
    OutOfTime,
}

/// The enqueue function: enqueues what is due and missing, and tells it.
///
/// # Errors
/// When the event is no request, the archive or the queue fails, or the time does not suffice. The
/// caller reports the invocation as failed: what was done already is harmless to do again.
pub async fn enqueue<K: Kore, A: Archive, Q: Queue>(
    outside: &Outside<K, A, Q>,
    scope: &Scope,
    event: &Value,
    limit: Option<Instant>,
) -> Result<Summary, Failure> {
    let request = Request::from_json(event, outside.now())?;
    enqueue::check(scope, &request)?;
    let summary = in_time(limit, Box::pin(enqueue::run(outside, scope, &request)))
        .await
        .ok_or(Failure::OutOfTime)??;
    outside.metrics().enqueued(&request, &summary);
    for line in &summary.exports {
        let (app, event) = (&line.app, line.event);
        let (missing, enqueued) = (line.missing, line.enqueued.len());
        let (replacing, waiting) = (line.replacing.len(), line.waiting.len());
        tracing::info!(
            %app, %event, line.archived, missing, enqueued, replacing, waiting, summary.dry_run,
            "app={app}/event={event}: {} weeks archived, {missing} missing, {enqueued} enqueued, \
             {replacing} to be replaced, {waiting} waiting after a failure", line.archived
        );
    }
    Ok(summary)
}

/// What SQS wakes a function with; what else is in it is not read.
#[derive(Debug, Deserialize)]
struct Batch {
    #[serde(rename = "Records")]
    records: Vec<Record>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    message_id: String,
    body: String,
}

/// Which messages have to come again; the others are done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// One for each message that failed.
    pub batch_item_failures: Vec<BatchItemFailure>,
}

/// A message that has to come again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchItemFailure {
    /// The queue's id of the message.
    pub item_identifier: String,
}

/// The poll and copy functions: handles the messages of a batch, all at once.
///
/// # Errors
/// Only when the event is no batch: then there are no messages to tell apart.
pub async fn batch<K: Kore, A: Archive, Q: BuryRaw>(
    outside: &Outside<K, A, Q>,
    line: Line,
    event: &Value,
    limit: Option<Instant>,
) -> Result<Answer, Failure> {
    let batch = Batch::deserialize(event).map_err(|error| Failure::NoBatch(error.to_string()))?;
    let works = batch.records.iter().map(|record| async move {
        let id = &record.message_id;
        // Nothing that a panic may leave half done is shared: clients, and counters that are whole
        // at every instant.
        let work = AssertUnwindSafe(one(outside, line, record, limit)).catch_unwind();
        let why = match in_time(limit, work).await {
            Some(Ok(Ok(()))) => return None,
            Some(Ok(Err(why))) => why,
            Some(Err(panic)) => format!("it met a defect of this program: {}", words(&*panic)),
            None => "the function's time is over".to_owned(),
        };
        let export = Message::from_json(&record.body).ok();
        let export = export.map_or_else(|| "unknown".to_owned(), |m| m.export.to_string());
        tracing::error!(
            export,
            id,
            why,
            "{export}: the message {id} failed and will come again: {why}"
        );
        outside.metrics().message_failed();
        Some(BatchItemFailure {
            item_identifier: id.clone(),
        })
    });
    let failures = join_all(works).await.into_iter().flatten();
    Ok(Answer {
        batch_item_failures: failures.collect(),
    })
}

/// One message.
async fn one<K: Kore, A: Archive, Q: BuryRaw>(
    outside: &Outside<K, A, Q>,
    line: Line,
    record: &Record,
    limit: Option<Instant>,
) -> Result<(), String> {
    let message = match Message::from_json(&record.body) {
        Ok(message) => message,
        Err(error) => {
            let (id, reason) = (&record.message_id, error.to_string());
            let buried = outside.queue.bury_raw(&record.body, &reason).await;
            buried.map_err(|error| error.to_string())?;
            tracing::error!(
                id,
                reason,
                "the message {id} was put into the dead-letter queue: {reason}"
            );
            return Ok(());
        }
    };
    let export = &message.export;
    if Line::of(&message) != line {
        // Redriven from the dead letters of both, perhaps: its own function has what it needs.
        tracing::warn!(%export, "{export}: a message for the other stage is sent to its queue");
        let outgoing = Outgoing {
            message,
            delay: Duration::ZERO,
        };
        let sent = outside.queue.send(vec![outgoing]).await;
        return sent.map_err(|error| error.to_string());
    }
    // On the heap: the stages' futures nest so deeply that the compiler gives up on those around them.
    match Box::pin(handle(outside, &message, limit)).await {
        Ok(outcome) => {
            tracing::debug!(%export, ?outcome, "{export}: {outcome:?}");
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// The result of the work, or `None` where it was cut off because the time is over.
async fn in_time<T>(limit: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match limit {
        None => Some(work.await),
        Some(limit) => {
            let end = limit.checked_sub(ANSWER).unwrap_or(limit);
            timeout_at(end, work).await.ok()
        }
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;
    use crate::archive::folder::Folder;
    use crate::export::{AppId, Event, Export, JobId};
    use crate::kore::job::{FileUrl, Job};
    use crate::kore::out_of_reach::Never;
    use crate::kore::{ApiError, FileError};
    use crate::queue::DeadLetter;
    use crate::queue::QueueError;
    use crate::stages::{Budget, Lease, Rules};

    /// A host that does to each app what its name says.
    struct Host;

    impl Kore for Host {
        type Download = Never;

        async fn start(&self, export: &Export) -> Result<Job, ApiError> {
            match export.app.as_str() {
                "st-panics" => panic!("a host beyond belief"),
                "st-hangs" => pending().await,
                _ => {
                    let body = br#"{"_id": "fj-1", "status": "INPROGRESS", "percentageDone": 0}"#;
                    Ok(Job::decode(body).unwrap())
                }
            }
        }

        async fn look(&self, _: &AppId, _: &JobId) -> Result<Job, ApiError> {
            pending().await
        }

        async fn open(&self, _: &FileUrl) -> Result<Never, FileError> {
            pending().await
        }
    }

    /// Queues that keep what they are given; broken ones refuse it.
    #[derive(Default)]
    struct Kept {
        broken: bool,
        sent: Mutex<Vec<Message>>,
        raw: Mutex<Vec<(String, String)>>,
    }

    impl Kept {
        fn result(&self) -> Result<(), QueueError> {
            let error = || QueueError {
                queue: "dead-letter",
                detail: "it is gone".to_owned(),
            };
            if self.broken { Err(error()) } else { Ok(()) }
        }
    }

    impl Queue for Kept {
        async fn send(&self, messages: Vec<Outgoing>) -> Result<(), QueueError> {
            let messages = messages.into_iter().map(|outgoing| outgoing.message);
            self.sent.lock().unwrap().extend(messages);
            self.result()
        }

        async fn bury(&self, _: DeadLetter) -> Result<(), QueueError> {
            self.result()
        }
    }

    impl BuryRaw for Kept {
        async fn bury_raw(&self, body: &str, reason: &str) -> Result<(), QueueError> {
            let pair = (body.to_owned(), reason.to_owned());
            self.raw.lock().unwrap().push(pair);
            self.result()
        }
    }

    fn outside(folder: &tempfile::TempDir) -> Outside<Host, Folder, Kept> {
        Outside {
            kore: Host,
            archive: Folder::open(folder.path()).unwrap(),
            queue: Kept::default(),
            rules: Rules {
                stall: Duration::from_hours(2),
                deadline: Duration::from_hours(24),
                poll_limit: Duration::from_mins(2),
                lease: Lease::Delivery {
                    poll: Duration::from_mins(12),
                    copy: Duration::from_mins(30),
                },
            },
            budget: Budget::new(0, 1),
            metrics: Mutex::default(),
        }
    }

    fn start(app: &str) -> String {
        let export = Export {
            app: app.parse().unwrap(),
            event: Event::All,
            week: "2025-01-20".parse().unwrap(),
        };
        Message::start(export, "chain-1".parse().unwrap(), None).to_json()
    }

    /// As SQS wakes a function; each message's id is its place.
    fn event(bodies: &[&str]) -> Value {
        let records = bodies.iter().enumerate().map(|(place, body)| {
            json!({
                "messageId": place.to_string(),
                "receiptHandle": "x",
                "body": body,
                "attributes": {"ApproximateReceiveCount": "1"},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
            })
        });
        json!({"Records": records.collect::<Vec<_>>()})
    }

    fn failed(answer: &Answer) -> Vec<&str> {
        let failures = answer.batch_item_failures.iter();
        failures
            .map(|failure| failure.item_identifier.as_str())
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_bad_message_never_harms_its_neighbours() {
        let folder = tempfile::tempdir().unwrap();
        let outside = outside(&folder);
        let bodies = [
            start("st-hangs"),
            start("st-1"),
            "{not JSON".to_owned(),
            start("st-panics"),
            start("st-2"),
            start("st-2").replace("\"version\":1", "\"version\":9"),
        ];
        let event = event(&bodies.each_ref().map(String::as_str));
        let limit = Instant::now() + Duration::from_mins(2);
        let answer = batch(&outside, Line::Poll, &event, Some(limit))
            .await
            .unwrap();

        assert_eq!(failed(&answer), ["0", "3"]);
        assert!(Instant::now() < limit, "there was time left to answer");
        let sent = outside.queue.sent.into_inner().unwrap();
        let mut apps: Vec<_> = sent.iter().map(|m| m.export.app.as_str()).collect();
        apps.sort_unstable();
        assert_eq!(apps, ["st-1", "st-2"], "their jobs were started");
        let raw = outside.queue.raw.into_inner().unwrap();
        let [(not_json, shape), (_, version)] = &raw[..] else {
            panic!("{raw:?}")
        };
        assert_eq!(not_json, "{not JSON");
        assert!(shape.starts_with("not a message of this system"), "{shape}");
        assert!(version.starts_with("a message of version 9"), "{version}");
        let answer = serde_json::to_value(&answer).unwrap();
        let failures = json!([{"itemIdentifier": "0"}, {"itemIdentifier": "3"}]);
        assert_eq!(answer, json!({"batchItemFailures": failures}));
    }

    #[tokio::test]
    async fn what_cannot_be_buried_or_handed_on_comes_again_and_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut outside = outside(&folder);
        outside.queue.broken = true;
        let event = event(&["[]", &start("st-1")]);
        let answer = batch(&outside, Line::Poll, &event, None).await.unwrap();
        assert_eq!(failed(&answer), ["0", "1"]);
        let now = "2025-01-27T06:00:00Z".parse().unwrap();
        let line = outside.take_metrics().line("x", now, Duration::ZERO);
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(line["MessagesFailed"], 2);
    }

    #[tokio::test]
    async fn a_message_in_the_wrong_queue_is_sent_to_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let outside = outside(&folder);
        // The host would panic: the copy function leaves it alone.
        let event = event(&[&start("st-panics")]);
        let answer = batch(&outside, Line::Copy, &event, None).await.unwrap();
        assert_eq!(answer, Answer::default());
        let sent = outside.queue.sent.into_inner().unwrap();
        assert_eq!(sent, [Message::from_json(&start("st-panics")).unwrap()]);
    }

    #[tokio::test]
    async fn an_event_that_is_no_batch_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = batch(&outside(&folder), Line::Poll, &json!({}), None).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("missing field `Records`"), "{error}");
    }

    fn scope() -> Scope {
        Scope {
            // The sample events' own.
            apps: vec!["st-1a2b3c4d-5e6f-4071-8293-a4b5c6d7e8f9".parse().unwrap()],
            events: vec![Event::All],
            since: None,
            catch_up_weeks: 2,
            lookback_weeks: 0,
            settle: Duration::from_hours(1),
            apart: Duration::from_mins(1),
        }
    }

    #[tokio::test]
    async fn the_sample_events_enqueue_what_is_missing_and_say_so() {
        let tick = include_str!("../../events/enqueue-scheduled.json");
        let backfill = include_str!("../../events/enqueue-backfill.json");
        let replace = include_str!("../../events/enqueue-replace.json");
        for (event, enqueued, sent, missing) in [
            (tick, json!(["2025-01-13", "2025-01-20"]), 2, Some(2)),
            (
                backfill,
                json!(["2025-01-06", "2025-01-13", "2025-01-20"]),
                3,
                None,
            ),
            (replace, json!(["2025-01-20"]), 0, None), // a dry run
        ] {
            let folder = tempfile::tempdir().unwrap();
            let outside = outside(&folder);
            let event = serde_json::from_str(event).unwrap();
            let summary = enqueue(&outside, &scope(), &event, None).await.unwrap();
            let answer = serde_json::to_value(&summary).unwrap();
            assert_eq!(answer["exports"][0]["enqueued"], enqueued, "{event}");
            assert_eq!(outside.queue.sent.lock().unwrap().len(), sent, "{event}");
            let line = outside
                .take_metrics()
                .line("x", summary.time, Duration::ZERO);
            let line = line.map(|line| serde_json::from_str::<Value>(&line).unwrap());
            let told = line.and_then(|line| line["WeeksMissing"].as_u64());
            assert_eq!(told, missing, "{event}");
        }
    }

    #[tokio::test]
    async fn an_event_that_is_no_request_is_an_error_that_names_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let outside = outside(&folder);
        for (event, why) in [
            (json!({"sinse": "2025-01-20"}), "unknown field `sinse`"),
            (json!({"since": "2025-02-30"}), "2025-02-30"),
            (json!({"since": "2025-01-20", "apps": ["st-9"]}), "st-9"),
            (json!([]), "not a JSON object"),
            (json!({"detail-type": "Scheduled Event"}), "without time"),
        ] {
            let error = enqueue(&outside, &scope(), &event, None).await.unwrap_err();
            assert!(error.to_string().contains(why), "{event}: {error}");
        }
        assert!(outside.queue.sent.into_inner().unwrap().is_empty());
    }
}
