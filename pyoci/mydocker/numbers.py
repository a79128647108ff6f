"""Numbers as a user writes them."""

from __future__ import annotations

_LONGEST = 18  # digits: more is beyond 64 bits, and int() raises ValueError for thousands


def decimal(text: str) -> int | None:
    """The number that ASCII digits are, None for other texts; int() takes digits of other scripts as well."""
    return int(text) if len(text) <= _LONGEST and text.isascii() and text.isdigit() else None
