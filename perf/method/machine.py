"""The machine and the versions: a figure means nothing without them."""

import os
import platform
import re
import subprocess

LOAD_AVERAGE_MAX = 0.5


def describe(say, emulated=False):
    """What is known of this machine, by name; a busy one is warned of."""
    with open("/proc/cpuinfo") as file:
        cpuinfo = file.read()
    with open("/proc/sys/net/ipv4/tcp_congestion_control") as file:
        congestion = file.read().strip()
    load_average = os.getloadavg()[0]
    if load_average > LOAD_AVERAGE_MAX and not emulated:
        say(f"warning: load average {load_average}: something else is running, the figures will show it")
    return {
        "CPU": re.search(r"model name\s*: (.*)", cpuinfo)[1],
        "cores": os.cpu_count(),
        "virtual machine": "emulated" if emulated else "yes" if " hypervisor" in cpuinfo else "no",
        "kernel": platform.release(),
        "TCP congestion control": congestion,
        **({} if emulated else {"load average at the start": load_average}),
    }


def commit(root):
    """The commit of the tree, and whether something in it is not committed."""
    return output(["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=12"])


def output(command):
    """What a program prints, or `absent`."""
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return "absent"
    return (result.stdout or result.stderr).strip()
