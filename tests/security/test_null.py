"""SECURITY 5: the host's null device, which covers files of the container, stands in for its own in a user namespace
and is a standard stream of it at times, keeps its mode and times.  It is a node of the test's here."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from tests.integration import harness
from tests.integration.harness import Box, pyoci_only

if TYPE_CHECKING:
    from pathlib import Path

WAYS = {"mask": "/etc/token", "user namespace": "/dev/null", "stream": "/dev/stdin"}


@pytest.fixture
def null(box: Box, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the runtime finds at /dev/null."""
    node = box.bundle / "null"
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    node.chmod(0o666)
    within = ["unshare", "-m", "--propagation", "private", "sh", "-c", 'mount --bind "$0" /dev/null && exec "$@"']
    monkeypatch.setattr(harness, "RUNTIME", [*within, str(node), *harness.RUNTIME])
    return node


@pyoci_only("1.1 masks with the host's in a user namespace")
@pytest.mark.parametrize("way", WAYS)
def test_the_null_device_stays_as_it_is(box: Box, null: Path, way: str) -> None:
    """By root of the container, who has no capabilities and owns it all the same."""
    path = WAYS[way]
    box.process["capabilities"] = {}
    if way == "mask":
        (box.rootfs / "etc/token").write_text("token\n")
        box.linux["maskedPaths"].append(path)
    elif way == "user namespace":
        box.userns(host=0)
    before = null.stat()
    box.script(f"chmod 000 {path}; touch -d @1 {path}; cat {path}; echo x > {path}; stat -L -c %t:%T {path}")
    with null.open("r+b", buffering=0) as stream:
        shown = box.run(stdin=stream, check=False)
    after = null.stat()
    assert (after.st_mode, after.st_mtime) == (before.st_mode, before.st_mtime)
    assert shown.out == "1:3\n", shown.err


@pyoci_only("1.1 gives it to exec as it is")
def test_nor_does_exec_change_it(box: Box, null: Path) -> None:
    """Where the container has a null device of its own."""
    box.up()
    with null.open("r+b", buffering=0) as stream:
        box.exec("chmod", "000", "/proc/self/fd/0", stdin=stream)
    assert null.stat().st_mode == stat.S_IFCHR | 0o666
