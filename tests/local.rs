//! The shipped command line against the simulated host over HTTP: what it archives, what it says,
//! how it ends.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aws_lc_rs::digest;
use insights_archive::archive::manifest::{self, Manifest};
use insights_archive::export::{Event, Export, Week};
use insights_archive::host::Host;
use insights_archive::host::plan::Plan;

const APP: &str = "st-demo";
/// Weeks long gone, so that no test depends on the day.
const SINCE: &str = "2025-03-03";

/// The shipped program, with an environment of its own.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_insights-archive"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path);
    command
}

/// `run` with the simulated host's credentials.
fn run(host: &str, archive: &Path) -> Command {
    let mut command = program();
    command
        .env("KORE_CLIENT_ID", "cs-demo")
        .env("KORE_CLIENT_SECRET", "demo-secret")
        .args(["run", "--allow-private-network", "--host-url", host])
        .args(["--app", APP, "--archive"])
        .arg(archive);
    command
}

/// How a program ended and what it said.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs a program to its end, through pipes.
fn say(command: &mut Command) -> Said {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    for text in [&said.out, &said.err] {
        assert!(!text.contains('\u{1b}'), "escape codes in a pipe: {text:?}");
        assert!(!text.contains("demo-secret"), "a secret: {text}");
    }
    said
}

/// The simulated host, until it is dropped.
struct Simulated {
    program: Child,
    url: String,
}

