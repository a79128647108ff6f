"""checkpoint and restore: what the criu program is called with, and what becomes of the container.

criu itself is played by fake_criu.py, which records its arguments: Debian 12's criu does not run on newer
kernels.  The tests marked with `real` use the real one where `criu check` says that it can work.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import Box, Result, pyoci_only, until, wait_for

pytestmark = pyoci_only("takes criu by RPC")
FAKE = Path(__file__).with_name("fake_criu.py")
SLOW = 150.0  # seconds that criu may take in a virtual machine without KVM
CRIU = shutil.which("criu", path="/usr/sbin:/usr/local/sbin:/usr/bin")


class Checkpoints:
    """A box with a fake criu."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.images = box.bundle / "images"
        self.record = box.bundle / "criu.calls"
        self.env = {**os.environ, "FAKE_CRIU": str(self.record)}

    def rt(self, verb: str, *options: str, check: bool = True, **popen: Any) -> Result:
        argv = ("--criu", str(FAKE), verb, "--image-path", str(self.images), *options, self.box.id)
        return self.box.rt(*argv, check=check, env=self.env, **popen)

    def restore(self, *options: str, stdout: Any = subprocess.DEVNULL) -> None:
        """Detached: the program keeps what is its stdout and stderr, so these are no pipes of ours."""
        with (self.box.bundle / "errors").open("w") as stderr:
            argv = ("restore", "--bundle", str(self.box.bundle), "--detach", *options)
            code = self.rt(*argv, check=False, stdout=stdout, stderr=stderr).code
        assert code == 0, (self.box.bundle / "errors").read_text()

    def calls(self) -> list[list[str]]:
        """The calls of criu, without those of `check`."""
        lines = [json.loads(line) for line in self.record.read_text().splitlines()] if self.record.exists() else []
        return [line for line in lines if line[0] != "check"]


@pytest.fixture
def points(box: Box) -> Checkpoints:
    return Checkpoints(box)


def pairs(argv: list[str], option: str) -> list[str]:
    """All values of an option."""
    return [argv[index + 1] for index, word in enumerate(argv) if word == option]


# -- checkpoint -----------------------------------------------------------------------------


def test_a_checkpoint_ends_and_removes_the_container(points: Checkpoints) -> None:
    box = points.box
    box.up()
    pid = box.pid
    points.rt("checkpoint")
    wait_for(pid)
    assert box.entries() == set()
    (argv,) = points.calls()
    assert argv[:3] == ["dump", "--tree", str(pid)]
    assert pairs(argv, "--root") == [str(box.rootfs)]
    assert pairs(argv, "--images-dir") == pairs(argv, "--work-dir") == [str(points.images)]
    assert "--manage-cgroups=soft" in argv
    assert pairs(argv, "--freeze-cgroup")[0].endswith(box.id)
    assert "does not exist" in box.delete(check=False).error


def test_external_mounts_and_namespaces(points: Checkpoints, workshop: Path) -> None:
    box = points.box
    box.bind("/data", box.bundle)
    (box.rootfs / "secret").write_text("x")
    box.linux["maskedPaths"] += ["/secret", "/tmp"]
    with subprocess.Popen(["unshare", "--net", "sleep", "100"]) as holder:
        until(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != os.readlink("/proc/self/ns/net"), "unshare")
        box.namespace("network", f"/proc/{holder.pid}/ns/net")
        inode = os.stat(f"/proc/{holder.pid}/ns/net").st_ino
        box.up()
        points.rt("checkpoint", "--leave-running", "--leave-running")
        points.rt("checkpoint")
        points.restore()
        holder.kill()
    first, _, back = points.calls()
    external = pairs(first, "--external")
    assert "mnt[/data]:/data" in external
    assert "mnt[/secret]:/secret" in external
    assert "mnt[/tmp]:/tmp" not in external, "masked directories are the container's own"
    assert f"net[{inode}]:extRootNetNS" in external
    assert f"mnt[/data]:{box.bundle}" in pairs(back, "--external")
    assert "mnt[/secret]:/dev/null" in pairs(back, "--external")
    (inherited,) = [word for word in pairs(back, "--inherit-fd") if "NetNS" in word]
    assert inherited.endswith("]:extRootNetNS")


