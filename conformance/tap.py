"""Reads what the programs of the public validation suite print, as it is meant.

It is TAP 13, with habits: a failure may be no more than a YAML block with an `error` under the plan 1..0 and exit
status 0; plans are wrong, printed first, last or not at all; numbers repeat; a block with an error also follows
lines that are ok, when the error is what was asked for.
"""

from __future__ import annotations

import fnmatch
import json
import re
from typing import NamedTuple

LINE = re.compile(r"(not )?ok\b\s*(\d+)?\s*(?:- )?(.*)")
DIRECTIVE = re.compile(r"(?<!\\)#\s*(skip|todo)\b\s*(.*)", re.IGNORECASE)
PLAN = re.compile(r"1\.\.(\d+)\s*(?:#\s*skip\S*\s*(.*))?$", re.IGNORECASE)
ERROR = re.compile(r"""^\s*["']?error["']?\s*:\s*(.*)$""")


class Point(NamedTuple):
    """One test line: what it says, and whether it counts as passed, failed or skipped."""

    verdict: str  # pass, fail, skip
    text: str


class Run(NamedTuple):
    """What one program printed."""

    points: list[Point]
    errors: list[str]  # of blocks that belong to no test line
    plan: int | None
    skipped: str | None  # the reason of a plan that skips everything
    bail: str | None


class Verdict(NamedTuple):
    """How one program came out: pass, fail, known or skip."""

    word: str
    passed: int
    failures: list[str]
    notes: list[str]


def error_of(block: list[str]) -> str:
    """The error in a YAML block (which may be written as JSON), "" when it has none."""
    try:
        document = json.loads("\n".join(block))
        return str(document.get("error") or "") if isinstance(document, dict) else ""
    except ValueError:
        pass
    for number, line in enumerate(block):
        if match := ERROR.match(line):
            text = match[1].strip().strip("\"',|>")
            indent = len(line) - len(line.lstrip())
            more = []
            for following in block[number + 1 :]:  # a block scalar: what is indented further
                if following.strip() and len(following) - len(following.lstrip()) <= indent:
                    break
                more.append(following.strip())
            return " ".join([text, *more]).strip()
    return ""


def parse(text: str) -> Run:
    """The run of one program.  Whatever is no TAP is passed over."""
    points: list[Point] = []
    errors: list[str] = []
    plan = skipped = bail = None
    block: list[str] | None = None
    owned = False  # whether a block would belong to a test line
    for line in text.splitlines():
        word = line.strip()
        if block is not None:
            if word == "...":
                if (error := error_of(block)) and not owned:
                    errors.append(error)
                block = None
            else:
                block.append(line)
        elif word == "---":
            block = []
        elif match := PLAN.match(word):
            plan, skipped = int(match[1]), match[2]
            owned = False
        elif word.startswith("Bail out!"):
            bail = word.removeprefix("Bail out!").strip()
        elif match := LINE.match(word):
            points.append(_point(bool(match[1]), match[3]))
            owned = True
    if block and not owned and (error := error_of(block)):  # the program died in its block
        errors.append(error)
    return Run(points, errors, plan, skipped, bail)


def _point(failed: bool, text: str) -> Point:
    directive = DIRECTIVE.search(text)
    if directive:
        return Point("skip", text)  # of a todo a failure is expected, and a success counts for nothing
    return Point("fail" if failed else "pass", text)


class Known(NamedTuple):
    """A failure that no runtime can help."""

    program: str  # shell pattern of the program's name
    line: str  # regular expression of the failure
    reason: str


KNOWN = (
    Known("hooks", "listed order", "the program removes the bundle with its output before it reads that"),
    Known("hooks_stdin", "status", "asks prestart hooks for the status created; the spec says creating"),
    Known("prestart", "after the .?start.? operation", "prestart hooks belong to create since runtime-spec 1.0.2"),
    Known(
        "poststart_fail", "warning|poststart|post-start", "asks for a warning; since runtime-spec 1.2 it is an error"
    ),
    Known("delete", "created|not stopped|stopped", "asks delete of a created container to fail: engines rely on it"),
    Known("misc_props", "annotation|unknown|status", "looks at the container while it may or may not have ended"),
)
V1_ONLY = Known("linux_cgroups_*", "", "reads the files of cgroup v1, and this machine has v2 only")


def reason_for(program: str, failure: str, known: tuple[Known, ...]) -> str:
    """Why no runtime can help this failure, "" when one can."""
    for entry in known:
        if fnmatch.fnmatchcase(program, entry.program) and re.search(entry.line, failure, re.IGNORECASE):
            return entry.reason
    return ""


def judge(program: str, run: Run, code: int | None, known: tuple[Known, ...] = KNOWN) -> Verdict:
    """The verdict on a program.  code: its exit status, None when it was ended after its time."""
    failures = [point.text or "a line without text" for point in run.points if point.verdict == "fail"]
    failures += run.errors
    passed = sum(point.verdict == "pass" for point in run.points)
    if run.bail is not None:
        failures.append(f"bailed out: {run.bail}")
    if code is None:
        failures.append("did not end in its time")
    elif code != 0 and not failures:
        failures.append(f"exit status {code}")
    if run.plan is None and not run.points and not failures:
        failures.append("printed no TAP")
    notes = []
    if run.plan not in (None, len(run.points)):
        notes.append(f"the plan says {run.plan}, there were {len(run.points)}")
    if failures:
        reasons = [reason_for(program, failure, known) for failure in failures]
        return Verdict(
            "known" if all(reasons) else "fail", passed, failures, [*dict.fromkeys(filter(None, reasons)), *notes]
        )
    skips = [point.text for point in run.points if point.verdict == "skip"]
    if run.skipped is not None or (skips and not passed):
        return Verdict("skip", passed, [], [run.skipped or "; ".join(skips)])
    return Verdict("pass", passed, [], notes)
