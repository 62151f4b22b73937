//! The choices of one run through the small scope: which there were, which were taken, and which runs
//! follow from it.

use std::fmt;
use std::str::FromStr;

use crate::fault::Fault;

/// What may go wrong here, in a world that is this small: every kind but these.
///
/// - A kill after an effect is a kill before the next one, or a message that is not deleted.
/// - Outages are windows of time; here each effect fails by itself.
/// - Between the effects of one invocation no time passes: nothing is slow, no link expires.
/// - Ticks come, and persons wish, at the times that the scenes have.
pub const POSSIBLE: &[Fault] = &[
    Fault::Kill,
    Fault::Unavailable,
    Fault::LostAnswer,
    Fault::Repeated,
    Fault::Refused,
    Fault::Corrupted,
    Fault::ClaimLost,
    Fault::ClaimGarbled,
    Fault::ReceiptLost,
    Fault::ReceiptGarbled,
    Fault::QueueDown,
    Fault::QueueLost,
    Fault::QueuePartial,
    Fault::Limited,
    Fault::LimitedLong,
    Fault::Unreachable,
    Fault::Unclear,
    Fault::UnclearAfter,
    Fault::Unauthorized,
    Fault::Gone,
    Fault::LinkRefused,
    Fault::Broken,
    Fault::BrokenLong,
    Fault::Html,
    Fault::Miscounted,
    Fault::CutSilently,
    Fault::CutLoudly,
    Fault::Duplicate,
    Fault::Late,
    Fault::DeleteLost,
    Fault::JobSlow,
    Fault::JobStuck,
    Fault::JobFails,
    Fault::JobVanishes,
    Fault::JobFewer,
    Fault::JobMore,
    Fault::JobTwice,
    Fault::JobSilent,
    Fault::JobMiscounts,
    Fault::JobMisadds,
    Fault::JobReorders,
    Fault::JobRenames,
    Fault::JobRelapses,
    Fault::JobSwaps,
    Fault::JobForgets,
];

/// The worst of them: what is done and not known, what is lost, what comes twice, what is gone.
pub const WORST: &[Fault] = &[
    Fault::Kill,
    Fault::LostAnswer,
    Fault::QueueLost,
    Fault::Gone,
    Fault::Duplicate,
    Fault::DeleteLost,
];

/// Where an export begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// One chain.
    One,
    /// Two chains, of two ticks that overlapped: two may commit.
    Two,
    /// Two chains that replace the same manifest.
    Replace,
}

impl Scene {
    pub const EVERY: [Self; 3] = [Self::One, Self::Two, Self::Replace];
}

/// How much may differ from the plainest run.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub faults: u32,
    pub preemptions: u32,
    /// Faults and pre-emptions together.
    pub together: u32,
    /// Which faults.
    pub possible: &'static [Fault],
}

/// The choices of one run.
#[derive(Debug, Clone)]
pub struct Path {
    pub scene: Scene,
    limits: Limits,
    /// What differs: at the so-manieth choice, this option.
    differs: Vec<(usize, usize)>,
    /// How many choices there were so far.
    count: usize,
    /// The choices after the last that differs: which, and how many options.
    open: Vec<(usize, usize)>,
    pub faults: u32,
    pub preemptions: u32,
    /// Whether there is no choice for now.
    pub plain: bool,
}

impl Path {
    pub fn new(scene: Scene, limits: Limits, differs: Vec<(usize, usize)>) -> Self {
        Self {
            scene,
            limits,
            differs,
            count: 0,
            open: Vec::new(),
            faults: 0,
            preemptions: 0,
            plain: false,
        }
    }

    /// Whether the last choice that differs is behind it: what comes now, this run is the first of its
    /// name to see.
    pub fn is_beyond(&self) -> bool {
        self.differs
            .last()
            .is_none_or(|(last, _)| *last < self.count)
    }

    /// One of so many options; 0 is the plain one.
    pub fn choose(&mut self, options: usize) -> usize {
        if options < 2 || self.plain {
            return 0;
        }
        let beyond = self.is_beyond();
        let index = self.count;
        self.count += 1;
        if beyond {
            self.open.push((index, options));
            return 0;
        }
        let found = self.differs.iter().find(|(at, _)| *at == index);
        found.map_or(0, |(_, option)| *option)
    }

    fn exhausted(&self) -> bool {
        self.faults + self.preemptions >= self.limits.together
    }

    pub fn fault(&mut self, among: &[Fault]) -> Option<Fault> {
        if self.plain || self.exhausted() || self.faults >= self.limits.faults {
            return None;
        }
        let possible = |fault: &&Fault| self.limits.possible.contains(fault);
        let possible: Vec<_> = among.iter().filter(possible).copied().collect();
        let chosen = self.choose(1 + possible.len());
        let fault = possible.get(chosen.checked_sub(1)?).copied();
        self.faults += u32::from(fault.is_some());
        fault
    }

    pub fn preempts(&mut self) -> bool {
        if self.exhausted() || self.preemptions >= self.limits.preemptions {
            return false;
        }
        let yes = self.choose(2) == 1;
        self.preemptions += u32::from(yes);
        yes
    }

    /// The paths that differ from this one in one choice more.
    pub fn next(&self) -> impl Iterator<Item = Vec<(usize, usize)>> + '_ {
        self.open.iter().flat_map(|(index, options)| {
            (1..*options).map(|option| {
                let mut differs = self.differs.clone();
                differs.push((*index, option));
                differs
            })
        })
    }
}

/// A path as text: `Two 12=1 40=3`.
#[derive(Debug, Clone)]
pub struct Name(pub Scene, pub Vec<(usize, usize)>);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)?;
        for (index, option) in &self.1 {
            write!(f, " {index}={option}")?;
        }
        Ok(())
    }
}

impl FromStr for Name {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a path such as 'Two 12=1 40=3'");
        let mut words = text.split_whitespace();
        let name = words.next().ok_or_else(bad)?;
        let scene = Scene::EVERY
            .into_iter()
            .find(|scene| format!("{scene:?}") == name)
            .ok_or_else(bad)?;
        let differs = words.map(|word| {
            let (index, option) = word.split_once('=')?;
            Some((index.parse().ok()?, option.parse().ok()?))
        });
        let differs = differs.collect::<Option<_>>().ok_or_else(bad)?;
        Ok(Self(scene, differs))
    }
}
