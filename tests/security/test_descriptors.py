"""SECURITY 9: no descriptor of the caller, or of the runtime, gets into a container, and no way out by one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.harness import PROJECT, Box, fd_numbers, pyoci_only
from tests.security.conftest import NUMBERS, inside


@pytest.mark.parametrize("how", ["create", "exec"])
def test_only_stdio(box: Box, leaks: list[int], how: str) -> None:
    """L25: for init and for exec."""
    if how == "create":
        box.args("probe", "fds")
        assert fd_numbers(box.run(pass_fds=leaks).out) == [0, 1, 2]
    else:
        box.up()
        assert fd_numbers(box.exec("probe", "fds", pass_fds=leaks).out) == [0, 1, 2]


@pytest.mark.parametrize(
    "base",
    [
        "/proc/self/fd/{}",
        "/proc/self/fd/{}/..",
        *(pytest.param(other, marks=pytest.mark.long) for other in ("/dev/fd/{}", "/proc/1/fd/{}")),
    ],
)
def test_cwd_of_create(box: Box, leaks: list[int], base: str) -> None:
    """CVE-2024-21626: whichever number the runtime's own descriptors have."""
    box.args("sleep", "100")
    for number in NUMBERS:
        box.process["cwd"] = base.format(number)
        if box.create(check=False, pass_fds=leaks).code == 0:
            assert inside(box.pid), base.format(number)
            box.delete("--force")
    assert box.entries() == set()


@pytest.mark.parametrize("base", ["/proc/self/fd/{}", "/proc/self/fd/{}/.."])
def test_cwd_of_exec(box: Box, leaks: list[int], base: str) -> None:
    """CVE-2024-21626: `exec --cwd`, in the host's pid namespace: in one of its own whoever enters has no /proc/self."""
    box.no_namespace("pid")
    box.up()
    pid_file = box.bundle / "pid"
    for number in NUMBERS:
        options = ("--detach", "--pid-file", str(pid_file), "--cwd", base.format(number))
        result = box.rt("exec", *options, box.id, "sleep", "50", check=False, pass_fds=leaks, stdout=None, stderr=None)
        if result.code == 0:
            assert inside(int(pid_file.read_text())), base.format(number)


@pyoci_only("gives every standard stream of a detached container to its user")
@pytest.mark.parametrize("verb", ["run", "exec"])
def test_files_of_the_caller_stay_the_callers(box: Box, verb: str) -> None:
    """Standard streams that are files: whoever owned one could open it for writing, though it came for reading."""
    script = "cat; echo changed > /proc/self/fd/0; chmod 666 /proc/self/fd/0; echo end"
    file = box.bundle / "of the host"
    file.write_text("as it was\n")
    file.chmod(0o644)
    before = file.stat()
    box.process["user"] = {"uid": 1000, "gid": 1000}
    with file.open() as stdin:
        if verb == "run":
            box.script(script)
            shown = box.run(stdin=stdin).out
        else:
            box.up()
            shown = box.exec("sh", "-c", script, stdin=stdin).out
    assert shown == "as it was\nend\n"
    after = file.stat()
    assert (after.st_uid, after.st_gid, after.st_mode, after.st_size) == (0, 0, before.st_mode, before.st_size)


@pyoci_only("runc's init keeps pipes and its log")
def test_waiting_init_has_nothing_of_the_host(box: Box, leaks: list[int]) -> None:
    """A created container, before start: stdio, the fifo, and what stands for procfs and the root of its own."""
    box.args("sleep", "100")
    box.create(pass_fds=leaks)
    pid = box.pid
    host = {(s.st_dev, s.st_ino) for s in map(os.stat, ("/", "/etc", "/sys/fs/cgroup"))}
    for name in os.listdir(f"/proc/{pid}/fd"):
        status = os.stat(f"/proc/{pid}/fd/{name}")
        assert (status.st_dev, status.st_ino) not in host, os.readlink(f"/proc/{pid}/fd/{name}")


def test_environment_of_the_runtime(box: Box) -> None:
    """What the engine has in its environment is not the container's."""
    box.args("env")
    shown = box.run(env={**os.environ, "TOKEN_OF_THE_ENGINE": "secret", "LD_PRELOAD": ""}).out
    assert "secret" not in shown
    box.args("sleep", "100")
    box.up()
    assert "secret" not in box.exec("env", env={**os.environ, "TOKEN_OF_THE_ENGINE": "secret"}).out
    assert "secret" not in Path(f"/proc/{box.pid}/environ").read_text()


# Has descriptors preserved that nobody handed on: those of this process and of nsexec have such numbers.
UNCHECKED = """
import sys
sys.path.insert(0, sys.argv[1])
from pyoci import container_shared
from pyoci.container import Container
container_shared._handed_on = bool
Container.open(sys.argv[3], sys.argv[2]).exec(["probe", "fds"], preserve_fds=20).wait()
"""


@pyoci_only("1.1 passes what happens to be open there")
@pytest.mark.parametrize("verb", ["run", "exec"])
def test_what_nobody_handed_on_is_not_the_runtimes(box: Box, tmp_path: Path, verb: str) -> None:
    """LISTEN_FDS or --preserve-fds of a caller who has nothing open: number 3 is the runtime's log, and then nsexec's
    procfs of the host."""
    log = ("--log", str(tmp_path / "log"))
    environ = {**os.environ, "LISTEN_FDS": "1"}
    if verb == "run":
        box.args("probe", "fds")
        box.write()
        result = box.rt(*log, "run", "--bundle", str(box.bundle), box.id, check=False, env=environ)
    else:
        box.up()
        result = box.rt(*log, "exec", "--preserve-fds", "1", box.id, "probe", "fds", check=False)
    assert result.code != 0
    assert result.out == ""
    assert "descriptor 3 of --preserve-fds 1 is not open" in (tmp_path / "log").read_text()


@pyoci_only("a part of it is replaced")
def test_nothing_of_nsexec_is_preserved(box: Box) -> None:
    """Whatever it was told: what it has opened itself is close-on-exec to the end."""
    box.up()
    argv = [sys.executable, "-I", "-S", "-c", UNCHECKED, str(PROJECT), str(box.root), box.id]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    assert fd_numbers(done.stdout) == [0, 1, 2]
