//! `--app`, `--event`, `--since`, `--until`: which exports of an archive are looked at.

use jiff::civil::Date;

use super::usage::Usage;
use crate::audit::Range;
use crate::export::{AppId, Event, Week, parse_date};

/// Which exports.
#[derive(Debug, Clone, clap::Args)]
pub struct Selection {
    /// Only this app; can be given several times [default: all that are found]
    #[arg(long = "app", value_name = "ID")]
    apps: Vec<AppId>,
    /// Only this event: all, thumbsUp or thumbsDown; can be given several times
    #[arg(long = "event", value_name = "EVENT")]
    events: Vec<Event>,
    /// From the week that holds this day [default: the first that is found]
    #[arg(long, value_name = "DATE", value_parser = parse_date)]
    since: Option<Date>,
    /// Up to the week before the one that starts on or after this day
    #[arg(long, value_name = "DATE", value_parser = parse_date)]
    until: Option<Date>,
}

impl Selection {
    /// The range that is meant.
    ///
    /// # Errors
    /// When it holds no week.
    pub fn range(self) -> Result<Range, Usage> {
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since >= until
        {
            return Err(Usage::new(format!(
                "--since {since} is not before --until {until}: no week is left"
            )));
        }
        Ok(Range {
            apps: self.apps,
            events: self.events,
            since: self.since.map(Week::containing),
            until: self.until.map(|until| {
                let week = Week::containing(until);
                if week.monday() == until {
                    week
                } else {
                    week.next()
                }
            }),
        })
    }
}
