//! The queues in memory, as SQS has them: at least once, in any order, visibility time-outs, a
//! dead-letter queue after five receives.

use std::collections::BTreeMap;
use std::time::Duration;

use insights_archive::export::Export;
use insights_archive::queue::Line;
use insights_archive::queue::message::{Message, Work};

use crate::seen::Print;

/// After so many receives without a deletion a message goes to the dead-letter queue.
pub const MOST_RECEIVES: u32 = 5;

#[derive(Debug, Clone)]
pub struct Entry {
    pub body: String,
    pub line: Line,
    pub export: Export,
    /// Since the world began.
    pub visible: Duration,
    pub receives: u32,
    /// Which it is of those with the same body, counted from 0.
    pub copy: usize,
}

impl Entry {
    /// What tells it apart.
    pub fn print(&self) -> Print {
        Print::of((&self.body, self.visible, self.receives, self.copy))
    }
}

/// A dead letter: what can be sent again.
#[derive(Debug, Clone)]
pub struct Dead {
    pub export: Export,
    pub body: String,
    pub reason: String,
}

impl Dead {
    /// Whether it makes the export's chain go on, or begin: a slice alone does not.
    pub fn starts_anew(&self) -> bool {
        let message = Message::from_json(&self.body);
        message.is_ok_and(|message| !matches!(message.work, Work::Copy(_)))
    }
}

#[derive(Debug, Default)]
pub struct Sqs {
    pub entries: BTreeMap<u64, Entry>,
    pub dead: Vec<Dead>,
    /// Dead letters that ever were.
    pub buried: usize,
    sent: u64,
}

impl Sqs {
    pub fn send(&mut self, message: &Message, visible: Duration) -> u64 {
        self.sent += 1;
        let body = message.to_json();
        let taken = |copy: &usize| {
            let mut entries = self.entries.values();
            entries.any(|entry| entry.copy == *copy && entry.body == body)
        };
        let copy = (0..=self.entries.len()).find(|copy| !taken(copy));
        let entry = Entry {
            body,
            copy: copy.unwrap_or(0),
            line: Line::of(message),
            export: message.export.clone(),
            visible,
            receives: 0,
        };
        self.entries.insert(self.sent, entry);
        self.sent
    }

    pub fn print(&self, print: &mut Print) {
        let entries = self.entries.values();
        print.sorted(entries.map(|entry| entry.print().digest()).collect());
    }

    pub fn visible(&self, now: Duration) -> Vec<u64> {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.visible <= now)
            .map(|(id, _)| *id)
            .collect()
    }

    pub fn next_visible(&self) -> Option<Duration> {
        self.entries.values().map(|entry| entry.visible).min()
    }
}
