"""checkpoint and restore with the real criu: on Debian's own kernel Debian's criu works."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyoci.host import cgroup_options
from tests.integration.harness import Terminal, read_until, until, wait_for
from tests.integration.test_checkpoint import SLOW, can
from tests.vm.inside.tools import MIB, cgroup_of, read, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.harness import Box, ConsoleSocket

COUNT = "i=0; while :; do i=$((i+1)); echo $i; echo $i >/tmp/new; mv /tmp/new /tmp/count; sleep 0.2; done"


@pytest.fixture(autouse=True)
def time_for_criu(limit: None) -> Iterator[None]:
    """In place of the limit of every test."""
    signal.alarm(int(4 * SLOW))
    yield


class Saved:
    """A container that counts, and its checkpoints."""

    def __init__(self, box: Box, script: str = COUNT) -> None:
        self.box = box
        self.images = box.bundle / "images"
        box.script(script)

    def count(self) -> int:
        """How far it is, 0 before it began."""
        file = self.box.rootfs / "tmp" / "count"
        return int(file.read_text()) if file.exists() else 0

    def counts(self) -> None:
        """It goes on from here."""
        now = self.count()
        until(lambda: self.count() > now, "the counter", SLOW)

    def up(self, **popen: Any) -> int:
        """Start it; the pid of init."""
        self.box.create(**popen)
        self.box.start()
        self.counts()
        return self.box.pid

    def checkpoint(self, *options: str) -> int:
        """How far it was then."""
        pid = self.box.pid
        self.box.rt("checkpoint", "--image-path", str(self.images), *options, self.box.id, timeout=SLOW)
        if not {"--leave-running", "--pre-dump"} & set(options):
            wait_for(pid)
        return self.count()

    def restore(self, *options: str, bundle: Path | None = None, **popen: Any) -> None:
        """Detached: what the program keeps as stdout must be no pipe that somebody waits for."""
        errors = self.box.bundle / "errors"
        argv = ("restore", "--image-path", str(self.images), "--bundle", str(bundle or self.box.bundle), "--detach")
        with errors.open("w") as stderr:
            popen = {"stdout": subprocess.DEVNULL, "stderr": stderr, **popen}
            code = self.box.rt(*argv, *options, self.box.id, check=False, timeout=SLOW, **popen).code
        log = self.images / "restore.log"
        assert code == 0, errors.read_text() + (log.read_text()[-3000:] if log.exists() else "")


@pytest.fixture
def saved(box: Box) -> Saved:
    return Saved(box)


def test_criu_can_work_here() -> None:
    """So that nothing here is passed over."""
    assert can() == ""


# -- stdin, stdout, stderr ------------------------------------------------------------------


class Sink:
    """Something that takes a container's output."""

    def __init__(self, kind: str, place: Path) -> None:
        self.file = place
        self.reader = -1
        if kind == "pipe":
            self.reader, self.fd = os.pipe()
        else:
            self.fd = os.open("/dev/null" if kind == "null" else place, os.O_WRONLY | os.O_CREAT, 0o600)

    def numbers(self) -> list[int]:
        """What was counted into it so far."""
        if self.reader < 0:
            return [int(word) for word in self.file.read_text().split()] if self.file.exists() else []
        data = b""
        while select.select([self.reader], [], [], 0)[0] and (more := os.read(self.reader, 4096)):
            data += more
        return [int(word) for word in data.split()]

    def close(self) -> None:
        os.close(self.fd)
        if self.reader >= 0:
            os.close(self.reader)


