"""Rows without a steady load: memory, wakeups, start-up time, size of the binary."""

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import replace
from statistics import median

from .counters import resident_kib, threads, voluntary_switches
from .processes import Failed, fetch, free_port, read_answer, request

IDLE_CLIENTS = 10_000
LEAVE_CYCLES = 5
BURST_REQUESTS = 2_000
SETTLE_SECONDS = 2.0
WAKEUP_SECONDS = 10.0
START_UPS = 10
START_UP_SECONDS_MAX = 5.0

IP_BIND_ADDRESS_NO_PORT = 24  # not in Python's socket module before 3.12
_STATIC_TARGET = "x86_64-unknown-linux-gnu"


def measure_memory(bench, row, peers):
    """Resident KiB of each peer as it starts, with idle clients, and after all that came and went."""
    samples, failures = {}, {}
    upstream_process, upstream = bench.start_upstream(replace(row, body_bytes=65_536))
    for peer in peers:
        try:
            with memory_group(peer.name) as group:
                process, port = peer.start(bench.processes, row, upstream, bench.proxy_cpus, group)
                try:
                    samples[peer.name] = memory_of(process.pid, port, row.path, group)
                finally:
                    bench.processes.stop(process)
            bench.say(f"  {peer.name}: {samples[peer.name]}")
        except (Failed, OSError) as error:
            failures[peer.name] = str(error)
    bench.processes.stop(upstream_process)
    return {"samples": samples, "failures": failures}


def memory_of(pid, port, path, group):
    time.sleep(SETTLE_SECONDS)
    idle_kib, idle_group_kib = resident_kib(pid), group_kib(group)
    with idle_clients(port, path, 1):
        time.sleep(SETTLE_SECONDS)
        clients_kib, clients_group_kib = resident_kib(pid), group_kib(group)
    for cycle in range(LEAVE_CYCLES):
        with idle_clients(port, path, 2 + cycle):
            pass
    burst(port, "/65536", 65_536)
    time.sleep(SETTLE_SECONDS)
    sample = {
        "idle_kib": idle_kib,
        "kib_per_idle_client": (clients_kib - idle_kib) / IDLE_CLIENTS,
        "after_kib": resident_kib(pid),
        "after_over_idle": resident_kib(pid) / idle_kib,
    }
    if idle_group_kib is not None:
        sample["group_idle_kib"] = idle_group_kib
        sample["group_kib_per_idle_client"] = (clients_group_kib - idle_group_kib) / IDLE_CLIENTS
        sample["group_after_kib"] = group_kib(group)
    return sample


@contextmanager
def idle_clients(port, path, subnet):
    """Keeps IDLE_CLIENTS connections open, each after one answered request. Every call has source
    addresses of its own, for the ports of the one before are still in TIME_WAIT."""
    clients = []
    try:
        for _ in range(IDLE_CLIENTS):
            client = connect_from(f"127.0.{subnet}.1", port)
            clients.append(client)
            client.sendall(request(port, path))
            if read_answer(client)[0] != 200:
                raise Failed("an idle client's request was not answered with 200")
        yield clients
    finally:
        for client in clients:
            client.close()


def burst(port, path, body_bytes):
    """BURST_REQUESTS at once: all are sent before the first answer is read."""
    clients = []
    try:
        for _ in range(BURST_REQUESTS):
            clients.append(connect_from("127.0.99.1", port))
        for client in clients:
            client.sendall(request(port, path))
        for client in clients:
            if read_answer(client) != (200, body_bytes):
                raise Failed("a request of the burst was answered wrongly")
    finally:
        for client in clients:
            client.close()


def connect_from(source, port):
    client = socket.socket()
    client.settimeout(20)
    # Else bind(2) looks for a port that is free towards every peer, which takes milliseconds.
    client.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    client.bind((source, 0))
    client.connect(("127.0.0.1", port))
    return client


# Version 2 of the cgroup interface, then version 1.
GROUP_USAGE_FILES = ("memory.current", "memory.usage_in_bytes")


