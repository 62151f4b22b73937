"""The shipped command line on the bucket of a deployed stack: status, verify, erase, and a run of its own."""

import json
import subprocess

import pytest

from cloud import until
from host import CREDENTIALS
from template import load
from test_deployed import line
from weeks import SETTLE_MINUTES, monday, weeks

APP = "st-kept"
PREFIX = "kore/"
# The one that is erased, as a person would name it.
ERASED = str(monday(2))


@pytest.fixture(scope="module")
def stack(stacks, hosts):
    """Three archived weeks of several files each under a prefix."""
    hosts(APP, "--records-per-week", "300-400")
    stack = stacks("kept", AppIds=APP, ArchivePrefix=PREFIX, ArchiveSince=monday(3))
    stack.invoke("enqueue", {})
    until("three weeks stand", lambda: len(stack.keys(f"{PREFIX}manifests/")) == 3, 120)
    return stack


@pytest.fixture(scope="module")
def say(stack, program):
    """Runs the command line with a person's credentials: exit status, standard output, standard error."""

    def run(command, *arguments, **environment):
        settle = ("--settle-minutes", SETTLE_MINUTES) if command in ("status", "run") else ()
        done = subprocess.run(
            [program, *map(str, (command, *settle, *arguments))],
            env={**stack.cloud.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture(scope="module")
def place(stack):
    return f"s3://{stack.bucket}/{PREFIX}"


def manifest(stack, week, app=APP, prefix=PREFIX):
    return json.loads(stack.read(f"{prefix}manifests/app={app}/event=all/week={week}.json"))


def versions(stack, under):
    """Every version and every delete marker of what stands under a prefix, page by page."""
    found = []
    for page in stack.s3.get_paginator("list_object_versions").paginate(Bucket=stack.bucket, Prefix=under):
        found += [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
    return found


def findings(say, place, *options):
    """The exit status of `verify --json`, what it found by key, and its summary."""
    code, out, err = say("verify", "--archive", place, "--json", *options)
    lines = [json.loads(text) for text in out.splitlines()]
    assert lines and "warning" not in err, err
    summary = lines.pop()
    assert summary["kind"] == "summary" and summary["findings"] == len(lines)
    assert {found["kind"] for found in lines} <= {"finding"}
    return code, {found["key"]: (found["wrong"], found["detail"]) for found in lines}, summary


def test_status_sees_every_week_and_the_guards_of_the_templates_bucket(stack, say, place):
    code, out, err = say("status", "--archive", place, "--since", monday(3))
    assert code == 0, (out, err)
    assert f"{APP} all  {monday(3)} to {monday(1)}" in out and ": complete." in out
    code, out, err = say("status", "--archive", place, "--until", monday(-1), "--json")
    told = json.loads(out)
    [calendar] = told["exports"]
    assert code == 0 and told["complete"] is True, told
    assert told["archive"] == place
    assert [(w["week"], w["state"]) for w in calendar["weeks"]] == [
        *((week, "archived") for week in weeks(3, 2, 1)),
        (str(monday(0)), "notYetDue"),
    ]
    archived = [manifest(stack, week)["archived"] for week in weeks(3, 2, 1)]
    assert told["totals"] == {name: sum(one[name] for one in archived) for name in ("files", "records", "bytes")}
    # The template leaves the write-once statement out for a local AWS, which knows none of its condition keys.
    [lacking] = told["guards"]
    assert f"The bucket {stack.bucket} has no policy by which objects under data/ are written only once" in lacking


def test_status_finds_the_write_once_guard_as_the_template_writes_it(stack, say, place):
    statements = load()["Resources"]["ArchivePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    [once] = [statement["Fn::If"][1] for statement in statements if "Fn::If" in statement]
    resource = once["Resource"]["Fn::Sub"]
    resource = resource.replace("${Archive.Arn}", f"arn:aws:s3:::{stack.bucket}").replace("${ArchivePrefix}", PREFIX)
    before = stack.s3.get_bucket_policy(Bucket=stack.bucket)["Policy"]
    guarded = json.loads(before)
    guarded["Statement"].append({**once, "Resource": resource})
    stack.s3.put_bucket_policy(Bucket=stack.bucket, Policy=json.dumps(guarded))
    try:
        code, out, err = say("status", "--archive", place, "--json")
    finally:
        stack.s3.put_bucket_policy(Bucket=stack.bucket, Policy=before)
    assert code == 0 and json.loads(out)["guards"] == [], (out, err)


def test_a_bare_bucket_lacks_every_guard_and_an_absent_one_is_an_error(stack, say):
    stack.s3.create_bucket(Bucket="bare")
    # What a new bucket has by itself.
    stack.s3.delete_public_access_block(Bucket="bare")
    code, out, err = say("status", "--archive", "s3://bare", "--json")
    told = json.loads(out)
    assert code == 1 and not told["complete"], err
    for lacking in ("keeps no versions", "does not block public access", "has no policy"):
        assert any(lacking in guard for guard in told["guards"]), told["guards"]
    for command in ("status", "verify"):
        code, out, err = say(command, "--archive", "s3://no-such-bucket-anywhere")
        assert code == 1 and "no-such-bucket-anywhere" in err, (out, err)


def test_a_missing_week_is_named(stack, say, place):
    code, out, _ = say("status", "--archive", place, "--since", monday(5))
    assert code == 1
    assert f"2 weeks are missing: {monday(5)} to {monday(4)}." in out and "not complete" in out


def test_verify_asks_for_heads_only_and_a_deep_one_reads_every_byte(stack, say, place):
    named = {"objects": 0, "bytes": 0}
    for week in weeks(3, 2, 1):
        archived = manifest(stack, week)["archived"]
        named = {"objects": named["objects"] + archived["files"], "bytes": named["bytes"] + archived["bytes"]}
    assert named["objects"] > 3
    code, found, summary = findings(say, place)
    assert (code, found) == (0, {})
    assert (summary["exports"], summary["named"], summary["read"]) == (3, named, 0)
    code, found, summary = findings(say, place, "--deep")
    assert (code, found) == (0, {})
    assert (summary["named"], summary["read"]) == (named, named["bytes"])
    assert summary["unaccounted"]["objects"] == summary["quarantined"]["objects"] == 0


def test_whatever_was_done_to_the_bucket_is_found_and_passes_once_it_is_undone(stack, say, place):
    week = str(monday(3))
    keys = [f"{PREFIX}{fragment['key']}" for fragment in manifest(stack, week)["fragments"]]
    commit = f"{PREFIX}manifests/app={APP}/event=all/week={week}.json"
    undo = []

    def put(key, body, **more):
        answer = stack.s3.put_object(Bucket=stack.bucket, Key=key, Body=body, **more)
        undo.append((key, answer["VersionId"]))

    # Under a delete marker; other bytes of the same length, with the old metadata; two files of nobody's.
    marker = stack.s3.delete_object(Bucket=stack.bucket, Key=keys[0])
    undo.append((keys[0], marker["VersionId"]))
    stored = stack.s3.get_object(Bucket=stack.bucket, Key=keys[1])
    content = stored["Body"].read()
    put(keys[1], content.replace(b"e", b"3"), Metadata=stored["Metadata"])
    put(f"{PREFIX}data/notes.txt", b"mine")
    put(f"{PREFIX}manifests/notes.txt", b"mine")
    # What is outside the prefix is none of this archive's.
    put("data/notes.txt", b"mine")
    for options in ((), ("--deep",)):
        code, found, _ = findings(say, place, *options)
        assert code == 1
        assert {key: wrong for key, (wrong, _) in found.items()} == {
            keys[0].removeprefix(PREFIX): "missing",
            keys[1].removeprefix(PREFIX): "changed",
            "data/notes.txt": "extra",
            "manifests/notes.txt": "extra",
        }, found

    # A manifest that states another count, then one that is none: for all that, the week was archived once.
    stated = manifest(stack, week)
    stated["fragments"][0]["records"] += 1
    put(commit, json.dumps(stated).encode())
    code, found, summary = findings(say, place)
    assert code == 1 and found[commit.removeprefix(PREFIX)][0] == "unreadable", found
    assert "totals" in found[commit.removeprefix(PREFIX)][1]
    assert {job["why"] for job in summary["jobs"]} == {"unknown"}
    put(commit, b"<html>")
    code, out, _ = say("status", "--archive", place)
    assert code == 1 and f"The manifest of the week of {week} cannot be read" in out, out

    for key, version in reversed(undo):
        stack.s3.delete_object(Bucket=stack.bucket, Key=key, VersionId=version)
    code, found, _ = findings(say, place, "--deep")
    assert (code, found) == (0, {})


def test_a_week_is_erased_in_all_its_versions_only_on_a_second_word(stack, say, place):
    parts = [f"{PREFIX}{kind}/app={APP}/event=all/week={ERASED}/" for kind in ("data", "receipts", "quarantine")]
    commit = f"{PREFIX}manifests/app={APP}/event=all/week={ERASED}.json"
    # Older versions, and one under a delete marker, are erased as well.
    [first, second] = [f"{PREFIX}{fragment['key']}" for fragment in manifest(stack, ERASED)["fragments"][:2]]
    stack.s3.put_object(Bucket=stack.bucket, Key=first, Body=b"overwritten")
    stack.s3.delete_object(Bucket=stack.bucket, Key=second)
    stack.s3.put_object(Bucket=stack.bucket, Key=commit, Body=stack.read(commit))
    before = sum((versions(stack, part) for part in parts), [])
    order = ("erase", "--archive", place, "--app", APP, "--week", ERASED, "--by", "Ada", "--reason", "request 4711")
    code, out, err = say(*order)
    assert code == 1 and "add --yes" in out, (out, err)
    assert sum((versions(stack, part) for part in parts), []) == before

    code, out, err = say(*order, "--yes")
    assert code == 0, (out, err)
    # Two more: the manifest's older versions.
    assert f"erased {len(before) + 2} object versions" in out, out
    assert sum((versions(stack, part) for part in parts), []) == []
    [left] = versions(stack, commit)
    assert left["IsLatest"]
    tombstone = json.loads(stack.read(commit))
    assert tombstone["schema"] == "insights-archive/erased/1"
    assert (tombstone["erasedBy"], tombstone["reason"]) == ("Ada", "request 4711")

    code, out, _ = say("status", "--archive", place, "--since", monday(3))
    assert code == 0 and "by Ada: request 4711" in out, out
    code, found, summary = findings(say, place, "--deep")
    assert (code, found, summary["erased"]) == (0, {}, 1)
    # The neighbours are untouched.
    assert all(manifest(stack, week)["verified"] for week in weeks(3, 1))


def test_no_tick_and_no_request_brings_an_erased_week_back(stack, say, place, front):
    before = front.starts(APP)
    summary, failed = stack.invoke("enqueue", {})
    assert not failed
    assert line(summary, APP)["archived"] == 3 and line(summary, APP)["enqueued"] == []
    wish = {"since": ERASED, "until": str(monday(1))}
    for more in ({}, {"replace": True}):
        summary, failed = stack.invoke("enqueue", {**wish, **more})
        assert not failed
        assert line(summary, APP)["enqueued"] == line(summary, APP)["replacing"] == [], summary
    code, out, err = say(
        *("run", "--host-url", front.url, "--allow-private-network", "--app", APP, "--since", ERASED),
        *("--until", monday(1), "--archive", place, "--replace"),
        KORE_CLIENT_ID=CREDENTIALS["clientId"],
        KORE_CLIENT_SECRET=CREDENTIALS["clientSecret"],
    )
    assert code == 0 and "erased" in out, (out, err)
    assert front.starts(APP) == before
    assert manifest(stack, ERASED)["schema"] == "insights-archive/erased/1"


def test_a_run_archives_into_a_bucket_and_a_second_one_finds_nothing_to_do(stack, say, hosts, front):
    # Files of more than one part go up in parts, small ones in one request.
    app, prefix = "st-by-hand", "by-hand/"
    hosts(app, "--records-per-week", "180", "--record-bytes", "65000-66000", "--records-per-fragment", "175")
    place = f"s3://{stack.bucket}/{prefix}"

    def run(*more):
        return say(
            *("run", "--host-url", front.url, "--allow-private-network", "--app", app),
            *("--since", monday(2), "--until", monday(0), "--archive", place, *more),
            KORE_CLIENT_ID=CREDENTIALS["clientId"],
            KORE_CLIENT_SECRET=CREDENTIALS["clientSecret"],
        )

    code, out, err = run("--dry-run")
    assert code == 0 and "2 weeks would be exported" in out, (out, err)
    assert stack.keys(prefix) == []
    code, out, err = run()
    assert code == 0 and "2 weeks stand archived and verified" in out, (out, err)
    starts = front.starts(app)
    assert starts == 2
    made = [manifest(stack, week, app, prefix) for week in weeks(2, 1)]
    sizes = [fragment["bytes"] for one in made for fragment in one["fragments"]]
    assert max(sizes) > 8 << 20 > min(sizes), sizes
    code, found, summary = findings(say, place)
    # Of an object of several parts S3 keeps the checksum of the whole, as it is asked to; the local AWS that of the
    # parts' checksums, which proves nothing: those are read.
    large = sum(size for size in sizes if size > 8 << 20)
    assert (code, found, summary["read"]) == (0, {}, large)
    code, found, summary = findings(say, place, "--deep")
    assert (code, found, summary["read"]) == (0, {}, sum(sizes))
    code, out, err = run()
    assert code == 0 and "Nothing to do." in out, (out, err)
    assert front.starts(app) == starts
    # No upload was left unfinished.
    assert "Uploads" not in stack.s3.list_multipart_uploads(Bucket=stack.bucket)
    for text in (out, err):
        assert CREDENTIALS["clientSecret"] not in text
