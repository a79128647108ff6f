"""The public interface: a container from its making to its removal.  The command line uses nothing else.

Everything a method needs beyond the state is imported when it is called: `state` and `kill` are called
often and need little.  Methods block; from asyncio call them through asyncio.to_thread (there is wait_async).
Any thread may call any of them: what changes a container holds its lock, which is in the file system.
"""

from __future__ import annotations

import _thread

from pyoci import errors
from pyoci.host import process
from pyoci.host import state as states
from pyoci.host.process import Process
from pyoci.host.state import default_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builtins import list as List  # noqa: N812
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, Self

    from pyoci.host.notify import Notify
    from pyoci.plan.criu import Wanted

__all__ = ["Container", "Process", "default_root"]

_KILL = 9
_STOP_SIGNAL = "org.opencontainers.image.stopSignal"


class Container:
    """A container by its id.

    id:       str
    root:     str, absolute, the directory of states
    warnings: list of str, what was not as asked but no error; grows with each call
    """

    __slots__ = ("_init", "_lock", "_record", "id", "root", "warnings")

    def __init__(self, id: str, root: str, record: dict[str, Any]) -> None:
        """Not for callers: see create and open."""
        self.id = id
        self.root = root
        self.warnings: List[str] = []
        self._record = record
        self._init: Process | None = None
        self._lock = _thread.allocate_lock()

    # -- making and finding -------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        id: str,
        *,
        bundle: str | None = None,
        config: dict[str, Any] | None = None,
        config_path: str | None = None,
        root: str | None = None,
        stdin: int = 0,
        stdout: int = 1,
        stderr: int = 2,
        pid_file: str | None = None,
        pidfd_socket: str | None = None,
        console_socket: str | None = None,
        console: Callable[[int], object] | None = None,
        env: Sequence[str] = (),
        preserve_fds: int = 0,
        no_pivot: bool = False,
        no_new_keyring: bool = False,
        cgroup_manager: str = "cgroupfs",
        rootless: bool | None = None,
        notify: bool = False,
    ) -> Self:
        """Create a container: everything but the program, which start() runs (runtime.md, `create`).

        bundle:         directory, "." when None; config.json is read there unless given otherwise
        config:         the configuration itself, in place of a file; relative paths in it are under bundle
        config_path:    another file to read in place of config.json
        root:           directory of states, default_root() when None
        stdin, stdout, stderr: descriptors the container gets as 0, 1, 2; they stay the caller's
        pid_file:       path where the pid of init is written, digits only
        pidfd_socket:   path of an AF_UNIX socket that gets a pidfd of init
        console_socket: path of an AF_UNIX socket that gets the master of the terminal
        console:        function that gets the master of the terminal in place of a socket, and owns it
        env:            variables that the program gets beside those of the config, as "NAME=value"
        preserve_fds:   count of descriptors from 3 on, inheritable, that the program gets too
        no_pivot:       MS_MOVE and chroot in place of pivot_root
        no_new_keyring: keep the caller's session keyring
        cgroup_manager: "cgroupfs", or "disabled" for no cgroup of its own
        rootless:       cgroups that may not be made are left out; None: where nothing is asked of them
        notify:         the program gets a NOTIFY_SOCKET, which is passed on by notifying()

        Raises errors.InvalidConfig, errors.AlreadyExists, errors.UsageError, errors.SetupError,
        errors.HookError; nothing is left behind then.
        """
        from pyoci import container_create

        request = container_create.Request(id, root, (stdin, stdout, stderr))
        request.report(pid_file, pidfd_socket, console_socket, console)
        request.env, request.preserve_fds = env, preserve_fds
        request.no_pivot, request.no_new_keyring = no_pivot, no_new_keyring
        request.cgroup_manager, request.rootless, request.notify = cgroup_manager, rootless, notify
        creation = container_create.create(request, container_create.read_bundle(bundle, config, config_path))
        self = cls(id, request.root, creation.record)
        self.warnings += creation.warnings
        self._init = creation.init
        return self

    @classmethod
    def open(cls, id: str, root: str | None = None) -> Self:
        """A container that is there.  Raises errors.NotFound, errors.InvalidConfig for what is no id."""
        from pyoci import spec

        spec.check_id(id)
        absolute = states.absolute(root)
        states.Directory.open(absolute, id).close()
        return cls(id, absolute, {})

    @classmethod
    def restore(
        cls,
        id: str,
        wanted: Wanted,
        *,
        criu: str = "",
        bundle: str | None = None,
        config_path: str | None = None,
        root: str | None = None,
        pid_file: str | None = None,
        pidfd_socket: str | None = None,
        console_socket: str | None = None,
        console: Callable[[int], object] | None = None,
        cgroup_manager: str = "cgroupfs",
    ) -> Self:
        """Make a container again from the images of checkpoint(); it runs when this returns.

        wanted: see plan.criu.Wanted.  criu: the program, "" for the one on PATH.  The others are as for create.
        Raises as create does; nothing is left behind then.
        """
        from pyoci import container_create, container_restore

        request = container_create.Request(id, root, (0, 1, 2))
        request.report(pid_file, pidfd_socket, console_socket, console)
        request.cgroup_manager = cgroup_manager
        source = container_create.read_bundle(bundle, None, config_path)
        source.check_rootfs()
        restoration = container_restore.Restoration(request, source, wanted, criu)
        restoration.run()
        self = cls(id, request.root, restoration.record)
        self.warnings += restoration.warnings
        self._init = restoration.init
        return self

    # -- looking ------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The state of the runtime-spec (rows L14, L15), and `rootfs`, `created`, `owner` as runc has them.

        pid is 0 once the container is stopped.  Raises errors.NotFound, errors.WrongState when the state is damaged.
        """
        with self._directory() as directory:
            record = directory.load()
            return directory.document(record)

    @property
    def status(self) -> str:
        """creating, created, running, paused or stopped.  Raises as state()."""
        with self._directory() as directory:
            return directory.status(directory.load())

    @property
    def pid(self) -> int:
        """The pid of init as the caller sees it, 0 once it has ended.  Raises as state()."""
        pid: int = self.state()["pid"]
        return pid

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as it was at create (L07).  Raises errors.NotFound, errors.WrongState."""
        from pyoci.container_shared import record_config

        with self._directory() as directory:
            return record_config(directory)

    def fileno(self) -> int:
        """A pidfd of init, readable once it has ended; -1 when it ended before this object knew it.

        It belongs to this object.  Raises errors.NotFound, errors.WrongState.
        """
        return self._process().fileno()

    @property
    def pidfd(self) -> int:
        """The same as fileno()."""
        return self.fileno()

    def stats(self) -> dict[str, Any]:
        """What the container uses, as an event of `runc events`: {"type": "stats", "id": ID, "data": {...}}.

        Raises errors.WrongState when it has stopped.
        """
        from pyoci import container_events

        with self._directory() as directory:
            record = directory.load()
            container_events.running(self.id, directory.status(record))
            return container_events.read(record, self.id)

    def events(self, interval: float = 5.0) -> Iterator[dict[str, Any]]:
        """Statistics every interval seconds as stats() has them, and {"type": "oom", "id": ID} whenever the kernel
        kills for want of memory, until the container ends.  Raises errors.WrongState when it has stopped.
        """
        from pyoci import container_events

        with self._directory() as directory:
            record = directory.load()
            container_events.running(self.id, directory.status(record))
        return container_events.follow(record, self.id, self._process(record), interval)

    def oom_killed(self) -> bool:
        """Whether the kernel killed a process of the container for want of memory; also of one that has stopped.

        Raises errors.NotFound, errors.WrongState.
        """
        from pyoci.host import cgroup

        with self._directory() as directory:
            record = directory.load().get("cgroup") or {}
            return bool(record) and cgroup.oom_killed(record)

    # -- changing -----------------------------------------------------------------------------

    def start(self) -> None:
        """Run the program; returns when it runs and the poststart hooks have (L09).

        Raises errors.WrongState unless the container is created (L08); errors.HookError or errors.SetupError when
        it cannot be started: then it is destroyed (L18, L19).
        """
        from pyoci import container_start

        with self._directory() as directory:
            directory.lock()
            record = directory.load()
            container_start.start(directory, record, self._process(record), self.warnings)

    def kill(self, signal: int | str | None = None, all: bool = False) -> None:
        """Send a signal to init, or with all to every process of the container's cgroup.

        signal: number or name; None: the one that the image names in the annotation
        org.opencontainers.image.stopSignal (A02), else TERM.

        Raises errors.WrongState when the container is neither created nor running (L10), errors.NotFound,
        errors.UsageError for what is no signal.
        """
        with self._directory() as directory:
            record = directory.load()
            if signal is None:
                signal = record.get("annotations", {}).get(_STOP_SIGNAL) or "TERM"
            number = process.signal_number(signal)
            if not record or not record["pid"] or directory.has(states.FIFO_NEW):
                raise errors.WrongState("container not running")
            if all and record["cgroup"]:  # also when init has ended: others may have outlived it
                from pyoci.host import cgroup

                cgroup.kill(record["cgroup"], number)
            elif not self._process(record).signal(number):
                raise errors.WrongState("container not running")
            elif number == _KILL and record["cgroup"]:
                from pyoci.host import cgroup, cgroupfs

                if cgroupfs.frozen(record["cgroup"]):  # it would not die before somebody resumes it
                    cgroup.thaw(record["cgroup"])

    def delete(self, force: bool = False) -> None:
        """Remove a stopped container, and also one that is created but not started; with force any.

        poststop hooks run last; what they say is a warning (L20).
        Raises errors.WrongState when it runs (L11), errors.NotFound.
        """
        from pyoci import container_start

        with self._directory() as directory:
            container_start.delete(directory, self._process, force, self.warnings)

    def exec(
        self,
        process: dict[str, Any] | Sequence[str],
        *,
        stdin: int = 0,
        stdout: int = 1,
        stderr: int = 2,
        pid_file: str | None = None,
        pidfd_socket: str | None = None,
        console_socket: str | None = None,
        console: Callable[[int], object] | None = None,
        preserve_fds: int = 0,
        cgroup: dict[str, str] | None = None,
        ignore_paused: bool = False,
    ) -> Process:
        """Run another process in the container; returns when it runs.

        process: a process object of the runtime-spec, or just args: then everything else is as in the container's
        own process, without its terminal.
        cgroup: {controller: path} of cgroups below the container's to run in, "" for every controller; they are there.
        ignore_paused: also in a paused container; it returns when somebody resumes it.
        The other arguments are as for create.
        Raises errors.WrongState unless the container is created or running, errors.InvalidConfig,
        errors.SetupError.
        """
        from pyoci import container_exec

        request = container_exec.Request((stdin, stdout, stderr))
        request.report(pid_file, pidfd_socket, console_socket, console)
        request.preserve_fds = preserve_fds
        request.cgroup = cgroup
        with self._directory() as directory:
            record = directory.load()
            status = directory.activity(record)
            if status not in ("created", "running") and not (ignore_paused and status == "paused"):
                what = "a container that has stopped" if status == "stopped" else f"a {status} container"
                hint = "--ignore-paused: then it runs when somebody resumes the container" if status == "paused" else ""
                raise errors.WrongState(f"cannot exec in {what}", hint=hint)
            execution = container_exec.prepare(directory, record, self._process(record), process, request)
            try:
                return execution.run()
            finally:
                self.warnings += execution.warnings

    def pause(self) -> None:
        """Stop every process of the container, by its cgroup's freezer.

        Raises errors.WrongState unless it is created or running; errors.SetupError, then nothing stays frozen.
        """
        from pyoci import container_pause

        with self._directory() as directory:
            container_pause.pause(directory)

    def resume(self) -> None:
        """Let a paused container go on.  Raises errors.WrongState when it is not paused, errors.SetupError."""
        from pyoci import container_pause

        with self._directory() as directory:
            container_pause.resume(directory)

    def update(self, resources: dict[str, Any], rdt: dict[str, str] | None = None) -> None:
        """Change limits of a container that runs; what is not given stays, and what is given as 0 (row C26).

        resources: as linux.resources.  rdt: l3CacheSchema and memBwSchema as in linux.intelRdt.
        Raises errors.InvalidConfig, errors.WrongState, errors.SetupError: then what was before is put back.
        """
        from pyoci import container_update

        with self._directory() as directory:
            container_update.update(directory, resources, rdt or {})

    def checkpoint(self, wanted: Wanted, *, criu: str = "", pre_dump: bool = False) -> None:
        """Write the container down with the criu program; then it is deleted, unless it is to run on.

        wanted: see plan.criu.Wanted.  criu: the program, "" for the one on PATH.  pre_dump: its memory only.
        Raises errors.WrongState unless it runs, errors.SetupError when criu is not there or fails.
        """
        from pyoci import container_checkpoint

        with self._directory() as directory:
            init = self._process()
            container_checkpoint.checkpoint(directory, init, wanted, criu, pre_dump, self.warnings)

    def mount(self, mounts: Sequence[dict[str, Any]]) -> None:
        """Add mounts to a running container; mounts: as in config.json.

        Raises errors.InvalidConfig, errors.WrongState, errors.SetupError: then none of them stays.
        """
        from pyoci import container_mounts

        with self._directory() as directory:
            self.warnings += container_mounts.add(directory, self._process(), mounts)

    def unmount(self, destinations: Sequence[str]) -> None:
        """Take mounts of a running container away, the last of the list first: the topmost of those that mount() has
        added there, or one of config.json's.  Raises as mount(), but that those it got to are gone."""
        from pyoci import container_mounts

        with self._directory() as directory:
            self.warnings += container_mounts.remove(directory, self._process(), destinations)

    def pids(self) -> List[int]:
        """The processes of the container, as the caller sees them, sorted.  Raises errors.SetupError."""
        from pyoci import container_pause

        with self._directory() as directory:
            record = directory.load()
            return container_pause.pids(record, self._process(record))

    def user(self, who: str, groups: Sequence[str] = (), base: dict[str, Any] | None = None) -> dict[str, Any]:
        """process.user for exec(), with the names looked up in the container's /etc/passwd and /etc/group.

        who: "USER" or "USER:GROUP", each a name or a number, which is an id whatever the files say; "": as in base.
        A name brings its group, and without GROUP the groups that it is a member of.
        groups: additional ones.  base: what is changed, {"uid": 0, "gid": 0} when None.
        Raises errors.UsageError for a name that is not there, errors.WrongState, errors.SetupError.
        """
        from pyoci import container_user

        return container_user.resolve(self._process(), base or {"uid": 0, "gid": 0}, who, groups)

    def notifying(self, manager: str) -> Notify | None:
        """Listen to what the program says to the service manager, and pass it on: to be called before start().

        manager: path of the manager's socket, with "@" in front an abstract one; "" is nobody.
        None when there is nobody, or the container was created without notify.  Raises errors.SetupError.
        """
        with self._directory() as directory:
            record = directory.load() if manager else {}
            if not record.get("notify"):
                return None
            from pyoci.host import notify

            return notify.Notify(directory, manager, record["pid"])

    # -- waiting ------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> int:
        """Wait until init has ended and return its exit status; see Process.wait."""
        return self._process().wait(timeout)

    async def wait_async(self) -> int:
        """wait() for asyncio."""
        return await self._process().wait_async()

    def close(self) -> None:
        """Let go of the pidfd.  The container is not touched."""
        with self._lock:
            init, self._init = self._init, None
            if init:
                init.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Delete the container, whatever it is doing."""
        try:
            self.delete(force=True)
        except errors.NotFound:
            pass
        finally:
            self.close()

    def __repr__(self) -> str:
        return f"Container({self.id!r}, root={self.root!r})"

    # -- inside -------------------------------------------------------------------------------

    def _directory(self) -> states.Directory:
        return states.Directory.open(self.root, self.id)

    def _process(self, record: dict[str, Any] | None = None) -> Process:
        """init.  record: the state, when the caller has loaded it.

        Raises errors.NotFound when that is not the state of this container: it was deleted, and another has its id.
        """
        with self._lock:
            if self._init and record and record["pid"] and not self._init.same(record["pid"], record["start"]):
                raise errors.NotFound("container does not exist")
            if self._init is None:
                if record is None:
                    with self._directory() as directory:
                        record = directory.load()
                init = Process(record.get("pid", 0), record.get("start", 0))
                if not init.pid:  # there is none yet, or it is not known
                    return init
                self._init = init
            return self._init