@contextmanager
def memory_group(name):
    """A memory cgroup for one process, where one may be made, so that what the kernel holds for it
    (sockets, rings) is counted too. Yields its path, or None."""
    path = None
    for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/memory"):
        candidate = f"{root}/lateen-measure-{os.getpid()}-{name}"
        try:
            os.mkdir(candidate)
        except OSError:
            continue
        if group_kib(candidate) is not None:
            path = candidate
            break
        os.rmdir(candidate)
    try:
        yield path
    finally:
        if path:
            os.rmdir(path)


def group_kib(group):
    """What a memory cgroup uses, in KiB; None without one."""
    for name in GROUP_USAGE_FILES if group else ():
        try:
            with open(f"{group}/{name}") as file:
                return int(file.read()) // 1024
        except OSError:
            continue
    return None


def measure_wakeups(bench, row, peers):
    """How often each peer's threads woke in WAKEUP_SECONDS without any work."""
    samples, failures = {}, {}
    upstream_process, upstream = bench.start_upstream(row)
    for peer in peers:
        try:
            process, port = peer.start(bench.processes, row, upstream, bench.proxy_cpus)
            fetch(port, row.path)
            time.sleep(SETTLE_SECONDS)
            before = voluntary_switches(process.pid)
            time.sleep(WAKEUP_SECONDS)
            woken = voluntary_switches(process.pid) - before
            samples[peer.name] = {"wakeups_per_second": woken / WAKEUP_SECONDS,
                                  "threads": len(threads(process.pid))}
            bench.say(f"  {peer.name}: {samples[peer.name]}")
            bench.processes.stop(process)
        except (Failed, OSError) as error:
            failures[peer.name] = str(error)
    bench.processes.stop(upstream_process)
    return {"samples": samples, "failures": failures}


def measure_start_up(bench, row, peers):
    """Milliseconds from fork and exec to the first answer, in START_UPS interleaved rounds."""
    samples, failures = {peer.name: [] for peer in peers}, {}
    upstream_process, upstream = bench.start_upstream(row)
    for _ in range(START_UPS):
        for peer in peers:
            if peer.name in failures:
                continue
            port = free_port()
            command = peer.command(row, bench.processes.directory, port, upstream)
            start = time.perf_counter()
            process = bench.processes.start(peer.name, command, bench.proxy_cpus)
            try:
                ask_until_answered(port, row.path, start)
                samples[peer.name].append((time.perf_counter() - start) * 1000)
            except Failed as error:
                failures[peer.name] = str(error)
                del samples[peer.name]
            bench.processes.stop(process)
    for name, values in samples.items():
        bench.say(f"  {name}: median {median(values):.1f} ms")
    bench.processes.stop(upstream_process)
    return {"samples": samples, "failures": failures}


def ask_until_answered(port, path, start):
    while time.perf_counter() - start < START_UP_SECONDS_MAX:
        try:
            if fetch(port, path)[0] == 200:
                return
        except (OSError, Failed):
            continue
    raise Failed(f"no answer within {START_UP_SECONDS_MAX} s")


def measure_binary(bench, root):
    """Builds the proxy static, strips a copy, and says how large it is."""
    environment = dict(os.environ, RUSTFLAGS="-C target-feature=+crt-static")
    command = ["cargo", "build", "--profile", "dist", "--target", _STATIC_TARGET,
               "--package", "lateen-proxy", "--bin", "lateen-proxy", "--locked"]
    result = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    if result.returncode:
        raise Failed(f"{' '.join(command)}: {result.stderr[-500:]}")
    if shutil.which("strip") is None:
        raise Failed("strip is missing: install binutils")
    target = environment.get("CARGO_TARGET_DIR", os.path.join(root, "target"))
    stripped = os.path.join(bench.processes.directory, "lateen-proxy")
    shutil.copy(os.path.join(target, _STATIC_TARGET, "dist", "lateen-proxy"), stripped)
    subprocess.run(["strip", stripped], check=True)
    size = os.path.getsize(stripped)
    bench.say(f"  {size:,} bytes")
    return {"samples": {"lateen-proxy": {"bytes": size, "mib": size / (1 << 20)}}, "failures": {}}
