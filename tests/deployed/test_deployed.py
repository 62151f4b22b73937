"""The real template with the real binaries on a local AWS that enforces IAM, against the shipped simulated host."""

import datetime
import hashlib
import json
import os
import re
import signal
import subprocess
import uuid

import pytest
from botocore.exceptions import ClientError

from cloud import ROOT, deploy, until
from weeks import monday, weeks

# Amazon Linux 2023's.
NEWEST_GLIBC = (2, 34)

WEEKLY = "st-weekly"
EAGER = "st-eager"
BATCH = "st-batch"
FAILING = "st-failing"
KILLED = "st-killed"
APPS = (WEEKLY, EAGER, BATCH, FAILING, KILLED)


def line(summary, app):
    [found] = [line for line in summary["exports"] if line["app"] == app]
    return found


def start_message(app, week, **changes):
    [record] = json.loads((ROOT / "events" / "poll-start.json").read_text())["Records"]
    return json.dumps({**json.loads(record["body"]), "app": app, "week": week, "chain": str(uuid.uuid4()), **changes})


@pytest.fixture(scope="module")
def stack(stacks, hosts):
    """One app, woken every minute; four weeks are due."""
    hosts(WEEKLY, "--records-per-week", "300-400")
    return stacks("archive", AppIds=WEEKLY, Schedule="rate(1 minute)", ArchiveSince=monday(4))


@pytest.fixture(scope="module")
def heralds(stack):
    """A queue that hears, by EventBridge, of every manifest."""
    events, sqs = stack.cloud.client("events"), stack.sqs
    url = sqs.create_queue(QueueName="heralds")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {"bucket": {"name": [stack.bucket]}, "object": {"key": [{"prefix": "manifests/"}]}},
    }
    rule = events.put_rule(Name="heralds", EventPattern=json.dumps(pattern))["RuleArn"]
    sqs.set_queue_attributes(
        QueueUrl=url,
        Attributes={
            "Policy": json.dumps(
                {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Principal": {"Service": "events.amazonaws.com"},
                            "Action": "sqs:SendMessage",
                            "Resource": arn,
                            "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
                        }
                    ],
                }
            )
        },
    )
    events.put_targets(Rule="heralds", Targets=[{"Id": "queue", "Arn": arn}])

    def heard():
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(message["Body"])["detail"]["object"]["key"] for message in messages]

    return heard


