#!/usr/bin/env python3
"""Measures the program beside its peers, on this machine and over loopback, and prints one table.

    benches/bench.py [copy|memory|requests|start|records|polling|growth|backfill]...     all by default

Builds what it measures, and draws the plots in docs/. With all, it also writes docs/performance-run.md. Wall times are of the best round, because what
slows a round down is something else; all contestants take turns in each round. Processor time is user and system time
of the processes that copy, and never of the servers'."""

import atexit
import functools
import math
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import plot
import servers

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TARGET = ROOT / "target"
BUILT = TARGET / "release"
PEERS = TARGET / "tools" / "peers"
RUN = ROOT / "docs" / "performance-run.md"
FRAGMENT = TARGET / "bench" / "fragment.json"
RECORDS = 150
ROUNDS = 5
AT_ONCE = 4
BUDGET_MIB = 32
BUCKET = "archive-bench"
AWS = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}

rows = []
notes = []


def row(what, measured, bar, met):
    """One line of the table; `met` is None where there is no bar."""
    rows.append((what, measured, bar, {True: "yes", False: "**no**", None: ""}[met]))
    print(f"  {what}: {measured}", flush=True)


def note(title, header, lines):
    """A table of its own, below the first."""
    notes.append((title, header, lines))


def say(words):
    print(words, file=sys.stderr, flush=True)


# Building


def cargo(folder, *words, profile="--release"):
    command = ["cargo", "build", "--locked", "--quiet", *([profile] if profile else []), *words]
    subprocess.run(command, cwd=folder, check=True, env={**os.environ, "CARGO_TARGET_DIR": str(TARGET)})


