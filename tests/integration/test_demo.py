"""`make run` shows what it promises, and leaves nothing behind."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from tests.integration import harness

if TYPE_CHECKING:
    from pathlib import Path

# The order of what a newcomer sees.
STORY = (
    r"^\$ pyoci create ",
    r"^\$ pyoci state ",
    r'"status": "created"',
    r"^\$ pyoci start ",
    r"^hello",
    r"^\$ pyoci state ",
    r'"status": "stopped"',
    r"^\$ pyoci delete ",
    r"^\$ pyoci run --detach ",
    r"^\$ pyoci state ",
    r'"status": "running"',
    r"^\$ pyoci exec ",
    r"^ *PID ",
    r"^\$ pyoci kill ",
    r'"status": "stopped"',
    r"^\$ pyoci delete ",
)


@harness.pyoci_only("the demo is ours")
def test_story(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with out.open("w") as file:
        demo = harness.PROJECT / "bundles" / "run-demo"
        done = subprocess.run(
            [demo], stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=3 * harness.TIMEOUT, check=False
        )
    text = out.read_text()
    assert done.returncode == 0, text
    position = 0
    for pattern in STORY:
        found = re.compile(pattern, re.MULTILINE).search(text, position)
        assert found, f"{pattern} is missing after:\n{text[:position]}\n-- in --\n{text[position:]}"
        position = found.end()
