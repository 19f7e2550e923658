"""Rows that put a load on each peer in turn and divide what it used by the requests it answered."""

import json
import os
from statistics import median

from .counters import HARDWARE_EVENTS, SYSCALL_EVENT, Counting, cpu_us
from .emulation import count_syscalls_emulated, measure_emulated, profile
from .processes import Failed, free_port, wait_until_answering

WARM_UP_SECONDS = 1
SYSCALL_SECONDS = 1
LATENCY_CONNECTIONS = 64


class Bench:
    """What all rows share: processes, programs, CPUs, and what this machine can count."""

    def __init__(self, processes, programs, proxy_cpus, load_cpus, hardware, syscalls, say, emulation=None):
        self.processes = processes
        self.programs = programs
        self.proxy_cpus = proxy_cpus
        self.load_cpus = load_cpus
        self.hardware = hardware
        self.syscalls = syscalls
        self.say = say
        self.emulation = emulation

    def start_upstream(self, row):
        """Starts the upstream, checked by one direct request; its port."""
        port = free_port()
        command = [os.path.join(self.programs, "upstream"), "--listen", f"127.0.0.1:{port}"]
        if row.close_every:
            command += ["--close-every", str(row.close_every)]
        process = self.processes.start("upstream", command, self.load_cpus)
        wait_until_answering(process, port, row.path, row.body_bytes)
        return process, port

    def load(self, row, port, seconds):
        """One load of `seconds`; totals as a dict. Raises Failed when an answer was wrong."""
        if row.reconnect:
            totals = self._reconnect(row, port, seconds)
        else:
            totals = self._wrk(row, port, seconds)
        if totals["errors"] or not totals["requests"]:
            raise Failed(f"the load was not clean: {totals}")
        if totals.get("bytes", row.body_bytes * totals["requests"]) < row.body_bytes * totals["requests"]:
            raise Failed(f"fewer bytes than answers promise: {totals}")
        return totals

    def _wrk(self, row, port, seconds):
        script = os.path.join(os.path.dirname(__file__), "wrk.lua")
        command = ["wrk", "-t1", f"-c{row.connections}", f"-d{seconds}s", "--timeout", "10s", "-s", script,
                   *row.header_arguments(), f"http://127.0.0.1:{port}{row.path}"]
        text = self.processes.run("wrk", command, self.load_cpus, seconds + 30)
        lines = [line for line in text.splitlines() if line.startswith("TOTALS ")]
        if not lines:
            raise Failed(f"wrk gave no totals: {text[-300:]}")
        return json.loads(lines[0].removeprefix("TOTALS "))

    def _reconnect(self, row, port, seconds):
        return self.generate(row, port, seconds, ["--mode", "reconnect", "--connections", str(row.connections)])

    def generate(self, row, port, seconds, arguments):
        command = [os.path.join(self.programs, "load"), "--target", f"127.0.0.1:{port}",
                   "--path", row.path, "--seconds", str(seconds), *arguments]
        return json.loads(self.processes.run("load", command, self.load_cpus, seconds + 30))


def measure_load(bench, row, peers, rounds, seconds):
    """Interleaved rounds (A B C, A B C, …): samples by peer, and why a peer has none."""
    samples, failures, alive = {}, {}, {}
    upstream_process, upstream = bench.start_upstream(row)
    for peer in peers:
        # All peers stay up for the whole row, idle while another one is loaded.
        try:
            cpus = bench.proxy_cpus | bench.load_cpus if peer.name.endswith("-2") else bench.proxy_cpus
            alive[peer.name] = peer.start(bench.processes, row, upstream, cpus)
            if not bench.emulation:
                bench.load(row, alive[peer.name][1], WARM_UP_SECONDS)
            samples[peer.name] = []
        except (Failed, OSError) as error:
            failures[peer.name] = str(error)
    for number in range(rounds):
        for name in list(samples):
            process, port = alive[name]
            try:
                sample = measure_once(bench, row, process.pid, port, seconds)
            except (Failed, OSError) as error:
                failures[name] = f"round {number + 1}: {error}"
                del samples[name]
                continue
            samples[name].append(sample)
            bench.say(f"  round {number + 1} {name}: {brief(sample)}")
    syscalls = {name: count_syscalls(bench, row, *alive[name]) for name in samples} if bench.syscalls else {}
    shares = {name: profile(bench, row, name, alive[name][0].pid, alive[name][1])
              for name in (samples if bench.emulation and bench.emulation.profiles else ())}
    for process, _ in alive.values():
        bench.processes.stop(process)
    bench.processes.stop(upstream_process)
    return {"samples": samples, "failures": failures, "syscalls_per_request": syscalls,
            **({"user_share": shares} if shares else {})}


