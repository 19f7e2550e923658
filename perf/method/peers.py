"""The programs that are compared, each with one worker and a pool of upstream connections."""

import os
import shutil

from . import control
from .processes import free_port, wait_until_answering

NGINX_STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"

NGINX = """
{modules}
worker_processes 1; daemon off; master_process off;
pid {directory}/nginx.pid; error_log {directory}/nginx-error.log;
events {{ worker_connections 32768; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
  client_body_temp_path {directory}/nginx-body; proxy_temp_path {directory}/nginx-proxy;
  fastcgi_temp_path {directory}/nginx-f; uwsgi_temp_path {directory}/nginx-u; scgi_temp_path {directory}/nginx-s;
  upstream u {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection "";
      {buffers}
    }}
  }}
}}
"""

NGINX_STREAM = """
load_module {module};
worker_processes 1; daemon off; master_process off;
pid {directory}/nginx.pid; error_log {directory}/nginx-error.log;
events {{ worker_connections 32768; }}
stream {{ server {{ listen 127.0.0.1:{port} backlog=4096; proxy_pass 127.0.0.1:{upstream}; }} }}
"""

# 10,000 clients share a few upstream connections; without `no strict-limits` haproxy would not start
# unless it may have two descriptors for each of them.
HAPROXY = """
global
  nbthread 1
  maxconn 12000
  no strict-limits
  {pipes}
defaults
  mode {mode}
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  {options}
listen proxy
  bind 127.0.0.1:{port} backlog 4096
  server upstream 127.0.0.1:{upstream}
"""


class Peer:
    """One program: `absent` says why it cannot run, or is None."""

    def __init__(self, name, absent, command):
        self.name = name
        self.absent = absent
        self._command = command

    def command(self, row, directory, port, upstream):
        return self._command(row, directory, port, upstream)

    def start(self, processes, row, upstream, cpus, group=None):
        """Starts the program and waits for one right answer through it: (process, port)."""
        port = free_port()
        command = self.command(row, processes.directory, port, upstream)
        process = processes.start(self.name, command, cpus, group)
        wait_until_answering(process, port, row.path, row.body_bytes)
        return process, port


class DeclaredPeer(Peer):
    """The proxy on a snapshot of a control plane, which has what `config` says of a port and an upstream."""

    def __init__(self, name, absent, lateen_serve, lateen, engine, config):
        super().__init__(name, absent, None)
        self.lateen_serve, self.lateen, self.engine = lateen_serve, lateen, engine
        self.config = config

    def start(self, processes, row, upstream, cpus, group=None):
        port = free_port()
        serve = control.Control(processes, self.lateen_serve, self.name, cpus)
        serve.apply(self.config(port, upstream), wait_s=0)
        proxy = control.Proxy(serve, self.lateen, "edge", self.engine, 1, cpus)
        wait_until_answering(proxy.process, port, row.path, row.body_bytes, row.host)
        # What runs is the proxy's: who told it so is not needed any more, and would be counted by nobody.
        processes.stop(serve.process)
        return proxy.process, port


def routed_config(hosts, routes, port, upstream):
    """`hosts` routes of `routes` rules: all but the last of each are for other paths; each adds a field
    to the request and one to the response, and splits what it gets over two services, nine to one."""
    def rule(path, number):
        return {
            "matches": [{"path": {"type": "PathPrefix", "value": path}}],
            "filters": [
                {"type": "RequestHeaderModifier", "requestHeaderModifier": {
                    "set": [{"name": "X-Route", "value": f"route-{number}"}]}},
                {"type": "ResponseHeaderModifier", "responseHeaderModifier": {
                    "add": [{"name": "X-Served-By", "value": f"route-{number}"}]}},
            ],
            "backendRefs": [{"name": "many", "port": 80, "weight": 9}, {"name": "few", "port": 80, "weight": 1}],
        }

    text = (control.gateway("edge", port)
            + control.proxy("edge", [{"name": "http", "type": "Gateway", "address": "127.0.0.1",
                                      "gateway": {"name": "edge"}}])
            + control.service("many", [("127.0.0.1", upstream)])
            + control.service("few", [("127.0.0.1", upstream)]))
    for host in range(hosts):
        rules = [rule(f"/other/{number}", number) for number in range(routes - 1)] + [rule("/", routes - 1)]
        text += control.http_route(f"host-{host}", {
            "parentRefs": [{"name": "edge"}], "hostnames": [f"host-{host}.example"], "rules": rules})
    return text


