"""From samples to figures: medians, spread, ratios paired within a round, and the Markdown table."""

import json
import os
import time
from datetime import datetime, timezone
from statistics import median

from .rows import FLOOR_OF_NGINX_MAX

FIGURES = [("instructions", "instructions/request", 0),
           ("instructions_emulated", "instructions/request (emulated)", 0), ("cycles", "cycles/request", 0),
           ("cpu_us", "CPU µs/request", 2)]
BASES = ("floor", "floor-splice", "pipe-copy", "pipe-splice", "nginx", "haproxy", "nginx-stream", "haproxy-tcp")


def judged_figure(result):
    """Instructions where all samples have them, else CPU time."""
    every = [sample for samples in result["samples"].values() for sample in samples]
    for figure in ("instructions", "instructions_emulated"):
        if every and all(figure in sample for sample in every):
            return figure
    return "cpu_us"


def series(result, name, figure):
    return [sample[figure] for sample in result["samples"].get(name, [])]


def base_series(result, peer, base, figure):
    """The base's values by round; `best` is the cheaper of nginx and haproxy, `one-worker` the same
    engine with one worker, `quick-…` the same engine without what the peer's name ends in."""
    if base == "best":
        both = [series(result, name, figure) for name in ("nginx", "haproxy")]
        return [min(pair) for pair in zip(*both)]
    if base == "one-worker":
        return series(result, peer.removesuffix("-2"), figure)
    if base.startswith("quick-"):
        return series(result, peer.removesuffix(base.removeprefix("quick")), figure)
    return series(result, base, figure)


def ratio(result, peer, base, figure):
    """(median, least, most) of the ratios of each round's own pair, or None."""
    pairs = list(zip(series(result, peer, figure), base_series(result, peer, base, figure)))
    if not pairs:
        return None
    ratios = [value / of for value, of in pairs]
    return median(ratios), min(ratios), max(ratios)


def judge(row, result):
    """Whether the row is void, and each target with what was reached."""
    figure = judged_figure(result)
    judged = {"figure": figure, "void": None, "targets": []}
    floors = [reached for name in ("floor", "floor-splice")
              if (reached := ratio(result, name, "nginx", figure))]
    if floors and min(floors)[0] > FLOOR_OF_NGINX_MAX:
        middle, least, most = min(floors)
        judged["void"] = (f"the floor is {middle:.2f} ({least:.2f}–{most:.2f}) × nginx in {figure}, "
                          f"more than {FLOOR_OF_NGINX_MAX}")
    for name in result["samples"]:
        if not name.startswith("lateen-"):
            continue
        for base, most in (row.log_targets if name.endswith("-log") else row.targets).items():
            reached = ratio(result, name, base, figure)
            suffix = {"one-worker": "-2"}.get(base, base.removeprefix("quick") if base.startswith("quick-") else "")
            if reached and name.endswith(suffix):
                judged["targets"].append({"peer": name, "base": base, "at_most": most, "reached": reached,
                                          "verdict": verdict(judged["void"], reached, most)})
    return judged


def verdict(void, reached, at_most):
    """By the median, with a word when not all rounds agree."""
    middle, least, most = reached
    if void:
        return "void"
    word = "met" if middle <= at_most else "missed"
    return word if (least > at_most) == (most > at_most) else f"{word}, but the spread crosses it"


def number(value, decimals):
    return f"{value:,.{decimals}f}"


def spread(values, decimals):
    return (f"{number(median(values), decimals)} "
            f"({number(min(values), decimals)}–{number(max(values), decimals)})")


def table(header, lines):
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def markdown(document):
    """The whole report."""
    parts = [f"# Measured {document['time']}", machine_text(document)]
    for name, entry in document["rows"].items():
        parts.append(f"## {name}: {entry['work']}")
        result = entry["result"]
        if "error" in result:
            parts.append(f"Not run: {result['error']}.")
            continue
        parts.append(WRITERS[entry["kind"]](entry, result))
        absent = {**entry["not_run"], **result["failures"]}
        if absent:
            parts.append("\n".join(f"- {peer}: not run: {one_line(why)}" for peer, why in absent.items()))
    return "\n\n".join(parts) + "\n"


def write(document, text, directory, name):
    """Writes a report: its samples as JSON, and `text`, into two files of today's date and `name`."""
    os.makedirs(directory, exist_ok=True)
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    path = os.path.join(directory, f"{date}-{name}")
    with open(f"{path}.json", "w") as file:
        json.dump(document, file, indent=1, ensure_ascii=False)
        file.write("\n")
    with open(f"{path}.md", "w") as file:
        file.write(text)
    say(f"written: {path}.json and .md")


