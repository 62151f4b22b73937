//! `run`: archive an app's weeks from the real host, or whatever speaks its API.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;

use super::progress::Progress;
use super::screen::Screen;
use super::site::{Opened, Site};
use super::stop::Stop;
use super::table::Table;
use super::usage::Usage;
use super::{UNFULFILLED, figures, results};
use crate::archive::Archive;
use crate::export::{AppId, Event, Export, Time, Week, parse_date};
use crate::kore::Kore;
use crate::kore::client::Client;
use crate::kore::limits::Paced;
use crate::kore::source::{FileHosts, HostUrl};
use crate::kore::token::{CredentialSet, Fixed};
use crate::run::{Local, Patience, drive};
use crate::stages::enqueue::{self, Line, Request, Scope, Summary, Wish};
use crate::stages::{Budget, Edges, Report};

/// Fragments copied at once for one slice; more does not make one host faster.
const COPIES_AT_ONCE: usize = 8;

/// Archive an app's weeks: export, copy, verify
///
/// Every week from --since up to --until that is over and not yet in the archive is exported by the
/// vendor's API, copied byte for byte, counted, checksummed and committed by a manifest. What stands
/// already is left alone, so the same command can be run again at any time: it continues where it
/// was stopped or killed.
///
/// Credentials come from the environment: KORE_JWT, or KORE_CLIENT_ID and KORE_CLIENT_SECRET.
#[expect(clippy::doc_markdown, reason = "help is printed as it is written")]
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  Everything since January, into a folder:
    export KORE_CLIENT_ID=cs-… KORE_CLIENT_SECRET=…
    insights-archive run --host-url https://platform.kore.ai --app st-… \\
      --since 2025-01-01 --archive ./archive

  Two apps' thumbs of one quarter, into a bucket (AWS credentials from the environment or a profile;
  from single sign-on by `eval \"$(aws configure export-credentials --format env)\"`):
    insights-archive run --host-url https://eu-platform.kore.ai --app st-… --app st-… \\
      --event thumbsUp --event thumbsDown --since 2025-01-01 --until 2025-04-01 \\
      --archive s3://bucket/kore

  What would it do?
    insights-archive run … --dry-run

Exit status: 0 every due week stands archived and verified, 1 one does not and is named, 2 wrong
usage or settings, 130 cut off by a second Ctrl-C.")]
pub struct Args {
    /// The API's host, such as https://platform.kore.ai
    #[arg(long, value_name = "URL")]
    host_url: String,
    /// An app's AppID; can be given several times
    #[arg(long = "app", value_name = "ID", required = true)]
    apps: Vec<AppId>,
    /// Which records: all, thumbsUp or thumbsDown; can be given several times
    #[arg(long = "event", value_name = "EVENT", default_value = "all")]
    events: Vec<Event>,
    /// From the week that holds this day (UTC), such as 2025-01-20
    #[arg(long, value_name = "DATE", value_parser = parse_date)]
    since: Date,
    /// Up to the week before the one that starts on or after this day [default: the last that is
    /// over]
    #[arg(long, value_name = "DATE", value_parser = parse_date)]
    until: Option<Date>,
    /// The archive: a folder, or s3://bucket/prefix
    #[arg(long, value_name = "PLACE")]
    archive: Site,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Export archived weeks again and replace their manifests, for feedback that came late
    #[arg(long)]
    replace: bool,
    /// A host that files may come from, or *.example.com for any host below; can be given several times
    /// [default: the API's host, *.kore.ai, *.korebots.com]
    #[arg(
        long = "file-host",
        value_name = "HOST",
        help_heading = "The vendor's side"
    )]
    file_hosts: Vec<String>,
    /// Allow plain http and addresses that are not public, for a host on your own network
    #[arg(long, help_heading = "The vendor's side")]
    allow_private_network: bool,
    /// Give up a job that has not moved for so long, and start another
    #[arg(long, value_name = "MINUTES", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    stall_minutes: u32,
    /// Give up a week so long after its first job was started
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    deadline_hours: u32,
    /// A week is due so long after its end
    #[arg(
        long,
        value_name = "MINUTES",
        default_value_t = 60,
        help_heading = "Limits"
    )]
    settle_minutes: u32,
    /// Memory for fragments under way, in MiB; one takes 8 to 16
    #[arg(long, value_name = "MIB", default_value_t = 128, value_parser = clap::value_parser!(u32).range(8..=65_536), help_heading = "Limits")]
    memory_mb: u32,
}

