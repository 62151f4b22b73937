//! The queues on AWS: SQS, ten messages a request, each accounted for.

use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, MessageAttributeValue, SendMessageBatchRequestEntry,
};

use super::message::Message;
use super::{DeadLetter, LONGEST_DELAY, Line, Outgoing, Queue, QueueError};
use crate::aws;
use crate::export::Export;

/// An SQS limit.
const MOST_ENTRIES: usize = 10;

/// The most bytes of one message, and of all those in one request. SQS takes 1 MiB since 2025; what
/// reads the queues may still be set up for the quarter that it took before.
const MOST_BYTES: usize = 256 * 1024;

/// The most characters of a dead letter's reason, so that its attributes fit beside its body.
const MOST_REASON: usize = 1_000;

/// The waits before entries that SQS did not take are sent again.
const WAITS: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1_600),
];

/// Where the queues are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Urls {
    /// The poll queue.
    pub poll: String,
    /// The copy queue; the enqueue function has none.
    pub copy: Option<String>,
    /// Where failed exports are put; the enqueue function has none.
    pub dead_letter: Option<String>,
}

/// The queues on AWS. Clones are the same queues.
#[derive(Debug, Clone)]
pub struct Sqs {
    client: Client,
    urls: Urls,
}

impl Sqs {
    /// Sends through `client` to the queues at `urls`.
    pub fn new(client: Client, urls: Urls) -> Self {
        Self { client, urls }
    }

    fn url(&self, line: Line) -> Result<&str, QueueError> {
        let url = match line {
            Line::Poll => Some(&self.urls.poll),
            Line::Copy => self.urls.copy.as_ref(),
        };
        url.map(String::as_str)
            .ok_or_else(|| failed(line.name(), "this function has no URL of it".to_owned()))
    }

