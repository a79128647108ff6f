"""The table of the engines' checks: enough of them, known to the document, and their results in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines import lab, matrix, report

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "ENGINES.md"
AT_LEAST = {"podman": 60, "docker": 50, "ctr": 25, "buildah": 15, "swarm": 20, "rootless": 50}


@pytest.mark.parametrize(("engine", "count"), AT_LEAST.items())
def test_enough_checks(engine: str, count: int) -> None:
    assert len(matrix.checks_of(engine, [], quick=False)) >= count


@pytest.mark.parametrize("engine", matrix.ENGINES)
def test_quick_selection(engine: str) -> None:
    """CI runs a few checks of every engine, not all."""
    quick = matrix.checks_of(engine, [], quick=True)
    assert 5 <= len(quick) < len(matrix.checks_of(engine, [], quick=False))


def test_two_checks_of_one_name_are_refused() -> None:
    taken = matrix.checks_of("podman", [], quick=False)[0]
    with pytest.raises(AssertionError, match=taken.id):
        lab.add(taken.id, "podman", taken.function)


@pytest.mark.parametrize("engine", matrix.ENGINES)
def test_document_has_every_check(engine: str) -> None:
    """And every result for pyoci is a pass or a skip with a reason."""
    section = DOCUMENT.read_text().partition(f"### {report.TITLES[engine][0]} (")[2].partition("\n### ")[0]
    rows = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in section.splitlines() if line[:2] == "| "}
    for check in matrix.checks_of(engine, [], quick=False):
        assert rows.get(check.id, "no row").split()[0] in ("pass", "skip"), f"{check.id}: {rows.get(check.id)}"


def test_reasons_do_not_tell_of_the_machine() -> None:
    said = (
        'Error: /home/x/build/pyoci: time="2026-01-01T00:00:00Z" level=error msg="bad" /tmp/pyoci-engines-1-podman/a|b'
    )
    assert report.plain(said) == 'Error: pyoci: "bad" WORK/a\\|b'
    assert len(report.plain("x" * 1000)) == report.LONGEST


def test_table() -> None:
    check = lab.Check("one", ("podman",), lambda _: None, False)
    results = {"pyoci": {"one": {"verdict": "pass", "why": ""}}, "runc": {"one": {"verdict": "fail", "why": "bad"}}}
    lines = report.table([check], {**results, "crun": {}})
    assert "| one | pass | fail (1) | - |" in lines
    assert "1. bad" in lines