@pytest.mark.parametrize(("before", "after"), [("null", "null"), ("file", "null"), ("pipe", "pipe"), ("file", "file")])
def test_output_goes_where_restore_sends_it(saved: Saved, before: str, after: str) -> None:
    """Whatever stdout was but /dev/null, which is the container's own then; detached."""
    first, second = (Sink(kind, saved.box.bundle / f"out{n}") for n, kind in enumerate((before, after)))
    saved.up(stdout=first.fd)
    reached = saved.checkpoint()
    assert saved.box.entries() == set()
    saved.restore(stdout=second.fd)
    assert saved.box.status == "running"
    saved.counts()
    if after != "null":
        numbers = second.numbers()
        assert numbers
        # it says a number before it writes it down, and was stopped before the one or the other
        assert numbers[0] in (reached + 1, reached + 2), "it goes on, it does not begin"
    saved.box.delete("--force")
    first.close()
    second.close()


def test_in_the_foreground(box: Box) -> None:
    """Its exit status is ours, its pipe too."""
    saved = Saved(box, COUNT.replace("while :", "while ! [ -e /tmp/end ]") + "; exit 7")
    saved.up()
    saved.checkpoint()
    (box.rootfs / "tmp" / "end").touch()
    argv = ("restore", "--image-path", str(saved.images), "--bundle", str(box.bundle), box.id)
    done = box.rt(*argv, check=False, timeout=SLOW)
    assert done.code == 7, done.err
    assert box.entries() == set()


# -- what runs on ----------------------------------------------------------------------------


def test_leave_running_and_work_path(saved: Saved) -> None:
    work = saved.box.bundle / "not" / "there"
    pid = saved.up()
    saved.checkpoint("--leave-running", "--work-path", str(work))
    assert (saved.box.status, saved.box.pid) == ("running", pid)
    assert (work / "dump.log").is_file()
    saved.counts()
    saved.box.delete("--force")
    saved.restore("--work-path", str(work))
    assert (work / "restore.log").is_file()
    saved.counts()


def test_pre_dump(saved: Saved) -> None:
    """Memory first, while it runs; then what has changed."""
    saved.up()
    last, saved.images = saved.images, saved.box.bundle / "before"
    saved.checkpoint("--pre-dump")
    assert saved.box.status == "running"
    saved.counts()
    saved.images = last
    reached = saved.checkpoint("--parent-path", "../before")
    assert (last / "parent").is_symlink()
    saved.restore()
    saved.counts()
    assert saved.count() > reached


def test_a_paused_container(saved: Saved) -> None:
    saved.up()
    saved.box.rt("pause", saved.box.id)
    saved.checkpoint()
    saved.restore()
    saved.counts()


# -- what is not the container's ---------------------------------------------------------------


def test_external_mounts_and_network(saved: Saved) -> None:
    """A volume, a file, masked files, a link on the way, and the network namespace of somebody else."""
    box = saved.box
    volume, file = box.bundle / "volume", box.bundle / "a.file"
    volume.mkdir()
    file.write_text("mine\n")
    (box.rootfs / "run").mkdir(exist_ok=True)
    (box.rootfs / "var").mkdir(exist_ok=True)
    (box.rootfs / "var" / "run").symlink_to("/run")
    (box.rootfs / "secret").write_text("x")
    box.bind("/var/run/volume", volume)
    box.bind("/etc/a.file", file, "ro")
    box.linux["maskedPaths"] += ["/secret"]
    with subprocess.Popen(["unshare", "--net", "sleep", "1000"]) as holder:
        until(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != os.readlink("/proc/self/ns/net"), "unshare")
        box.namespace("network", f"/proc/{holder.pid}/ns/net")
        saved.up()
        saved.checkpoint()
        saved.restore()
        assert os.readlink(f"/proc/{box.pid}/ns/net") == os.readlink(f"/proc/{holder.pid}/ns/net")
        script = "cat /etc/a.file /secret; echo x >/run/volume/new; echo x >/etc/a.file || echo read-only"
        assert box.exec("sh", "-c", script).out == "mine\nread-only\n"
        assert (volume / "new").exists()
        box.delete("--force")
        holder.kill()


