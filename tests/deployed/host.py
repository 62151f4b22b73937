"""The shipped simulated host, one process per plan, behind one address that tells apps apart."""

import http.client
import http.server
import json
import re
import subprocess
import threading
import urllib.request

from cloud import free_port, until

# Those of the simulated host's apps.
CREDENTIALS = {"clientId": "cs-demo", "clientSecret": "demo-secret"}


class Host:
    """`insights-archive simulate` with options of its own."""

    def __init__(self, program, log, *options):
        self.port = free_port()
        self.process = subprocess.Popen(
            [program, "simulate", "--port", str(self.port), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log.open("ab"),
        )
        try:
            until("the simulated host answers", self._answers, 30, every=0.1)
        except BaseException:
            self.close()
            raise

    def _answers(self):
        assert self.process.poll() is None, "the simulated host ended"
        try:
            return self.stats() is not None
        except OSError:
            return False

    def stats(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/_control/stats", timeout=5) as answer:
            return json.load(answer)

    def close(self):
        self.process.terminate()
        self.process.wait(10)


class Front:
    """Passes each app's API calls on to its own host; files come from the hosts directly."""

    def __init__(self):
        front = self
        self.hosts = {}
        self.eager = set()
        self.calls = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self._pass_on(b"")

            def do_POST(self):
                self._pass_on(self.rfile.read(int(self.headers["content-length"])))

            def _pass_on(self, body):
                status, headers, answer = front.ask(self.command, self.path, self.headers, body)
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def serve(self, app, host, eager=False):
        """Lets an app live on a host. An eager one's jobs always look nearly done, so that they are looked at often."""
        self.hosts[app] = host
        if eager:
            self.eager.add(app)

    def starts(self, app):
        return sum(1 for method, path in self.calls if method == "POST" and f"/{app}/" in path)

    def looks(self, app):
        return sum(1 for method, path in self.calls if method == "GET" and f"/{app}/" in path)

    def ask(self, method, path, headers, body):
        self.calls.append((method, path))
        found = re.match(r"/api/public/bot/([^/]+)/", path)
        if not found or found[1] not in self.hosts:
            return 404, [], b"{}"
        connection = http.client.HTTPConnection("127.0.0.1", self.hosts[found[1]].port, timeout=30)
        try:
            kept = {name: value for name, value in headers.items() if name.lower() in ("auth", "content-type")}
            connection.request(method, path, body or None, kept)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            return 502, [], b""
        finally:
            connection.close()
        if found[1] in self.eager and b'"INPROGRESS"' in content:
            content = json.dumps({**json.loads(content), "percentageDone": 99.9}).encode()
        passed = [(n, v) for n, v in answer.getheaders() if n.lower() in ("content-type", "retry-after")]
        return answer.status, passed, content

    def close(self):
        self.server.shutdown()
        self.server.server_close()
