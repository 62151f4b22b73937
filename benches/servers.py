"""The servers on loopback that everything is measured against: the vendor's files, a store that counts, Lambda's
runtime. Each runs in a process of its own, so that its work is nobody else's."""

import json
import os
import re
import socket
import threading
import time
from collections import Counter
from multiprocessing import get_context

WEEK = "2025-01-20"
JOB = "fj-bench"


class Server:
    """A server in a process of its own; `ask` gets what it has counted."""

    def __init__(self, serve, *args):
        # Spawned, not forked: a fork would share this process's memory and its threads.
        context = get_context("spawn")
        here, there = context.Pipe()
        self.process = context.Process(target=run, args=(serve, there, *args), daemon=True)
        self.process.start()
        self.pipe = here
        self.port = here.recv()
        self.url = f"http://127.0.0.1:{self.port}"

    def counted(self):
        """What it has counted since the last time."""
        self.pipe.send("counted")
        return self.pipe.recv()

    def end(self):
        self.process.kill()
        self.process.join()


def run(serve, pipe, *args):
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    pipe.send(listener.getsockname()[1])
    counted, lock = Counter(), threading.Lock()

    def count(what):
        with lock:
            counted[what] += 1

    def accept():
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            handler = serve(*args)
            threading.Thread(target=converse, args=(connection, handler, count), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    while True:
        pipe.recv()
        with lock:
            pipe.send(dict(counted))
            counted.clear()


class Request:
    """A request whose head has been read, and the way to its body."""

    def __init__(self, connection, rest):
        self.connection, self.rest = connection, rest
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = first.split(" ", 2)
        self.path, _, self.query = self.target.partition("?")
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.length = int(self.headers.get("content-length", 0))
        if self.headers.get("expect"):
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    def body(self):
        """The whole of it."""
        parts = [self.rest[: self.length]]
        left = self.length - len(parts[0])
        while left:
            part = self.connection.recv(min(left, 1 << 20))
            if not part:
                raise ConnectionError
            parts.append(part)
            left -= len(part)
        self.rest = self.rest[self.length :]
        return b"".join(parts)

    def drop_body(self):
        """Reads it into nothing."""
        left = self.length - len(self.rest)
        self.rest = self.rest[self.length :] if left < 0 else b""
        buffer = bytearray(1 << 20)
        while left > 0:
            got = self.connection.recv_into(buffer, min(left, len(buffer)))
            if not got:
                raise ConnectionError
            left -= got

    def answer(self, status, body=b"", **headers):
        words = {200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 404: "Not Found", 412: "Precondition Failed"}
        lines = [f"HTTP/1.1 {status} {words[status]}"]
        headers.setdefault("content_length", len(body))
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        self.connection.sendall(head if self.method == "HEAD" else head + body)


def converse(connection, handler, count):
    rest = b""
    try:
        while True:
            while b"\r\n\r\n" not in rest:
                more = connection.recv(65536)
                if not more:
                    return
                rest += more
            request = Request(connection, rest)
            handler(request, count)
            rest = request.rest
    except (ConnectionError, OSError):
        pass
    finally:
        connection.close()


def vendor(path, fragments, records, pause):
    """The vendor: looks at the one job, whose files all hold what the file at `path` holds. With a `pause`, each
    file comes in pieces of 64 KiB with so many seconds between them."""
    size = os.path.getsize(path)

    def handler(request, count):
        if request.path.startswith("/files/"):
            count("GET file")
            request.drop_body()
            head = (
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                f"content-length: {size}\r\n\r\n"
            ).encode()
            request.connection.sendall(head)
            with open(path, "rb") as file:
                offset = 0
                while offset < size:
                    most = size - offset if not pause else 65536
                    offset += os.sendfile(request.connection.fileno(), file.fileno(), offset, most)
                    if pause:
                        time.sleep(pause)
            return
        count("GET job")
        request.drop_body()
        base = f"http://{request.headers['host']}/files"
        answer = {
            "_id": JOB,
            "status": "SUCCESS",
            "percentageDone": 100,
            "createdOn": "2025-01-27T06:00:02.140Z",
            "analyticsFragments": [
                {"fileId": f"file-{n}", "fileName": f"part_{n}", "fileUrl": f"{base}/{n}", "recordCount": records}
                for n in range(1, fragments + 1)
            ],
            "store": {"totalFiles": fragments, "totalRecords": fragments * records},
        }
        request.answer(200, json.dumps(answer).encode(), content_type="application/json")

    return handler


STORED = {}
LOCK = threading.Lock()


def store():
    """An S3 that keeps small documents, drops the bytes of data, and counts what is asked of it by kind of object."""

    def handler(request, count):
        bucket_and_key = request.path.lstrip("/").split("/", 1)
        key = bucket_and_key[1] if len(bucket_and_key) == 2 else ""
        kind = key.split("/", 1)[0] or "bucket"
        query = dict(re.findall(r"([^&=]+)=?([^&]*)", request.query))
        is_data = kind == "data"
        what = request.method
        if "uploads" in query:
            what = "create upload"
        elif request.method == "POST":
            what = "complete upload"
        elif "partNumber" in query:
            what = "PUT part"
        elif request.method == "GET" and not key:
            what = "list"
        count(f"{what} {kind}")
        body = b""
        if is_data:
            request.drop_body()
        else:
            body = request.body()
        etag = f'"{len(body):032x}"'
        xml = {"content_type": "application/xml"}
        if what == "create upload":
            answer = "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
            request.answer(200, answer.encode(), **xml)
        elif what == "complete upload":
            answer = "<CompleteMultipartUploadResult><ETag>&quot;1&quot;</ETag></CompleteMultipartUploadResult>"
            request.answer(200, answer.encode(), **xml)
        elif what == "list":
            request.answer(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>", **xml)
        elif request.method == "PUT":
            with LOCK:
                if not is_data:
                    STORED[key] = body
            request.answer(200, etag=etag)
        else:
            found = STORED.get(key)
            if found is None:
                request.answer(404, b"<Error><Code>NoSuchKey</Code></Error>", **xml)
            else:
                request.answer(200, found, etag=f'"{len(found):032x}"')

    return handler


def runtime():
    """Lambda's runtime and whatever else a function calls at its start: notes when the first request comes, and lets
    the function wait for its event for ever. Anything else that is asked is counted and answered with nothing."""

    def handler(request, count):
        count(f"{request.method} {request.path} {time.clock_gettime_ns(time.CLOCK_MONOTONIC)}")
        request.drop_body()
        if request.path.endswith("/invocation/next"):
            time.sleep(3600)
        request.answer(200, b"{}")

    return handler
