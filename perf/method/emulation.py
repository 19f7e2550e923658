"""The inside of `perf/emulated`: a load's instructions, where the emulator gives each one nanosecond.

Then the scheduler's run time of a process is the number of instructions that its threads executed,
in user mode and in the kernel, interrupts on their back included. Loads have a length in requests
and not in time, and everything but the requests (connecting, the first ones, disconnecting, the
access log's last lines) is kept out of the count or waited for.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass

from .counters import SYSCALL_EVENT, cpu_us, parse_counts
from .processes import Failed, tail_of

# Of a loop of known length, what the scheduler may report more or less: timer ticks are in it.
CALIBRATION_TOLERANCE = 0.005
# What a proxy puts off (the access log's lines are flushed by a thread of its own) has happened after
# this; an emulator skips idle time.
SETTLE_SECONDS = 3
# A sample every so many instructions: a prime, so that no loop is hit in step.
PROFILE_PERIOD = 20_011


@dataclass(frozen=True)
class Emulation:
    """`requests` is the length of one load; profiles go to the directory `profiles`, if there is one."""

    requests: int
    profiles: str | None = None


def calibrate(programs):
    """What the scheduler's clock says of known work, or SystemExit when it counts no instructions."""
    output = subprocess.run([os.path.join(programs, "calibrate")], capture_output=True, text=True, check=True)
    seen = json.loads(output.stdout)
    share = seen["loop_ns"] / seen["loop_instructions"]
    linear = (seen["twice_ns"] - seen["syscalls_ns"]) / seen["syscalls_ns"]
    if abs(share - 1) > CALIBRATION_TOLERANCE or abs(linear - 1) > CALIBRATION_TOLERANCE:
        raise SystemExit(f"run time is no count of instructions here (use perf/emulated): {seen}")
    return (f"{share:.4f} ns of run time for an instruction in a loop of {seen['loop_instructions']:,}, "
            f"{seen['syscalls_ns'] / seen['syscalls']:.1f} for a getppid(2), "
            f"{linear:.4f} × as much for as many again")


def read_ahead(programs, ours):
    """Reads all programs and their libraries once. Whenever a guest waits for its files, its clock
    leaps to the next timer: a program that is not yet in memory would run into every timeout."""
    references = [entry.path for entry in os.scandir(programs) if entry.is_file() and os.access(entry.path, os.X_OK)]
    installed = [shutil.which(program) for program in ("nginx", "haproxy", "perf", "wrk", "envoy")]
    for program in filter(None, [*references, *installed, *filter(os.path.exists, ours)]):
        listing = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
        for path in {program, *re.findall(r"/\S+", listing)}:
            with open(path, "rb") as file:
                while file.read(1 << 20):
                    pass


def measure_emulated(bench, row, pid, port):
    """One load on the process `pid`, as a sample."""
    run_time = RunTime(pid)
    requests = counted_load(bench, row, port, run_time)
    return {"requests": requests, "instructions_emulated": run_time.ns / requests}


def count_syscalls_emulated(bench, row, pid, port):
    """Syscalls per request, in a load of its own."""
    counting = Perf(["perf", "stat", "-x,", "-e", SYSCALL_EVENT], pid)
    requests = counted_load(bench, row, port, counting)
    count = parse_counts(counting.text).get(SYSCALL_EVENT)
    return None if count is None else count / requests


def profile(bench, row, name, pid, port):
    """Samples of where the instructions go, in a load of its own: a file for `perf report`. Returns the
    share of them that were in user mode."""
    path = os.path.join(bench.emulation.profiles, f"{row.name}-{name}.perf")
    recording = Perf(["perf", "record", "-q", "-e", "cpu-clock", "-c", str(PROFILE_PERIOD), "-o", path], pid)
    counted_load(bench, row, port, recording)
    # The kernel's names: `perf report --kallsyms` wants them, on another machine than this one.
    shutil.copyfile("/proc/kallsyms", os.path.join(bench.emulation.profiles, "kallsyms"))
    return user_share(path)


def user_share(path):
    """Of the samples in a profile; None when it has none."""
    listing = subprocess.run(["perf", "script", "-i", path, "-F", "ip"], capture_output=True, text=True).stdout
    addresses = [int(word, 16) for word in listing.split()]
    # Canonical addresses: the kernel's half has the highest bit.
    return sum(address < 1 << 63 for address in addresses) / len(addresses) if addresses else None


class RunTime:
    """The run time of a process for as long as the block lasts."""

    def __init__(self, pid):
        self.pid = pid
        self.ns = 0

    def __enter__(self):
        self.ns = -cpu_us(self.pid) * 1000
        return self

    def __exit__(self, *_):
        self.ns += cpu_us(self.pid) * 1000


class Perf:
    """perf(1) on one running process, for as long as the block lasts. It is told when to begin, and says
    when it has: to wait a time is no use where the clock leaps."""

    def __init__(self, command, pid):
        self.command = [*command, "-p", str(pid), "-D", "-1"]
        self.text = ""

    def __enter__(self):
        orders, self.orders = os.pipe()
        self.answers, answers = os.pipe()
        self.perf = subprocess.Popen([*self.command, "--control", f"fd:{orders},{answers}"],
                                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.PIPE, text=True, pass_fds=(orders, answers))
        os.close(orders)
        os.close(answers)
        self._order("enable")
        return self

    def __exit__(self, *_):
        self._order("disable")
        self.perf.send_signal(signal.SIGINT)
        _, self.text = self.perf.communicate()
        os.close(self.orders)
        os.close(self.answers)

    def _order(self, word):
        os.write(self.orders, f"{word}\n".encode())
        if b"ack" not in os.read(self.answers, 64):
            raise Failed(f"{' '.join(self.command[:2])} did not {word}")


def counted_load(bench, row, port, counting):
    """One load with `counting` around the requests alone; how many they were."""
    wanted = bench.emulation.requests
    command = [os.path.join(bench.programs, "load"), "--mode", "reconnect" if row.reconnect else "closed",
               "--target", f"127.0.0.1:{port}", "--path", row.path, "--connections", str(row.connections),
               "--header-bytes", str(row.header_bytes), *(["--host", row.host] if row.host else []),
               "--requests", str(wanted), "--warm-up", str(max(wanted // 3, 2 * row.connections))]
    process = bench.processes.start("load", command, bench.load_cpus, conversation=True)
    try:
        expect_line(process, "quiet")
        time.sleep(SETTLE_SECONDS)
        with counting:
            go_on(process)
            totals = json.loads(expect_line(process, "{"))
            expect_line(process, "quiet")
            time.sleep(SETTLE_SECONDS)
        go_on(process)
        process.wait(30)
    finally:
        bench.processes.stop(process)
    if totals["errors"] or totals["requests"] != wanted:
        raise Failed(f"the load was not clean: {totals}")
    return totals["requests"]


def go_on(process):
    process.stdin.write("\n")
    process.stdin.flush()


def expect_line(process, start):
    line = process.stdout.readline()
    if not line.startswith(start):
        raise Failed(f"{process.title} ended early: {line}{tail_of(process)[-500:].strip()}")
    return line
