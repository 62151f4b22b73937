//! `erase`: takes a week out of the archive for good, on a person's request.

use std::process::ExitCode;

use super::screen::Screen;
use super::site::{Opened, Site};
use super::usage::Usage;
use super::{UNFULFILLED, figures, harmless, results};
use crate::archive::Key;
use crate::archive::erase::Erase;
use crate::archive::key::{Kind, files_of};
use crate::audit::erase::{Request, erase};
use crate::audit::survey::Document;
use crate::export::{AppId, Event, Export, Invalid, Time, Week};

/// What is erased, and what is noted of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insights-archive erase --archive s3://bucket/kore --app st-1a2b --week 2025-01-20 \\
      --by 'Ada Lovelace' --reason 'request 4711'            show what would be erased
  … --yes                                                    erase it

Removes every version of every object of the week, and leaves in the place of its manifest a
tombstone: who erased it, when and why. The week counts as archived from then on and is never exported again.
In a bucket this takes s3:ListBucketVersions, s3:DeleteObjectVersion and s3:DeleteObject, which none
of the functions has.

Exit status: 0 erased, 1 not, or only shown, 2 wrong usage or settings.")]
pub struct Args {
    /// The archive: a folder, or a bucket with an optional prefix
    #[arg(long, value_name = "DIR|s3://BUCKET/PREFIX")]
    archive: Site,
    /// Whose records
    #[arg(long, value_name = "ID")]
    app: AppId,
    /// Which week, by its Monday
    #[arg(long, value_name = "DATE")]
    week: Week,
    /// Which event: all, thumbsUp or thumbsDown; can be given several times [default: every one that
    /// has something there]
    #[arg(long = "event", value_name = "EVENT")]
    events: Vec<Event>,
    /// Who erases it; stands in the tombstone
    #[arg(long, value_name = "NAME", value_parser = note)]
    by: String,
    /// Why; stands in the tombstone, so name no person in it
    #[arg(long, value_name = "TEXT", value_parser = note)]
    reason: String,
    /// Erase it: it cannot be brought back
    #[arg(long)]
    yes: bool,
}

/// The longest note, in bytes: a sentence or two.
const LONGEST_NOTE: usize = 1_000;

fn note(text: &str) -> Result<String, Invalid> {
    let text = text.trim();
    if (1..=LONGEST_NOTE).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        let expected = "1 to 1,000 bytes of text in one line";
        Err(Invalid::new("a note", expected, text))
    }
}

/// Shows what would be erased, or erases it.
pub async fn run(args: Args, _screen: &Screen) -> anyhow::Result<ExitCode> {
    let running = Week::of(Time::now());
    if args.week > running {
        let error = format!(
            "--week {} is in the future: it has no records yet",
            args.week
        );
        let hint = format!("name a week up to the one that is running, {running}");
        return Err(Usage::new(error).with_hint(hint).into());
    }
    // First without making anything: a wrong path must not become an archive.
    let there = args.archive.open_to_read().await?;
    if !args.yes {
        return match there {
            Opened::Folder(folder) => go(&folder, &args).await,
            Opened::Bucket(bucket) => go(&bucket, &args).await,
        };
    }
    match args.archive.open().await? {
        Opened::Folder(folder) => go(&folder, &args).await,
        Opened::Bucket(bucket) => go(&bucket, &args).await,
    }
}

async fn go<A: Erase>(archive: &A, args: &Args) -> anyhow::Result<ExitCode> {
    let events: &[Event] = if args.events.is_empty() {
        &Event::EVERY
    } else {
        &args.events
    };
    let request = Request {
        by: args.by.clone(),
        reason: args.reason.clone(),
    };
    let mut any = false;
    for event in events {
        let export = Export {
            app: args.app.clone(),
            event: *event,
            week: args.week,
        };
        let holds = holds(archive, &export).await?;
        // Named, a week that was never archived is barred from being so.
        if holds.is_none() && args.events.is_empty() {
            continue;
        }
        any = true;
        let text = if args.yes {
            let removed = erase(archive, &export, &request, Time::now()).await?;
            format!(
                "{export}: erased {}, {}; a tombstone in the manifest's place bars it from being archived\n",
                figures::counted(removed.versions, "object version"),
                figures::bytes(removed.bytes)
            )
        } else {
            let holds = holds.unwrap_or_else(|| "nothing stands there".to_owned());
            format!("{export}: {holds}\n")
        };
        results(&text)?;
    }
    if !any {
        results(&format!(
            "Nothing of {} stands in {} for the week of {}.\n",
            args.app, args.archive, args.week
        ))?;
    } else if !args.yes {
        results("Nothing was erased yet: add --yes to erase it for good.\n")?;
    }
    Ok(if any && args.yes {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(UNFULFILLED)
    })
}

/// What stands there of an export, in words; `None` where nothing does.
async fn holds<A: Erase>(archive: &A, export: &Export) -> anyhow::Result<Option<String>> {
    let stored = archive.get(&Key::manifest(export)).await?;
    let manifest = stored.map(|stored| match Document::read(&stored.bytes, export) {
        Document::Manifest(manifest) => {
            format!(
                "{} archived",
                figures::counted(manifest.archived.records, "record")
            )
        }
        Document::Tombstone(tombstone) => format!("erased on {}", tombstone.erased_at.date()),
        Document::Newer { schema } => {
            format!("archived by a newer version ({})", harmless(&schema))
        }
        Document::Unreadable { .. } => "a manifest that cannot be read".to_owned(),
    });
    let (mut objects, mut bytes) = (0, 0);
    for kind in [Kind::Data, Kind::Receipts, Kind::Quarantine] {
        let count = |listed: crate::archive::Listed| {
            objects += 1;
            bytes += listed.bytes;
        };
        archive.list(&files_of(kind, export), count).await?;
    }
    if manifest.is_none() && objects == 0 {
        return Ok(None);
    }
    let manifest = manifest.unwrap_or_else(|| "not archived".to_owned());
    let objects = figures::counted(objects, "object");
    Ok(Some(format!(
        "{manifest}, {objects}, {}",
        figures::bytes(bytes)
    )))
}
