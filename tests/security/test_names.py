"""SECURITY 7: words that become paths: ids, cgroup paths, sysctl keys, annotations, users."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import Box, cgroups, children, pyoci_only, remove_cgroups, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.security.conftest import Outside

NASTY = ["..", ".", "../x", "a/b", "/abs", "a/../../x", "a\nb", " a", "a b", "$(touch /tmp/x)", "`id`", "a;b", "-rf",
         "--", "é", "\x1b[2J", "a\\b", "a*", "%s%n", ""]  # fmt: skip
IDS = [*NASTY, "x" * 1025]


@pytest.mark.parametrize("verb", ["create", "run", "state", "kill", "delete", "start", "exec"])
def test_ids(box: Box, outside: Outside, verb: str) -> None:
    """Refused before it is a path."""
    box.write()
    words = {"kill": ["KILL"], "exec": ["true"]}.get(verb, [])
    options = ["--bundle", str(box.bundle)] if verb in ("create", "run") else []
    for id in IDS:
        result = box.rt(verb, *options, id, *words, check=False)
        assert result.code != 0, id
        assert "Traceback" not in result.err, id
        assert box.entries() == set(), id
        assert set(os.listdir(box.directory)) <= {box.bundle.name, "state"}, id


def test_a_neighbours_prefix(boxes: Callable[[], Box]) -> None:
    """An id that begins like another's is not the other."""
    one, other = boxes(), boxes()
    other.id = one.id + "0"
    other.config["linux"]["cgroupsPath"] = f"/{other.id}"
    one.up()
    other.up()
    one.delete("--force")
    assert other.status == "running"
    assert cgroups(other.id)


@pyoci_only("1.1 makes what the path says")
@pytest.mark.parametrize("path", ["/../../x", "../../x", "/a/../../../x", "/a\nb", "a\0b", "/a/./../../b"])
def test_cgroups_path(box: Box, path: str) -> None:
    """ ".." ends at the hierarchy's root or is refused; nothing is made beside it."""
    before = set(os.listdir("/sys/fs/cgroup"))
    box.linux["cgroupsPath"] = path.replace("x", box.id)
    result = box.create(check=False)
    assert set(os.listdir("/sys/fs/cgroup")) == before
    assert not os.path.exists(f"/sys/fs/{box.id}")
    assert not os.path.exists(f"/{box.id}")
    if result.code == 0:
        box.delete("--force")


@pyoci_only("1.1 has no --cgroup on v1")
@pytest.mark.parametrize("path", ["..", "/..", "a/../..", "../sibling", "a\nb"])
def test_exec_cgroup(box: Box, path: str) -> None:
    """It stays below the container's own."""
    box.up()
    result = box.rt("exec", "--cgroup", path, box.id, "true", check=False)
    assert result.code == 255
    assert "cgroup" in result.error


KEYS = ["kernel.../../etc/x", "net/../../kernel/core_pattern", "kernel.core_pattern", "net.ipv4.../kernel.modprobe",
        "kernel/shmmax/../core_pattern", "fs.mqueue.../.../x", "kernel.shm\nmax", "", "/etc/passwd",
        "vm.swappiness"]  # fmt: skip


def test_sysctl_keys(box: Box, outside: Outside) -> None:
    """Only those of the container's own namespaces, and no path."""
    pattern = Path("/proc/sys/kernel/core_pattern")
    before = pattern.read_text()
    for key in KEYS:
        box.linux["sysctl"] = {key: "1"}
        assert box.create(check=False).code == 1, key
        assert pattern.read_text() == before, key


def test_annotations(box: Box, outside: Outside) -> None:
    """They are text, also for hooks and for the state; nothing is executed."""
    box.config["annotations"] = {f"a{index}": word for index, word in enumerate(NASTY)} | {
        "run.oci.handler": "../../bin/sh",
        "org.systemd.property.ExecStart": "'/bin/touch /tmp/x'",
    }
    box.hook("createRuntime", "/bin/sh", "sh", "-c", f"cat > {box.bundle}/seen")
    box.create()
    assert box.state()["annotations"] == box.config["annotations"]
    assert (box.bundle / "seen").read_text().startswith("{")


USERS = [
    "nobody",
    "0x0",
    "-1",
    "4294967295",
    "4294967296",
    "1:nobody",
    "1 ",
    "\u0661",
    "1:2:3",
    ":",
    "0:",
    "1e3",
    "a\nb",
]


@pyoci_only("1.1 takes some")
def test_exec_user(box: Box) -> None:
    """SECURITY 14, CVE-2026-30892: numbers in range, and names that the container has."""
    box.up()
    for user in USERS:
        result = box.rt("exec", "--user", user, box.id, "id", "-u", check=False)
        assert result.code == 255, user
        assert result.out == ""


@pytest.mark.parametrize(
    ("user", "shown"), [("1", "1 0"), ("1:1", "1 1"), ("0", "0 0"), ("4294967294", "4294967294 0")]
)
def test_exec_user_is_that_user(box: Box, user: str, shown: str) -> None:
    """SECURITY 14: a number is an id, though the image has a user of that name."""
    hostile = "".join(f"{name}:x:0:0::/:/bin/sh\n" for name in ("1", "1:1", "4294967294"))
    (box.rootfs / "etc/passwd").write_text(hostile)
    (box.rootfs / "etc/group").write_text("1:x:0:\n")
    box.up()
    assert box.rt("exec", "--user", user, box.id, "sh", "-c", "echo $(id -u) $(id -g)").out.strip() == shown


@pyoci_only("1.1 believes every state that it finds")
@pytest.mark.parametrize("verb", ["state", "kill", "delete", "delete --force", "exec", "start", "update"])
def test_a_state_that_another_user_made(box: Box, verb: str) -> None:
    """SECURITY 19: nothing in a state directory that is somebody else's is believed: no hook of his, no process."""
    box.hook("poststop", "/bin/touch", "touch", str(box.bundle / "hooked"))
    box.up()
    state = box.root / box.id
    os.chown(state, 12345, 12345)
    name, *options = verb.split()
    words = {"kill": ["KILL"], "exec": ["true"]}.get(name, [])
    result = box.rt(name, *options, box.id, *words, check=False)
    assert not (box.bundle / "hooked").exists()
    assert "belongs to another user" in result.err  # with --force as a warning: it is removed, and not read
    if state.exists():
        os.chown(state, 0, 0)
        assert box.status == "running"
    else:
        pid = next(pid for pid, name in children().items() if name == "(sleep)")
        os.kill(pid, signal.SIGKILL)
        wait_for(pid)
        remove_cgroups(box.id)
