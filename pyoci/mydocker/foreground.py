"""run, start and attach with a person in front: attached before the program starts, until it ends or they detach."""

from __future__ import annotations

import os

import pyoci
from pyoci.mydocker import console, errors, lifecycle, monitor, observed, processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.mydocker.containers import Container


def check_terminal(tty: bool, stdin: bool) -> None:
    """docker's refusal to be interactive with a pipe.  Raises errors.Error."""
    if tty and stdin and not os.isatty(0):
        raise errors.Error("the input device is not a TTY", code=1)


def connect(container: Container) -> console.Attached:
    """To conmon's socket.  Raises errors.Error."""

    def forward(number: int) -> None:
        try:
            lifecycle.kill(container, number)
        except pyoci.Error:  # it has just ended
            return

    return console.Attached(f"{container.run}/attach", monitor.Monitor(container).resize, forward)


def session(stream: console.Stream, container: Container, *, stdin: bool, keys: str, proxy: bool) -> console.Session:
    """The person's side of it."""
    sequence = console.parse_keys(keys)
    terminal = bool(container.config["Tty"])
    return console.Session(stream, stdin=stdin, terminal=terminal, keys=sequence, proxy=proxy)


def start(container: Container, *, stdin: bool, keys: str = console.DEFAULT_KEYS, proxy: bool = True) -> int:
    """Start it and stay; gives its exit code, 0 when the person detached."""
    streams: list[console.Stream] = []
    with container.awaited():
        lifecycle.start(container, lambda: streams.append(connect(container)))
        if not streams:  # it runs already
            streams.append(connect(container))
        return stay(container, session(streams[0], container, stdin=stdin, keys=keys, proxy=proxy))


def run(container: Container, *, keys: str = console.DEFAULT_KEYS, proxy: bool = True) -> int | None:
    """The same for a container that was just made, with the streams of -a only; None when its output is not wanted."""
    wanted = container.config
    streams: list[console.Stream] = []
    with container.awaited():
        lifecycle.start(container, lambda: streams.append(connect(container)))
        front = session(
            streams[0], container, stdin=wanted["OpenStdin"] and wanted["AttachStdin"], keys=keys, proxy=proxy
        )
        chosen = {console.STDOUT: wanted["AttachStdout"], console.STDERR: wanted["AttachStderr"]}
        front.shown = {kind for kind, shown in chosen.items() if shown}
        if front.shown:
            return stay(container, front)
        try:
            front.run()
        finally:
            front.stream.close()
    return None


def stay(container: Container, front: console.Session) -> int:
    """Until the end; gives the exit code.  The caller holds container.awaited()."""
    watcher = monitor.Monitor(container)
    pid, begun = watcher.pid()
    try:
        if not front.run():
            return 0
    finally:
        front.stream.close()
    processes.wait(pid, begun)
    try:
        state = lifecycle.finish(container)
    except errors.NotFound:  # --rm
        return lifecycle.last_exit(container)
    if state.alive and watcher.pid() == (0, 0):
        raise errors.Error(f"the monitor of {container.name} has ended, the container runs on", code=125)
    return state.exit_code if not state.alive else _exit_of_this_run(container)


def _exit_of_this_run(container: Container) -> int:
    """It has been restarted already: what it ended with is told by its monitor's file or lost."""
    found = container.exit_file()
    return found[0] if found else observed.UNKNOWN_EXIT
