"""What a container is said to be doing in the moments when it ends: it is observed, and so are they."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyoci.mydocker import clock, containers, logs, logwriter, monitor, observed, processes
from tests.mydocker.test_options import record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyoci.mydocker.paths import Paths

    Watched = Callable[..., containers.Container]


@pytest.fixture
def watched(places: Paths) -> Iterator[Watched]:
    """Makes a container that has ended, with a shell script in conmon's place: $1 is where the exit code goes."""
    started: list[subprocess.Popen[bytes]] = []

    def make(script: str, *options: str) -> containers.Container:
        made = containers.create(places, record(*options), "box")
        os.makedirs(os.path.dirname(made.exit_path), exist_ok=True)
        started.append(subprocess.Popen(["sh", "-c", script, "sh", made.exit_path]))
        pid = started[-1].pid
        with made.lock():
            made.save_facts(started=clock.now(), monitor=[pid, processes.start_time(pid)])
        return made

    yield make
    for process in started:
        process.kill()
        process.wait()


def test_the_exit_code_comes_a_moment_later(watched: Watched) -> None:
    """conmon is woken by the end that everybody can see already."""
    state = watched("sleep 0.3; echo 7 > $1; exec sleep 100").state()
    assert (state.status, state.exit_code) == ("exited", 7)


def test_no_exit_code_comes_any_more(watched: Watched) -> None:
    """conmon was killed: nobody waits for what it would have written."""
    begun = time.monotonic()
    state = watched("sleep 0.1; kill -9 $$").state()
    assert (state.status, state.exit_code) == ("exited", observed.UNKNOWN_EXIT)
    assert time.monotonic() - begun < containers._NOTICE


@pytest.mark.parametrize(("policy", "status"), [("always", "restarting"), ("no", "exited"), ("on-failure:1", "exited")])
def test_the_monitor_has_yet_to_see_to_its_policy(watched: Watched, policy: str, status: str) -> None:
    """It is that process, whatever its command line says: in the middle of execve(2) it says nothing."""
    found = watched("echo 0 > $1; exec sleep 100", "--restart", policy)
    assert found.state().status == status


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")  # the command ends before it
def test_a_log_whose_writer_has_yet_to_begin(watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may be through before the interpreter of its log's writer is."""
    slow = tmp_path / "slow.py"
    slow.write_text(
        f"import runpy, time\ntime.sleep(0.5)\nrunpy.run_path({logwriter.__file__!r}, run_name='__main__')\n"
    )
    monkeypatch.setattr(logwriter, "__file__", str(slow))
    container = watched(":")
    os.mkdir(container.run)
    reading, writing = monitor.Monitor(container)._start_log()
    os.write(writing, b"2026-01-31T12:00:00.000000000+00:00 stdout F quick\n")
    os.close(reading)
    os.close(writing)
    log = logs.Log(monitor.log_directory(container))
    log.drained(60)
    assert [entry.text for entry in log.entries()] == ["quick\n"]
    log.close()


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_a_log_whose_writer_is_killed_before_it_is_used(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """conmon opens its end of the fifo all the same, and does not wait for another reader."""
    monkeypatch.setattr(logwriter, "__file__", os.devnull)  # a program that ends at once
    container = watched(":")
    os.mkdir(container.run)
    held = monitor.Monitor(container)._start_log()
    logs.Log(monitor.log_directory(container)).drained(60)
    os.close(os.open(f"{container.run}/log", os.O_WRONLY | os.O_NONBLOCK))
    for fd in held:
        os.close(fd)
