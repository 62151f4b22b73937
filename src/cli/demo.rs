//! `demo`: the whole pipeline against a simulated host, over real HTTP, in under a minute.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use console::style;
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;

use super::run::Order;
use super::screen::Screen;
use super::usage::Usage;
use super::{UNFULFILLED, figures, results};
use crate::archive::Key;
use crate::archive::folder::Folder;
use crate::archive::manifest::{self, Manifest};
use crate::export::{AppId, Event, Export, Time, Week};
use crate::host::plan::Plan;
use crate::host::{Host, server};
use crate::kore::client::Client;
use crate::kore::limits::Paced;
use crate::kore::source::{FileHosts, HostUrl};
use crate::kore::token::{CredentialSet, Fixed};
use crate::run::Patience;
use crate::stages::enqueue::{Scope, Wish};

/// The app that the simulated host has.
const APP: &str = "st-demo";
/// How long after its end a week is due.
const SETTLE: Duration = Duration::from_hours(1);

/// Watch the whole pipeline: no account, no credentials, no network
///
/// A simulated host is served on this machine; the last weeks of its app are exported, copied,
/// verified and committed as they would be from the real one. What it leaves is a real archive.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insights-archive demo                         four weeks into ./demo-archive; again: nothing to do
  insights-archive demo --weeks 26              half a year
  insights-archive demo --archive /tmp/somewhere")]
pub struct Args {
    /// How many weeks, up to the last one that is over
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=520))]
    weeks: u32,
    /// The folder for the archive
    #[arg(long, value_name = "DIR", default_value = "demo-archive")]
    archive: PathBuf,
}