def test_options_of_checkpoint(points: Checkpoints) -> None:
    box = points.box
    box.config["annotations"] = {"org.criu.config": "/etc/criu/some.conf"}
    box.up()
    work = box.bundle / "not" / "there"
    points.rt(
        "checkpoint",
        *("--leave-running --tcp-established --ext-unix-sk --shell-job --file-locks --auto-dedup".split()),
        *("--empty-ns network --manage-cgroups-mode strict --parent-path ../before".split()),
        *("--page-server 10.0.0.1:99 --lazy-pages --status-fd 1".split()),
        *("--work-path", str(work)),
    )
    assert box.status == "running"
    assert work.is_dir()
    (argv,) = points.calls()
    for flag in (
        "--leave-running --tcp-established --ext-unix-sk --shell-job --file-locks --auto-dedup --lazy-pages "
        "--track-mem --manage-cgroups=strict --page-server"
    ).split():
        assert flag in argv
    for option, value in (
        ("--empty-ns", "net"),
        ("--config", "/etc/criu/some.conf"),
        ("--prev-images-dir", "../before"),
        ("--address", "10.0.0.1"),
        ("--port", "99"),
        ("--status-fd", "1"),
        ("--work-dir", str(work)),
    ):
        assert pairs(argv, option) == [value]


def test_pre_dump(points: Checkpoints) -> None:
    points.box.up()
    points.rt("checkpoint", "--pre-dump")
    assert points.box.status == "running"
    (argv,) = points.calls()
    assert argv[0] == "pre-dump"
    assert "--track-mem" in argv


def test_a_checkpoint_that_fails_leaves_the_container(points: Checkpoints) -> None:
    """The text that containerd and people look for, with criu's own reason; see go-runc's criuError."""
    points.box.up()
    points.env["FAKE_CRIU_FAIL"] = "dump"
    error = points.rt("checkpoint", check=False).error
    assert "criu failed: type DUMP errno 0: Error (criu/x.c:1): cannot do that" in error
    assert f"log file: {points.images}/dump.log" in error
    assert points.box.status == "running"
    points.env["FAKE_CRIU_UNFIT"] = "1"
    assert "criu cannot work on this machine: Error (criu/vdso.c:613)" in points.rt("checkpoint", check=False).error
    assert "criu cannot work" in points.rt("checkpoint", "--pre-dump", check=False).error


def test_states_and_options_that_are_refused(points: Checkpoints) -> None:
    box = points.box
    assert "does not exist" in points.rt("checkpoint", check=False).error
    box.args("sleep", "100")
    box.create()
    assert "cannot be checkpointed in created state" in points.rt("checkpoint", check=False).error
    box.start()
    assert "must be relative" in points.rt("checkpoint", "--parent-path", "/x", check=False).error
    assert "page server" in points.rt("checkpoint", "--page-server", "x", check=False).error
    assert "namespace pid is not supported" in points.rt("checkpoint", "--empty-ns", "pid", check=False).error
    missing = box.rt("--criu", "/no/criu", "checkpoint", box.id, check=False).error
    assert "/no/criu: executable file not found in $PATH" in missing
    assert points.calls() == []


def test_what_podman_asks(box: Box) -> None:
    """ENGINE-CONTRACT 2.3: whether there is such a verb, and whether restore goes into pods."""
    assert box.rt("checkpoint", "--help").code == 0
    asked = box.rt("restore", "--lsm-mount-context", check=False)
    assert asked.code == 1
    assert "flag needs an argument: -lsm-mount-context" in asked.error


# -- restore --------------------------------------------------------------------------------


def saved(points: Checkpoints) -> None:
    points.box.up()
    pid = points.box.pid
    points.rt("checkpoint")
    wait_for(pid)


def test_restore(points: Checkpoints) -> None:
    box = points.box
    marker = box.bundle / "hook"
    box.hook("createRuntime", "/bin/sh", "sh", "-c", f"cat >{marker}")
    saved(points)
    marker.unlink()
    pid_file = box.bundle / "pid"
    out = box.bundle / "restored"
    with out.open("w") as stdout:
        points.restore("--pid-file", str(pid_file), "-no-subreaper", stdout=stdout)
    assert box.status == "running"
    assert box.pid == int(pid_file.read_text())
    assert json.loads(marker.read_text())["pid"] == box.pid, "hooks run at setup-namespaces"
    until(lambda: out.read_text() == "goes on\n", "the program")
    assert json.loads(box.rt("ps", "-f", "json", box.id).out) == [box.pid]
    argv = points.calls()[-1]
    assert argv[0] == "restore"
    assert {"--restore-detached", "--restore-sibling"} <= set(argv)
    assert not [mount for mount in Path("/proc/self/mounts").read_text().splitlines() if "pyoci-restore" in mount]
    assert not list(Path("/tmp").glob("pyoci-restore-*"))
    pid = box.pid
    box.kill("KILL")
    assert wait_for(pid) == -9
    box.delete()
    assert box.entries() == set()


def test_restore_in_the_foreground(points: Checkpoints) -> None:
    saved(points)
    points.env["FAKE_CRIU_SLEEP"] = "0"
    assert points.rt("restore", "--bundle", str(points.box.bundle)).out == "goes on\n"
    assert points.box.entries() == set()


def test_pipes_are_those_of_the_caller(points: Checkpoints) -> None:
    """What runc keeps in descriptors.json: a pipe of the old engine is replaced by the new one's."""
    saved(points)
    (points.images / "pyoci.json").unlink()  # as if runc had written it
    (points.images / "descriptors.json").write_text('["/dev/null", "pipe:[11]", "pipe:[12]"]')
    points.restore()
    assert pairs(points.calls()[-1], "--inherit-fd") == ["fd[1]:pipe:[11]", "fd[2]:pipe:[12]"]


def test_files_of_the_host_are_those_of_the_caller(points: Checkpoints) -> None:
    """stdin is the host's /dev/null, stdout and stderr are files: on no mount of the container."""
    saved(points)
    (dumped,) = points.calls()
    files = [word for word in pairs(dumped, "--external") if word.startswith("file[")]
    assert len(files) == 3
    points.restore()
    assert pairs(points.calls()[-1], "--inherit-fd") == [f"fd[{fd}]:{name}" for fd, name in enumerate(files)]


@pytest.mark.parametrize("how", ["criu", "hook", "exists", "terminal", "missing"])
def test_a_restore_that_fails_leaves_nothing(points: Checkpoints, how: str) -> None:
    box = points.box
    saved(points)
    words = {
        "criu": "criu failed: type RESTORE errno 0: Error (criu/x.c:1): cannot do that",
        "hook": "exit status 7",
        "exists": "already exists",
        "terminal": "terminal cannot be restored",
        "missing": "executable file not found",
    }[how]
    if how == "criu":
        points.env["FAKE_CRIU_FAIL"] = "restore"
    elif how == "hook":
        box.hook("createRuntime", "/bin/sh", "sh", "-c", "exit 7")
    elif how == "terminal":
        box.process["terminal"] = True
    elif how == "exists":
        box.create()
    box.write()
    program = "/no/criu" if how == "missing" else str(FAKE)
    before = box.entries()
    failed = box.rt(
        *("--criu", program, "restore", "--image-path", str(points.images), "--bundle", str(box.bundle)),
        *("--detach", box.id),
        check=False,
        env=points.env,
        stdout=subprocess.DEVNULL,
    )
    assert failed.code == 1
    assert words in failed.error
    assert box.entries() == before


# -- the real one ---------------------------------------------------------------------------


def can() -> str:
    """Why the real criu cannot be used here, "" when it can."""
    if CRIU is None:
        return "criu is not installed"
    done = subprocess.run([CRIU, "check"], capture_output=True, text=True, timeout=SLOW, check=False)
    said = (done.stderr + done.stdout).strip().splitlines()
    return "" if done.returncode == 0 else f"criu check: {said[-1] if said else done.returncode}"


def test_the_real_criu(box: Box) -> None:
    """A counter goes on where it was; where criu cannot work, that is what is said, and the container lives."""
    reason = can()
    if CRIU is None:
        pytest.skip(reason)
    signal.alarm(int(4 * SLOW))  # in place of the limit of every test
    box.script("i=0; while :; do i=$((i+1)); echo $i >/tmp/count; sleep 0.1; done")
    box.up()
    count = box.rootfs / "tmp" / "count"
    until(lambda: count.exists() and count.read_text().strip() not in ("", "1"), "the counter", SLOW)
    pid = box.pid
    images = str(box.bundle / "images")
    done = box.rt("--criu", CRIU, "checkpoint", "--image-path", images, box.id, check=False, timeout=SLOW)
    if reason:
        assert done.code == 1
        assert "criu cannot work on this machine" in done.error
        assert box.status == "running"
        pytest.skip(reason)
    assert done.code == 0, done.err
    wait_for(pid)
    before = int(count.read_text())
    null = subprocess.DEVNULL
    argv = ("--criu", CRIU, "restore", "--image-path", images, "--bundle", str(box.bundle), "-d", box.id)
    box.rt(*argv, stdout=null, stderr=null, timeout=SLOW)
    until(lambda: count.read_text().strip() and int(count.read_text()) > before, "the counter to go on", SLOW)
    assert box.status == "running"
