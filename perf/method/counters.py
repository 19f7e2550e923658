"""What a process used: CPU time from the scheduler, instructions and cycles from the CPU.

Instructions in user and kernel mode are the steady figure. Where the machine has no counters (most
virtual machines), CPU time is all there is, and it moves with the neighbours.
"""

import os
import re
import shutil
import signal
import subprocess
import time

HARDWARE_EVENTS = ["instructions:u", "instructions:k", "cycles"]
SYSCALL_EVENT = "raw_syscalls:sys_enter"


def countable(events):
    """Whether perf(1) is there and can count all of `events` on this machine."""
    if shutil.which("perf") is None:
        return False
    command = ["perf", "stat", "-x,", "-e", ",".join(events), "true"]
    result = subprocess.run(command, capture_output=True, text=True)
    counts = parse_counts(result.stderr)
    return result.returncode == 0 and all(counts.get(event) is not None for event in events)


def parse_counts(text):
    """Counts by event from `perf stat -x,`; None for what was not counted."""
    counts = {}
    for line in text.splitlines():
        parts = line.split(",")
        if len(parts) > 3 and parts[2]:
            counts[parts[2]] = int(parts[0]) if re.fullmatch(r"\d+", parts[0]) else None
    return counts


class Counting:
    """`perf stat` on one running process, for as long as the block lasts."""

    def __init__(self, pid, events):
        self.pid = pid
        self.events = events
        self.counts = {}

    def __enter__(self):
        self.perf = None
        if self.events:
            command = ["perf", "stat", "-x,", "-e", ",".join(self.events), "-p", str(self.pid)]
            self.perf = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, text=True,
            )
            # perf says nothing when it has attached; an idle process loses nothing meanwhile.
            time.sleep(0.3)
        return self

    def __exit__(self, *_):
        if self.perf is None:
            return
        self.perf.send_signal(signal.SIGINT)
        try:
            _, text = self.perf.communicate(timeout=10)
            self.counts = parse_counts(text)
        except subprocess.TimeoutExpired:
            self.perf.kill()
            self.perf.wait()


def threads(pid):
    return os.listdir(f"/proc/{pid}/task")


def cpu_us(pid):
    """CPU time of all threads that the process has now, user and kernel, in µs."""
    total_ns = 0
    for thread in threads(pid):
        with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
            total_ns += int(file.read().split()[0])
    return total_ns / 1000


def voluntary_switches(pid):
    """How often the threads that the process has now went to sleep: each is followed by a wakeup."""
    total = 0
    for thread in threads(pid):
        with open(f"/proc/{pid}/task/{thread}/status") as file:
            total += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", file.read(), re.M)[1])
    return total


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"^VmRSS:\s+(\d+)", file.read(), re.M)[1])


def stolen_share():
    """Ticks (stolen, all) of the whole machine since boot: two readings give a share."""
    with open("/proc/stat") as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    return ticks[7], sum(ticks)
