//! The outside of a function, as its stage sees it: clients that are built once, and what an
//! invocation has to tell.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::rand;

use super::log;
use super::metrics::Metrics;
use crate::archive::Archive;
use crate::export::{Export, Time};
use crate::kore::Kore;
use crate::queue::sqs::Sqs;
use crate::queue::{Queue, QueueError};
use crate::stages::{Budget, Edges, Report, Rules};

/// Where a body goes that is no message, for a person to look at.
pub trait BuryRaw: Queue {
    /// Puts the body into the dead-letter queue as it is, with the reason.
    fn bury_raw(
        &self,
        body: &str,
        reason: &str,
    ) -> impl Future<Output = Result<(), QueueError>> + Send;
}

/// The outside of a function.
pub struct Outside<K, A, Q> {
    /// The vendor.
    pub kore: K,
    /// The store.
    pub archive: A,
    /// What carries messages.
    pub queue: Q,
    /// What the decisions go by.
    pub rules: Rules,
    /// The memory that fragments in flight may take.
    pub budget: Budget,
    /// What the invocation under way has to tell.
    pub metrics: Mutex<Metrics>,
}

impl<K, A, Q> Outside<K, A, Q> {
    /// What the invocation under way has to tell, to be added to.
    pub fn metrics(&self) -> MutexGuard<'_, Metrics> {
        // Counters are whole at every instant, even where somebody panicked.
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the invocation that ends has to tell.
    pub fn take_metrics(&self) -> Metrics {
        mem::take(&mut *self.metrics())
    }
}

impl<K: Kore, A: Archive, Q: Queue> Edges for Outside<K, A, Q> {
    type Kore = K;
    type Archive = A;
    type Queue = Q;

    fn kore(&self) -> &K {
        &self.kore
    }

    fn archive(&self) -> &A {
        &self.archive
    }

    fn queue(&self) -> &Q {
        &self.queue
    }

    fn rules(&self) -> &Rules {
        &self.rules
    }

    fn budget(&self) -> &Budget {
        &self.budget
    }

    fn now(&self) -> Time {
        Time::now()
    }

    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        // It cannot fail on the systems that this runs on; if it did, chains could share an id, which
        // costs work only.
        let _ = rand::fill(&mut bytes);
        u64::from_ne_bytes(bytes)
    }

    fn report(&self, export: &Export, report: Report) {
        log::report(export, &report);
        self.metrics().note(export, &report);
    }
}

impl BuryRaw for Sqs {
    async fn bury_raw(&self, body: &str, reason: &str) -> Result<(), QueueError> {
        Sqs::bury_raw(self, body, reason, None).await
    }
}
