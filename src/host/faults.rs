//! What goes wrong at the simulated host: on which request, by plan and by chance.
//!
//! Chance is drawn from the seed, from what a request is about, and from how often the like was asked
//! before. So a run can be repeated, however its requests interleave, and what went wrong once is
//! mostly right on the next try.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;

use super::dice::{fork, fork_text, unit};
use crate::export::{Export, Invalid};

/// When the host may do something wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Occasion {
    /// A request to start an export.
    Start,
    /// A look at a job.
    Look,
    /// A file being opened.
    Open,
}

use Occasion::{Look, Open, Start};

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $fault:ident, $name:literal, $on:expr, $heals:literal;)+) => {
        /// One thing that can go wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault {
            $($(#[doc = $doc])+ $fault,)+
        }

        impl Fault {
            /// Every fault there is.
            pub const EVERY: &[Self] = &[$(Self::$fault),+];

            /// Its name on the command line and in the counters.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$fault => $name),+ }
            }

            /// What happens, in words.
            pub fn about(self) -> &'static str {
                match self { $(Self::$fault => concat!($($doc),+).trim_ascii()),+ }
            }

            /// When it strikes. A fault of a job strikes when the job is started.
            pub fn occasions(self) -> &'static [Occasion] {
                match self { $(Self::$fault => &$on),+ }
            }

            /// Whether the same request, a new look or a new job can be right afterwards. What does not
            /// heal ends as a discrepancy in the archive, as it should.
            pub fn heals(self) -> bool {
                match self { $(Self::$fault => $heals),+ }
            }
        }
    };
}

faults! {
    /// 429, with or without Retry-After; nothing is done
    Limited, "limited", [Start, Look], true;
    /// 500 or 503 before the effect, 502 or 504 after it
    ServerError, "server-error", [Start, Look], true;
    /// an HTML page with status 200; nothing is done
    Html, "html", [Start, Look], true;
    /// the effect, then an empty body with status 200
    EmptyAnswer, "empty-answer", [Start, Look], true;
    /// the connection closes before anything is done
    LostRequest, "lost-request", [Start, Look], true;
    /// the effect, then the connection closes without an answer
    LostAnswer, "lost-answer", [Start, Look], true;
    /// the effect, then neither an answer nor an end
    HangingAnswer, "hanging-answer", [Start, Look], true;
    /// the effect, then an answer that never ends
    EndlessAnswer, "endless-answer", [Start, Look], true;
    /// a started job's answer lacks its id
    NoId, "no-id", [Start], true;
    /// a job takes 20 times as long
    SlowJob, "slow-job", [Start], true;
    /// a job's percentage stops moving for good
    StuckJob, "stuck-job", [Start], true;
    /// a job ends as FAILED, as failed, or as timedOut
    FailingJob, "failing-job", [Start], true;
    /// a job is no longer found, while it runs or after
    VanishingJob, "vanishing-job", [Start], true;
    /// a job's status has words never documented
    UnknownStatus, "unknown-status", [Start], true;
    /// a job lists files before all of them are made
    EarlyFiles, "early-files", [Start], true;
    /// a job states one file's recordCount too high or too low
    WrongRecords, "wrong-records", [Start], false;
    /// a job states totalRecords too high or too low
    WrongTotalRecords, "wrong-total-records", [Start], false;
    /// a look states totalFiles too high or too low
    WrongTotalFiles, "wrong-total-files", [Look], true;
    /// a look lists one file id twice
    RepeatedFile, "repeated-file", [Look], true;
    /// a look lists the files in another order
    ReorderedFiles, "reordered-files", [Look], true;
    /// a look has a percentage below 0, beyond 100 or in words, or counts below 0 too
    AbsurdNumbers, "absurd-numbers", [Look], true;
    /// a file's connection closes before its last byte
    CutFile, "cut-file", [Open], true;
    /// a file ends early in a way that HTTP cannot tell from its end
    TornFile, "torn-file", [Open], true;
    /// a file lacks its last record and is well-formed all the same, but not twice running
    ShortFile, "short-file", [Open], true;
    /// a file is no JSON array: half of one, or more than one
    DamagedFile, "damaged-file", [Open], true;
    /// an HTML page with status 200 in a file's place
    HtmlFile, "html-file", [Open], true;
    /// a link is refused before its time (401, 403, 404 or 410)
    ExpiredLink, "expired-link", [Open], true;
    /// the file host answers 429, 500 or 503
    FileError, "file-error", [Open], true;
    /// the file host sends its visitor in a circle
    RedirectLoop, "redirect-loop", [Open], true;
    /// a file stops arriving, and its connection stays open
    StalledFile, "stalled-file", [Open], true;
    /// a file arrives slowly, but does arrive
    Drip, "drip", [Open], true;
    /// a file comes compressed in transfer; nothing is wrong with it
    Gzip, "gzip", [Open], true;
    /// a file comes without Content-Length; nothing is wrong with it
    NoLength, "no-length", [Open], true;
    /// a file is somewhere else, relative or absolute; nothing is wrong with it
    Redirect, "redirect", [Open], true;
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Fault {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::EVERY
            .iter()
            .copied()
            .find(|fault| fault.as_str() == text)
            .ok_or_else(|| {
                Invalid::new(
                    "a fault",
                    "one of those that `simulate --help` lists, such as cut-file",
                    text,
                )
            })
    }
}

