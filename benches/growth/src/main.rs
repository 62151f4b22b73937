//! The whole pipeline in one process, against the simulated host without HTTP, in virtual time: what a
//! given amount of work costs, and whether the host's rate limit is used and kept.
//!
//! `growth FOLDER APPS WEEKS FRAGMENTS RECORDS RECORD_BYTES [SECONDS]`: each week has so many fragments
//! of so many records of so many bytes. With SECONDS, each fragment takes the host so long, and the
//! host's published rate limits hold; without, jobs take no time and there is no limit.
//!
//! Prints, tab-separated: processor seconds, peak memory in MiB, bytes archived, virtual seconds,
//! requests to the API, requests over the limit, and the percentage of the limit that was used.

use std::env;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use insights_archive::archive::folder::Folder;
use insights_archive::export::{AppId, Event, Export, Time, Week, parse_date};
use insights_archive::host::Host;
use insights_archive::host::kore::HostKore;
use insights_archive::host::plan::{Limits, Plan};
use insights_archive::kore::limits::Paced;
use insights_archive::run::{End, Local, Patience, run};
use insights_archive::stages::enqueue::{Request, Scope, Wish};
use insights_archive::stages::{Budget, Report};

/// Where all histories begin.
const SINCE: &str = "2014-12-29";

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [folder, numbers @ ..] = &words[..] else {
        bail!("usage: growth FOLDER APPS WEEKS FRAGMENTS RECORDS RECORD_BYTES [SECONDS]");
    };
    let numbers = numbers.iter().map(|word| word.parse());
    let numbers: Vec<u64> = numbers.collect::<Result<_, _>>()?;
    let [apps, weeks, fragments, records, record_bytes, seconds @ ..] = &numbers[..] else {
        bail!("usage: growth FOLDER APPS WEEKS FRAGMENTS RECORDS RECORD_BYTES [SECONDS]");
    };
    let limited = seconds.first();
    let plan = Plan {
        records_per_week: fragments * records..=fragments * records,
        records_per_fragment: *records,
        record_bytes: *record_bytes..=*record_bytes,
        job_time: Duration::ZERO,
        fragment_time: Duration::from_secs(limited.copied().unwrap_or(0)),
        limits: limited.map(|_| Limits::PUBLISHED),
        ..Plan::default()
    };
    let apps: Vec<AppId> = (1..=*apps)
        .map(|n| format!("st-{n}").parse())
        .collect::<Result<_, _>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()?;
    runtime.block_on(archive(plan, apps, *weeks, folder))
}

async fn archive(plan: Plan, apps: Vec<AppId>, weeks: u64, folder: &str) -> anyhow::Result<()> {
    let limits = plan.limits;
    let (began, base) = (tokio::time::Instant::now(), "2025-07-30T09:00:00Z");
    let base: Time = base.parse()?;
    let clock = move || base.after(began.elapsed());
    let host = Arc::new(Mutex::new(Host::new(plan, "https://files.kore.ai")));
    let in_process = HostKore::new(Arc::clone(&host), clock, Duration::from_secs(30));
    let bytes = Arc::new(AtomicU64::new(0));
    let watch = {
        let bytes = Arc::clone(&bytes);
        move |_: &Export, report: &Report| {
            if let Report::Copied { bytes: more, .. } = report {
                bytes.fetch_add(*more, Ordering::Relaxed);
            }
        }
    };
    let patience = Patience {
        stall: Duration::from_hours(2),
        deadline: Duration::from_hours(24),
    };
    let folder = Folder::open(folder)?;
    let budget = Budget::new(64 << 20, 8);
    let local = Local::new(
        Paced::new(in_process),
        folder,
        patience,
        budget,
        clock,
        watch,
    );
    let scope = Scope {
        apps: apps.clone(),
        events: vec![Event::All],
        since: None,
        catch_up_weeks: 4,
        lookback_weeks: 0,
        settle: Duration::from_hours(1),
        apart: Duration::ZERO,
    };
    let since = parse_date(SINCE)?;
    let end = (0..weeks).fold(
        Week::of(format!("{SINCE}T00:00:00Z").parse()?),
        |week, _| week.next(),
    );
    let wish = Request::Explicit(Wish {
        since,
        until: Some(end.monday()),
        apps: None,
        events: None,
        replace: false,
        dry_run: false,
    });
    let finished = run(Arc::new(local), &scope, &wish, std::future::pending()).await?;
    ensure!(
        finished.ends.len() as u64 == weeks * apps.len() as u64,
        "{} exports ended",
        finished.ends.len()
    );
    if let Some((export, end)) = finished.ends.iter().find(|(_, end)| **end != End::Archived) {
        bail!("{export} ended otherwise: {end:?}");
    }
    let virtually = began.elapsed().as_secs();
    let stats = host
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .stats()
        .clone();
    let requests: u64 = ["start", "look"]
        .iter()
        .filter_map(|kind| stats.requests.get(kind))
        .sum();
    let used = limits.map_or(0.0, |limits| {
        let allowed = allowed(limits, virtually) * apps.len() as u64;
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let used = requests as f64 / allowed as f64;
        100.0 * used
    });
    println!(
        "{:.3}\t{:.1}\t{}\t{virtually}\t{requests}\t{}\t{used:.1}",
        processor_seconds()?,
        peak_mib()?,
        bytes.load(Ordering::Relaxed),
        stats.over_limit,
    );
    Ok(())
}

/// The most that one app may ask in so many seconds.
fn allowed(limits: Limits, seconds: u64) -> u64 {
    let (hours, rest) = (seconds / 3_600, seconds % 3_600);
    let (hour, minute) = (u64::from(limits.per_hour), u64::from(limits.per_minute));
    hours * hour + hour.min((rest / 60 + 1) * minute)
}

/// User and system time of this process.
fn processor_seconds() -> anyhow::Result<f64> {
    /// What Linux counts time in for programs, on every platform that it runs on.
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, after_name) = stat
        .rsplit_once(") ")
        .context("/proc/self/stat has no name")?;
    let ticks = after_name
        .split(' ')
        .skip(11)
        .take(2)
        .map(str::parse::<f64>);
    let ticks: Vec<f64> = ticks.collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / TICKS_A_SECOND)
}

fn peak_mib() -> anyhow::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line
        .and_then(|line| line.split_whitespace().next())
        .context("no VmHWM")?;
    Ok(kib.parse::<f64>()? / 1024.0)
}
