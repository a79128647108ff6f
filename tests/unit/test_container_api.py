"""pyoci as a library, as far as it goes without root: exports, finding, looking, signalling, deleting.

init is an ordinary process here, and the state is written by hand; tests/integration/test_library.py has real ones.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import pyoci
from pyoci import container_plan, errors
from pyoci.container import Container
from pyoci.host import fifo, process
from pyoci.host.state import Directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]


class Fake:
    """A container whose init is a child of ours."""

    def __init__(self, root: Path, id: str = "box", **facts: Any) -> None:
        self.root = str(root)
        self.id = id
        self.init = subprocess.Popen(["sleep", "100"])
        self.directory = Directory.create(self.root, id)
        self.record: dict[str, Any] = {
            "ociVersion": "1.3.0",
            "id": id,
            "pid": self.init.pid,
            "start": process.start_time(self.init.pid),
            "bundle": "/b",
            "rootfs": "/b/rootfs",
            "created": "2026-01-01T00:00:00.000000000Z",
            "annotations": {"a": "b"},
            "cgroup": {},
            "cgroup_manager": "disabled",
            "no_new_keyring": False,
            "hooks": {},
            "steps": {},
            "process": True,
            **facts,
        }
        self.directory.save(self.record)
        self.directory.write("config.json", b'{"ociVersion": "1.0.2"}')
        self.directory.close()

    def open(self) -> Container:
        return Container.open(self.id, self.root)

    def end(self) -> None:
        self.init.kill()
        self.init.wait()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Fake]]:
    made: list[Fake] = []

    def fake(id: str = "box", **facts: Any) -> Fake:
        made.append(Fake(tmp_path, id, **facts))
        return made[-1]

    yield fake
    for one in made:
        one.end()


# -- the package ------------------------------------------------------------------------------


def test_import_loads_nothing() -> None:
    code = "import sys; before = set(sys.modules); import pyoci; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(ROOT)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["__future__", "pyoci"]


def test_every_export_is_there_and_typed() -> None:
    for name in pyoci.__all__:
        assert getattr(pyoci, name) is not None
    assert set(pyoci.__all__) <= set(dir(pyoci))
    with pytest.raises(AttributeError, match="nothing"):
        pyoci.nothing  # noqa: B018
    assert issubclass(pyoci.NotFound, pyoci.Error)
    assert (ROOT / "pyoci" / "py.typed").exists()


def test_signatures_are_annotated() -> None:
    for name, method in inspect.getmembers(Container, inspect.isfunction):
        assert "return" in method.__annotations__, name
        if not name.startswith("_"):
            assert method.__doc__, name


def test_submodules_import_as_such() -> None:
    """`plan` and `json` are packages of pyoci, not the functions of the interface."""
    import pyoci.json
    import pyoci.plan.ops

    assert pyoci.plan.ops.OPS
    assert pyoci.json.loads(b"1") == 1


# -- finding ----------------------------------------------------------------------------------


def test_unknown(tmp_path: Path) -> None:
    """L14: the words engines look for."""
    with pytest.raises(pyoci.NotFound, match="container does not exist"):
        Container.open("box", str(tmp_path))


@pytest.mark.parametrize("id", ["", ".", "..", "a/b", "../x", "a b", "a\0b", "a\n"])
def test_bad_ids_never_become_paths(tmp_path: Path, id: str) -> None:
    """L03, SECURITY 7"""
    with pytest.raises(pyoci.InvalidConfig):
        Container.open(id, str(tmp_path))
    with pytest.raises(pyoci.InvalidConfig):
        Container.create(id, root=str(tmp_path), bundle=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_open_and_state(make: Callable[..., Fake], monkeypatch: pytest.MonkeyPatch) -> None:
    """L15; a relative root is relative to where the process was."""
    fake = make()
    monkeypatch.chdir(os.path.dirname(fake.root))
    found = Container.open("box", os.path.basename(fake.root))
    monkeypatch.chdir("/")
    assert found.root == fake.root
    assert found.state() == {
        "ociVersion": "1.3.0",
        "id": "box",
        "pid": fake.init.pid,
        "status": "running",
        "bundle": "/b",
        "rootfs": "/b/rootfs",
        "created": "2026-01-01T00:00:00.000000000Z",
        "annotations": {"a": "b"},
        "owner": "",
    }
    assert (found.status, found.pid) == ("running", fake.init.pid)
    assert found.config == {"ociVersion": "1.0.2"}
    fake.end()
    assert (found.status, found.pid) == ("stopped", 0)


def test_gone_while_open(make: Callable[..., Fake]) -> None:
    fake = make()
    found = fake.open()
    fake.end()
    fake.open().delete()
    for act in (found.state, found.start, found.kill, found.delete, lambda: found.exec(["true"]), lambda: found.config):
        with pytest.raises(pyoci.NotFound, match="container does not exist"):
            act()


def test_list(make: Callable[..., Fake], tmp_path: Path) -> None:
    assert pyoci.list(str(tmp_path / "none")) == []
    make("b")
    make("a").end()
    Directory.create(str(tmp_path), "c").close()  # a create that was killed at once
    damaged = make("d")
    (tmp_path / "d" / "state.json").write_text("{")
    states = pyoci.list(str(tmp_path))
    assert [(s["id"], s["status"]) for s in states] == [
        ("a", "stopped"),
        ("b", "running"),
        ("c", "stopped"),
        ("d", "damaged"),
    ]
    assert {s["owner"] for s in states} == {Path(tmp_path).owner()}
    assert damaged.init.poll() is None


# -- kill, wait -------------------------------------------------------------------------------


def test_kill(make: Callable[..., Fake]) -> None:
    """L10"""
    fake = make()
    found = fake.open()
    found.kill("CONT")
    found.kill(signal.SIGCONT)
    found.kill()
    assert fake.init.wait(5) == -signal.SIGTERM
    with pytest.raises(pyoci.WrongState, match="container not running"):
        found.kill()


def test_kill_with_the_signal_of_the_image(make: Callable[..., Fake]) -> None:
    """A02"""
    fake = make(annotations={"org.opencontainers.image.stopSignal": "SIGUSR1"})
    fake.open().kill()
    assert fake.init.wait(5) == -signal.SIGUSR1


def test_kill_with_no_signal(make: Callable[..., Fake]) -> None:
    fake = make()
    with pytest.raises(pyoci.UsageError, match="unknown signal 'BOGUS'"):
        fake.open().kill("BOGUS")
    assert fake.init.poll() is None


def test_kill_while_creating(make: Callable[..., Fake]) -> None:
    """L10: neither created nor running."""
    fake = make()
    with Directory.open(fake.root, "box") as directory:
        os.close(fifo.make(directory))
    with pytest.raises(pyoci.WrongState, match="container not running"):
        fake.open().kill()
    assert fake.init.poll() is None


def test_reused_pid(make: Callable[..., Fake]) -> None:
    """SECURITY 19: neither kill nor delete --force touch a process with init's number and another start time."""
    fake = make(start=1)
    found = fake.open()
    with pytest.raises(pyoci.WrongState, match="container not running"):
        found.kill("KILL")
    assert found.fileno() == -1
    assert found.wait() == -1
    found.delete(force=True)
    assert fake.init.poll() is None


