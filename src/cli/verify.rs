//! `verify`: is the archive right?

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use super::range::Selection;
use super::screen::Screen;
use super::site::{Opened, Site};
use super::usage::Usage;
use super::{UNFULFILLED, figures, harmless, results};
use crate::archive::{Archive, ETag};
use crate::audit::Range;
use crate::audit::verify::{Depth, Heard, Verified, verify};
use crate::export::Export;

/// What is looked at, how closely, and how it is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insights-archive verify --archive ./archive
  insights-archive verify --archive s3://bucket/kore --deep --resume verify.log

In a bucket one request per object compares its size and checksum with the manifest; --deep
downloads all of them. A folder is always read, and --deep counts the records as well.

Exit status: 0 nothing is wrong, 1 something is and is named, or nothing is archived there, 2 wrong
usage or settings.")]
pub struct Args {
    /// The archive: a folder, or a bucket with an optional prefix
    #[arg(long, value_name = "DIR|s3://BUCKET/PREFIX")]
    archive: Site,
    #[command(flatten)]
    selection: Selection,
    /// Read every byte again, hash it and count the records
    #[arg(long)]
    deep: bool,
    /// How many objects are looked at at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    at_once: u16,
    /// Note in this file what was found right, and skip it when a run that was cut off is started
    /// again; removed when a run reaches the end
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Print one document a line for programs (docs/STATUS.md)
    #[arg(long)]
    json: bool,
}

/// Prints what is wrong, as it is found, and what there is.
pub async fn run(args: Args, screen: &Screen) -> anyhow::Result<ExitCode> {
    let range = args.selection.clone().range()?;
    let notes = match &args.resume {
        None => None,
        Some(path) => Some(
            Notes::open(path, &args.archive, args.deep).map_err(|error| {
                Usage::new(format!("--resume {}: {error}", path.display()))
                    .with_hint("name a file that can be written, or one that an earlier run left")
            })?,
        ),
    };
    let verified = match args.archive.open_to_read().await? {
        Opened::Folder(folder) => go(&Arc::new(folder), &range, &args, notes, screen).await?,
        Opened::Bucket(bucket) => go(&Arc::new(bucket), &range, &args, notes, screen).await?,
    };
    if args.json {
        let summary = Line::Summary(&verified);
        results(&line(&summary))?;
    } else {
        results(&told(&verified, &args))?;
    }
    // A wrong prefix must not pass for a right archive.
    Ok(if verified.findings == 0 && verified.exports > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(UNFULFILLED)
    })
}

/// One line of `--json`.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
enum Line<'a> {
    Finding(&'a crate::audit::verify::Finding),
    Summary(&'a Verified),
}

fn line(line: &Line<'_>) -> String {
    // A struct of texts and numbers always serialises.
    serde_json::to_string(line).unwrap_or_default() + "\n"
}

async fn go<A: Archive + 'static>(
    archive: &Arc<A>,
    range: &Range,
    args: &Args,
    mut notes: Option<Notes>,
    screen: &Screen,
) -> anyhow::Result<Verified> {
    let depth = Depth {
        deep: args.deep,
        at_once: usize::from(args.at_once),
    };
    let bar = screen.bars().add(ProgressBar::new(0));
    if let Ok(style) = ProgressStyle::with_template(
        "{elapsed_precise} {wide_bar} {pos} of {len} weeks {msg}, {eta} left",
    ) {
        bar.set_style(style);
    }
    let known = notes.as_ref().map(|notes| notes.right.clone());
    let skip = |export: &Export, manifest: &ETag| {
        let known = known.as_ref().and_then(|known| known.get(export));
        known == Some(manifest)
    };
    let mut read = 0;
    let mut trouble = None;
    let watch = |heard: Heard<'_>| match heard {
        Heard::Begun(exports) => bar.set_length(exports),
        Heard::Looked(bytes) => {
            read += bytes;
            bar.set_message(format!("({} read)", figures::bytes(read)));
        }
        Heard::Found(finding) => {
            let text = if args.json {
                line(&Line::Finding(finding))
            } else {
                let word = console::style(format!("{:<10}", finding.wrong.as_str())).red();
                let (key, detail) = (harmless(&finding.key), harmless(&finding.detail));
                format!("{word} {key}: {detail}\n")
            };
            let printed = screen.bars().suspend(|| results(&text));
            trouble = trouble.take().or(printed.err());
        }
        Heard::Done {
            export,
            manifest,
            right,
        } => {
            bar.inc(1);
            if right && let Some(notes) = &mut notes {
                trouble = trouble
                    .take()
                    .or(notes.add(export, manifest).err().map(Into::into));
            }
        }
    };
    let verified = verify(archive, range, depth, skip, watch).await;
    bar.finish_and_clear();
    let verified = verified?;
    if let Some(error) = trouble {
        return Err(error);
    }
    if let Some(notes) = notes {
        notes.remove()?;
    }
    Ok(verified)
}

