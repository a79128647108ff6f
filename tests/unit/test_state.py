"""The state directory, its lock, the record and what is derived from it; processes by pid and start time."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import stat
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from pyoci import errors, kernel
from pyoci.host import fifo, process, state
from pyoci.host.process import Process, signal_number
from pyoci.host.state import Directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def record(**changes: Any) -> dict[str, Any]:
    return {
        "ociVersion": "1.3.0",
        "id": "box",
        "pid": 0,
        "start": 0,
        "bundle": "/b",
        "rootfs": "/b/rootfs",
        "created": "2026-01-01T00:00:00Z",
        "annotations": {},
        "cgroup": {},
        "hooks": {},
        "steps": {},
        "process": True,
        **changes,
    }


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    with Directory.create(str(tmp_path / "root"), "box") as made:
        yield made


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(["sleep", "100"])
    yield child
    child.kill()
    child.wait()


# -- the directory ----------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_modes(tmp_path: Path, umask: int) -> None:
    """SECURITY 19: 0700 and 0600 whatever the umask."""
    old = os.umask(umask)
    try:
        with Directory.create(str(tmp_path / "a" / "root"), "box") as directory:
            directory.save(record())
            directory.write("config.json", b"{}")
            os.close(fifo.make(directory))
            for name in os.listdir(directory.path):
                assert stat.S_IMODE(os.lstat(f"{directory.path}/{name}").st_mode) == 0o600, name
            for path in (directory.path, tmp_path / "a" / "root", tmp_path / "a"):
                assert stat.S_IMODE(os.stat(path).st_mode) == 0o700, path
    finally:
        os.umask(old)


@pytest.mark.parametrize("kind", ["root", "box"])
def test_a_link_in_the_place_of_what_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """SECURITY 19: where others may rename, the mode of what the link leads to is not changed."""
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o755)
    whole = kernel.mkdir

    def mkdir(path: str, *args: Any, **named: Any) -> None:
        whole(path, *args, **named)
        if path.endswith(kind):
            os.rmdir(path)
            os.symlink(victim, path)

    monkeypatch.setattr(kernel, "mkdir", mkdir)
    with pytest.raises(errors.SetupError):
        Directory.create(str(tmp_path / "root"), "box")
    assert stat.S_IMODE(victim.stat().st_mode) == 0o755


def test_an_existing_root_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    Directory.create(str(tmp_path), "box").close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_ids_are_unique(directory: Directory, tmp_path: Path) -> None:
    """L03"""
    with pytest.raises(errors.AlreadyExists, match="container with given ID already exists"):
        Directory.create(str(tmp_path / "root"), "box")


def test_unknown_id(tmp_path: Path) -> None:
    """L14: the words engines look for."""
    with pytest.raises(errors.NotFound, match="container does not exist"):
        Directory.open(str(tmp_path), "box")


@pytest.mark.parametrize("kind", ["symlink", "file"])
def test_only_a_directory_is_a_state(tmp_path: Path, kind: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    if kind == "symlink":
        (tmp_path / "box").symlink_to("elsewhere")
    else:
        (tmp_path / "box").touch()
    with pytest.raises(errors.SetupError):
        Directory.open(str(tmp_path), "box")


@pytest.mark.parametrize(("mode", "uid"), [(0o770, 0), (0o702, 0), (0o700, 12345)])
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to give a directory away")
def test_a_state_of_another_user(directory: Directory, mode: int, uid: int) -> None:
    """SECURITY 19: what is in there is not believed, and so no hook of his is run."""
    directory.save(record())
    assert directory.load()["id"] == "box"
    os.chmod(directory.path, mode)
    os.chown(directory.path, uid, uid)
    with pytest.raises(errors.WrongState, match="belongs to another user"):
        directory.load()


def test_root_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(errors.SetupError, match="file/box: not a directory"):
        Directory.create(str(tmp_path / "file"), "box")


def test_descriptors_are_closed(directory: Directory, tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    directory.save(record())
    directory.load()
    directory.has("state.json")
    directory.status(record())
    with Directory.open(str(tmp_path / "root"), "box"):
        pass
    assert sorted(os.listdir("/proc/self/fd")) == sorted(before)
    flags = fcntl.fcntl(directory.fd, fcntl.F_GETFD)
    assert flags & fcntl.FD_CLOEXEC


# -- the lock ---------------------------------------------------------------------------------


def test_busy(directory: Directory, tmp_path: Path) -> None:
    assert not directory.busy()  # by ourselves
    with Directory.open(str(tmp_path / "root"), "box") as other:
        assert other.busy()
        directory.close()
        assert not other.busy()
        other.lock()
        assert other.locked


def test_lock_waits(directory: Directory, tmp_path: Path) -> None:
    order = []

    def second() -> None:
        with Directory.open(str(tmp_path / "root"), "box") as other:
            other.lock()
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    time.sleep(0.05)
    order.append("first")
    directory.close()
    thread.join()
    assert order == ["first", "second"]


def test_lock_of_a_removed_directory(directory: Directory, tmp_path: Path) -> None:
    """Who waited for the lock of a container that was deleted meanwhile learns it."""
    with Directory.open(str(tmp_path / "root"), "box") as other:
        directory.remove()
        Directory.create(str(tmp_path / "root"), "box").close()  # another container of that name
        directory.close()
        with pytest.raises(errors.NotFound):
            other.lock()


def test_create_again_after_a_delete_took_the_new_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `delete --force` between mkdir and lock: the directory is made again."""
    real = Directory.lock
    once: list[bool] = []

    def lock(self: Directory) -> None:
        if not once:
            once.append(True)
            os.rmdir(self.path)
        real(self)

    monkeypatch.setattr(Directory, "lock", lock)
    with Directory.create(str(tmp_path), "box") as made:
        assert os.fstat(made.fd).st_nlink
        made.save(record())


