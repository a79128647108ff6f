"""SECURITY 21, 22: kernels and hosts that lack something, one thing at a time: it works and is as safe, or there is
one clear error, nothing is left behind, and nothing hangs."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.integration import harness
from tests.integration.harness import Box, fd_numbers, pyoci_only
from tests.security.conftest import CALLS, left, rounds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.security.conftest import Outside

pytestmark = pyoci_only("Go's runtime does not start without them")

WORKS = {(call, error) for call in ("openat2", "close_range") for error in ("ENOSYS", "EPERM")} | {("clone3", "ENOSYS")}
WORDS = {"clone3": "clone3(2)", "pidfd_open": "pidfd_open"}  # else the call's name with its section
LACKS = "the kernel lacks {}(2), which pyoci needs: Linux 5.12 or later"


def full(box: Box) -> None:
    """A config in which every call has something to do."""
    volume = box.bundle / "volume"
    volume.mkdir()
    (volume / "file").write_text("of the volume\n")
    box.bind("/v", volume, "ro")
    box.mount("/t", "tmpfs", "tmpfs", "ro")
    box.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
    }
    box.hook("createContainer", "/bin/true")
    box.args("sh", "-c", "cat /v/file; probe fds; touch /v/x /t/x 2>&1; head -c 1 /proc/kcore; sleep 100")


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
@pytest.mark.parametrize("call", CALLS)
def test_life_without(box: Box, degrade: Callable[[str, str], None], call: str, error: str) -> None:
    """create, start, exec, kill, delete: all as ever, or one error that names the call, and nothing is there."""
    full(box)
    degrade(call, error)
    made = box.create(check=False)
    if made.code == 0:
        started = box.start(check=False)
    failed = made if made.code else started
    if (call, error) in WORKS:
        assert failed.code == 0, failed.err
        harness.until(lambda: "Read-only" in box.logs(), "the script")
        shown = box.logs()
        assert shown.startswith("of the volume\n")
        assert shown.count("Read-only file system") == 2
        assert box.exec("probe", "fds").out.count("\n") == 3
        box.delete("--force")
    else:
        assert failed.code == 1, (call, error)
        assert len([line for line in failed.err.splitlines() if "level=error" in line]) == 1
        assert (WORDS.get(call) or f"{call}(2)") in failed.err
        if error == "ENOSYS" and call not in (*WORDS, "seccomp"):
            assert LACKS.format(call) in failed.err
    assert box.entries() == set()


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
@pytest.mark.parametrize("verb", ["run", "exec"])
def test_leaks_are_closed(box: Box, degrade: Callable[[str, str], None], error: str, verb: str) -> None:
    """CVE-2024-21626 on a kernel without close_range(2)."""
    leaks = [os.open("/", os.O_RDONLY | os.O_DIRECTORY) for _ in range(5)]
    os.dup2(leaks[0], 700)
    if verb == "exec":
        box.up()
    degrade("close_range", error)
    box.args("probe", "fds")
    made = box.run if verb == "run" else lambda **options: box.exec("probe", "fds", **options)
    assert fd_numbers(made(pass_fds=[*leaks, 700]).out) == [0, 1, 2]
    for fd in (*leaks, 700):
        os.close(fd)


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
@pytest.mark.parametrize("target", ["absolute", "climbing", "dangling"])
@pytest.mark.parametrize("place", ["bind", "mask", "cwd", "device"])
def test_paths_without_openat2(
    box: Box, outside: Outside, degrade: Callable[[str, str], None], error: str, target: str, place: str
) -> None:
    """SECURITY 1 by the walk alone."""
    host = str(outside.directory / ("new" if target == "dangling" else "dir"))
    os.symlink("../" * 20 + host[1:] if target == "climbing" else host, box.rootfs / "link")
    if place == "bind":
        box.bind("/link", box.rootfs)
    elif place == "mask":
        box.linux["maskedPaths"].append("/link/secret")
    elif place == "cwd":
        box.process["cwd"] = "/link/deep"
    else:
        box.linux["devices"] = [{"path": "/link/node", "type": "c", "major": 1, "minor": 5}]
    box.script("ls; echo ran")
    degrade("openat2", error)
    result = box.run(check=False)
    assert "secret" not in result.out
    assert result.code == (place == "device"), result.err


def test_a_hook_that_cannot_be_started(box: Box, degrade: Callable[[str, str], None]) -> None:
    """The container is deleted all the same, and why the hook was not run is said in one line."""
    box.hook("poststop", "/bin/true")
    box.create()
    degrade("clone3", "EPERM")
    (line,) = box.delete("--force").err.splitlines()
    assert "poststop hook 0" in line
    assert "clone3(2)" in line
    assert box.entries() == set()


# -- hosts ----------------------------------------------------------------------------------


def test_a_full_disk(box: Box) -> None:
    """The state root has no room: one error, nothing stays."""
    box.root.mkdir()
    harness.mount("tmpfs", box.root, "tmpfs", 0, "size=8k,nr_inodes=8")
    (box.root / "filler").write_bytes(bytes(4096))
    try:
        result = box.create(check=False)
        assert result.code == 1
        assert "no space left on device" in result.error
        assert box.entries() == {"filler"}
    finally:
        harness.umount(box.root)


def test_read_only_state(box: Box) -> None:
    """The state root cannot be written to."""
    box.root.mkdir()
    harness.mount("tmpfs", box.root, "tmpfs", 1)
    try:
        result = box.create(check=False)
        assert result.code == 1
        assert "read-only file system" in result.error
    finally:
        harness.umount(box.root)


def test_no_user_namespaces(box: Box, attack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of zero, as the kernel words it: the error says where to look."""
    box.userns()
    unshare = {"x86_64": 272, "aarch64": 97}[os.uname().machine]
    wrapper = [str(attack), "deny", str(unshare), str(errno.ENOSPC), *harness.RUNTIME]
    monkeypatch.setattr(harness, "RUNTIME", wrapper)
    result = box.create(check=False)
    assert result.code == 1
    assert "/proc/sys/user" in result.error
    assert box.entries() == set()


