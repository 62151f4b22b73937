//! Looking at an archive that is crowded, sealed, hostile or none; `benches/audit.py` measures how
//! long a look takes.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use insights_archive::archive::folder::{Folder, FolderDownload, FolderUpload};
use insights_archive::archive::key::Part;
use insights_archive::archive::manifest::{JobFacts, Manifest};
use insights_archive::archive::receipt::{self, Receipt};
use insights_archive::archive::{
    About, Archive, ArchiveError, Created, ETag, Head, Key, Listed, Replaced, Stored,
};
use insights_archive::audit::Range;
use insights_archive::audit::verify::{Depth, verify};
use insights_archive::export::{Event, Export, JobId, Week};
use insights_archive::kore::job::Totals;

fn week() -> Week {
    "2015-01-05".parse().unwrap()
}

/// Writes the manifest of an export with so many fragments, and no data.
fn write_manifest(root: &Path, export: &Export, fragments: u32) {
    let job: JobId = "fj-1".parse().unwrap();
    let receipts = (1..=fragments).map(|number| Receipt {
        schema: receipt::SCHEMA.to_owned(),
        key: Key::data(export, &job, Part::new(number, fragments).unwrap()).to_string(),
        number,
        of: fragments,
        file_id: format!("file-{number}"),
        file_name: None,
        declared_records: Some(150),
        records: 150,
        bytes: 20_000_000,
        sha256: "0".repeat(64),
        crc64nvme: "AAAAAAAAAAA=".to_owned(),
        written_at: export.week.end(),
    });
    let receipts: Vec<_> = receipts.collect();
    let job = JobFacts {
        id: job,
        created_on: None,
    };
    let totals = Totals {
        files: None,
        records: None,
    };
    let end = export.week.end();
    let manifest = Manifest::of(export, job, totals, &receipts, Vec::new(), end).unwrap();
    let path = root.join(Key::manifest(export).as_str());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, manifest.to_json()).unwrap();
}

fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kib / 1024
}

/// An archive whose listing of data is a million keys that nobody stored.
struct Crowded {
    folder: Folder,
    keys: u32,
}

impl Archive for Crowded {
    type Upload = FolderUpload;
    type Download = FolderDownload;

    async fn list(
        &self,
        prefix: &str,
        mut each: impl FnMut(Listed) + Send,
    ) -> Result<(), ArchiveError> {
        if prefix != "data/" {
            return self.folder.list(prefix, each).await;
        }
        for number in 1..=self.keys {
            // Half belong to abandoned jobs, half to nothing at all.
            let key = if number.is_multiple_of(2) {
                format!("data/foreign-{number}")
            } else {
                let job = number / 1_000;
                format!(
                    "data/app=st-0/event=all/week=2015-01-05/job=fj-{job}/part-{number:07}-of-1000000.json"
                )
            };
            each(Listed { key, bytes: 1 });
        }
        Ok(())
    }

    async fn get(&self, key: &Key) -> Result<Option<Stored>, ArchiveError> {
        self.folder.get(key).await
    }

    async fn head(&self, key: &Key) -> Result<Option<Head>, ArchiveError> {
        self.folder.head(key).await
    }

    async fn open(&self, key: &Key) -> Result<Option<FolderDownload>, ArchiveError> {
        self.folder.open(key).await
    }

    async fn create(
        &self,
        key: &Key,
        bytes: Bytes,
        about: &About,
    ) -> Result<Created, ArchiveError> {
        self.folder.create(key, bytes, about).await
    }

    async fn replace(
        &self,
        key: &Key,
        bytes: Bytes,
        base: &ETag,
    ) -> Result<Replaced, ArchiveError> {
        self.folder.replace(key, bytes, base).await
    }

    async fn begin(&self, key: &Key, about: &About) -> Result<FolderUpload, ArchiveError> {
        self.folder.begin(key, about).await
    }
}

