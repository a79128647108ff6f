"""SECURITY 10: a process of the container looks at everything that appears in its /proc while others are created
there and join: nothing of the host can be read, written or traced (CVE-2016-9962, CVE-2019-5736)."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyoci import linux
from pyoci.host import nsexec
from tests.integration.harness import Box, children, pyoci_only, status_field, until
from tests.security.conftest import rounds

if TYPE_CHECKING:
    from collections.abc import Callable

RIGHTS = "SYS_PTRACE DAC_OVERRIDE DAC_READ_SEARCH SYS_ADMIN SETUID SETGID KILL MKNOD"
ALL = [f"CAP_{name}" for name in RIGHTS.split()]
LINE = re.compile(r"(\d+) (.*?)(?: dev=(\d+) ino=(\d+) mode=(\d+) (.*))?$")
WATCH = 100  # seconds at most
HARMLESS = ("pipe:", "socket:", "/dev/null", "anon_inode:", "/memfd:nsexec")


def watch(box: Box, *caps: str) -> None:
    """Start the watcher, which may trace whatever it sees."""
    box.caps(*caps)
    box.process["noNewPrivileges"] = False
    box.args("attack", "poll", str(WATCH))
    box.up()
    until(lambda: "polling" in box.logs(), "the watcher", 20)


def breaches(box: Box, foreign: set[tuple[int, int]]) -> tuple[list[str], int]:
    """What the watcher got that is not the container's, and how many processes it saw.

    foreign: (device, inode) of directories of the host
    """
    (box.rootfs / "stop").touch()
    until(lambda: "seen up to" in box.logs(), "the end of the watcher", 20)
    found, pids = [], set()
    root = os.stat(box.rootfs)
    for line in box.logs().splitlines():
        match = LINE.match(line)
        if not match:
            continue
        pid, what, device, inode, _mode, target = match.groups()
        pids.add(pid)
        if "more rights" in what or what == "exe-write":
            found.append(line)
        if what.startswith("environ") and "PATH=/bin" not in what:
            found.append(line)
        if device and (int(device), int(inode)) in foreign:
            found.append(line)
        if what == "fd" and not target.startswith(HARMLESS) and "(deleted)" not in target:
            found.append(line)
        if what in ("cwd", "root") and int(inode) != root.st_ino:
            found.append(line)
    return found, len(pids)


def exec_under_watch(box: Box, least: int, seen: int) -> None:
    """So many execs; more of them while the watcher, who may get no processor, has seen fewer than that."""
    done = 0

    def enough() -> bool:
        nonlocal done
        box.exec("true")
        done += 1
        return done >= least and len({match[1] for match in map(LINE.match, box.logs().splitlines()) if match}) >= seen

    until(enough, f"{seen} processes that the watcher has seen", WATCH)


def host_places() -> set[tuple[int, int]]:
    return {(s.st_dev, s.st_ino) for s in map(os.stat, ("/", "/proc", "/sys/fs/cgroup", "/etc", "/dev", os.getcwd()))}


@pyoci_only("its init is in the pid namespace with all rights")
def test_exec_under_a_tracer(armed: Box) -> None:
    """With CAP_SYS_PTRACE and no user namespace the kernel forbids nothing: there is nothing to be had."""
    watch(armed, *ALL)
    exec_under_watch(armed, rounds(60, 200), 11)
    found, seen = breaches(armed, host_places())
    assert seen > 10
    assert not found, found[:20]


def test_exec_in_a_user_namespace(armed: Box) -> None:
    """All rights inside a user namespace: the joining process is not dumpable."""
    armed.userns()
    given_to(armed, 100000)
    watch(armed, *ALL)
    exec_under_watch(armed, rounds(30, 200), 1)
    found, seen = breaches(armed, host_places())
    assert seen
    assert not found, found[:20]


def test_create_in_the_pid_namespace_of_a_watcher(boxes: Callable[[], Box], attack: Path) -> None:
    """A pod: other containers are made in the pid namespace of one that watches, without the right to trace."""
    watcher, other = boxes(), boxes()
    os.link(attack, watcher.rootfs / "bin/attack")
    watch(watcher, "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN")
    other.namespace("pid", f"/proc/{watcher.pid}/ns/pid")
    for _ in range(rounds(15, 200)):
        other.create()
        other.delete("--force")
        children()
    found, _ = breaches(watcher, host_places())
    assert not found, found[:20]


def given_to(box: Box, host: int) -> None:
    """The rootfs belongs to the root of a user namespace."""
    for path in [box.rootfs, *box.rootfs.rglob("*")]:
        if path.name not in ("attack", "busybox", "probe"):
            os.chown(path, host, host, follow_symlinks=False)


def test_create_in_the_user_namespace_of_a_watcher(boxes: Callable[[], Box], attack: Path) -> None:
    """A pod with a user namespace: the watcher has all rights there, and the one that becomes init as well."""
    watcher, other = boxes(), boxes()
    os.link(attack, watcher.rootfs / "bin/attack")
    watcher.userns()
    for box in (watcher, other):
        given_to(box, 100000)
    watch(watcher, *linux.CAPABILITIES)
    for kind in ("pid", "user"):
        other.namespace(kind, f"/proc/{watcher.pid}/ns/{kind}")
    other.linux["maskedPaths"] = []
    for _ in range(rounds(20, 200)):
        other.create()
        other.delete("--force")
        children()
    found, _ = breaches(watcher, host_places())
    assert not found, found[:20]


def test_the_binary_stays_what_it_is(armed: Box) -> None:
    """CVE-2019-5736: held while it runs, written when it has ended: the installed files keep their checksums."""
    armed.caps(*ALL)
    armed.args("attack", "overwrite", "50")
    files = [Path(nsexec.nsexec_path()), Path("/usr/bin/python3").resolve()]
    before = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    armed.up()
    until(lambda: "polling" in armed.logs(), "the watcher", 20)
    done = 0

    def enough() -> bool:  # more of them while the watcher, who may get no processor, has none of them yet
        nonlocal done
        armed.exec("true")
        done += 1
        return done >= rounds(60, 200) and "holding" in armed.logs()

    until(enough, "a process that the watcher holds", 50)
    (armed.rootfs / "stop").touch()
    until(lambda: "held" in armed.logs(), "the end of the watcher", 20)
    held = int(armed.logs().rpartition("held ")[2])
    assert held
    assert [hashlib.sha256(file.read_bytes()).hexdigest() for file in files] == before
    assert "written" not in armed.logs()  # opened, yes: the copy is sealed


def test_groups_in_a_user_namespace_of_init(box: Box) -> None:
    """init has made one in which setgroups(2) is denied: the caller's groups do not come along."""
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.args("unshare", "--user", "--map-root-user", "sleep", "100")
    box.up()
    until(lambda: os.readlink(f"/proc/{box.pid}/ns/user") != os.readlink("/proc/self/ns/user"), "unshare")
    until(lambda: Path(f"/proc/{box.pid}/comm").read_text() == "sleep\n", "its program")
    assert Path(f"/proc/{box.pid}/setgroups").read_text() == "deny\n"
    own = os.getgroups()
    os.setgroups([6, 7])
    try:
        shown = box.rt("exec", "-u", "0:0", box.id, "cat", "/proc/self/status").out
    finally:
        os.setgroups(own)
    assert status_field(shown, "Groups") == ""


@pytest.mark.parametrize("entrypoint", ["init", "exec"])
def test_script_of_proc_self_exe(box: Box, entrypoint: str) -> None:
    """CVE-2019-5736: `#!/proc/self/exe` becomes the interpreter of its own: not the runtime."""
    script = box.rootfs / "bin/script"
    script.write_text("#!/proc/self/exe\n")
    script.chmod(0o755)
    before = hashlib.sha256(Path(nsexec.nsexec_path()).read_bytes()).hexdigest()
    if entrypoint == "init":
        box.args("/bin/script")
        assert box.run(check=False, timeout=10).code != 0
    else:
        box.up()
        assert box.exec("/bin/script", check=False, timeout=10).code != 0
    assert hashlib.sha256(Path(nsexec.nsexec_path()).read_bytes()).hexdigest() == before
