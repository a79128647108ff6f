"""exec: another process in a container.  The same road as create, shorter."""

from __future__ import annotations

from pyoci import container_shared as shared
from pyoci import errors, kernel, spec
from pyoci.host import cgroup, facts, process
from pyoci.linux import NAMESPACE_FILES
from pyoci.plan import make_exec
from pyoci.plan.options import Options, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyoci.host.state import Directory
    from pyoci.plan import Plan


class Request(shared.Request):
    """What exec was asked for; see Container.exec."""

    __slots__ = ("cgroup",)

    def __init__(self, stdio: Sequence[int]) -> None:
        super().__init__(stdio)
        self.cgroup: dict[str, str] | None = None


def namespaces(pid: int) -> dict[str, str]:
    """The namespaces of a process that are not the caller's: type -> path.  Raises errors.SetupError."""
    found = {}
    for kind, file in NAMESPACE_FILES.items():
        path = f"/proc/{pid}/ns/{file}"
        try:
            if kernel.readlink(path) != kernel.readlink(f"/proc/self/ns/{file}"):
                found[kind] = path
        except FileNotFoundError:  # not in this kernel (or the process has ended, which is found out after)
            continue
        except OSError as error:
            raise errors.failed(f"read {path}", error) from None
    return found


def process_of(config: dict[str, Any], wanted: dict[str, Any] | Sequence[str]) -> dict[str, Any]:
    """The process object to execute: the one given, or the container's own with other arguments.  Checked."""
    if isinstance(wanted, dict):
        made = wanted
    else:
        own = config.get("process") or {"cwd": "/"}
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


def prepare(
    directory: Directory,
    record: dict[str, Any],
    init: process.Process,
    wanted: dict[str, Any] | Sequence[str],
    request: Request,
) -> Execution:
    """Make the plan.  Raises errors.InvalidConfig, errors.UsageError."""
    config = shared.record_config(directory)
    made = process_of(config, wanted)
    cgroup_record = cgroup_below(record["cgroup"], request.cgroup)
    machine = facts.read()
    options = Options(
        id=record["id"],
        bundle=record["bundle"],
        cgroup_manager=record["cgroup_manager"],
        no_new_keyring=record["no_new_keyring"],
        preserve_fds=request.preserve_fds,
        seccomp=shared.seccomp_compiler(kernel.dirname(directory.path), machine.arch),
    )
    target = Target(init.pid, namespaces(init.pid), cgroup_record)
    try:
        plan = make_exec(made, config, target, machine, options)
    except errors.Error as error:
        _own_place(error)
        raise
    execution = Execution(request, plan, init, cgroup_record)
    execution.config, execution.record, execution.directory = config, record, directory
    return execution


def _own_place(error: BaseException) -> None:
    """Neither the process nor its cgroup is that of config.json."""
    if isinstance(error, errors.Error) and error.where.startswith(("/process", "/linux/cgroupsPath")):
        error.where = ""


class Execution(shared.Run):
    """One exec.  run() does it, or leaves nothing behind and raises."""

    __slots__ = ("cgroup", "config", "directory", "forks", "init", "process", "record")

    def __init__(self, request: Request, plan: Plan, init: process.Process, cgroup_record: dict[str, Any]) -> None:
        super().__init__(request, plan)
        self.init = init
        self.cgroup = cgroup_record
        self.forks = sum(op.name == "fork" for op in plan.ops)
        self.process: process.Process | None = None
        self.config: dict[str, Any] = {}  # the container's, and its state: for the listener of a seccomp profile
        self.record: dict[str, Any] = {}
        self.directory: Directory | None = None

    def run(self) -> process.Process:
        """Start it; returns once the program runs.  Raises a subclass of errors.Error."""
        try:
            self.check()
            self._launch()
        except BaseException as error:
            shared.attempt(error, self.runner.abort)
            if self.process:
                shared.attempt(error, self.process.close)
            _own_place(error)
            raise
        finally:
            self.close()
        assert self.process
        return self.process

    def _launch(self) -> None:
        try:
            for name in self.plan.fds:
                self.fds.append(self.open(name))
        finally:
            if not self.init.running():  # asked after the namespaces were opened: so they were those of init
                raise errors.WrongState("cannot exec in a container that has stopped")
        self.runner.spawn(self.request.stdio)
        if not self.runner.has("fork"):
            self.forked(self.runner.pid)
        self.runner.send_plan(self.fds)
        self.close_fds()  # or the gate would keep a writer that is not the process: see open_gate
        self.runner.run(self)
        self.runner.reap_spawned()
        assert self.process
        self.hand_out(self.process)

    def listener(self, number: int) -> None:
        """To who asked for it; then the process may go on."""
        from pyoci.container_start import oci_state

        assert self.directory
        state = oci_state(self.record, self.directory.status(self.record), self.init.pid)
        self.hand_over(number, self.config, state)
        self.open_gate()

    def forked(self, pid: int) -> None:
        """The process is there; the second that is told of is the one that stays."""
        if self.process:
            self.process.close()
        self.process = process.Process(pid, process.start_time(pid), child=True)
        self.forks -= 1
        if self.forks <= 0:
            self.schedule()
            if self.record.get("rdt"):
                from pyoci.host import rdt

                rdt.enter(self.record["rdt"], pid)

    def outside(self, pid: int) -> None:
        """Into the container's cgroup, or where init has moved meanwhile."""
        cgroup.attach(self.cgroup, pid, self.init.pid)
