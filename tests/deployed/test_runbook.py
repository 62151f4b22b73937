"""Every command of the runbook, as it stands there, against a deployed stack."""

import json
import re
import subprocess

import pytest

from cloud import ROOT, TOOLS, until
from host import CREDENTIALS
from test_deployed import line
from weeks import monday, weeks

RUNBOOK = (ROOT / "docs" / "RUNBOOK.md").read_text()
APP = "st-1"

# What a command cannot do here.
CHANGED = [
    # The registry has the AWS CLI's first version only: it takes a payload as it is.
    (r"--cli-binary-format raw-in-base64-out ?(\\\n)?", ""),
    # For SQS this version minds the endpoint only where it is said like this.
    (r"\baws sqs\b", 'aws --endpoint-url "$AWS_ENDPOINT_URL" sqs'),
    # The local AWS does not know it: only its arguments are checked.
    (r"\bstart-message-move-task\b", "start-message-move-task --generate-cli-skeleton output"),
    # The next block asks for the same letter.
    (r"--visibility-timeout 300\b", "--visibility-timeout 1"),
    (r"'AQEB…'", '"$(letter PollDeadLettersUrl | cut -f1)"'),
    # It would not end.
    (r" --tail\b", ""),
]


def blocks():
    """Title and commands of each block, in order."""
    found = []
    for section in re.split(r"(?m)^#+ ", RUNBOOK):
        title = section.splitlines()[0] if section else ""
        found += [(title, block) for block in re.findall(r"(?s)```sh\n(.*?)```", section)]
        found += [(title, command) for command in re.findall(r"`(aws [^`…]+)`", re.sub(r"(?s)```.*?```", "", section))]
    return found


BLOCKS = blocks()
PREAMBLE = BLOCKS[0][1]


@pytest.fixture(scope="module")
def stack(cloud, stacks, hosts):
    hosts(APP, "--records-per-week", "50")
    arn = cloud.client("secretsmanager").create_secret(
        Name="insights-archive/kore", SecretString=json.dumps(CREDENTIALS)
    )["ARN"]
    stack = stacks("insights-archive", AppIds=APP, ArchiveSince=monday(2), CredentialsSecretArn=arn)
    stack.invoke("enqueue", {})
    until("two weeks stand", lambda: sorted(stack.manifests(APP)) == weeks(2, 1), 90)
    stack.send("Poll", "a message of somebody else's")
    stack.s3.create_bucket(Bucket="new-bucket")
    return stack


@pytest.fixture(scope="module")
def shell(stack, program, tmp_path_factory):
    """Runs commands as a person would, the tools on the path."""
    folder = tmp_path_factory.mktemp("runbook")
    (folder / "secret.json").write_text(json.dumps(CREDENTIALS))
    (folder / "aws.ini").write_text("[default]\ns3 =\n    addressing_style = path\n")
    path = ":".join(str(p) for p in (program.parent, TOOLS / "aws" / "bin", TOOLS / "sam" / "bin", "/usr/bin", "/bin"))

    def run(commands):
        script = f"{PREAMBLE}\n{functions()}\n{commands}"
        for pattern, instead in CHANGED:
            script = re.sub(pattern, instead, script)
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder,
            env={**stack.cloud.environment, "PATH": path, "AWS_CONFIG_FILE": str(folder / "aws.ini")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return run


def functions():
    """What one block defines others use."""
    return "\n".join(re.findall(r"(?m)^\w+\(\) \{.*\}$", RUNBOOK))


def test_the_runbook_has_commands():
    assert len(BLOCKS) > 10


@pytest.mark.parametrize(("title", "commands"), BLOCKS[1:], ids=[title for title, _ in BLOCKS[1:]])
def test_a_command_of_the_runbook_works(shell, title, commands):
    done = shell(commands)
    assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip() or re.search("update-|delete-message", commands), commands


def test_the_dead_letter_that_was_deleted_is_gone(stack):
    assert stack.take_dead("Poll") is None


def test_the_week_to_replace_was_archived_before_all_was_stopped(stack):
    assert "2025-01-20" in stack.manifests(APP)


def test_all_is_stopped_and_goes_on(stack, shell):
    stop = "".join(commands for title, commands in BLOCKS if title in ("Stop the ticks", "Stop the messages"))

    def states():
        sources = stack.functions.list_event_source_mappings()["EventSourceMappings"]
        return {s["State"] for s in sources if f":function:{stack.name}-" in s["FunctionArn"]}

    def ticks():
        return stack.cloud.client("scheduler").get_schedule(Name=f"{stack.name}-tick")["State"]

    assert states() <= {"Disabled", "Disabling"} and ticks() == "DISABLED"
    assert shell(stop.replace("--no-enabled", "--enabled").replace("DISABLED", "ENABLED")).returncode == 0
    assert states() <= {"Enabled", "Enabling"} and ticks() == "ENABLED"


def test_the_erased_week_left_a_tombstone_and_no_file(stack):
    assert stack.manifests(APP)["2025-01-20"]["erasedBy"] == "Ada Lovelace"
    assert stack.keys(f"data/app={APP}/event=all/week=2025-01-20/") == []


def test_what_was_deleted_by_mistake_is_restored(stack, shell):
    [fragment, *_] = stack.manifests(APP)[str(monday(1))]["fragments"]
    for key in (fragment["key"], f"manifests/app={APP}/event=all/week={monday(2)}.json"):
        stack.s3.delete_object(Bucket=stack.bucket, Key=key)
    found = shell('insights-archive verify --archive "$ARCHIVE"')
    assert found.returncode == 1 and fragment["key"] in found.stdout
    [restore] = [commands for title, commands in BLOCKS if title == "Restore"]
    assert shell(restore).returncode == 0
    assert str(monday(2)) in stack.manifests(APP)


def test_the_copy_in_another_bucket_is_a_whole_archive(stack):
    stack.deploy(ArchiveBucket="new-bucket", ArchivePrefix="new-prefix/")
    summary, failed = stack.invoke("enqueue", {})
    assert not failed
    assert line(summary, APP)["archived"] == 2 and line(summary, APP)["enqueued"] == []
