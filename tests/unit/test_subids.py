"""The mappings of an ordinary user's container whose config asks for no user namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyoci.host.subids import mappings, ranges

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("inside", "ranges", "wanted"),
    [
        (0, [], [(0, 1000, 1)]),
        (5, [], [(5, 1000, 1)]),
        (0, [(100000, 65536)], [(0, 1000, 1), (1, 100000, 65536)]),
        (5, [(100000, 65536)], [(0, 100000, 5), (5, 1000, 1), (6, 100005, 65531)]),
        (5, [(100000, 5)], [(0, 100000, 5), (5, 1000, 1)]),
        (5, [(100000, 2)], [(0, 100000, 2), (5, 1000, 1)]),
        (1, [(10, 2), (20, 3)], [(0, 10, 1), (1, 1000, 1), (2, 11, 1), (3, 20, 3)]),
        (2, [(10, 2), (20, 3)], [(0, 10, 2), (2, 1000, 1), (3, 20, 3)]),
    ],
)
def test_mappings(inside: int, ranges: list[tuple[int, int]], wanted: list[tuple[int, int, int]]) -> None:
    made = mappings(inside, 1000, ranges)
    assert [(one["containerID"], one["hostID"], one["size"]) for one in made] == wanted


def test_ranges_are_numbers(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_text(f"77:{'9' * 5000}:1\n77:1:\u00b2\n78:1:1\n77:100000:65536\n")
    assert ranges(str(file), 77) == [(100000, 65536)]
