"""What create and exec do alike: one run of nsexec with all that goes with it, and its words."""

from __future__ import annotations

from pyoci import errors, json, kernel
from pyoci.host import console, nsexec
from pyoci.host import state as states

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Sequence
    from typing import Any

    from pyoci.host.process import Process
    from pyoci.plan import Plan
    from pyoci.plan.seccomp import Program


class Request:
    """What create and exec are both asked for; see Container.create."""

    __slots__ = ("console", "console_socket", "pid_file", "pidfd_socket", "preserve_fds", "stdio")

    def __init__(self, stdio: Sequence[int]) -> None:
        self.stdio = stdio
        self.pid_file: str | None = None
        self.pidfd_socket: str | None = None
        self.console_socket: str | None = None
        self.console: Callable[[int], object] | None = None
        self.preserve_fds = 0

    def report(
        self,
        pid_file: str | None,
        pidfd_socket: str | None,
        console_socket: str | None,
        console: Callable[[int], object] | None,
    ) -> None:
        """Who is told of the process."""
        self.pid_file = pid_file
        self.pidfd_socket = pidfd_socket
        self.console_socket = console_socket
        self.console = console


class Run(nsexec.Host):
    """One run of nsexec: the base of Creation and Execution, and half of what Runner.run calls."""

    __slots__ = ("fds", "gate", "peer", "pidfd_peer", "plan", "request", "runner", "warnings")

    def __init__(self, request: Request, plan: Plan) -> None:
        self.request = request
        self.plan = plan
        self.runner = nsexec.Runner(plan.ops)
        self.warnings = [*plan.warnings]
        self.fds: list[int] = []  # for Plan.fds; closed at the end, whatever happens
        self.gate = -1  # our end of the pipe at which a process with a listener waits: it ends when we do
        self.peer: _socket.socket | None = None  # the console socket
        self.pidfd_peer: _socket.socket | None = None

    def check(self) -> None:
        """What can be seen to be wrong before anything is made.  Raises errors.UsageError, errors.SetupError."""
        request = self.request
        for fd in range(3, 3 + request.preserve_fds):
            if not _handed_on(fd):
                many = request.preserve_fds
                raise errors.UsageError(f"descriptor {fd} of --preserve-fds {many} is not open")
        console.check(self.plan.terminal, request.console_socket, request.console is None)
        if request.console_socket:
            self.peer = console.connect(request.console_socket)
        if request.pidfd_socket:
            self.pidfd_peer = console.connect(request.pidfd_socket, "pidfd")

    def console(self, master: int) -> None:
        """The terminal goes to who asked for it."""
        if self.request.console:
            self.request.console(master)
            return
        assert self.peer
        try:
            console.send(self.peer, master)
        finally:
            kernel.close(master)

    def schedule(self) -> None:
        """What the process cannot have inherited (row P13).  Raises errors.SetupError."""
        if self.plan.scheduler:
            from pyoci.host import helper

            helper.schedule(self.plan.scheduler, self.runner.pid)

    def hand_out(self, process: Process) -> None:
        """Tell who the process is, where that was asked for.  Raises errors.SetupError."""
        if self.request.pid_file:
            write_pid_file(self.request.pid_file, process.pid)
        if self.pidfd_peer:
            console.send(self.pidfd_peer, process.pidfd, "pidfd", b"pidfd")

    def hand_over(self, number: int, config: dict[str, Any], state: dict[str, Any]) -> None:
        """Send the listener of the process's seccomp profile to listenerPath.  Raises errors.SetupError."""
        from pyoci.host import listener

        listener.hand_over(self.runner.pid, number, config["linux"]["seccomp"], state)

    def open(self, name: str) -> int:
        """A descriptor of Plan.fds.  Raises errors.SetupError."""
        if name != "gate":
            return open_descriptor(name, self.plan)
        from pyoci.host import listener

        self.gate, end = listener.full_pipe()
        return end

    def open_gate(self) -> None:
        """Its listener was handed over: the process may go on."""
        if self.gate >= 0:
            kernel.read(self.gate, 1 << 16)
            kernel.read(self.gate, 1)  # it has written, or has ended: before that its write would fail when we close

    def close_fds(self) -> None:
        """Close the descriptors of the plan: nsexec has them."""
        while self.fds:
            kernel.close(self.fds.pop())

    def close(self) -> None:
        """Close what is open, and keep what nsexec warned of."""
        self.close_fds()
        if self.gate >= 0:
            kernel.close(self.gate)
        self.runner.close()
        self.warnings += self.runner.warnings
        for peer in (self.peer, self.pidfd_peer):
            if peer:
                peer.close()


