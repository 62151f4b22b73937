#!/usr/bin/env python3
"""Takes the safeguards out, one at a time, and checks that some test notices.

    tests/mutations.py              all of them
    tests/mutations.py claim hop    those whose name holds one of the words
    tests/mutations.py --generated  what `cargo mutants` would change in the stages, the keys, the weeks;
                                    `cargo install cargo-mutants` first

Each mutation is a text that stands exactly once in a file, inside of a function, and what stands there
instead. A mutation that no test notices is a failure of this script, and so is one whose text is no
longer found or that does not build.

All of them are built into one program, in a copy of the work tree below `target/mutations`: the body of
a function is there once as it is and once for each of its mutations, and the variable MUTATION says
which one runs. So there is one build instead of one for each, and the work tree is never touched. Not
in CI: the simulator runs for each.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

STAGES = ["--lib", "stages"]
PROTOCOL = ["--test", "protocol", "--", "--skip", "every_path"]
PIPELINE = ["--test", "pipeline", "--"]
SECRETS = ["--test", "secrets", "--"]
SCOPE = ["--test", "protocol", "--", "every_path"]

# Two safeguards have no mutation, for either is enough by itself: the base of a replacement is compared before
# the manifest is made and by the store when it is written; that each fragment has a receipt is looked for before
# the commit and in it, by the receipts' keys.
#
# name, file, what stands there, what stands there instead, the tests to ask in this order
MUTATIONS = [
    ("claim: start a job without winning it", "src/stages/poll.rs",
     "                None => again(edges, message).await,\n            }\n        }\n    }\n}\n\n/// What a start",
     "                None => start_job(edges, message, spent).await,\n            }\n        }\n    }\n}\n\n/// What a start",
     [PROTOCOL, SCOPE]),
    ("claim: another chain's does not hold", "src/stages/claim.rs",
     "        return if claim.is_live(now) {", "        return if false && claim.is_live(now) {",
     [PROTOCOL]),
    ("claim: written over whatever was read", "src/stages/claim.rs",
     "        Some(base) => match archive.replace(&key, bytes, base).await {",
     "        Some(_) => match archive.replace(&key, bytes, &archive.get(&key).await?.map_or(base.cloned().unwrap_or_else(|| unreachable!()), |s| s.etag)).await {",
     [PROTOCOL, SCOPE]),
    ("claim: an attempt is not counted", "src/stages/poll.rs",
     "                attempt: spent + 1,\n", "                attempt: spent,\n",
     [PROTOCOL]),
    ("claim: an attempt without a job is taken at once", "src/stages/poll.rs",
     "    if since < limit {", "    if false && since < limit {", [STAGES, PROTOCOL]),
    ("claim: the end leaves no mark", "src/stages/claim.rs",
     "        self.hop = ENDED_HOP;\n        self.attempt = ENDED_ATTEMPT;\n", "", [STAGES]),
    ("claim: a failure is not counted", "src/stages/claim.rs",
     "claim.failures = claim.failures.saturating_add(1);", "", [PROTOCOL]),
    ("claim: a dead chain's job is not adopted", "src/stages/poll.rs",
     "claim.filter(|_| mine.is_none() && message.base.is_none());", "claim.filter(|_| false);",
     [STAGES, PROTOCOL]),
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
     "    match edges.archive().create(&key, bytes, &about).await? {\n        Created::Written(_) | Created::Exists => Ok(Pass::Stored(facts)),", [PROTOCOL, PIPELINE]),
    # Either alone is enough where all honour the lock: the link is for file systems on which some do not.
    ("create-only: in a folder", "src/archive/folder.rs",
     """        let created = if is_there(&path) {
            Created::Exists
        } else {
            // The metadata first: an object is never seen without it.
            match facts {
                Some(facts) => facts.rename(&beside),
                None => remove_if_there(&beside),
            }
            .map_err(failed)?;
            match fs::hard_link(&object.path, &path) {""",
     """        let created = {
            match facts {
                Some(facts) => facts.rename(&beside),
                None => remove_if_there(&beside),
            }
            .map_err(failed)?;
            match fs::rename(&object.path, &path) {""", [["--lib", "archive"]]),
    ("create-only: in a bucket", "src/archive/bucket.rs",
     "                None => put.if_none_match(\"*\"),", "                None => put,", [["--lib", "archive"]]),
    ("create-only: an upload to a bucket", "src/archive/bucket.rs",
     "            .if_none_match(\"*\")\n", "", [["--lib", "archive"]]),
    ("replace if unchanged: in a bucket", "src/archive/bucket.rs",
     "                Some(base) => put.if_match(base.as_str()),", "                Some(_) => put,", [["--lib", "archive"]]),
    ("file id on 412", "src/stages/fragment.rs",
     "        if stored != encoded(&source.file.id) {", "        if false && stored != encoded(&source.file.id) {", [PIPELINE]),
    ("what is archived is archived again", "src/stages/commit.rs",
     "        (Some(_), None) => (\"it is archived\", Outcome::Archived),",
     "        (Some(_), None) => return Ok(Wanted::Yes),", [PROTOCOL]),
    ("a commit that finds itself is told", "src/stages/commit.rs",
     "        stands.is_some_and(|stands| stands.bytes == bytes)", "        stands.is_some_and(|stands| false && stands.bytes == bytes)", [PROTOCOL]),
    ("a deadline tells the trouble", "src/stages/mod.rs",
     "    let reason = exhausted(next, edges.rules(), edges.now().after(delay))?;",
     "    let reason = exhausted(next, edges.rules(), edges.now())?;", [PROTOCOL]),
    ("a manifest that is gone is found", "src/audit/verify.rs",
     "    if claim.is_some_and(|claim| !claim.has_archived()) {", "    if claim.is_none_or(|_| true) {", [["--lib", "audit"]]),
    ("a claim says that its week is not archived yet", "src/audit/verify.rs",
     "    if claim.is_some_and(|claim| !claim.has_archived()) {", "    if claim.is_some_and(|claim| false && !claim.has_archived()) {", [["--lib", "audit"]]),
    ("predecessors are listed", "src/stages/commit.rs",
     "    list.push(Superseded {", "    let _ = (Superseded {", [PROTOCOL]),
    ("count of a small fragment", "src/stages/fragment.rs",
     "    if !as_expected && agreed != Some(facts.records) {", "    if false && !as_expected && agreed != Some(facts.records) {", [PROTOCOL]),
    ("count of a large fragment", "src/stages/fragment.rs",
     "    if facts.records != expected {", "    if false && facts.records != expected {", [PROTOCOL]),
    ("checksum of a small fragment", "src/stages/fragment.rs",
     "    about.crc64nvme = Some(facts.crc64nvme);\n", "", [PROTOCOL]),
    ("checksum of a part: in a folder", "src/archive/folder.rs",
     "            same_checksum(&key, crc64nvme, Crc64::of(&part))?;\n", "", [["--lib", "archive"]]),
    ("checksum of a part: in a bucket", "src/archive/bucket.rs",
     "            .checksum_crc64_nvme(crc64nvme.to_string())\n            .body(ByteStream::from(part))",
     "            .body(ByteStream::from(part))", [["--lib", "archive"]]),
    ("checksum of a whole: in a folder", "src/archive/folder.rs",
     "            same_checksum(&key, crc64nvme, writing.crc64nvme)?;\n", "", [["--lib", "archive"]]),
    ("checksum of a whole: in a bucket", "src/archive/bucket.rs",
     "        if crc64nvme != self.crc64nvme {", "        if false && crc64nvme != self.crc64nvme {", [["--lib", "archive"]]),
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
     "    } else if let Some(first) = message.first_start.filter(overdue) {", "    } else if let Some(first) = message.first_start.filter(|first| false && overdue(first)) {", [STAGES]),
    ("hop cap", "src/stages/mod.rs",
     "    if message.hop >= MOST_HOPS {", "    if false && message.hop >= MOST_HOPS {", [STAGES]),
    ("a later attempt is not overtaken", "src/stages/claim.rs",
     "            if claim.attempt <= attempt {", "            if claim.attempt <= attempt || hop > 0 {", [STAGES]),
    ("deadline, where the claim was lost", "src/stages/poll.rs",
     "    if let Some(reason) = exhausted(message, edges.rules(), edges.now()) {\n        return give_up(edges, message, reason, false).await;\n    }\n    let delay = pace::jittered",
     "    let delay = pace::jittered", [PROTOCOL]),
    ("three jobs a chain", "src/stages/mod.rs",
     "    if message.attempt >= MOST_ATTEMPTS {", "    if false && message.attempt >= MOST_ATTEMPTS {", [SECRETS]),
    ("three jobs a chain, starting", "src/stages/poll.rs",
     "    } else if attempt >= MOST_ATTEMPTS {", "    } else if false && attempt >= MOST_ATTEMPTS {", [STAGES, PROTOCOL]),
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

# Whose mutants `cargo mutants` lists, and the tests to ask in this order.
GENERATED = {
    "src/stages/*": [STAGES, PROTOCOL, PIPELINE, SECRETS, SCOPE],
    "src/archive/key.rs": [["--lib", "key"], PROTOCOL],
    "src/export.rs": [["--lib", "export"], PROTOCOL],
}


class Mutation(NamedTuple):
    """Another text at a place of a file, and the tests that should notice."""
    name: str
    path: str
    begins: int
    ends: int
    instead: str
    tests: list


HOME = Path("target/mutations")
TREE = HOME / "tree"
# The simulator is run with a few seeds first: most of what is missed shows in them.
SEEDS = ["40", "400"]
# A run that takes so many seconds does not end: that is noticed, too.
LONGEST = 1800
# To optimise the simulator and what it uses takes less time than it saves.
OPTIMISED = ["dev.opt-level=1", 'dev.package."*".opt-level=2', 'dev.package."*".debug-assertions=false',
             'dev.package."*".overflow-checks=false', "dev.debug=0"]
BUILD = ["cargo", "test", "--locked", "--no-run", "--message-format", "json", "--lib", "--test", "protocol",
         "--test", "pipeline", "--test", "secrets",
         *(argument for setting in OPTIMISED for argument in ("--config", f"profile.{setting}"))]
SWITCH = """
/// Which mutation runs.
pub mod mutation {
    use std::sync::LazyLock;
    static CHOSEN: LazyLock<Option<usize>> =
        LazyLock::new(|| std::env::var("MUTATION").ok()?.parse().ok());
    /// Whether it is this one.
    pub fn is(number: usize) -> bool {
        *CHOSEN == Some(number)
    }
}
"""


def body_of(text, offset):
    """Where the body of the function lies that holds the place, without its braces. The text is as rustfmt
    leaves it."""
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    here = next(n for n in range(len(lines)) if starts[n + 1] > offset)
    for first in range(here, -1, -1):
        head = re.match(r"( *)(pub(\([a-z]+\))? )?(async )?fn ", lines[first])
        if not head:
            continue
        indent = head[1]
        opens = next(n for n in range(first, len(lines))
                     if re.match(rf"{indent}\S.*{{$|{indent}{{$", lines[n].rstrip("\n")))
        closes = next(n for n in range(opens, len(lines)) if lines[n].rstrip("\n") == indent + "}")
        if closes >= here:
            return starts[opens + 1], starts[closes]
    raise ValueError("it is not inside of a function")


def changed(text, mutated):
    """Where two texts begin to differ."""
    return next(n for n, (a, b) in enumerate(zip(text, mutated)) if a != b)


def with_mutations(text, mutations):
    """The text of a file with all its mutations in it, each by its number."""
    bodies = {}
    for number, mutation in mutations:
        mutated = text[:mutation.begins] + mutation.instead + text[mutation.ends:]
        begins, ends = body_of(text, changed(text, mutated))
        body = mutated[begins:ends + len(mutated) - len(text)]
        bodies.setdefault((begins, ends), []).append((number, body))
    for (begins, ends), variants in sorted(bodies.items(), reverse=True):
        choices = "".join(
            f"if crate::mutation::is({number}) {{ /* mutation {number} */\n{body}}} else "
            for number, body in variants
        )
        whole = f"{choices}{{ /* as it is */\n{text[begins:ends]}}}\n"
        text = text[:begins] + whole + text[ends:]
    return text


def named(words):
    """The mutations above, and how many of them are not found."""
    found, failures = [], 0
    for name, path, old, new, tests in MUTATIONS:
        if words and not any(word in name for word in words):
            continue
        text = Path(path).read_text(encoding="utf-8")
        if text.count(old) != 1:
            failures += 1
            print(f"NOT FOUND  {name}: the text stands {text.count(old)} times in {path}", flush=True)
            continue
        begins = text.index(old)
        found.append(Mutation(name, path, begins, begins + len(old), new, tests))
    return found, failures


def generated():
    """What `cargo mutants` would change."""
    files = [argument for path in GENERATED for argument in ("--file", path)]
    listed = subprocess.run(["cargo", "mutants", "--list", "--json", *files], check=True, capture_output=True, text=True)
    for mutant in json.loads(listed.stdout):
        path, span = mutant["file"], mutant["span"]
        lines = Path(path).read_text(encoding="utf-8").splitlines(keepends=True)
        begins, ends = (sum(map(len, lines[:span[end]["line"] - 1])) + span[end]["column"] - 1 for end in ("start", "end"))
        tests = next(tests for start, tests in GENERATED.items() if path.startswith(start.rstrip("*")))
        mutation = Mutation(mutant["name"], path, begins, ends, mutant["replacement"], tests)
        try:
            with_mutations("".join(lines), [(0, mutation)])
            yield mutation
        except ValueError as error:
            print(f"left out   {mutation.name}: {error}", flush=True)


def copy_tree():
    """The work tree as it is, ignored files excepted. What has not changed keeps its time."""
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"],
                            check=True, capture_output=True, text=True).stdout.splitlines()
    shutil.rmtree(TREE, ignore_errors=True)
    for name in listed:
        if os.path.isfile(name):
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(name, TREE / name)


def build(chosen):
    """The executables by name, and what the compiler says of those mutations that do not build."""
    wrong = {}
    for path in {mutation.path for _, mutation in chosen}:
        there = [(number, mutation) for number, mutation in chosen if mutation.path == path]
        (TREE / path).write_text(with_mutations(Path(path).read_text(encoding="utf-8"), there))
    environment = dict(os.environ, CARGO_TARGET_DIR=str(HOME.absolute()))
    done = subprocess.run(BUILD, cwd=TREE, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    for message in messages:
        message = message.get("message") or {}
        if message.get("level") != "error":
            continue
        for span in message["spans"]:
            before = (TREE / span["file_name"]).read_bytes()[:span["byte_start"]].decode()
            mark = re.findall(r"/\* (?:mutation (\d+)|as it is) \*/", before)
            if mark and mark[-1]:
                wrong.setdefault(int(mark[-1]), message["rendered"])
    if done.returncode and not wrong:
        sys.exit("the copy of the work tree does not build")
    programs = {m["target"]["name"]: m["executable"] for m in messages if m.get("executable")}
    return programs, wrong


def passes(programs, tests, number=None):
    """Whether the tests pass with a mutation, or as it is."""
    environment = {name: value for name, value in os.environ.items() if name != "MUTATION"}
    if number is not None:
        environment["MUTATION"] = str(number)
    lib = tests[0] == "--lib"
    program = programs["insights_archive" if lib else tests[1]]
    arguments = tests[1:] if lib else tests[3:]
    for seeds in SEEDS[:1] if lib else SEEDS:
        try:
            done = subprocess.run([program, "--quiet", *arguments], cwd=TREE, timeout=LONGEST,
                                  env=dict(environment, SEEDS=seeds), capture_output=True, check=False)
        except subprocess.TimeoutExpired:
            return False
        if done.returncode == -9:
            sys.exit("the test was killed: that is not the mutation's doing")
        if done.returncode:
            return False
        if "every_path" in arguments[:1]:
            return True
    return True


def main():
    words = sys.argv[1:]
    if words == ["--generated"]:
        mutations, failures = list(generated()), 0
    else:
        mutations, failures = named(words)
    chosen = list(enumerate(mutations, 1))
    copy_tree()
    with open(TREE / "src/lib.rs", "a", encoding="utf-8") as lib:
        lib.write(SWITCH)
    while True:
        programs, wrong = build(chosen)
        for number, error in wrong.items():
            if words == ["--generated"]:
                print(f"not built  {mutations[number - 1].name}", flush=True)
                continue
            failures += 1
            print(f"NOT BUILT  {mutations[number - 1].name}:\n{error}", flush=True)
        chosen = [(number, mutation) for number, mutation in chosen if number not in wrong]
        if not wrong:
            break
    for tests in {tuple(tests) for _, mutation in chosen for tests in mutation.tests}:
        if not passes(programs, tests):
            sys.exit(f"{' '.join(tests)} fails as it is: nothing can be learnt from it")
    for number, mutation in chosen:
        began = time.monotonic()
        noticed = next((test for test in mutation.tests if not passes(programs, test, number)), None)
        took = time.monotonic() - began
        if noticed is None:
            failures += 1
            print(f"SURVIVED   {mutation.name} ({took:.0f} s)", flush=True)
        else:
            print(f"noticed    {mutation.name}, by {' '.join(noticed)} ({took:.0f} s)", flush=True)
    print(f"{len(chosen)} mutations were run, {failures} failures")
    sys.exit(bool(failures))


main()
