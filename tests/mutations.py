#!/usr/bin/env python3
"""Takes the safeguards out, one at a time, and checks that some test notices.

Not in CI: each one builds the crate anew. Run it in a clean work tree:

    tests/mutations.py            all of them
    tests/mutations.py claim hop  those whose name holds one of the words

Each mutation is a text that stands exactly once in a file, and what stands there instead. The file is
put back whatever happens. A mutation that no test notices is a failure of this script, and so is one
whose text is no longer found.
"""

import os
import subprocess
import sys
import time

STAGES = ["--lib", "stages"]
PROTOCOL = ["--test", "protocol", "--", "--skip", "every_path"]
SCOPE = ["--test", "protocol", "--", "every_path"]

# name, file, what stands there, what stands there instead, the tests to ask in this order
MUTATIONS = [
    ("claim: start a job without winning it", "src/stages/poll.rs",
     "        None => again(edges, message).await,\n    }\n}\n\n/// The claim is won",
     "        None => start_job(edges, message, spent).await,\n    }\n}\n\n/// The claim is won",
     [PROTOCOL, SCOPE]),
    ("claim: another chain's does not hold", "src/stages/claim.rs",
     "        return if claim.is_live(now) {", "        return if false && claim.is_live(now) {",
     [PROTOCOL]),
    ("claim: written over whatever was read", "src/stages/claim.rs",
     "        Some(base) => match archive.replace(&key, bytes, base).await {",
     "        Some(_) => match archive.replace(&key, bytes, &archive.get(&key).await?.map_or(base.cloned().unwrap_or_else(|| unreachable!()), |s| s.etag)).await {",
     [PROTOCOL, SCOPE]),
    ("claim: an attempt is not counted", "src/stages/poll.rs",
     "        attempt: spent + 1,\n        job: None,", "        attempt: spent,\n        job: None,",
     [PROTOCOL]),
    ("claim: an attempt without a job is taken at once", "src/stages/poll.rs",
     "        if since < edges.rules().poll_limit {", "        if false && since < edges.rules().poll_limit {",
     [PROTOCOL, SCOPE]),
    ("claim: the end leaves no mark", "src/stages/claim.rs",
     "        self.hop = ENDED_HOP;\n        self.attempt = ENDED_ATTEMPT;\n", "", [STAGES]),
    ("claim: a failure is not counted", "src/stages/claim.rs",
     "claim.failures = claim.failures.saturating_add(1);", "", [PROTOCOL]),
    ("claim: a dead chain's job is not adopted", "src/stages/poll.rs",
     "claim.filter(|_| mine.is_none() && message.base.is_none());", "claim.filter(|_| false);",
     [PROTOCOL]),
    ("attempt fence of looks", "src/stages/claim.rs",
     "claim.hop > message.hop || claim.attempt > message.attempt,", "claim.hop > message.hop,", [STAGES]),
    ("attempt fence of copies", "src/stages/claim.rs",
     "Work::Copy(_) => claim.attempt > message.attempt,", "Work::Copy(_) => false,", [STAGES]),
    ("hop fence of looks", "src/stages/claim.rs",
     "claim.hop > message.hop || claim.attempt > message.attempt,", "claim.attempt > message.attempt,", [STAGES]),
    ("hop fence of starts", "src/stages/claim.rs",
     "Work::Start => claim.hop > message.hop,", "Work::Start => false,", [STAGES]),
    ("a start is overtaken by its own attempt", "src/stages/claim.rs",
     "Work::Start => claim.hop > message.hop,",
     "Work::Start => claim.hop > message.hop || claim.attempt > message.attempt,", [PROTOCOL]),
    ("a job that cannot be noted is dropped", "src/stages/poll.rs",
     "                Ok(Amended::Theirs) => return",
     "                Ok(Amended::Theirs | Amended::Lost) | Err(_) => return", [PROTOCOL]),
    ("create-only: a stored object counts as this file", "src/stages/fragment.rs",
     "    match edges.archive().create(&key, bytes, &about).await? {\n        Created::Written(_) => Ok(Pass::Stored(facts)),\n        Created::Exists => Ok(Pass::Exists),",
     "    match edges.archive().create(&key, bytes, &about).await? {\n        Created::Written(_) | Created::Exists => Ok(Pass::Stored(facts)),", [PROTOCOL]),
    ("create-only: in a folder", "src/archive/folder.rs",
     "            match fs::hard_link(&object.path, &path) {",
     "            match fs::rename(&object.path, &path) {", [["--lib", "archive"]]),
    ("create-only: in a bucket", "src/archive/bucket.rs",
     "                None => put.if_none_match(\"*\"),", "                None => put,", [["--lib", "archive"]]),
    ("create-only: an upload to a bucket", "src/archive/bucket.rs",
     "            .if_none_match(\"*\")\n", "", [["--lib", "archive"]]),
    ("replace if unchanged: in a bucket", "src/archive/bucket.rs",
     "                Some(base) => put.if_match(base.as_str()),", "                Some(_) => put,", [["--lib", "archive"]]),
    ("file id on 412", "src/stages/fragment.rs",
     "        if stored != encoded(&wanted.file.id) {", "        if false && stored != encoded(&wanted.file.id) {", [PROTOCOL]),
    ("base of a replacement", "src/stages/commit.rs",
     "            Some(stored) if stored.etag == *base => {\n                match manifest::read(&stored.bytes, &message.export) {\n                    Ok(manifest::Read::Known(old)) => superseded",
     "            Some(stored) => {\n                match manifest::read(&stored.bytes, &message.export) {\n                    Ok(manifest::Read::Known(old)) => superseded",
     [PROTOCOL, SCOPE]),
    ("what is archived is archived again", "src/stages/commit.rs",
     "        (Some(_), None) => (\"it is archived\", Outcome::Archived),",
     "        (Some(_), None) => return Ok(Wanted::Yes),", [PROTOCOL]),
    ("predecessors are listed", "src/stages/commit.rs",
     "    list.push(Superseded {", "    let _ = (Superseded {", [PROTOCOL]),
    ("count of a small fragment", "src/stages/fragment.rs",
     "    if !as_expected && agreed != Some(facts.records) {", "    if false && !as_expected && agreed != Some(facts.records) {", [PROTOCOL]),
    ("count of a large fragment", "src/stages/fragment.rs",
     "    if facts.records != expected {", "    if false && facts.records != expected {", [PROTOCOL]),
    ("checksum of a small fragment", "src/stages/fragment.rs",
     "    about.crc64nvme = Some(facts.crc64nvme);\n", "", [PROTOCOL]),
    ("receipts for every fragment", "src/stages/copy.rs",
     "        if numbers.len() < slice.of as usize {", "        if false && numbers.len() < slice.of as usize {", [PROTOCOL, SCOPE]),
    ("receipts of files that the job still names", "src/stages/copy.rs",
     "        .find(|receipt| !files.contains_key(receipt.file_id.as_str()))", "        .find(|_| false)", [PROTOCOL]),
    ("a job names its files still", "src/stages/copy.rs",
     "    if job.files.len() != slice.of as usize {", "    if false && job.files.len() != slice.of as usize {", [STAGES]),
    ("the slice's files are the job's", "src/stages/copy.rs",
     "        .find(|fragment| !files.contains_key(fragment.file_id.as_str()))", "        .find(|_| false)", [STAGES]),
    ("as many files as stated", "src/stages/poll.rs",
     "        (Some(stated), _) if stated != files => {", "        (Some(stated), _) if false && stated != files => {", [STAGES]),
    ("distinct file ids, looking", "src/stages/poll.rs",
     "    if let Some([twice, _]) = ids.array_windows().find(|[a, b]| a == b) {", "    if let Some([twice, _]) = ids.array_windows().find(|[a, b]| false && a == b) {", [STAGES]),
    ("distinct file ids, committing", "src/archive/manifest.rs",
     "        if let Some([twice, _]) = ids.array_windows().find(|[a, b]| a == b) {", "        if let Some([twice, _]) = ids.array_windows().find(|[a, b]| false && a == b) {", [["--lib", "manifest"], PROTOCOL]),
    ("deadline", "src/stages/mod.rs",
     "    } else if let Some(first) = message.first_start.filter(overdue) {", "    } else if let Some(first) = message.first_start.filter(|first| false && overdue(first)) {", [PROTOCOL]),
    ("hop cap", "src/stages/mod.rs",
     "    if message.hop >= MOST_HOPS {", "    if false && message.hop >= MOST_HOPS {", [PROTOCOL]),
    ("three jobs a chain", "src/stages/mod.rs",
     "    if message.attempt >= MOST_ATTEMPTS {", "    if false && message.attempt >= MOST_ATTEMPTS {", [PROTOCOL]),
    ("three jobs a chain, starting", "src/stages/poll.rs",
     "    if spent >= MOST_ATTEMPTS {", "    if false && spent >= MOST_ATTEMPTS {", [PROTOCOL]),
    ("dead letter", "src/stages/mod.rs",
     "    edges.queue().bury(letter).await?;", "    let _ = letter;", [PROTOCOL]),
    ("stall", "src/stages/poll.rs",
     "            if still >= rules.stall {", "            if false && still >= rules.stall {", [STAGES]),
    ("a stall is noticed in time", "src/stages/poll.rs",
     "            let delay = delay.min(rules.stall);\n", "", [STAGES]),
    ("bound of Retry-After", "src/stages/pace.rs",
     "    retry_after.map(|asked| asked.min(LONGEST_ASKED))", "    retry_after", [PROTOCOL]),
    ("ever longer pauses while the archive is away", "src/stages/pace.rs",
     "        .saturating_mul(1 << n.min(16))\n        .min(LONGEST_WEATHER);", "        .min(LONGEST_WEATHER);", [STAGES]),
    ("peace after a failure", "src/stages/enqueue.rs",
     "        (None, Some(until)) if !explicit => Deed::Wait(Waiting {", "        (None, Some(until)) if false && !explicit => Deed::Wait(Waiting {", [PROTOCOL]),
    ("Failed entries of a batch", "src/queue/sqs.rs",
     "            entries.retain(|entry| !taken(entry.id()));", "            entries.clear(); let _ = &taken;", [["--lib", "queue"]]),
    ("list of file hosts", "src/kore/source.rs",
     "    fn check(&self, host: &str) -> Result<(), Forbidden> {", "    fn check(&self, host: &str) -> Result<(), Forbidden> {\n        if !host.is_empty() { return Ok(()); }", [["--lib", "kore"]]),
    ("public addresses alone", "src/kore/source.rs",
     "fn is_public(address: IpAddr) -> bool {", "fn is_public(address: IpAddr) -> bool {\n    if !address.is_unspecified() { return true; }", [["--lib", "kore"]]),
    ("https alone", "src/kore/source.rs",
     "fn check_scheme(url: &Url, what: &str, allow_private_network: bool) -> Result<(), Forbidden> {",
     "fn check_scheme(url: &Url, what: &str, allow_private_network: bool) -> Result<(), Forbidden> {\n    let allow_private_network = allow_private_network || !what.is_empty();", [["--lib", "kore"]]),
]