def test_its_own_network(saved: Saved) -> None:
    """Addresses, and the host's name, come back with it."""
    pid = saved.up()
    subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", "address", "add", "10.98.7.6/32", "dev", "lo"], check=True)
    saved.checkpoint()
    saved.restore()
    shown = subprocess.run(
        ["nsenter", "-t", str(saved.box.pid), "-n", "ip", "-o", "address"], capture_output=True, text=True, check=True
    )
    assert "10.98.7.6/32" in shown.stdout
    assert saved.box.exec("hostname").out.strip() == saved.box.config["hostname"]


def test_a_new_root(saved: Saved) -> None:
    """podman container restore --import: another bundle, whose root has none of the mount points, another volume."""
    box = saved.box
    volumes = [box.bundle / "volume0", box.bundle / "volume1"]
    for volume in volumes:
        volume.mkdir()
        (volume / "name").write_text(volume.name)
    other = box.directory / "other"
    box.mount("/scratch", "tmpfs", "tmpfs")
    box.bind("/volume", volumes[0])
    saved.up()
    reached = saved.checkpoint()
    shutil.copytree(box.rootfs, other / "rootfs", symlinks=True)  # now: the program may have had a file of it open
    for name in ("proc", "dev", "sys", "scratch", "volume"):
        (other / "rootfs" / name).rmdir()
    box.config["mounts"][-1]["source"] = str(volumes[1])
    (other / "config.json").write_text(json.dumps(box.config))
    saved.restore(bundle=other)
    assert box.exec("cat", "/volume/name").out == "volume1"
    file = other / "rootfs" / "tmp" / "count"
    until(lambda: file.exists() and int(file.read_text()) > reached, "the counter", SLOW)
    box.delete("--force")


def test_user_namespace(saved: Saved) -> None:
    saved.box.userns()
    for path in (saved.box.rootfs, *saved.box.rootfs.iterdir()):
        os.chown(path, 100000, 100000, follow_symlinks=False)
    saved.up()
    saved.checkpoint()
    saved.restore()
    saved.counts()
    assert Path(f"/proc/{saved.box.pid}/uid_map").read_text().split() == ["0", "100000", "65536"]


def test_scope_of_systemd(scoped: Box) -> None:
    """It comes back into a scope of its own, with its limits."""
    scoped.linux["resources"] = {"memory": {"limit": 256 * MIB}}
    saved = Saved(scoped)
    saved.up()
    saved.checkpoint()
    unit = f"it-{scoped.id}.scope"
    assert shown(unit, "ActiveState") == {"ActiveState": "inactive"}
    saved.restore()
    saved.counts()
    directory = cgroup_of(scoped.pid)
    assert directory.name == unit
    assert read(directory, "memory.max") == str(256 * MIB)
    assert shown(unit, "ActiveState", "MemoryMax") == {"ActiveState": "active", "MemoryMax": str(256 * MIB)}
    scoped.delete("--force")
    until(lambda: shown(unit, "ActiveState") == {"ActiveState": "inactive"}, "the end of the scope", SLOW)


def test_options_of_the_hosts_cgroups(saved: Saved) -> None:
    """C04: criu mounts cgroup v2 without options, which takes nsdelegate from every container of the host."""
    before = cgroup_options.current()
    assert "nsdelegate" in before.split(",")
    saved.up()
    saved.checkpoint("--leave-running")
    assert cgroup_options.current() == before
    with cgroup_options.kept([]):  # another one has begun, and has taken them away
        assert not cgroup_options.put("")
        saved.checkpoint("--leave-running")
        assert cgroup_options.current() == before
    saved.checkpoint()
    saved.restore()
    assert cgroup_options.current() == before
    checks = json.loads(saved.box.rt("doctor", "--json").out)["checks"]
    assert next(check["status"] for check in checks if check["name"] == "nsdelegate") == "ok"


# -- terminals ---------------------------------------------------------------------------------

ANSWERS = "echo ready; while read -r word; do echo got $word; done; exit 3"


