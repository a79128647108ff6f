"""A container that manages its own cgroups: what it may, what it may not, and `exec` into it. C04 C24."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import Box, until
from tests.vm.inside.tools import MIB, cgroup_of, read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.vm.inside.tools import User

# init moves into a cgroup of its own, hands controllers to its children and limits one of them
MANAGE = (
    "cd /sys/fs/cgroup && mkdir init && echo $$ >init/cgroup.procs && echo '+memory +pids' >cgroup.subtree_control"
    " && mkdir sub && echo 7 >sub/pids.max && echo 8388608 >sub/memory.max && echo managed; exec sleep 1000"
)
# its own limits, and the controllers that it has, are those of who made it
LIMITS = {"memory.max": str(64 * MIB), "pids.max": "50", "cgroup.max.depth": "max"}


@pytest.fixture(params=["cgroupfs", "systemd"])
def driven(request: pytest.FixtureRequest) -> Box:
    """A box of either driver."""
    box: Box = request.getfixturevalue("box" if request.param == "cgroupfs" else "scoped")
    return box


def of_a_user_namespace(box: Box, option: str) -> None:
    """A container with a user and a cgroup namespace, whose cgroup mount has this option."""
    box.userns(host=100000)
    for path in [box.rootfs, *box.rootfs.rglob("*")]:
        os.chown(path, 100000, 100000, follow_symlinks=False)
    box.namespace("cgroup")
    box.mount("/sys/fs/cgroup", "cgroup", "cgroup", option)
    box.linux["resources"].update(memory={"limit": 64 * MIB}, pids={"limit": 50})


def test_ownership_is_delegated(driven: Box) -> None:
    """C04: with a cgroup namespace and a writable mount, its root user owns the directory and what the kernel lists."""
    of_a_user_namespace(driven, "rw")
    driven.create()
    directory = cgroup_of(driven.pid)
    with open("/sys/kernel/cgroup/delegate", encoding="ascii") as file:
        listed = set(file.read().split())
    owners = {path.name: path.stat().st_uid for path in directory.iterdir()}
    assert directory.stat().st_uid == 100000
    for name, owner in owners.items():
        assert owner == (100000 if name in listed else 0), name


def test_ownership_stays_without_a_writable_mount(driven: Box) -> None:
    """C04"""
    of_a_user_namespace(driven, "ro")
    driven.create()
    assert cgroup_of(driven.pid).stat().st_uid == 0


def test_its_own_cgroups(driven: Box) -> None:
    """C04 C24: it makes cgroups, moves into one, hands out controllers, and is held by its own; exec goes to init's."""
    of_a_user_namespace(driven, "rw")
    driven.script(MANAGE)
    driven.create()
    top = cgroup_of(driven.pid)
    driven.start()
    until(lambda: "managed" in driven.logs(), "the container's own cgroups")
    assert cgroup_of(driven.pid) == top / "init"
    assert set(read(top, "cgroup.subtree_control").split()) == {"memory", "pids"}
    assert (read(top / "sub", "pids.max"), read(top / "sub", "memory.max")) == ("7", str(8 * MIB))
    for name, value in LIMITS.items():
        done = driven.exec("sh", "-c", f"echo 1 >/sys/fs/cgroup/{name}", check=False)
        assert done.code == 1, done.err  # the shell's, not the runtime's
        assert read(top, name) == value
    assert driven.exec("cat", "/proc/self/cgroup").out == "0::/init\n"
    assert driven.exec("sh", "-c", "echo $$ >/sys/fs/cgroup/sub/cgroup.procs; cat /proc/self/cgroup").out == "0::/sub\n"
    driven.delete("--force")
    assert not top.exists()


def test_own_cgroups_of_an_ordinary_user(user: Callable[..., User]) -> None:
    """C04 C24: all files of the scope are his, and still not the container's to write."""
    someone = user()
    someone.linux["namespaces"].append({"type": "cgroup"})
    someone.linux["resources"] = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 50}}
    someone.config["mounts"] = [m for m in someone.config["mounts"] if m["destination"] != "/sys/fs/cgroup"]
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid"]}
    someone.config["mounts"].append(mount)
    pid = someone.up("--systemd-cgroup", script=MANAGE)
    until(lambda: cgroup_of(pid).name == "init" and _limited(cgroup_of(pid).parent), "the container's own cgroups")
    top = cgroup_of(pid).parent
    for name, value in LIMITS.items():
        done = someone.rt("exec", someone.box.id, "sh", "-c", f"echo 1 >/sys/fs/cgroup/{name}")
        assert read(top, name) == value
        assert done.code, name
    done = someone.rt("exec", someone.box.id, "cat", "/proc/self/cgroup")
    assert (done.code, done.out) == (0, "0::/init\n"), done.err
    someone.delete()
    assert not top.exists()


def _limited(top: Path) -> bool:
    return (top / "sub/memory.max").exists() and read(top / "sub", "memory.max") == str(8 * MIB)