def test_wait_and_pidfd(make: Callable[..., Fake]) -> None:
    """A container that another process made: its end is seen, its status where the kernel tells."""
    fake = make()
    found = fake.open()
    assert found.pidfd >= 0
    with pytest.raises(TimeoutError):
        found.wait(0.01)
    threading.Timer(0.05, fake.end).start()
    assert found.wait(5) in (137, -1)
    found.close()


def test_wait_async(make: Callable[..., Fake]) -> None:
    fake = make()
    found = fake.open()

    async def wait() -> int:
        asyncio.get_running_loop().call_later(0.05, fake.end)
        return await found.wait_async()

    assert asyncio.run(wait()) in (137, -1)
    found.close()


# -- start, delete ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ended", "message"),
    [(False, "cannot start an already running container"), (True, "cannot start a container that has stopped")],
)
def test_start_of_what_is_not_created(make: Callable[..., Fake], ended: bool, message: str) -> None:
    """L08"""
    fake = make()
    if ended:
        fake.end()
    with pytest.raises(pyoci.WrongState, match=message):
        fake.open().start()


def created(fake: Fake) -> int:
    """Let the fake wait at its fifo; returns init's end of it."""
    with Directory.open(fake.root, fake.id) as directory:
        fd = fifo.make(directory)
        fifo.publish(directory)
    return fd


