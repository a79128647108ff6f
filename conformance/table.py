"""The rows of several runtimes on several machines, side by side: what is recorded, and the document made of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from conformance import machine, report
from conformance.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
RECORDED = HERE / "recorded"
MACHINES = ("v1", "v2")
HEAD = """\
# Conformance

The 159 rows of the runtime-spec 1.3.0 (Linux), each shown on real containers by checks that drive nothing but the
runtime's command line; `conformance/run RUNTIME` does it for any runtime. Written by `make conformance` (the columns of
the machine it runs on) and `make conformance-vm` (v2, in the virtual machine of tests/vm) from conformance/recorded.

* `pass` every check of the row holds; **FAIL** one does not; `-` that machine cannot show it (the reason is in the
  note); `plan` that machine cannot show it, and what the runtime would do was read from the plan it prints.
* Level: M a MUST, S a SHOULD, O an option of the spec, D what every runtime does though the spec is silent.
* Each row was seen to fail on a runtime that lacks the thing: `conformance/prove RUNTIME` takes it away and asks again.

"""
MARKS = {"pass": "pass", "fail": "**FAIL**", "skip": "-", "plan": "plan"}

# runtime -> row -> {"verdict", "note"}
Rows = dict[str, dict[str, dict[str, str]]]


class Machine:
    """What was found on one machine.

    key:      "v1" or "v2", its cgroups
    title:    str, what it is, in words
    versions: dict, runtime -> what its --version says
    rows:     Rows; the first runtime is ours
    """

    def __init__(self, key: str, title: str, versions: dict[str, str], rows: Rows) -> None:
        self.key = key
        self.title = title
        self.versions = versions
        self.rows = rows

    def fails(self) -> Iterator[tuple[str, str, str]]:
        """(runtime, row, note) of each failure."""
        for name, rows in self.rows.items():
            for ident, row in rows.items():
                if row["verdict"] == "fail":
                    yield name, ident, row["note"]

    def save(self, directory: Path) -> None:
        """Write DIRECTORY/KEY.txt.  A failure that is explained needs no note: its paths and ids differ each time."""
        why = Reasons()
        lines = [f"title {self.title}", *(f"version {name} {text}" for name, text in self.versions.items())]
        for name, found in self.rows.items():
            for ident, row in found.items():
                explained = row["verdict"] == "fail" and why(name, self.key, ident)
                lines.append(f"{name} {ident} {row['verdict']} {'' if explained else row['note']}".rstrip())
        (directory / f"{self.key}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def load(file: Path) -> Machine:
    """What save wrote."""
    lines = file.read_text(encoding="utf-8").splitlines()
    versions: dict[str, str] = {}
    rows: Rows = {}
    for line in lines[1:]:
        name, ident, *rest = line.split(" ", 3)
        if name == "version":
            versions[ident] = " ".join(rest)
        else:
            rows.setdefault(name, {})[ident] = {"verdict": rest[0], "note": " ".join(rest[1:])}
    return Machine(file.stem, lines[0].removeprefix("title "), versions, rows)


def here(versions: dict[str, str], rows: Rows) -> Machine:
    """What was found on this machine."""
    words = ["Linux " + ".".join(os.uname().release.split(".")[:2])]
    key = "v2" if machine.unified() else "v1"
    words.append(f"cgroup {key}")
    words += ["systemd"] * Path("/run/systemd/system").exists()
    words += ["AppArmor"] * machine.lsm("apparmor") + ["SELinux"] * machine.lsm("selinux")
    return Machine(key, ", ".join(words), versions, rows)


def recorded() -> list[Machine]:
    """What is recorded of each machine."""
    return [load(RECORDED / f"{key}.txt") for key in MACHINES if (RECORDED / f"{key}.txt").exists()]


class Reasons:
    """peers.txt: why a peer fails a row, looked at by hand.  RUNTIME@v2 is for one machine alone."""

    def __init__(self) -> None:
        lines = [line.rstrip("\n").split(" ", 2) for line in (HERE / "peers.txt").read_text().splitlines() if line]
        self.table = {(name, ident): note for name, ident, note in lines}

    def __call__(self, name: str, key: str, ident: str) -> str:
        """The reason, "" for none."""
        return self.table.get((f"{name}@{key}", ident)) or self.table.get((name, ident)) or ""


def document(machines: list[Machine]) -> str:
    """docs/CONFORMANCE.md."""
    text = HEAD + "".join(f"* {found.key}: {found.title}\n" for found in machines)
    return "\n".join([text, _totals(machines), *_groups(machines), *_why(machines)]) + "\n"


def _names(machines: list[Machine]) -> list[str]:
    return list(dict.fromkeys(name for found in machines for name in found.rows))


def _columns(machines: list[Machine]) -> list[tuple[str, Machine]]:
    return [(name, found) for name in _names(machines) for found in machines if name in found.rows]


def _line(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _totals(machines: list[Machine]) -> str:
    columns = _columns(machines)
    lines = [_line("", *(f"{found.versions[name]}, {found.key}" for name, found in columns))]
    lines.append("|---|" + "---|" * len(columns))
    for verdict, mark in MARKS.items():
        counts = [sum(row["verdict"] == verdict for row in found.rows[name].values()) for name, found in columns]
        lines.append(_line(mark, *counts))
    together = []
    for name in _names(machines):
        verdicts = [{found.rows[name][ident]["verdict"] for found in machines if name in found.rows} for ident in ROWS]
        together.append(f"{name} {sum('pass' in row and 'fail' not in row for row in verdicts)}")
    lines.append(f"\nPassed on one machine and failed on none, of {len(ROWS)} rows: {', '.join(together)}.")
    return "\n".join(lines)


def _groups(machines: list[Machine]) -> Iterator[str]:
    columns = _columns(machines)
    group = ""
    for ident, row in ROWS.items():
        if row.group != group:
            group = row.group
            names = [f"{name} {found.key}" for name, found in columns]
            yield f"\n## {group}\n"
            yield _line("row", "level", "requirement", *names, "note")
            yield "|---|---|---|" + "---|" * len(columns) + "---|"
        marks = [MARKS[found.rows[name][ident]["verdict"]] for name, found in columns]
        yield _line(ident, row.level, report.cell(row.text), *marks, report.cell(_note(machines, ident)))


def _note(machines: list[Machine], ident: str) -> str:
    """Our notes, the machine before each unless they are the same."""
    notes = {found.key: next(iter(found.rows.values()))[ident]["note"] for found in machines}
    if len(set(notes.values())) == 1:
        return next(iter(notes.values()))
    return "; ".join(f"{key}: {note}" for key, note in notes.items() if note)


def _why(machines: list[Machine]) -> Iterator[str]:
    why = Reasons()
    for name in _names(machines)[1:]:
        yield f"\n## Why {name} fails\n\nLooked at by hand: it is the runtime and not the check.\n"
        for ident in ROWS:
            notes = {
                found.key: why(name, found.key, ident) or "not looked at yet: " + found.rows[name][ident]["note"]
                for found in machines
                if name in found.rows and found.rows[name][ident]["verdict"] == "fail"
            }
            for note in dict.fromkeys(notes.values()):
                keys = [key for key in notes if notes[key] == note]
                alone = f" ({keys[0]})" if len(keys) == 1 and len(machines) > 1 else ""
                yield f"* {ident}{alone}: {note}"
