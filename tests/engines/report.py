"""The results of the engines' checks as tables in a document, between two marks."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.engines.lab import Check

BEGIN, END = "<!-- made by tests/engines/matrix.py --write -->", "<!-- end -->"
LONGEST = 320  # characters of a reason
RUNTIMES = ("pyoci", "runc", "crun")
TITLES = {
    "podman": ("podman as root", ["podman", "--version"]),
    "rootless": ("podman without privileges", ["podman", "--version"]),
    "ctr": ("containerd, with ctr", ["containerd", "--version"]),
    "docker": ("Docker", ["dockerd", "--version"]),
    "swarm": ("Docker's swarm, one node", ["dockerd", "--version"]),
    "buildah": ("buildah", ["buildah", "--version"]),
}


def version(command: list[str]) -> str:
    """The first number with dots that a program prints about itself."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    found = re.search(r"\d+\.\d+[^\s,]*", done.stdout)
    return found[0] if found else ""


def plain(why: str) -> str:
    """A reason without what differs from run to run, short enough for a cell."""
    words = re.sub(r"/tmp/pyoci-engines-[^/ ]*", "WORK", why)
    words = re.sub(r"\b[0-9a-f]{12,64}\b", "ID", words)
    words = re.sub(r"(/[\w.-]+)+/(pyoci|runc|crun)\b", r"\2", words)
    words = re.sub(r'time="[^"]*" level=error msg=', "", words)
    words = " ".join(words.replace("|", "\\|").replace("<", "&lt;").split())
    words = re.sub(r" \(\w+\.py:\d+\)$", "", words.removeprefix("AssertionError: "))
    return words if len(words) <= LONGEST else words[: LONGEST - 3] + "..."


def cell(result: dict[str, Any] | None, notes: list[str]) -> str:
    """pass, or fail and skip with the number of a note."""
    if result is None:
        return "-"
    if result["verdict"] == "pass":
        return "pass"
    note = plain(result["why"])
    if note not in notes:
        notes.append(note)
    return f"{result['verdict']} ({notes.index(note) + 1})"


def table(checks: list[Check], results: dict[str, dict[str, Any]]) -> list[str]:
    """One engine: the totals, a row for each check, the reasons below."""
    lines = ["| check | " + " | ".join(RUNTIMES) + " |", "|---|" + "---|" * len(RUNTIMES)]
    notes: list[str] = []
    totals = []
    for runtime in RUNTIMES:
        counts = Counter(results[runtime].get(check.id, {}).get("verdict", "-") for check in checks)
        totals.append(", ".join(f"{counts[word]} {word}" for word in ("pass", "fail", "skip", "-") if counts[word]))
    lines.append("| **" + str(len(checks)) + " checks** | " + " | ".join(totals) + " |")
    for check in checks:
        cells = [cell(results[runtime].get(check.id), notes) for runtime in RUNTIMES]
        lines.append(f"| {check.id} | " + " | ".join(cells) + " |")
    return [*lines, "", *(f"{number}. {note}" for number, note in enumerate(notes, 1)), ""]


def write(path: Path, engines: dict[str, list[Check]], load: Callable[[str, str], dict[str, Any]]) -> None:
    """Replace what is between the marks of the document."""
    text = path.read_text()
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise SystemExit(f"{path}: no {BEGIN} ... {END}")
    runtimes = ", ".join(f"{name} {version([name, '--version'])}".strip() for name in RUNTIMES[1:])
    lines = [BEGIN, "", f"Against {runtimes} of the same machine.", ""]
    for engine, checks in engines.items():
        title, command = TITLES[engine]
        lines += [f"### {title} ({version(command)})", ""]
        lines += table(checks, {runtime: load(engine, runtime) for runtime in RUNTIMES})
    path.write_text(before + "\n".join(lines) + END + after)
