"""What the template says, where the local AWS cannot prove it, and what its parameters refuse."""

import json
import re

import pytest

from template import ROOT, listed, load, roles

TEMPLATE = load()
RESOURCES = TEMPLATE["Resources"]
FUNCTIONS = {n: r["Properties"] for n, r in RESOURCES.items() if r["Type"] == "AWS::Serverless::Function"}
QUEUES = {n: r["Properties"] for n, r in RESOURCES.items() if r["Type"] == "AWS::SQS::Queue"}
ALARMS = {n: r["Properties"] for n, r in RESOURCES.items() if r["Type"] == "AWS::CloudWatch::Alarm"}


def references(value):
    """Every name that a value refers to."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "Ref":
                yield inner
            elif key == "Fn::GetAtt":
                yield inner[0]
            elif key == "Fn::Sub":
                yield from re.findall(r"\$\{([A-Za-z0-9]+)", inner if isinstance(inner, str) else inner[0])
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_three_functions_share_one_binary_and_run_what_their_handler_says():
    assert {p["Handler"] for p in FUNCTIONS.values()} == {"enqueue", "poll", "copy"}
    assert TEMPLATE["Globals"]["Function"] == {
        "CodeUri": ".",
        "Runtime": "provided.al2023",
        "Architectures": ["x86_64"],
    }
    builds = {json.dumps({k: v for k, v in RESOURCES[n]["Metadata"].items() if k != "checkov"}) for n in FUNCTIONS}
    assert builds == {json.dumps({"BuildMethod": "rust-cargolambda", "BuildProperties": {"Binary": "lambda"}})}


def test_messages_may_loop_through_poll_and_copy_only():
    loops = {name for name, p in FUNCTIONS.items() if "RecursiveLoop" in p}
    assert loops == {"Poll", "Copy"}
    assert all(FUNCTIONS[name]["RecursiveLoop"] == "Allow" for name in loops)


def test_event_sources_report_partial_failures_and_stay_within_a_new_accounts_concurrency():
    sources = {n: FUNCTIONS[n]["Events"]["Messages"]["Properties"] for n in ("Poll", "Copy")}
    assert {n: s["BatchSize"] for n, s in sources.items()} == {"Poll": 10, "Copy": 1}
    assert all(s["FunctionResponseTypes"] == ["ReportBatchItemFailures"] for s in sources.values())
    concurrency = [s["ScalingConfig"]["MaximumConcurrency"] for s in sources.values()]
    assert min(concurrency) >= 2 and sum(concurrency) < 10
    assert not any("ReservedConcurrentExecutions" in p for p in FUNCTIONS.values())


def test_queues_outwait_their_functions_and_tell_them_how_long():
    for name in ("Poll", "Copy"):
        queue, function = QUEUES[f"{name}Queue"], FUNCTIONS[name]
        assert queue["VisibilityTimeout"] >= 6 * function["Timeout"]
        assert queue["RedrivePolicy"]["maxReceiveCount"] >= 5
        for other in ("Poll", "Copy"):
            seconds = FUNCTIONS[other]["Environment"]["Variables"][f"{name.upper()}_VISIBILITY_SECONDS"]
            assert int(seconds) == queue["VisibilityTimeout"]
    assert FUNCTIONS["Copy"]["Timeout"] == 300


def test_every_queue_is_encrypted_kept_for_two_weeks_and_refuses_plain_http():
    for queue in QUEUES.values():
        assert queue["SqsManagedSseEnabled"] is True
        assert queue["MessageRetentionPeriod"] == 14 * 86400
    policy = RESOURCES["QueuesPolicy"]["Properties"]
    assert {q["Ref"] for q in policy["Queues"]} == set(QUEUES)
    [statement] = policy["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Action"]) == ("Deny", "sqs:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_bucket_and_its_guards_outlive_the_stack():
    for name in ("Archive", "ArchivePolicy"):
        assert RESOURCES[name]["DeletionPolicy"] == "RetainExceptOnCreate"
        assert RESOURCES[name]["UpdateReplacePolicy"] == "Retain"
    bucket = RESOURCES["Archive"]["Properties"]
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["NotificationConfiguration"] == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}
    assert "BucketEncryption" in bucket


def test_nothing_is_attached_to_a_given_bucket():
    about_buckets = {n for n, r in RESOURCES.items() if r["Type"].startswith("AWS::S3::")}
    assert about_buckets == {"Archive", "ArchivePolicy"}
    assert all(RESOURCES[n]["Condition"] == "MakesBucket" for n in about_buckets)
    assert TEMPLATE["Conditions"]["MakesBucket"] == {"Fn::Equals": [{"Ref": "ArchiveBucket"}, ""]}


def test_the_bucket_refuses_plain_http_and_unconditional_writes_to_data():
    tls, [condition, once, otherwise] = (
        RESOURCES["ArchivePolicy"]["Properties"]["PolicyDocument"]["Statement"][0],
        RESOURCES["ArchivePolicy"]["Properties"]["PolicyDocument"]["Statement"][1]["Fn::If"],
    )
    assert (tls["Effect"], tls["Action"], tls["Condition"]) == (
        "Deny",
        "s3:*",
        {"Bool": {"aws:SecureTransport": "false"}},
    )
    assert (condition, otherwise) == ("OnAws", {"Ref": "AWS::NoValue"})
    assert once == {
        "Sid": "DataIsWrittenOnce",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": {"Fn::Sub": "${Archive.Arn}/${ArchivePrefix}data/*"},
        # Both, or creating a multipart upload would be refused too.
        "Condition": {"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}},
    }


def test_only_what_serves_an_export_under_way_expires():
    rules = {r["Id"]: r for r in RESOURCES["Archive"]["Properties"]["LifecycleConfiguration"]["Rules"]}
    assert "Prefix" not in rules["unfinished-uploads"]
    assert rules["unfinished-uploads"]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 7
    for area in ("receipts", "claims"):
        rule = rules[area]
        # Longer than a dead letter waits (14 days) and a given-up export is left in peace (28 days).
        assert rule["ExpirationInDays"] > 28 + 14
        assert rule["NoncurrentVersionExpiration"]["NoncurrentDays"] <= 7
    expiring = {
        json.dumps(r["Prefix"])
        for r in rules.values()
        if {"ExpirationInDays", "NoncurrentVersionExpiration", "ExpiredObjectDeleteMarker"} & set(r)
    }
    assert expiring == {json.dumps({"Fn::Sub": "${ArchivePrefix}%s/" % a}) for a in ("receipts", "claims")}


def test_each_role_lists_exact_actions_on_exact_resources_with_a_purpose_each():
    assert set(roles(TEMPLATE)) == {"EnqueueRole", "PollRole", "CopyRole", "TickRole"}
    for role, statements in roles(TEMPLATE).items():
        purposes = [s["Sid"] for s in statements]
        assert len(set(purposes)) == len(purposes), role
        for statement in statements:
            assert statement["Effect"] == "Allow"
            assert not any("*" in action for action in listed(statement["Action"])), (role, statement["Sid"])
            for resource in listed(statement["Resource"]):
                text = json.dumps(resource)
                assert resource != "*", (role, statement["Sid"])
                # A star stands only for the objects below one area of the archive.
                assert re.search(r"\*", text) is None or re.search(r"\}[a-z]+/\*\"", text), (role, text)


def test_functions_can_tell_an_absent_key_from_a_forbidden_one():
    # Without s3:ListBucket S3 answers 403 for both; the local AWS answers 404.
    for name in ("EnqueueRole", "PollRole", "CopyRole"):
        grants = [s for s in roles(TEMPLATE)[name] if "s3:ListBucket" in listed(s["Action"])]
        assert len(grants) == 1 and "Condition" not in grants[0]


def test_roles_may_use_the_buckets_key_for_s3_alone():
    # The local AWS does not evaluate keys.
    for name, actions in {
        "EnqueueRole": ["kms:Decrypt"],
        "PollRole": ["kms:Decrypt", "kms:GenerateDataKey"],
        "CopyRole": ["kms:Decrypt", "kms:GenerateDataKey"],
    }.items():
        [key] = [s for s in roles(TEMPLATE)[name] if s["Sid"] == "UseTheBucketsKey"]
        assert key["Action"] == actions
        assert key["Resource"] == {"Ref": "KmsKeyArn"}
        assert "kms:ViaService" in key["Condition"]["StringEquals"]


def test_only_poll_and_copy_read_the_credentials_and_none_is_in_an_environment():
    readers = {
        name
        for name, statements in roles(TEMPLATE).items()
        if any("secretsmanager:GetSecretValue" in listed(s["Action"]) for s in statements)
    }
    assert readers == {"PollRole", "CopyRole"}
    for name, properties in FUNCTIONS.items():
        variables = properties["Environment"]["Variables"]
        assert ("CREDENTIALS_SECRET_ARN" in variables) == (f"{name}Role" in readers)


def test_every_variable_of_the_functions_is_read_by_the_code():
    source = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.rs"))
    for properties in FUNCTIONS.values():
        for variable in properties["Environment"]["Variables"]:
            assert f'"{variable}"' in source, f"{variable} is set in the template and nothing reads it"


def test_every_parameter_is_described_and_used():
    used = set(references(TEMPLATE["Resources"])) | set(references(TEMPLATE["Conditions"]))
    grouped = {
        p for g in TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"] for p in g["Parameters"]
    }
    assert grouped == set(TEMPLATE["Parameters"])
    for name, parameter in TEMPLATE["Parameters"].items():
        assert name in used, name
        assert parameter["Description"].endswith("."), name
    required = {n for n, p in TEMPLATE["Parameters"].items() if "Default" not in p}
    assert required == {"HostUrl", "AppIds", "CredentialsSecretArn"}


def test_what_weakens_the_archive_is_off_by_default():
    defaults = {n: p.get("Default") for n, p in TEMPLATE["Parameters"].items()}
    assert defaults["AllowPrivateNetwork"] == "false"
    assert defaults["LocalAws"] == "false"
    assert TEMPLATE["Conditions"]["OnAws"] == {"Fn::Equals": [{"Ref": "LocalAws"}, "false"]}


def test_the_schedule_sends_no_input_and_failures_of_a_tick_are_kept():
    # With an Input the scheduled time would not arrive.
    target = RESOURCES["Tick"]["Properties"]["Target"]
    assert "Input" not in target
    assert target["DeadLetterConfig"]["Arn"] == {"Fn::GetAtt": ["TickDeadLetters", "Arn"]}
    assert target["RetryPolicy"]["MaximumRetryAttempts"] > 0
    assert RESOURCES["Tick"]["Properties"]["FlexibleTimeWindow"] == {"Mode": "OFF"}
    failure = FUNCTIONS["Enqueue"]["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]
    assert failure["Destination"] == {"Fn::GetAtt": ["TickDeadLetters", "Arn"]}


def test_each_function_logs_as_it_is_to_a_group_of_its_own_that_is_not_kept_for_ever():
    for name, properties in FUNCTIONS.items():
        # A level on the platform's side would drop the metrics among the lines.
        assert properties["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": {"Ref": f"{name}Logs"}}
        group = RESOURCES[f"{name}Logs"]["Properties"]
        assert group["LogGroupName"] == {"Fn::Sub": "/aws/lambda/${AWS::StackName}-%s" % name.lower()}
        assert group["RetentionInDays"] == {"Ref": "LogRetentionDays"}


def periods(alarm):
    if "Period" in alarm:
        return [alarm["Period"]]
    return [m["MetricStat"]["Period"] for m in alarm["Metrics"] if "MetricStat" in m]


def test_the_dashboard_shows_every_alarm():
    body = RESOURCES["Overview"]["Properties"]["DashboardBody"]["Fn::Sub"]
    for alarm in ALARMS.values():
        name = alarm["AlarmName"]["Fn::Sub"]
        assert ":alarm:" + name + '"' in body


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_can_look_back_that_far_says_what_to_do_and_reaches_a_person(name):
    alarm = ALARMS[name]
    assert max(periods(alarm)) * alarm["EvaluationPeriods"] <= 7 * 86400
    description = alarm["AlarmDescription"]["Fn::Sub"]
    assert re.search(r"\b(Run|run|Read|Look|look|Raise|Mend|names)\b", description), description
    assert len(description) < 900 # CloudWatch takes 1,024 characters, names of the stack included
    assert alarm["AlarmActions"] == {"Fn::If": ["HasEmail", [{"Ref": "Alarms"}], {"Ref": "AWS::NoValue"}]}


def runbook():
    return (ROOT / "docs" / "RUNBOOK.md").read_text()


def rows(text, section):
    """The first cells of the table of a section, its heading aside."""
    [table] = re.findall(rf"(?ms)^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text)
    cells = re.findall(r"(?m)^\| (.*?) \|", table)
    assert len(cells) > 3, section
    return cells[1:]


def test_the_runbook_has_an_entry_for_every_alarm():
    names = {a["AlarmName"]["Fn::Sub"].removeprefix("${AWS::StackName}-") for a in ALARMS.values()}
    assert {cell.strip("`") for cell in rows(runbook(), "Alarms")} == names


def test_the_runbook_has_an_entry_for_every_failure_of_the_promises():
    promised = rows((ROOT / "PROMISES.md").read_text(), "What happens when …")
    assert rows(runbook(), "Failures") == promised


def test_every_link_within_the_runbook_leads_somewhere():
    def anchor(heading):
        return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")

    anchors = {anchor(heading) for heading in re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?s)```.*?```", "", runbook()))}
    assert set(re.findall(r"\]\(#([^)]*)\)", runbook())) <= anchors


def test_dead_letters_are_told_when_they_arrive_not_as_long_as_they_lie_there():
    expression = ALARMS["DeadLettersGrow"]["Metrics"][0]["Expression"]
    # DIFF alone has no first value after a quiet time.
    assert expression == "MAX([DIFF(FILL(poll,0)),DIFF(FILL(copy,0)),DIFF(FILL(tick,0))])"


def test_a_missing_tick_is_an_alarm_and_missing_other_figures_are_not():
    assert {n: a["TreatMissingData"] for n, a in ALARMS.items()} == {
        n: "breaching" if n == "NoTick" else "notBreaching" for n in ALARMS
    }


def test_the_duration_alarm_knows_each_functions_limit():
    expression = ALARMS["DurationNearLimit"]["Metrics"][0]["Expression"]
    for name, properties in FUNCTIONS.items():
        # Percent of a limit in seconds, from milliseconds.
        assert f"FILL({name.lower()},0)/{properties['Timeout'] * 10}" in expression


def test_alarms_and_dashboard_show_the_metrics_that_the_code_writes():
    source = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.rs"))
    shown = {a["MetricName"] for a in ALARMS.values() if "MetricName" in a}
    body = RESOURCES["Overview"]["Properties"]["DashboardBody"]["Fn::Sub"]
    for widget in json.loads(re.sub(r"\$\{[^}]*\}", "x", body))["widgets"]:
        own = False
        for metric in widget["properties"].get("metrics", []):
            own = metric[0].startswith("InsightsArchive") or (own and metric[0] == ".")
            if own:
                shown.add(metric[1])
    assert shown == {
        "Bytes", "CopyBytesPerSecond", "Discrepancies", "ExportSeconds", "ExportsCommitted", "ExportsFailed",
        "ExportsStarted", "Fragments", "HostRefusals", "LooksPerJob", "MessagesFailed", "Quarantined", "Records",
        "Ticks", "WeeksMissing",
    }  # fmt: skip
    for name in shown:
        assert f'"{name}"' in source, f"{name} is shown and nothing writes it"
    costs = (ROOT / "infra" / "cost.py").read_text()
    assert f"\nMETRICS = {len(shown)} " in costs


def test_what_has_arrived_is_not_told_to_be_over():
    arrivals = {"DeadLettersGrow", "DiscrepanciesFound"}
    assert {name for name, alarm in ALARMS.items() if "OKActions" not in alarm} == arrivals


def test_a_message_that_fails_again_and_again_is_an_alarm():
    alarm = ALARMS["FunctionErrors"]
    watched = {
        (metric["MetricStat"]["Metric"]["MetricName"], metric["Id"]) for metric in alarm["Metrics"] if "MetricStat" in metric
    }
    assert watched == {("Errors", "enqueue"), ("Errors", "poll"), ("Errors", "copy"), ("MessagesFailed", "messages")}
    assert all(f"FILL({id},0)" in alarm["Metrics"][0]["Expression"] for _, id in watched)
    # It comes again after its queue's visibility time-out, five times: in two of the periods that the alarm looks back at.
    [period] = set(periods(alarm))
    assert (alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"]) == (2, 4)
    for queue in ("PollQueue", "CopyQueue"):
        again = RESOURCES[queue]["Properties"]["VisibilityTimeout"]
        assert period / 4 < again <= period * 3


def test_alarms_can_publish_to_their_topic():
    # One encrypted with the AWS-managed key they could not.
    assert "KmsMasterKeyId" not in RESOURCES["Alarms"]["Properties"]
    allow = RESOURCES["AlarmsPolicy"]["Properties"]["PolicyDocument"]["Statement"][0]
    assert allow["Principal"] == {"Service": "cloudwatch.amazonaws.com"} and allow["Action"] == "sns:Publish"


ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:kore/insights-AbC123"
TAKEN = {
    "HostUrl": ["https://platform.kore.ai", "https://bots.example.com:8443/", "http://127.0.0.1:4000"],
    "AppIds": ["st-1a2b", "st-1a2b,st_3C"],
    "CredentialsSecretArn": [ARN, ARN.replace("aws", "aws-us-gov", 1)],
    "Events": ["all", "all,thumbsUp,thumbsDown"],
    "Schedule": ["rate(1 minute)", "rate(12 hours)", "cron(0 6 * * ? *)", "cron(*/10 5,6 ? * MON-FRI 2025-2030)"],
    "ArchiveSince": ["", "2025-01-20"],
    "FileHosts": ["", "files.example.com", "*.kore.ai,*.korebots.com"],
    "ArchiveBucket": ["", "my-archive.example-1"],
    "ArchivePrefix": ["", "kore/", "team_1/kore.insights/"],
    "KmsKeyArn": ["", "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"],
    "AlarmEmail": ["", "a.person+kore@example.com"],
    "SubnetIds": ["", "subnet-0123456789abcdef0"],
    "SecurityGroupIds": ["", "sg-01234567"],
}
REFUSED = {
    "HostUrl": ["", "platform.kore.ai", "https://platform.kore.ai/api", "https://u:p@platform.kore.ai",
                "https://platform.kore.ai?x=1", "ftp://platform.kore.ai", "https://platform.kore.ai:0",
                "https://-x", "https://a b"],
    "AppIds": ["", "st/1", "st.1", "st-1, st-2", "st-1,", ",st-1", "st-ä", "x" * 129],
    "CredentialsSecretArn": ["", "kore/insights", ARN[:-7], ARN + "/*", ARN.replace("secretsmanager", "ssm"), "*"],
    "Events": ["", "thumbsup", "all,", "thumbs", "all, thumbsUp", "all,all,all,all"],
    "Schedule": ["", "daily", "rate(0 days)", "rate(1 days)", "rate(2 day)", "cron(0 6 * * *)", "0 6 * * ? *",
                 "at(2025-01-01T00:00:00)"],
    "ArchiveSince": ["2025-13-01", "2025-1-1", "20250120", "2025-01-32", "1969-01-01", "last week"],
    "FileHosts": ["https://x.example.com", "*", "*.", "a,,b", "a b", "x.example.com/y", "*.*.x"],
    "ArchiveBucket": ["arn:aws:s3:::x", "Upper", "a_b", "ab", "-abc", "s3://x"],
    "ArchivePrefix": ["/kore/", "kore", "a//", "a b/", "ä/", "*/"],
    "KmsKeyArn": ["alias/x", "arn:aws:kms:eu-central-1:123456789012:alias/x", "1234abcd"],
    "AlarmEmail": ["person", "a@b", "a@b.c,d@e.f", "a b@c.de"],
    "SubnetIds": ["subnet-xyz", "sg-01234567"],
    "SecurityGroupIds": ["default", "subnet-01234567"],
}  # fmt: skip


def takes(parameter, value):
    # A pattern of CloudFormation must match the whole value.
    return re.fullmatch(TEMPLATE["Parameters"][parameter]["AllowedPattern"], value) is not None


def test_every_free_text_is_bounded_by_a_pattern():
    free = {n for n, p in TEMPLATE["Parameters"].items() if p["Type"] != "Number" and "AllowedValues" not in p}
    assert free == set(TAKEN) == set(REFUSED)
    bounded = {"MinValue", "MaxValue"}
    for name, parameter in TEMPLATE["Parameters"].items():
        if parameter["Type"] == "Number" and "AllowedValues" not in parameter:
            assert bounded <= set(parameter), name


@pytest.mark.parametrize("parameter", TAKEN)
def test_sense_is_taken(parameter):
    for value in TAKEN[parameter]:
        assert takes(parameter, value), value


@pytest.mark.parametrize("parameter", REFUSED)
def test_nonsense_is_refused(parameter):
    for value in REFUSED[parameter]:
        assert not takes(parameter, value), value