def measure_once(bench, row, pid, port, seconds):
    if bench.emulation:
        return measure_emulated(bench, row, pid, port)
    before_us = cpu_us(pid)
    with Counting(pid, HARDWARE_EVENTS if bench.hardware else []) as counting:
        totals = bench.load(row, port, seconds)
    requests = totals["requests"]
    sample = {
        "requests": requests,
        "requests_per_second": requests / seconds,
        "cpu_us": (cpu_us(pid) - before_us) / requests,
    }
    counts = counting.counts
    if bench.hardware and all(counts.get(event) is not None for event in HARDWARE_EVENTS):
        sample["instructions"] = (counts["instructions:u"] + counts["instructions:k"]) / requests
        sample["instructions_user"] = counts["instructions:u"] / requests
        sample["cycles"] = counts["cycles"] / requests
    return sample


def brief(sample):
    if "instructions_emulated" in sample:
        return f"{sample['instructions_emulated']:,.0f} instructions/request (emulated)"
    parts = [f"{sample['requests_per_second']:,.0f} requests/s", f"{sample['cpu_us']:.2f} CPU µs/request"]
    if "instructions" in sample:
        parts.append(f"{sample['instructions']:,.0f} instructions/request")
    return ", ".join(parts)


def count_syscalls(bench, row, process, port):
    """Syscalls per request, in a load of its own: the tracepoint costs time at every syscall."""
    try:
        if bench.emulation:
            return count_syscalls_emulated(bench, row, process.pid, port)
        with Counting(process.pid, [SYSCALL_EVENT]) as counting:
            totals = bench.load(row, port, SYSCALL_SECONDS)
    except (Failed, OSError):
        return None
    count = counting.counts.get(SYSCALL_EVENT)
    return None if count is None else count / totals["requests"]


def measure_latency(bench, row, peers, rounds, seconds, nginx_peer):
    """Latency from the due time at half of what nginx can do, straight to the upstream and through
    each peer, in interleaved rounds."""
    if nginx_peer.absent:
        raise Failed(f"the rate is half of nginx's capacity, and {nginx_peer.absent}")
    upstream_process, upstream = bench.start_upstream(row)
    ports, processes, failures = {"direct": upstream}, [upstream_process], {}
    for peer in [nginx_peer, *(peer for peer in peers if peer.name != "nginx")]:
        try:
            process, ports[peer.name] = peer.start(bench.processes, row, upstream, bench.proxy_cpus)
            processes.append(process)
            bench.load(row, ports[peer.name], WARM_UP_SECONDS)
        except (Failed, OSError) as error:
            failures[peer.name] = str(error)
            ports.pop(peer.name, None)
    if "nginx" not in ports:
        raise Failed(f"the rate is half of nginx's capacity, and {failures['nginx']}")
    capacities = [bench.load(row, ports["nginx"], seconds)["requests"] / seconds for _ in range(3)]
    rate = int(median(capacities) / 2)
    bench.say(f"  nginx's capacity {median(capacities):,.0f}/s, rate {rate:,}/s")
    arguments = ["--mode", "open", "--connections", str(LATENCY_CONNECTIONS), "--rate", str(rate)]
    samples = {name: [] for name in ports}
    for number in range(rounds):
        for name in list(samples):
            try:
                sample = bench.generate(row, ports[name], seconds, arguments)
                if sample["errors"]:
                    raise Failed(f"the load was not clean: {sample}")
            except (Failed, OSError) as error:
                failures[name] = f"round {number + 1}: {error}"
                del samples[name]
                continue
            samples[name].append(sample)
            bench.say(f"  round {number + 1} {name}: p50 {sample['p50_us']} p99 {sample['p99_us']} "
                      f"p99.9 {sample['p999_us']} µs")
    for process in processes:
        bench.processes.stop(process)
    return {"rate": rate, "samples": samples, "failures": failures}
