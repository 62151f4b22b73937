//! The simulated host's options on the command line.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;

use super::faults::{Fault, Faults, Occasion, When};
use super::plan::{Empty, Limits, Plan, Shape};
use super::token::Credentials;
use crate::export::{AppId, Invalid};

/// How the simulated host behaves.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Port on 127.0.0.1; 0 takes any free one
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// Apps that exist, by their ids, separated by commas [default: any]
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub apps: Vec<AppId>,
    /// Client ID of all apps
    #[arg(long, value_name = "ID", default_value = "cs-demo")]
    pub client_id: String,
    /// Client secret of all apps
    #[arg(
        long,
        value_name = "SECRET",
        default_value = "demo-secret",
        hide_default_value = true
    )]
    pub client_secret: SecretString,
    /// Take a token more than once (otherwise each needs a new `jti`)
    #[arg(long)]
    pub reusable_tokens: bool,
    /// Records per week: a number, or a range such as 0-400
    #[arg(long, value_name = "N|N-M", default_value = "100-400")]
    pub records_per_week: Range,
    /// Weeks without any record, in percent
    #[arg(long, value_name = "PERCENT", default_value = "0")]
    pub empty_weeks: Percent,
    /// What a week without records comes to
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    pub empty: Empty,
    /// Records per file
    #[arg(long, value_name = "N", default_value_t = 150, value_parser = clap::value_parser!(u64).range(1..))]
    pub records_per_fragment: u64,
    /// Size of a search record in bytes: a number, or a range; at least 2048
    #[arg(long, value_name = "N|N-M", default_value = "2048-8192")]
    pub record_bytes: Range,
    /// How long a job takes for each file, in seconds (the real host: about 10)
    #[arg(long, value_name = "SECONDS", default_value = "1")]
    pub seconds_per_fragment: Seconds,
    /// Requests per minute and app, thirty times as many per hour; 0: no limit
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub rate_limit: u32,
    /// How job answers are spelt
    #[arg(long, value_enum, default_value_t)]
    pub shape: Shape,
    /// How long a link to a file works
    #[arg(long, value_name = "SECONDS", default_value = "900")]
    pub url_lifetime: Seconds,
    /// Let every fault that heals strike with this chance, in percent
    #[arg(long, value_name = "PERCENT", default_value = "0")]
    pub faults: Percent,
    /// One fault's chance in percent, or its exact place: start, look or open and a number.
    /// Goes before --faults. May be repeated: `--fault cut-file=20 --fault lost-answer@start2`
    #[arg(long = "fault", value_name = "KIND=PERCENT|KIND@PLACE", long_help = fault_help())]
    pub fault: Vec<Ordered>,
    /// Decides everything that is left to chance
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

impl Options {
    /// The plan that these options describe.
    pub fn plan(&self) -> Plan {
        let mut faults = if self.faults.0 > 0.0 {
            Faults::healing(self.faults.0)
        } else {
            Faults::none()
        };
        for Ordered(fault, place) in &self.fault {
            faults = match place {
                Place::Chance(percent) => faults.chance(*fault, percent.0),
                Place::Nth(occasion, n) => faults.plan(*fault, When::Nth(*occasion, *n)),
            };
        }
        Plan {
            seed: self.seed,
            apps: (!self.apps.is_empty()).then(|| self.apps.iter().cloned().collect()),
            credentials: Credentials {
                client_id: self.client_id.clone(),
                client_secret: self.client_secret.clone(),
            },
            tokens_once: !self.reusable_tokens,
            shape: self.shape,
            records_per_week: self.records_per_week.0.clone(),
            empty_weeks: self.empty_weeks.0,
            empty: self.empty,
            records_per_fragment: self.records_per_fragment,
            record_bytes: self.record_bytes.0.clone(),
            fragment_time: self.seconds_per_fragment.0,
            limits: (self.rate_limit > 0).then(|| Limits {
                per_minute: self.rate_limit,
                per_hour: self.rate_limit.saturating_mul(30),
            }),
            link_lifetime: self.url_lifetime.0,
            faults,
            ..Plan::default()
        }
    }
}

fn fault_help() -> String {
    let mut help =
        "One fault's chance in percent, or its exact place: start, look or open and the \
        number of that request. Goes before --faults. May be repeated:\n\
        --fault cut-file=20 --fault lost-answer@start2\n\nFaults:\n"
            .to_owned();
    for fault in Fault::EVERY {
        let note = if fault.heals() {
            ""
        } else {
            " (never heals; not in --faults)"
        };
        let _ = writeln!(help, "  {fault:<20} {}{note}", fault.about());
    }
    help
}

/// A range of numbers, written `N` or `N-M`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range(RangeInclusive<u64>);

