#!/usr/bin/env python3
"""Measures `status` and `verify` on archives that it makes: beside what the disk and the hash alone take, and as they grow.

    benches/audit.py [status|listing|deep]...     all by default; AUDIT_PROGRAM names another command line than target/release's

Each command line is a process of its own; its time on the wall, its processor time and its peak memory are the kernel's figures,
of the best of three rounds. Cold means that the kernel had forgotten what stands in the files."""

import ast
import base64
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from datetime import date, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(os.environ.get("AUDIT_PROGRAM", ROOT / "target" / "release" / "insights-archive"))
FIRST = date(2015, 1, 5)
MIB = 1 << 20

# What the verification of 2 GiB reads: as many files as a busy year has.
FILE_MIB, FILES = 16, 128
KEYS = 1_000_000
ROUNDS = 3


# The kernel counts the memory of who starts a process to the process's own peak: a small one starts it.
LAUNCHER = """
import os, sys, time
began = time.monotonic()
_, status, usage = os.wait4(os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ), 0)
figures = time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
os.write(int(sys.argv[1]), repr((os.waitstatus_to_exitcode(status), figures)).encode())
"""


def measured(arguments, **environment):
    """Runs a command: seconds on the wall, of the processor, peak memory in MiB, standard output."""
    read, write = os.pipe()
    with tempfile.TemporaryFile() as out:
        launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(write), *map(str, arguments)]
        subprocess.run(
            launcher, stdin=subprocess.DEVNULL, stdout=out, pass_fds=[write], env={**os.environ, **environment}, check=True
        )
        out.seek(0)
        text = out.read().decode()
    code, figures = ast.literal_eval(os.read(read, 1000).decode())
    os.close(read)
    os.close(write)
    assert code == 0, f"{arguments} ended with {code}:\n{text[-2000:]}"
    return *figures, text


def best(arguments, **more):
    """The round that was least disturbed."""
    return min(measured(arguments, **more) for _ in range(ROUNDS))


def row(what, wall, cpu, memory, more=""):
    print(f"| {what} | {wall:.2f} s | {cpu:.2f} s | {memory:.0f} MiB | {more} |", flush=True)


def key(kind, app, week, part=None, of=None):
    place = f"{kind}/app={app}/event=all/week={week}"
    return f"{place}.json" if part is None else f"{place}/job=fj-1/part-{part:05}-of-{of:05}.json"


def manifest(app, week, facts):
    """A manifest of files with these facts: records, bytes, SHA-256, CRC-64/NVME."""
    files = [
        {
            "key": key("data", app, week, number, len(facts)),
            "fileId": f"file-{number}",
            "fileName": None,
            "declaredRecords": records,
            "records": records,
            "bytes": size,
            "sha256": sha256,
            "crc64nvme": crc,
        }
        for number, (records, size, sha256, crc) in enumerate(facts, 1)
    ]
    totals = {"files": len(files), "records": sum(f["records"] for f in files)}
    end = week + timedelta(days=6)
    return json.dumps(
        {
            "schema": "insights-archive/manifest/1",
            **{"app": app, "event": "all", "week": str(week)},
            "window": {"from": f"{week}T00:00:00.000Z", "to": f"{end}T23:59:59.999Z"},
            "job": {"id": "fj-1", "createdOn": None},
            "declared": totals,
            "archived": {**totals, "bytes": sum(f["bytes"] for f in files)},
            "verified": True,
            "discrepancies": [],
            "fragments": files,
            "supersedes": [],
            "committedAt": f"{end}T23:59:59.999Z",
        },
        indent=2,
    )


