"""The tests that run in the virtual machine: the fixtures are those of the integration tests."""

from __future__ import annotations

from tests.integration.conftest import box, boxes, console, host, limit, template, workshop

__all__ = ["box", "boxes", "console", "host", "limit", "template", "workshop"]