# -- the record -------------------------------------------------------------------------------


def test_save_and_load(directory: Directory) -> None:
    facts = record(annotations={"ä": "\n"}, cgroup={"version": 1})
    directory.save(facts)
    assert directory.load() == facts


def test_load_before_save(directory: Directory) -> None:
    assert directory.load() == {}
    assert directory.status({}) == "stopped"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"pid": 1, "pid": 2}',
        b"\xff",
        b"\0" * 100,
    ],
)
def test_damage_is_seen(directory: Directory, data: bytes) -> None:
    directory.write("state.json", data)
    with pytest.raises(errors.WrongState, match="state of container box is damaged") as caught:
        directory.load()
    assert caught.value.hint == "pyoci delete --force box"


@pytest.mark.parametrize("name", sorted(record()))
def test_each_fact_is_checked(directory: Directory, name: str) -> None:
    values: list[Any] = [None, 1.5, []]
    for value in values:
        directory.save(record(**{name: value}))
        with pytest.raises(errors.WrongState):
            directory.load()


def test_state_of_another_container(directory: Directory) -> None:
    directory.save(record(id="other"))
    with pytest.raises(errors.WrongState, match="another container"):
        directory.load()


def test_a_failed_write_keeps_the_old_file(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    directory.save(record())

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kernel, "fdatasync", full)
    with pytest.raises(errors.SetupError, match="no space left on device"):
        directory.save(record(pid=1))
    assert directory.load()["pid"] == 0


