"""Finds the checks, runs those of the chosen rows, and sums each row up."""

from __future__ import annotations

import importlib
import shutil
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from conformance import machine
from conformance.box import Box, Failed, PlanOnly, Skip, Suite
from conformance.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

GROUPS = (
    "g01_lifecycle g01_lifecycle_more g02_process g02_process_more g03_mounts g03_mounts_more g04_namespaces "
    "g05_devices g06_netdevices g07_cgroups g07_cgroups_more g08_seccomp g09_kernel g10_hooks g11_features"
).split()
CHECKS: dict[str, list[Check]] = {ident: [] for ident in ROWS}


class Check(NamedTuple):
    """One look at one row."""

    row: str
    name: str  # what it shows, in words
    function: Callable[[Box], None]


class Outcome(NamedTuple):
    """How a row (or a check) came out: pass, fail, skip or plan ("plan only")."""

    verdict: str
    note: str
    seconds: float


def check(*rows: str) -> Callable[[Callable[[Box], None]], Callable[[Box], None]]:
    """Register a check for its rows; its docstring says what it shows."""

    def register(function: Callable[[Box], None]) -> Callable[[Box], None]:
        name = (function.__doc__ or function.__name__).strip().rstrip(".")
        for row in rows:
            CHECKS[row].append(Check(row, name, function))
        return function

    return register


def load() -> None:
    """Import every group.  Raises RuntimeError when a row has no check."""
    for group in GROUPS:
        importlib.import_module(f"conformance.{group}")
    missing = [ident for ident, checks in CHECKS.items() if not checks]
    if missing:
        raise RuntimeError(f"rows without a check: {' '.join(missing)}")


def run_check(suite: Suite, one: Check) -> Outcome:
    """One check in a box of its own."""
    began = time.monotonic()
    verdict, note = "pass", ""
    try:
        with suite.box() as box:
            one.function(box)
    except Skip as reason:
        verdict, note = "skip", str(reason)
    except PlanOnly as reason:
        verdict, note = "plan", str(reason)
    except Failed as reason:
        verdict, note = "fail", f"{one.name}: {reason}"
    except Exception as error:  # a check that breaks is no pass
        verdict, note = "fail", f"{one.name}: {type(error).__name__}: {error}"
    return Outcome(verdict, " ".join(note.split()), time.monotonic() - began)


def run_row(suite: Suite, ident: str) -> Outcome:
    """A row fails when one check does, passes when one passes; else it is plan only, or skipped."""
    outcomes = [run_check(suite, one) for one in CHECKS[ident]]
    found = {outcome.verdict for outcome in outcomes}
    verdict = next(word for word in ("fail", "pass", "plan", "skip") if word in found)
    notes = dict.fromkeys(o.note for o in outcomes if o.note and (o.verdict == verdict or verdict != "fail"))
    prefix = "in part: " if verdict == "pass" and notes else ""
    return Outcome(verdict, prefix + "; ".join(notes), sum(outcome.seconds for outcome in outcomes))


def run(
    runtime: str, idents: Iterable[str], tell: Callable[[str, Outcome], Any] = lambda *_: None
) -> dict[str, Outcome]:
    """The outcome of each row.  tell: called after each row.  Needs root; changes nothing of the host's.

    Enters namespaces of its own: a process can do this once; ask again with `run_rows`.
    """
    machine.enter()
    work = machine.workplace()
    try:
        machine.add_controllers(work / "cgroup")
        return run_rows(Suite(runtime, work), idents, tell)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def run_rows(
    suite: Suite, idents: Iterable[str], tell: Callable[[str, Outcome], Any] = lambda *_: None
) -> dict[str, Outcome]:
    """As run, in the namespaces that were entered."""
    outcomes = {}
    for ident in idents:
        outcomes[ident] = run_row(suite, ident)
        tell(ident, outcomes[ident])
    return outcomes