    /// Sends one request's worth. What SQS names as failed, or does not name at all, is sent again.
    async fn send_batch(
        &self,
        line: Line,
        mut entries: Vec<SendMessageBatchRequestEntry>,
    ) -> Result<(), QueueError> {
        let mut waits = WAITS.into_iter();
        loop {
            let sent = self
                .client
                .send_message_batch()
                .queue_url(self.url(line)?)
                .set_entries(Some(entries.clone()))
                .send()
                .await
                .map_err(|error| failed(line.name(), aws::told(&error)))?;
            let hopeless = sent.failed().iter().find(|entry| entry.sender_fault());
            if let Some(entry) = hopeless {
                return Err(failed(line.name(), why(entry)));
            }
            let taken = |id: &str| sent.successful().iter().any(|entry| entry.id() == id);
            entries.retain(|entry| !taken(entry.id()));
            if entries.is_empty() {
                return Ok(());
            }
            let Some(wait) = waits.next() else {
                let reason = sent.failed().first();
                let reason = reason.map_or_else(|| "no reason was given".to_owned(), why);
                let count = entries.len();
                return Err(failed(
                    line.name(),
                    format!("{count} messages were not taken in several tries: {reason}"),
                ));
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Puts a body where someone finds it, with the reason, and the export where it is known: the
    /// body may be no message of this system.
    ///
    /// # Errors
    /// When it could not be handed over, or may not have been.
    pub async fn bury_raw(
        &self,
        body: &str,
        reason: &str,
        export: Option<&Export>,
    ) -> Result<(), QueueError> {
        const QUEUE: &str = "dead-letter";
        let Some(url) = &self.urls.dead_letter else {
            return Err(failed(QUEUE, "this function has no URL of it".to_owned()));
        };
        let text = |value: &str| {
            MessageAttributeValue::builder()
                .data_type("String")
                .string_value(attribute(value))
                .build()
                .map_err(|error| failed(QUEUE, error.to_string()))
        };
        let mut send = self
            .client
            .send_message()
            .queue_url(url)
            .message_body(body)
            .message_attributes("reason", text(reason)?);
        if let Some(export) = export {
            for (name, value) in [
                ("app", export.app.to_string()),
                ("event", export.event.to_string()),
                ("week", export.week.to_string()),
                ("export", export.to_string()),
            ] {
                send = send.message_attributes(name, text(&value)?);
            }
        }
        match send.send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(failed(QUEUE, aws::told(&error))),
        }
    }
}

impl Queue for Sqs {
    async fn send(&self, messages: Vec<Outgoing>) -> Result<(), QueueError> {
        let mut batches = Vec::new();
        for line in [Line::Poll, Line::Copy] {
            let of_line = |sent: &&Outgoing| Line::of(&sent.message) == line;
            let bodies = messages.iter().filter(of_line);
            // All are made before one is sent: what cannot be sent is noticed in time.
            batches.extend(
                batched(line, bodies)?
                    .into_iter()
                    .map(|batch| (line, batch)),
            );
        }
        for (line, batch) in batches {
            self.send_batch(line, batch).await?;
        }
        Ok(())
    }

    async fn bury(&self, letter: DeadLetter) -> Result<(), QueueError> {
        let body = letter.start.to_json();
        self.bury_raw(&body, &letter.reason, Some(&letter.start.export))
            .await
    }
}

/// Puts messages into as few requests as the limits allow, in their order.
fn batched<'m>(
    line: Line,
    messages: impl Iterator<Item = &'m Outgoing>,
) -> Result<Vec<Vec<SendMessageBatchRequestEntry>>, QueueError> {
    let mut batches: Vec<Vec<_>> = Vec::new();
    let mut bytes = 0;
    for Outgoing { message, delay } in messages {
        let body = message.to_json();
        let length = body.len();
        if length > MOST_BYTES {
            let detail = format!("a message of {length} bytes; it takes at most {MOST_BYTES}");
            return Err(failed(line.name(), detail));
        }
        let fits = |batch: &Vec<_>| batch.len() < MOST_ENTRIES && bytes + length <= MOST_BYTES;
        if !batches.last().is_some_and(fits) {
            batches.push(Vec::new());
            bytes = 0;
        }
        let Some(batch) = batches.last_mut() else {
            continue;
        };
        bytes += length;
        batch.push(entry(line, batch.len(), message, body, *delay)?);
    }
    Ok(batches)
}

fn entry(
    line: Line,
    id: usize,
    message: &Message,
    body: String,
    delay: Duration,
) -> Result<SendMessageBatchRequestEntry, QueueError> {
    if delay > LONGEST_DELAY {
        let seconds = delay.as_secs_f64();
        let most = LONGEST_DELAY.as_secs();
        let detail = format!("a delay of {seconds} s; it takes at most {most} s");
        return Err(failed(line.name(), detail));
    }
    // Whole seconds only: rather late than early, which would cost a hop.
    let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
    SendMessageBatchRequestEntry::builder()
        .id(id.to_string())
        .message_body(body)
        .delay_seconds(i32::try_from(seconds).unwrap_or(i32::MAX))
        // On a standard queue it makes delivery fair: an app with a long backlog does not hold up
        // the others.
        .message_group_id(message.export.app.as_str())
        .build()
        .map_err(|error| failed(line.name(), error.to_string()))
}

fn failed(queue: &'static str, detail: String) -> QueueError {
    QueueError { queue, detail }
}

fn why(entry: &BatchResultErrorEntry) -> String {
    let message = entry.message().unwrap_or("no message");
    format!("{} ({message})", entry.code())
}

/// A text as the value of an attribute: SQS takes neither an empty one nor control characters.
fn attribute(text: &str) -> String {
    let taken = |c: char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}');
    let value: String = text
        .chars()
        .map(|c| if taken(c) { c } else { ' ' })
        .take(MOST_REASON)
        .collect();
    if value.trim().is_empty() {
        "not stated".to_owned()
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages;
    use super::*;
    use crate::aws::loopback;
    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::{Request, Response};
    use serde_json::{Value, json};
    use std::sync::{Arc, Mutex};

    /// Queues whose server answers so to each request, and the requests that it got.
    async fn queues(
        mut answer: impl FnMut(&Value) -> (u16, Value) + Send + 'static,
    ) -> (Arc<Mutex<Vec<Value>>>, Sqs) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        let config = loopback::serve(1, move |request: Request<Bytes>| {
            let body: Value = serde_json::from_slice(request.body()).unwrap();
            let (status, said) = answer(&body);
            kept.lock().unwrap().push(body);
            let response = Response::builder()
                .status(status)
                .header("content-type", "application/x-amz-json-1.0");
            response.body(Full::new(said.to_string().into())).unwrap()
        });
        let urls = Urls {
            poll: "http://sqs/1/poll".to_owned(),
            copy: Some("http://sqs/1/copy".to_owned()),
            dead_letter: Some("http://sqs/1/dead".to_owned()),
        };
        (asked, Sqs::new(Client::new(&config.await), urls))
    }

