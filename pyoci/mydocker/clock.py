"""Times as they are written down: RFC 3339, UTC."""

from __future__ import annotations

import datetime


def stamp(seconds: float) -> str:
    """Seconds since 1970 -> RFC 3339, UTC, microseconds."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def now() -> str:
    """This moment, as stamp() writes it."""
    return stamp(datetime.datetime.now(datetime.UTC).timestamp())


def seconds(text: str | None) -> float:
    """stamp() backwards; 0 for none."""
    return datetime.datetime.fromisoformat(text).timestamp() if text else 0.0
