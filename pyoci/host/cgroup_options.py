"""The options of cgroup v2 (nsdelegate...) are the host's, not a mount's: whoever mounts it in the first cgroup
namespace sets them for everybody (cgroups(7), "Cgroup delegation").  criu mounts it, without any."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess

from pyoci.host import facts
from pyoci.host import state as states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# A new mount, in a mount namespace that ends with it, sets them: a remount would need the flags of the host's mount.
MOUNT = ("unshare", "--mount", "--propagation", "private", "mount", "-t", "cgroup2")
PLACE = "/sys"  # any directory that is not cgroup v2 already


NOTE = ".criu:"  # under the default ROOT: the options from before; no id has a colon
LONGEST = 4096  # bytes, of the options


@contextlib.contextmanager
def kept(warnings: list[str]) -> Iterator[None]:
    """Put the options of cgroup v2 back to what they were.  warnings: grows when that cannot be done.

    Raises errors.SetupError when /proc cannot be read.
    """
    with _noted() as before:
        try:
            yield
        finally:
            now = current()
            if now != before:
                refused = put(before)
                if refused:
                    text = f"the options of the host's cgroup v2 were {before or 'none'} and are {now or 'none'} now"
                    warnings.append(f"{text}: {refused}")


@contextlib.contextmanager
def _noted() -> Iterator[str]:
    """What they were before anybody began to change them: the first one notes it for those that begin meanwhile."""
    try:
        fd = states.open_note(NOTE)
    except OSError:
        yield current()
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(fd, fcntl.LOCK_SH)  # until the first has noted them
            before = os.pread(fd, LONGEST, 0).decode("ascii", "replace")
        else:
            before = current()
            os.ftruncate(fd, 0)
            os.pwrite(fd, before.encode("ascii", "replace"), 0)
            fcntl.flock(fd, fcntl.LOCK_SH)
        yield before
    finally:
        os.close(fd)


def current() -> str:
    """See Facts.cgroup_options.  Raises errors.SetupError."""
    return facts.read().cgroup_options


def put(options: str) -> str:
    """Have the host's cgroup v2 have these.  Why that was refused, "" when it was not."""
    chosen = ("-o", options) if options else ()
    try:
        done = subprocess.run(
            [*MOUNT, *chosen, "cgroup2", PLACE], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError as error:
        return str(error)
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit status {done.returncode}"
