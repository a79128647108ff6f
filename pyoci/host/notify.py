"""NOTIFY_SOCKET: what a program says to the service manager, sd_notify(3), goes through us.

The manager's socket is not in the container, and what is said there of process ids is in the container's numbers.
So the container gets a socket of its own, ROOT/ID/notify/notify.sock, which whoever starts it reads and passes on.
"""

from __future__ import annotations

import _socket
import select
import struct

from pyoci import errors, kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from pyoci.host.state import Directory

DIRECTORY, SOCKET = "notify", "notify.sock"
INSIDE = "/run/notify"
OPTIONS = ("bind", "nosuid", "nodev", "noexec", "ro")
MAX_MESSAGE = 1 << 16
MAX_FDS = 253  # SCM_MAX_FD
BARRIER_TIME = 30000  # ms the manager gets to say that it has read all, as in sd_notify_barrier(3)


def prepare(config: dict[str, Any], directory: str) -> dict[str, Any]:
    """The config with the socket's directory mounted and NOTIFY_SOCKET set.  directory: ROOT/ID."""
    mount = {
        "destination": INSIDE,
        "type": "bind",
        "source": f"{directory}/{DIRECTORY}",
        "options": [*OPTIONS],
    }
    process = dict(config["process"])
    kept = [variable for variable in process.get("env") or () if not variable.startswith("NOTIFY_SOCKET=")]
    process["env"] = [*kept, f"NOTIFY_SOCKET={INSIDE}/{SOCKET}"]
    return {**config, "process": process, "mounts": [*(config.get("mounts") or ()), mount]}


def make(directory: Directory) -> None:
    """Make ROOT/ID/notify.  Raises errors.SetupError."""
    try:
        kernel.mkdir(DIRECTORY, 0o755, dir_fd=directory.fd)
        kernel.chmod(DIRECTORY, 0o755, dir_fd=directory.fd)
    except OSError as error:
        raise errors.failed(f"make {directory.path}/{DIRECTORY}", error) from None


class Notify:
    """The container's socket, and the way on to the manager's.  Use as a context.

    fd: to poll.  ready: bool, the program has said READY=1.
    """

    __slots__ = ("_directory", "_manager", "_socket", "pid", "ready")

    def __init__(self, directory: Directory, manager: str, pid: int) -> None:
        """manager: the value of NOTIFY_SOCKET.  pid: init's.  Raises errors.SetupError."""
        self._manager = "\0" + manager[1:] if manager.startswith("@") else manager
        self.pid = pid
        self.ready = False
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        self._directory = kernel.open(
            DIRECTORY, kernel.O_PATH | kernel.O_DIRECTORY | kernel.O_NOFOLLOW | kernel.O_CLOEXEC, dir_fd=directory.fd
        )
        try:
            try:
                kernel.unlink(SOCKET, dir_fd=self._directory)  # of an earlier call that was killed
            except FileNotFoundError:
                pass
            self._socket.bind(f"/proc/self/fd/{self._directory}/{SOCKET}")  # a path of any length
            kernel.chmod(SOCKET, 0o666, dir_fd=self._directory)  # whoever the program is
            self._socket.setblocking(False)
        except OSError as error:
            self.close()
            raise errors.failed(f"make {directory.path}/{DIRECTORY}/{SOCKET}", error) from None

    @property
    def fd(self) -> int:
        return self._socket.fileno()

    def pass_on(self) -> None:
        """Hand on what has come: every datagram by itself, with its descriptors (BARRIER=1 has one)."""
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(
                    MAX_MESSAGE, _socket.CMSG_SPACE(MAX_FDS * 4), _socket.MSG_CMSG_CLOEXEC
                )
            except OSError:  # EAGAIN: no more
                return
            fds = [fd for _, _, part in ancillary for (fd,) in struct.iter_unpack("i", part[: len(part) & ~3])]
            try:
                self._send(translate(data, self.pid), fds)
                self.ready = self.ready or b"READY=1" in data.split(b"\n")
            finally:
                for fd in fds:
                    kernel.close(fd)

    def wait_ready(self, pidfd: int) -> None:
        """Pass on until the program is ready or has ended, and until the manager has read it."""
        while not self.ready:
            poller = select.poll()
            poller.register(self.fd, select.POLLIN)
            poller.register(pidfd, select.POLLIN)
            found = dict(poller.poll())
            self.pass_on()
            if pidfd in found:
                return
        self.barrier()

    def barrier(self) -> None:
        """Wait until the manager has read everything: it may look up who we are only while we are there."""
        reader, writer = kernel.pipe2(kernel.O_CLOEXEC)
        try:
            self._send(b"BARRIER=1", [writer])
        finally:
            kernel.close(writer)
        poller = select.poll()
        poller.register(reader, 0)  # POLLHUP: it has closed its end
        poller.poll(BARRIER_TIME)
        kernel.close(reader)

    def _send(self, data: bytes, fds: list[int]) -> None:
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
        try:
            self._socket.sendmsg([data], rights, _socket.MSG_NOSIGNAL, self._manager)
        except OSError:
            pass  # nobody listens: nothing that would be the container's fault

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        try:
            kernel.unlink(SOCKET, dir_fd=self._directory)
        except OSError:  # deleted with the container
            pass
        kernel.close(self._directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def translate(data: bytes, pid: int) -> bytes:
    """A message as the manager may have it: process ids of the container mean nothing to it, and with READY goes
    the one that does.  Who else may speak for the service (NOTIFYACCESS) is not the container's to say."""
    lines = [line for line in data.split(b"\n") if line and not line.startswith((b"MAINPID", b"NOTIFYACCESS"))]
    if b"READY=1" in lines or b"MAINPID=" in data:
        lines.append(b"MAINPID=%d" % pid)
    return b"\n".join(lines)
