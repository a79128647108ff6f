"""The tests that run in the virtual machine booted with cgroup v1: the fixtures are those of tests/vm/inside."""

from __future__ import annotations

from tests.vm.inside.conftest import box, boxes, console, host, limit, scoped, template, user, workshop

__all__ = ["box", "boxes", "console", "host", "limit", "scoped", "template", "user", "workshop"]
