"""kill -9 of mydocker, conmon, log writer, container, at any point: what ps shows is true, and rm cleans."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyoci.mydocker import containers, records
from tests.mydocker.conftest import TIMEOUT
from tests.mydocker.real import Docker
from tests.mydocker.test_options import record

if TYPE_CHECKING:
    from pyoci.mydocker import paths

ROUNDS = int(os.environ.get("KILL_ROUNDS", "6"))
SEED = int(os.environ.get("KILL_SEED", "1"))
# What may be interrupted; {box} is there, running or not as it happens.
COMMANDS = (
    ("run", "-d", "--name", "new", "-p", "8081:80", "busybox", "sleep", "600"),
    ("start", "box"),
    ("stop", "-t", "0", "box"),
    ("restart", "-t", "0", "box"),
    ("exec", "box", "true"),
    ("rm", "-f", "box"),
    ("pause", "box"),
    ("unpause", "box"),
    ("network", "disconnect", "mine", "box"),
    ("network", "connect", "bridge", "box"),
)
STATES = {"created", "running", "paused", "restarting", "exited"}


def victims(docker: Docker, child: subprocess.Popen[str], kind: str) -> list[int]:
    """Processes of one kind that there are now."""
    if kind == "mydocker":
        return [child.pid] if child.poll() is None else []
    if kind == "container":
        shown = docker("inspect", "-f", "{{.State.Pid}}", "box", "new").out.split()
        return [int(pid) for pid in shown if pid != "0"]
    found = []
    for pid in docker.processes():
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if (kind == "conmon" and line[0].endswith(b"conmon")) or any(kind.encode() in word for word in line[:5]):
                found.append(pid)
    return found


def check(docker: Docker) -> None:
    """Every container is in one of docker's states, and runs if and only if it is said to."""
    for name in docker.out("ps", "-a", "--no-trunc", "--format", "{{.Names}}").split():
        docker.until(lambda name=name: true_state(docker, name), f"a true state of {name}")  # type: ignore[misc]


def true_state(docker: Docker, name: str) -> bool:
    """Asked again while it is about to change: what was killed may have sent its own signals before."""
    found = docker.state(name)
    assert found["Status"] in STATES
    return os.path.exists(f"/proc/{found['Pid']}/ns/net") if found["Running"] else found["Pid"] == 0


@pytest.mark.parametrize("number", range(ROUNDS))
def test_killed_somewhere(docker: Docker, number: int) -> None:
    """One command is interrupted by the death of one kind of process; SEED and number say which and when."""
    chance = random.Random(f"{SEED} {number}")
    kind = chance.choice(["mydocker", "mydocker", "conmon", "container", "logwriter", "_exited"])
    interrupted = chance.choice(COMMANDS)
    delay = chance.uniform(0, 0.6)
    print(f"KILL_SEED={SEED} number {number}: {kind} in {' '.join(interrupted)} after {delay:.3f} s")
    policy = chance.choice(["no", "on-failure:1"])
    docker.out("network", "create", "mine")
    docker.out(
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "mine",
        "--restart",
        policy,
        "-p",
        "8080:80",
        "busybox",
        "sleep",
        "600",
    )
    if chance.random() < 0.3:
        docker.out("stop", "-t", "0", "box")
    child = docker.popen(*interrupted, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(delay)  # when is what the test is about: nothing is expected to have happened by then
    for pid in victims(docker, child, kind):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    child.wait(TIMEOUT)
    check(docker)
    if docker("inspect", "box").code == 0:
        docker("unpause", "box")
        docker.out("start", "box")
        docker.until(lambda: docker.status("box") in ("running", "exited"), "a state that stays")
    check(docker)
    for name in docker.out("ps", "-a", "--format", "{{.Names}}").split():
        docker.out("rm", "-f", name)
    assert docker.out("ps", "-aq") == ""
    docker.out("network", "rm", "mine")


class Killed(BaseException):
    """In place of SIGKILL, for code that catches nothing."""


@pytest.mark.parametrize("step", range(8))
def test_killed_while_it_is_forgotten(places: paths.Paths, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """In the last steps of rm, between any two of them: it is there to be removed again, or nothing of it is."""
    made = containers.create(places, record(), "box")
    os.makedirs(f"{made.run}/inner")
    os.makedirs(os.path.dirname(made.exit_path))
    Path(made.exit_path).write_text("0")
    left = step

    def counted(owner: object, name: str) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **more: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return real(*args, **more)

        monkeypatch.setattr(owner, name, call)

    for owner, name in ((shutil, "rmtree"), (os, "rename"), (records, "remove")):
        counted(owner, name)
    with contextlib.suppress(Killed):
        made.forget()
    monkeypatch.undo()
    for found in containers.list(places):
        found.forget()
    assert not os.path.exists(made.run)
    assert not os.path.exists(made.exit_path)
    assert containers.list(places) == []
