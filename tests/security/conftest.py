"""Fixtures of the attacks: real containers (tests/integration), the attacker's program, and a host that is watched."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.conftest import box, boxes, console, host, template, workshop
from tests.integration.harness import Box

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["box", "boxes", "console", "host", "template", "workshop"]

LONG = bool(os.environ.get("PYOCI_LONG"))
SECONDS, LONG_SECONDS = 60, 3600


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: only with PYOCI_LONG=1 (make test-security-long)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here not in item.path.parents:
            continue
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="containers need root"))
        if item.get_closest_marker("long") and not LONG:
            item.add_marker(pytest.mark.skip(reason="long: make test-security-long"))


def rounds(short: int, long: int) -> int:
    """How often a thing is repeated: in `make test`, and in the long suite."""
    return long if LONG else short


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """No test may hang."""
    seconds = LONG_SECONDS if LONG else SECONDS

    def late(*_: object) -> None:
        raise TimeoutError(f"the test took more than {seconds} s")

    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)


@pytest.fixture(scope="session")
def attack(workshop: Path) -> Path:
    """The attacker's program, static."""
    binary = workshop / "attack"
    source = Path(__file__).with_name("attack.c")
    subprocess.run(["cc", "-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o", binary, source], check=True)
    return binary


@pytest.fixture
def armed(box: Box, attack: Path) -> Box:
    """A box with the attacker's program in /bin."""
    os.link(attack, box.rootfs / "bin/attack")
    return box


def tree(directory: Path) -> dict[str, tuple[int, int, str]]:
    """What lies under a directory: path -> (type and mode, device number, content or target)."""
    found = {}
    for path in [directory, *directory.rglob("*")]:
        status = path.lstat()
        content = ""
        if stat.S_ISREG(status.st_mode):
            content = path.read_text()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        found[str(path.relative_to(directory))] = (status.st_mode, status.st_rdev, content)
    return found


def names(directory: str) -> dict[str, tuple[int, int]]:
    """The entries of a directory of the host: name -> (type, device number)."""
    found = {}
    for name in os.listdir(directory):
        try:
            status = os.lstat(f"{directory}/{name}")
        except FileNotFoundError:
            continue
        found[name] = (stat.S_IFMT(status.st_mode), status.st_rdev)
    return found


class Outside:
    """A directory of the host beside the bundle, with what an attacker would like to change or read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "dir").mkdir(parents=True)
        (directory / "file").write_text("of the host\n")
        (directory / "ptmx").write_text("of the host too\n")
        (directory / "dir/secret").write_text("secret\n")
        os.mknod(directory / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        self.before = tree(directory)
        self.host = {place: names(place) for place in ("/", "/dev")}

    def changes(self) -> list[str]:
        """Everything that is not as it was."""
        after = tree(self.directory)
        found = [
            f"{name}: {self.before.get(name)} -> {after.get(name)}"
            for name in sorted(self.before.keys() | after)
            if self.before.get(name) != after.get(name)
        ]
        for place, before in self.host.items():
            now = names(place)
            found += [f"{place}/{name} is gone or another" for name in before if now.get(name) != before[name]]
        return found


@pytest.fixture
def outside(workshop: Path) -> Iterator[Outside]:
    """The watched part of the host: a test that changed it fails."""
    directory = Path(tempfile.mkdtemp(dir=workshop, prefix="outside"))
    made = Outside(directory / "host")
    yield made
    changes = made.changes()
    shutil.rmtree(directory)
    assert not changes, "the host was changed: " + "; ".join(changes)


@pytest.fixture
def without_dev(box: Box) -> Callable[[], None]:
    """Let /dev be the rootfs's own directory."""

    def apply() -> None:
        box.config["mounts"] = [m for m in box.config["mounts"] if not m["destination"].startswith("/dev")]

    return apply
