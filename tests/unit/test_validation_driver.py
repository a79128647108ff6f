"""conformance/validation: TAP read as it is meant, on output recorded from programs of ours in that style."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from conformance import tap

ROOT = Path(__file__).resolve().parents[2]
DRIVER = ROOT / "conformance" / "validation"

GOOD = """TAP version 13
ok 1 - root filesystem
ok 2 - hostname
1..2
"""
BAD = """TAP version 13
ok 1 - root filesystem
not ok 2 - hostname
  ---
  {
    "error": "hostname expected: a, actual: b",
    "level": "MUST"
  }
  ...
1..2
"""
ONLY_YAML = """TAP version 13
  ---
  {
    "error": "the process MUST run\\nsee config.md"
  }
  ...
1..0
"""
ONLY_YAML_AFTER_PLAN = """TAP version 13
1..0
  ---
  error: kill of a stopped container succeeded
  ...
"""
EXPECTED_ERROR = """TAP version 13
ok 1 - create without id generates an error
  ---
  {
    "error": "exit status 1",
    "reference": "runtime.md#create"
  }
  ...
1..1
"""
WRONG_PLAN = """TAP version 13
1..5
ok 1 - one
ok 1 - again
"""
SKIPPED = """TAP version 13
ok 1 # SKIP needs blkio
1..1
"""
TODO = """TAP version 13
not ok 1 - later # TODO spec is unclear
ok 2 - now
1..2
"""


def judge(text: str, code: int | None = 0, program: str = "x") -> tap.Verdict:
    return tap.judge(program, tap.parse(text), code)


@pytest.mark.parametrize(
    ("text", "code", "word", "failures"),
    [
        (GOOD, 0, "pass", []),
        (BAD, 0, "fail", ["hostname"]),
        (ONLY_YAML, 0, "fail", ["the process MUST run\nsee config.md"]),
        (ONLY_YAML_AFTER_PLAN, 0, "fail", ["kill of a stopped container succeeded"]),
        (EXPECTED_ERROR, 0, "pass", []),
        (WRONG_PLAN, 0, "pass", []),
        (SKIPPED, 0, "skip", []),
        (TODO, 0, "pass", []),
        ("TAP version 13\n1..0\n", 0, "pass", []),
        ("TAP version 13\n1..0 # SKIP no cgroups\n", 0, "skip", []),
        (GOOD, 1, "fail", ["exit status 1"]),
        (BAD, 1, "fail", ["hostname"]),
        (GOOD, None, "fail", ["did not end in its time"]),
        ("panic: nil\n", 2, "fail", ["exit status 2"]),
        ("", 0, "fail", ["printed no TAP"]),
        ("ok 1 - a\nBail out! no root\n", 0, "fail", ["bailed out: no root"]),
        ("TAP version 13\n  ---\n  error: cut", 0, "fail", ["cut"]),
    ],
)
def test_verdict(text: str, code: int | None, word: str, failures: list[str]) -> None:
    verdict = judge(text, code)
    assert (verdict.word, verdict.failures) == (word, failures)


def test_a_wrong_plan_is_a_note() -> None:
    verdict = judge(WRONG_PLAN)
    assert (verdict.passed, verdict.notes) == (2, ["the plan says 5, there were 2"])


def test_skips_give_their_reason() -> None:
    assert "needs blkio" in judge(SKIPPED).notes[0]
    assert judge("1..0 # SKIP no cgroups\n").notes == ["no cgroups"]


@pytest.mark.parametrize(
    ("block", "error"),
    [
        (['{"error": "a"}'], "a"),
        (['{"level": "MUST"}'], ""),
        (["  error: plain text"], "plain text"),
        (['  error: "quoted"', "  level: MUST"], "quoted"),
        (["  error: |", "    first", "    second", "  level: MUST"], "first second"),
        (["  level: MUST"], ""),
        (["[]"], ""),
    ],
)
def test_error_of_a_block(block: list[str], error: str) -> None:
    assert tap.error_of(block) == error


def test_known_failures_have_a_reason() -> None:
    text = "TAP version 13\n  ---\n  error: Hooks MUST be called in the listed order\n  ...\n1..0\n"
    verdict = judge(text, program="hooks")
    assert verdict.word == "known"
    assert verdict.notes[0].startswith("the program removes the bundle")
    assert judge(text, program="create").word == "fail"


def test_one_unknown_failure_is_enough() -> None:
    text = "not ok 1 - Hooks MUST be called in the listed order\nnot ok 2 - another\n1..2\n"
    assert judge(text, program="hooks").word == "fail"


def test_v1_programs_on_a_v2_machine() -> None:
    verdict = tap.judge("linux_cgroups_pids", tap.parse(BAD), 1, (tap.V1_ONLY,))
    assert verdict.word == "known"


# -- the driver ------------------------------------------------------------------------------


def drive(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([DRIVER, *args], capture_output=True, text=True, timeout=30)


def program(tree: Path, name: str, text: str, then: str = "") -> None:
    path = tree / "validation" / name / f"{name}.t"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\n{then}\n")
    path.chmod(0o755)


def test_without_a_tree() -> None:
    done = drive("true")
    assert done.returncode == 0
    assert done.stdout.startswith("skipped:")


def test_not_a_tree(tmp_path: Path) -> None:
    assert drive("true", "--tree", str(tmp_path)).returncode == 2


def test_a_tree(tmp_path: Path) -> None:
    program(tmp_path, "default", GOOD, 'test -x "$RUNTIME" || echo "not ok 3 - no runtime"')
    program(tmp_path, "kill", ONLY_YAML_AFTER_PLAN)
    program(tmp_path, "hangs", GOOD, "exec sleep 60")
    done = drive("true", "--tree", str(tmp_path), "--timeout", "2", "--json")
    assert done.returncode == 1
    found = {name: verdict["word"] for name, verdict in json.loads(done.stdout).items()}
    assert found == {"default": "pass", "hangs": "fail", "kill": "fail"}
    shown = drive("true", "--tree", str(tmp_path), "--only", "default")
    assert shown.returncode == 0
    assert shown.stdout.splitlines()[-1] == "1 programs: 1 pass, 0 known, 0 fail, 0 skip"
