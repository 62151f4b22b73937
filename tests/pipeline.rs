//! The whole pipeline in one process, against the simulated host without HTTP, in virtual time: what
//! stands in the archive at the end is what the host holds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use insights_archive::archive::folder::Folder;
use insights_archive::archive::key::Part;
use insights_archive::archive::manifest::{self, Manifest};
use insights_archive::archive::{About, Archive as _, Created, Key};
use insights_archive::export::{Event, Export, Time, parse_date};
use insights_archive::host::Host;
use insights_archive::host::faults::{Fault, Faults};
use insights_archive::host::kore::HostKore;
use insights_archive::host::plan::Plan;
use insights_archive::kore::limits::Paced;
use insights_archive::run::{End, Finished, Local, Patience, run};
use insights_archive::stages::enqueue::{Request, Scope, Wish};
use insights_archive::stages::{Budget, Report};

const HOUR: Duration = Duration::from_secs(3600);

/// Virtual time: it starts in the middle of 2025 and passes as tokio's paused clock does.
fn clock() -> impl Fn() -> Time + Clone + Send + Sync + 'static {
    let (began, base) = (
        tokio::time::Instant::now(),
        "2025-07-30T09:00:00Z".parse::<Time>().unwrap(),
    );
    move || base.after(began.elapsed())
}

fn scope(app: &str) -> Scope {
    Scope {
        apps: vec![app.parse().unwrap()],
        events: vec![Event::All],
        since: None,
        catch_up_weeks: 4,
        lookback_weeks: 0,
        settle: HOUR,
        apart: Duration::ZERO,
    }
}

fn wish(since: &str, until: &str) -> Request {
    Request::Explicit(Wish {
        since: parse_date(since).unwrap(),
        until: Some(parse_date(until).unwrap()),
        apps: None,
        events: None,
        replace: false,
        dry_run: false,
    })
}

/// Runs the pipeline to its end.
async fn archive_all(
    host: &Arc<Mutex<Host>>,
    clock: impl Fn() -> Time + Clone + Send + Sync + 'static,
    folder: &Path,
    request: &Request,
) -> Finished {
    archive_until(std::future::pending(), host, clock, folder, request).await
}

/// Runs the pipeline until it is stopped. Prints what was reported, for the day when a test fails.
async fn archive_until(
    stop: impl Future<Output = ()>,
    host: &Arc<Mutex<Host>>,
    clock: impl Fn() -> Time + Clone + Send + Sync + 'static,
    folder: &Path,
    request: &Request,
) -> Finished {
    let patience = Duration::from_secs(30);
    let kore = Paced::new(HostKore::new(Arc::clone(host), clock.clone(), patience));
    let watch = {
        let clock = clock.clone();
        move |export: &Export, report: &Report| match report {
            Report::Arrived { .. } => {}
            report => println!("{} {export} {report:?}", clock()),
        }
    };
    let patience = Patience {
        stall: 2 * HOUR,
        deadline: 24 * HOUR,
    };
    let local = Local::new(
        kore,
        Folder::open(folder).unwrap(),
        patience,
        Budget::new(64 << 20, 8),
        clock,
        watch,
    );
    let finished = run(Arc::new(local), &scope("st-1"), request, stop).await;
    finished.unwrap()
}

fn manifest(folder: &Path, export: &Export) -> Manifest {
    let bytes = std::fs::read(folder.join(Key::manifest(export).as_str())).unwrap();
    match manifest::read(&bytes, export).unwrap() {
        manifest::Read::Known(manifest) => *manifest,
        manifest::Read::Foreign { schema } => panic!("{schema}"),
    }
}

