"""Ordinary users with a systemd session. C03 N05 N08.

tester has subordinate ids and every controller, plain has no ids and the controllers that Debian hands out.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import until
from tests.vm.inside.tools import CGROUPS, MIB, cgroup_of, read, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.vm.inside.tools import User

    MakeUser = Callable[..., User]

MANAGER = CGROUPS / "user.slice/user-1000.slice/user@1000.service"


def subordinate(user: User) -> None:
    """The ranges of /etc/subuid and /etc/subgid as containerID 1 and on."""
    for key, name in (("uidMappings", "subuid"), ("gidMappings", "subgid")):
        with open(f"/etc/{name}", encoding="ascii") as file:
            first, size = next(line.split(":")[1:] for line in file if line.startswith(f"{user.name}:"))
        user.linux[key].append({"containerID": 1, "hostID": int(first), "size": int(size)})


@pytest.mark.parametrize("name", ["tester", "plain"])
def test_spec_rootless_runs_as_it_is(user: MakeUser, name: str) -> None:
    """/sys and its cgroups are bound from the host; nothing needs a right."""
    someone = user(name)
    someone.linux["namespaces"].append({"type": "cgroup"})  # which tools.User took out
    done = someone.run("id -u; cat /proc/self/uid_map; ls /sys/fs/cgroup | grep -c cgroup.procs")
    assert done.code == 0, done.err
    assert done.out.split() == ["0", "0", str(someone.uid), "1", "1"]


def test_subordinate_ids(user: MakeUser) -> None:
    """By newuidmap and newgidmap."""
    someone = user()
    subordinate(someone)
    someone.config["process"]["user"] = {"uid": 7, "gid": 7}
    done = someone.run("id -u; id -g; grep -c . /proc/self/uid_map")
    assert (done.code, done.out.split()) == (0, ["7", "7", "2"]), done.err


def test_ids_that_are_not_his(user: MakeUser) -> None:
    someone = user("plain")
    someone.linux["uidMappings"].append({"containerID": 1, "hostID": 100000, "size": 10})
    done = someone.run("true")
    assert done.code == 1
    assert "/linux/uidMappings" in done.err


def test_scope_of_the_users_systemd(user: MakeUser) -> None:
    """C03: limits through the delegated slice; the scope goes with the container."""
    someone = user()
    someone.linux["resources"] = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 50}, "cpu": {"shares": 2048}}
    someone.linux["cgroupsPath"] = f"user.slice:it:{someone.box.id}"
    unit = f"it-{someone.box.id}.scope"
    pid = someone.up("--systemd-cgroup")
    directory = cgroup_of(pid)
    assert directory == MANAGER / "user.slice" / unit
    assert directory.stat().st_uid == someone.uid
    assert (read(directory, "memory.max"), read(directory, "pids.max")) == (str(64 * MIB), "50")
    assert shown(unit, "MemoryMax", "TasksMax", user="tester") == {"MemoryMax": str(64 * MIB), "TasksMax": "50"}
    assert someone.rt("exec", someone.box.id, "cat", "/proc/self/cgroup").out.strip().endswith(unit)
    assert someone.rt("pause", someone.box.id).code == 0
    assert "frozen 1" in read(directory, "cgroup.events")
    assert someone.rt("resume", someone.box.id).code == 0
    assert someone.rt("update", "--memory", str(32 * MIB), someone.box.id).code == 0
    assert read(directory, "memory.max") == str(32 * MIB)
    assert shown(unit, "MemoryMax", user="tester") == {"MemoryMax": str(32 * MIB)}
    someone.delete()
    assert not directory.exists()
    assert shown(unit, "ActiveState", user="tester") == {"ActiveState": "inactive"}


def test_default_scope_and_cgroup_namespace(user: MakeUser) -> None:
    someone = user()
    someone.linux["namespaces"].append({"type": "cgroup"})
    someone.config["mounts"] = [m for m in someone.config["mounts"] if m["destination"] != "/sys/fs/cgroup"]
    someone.config["mounts"].append(
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup",
            "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev"],
        }
    )
    done = someone.run("cat /proc/self/cgroup; mkdir /sys/fs/cgroup/mine && echo made", "--systemd-cgroup")
    assert (done.code, done.out) == (0, "0::/\nmade\n"), done.err


def test_limit_that_is_not_delegated(user: MakeUser) -> None:
    """plain has the controllers that Debian hands out; io is none of them."""
    someone = user("plain")
    someone.linux["resources"] = {"unified": {"io.weight": "50"}}
    done = someone.run("true", "--systemd-cgroup")
    assert done.code == 1
    assert "io.weight" in done.err
    assert "/linux/resources/unified/io.weight" in done.err
    assert "the controller io is not enabled" in done.err


def test_cgroupfs_in_a_delegated_scope(user: MakeUser) -> None:
    """Without the driver: the container's cgroup is made beside the runtime's, where the user may."""
    someone = user(scope=True)
    someone.linux["cgroupsPath"] = someone.box.id
    someone.linux["resources"] = {"pids": {"limit": 33}}
    done = someone.run("cat /proc/self/cgroup")
    assert done.code == 0, done.err
    assert done.out.strip().endswith(f"/{someone.box.id}")
    assert str(MANAGER)[len(str(CGROUPS)) :] in done.out


def test_exec_from_elsewhere(user: MakeUser) -> None:
    """C24: from another scope of his systemd; from outside of it, where he may move nothing, what helps is said."""
    someone = user(scope=True)
    someone.linux["cgroupsPath"] = someone.box.id
    someone.linux["resources"] = {"pids": {"limit": 33}}
    directory = cgroup_of(someone.up())
    shown = ("cat", "/proc/self/cgroup")
    assert someone.rt("exec", someone.box.id, *shown).out == f"0::/{directory.relative_to(CGROUPS)}\n"
    someone.scope = False
    for session in (False, True):
        someone.session = session
        done = someone.rt("exec", someone.box.id, *shown)
        assert done.code != 0
        assert "permission denied" in done.err.lower()
        assert "systemd-run --user --scope" in done.err
        assert len(read(directory, "cgroup.procs").split()) == 1
    assert "/user-1000.slice/session-" in someone.command("cat", "/proc/self/cgroup").out
    someone.delete()
    assert not directory.exists()


def test_limits_without_delegation(user: MakeUser) -> None:
    """Nothing of the system's is his: that is said, with what helps."""
    someone = user("plain")
    someone.linux["resources"] = {"memory": {"limit": 64 * MIB}}
    someone.linux["cgroupsPath"] = f"/{someone.box.id}"
    done = someone.run("true")
    assert done.code == 1
    assert "permission denied" in done.err.lower()
    assert "delegated" in done.err


