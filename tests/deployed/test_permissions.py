"""Every permission is needed: with any one action taken from any role, a probe that passes otherwise fails.

Beyond `make test`. The stack's event sources are off; each probe hands a function its message and looks at what becomes of
it. What AWS itself does with a role (logs, receiving messages, waking enqueue, failure destinations, network interfaces),
the key, and the listing that tells an absent key from a forbidden one, the local AWS does not evaluate: `NOT_EVALUATED`.
"""

import contextlib
import datetime
import itertools
import json
import os
import re
import signal
import uuid

import pytest

from cloud import until
from template import listed, load, roles
from test_deployed import start_message
from weeks import monday

NOT_EVALUATED = {
    "WriteLogs",
    "ReportFailedTicks",
    "ReceiveItsMessages",
    "TellAbsentFromForbidden",
    "WakeEnqueue",
    "ReportUndeliveredTicks",
    "UseTheBucketsKey",
}

# (role, purpose, action, resource): the probe that fails without it.
PROBES = {
    ("Enqueue", "ListManifests", "s3:ListBucket", ""): "a_tick",
    ("Enqueue", "ReadManifestsAndClaims", "s3:GetObject", "manifests"): "a_replacement",
    ("Enqueue", "ReadManifestsAndClaims", "s3:GetObject", "claims"): "a_tick",
    ("Enqueue", "SendStarts", "sqs:SendMessage", "PollQueue"): "a_tick",
    ("Poll", "SendOn", "sqs:SendMessage", "PollQueue"): "a_start",
    ("Poll", "SendOn", "sqs:SendMessage", "CopyQueue"): "a_finished_job",
    ("Poll", "GiveUp", "sqs:SendMessage", "PollDeadLetters"): "a_start_too_many",
    ("Poll", "ReadCredentials", "secretsmanager:GetSecretValue", "CredentialsSecretArn"): "a_start",
    ("Poll", "ReadManifestsAndClaims", "s3:GetObject", "manifests"): "a_start",
    ("Poll", "ReadManifestsAndClaims", "s3:GetObject", "claims"): "a_start",
    ("Poll", "ClaimExports", "s3:PutObject", "claims"): "a_start",
    ("Poll", "CommitEmptyWeeks", "s3:PutObject", "manifests"): "an_empty_week",
    ("Copy", "ListReceipts", "s3:ListBucket", ""): "a_copy",
    ("Copy", "SendOn", "sqs:SendMessage", "PollQueue"): "a_copy_of_html",
    ("Copy", "SendOn", "sqs:SendMessage", "CopyQueue"): "a_copy_from_a_broken_host",
    ("Copy", "GiveUp", "sqs:SendMessage", "PollDeadLetters"): "a_copy_too_many",
    ("Copy", "ReadCredentials", "secretsmanager:GetSecretValue", "CredentialsSecretArn"): "a_copy",
    ("Copy", "ReadTheArchive", "s3:GetObject", "manifests"): "a_copy",
    ("Copy", "ReadTheArchive", "s3:GetObject", "claims"): "a_copy",
    ("Copy", "ReadTheArchive", "s3:GetObject", "receipts"): "a_copy_with_receipts",
    ("Copy", "ReadTheArchive", "s3:GetObject", "data"): "a_copy_of_what_stands",
    ("Copy", "ClaimExports", "s3:PutObject", "claims"): "a_copy",
    ("Copy", "StoreFragments", "s3:PutObject", "data"): "a_copy",
    ("Copy", "StoreFragments", "s3:AbortMultipartUpload", "data"): "a_copy_of_a_large_file_with_a_wrong_count",
    ("Copy", "KeepWhatCameInstead", "s3:PutObject", "quarantine"): "a_copy_of_html",
    ("Copy", "WriteReceipts", "s3:PutObject", "receipts"): "a_copy",
    ("Copy", "CommitWeeks", "s3:PutObject", "manifests"): "a_copy",
}