def test_start_without_a_process(make: Callable[..., Fake]) -> None:
    """L05: an error without effect."""
    fake = make(process=False)
    fd = created(fake)
    with pytest.raises(pyoci.WrongState, match="without a process"):
        fake.open().start()
    assert fake.open().status == "created"
    os.close(fd)


def play(fd: int, said: bytes) -> threading.Thread:
    """What init does at the fifo, once it is let go."""

    def act() -> None:
        os.write(fd, b"1")
        if said:
            os.write(fd, said)
        os.close(fd)

    thread = threading.Thread(target=act)
    thread.start()
    return thread


def test_start(make: Callable[..., Fake], tmp_path: Path) -> None:
    """L09: poststart hooks run before start returns, with the state running."""
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cat > {tmp_path}/hook"]}
    fake = make(hooks={"poststart": [hook]})
    thread = play(created(fake), b"")
    fake.open().start()
    thread.join()
    assert fake.open().status == "running"
    text = (tmp_path / "hook").read_text()
    assert f'"pid": {fake.init.pid}' in text or f'"pid":{fake.init.pid}' in text
    assert "running" in text


def test_start_whose_hook_fails(make: Callable[..., Fake]) -> None:
    """L18, H06: what nsexec says through the fifo, in words; the container is destroyed."""
    fake = make(steps={"7": ["run hook /h", "/hooks/startContainer/0"]})
    thread = play(created(fake), b"\x16\0\0\0\x07\0\0\0" + (3 << 8).to_bytes(8, "little") + b"it said")
    found = fake.open()
    with pytest.raises(pyoci.HookError, match="run hook /h: exit status 3: it said") as caught:
        found.start()
    thread.join()
    assert caught.value.where == "/hooks/startContainer/0"
    assert fake.init.wait(5) == -signal.SIGKILL
    with pytest.raises(pyoci.NotFound):
        found.state()


def test_poststart_failure_destroys(make: Callable[..., Fake], tmp_path: Path) -> None:
    """L19: error, stop, destroy, poststop."""
    hooks = {
        "poststart": [{"path": "/bin/false"}],
        "poststop": [{"path": "/bin/sh", "args": ["sh", "-c", f"cat > {tmp_path}/poststop"]}],
    }
    fake = make(hooks=hooks)
    thread = play(created(fake), b"")
    with pytest.raises(pyoci.HookError, match="poststart hook 0: /bin/false: exit status 1"):
        fake.open().start()
    thread.join()
    assert fake.init.wait(5) == -signal.SIGKILL
    assert "stopped" in (tmp_path / "poststop").read_text()
    assert pyoci.list(fake.root)[0:1] == [] or not (tmp_path / "box").exists()


def test_delete_refuses_what_runs(make: Callable[..., Fake]) -> None:
    """L11: an error without effect."""
    fake = make()
    found = fake.open()
    with pytest.raises(pyoci.WrongState, match="not stopped: running"):
        found.delete()
    assert found.status == "running"


@pytest.mark.parametrize("force", [False, True])
def test_delete_of_a_created_one(make: Callable[..., Fake], force: bool) -> None:
    """containerd relies on it."""
    fake = make()
    fd = created(fake)
    fake.open().delete(force)
    os.close(fd)
    assert fake.init.wait(5) == -signal.SIGKILL


def test_delete_with_force(make: Callable[..., Fake], tmp_path: Path) -> None:
    fake = make()
    fake.open().delete(force=True)
    assert fake.init.wait(5) == -signal.SIGKILL
    assert not (tmp_path / "box").exists()


