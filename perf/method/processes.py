"""Starting, pinning, watching and stopping the programs under measurement.

Every process started here is stopped here, by its own id: at the end, on an error, on ctrl-C, and
(by the kernel's parent-death signal) when this process is killed outright.
"""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import time

PR_SET_PDEATHSIG = 1
READY_SECONDS = 5.0

_libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """A program did not do its part; the message says which and why."""


class Processes:
    """All processes of one measurement; a context manager that leaves none behind."""

    def __init__(self, directory):
        self.directory = directory
        self.running = []

    def __enter__(self):
        raise_descriptor_limit()
        signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        return self

    def __exit__(self, *_):
        for process in list(reversed(self.running)):
            self.stop(process)

    def start(self, name, command, cpus, group=None, conversation=False):
        """Starts `command` on the CPUs in `cpus`, and in the cgroup `group` if there is one; its
        output goes to a file in the work directory, or with `conversation` its standard input and
        output are pipes for lines of text."""
        def before_exec():
            if group:
                with open(f"{group}/cgroup.procs", "w") as file:
                    file.write(str(os.getpid()))
            os.sched_setaffinity(0, cpus)
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

        log_path = os.path.join(self.directory, f"{name}.log")
        with open(log_path, "wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE if conversation else subprocess.DEVNULL,
                stdout=subprocess.PIPE if conversation else log, stderr=log, text=conversation,
                preexec_fn=before_exec,
            )
        process.log_path = log_path
        process.title = name
        self.running.append(process)
        return process

    def stop(self, process):
        """Asks the process to end, then makes it."""
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process in self.running:
            self.running.remove(process)

    def run(self, name, command, cpus, timeout_seconds):
        """Runs `command` to its end and returns its standard output."""
        process = self.start(name, command, cpus)
        try:
            code = process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{name} did not end within {timeout_seconds} s") from None
        finally:
            self.stop(process)
        text = tail_of(process)
        if code != 0:
            raise Failed(f"{name} exited with {code}: {text[-500:].strip()}")
        return text


def raise_descriptor_limit():
    """10,000 clients need more than the usual 1,024; a privileged user gets past the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (65_536, hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(limit, hard)))
            return
        except (ValueError, PermissionError):
            continue


def tail_of(process):
    with open(process.log_path, errors="replace") as log:
        return log.read()


def free_port():
    """A port that was free a moment ago: nginx and haproxy cannot be asked which one they took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fetch(port, path, host=None, timeout_seconds=5.0):
    """One GET on a new connection: (status, body length in bytes)."""
    with socket.create_connection(("127.0.0.1", port), timeout_seconds) as connection:
        connection.sendall(request(port, path, host))
        return read_answer(connection)


def request(port, path, host=None):
    return f"GET {path} HTTP/1.1\r\nHost: {host or f'127.0.0.1:{port}'}\r\n\r\n".encode()


def read_answer(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        data += receive(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    length = int(fields.get("content-length", "0"))
    received = len(body)
    while received < length:
        received += len(receive(connection))
    return int(lines[0].split(" ")[1]), received


def receive(connection):
    data = connection.recv(1 << 18)
    if not data:
        raise Failed("the connection ended within an answer")
    return data


def wait_until_answering(process, port, path, body_bytes, host=None):
    """Returns once one right answer came through; the load must never measure a proxy's errors."""
    end = time.monotonic() + READY_SECONDS
    why = "no connection"
    while time.monotonic() < end:
        if process.poll() is not None:
            raise Failed(f"{process.title} exited with {process.returncode}: {tail_of(process)[-500:].strip()}")
        try:
            answer = fetch(port, path, host)
            if answer == (200, body_bytes):
                return
            why = f"answered {answer}, expected (200, {body_bytes})"
        except (OSError, Failed, ValueError, IndexError) as error:
            why = str(error)
        time.sleep(0.02)
    raise Failed(f"{process.title} is not ready: {why}")
