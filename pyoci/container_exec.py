"""exec: another process in a container.  The same road as create, shorter."""

from __future__ import annotations

import os

from pyoci import errors, spec
from pyoci.container_create import check_preserved, open_namespace, record_config, seccomp_compiler, write_pid_file
from pyoci.host import cgroup, console, facts, nsexec, process
from pyoci.linux import NAMESPACE_FILES
from pyoci.plan import make_exec
from pyoci.plan.options import Options, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Sequence
    from typing import Any

    from pyoci.host.state import Directory
    from pyoci.plan import Plan


class Request:
    """What exec was asked for; see Container.exec."""

    __slots__ = ("cgroup", "console", "console_socket", "pid_file", "preserve_fds", "stdio")

    def __init__(self, stdio: Sequence[int]) -> None:
        self.stdio = stdio
        self.pid_file: str | None = None
        self.console_socket: str | None = None
        self.console: Callable[[int], object] | None = None
        self.preserve_fds = 0
        self.cgroup: dict[str, str] | None = None


def namespaces(pid: int) -> dict[str, str]:
    """The namespaces of a process that are not the caller's: type -> path.  Raises errors.SetupError."""
    found = {}
    for kind, file in NAMESPACE_FILES.items():
        path = f"/proc/{pid}/ns/{file}"
        try:
            if os.readlink(path) != os.readlink(f"/proc/self/ns/{file}"):
                found[kind] = path
        except FileNotFoundError:  # not in this kernel (or the process has ended, which is found out after)
            continue
        except OSError as error:
            text = errors.errno_text(error.errno or 0)
            raise errors.SetupError(f"read {path}: {text}", errno=error.errno or 0) from None
    return found


def process_of(config: dict[str, Any], wanted: dict[str, Any] | Sequence[str]) -> dict[str, Any]:
    """The process object to execute: the one given, or the container's own with other arguments.  Checked."""
    if isinstance(wanted, dict):
        made = wanted
    else:
        own = config.get("process") or {"cwd": "/", "user": {"uid": 0, "gid": 0}}
        made = {**own, "args": [*wanted], "terminal": False}
    spec.validate_process(made)
    return made


def cgroup_below(record: dict[str, Any], wanted: dict[str, str] | None) -> dict[str, Any]:
    """The record of the cgroups that the process joins.  Raises errors.UsageError for a path that leads out."""
    if not wanted:
        return record
    for controller, path in wanted.items():
        if ".." in path.split("/") or not path.isprintable():
            raise errors.UsageError(f"cgroup path {path!r} leads out of the container's cgroup")
        if not record or (controller and controller not in record["dirs"]):
            raise errors.UsageError(f"the container has no cgroup {controller}".rstrip())
    dirs = {}
    for controller, directory in record["dirs"].items():
        below = wanted.get(controller) or wanted.get("") or ""
        dirs[controller] = f"{directory}/{below.strip('/')}".rstrip("/")
    return {**record, "dirs": dirs}


class Execution:
    """One exec.  run() does it, or leaves nothing behind and raises."""

    __slots__ = ("cgroup", "fds", "init", "peer", "plan", "process", "record", "request", "runner", "warnings")

    def __init__(self, record: dict[str, Any], init: process.Process, request: Request) -> None:
        self.request = request
        self.record = record
        self.init = init
        self.fds: list[int] = []  # closed at the end, whatever happens
        self.peer: _socket.socket | None = None
        self.process: process.Process | None = None
        self.warnings: list[str] = []

    def prepare(self, directory: Directory, wanted: dict[str, Any] | Sequence[str]) -> None:
        """Make the plan.  Raises errors.InvalidConfig, errors.UsageError."""
        config = record_config(directory)
        made = process_of(config, wanted)
        self.cgroup = cgroup_below(self.record["cgroup"], self.request.cgroup)
        target = Target(self.init.pid, namespaces(self.init.pid), self.cgroup)
        machine = facts.read()
        options = Options(
            id=self.record["id"],
            bundle=self.record["bundle"],
            cgroup_manager=self.record["cgroup_manager"],
            no_new_keyring=self.record["no_new_keyring"],
            preserve_fds=self.request.preserve_fds,
            seccomp=seccomp_compiler(os.path.dirname(directory.path), machine.arch),
        )
        self.plan: Plan = make_exec(made, config, target, machine, options)
        self.runner = nsexec.Runner(self.plan.ops)
        console.check(self.plan.terminal, self.request.console_socket, self.request.console is None)
        check_preserved(self.request.preserve_fds)

    def run(self) -> process.Process:
        """Start it; returns once the program runs.  Raises a subclass of errors.Error."""
        try:
            if self.request.console_socket:
                self.peer = console.connect(self.request.console_socket)
            self._launch()
        except BaseException:
            self.runner.abort()
            if self.process:
                self.process.close()
            raise
        finally:
            self._close()
        assert self.process
        return self.process

    def _launch(self) -> None:
        for name in self.plan.fds:
            self.fds.append(open_namespace(name, self.plan))
        if not self.init.running():  # asked after the namespaces were opened: so they were those of init
            raise errors.WrongState("cannot exec in a container that has stopped")
        self.runner.spawn(self.request.stdio)
        if not self.runner.has("fork"):
            self.forked(self.runner.pid)
        self.runner.send_plan(self.fds)
        self.runner.run(self)
        self.runner.reap_spawned()
        if self.request.pid_file:
            write_pid_file(self.request.pid_file, self.runner.pid)

    def sync(self, what: int) -> None:
        """Not in a plan of exec."""

    def forked(self, pid: int) -> None:
        """The process is there."""
        self.process = process.Process(pid, process.start_time(pid), child=True)

    def outside(self, pid: int) -> None:
        """Into the container's cgroup, or where init has moved meanwhile."""
        cgroup.attach(self.cgroup, pid, self.init.pid)

    def console(self, master: int) -> None:
        """The terminal goes to who asked for it."""
        if self.request.console:
            self.request.console(master)
            return
        assert self.peer
        try:
            console.send(self.peer, master)
        finally:
            os.close(master)

    def ready(self) -> None:
        """Not in a plan of exec."""

    def _close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())
        self.runner.close()
        self.warnings += [*self.plan.warnings, *self.runner.warnings]
        if self.peer:
            self.peer.close()
