"""Fixtures of the attacks: real containers (tests/integration), the attacker's program, and a host that is watched."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration import harness
from tests.integration.conftest import box, boxes, console, host, template, workshop
from tests.integration.harness import Box, pyoci_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["box", "boxes", "console", "host", "template", "workshop"]

LONG = bool(os.environ.get("PYOCI_LONG"))
SECONDS, LONG_SECONDS = 60 * harness.SLOWNESS, 3600

# x86-64 and arm64 agree on the numbers of the newer calls
CALLS = {
    "openat2": 437,
    "clone3": 435,
    "mount_setattr": 442,
    "move_mount": 429,
    "open_tree": 428,
    "fsopen": 430,
    "close_range": 436,
    "pidfd_open": 434,
    "statx": {"x86_64": 332, "aarch64": 291}[os.uname().machine],
    "seccomp": {"x86_64": 317, "aarch64": 277}[os.uname().machine],
}


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
    if made := os.environ.get("ATTACK"):  # there is no compiler in the virtual machine
        shutil.copy(made, binary)
        return binary
    source = Path(__file__).with_name("attack.c")
    subprocess.run(["cc", "-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o", binary, source], check=True)
    return binary


@pytest.fixture
def armed(box: Box, attack: Path) -> Box:
    """A box with the attacker's program in /bin."""
    os.link(attack, box.rootfs / "bin/attack")
    return box


@pytest.fixture
def degrade(attack: Path) -> Iterator[Callable[[str, str], None]]:
    """Let the runtime run on a kernel that answers a call with an error."""
    whole = list(harness.RUNTIME)

    def apply(call: str, error: str) -> None:
        number = getattr(errno, error)
        harness.RUNTIME[:] = [str(attack), "deny", str(CALLS[call]), str(number), *whole]

    yield apply
    harness.RUNTIME[:] = whole


NEEDS_OPENAT2 = pyoci_only("does not start without openat2(2)")


@pytest.fixture(
    params=[
        "openat2",
        pytest.param("ENOSYS", marks=NEEDS_OPENAT2),
        pytest.param("EPERM", marks=[NEEDS_OPENAT2, pytest.mark.long]),
    ]
)
def lookup(request: pytest.FixtureRequest, degrade: Callable[[str, str], None]) -> str:
    """How paths are looked up: by openat2(2), or by what serves where that is refused, which has to be as safe."""
    if request.param != "openat2":
        degrade("openat2", request.param)
    return str(request.param)


NUMBERS = range(3, 24)  # of descriptors that the runtime may have had


@pytest.fixture
def leaks() -> Iterator[list[int]]:
    """Directories of the host, at low and high numbers."""
    fds = [os.open(place, os.O_RDONLY | os.O_DIRECTORY) for place in ("/", "/etc", "/proc", "/sys/fs/cgroup")]
    high = 1001
    os.dup2(fds[0], high)
    yield [*fds, high]
    for fd in (*fds, high):
        os.close(fd)


def inside(pid: int) -> bool:
    """Whether the working directory of a process lies in its own root, by the kernel's word."""
    cwd = os.open(f"/proc/{pid}/cwd", os.O_PATH)
    root = os.stat(f"/proc/{pid}/root/")
    try:
        for _ in range(100):
            here = os.fstat(cwd)
            if (here.st_dev, here.st_ino) == (root.st_dev, root.st_ino):
                return True
            up = os.open("..", os.O_PATH, dir_fd=cwd)
            os.close(cwd)
            cwd = up
            above = os.fstat(cwd)
            if (above.st_dev, above.st_ino) == (here.st_dev, here.st_ino):
                return False
    finally:
        os.close(cwd)
    return False


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


def left(box: Box) -> list[str]:
    """What there is of the container on the host."""
    processes = [f"process {pid} {name}" for pid, name in harness.children().items()]
    mounts = [mount for mount in harness.mounts() if box.id in mount]
    return [*box.entries(), *harness.cgroups(box.id), *processes, *mounts]


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
