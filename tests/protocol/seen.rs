//! Which worlds have been seen: what the small scope need not walk twice.
//!
//! A world is everything that what comes next depends on: what stands in the archive, in the queues,
//! at the host, what the laws remember, the time; and of each invocation at work all that it was
//! ever told, because a stage is a function of its message and of the answers it got. Where two runs
//! come to the same world, all that can follow is the same, laws included; so the one that comes later,
//! with no more left to it to go wrong, is not walked on. Worlds are told apart by 128 bits of SHA-256.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Mutex;

use bytes::Bytes;
use insights_archive::archive::{Created, Head, Listed, Replaced, Stored};
use insights_archive::export::JobId;
use insights_archive::kore::job::Job;

use crate::path::Limits;

/// Everything that was hashed, one after another.
#[derive(Debug, Clone, Default)]
pub struct Print(Vec<u8>);

impl Hasher for Print {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        let [high, low] = self.halves();
        high ^ low
    }
}

impl Print {
    pub fn of(what: impl Hash) -> Self {
        let mut print = Self::default();
        what.hash(&mut print);
        print
    }

    fn halves(&self) -> [u64; 2] {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.0);
        let half = |at: usize| {
            let bytes = digest.as_ref()[at..at + 8].try_into().expect("8 bytes");
            u64::from_be_bytes(bytes)
        };
        [half(0), half(8)]
    }

    pub fn digest(&self) -> u128 {
        let [high, low] = self.halves();
        u128::from(high) << 64 | u128::from(low)
    }

    /// Another thing of a list whose order does not matter.
    pub fn sorted(&mut self, mut digests: Vec<u128>) {
        digests.sort_unstable();
        digests.hash(self);
    }
}

/// An answer, as far as it makes a difference to who gets it.
pub trait Answer {
    fn tell(&self, print: &mut Print);
}

impl Answer for () {
    fn tell(&self, _: &mut Print) {}
}

impl Answer for Bytes {
    fn tell(&self, print: &mut Print) {
        self.hash(print);
    }
}

impl Answer for Stored {
    fn tell(&self, print: &mut Print) {
        // It is made of the bytes.
        self.etag.as_str().hash(print);
    }
}

impl Answer for Head {
    fn tell(&self, print: &mut Print) {
        (self.bytes, &self.metadata, &self.crc64nvme).hash(print);
    }
}

impl Answer for Created {
    fn tell(&self, print: &mut Print) {
        matches!(self, Self::Exists).hash(print);
    }
}

impl Answer for Replaced {
    fn tell(&self, print: &mut Print) {
        matches!(self, Self::Changed).hash(print);
    }
}

impl Answer for Listed {
    fn tell(&self, print: &mut Print) {
        (&self.key, self.bytes).hash(print);
    }
}

impl Answer for Job {
    fn tell(&self, print: &mut Print) {
        format!("{self:?}").hash(print);
        for file in &self.files {
            file.url.expose().hash(print);
        }
    }
}

impl Answer for (JobId, String, Bytes) {
    fn tell(&self, print: &mut Print) {
        (self.0.as_str(), &self.1, &self.2).hash(print);
    }
}

impl Answer for u16 {
    fn tell(&self, print: &mut Print) {
        self.hash(print);
    }
}

impl<T: Answer> Answer for Option<T> {
    fn tell(&self, print: &mut Print) {
        self.is_some().hash(print);
        if let Some(value) = self {
            value.tell(print);
        }
    }
}

impl<T: Answer> Answer for Vec<T> {
    fn tell(&self, print: &mut Print) {
        self.len().hash(print);
        for value in self {
            value.tell(print);
        }
    }
}

impl<T: Answer, E: Answer> Answer for Result<T, E> {
    fn tell(&self, print: &mut Print) {
        self.is_ok().hash(print);
        match self {
            Ok(value) => value.tell(print),
            Err(error) => error.tell(print),
        }
    }
}

/// The worlds so far, with what had gone wrong on the way to each.
#[derive(Debug, Default)]
pub struct Worlds(Mutex<HashMap<u128, u32>>);

impl Worlds {
    /// Whether a run has been here with no more faults and no more pre-emptions behind it: then all
    /// that may follow is that run's. If not, it is this one's from now on.
    pub fn has(&self, world: u128, faults: u32, preemptions: u32, limits: Limits) -> bool {
        let bit = |f: u32, p: u32| 1 << (f * (limits.preemptions + 1) + p);
        let mut worlds = self.0.lock().expect("no panic");
        let been = worlds.entry(world).or_default();
        if *been & bit(faults, preemptions) != 0 {
            return true;
        }
        for f in faults..=limits.faults {
            for p in preemptions..=limits.preemptions {
                *been |= bit(f, p);
            }
        }
        false
    }

    pub fn count(&self) -> usize {
        self.0.lock().expect("no panic").len()
    }
}
