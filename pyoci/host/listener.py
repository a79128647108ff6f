"""The listener of a seccomp profile (rows S06, S07): fetched from the process, handed to the agent with its state.

Loaded only for a profile with SCMP_ACT_NOTIFY: ctypes costs milliseconds.  See config-linux.md, "The container
process state", seccomp_unotify(2).
"""

from __future__ import annotations

import _socket
import ctypes
import errno
import fcntl
import struct

from pyoci import errors, json, kernel
from pyoci.host import console

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

WHERE = "/linux/seccomp/listenerPath"
FD_NAME = "seccompFd"
TIMEOUT = 30  # seconds an agent is given to take its message
_PIDFD_GETFD = 438  # the same on every architecture
_PAGE = 4096


def hand_over(pid: int, number: int, profile: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Fetch descriptor number of process pid and send it to profile["listenerPath"].

    state: the container's state (runtime.md).  One connection, one message that begins with the descriptor, closed
    after it.  Raises errors.SetupError.
    """
    process = {"ociVersion": state["ociVersion"], "fds": [FD_NAME], "pid": pid}
    if profile.get("listenerMetadata"):
        process["metadata"] = profile["listenerMetadata"]
    process["state"] = state
    data = json.dumps(process).encode("utf-8", "surrogatepass")
    fd = _fetch(pid, number)
    try:
        _send(profile["listenerPath"], data, fd)
    finally:
        kernel.close(fd)


def _fetch(pid: int, number: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = kernel.pidfd_open(pid)
    try:
        fd = int(libc.syscall(_PIDFD_GETFD, pidfd, number, 0))
        if fd < 0:
            code = ctypes.get_errno()
            raise errors.SetupError(
                f"fetch the seccomp listener of process {pid}: {errors.errno_text(code)}",
                errno=code,
                where="/linux/seccomp",
                hint="it takes CAP_SYS_PTRACE and Linux 5.6",
            )
        return fd
    finally:
        kernel.close(pidfd)


def _send(path: str, data: bytes, fd: int) -> None:
    try:
        peer = console.connect(path, "seccomp listener", TIMEOUT)
    except errors.SetupError as error:
        error.where = WHERE
        error.hint = "the agent has to listen on a stream socket there"
        raise
    try:
        peer.settimeout(TIMEOUT)
        sent = peer.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", fd))])
        peer.sendall(data[sent:])
    except OSError as error:
        code = error.errno or errno.ETIMEDOUT
        text = f"send the seccomp listener to {path}: {errors.errno_text(code)}"
        raise errors.SetupError(text, errno=code, where=WHERE) from None
    finally:
        peer.close()


def full_pipe() -> tuple[int, int]:
    """(read end, write end) of a pipe in which the next write waits until the read end is read."""
    reader, writer = kernel.pipe()
    size = fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PAGE)
    kernel.write(writer, b"\0" * size)
    return reader, writer
