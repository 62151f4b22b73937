#!/usr/bin/env python3
"""Where the copy's processor time goes: `perf` looks two thousand times a second which function is at work.

    benches/profile_copy.py [NAME=BINARY]...     ours, the relay, and the copies of other commits, built in the same way

Prints one table, draws docs/profile.svg, and writes both to docs/profile-run.md. Needs `perf` and the right to use it.
How long a copy takes is of runs without `perf`, which slows it down; its looks divide that time."""

import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

import bench
import servers

BUILT = bench.TARGET / "profile"
RUN = bench.ROOT / "docs" / "profile-run.md"
PICTURE = bench.ROOT / "docs" / "profile.svg"
FRAGMENTS = 8
ROUNDS = 5

# What a function works at, told by its name; the first that fits. The kernel's functions are told apart from ours.
OURS = {
    "SHA-256": r"sha256_block|SHA256_",
    "counting": r"fearless_simd|records::",
    "CRC-64": r"crc_fast",
    "moving in memory": r"memmove|memcpy|memset",
    "memory: taking and giving back": r"malloc|_int_free|cfree|realloc|unlink_chunk",
    "randomness": r"jent_|rol64|xoshiro|uint32rotl|le32|le64",
    "certificates": r"pki_types|webpki|platform_verifier|native_certs",
    "clients and everything else": r"",
}
KERNEL = {
    "kernel: bytes into and out of sockets": r"_copy_to_iter|_copy_from_iter|check_object_size|skb_datagram_iter|virt_addr_valid",
    "kernel: pages touched for the first time": r"page_fault|clear_page|anonymous|charge|list_del|unmap|vma|mas_|mem_cgroup"
    r"|handle_mm|folio|pte|rmap|lruvec|zap|alloc_frozen|get_page_from|free_unref|rmqueue",
    "kernel: TCP": r"tcp|skb|ip_|sock|bbr|softirq|inet|qdisc|dev_|netif|loopback|local_bh",
    "kernel: waking and switching": r"irqrestore|finish_task|kvm_kick|queued_spin|smp_call|try_to_wake|schedule",
    "kernel: everything else": r"",
}
COLOURS = ("#5ea3d0", "#9ecae1", "#4dbb9b", "#e69f00", "#f0e442", "#cc79a7", "#999999", "#bbbbbb")
KERNEL_COLOURS = ("#d55e00", "#e58c4f", "#ecac80", "#f2c9ad", "#f8e4d6")


def build():
    env = {**os.environ, "CARGO_TARGET_DIR": str(BUILT), "CARGO_PROFILE_RELEASE_STRIP": "none"}
    command = ["cargo", "build", "--locked", "--quiet", "--release", "--bin", "copy", "--bin", "relay"]
    subprocess.run(command, cwd=bench.HERE / "copy", check=True, env=env)


def looked(command, env):
    """How often `perf` found each function at work, by group and name."""
    with tempfile.NamedTemporaryFile() as data:
        bench.measured(["perf", "record", "-q", "-F", "1999", "-o", data.name, *command], env)
        script = ["perf", "script", "-i", data.name, "-F", "ip,sym,dso"]
        text = subprocess.run(script, check=True, capture_output=True, text=True).stdout
    found = collections.Counter()
    for line in text.splitlines():
        if parts := re.match(r"\s*[0-9a-f]+ (.*) \((.*)\)$", line):
            function, where = parts.groups()
            groups = KERNEL if "kernel" in where else OURS
            group = next(name for name, pattern in groups.items() if re.search(pattern, function))
            found[group, short(function)] += 1
    return found


def short(function):
    """A function's name without what stands for its types."""
    while (shorter := re.sub(r"<[^<>]*>", "", function)) != function:
        function = shorter
    return "::".join(re.sub(r"::\{\{closure\}\}", "", function).strip(":").split("::")[-2:]) or "?"


