"""The exec fifo: how `start` lets init go, and how it learns what became of it.

create fills the pipe, so that init's one byte blocks.  start drains it: init's write returns, its
startContainer hooks run, and execve closes its end (it is close-on-exec).  Hence, after the filling:

    nothing              init died before it was let go, or was let go by an earlier start
    b"1"                 the program runs (or the container ended doing so)
    b"1" and a message   what nsexec did between the fifo and execve failed
"""

from __future__ import annotations

import fcntl
import select

from pyoci import errors, kernel
from pyoci.host.state import FIFO, FIFO_NEW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.host.state import Directory

_SIZE = 4096  # one page: the smallest pipe
_LARGEST = 2 * _SIZE + 64


def make(directory: Directory) -> int:
    """The fifo under its first name, full; a descriptor for init.  Raises errors.SetupError."""
    try:
        kernel.mkfifo(FIFO_NEW, 0o600, dir_fd=directory.fd)
        kernel.chmod(FIFO_NEW, 0o600, dir_fd=directory.fd)  # whatever the umask says
        fd = kernel.open(FIFO_NEW, kernel.O_RDWR | kernel.O_NONBLOCK | kernel.O_CLOEXEC, dir_fd=directory.fd)
        try:
            size = fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _SIZE)
            kernel.write(fd, b"\0" * size)
            kernel.set_blocking(fd, True)
        except BaseException:
            kernel.close(fd)
            raise
    except OSError as error:
        raise errors.failed(f"make {directory.path}/{FIFO}", error) from None
    return fd


def publish(directory: Directory) -> None:
    """Give it its real name: from now on the container is created."""
    kernel.rename(FIFO_NEW, FIFO, src_dir_fd=directory.fd, dst_dir_fd=directory.fd)


def drain(directory: Directory) -> bytes:
    """Let init go and wait until it has become the program or has ended.

    Returns b"" when init was not there, else b"1" and the message of a failure, if any.  Raises errors.SetupError.
    """
    try:
        fd = kernel.open(FIFO, kernel.O_RDONLY | kernel.O_NONBLOCK | kernel.O_CLOEXEC, dir_fd=directory.fd)
    except OSError as error:
        raise errors.failed(f"open {directory.path}/{FIFO}", error) from None
    try:
        return _until_closed(fd).lstrip(b"\0")
    finally:
        kernel.close(fd)


def _until_closed(fd: int) -> bytes:
    data = b""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    while len(data) < _LARGEST:
        try:
            part = kernel.read(fd, 65536)
        except BlockingIOError:
            poller.poll()
            continue
        if not part:
            break
        data += part
    return data
