"""Fixtures of mydocker's tests: a store of its own per test, in a mount namespace of the tests' own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyoci.mydocker import images, paths, tree
from tests.integration import harness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.mydocker.real import Docker

MAIN = Path(paths.__file__).with_name("__main__.py")
TIMEOUT = 180  # seconds; nothing takes as long, on a machine that does nothing else


@pytest.fixture(scope="session")
def isolated() -> None:
    """Mounts are made here and nowhere else."""
    if os.geteuid() != 0:
        pytest.skip("overlay mounts need root")
    harness.isolate()


@pytest.fixture
def places(isolated: None) -> Iterator[paths.Paths]:
    """The directories of an empty store; what is mounted there after the test is a failure."""
    top = tempfile.mkdtemp(prefix=f"mydocker-{os.getpid()}-")
    os.chmod(top, 0o711)
    found = paths.Paths.default(f"{top}/root")
    yield found.make()
    left = tree.mounts_below(top)
    for point in left:
        harness.umount(point)
    tree.remove(top)
    shutil.rmtree(found.run, ignore_errors=True)
    assert not left, f"still mounted: {left}"


@pytest.fixture
def docker(places: paths.Paths) -> Iterator[Docker]:
    """The command on real containers, of which nothing may be left."""
    from tests.mydocker.real import Docker

    found = Docker(places)
    yield found
    left = found.close()
    assert not left, f"left behind: {left}"


@pytest.fixture
def store(places: paths.Paths) -> images.Store:
    return images.Store(places)


@pytest.fixture
def mydocker(places: paths.Paths) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command on the test's store."""

    def run(
        *args: str, input: str | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-S", str(MAIN), "--root", places.root, *args]
        return subprocess.run(
            command, input=input, capture_output=True, text=True, timeout=TIMEOUT, env={**os.environ, **(env or {})}
        )

    return run