/// Archives what was asked for.
pub async fn run(args: Args, screen: &Screen) -> anyhow::Result<ExitCode> {
    let now = Time::now();
    check_dates(args.since, args.until, now.date())?;
    let host = HostUrl::parse(&args.host_url, args.allow_private_network)
        .map_err(|why| Usage::with("--host-url: ", why))?;
    let files = if args.file_hosts.is_empty() {
        FileHosts::standard(&host)
    } else {
        FileHosts::parse(args.file_hosts.iter().map(String::as_str))
            .map_err(|why| Usage::with("--file-host: ", why))?
    };
    let variable = |name: &str| std::env::var(name).ok();
    let credentials = CredentialSet::from_values(
        variable("KORE_JWT"),
        variable("KORE_CLIENT_ID"),
        variable("KORE_CLIENT_SECRET"),
        now,
    )
    .map_err(|why| Usage::with("", why))?;
    let client = Client::new(
        host,
        files,
        args.allow_private_network,
        Fixed::new(credentials),
    )?;
    let order = Order {
        scope: Scope {
            apps: args.apps,
            events: args.events,
            since: None,
            catch_up_weeks: 0,
            lookback_weeks: 0,
            settle: minutes(args.settle_minutes),
            // Requests are paced one by one.
            apart: Duration::ZERO,
        },
        wish: Wish {
            since: args.since,
            until: args.until,
            apps: None,
            events: None,
            replace: args.replace,
            dry_run: args.dry_run,
        },
        patience: Patience {
            stall: minutes(args.stall_minutes),
            deadline: minutes(args.deadline_hours.saturating_mul(60)),
        },
        memory_mib: args.memory_mb as usize,
    };
    if let Site::Folder(path) = &args.archive
        && args.dry_run
        && !path.exists()
    {
        return order.plan_without_archive(path, now);
    }
    let opened = if args.dry_run {
        args.archive.open_to_read().await?
    } else {
        args.archive.open().await?
    };
    let table = match opened {
        Opened::Folder(archive) => order.carry_out(Paced::new(client), archive, screen).await?,
        Opened::Bucket(archive) => order.carry_out(Paced::new(client), archive, screen).await?,
    };
    results(&(table.text() + &order.not_due(now)))?;
    Ok(if args.dry_run || table.is_fulfilled() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(UNFULFILLED)
    })
}

fn minutes(n: u32) -> Duration {
    Duration::from_secs(u64::from(n) * 60)
}

fn check_dates(since: Date, until: Option<Date>, today: Date) -> Result<(), Usage> {
    if since > today {
        return Err(Usage::new(format!(
            "--since {since} is in the future; today is {today} (UTC)"
        ))
        .with_hint("give the day from which to archive; weeks that are not over are not due"));
    }
    match until {
        Some(until) if until <= since => Err(Usage::new(format!(
            "--since {since} is not before --until {until}"
        ))
        .with_hint("--until is exclusive: for one week give its Monday and the next")),
        _ => Ok(()),
    }
}

/// What is to be archived, and how patiently.
#[derive(Debug)]
pub(super) struct Order {
    pub scope: Scope,
    pub wish: Wish,
    pub patience: Patience,
    /// For fragments under way.
    pub memory_mib: usize,
}