impl Simulated {
    fn new(options: &[&str]) -> Self {
        let mut program = program()
            .args(["simulate", "--port", "0", "--rate-limit", "0"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(program.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let url = line
            .split([' ', ';'])
            .find(|word| word.starts_with("http://"))
            .unwrap_or_else(|| panic!("no URL in {line:?}"))
            .to_owned();
        // It has said all that it will: closing the pipe does not disturb it.
        Self { program, url }
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn export(week: Week) -> Export {
    Export {
        app: APP.parse().unwrap(),
        event: Event::All,
        week,
    }
}

fn weeks(n: usize) -> Vec<Week> {
    let first: Week = SINCE.parse().unwrap();
    std::iter::successors(Some(first), |week| Some(week.next()))
        .take(n)
        .collect()
}

/// All manifests of an archive, as they are stored.
fn manifests(archive: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                found.insert(path.clone(), std::fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&archive.join("manifests"), &mut found);
    found
}

fn read(bytes: &[u8], export: &Export) -> Manifest {
    match manifest::read(bytes, export).unwrap() {
        manifest::Read::Known(manifest) => *manifest,
        manifest::Read::Foreign { schema } => panic!("{schema}"),
    }
}

/// A file's records, length and SHA-256.
type File = (u64, u64, String);

fn sha256(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// What the simulated host holds of a week when nothing is said of its records.
fn truth(week: Week) -> Vec<File> {
    let content = Host::new(Plan::default(), "").content(&export(week));
    (0..content.fragments())
        .map(|number| {
            let fragment = content.fragment(number);
            let records = fragment.records();
            let bytes: Vec<u8> = fragment.pieces().flatten().collect();
            (records, bytes.len() as u64, sha256(&bytes))
        })
        .collect()
}

/// Checks that the archive holds exactly these weeks, verified, and that each is what the host holds.
fn assert_archived(archive: &Path, weeks: &[Week]) {
    let found = manifests(archive);
    assert_eq!(found.len(), weeks.len(), "{:?}", found.keys());
    for (week, bytes) in weeks.iter().zip(found.values()) {
        let manifest = read(bytes, &export(*week));
        assert!(manifest.verified, "{week}: {:?}", manifest.discrepancies);
        let mut stated: Vec<File> = manifest
            .fragments
            .iter()
            .map(|fragment| (fragment.records, fragment.bytes, fragment.sha256.clone()))
            .collect();
        // In whatever order the host named them.
        let mut truth = truth(*week);
        truth.sort();
        stated.sort();
        assert_eq!(stated, truth, "{week}");
        for fragment in &manifest.fragments {
            let stored = std::fs::read(archive.join(&fragment.key)).unwrap();
            assert_eq!(sha256(&stored), fragment.sha256, "{}", fragment.key);
        }
    }
}

#[test]
fn a_demo_archives_its_weeks_and_a_second_one_finds_nothing_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let demo = || {
        say(program()
            .args(["demo", "--weeks", "3"])
            .current_dir(&folder))
    };
    let first = demo();
    assert_eq!(first.code, Some(0), "{first:?}");
    assert_eq!(first.out.matches("✔ verified").count(), 3, "{}", first.out);
    assert!(
        first.out.contains("3 weeks stand archived and verified"),
        "{}",
        first.out
    );
    assert!(first.err.contains("archived: "), "{}", first.err);
    let archived = manifests(&folder.path().join("demo-archive"));
    assert_eq!(archived.len(), 3);

    let second = demo();
    assert_eq!(second.code, Some(0), "{second:?}");
    assert!(second.out.contains("Nothing to do."), "{}", second.out);
    assert_eq!(manifests(&folder.path().join("demo-archive")), archived);
}

#[test]
fn a_run_against_a_host_with_faults_ends_complete_and_verified() {
    // These three are waited for, for half a minute each or until the job is given up; in virtual
    // time every fault strikes (tests/pipeline.rs).
    let host = Simulated::new(&[
        "--faults",
        "5",
        "--fault",
        "stuck-job=0",
        "--fault",
        "stalled-file=0",
        "--fault",
        "hanging-answer=0",
    ]);
    let folder = tempfile::tempdir().unwrap();
    let until = "2025-04-28";
    let said = say(run(&host.url, folder.path()).args(["--since", SINCE, "--until", until]));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_archived(folder.path(), &weeks(8));
}

#[test]
fn a_run_that_is_killed_again_and_again_continues_where_it_was() {
    // Jobs of a few seconds, then files of three seconds each: the kills fall into every phase.
    let host = Simulated::new(&["--fault", "drip=100"]);
    let folder = tempfile::tempdir().unwrap();
    let args = ["--since", SINCE, "--until", "2025-03-31"];
    let seed = RandomState::new().build_hasher().finish();
    for kill in 1..=5 {
        let after = Duration::from_millis(1_000 + seed.rotate_left(8 * kill) % 8_000);
        let mut run = run(&host.url, folder.path())
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Not to wait for something: the moment is what is tested.
        std::thread::sleep(after);
        run.kill().unwrap();
        run.wait().unwrap();
        println!(
            "killed after {after:?} with {} weeks archived",
            manifests(folder.path()).len()
        );
        // No promise rests on claims; without them the next run need not wait until they lapse. The
        // last run does, and carries their jobs on.
        if kill < 5 {
            let _ = std::fs::remove_dir_all(folder.path().join("claims"));
        }
    }
    let said = say(run(&host.url, folder.path()).args(args));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_archived(folder.path(), &weeks(4));
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_cleanly_and_the_next_run_need_not_wait() {
    let host = Simulated::new(&["--seconds-per-fragment", "5"]);
    let folder = tempfile::tempdir().unwrap();
    let args = ["--since", SINCE, "--until", "2025-03-10"];
    let mut stopped = run(&host.url, folder.path())
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut err = BufReader::new(stopped.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("started job") {
        line.clear();
        assert_ne!(err.read_line(&mut line).unwrap(), 0, "it ended too soon");
    }
    let id = stopped.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    let mut out = String::new();
    stopped
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut out)
        .unwrap();
    assert_eq!(stopped.wait().unwrap().code(), Some(1), "{out}");
    assert!(out.contains("run again to continue"), "{out}");
    assert!(manifests(folder.path()).is_empty());

    let begin = std::time::Instant::now();
    let said = say(run(&host.url, folder.path()).args(args));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("carries on job"), "{}", said.err);
    // A claim that was not released would hold for a minute.
    assert!(begin.elapsed() < Duration::from_secs(45), "{said:?}");
}

#[test]
fn a_replacement_keeps_the_version_before_in_its_list() {
    let host = Simulated::new(&["--records-per-week", "10"]);
    let folder = tempfile::tempdir().unwrap();
    let once = |more: &[&str]| {
        let mut run = run(&host.url, folder.path());
        let said = say(run
            .args(["--since", SINCE, "--until", "2025-03-10"])
            .args(more));
        assert_eq!(said.code, Some(0), "{said:?}");
        let (_, bytes) = manifests(folder.path()).pop_first().unwrap();
        (read(&bytes, &export(weeks(1)[0])), sha256(&bytes), said)
    };
    let (first, digest, _) = once(&[]);
    let (planned, _, said) = once(&["--replace", "--dry-run"]);
    assert_eq!(planned, first, "a dry run changed something");
    assert!(said.out.contains("would be replaced"), "{}", said.out);
    let (second, _, _) = once(&["--replace"]);
    let replaced: Vec<_> = second.supersedes.iter().map(|old| &old.sha256).collect();
    assert_eq!(replaced, [&digest]);
    assert_ne!(second.job.id, first.job.id);
}

#[test]
fn a_dry_run_says_what_would_be_done_and_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("none");
    // Nobody serves there.
    let mut run = run("http://127.0.0.1:9", &archive);
    let said = say(run.args(["--since", SINCE, "--until", "2025-03-17", "--dry-run"]));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.out.contains("2 weeks would be exported"),
        "{}",
        said.out
    );
    assert!(!archive.exists());
}

#[test]
fn weeks_that_are_not_over_are_named_and_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let today = insights_archive::export::Time::now().date().to_string();
    let said = say(run("http://127.0.0.1:9", folder.path()).args(["--since", &today]));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("is due on"), "{}", said.out);
}

/// Names and values.
type Environment = [(&'static str, &'static str)];

#[test]
fn wrong_usage_is_named_with_its_remedy_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    let jwt = [("KORE_JWT", "eyJhbGciOiJIUzI1NiJ9.e30.c2ln")];
    let id = [("KORE_CLIENT_ID", "cs-1")];
    let both = [jwt[0], id[0], ("KORE_CLIENT_SECRET", "hidden")];
    // Arguments in the place of the usual ones, credentials, and what must be said.
    let usual: &Environment = &jwt;
    #[rustfmt::skip]
    let cases: &[(&[&str], &Environment, &[&str])] = &[
        (&["--app", "st/1"], usual, &["--app", "letters, digits"]),
        (&["--app", "st.1"], usual, &["--app", "letters, digits"]),
        (&["--app", "../x"], usual, &["--app", "letters, digits"]),
        (&["--event", "thumbsup"], usual, &["--event", "thumbsUp"]),
        (&["--since", "2025-02-29"], usual, &["--since", "day of the calendar"]),
        (&["--since", "yesterday"], usual, &["--since", "2025-01-20"]),
        (&["--since", "2999-01-01"], usual, &["--since 2999-01-01 is in the future", "hint: give the day"]),
        (&["--until", "2025-03-03"], usual, &["not before --until", "exclusive"]),
        (&["--until", "2025-01-01"], usual, &["not before --until", "exclusive"]),
        (&["--host-url", "https://platform.kore.ai/api"], usual, &["--host-url", "path", "scheme and host only"]),
        (&["--host-url", "https://platform.kore.ai?a=b"], usual, &["--host-url", "query", "scheme and host only"]),
        (&["--host-url", "https://me:hidden@platform.kore.ai"], usual, &["--host-url", "credentials", "scheme and host only"]),
        (&["--host-url", "http://platform.kore.ai"], usual, &["--host-url", "plain http", "--allow-private-network"]),
        (&["--host-url", "https://127.0.0.1"], usual, &["--host-url", "not a public address", "--allow-private-network"]),
        (&["--host-url", "https://[::ffff:10.0.0.1]"], usual, &["--host-url", "not a public address"]),
        (&["--host-url", "platform.kore.ai"], usual, &["--host-url", "no scheme", "scheme and host only"]),
        (&["--file-host", "https://files.example.com"], usual, &["--file-host", "without scheme"]),
        (&["--stall-minutes", "0"], usual, &["--stall-minutes", "1.."]),
        (&["--archive", file], usual, &["--archive", "this is a file", "name another path"]),
        (&["--archive", "s3://UPPER"], usual, &["--archive", "lower-case"]),
        (&["--archive", "gs://bucket"], usual, &["--archive", "s3://bucket"]),
        (&["--archive", ""], usual, &["--archive", "s3://bucket"]),
        (&[], &[], &["no credentials", "set KORE_JWT"]),
        (&[], &id, &["KORE_CLIENT_ID", "set KORE_CLIENT_SECRET"]),
        (&[], &both, &["both kinds", "unset the other"]),
        (&[], &[("KORE_JWT", "not.a.jwt")], &["KORE_JWT is not a JWT", "base64url"]),
        (&[], &[jwt[0], ("INSIGHTS_LOG", "loud")], &["INSIGHTS_LOG", "debug"]),
        (&["--sinc", "2025-01-01"], usual, &["--sinc", "--since"]),
        #[cfg(target_os = "linux")] // not even root can write there
        (&["--archive", "/proc/archive"], usual, &["--archive", "/proc/archive"]),
    ];
    for (args, environment, words) in cases {
        let archive = folder.path().join("archive");
        let mut command = program();
        command.args(["run"]).envs(environment.iter().copied());
        let standard = [
            ("--host-url", "https://platform.kore.ai"),
            ("--app", APP),
            ("--since", SINCE),
            ("--archive", archive.to_str().unwrap()),
        ];
        for (name, value) in standard {
            if !args.contains(&name) {
                command.args([name, value]);
            }
        }
        let said = say(command.args(*args));
        assert_eq!(said.code, Some(2), "{args:?}: {said:?}");
        assert_eq!(said.out, "", "{args:?}");
        for word in *words {
            assert!(
                said.err.contains(word),
                "{args:?}: {word:?} is missing in {}",
                said.err
            );
        }
        assert!(!said.err.contains("hidden"), "{args:?}: {}", said.err);
        assert!(!archive.exists(), "{args:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_is_an_error_with_its_remedy_and_nothing_counts_as_archived() {
    let host = Simulated::new(&["--records-per-week", "100"]);
    let folder = tempfile::tempdir().unwrap();
    let run = run(&host.url, folder.path());
    // No file may grow beyond 128 KiB, and the program is told by an error, as by a full disk.
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 256; exec \"$0\" \"$@\""])
        .arg(run.get_program())
        .args(run.get_args())
        .args(["--since", SINCE, "--until", "2025-03-10"])
        .env_clear()
        .envs(
            run.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    let said = say(&mut limited);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("use another one"), "{}", said.out);
    assert!(manifests(folder.path()).is_empty());
}

