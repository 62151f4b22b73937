"""Python with boto3, as many would write the copy: `peers.py stream|count FILES_URL BUCKET FRAGMENTS AT_ONCE`; and a
function's start: `peers.py start`."""

import hashlib
import json
import os
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import boto3


def copy(how, files, bucket, fragments, at_once):
    s3 = boto3.client("s3")

    def stream(number):
        with urllib.request.urlopen(f"{files}/{number}") as body:
            s3.upload_fileobj(body, bucket, f"streamed/{number}")

    def count(number):
        with urllib.request.urlopen(f"{files}/{number}") as answer:
            body = answer.read()
        metadata = {"record-count": str(len(json.loads(body))), "sha256": hashlib.sha256(body).hexdigest()}
        s3.put_object(Bucket=bucket, Key=f"counted/{number}", Body=body, Metadata=metadata)

    with ThreadPoolExecutor(int(at_once)) as pool:
        list(pool.map({"stream": stream, "count": count}[how], range(1, int(fragments) + 1)))


def start():
    for service in ("s3", "sqs"):
        boto3.client(service)
    urllib.request.urlopen(f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime/invocation/next")


if __name__ == "__main__":
    start() if sys.argv[1] == "start" else copy(*sys.argv[1:])
