"""pyoci as a library, on real containers: what the command line does not show."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import pyoci
from pyoci import Container, container_exec, container_mounts
from pyoci.host import nsexec
from tests.integration.harness import Box, cgroups, read_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.pyoci_only("the library is pyoci's")


@pytest.fixture(scope="module", autouse=True)
def copy_of_nsexec() -> None:
    """A process makes it once and keeps it: no leak."""
    nsexec.binary()


@pytest.fixture
def null() -> Iterator[dict[str, Any]]:
    """stdio for containers whose output does not matter."""
    fd = os.open("/dev/null", os.O_RDWR)
    yield {"stdin": fd, "stdout": fd, "stderr": fd}
    os.close(fd)


class Output:
    """A file that takes what a container prints."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)

    def text(self) -> str:
        return self.path.read_text()


@pytest.fixture
def output(box: Box) -> Iterator[Output]:
    made = Output(box.directory / "output")
    yield made
    os.close(made.fd)


@pytest.mark.parametrize("when", ["facts", "plan"])
@pytest.mark.parametrize("verb", ["exec", "mount"])
def test_a_container_that_ends_meanwhile(
    box: Box, null: dict[str, Any], monkeypatch: pytest.MonkeyPatch, verb: str, when: str
) -> None:
    """Its namespaces are not there any more: that it has ended is what is said, and nothing of config.json."""
    box.args("sleep", "100")
    container = create(box, **null)
    container.start()
    module = container_exec if verb == "exec" else container_mounts
    place, name = (module, f"make_{verb}".replace("mount", "mounts")) if when == "plan" else (module.facts, "read")
    whole = getattr(place, name)

    def late(*args: Any) -> Any:
        container.kill("KILL")
        container.wait()
        return whole(*args)

    monkeypatch.setattr(place, name, late)
    with pytest.raises(pyoci.WrongState, match=r"container (that has stopped|not running)$"):
        if verb == "exec":
            container.exec(["true"], **null)
        else:
            container.mount([{"destination": "/mnt", "type": "tmpfs"}, {"destination": "/mnt", "type": "tmpfs"}])
    container.delete()


def create(box: Box, **options: Any) -> Container:
    return Container.create(box.id, config=box.config, bundle=str(box.bundle), root=str(box.root), **options)


def test_from_a_dict(box: Box, output: Output) -> None:
    """No config.json anywhere; a relative root.path is under the bundle; the dict stays as it was."""
    box.script("echo out; echo err >&2; exit 7")
    before = repr(box.config)
    with create(box, stdout=output.fd, stderr=output.fd) as container:
        assert container.status == "created"
        container.start()
        assert container.wait(10) == 7
        assert container.wait() == 7
        assert container.status == "stopped"
    assert output.text() == "out\nerr\n"
    assert repr(box.config) == before
    assert not (box.bundle / "config.json").exists()
    assert box.entries() == set()


def test_exit_by_signal(box: Box, null: dict[str, Any]) -> None:
    box.args("sleep", "100")
    with create(box, **null) as container:
        container.start()
        container.kill("KILL")
        assert container.wait(10) == 128 + signal.SIGKILL
        with pytest.raises(pyoci.WrongState, match="container not running"):
            container.kill()


def test_wait_times_out(box: Box, null: dict[str, Any]) -> None:
    box.args("sleep", "100")
    with create(box, **null) as container:
        container.start()
        with pytest.raises(TimeoutError):
            container.wait(0.01)
        assert container.status == "running"


def test_open_what_another_object_made(box: Box, null: dict[str, Any]) -> None:
    box.args("sleep", "100")
    with create(box, **null) as container:
        other = Container.open(box.id, str(box.root))
        assert other.state() == container.state()
        other.start()
        assert container.status == "running"
        assert [state["id"] for state in pyoci.list(str(box.root))] == [box.id]
        other.kill(9)
        assert container.wait(10) == 137
        other.close()


def test_exec(box: Box, null: dict[str, Any], output: Output) -> None:
    box.args("sleep", "100")
    with create(box, **null) as container:
        container.start()
        process = container.exec(["sh", "-c", "echo $0; pwd; exit 3", "zero"], stdout=output.fd)
        assert process.pid != container.pid
        assert process.wait(10) == 3
        assert output.text() == "zero\n/\n"
        whole = {**container.config["process"], "args": ["cat"], "cwd": "/tmp"}
        read, write = os.pipe()
        with container.exec(whole, stdin=read) as process:
            os.close(read)
            assert process.running()
            assert os.readlink(f"/proc/{process.pid}/cwd") == "/tmp"
            os.close(write)
            assert process.wait(10) == 0


def test_exec_that_fails_leaves_the_container(box: Box, null: dict[str, Any]) -> None:
    """ENGINE-CONTRACT 2.3"""
    box.args("sleep", "100")
    with create(box, **null) as container:
        container.start()
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(pyoci.SetupError, match=r'exec: "nope": executable file not found in \$PATH'):
            container.exec(["nope"])
        with pytest.raises(pyoci.SetupError, match=r'exec: "/nope": stat /nope: no such file or directory'):
            container.exec(["/nope"])
        with pytest.raises(pyoci.InvalidConfig):
            container.exec([])
        with pytest.raises(pyoci.InvalidConfig):
            container.exec({"args": ["true"]})
        assert container.status == "running"
        assert len(os.listdir("/proc/self/fd")) == before


