"""The rows of the table: the work, who takes part, and what is to be reached."""

from dataclasses import dataclass, field

HTTP = ("floor", "nginx", "haproxy", "lateen-uring", "lateen-epoll")
TCP = ("pipe-copy", "nginx-stream", "haproxy-tcp", "lateen-uring-tcp", "lateen-epoll-tcp")
LOGGED = ("lateen-uring-log", "lateen-epoll-log")
BULK = ("pipe-splice", "floor-splice", "nginx", "haproxy", "lateen-uring", "lateen-epoll")

RUNTIMES = ("floor", *(f"forward-{name}" for name in (
    "lateen-ring", "monoio", "monoio-defer", "glommio", "compio", "compio-defer", "tokio", "epoll")))
RUNTIMES_BULK = tuple(f"forward-{name}" for name in (
    "lateen-ring", "monoio", "glommio", "compio", "tokio", "epoll",
    "lateen-ring-splice", "monoio-splice", "tokio-splice", "epoll-splice"))

# The floor is badly written, and the row says nothing, when it costs more than this of nginx.
FLOOR_OF_NGINX_MAX = 0.68


@dataclass(frozen=True)
class Row:
    """One kind of work. `targets` maps a peer's name to the ratio to stay under; the peer `best` is
    the cheaper one of nginx and haproxy in each round."""

    name: str
    work: str
    body_bytes: int = 100
    connections: int = 64
    header_bytes: int = 0
    close_every: int = 0
    reconnect: bool = False
    host: str | None = None
    peers: tuple = HTTP
    targets: dict = field(default_factory=dict)
    log_targets: dict = field(default_factory=dict)
    base: str = "floor"
    kind: str = "load"
    # Whether it is run when no row is asked for by name.
    usual: bool = True

    @property
    def emulable(self):
        """Whether an emulator's count of instructions says something: it counts one for each byte of
        a copy that takes a CPU one instruction, and its time is not a clock's."""
        return self.kind in ("load", "generators") and self.body_bytes < 4096

    @property
    def path(self):
        return f"/{self.body_bytes}"

    def header_arguments(self):
        """wrk's arguments for the host, if it is not the address, and for `header_bytes` of request
        headers in 30 fields."""
        arguments = ["-H", f"Host: {self.host}"] if self.host else []
        for index in range(30 if self.header_bytes else 0):
            name = f"x-field-{index:02}"
            value_bytes = self.header_bytes // 30 - len(name) - len(": \r\n")
            arguments += ["-H", f"{name}: {'v' * value_bytes}"]
        return arguments


ROWS = [
    Row("keepalive-64", "H1 keep-alive, 64 connections, 100 B", peers=HTTP + LOGGED,
        targets={"floor": 1.15}, log_targets={"floor": 1.30}),
    Row("keepalive-1", "H1 keep-alive, 1 connection, 100 B", connections=1,
        targets={"floor": 1.15, "nginx": 0.80}),
    Row("keepalive-512", "H1 keep-alive, 512 connections, 100 B", connections=512,
        targets={"floor": 1.15, "nginx": 0.80}),
    Row("headers-2k", "H1 keep-alive, 2 KiB of request headers in 30 fields", header_bytes=2048,
        targets={"floor": 1.30, "nginx": 1.0}),
    Row("headers-8k", "H1 keep-alive, 8 KiB of request headers in 30 fields", header_bytes=8192,
        targets={"floor": 1.30, "nginx": 1.0}),
    Row("upstream-close", "upstream closes after each response", close_every=1, targets={"nginx": 0.85}),
    Row("body-64k", "H1 64 KiB responses", body_bytes=65_536, peers=("pipe-splice", "floor-splice", *HTTP),
        targets={"nginx": 0.65}),
    Row("body-1m", "H1 1 MiB responses", body_bytes=1 << 20, connections=16, peers=BULK,
        targets={"pipe-splice": 1.25, "best": 0.6}, base="pipe-splice"),
    Row("new-client", "a new client connection for each request", reconnect=True, targets={"nginx": 0.85}),
    Row("tcp", "TCP proxying of the first row's load", peers=TCP, base="pipe-copy",
        targets={"nginx-stream": 1.0, "pipe-copy": 1.08}),
    Row("workers-2", "2 workers instead of 1", base="lateen-uring",
        peers=("lateen-uring", "lateen-uring-2", "lateen-epoll", "lateen-epoll-2"),
        targets={"one-worker": 1.03}),
    Row("routes", "1 host × 10 routes, 1,000 hosts × 10 routes, from a snapshot", base="lateen-uring",
        host="host-0.example",
        peers=tuple(f"lateen-{engine}{routes}" for engine in ("uring", "epoll") for routes in ("", "-1x10", "-1000x10")),
        targets={"quick-1x10": 1.06, "quick-1000x10": 1.08}),
    Row("policies", "every traffic policy on the route and its service, none of which acts", base="lateen-uring-plain",
        peers=tuple(f"lateen-{engine}-plain{policies}" for engine in ("uring", "epoll") for policies in ("", "-policies")),
        targets={"quick-policies": 1.08}),
    Row("latency", "fixed rate at half of nginx's capacity", kind="latency",
        peers=("direct", "nginx", "haproxy", "lateen-uring", "lateen-epoll"), base="direct"),
    Row("memory", "idle process, 10,000 idle clients, after load", kind="memory"),
    Row("wakeups", "idle process", kind="wakeups"),
    Row("start-up", "exec to first answered request", kind="start-up"),
    Row("runtimes-64", "the same forwarder on each runtime, 64 connections, 100 B", peers=RUNTIMES, usual=False),
    Row("runtimes-1", "the same, 1 connection", connections=1, peers=RUNTIMES, usual=False),
    Row("runtimes-512", "the same, 512 connections", connections=512, peers=RUNTIMES, usual=False),
    Row("runtimes-1m", "the same, 1 MiB responses, copied and spliced", body_bytes=1 << 20, connections=16,
        peers=RUNTIMES_BULK, base="forward-epoll", usual=False),
    Row("runtimes-memory", "the same: idle process, 10,000 idle clients, after load", kind="memory", peers=RUNTIMES,
        usual=False),
    Row("generators", "what a request costs wrk and lateen-bench, 64 connections, 100 B", kind="generators"),
    Row("binary", "binary, stripped, static", kind="binary", peers=("lateen-proxy",)),
]


def workspace(rows):
    """cargo's arguments for what `rows` need beside the floor: all of it where a forwarder takes part."""
    return ["--workspace"] if any(peer.startswith("forward-") for row in rows for peer in row.peers) else []
