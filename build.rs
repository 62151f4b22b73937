//! Tells the program which commit it is built from, for `--version`.

use std::process::Command;

fn main() {
    let commit = git(&["log", "-1", "--format=%h %cs", "--abbrev=10"]);
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let version = match commit {
        Some(commit) => format!("{version} ({commit})"),
        // Built from an archive of the sources.
        None => version,
    };
    println!("cargo::rustc-env=INSIGHTS_VERSION={version}");
    println!("cargo::rerun-if-changed=build.rs");
    // What a commit or a checkout changes; in a worktree it is not below `.git`.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
}

/// What git answers, if there is a git and this is a repository.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