/// When a planned fault strikes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// On the n-th request of this kind to the host, counted from 1.
    Nth(Occasion, u64),
    /// On the first so many occasions that concern an export.
    First(Export, u32),
    /// Always.
    Always,
}

/// What shall go wrong.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults {
    planned: Vec<(Fault, When)>,
    /// From 0 to 1.
    chances: BTreeMap<Fault, f64>,
}

impl Faults {
    /// Nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Every fault that [heals](Fault::heals), with the same chance in percent: with a few percent, an
    /// archive of such a host ends complete and verified.
    #[must_use]
    pub fn healing(percent: f64) -> Self {
        Self::chosen(percent, Fault::heals)
    }

    /// Every fault, with the same chance in percent: an archive of such a host ends complete, with
    /// discrepancies where the host lied about counts to the end.
    #[must_use]
    pub fn every(percent: f64) -> Self {
        Self::chosen(percent, |_| true)
    }

    fn chosen(percent: f64, wanted: impl Fn(Fault) -> bool) -> Self {
        Fault::EVERY
            .iter()
            .filter(|fault| wanted(**fault))
            .fold(Self::none(), |all, fault| all.chance(*fault, percent))
    }

    /// The same with another chance of one fault, in percent: 0 never, 100 always.
    #[must_use]
    pub fn chance(mut self, fault: Fault, percent: f64) -> Self {
        self.chances.insert(fault, percent / 100.0);
        self
    }

    /// The same with one fault at an exact place.
    #[must_use]
    pub fn plan(mut self, fault: Fault, when: When) -> Self {
        self.planned.push((fault, when));
        self
    }
}

/// Decides request by request.
#[derive(Debug)]
pub(crate) struct Thrower {
    seed: u64,
    faults: Faults,
    /// Requests of each kind so far.
    requests: BTreeMap<Occasion, u64>,
    /// Requests so far of each kind about one thing.
    about: HashMap<(Occasion, u64), u64>,
}

/// What may go wrong with one request.
#[derive(Debug)]
pub(crate) struct Throw {
    struck: Vec<Fault>,
    number: u64,
}

impl Throw {
    /// A number to choose a variant of the fault by, where it strikes.
    pub(crate) fn of(&self, fault: Fault) -> Option<u64> {
        self.struck
            .contains(&fault)
            .then(|| fork(self.number, !(fault as u64)))
    }
}