/// A host whose every job has succeeded with this answer; it speaks just enough HTTP. A file's
/// request is answered with a redirect to `elsewhere`.
fn host_with(job: &'static str, elsewhere: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let base = url.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let base = base.clone();
            std::thread::spawn(move || answer(stream, &job.replace("BASE", &base), elsewhere));
        }
    });
    url
}

fn answer(mut stream: TcpStream, job: &str, elsewhere: &str) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut length = 0;
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 2 {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        line.clear();
    }
    reader.take(length).read_to_end(&mut Vec::new()).ok()?;
    let head = if first.contains("/file") {
        format!("HTTP/1.1 302 Found\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n")
    } else {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n", job.len())
    };
    let body = if first.contains("/file") { "" } else { job };
    write!(stream, "{head}connection: close\r\n\r\n{body}").ok()
}

#[test]
fn a_link_to_a_place_that_files_may_not_come_from_is_refused_by_name() {
    macro_rules! job {
        ($url:literal) => {
            concat!(
                r#"{"_id":"fj-1","status":"SUCCESS","percentageDone":100,"fileInfo":{"fileId":"f","fileUrl":""#,
                $url,
                r#""},"store":{"totalFiles":1,"totalRecords":1}}"#
            )
        };
    }
    let cases = [
        (
            job!("https://files.example.com/x.json?s=hidden"),
            "",
            "files.example.com",
        ),
        (
            job!("http://169.254.169.254/latest?s=hidden"),
            "",
            "169.254.169.254",
        ),
        (job!("http://[::1]:80/x?s=hidden"), "", "::1"),
        (job!("file:///etc/passwd?s=hidden"), "", "http"),
        (
            job!("BASE/file?s=hidden"),
            "http://169.254.169.254/x?s=hidden",
            "169.254.169.254",
        ),
        (
            job!("BASE/file?s=hidden"),
            "http://evil.example.com/x?s=hidden",
            "evil.example.com",
        ),
        (job!("BASE/file?s=hidden"), "//[::1]/x?s=hidden", "::1"),
    ];
    std::thread::scope(|scope| {
        for (job, elsewhere, word) in cases {
            scope.spawn(move || {
                let folder = tempfile::tempdir().unwrap();
                let mut run = run(&host_with(job, elsewhere), folder.path());
                let said = say(run.args(["--since", SINCE, "--until", "2025-03-10"]));
                assert_eq!(said.code, Some(1), "{job} {elsewhere}: {said:?}");
                assert!(said.out.contains(word), "{job} {elsewhere}: {}", said.out);
                assert!(
                    !said.out.contains("hidden") && !said.err.contains("hidden"),
                    "{said:?}"
                );
                assert!(manifests(folder.path()).is_empty());
            });
        }
    });
}

