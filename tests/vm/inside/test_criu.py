"""checkpoint and restore with the real criu: on Debian's own kernel Debian's criu works."""

from __future__ import annotations

from tests.integration.test_checkpoint import can, test_the_real_criu

__all__ = ["test_the_real_criu"]


def test_criu_can_work_here() -> None:
    """So that the test above is not passed over."""
    assert can() == ""
