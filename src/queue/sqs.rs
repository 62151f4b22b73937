//! Queues in SQS.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{MessageAttributeValue, SendMessageBatchRequestEntry};

use super::{DeadLetter, Line, Outgoing, Queue, QueueError};
use crate::aws;

/// Where the queues are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Urls {
    /// The poll queue.
    pub poll: String,
    /// The copy queue; `None` where nothing is sent to it.
    pub copy: Option<String>,
    /// The dead-letter queue; `None` where nothing is given up.
    pub dead_letter: Option<String>,
}

/// The queues, in SQS.
#[derive(Debug, Clone)]
pub struct Sqs {
    client: Client,
    urls: Urls,
}

fn failed(queue: &'static str, detail: impl Into<String>) -> QueueError {
    QueueError {
        queue,
        detail: detail.into(),
    }
}

impl Sqs {
    /// The queues at these places, which `client` can reach.
    pub fn new(client: Client, urls: Urls) -> Self {
        Self { client, urls }
    }

    /// Puts a body into the dead-letter queue.
    ///
    /// # Errors
    /// When it may not have got there.
    pub async fn bury_raw(
        &self,
        body: &str,
        reason: &str,
        export: Option<&str>,
    ) -> Result<(), QueueError> {
        let url = self.urls.dead_letter.as_ref();
        let url = url.ok_or_else(|| failed("dead-letter", "this function has none"))?;
        let mut send = self.client.send_message().queue_url(url).message_body(body);
        for (name, value) in [("reason", Some(reason)), ("export", export)] {
            if let Some(value) = value {
                let value = MessageAttributeValue::builder()
                    .data_type("String")
                    .string_value(value)
                    .build()
                    .map_err(|error| failed("dead-letter", error.to_string()))?;
                send = send.message_attributes(name, value);
            }
        }
        let sent = send.send().await;
        sent.map_err(|error| failed("dead-letter", aws::causes(&error)))?;
        Ok(())
    }

    async fn send_to(
        &self,
        line: Line,
        url: &str,
        messages: &[&Outgoing],
    ) -> Result<(), QueueError> {
        for batch in messages.chunks(10) {
            let entries = batch.iter().enumerate().map(|(index, outgoing)| {
                SendMessageBatchRequestEntry::builder()
                    .id(index.to_string())
                    .message_body(outgoing.message.to_json())
                    .delay_seconds(
                        i32::try_from(outgoing.delay.as_secs())
                            .unwrap_or(900)
                            .min(900),
                    )
                    .build()
            });
            let entries = entries.collect::<Result<Vec<_>, _>>();
            let entries = entries.map_err(|error| failed(line.name(), error.to_string()))?;
            let answer = self.client.send_message_batch().queue_url(url);
            let answer = answer.set_entries(Some(entries)).send().await;
            let answer = answer.map_err(|error| failed(line.name(), aws::causes(&error)))?;
            if let Some(first) = answer.failed().first() {
                return Err(failed(line.name(), format!("{first:?}")));
            }
        }
        Ok(())
    }
}

impl Queue for Sqs {
    async fn send(&self, messages: Vec<Outgoing>) -> Result<(), QueueError> {
        for (line, url) in [
            (Line::Poll, Some(&self.urls.poll)),
            (Line::Copy, self.urls.copy.as_ref()),
        ] {
            let own: Vec<_> = messages
                .iter()
                .filter(|o| Line::of(&o.message) == line)
                .collect();
            if !own.is_empty() {
                let url = url.ok_or_else(|| failed(line.name(), "this function has none"))?;
                self.send_to(line, url, &own).await?;
            }
        }
        Ok(())
    }

    async fn bury(&self, letter: DeadLetter) -> Result<(), QueueError> {
        let (body, export) = (letter.start.to_json(), letter.start.export.to_string());
        self.bury_raw(&body, &letter.reason, Some(&export)).await
    }
}