def test_no_limits_need_no_delegation(user: MakeUser) -> None:
    """Without limits he stays in the cgroup he is in."""
    someone = user("plain")
    own = os.path.relpath(cgroup_of("self"), CGROUPS)
    done = someone.run("cat /proc/self/cgroup")
    assert (done.code, done.out) == (0, f"0::/{own}\n"), done.err


def test_no_session(user: MakeUser) -> None:
    """Clear words where the user's systemd does not answer."""
    someone = user("plain")
    someone.config["process"]["args"] = ["true"]
    someone.write()
    words = ["env", "XDG_RUNTIME_DIR=/nowhere", "DBUS_SESSION_BUS_ADDRESS=", someone.box.argv()[0]]
    done = someone.command(
        *words, "--root", someone.root, "--systemd-cgroup", "run", "--bundle", str(someone.box.bundle), "x"
    )
    assert done.code == 1
    assert "no connection to the user's systemd over the bus unix:path=/nowhere/bus" in done.err
    assert "enable-linger" in done.err


def test_no_bus_of_his(user: MakeUser) -> None:
    """An address from another session: his systemd is asked over its own socket."""
    someone = user()
    someone.config["process"]["args"] = ["cat", "/proc/self/cgroup"]
    someone.write()
    words = ["env", "DBUS_SESSION_BUS_ADDRESS=unix:path=/nowhere", someone.box.argv()[0], "--root", someone.root]
    done = someone.command(*words, "--systemd-cgroup", "run", "--bundle", str(someone.box.bundle), "x")
    unit = MANAGER / "user.slice/pyoci-x.scope"
    assert (done.code, done.out) == (0, f"0::/{unit.relative_to(CGROUPS)}\n"), done.err
    assert not unit.exists()


def test_manager_disabled(user: MakeUser) -> None:
    """C03: whatever is asked for, it stays in the cgroup of who called."""
    someone = user()
    someone.linux["cgroupsPath"] = f"/{someone.box.id}"
    someone.linux["resources"] = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 50}}
    own = os.path.relpath(cgroup_of("self"), CGROUPS)
    done = someone.run("cat /proc/self/cgroup", "--cgroup-manager", "disabled")
    assert (done.code, done.out) == (0, f"0::/{own}\n"), done.err
    assert not list(CGROUPS.glob(f"**/*{someone.box.id}*"))


def test_init_ends_and_its_scope_with_it(user: MakeUser) -> None:
    someone = user()
    someone.linux["cgroupsPath"] = f":it:{someone.box.id}"
    pid = someone.up("--systemd-cgroup")
    os.kill(pid, 9)
    unit = f"it-{someone.box.id}.scope"
    until(lambda: shown(unit, "ActiveState", user="tester") == {"ActiveState": "inactive"}, "the end", timeout=20)
    someone.delete()