#[tokio::test]
async fn a_crowded_listing_is_judged_in_bounded_memory() {
    // Optimised, a million; the bound is the same.
    let keys: u32 = if cfg!(debug_assertions) {
        100_000
    } else {
        1_000_000
    };
    let root = tempfile::tempdir().unwrap();
    let archive = Arc::new(Crowded {
        folder: Folder::open(root.path()).unwrap(),
        keys,
    });
    let depth = Depth {
        deep: false,
        at_once: 4,
    };
    let before = peak_memory_mib();
    let began = Instant::now();
    let mut found = 0;
    let watch = |heard: insights_archive::audit::verify::Heard<'_>| {
        if let insights_archive::audit::verify::Heard::Found(_) = heard {
            found += 1;
        }
    };
    let verified = verify(&archive, &Range::default(), depth, |_, _| false, watch).await;
    let (verified, took) = (verified.unwrap(), began.elapsed());
    let grown = peak_memory_mib() - before;
    // And the manifest of the jobs' week, which nobody is at work on.
    assert_eq!(found, keys / 2 + 1);
    assert_eq!(verified.findings, u64::from(found));
    assert_eq!(verified.unaccounted.objects, u64::from(keys / 2));
    assert!(verified.jobs.len() <= 1_000);
    assert!(grown <= 16, "{grown} MiB more");
    println!(
        "{keys} keys judged in {} ms, {grown} MiB more",
        took.as_millis()
    );
}

/// What the program prints on both outputs, and its exit status.
fn run(args: &[&str], archive: &Path) -> (Option<i32>, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_insights-archive"))
        .args(args)
        .arg("--archive")
        .arg(archive)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn what_is_no_archive_is_wrong_usage_and_an_empty_one_is_not_complete() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    std::fs::write(&file, "").unwrap();
    let absent = root.path().join("absent");
    let empty = root.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    for (args, archive, code, said) in [
        (&["status"][..], &file, 2, "this is a file"),
        (&["verify"], &file, 2, "this is a file"),
        (&["report"], &absent, 2, "there is no such folder"),
        (
            &["status", "--since", "2025-02-03", "--until", "2025-02-03"],
            &empty,
            2,
            "no week is left",
        ),
        (&["status", "--app", "st/1"], &empty, 2, "an AppID must be"),
        (&["status"], &empty, 1, "Nothing is archived here."),
        (&["status", "--json"], &empty, 1, "\"complete\": false"),
        (&["report"], &empty, 1, "Nothing is archived."),
        (&["verify"], &empty, 1, "nothing is archived there"),
        (
            &["status", "--app", "st-1", "--until", "2025-01-06"],
            &empty,
            1,
            "Nothing is archived.",
        ),
        (
            &["status", "--event", "all"],
            &empty,
            1,
            "Nothing of what was asked for is archived here.",
        ),
    ] {
        let (ended, text) = run(args, archive);
        assert_eq!(ended, Some(code), "{args:?}: {text}");
        assert!(text.contains(said), "{args:?}: {text}");
    }
    assert!(!absent.exists(), "a look has made a folder");
}

#[test]
fn a_week_is_erased_only_on_a_second_word_and_shown_from_then_on() {
    let root = tempfile::tempdir().unwrap();
    let export = Export {
        app: "st-1".parse().unwrap(),
        event: Event::All,
        week: week(),
    };
    write_manifest(root.path(), &export, 0);
    let order = [
        "erase",
        "--app",
        "st-1",
        "--week",
        "2015-01-05",
        "--by",
        "Ada",
        "--reason",
        "ticket 7",
    ];
    let (ended, text) = run(&order, root.path());
    assert_eq!(ended, Some(1), "{text}");
    assert!(text.contains("add --yes"), "{text}");
    let (ended, text) = run(&[&order[..], &["--yes"]].concat(), root.path());
    assert_eq!(ended, Some(0), "{text}");
    let until = ["status", "--until", "2015-01-12"];
    let (ended, text) = run(&until, root.path());
    assert_eq!(ended, Some(0), "{text}");
    assert!(text.contains("by Ada: ticket 7"), "{text}");
    let (ended, text) = run(&["verify"], root.path());
    assert_eq!(ended, Some(0), "{text}");
    assert!(text.contains("1 week (1 erased)"), "{text}");
    let mut future = order;
    future[4] = "2999-12-30";
    let (ended, text) = run(&[&future[..], &["--yes"]].concat(), root.path());
    assert_eq!(ended, Some(2), "{text}");
    assert!(text.contains("is in the future"), "{text}");
    for bad in ["", " ", "two\nlines"] {
        let mut order = order;
        order[8] = bad;
        assert_eq!(run(&order, root.path()).0, Some(2), "{bad:?}");
    }
}