#[test]
fn every_subcommand_teaches_by_example() {
    let all = say(program().arg("--help"));
    assert_eq!(all.code, Some(0));
    for name in [
        "demo",
        "run",
        "simulate",
        "status",
        "verify",
        "report",
        "erase",
        "completions",
    ] {
        assert!(
            all.out.contains(&format!("\n  {name} ")),
            "{name}: {}",
            all.out
        );
        let help = say(program().args([name, "--help"]));
        assert_eq!(help.code, Some(0), "{name}");
        let example = format!("insights-archive {name}");
        let examples = help.out.split("Examples:").nth(1).unwrap_or_default();
        assert!(examples.contains(&example), "{name}: {}", help.out);
    }
    assert_eq!(say(&mut program()).code, Some(2), "nothing was asked for");
    let version = say(program().arg("--version")).out;
    assert!(
        version.starts_with(concat!("insights-archive ", env!("CARGO_PKG_VERSION"))),
        "{version}"
    );
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = say(program().args(["completions", shell]));
        assert_eq!(script.code, Some(0), "{shell}");
        assert!(
            script.out.contains("--host-url") || script.out.contains("host-url"),
            "{shell}"
        );
    }
}

#[cfg(unix)]
#[test]
fn bash_completes_subcommands_and_their_options() {
    const TRY: &str = r#"
        source <("$0" completions bash) || exit
        complete=$(complete -p insights-archive)
        complete=${complete#* -F }
        for words in "ver" "verify --de" "run --host" "erase --re"; do
            COMP_WORDS=(insights-archive $words)
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            ${complete%% *} insights-archive "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            echo "${COMPREPLY[@]}"
        done"#;
    let mut bash = Command::new("bash");
    let said = say(bash.args(["--norc", "-c", TRY, env!("CARGO_BIN_EXE_insights-archive")]));
    let completed: Vec<_> = said.out.lines().collect();
    assert_eq!(
        completed,
        ["verify", "--deep", "--host-url", "--reason"],
        "{said:?}"
    );
}