def name_of(resource):
    """An area of the archive, or the logical name of what an ARN is of."""
    if "Fn::Sub" in resource:
        return resource["Fn::Sub"][0].rsplit("}", 1)[1].removesuffix("/*")
    if "Fn::GetAtt" in resource:
        return resource["Fn::GetAtt"][0]
    return resource["Ref"]


def permissions():
    for role, statements in roles(load()).items():
        for statement in statements:
            for action in listed(statement["Action"]):
                for resource in listed(statement["Resource"]):
                    yield role.removesuffix("Role"), statement["Sid"], action, name_of(resource)


def test_the_table_lists_every_permission():
    wanted = {row for row in permissions() if row[1] not in NOT_EVALUATED}
    assert wanted == set(PROBES)


HEALTHY, EMPTY, HTML, BROKEN, LARGE = "st-probe", "st-empty", "st-html", "st-broken", "st-large"

# The answer to a HEAD request has no body that names the code.
REFUSED = re.compile("AccessDenied|status 403")


class Hands:
    """Drives the functions by hand, message by message, and tells whether one was refused something."""

    def __init__(self, stack):
        self.stack = stack
        self.weeks = itertools.count(10)
        sources = stack.functions.list_event_source_mappings()["EventSourceMappings"]
        for source in sources:
            if f":function:{stack.name}-" in source["FunctionArn"]:
                stack.functions.update_event_source_mapping(UUID=source["UUID"], Enabled=False)
        self.roles = {
            r["LogicalResourceId"].removesuffix("Role"): r["PhysicalResourceId"]
            for r in stack.cloud.client("cloudformation").describe_stack_resources(StackName=stack.name)["StackResources"]
            if r["ResourceType"] == "AWS::IAM::Role"
        }
        self.iam = stack.cloud.client("iam")

    def week(self):
        return str(monday(next(self.weeks)))

    def hand(self, function, body):
        """Hands one message to a function, and tells what went wrong."""
        record = {"messageId": str(uuid.uuid4()), "body": body, "eventSource": "aws:sqs"}
        return self.invoke(function, {"Records": [record]})

    def invoke(self, function, event):
        before = len(self.stack.lines(function))
        answer, failed = self.stack.invoke(function, event)
        said = self.stack.lines(function)[before:]
        wrong = [line for line in said if REFUSED.search(line)]
        if failed or answer.get("batchItemFailures"):
            wrong.append(json.dumps(answer))
        return wrong

    def next(self, queue, app):
        """The next message for an app in a queue; others' are left-overs of earlier probes."""
        url = self.stack.outputs[f"{queue}QueueUrl"]

        def take():
            for message in self.stack.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
                self.stack.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                if json.loads(message["Body"])["app"] == app:
                    return message["Body"]
            return None

        return until(f"a message in the {queue} queue", take, 30)

    def purge(self):
        for queue in ("Poll", "Copy"):
            self.stack.sqs.purge_queue(QueueUrl=self.stack.outputs[f"{queue}QueueUrl"])

    def look_message(self, app):
        self.purge()
        assert not self.hand("poll", start_message(app, self.week()))
        return self.next("Poll", app)

    def copy_message(self, app):
        message = self.look_message(app)
        while True:
            assert not self.hand("poll", message)
            with contextlib.suppress(AssertionError):
                return self.next("Copy", app)
            message = self.next("Poll", app)

    @contextlib.contextmanager
    def without(self, role, purpose, action, resource):
        """Takes one action on one resource from a role."""
        name = role.lower()
        kept = self.iam.get_role_policy(RoleName=self.roles[role], PolicyName=name)["PolicyDocument"]
        rows = [s for s in roles(load())[f"{role}Role"] if s["Sid"] == purpose]
        index = [name_of(r) for r in listed(rows[0]["Resource"])].index(resource)
        statements = []
        for statement in kept["Statement"]:
            if statement["Sid"] != purpose:
                statements.append(statement)
                continue
            taken = listed(statement["Resource"])[index]
            for each in itertools.product(listed(statement["Action"]), listed(statement["Resource"])):
                if each != (action, taken):
                    statements.append({"Effect": "Allow", "Action": each[0], "Resource": each[1]})
        changed = json.dumps({**kept, "Statement": statements})
        self.iam.put_role_policy(RoleName=self.roles[role], PolicyName=name, PolicyDocument=changed)
        try:
            yield
        finally:
            self.iam.put_role_policy(RoleName=self.roles[role], PolicyName=name, PolicyDocument=json.dumps(kept))

    def forget(self):
        """Ends the warm functions: they remember the secret."""
        for function in ("enqueue", "poll", "copy"):
            for process in self.stack.cloud.processes(function):
                os.kill(process, signal.SIGKILL)

    # Each probe prepares with all permissions and returns what is then done, which tells what went wrong.

    def a_tick(self):
        self.purge()
        return lambda: self.invoke("enqueue", {})

    def a_replacement(self):
        message = self.copy_message(HEALTHY)
        assert not self.hand("copy", message)
        week = json.loads(message)["week"]
        wish = {"since": week, "until": str(next_monday(week)), "apps": [HEALTHY], "replace": True, "dryRun": True}
        return lambda: self.invoke("enqueue", wish)

    def a_start(self):
        message = start_message(HEALTHY, self.week())
        return lambda: self.hand("poll", message)

    def a_start_too_many(self):
        message = start_message(HEALTHY, self.week(), hop=2001)
        return lambda: self.hand("poll", message)

    def a_finished_job(self):
        message = self.look_message(HEALTHY)
        return lambda: self.hand("poll", message)

    def an_empty_week(self):
        message = self.look_message(EMPTY)
        return lambda: self.hand("poll", message)

    def a_copy(self, app=HEALTHY):
        message = self.copy_message(app)
        return lambda: self.hand("copy", message)

    def a_copy_too_many(self):
        message = json.dumps({**json.loads(self.copy_message(HEALTHY)), "hop": 2001})
        return lambda: self.hand("copy", message)

    def a_copy_of_html(self):
        return self.a_copy(HTML)

    def a_copy_from_a_broken_host(self):
        return self.a_copy(BROKEN)

    def a_copy_of_a_large_file_with_a_wrong_count(self):
        return self.a_copy(LARGE)

    def again_without(self, *areas):
        message = self.copy_message(HEALTHY)
        assert not self.hand("copy", message)
        for area in areas:
            for key in self.stack.keys(f"{area}/app={HEALTHY}/event=all/week={json.loads(message)['week']}"):
                self.stack.s3.delete_object(Bucket=self.stack.bucket, Key=key)
        return lambda: self.hand("copy", message)

    def a_copy_with_receipts(self):
        return self.again_without("manifests", "claims")

    def a_copy_of_what_stands(self):
        return self.again_without("manifests", "claims", "receipts")


def next_monday(week):
    return datetime.date.fromisoformat(week) + datetime.timedelta(weeks=1)


@pytest.fixture(scope="module")
def hands(stacks, hosts):
    hosts(HEALTHY, "--records-per-week", "200")
    hosts(EMPTY, "--empty-weeks", "100")
    hosts(HTML, "--records-per-week", "10", "--fault", "html-file=100")
    hosts(BROKEN, "--records-per-week", "10", "--fault", "file-error=100")
    hosts(LARGE, "--records-per-week", "150", "--record-bytes", "100000", "--fault", "wrong-records=100")
    apps = ",".join((HEALTHY, EMPTY, HTML, BROKEN, LARGE))
    return Hands(stacks("probed", AppIds=apps, CatchUpWeeks=1))


@pytest.mark.parametrize("probe", sorted(set(PROBES.values())))
def test_a_probe_passes_with_every_permission(hands, probe):
    act = getattr(hands, probe)()
    hands.forget()
    assert act() == []


@pytest.mark.parametrize("row", PROBES, ids="/".join)
def test_a_probe_fails_without(hands, row):
    act = getattr(hands, PROBES[row])()
    hands.forget()
    with hands.without(*row):
        assert any(REFUSED.search(line) for line in act())
