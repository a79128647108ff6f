"""pyoci events: what a container uses, as JSON lines in runc's form."""

from __future__ import annotations

import re

from pyoci import cli, errors, json
from pyoci.cli import common, options
from pyoci.cli.options import Option

ARGS = ("CONTAINER-ID",)
OPTIONS = (
    Option("interval", "time between two lines of statistics: 5s (default), 500ms, 1m30s", "TIME"),
    Option("stats", "print the statistics once"),
)
HELP = """\
Each line is an event: "stats" at every interval, and "oom" when the kernel killed in the container for
want of memory.  It ends when the container does.
"""
UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST = 24 * 24 * 3600  # poll(2) takes milliseconds in 31 bits


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Print the events."""
    container = common.find(given, opts.args[0])
    seconds = duration(opts.text("interval") or "5s")
    for event in [container.stats()] if opts.flag("stats") else container.events(seconds):
        cli.write(json.dumps(event) + "\n")
    return 0


def duration(text: str) -> float:
    """Seconds of a time as Go writes it: "1m30s", "500ms", "1.5h".  Raises errors.UsageError."""
    number = r"((?:\d+\.?\d*|\.\d+))(ns|us|µs|ms|s|m|h)"
    if not re.fullmatch(f"({number})+", text, re.ASCII):
        problem = f'invalid value "{errors.value(text)}" for flag -interval: parse error'
        raise errors.UsageError(problem, hint="5s, 500ms, 1m30s")
    seconds = sum([float(value) * UNITS[unit] for value, unit in re.findall(number, text)])
    if seconds <= 0:
        raise errors.UsageError("duration interval must be greater than 0")
    if seconds > LONGEST:
        raise errors.UsageError(f'duration interval "{errors.value(text)}" is longer than {LONGEST // 3600}h')
    return seconds
