"""A control plane and its API, for what is measured under one: `lateen serve` on Unix sockets."""

import http.client
import json
import os
import socket
import time

from .processes import Failed, tail_of

READY_SECONDS = 20.0


class Control:
    """`lateen serve` in a directory of its own, which is the source of config itself (no folder)."""

    def __init__(self, processes, lateen, name, cpus):
        self.processes = processes
        self.lateen = lateen
        self.directory = os.path.join(processes.directory, name)
        self.cpus = cpus
        self.name = name
        os.makedirs(self.directory)
        self.start()

    @property
    def socket(self):
        return os.path.join(self.directory, "proxies.sock")

    @property
    def api(self):
        return os.path.join(self.directory, "api.sock")

    def start(self):
        command = [self.lateen, "serve", "--socket", self.socket, "--api", f"unix:{self.api}",
                   "--state", os.path.join(self.directory, "state")]
        self.process = self.processes.start(f"serve-{self.name}", command, self.cpus)
        until(lambda: self.ask("GET", "/v1/status"), self.process)

    def ask(self, method, path, body=None):
        """One request to the API on a new connection: what it answers, as JSON."""
        with Api(self.api) as api:
            return api.ask(method, path, body)

    def apply(self, text, wait_s=60, **more):
        """Applies a text; the answer. Raises Failed unless every proxy runs it."""
        answer = self.ask("POST", "/v1/apply", apply_request(text, wait_s, **more))
        if answer["verdict"] != ("live" if wait_s else "not-waited"):
            raise Failed(f"apply: {json.dumps(answer)[:500]}")
        return answer

    def proxy_status(self, name):
        proxies = self.ask("GET", "/v1/status")["proxies"]
        return next(proxy for proxy in proxies if proxy["name"] == name)


def apply_request(text, wait_s, prune=False, message=""):
    return {"files": [{"name": "measured.yaml", "text": text}], "prune": prune,
            "how": {"wait_s": wait_s, "message": message}}


class Api(http.client.HTTPConnection):
    """A connection to an API on a Unix socket."""

    def __init__(self, path, timeout=120):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def ask(self, method, path, body=None):
        text = None if body is None else json.dumps(body)
        self.request(method, path, text, {"Content-Type": "application/json"} if text else {})
        response = self.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            raise Failed(f"{method} {path}: {response.status} {json.dumps(answer)[:500]}")
        return answer


class Proxy:
    """A running `lateen-proxy run`; its admin address is known once it says so."""

    def __init__(self, control, lateen_proxy, name, engine, workers, cpus):
        self.control = control
        self.state = os.path.join(control.directory, f"proxy-{name}")
        command = [lateen_proxy, "run", "--name", name, "--control", control.socket, "--state", self.state,
                   "--workers", str(workers), "--engine", engine, "--pin", "off"]
        self.process = control.processes.start(f"{control.name}-proxy-{name}", command, cpus)
        self.admin = until(self._admin, self.process)

    def _admin(self):
        for line in tail_of(self.process).splitlines():
            if line.startswith("admin "):
                return int(line.rpartition(":")[2])
        raise Failed("it has not said its admin address")

    def metric(self, name, **labels):
        """The sum of a metric's series that have these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        total = 0.0
        for line in self.metrics().splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(pair in series for pair in wanted):
                total += float(value)
        return total

    def metrics(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=10)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return text

    def stop(self):
        self.control.processes.stop(self.process)


def until(look, process):
    """What `look` says once it does not fail any more."""
    end = time.monotonic() + READY_SECONDS
    while True:
        try:
            return look()
        except (OSError, Failed, http.client.HTTPException, StopIteration) as error:
            if process.poll() is not None:
                raise Failed(f"{process.title} exited: {tail_of(process)[-500:].strip()}") from None
            if time.monotonic() > end:
                raise Failed(f"{process.title} is not ready: {error}") from None
        time.sleep(0.02)


# Config, as text.

def document(kind, name, spec, namespace="default", api="lateen.dev/v1alpha1"):
    """One object as a document of JSON, which is YAML too."""
    return json.dumps({"apiVersion": api, "kind": kind,
                       "metadata": {"name": name, "namespace": namespace}, "spec": spec}) + "\n---\n"


def proxy(name, listeners, outbound=None):
    spec = {"listeners": listeners, **({"outbound": outbound} if outbound else {})}
    return document("Proxy", name, spec)


def service(name, endpoints, namespace="default"):
    """`endpoints`: (address, port) each; the service's own port is 80."""
    return document("Service", name, {
        "ports": [{"name": "http", "port": 80, "protocol": "HTTP"}],
        "endpoints": [{"address": address, "port": port} for address, port in endpoints],
    }, namespace)


def gateway(name, port):
    return document("Gateway", name, {"gatewayClassName": "lateen", "listeners": [
        {"name": "http", "port": port, "protocol": "HTTP"}]}, api="gateway.networking.k8s.io/v1")


def http_route(name, spec):
    return document("HTTPRoute", name, spec, api="gateway.networking.k8s.io/v1")
