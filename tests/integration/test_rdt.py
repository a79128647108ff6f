"""linux.intelRdt of real containers, on a directory that stands in for resctrl: Z05, Z08, Z09, P21."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

import pyoci
from pyoci.host import nsexec
from tests.integration.harness import Box, pyoci_only
from tests.unit.test_rdt import L3, Resctrl

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pyoci_only("it has no Python API, and this machine no resctrl")


@pytest.fixture(scope="module", autouse=True)
def copy_of_nsexec() -> None:
    """A process makes it once and keeps it: no leak."""
    nsexec.binary()


@pytest.fixture
def resctrl(box: Box, monkeypatch: pytest.MonkeyPatch) -> Resctrl:
    root: Path = box.bundle / "resctrl"
    root.mkdir()
    return Resctrl(root, monkeypatch)


def create(box: Box) -> pyoci.Container:
    box.args("sleep", "100")
    with open(os.devnull, "r+b") as null:
        stdio = dict.fromkeys(("stdin", "stdout", "stderr"), null.fileno())
        return pyoci.Container.create(box.id, bundle=str(box.bundle), config=box.config, root=str(box.root), **stdio)


def test_a_life(box: Box, resctrl: Resctrl) -> None:
    """Z05 Z06 Z08 Z09 P21: init and what exec runs are in the class and its monitor; delete removes both."""
    box.linux["intelRdt"] = {"l3CacheSchema": L3, "enableMonitoring": True}
    container = create(box)
    pid = container.pid
    assert resctrl.groups() == {box.id}
    assert resctrl.read(f"{box.id}/tasks") == str(pid)
    container.start()
    with open(os.devnull, "r+b") as null:
        fd = null.fileno()
        process = container.exec(["true"], stdin=fd, stdout=fd, stderr=fd)
    other = process.pid
    process.wait()
    process.close()
    assert resctrl.read(f"{box.id}/tasks") == f"{pid}{other}"
    assert resctrl.read(f"{box.id}/mon_groups/{box.id}/tasks") == f"{pid}{other}"
    container.delete(force=True)
    container.close()
    assert resctrl.groups() == set()


@pytest.mark.parametrize("named", [{}, {"closID": "gold"}])
def test_nothing_is_left_after_a_failure(box: Box, resctrl: Resctrl, named: dict[str, Any]) -> None:
    """L21: neither the container's own class, nor one that was made under a name."""
    box.linux["intelRdt"] = {"l3CacheSchema": L3, **named}
    box.hook("createRuntime", "/bin/false")
    with pytest.raises(pyoci.errors.HookError):
        create(box)
    assert resctrl.groups() == set()
    assert box.entries() == set()


def test_no_resctrl_here(box: Box) -> None:
    """Z05: on the machine itself."""
    if os.path.exists("/sys/fs/resctrl/schemata"):
        pytest.skip("this machine has resctrl")
    box.linux["intelRdt"] = {}
    result = box.create(check=False)
    assert result.code == 1
    assert "Intel RDT is not available" in result.error
    assert box.entries() == set()
