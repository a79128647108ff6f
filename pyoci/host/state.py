"""What is kept of a container between calls: ROOT/ID with its files, and the lock that is the directory itself.

state.json    facts: pid, start time, cgroup, bundle...; the status is derived, never stored
config.json   the configuration as it was at create: later edits in the bundle change nothing (L07)
create.fifo   the exec fifo while create is at work; its last act is to rename it
exec.fifo     the exec fifo: init waits at it for `start`
notify/       the socket that the program tells its state through, see host.notify
verbs.plan    what the launcher does for state, start, kill and delete without an interpreter
"""

from __future__ import annotations

import errno
import fcntl
import stat

from pyoci import errors, json, kernel
from pyoci.host import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

STATE = "state.json"
CONFIG = "config.json"
FIFO_NEW = "create.fifo"
FIFO = "exec.fifo"
SAID = "start.said"  # what came out of the fifo when the launcher drained it and init had failed
VERBS = "verbs.plan"  # see plan.verbs
FILES = (CONFIG, FIFO, VERBS, STATE)  # of a container that has been created; the last is the last to go
CACHE = ".seccomp:"  # under ROOT: compiled profiles; no id has a colon

# fact -> its type: what has to be there for a state.json to be whole
_FACTS: dict[str, type] = {
    "ociVersion": str,
    "id": str,
    "pid": int,
    "start": int,
    "bundle": str,
    "rootfs": str,
    "created": str,
    "annotations": dict,
    "cgroup": dict,
    "hooks": dict,
    "steps": dict,
    "process": bool,
}


def default_root() -> str:
    """Where states are kept: /run/pyoci for root, $XDG_RUNTIME_DIR/pyoci for everybody else.

    Root inside a user namespace is somebody else unless USER is "root" (runc's rule, which podman relies on).
    """
    directory = kernel.variable("XDG_RUNTIME_DIR")
    if directory and (kernel.geteuid() != 0 or (kernel.variable("USER") != "root" and _in_userns())):
        return directory + "/pyoci"
    return "/run/pyoci"


def absolute(root: str | None) -> str:
    """The directory of states that was asked for, default_root() when it is None.

    Raises errors.UsageError for one with control characters: it stands in lines of logs and of the kernel's lists.
    """
    path = kernel.abspath(root if root is not None else default_root())
    if not path.isprintable() and any(c < " " or c == "\x7f" for c in path):
        raise errors.UsageError(f"root directory {path!r} has a control character", hint="give another --root")
    return path


def _in_userns() -> bool:
    fd = kernel.open("/proc/self/uid_map", kernel.O_RDONLY | kernel.O_CLOEXEC)
    try:
        return kernel.read(fd, 4096).split() != [b"0", b"0", b"4294967295"]
    finally:
        kernel.close(fd)