/// What an earlier run found right.
struct Notes {
    path: PathBuf,
    file: File,
    right: HashMap<Export, ETag>,
}

/// The first line of the notes: they are worth nothing for another archive or another depth.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    archive: String,
    deep: bool,
}

#[derive(Serialize, Deserialize)]
struct Right {
    export: Export,
    manifest: ETag,
}

impl Notes {
    fn open(path: &Path, archive: &Site, deep: bool) -> io::Result<Self> {
        let about = About {
            archive: archive.to_string(),
            deep,
        };
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(path)?;
        let mut lines = BufReader::new(&file).lines();
        let mut right = HashMap::new();
        match lines.next().transpose()? {
            None => writeln!(file, "{}", serde_json::to_string(&about)?)?,
            Some(first) => {
                let other = io::Error::other(
                    "these are notes of another archive, of another depth, or none at all",
                );
                if serde_json::from_str::<About>(&first).ok() != Some(about) {
                    return Err(other);
                }
                for line in lines {
                    // The last line may have been cut off.
                    if let Ok(Right { export, manifest }) = serde_json::from_str(&line?) {
                        right.insert(export, manifest);
                    }
                }
                // What follows a line that was cut off stands on its own.
                writeln!(file)?;
            }
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            right,
        })
    }

    fn add(&mut self, export: &Export, manifest: &ETag) -> io::Result<()> {
        let right = Right {
            export: export.clone(),
            manifest: manifest.clone(),
        };
        writeln!(self.file, "{}", serde_json::to_string(&right)?)
    }

    fn remove(self) -> io::Result<()> {
        std::fs::remove_file(self.path)
    }
}

