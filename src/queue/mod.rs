//! How messages travel between the stages, with delays, and where failures are put to be found.

pub mod local;
pub mod message;
#[cfg(test)]
mod messages;
pub mod sqs;

use std::time::Duration;

use message::{Message, Work};

/// The two work queues, named for the stages that they feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// To the poll stage.
    Poll,
    /// To the copy stage.
    Copy,
}

impl Line {
    /// The queue that a message belongs in.
    pub fn of(message: &Message) -> Self {
        match message.work {
            Work::Start | Work::Look(_) => Self::Poll,
            Work::Copy(_) => Self::Copy,
        }
    }

    /// `poll` or `copy`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Copy => "copy",
        }
    }
}

/// A message and how long it must wait before it is delivered.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// What is sent; it names the stage that receives it.
    pub message: Message,
    /// Not before this much time has passed. At most [`LONGEST_DELAY`].
    pub delay: Duration,
}

/// The longest delay of a single message (an SQS limit). Longer waits are made of several hops.
pub const LONGEST_DELAY: Duration = Duration::from_secs(900);

/// A failed export on its way to where someone finds it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// The start message of a fresh chain for the export: redriven, it begins anew.
    pub start: Message,
    /// One sentence: what failed and what was expected. Never holds a secret.
    pub reason: String,
}

/// Why messages could not be handed over. They may or may not have been sent.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot send to the {queue} queue: {detail}")]
pub struct QueueError {
    /// `poll`, `copy` or `dead-letter`.
    pub queue: &'static str,
    /// What the other side said.
    pub detail: String,
}

/// What the stages need of a queue: at-least-once delivery, with delays.
pub trait Queue: Send + Sync {
    /// Sends all of them. An error means that some may not have been sent: the caller fails its own
    /// message, and duplicates are harmless.
    fn send(&self, messages: Vec<Outgoing>) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Puts a failed export where someone finds it.
    fn bury(&self, letter: DeadLetter) -> impl Future<Output = Result<(), QueueError>> + Send;
}