    /// SQS's answer to a batch of which those with these ids fail.
    fn batch_answer(asked: &Value, fails: &[&str], sender_fault: bool) -> (u16, Value) {
        let ids = asked["Entries"].as_array().unwrap().iter();
        let ids = ids.map(|entry| entry["Id"].as_str().unwrap());
        let (failed, taken): (Vec<_>, Vec<_>) = ids.partition(|id| fails.contains(id));
        let taken = taken
            .iter()
            .map(|id| json!({"Id": id, "MessageId": "m", "MD5OfMessageBody": "x"}));
        let failed = failed.iter().map(|id| {
            json!({"Id": id, "Code": "InternalError", "Message": "later", "SenderFault": sender_fault})
        });
        let (taken, failed): (Vec<_>, Vec<_>) = (taken.collect(), failed.collect());
        (200, json!({"Successful": taken, "Failed": failed}))
    }

    fn outgoing(message: Message, millis: u64) -> Outgoing {
        let delay = Duration::from_millis(millis);
        Outgoing { message, delay }
    }

    #[tokio::test]
    async fn messages_go_in_tens_to_the_queue_of_their_stage() {
        let (asked, sqs) = queues(|asked| batch_answer(asked, &[], false)).await;
        let mut messages: Vec<_> = (0..12)
            .map(|hop| outgoing(messages::look(hop), 2_001))
            .collect();
        messages.insert(5, outgoing(messages::copy(50), 0));
        sqs.send(messages).await.unwrap();
        let asked = asked.lock().unwrap();
        let seen: Vec<_> = asked
            .iter()
            .map(|batch| {
                let entries = batch["Entries"].as_array().unwrap();
                (batch["QueueUrl"].as_str().unwrap(), entries.len())
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("http://sqs/1/poll", 10),
                ("http://sqs/1/poll", 2),
                ("http://sqs/1/copy", 1)
            ]
        );
        let entry = &asked[1]["Entries"][1];
        let body = entry["MessageBody"].as_str().unwrap();
        assert_eq!(Message::from_json(body).unwrap(), messages::look(11));
        assert_eq!(entry["DelaySeconds"], 3);
        assert_eq!(entry["MessageGroupId"], "st-1");
    }

    #[tokio::test]
    async fn what_fails_is_sent_again_alone() {
        let mut round = 0;
        let answer = move |asked: &Value| {
            round += 1;
            match round {
                1 => batch_answer(asked, &["1", "2"], false),
                // Named neither as sent nor as failed.
                2 => (200, json!({"Successful": [], "Failed": []})),
                _ => batch_answer(asked, &[], false),
            }
        };
        let (asked, sqs) = queues(answer).await;
        let messages = (0..4).map(|hop| outgoing(messages::look(hop), 0)).collect();
        sqs.send(messages).await.unwrap();
        let asked = asked.lock().unwrap();
        let counts: Vec<_> = asked
            .iter()
            .map(|batch| batch["Entries"].as_array().unwrap().len())
            .collect();
        assert_eq!(counts, [4, 2, 2]);
        assert_eq!(asked[0]["Entries"][1], asked[2]["Entries"][0]);
    }