def test_terminal_by_a_console_socket(box: Box, console: ConsoleSocket) -> None:
    saved = Saved(box, ANSWERS)
    box.process["terminal"] = True
    box.create("--console-socket", str(console.path))
    master = console.receive()
    box.start()
    read_until(master, "ready", SLOW)
    saved.checkpoint()
    os.close(master)
    saved.restore("--console-socket", str(console.path))
    master = console.receive()
    os.write(master, b"once\n")
    read_until(master, "got once", SLOW)
    assert box.exec("test", "-t", "0", check=False).code == 1
    assert box.exec("sh", "-c", "test -t 0 </dev/console").code == 0
    box.delete("--force")
    os.close(master)


def test_terminal_in_the_foreground(box: Box) -> None:
    """From a person's terminal: words go in and out, the size is that of now, the exit status comes back."""
    saved = Saved(box, ANSWERS)
    box.process["terminal"] = True
    box.write()
    with Terminal(box.argv("run", "--bundle", str(box.bundle), box.id)) as first:
        read_until(first.fd, "ready", SLOW)
        box.rt("checkpoint", "--image-path", str(saved.images), box.id, timeout=SLOW)
        first.wait()
    argv = box.argv("restore", "--image-path", str(saved.images), "--bundle", str(box.bundle), box.id)
    with Terminal(argv, 40, 100) as second:
        until(lambda: box.entries() == {box.id} and box.status == "running", "restore", SLOW)
        os.write(second.fd, b"once\n")
        read_until(second.fd, "got once", SLOW)
        assert box.exec("sh", "-c", "stty size </dev/console").out.strip() == "40 100"
        os.write(second.fd, b"\x04")
        assert second.wait() == 3


# -- engines -----------------------------------------------------------------------------------


@pytest.fixture
def podman(box: Box) -> Iterator[Callable[..., str]]:
    """podman of root with pyoci, in a storage of its own (of a short name: podman wants that)."""
    place = Path(tempfile.mkdtemp(prefix="pyoci-"))

    def call(*args: str) -> str:
        options = [
            f"--root={place}/root",
            f"--runroot={place}/run",
            f"--tmpdir={place}/tmp",
            "--runtime=/pyoci/build/pyoci",
        ]
        options += ["--storage-driver=vfs", "--cgroup-manager=systemd", "--events-backend=file"]
        done = subprocess.run(
            ["podman", *options, *args], capture_output=True, text=True, check=False, timeout=4 * SLOW
        )
        assert done.returncode == 0, f"{args}: {done.stderr}"
        return done.stdout

    yield call
    call("rm", "--all", "--force", "--time=0")
    subprocess.run(["rm", "-rf", "--one-file-system", str(place)], check=True)


def test_podman(podman: Callable[..., str], box: Box) -> None:
    """checkpoint and restore in place, and --export and --import under another name."""
    subprocess.run(["tar", "-C", str(box.rootfs), "-cf", str(box.bundle / "root.tar"), "."], check=True)
    podman("import", str(box.bundle / "root.tar"), "localhost/box")
    podman("run", "-d", "--net=none", "--name=one", "localhost/box", "sh", "-c", COUNT)

    def count(name: str) -> int:
        return int(podman("exec", name, "cat", "/tmp/count") or "0")

    def go_on(name: str, least: int) -> int:
        end = time.monotonic() + SLOW
        while (now := count(name)) <= least:
            assert time.monotonic() < end, f"{name} does not go on after {least}"
        return now

    reached = go_on("one", 0)
    podman("container", "checkpoint", "one")
    assert podman("inspect", "--format={{.State.Running}}", "one") == "false\n"
    podman("container", "restore", "one")
    reached = go_on("one", reached)
    archive = str(box.bundle / "one.tar.gz")
    podman("container", "checkpoint", "--export", archive, "one")
    podman("container", "restore", "--import", archive, "--name", "two")
    go_on("two", reached)
    assert str(reached) in podman("logs", "one")