def _handed_on(fd: int) -> bool:
    """Whether the caller has opened it for the program.  One of our own that has got its number is close-on-exec."""
    try:
        return kernel.get_inheritable(fd)
    except OSError:
        return False


def attempt(error: BaseException, step: Callable[..., object], *args: object) -> None:
    """One step of the cleaning up after error.  What fails there, or a second signal, is noted on error, which is what
    counts, and ends this step alone."""
    try:
        step(*args)
    except BaseException as second:
        error.add_note(f"while cleaning up: {str(second) or type(second).__name__}")


def seccomp_compiler(root: str, arch: str) -> Callable[[dict[str, Any]], Program]:
    """The compiler of seccomp profiles that keeps what it compiled under root, in a directory that no id can name."""

    def compiled(profile: dict[str, Any]) -> Program:
        from pyoci.host import seccomp_cache

        return seccomp_cache.compiled(profile, arch, f"{root}/{states.CACHE}")

    return compiled


def names(rootfs: str) -> Callable[[str, str], int]:
    """The ids of names in the image at rootfs (row M16, X-mount.owner); see Options."""

    def id_of(kind: str, name: str) -> int:
        from pyoci import container_user

        return container_user.Lookup(rootfs).id(kind, name)

    return id_of


def open_descriptor(name: str, plan: Plan) -> int:
    """What a name of Plan.fds stands for.  Raises errors.SetupError."""
    what, kind, path = name.split(":", 2)
    if what == "idmap":
        from pyoci.host import helper

        return helper.user_namespace(kind, path)
    if what == "append":
        from pyoci.host import hooks

        return hooks.open_output(path)
    try:
        return kernel.open(path, kernel.O_RDONLY | kernel.O_CLOEXEC | kernel.O_NONBLOCK)
    except OSError as error:
        where = next(
            (op.where for op in plan.ops if op.name == "join" and op.string("path") == kernel.fsencode(path)), ""
        )
        raise errors.failed(f"{kind} namespace {path}", error, where) from None


def write_pid_file(path: str, pid: int) -> None:
    """Only digits: go-runc reads it with strconv.Atoi.  A reader never sees half of it.  Raises errors.SetupError."""
    head, tail = kernel.split(path)
    temporary = kernel.join(head, f".{tail}.{pid}")
    try:
        # made by us: a fifo that somebody had put there would hold us up
        fd = kernel.open(_free(temporary), kernel.O_WRONLY | kernel.O_CREAT | kernel.O_EXCL | kernel.O_CLOEXEC, 0o666)
        try:
            kernel.write(fd, b"%d" % pid)
            kernel.rename(temporary, path)
        except OSError:
            kernel.unlink(temporary)
            raise
        finally:
            kernel.close(fd)
    except OSError as error:
        raise errors.failed(f"write pid file {path}", error) from None


def _free(path: str) -> str:
    """The path, with nothing there.  Raises OSError."""
    try:
        kernel.unlink(path)
    except FileNotFoundError:
        pass
    return path


def remove_pid_file(path: str, pid: int) -> None:
    """Remove it if it is that of pid.  Raises OSError."""
    try:
        fd = kernel.open(path, kernel.O_RDONLY | kernel.O_NONBLOCK | kernel.O_CLOEXEC)
    except OSError:
        return
    try:
        ours = kernel.read(fd, 32) == b"%d" % pid
    finally:
        kernel.close(fd)
    if ours:
        kernel.unlink(path)


def record_config(directory: states.Directory) -> dict[str, Any]:
    """The configuration as it was at create.  Raises errors.WrongState when it cannot be read."""
    try:
        config = json.loads(directory.read(states.CONFIG), states.CONFIG)
    except (OSError, errors.InvalidConfig) as error:
        raise errors.WrongState(f"the state of container {directory.id} is damaged: {error}") from None
    if not isinstance(config, dict):
        raise errors.WrongState(f"the state of container {directory.id} is damaged: {states.CONFIG}")
    return config