    #[tokio::test]
    async fn what_keeps_failing_is_an_error_and_what_can_only_fail_is_one_at_once() {
        for (sender_fault, requests) in [(false, 1 + WAITS.len()), (true, 1)] {
            let (asked, sqs) = queues(move |asked| batch_answer(asked, &["0"], sender_fault)).await;
            let error = sqs
                .send(vec![outgoing(messages::look(1), 0)])
                .await
                .unwrap_err();
            assert_eq!(error.queue, "poll");
            assert!(error.detail.contains("InternalError (later)"), "{error}");
            assert_eq!(asked.lock().unwrap().len(), requests);
        }
    }

    #[tokio::test]
    async fn a_refused_request_is_an_error_that_says_why() {
        let denied =
            json!({"__type": "com.amazonaws.sqs#AccessDeniedException", "message": "not you"});
        let (_, sqs) = queues(move |_| (403, denied.clone())).await;
        let error = sqs
            .send(vec![outgoing(messages::copy(1), 0)])
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot send to the copy queue: status 403, AccessDeniedException (not you)"
        );
    }

    #[tokio::test]
    async fn what_exceeds_a_limit_is_an_error_before_anything_is_sent() {
        let (asked, sqs) = queues(|_| panic!("it was sent")).await;
        let long = messages::copy_of(2, &"x".repeat(MOST_BYTES));
        for (message, millis) in [(messages::look(1), 900_001), (long, 0)] {
            let sent = sqs.send(vec![
                outgoing(messages::look(0), 0),
                outgoing(message, millis),
            ]);
            let error = sent.await.unwrap_err();
            assert!(error.detail.contains("it takes at most"), "{error}");
        }
        assert!(asked.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn large_messages_share_no_request() {
        let (asked, sqs) = queues(|asked| batch_answer(asked, &[], false)).await;
        let large = |hop| outgoing(messages::copy_of(hop, &"x".repeat(MOST_BYTES / 2)), 0);
        sqs.send((0..3).map(large).collect()).await.unwrap();
        assert_eq!(asked.lock().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn a_dead_letter_says_what_failed_and_starts_it_anew() {
        let (asked, sqs) =
            queues(|_| (200, json!({"MessageId": "m", "MD5OfMessageBody": "x"}))).await;
        let reason = format!("the job\nfailed{}", "!".repeat(2_000));
        let start = messages::start();
        sqs.bury(DeadLetter {
            start: start.clone(),
            reason,
        })
        .await
        .unwrap();
        sqs.bury_raw("{", "", None).await.unwrap();
        let asked = asked.lock().unwrap();
        assert_eq!(asked[0]["QueueUrl"], "http://sqs/1/dead");
        let body = asked[0]["MessageBody"].as_str().unwrap();
        assert_eq!(Message::from_json(body).unwrap(), start);
        let attributes = &asked[0]["MessageAttributes"];
        for (name, value) in [
            ("app", "st-1"),
            ("event", "thumbsUp"),
            ("week", "2025-01-20"),
            ("export", "app=st-1/event=thumbsUp/week=2025-01-20"),
        ] {
            assert_eq!(attributes[name]["StringValue"], value);
        }
        let reason = attributes["reason"]["StringValue"].as_str().unwrap();
        assert!(reason.starts_with("the job failed!"), "{reason}");
        assert_eq!(reason.len(), MOST_REASON);
        assert_eq!(asked[1]["MessageBody"], "{");
        assert_eq!(
            asked[1]["MessageAttributes"]["reason"]["StringValue"],
            "not stated"
        );
    }

    #[tokio::test]
    async fn a_function_sends_only_to_the_queues_that_it_has() {
        let (asked, mut sqs) = queues(|_| panic!("it was sent")).await;
        sqs.urls.copy = None;
        sqs.urls.dead_letter = None;
        let error = sqs
            .send(vec![outgoing(messages::copy(1), 0)])
            .await
            .unwrap_err();
        assert_eq!(error.queue, "copy");
        let error = sqs.bury_raw("{", "not JSON", None).await.unwrap_err();
        assert_eq!(error.queue, "dead-letter");
        assert!(asked.lock().unwrap().is_empty());
    }
}
