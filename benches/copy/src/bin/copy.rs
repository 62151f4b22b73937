//! The copy stage alone, once, as the functions run it: one message with all fragments of a job, the
//! real client, the real bucket.
//!
//! `copy HOST_URL BUCKET FRAGMENTS MEMORY_MIB AT_ONCE [threads]`: the memory is what fragments in flight
//! may take. The AWS settings come from the environment. Prints how many bytes it has archived.

use std::env;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail};
use insights_archive::archive::bucket::Bucket;
use insights_archive::aws;
use insights_archive::export::{Event, Export, Time};
use insights_archive::kore::client::Client;
use insights_archive::kore::source::{FileHosts, HostUrl};
use insights_archive::kore::token::{CredentialSet, Fixed};
use insights_archive::run::{Local, Patience};
use insights_archive::queue::message::{Fragment, Message, Slice, Work};
use insights_archive::stages::{Budget, Outcome, Report, handle};
use tokio::runtime::Builder;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [host, bucket, fragments, memory, at_once, threads @ ..] = &words[..] else {
        bail!("usage: copy HOST_URL BUCKET FRAGMENTS MEMORY_MIB AT_ONCE [threads]");
    };
    let mut runtime = match threads {
        [] => Builder::new_current_thread(), // as the functions
        _ => Builder::new_multi_thread(),    // as the command line
    };
    let budget = Budget::new(memory.parse::<usize>()? << 20, at_once.parse()?);
    let runtime = runtime.enable_all().build()?;
    runtime.block_on(copy(host, bucket, fragments.parse()?, budget))
}

async fn copy(host: &str, bucket: &str, fragments: u32, budget: Budget) -> anyhow::Result<()> {
    let config = aws::config(aws::Patience::FUNCTION).await;
    let archive = Bucket::new(
        aws_sdk_s3::Client::from_conf(copy_bench::s3(&config).build()),
        format!("s3://{bucket}").parse()?,
        None,
    );
    let host = HostUrl::parse(host, true)?;
    let credentials = CredentialSet::from_values(
        None,
        Some("cs-bench".to_owned()),
        Some("a secret of the benchmark".to_owned()),
        Time::now(),
    )
    .map_err(anyhow::Error::msg)?;
    let files = FileHosts::standard(&host);
    let kore = Client::new(host, files, true, Fixed::new(credentials))?;
    let patience = Patience {
        stall: std::time::Duration::from_hours(1),
        deadline: std::time::Duration::from_hours(1),
    };
    let copied = AtomicU64::new(0);
    let watch = |_: &Export, report: &Report| {
        if let Report::Copied { bytes, .. } = report {
            copied.fetch_add(*bytes, Ordering::Relaxed);
        }
    };
    let local = Local::new(kore, archive, patience, budget, Time::now, watch);
    let export = Export {
        app: "st-bench".parse()?,
        event: Event::All,
        week: "2025-01-20".parse()?,
    };
    let slice = Slice {
        job: "fj-bench".parse()?,
        of: fragments,
        fragments: (1..=fragments)
            .map(|number| Fragment {
                number,
                file_id: format!("file-{number}"),
            })
            .collect(),
        fruitless: 0,
        troubled: 0,
    };
    let start = Message::start(export, "bench".parse()?, None);
    let message = Message {
        attempt: 1,
        first_start: Some(Time::now()),
        ..start.with(Work::Copy(slice))
    };
    let outcome = handle(&local, &message, None)
        .await
        .context("the copy stage")?;
    if outcome != Outcome::Archived {
        bail!("the copy stage ended otherwise: {outcome:?}");
    }
    println!("{}", copied.into_inner());
    Ok(())
}