def write(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


NOTHING = (150, 20_000_000, "0" * 64, "AAAAAAAAAAA=")


def forget(root):
    """Lets the kernel forget what stands in the files below a folder; names and sizes it keeps."""
    os.sync()
    for path in root.glob("**/*.json"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cold(arguments, root):
    """The best of some rounds before each of which the files were forgotten."""
    rounds = []
    for _ in range(ROUNDS):
        forget(root)
        rounds.append(measured(arguments))
    return min(rounds)


def status(work):
    """Years of apps in a folder; twice the apps take twice the time."""
    for apps in (5, 10, 20):
        root = work / f"apps-{apps}"
        for number in range(apps):
            for week in (FIRST + timedelta(weeks=n) for n in range(520)):
                write(root, key("manifests", f"st-{number}", week), manifest(f"st-{number}", week, [NOTHING] * 3))
        until = FIRST + timedelta(weeks=520)
        command = [PROGRAM, "status", "--archive", root, "--until", until]
        wall, cpu, memory, text = best(command)
        assert ": complete." in text
        row(f"`status`, ten years of {apps} apps ({apps * 520:,} manifests), folder", wall, cpu, memory)
        if apps == 10:
            row("the same with `--json`", *best([*command, "--json"])[:3])
            row("`report` of it", *best([PROGRAM, "report", *command[2:]])[:3])
            row("`status` of it, cold", *cold(command, root)[:3])
        shutil.rmtree(root)


class Bucket:
    """As much of S3 as listing takes: one manifest without files, and so many keys that nobody stored."""

    def __init__(self, keys):
        place = "data/app=st-0/event=all/week=2015-01-05/job=fj-"
        entries = [f"<Contents><Key>{place}{n // 1000:04}/part-{n:07}-of-1000000.json</Key><Size>1</Size></Contents>"
                   for n in range(1, keys + 1)]  # fmt: skip
        pages = ["".join(entries[at : at + 1000]) for at in range(0, keys, 1000)]
        commit = key("manifests", "st-0", FIRST)
        stored = manifest("st-0", FIRST, []).encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                url = urllib.parse.urlsplit(self.path)
                query = dict(urllib.parse.parse_qsl(url.query))
                if "list-type" not in query:
                    return self._answer(stored, ETag='"1"')
                listed, at = query.get("prefix", ""), int(query.get("continuation-token", 0))
                body = ""
                if listed.startswith("data/"):
                    body = pages[at] + f"<IsTruncated>{str(at + 1 < len(pages)).lower()}</IsTruncated>"
                    if at + 1 < len(pages):
                        body += f"<NextContinuationToken>{at + 1}</NextContinuationToken>"
                elif listed.startswith("manifests/"):
                    body = f"<Contents><Key>{commit}</Key><Size>{len(stored)}</Size></Contents>"
                return self._answer(f"<ListBucketResult>{body}</ListBucketResult>".encode())

            def _answer(self, body, **headers):
                head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{head}\r\n"
                self.wfile.write(head.encode() + body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server.server_port}",
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench-secret",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def listing(work):
    """Verifying where a million keys stand that no manifest names."""
    for keys in (KEYS // 10, KEYS):
        with Bucket(keys) as environment:
            command = [PROGRAM, "verify", "--archive", "s3://bucket", "--json"]
            wall, cpu, memory, text = best(command, **environment)
        summary = json.loads(text.splitlines()[-1])
        assert summary["unaccounted"]["objects"] == keys and len(summary["jobs"]) <= 1000, summary["unaccounted"]
        row(f"`verify`, {keys:,} unnamed keys, bucket", wall, cpu, memory, f"{keys / wall:,.0f} keys/s")
        root = work / "crowded"
        write(root, key("manifests", "st-0", FIRST), manifest("st-0", FIRST, []))
        for number in range(1, keys + 1):
            if number % 1000 in (0, 1):
                folder = root / f"data/app=st-0/event=all/week={FIRST}/job=fj-{number // 1000}"
                folder.mkdir(parents=True, exist_ok=True)
            os.close(os.open(folder / f"part-{number:07}-of-1000000.json", os.O_CREAT | os.O_WRONLY))
        wall, cpu, memory, text = best([PROGRAM, "verify", "--archive", root, "--json"])
        assert json.loads(text.splitlines()[-1])["unaccounted"]["objects"] == keys
        row(f"`verify`, {keys:,} unnamed files, folder", wall, cpu, memory, f"{keys / wall:,.0f} keys/s")
        shutil.rmtree(root)


def crc64nvme(data):
    """Base64 of the checksum, reckoned without the program's own code."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x9A6C9329AC4BC9B5 if value & 1 else 0)
        table.append(value)
    crc = 0xFFFFFFFFFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return base64.b64encode((crc ^ 0xFFFFFFFFFFFFFFFF).to_bytes(8, "big")).decode()


def speed(total, wall, cpu):
    """Where other work has the machine, the second one still tells what the work costs."""
    return f"{total / wall / 1e6:,.0f} MB/s; {total / max(cpu, 0.001) / 1e6:,.0f} MB per processor second"


def deep(work):
    """Reading every byte again, beside reading alone and hashing alone."""
    record = {"event": "search", "query": 'Wie "viel" kostet das Öl?\n', "graphAnswer": "… " * 900}
    records, size = [], 0
    while size < FILE_MIB * MIB:
        one = json.dumps({"_id": f"{len(records):024}", **record}, indent=2, ensure_ascii=len(records) % 2 == 0)
        records.append(one)
        size += len(one.encode())
    content = f"[{','.join(records)}]".encode()
    facts = (len(records), len(content), hashlib.sha256(content).hexdigest(), crc64nvme(content))
    root = work / "deep"
    for number in range(FILES // 4):
        week = FIRST + timedelta(weeks=number)
        write(root, key("manifests", "st-0", week), manifest("st-0", week, [facts] * 4))
        for part in range(1, 5):
            path = root / key("data", "st-0", week, part, 4)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    files = sorted(root.glob("data/**/*.json"))
    total = len(files) * len(content)
    contestants = {
        "`cat`": ["cat", *files],
        "`openssl dgst -sha256`, one core": ["openssl", "dgst", "-sha256", *files],
        "`verify`": [PROGRAM, "verify", "--archive", root],
        "`verify --deep`": [PROGRAM, "verify", "--archive", root, "--deep"],
        "`verify --deep --at-once 1`": [PROGRAM, "verify", "--archive", root, "--deep", "--at-once", "1"],
    }
    for name, command in contestants.items():
        if shutil.which(str(command[0])) is None:
            continue
        measured(command)
        wall, cpu, memory, _ = best(command)
        row(f"{name}, {total / MIB:,.0f} MiB, warm", wall, cpu, memory, speed(total, wall, cpu))
    for name in ("`cat`", "`verify --deep`"):
        wall, cpu, memory, _ = cold(contestants[name], root)
        row(f"{name}, {total / MIB:,.0f} MiB, cold", wall, cpu, memory, speed(total, wall, cpu))


PARTS = {"status": status, "listing": listing, "deep": deep}


def main():
    chosen = sys.argv[1:] or list(PARTS)
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        sys.exit(f"audit.py: no such part: {', '.join(unknown)} (known: {', '.join(PARTS)})")
    if not PROGRAM.exists():
        sys.exit(f"audit.py: {PROGRAM} is not there; run cargo build --release")
    print(measured([PROGRAM, "--version"])[3].strip(), f"on {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| what | wall | processor | peak memory | |\n|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", ROOT / "target")) as work:
        for name in chosen:
            PARTS[name](Path(work))


if __name__ == "__main__":
    main()