def test_terminal(box: Box) -> None:
    """The master goes to a function."""
    masters: list[int] = []
    box.process["terminal"] = True
    box.script("tty; read line; echo got $line")
    with create(box, console=masters.append) as container:
        container.start()
        (master,) = masters
        read_until(master, "/dev/pts/0")
        os.write(master, b"it\n")
        read_until(master, "got it")
        assert container.wait(10) == 0
        os.close(master)


@pytest.mark.parametrize("terminal", [True, False])
def test_terminal_needs_a_receiver(box: Box, terminal: bool) -> None:
    box.process["terminal"] = terminal
    options = {} if terminal else {"console_socket": "/nonexistent"}
    with pytest.raises(pyoci.UsageError):
        create(box, **options)
    assert box.entries() == set()


def test_preserved_descriptors_are_checked(box: Box) -> None:
    with pytest.raises(pyoci.UsageError, match="is not open"):
        create(box, preserve_fds=1000)
    assert box.entries() == set()


def test_pid_file(box: Box, null: dict[str, Any]) -> None:
    """ENGINE-CONTRACT 2.2: digits only, and nothing beside it."""
    file = box.bundle / "p"
    with create(box, pid_file=str(file), **null) as container:
        assert file.read_bytes() == b"%d" % container.pid
        assert [entry.name for entry in box.bundle.iterdir() if "p" in entry.name] == ["p"]
    with pytest.raises(pyoci.SetupError, match="write pid file /nonexistent/p: no such file or directory"):
        create(box, pid_file="/nonexistent/p", **null)
    assert box.entries() == set()


def test_config_is_frozen(box: Box, null: dict[str, Any]) -> None:
    """L07"""
    with create(box, **null) as container:
        box.config["hostname"] = "later"
        assert container.config["hostname"] == "box"


def test_without_a_process(box: Box, null: dict[str, Any]) -> None:
    """L05: created, not startable, and still there after the attempt."""
    del box.config["process"]
    with create(box, **null) as container:
        with pytest.raises(pyoci.WrongState, match="without a process"):
            container.start()
        assert container.status == "created"


def test_asyncio(boxes: Callable[[], Box], null: dict[str, Any]) -> None:
    """Many containers in one loop: blocking calls in threads, waiting in the loop."""

    async def live(box: Box, code: int) -> int:
        box.script(f"exit {code}")
        container = await asyncio.to_thread(create, box, **null)
        await asyncio.to_thread(container.start)
        status = await container.wait_async()
        await asyncio.to_thread(container.delete)
        container.close()
        return status

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*(live(boxes(), code) for code in range(6)))

    assert asyncio.run(all_of_them()) == list(range(6))


def test_threads(boxes: Callable[[], Box], null: dict[str, Any]) -> None:
    """Threads make and remove containers at the same time, without changing the working directory or the umask."""
    before = (Path.cwd(), Path("/proc/self/status").read_text().split("Umask:")[1].split()[0])
    failures: list[BaseException] = []
    wrong: list[int] = []

    def live(box: Box, code: int) -> None:
        try:
            box.script(f"exit {code}")
            for _ in range(3):
                with create(box, **null) as container:
                    container.start()
                    if container.wait(20) != code:
                        wrong.append(code)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=live, args=(boxes(), code)) for code in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (failures, wrong) == ([], [])
    assert (Path.cwd(), Path("/proc/self/status").read_text().split("Umask:")[1].split()[0]) == before


def test_creates_of_one_id(box: Box, null: dict[str, Any]) -> None:
    """L03: one of many wins, the others change nothing."""
    won: list[Container] = []
    lost: list[str] = []

    def attempt() -> None:
        try:
            won.append(create(box, **null))
        except pyoci.AlreadyExists as error:
            lost.append(str(error))

    threads = [threading.Thread(target=attempt) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert lost == ["container with given ID already exists"] * 5
    with won[0] as container:
        container.start()
        assert container.wait(10) == 0


def test_children_of_the_caller_are_not_touched(box: Box, null: dict[str, Any]) -> None:
    """Only our own children are reaped."""
    other = os.posix_spawn("/bin/true", ["true"], {})
    with create(box, **null) as container:
        container.start()
        container.wait(10)
    assert os.waitpid(other, 0) == (other, 0)


def test_with_sigchld_ignored(box: Box, null: dict[str, Any]) -> None:
    """A caller that lets the kernel reap its children."""
    box.script("exit 7")
    old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with create(box, **null) as container:
            container.start()
            assert container.wait(10) in (7, -1)
    finally:
        signal.signal(signal.SIGCHLD, old)


def test_nothing_adds_up(box: Box, null: dict[str, Any]) -> None:
    """SECURITY 11, in small: descriptors, mounts, cgroups, children and files after many rounds."""

    def counts() -> tuple[int, int, int]:
        return len(os.listdir("/proc/self/fd")), len(Path("/proc/self/mounts").read_text()), len(cgroups(box.id))

    box.args("sleep", "100")
    seen = []
    for _ in range(30):
        with create(box, **null) as container:
            container.start()
            container.exec(["true"], **null).wait(10)
        seen.append(counts())
    assert set(seen) == {seen[0]}
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
