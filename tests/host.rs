//! The simulated host over HTTP with the real client, beside the same host without HTTP: whatever goes
//! wrong, both callers see the same. So what is proven in the process holds on the wire.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use insights_archive::export::{Event, Export, Time};
use insights_archive::host::Host;
use insights_archive::host::faults::{Fault, Faults};
use insights_archive::host::kore::HostKore;
use insights_archive::host::plan::Plan;
use insights_archive::host::server::serve;
use insights_archive::kore::client::Client;
use insights_archive::kore::job::Job;
use insights_archive::kore::source::{FileHosts, HostUrl};
use insights_archive::kore::token::{CredentialSet, Fixed};
use insights_archive::kore::{ApiError, Download as _, FileError, Kore};
use tokio::net::TcpListener;

fn export() -> Export {
    Export {
        app: "st-1".parse().unwrap(),
        event: Event::All,
        week: "2025-01-20".parse().unwrap(),
    }
}

fn host(fault: Option<Fault>, files_base: &str) -> Arc<Mutex<Host>> {
    let faults = fault.map_or_else(Faults::none, |fault| Faults::none().chance(fault, 100.0));
    let plan = Plan {
        records_per_week: 200..=200,
        // done as soon as it is looked at
        job_time: Duration::ZERO,
        fragment_time: Duration::ZERO,
        drip_time: Duration::from_millis(30),
        faults,
        ..Plan::default()
    };
    Arc::new(Mutex::new(Host::new(plan, files_base)))
}

fn api_error(error: &ApiError) -> String {
    match error {
        ApiError::Limited { retry_after, .. } => format!("limited {retry_after:?}"),
        ApiError::Unreachable { .. } => "unreachable".to_owned(),
        ApiError::Unclear { retry_after, .. } => format!("unclear {retry_after:?}"),
        ApiError::Unauthorized { .. } => "unauthorized".to_owned(),
        ApiError::Gone { .. } => "gone".to_owned(),
        ApiError::Rejected { .. } => "rejected".to_owned(),
    }
}

fn file_error(error: &FileError) -> String {
    match error {
        FileError::Refused { status } => format!("refused {status}"),
        FileError::Forbidden(_) => "forbidden".to_owned(),
        FileError::Broken { retry_after, .. } => format!("broken {retry_after:?}"),
    }
}

fn job_seen(job: &Job) -> String {
    let files: Vec<_> = job.files.iter().map(|it| (&it.id, it.records)).collect();
    format!(
        "{} {:?} {:?} {files:?} {:?}",
        job.id, job.status, job.percent, job.totals
    )
}

/// What a caller sees of a start, a look, and the job's first file.
async fn seen(kore: &impl Kore, truth: &[u8]) -> Vec<String> {
    let started = match kore.start(&export()).await {
        Ok(job) => job,
        Err(error) => return vec![api_error(&error)],
    };
    // the millisecond that a job of no length takes all the same
    tokio::time::sleep(Duration::from_millis(5)).await;
    let looked = match kore.look(&export().app, &started.id).await {
        Ok(job) => job,
        Err(error) => return vec![job_seen(&started), api_error(&error)],
    };
    let mut seen = vec![job_seen(&started), job_seen(&looked)];
    let Some(file) = looked.files.first() else {
        return seen;
    };
    seen.push(match kore.open(&file.url).await {
        Err(error) => file_error(&error),
        Ok(mut download) => {
            let announced = download.announced();
            let mut bytes = Vec::new();
            let end = loop {
                match download.chunk().await {
                    Ok(Some(piece)) => bytes.extend_from_slice(&piece),
                    Ok(None) => break "whole".to_owned(),
                    Err(error) => break file_error(&error),
                }
            };
            // how much of a broken body arrives is chance
            let right = end != "whole" || bytes == truth;
            format!("{announced:?} announced, {end}, right: {right}")
        }
    });
    seen
}

#[tokio::test]
async fn both_ways_to_the_host_show_the_same_whatever_goes_wrong() {
    /// These end by the caller's patience, which is minutes.
    const ENDLESS: [Fault; 2] = [Fault::HangingAnswer, Fault::StalledFile];
    let others = Fault::EVERY.iter().filter(|fault| !ENDLESS.contains(fault));
    for fault in std::iter::once(None).chain(others.copied().map(Some)) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let wired = host(fault, &base);
        let server = tokio::spawn(serve(listener, Arc::clone(&wired), Time::now));
        let credentials = CredentialSet::from_values(
            None,
            Some("cs-demo".to_owned()),
            Some("demo-secret".to_owned()),
            Time::now(),
        );
        let url = HostUrl::parse(&base, true).unwrap();
        let files = FileHosts::standard(&url);
        let client = Client::new(url, files, true, Fixed::new(credentials.unwrap())).unwrap();
        let called = host(fault, "http://127.0.0.1:1");
        let direct = HostKore::new(Arc::clone(&called), Time::now, Duration::ZERO);

        let truth: Vec<u8> = {
            let content = called.lock().unwrap().content(&export());
            content.fragment(0).pieces().flatten().collect()
        };
        let on_the_wire = seen(&client, &truth).await;
        assert_eq!(on_the_wire, seen(&direct, &truth).await, "{fault:?}");
        if let Some(fault) = fault {
            assert!(wired.lock().unwrap().stats().faults[fault.as_str()] > 0);
        } else {
            let file = on_the_wire.last().unwrap();
            assert!(file.ends_with("whole, right: true"), "{on_the_wire:?}");
        }
        let stats = |host: &Mutex<Host>| host.lock().unwrap().stats().clone();
        assert_eq!(stats(&wired), stats(&called), "{fault:?}");
        server.abort();
    }
}