# All that a route can be told, so that none of it acts.
EVERY_POLICY = {
    "timeouts": {"request": "1h", "backendRequest": "30m"},
    "retry": {"attempts": 3, "on": ["ConnectFailure", "ResetBeforeResponse", "PerTryTimeout", "5xx",
                                    "GatewayError"], "statuses": [503], "headers": [{"name": "x-try-again"}]},
    "hedging": {"delay": "20m"},
    "faults": {"headers": [{"name": "x-fault", "value": "yes"}],
               "delay": {"duration": "1s", "fraction": {"numerator": 100}},
               "abort": {"status": 503, "fraction": {"numerator": 100}}},
    "rateLimits": [{"name": "all", "requests": 100_000_000, "burst": 10_000_000},
                   {"name": "each", "requests": 100_000_000, "burst": 10_000_000, "key": {"type": "SourceAddress"}},
                   {"name": "bytes", "bytes": 100_000_000_000, "burst": 10_000_000_000}],
    "circuitBreaker": {"fallback": {"response": {"status": 200, "body": "later"}}},
    "priority": "Sheddable",
}
EVERY_POLICY_OF_SERVICE = {
    "timeouts": {"connect": "1s", "maxConnectionDuration": "1h"},
    "overload": {"queueDelay": {}, "concurrency": {"minimum": 500}},
    "loadBalancing": {"type": "PeakEwma", "panicThresholdPercent": 50, "slowStart": {"window": "1ms"}, "aperture": {}},
    "retryBudget": {"percent": 20, "minPerSecond": 10},
    "bulkhead": {"maxConnections": 1024, "maxPending": 1024, "maxRequests": 1024, "maxRetries": 3},
    "outlierDetection": {"consecutive5xxErrors": 5, "consecutiveGatewayErrors": 5, "successRate": {},
                         "failurePercentage": {}, "latency": {}},
    "healthCheck": {"type": "TCP", "interval": "60s"},
}


def plain_config(port, upstream):
    """A route of one rule, to one service of one instance."""
    backend = {"name": "many", "port": 80}
    return (control.gateway("edge", port)
            + control.proxy("edge", [{"name": "http", "type": "Gateway", "address": "127.0.0.1",
                                      "gateway": {"name": "edge"}}])
            + control.service("many", [("127.0.0.1", upstream)])
            + control.http_route("all", {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [backend]}]}))


def policed_config(port, upstream):
    """The same under every policy, none of which acts."""
    route = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "all"}
    service = {"group": "lateen.dev", "kind": "Service", "name": "many"}
    return (plain_config(port, upstream)
            + control.document("TrafficPolicy", "of-route", {"targetRefs": [route], **EVERY_POLICY})
            + control.document("TrafficPolicy", "of-service", {"targetRefs": [service], **EVERY_POLICY_OF_SERVICE}))


