"""Sets up the deployed test: one local AWS, one build, one stack, simulated hosts; all of it ended afterwards."""

import json
import os
import pathlib
import shutil
import subprocess
import time

import pytest

from cloud import ROOT, Cloud, Stack, build
from host import CREDENTIALS, Front, Host
from weeks import SETTLE_MINUTES

DEPLOYED = ROOT / "target" / "deployed"
TIMES = []


def pytest_addoption(parser):
    parser.addoption("--built", help="deploy this built template instead of building (while working on the test)")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        item.session.stash[FAILED] = True


FAILED = pytest.StashKey[bool]()


def timed(what, work):
    started = time.monotonic()
    result = work()
    TIMES.append((what, time.monotonic() - started))
    return result


def pytest_terminal_summary(terminalreporter):
    if TIMES:
        terminalreporter.section("set-up times")
        for what, seconds in TIMES:
            terminalreporter.write_line(f"{seconds:7.1f} s  {what}")


@pytest.fixture(scope="session")
def folder(request):
    """This run's own folder, kept where something failed."""
    path = DEPLOYED / f"run-{os.getpid()}"
    path.mkdir(parents=True)
    yield path
    if request.session.stash.get(FAILED, False):
        print(f"\nlogs are in {path.relative_to(ROOT)}")
    else:
        shutil.rmtree(path)


@pytest.fixture(scope="session")
def program():
    """The command line as `cargo test` builds it: built by itself, its libraries would be compiled once more."""
    command = ["cargo", "test", "--quiet", "--locked", "--no-run", "--test", "local"]
    timed("cargo build of the command line", lambda: subprocess.run(command, cwd=ROOT, check=True))
    return ROOT / "target" / "debug" / "insights-archive"


@pytest.fixture(scope="session")
def cloud(folder):
    cloud = timed("start of the local AWS", lambda: Cloud(folder / "cloud"))
    yield cloud
    cloud.close()


@pytest.fixture(scope="session")
def built(cloud, request):
    given = request.config.getoption("--built")
    return pathlib.Path(given).resolve() if given else timed("sam build", lambda: build(cloud, DEPLOYED))


@pytest.fixture(scope="session")
def front():
    front = Front()
    yield front
    front.close()


@pytest.fixture(scope="session")
def hosts(program, folder, front):
    """Starts simulated hosts and puts apps on them."""
    started = []

    def start(app, *options, eager=False):
        small = ("--record-bytes", "2048-2100", "--rate-limit", "0", "--seconds-per-fragment", "0.2")
        chosen = {name: value for name, value in zip(small[::2], small[1::2]) if name not in options}
        host = Host(program, folder / "hosts.log", *(x for pair in chosen.items() for x in pair), *options)
        started.append(host)
        front.serve(app, host, eager)
        return host

    yield start
    for host in started:
        host.close()


def secret(cloud, name, value):
    text = value if isinstance(value, str) else json.dumps(value)
    return cloud.client("secretsmanager").create_secret(Name=name, SecretString=text)["ARN"]


@pytest.fixture(scope="session")
def stacks(cloud, built, front, folder, request):
    """Deploys the template under a name, with parameters that all stacks of the test share unless said otherwise."""
    started = []

    def start(name, **parameters):
        common = {
            "HostUrl": front.url,
            "AllowPrivateNetwork": "true",
            "FileHosts": "127.0.0.1",
            "LocalAws": "true",
            "SettleMinutes": SETTLE_MINUTES,
            "Schedule": "rate(365 days)",
            "LogLevel": "debug",
        }
        if "CredentialsSecretArn" not in parameters:
            parameters["CredentialsSecretArn"] = secret(cloud, f"{name}-credentials", CREDENTIALS)
        stack = timed(f"sam deploy of {name}", lambda: Stack(cloud, name, built, {**common, **parameters}))
        started.append(stack)
        return stack

    yield start
    if request.session.stash.get(FAILED, False):
        for stack in started:
            for function in ("enqueue", "poll", "copy"):
                (folder / f"{stack.name}-{function}.log").write_text("\n".join(stack.lines(function)) + "\n")
