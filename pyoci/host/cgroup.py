"""A container's cgroup while it lives: who is in it, join, signal, freeze, thaw.

All work from the record in state.json (plan.cgroup.record), never from the config.  Waiting is done on
descriptors (pidfds, cgroup.events); only v1's freezer and a v1 directory that is still busy tell nobody, and
are asked again with growing pauses and a bound.  Sources: cgroups(7), cgroup-v2.rst, freezer-subsystem.rst.
"""

from __future__ import annotations

import errno
import select
import time

from pyoci import errors, kernel
from pyoci.host import cgroupfs
from pyoci.plan import cgroup as plan_cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal  # the type checker knows its public face only
    from typing import Any

    Record = dict[str, Any]
else:
    import _signal

SIGKILL = 9
FREEZE_TIME = 2.0  # seconds; a process in uninterruptible sleep freezes late or never
PASSES = 100  # how often new processes of a cgroup that cannot be frozen are looked for
BATCH = 200  # pidfds held at once
REFUSED = (errno.EACCES, errno.EPERM)
OUT_OF_REACH = "a user moves processes within his own systemd only: start pyoci by `systemd-run --user --scope`"
NO_CGROUP_KILL = (errno.ENOENT, errno.EOPNOTSUPP)  # before Linux 5.14; a threaded cgroup


def attach(record: Record, pid: int, init: int = 0) -> None:
    """Put a process into the cgroup of every hierarchy, one write after the other.

    The first move waits for an RCU grace period (5 to 15 ms), those directly after it do not: keep them together.
    A process that enters by itself (plan.cgroup.entries) does not wait at all.
    init: pid of the container's init, for exec: on v2 a container that handed controllers to its own cgroups
    cannot have processes in the topmost one any more; then the process joins init's.
    Raises errors.SetupError.
    """
    for _, directory in plan_cgroup.unique(record):
        _attach(record, directory, pid, init)


def _attach(record: Record, directory: str, pid: int, init: int) -> None:
    try:
        cgroupfs.write(f"{directory}/cgroup.procs", str(pid))
    except OSError as error:
        inner = _cgroup_of(record, init) if error.errno in (errno.EBUSY, errno.EOPNOTSUPP) and init else ""
        if inner:
            _attach(record, inner, pid, 0)
        elif error.errno in REFUSED and record.get("systemd"):
            _have_attached(record, directory, pid, init)
        else:
            hint = OUT_OF_REACH if error.errno in REFUSED and record["version"] == 2 else ""
            raise errors.failed(f"put process {pid} into cgroup {directory}", error, hint=hint) from None


def _have_attached(record: Record, directory: str, pid: int, init: int) -> None:
    """A user may not take a process out of a session's scope; his systemd may, with the system's help."""
    from pyoci.host import systemd

    try:
        systemd.attach(record["systemd"], directory[len(tree(record)) :], pid)
    except systemd.Refused:
        # whatever the kernel told it, it says only that it may not do it by itself
        inner = _cgroup_of(record, init) if init else ""
        if not inner:
            raise
        systemd.attach(record["systemd"], inner[len(tree(record)) :], pid)


def pids(record: Record) -> list[int]:
    """Every process in the cgroup and in those below it, sorted; [] when it is gone.  Raises errors.SetupError."""
    top = tree(record)
    if not top:
        return []
    found = _members(top)
    for fd, name in cgroupfs.walk(top):
        found |= _members(name, fd)
    found.discard(0)  # a process of an outer pid namespace
    return sorted(found)


def _members(directory: str, dir_fd: int | None = None) -> set[int]:
    try:
        return set(map(int, cgroupfs.read(f"{directory}/cgroup.procs", dir_fd).split()))
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:  # a threaded cgroup: its processes are listed at its domain only
            return _of_threads(directory, dir_fd)
        if error.errno in cgroupfs.GONE:
            return set()
        raise errors.failed(f"read {directory}/cgroup.procs", error) from None


def _of_threads(directory: str, dir_fd: int | None) -> set[int]:
    try:
        threads = cgroupfs.read(f"{directory}/cgroup.threads", dir_fd).split()
    except OSError:  # it went meanwhile
        return set()
    found = set()
    for thread in map(int, threads):
        try:
            status = cgroupfs.read(f"/proc/{thread}/status")
        except OSError:  # it has ended
            continue
        found.add(int(status.partition(b"\nTgid:")[2].split(maxsplit=1)[0]))
    return found


def kill(record: Record, signum: int) -> None:
    """Send a signal to every process of the cgroup, also to those that fork meanwhile.

    SIGKILL ends frozen ones too; other signals wait until the cgroup is thawed.  Raises errors.SetupError.
    """
    top = tree(record)
    if not top or (signum == SIGKILL and record["version"] == 2 and _kill_all(top)):
        return
    was_frozen = cgroupfs.frozen(record)
    try:
        if not was_frozen:
            _stop_forks(record)
        _signal_all(record, signum)
    finally:
        if signum == SIGKILL:
            thaw_all(record)
        elif not was_frozen:
            thaw(record)


