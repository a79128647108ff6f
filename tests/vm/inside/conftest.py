"""The tests that run in the virtual machine: the fixtures are those of the integration tests, and a few more."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.conftest import box, boxes, console, host, limit, template, workshop
from tests.vm.inside.tools import User, systemctl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.harness import Box

__all__ = ["box", "boxes", "console", "host", "limit", "template", "workshop"]


@pytest.fixture
def scoped(box: Box, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    """A box whose cgroup systemd makes: SCOPE in a slice of its own."""
    plain = box.argv
    monkeypatch.setattr(box, "argv", lambda *args: plain("--systemd-cgroup", *args))
    box.linux["cgroupsPath"] = f"pyocivm-a.slice:it:{box.id}"
    yield box
    box.destroy()  # before its slice: systemd waits long for an init that SIGTERM does not end
    systemctl("stop", "pyocivm.slice")


@pytest.fixture
def user(boxes: Callable[[], Box]) -> Callable[..., User]:
    """A maker of users with a bundle of their own; see tools.User."""

    def make(name: str = "tester", **more: Any) -> User:
        return User(boxes(), name, **more)

    return make


@pytest.fixture(scope="session", autouse=True)
def room_for_controllers() -> None:
    """The tests' own cgroup is delegated to them: their process goes one down, as v2 wants it."""
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        own = file.read().strip().removeprefix("0::")
    if own.endswith(".service"):
        os.mkdir(f"/sys/fs/cgroup{own}/tests")
        with open(f"/sys/fs/cgroup{own}/tests/cgroup.procs", "w", encoding="utf-8") as file:
            file.write(str(os.getpid()))