def test_the_three_functions_are_one_binary_that_runs_on_amazon_linux_2023(built):
    bootstraps = [built.parent / function / "bootstrap" for function in ("Enqueue", "Poll", "Copy")]
    assert len({hashlib.sha256(bootstrap.read_bytes()).digest() for bootstrap in bootstraps}) == 1
    table = subprocess.run(["objdump", "-T", bootstraps[0]], capture_output=True, text=True, check=True).stdout
    needed = {tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_([0-9.]+)", table)}
    assert needed and max(needed) <= NEWEST_GLIBC, max(needed)


def test_a_tick_of_the_schedule_archives_every_missing_week(stack, heralds, front):
    due = weeks(4, 3, 2, 1)
    until("the four weeks stand", lambda: sorted(stack.manifests(WEEKLY)) == due, 180, every=2)
    assert front.starts(WEEKLY) == len(due)
    woken = [line for line in stack.lines("enqueue") if '"scheduled"' in line.lower() or "aws.scheduler" in line]
    heard = set()
    until("EventBridge tells of each", lambda: heard.update(heralds()) or len(heard) == len(due), 30)
    assert heard == {f"manifests/app={WEEKLY}/event=all/week={week}.json" for week in due}, woken


def test_metadata_and_manifest_are_as_designed(stack):
    week, manifest = sorted(stack.manifests(WEEKLY).items())[0]
    sunday = datetime.date.fromisoformat(week) + datetime.timedelta(days=6)
    window = {"from": f"{week}T00:00:00.000Z", "to": f"{sunday}T23:59:59.999Z"}
    assert manifest["schema"] == "insights-archive/manifest/1"
    assert (manifest["app"], manifest["event"], manifest["week"]) == (WEEKLY, "all", week)
    assert manifest["window"] == window
    assert manifest["verified"] is True and manifest["discrepancies"] == [] and manifest["supersedes"] == []
    assert manifest["declared"]["records"] == manifest["archived"]["records"]
    assert manifest["declared"]["files"] == manifest["archived"]["files"] == len(manifest["fragments"]) > 1
    for number, fragment in enumerate(manifest["fragments"], 1):
        place = f"part-{number:05}-of-{len(manifest['fragments']):05}.json"
        key = f"data/app={WEEKLY}/event=all/week={week}/job={manifest['job']['id']}/{place}"
        assert fragment["key"] == key
        stored = stack.s3.get_object(Bucket=stack.bucket, Key=key)
        content = stored["Body"].read()
        records = str(len(json.loads(content)))
        assert stored["ContentType"] == "application/json"
        assert stored["Metadata"] == {
            "record-count": records,
            "file-id": fragment["fileId"],
            "job-id": manifest["job"]["id"],
            "app-id": WEEKLY,
            "event": "all",
            "week": week,
            "window-from": window["from"],
            "window-to": window["to"],
            "fragment": f"{number}/{len(manifest['fragments'])}",
        }
        assert str(fragment["records"]) == str(fragment["declaredRecords"]) == records
        assert fragment["bytes"] == len(content)
        assert fragment["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_second_tick_enqueues_nothing(stack, front):
    before = front.starts(WEEKLY), front.looks(WEEKLY)
    summary, failed = stack.invoke("enqueue", {})
    assert not failed
    assert line(summary, WEEKLY)["archived"] == 4
    assert line(summary, WEEKLY)["enqueued"] == [] and line(summary, WEEKLY)["missing"] == 0
    assert (front.starts(WEEKLY), front.looks(WEEKLY)) == before


def test_another_deploy_adds_apps_and_stops_the_minute_schedule(stack, hosts):
    hosts(EAGER, "--records-per-week", "100", "--seconds-per-fragment", "70", eager=True)
    hosts(BATCH, "--records-per-week", "100")
    hosts(FAILING, "--records-per-week", "100", "--fault", "failing-job=100")
    hosts(KILLED, "--records-per-week", "600", "--fault", "drip=100")
    stack.deploy(AppIds=",".join(APPS), Schedule="rate(365 days)")
    assert sorted(stack.manifests(WEEKLY)) == weeks(4, 3, 2, 1)


def test_a_backfill_archives_earlier_weeks(stack):
    wish = {"since": str(monday(6)), "until": str(monday(4)), "apps": [WEEKLY]}
    summary, failed = stack.invoke("enqueue", {**wish, "dryRun": True})
    assert not failed and line(summary, WEEKLY)["enqueued"] == weeks(6, 5)
    summary, failed = stack.invoke("enqueue", wish)
    assert not failed and line(summary, WEEKLY)["enqueued"] == weeks(6, 5)
    until("both weeks stand", lambda: set(weeks(6, 5)) <= set(stack.manifests(WEEKLY)), 60)


def test_a_wish_that_makes_no_sense_is_refused_by_name(stack):
    for wish, named in (
        ({"since": "2025-02-30"}, "2025-02-30"),
        ({"sinse": "2025-01-20"}, "sinse"),
        ({"since": str(monday(2)), "apps": ["st-other"]}, "st-other"),
        ({"since": str(monday(2)), "until": str(monday(3))}, str(monday(3))),
    ):
        answer, failed = stack.invoke("enqueue", wish)
        assert failed and named in answer["errorMessage"], answer


def test_a_job_survives_more_than_sixteen_polls(stack, front):
    # Lambda stops a chain of about sixteen invocations unless the function allows loops.
    week = str(monday(1))
    stack.invoke("enqueue", {"since": week, "apps": [EAGER]})
    until("the week stands", lambda: week in stack.manifests(EAGER), 240, every=2)
    assert front.starts(EAGER) == 1
    assert front.looks(EAGER) > 16


def test_a_poison_message_does_not_hurt_its_neighbours(stack):
    week = str(monday(1))
    good, other_version, beyond = (
        start_message(BATCH, week),
        start_message(BATCH, week, version=99),
        start_message(BATCH, week, hop=5000),
    )
    unknown_stage = start_message(BATCH, week, stage="sort")
    stack.send("Poll", "this is not JSON", good, other_version, beyond, unknown_stage)
    until("the good one is archived", lambda: week in stack.manifests(BATCH), 60)
    dead = {}
    until("the others are dead letters", lambda: dead.update([stack.take_dead("Poll") or (None, None)]) or len(dead) > 4, 60)
    dead.pop(None, None)
    assert set(dead) == {"this is not JSON", other_version, beyond, unknown_stage}
    for body, attributes in dead.items():
        assert attributes.get("reason"), (body, attributes)
    assert "99" in dead[other_version]["reason"]
    assert "hop" in dead[beyond]["reason"]


def test_a_function_killed_in_mid_copy_is_retried_with_the_same_result(stack, front):
    week = str(monday(1))
    # Else the killed run's message comes back after half an hour.
    stack.sqs.set_queue_attributes(QueueUrl=stack.outputs["CopyQueueUrl"], Attributes={"VisibilityTimeout": "10"})
    host = front.hosts[KILLED]
    stack.invoke("enqueue", {"since": week, "apps": [KILLED]})
    until("a file arrives", lambda: host.stats()["requests"].get("open"), 60, every=0.05)
    for process in stack.cloud.processes("copy"):  # one is at work, others may be warm
        os.kill(process, signal.SIGKILL)
    assert week not in stack.manifests(KILLED), "killed too late: nothing was left to do"
    until("the week stands", lambda: week in stack.manifests(KILLED), 240, every=2)
    manifest = stack.manifests(KILLED)[week]
    assert front.starts(KILLED) == 1
    assert manifest["verified"] is True and manifest["archived"]["records"] == 600

    # Undisturbed, for comparison; it replaces the first, whose files stay.
    stack.invoke("enqueue", {"since": week, "apps": [KILLED], "replace": True})
    until("it is replaced", lambda: stack.manifests(KILLED)[week]["job"] != manifest["job"], 60)
    undisturbed = stack.manifests(KILLED)[week]
    assert hashes(undisturbed) == hashes(manifest)
    assert [old["job"]["id"] for old in undisturbed["supersedes"]] == [manifest["job"]["id"]]
    for fragment in manifest["fragments"] + undisturbed["fragments"]:
        assert hashlib.sha256(stack.read(fragment["key"])).hexdigest() == fragment["sha256"]


def hashes(manifest):
    return [(fragment["records"], fragment["bytes"], fragment["sha256"]) for fragment in manifest["fragments"]]


def test_a_failing_job_is_given_up_left_in_peace_and_healed_on_request(stack, front, hosts):
    week = str(monday(1))
    stack.invoke("enqueue", {"since": week, "apps": [FAILING]})
    body, attributes = until("it is given up", lambda: stack.take_dead("Poll"), 180, every=2)
    assert front.starts(FAILING) == 3
    assert json.loads(body)["app"] == FAILING and json.loads(body)["week"] == week
    assert "fail" in attributes["reason"].lower() or "timed" in attributes["reason"].lower(), attributes
    assert attributes["export"] == f"app={FAILING}/event=all/week={week}"

    summary, _ = stack.invoke("enqueue", {})
    waiting = line(summary, FAILING)["waiting"]
    assert week in [w["week"] for w in waiting], summary
    assert front.starts(FAILING) == 3 or week not in line(summary, FAILING)["enqueued"]

    hosts(FAILING, "--records-per-week", "100")
    summary, _ = stack.invoke("enqueue", {"since": week, "apps": [FAILING]})
    assert line(summary, FAILING)["enqueued"] == [week]
    until("it stands", lambda: week in stack.manifests(FAILING), 60)


def test_no_permission_was_missing_and_every_line_is_json(stack):
    for function in ("enqueue", "poll", "copy"):
        lines = stack.lines(function)
        assert lines
        for text in lines:
            assert "AccessDenied" not in text and "not authorized" not in text, text
            if not re.match(r"(START|END|REPORT) RequestId", text):
                assert isinstance(json.loads(text), dict), text
            assert "demo-secret" not in text and "?n=" not in text, text


def test_the_functions_tell_their_figures(stack):
    seen = {}
    for function in ("enqueue", "poll", "copy"):
        for text in stack.lines(function):
            if '"_aws"' in text:
                record = json.loads(text)
                for directive in record["_aws"]["CloudWatchMetrics"]:
                    assert directive["Namespace"] == "InsightsArchive/archive"
                    assert directive["Dimensions"] == [[]]
                    for metric in directive["Metrics"]:
                        seen.setdefault(metric["Name"], []).append(record[metric["Name"]])
    assert {"Ticks", "WeeksMissing", "ExportsStarted", "ExportsCommitted", "ExportsFailed", "Records", "Bytes",
            "Fragments"} <= set(seen), sorted(seen)  # fmt: skip
    assert sum(seen["ExportsFailed"]) >= 1


NONSENSE = [
    ("HostUrl", "https://platform.kore.ai/api?x=1", "must be a URL without path"),
    ("AppIds", "st/1", "must be AppIDs"),
    ("CredentialsSecretArn", "kore/insights", "must be the full ARN"),
    ("Schedule", "now and then", "must be a rate or a cron expression"),
    ("ArchiveSince", "2025-13-01", "must be empty or a date"),
    ("Events", "thumbsup", "case matters"),
    ("SettleMinutes", "-1", "SettleMinutes"),
    ("ArchiveBucket", "arn:aws:s3:::x", "must be empty or the name of a bucket"),
    ("ArchivePrefix", "/kore", "must be empty or end in a slash"),
    ("SubnetIds", "subnet-0123456789abcdef0", "set together"),
]


@pytest.mark.parametrize(("parameter", "value", "told"), NONSENSE)
def test_nonsense_is_refused_at_deploy_time(stack, parameter, value, told):
    # `sam deploy` puts the code's place in and does the same, in twenty times the time.
    template = (ROOT / "template.yaml").read_text().replace("CodeUri: .", "CodeUri: s3://templates/code.zip")
    stack.s3.create_bucket(Bucket="templates")
    stack.s3.put_object(Bucket="templates", Key="template.yaml", Body=template.encode())
    parameters = {**stack.parameters, parameter: value}
    with pytest.raises(ClientError) as refusal:
        stack.cloud.client("cloudformation").create_stack(
            StackName="nonsense",
            TemplateURL=f"{stack.cloud.endpoint}/templates/template.yaml",
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
            Parameters=[{"ParameterKey": k, "ParameterValue": str(v)} for k, v in parameters.items()],
        )
    assert told in str(refusal.value)


def test_what_cloudformation_refuses_sam_deploy_shows(stack):
    parameter, value, told = NONSENSE[0]
    done = deploy(stack.cloud, "nonsense", stack.built, {**stack.parameters, parameter: value})
    assert done.returncode != 0 and told in done.stdout + done.stderr


def errors(stack, function):
    return [text for text in stack.lines(function) if '"ERROR"' in text]


def test_a_secret_of_the_wrong_shape_or_missing_fails_loudly_and_loses_nothing(stack, stacks, cloud, hosts, front):
    week = str(monday(1))
    hosts("st-unkeyed", "--records-per-week", "50")
    secrets = cloud.client("secretsmanager")
    arn = secrets.create_secret(Name="unkeyed", SecretString='["not", "credentials"]')["ARN"]
    unkeyed = stacks("unkeyed", AppIds="st-unkeyed", CredentialsSecretArn=arn, ArchiveSince=week)
    # Else each of the five tries takes twelve minutes.
    unkeyed.sqs.set_queue_attributes(QueueUrl=unkeyed.outputs["PollQueueUrl"], Attributes={"VisibilityTimeout": "1"})
    unkeyed.invoke("enqueue", {})
    body, _ = until("the message is a dead letter", lambda: unkeyed.take_dead("Poll"), 60)
    assert any("secret" in text.lower() for text in errors(unkeyed, "poll"))
    assert not any("credentials\\\"]" in text for text in unkeyed.lines("poll"))
    assert front.starts("st-unkeyed") == 0

    secrets.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
    before = len(errors(unkeyed, "poll"))
    unkeyed.send("Poll", body)
    body, _ = until("it is a dead letter again", lambda: unkeyed.take_dead("Poll"), 60)
    assert len(errors(unkeyed, "poll")) > before

    unkeyed.deploy(CredentialsSecretArn=stack.parameters["CredentialsSecretArn"])
    unkeyed.invoke("enqueue", {"since": week})
    until("the week stands", lambda: week in unkeyed.manifests("st-unkeyed"), 60)


def test_a_bucket_without_permission_fails_loudly_and_loses_nothing(stacks, cloud, hosts):
    week = str(monday(1))
    hosts("st-shut", "--records-per-week", "50")
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="someone-elses")
    shut = stacks("shut", AppIds="st-shut", ArchiveBucket="someone-elses", ArchivePrefix="kore/", ArchiveSince=week)
    role = cloud.client("lambda").get_function_configuration(FunctionName="shut-enqueue")["Role"]
    denial = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Deny",
                "Principal": {"AWS": role},
                "Action": "s3:ListBucket",
                "Resource": "arn:aws:s3:::someone-elses",
            }
        ],
    }
    s3.put_bucket_policy(Bucket="someone-elses", Policy=json.dumps(denial))
    cloud.client("lambda").invoke(FunctionName="shut-enqueue", InvocationType="Event", Payload=b"{}")
    until("the failed tick is a dead letter", lambda: shut.take_dead("Tick"), 90)
    assert any("someone-elses" in text for text in errors(shut, "enqueue"))

    s3.delete_bucket_policy(Bucket="someone-elses")
    shut.invoke("enqueue", {})
    key = f"kore/manifests/app=st-shut/event=all/week={week}.json"
    until("the week stands", lambda: shut.keys(key), 60)