def test_no_processes(box: Box) -> None:
    """The cgroup of the caller takes no more."""
    directory = f"/sys/fs/cgroup/pids/{box.id}-caller"
    if not os.path.isdir("/sys/fs/cgroup/pids"):
        pytest.skip("needs a v1 pids hierarchy")
    os.mkdir(directory)
    box.write()
    script = f'echo $$ > {directory}/cgroup.procs; echo 1 > {directory}/pids.max; exec "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *box.argv("create", "--bundle", str(box.bundle), box.id)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    harness.until(lambda: not open_procs(directory), "end of the caller")
    os.rmdir(directory)
    assert done.returncode == 1
    assert "resource temporarily unavailable" in done.stderr
    assert box.entries() == set()


@pytest.mark.parametrize("asks", ["nothing", "oomScoreAdj", "user namespace", "sysctl"])
def test_read_only_proc(box: Box, asks: str) -> None:
    """The host's /proc cannot be written to: only what has to be written there fails."""
    if asks == "oomScoreAdj":
        box.process["oomScoreAdj"] = 10
    elif asks == "user namespace":
        box.userns()
    elif asks == "sysctl":
        box.linux["sysctl"] = {"kernel.shmmax": "12345"}
    box.args("echo", "ran")
    box.write()
    script = 'mount -o remount,bind,ro /proc; exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", *box.argv("run", "--bundle", str(box.bundle), box.id)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=harness.TIMEOUT)
    assert left(box) == []
    if asks == "nothing":
        assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
    else:
        (line,) = done.stderr.splitlines()
        assert "read-only file system" in line


@pytest.mark.parametrize("megabytes", [4, 12, 16, 31, 32])
def test_little_address_space(box: Box, megabytes: int) -> None:
    """Of the runtime and of nsexec: enough, or one error and no interpreter that goes round in its own."""
    box.args("echo", "ran")
    box.write()
    script = f'ulimit -v {megabytes << 10}; exec "$@"'
    command = ["sh", "-c", script, "sh", *box.argv("run", "--bundle", str(box.bundle), box.id)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=harness.TIMEOUT)
    assert left(box) == []
    if megabytes >= 32:
        assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
    else:
        (line,) = done.stderr.splitlines()
        assert "ulimit -v" in line


def test_little_memory(box: Box) -> None:
    """The cgroup of the caller has little, and the kernel kills: whom, it chooses."""
    directory = f"/sys/fs/cgroup/memory/{box.id}-caller"
    if not os.path.isdir("/sys/fs/cgroup/memory"):
        pytest.skip("needs a v1 memory hierarchy")
    os.mkdir(directory)
    box.args("echo", "ran")
    box.write()
    script = f'echo $$ > {directory}/cgroup.procs; exec "$@"'
    command = ["sh", "-c", script, "sh", *box.argv("run", "--bundle", str(box.bundle), box.id)]
    codes = set()
    for kilobytes in range(2048, 12 << 10, rounds(1024, 64)):
        with open(f"{directory}/memory.limit_in_bytes", "w", encoding="ascii") as file:
            file.write(str(kilobytes << 10))
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=harness.TIMEOUT
        )
        codes.add(done.returncode)
        if done.returncode == -signal.SIGKILL:  # the runtime itself
            harness.children()
            box.delete("--force")
        elif done.returncode:
            assert len(done.stderr.splitlines()) == 1, done.stderr
        harness.until(lambda: left(box) == [directory], f"{kilobytes}: nothing left: {left(box)}")
    assert {0, -signal.SIGKILL} <= codes
    harness.until(lambda: not open_procs(directory), "end of the caller")
    os.rmdir(directory)


def open_procs(directory: str) -> str:
    with open(f"{directory}/cgroup.procs", encoding="ascii") as file:
        return file.read()


# -- the integration suite on each of these kernels -----------------------------------------

# one test a group of rows, which would hide the others; the library is in the test's own process
IGNORED = ("test_conformance.py", "test_library.py")


@pytest.mark.long
@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
@pytest.mark.parametrize("call", CALLS)
def test_integration_suite(attack: Path, call: str, error: str) -> None:
    """Every test passes, or where there is no other way, a command says in one error which call it lacks."""
    runtime = [str(attack), "deny", str(CALLS[call]), str(getattr(errno, error)), *harness.RUNTIME]
    lacks = "" if (call, error) in WORKS else call
    suite = harness.PROJECT / "tests/integration"
    options = ["-q", "-p", "no:cacheprovider", "-p", "tests.security.degraded"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(f"--ignore={suite / name}" for name in IGNORED), str(suite)],
        cwd=harness.PROJECT, env={**os.environ, "RUNTIME": " ".join(runtime), "PYOCI_LACKS": lacks},
        capture_output=True, text=True, timeout=3000,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