def test_remove_ends_with_state_json(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed halfway, the next delete still knows the cgroup."""
    directory.save(record())
    directory.write("config.json", b"{}")
    directory.write("verbs.plan", b"")
    removed: list[str] = []
    real = os.unlink

    def unlink(name: str, dir_fd: int) -> None:
        removed.append(name)
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(kernel, "unlink", unlink)
    directory.remove()
    assert removed[-1] == "state.json"
    assert not os.path.exists(directory.path)
    directory.remove()  # twice is no error


def test_ids(tmp_path: Path) -> None:
    assert state.ids(str(tmp_path / "none")) == []
    for name in ("b", "a", ".dot"):
        Directory.create(str(tmp_path), name).close()
    (tmp_path / state.CACHE).mkdir()
    (tmp_path / "file").touch()
    assert state.ids(str(tmp_path)) == [".dot", "a", "b"]


# -- status -----------------------------------------------------------------------------------


def test_creating(directory: Directory, tmp_path: Path) -> None:
    """creating is what has no pid, or the fifo under its first name, while its creator holds the lock."""
    directory.save(record())
    os.close(fifo.make(directory))
    with Directory.open(str(tmp_path / "root"), "box") as other:
        assert other.status(other.load()) == "creating"
        assert other.status(record(pid=os.getpid(), start=process.start_time(os.getpid()))) == "creating"
        directory.close()
        assert other.status(other.load()) == "stopped"


def test_a_create_that_comes_to_its_end_meanwhile(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sleeper: subprocess.Popen[bytes]
) -> None:
    """Who looks sees the first name of the fifo or no pid yet, and then no lock any more: not stopped, but created."""
    directory.save(record())
    fd = fifo.make(directory)
    with Directory.open(str(tmp_path / "root"), "box") as other:

        def late() -> bool:
            monkeypatch.undo()
            directory.save(record(pid=sleeper.pid, start=process.start_time(sleeper.pid)))
            fifo.publish(directory)
            directory.close()
            return other.busy()

        monkeypatch.setattr(Directory, "busy", lambda self: late())
        document = other.document(other.load())
        assert (document["status"], document["pid"]) == ("created", sleeper.pid)
    os.close(fd)


def test_created_running_stopped(directory: Directory, sleeper: subprocess.Popen[bytes]) -> None:
    facts = record(pid=sleeper.pid, start=process.start_time(sleeper.pid))
    fd = fifo.make(directory)
    fifo.publish(directory)
    assert directory.status(facts) == "created"
    os.close(fd)  # execve
    assert directory.status(facts) == "running"
    directory.unlink(state.FIFO)
    assert directory.status(facts) == "running"
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert directory.status(facts) == "stopped"  # a zombie is


def test_a_reused_pid_is_stopped(directory: Directory) -> None:
    """SECURITY 19"""
    own = os.getpid()
    assert directory.status(record(pid=own, start=process.start_time(own))) == "running"
    assert directory.status(record(pid=own, start=process.start_time(own) - 1)) == "stopped"


def test_paused(directory: Directory, tmp_path: Path) -> None:
    """L16"""
    own = os.getpid()
    group = tmp_path / "cgroup"
    group.mkdir()
    (group / "cgroup.freeze").write_text("1\n")
    facts = record(pid=own, start=process.start_time(own), cgroup={"version": 2, "dirs": {"": str(group)}, "keep": []})
    assert directory.status(facts) == "paused"
    (group / "cgroup.freeze").write_text("0\n")
    assert directory.status(facts) == "running"


# -- the fifo ---------------------------------------------------------------------------------


def test_fifo_lets_one_byte_through_only_when_drained(directory: Directory) -> None:
    fd = fifo.make(directory)
    fifo.publish(directory)
    said: list[bytes] = []

    def init() -> None:
        os.write(fd, b"1")
        said.append(b"written")
        os.close(fd)

    thread = threading.Thread(target=init)
    thread.start()
    thread.join(0.05)
    assert not said
    assert fifo.drain(directory) == b"1"
    thread.join()


def test_fifo_of_a_dead_init(directory: Directory) -> None:
    os.close(fifo.make(directory))
    fifo.publish(directory)
    assert fifo.drain(directory) == b""


def test_fifo_brings_a_message(directory: Directory) -> None:
    fd = fifo.make(directory)
    fifo.publish(directory)

    def init() -> None:
        for part in (b"1", b"\x16\0\0\0rest", b"of it"):
            os.write(fd, part)
        os.close(fd)

    thread = threading.Thread(target=init)
    thread.start()
    assert fifo.drain(directory) == b"1\x16\0\0\0restof it"
    thread.join()


# -- the default root -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("euid", "userns", "environment", "expected"),
    [
        (0, False, {}, "/run/pyoci"),
        (0, False, {"XDG_RUNTIME_DIR": "/run/user/0"}, "/run/pyoci"),
        (0, True, {"XDG_RUNTIME_DIR": "/run/user/7"}, "/run/user/7/pyoci"),
        (0, True, {"XDG_RUNTIME_DIR": "/run/user/7", "USER": "walnut"}, "/run/user/7/pyoci"),
        (0, True, {"XDG_RUNTIME_DIR": "/run/user/7", "USER": "root"}, "/run/pyoci"),
        (0, True, {"XDG_RUNTIME_DIR": ""}, "/run/pyoci"),
        (7, False, {"XDG_RUNTIME_DIR": "/run/user/7", "USER": "root"}, "/run/user/7/pyoci"),
        (7, False, {}, "/run/pyoci"),
    ],
)
def test_default_root(
    monkeypatch: pytest.MonkeyPatch, euid: int, userns: bool, environment: dict[str, str], expected: str
) -> None:
    """ENGINE-CONTRACT 2.2: runc's rule."""
    for name in ("XDG_RUNTIME_DIR", "USER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(kernel, "geteuid", lambda: euid)
    monkeypatch.setattr(state, "_in_userns", lambda: userns)
    assert state.default_root() == expected


# -- processes --------------------------------------------------------------------------------


def test_start_time(sleeper: subprocess.Popen[bytes]) -> None:
    start = process.start_time(sleeper.pid)
    assert start > 0
    assert process.alive(sleeper.pid, start)
    assert not process.alive(sleeper.pid, start + 1)
    assert not process.alive(0, 0)
    assert process.start_time(2**22 + 1) == 0


def test_start_time_of_an_odd_name(tmp_path: Path) -> None:
    """The name is in parentheses and may hold any character."""
    program = tmp_path / ") R 1 2 3"
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([program, "100"])
    try:
        assert abs(process.start_time(child.pid) - process.start_time(os.getpid())) < 10**7
        assert process.start_time(child.pid) > process.start_time(os.getpid())
    finally:
        child.kill()
        child.wait()


def test_signal_by_pidfd(sleeper: subprocess.Popen[bytes]) -> None:
    with Process(sleeper.pid, process.start_time(sleeper.pid)) as target:
        assert target.running()
        target.kill("KILL")
        assert sleeper.wait() == -signal.SIGKILL
        assert not target.running()
        assert not target.signal(9)
        with pytest.raises(errors.WrongState, match="process not running"):
            target.kill("KILL")


def test_a_reused_pid_is_never_signalled(sleeper: subprocess.Popen[bytes]) -> None:
    """SECURITY 19"""
    with Process(sleeper.pid, process.start_time(sleeper.pid) - 1) as target:
        assert target.pidfd == -1
        assert not target.running()
        assert not target.signal(9)
        assert target.wait() == -1
    assert sleeper.poll() is None


def spawned(*argv: str) -> Process:
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", *argv], {"PATH": "/bin"})
    return Process(pid, process.start_time(pid), child=True)


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 255", 255), ("kill -9 $$", 137), ("kill $$", 143)]
)
def test_wait_for_a_child(script: str, status: int) -> None:
    with spawned(script) as child:
        assert child.wait(10) == status
        assert child.wait() == status


def test_wait_times_out() -> None:
    with spawned("exec sleep 100") as child:
        with pytest.raises(TimeoutError):
            child.wait(0.01)
        child.kill(9)
        assert child.wait() == 137


def test_wait_in_many_threads() -> None:
    with spawned("sleep 0.05; exit 3") as child:
        seen: list[int] = []
        threads = [threading.Thread(target=lambda: seen.append(child.wait())) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == [3] * 5


def test_wait_async() -> None:
    async def both() -> list[int]:
        with spawned("sleep 0.05; exit 3") as child:
            return list(await asyncio.gather(child.wait_async(), child.wait_async()))

    before = sorted(os.listdir("/proc/self/fd"))
    assert asyncio.run(both()) == [3, 3]
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_wait_for_another_ones_child() -> None:
    """Where the kernel keeps it (Linux 6.15), the exit status of a process that somebody else reaps; else -1."""
    script = "(sleep 0.05; exit 5) & echo $!; wait $!"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout
        pid = int(shell.stdout.readline())
        with Process(pid, process.start_time(pid)) as target:
            assert target.wait(10) in (5, -1)


@pytest.mark.parametrize(
    ("given", "number"),
    [
        (9, 9),
        ("9", 9),
        (0, 0),
        ("0", 0),
        ("KILL", 9),
        ("SIGKILL", 9),
        ("sigkill", 9),
        ("RTMIN+3", 37),
        ("RTMAX-1", 63),
        ("SIGRTMIN", 34),
    ],
)
def test_signal_number(given: int | str, number: int) -> None:
    assert signal_number(given) == number


@pytest.mark.parametrize(
    "given", [65, -1, "", "65", "BOGUS", "SIG", "TERM+1", "RTMIN+x", "RTMAX+1", "9 ", "²", "RTMIN+²", "9" * 5000]
)
def test_no_signal(given: int | str) -> None:
    with pytest.raises(errors.UsageError, match="unknown signal"):
        signal_number(given)


def test_a_thread_has_the_number() -> None:
    """The process has ended, and a thread of another one has its pid now: ENOENT, or EINVAL before Linux 6.16."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        assert thread.native_id
        assert process.open_pidfd(thread.native_id, 1) == -1
    finally:
        end.set()
        thread.join()
