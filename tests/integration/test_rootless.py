"""Without privileges: an ordinary user, and root of a user namespace (as podman's rootless mode is). N05 N08."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.harness import MS_BIND, RUNTIME, Box, Result, mount, need_reachable, pyoci_only, umount, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

UID = 54321  # of nobody in particular
NAME = "pyoci-nobody"
DROP = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]


class User:
    """A box driven by an ordinary user, its state in $XDG_RUNTIME_DIR."""

    def __init__(self, box: Box, *prefix: str) -> None:
        self.box = box
        self.prefix = [*DROP, *prefix]
        self.runtime_dir = box.bundle / "xdg"
        self.runtime_dir.mkdir(mode=0o700)
        for path in (self.runtime_dir, box.bundle, box.rootfs, *box.rootfs.iterdir()):
            os.chown(path, UID, UID, follow_symlinks=False)
        del box.linux["cgroupsPath"]
        box.linux["resources"] = {}
        box.no_namespace("network")
        self.devpts()["options"].remove("gid=5")
        self.box.config["mounts"] = [m for m in box.config["mounts"] if m["type"] != "sysfs"]

    def devpts(self) -> dict[str, Any]:
        found: dict[str, Any] = next(m for m in self.box.config["mounts"] if m["type"] == "devpts")
        return found

    def rt(self, *args: str, check: bool = True, out: Path | None = None) -> Result:
        env = {"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(self.runtime_dir)}
        command = [*self.prefix, *RUNTIME, *args]
        with (out or Path("/dev/null")).open("wb") as file:
            stdout = file if out else subprocess.PIPE
            done = subprocess.run(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=file if out else subprocess.PIPE,
                text=True,
                timeout=20,
                check=False,
            )
        result = Result(done.returncode, done.stdout or "", done.stderr or (out.read_text() if out else ""))
        if check:
            assert result.code == 0, result.err
        return result

    def run(self, *argv: str) -> str:
        self.box.args(*argv)
        self.box.write()
        return self.rt("run", "--bundle", str(self.box.bundle), self.box.id).out


@pytest.fixture
def user(box: Box) -> Iterator[User]:
    """An ordinary user with a map of one id, as `spec --rootless` writes it."""
    need_reachable(shutil.which(RUNTIME[0]) or RUNTIME[0])
    made = User(box)
    box.namespace("user")
    for key in ("uidMappings", "gidMappings"):
        box.linux[key] = [{"containerID": 0, "hostID": UID, "size": 1}]
    yield made
    made.rt("delete", "--force", box.id)


@pytest.fixture
def fake_root(box: Box) -> Iterator[User]:
    """Root of a user namespace that some engine made: the config asks for none."""
    need_reachable(shutil.which(RUNTIME[0]) or RUNTIME[0])
    made = User(box, "unshare", "--user", "--map-root-user", "--mount", "--propagation", "unchanged")
    yield made
    made.rt("delete", "--force", box.id)


def test_user_runs_a_container(user: User) -> None:
    """N05 N08: root inside is the user outside; cgroups that may not be written are no error."""
    assert user.run("sh", "-c", "id -u; cat /proc/self/uid_map").split() == ["0", "0", str(UID), "1"]


def test_state_is_in_the_runtime_directory(user: User) -> None:
    """State under $XDG_RUNTIME_DIR, of the user alone; create, start, exec, kill and delete agree on it."""
    box = user.box
    box.args("sleep", "100")
    box.write()
    user.rt("create", "--bundle", str(box.bundle), box.id, out=box.stdout)
    found = [path for path in user.runtime_dir.rglob(box.id) if path.is_dir()]
    assert len(found) == 1
    assert found[0].stat().st_uid == UID
    user.rt("start", box.id)
    state = json.loads(user.rt("state", box.id).out)
    assert state["status"] == "running"
    assert Path(f"/proc/{state['pid']}").stat().st_uid == UID
    assert user.rt("exec", box.id, "id", "-u").out == "0\n"
    user.rt("kill", box.id, "KILL")
    assert wait_for(state["pid"]) == -9
    user.rt("delete", box.id)
    assert not found[0].exists()


@pyoci_only("runc has no hint")
def test_no_place_for_the_state(user: User) -> None:
    user.box.write()
    argv = [*DROP, "env", "-i", *RUNTIME, "create", "--bundle", str(user.box.bundle), user.box.id]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert "XDG_RUNTIME_DIR" in done.stderr


def test_user_cannot_map_what_is_not_his(user: User) -> None:
    """L06 L21"""
    box = user.box
    box.linux["uidMappings"] = [{"containerID": 0, "hostID": 0, "size": 1}]
    box.write()
    result = user.rt("create", "--bundle", str(box.bundle), box.id, check=False, out=box.stdout)
    assert result.code == 1
    assert "Traceback" not in result.err


def without_a_user_namespace(user: User) -> None:
    user.box.no_namespace("user")
    del user.box.linux["uidMappings"], user.box.linux["gidMappings"]
    user.devpts()["options"].append("gid=5")


@pyoci_only("runc: an error that says so")
def test_user_without_a_user_namespace(user: User) -> None:
    """N08: an ordinary user gets one, with his own id alone when he has no others; exec is in it too."""
    without_a_user_namespace(user)
    box = user.box
    box.args("sleep", "100")
    box.write()
    user.rt("run", "--detach", "--bundle", str(box.bundle), box.id, out=box.stdout)
    shown = user.rt("exec", box.id, "sh", "-c", "id -u; cat /proc/self/uid_map; ls -d /dev/pts/ptmx").out
    assert shown.split() == ["0", "0", str(UID), "1", "/dev/pts/ptmx"]


@pyoci_only("runc: an error that says so")
@pytest.mark.skipif(not shutil.which("newuidmap"), reason="needs uidmap")
def test_user_with_subordinate_ids(user: User) -> None:
    """The user of the process is the caller outside, the others are his subordinate ids."""
    without_a_user_namespace(user)
    box = user.box
    box.process["user"] = {"uid": 7, "gid": 0}
    lines = {
        "passwd": f"{NAME}:x:{UID}:{UID}::/:/bin/sh",
        "subuid": f"{NAME}:700000:65536",
        "subgid": f"{UID}:800000:65536",
    }
    for name, line in lines.items():
        own = box.bundle / name
        own.write_text(f"{Path('/etc', name).read_text() if name == 'passwd' else ''}{line}\n")
        mount(str(own), f"/etc/{name}", flags=MS_BIND)
    try:
        shown = user.run("sh", "-c", "id -u; cat /proc/self/uid_map /proc/self/gid_map")
    finally:
        for name in lines:
            umount(f"/etc/{name}")
    uids = ["0", "700000", "7", "7", str(UID), "1", "8", "700007", "65529"]
    assert shown.split() == ["7", *uids, "0", str(UID), "1", "1", "800000", "65536"]


def test_groups_in_a_user_namespace_that_denies_them(fake_root: User) -> None:
    """buildah always asks for a group; where setgroups(2) is denied nobody can have it (as runc, an error else)."""
    fake_root.box.process["user"]["additionalGids"] = [0]
    assert fake_root.run("id", "-u") == "0\n"


def test_root_of_a_user_namespace(fake_root: User) -> None:
    """N08: devices are bound, cgroups left alone, no namespace of users made."""
    shown = fake_root.run(
        "sh", "-c", "id -u; cat /proc/self/uid_map; stat -c %t:%T /dev/null; echo x > /dev/null && echo ok"
    )
    assert shown.split() == ["0", "0", str(UID), "1", "1:3", "ok"]