fn failures(finished: &Finished) -> BTreeMap<&Export, &End> {
    finished
        .ends
        .iter()
        .filter(|(_, end)| **end != End::Archived)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn four_weeks_are_archived_and_a_second_run_finds_nothing_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let host = Arc::new(Mutex::new(Host::new(
        Plan { ..Plan::default() },
        "https://files.kore.ai",
    )));
    let clock = clock();
    let request = wish("2025-06-02", "2025-06-30");
    let finished = archive_all(&host, clock.clone(), folder.path(), &request).await;
    assert_eq!(finished.ends.len(), 4);
    assert!(failures(&finished).is_empty(), "{:?}", failures(&finished));
    for export in finished.ends.keys() {
        let manifest = manifest(folder.path(), export);
        assert!(manifest.verified, "{:?}", manifest.discrepancies);
        let records = host.lock().unwrap().content(export).records();
        assert_eq!(manifest.archived.records, records);
    }
    let again = archive_all(&host, clock, folder.path(), &request).await;
    assert!(again.ends.is_empty());
    assert_eq!(again.summary.exports[0].archived, 4);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_holds_another_file_is_left_alone_and_the_week_stands_by_a_new_job() {
    // Two hosts with one plan name their jobs alike: the first one tells where the second will write.
    let host = || {
        let host = Host::new(Plan::default(), "https://files.kore.ai");
        Arc::new(Mutex::new(host))
    };
    let request = wish("2025-06-02", "2025-06-09");
    let told = tempfile::tempdir().unwrap();
    let finished = archive_all(&host(), clock(), told.path(), &request).await;
    let (export, _) = finished.ends.first_key_value().unwrap();
    let first = manifest(told.path(), export);
    let of = u32::try_from(first.fragments.len()).unwrap();

    let key = Key::data(export, &first.job.id, Part::new(1, of).unwrap());
    let archive = Folder::open(told.path()).unwrap();
    let head = archive.head(&key).await.unwrap().unwrap();
    let file_id = head.metadata("file-id").unwrap();
    for (file_id, count, bytes) in [
        // It agrees with itself, and is not the file.
        ("another", "1", &b"[{}]"[..]),
        // It does not agree with itself.
        (file_id, "2", b"[{}]"),
        (file_id, "1", b"[{}"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let about = About {
            metadata: vec![
                ("file-id", file_id.to_owned()),
                ("record-count", count.to_owned()),
            ],
            crc64nvme: None,
        };
        let other = Folder::open(folder.path()).unwrap();
        let created = other.create(&key, Bytes::from_static(bytes), &about);
        assert!(matches!(created.await.unwrap(), Created::Written(_)));

        let finished = archive_all(&host(), clock(), folder.path(), &request).await;
        assert!(failures(&finished).is_empty(), "{:?}", failures(&finished));
        let second = manifest(folder.path(), export);
        assert!(second.verified, "{:?}", second.discrepancies);
        assert_ne!(second.job.id, first.job.id);
        assert_eq!(second.archived, first.archived);
        let left = std::fs::read(folder.path().join(key.as_str())).unwrap();
        assert_eq!(left, bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_hardly_arrives_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan {
        faults: Faults::none().chance(Fault::Drip, 100.0),
        drip_time: 1_000 * HOUR,
        ..Plan::default()
    };
    let host = Arc::new(Mutex::new(Host::new(plan, "https://files.kore.ai")));
    let clock = clock();
    let patience = Patience {
        stall: HOUR / 6,
        deadline: HOUR / 2,
    };
    let local = Local::new(
        // Bytes come often enough: none of them is waited for in vain.
        HostKore::new(host, clock.clone(), 10_000 * HOUR),
        Folder::open(folder.path()).unwrap(),
        patience,
        Budget::new(64 << 20, 8),
        clock.clone(),
        |_: &Export, _: &Report| {},
    );
    let began = clock();
    let request = wish("2025-06-02", "2025-06-09");
    let never = std::future::pending();
    let finished = run(Arc::new(local), &scope("st-1"), &request, never).await;
    let failures: Vec<_> = finished.unwrap().ends.into_values().collect();
    assert!(
        matches!(&failures[..], [End::Failed(why)] if why.contains("could not copy one fragment")),
        "{failures:?}"
    );
    // Three chains, each of which tries the file twice, for as long as its deadline.
    assert!(clock().since(began) < 7 * patience.deadline);
}

#[tokio::test(start_paused = true)]
async fn an_export_that_is_given_up_ends_with_the_reason_of_its_chain() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan {
        // Several slices, each of which asks for another job.
        records_per_week: 500..=500,
        records_per_fragment: 10,
        faults: Faults::none().chance(Fault::ExpiredLink, 100.0),
        ..Plan::default()
    };
    let host = Arc::new(Mutex::new(Host::new(plan, "https://files.kore.ai")));
    let request = wish("2025-06-02", "2025-06-09");
    let finished = archive_all(&host, clock(), folder.path(), &request).await;
    let failures: Vec<_> = finished.ends.into_values().collect();
    assert!(
        matches!(&failures[..], [End::Failed(why)] if why.contains("3 jobs were tried")),
        "{failures:?}"
    );
    // Three chains.
    let jobs: u64 = host.lock().unwrap().stats().jobs.values().sum();
    assert_eq!(jobs, 9);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_being_stopped_starts_no_more_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan {
        records_per_week: 5..=5,
        job_time: Duration::from_secs(1),
        fragment_time: Duration::ZERO,
        drip_time: Duration::from_secs(8),
        faults: Faults::none().chance(Fault::Drip, 100.0),
        limits: None,
        ..Plan::default()
    };
    let host = Arc::new(Mutex::new(Host::new(plan, "https://files.kore.ai")));
    // More weeks than may be under way at once. Files on their way are waited for.
    let request = wish("2025-03-03", "2025-06-30");
    let stop = tokio::time::sleep(Duration::from_secs(6));
    let finished = archive_until(stop, &host, clock(), folder.path(), &request).await;
    let archived = finished.ends.values().filter(|end| **end == End::Archived);
    let archived = archived.count() as u64;
    let jobs: u64 = host.lock().unwrap().stats().jobs.values().sum();
    assert!((1..=jobs).contains(&archived), "{archived} of {jobs}");
    assert_eq!(jobs, 10);
}

#[tokio::test(start_paused = true)]
async fn half_a_year_with_every_fault_at_five_percent_ends_complete_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan {
        faults: Faults::healing(5.0),
        ..Plan::default()
    };
    let host = Arc::new(Mutex::new(Host::new(plan, "https://files.kore.ai")));
    let request = wish("2025-01-06", "2025-07-07");
    let finished = archive_all(&host, clock(), folder.path(), &request).await;
    assert_eq!(finished.ends.len(), 26);
    assert!(failures(&finished).is_empty(), "{:?}", failures(&finished));
    for export in finished.ends.keys() {
        let manifest = manifest(folder.path(), export);
        assert!(manifest.verified, "{:?}", manifest.discrepancies);
        assert_eq!(
            manifest.archived.records,
            host.lock().unwrap().content(export).records()
        );
    }
    let stats = host.lock().unwrap().stats().clone();
    assert_eq!(stats.over_limit, 0, "the host's limits were exceeded");
    println!("{:?}", stats.faults);
}
