"""SECURITY 11: after many rounds everything is what it was: descriptors, mounts, cgroups, processes, keyrings, memory
of a process that uses the library, files under the state root."""

from __future__ import annotations

import gc
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyoci import errors
from pyoci.container import Container
from pyoci.host import nsexec
from pyoci.host import state as states
from tests.integration.harness import PREFIX, Box, cgroups, children, descriptors, mounts, pyoci_only, until, wait_for
from tests.security.conftest import rounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pyoci_only("leaves cgroups of failed creates")

GROWTH = 2 << 20  # bytes of resident memory that a process may have more after all rounds


@pytest.fixture(scope="module", autouse=True)
def copy_of_nsexec() -> None:
    """A process makes it once and keeps it: no leak."""
    nsexec.binary()


def keyrings(of: str = PREFIX) -> int:
    """How many session keyrings of our containers there are."""
    return Path("/proc/keys").read_text().count(f"_ses.{of}")


class Picture:
    """What is there."""

    def __init__(self, box: Box) -> None:
        self.found = {
            "mounts": len(mounts()),
            "cgroups": len(cgroups(box.id)),
            "children": len(children()),
            "descriptors": sorted(descriptors().values()),
            "files": sorted(str(path) for path in box.root.rglob("*") if states.CACHE not in path.parts),
        }
        self.keyrings = keyrings()

    def check(self, box: Box) -> None:
        until(lambda: Picture(box).found == self.found, f"everything as it was: {self.found}")
        until(lambda: keyrings() <= self.keyrings, "the keyrings collected", timeout=10)


def memory() -> int:
    """Resident bytes of this process."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def many(box: Box, work: Callable[[], None], number: int) -> None:
    """Some rounds to warm up, then number of them between two pictures."""
    for _ in range(3):
        work()
    before, resident = Picture(box), memory()
    for _ in range(number):
        work()
    before.check(box)
    grown = memory() - resident
    assert grown < GROWTH, f"{grown} bytes more after {number} rounds"


@pytest.fixture
def quiet() -> Iterator[dict[str, Any]]:
    """Standard streams that lead nowhere."""
    null = os.open("/dev/null", os.O_RDWR)
    yield {"stdin": null, "stdout": null, "stderr": null}
    os.close(null)


def test_a_keyring_is_seen(box: Box) -> None:
    """What the others count is there while a container lives."""
    box.up()
    assert keyrings(box.id) == 1


def test_lives(box: Box, quiet: dict[str, Any]) -> None:
    """create, start, exec, delete, by the library in one process."""
    box.args("sleep", "100")
    box.write()

    def work() -> None:
        with Container.create(box.id, bundle=str(box.bundle), root=str(box.root), **quiet) as made:
            made.start()
            process = made.exec(["true"], **quiet)
            assert process.wait(10) == 0
            process.close()
            made.delete(force=True)

    many(box, work, rounds(25, 1000))


def test_lives_with_everything(box: Box) -> None:
    """A terminal, a user namespace, a profile and hooks on both sides."""
    box.userns()
    box.args("sleep", "100")
    box.process["terminal"] = True
    box.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]}
    for kind in ("createRuntime", "createContainer", "poststart", "poststop"):
        box.hook(kind, "/bin/true")
    box.hook("startContainer", "/bin/true")
    box.write()

    def work() -> None:
        with Container.create(box.id, bundle=str(box.bundle), root=str(box.root), console=os.close) as made:
            made.start()
            made.delete(force=True)

    many(box, work, rounds(6, 500))


def test_lives_by_the_command(box: Box) -> None:
    """Most of it without an interpreter."""
    box.args("sleep", "100")

    def work() -> None:
        box.create()
        box.start()
        pid = box.pid
        box.kill("KILL")
        assert wait_for(pid) == -9
        box.delete()

    many(box, work, rounds(6, 500))


@pytest.mark.parametrize("kind", ["mount", "program", "hook", "config"])
def test_failing_creates(box: Box, kind: str) -> None:
    """Each fails at another place."""
    if kind == "mount":
        box.bind("/x", "/no/such")
    elif kind == "program":
        box.args("/no/such")
    elif kind == "hook":
        box.hook("createRuntime", "/bin/false")
    else:
        box.process["cwd"] = "relative"
    box.write()

    def work() -> None:
        with pytest.raises(errors.Error):
            Container.create(box.id, bundle=str(box.bundle), root=str(box.root))

    many(box, work, rounds(15, 1000))


@pytest.mark.parametrize("kind", ["program", "directory", "config"])
def test_failing_execs(box: Box, quiet: dict[str, Any], kind: str) -> None:
    """Each fails at another place; the container lives on."""
    box.up()
    process: dict[str, Any] = {"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}}
    if kind == "program":
        process["args"] = ["/no/such"]
    else:
        process["cwd"] = "/etc/passwd" if kind == "directory" else "relative"
    with Container.open(box.id, str(box.root)) as made:

        def work() -> None:
            with pytest.raises(errors.Error):
                made.exec(process, **quiet)

        many(box, work, rounds(8, 500))
        assert made.status == "running"


@pytest.mark.parametrize("kind", ["poststart", "startContainer"])
def test_failing_starts(box: Box, quiet: dict[str, Any], kind: str) -> None:
    """Each fails at another place, and the container goes."""
    box.hook(kind, "/bin/false")
    box.write()

    def work() -> None:
        made = Container.create(box.id, bundle=str(box.bundle), root=str(box.root), **quiet)
        with made, pytest.raises(errors.Error):
            made.start()

    many(box, work, rounds(6, 500))


VERBS = {
    "create": ["create", "--bundle", "{bundle}", "{id}"],
    "start": ["start", "{id}"],
    "exec": ["exec", "{id}", "true"],
    "delete": ["delete", "--force", "{id}"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_killed_runtimes(box: Box, verb: str) -> None:
    """SIGKILL somewhere in a verb, then `delete --force`."""
    box.args("sleep", "100")
    box.write()
    words = [word.format(bundle=box.bundle, id=box.id) for word in VERBS[verb]]
    turn = 0

    def work() -> None:
        nonlocal turn
        turn += 1
        if verb != "create":
            box.create()
        if verb == "exec":
            box.start()
        quiet = subprocess.DEVNULL
        with subprocess.Popen(box.argv(*words), stdin=quiet, stdout=quiet, stderr=quiet) as runtime:
            time.sleep(turn % 17 * 0.004)
            runtime.kill()
        until(lambda: verb != "exec" or len(children()) == 1, "the end of what exec had begun")
        box.delete("--force")
        children()

    many(box, work, rounds(25 if verb == "create" else 8, 1000))
