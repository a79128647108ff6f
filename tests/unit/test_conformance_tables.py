"""The tables of conformance/: each row has its checks, its proof, and a place in every report."""

from __future__ import annotations

import json
import os
import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from conformance import crippled, report, rows, runner, table

ROOT = Path(__file__).resolve().parents[2]
OUTCOMES = {
    "L01": runner.Outcome("pass", "", 0.1),
    "P13": runner.Outcome("fail", "a <b> | c", 0.2),
    "P08": runner.Outcome("skip", "no AppArmor", 0.0),
    "C15": runner.Outcome("plan", "the plan has it", 0.0),
}


def test_all_rows_have_checks() -> None:
    runner.load()
    assert len(rows.ROWS) == 159
    assert all(runner.CHECKS[ident] for ident in rows.ROWS)
    assert all(check.name and check.name[0].isprintable() for checks in runner.CHECKS.values() for check in checks)


def test_every_row_can_be_proven() -> None:
    assert set(crippled.LACKS) == set(rows.ROWS)
    assert all(crippled.LACKS.values())


def test_choose() -> None:
    assert rows.choose("G6") == ["X01", "X02", "X03", "X04", "X05", "X06"]
    assert rows.choose("p02-P04,L01") == ["L01", "P02", "P03", "P04"]
    assert len(rows.choose("")) == 159
    for wrong in ("G99", "P99", "P01-L02", "x", "P01,,P02"):
        with pytest.raises(ValueError, match="no such row"):
            rows.choose(wrong)


def test_peers_are_about_rows() -> None:
    lines = [line.split(" ", 2) for line in (ROOT / "conformance/peers.txt").read_text().splitlines()]
    keys = [(name, ident) for name, ident, _ in lines]
    assert {ident for _, ident in keys} <= set(rows.ROWS)
    assert len(keys) == len(set(keys))
    assert {name.partition("@")[2] for name, _ in keys} <= {"", *table.MACHINES}


def found(key: str, ours: str, peer: str) -> table.Machine:
    """Rows in which ours and the peer differ in L01 only; both have a note there."""
    both = {ident: {"verdict": "pass", "note": ""} for ident in rows.ROWS}
    names = {
        "ours": both | {"L01": {"verdict": ours, "note": key}},
        "peer": both | {"L01": {"verdict": peer, "note": "x"}},
    }
    return table.Machine(key, f"machine {key}", {name: f"{name} 1.0" for name in names}, names)


def test_what_is_recorded_comes_back(tmp_path: Path) -> None:
    before = found("v2", "plan", "fail")
    before.save(tmp_path)
    after = table.load(tmp_path / "v2.txt")
    assert (after.key, after.title, after.versions, after.rows) == (
        "v2",
        before.title,
        before.versions,
        before.rows,
    )


def test_the_document_has_both_machines() -> None:
    text = table.document([found("v1", "skip", "fail"), found("v2", "pass", "pass")])
    assert "| L01 | M | config.json in bundle root, that exact name" in text
    assert "| - | pass | **FAIL** | pass | v1: v1; v2: v2 |" in text
    assert "of 159 rows: ours 159, peer 158." in text
    assert "* L01 (v1): not looked at yet: x" in text
    assert "L02" not in text.partition("## Why peer fails")[2]


def test_the_document_is_what_is_recorded() -> None:
    assert (ROOT / "docs/CONFORMANCE.md").read_text() == table.document(table.recorded())


def test_no_import_of_the_project() -> None:
    for path in (ROOT / "conformance").iterdir():
        if path.is_file() and path.suffix in (".py", ""):
            assert not re.search(r"^\s*(from|import) pyoci\b", path.read_text(), re.MULTILINE), path


def test_reports() -> None:
    document = json.loads(report.as_json("x", OUTCOMES))
    assert document["totals"] == {"pass": 1, "fail": 1, "skip": 1, "plan": 1}
    assert document["rows"]["P13"]["note"] == "a <b> | c"
    suite = ET.fromstring(report.as_junit("x", OUTCOMES))
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "1", "2")
    assert [len(case) for case in suite] == [0, 1, 1, 1]
    assert suite[1][0].get("message") == "a <b> | c"
    table = report.as_markdown("x", OUTCOMES)
    assert "| P13 | O |" in table
    assert "a &lt;b> \\| c" in table


def test_crippling_edits() -> None:
    config = {"a": {"b": [1, 2, 3]}, "c": 1}
    crippled.edit(config, "/a/b/-1")
    crippled.edit(config, "/c")
    crippled.edit(config, "/nosuch/x")
    crippled.edit(config, "/a/d", 5)
    assert config == {"a": {"b": [1, 2], "d": 5}}


@pytest.mark.parametrize(
    ("argv", "text"), [(["nosuchruntime"], "there is no runtime"), (["true", "--rows", "X99"], "no such row")]
)
def test_what_cannot_be_run(argv: list[str], text: str) -> None:
    """Exit status 2, and no row: nothing was found out about the runtime."""
    done = subprocess.run([ROOT / "conformance/run", *argv], capture_output=True, text=True)
    if os.geteuid() != 0 and "--rows" not in argv:
        text = "run them as root"
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr
