"""checkpoint and restore: what the criu program is called with, and what becomes of the container.

criu itself is played by fake_criu.py, which records what it is asked: Debian 12's criu does not run on newer
kernels.  With the real one: tests/vm/inside/test_criu.py, and here one test where `criu check` says that it can work.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.harness import Box, ConsoleSocket, Result, pyoci_only, until, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

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

    def calls(self) -> list[dict[str, Any]]:
        """The requests to criu: their type, and their options under criu's names."""
        return [json.loads(line) for line in self.record.read_text().splitlines()] if self.record.exists() else []


@pytest.fixture
def points(box: Box) -> Checkpoints:
    return Checkpoints(box)


def inherited(call: dict[str, Any]) -> dict[int, str]:
    """Descriptor that takes the place of something -> criu's name of it."""
    return {item["fd"]: item["key"] for item in call.get("inherit_fd", [])}


# -- checkpoint -----------------------------------------------------------------------------


def test_a_checkpoint_ends_and_removes_the_container(points: Checkpoints) -> None:
    box = points.box
    box.up()
    pid = box.pid
    points.rt("checkpoint")
    wait_for(pid)
    assert box.entries() == set()
    (call,) = points.calls()
    assert (call["type"], call["pid"], call["root"]) == ("dump", pid, str(box.rootfs))
    assert (call["log_file"], call["manage_cgroups_mode"]) == ("dump.log", "SOFT")
    assert call["freeze_cgroup"].endswith(box.id)
    assert call["orphan_pts_master"]
    assert (points.images / "pages-1.img").is_file()
    assert "does not exist" in box.delete(check=False).error


@contextlib.contextmanager
def holder(kind: str, *options: str) -> Iterator[int]:
    """The pid of a process that has new namespaces, kind among them."""
    with subprocess.Popen(["unshare", *options, "sleep", "100"]) as process:
        try:
            own = os.readlink(f"/proc/self/ns/{kind}")
            until(lambda: os.readlink(f"/proc/{process.pid}/ns/{kind}") != own, "unshare")
            yield process.pid
        finally:
            process.kill()


def test_external_mounts_and_namespaces(points: Checkpoints, workshop: Path) -> None:
    box = points.box
    box.bind("/data", box.bundle)
    (box.rootfs / "secret").write_text("x")
    box.linux["maskedPaths"] += ["/secret", "/tmp"]
    with holder("net", "--net") as pid:
        box.namespace("network", f"/proc/{pid}/ns/net")
        inode = os.stat(f"/proc/{pid}/ns/net").st_ino
        box.up()
        points.rt("checkpoint", "--leave-running", "--leave-running")
        points.rt("checkpoint")
        points.restore()
    first, _, back = points.calls()
    external = first["external"]
    assert "mnt[/data]:/data" in external
    assert "mnt[/secret]:/secret" in external
    assert "mnt[/tmp]:/tmp" not in external, "masked directories are the container's own"
    assert f"net[{inode}]:extRootNetNS" in external
    assert f"mnt[/data]:{box.bundle}" in back["external"]
    assert "mnt[/secret]:/dev/null" in back["external"]
    assert "extRootNetNS" in inherited(back).values()
    assert "join_ns" not in back


def test_namespaces_that_are_joined_again(points: Checkpoints) -> None:
    """Of a pod: criu has written down what is in them, and enters those of now."""
    box = points.box
    with holder("uts", "--ipc", "--uts") as pid:
        paths = {kind: f"/proc/{pid}/ns/{kind}" for kind in ("ipc", "uts")}
        for kind, path in paths.items():
            box.namespace(kind, path)
        box.config.pop("hostname", None)
        box.up()
        points.rt("checkpoint")
        points.restore()
    joined = points.calls()[-1]["join_ns"]
    assert {item["ns"]: item["ns_file"] for item in joined} == paths


def test_a_mount_point_behind_a_link(points: Checkpoints) -> None:
    """criu knows mounts by where they are in the mount table."""
    box = points.box
    (box.rootfs / "var").mkdir(exist_ok=True)
    (box.rootfs / "var" / "run").symlink_to("/run")
    (box.rootfs / "run").mkdir(exist_ok=True)
    box.bind("/var/run/data", box.bundle)
    box.up()
    points.rt("checkpoint")
    points.restore()
    dumped, back = points.calls()
    assert "mnt[/run/data]:/run/data" in dumped["external"]
    assert f"mnt[/run/data]:{box.bundle}" in back["external"]


def test_a_new_root(points: Checkpoints) -> None:
    """podman container restore --import: the root is the image's, without what create makes in it."""
    box = points.box
    box.bind("/new/place", box.bundle)
    file = box.bundle / "some.file"
    file.write_text("x")
    box.bind("/etc/some.file", file)
    box.up()
    points.rt("checkpoint")
    for name in ("new/place", "new", "proc", "dev"):
        (box.rootfs / name).rmdir()
    (box.rootfs / "etc" / "some.file").unlink()
    points.restore()
    assert (box.rootfs / "new" / "place").is_dir()
    assert (box.rootfs / "proc").is_dir()
    assert (box.rootfs / "etc" / "some.file").read_text() == "", "the mount point, not the mount"


def test_options_of_checkpoint(points: Checkpoints) -> None:
    box = points.box
    box.config["annotations"] = {"org.criu.config": "/etc/criu/some.conf"}
    box.up()
    work = box.bundle / "not" / "there"
    points.rt(
        "checkpoint",
        *("--leave-running --tcp-established --ext-unix-sk --shell-job --file-locks --auto-dedup".split()),
        *("--empty-ns network --manage-cgroups-mode strict --parent-path ../before".split()),
        *("--page-server 10.0.0.1:99 --lazy-pages".split()),
        *("--work-path", str(work)),
    )
    assert box.status == "running"
    assert work.is_dir()
    (call,) = points.calls()
    for flag in (
        "leave_running tcp_established ext_unix_sk shell_job file_locks auto_dedup lazy_pages track_mem"
    ).split():
        assert call[flag] is True
    for option, value in (
        ("manage_cgroups_mode", "STRICT"),
        ("empty_ns", 0x40000000),
        ("config_file", "/etc/criu/some.conf"),
        ("parent_img", "../before"),
        ("ps", {"address": "10.0.0.1", "port": 99}),
    ):
        assert call[option] == value


def test_status_fd(points: Checkpoints) -> None:
    """A NUL when the pages can be fetched."""
    points.box.up()
    reader, writer = os.pipe()
    points.rt("checkpoint", "--leave-running", "--lazy-pages", "--status-fd", str(writer), pass_fds=(writer,))
    os.close(writer)
    assert os.read(reader, 10) == b"\0"
    os.close(reader)


def test_pre_dump(points: Checkpoints) -> None:
    points.box.up()
    points.rt("checkpoint", "--pre-dump")
    assert points.box.status == "running"
    (call,) = points.calls()
    assert call["type"] == "pre-dump"
    assert call["track_mem"]


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
    for server in ("x", "1.1.1.1:", "1.1.1.1:65536", "1.1.1.1:\u00b2", f"1.1.1.1:{'9' * 5000}"):
        assert "invalid page server" in points.rt("checkpoint", "--page-server", server, check=False).error
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
    call = points.calls()[-1]
    assert call["type"] == "restore"
    assert call["rst_sibling"]
    assert call["root"] == str(box.root / box.id / "root"), "which delete would remove"
    assert call["root"] not in Path("/proc/self/mounts").read_text()
    assert not os.path.exists(call["root"])
    pid = box.pid
    box.kill("KILL")
    assert wait_for(pid) == -9
    box.delete()
    assert box.entries() == set()


def with_a_view_of_cgroups(points: Checkpoints) -> None:
    """Saved with a mount of cgroups; on v1 the container's own are bound, which are gone with it."""
    points.box.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro")
    saved(points)


def test_a_view_of_cgroups(points: Checkpoints) -> None:
    with_a_view_of_cgroups(points)
    points.restore()
    assert points.box.status == "running"


def test_mount_points_that_cannot_be_made_leave_no_cgroup(points: Checkpoints) -> None:
    """The cgroup comes before them; that nothing is left of it is seen to by the fixture host."""
    box = points.box
    data = box.bundle / "data"
    data.mkdir()
    box.bind("/data", data)
    with_a_view_of_cgroups(points)
    data.rmdir()
    argv = ("restore", "--bundle", str(box.bundle), "--detach")
    failed = points.rt(*argv, check=False, stdout=subprocess.DEVNULL)
    assert failed.code == 1
    assert "no such file or directory" in failed.error
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
    assert inherited(points.calls()[-1]) == {1: "pipe:[11]", 2: "pipe:[12]"}


def test_files_of_the_host_are_those_of_the_caller(points: Checkpoints) -> None:
    """stdin is the host's /dev/null, stdout and stderr are files: on no mount of the container."""
    saved(points)
    (dumped,) = points.calls()
    files = [word for word in dumped["external"] if word.startswith("file[")]
    points.restore()
    assert set(inherited(points.calls()[-1]).values()) == {name[1:] for name in files}, "see plan.criu.inherit_key"


def test_one_file_for_all(points: Checkpoints) -> None:
    """Descriptors of one file have one name: what is written counts, and goes where stdout goes."""
    saved(points)
    name = "file[1:2]"
    (points.images / "pyoci.json").write_text(json.dumps({"stdio": {"0": name, "1": name, "2": name}}))
    points.restore()
    assert 0 not in inherited(points.calls()[-1])
    assert inherited(points.calls()[-1])[1] == name[1:]


def test_devices_are_devices(points: Checkpoints) -> None:
    """What the images say of mounts: the host's files that are bound are those of config.json, and a few devices."""
    saved(points)
    said = {"/secret": "/dev/null", "/etc": "/etc", "/dev/sda": "/dev/sda", "/up": "/dev/null/../../etc"}
    (points.images / "pyoci.json").write_text(json.dumps({"devices": said, "binds": {"/y": "/etc"}}))
    points.restore()
    assert points.calls()[-1]["external"] == ["mnt[/secret]:/dev/null"]


@contextlib.contextmanager
def ram(directory: Path) -> Iterator[Path]:
    """A file system of its own."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "ram", str(directory)], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_a_file_with_the_name_of_a_device(points: Checkpoints) -> None:
    """What a mount is of is a path below the top of any file system: /random is no device by that."""
    box = points.box
    for name in ("data", "own", "secret"):
        (box.rootfs / name).write_text("")
    box.linux["maskedPaths"] += ["/secret"]
    with ram(box.bundle / "ram") as directory:
        (directory / "random").write_text("data")
        box.bind("/data", directory / "random")
        box.up()
        inside = "mount -t tmpfs own /tmp && echo own >/tmp/zero && mount --bind /tmp/zero /own"
        subprocess.run(["nsenter", f"--mount=/proc/{box.pid}/ns/mnt", "sh", "-c", inside], check=True)
        points.rt("checkpoint")
        noted = json.loads((points.images / "pyoci.json").read_text())
        assert noted["binds"] == {"/data": "/data"}
        assert noted["devices"]["/secret"] == "/dev/null"
        assert not {"/data", "/own"} & set(noted["devices"])
        points.restore()
        dumped, back = points.calls()
        assert "mnt[/own]:/own" not in dumped["external"]
        assert f"mnt[/data]:{directory}/random" in back["external"]


def test_binds_of_the_config_come_before_devices_of_the_images(points: Checkpoints) -> None:
    """Images of an earlier version may name both."""
    box = points.box
    box.bind("/data", box.bundle)
    saved(points)
    said = {"devices": {"/data": "/dev/random"}, "binds": {"/data": "/data"}}
    (points.images / "pyoci.json").write_text(json.dumps(said))
    points.restore()
    assert points.calls()[-1]["external"] == [f"mnt[/data]:{box.bundle}"]


@pytest.fixture
def terminal(points: Checkpoints) -> Checkpoints:
    """A saved container with a terminal."""
    saved(points)
    points.box.process["terminal"] = True
    points.box.write()
    points.env["FAKE_CRIU_TERMINAL"] = "1"
    return points


def test_a_terminal_goes_to_the_console_socket(terminal: Checkpoints, console: ConsoleSocket) -> None:
    terminal.restore("--console-socket", str(console.path))
    master = console.receive()
    assert os.read(master, 100) == b"goes on\r\n"
    os.close(master)


def test_a_terminal_in_the_foreground(terminal: Checkpoints) -> None:
    terminal.env["FAKE_CRIU_SLEEP"] = "0"
    assert terminal.rt("restore", "--bundle", str(terminal.box.bundle)).out == "goes on\n"
    assert terminal.box.entries() == set()


def test_a_terminal_needs_a_socket(terminal: Checkpoints) -> None:
    argv = ("restore", "--bundle", str(terminal.box.bundle), "--detach")
    assert "cannot allocate tty" in terminal.rt(*argv, check=False).error


@pytest.mark.parametrize("how", ["criu", "hook", "exists", "missing"])
def test_a_restore_that_fails_leaves_nothing(points: Checkpoints, how: str) -> None:
    box = points.box
    saved(points)
    words = {
        "criu": "criu failed: type RESTORE errno 0: Error (criu/x.c:1): cannot do that",
        "hook": "exit status 7",
        "exists": "already exists",
        "missing": "executable file not found",
    }[how]
    if how == "criu":
        points.env["FAKE_CRIU_FAIL"] = "restore"
    elif how == "hook":
        box.hook("createRuntime", "/bin/sh", "sh", "-c", "exit 7")
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