impl FromStr for Range {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        match (from.parse(), to.parse()) {
            (Ok(from), Ok(to)) if from <= to => Ok(Self(from..=to)),
            _ => Err(Invalid::new(
                "a range",
                "a number, or two such as 100-400, the smaller first",
                text,
            )),
        }
    }
}

/// A share in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percent(f64);

impl FromStr for Percent {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let number = text.strip_suffix('%').unwrap_or(text).trim().parse();
        match number {
            Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Self(percent)),
            _ => Err(Invalid::new("a percentage", "a number from 0 to 100", text)),
        }
    }
}

/// A span of time in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seconds(Duration);

impl FromStr for Seconds {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse()
            .ok()
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .map(Self)
            .ok_or_else(|| Invalid::new("a span", "a number of seconds, such as 0.5", text))
    }
}

/// One fault and where it strikes, written `cut-file=20` or `lost-answer@start2`.
#[derive(Debug, Clone, PartialEq)]
pub struct Ordered(Fault, Place);

#[derive(Debug, Clone, PartialEq)]
enum Place {
    Chance(Percent),
    Nth(Occasion, u64),
}

impl FromStr for Ordered {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |expected| Invalid::new("a fault", expected, text);
        if let Some((fault, percent)) = text.split_once('=') {
            return Ok(Self(fault.parse()?, Place::Chance(percent.parse()?)));
        }
        let (fault, place) = text
            .split_once('@')
            .ok_or_else(|| invalid("KIND=PERCENT or KIND@PLACE"))?;
        let fault: Fault = fault.parse()?;
        let places = [
            ("start", Occasion::Start),
            ("look", Occasion::Look),
            ("open", Occasion::Open),
        ];
        let (occasion, n) = places
            .into_iter()
            .find_map(|(word, occasion)| Some((occasion, place.strip_prefix(word)?)))
            .and_then(|(occasion, n)| Some((occasion, n.parse().ok().filter(|n| *n > 0)?)))
            .ok_or_else(|| invalid("KIND@PLACE with a place such as start2, look5 or open1"))?;
        if fault.occasions().contains(&occasion) {
            Ok(Self(fault, Place::Nth(occasion, n)))
        } else {
            Err(invalid("a place where this fault can strike"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory as _, Parser};

    #[derive(Debug, Parser)]
    struct Simulate {
        #[command(flatten)]
        options: Options,
    }

    fn plan(words: &str) -> Result<Plan, String> {
        Simulate::try_parse_from(words.split_whitespace())
            .map(|simulate| simulate.options.plan())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn without_options_the_host_is_the_plain_one() {
        let plan = plan("simulate").unwrap();
        assert_eq!(format!("{plan:?}"), format!("{:?}", Plan::default()));
        Simulate::command().debug_assert();
    }

    #[test]
    fn options_reach_the_plan() {
        let plan = plan(
            "simulate --apps st-1,st-2 --records-per-week 7 --seconds-per-fragment 0.5 \
             --rate-limit 0 --shape older --faults 5 --fault gzip=0 --fault lost-answer@start2",
        )
        .unwrap();
        assert_eq!(plan.apps.unwrap().len(), 2);
        assert_eq!(plan.records_per_week, 7..=7);
        assert_eq!(plan.fragment_time, Duration::from_millis(500));
        assert_eq!(plan.limits, None);
        assert_eq!(plan.shape, Shape::Older);
        let faults = Faults::healing(5.0)
            .chance(Fault::Gzip, 0.0)
            .plan(Fault::LostAnswer, When::Nth(Occasion::Start, 2));
        assert_eq!(plan.faults, faults);
    }

    #[test]
    fn nonsense_is_refused_with_what_was_expected() {
        for (words, expected) in [
            ("--apps st/1", "an AppID must be"),
            ("--records-per-week 9-1", "the smaller first"),
            ("--records-per-week many", "a range must be"),
            ("--records-per-fragment 0", "not in 1.."),
            ("--empty-weeks 101", "a number from 0 to 100"),
            ("--faults NaN", "a number from 0 to 100"),
            ("--url-lifetime -1", "a number of seconds"),
            ("--fault cutfile=1", "such as cut-file"),
            ("--fault cut-file", "KIND=PERCENT or KIND@PLACE"),
            ("--fault cut-file@open0", "such as start2"),
            ("--fault cut-file@look1", "where this fault can strike"),
        ] {
            let error = plan(&format!("simulate {}", words.replacen(' ', "=", 1))).unwrap_err();
            assert!(error.contains(expected), "{words}: {error}");
        }
    }

    #[test]
    fn the_help_names_every_fault() {
        let mut command = Simulate::command().term_width(usize::MAX);
        let help = command.render_long_help().to_string();
        for fault in Fault::EVERY {
            assert!(help.contains(fault.about()), "{fault}");
        }
        assert!(!help.contains("demo-secret"));
    }
}