impl Order {
    /// Archives it, and tells what stands then.
    pub async fn carry_out<K, A>(
        &self,
        kore: K,
        archive: A,
        screen: &Screen,
    ) -> anyhow::Result<Table>
    where
        K: Kore + 'static,
        K::Download: 'static,
        A: Archive + 'static,
    {
        let stop = Stop::listen(
            screen,
            "stopping: what is being copied is brought to an end; Ctrl-C again to abort",
        )?;
        let progress = Progress::new(screen);
        let watch = {
            let progress = progress.clone();
            move |export: &Export, report: &Report| progress.note(export, report)
        };
        let budget = Budget::new(self.memory_mib << 20, COPIES_AT_ONCE);
        let local = Local::new(kore, archive, self.patience, budget, Time::now, watch);
        let local = Arc::new(local);
        let request = Request::Explicit(self.wish.clone());
        let summary = enqueue::run(&*local, &self.scope, &request).await?;
        let ends = if self.wish.dry_run || summary.sent.is_empty() {
            std::collections::BTreeMap::new()
        } else {
            announce(screen, &summary);
            let _drawing = progress.begin(&summary);
            drive(Arc::clone(&local), &summary, stop.asked()).await
        };
        Ok(Table::read(local.archive(), self.first(), &summary, &ends).await?)
    }

    /// The first week that was asked for.
    fn first(&self) -> Week {
        Week::containing(self.wish.since)
    }

    /// What would be done where there is no archive yet.
    fn plan_without_archive(&self, path: &Path, now: Time) -> anyhow::Result<ExitCode> {
        let request = Request::Explicit(self.wish.clone());
        let (first, not_yet_due) = enqueue::due(&self.scope, &request, None, now);
        let enqueued: Vec<_> = first.until(not_yet_due).collect();
        let lines = self.scope.apps.iter().flat_map(|app| {
            self.scope.events.iter().map(|event| Line {
                app: app.clone(),
                event: *event,
                archived: 0,
                missing: enqueued.len(),
                enqueued: enqueued.clone(),
                replacing: Vec::new(),
                underway: Vec::new(),
                waiting: Vec::new(),
                not_yet_due,
            })
        });
        let summary = Summary {
            time: now,
            dry_run: true,
            exports: lines.collect(),
            sent: Vec::new(),
        };
        let made = format!("The folder {} would be made.\n", path.display());
        results(&(Table::empty(first, &summary).text() + &made + &self.not_due(now)))?;
        Ok(ExitCode::SUCCESS)
    }

    /// The weeks that were asked for and are not due, in a sentence with its line's end.
    pub fn not_due(&self, now: Time) -> String {
        let current = Week::of(now.before(self.scope.settle));
        let asked = match self.wish.until {
            None => 1,
            Some(until) => {
                let week = Week::containing(until);
                let end = if week.monday() == until {
                    week
                } else {
                    week.next()
                };
                current.max(self.first()).until(end).count()
            }
        };
        let first = current.max(self.first());
        let due = first.next().start().after(self.scope.settle).to_string();
        let due = format!("{} at {} UTC", &due[..10], &due[11..16]);
        match asked {
            0 => String::new(),
            1 => format!("The week of {first} is due on {due}.\n"),
            n => format!(
                "{} from {first} on are not due yet; the first is on {due}.\n",
                figures::counted(n as u64, "week")
            ),
        }
    }
}

/// Says on standard error what is about to be done.
fn announce(screen: &Screen, summary: &Summary) {
    for line in &summary.exports {
        let (missing, replacing) = (line.enqueued.len() as u64, line.replacing.len() as u64);
        let standing = line.archived as u64 - replacing.min(line.archived as u64);
        let parts = [
            (standing, "archived already"),
            (missing, "to archive"),
            (replacing, "to replace"),
        ];
        let parts: Vec<_> = parts
            .into_iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, what)| format!("{} {what}", figures::counted(n, "week")))
            .collect();
        let words = format!("{} {}: {}", line.app, line.event, parts.join(", "));
        if screen.is_live() {
            screen.say(&words);
        } else {
            tracing::info!("{words}");
        }
    }
}