class DoesNotBuild(Exception):
    """The mutation's text is not Rust any more."""


def run(arguments):
    """Whether the tests pass, and the last words where they do not build."""
    environment = dict(os.environ, SEEDS="400")
    command = ["cargo", "test", "--quiet", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if "SIGKILL" in done.stderr or done.returncode < 0:
        raise DoesNotBuild("the build or the test was killed: not the mutation's doing")
    if "could not compile" in done.stderr:
        errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
        raise DoesNotBuild("\n".join(errors))
    return done.returncode == 0


def main():
    words = sys.argv[1:]
    chosen = [m for m in MUTATIONS if not words or any(word in m[0] for word in words)]
    survivors = []
    for name, path, old, new, tests in chosen:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        if text.count(old) != 1:
            survivors.append(name)
            print(f"NOT FOUND  {name}: the text stands {text.count(old)} times in {path}", flush=True)
            continue
        began = time.monotonic()
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text.replace(old, new))
            noticed = next((test for test in tests if not run(test)), None)
        except DoesNotBuild as error:
            survivors.append(name)
            print(f"NOT BUILT  {name}:\n{error}", flush=True)
            continue
        finally:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        took = time.monotonic() - began
        if noticed is None:
            survivors.append(name)
            print(f"SURVIVED   {name} ({took:.0f} s)", flush=True)
        else:
            print(f"noticed    {name}, by {' '.join(noticed)} ({took:.0f} s)", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} safeguards are missed when they are gone")
    sys.exit(bool(survivors))


main()
