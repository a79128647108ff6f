"""Processes, named by pid and start time, so that a reused pid is never taken for another."""

from __future__ import annotations

import os
import select
import signal


def start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat; 0 when there is no such process, or only its zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def alive(pid: int, start: int) -> bool:
    """Whether this very process runs."""
    return pid > 0 and start > 0 and start_time(pid) == start


def _open(pid: int, start: int) -> int:
    """A pidfd of this very process, -1 when it has ended."""
    if not alive(pid, start):
        return -1
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return -1
    if start_time(pid) == start:  # asked after the pidfd holds the pid
        return pidfd
    os.close(pidfd)
    return -1


def wait(pid: int, start: int, timeout: float | None = None) -> bool:
    """Wait for its end, timeout seconds at the most; whether it has ended."""
    pidfd = _open(pid, start)
    if pidfd < 0:
        return True
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        return bool(poller.poll(None if timeout is None else timeout * 1000))
    finally:
        os.close(pidfd)


def kill(pid: int, start: int, number: int = signal.SIGKILL) -> None:
    """Send a signal; no error when it has ended."""
    pidfd = _open(pid, start)
    if pidfd < 0:
        return
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)