impl Thrower {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        Self {
            seed,
            faults,
            requests: BTreeMap::new(),
            about: HashMap::new(),
        }
    }

    /// From here on, other faults.
    pub(crate) fn replace(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// Throws for one request. `subject` is what it asks for, the same whenever it is asked again.
    pub(crate) fn throw(
        &mut self,
        occasion: Occasion,
        subject: &str,
        export: Option<&Export>,
    ) -> Throw {
        let nth = self.requests.entry(occasion).or_default();
        *nth += 1;
        let nth = *nth;
        let subject = fork_text(fork(self.seed, occasion as u64), subject);
        let again = self.about.entry((occasion, subject)).or_default();
        *again += 1;
        let number = fork(subject, *again);
        let mut struck: Vec<Fault> = self
            .faults
            .chances
            .iter()
            .filter(|(fault, _)| fault.occasions().contains(&occasion))
            // a second count decides, so the same short file twice would not heal
            .filter(|(fault, _)| **fault != Fault::ShortFile || !again.is_multiple_of(2))
            .filter(|(fault, chance)| unit(fork(number, **fault as u64)) < **chance)
            .map(|(fault, _)| *fault)
            .collect();
        for (fault, when) in &mut self.faults.planned {
            let strikes = match when {
                When::Nth(on, n) => *on == occasion && *n == nth,
                When::First(of, left) if Some(&*of) == export => {
                    let strikes = *left > 0 && fault.occasions().contains(&occasion);
                    *left -= u32::from(strikes);
                    strikes
                }
                When::First(..) => false,
                When::Always => fault.occasions().contains(&occasion),
            };
            if strikes {
                struck.push(*fault);
            }
        }
        Throw { struck, number }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_faults() {
        for fault in Fault::EVERY {
            assert_eq!(fault.as_str().parse(), Ok(*fault));
            assert!(!fault.occasions().is_empty() && !fault.about().is_empty());
        }
        assert!("cutfile".parse::<Fault>().is_err());
    }

    #[test]
    fn chances_are_met_and_repeat_with_the_seed() {
        let strikes = |seed| {
            let faults = Faults::healing(5.0).chance(Fault::Gzip, 0.0);
            let mut thrower = Thrower::new(seed, faults);
            (0..2_000)
                .map(|file| thrower.throw(Open, &format!("f-{}", file / 4), None))
                .map(|throw| {
                    assert_eq!(throw.of(Fault::Gzip), None);
                    throw.of(Fault::CutFile)
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(strikes(1), strikes(1));
        assert_ne!(strikes(1), strikes(2));
        let struck = strikes(1).iter().flatten().count();
        assert!((60..140).contains(&struck), "{struck} of 2,000 at 5 %");
    }

    #[test]
    fn a_plan_strikes_where_it_says() {
        let export = Export {
            app: "st-1".parse().unwrap(),
            event: crate::export::Event::All,
            week: "2025-01-20".parse().unwrap(),
        };
        let faults = Faults::none()
            .plan(Fault::LostAnswer, When::Nth(Start, 2))
            .plan(Fault::CutFile, When::First(export.clone(), 2))
            .plan(Fault::Drip, When::Always);
        let mut thrower = Thrower::new(0, faults);
        let starts: Vec<bool> = (0..3)
            .map(|_| {
                thrower
                    .throw(Start, "", None)
                    .of(Fault::LostAnswer)
                    .is_some()
            })
            .collect();
        assert_eq!(starts, [false, true, false]);
        let mut cut = |export| thrower.throw(Open, "", export).of(Fault::CutFile).is_some();
        let cuts = [
            cut(None),
            cut(Some(&export)),
            cut(Some(&export)),
            cut(Some(&export)),
        ];
        assert_eq!(cuts, [false, true, true, false]);
        assert!(thrower.throw(Open, "", None).of(Fault::Drip).is_some());
        assert!(thrower.throw(Look, "", None).of(Fault::Drip).is_none());
    }
}