/// The program run by a user who is not allowed everything: this one, or nobody where this is root.
#[cfg(unix)]
fn run_without_privileges(program: &Path, args: &[&str], archive: &Path) -> (Option<i32>, String) {
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::process::CommandExt as _;
    const NOBODY: u32 = 65_534;
    let mut command = std::process::Command::new(program);
    command.args(args).arg("--archive").arg(archive);
    // What this process makes is its user's.
    if std::fs::metadata(archive.parent().unwrap()).unwrap().uid() == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.current_dir("/").env("NO_COLOR", "1").output();
    let output = output.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[cfg(unix)]
#[test]
fn what_may_not_be_read_is_named_with_its_remedy() {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;
    let root = tempfile::tempdir().unwrap();
    set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
    // Where everyone may run it.
    let program = root.path().join("insights-archive");
    std::fs::copy(env!("CARGO_BIN_EXE_insights-archive"), &program).unwrap();
    let archive = root.path().join("archive");
    let export = Export {
        app: "st-1".parse().unwrap(),
        event: Event::All,
        week: week(),
    };
    write_manifest(&archive, &export, 0);
    let until = ["--until", "2015-01-12"];
    let (ended, text) =
        run_without_privileges(&program, &[&["status"][..], &until].concat(), &archive);
    assert_eq!(ended, Some(0), "{text}");
    let manifest = archive.join(Key::manifest(&export).as_str());
    for sealed in [&archive, &archive.join("manifests"), &manifest] {
        let usual = std::fs::metadata(sealed).unwrap().permissions();
        set_permissions(sealed, Permissions::from_mode(0o000)).unwrap();
        for command in ["status", "verify", "report"] {
            let (ended, text) =
                run_without_privileges(&program, &[&[command][..], &until].concat(), &archive);
            assert_eq!(ended, Some(1), "{command} {sealed:?}: {text}");
            let name = sealed.file_name().unwrap().to_str().unwrap();
            for said in [name, "give this user permission to read there"] {
                assert!(text.contains(said), "{command} {sealed:?}: {text}");
            }
        }
        set_permissions(sealed, usual).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn the_name_of_a_foreign_object_steers_no_terminal_and_is_no_markup() {
    let root = tempfile::tempdir().unwrap();
    let hostile = "x\u{1b}[2J\n<script>alert(1)";
    for folder in ["data", "manifests"] {
        let folder = root.path().join(folder);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(hostile), "").unwrap();
    }
    for command in ["status", "verify", "report"] {
        let (ended, text) = run(&[command], root.path());
        assert_eq!(ended, Some(1), "{command}: {text}");
        assert!(!text.contains('\u{1b}'), "{command}: {text:?}");
        let shown = match command {
            "report" => "x\u{fffd}[2J\u{fffd}&lt;script&gt;alert(1)",
            _ => "x\\u{1b}[2J\\n<script>alert(1)",
        };
        assert!(text.contains(shown), "{command}: {text}");
    }
    let (_, text) = run(&["verify", "--json"], root.path());
    assert!(text.contains("x\\u001b[2J\\n<script>"), "{text}");
}