def install_peers():
    wanted = HERE / "requirements.txt"
    installed = PEERS / "installed.txt"
    if installed.exists() and installed.read_bytes() == wanted.read_bytes():
        return
    say("installing the peers")
    shutil.rmtree(PEERS, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
    pip = [PEERS / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "-r", wanted]
    subprocess.run(pip, check=True)
    shutil.copy(wanted, installed)


def fragment():
    """A realistic fragment of 150 records, pretty-printed; the one that the counter is measured with."""
    cargo(HERE / "records")
    FRAGMENT.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([BUILT / "records-bench", FRAGMENT], check=True)
    return FRAGMENT


# Measuring


def measured(command, env=None):
    """Runs a command and everything it starts: wall and processor seconds, MiB of its largest process, its output."""
    with tempfile.TemporaryFile() as output:
        began = time.monotonic()
        process = subprocess.Popen([str(word) for word in command], stdout=output, env={**os.environ, **AWS, **(env or {})})
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode()
    if process.returncode:
        raise SystemExit(f"{command} failed with {process.returncode}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text


class Rclone:
    """`rclone serve s3`, on a folder in memory where there is one."""

    def __init__(self):
        shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="insights-archive-bench-", dir=shared))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None
        atexit.register(self.end)

    def begin(self):
        """Starts it afresh, with an empty bucket: it remembers what a folder has held."""
        self.stop()
        for entry in self.folder.iterdir():
            shutil.rmtree(entry)
        (self.folder / BUCKET).mkdir()
        keys = f"{AWS['AWS_ACCESS_KEY_ID']},{AWS['AWS_SECRET_ACCESS_KEY']}"
        address = f"127.0.0.1:{self.port}"
        command = [str(PEERS / "bin" / "rclone"), "serve", "s3", "--addr", address, "--auth-key", keys, str(self.folder)]
        env = {**os.environ, "RCLONE_CONFIG": "/dev/null"}
        with open(FRAGMENT.parent / "rclone.log", "a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
        for _ in range(100):
            try:
                return socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                time.sleep(0.1)
        raise SystemExit(f"rclone does not serve on {self.url}; see {FRAGMENT.parent / 'rclone.log'}")

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()

    def bytes_under(self, prefix):
        return sum(file.stat().st_size for file in (self.folder / BUCKET).glob(f"{prefix}/**/*") if file.is_file())

    def end(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def copy():
    """Eight fragments, four at a time, into the same S3 server as the peers."""
    fragments = 8
    size = fragment().stat().st_size
    cargo(HERE / "copy")
    install_peers()
    vendor = servers.Server(servers.vendor, str(FRAGMENT), fragments, RECORDS, 0)
    rclone = Rclone()
    files, tools = f"{vendor.url}/files", PEERS / "bin"
    env = {"AWS_ENDPOINT_URL": rclone.url, "S3_ENDPOINT_URL": rclone.url}
    remote = f":s3,provider=Rclone,env_auth=true,force_path_style=true,endpoint='{rclone.url}':{BUCKET}"
    each = f"seq {fragments} | xargs -P {AT_ONCE} -I N"
    python = [tools / "python", HERE / "peers.py"]
    ours = [BUILT / "copy", vendor.url, BUCKET, fragments, BUDGET_MIB, AT_ONCE]
    contestants = {
        "insights-archive (counts, hashes, verifies)": ("data", ours),
        "the same on several threads": ("data", [*ours, "threads"]),
        "relay that only moves bytes (floor)": ("relayed", [BUILT / "relay", files, BUCKET, fragments, AT_ONCE]),
        "rclone copyurl, a process per file": (
            "rclone",
            ["sh", "-c", f"{each} {tools}/rclone --config /dev/null copyurl {files}/N \"{remote}/rclone/N\""],
        ),
        "curl into s5cmd pipe": (
            "s5cmd",
            ["sh", "-c", f"{each} sh -c 'curl -sf {files}/N | {tools}/s5cmd --log error pipe s3://{BUCKET}/s5cmd/N'"],
        ),
        "Python, boto3 upload_fileobj": ("streamed", [*python, "stream", files, BUCKET, fragments, AT_ONCE]),
        "Python, boto3, whole body, counts, hashes": ("counted", [*python, "count", files, BUCKET, fragments, AT_ONCE]),
    }
    results = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, (prefix, command) in contestants.items():
            rclone.begin()
            results[name].append(measured(command, env)[:3])
            stands = rclone.bytes_under(prefix)
            if stands != size * fragments:
                raise SystemExit(f"{name}: {stands} bytes stand instead of {size * fragments}")
    vendor.end()
    rclone.end()
    best = {name: [min(values) for values in zip(*rounds)] for name, rounds in results.items()}
    (ours, threads, floor, peer, _, _, python) = best.values()
    lines = [
        (name, f"{wall:.2f}", f"{wall / ours[0]:.2f} ×", f"{cpu:.2f}", f"{cpu / ours[1]:.2f} ×", f"{mib:.0f}")
        for name, (wall, cpu, mib) in best.items()
    ]
    header = ("", "wall s", "of ours", "CPU s", "of ours", "peak MiB")
    note(f"The copy: {fragments} × {size / 1e6:.1f} MB, {AT_ONCE} at a time, best of {ROUNDS} rounds", header, lines)
    row("copy: wall, beside rclone", f"{ours[0] / peer[0]:.2f} ×", "≤ 1", ours[0] <= peer[0])
    row("copy: CPU, beside rclone", f"{ours[1] / peer[1]:.2f} ×", "≤ 1/2", ours[1] <= peer[1] / 2)
    row("copy: CPU, beside Python counting and hashing", f"{ours[1] / python[1]:.3f} ×", "≤ 1/6", ours[1] <= python[1] / 6)
    row("copy: wall, beside a relay that only moves bytes", f"{ours[0] / floor[0]:.2f} ×", "", None)
    row("copy: CPU, beside a relay that only moves bytes", f"{ours[1] / floor[1]:.2f} ×", "", None)
    speeds = {name.split(",")[0]: float(speed.split()[0]) for name, speed, _ in next(iter(counting().values()))}
    least = floor[1] + sum(fragments * size / 1e6 / speeds[name] for name in ("the counter", "SHA-256"))
    words = f"{least / peer[1]:.2f} × rclone's, {least / python[1]:.3f} × Python's"
    row("copy: CPU of that relay, and of counting and SHA-256 by themselves", words, "", None)
    row("copy: peak memory", f"{ours[2]:.0f} MiB", "≤ 64 MiB", ours[2] <= 64)


def padded(size, path):
    """An array of one record that is so many bytes long; how many records."""
    with open(path, "wb") as file:
        file.write(b'[{"text":"')
        left = size - 13
        while left:
            left -= file.write(b"x" * min(left, 1 << 20))
        file.write(b'"}]')
    return 1


def counted(path, records, fragments, at_once=AT_ONCE):
    """Copies fragments into a store that counts: peak MiB, and what the two servers were asked."""
    vendor = servers.Server(servers.vendor, str(path), fragments, records, 0)
    store = servers.Server(servers.store)
    command = [BUILT / "copy", vendor.url, BUCKET, fragments, BUDGET_MIB, at_once]
    _, _, mib, _ = measured(command, {"AWS_ENDPOINT_URL": store.url})
    asked = {**vendor.counted(), **store.counted()}
    vendor.end()
    store.end()
    return mib, asked


def memory():
    """The copy's peak memory does not grow with what is copied."""
    fragment()
    cargo(HERE / "copy")
    odd = FRAGMENT.parent / "odd.json"
    cases = [("8 fragments of 24 MB, 4 at a time", FRAGMENT, RECORDS, 8, AT_ONCE)]
    base, _ = counted(*cases[0][1:])
    row("memory: 8 fragments of 24 MB, 4 at a time", f"{base:.1f} MiB", "≤ 64 MiB", base <= 64)
    for what, size, fragments, at_once in [
        ("one fragment of 1 GiB", 1 << 30, 1, AT_ONCE),
        ("2,000 fragments of 1 MB", 1_000_000, 2_000, AT_ONCE),
        ("64 at a time asked for, of 24 MB, under the same budget", None, 64, 64),
    ]:
        path, records = (FRAGMENT, RECORDS) if size is None else (odd, padded(size, odd))
        mib, _ = counted(path, records, fragments, at_once)
        row(f"memory: {what}", f"{mib - base:+.1f} MiB", "≤ +8 MiB", mib - base <= 8)
    odd.unlink(missing_ok=True)


def requests():
    """What a fragment costs in requests, counted by the servers."""
    fragment()
    cargo(HERE / "copy")
    small = FRAGMENT.parent / "small.json"
    records = padded(1_000_000, small)
    fragments = 10
    parts = math.ceil(FRAGMENT.stat().st_size / (8 << 20))
    for what, path, expected in [
        ("small", (small, records), {"GET file": 1, "PUT data": 1, "PUT receipts": 1}),
        (
            "large",
            (FRAGMENT, RECORDS),
            {"GET file": 1, "create upload data": 1, "PUT part data": parts, "complete upload data": 1, "PUT receipts": 1},
        ),
    ]:
        _, asked = counted(*path, fragments)
        per_fragment = {name: n / fragments for name, n in asked.items() if n >= fragments}
        rest = {name: n for name, n in asked.items() if n < fragments}
        words = ", ".join(f"{n:g} {name}" for name, n in per_fragment.items())
        row(f"requests: a {what} fragment", words, "nothing else", per_fragment == expected)
        words = ", ".join(f"{n} {name}" for name, n in rest.items())
        row(f"requests: beside them, for the slice of {fragments}", words, "1 look", rest.get("GET job") == 1)
    small.unlink()


def start():
    """From a process's start to its first request for work."""
    cargo(ROOT, "--bin", "lambda")
    cargo(HERE / "copy")
    install_peers()
    queue = "https://sqs.us-east-1.amazonaws.com/1/q"
    function = {
        "AWS_LAMBDA_FUNCTION_NAME": "bench",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_LOG_GROUP_NAME": "bench",
        "AWS_LAMBDA_LOG_STREAM_NAME": "bench",
        "ARCHIVE_BUCKET": BUCKET,
        "HOST_URL": "https://platform.kore.ai",
        "CREDENTIALS_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:1:secret:bench",
        "POLL_QUEUE_URL": queue,
        "COPY_QUEUE_URL": queue,
        "DEAD_LETTER_QUEUE_URL": queue,
        "POLL_VISIBILITY_SECONDS": "360",
        "COPY_VISIBILITY_SECONDS": "1800",
        "DEADLINE_HOURS": "24",
        "STALL_MINUTES": "120",
        "APP_IDS": "st-bench",
        "EVENTS": "all",
        "CATCH_UP_WEEKS": "4",
        "LOOKBACK_WEEKS": "0",
        "SETTLE_MINUTES": "60",
    }
    contestants = {
        "a bare lambda_runtime hello world (floor)": ([BUILT / "hello"], {}),
        "enqueue": ([BUILT / "lambda"], {"_HANDLER": "enqueue"}),
        "poll": ([BUILT / "lambda"], {"_HANDLER": "poll"}),
        "copy": ([BUILT / "lambda"], {"_HANDLER": "copy"}),
        "Python with two boto3 clients": ([PEERS / "bin" / "python", HERE / "peers.py", "start"], {}),
    }
    times = {name: [] for name in contestants}
    for turn in range(20):
        for name, (command, env) in contestants.items():
            if turn >= 5 and name.startswith("Python"):
                continue
            server = servers.Server(servers.runtime)
            env = {**os.environ, **AWS, **function, **env, "AWS_LAMBDA_RUNTIME_API": server.url.removeprefix("http://")}
            began = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            process = subprocess.Popen([str(word) for word in command], env=env, stdout=subprocess.DEVNULL)
            while not (asked := [what for what in server.counted() if "/next" in what]):
                time.sleep(0.005)
            times[name].append((int(asked[0].split()[-1]) - began) / 1e6)
            process.kill()
            process.wait()
            server.end()
    medians = {name: statistics.median(values) for name, values in times.items()}
    floor = medians["a bare lambda_runtime hello world (floor)"]
    lines = [(name, f"{value:.1f}", f"{value / floor:.2f} ×") for name, value in medians.items()]
    note("Process start to the first request for work, median", ("", "ms", "of hello world"), lines)
    for name in ("enqueue", "poll", "copy"):
        python = medians["Python with two boto3 clients"]
        row(f"start: {name}", f"{medians[name] / floor:.2f} × hello world, 1/{python / medians[name]:.0f} of Python", "", None)
    packed = FRAGMENT.parent / "bootstrap.zip"
    packed.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(BUILT / "lambda", "bootstrap")
    size = packed.stat().st_size / 1e6
    row("zip of a function", f"{size:.2f} MB", "≤ 6 MB", size <= 6)


@functools.cache
def counting():
    """What the benchmark of the counter prints: by title, lines of a name, a speed and what it is beside."""
    cargo(HERE / "records")
    tables = re.split(r"^(.*):\n\n", measured([BUILT / "records-bench"])[3], flags=re.MULTILINE)[1:]
    lines = [[re.split(r"  +", line.strip(), maxsplit=2) for line in text.splitlines() if line.strip()] for text in tables[1::2]]
    return dict(zip(tables[::2], lines))


def records():
    """The counter beside a hash, full parsers and a search."""
    for title, lines in counting().items():
        note(title, ("",) * len(lines[0]), lines)
    times = {name: float(beside.split()[0]) for name, _, beside in next(iter(counting().values()))}
    hashing = next(value for name, value in times.items() if name.startswith("SHA-256"))
    row("counting: hashing the same bytes takes", f"{hashing:.2f} × its time", "> 1", hashing > 1)
    parsers = [value for name, value in times.items() if re.match("serde_json|simd-json|sonic-rs", name) and "skip" not in name]
    row("counting: the fastest full parser takes", f"{min(parsers):.2f} × its time", "≥ 5", min(parsers) >= 5)
    floor = next(value for name, value in times.items() if name.startswith("memchr"))
    row("counting: memchr over the same bytes takes", f"{floor:.2f} × its time", "", None)


def polling():
    """The delay function beside others."""
    cargo(HERE / "polling")
    table = [line.split("\t") for line in measured([BUILT / "polling-bench"])[3].splitlines()]
    header = ("", "progress", "within 5 % and 12 looks, %", "looks, median", "95 %", "late %, median", "95 %")
    note("Polling jobs of 1 s to 6 h", header, table)
    for kind in dict.fromkeys(line[1] for line in table):
        of_kind = [line for line in table if line[1] == kind]
        ours, *rivals = of_kind
        share = float(ours[2])
        rival = max(float(line[2]) for line in rivals)
        row(f"polling, {kind}: in time within 12 looks", f"{share:.0f} % (best rival: {rival:.0f} %)", "≥ 95 %", share >= 95)
        looks, late = int(ours[4]), float(ours[6])
        better = [line[0] for line in rivals if int(line[4]) <= looks and float(line[6]) <= late]
        row(f"polling, {kind}: rivals better in looks and lateness", ", ".join(better) or "none", "none", not better)
    series = {}
    for name, kind, _, _, looks, _, late in table:
        family = "every n s" if name.startswith("every") else "back-off" if name.startswith("back") else "ours"
        series.setdefault(f"{family}, {kind}", []).append((max(float(looks), 1), max(float(late), 0.1), name.split()[-1]))
    picture = plot.chart("Polling: what 95 % of jobs cost at most", "looks", "late by % of the job's length (0.1: in time)", series)
    (ROOT / "docs" / "polling.svg").write_text(picture)


def grown(apps=1, weeks=1, fragments=1, records=1, record_bytes=2_048, seconds=None):
    """One run of the pipeline in virtual time: what it printed."""
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="insights-archive-bench-", dir=shared) as folder:
        words = [apps, weeks, fragments, records, record_bytes, *([] if seconds is None else [seconds])]
        text = measured([TARGET / "debug" / "growth-bench", folder, *words])[3]
    names = ("cpu", "mib", "bytes", "virtual", "requests", "over", "used")
    return dict(zip(names, map(float, text.split("\t"))))


def growth():
    """Time and memory against the amount of work."""
    cargo(HERE / "growth", profile=None)
    series, memory_series = {}, {}
    for what, unit, cases in [
        ("fragments", "fragment", [(n, {"fragments": n}) for n in (1, 10, 100, 1_000, 3_000, 10_000)]),
        (
            "megabytes in a fragment",
            "MB",
            [(n * 2_000 / 1e6, {"records": n, "record_bytes": 2_500}) for n in (1, 500, 5_000, 50_000, 500_000)],
        ),
        ("weeks", "week", [(n, {"weeks": n, "records": 10}) for n in (1, 5, 52, 156, 520)]),
        ("apps", "app", [(n, {"apps": n, "weeks": 10, "records": 10}) for n in (1, 2, 5, 15, 50)]),
    ]:
        points = []
        for n, case in cases:
            got = grown(**case)
            n = got["bytes"] / 1e6 if unit == "MB" else n
            points.append((n, got["cpu"], got["mib"]))
        series[what] = [(n, max(cpu, 0.01), "") for n, cpu, _ in points]
        memory_series[what] = [(n, mib, "") for n, _, mib in points]
        (n0, cpu0, _), (n1, cpu1, _), (n2, cpu2, mib2) = points[0], points[-2], points[-1]
        # What starting costs is in each; the last step's slope beside the one before it.
        before, last = (cpu1 - cpu0) / (n1 - n0), (cpu2 - cpu1) / (n2 - n1)
        ratio = last / before if before > 0 else math.inf
        words = f"{ratio:.2f} × the cost of each before ({1000 * last:.2f} ms), {mib2:.0f} MiB at {n2:,.0f}"
        row(f"growth: one more {unit}, at the end", words, "≤ 1.5", ratio <= 1.5)
    picture = plot.chart("Growth: processor time", "how many", "processor seconds", series, joined=True)
    (ROOT / "docs" / "growth-time.svg").write_text(picture)
    picture = plot.chart("Growth: peak memory", "how many", "MiB", memory_series, joined=True)
    (ROOT / "docs" / "growth-memory.svg").write_text(picture)


def backfill():
    """Ten years of five apps through the local runner."""
    cargo(HERE / "growth", profile=None)
    got = grown(apps=5, weeks=520, fragments=3, records=20, seconds=10)
    words = f"{got['virtual'] / 3600:.1f} h of the host's time, {got['requests']:.0f} requests, {got['cpu']:.0f} s of CPU, {got['mib']:.0f} MiB"
    row("backfill of 2,600 exports", words, "", None)
    row("backfill: the host's rate limit used", f"{got['used']:.0f} %", "≥ 80 %", got["used"] >= 80)
    row("backfill: requests over the limit", f"{got['over']:.0f}", "0", got["over"] == 0)


def markdown(header, lines):
    width = len(header)
    text = [f"| {' | '.join(header)} |", "|" + "---|" * width]
    text += [f"| {' | '.join(str(word) for word in line)} |" for line in lines]
    return "\n".join(text)


def main():
    everything = [copy, memory, requests, start, records, polling, growth, backfill]
    wanted = sys.argv[1:] or [step.__name__ for step in everything]
    unknown = set(wanted) - {step.__name__ for step in everything}
    if unknown:
        raise SystemExit(f"bench.py: no such part: {', '.join(unknown)}; there are {', '.join(s.__name__ for s in everything)}")
    for step in everything:
        if step.__name__ in wanted:
            say(f"{step.__name__}: {step.__doc__.splitlines()[0]}")
            step()
    text = [f"On {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the end.", markdown(("what", "measured", "bar", "met"), rows)]
    text += [f"{title}:\n\n{markdown(header, lines)}" for title, header, lines in notes]
    text = "\n\n".join(text)
    print(f"\n{text}")
    if wanted == [step.__name__ for step in everything]:
        plots = "\n\n".join(f"![{name}](growth-{name}.svg)" for name in ("time", "memory"))
        RUN.write_text(f"# A run of `make bench`\n\n[What is measured](PERFORMANCE.md). {text}\n\nGrowth:\n\n{plots}\n")


if __name__ == "__main__":
    main()