def freeze(record: Record) -> None:
    """Stop every process of the cgroup.  Raises errors.SetupError; then nothing stays frozen."""
    file = plan_cgroup.freezer(record)
    if not file:
        hint = "mount the freezer controller" if record.get("dirs") else "there have to be rights to make one"
        raise errors.SetupError("the container has no cgroup that can be frozen", hint=hint)
    try:
        if record["version"] == 2:
            cgroupfs.write(file, "1")
            done = cgroupfs.wait_event(tree(record), b"frozen 1", FREEZE_TIME)
        else:
            done = _freeze_v1(file)
    except OSError as error:
        raise errors.failed(f"freeze cgroup {tree(record)}", error) from None
    if not done:
        thaw(record)
        raise errors.SetupError(f"cgroup {tree(record)} did not freeze within {FREEZE_TIME:.0f} s")


def thaw(record: Record) -> None:
    """Let the processes go on; not frozen, or gone: no error.  Raises errors.SetupError."""
    file = plan_cgroup.freezer(record)
    try:
        if file:
            cgroupfs.write(file, "0" if record["version"] == 2 else "THAWED")
    except OSError as error:
        if error.errno not in cgroupfs.GONE:
            raise errors.failed(f"thaw cgroup {tree(record)}", error) from None


def thaw_all(record: Record) -> None:
    """Thaw it, and with version 1 what a container with a writable cgroup mount has frozen below it: there a frozen
    process does not die of SIGKILL.  Raises errors.SetupError."""
    thaw(record)
    top = plan_cgroup.freezer(record).rpartition("/")[0] if record["version"] == 1 else ""
    for fd, name in cgroupfs.walk(top) if top else ():
        try:
            cgroupfs.write(f"{name}/freezer.state", "THAWED", fd)
        except OSError:  # it went meanwhile
            continue


def oom_killed(record: Record) -> bool:
    """Whether the kernel killed a process of the cgroup for want of memory."""
    name, directory = "memory.events", record["dirs"].get("", "")
    if record["version"] == 1:
        name, directory = "memory.oom_control", record["dirs"].get("memory", "")
    try:
        lines = cgroupfs.read(f"{directory}/{name}").splitlines() if directory else []
    except OSError:
        return False
    return any(line.startswith(b"oom_kill ") and line != b"oom_kill 0" for line in lines)


# -- signals ---------------------------------------------------------------------------------


def _kill_all(top: str) -> bool:
    try:
        cgroupfs.write(f"{top}/cgroup.kill", "1")
    except OSError as error:
        if error.errno in NO_CGROUP_KILL and kernel.exists(top):
            return False
        if error.errno not in cgroupfs.GONE:
            raise errors.failed(f"kill cgroup {top}", error) from None
    return True


def _stop_forks(record: Record) -> None:
    # Frozen processes cannot fork away from us.  Where freezing fails, _signal_all looks several times instead.
    try:
        freeze(record)
    except errors.SetupError:
        pass


def _signal_all(record: Record, signum: int) -> None:
    done = {kernel.getpid()}
    for _ in range(PASSES):
        new = [pid for pid in pids(record) if pid not in done]
        if not new:
            return
        for start in range(0, len(new), BATCH):
            _signal_batch(record, new[start : start + BATCH], signum)
        done.update(new)
    raise errors.SetupError(f"the processes of cgroup {tree(record)} fork faster than they can be signalled")


def _signal_batch(record: Record, batch: list[int], signum: int) -> None:
    with_fds = [(pid, pidfd(pid)) for pid in batch]
    # A pid may have been reused between the listing and its pidfd: who is still listed now is ours.
    members = set(pids(record))
    for pid, fd in with_fds:
        try:
            if fd >= 0 and pid in members:
                _signal.pidfd_send_signal(fd, signum)
            elif fd == NO_PIDFD and pid in members:
                kernel.kill(pid, signum)
        except ProcessLookupError:
            pass
        except OSError as error:
            raise errors.failed(f"send signal {signum} to process {pid}", error) from None
        finally:
            if fd >= 0:
                kernel.close(fd)


ENDED, NO_PIDFD = -1, -2


def pidfd(pid: int) -> int:
    """A pidfd, or ENDED, or NO_PIDFD."""
    try:
        return kernel.pidfd_open(pid)
    except ProcessLookupError:
        return ENDED
    except OSError:  # an old kernel, or a filter that knows no pidfd_open
        return NO_PIDFD


# -- freezer ---------------------------------------------------------------------------------


def _freeze_v1(file: str) -> bool:
    for pause in cgroupfs.pauses(time.monotonic() + FREEZE_TIME):
        # Written each time: a process that was being forked during the last round is caught by this one.
        cgroupfs.write(file, "FROZEN")
        if cgroupfs.read(file).strip() == b"FROZEN":
            return True
        select.poll().poll(pause * 1000)
    return False


# -- directories -----------------------------------------------------------------------------


def tree(record: Record) -> str:
    """The directory whose members are the container's processes; "" when there is none."""
    dirs = record["dirs"]
    return str(dirs.get("freezer") or dirs.get("") or next(iter(dirs.values()), ""))


def _cgroup_of(record: Record, init: int) -> str:
    """The v2 directory init is in, if it is below the container's; else ""."""
    top, mount = record["dirs"].get("", ""), record["mount"]
    try:
        lines = cgroupfs.read(f"/proc/{init}/cgroup").decode("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    path = next((line[3:] for line in lines if line.startswith("0::")), "")
    # what stands before the container's path is what the mount does not show
    _, found, below = path.partition(f"{top[len(mount) :]}/")
    return f"{top}/{below}" if top and found and ".." not in below.split("/") else ""
