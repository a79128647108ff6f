"""docs/SECURITY.md is true: its tests are there, every class has one, and a defence that was seen to matter."""

from __future__ import annotations

import re

import pytest

from tests.integration.harness import PROJECT
from tests.security import teeth

CLASSES = [str(number) for number in range(1, 26)]
ROWS = {
    cells[1]: cells[2:]
    for line in (PROJECT / "docs/SECURITY.md").read_text().splitlines()
    if (cells := [cell.strip() for cell in line.split("|")]) and len(cells) == 7 and cells[1].isdigit()
}


def test_every_class_has_a_row() -> None:
    assert list(ROWS) == CLASSES


@pytest.mark.parametrize("kind", CLASSES)
def test_the_tests_are_there(kind: str) -> None:
    """Of the row, and of its teeth: a file, and in it the function."""
    named = re.findall(r"[\w/]+\.py", ROWS[kind][2])
    assert named
    for name in named:
        path = PROJECT / (name if name.startswith("tests/") else f"tests/security/{name}")
        assert path.exists(), name
        assert "def test_" in path.read_text(), name
    for tooth in teeth.TEETH:
        for test in tooth.tests:
            file, _, function = test.partition("[")[0].partition("::")
            assert f"def {function or 'test_'}" in (PROJECT / file).read_text(), test


@pytest.mark.parametrize("kind", CLASSES)
def test_the_teeth_are_those_of_the_table(kind: str) -> None:
    """The names in the last column are the teeth of the class."""
    names = [tooth.name for tooth in teeth.TEETH if tooth.kind == kind]
    assert names
    assert ROWS[kind][3] == "; ".join(names)


@pytest.mark.parametrize("tooth", teeth.TEETH, ids=lambda tooth: f"{tooth.kind}: {tooth.name}")
def test_the_edits_fit(tooth: teeth.Tooth) -> None:
    """A defence that has moved takes its tooth along."""
    for name, old, new in tooth.edits:
        assert (PROJECT / name).read_text().count(old) == 1, (name, old)
        assert old != new
