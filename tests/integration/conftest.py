"""Fixtures for tests with real containers: everything a test makes is in a Box, and gone after it."""

from __future__ import annotations

import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import FAILED
from tests.integration import harness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


LIMIT = 60 * harness.SLOWNESS  # seconds


@pytest.fixture(scope="session")
def workshop() -> Iterator[Path]:
    """A directory that container users may cross, in a mount namespace of the tests' own."""
    harness.isolate()
    directory = Path(tempfile.mkdtemp(prefix="pyoci-it-"))
    directory.chmod(0o711)
    yield directory
    assert not [m for m in harness.mounts() if m.startswith(str(directory))], "still mounted: nothing removed"
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def template(workshop: Path) -> harness.Template:
    return harness.Template(workshop / "template")


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """No test may hang: after LIMIT seconds the read or wait it sits in fails."""

    def late(*_: object) -> None:
        raise TimeoutError(f"the test took more than {LIMIT} s")

    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)


@pytest.fixture(autouse=True)
def host(workshop: Path, request: pytest.FixtureRequest) -> Iterator[harness.Host]:
    """The host before the test; a passed test that leaves anything behind fails here (L12, L21)."""
    before = harness.Host()
    yield before
    left = before.leftovers()
    before.restore()
    if not request.node.stash.get(FAILED, False):
        assert not left, "left behind: " + "; ".join(left)


@pytest.fixture
def boxes(workshop: Path, template: harness.Template, host: harness.Host) -> Iterator[Callable[[], harness.Box]]:
    """A maker of boxes that share one state root."""
    directory = Path(tempfile.mkdtemp(dir=workshop))
    directory.chmod(0o711)
    made: list[harness.Box] = []

    def make() -> harness.Box:
        made.append(harness.Box(directory, f"{directory.name}-{len(made)}", template))
        return made[-1]

    yield make
    for box in made:
        box.close()
    for box in made[:1]:
        box.destroy()
        assert not box.entries(), f"state entries left behind: {box.entries()}"
    shutil.rmtree(directory)


@pytest.fixture
def box(boxes: Callable[[], harness.Box]) -> harness.Box:
    """One bundle with a busybox rootfs, and the runtime to drive it."""
    return boxes()


@pytest.fixture
def console(workshop: Path) -> Iterator[harness.ConsoleSocket]:
    """The listening end of a console socket."""
    socket = harness.ConsoleSocket(workshop / "console.sock")
    yield socket
    socket.close()
