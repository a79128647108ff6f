"""SECURITY 6: another process exchanges a component of a path while containers are made with mounts, masks, a working
directory and devices under it (CVE-2021-30465, CVE-2024-45310, CVE-2025-52881)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import Box, pyoci_only
from tests.security.conftest import rounds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.security.conftest import Outside


class Racer:
    """A process on another core that swaps two names until it is ended."""

    def __init__(self, attack: Path, one: Path, other: Path) -> None:
        self.process = subprocess.Popen([attack, "exchange", one, other])

    def end(self) -> None:
        assert self.process.poll() is None, "the racer ended early: nothing was raced"
        self.process.kill()
        self.process.wait()


@pytest.fixture
def racing(box: Box, attack: Path, outside: Outside) -> Iterator[Path]:
    """A volume in which `d` is now a directory, now a symlink to the host's."""
    volume = box.bundle / "volume"
    (volume / "d/sub").mkdir(parents=True)
    (volume / "d/dir").mkdir()
    os.symlink(outside.directory, volume / "l")
    racer = Racer(attack, volume / "d", volume / "l")
    yield volume
    racer.end()


def attempt(box: Box, outside: Outside) -> bool:
    """One container.  Returns whether it was made; either way it has nothing of the host."""
    if box.create(check=False).code:
        assert "level=error" in box.stderr.read_text()
        return False
    assert os.stat(f"/proc/{box.pid}/root/").st_ino == box.rootfs.stat().st_ino
    box.start()
    places = f"/v/d /v/d/dir /v/l/dir {outside.directory}/dir"
    look = f"ls {places} 2>/dev/null; readlink /proc/1/cwd"
    # not in the config's cwd: exec runs the same race for it, and may lose it
    shown = box.rt("exec", "--cwd", "/", box.id, "sh", "-c", look).out.split()
    assert "secret" not in shown
    assert "(unreachable)" not in "".join(shown)
    box.delete("--force")
    return True


def arrange(box: Box, kind: str, volume: Path) -> None:
    """The config of one kind of race; paths under /v/d."""
    box.bind("/v", volume)
    source = box.bundle / "source"
    source.mkdir(exist_ok=True)
    (source / "planted").write_text("planted\n")
    if kind == "mounts":
        box.bind("/v/d/dir", source)
        box.bind("/v/d/made", source)
        box.bind("/v/d/file", source / "planted")
        box.mount("/v/d/sub", "tmpfs", "tmpfs", "size=64k")
    elif kind == "masks":
        box.linux["maskedPaths"] += ["/v/d/dir", "/v/d/file", "/v/d/null"]
        box.linux["readonlyPaths"] += ["/v/d/dir", "/v/d"]
    elif kind == "cwd":
        box.process["cwd"] = "/v/d/dir"
    else:
        box.linux["devices"] = [{"path": "/v/d/node", "type": "c", "major": 1, "minor": 7},
                                {"path": "/v/d/null", "type": "c", "major": 1, "minor": 3}]  # fmt: skip


@pyoci_only("1.1 plants files")
@pytest.mark.parametrize("kind", ["mounts", "masks", "cwd", "devices"])
def test_exchanged_component(box: Box, racing: Path, outside: Outside, kind: str) -> None:
    """Whoever wins, nothing outside is mounted on, made or masked; the fixture looks at the host."""
    arrange(box, kind, racing)
    box.args("sleep", "100")
    made = sum(attempt(box, outside) for _ in range(rounds(20, 500)))
    assert made or kind != "masks"
    assert outside.changes() == []


@pyoci_only("1.1 opens what is there")
def test_exchanged_proc(box: Box, attack: Path, outside: Outside) -> None:
    """/proc of the rootfs is now a directory, now a symlink."""
    os.symlink(outside.directory, box.rootfs / "link")
    racer = Racer(attack, box.rootfs / "proc", box.rootfs / "link")
    for _ in range(rounds(10, 300)):
        if box.create(check=False).code == 0:
            lines = Path(f"/proc/{box.pid}/mountinfo").read_text().splitlines()
            points = [line.split()[4] for line in lines if " - proc " in line]
            assert not [point for point in points if not point.startswith(("/proc", "/link"))], points
            box.delete("--force")
    racer.end()


@pyoci_only("1.1 has no tmpcopyup of its own")
def test_exchanged_copyup(box: Box, racing: Path, outside: Outside) -> None:
    """tmpcopyup reads what it covers: only what is under the root, and never a device."""
    box.bind("/v", racing)
    box.mount("/v/d", "tmpfs", "tmpfs", "size=1m", "tmpcopyup")
    box.args("sleep", "100")
    for _ in range(rounds(10, 300)):
        if box.create(check=False).code == 0:
            box.start()
            assert "secret" not in box.exec("sh", "-c", "ls /v/d/dir /v/l/dir 2>/dev/null; true").out
            box.delete("--force")