def all_peers(programs, lateen, lateen_serve):
    """Peers by name. `programs` is the directory of the reference programs, `lateen` the proxy,
    `lateen_serve` the control plane's program."""
    def reference(*words):
        def command(row, directory, port, upstream):
            program, *arguments = words
            return [os.path.join(programs, program), *arguments,
                    "--listen", f"127.0.0.1:{port}", "--upstream", f"127.0.0.1:{upstream}"]
        return command

    def lateen_proxy(engine, workers=1, protocol="auto", log=False):
        def command(row, directory, port, upstream):
            arguments = ["--access-log", os.path.join(directory, "access.log")] if log else []
            return [lateen, "quick", "--listen", f"127.0.0.1:{port}",
                    "--upstream", f"127.0.0.1:{upstream}", "--workers", str(workers),
                    "--pin", "off", "--engine", engine, "--protocol", protocol, *arguments]
        return command

    no_lateen = None if os.access(lateen, os.X_OK) else f"{lateen} does not exist"
    no_serve = no_lateen or (None if os.access(lateen_serve, os.X_OK) else f"{lateen_serve} does not exist")
    no_nginx = None if shutil.which("nginx") else "nginx is not installed"
    no_stream = no_nginx or (None if os.path.exists(NGINX_STREAM_MODULE)
                             else f"{NGINX_STREAM_MODULE} is not installed")
    no_haproxy = None if shutil.which("haproxy") else "haproxy is not installed"
    peers = [
        Peer("floor", None, reference("floor")),
        Peer("floor-splice", None, reference("floor_splice")),
        Peer("pipe-copy", None, reference("pipe", "--mode", "copy")),
        Peer("pipe-splice", None, reference("pipe", "--mode", "splice")),
        Peer("nginx", no_nginx, nginx),
        Peer("haproxy", no_haproxy, haproxy),
        Peer("nginx-stream", no_stream, nginx_stream),
        Peer("haproxy-tcp", no_haproxy, haproxy_tcp),
    ]
    # The same forwarder on each runtime: no proxies, and compared with one another only.
    for name in ("lateen-ring", "monoio", "glommio", "compio", "tokio", "epoll"):
        peers.append(Peer(f"forward-{name}", None, reference(f"forward-{name}")))
    for name in ("lateen-ring", "monoio", "tokio", "epoll"):
        peers.append(Peer(f"forward-{name}-splice", None, reference(f"forward-{name}", "--splice", "true")))
    for name in ("monoio", "compio"):
        peers.append(Peer(f"forward-{name}-defer", None, reference(f"forward-{name}", "--defer-taskrun", "true")))
    for engine in ("uring", "epoll"):
        def declared(suffix, config, engine=engine):
            return DeclaredPeer(f"lateen-{engine}{suffix}", no_serve, lateen_serve, lateen, engine, config)

        peers += [
            Peer(f"lateen-{engine}", no_lateen, lateen_proxy(engine)),
            Peer(f"lateen-{engine}-log", no_lateen, lateen_proxy(engine, log=True)),
            Peer(f"lateen-{engine}-tcp", no_lateen, lateen_proxy(engine, protocol="tcp")),
            Peer(f"lateen-{engine}-2", no_lateen, lateen_proxy(engine, workers=2)),
            declared("-1x10", lambda port, upstream: routed_config(1, 10, port, upstream)),
            declared("-1000x10", lambda port, upstream: routed_config(1000, 10, port, upstream)),
            declared("-plain", plain_config),
            declared("-plain-policies", policed_config),
        ]
    return {peer.name: peer for peer in peers}


def nginx(row, directory, port, upstream):
    # The defaults spill a large response to disk: nobody who measures would leave them.
    buffers = "proxy_buffers 8 16k; proxy_max_temp_file_size 0;" if row.body_bytes > 16_384 else ""
    text = NGINX.format(modules="", directory=directory, port=port, upstream=upstream, buffers=buffers)
    return ["nginx", "-e", "stderr", "-c", write(directory, "nginx.conf", text)]


def nginx_stream(row, directory, port, upstream):
    text = NGINX_STREAM.format(module=NGINX_STREAM_MODULE, directory=directory, port=port, upstream=upstream)
    return ["nginx", "-e", "stderr", "-c", write(directory, "nginx-stream.conf", text)]


def haproxy(row, directory, port, upstream):
    splice = row.body_bytes >= 1 << 20
    text = HAPROXY.format(
        mode="http", port=port, upstream=upstream,
        pipes="tune.pipesize 1048576" if splice else "",
        options="http-reuse always\n  " + ("option splice-auto" if splice else ""),
    )
    return ["haproxy", "-db", "-f", write(directory, "haproxy.cfg", text)]


def haproxy_tcp(row, directory, port, upstream):
    text = HAPROXY.format(mode="tcp", port=port, upstream=upstream, pipes="", options="")
    return ["haproxy", "-db", "-f", write(directory, "haproxy-tcp.cfg", text)]


def write(directory, name, text):
    path = os.path.join(directory, name)
    with open(path, "w") as file:
        file.write(text)
    return path
