"""The rows: id, level, requirement; and which of them a choice like "G7,P01-P10" means.

Level: M a MUST, S a SHOULD, O an optional property that a good runtime supports, D what every runtime
does though the spec is silent.  "M*" binds only once the feature is offered.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """One requirement of the runtime-spec."""

    id: str
    level: str
    text: str
    group: str


def _load() -> dict[str, Row]:
    rows = {}
    group = ""
    for line in Path(__file__).with_name("rows.txt").read_text().splitlines():
        if line.startswith("G"):
            group = line
        elif line:
            ident, level, text = line.split(maxsplit=2)
            rows[ident] = Row(ident, level, text, group)
    return rows


ROWS = _load()


def choose(text: str) -> list[str]:
    """The ids of "G7,P01-P10,M06" in their order; all for "".  Raises ValueError for what is no row."""
    chosen: set[str] = set()
    for part in text.split(",") if text else ():
        found = _part(part.strip().upper())
        if not found:
            raise ValueError(f"no such row: {part}")
        chosen.update(found)
    return [ident for ident in ROWS if not text or ident in chosen]


def _part(part: str) -> list[str]:
    if part.startswith("G"):
        return [row.id for row in ROWS.values() if row.group.split()[0] == part]
    first, _, last = part.partition("-")
    if not re.fullmatch(r"[A-Z]\d\d", first) or first not in ROWS or (last and last[0] != first[0]):
        return []
    return [ident for ident in ROWS if first <= ident <= (last or first)]
