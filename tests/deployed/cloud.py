"""A local AWS with IAM enforced, in a folder of its own and on a port of its own; ends what it started."""

import datetime
import ipaddress
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import boto3
from botocore.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ROOT / "target" / "tools"
REGION = "us-east-1"


def until(what, check, seconds, every=0.5):
    """Waits until `check` answers something, and returns it."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}; last seen: {found!r}")
        time.sleep(every)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _certificates(folder):
    """A root and a certificate for 127.0.0.1: the bucket and the queues refuse plain HTTP here as they do on AWS."""
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)

    def named(text):
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    def signed(subject, key, issuer, issuer_key, ca):
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
                ),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
            )
            .add_extension(
                x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False), critical=True
            )
        )
        return builder.sign(issuer_key, hashes.SHA256())

    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = signed("test root", root_key, "test root", root_key, True)
    leaf = signed("127.0.0.1", key, "test root", root_key, False)
    (folder / "root.pem").write_bytes(root.public_bytes(serialization.Encoding.PEM))
    (folder / "leaf.pem").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    (folder / "leaf.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder / "root.pem", folder / "leaf.pem", folder / "leaf.key"


class Cloud:
    def __init__(self, folder):
        folder.mkdir(parents=True)
        (folder / "tmp").mkdir()
        root, leaf, key = _certificates(folder)
        self.port = free_port()
        self.endpoint = f"https://127.0.0.1:{self.port}"
        self.root = str(root)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("AWS_")},
            "AWS_ENDPOINT_URL": self.endpoint,  # the emulator hands it to the functions
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CA_BUNDLE": self.root,
            "SSL_CERT_FILE": self.root,
            "SAM_CLI_TELEMETRY": "0",
        }
        self.log = folder / "ministack.log"
        self.process = subprocess.Popen(
            [sys.executable, ROOT / "tests" / "deployed" / "local_aws.py"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that the functions that it started end with it
            env={
                **self.environment,
                "BIND_HOST": "127.0.0.1",
                "GATEWAY_PORT": str(self.port),
                "IOT_MTLS_ENABLED": "0",
                "AUTH": "true",
                "USE_SSL": "1",
                "MINISTACK_SSL_CERT": str(leaf),
                "MINISTACK_SSL_KEY": str(key),
                "STATE_DIR": str(folder / "state"),
                "TMPDIR": str(folder / "tmp"),
            },
        )
        try:
            until("the local AWS answers", self._answers, 60)
        except BaseException:
            self.close()
            raise

    def _answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the local AWS ended:\n{self.log.read_text()[-2000:]}")
        try:
            return self.client("sts").get_caller_identity()
        except Exception:  # not up yet
            return None

    def client(self, service):
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            verify=self.root,
            config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    def close(self):
        for stop in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, stop)
                self.process.wait(3)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        self.process.wait(10)

    def sam(self, *arguments, **environment):
        """Runs the real SAM CLI, from the environment that `setup.sh` made."""
        path = f"{TOOLS / 'sam' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            ["sam", *map(str, arguments)],
            cwd=ROOT,
            env={**self.environment, "PATH": path, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def processes(self, handler):
        """The ids of the processes that run a function."""
        found = []
        for folder in pathlib.Path("/proc").iterdir():
            try:
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                mine = parent == self.process.pid and f"_HANDLER={handler}".encode() in (
                    folder / "environ"
                ).read_bytes().split(b"\0")
            except (OSError, ValueError, IndexError):
                continue
            if mine:
                found.append(int(folder.name))
        return found


class Stack:
    """The deployed template."""

    def __init__(self, cloud, name, built, parameters):
        self.cloud, self.name, self.built = cloud, name, built
        self.parameters = {}
        self.s3, self.sqs = cloud.client("s3"), cloud.client("sqs")
        self.functions, self.logs = cloud.client("lambda"), cloud.client("logs")
        self.deploy(**parameters)

    def deploy(self, **parameters):
        self.parameters.update(parameters)
        done = deploy(self.cloud, self.name, self.built, self.parameters)
        assert done.returncode == 0, f"sam deploy failed:\n{done.stdout}\n{done.stderr}"
        [stack] = self.cloud.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"]
        self.outputs = {o["OutputKey"]: o["OutputValue"] for o in stack["Outputs"]}
        self.bucket = self.outputs["ArchiveBucketName"]

    def invoke(self, function, event):
        """The answer of a function, and whether it failed."""
        answer = self.functions.invoke(FunctionName=f"{self.name}-{function}", Payload=json.dumps(event))
        return json.loads(answer["Payload"].read()), "FunctionError" in answer

    def lines(self, function):
        """Every line that a function has logged, oldest first."""
        found = []
        for page in self.logs.get_paginator("filter_log_events").paginate(
            logGroupName=f"/aws/lambda/{self.name}-{function}"
        ):
            found += page["events"]
        return [event["message"] for event in sorted(found, key=lambda event: event["timestamp"])]

    def keys(self, prefix):
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def manifests(self, app):
        return {
            key.rsplit("week=", 1)[1].removesuffix(".json"): json.loads(self.read(key))
            for key in self.keys(f"manifests/app={app}/")
        }

    def read(self, key):
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def send(self, queue, *bodies):
        """Sends bodies to a work queue in one batch."""
        entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies)]
        answer = self.sqs.send_message_batch(QueueUrl=self.outputs[f"{queue}QueueUrl"], Entries=entries)
        assert not answer.get("Failed")

    def take_dead(self, queue):
        """Takes one dead letter, or None."""
        url = self.outputs[f"{queue}DeadLettersUrl"]
        answer = self.sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"], MaxNumberOfMessages=1)
        for message in answer.get("Messages", []):
            self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            attributes = message.get("MessageAttributes", {})
            return message["Body"], {name: value["StringValue"] for name, value in attributes.items()}
        return None


def build(cloud, folder):
    """`sam build` of the real template, with a cheaper profile than the one that is shipped."""
    done = cloud.sam(
        "build",
        "--no-cached",
        "--build-dir",
        folder / "build",
        CARGO_TARGET_DIR=str(folder / "cargo"),
        CARGO_PROFILE_RELEASE_LTO="off",
        CARGO_PROFILE_RELEASE_CODEGEN_UNITS="16",
        CARGO_PROFILE_RELEASE_OPT_LEVEL="1",
    )
    assert done.returncode == 0, f"sam build failed:\n{done.stdout}\n{done.stderr}"
    return folder / "build" / "template.yaml"


def deploy(cloud, name, built, parameters):
    return cloud.sam(
        "deploy",
        "--template-file",
        built,
        "--stack-name",
        name,
        "--resolve-s3",
        "--capabilities",
        "CAPABILITY_IAM",
        "--no-confirm-changeset",
        "--no-progressbar",
        "--no-fail-on-empty-changeset",
        "--parameter-overrides",
        *(f'{key}="{value}"' for key, value in parameters.items()),
    )
