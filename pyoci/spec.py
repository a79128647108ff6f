"""What the runtime-spec asks of config.json (being written: the signatures are final)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = "1.3.0"


def validate(config: Any) -> None:
    """Raise errors.InvalidConfig, with every fault, unless config is valid."""
