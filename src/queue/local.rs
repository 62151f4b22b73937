//! A queue in this process: what the local runner has in the place of SQS.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::message::Message;
use super::{DeadLetter, LONGEST_DELAY, Line, Outgoing, Queue, QueueError};

/// Messages in memory, each delivered when its delay is over: those due first come first, and those
/// due at once in the order in which they were sent.
/// Clones are the same queue.
#[derive(Debug, Clone, Default)]
pub struct LocalQueue {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Told of every change that someone may wait for.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    poll: BinaryHeap<Waiting>,
    copy: BinaryHeap<Waiting>,
    sent: u64,
    /// How many have been delivered and not yet ended.
    under_way: usize,
    dead: Vec<DeadLetter>,
}

impl State {
    fn line(&mut self, line: Line) -> &mut BinaryHeap<Waiting> {
        match line {
            Line::Poll => &mut self.poll,
            Line::Copy => &mut self.copy,
        }
    }

    fn push(&mut self, message: Message, delay: Duration, deliveries: u32) {
        self.sent += 1;
        let order = Reverse((Instant::now() + delay, self.sent));
        self.line(Line::of(&message)).push(Waiting {
            order,
            message,
            deliveries,
        });
    }
}

#[derive(Debug)]
struct Waiting {
    /// When it is due, then which was sent first; the least comes first.
    order: Reverse<(Instant, u64)>,
    message: Message,
    deliveries: u32,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

impl LocalQueue {
    /// Waits for the next message of a line to be due, and takes it. Dropped while it waits, it takes
    /// none.
    pub async fn next(&self, line: Line) -> Delivery {
        loop {
            // Before looking, so that a change between looking and waiting is noticed.
            let mut changed = pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            let due = {
                let mut state = self.state();
                let due = state.line(line).peek().map(|first| first.order.0.0);
                if due.is_some_and(|due| due <= Instant::now())
                    && let Some(first) = state.line(line).pop()
                {
                    state.under_way += 1;
                    return Delivery {
                        queue: self.clone(),
                        deliveries: first.deliveries + 1,
                        message: Some(first.message),
                    };
                }
                due
            };
            match due {
                None => changed.await,
                Some(due) => tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = changed => {}
                },
            }
        }
    }

    /// Puts a message at the end of its line, without a delay.
    pub fn put(&self, message: Message) {
        self.change(|state| state.push(message, Duration::ZERO, 0));
    }

    /// Waits until there is nothing left to deliver and everything delivered has ended.
    pub async fn idle(&self) {
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            if self.is_idle() {
                return;
            }
            changed.await;
        }
    }

    /// Whether there is nothing left to deliver and everything delivered has ended.
    pub fn is_idle(&self) -> bool {
        let state = self.state();
        state.under_way == 0 && state.poll.is_empty() && state.copy.is_empty()
    }

    /// The failed exports so far, oldest first.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.state().dead.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics half-way through a change.
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, how: impl FnOnce(&mut State) -> T) -> T {
        let changed = how(&mut self.state());
        self.shared.changed.notify_waiters();
        changed
    }
}

impl Queue for LocalQueue {
    async fn send(&self, messages: Vec<Outgoing>) -> Result<(), QueueError> {
        // As SQS does, so that a wait that is too long is noticed without it.
        if let Some(far) = messages.iter().find(|sent| sent.delay > LONGEST_DELAY) {
            return Err(QueueError {
                queue: Line::of(&far.message).name(),
                detail: format!(
                    "a delay of {} s; it takes at most {} s",
                    far.delay.as_secs_f64(),
                    LONGEST_DELAY.as_secs()
                ),
            });
        }
        self.change(|state| {
            for Outgoing { message, delay } in messages {
                state.push(message, delay, 0);
            }
        });
        Ok(())
    }

    async fn bury(&self, letter: DeadLetter) -> Result<(), QueueError> {
        self.change(|state| state.dead.push(letter));
        Ok(())
    }
}

/// A message in the hands of a stage. Dropped before it is [`done`](Self::done), as by a panic, it
/// is delivered again at once.
#[derive(Debug)]
#[must_use = "dropped, it is delivered again"]
pub struct Delivery {
    queue: LocalQueue,
    /// `None` when it is on its way out.
    message: Option<Message>,
    deliveries: u32,
}

impl Delivery {
    /// What is delivered.
    pub fn message(&self) -> &Message {
        let Some(message) = &self.message else {
            unreachable!("only what consumes a delivery takes its message");
        };
        message
    }

    /// How often it has been delivered, this time included.
    pub fn deliveries(&self) -> u32 {
        self.deliveries
    }

    /// The message has been dealt with.
    pub fn done(mut self) {
        self.message = None;
    }

