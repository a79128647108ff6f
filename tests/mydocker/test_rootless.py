"""An ordinary user: images unpacked, mounted, committed and removed without root."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration import harness
from tests.mydocker.conftest import MAIN, TIMEOUT
from tests.mydocker.layers import directory, hard_link, member, tar

if TYPE_CHECKING:
    from collections.abc import Iterator

UID = 21_000_000 + os.getpid()  # of no other run of the tests
LAYER = tar(
    directory("etc"),
    member("etc/shadow", b"x", uid=0, gid=42, mode=0o640),
    member("home/me/file", b"y", uid=1000, gid=1000),
    hard_link("home/me/link", "home/me/file"),
    directory("opaque"),
    member("opaque/.wh..wh..opq"),
    member(".wh.gone"),
)


class User:
    """Somebody who may make user namespaces, and nothing else."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        become = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--inh-caps=-all"]
        command = [*become, sys.executable, "-I", "-S", str(MAIN), *args]
        env = {"PATH": "/usr/bin:/bin", "HOME": str(self.home), "XDG_RUNTIME_DIR": f"{self.home}/run"}
        return subprocess.run(command, cwd=self.home, env=env, capture_output=True, text=True, timeout=TIMEOUT)

    def good(self, *args: str) -> str:
        done = self.run(*args)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def holder(self) -> int:
        pid: int = json.loads((self.home / "run/mydocker/rootless.json").read_text())["pid"]
        return pid

    def end(self) -> None:
        if (self.home / "run/mydocker/rootless.json").exists():
            pid = self.holder()
            os.kill(pid, signal.SIGKILL)
            harness.wait_for(pid)
            (self.home / "run/mydocker/rootless.json").unlink()


@pytest.fixture
def user(isolated: None) -> Iterator[User]:
    harness.need_reachable(sys.executable)
    home = Path(tempfile.mkdtemp(prefix=f"mydocker-{os.getpid()}-"))
    (home / "run").mkdir(mode=0o700)
    for path in (home, home / "run"):
        os.chown(path, UID, UID)
    found = User(home)
    yield found
    found.end()
    reap()
    shutil.rmtree(home)


def reap() -> None:
    """Monitors of containers that have ended: orphans become children of the tests (PR_SET_CHILD_SUBREAPER)."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


@pytest.fixture
def ranges(user: User) -> Iterator[None]:
    """A name and subordinate ids, in this mount namespace only."""
    lines = {
        "passwd": f"walnut:x:{UID}:{UID}::/:/bin/sh\n",
        "subuid": "walnut:300000:65536\n",
        "subgid": "walnut:300000:65536\n",
    }
    for name, line in lines.items():
        changed = user.home / name
        changed.write_text((Path("/etc") / name).read_text() + line)
        harness.mount(str(changed), f"/etc/{name}", flags=harness.MS_BIND)
    yield
    for name in lines:
        harness.umount(f"/etc/{name}")


def test_ids_of_its_own(user: User, ranges: None) -> None:
    """Files keep their owners, shifted by what /etc/subuid says; one namespace serves every command."""
    (user.home / "rootfs.tar").write_bytes(LAYER)
    user.good("import", "rootfs.tar", "mine:1")
    holder = user.holder()
    assert "mine" in user.good("images")
    assert user.holder() == holder
    (diff,) = (user.home / ".local/share/mydocker/layers").glob("*/diff")
    shadow, file = (diff / "etc/shadow").stat(), (diff / "home/me/file").stat()
    assert (shadow.st_uid, shadow.st_gid) == (UID, 300041)
    assert (file.st_uid, file.st_gid, file.st_nlink) == (300999, 300999, 2)
    assert os.getxattr(diff / "opaque", "user.overlay.opaque") == b"y"
    assert user.good("rmi", "mine:1").splitlines()[0] == "Untagged: mine:1"
    assert list((user.home / ".local/share/mydocker/layers").iterdir()) == []


def test_one_id(user: User) -> None:
    """Without subordinate ids everything is the user's, and that is said."""
    (user.home / "rootfs.tar").write_bytes(LAYER)
    done = user.run("import", "rootfs.tar", "mine:1")
    assert done.returncode == 0, done.stderr
    assert "there is only one id" in done.stderr
    assert "files belong to root now" in done.stderr
    user.good("rmi", "mine:1")


def test_a_container(user: User, ranges: None) -> None:
    """Run, diff, commit, run that, remove."""
    user.good(
        "run",
        "--network",
        "none",
        "--name",
        "box",
        "busybox",
        "sh",
        "-c",
        "echo new >/etc/new; chown 5 /etc/new; rm /etc/group",
    )
    assert user.good("diff", "box") == "C /etc\nD /etc/group\nA /etc/new\n"
    user.good("commit", "box", "mine:1")
    assert user.good("run", "--rm", "--network", "none", "mine:1", "stat", "-c", "%u", "/etc/new") == "5\n"
    assert user.run("run", "--rm", "--network", "none", "mine:1", "cat", "/etc/group").returncode == 1
    user.good("rm", "box")
    assert user.good("ps", "-aq") == ""
    assert not [point for point in harness.mounts() if point.startswith(str(user.home))]


def test_the_holder_is_known_by_more_than_its_number(user: User) -> None:
    """A number that another process has now is not joined."""
    user.good("images")
    record = user.home / "run/mydocker/rootless.json"
    user.end()
    record.write_text(json.dumps({"pid": os.getpid(), "start": 1}))
    user.good("images")
    assert user.holder() != os.getpid()


def test_a_zombie_holds_no_namespaces(tmp_path: Path) -> None:
    """The holder has been killed, and whoever is its parent has not looked yet."""
    from pyoci.mydocker import processes, rootless

    record = tmp_path / "rootless.json"
    with subprocess.Popen(["sleep", "infinity"]) as child:
        record.write_text(json.dumps({"pid": child.pid, "start": processes.start_time(child.pid)}))
        assert rootless._holder(str(record)) == child.pid
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert rootless._holder(str(record)) is None


def test_the_variable_alone_opens_nothing(user: User) -> None:
    """MYDOCKER_ROOTLESS_UID in somebody's environment makes no root of them, and no user of root."""
    from pyoci.mydocker import paths, rootless

    os.environ[rootless.UID_VARIABLE] = "1000"
    try:
        assert not rootless.active()
        assert paths.Paths.default().root == "/var/lib/mydocker"
    finally:
        del os.environ[rootless.UID_VARIABLE]
