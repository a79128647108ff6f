"""The same without root: a user namespace, the kernel's own overlay, slirp4netns."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration import harness
from tests.mydocker.conftest import MAIN, TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

UID = 20_000_000 + os.getpid()  # nobody's, of no other run of the tests, and without lines in /etc/subuid


class User:
    """mydocker as an ordinary user with an empty home, in a network namespace of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        own = os.readlink("/proc/self/ns/net")
        harness.until(lambda: os.readlink(f"/proc/{self.holder.pid}/ns/net") != own, "the network namespace", TIMEOUT)
        self.enter = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]
        subprocess.run([*self.enter, "ip", "link", "set", "lo", "up"], check=True)

    def __call__(self, *args: str) -> harness.Result:
        become = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
        env = {"PATH": os.environ["PATH"], "HOME": str(self.home), "XDG_RUNTIME_DIR": f"{self.home}/run"}
        command = [*self.enter, *become, sys.executable, "-I", "-S", str(MAIN), *args]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT, env=env, cwd="/", stdin=subprocess.DEVNULL
        )
        assert "Traceback" not in done.stderr, done.stderr
        return harness.Result(done.returncode, done.stdout, done.stderr)

    def close(self) -> None:
        ids = self("ps", "-aq").out.split()
        if ids:
            self("rm", "-f", *ids)
        self.holder.kill()
        self.holder.wait()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if entry.stat().st_uid == UID:
                    os.kill(int(entry.name), signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                continue
        harness.children()


@pytest.fixture
def user(isolated: None) -> Iterator[User]:
    harness.need_reachable(sys.executable)
    with pytest.raises(KeyError):
        pwd.getpwuid(UID)
    home = Path(tempfile.mkdtemp(prefix="mydocker-user-"))
    os.chown(home, UID, UID)
    found = User(home)
    yield found
    found.close()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def tun() -> Iterator[None]:
    """/dev/net/tun as udev makes it, in the mount namespace of the tests."""
    if not os.path.exists("/dev/net/tun"):
        pytest.skip("there is no /dev/net/tun")
    directory = tempfile.mkdtemp()
    node = f"{directory}/tun"
    os.mknod(node, stat.S_IFCHR | 0o666, os.stat("/dev/net/tun").st_rdev)
    os.chmod(node, 0o666)
    harness.mount(node, "/dev/net/tun", flags=harness.MS_BIND)
    yield
    harness.umount("/dev/net/tun")
    shutil.rmtree(directory)


def test_run(user: User) -> None:
    script = "id -u; echo hi > /etc/new; cat /etc/new; exit 4"
    result = user("run", "--rm", "--network", "none", "busybox", "sh", "-c", script)
    assert (result.code, result.out) == (4, "0\nhi\n")


@pytest.mark.parametrize("program", ["slirp4netns", "pasta"])
def test_published_port(user: User, tun: None, program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    hidden = shutil.which("slirp4netns") if program == "pasta" else None
    if hidden:  # the first choice
        harness.mount("/dev/null", hidden, flags=harness.MS_BIND)
    try:
        for words in ("link add out type veth peer beyond", "addr add 192.0.2.2/24 dev out", "link set beyond up",
                      "link set out up", "route add default via 192.0.2.1"):  # fmt: skip
            subprocess.run([*user.enter, "ip", *words.split()], check=True)  # pasta wants a way out
        published_port(user)
    finally:
        if hidden:
            harness.umount(hidden)


def published_port(user: User) -> None:
    script = "mkdir -p /www; echo rootless > /www/index.html; exec httpd -f -p 80 -h /www"
    started = user("run", "-d", "--name", "web", "-m", "64m", "-p", "8090:80", "busybox", "sh", "-c", script)
    assert started.code == 0, started.err
    assert "not applied" in started.err  # limits, and it says so
    ask = [*user.enter, "curl", "-s", "--max-time", "2", "http://127.0.0.1:8090/"]
    harness.until(
        lambda: subprocess.run(ask, capture_output=True, text=True).stdout == "rootless\n", "an answer", TIMEOUT
    )
    assert "0.0.0.0:8090->80/tcp" in user("ps").out
    assert user("exec", "web", "cat", "/etc/resolv.conf").out == "nameserver 10.0.2.3\n"
    assert user("stop", "-t", "0", "web").code == 0
    assert "Exited" in user("ps", "-a").out
    assert user("rm", "web").code == 0


def test_what_it_cannot_do_is_said(user: User) -> None:
    result = user("network", "create", "mine")
    assert result.code != 0
    assert "root" in result.err
