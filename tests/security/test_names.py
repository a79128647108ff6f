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


@pytest.mark.parametrize("options", [[], ["--debug"]], ids=["launcher", "python"])  # --debug is left to Python
def test_the_way_to_a_container_of_another_root(box: Box, options: list[str]) -> None:
    """From beside it, from above it and by its absolute path: no verb comes there, and it lives."""
    box.up()
    before = box.state()
    root = box.directory / "other"
    root.mkdir(mode=0o700)
    other = [str(root), *options]
    for id in (f"../state/{box.id}", f"../other/../state/{box.id}", f"{box.root}/{box.id}", f"../state/{box.id}/"):
        for verb, *words in (["state"], ["kill", "KILL"], ["delete", "--force"], ["start"]):
            call = ["delete", "--force", id] if verb == "delete" else [verb, id, *words]
            result = box.rt("--root", *other, *call, check=False)
            assert result.code == 1, call
            assert "invalid container id" in result.err, call
    assert box.state() == before
    assert os.listdir(root) == []


VERBS = ["create", "run", "state", "start", "kill", "delete", "exec", "list", "ps", "pause", "update"]


@pyoci_only("1.1 takes every path")
@pytest.mark.parametrize("name", ["a\nb", "a\tb", "a\x1b[2Jb", "a\x7f"])
def test_a_root_with_control_characters(box: Box, name: str) -> None:
    """No verb works there, though a container is in it."""
    box.up()
    root = box.root.rename(box.directory / name)
    for verb in VERBS:
        words = {"kill": ["KILL"], "exec": ["true"]}.get(verb, [])
        options = ["--bundle", str(box.bundle)] if verb in ("create", "run") else []
        ids = [] if verb == "list" else [box.id]
        result = box.rt("--root", str(root), verb, *options, *ids, *words, check=False)
        assert result.code == (255 if verb == "exec" else 1), verb
        assert "has a control character" in result.error, verb
        assert result.err.count("\n") == 1, verb
    root.rename(box.root)
    assert box.status == "running"


def test_a_root_that_a_shell_would_read(box: Box) -> None:
    """Blanks and all that is something to a shell are parts of a name."""
    box.root = box.directory / "a b;$(touch x)`touch x`'\"\\*"
    box.up()
    assert box.exec("echo", "there").out == "there\n"
    assert box.rt("list", "-q").out == f"{box.id}\n"
    pid = box.pid
    box.kill("KILL")
    wait_for(pid)
    box.delete()
    assert os.listdir(box.root) == []
    assert sorted(os.listdir(box.directory)) == sorted([box.bundle.name, box.root.name])


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
    """Refused; nothing is made beside the hierarchies."""
    before = set(os.listdir("/sys/fs/cgroup"))
    box.linux["cgroupsPath"] = path.replace("x", box.id)
    result = box.create(check=False)
    assert result.code == 1
    assert "cgroup" in result.error
    assert set(os.listdir("/sys/fs/cgroup")) == before
    assert not os.path.exists(f"/sys/fs/{box.id}")
    assert not os.path.exists(f"/{box.id}")


@pyoci_only("1.1 makes what the path says")
def test_cgroups_path_into_another_container(boxes: Callable[[], Box]) -> None:
    """By way of its own cgroup to that of a container that lives: which is as it was."""
    box, other = boxes(), boxes()
    other.up()
    before = cgroups(other.id)
    box.linux["cgroupsPath"] = f"/{box.id}/../{other.id}/in"
    result = box.create(check=False)
    assert cgroups(other.id) == before
    assert not cgroups(box.id)
    assert result.code == 1
    assert ".." in result.error
    assert other.status == "running"


EXEC_CGROUPS = [
    "..",
    "/..",
    "a/../..",
    "../{id}-other",
    "in/../../{id}-other",
    "a\rb",
    "a\x1bb",
    "\u200b",
]


@pyoci_only("1.1 has no --cgroup on v1")
@pytest.mark.parametrize("path", EXEC_CGROUPS)
def test_exec_cgroup(box: Box, path: str) -> None:
    """It stays below the container's own, and is a word that an error can show: though the cgroup is there."""
    box.up()
    path = path.format(id=box.id)
    for top in cgroups(box.id):
        os.makedirs(f"{top}/{path}", exist_ok=True)
    result = box.rt("exec", "--cgroup", path, box.id, "true", check=False)
    remove_cgroups(f"{box.id}-other")
    assert result.code == 255
    assert "leads out of the container's cgroup" in result.error


@pyoci_only("1.1 has no --cgroup on v1")
@pytest.mark.parametrize("path", ["a b", "$(touch x)", "`id`", "..a", "a..", "*"])
def test_exec_cgroup_is_a_name(box: Box, path: str) -> None:
    """What a shell would read, and what only looks like "..", are names as others."""
    box.up()
    for directory in cgroups(box.id):
        clone = Path(directory, "cgroup.clone_children")  # v1: a cpuset with the processors of the one above
        if clone.exists():
            clone.write_text("1")
        os.mkdir(f"{directory}/{path}")
    shown = box.rt("exec", "--cgroup", path, box.id, "cat", "/proc/self/cgroup").out
    assert f"/{path}\n" in shown


KEYS = ["kernel.../../etc/x", "net/../kernel/core_pattern", "kernel.core_pattern", "net.ipv4.../kernel.modprobe",
        "kernel/shmmax/../core_pattern", "fs.mqueue.../.../x", "kernel.shm\nmax", "",
        "/proc/sys/kernel/core_pattern", "vm.swappiness"]  # fmt: skip
OF_THE_HOST = [Path("/proc/sys", name) for name in ("kernel/core_pattern", "kernel/modprobe", "vm/swappiness")]


def of_the_host(key: str) -> str:
    """What the file that a key may lead to holds: a runtime that writes it changes nothing."""
    return next((file.read_text().strip() for file in OF_THE_HOST if file.exists() and key.endswith(file.name)), "1")


def test_sysctl_keys(box: Box, outside: Outside) -> None:
    """Only those of the container's own namespaces, and no path."""
    for key in KEYS:
        box.linux["sysctl"] = {key: of_the_host(key)}
        result = box.create(check=False)
        assert result.code == 1, key
        assert "/linux/sysctl" in result.error, key


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