def picture(results):
    """Two rows of boxes for each contestant, as wide as they take time: groups, and functions below them."""
    width, left, height, gap = 1000, 10, 26, 34
    scale = (width - 2 * left) / max(cpu for cpu, _ in results.values())
    colours = dict(zip([*OURS, *KERNEL], [*COLOURS, *KERNEL_COLOURS]))
    total = 40 + len(results) * (2 * height + gap)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {total}" role="img" aria-label="Where processor time goes">',
        "<style>text{font:11px sans-serif;fill:#111}.title{font-size:13px;fill:#767676}rect{stroke:#fff;stroke-width:.5}</style>",
    ]

    def box(x, y, wide, colour, name, seconds):
        words = f"{name}: {1000 * seconds:.0f} ms"
        out.append(f'<rect x="{x:.1f}" y="{y}" width="{wide:.2f}" height="{height}" fill="{colour}"><title>{escape(words)}</title></rect>')
        if wide > 40:
            fits = name[: int(wide / 6)]
            out.append(f'<text x="{x + 3:.1f}" y="{y + 17}" pointer-events="none">{escape(fits)}</text>')

    y = 10
    for name, (cpu, found) in results.items():
        out.append(f'<text class="title" x="{left}" y="{y + 14}">{escape(name)}: {1000 * cpu:.0f} ms</text>')
        y += 20
        looks, x = found.total(), left
        for group in colours:
            functions = [(count, function) for (of, function), count in found.items() if of == group]
            seconds = cpu * sum(count for count, _ in functions) / looks
            if functions:
                box(x, y, seconds * scale, colours[group], group.removeprefix("kernel: "), seconds)
            inner = x
            for count, function in sorted(functions, reverse=True):
                each = cpu * count / looks
                if each * scale > 1:
                    box(inner, y + height, each * scale, colours[group], function, each)
                inner += each * scale
            x += seconds * scale
        y += 2 * height + gap - 20
    out.append("</svg>\n")
    return "\n".join(out)


def main():
    if wrong := [word for word in sys.argv[1:] if not Path(word.partition("=")[2]).is_file()]:
        raise SystemExit(f"profile_copy.py: expected NAME=BINARY with a program that is there, seen {', '.join(wrong)}")
    others = dict(word.split("=", 1) for word in sys.argv[1:])
    if not shutil.which("perf"):
        raise SystemExit("profile_copy.py: there is no `perf` here; Debian has it in the package linux-perf")
    bench.fragment()
    bench.install_peers()
    build()
    vendor = servers.Server(servers.vendor, str(bench.FRAGMENT), FRAGMENTS, bench.RECORDS, 0)
    rclone = bench.Rclone()
    env = {"AWS_ENDPOINT_URL": rclone.url}
    ours = {**others, "the copy": BUILT / "release" / "copy"}
    commands = {name: [binary, vendor.url, bench.BUCKET, FRAGMENTS, bench.BUDGET_MIB, bench.AT_ONCE] for name, binary in ours.items()}
    relay = [BUILT / "release" / "relay", f"{vendor.url}/files", bench.BUCKET, FRAGMENTS, bench.AT_ONCE]
    commands["a relay that only moves bytes"] = relay
    best = dict.fromkeys(commands, float("inf"))
    found = {name: collections.Counter() for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            rclone.begin()
            best[name] = min(best[name], bench.measured(command, env)[1])
            rclone.begin()
            found[name] += looked(command, env)
    vendor.end()
    rclone.end()
    results = {name: (best[name], found[name]) for name in commands}
    PICTURE.write_text(picture(results))
    lines = []
    for group in [*OURS, *KERNEL]:
        shares = [cpu * sum(n for (of, _), n in looks.items() if of == group) / looks.total() for cpu, looks in results.values()]
        lines.append((group, *(f"{1000 * share:.0f}" for share in shares)))
    lines.append(("all of it", *(f"{1000 * cpu:.0f}" for cpu, _ in results.values())))
    size = bench.FRAGMENT.stat().st_size / 1e6
    title = f"Milliseconds of processor time to copy {FRAGMENTS} × {size:.1f} MB, best of {ROUNDS} rounds, by what `perf` found at work"
    text = f"{title}:\n\n{bench.markdown(('', *results), lines)}"
    print(text)
    RUN.write_text(f"# A run of `make profile`\n\n[What it tells](PERFORMANCE.md#where-the-time-goes). {text}\n\n![Functions by time](profile.svg)\n")


if __name__ == "__main__":
    main()
