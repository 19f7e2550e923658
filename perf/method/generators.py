"""What a request costs the one who makes it: wrk beside `lateen-bench load`, on the same closed-loop work
straight to the upstream. CPU time of the whole process, its start included; where the clock counts
instructions, that is what it is."""

import json
import os
import re
import subprocess

from .processes import Failed

CONNECTIONS = 64


def measure_generators(bench, row, rounds, seconds, lateen_bench):
    """CPU µs a request by generator, in interleaved rounds."""
    if not os.access(lateen_bench, os.X_OK):
        raise Failed(f"{lateen_bench} is not there: cargo build --profile dist -p lateen-bench")
    upstream_process, port = bench.start_upstream(row)
    url = f"http://127.0.0.1:{port}{row.path}"
    ours = [lateen_bench, "load", url, "-c", str(CONNECTIONS), "-t", "1", "-d", f"{seconds}s", "--json", "-"]
    commands = {
        "wrk": ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", url],
        "lateen-bench (io_uring)": [*ours, "--engine", "uring"],
        "lateen-bench (epoll)": [*ours, "--engine", "epoll"],
    }
    samples = {name: [] for name in commands}
    for number in range(rounds):
        for name, command in commands.items():
            cost_us, requests = run(command, bench.load_cpus)
            samples[name].append({"cpu_us": cost_us / requests, "requests": requests})
            bench.say(f"  round {number + 1} {name}: {cost_us / requests:.2f} CPU µs/request")
    bench.processes.stop(upstream_process)
    return {"samples": samples, "failures": {}}


def run(command, cpus):
    """CPU µs of a process from its start to its end, and the right answers that it got."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
    os.sched_setaffinity(process.pid, cpus)
    with process.stdout:
        text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Failed(f"{command[0]} ended with {process.returncode}")
    return (usage.ru_utime + usage.ru_stime) * 1e6, answers(text)


def answers(text):
    if text.startswith("{"):
        totals = json.loads(text)
        if totals["errors"] or totals["wrong"]:
            raise Failed(f"the load was not clean: {totals['errors']} {totals['wrong']}")
        return totals["requests"]
    if "Socket errors" in text or "Non-2xx" in text:
        raise Failed(f"the load was not clean: {text[-300:]}")
    return int(re.search(r"(\d+) requests in", text)[1])