/// The summary in words.
fn told(verified: &Verified, args: &Args) -> String {
    let mut lines = Vec::new();
    for job in &verified.jobs {
        lines.push(format!(
            "{:<10} {}/job={}: {}, {} ({})",
            "unnamed",
            job.export,
            job.job,
            figures::counted(job.heap.objects, "file"),
            figures::bytes(job.heap.bytes),
            job.why.as_str(),
        ));
    }
    if verified.unaccounted.objects > 0 {
        lines.push(format!(
            "No manifest names {} ({}){}",
            figures::counted(verified.unaccounted.objects, "file"),
            figures::bytes(verified.unaccounted.bytes),
            if verified.findings == 0 {
                ": no error, they only take room."
            } else {
                "."
            }
        ));
    }
    if verified.quarantined.objects > 0 {
        lines.push(format!(
            "{} ({}) came instead of records and were set aside under quarantine/.",
            figures::counted(verified.quarantined.objects, "file"),
            figures::bytes(verified.quarantined.bytes)
        ));
    }
    let mut weeks = figures::counted(verified.exports, "week");
    if verified.erased > 0 {
        weeks = format!("{weeks} ({} erased)", figures::count(verified.erased));
    }
    if verified.skipped > 0 {
        weeks = format!(
            "{weeks} ({} found right before)",
            figures::count(verified.skipped)
        );
    }
    let verdict = match verified.findings {
        0 if verified.exports == 0 => {
            let words = "nothing is archived there, or nothing of what was asked for";
            console::style(words.to_owned()).red().bold()
        }
        0 => console::style("nothing is wrong".to_owned()).green(),
        1 => console::style("1 thing is wrong".to_owned()).red().bold(),
        n => console::style(format!("{} things are wrong", figures::count(n)))
            .red()
            .bold(),
    };
    lines.push(format!(
        "{}: {verdict}. {weeks}, {}, {}; {} read.",
        args.archive,
        figures::counted(verified.named.objects, "file"),
        figures::bytes(verified.named.bytes),
        figures::bytes(verified.read),
    ));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::folder::Folder;
    use crate::audit::made::{Made, export};
    use crate::audit::verify::{Why, Wrong};

    /// What `--json` prints of an archive.
    async fn printed(folder: &Folder) -> Vec<serde_json::Value> {
        let depth = Depth {
            deep: false,
            at_once: 1,
        };
        let mut text = String::new();
        let watch = |heard: Heard<'_>| {
            if let Heard::Found(finding) = heard {
                text += &line(&Line::Finding(finding));
            }
        };
        let archive = Arc::new(folder.clone());
        let verified = verify(&archive, &Range::default(), depth, |_, _| false, watch).await;
        text += &line(&Line::Summary(&verified.unwrap()));
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    }

    #[tokio::test]
    async fn the_lines_have_the_documented_shape() {
        let made = Made::new();
        let week = export("st-1/all/2025-01-06");
        let manifest = made.archive(&week, &["[1,2]", "[3]"], 3).await;
        made.archive(&export("st-1/all/2025-01-13"), &["[4]"], 1)
            .await;
        made.data(&week, "fj-2", &["[5]"]).await;
        made.write(&manifest.fragments[1].key, "[3 ]");
        let (_, section) = include_str!("../../docs/STATUS.md")
            .split_once("`insights-archive verify --json`")
            .unwrap();
        let example = section.split("```json\n").nth(1).unwrap();
        let example = example.split("```").next().unwrap();
        let example = serde_json::Deserializer::from_str(example).into_iter();
        let example: Vec<serde_json::Value> = example.collect::<Result<_, _>>().unwrap();
        assert_eq!(printed(&made.folder).await, example);
        let summary = example.last().unwrap().as_object().unwrap();
        for member in summary.keys().filter(|member| *member != "kind") {
            assert!(section.contains(&format!("`{member}`")), "{member}");
        }
        let every = [
            Wrong::Missing,
            Wrong::Changed,
            Wrong::Extra,
            Wrong::Unreadable,
            Wrong::Newer,
            Wrong::NotErased,
        ];
        for wrong in every {
            let word = serde_json::to_value(wrong).unwrap();
            let row = format!("| `{}` |", word.as_str().unwrap());
            assert!(section.contains(&row), "{row}");
        }
        let every = [
            Why::Superseded,
            Why::Abandoned,
            Why::NotArchived,
            Why::Unknown,
        ];
        for why in every {
            let word = serde_json::to_value(why).unwrap();
            let word = format!("`{}`", word.as_str().unwrap());
            assert!(section.contains(&word), "{word}");
        }
    }

    #[test]
    fn notes_survive_a_cut_and_are_refused_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        let site: Site = "./archive".parse().unwrap();
        let etag: ETag = "abc".parse().unwrap();
        let week = export("st-1/all/2025-01-06");
        let mut notes = Notes::open(&path, &site, true).unwrap();
        notes.add(&week, &etag).unwrap();
        // Killed while it wrote.
        write!(notes.file, "{{\"export\": {{\"app").unwrap();
        drop(notes);
        let mut notes = Notes::open(&path, &site, true).unwrap();
        assert_eq!(notes.right, HashMap::from([(week, etag.clone())]));
        notes.add(&export("st-1/all/2025-01-13"), &etag).unwrap();
        drop(notes);
        assert!(Notes::open(&path, &site, false).is_err());
        assert!(Notes::open(&path, &"s3://bucket".parse().unwrap(), true).is_err());
        let notes = Notes::open(&path, &site, true).unwrap();
        assert_eq!(notes.right.len(), 2);
        notes.remove().unwrap();
        assert!(!path.exists());
    }
}