    /// The message could not be dealt with: it is delivered again after a time.
    pub fn again(mut self, delay: Duration) {
        self.put_back(delay);
    }

    /// The message is not due yet: this delivery does not count.
    pub fn postpone(mut self, delay: Duration) {
        self.deliveries -= 1;
        self.put_back(delay);
    }

    fn put_back(&mut self, delay: Duration) {
        if let Some(message) = self.message.take() {
            let deliveries = self.deliveries;
            // Before the delivery ends: at no moment does the queue look idle.
            self.queue
                .change(|state| state.push(message, delay, deliveries));
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.put_back(Duration::ZERO);
        self.queue.change(|state| state.under_way -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages;
    use super::*;
    use futures_util::FutureExt as _;

    const SECOND: Duration = Duration::from_secs(1);

    async fn send(queue: &LocalQueue, delays: &[(u32, u64)]) {
        let outgoing = |&(hop, seconds): &(u32, u64)| Outgoing {
            message: messages::look(hop),
            delay: SECOND * u32::try_from(seconds).unwrap(),
        };
        let sent = queue.send(delays.iter().map(outgoing).collect()).await;
        sent.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn messages_come_when_they_are_due_and_in_the_order_sent() {
        let queue = LocalQueue::default();
        send(&queue, &[(1, 900), (2, 5), (3, 0), (4, 5), (5, 0)]).await;
        let start = Instant::now();
        let mut seen = Vec::new();
        for _ in 0..5 {
            let delivery = queue.next(Line::Poll).await;
            seen.push((delivery.message().hop, start.elapsed().as_secs()));
            delivery.done();
        }
        assert_eq!(seen, [(3, 0), (5, 0), (2, 5), (4, 5), (1, 900)]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_waits_gets_what_is_sent_meanwhile_and_sooner() {
        let queue = LocalQueue::default();
        send(&queue, &[(1, 60)]).await;
        let sooner = async {
            tokio::time::sleep(SECOND).await;
            send(&queue, &[(2, 1)]).await;
        };
        let start = Instant::now();
        let (delivery, ()) = tokio::join!(queue.next(Line::Poll), sooner);
        assert_eq!(delivery.message().hop, 2);
        assert_eq!(start.elapsed().as_secs(), 2);
        delivery.done();
    }

    #[tokio::test(start_paused = true)]
    async fn the_lines_do_not_mix() {
        let queue = LocalQueue::default();
        let delay = Duration::ZERO;
        let message = messages::copy(7);
        queue.send(vec![Outgoing { message, delay }]).await.unwrap();
        assert!(queue.next(Line::Poll).now_or_never().is_none());
        assert_eq!(queue.next(Line::Copy).await.message().hop, 7);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_idle_when_all_is_delivered_and_ended() {
        let queue = LocalQueue::default();
        assert!(queue.is_idle());
        send(&queue, &[(1, 10)]).await;
        assert!(!queue.is_idle());
        // Waiting and giving up takes nothing.
        let waiting = tokio::time::timeout(SECOND, queue.next(Line::Poll));
        assert!(waiting.await.is_err());
        let work = async {
            let delivery = queue.next(Line::Poll).await;
            assert!(!queue.is_idle());
            send(&queue, &[(2, 10)]).await;
            delivery.done();
            queue.next(Line::Poll).await.done();
        };
        let start = Instant::now();
        tokio::join!(work, queue.idle());
        assert_eq!(start.elapsed().as_secs(), 19);
        assert!(queue.is_idle());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_done_comes_again() {
        let queue = LocalQueue::default();
        send(&queue, &[(1, 0)]).await;
        drop(queue.next(Line::Poll).await);
        let start = Instant::now();
        queue.next(Line::Poll).await.again(SECOND);
        assert!(!queue.is_idle());
        let third = queue.next(Line::Poll).await;
        assert_eq!(third.deliveries(), 3);
        assert_eq!(start.elapsed(), SECOND);
        third.done();
        assert!(queue.is_idle());
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_that_sqs_would_refuse_is_refused() {
        let queue = LocalQueue::default();
        let message = messages::look(1);
        let delay = LONGEST_DELAY + Duration::from_millis(1);
        let sent = queue.send(vec![Outgoing { message, delay }]).await;
        assert_eq!(sent.unwrap_err().queue, "poll");
        assert!(queue.is_idle());
    }

    #[tokio::test]
    async fn the_buried_are_found() {
        let queue = LocalQueue::default();
        let letter = DeadLetter {
            start: messages::start(),
            reason: "the job failed".to_owned(),
        };
        queue.bury(letter.clone()).await.unwrap();
        assert_eq!(queue.dead_letters(), [letter]);
        assert!(queue.is_idle());
    }
}