def say(text):
    """A line for who waits, with the time."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


def one_line(text):
    return " ".join(text.split())


def machine_text(document):
    machine = document["machine"]
    lines = [f"- {key}: {value}" for key, value in machine.items()]
    lines += [f"- {program}: {version}" for program, version in document["versions"].items()]
    lines += [f"- commit: {document['commit']}", f"- command: `{document['command']}`"]
    return "\n".join(lines)


def load_text(entry, result):
    present = [base for base in BASES if result["samples"].get(base)]
    figures = [item for item in FIGURES
               if all(item[0] in sample for samples in result["samples"].values() for sample in samples)]
    judged = entry["judged"]
    timed = any("requests_per_second" in sample for samples in result["samples"].values() for sample in samples)
    shares = result.get("user_share")
    header = ["peer", *(title for _, title, _ in figures), *(["user", "kernel"] if shares else []), "syscalls/request", *(["requests/s"] if timed else []),
              *(f"÷ {base}" for base in present)]
    lines = []
    for name in result["samples"]:
        syscalls = result["syscalls_per_request"].get(name)
        cells = [name, *(spread(series(result, name, key), decimals) for key, _, decimals in figures)]
        cells += split(shares[name], median(series(result, name, judged["figure"]))) if shares else []
        cells += ["–" if syscalls is None else number(syscalls, 2)]
        cells += [number(median(series(result, name, "requests_per_second")), 0)] if timed else []
        for base in present:
            reached = ratio(result, name, base, judged["figure"])
            cells.append("–" if reached is None else f"{reached[0]:.2f} ({reached[1]:.2f}–{reached[2]:.2f})")
        lines.append(cells)
    parts = [table(header, lines),
             f"Ratios are of {judged['figure']}, paired within a round: median (least–most)."
             + (" User and kernel are the median, divided as the samples of a profile are." if shares else "")]
    if judged["void"]:
        parts.append(f"**Void**: {judged['void']}.")
    lines = []
    for target in judged["targets"]:
        middle, least, most = target["reached"]
        lines.append(f"- {target['peer']} {middle:.2f} ({least:.2f}–{most:.2f}) × {target['base']}, "
                     f"to reach ≤ {target['at_most']:.2f}: {target['verdict']}")
    if lines:
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def split(user_share, figure):
    """A figure's parts in user mode and in the kernel, as cells."""
    if user_share is None:
        return ["–", "–"]
    return [number(figure * user_share, 0), number(figure * (1 - user_share), 0)]


def latency_text(_entry, result):
    keys = [("p50_us", "p50 µs"), ("p99_us", "p99 µs"), ("p999_us", "p99.9 µs")]
    header = ["peer", *(title for _, title in keys), *(f"{title} above direct" for _, title in keys)]
    direct = result["samples"].get("direct", [])
    lines = []
    for name, samples in result["samples"].items():
        cells = [name, *(spread([sample[key] for sample in samples], 0) for key, _ in keys)]
        for key, _ in keys:
            above = [sample[key] - base[key] for sample, base in zip(samples, direct)]
            cells.append(spread(above, 0) if above else "–")
        lines.append(cells)
    return table(header, lines) + f"\n\nRate: {result['rate']:,} requests/s."


def start_up_text(_entry, result):
    lines = [[name, spread(values, 1)] for name, values in result["samples"].items()]
    return table(["peer", "ms"], lines)


def generators_text(_entry, result):
    """Ratios are paired within a round."""
    base = [sample["cpu_us"] for sample in result["samples"]["wrk"]]
    lines = []
    for name, samples in result["samples"].items():
        costs = [sample["cpu_us"] for sample in samples]
        requests = number(median([sample["requests"] for sample in samples]), 0)
        lines.append([name, spread(costs, 2), spread([cost / of for cost, of in zip(costs, base)], 2), requests])
    return table(["generator", "CPU µs/request", "÷ wrk", "requests"], lines)


def plain_text(_entry, result):
    keys = list(dict.fromkeys(key for sample in result["samples"].values() for key in sample))
    lines = [[name, *(number(sample[key], 2) if key in sample else "–" for key in keys)]
             for name, sample in result["samples"].items()]
    return table(["peer", *keys], lines)


WRITERS = {"load": load_text, "latency": latency_text, "start-up": start_up_text,
           "memory": plain_text, "generators": generators_text, "wakeups": plain_text, "binary": plain_text}
