"""exec: another process in a running container, by the runtime alone; its pipes or pty are ours."""

from __future__ import annotations

import os
import termios

import pyoci
from pyoci.mydocker import config, console, errors, monitor, users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyoci.mydocker.containers import Container


class Wanted:
    """What exec was asked for.

    args, env ("NAME=value"), user ("" is the container's), cwd ("" is the container's): strings
    tty, stdin, detach, privileged: bool;  keys: detach keys
    """

    def __init__(self, args: Sequence[str]) -> None:
        self.args = [*args]
        self.env: list[str] = []
        self.user = ""
        self.cwd = ""
        self.tty = False
        self.stdin = False
        self.detach = False
        self.privileged = False
        self.keys = console.DEFAULT_KEYS


class Piped(console.Stream):
    """Pipes to a process of our own."""

    def __init__(self) -> None:
        super().__init__()
        self.theirs: list[int] = []
        self.process: pyoci.Process | None = None
        stdin, self.sink = os.pipe2(os.O_CLOEXEC)
        self.theirs.append(stdin)
        for kind in (console.STDOUT, console.STDERR):
            reading, writing = os.pipe2(os.O_CLOEXEC)
            self.sources[reading] = kind
            self.theirs.append(writing)
        os.set_blocking(self.sink, False)

    def ended(self) -> int:
        """As the base."""
        return self.process.fileno() if self.process else -1

    def signal(self, number: int) -> None:
        """docker's exec forwards none to what it has started in a container; a person's ctrl-c ends ours."""
        if self.process:
            self.process.signal(number)

    def started(self, process: pyoci.Process) -> None:
        """The process has its ends."""
        self.process = process
        for fd in self.theirs:
            os.close(fd)
        self.theirs = []


class Pty(console.Stream):
    """The master of its terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.process: pyoci.Process | None = None

    def take(self, master: int) -> None:
        """The runtime's `console`."""
        os.set_blocking(master, False)
        self.sources = {master: console.STDOUT}
        self.sink = master
        try:
            self.resize(*os.get_terminal_size(1 if os.isatty(1) else 0)[::-1])
        except OSError:
            return

    def resize(self, rows: int, columns: int) -> None:
        """As the base."""
        for fd in self.sources:
            termios.tcsetwinsize(fd, (rows, columns))

    def ended(self) -> int:
        """As the base."""
        return self.process.fileno() if self.process else -1

    def close_stdin(self) -> None:
        """Only -i with a terminal reads stdin, and that has ctrl-d."""
        self.sink = -1


def process_of(container: Container, wanted: Wanted) -> dict[str, Any]:
    """The process object.  Raises errors.UsageError, errors.Conflict when the container does not run."""
    own, host = container.config, container.host
    text = wanted.user or own["User"]
    root = container.open_root()
    if root < 0:  # never a command on the host
        raise errors.Conflict(f"container {container.id} is not running")
    try:
        user = users.resolve(root, text, tuple(host["group_add"]) if not wanted.user else ())
    finally:
        os.close(root)
    names = {entry.partition("=")[0] for entry in wanted.env}
    env = [entry for entry in own["Env"] if entry.partition("=")[0] not in names] + wanted.env
    privileged = wanted.privileged or host["privileged"]
    capabilities = config.capability_list({**host, "privileged": privileged})
    made: dict[str, Any] = {
        "terminal": wanted.tty,
        "user": config.user_object(user),
        "args": wanted.args,
        "env": config.environment({**own, "Env": env, "Tty": wanted.tty}, user),
        "cwd": wanted.cwd or own["WorkingDir"] or "/",
        "capabilities": config.capability_sets(capabilities, user.uid),
        "noNewPrivileges": host["no_new_privileges"],
    }
    if host["apparmor"] and host["apparmor"] != "unconfined":
        made["apparmorProfile"] = host["apparmor"]
    return made


def run(container: Container, wanted: Wanted) -> int:
    """Run it; gives its exit code.  Raises errors.Conflict unless the container runs."""
    if container.state().status == "paused":
        raise errors.Conflict(f"Container {container.name} is paused, unpause the container before exec")
    process = process_of(container, wanted)
    try:
        return _detached(container, process) if wanted.detach else _attached(container, process, wanted)
    except pyoci.WrongState:
        raise errors.Conflict(f"container {container.id} is not running") from None
    except pyoci.SetupError as error:
        code = monitor.exit_code_of(error.message)
        raise errors.Error(f"OCI runtime exec failed: {error}", code=126 if code == 125 else code) from None


def _detached(container: Container, process: dict[str, Any]) -> int:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    if process["terminal"]:
        stream = Pty()
        container.runtime.exec(process, console=stream.take).close()
        _leave(stream)
    else:
        container.runtime.exec(process, stdin=null, stdout=null, stderr=null).close()
    os.close(null)
    return 0


def _attached(container: Container, process: dict[str, Any], wanted: Wanted) -> int:
    stream: Piped | Pty
    if wanted.tty:
        stream = Pty()
        started = container.runtime.exec(process, console=stream.take)
        stream.process = started
    else:
        stream = Piped()
        stdin, stdout, stderr = stream.theirs
        started = container.runtime.exec(process, stdin=stdin, stdout=stdout, stderr=stderr)
        stream.started(started)
        if not wanted.stdin:
            stream.close_stdin()
    keys = console.parse_keys(wanted.keys)
    front = console.Session(stream, stdin=wanted.stdin, terminal=wanted.tty, keys=keys)
    if not front.run():
        _leave(stream)
        return 0
    stream.close()
    return started.wait()


def _leave(stream: console.Stream) -> None:
    """The person is gone and the process stays: somebody must go on to hold its terminal, and read it."""
    if os.fork():
        stream.close()
        return
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    for fd in stream.sources:
        os.set_blocking(fd, True)
        try:
            while os.read(fd, console.CHUNK):
                pass
        except OSError:
            continue
    os._exit(0)
