"""SECURITY 11: after many rounds everything is what it was: descriptors, mounts, cgroups, processes, keyrings, memory
of a process that uses the library, files under the state root."""

from __future__ import annotations

import gc
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyoci import errors
from pyoci.container import Container
from pyoci.host import nsexec
from tests.integration.harness import PREFIX, Box, cgroups, children, descriptors, mounts, pyoci_only, until
from tests.security.conftest import rounds

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pyoci_only("leaves cgroups of failed creates")

GROWTH = 2 << 20  # bytes of resident memory that a process may have more after all rounds


@pytest.fixture(scope="module", autouse=True)
def copy_of_nsexec() -> None:
    """A process makes it once and keeps it: no leak."""
    nsexec.binary()


def keyrings() -> int:
    """How many session keyrings of our containers there are."""
    return Path("/proc/keys").read_text().count(f"_ses.{PREFIX}")


class Picture:
    """What is there."""

    def __init__(self, box: Box) -> None:
        self.found = {
            "mounts": len(mounts()),
            "cgroups": len(cgroups(box.id)),
            "children": len(children()),
            "descriptors": sorted(descriptors().values()),
            "files": sorted(str(path) for path in box.root.rglob("*") if ".cache" not in str(path)),
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


def test_lives(box: Box) -> None:
    """create, start, exec, delete, by the library in one process."""
    box.args("sleep", "100")
    box.write()
    quiet = os.open("/dev/null", os.O_RDWR)
    stdio = {"stdin": quiet, "stdout": quiet, "stderr": quiet}

    def work() -> None:
        with Container.create(box.id, bundle=str(box.bundle), root=str(box.root), **stdio) as made:
            made.start()
            process = made.exec(["true"], **stdio)
            assert process.wait(10) == 0
            process.close()
            made.delete(force=True)

    many(box, work, rounds(25, 1000))
    os.close(quiet)


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


def test_killed_runtimes(box: Box) -> None:
    """SIGKILL somewhere in create, then `delete --force`."""
    box.args("sleep", "100")
    box.write()
    turn = 0

    def work() -> None:
        nonlocal turn
        turn += 1
        argv = box.argv("create", "--bundle", str(box.bundle), box.id)
        quiet = subprocess.DEVNULL
        with subprocess.Popen(argv, stdin=quiet, stdout=quiet, stderr=quiet) as runtime:
            time.sleep(turn % 17 * 0.004)
            runtime.kill()
        children()
        box.delete("--force")
        children()

    many(box, work, rounds(25, 1000))
