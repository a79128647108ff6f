"""The engines' tests run on the same private host as those with the runtime alone."""

from __future__ import annotations

from tests.integration.conftest import host, limit, workshop

__all__ = ["host", "limit", "workshop"]