class Directory:
    """ROOT/ID, open: the descriptor is what files are reached by and what is locked."""

    __slots__ = ("fd", "id", "locked", "path")

    def __init__(self, fd: int, id: str, path: str) -> None:
        self.fd = fd
        self.id = id
        self.path = path
        self.locked = False  # by us

    @classmethod
    def create(cls, root: str, id: str) -> Self:
        """Make the directory (0700, as is a new root), locked.  Raises errors.AlreadyExists; id has been checked."""
        try:
            _make_root(root)
            while True:
                _make(f"{root}/{id}")
                try:
                    return cls._take(root, id)
                except errors.NotFound:  # a `delete --force` was quicker than our lock
                    continue
                except BaseException:
                    _remove_empty(f"{root}/{id}")
                    raise
        except OSError as error:
            refused = errors.failed(f"make {root}/{id}", error)
            if kernel.geteuid():
                refused.hint = "set XDG_RUNTIME_DIR to a directory of yours, or give --root"
            raise refused from None

    @classmethod
    def _take(cls, root: str, id: str) -> Self:
        """The directory that we have made, locked."""
        _make_private(f"{root}/{id}")
        made = cls.open(root, id)
        try:
            made.lock()
        except BaseException:
            made.close()
            raise
        return made

    @classmethod
    def open(cls, root: str, id: str) -> Self:
        """Open it, not locked.  Raises errors.NotFound."""
        path = f"{root}/{id}"
        try:
            fd = kernel.open(path, kernel.O_RDONLY | kernel.O_DIRECTORY | kernel.O_NOFOLLOW | kernel.O_CLOEXEC)
        except FileNotFoundError:
            raise errors.NotFound("container does not exist") from None
        except OSError as error:
            raise errors.failed(f"open {path}", error) from None
        return cls(fd, id, path)

    def lock(self) -> None:
        """Wait for the lock.  Raises errors.NotFound when the directory was removed meanwhile."""
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        self.locked = True
        if kernel.fstat(self.fd).st_nlink == 0:
            raise errors.NotFound("container does not exist")

    def busy(self) -> bool:
        """Whether somebody else holds the lock: a create, start, or delete is at work."""
        if self.locked:
            return False
        try:
            fcntl.flock(self.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        return False

    def close(self) -> None:
        """Close it, which also gives the lock back."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            kernel.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        try:
            kernel.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str) -> bytes:
        """A file's content.  Raises FileNotFoundError, errors.SetupError."""
        fd = kernel.open(name, kernel.O_RDONLY | kernel.O_NOFOLLOW | kernel.O_CLOEXEC, dir_fd=self.fd)
        try:
            return kernel.read_all(fd)
        finally:
            kernel.close(fd)

    def write(self, name: str, data: bytes, sync: bool = False) -> None:
        """Replace a file as a whole: readers see the old one or the new one.

        sync: so does whoever looks after a crash of the machine.  That costs milliseconds where the root is on a
        disk, and only state.json, which `delete` goes by, needs it: a crash ends the container itself anyway.
        """
        temporary = f".{name}.new"
        try:
            fd = kernel.open(
                temporary,
                kernel.O_WRONLY | kernel.O_CREAT | kernel.O_TRUNC | kernel.O_NOFOLLOW | kernel.O_CLOEXEC,
                0o600,
                dir_fd=self.fd,
            )
            try:
                kernel.fchmod(fd, 0o600)  # whatever the umask says
                while data:
                    data = data[kernel.write(fd, data) :]
                if sync:
                    kernel.fdatasync(fd)
            finally:
                kernel.close(fd)
            kernel.rename(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except OSError as error:
            raise errors.failed(f"write {self.path}/{name}", error) from None

    def unlink(self, name: str) -> None:
        """Remove a file.  Raises errors.SetupError."""
        try:
            kernel.unlink(name, dir_fd=self.fd)
        except OSError as error:
            raise errors.failed(f"remove {self.path}/{name}", error) from None

    def remove(self) -> None:
        """Remove it with all its files, state.json last: until then a second attempt knows what there is to clean."""
        try:
            for name in sorted(kernel.listdir(self.fd), key=STATE.__eq__):
                self._remove_entry(name)
            kernel.rmdir(self.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise errors.failed(f"remove {self.path}", error) from None

    def _remove_entry(self, name: str) -> None:
        try:
            kernel.unlink(name, dir_fd=self.fd)
        except IsADirectoryError:  # see host.notify
            inner = kernel.open(name, kernel.O_RDONLY | kernel.O_DIRECTORY | kernel.O_NOFOLLOW, dir_fd=self.fd)
            try:
                for file in kernel.listdir(inner):
                    kernel.unlink(file, dir_fd=inner)
            finally:
                kernel.close(inner)
            kernel.rmdir(name, dir_fd=self.fd)

    # -- the record ---------------------------------------------------------------------------

    def load(self) -> dict[str, Any]:
        """The facts of state.json; {} when create has not come that far.  Raises errors.WrongState when damaged.

        A directory that somebody else has made or may write to is: what it says of hooks, cgroups and processes
        would be done with our rights.
        """
        status = kernel.fstat(self.fd)
        if status.st_uid != kernel.geteuid() or status.st_mode & 0o022:
            raise self._damaged("it belongs to another user, or others may write to it")
        try:
            data = self.read(STATE)
        except FileNotFoundError:
            if self.has(STATE) or kernel.fstat(self.fd).st_nlink == 0:
                raise errors.NotFound("container does not exist") from None
            return {}
        except OSError as error:
            raise errors.failed(f"read {self.path}/{STATE}", error) from None
        try:
            record = json.loads(data, STATE)
        except errors.InvalidConfig as error:
            raise self._damaged(error.message) from None
        if not isinstance(record, dict):
            raise self._damaged("not an object")
        for name, kind in _FACTS.items():
            if not isinstance(record.get(name), kind):
                raise self._damaged(f"{name} is missing or of another type")
        if record["id"] != self.id:
            raise self._damaged("it belongs to another container")
        return record

    def save(self, record: dict[str, Any]) -> None:
        """Write the facts."""
        self.write(STATE, json.dumps(record).encode("utf-8", "surrogatepass"), sync=True)

    def _damaged(self, why: str) -> errors.WrongState:
        return errors.WrongState(
            f"the state of container {self.id} is damaged: {self.path}/{STATE}: {why}",
            hint=f"pyoci delete --force {self.id}",
        )

    def status(self, record: dict[str, Any]) -> str:
        """creating, created, running, paused or stopped, from what is there now.  record: becomes what is, too."""
        if self._begun(record):
            # the creator holds the lock from the first moment to the last; if it died, what it began is dead too
            if self.busy():
                return "creating"
            if not self.locked:  # it may have come to the last since we looked
                found = self.load()
                record.clear()
                record.update(found)
            if self._begun(record):
                return "stopped"
        if not process.alive(record["pid"], record["start"]):
            return "stopped"
        if self._waiting():
            return "created"
        return "paused" if _frozen(record) else "running"

    def activity(self, record: dict[str, Any]) -> str:
        """The status for who is going to wait for a process of the container: one that was paused before it ran is
        paused, or `start` would wait for it, and `resume` for the lock of `start`."""
        status = self.status(record)
        return "paused" if status == "created" and _frozen(record) else status

    def _begun(self, record: dict[str, Any]) -> bool:
        """Whether its create has not come to an end."""
        return not record or not record["pid"] or self.has(FIFO_NEW)

    def document(self, record: dict[str, Any], status: str = "") -> dict[str, Any]:
        """The state of the runtime-spec (rows L14, L15) with what runc adds.  status: known already, or ""."""
        status = status or self.status(record)
        return {
            "ociVersion": record.get("ociVersion", ""),
            "id": self.id,
            "pid": 0 if status == "stopped" else record.get("pid", 0),
            "status": status,
            "bundle": record.get("bundle", ""),
            "rootfs": record.get("rootfs", ""),
            "created": record.get("created", ""),
            "annotations": record.get("annotations", {}),
            "owner": "",
        }

    def _waiting(self) -> bool:
        """Whether init waits at the fifo: it holds the reading end until execve.

        The name alone would lie after a `start` that was killed between draining the fifo and removing it.
        """
        try:
            fd = kernel.open(FIFO, kernel.O_WRONLY | kernel.O_NONBLOCK | kernel.O_CLOEXEC, dir_fd=self.fd)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENXIO):
                return False
            raise errors.failed(f"open {self.path}/{FIFO}", error) from None
        kernel.close(fd)
        return True


def ids(root: str) -> list[str]:
    """The ids under root, sorted; [] when there is no root."""
    try:
        names = kernel.listdir(root)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if name != CACHE and _is_directory(f"{root}/{name}"))


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(kernel.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _make(path: str) -> None:
    try:
        kernel.mkdir(path, 0o700)
    except FileExistsError:
        raise errors.AlreadyExists("container with given ID already exists") from None


def _remove_empty(path: str) -> None:
    try:
        kernel.rmdir(path)
    except OSError:
        pass  # why it was to go is the error that counts


def _frozen(record: dict[str, Any]) -> bool:
    if not record["cgroup"]:
        return False
    from pyoci.host import cgroupfs

    return cgroupfs.frozen(record["cgroup"])


def open_note(name: str) -> int:
    """A file under the default ROOT, wherever the containers are.  name: one that no id has.  Raises OSError."""
    root = default_root()
    _make_root(root)
    return kernel.open(f"{root}/{name}", kernel.O_RDWR | kernel.O_CREAT | kernel.O_NOFOLLOW | kernel.O_CLOEXEC, 0o600)


def _make_root(root: str) -> None:
    try:
        kernel.mkdir(root, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        _make_root(kernel.dirname(root))
        kernel.mkdir(root, 0o700)
    _make_private(root)


def _make_private(path: str) -> None:
    """Mode 0700 for a directory that we have made, whatever the umask says: it, and not what a link that somebody put
    in its place leads to."""
    fd = kernel.open(path, kernel.O_PATH | kernel.O_DIRECTORY | kernel.O_NOFOLLOW | kernel.O_CLOEXEC)
    try:
        kernel.chmod(f"/proc/self/fd/{fd}", 0o700)
    finally:
        kernel.close(fd)