def test_poststop_failures_are_warnings(make: Callable[..., Fake], tmp_path: Path) -> None:
    """L20: the other hooks run, and the container is gone."""
    touch = {"path": "/bin/sh", "args": ["sh", "-c", f"touch {tmp_path}/ran"]}
    fake = make(hooks={"poststop": [{"path": "/bin/false"}, {"path": "/nonexistent"}, touch]})
    fake.end()
    found = fake.open()
    found.delete()
    assert (tmp_path / "ran").exists()
    assert not (tmp_path / "box").exists()
    assert found.warnings == [
        "poststop hook 0: /bin/false: exit status 1 (config.json /hooks/poststop/0)",
        "poststop hook 1: run /nonexistent: no such file or directory (config.json /hooks/poststop/1)",
    ]


def test_delete_of_a_damaged_one(make: Callable[..., Fake], tmp_path: Path) -> None:
    fake = make()
    (tmp_path / "box" / "state.json").write_text("{")
    found = fake.open()
    with pytest.raises(pyoci.WrongState, match="damaged"):
        found.delete()
    found.delete(force=True)
    assert not (tmp_path / "box").exists()
    assert "damaged" in found.warnings[0]


def test_context(make: Callable[..., Fake], tmp_path: Path) -> None:
    fake = make()
    with fake.open() as found:
        assert found.status == "running"
    assert fake.init.wait(5) == -signal.SIGKILL
    assert not (tmp_path / "box").exists()
    with make().open() as found:
        found.delete(force=True)  # leaving finds nothing more to delete


def test_one_of_many_deletes_wins(make: Callable[..., Fake]) -> None:
    fake = make()
    fake.end()
    results: list[str] = []

    def delete() -> None:
        try:
            fake.open().delete()
            results.append("deleted")
        except errors.NotFound:
            results.append("gone")

    threads = [threading.Thread(target=delete) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["deleted"] + ["gone"] * 7


@pytest.mark.parametrize("status", ["stopped", "creating"])
def test_exec_where_nothing_runs(make: Callable[..., Fake], status: str) -> None:
    fake = make()
    if status == "stopped":
        fake.end()
        with pytest.raises(pyoci.WrongState, match="cannot exec in a container that has stopped"):
            fake.open().exec(["true"])
        return
    with Directory.open(fake.root, "box") as directory:
        directory.lock()
        os.close(fifo.make(directory))
        with pytest.raises(pyoci.WrongState, match="cannot exec in a creating container"):
            fake.open().exec(["true"])


def test_no_descriptor_is_left(make: Callable[..., Fake]) -> None:
    """SECURITY 11"""
    fake = make()
    before = sorted(os.listdir("/proc/self/fd"))
    found = fake.open()
    found.state()
    found.kill("CONT")
    found.close()
    del found
    with pytest.raises(pyoci.WrongState):
        fake.open().delete()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_make_plan(tmp_path: Path) -> None:
    """make_plan needs no right and changes nothing."""
    (tmp_path / "rootfs").mkdir()
    from pyoci import spec

    config = spec.default()
    plan = container_plan.make_plan(config=config, bundle=str(tmp_path), cgroup_manager="disabled")
    assert plan.ops[-1].name == "exec"
    assert plan.rootfs == str(tmp_path / "rootfs")
    assert [entry.name for entry in tmp_path.iterdir()] == ["rootfs"]


def test_make_plan_as_on_another_host(tmp_path: Path) -> None:
    """P14 P08: what this host lacks is assumed; nothing else can be."""
    from pyoci import spec

    config = spec.default()
    config["process"]["selinuxLabel"] = "u:r:t:s0"
    wanted: dict[str, Any] = {"config": config, "bundle": str(tmp_path), "cgroup_manager": "disabled"}
    plan = container_plan.make_plan(**wanted, assume=["selinux"])
    assert [op.string("value") for op in plan.ops if op.name == "label"][-1] == b"u:r:t:s0"
    with pytest.raises(errors.UsageError, match="'root' cannot be assumed"):
        container_plan.make_plan(**wanted, assume=["root"])