/// Archives the weeks, and shows what has come of it.
pub async fn run(args: Args, screen: &Screen) -> anyhow::Result<ExitCode> {
    let archive = Folder::open(&args.archive).map_err(|why| Usage::with("--archive: ", why))?;
    let now = Time::now();
    let end = Week::of(now.before(SETTLE));
    let first = end.back(args.weeks);
    let order = Order {
        scope: Scope {
            apps: vec![APP.parse::<AppId>()?],
            events: vec![Event::All],
            since: None,
            catch_up_weeks: 0,
            lookback_weeks: 0,
            settle: SETTLE,
            apart: Duration::ZERO,
        },
        wish: Wish {
            since: first.monday(),
            until: Some(end.monday()),
            apps: None,
            events: None,
            replace: false,
            dry_run: false,
        },
        patience: Patience {
            stall: Duration::from_mins(2),
            deadline: Duration::from_hours(1),
        },
        memory_mib: 64,
    };
    let client = simulated(screen).await?;
    let table = order.carry_out(Paced::new(client), archive, screen).await?;
    let mut text = table.text();
    if !table.is_fulfilled() {
        results(&text)?;
        return Ok(ExitCode::from(UNFULFILLED));
    }
    let export = Export {
        app: APP.parse()?,
        event: Event::All,
        week: first,
    };
    text += &tour(&args.archive, &export, args.weeks)?;
    results(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Serves a simulated host for as long as the program runs; a client for it.
async fn simulated(screen: &Screen) -> anyhow::Result<Client<Fixed>> {
    let plan = Plan {
        records_per_week: 250..=900,
        job_time: Duration::from_secs(1),
        fragment_time: Duration::from_secs(2),
        ..Plan::default()
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .context("cannot serve the simulated host on 127.0.0.1")?;
    let base = format!("http://{}", listener.local_addr()?);
    let (id, secret) = (
        plan.credentials.client_id.clone(),
        plan.credentials.client_secret.expose_secret().to_owned(),
    );
    let host = Arc::new(Mutex::new(Host::new(plan, &base)));
    tokio::spawn(server::serve(listener, host, Time::now));
    screen.say(&format!("A simulated host serves the app {APP} on {base}"));
    let credentials = CredentialSet::from_values(None, Some(id), Some(secret), Time::now())?;
    let url = HostUrl::parse(&base, true)?;
    let files = FileHosts::standard(&url);
    Ok(Client::new(url, files, true, Fixed::new(credentials))?)
}

/// What to look at: one week's objects, its manifest, the next commands.
fn tour(folder: &Path, export: &Export, weeks: u32) -> anyhow::Result<String> {
    let key = Key::manifest(export);
    let bytes =
        fs::read(folder.join(key.as_str())).with_context(|| format!("cannot read {key}"))?;
    let manifest = match manifest::read(&bytes, export) {
        Ok(manifest::Read::Known(manifest)) => manifest,
        Ok(manifest::Read::Foreign { schema }) => {
            anyhow::bail!("{key} is of the schema {schema:?}; use another --archive")
        }
        Err(why) => anyhow::bail!("{key}: {why}; use another --archive"),
    };
    let name = folder.display();
    let mut text = format!("\nThe archive is the folder {name}. Its first week:\n\n");
    text += &tree(folder, export, &manifest);
    text += "\nThe manifest, shortened:\n\n";
    text += &shortened(&manifest)?;
    text += "\nNext:\n";
    let next = [
        (
            format!("demo --archive {name} --weeks {weeks}"),
            "again: there is nothing to do",
        ),
        (format!("status --archive {name}"), "every week at a glance"),
        (
            format!("verify --archive {name}"),
            "every byte against its manifest",
        ),
        (format!("report --archive {name}"), "a page for the browser"),
        ("run --help".to_owned(), "your own app"),
    ];
    let width = next
        .iter()
        .map(|(command, _)| command.chars().count())
        .max();
    let width = width.unwrap_or_default();
    for (command, words) in next {
        let _ = writeln!(text, "  insights-archive {command:width$}   {words}");
    }
    Ok(text)
}

fn tree(folder: &Path, export: &Export, manifest: &Manifest) -> String {
    let Export { app, event, week } = export;
    let under = format!("app={app}/event={event}");
    let mut text = format!("  {}/\n", style(folder.display()).bold());
    // Writing to a String cannot fail.
    let mut branch = |line: String, words: &str| {
        let line = format!("  {line:<46}  {}", style(words).dim());
        let _ = writeln!(text, "{}", line.trim_end());
    };
    branch(format!("├── manifests/{under}/"), "");
    branch(
        format!("│   └── week={week}.json"),
        "its commit record: the week is archived",
    );
    branch(
        format!("├── data/{under}/week={week}/job={}/", manifest.job.id),
        "",
    );
    for (fragment, left) in manifest
        .fragments
        .iter()
        .rev()
        .zip(0..)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        let limb = if left == 0 { "└──" } else { "├──" };
        let part = fragment.key.rsplit('/').next().unwrap_or_default();
        let (records, bytes) = (
            figures::counted(fragment.records, "record"),
            figures::bytes(fragment.bytes),
        );
        branch(
            format!("│   {limb} {part}"),
            &format!("{records}, {bytes}, byte for byte"),
        );
    }
    branch(
        format!("├── receipts/{under}/week=…/"),
        "notes for a run that continues; may expire",
    );
    branch(
        format!("└── claims/{under}/"),
        "who is at work on what; may expire",
    );
    text
}

/// The manifest with the first of its fragments only, and fewer lines.
fn shortened(manifest: &Manifest) -> anyhow::Result<String> {
    let one_line = |value: serde_json::Result<String>| {
        value.map(|json| json.replace("\":", "\": ").replace(",\"", ", \""))
    };
    let mut text = String::from("  {\n");
    let mut member = |name: &str, json: &str| {
        let _ = writeln!(text, "    \"{name}\": {json},");
    };
    member("schema", &format!("{:?}", manifest.schema));
    member(
        "app",
        &format!(
            "\"{}\", \"event\": \"{}\", \"week\": \"{}\"",
            manifest.app, manifest.event, manifest.week
        ),
    );
    member(
        "window",
        &one_line(serde_json::to_string(&manifest.window))?,
    );
    member("job", &one_line(serde_json::to_string(&manifest.job))?);
    member(
        "declared",
        &one_line(serde_json::to_string(&manifest.declared))?,
    );
    member(
        "archived",
        &one_line(serde_json::to_string(&manifest.archived))?,
    );
    member("verified", &manifest.verified.to_string());
    member(
        "discrepancies",
        &serde_json::to_string(&manifest.discrepancies)?,
    );
    if let [first, more @ ..] = &manifest.fragments[..] {
        let first = serde_json::to_string_pretty(first)?.replace('\n', "\n    ");
        let more = match more.len() {
            0 => String::new(),
            n => format!(", … {n} more"),
        };
        member("fragments", &format!("[{first}{more}]"));
    }
    let _ = writeln!(
        text,
        "    \"committedAt\": \"{}\"\n  }}",
        manifest.committed_at
    );
    Ok(text)
}
