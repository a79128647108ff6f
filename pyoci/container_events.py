"""events: what a container uses, and when the kernel kills in it for want of memory."""

from __future__ import annotations

import os
import select
import time

from pyoci import errors
from pyoci.host import cgroupfs, stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyoci.host.process import Process

    Record = dict[str, Any]


def read(record: Record, id: str) -> dict[str, Any]:
    """A stats event; see Container.stats."""
    return {"type": "stats", "id": id, "data": stats.read(record["cgroup"], record["pid"])}


def follow(record: Record, id: str, init: Process, interval: float) -> Iterator[dict[str, Any]]:
    """See Container.events."""
    with Watch(record["cgroup"]) as watch:
        due = time.monotonic() + interval
        while True:
            poller = select.poll()
            poller.register(init.pidfd, select.POLLIN)
            watch.register(poller)
            ready = dict(poller.poll(max(0.0, due - time.monotonic()) * 1000))
            # whoever woke us: at the end of init v2 may not have told yet (not twice within 10 ms)
            for _ in range(watch.killed()):
                yield {"type": "oom", "id": id}
            if init.pidfd in ready or watch.gone():
                return
            if time.monotonic() >= due:
                due = time.monotonic() + interval
                yield read(record, id)


class Watch:
    """Notices when the kernel runs out of memory in a cgroup.

    fd: the descriptor to poll, -1 when there is no memory controller.
    """

    __slots__ = ("_count", "_directory", "_file", "_version", "fd")

    def __init__(self, record: Record) -> None:
        self._version = record.get("version", 1)
        self._directory = record.get("dirs", {}).get("" if self._version == 2 else "memory", "")
        self._count = 0
        self.fd = self._file = -1
        name = "memory.events" if self._version == 2 else "memory.oom_control"
        try:
            if self._directory:
                self._file = os.open(f"{self._directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
                self._listen()
        except FileNotFoundError:
            self.close()
        except OSError as error:
            self.close()
            raise errors.failed(f"watch {self._directory}/{name}", error) from None

    def _listen(self) -> None:
        if self._version == 2:
            self.fd = self._file  # its readers are woken with POLLPRI
            self._count = self._kills()
            return
        # v1: an eventfd that is counted up at every kill, and when the cgroup is removed
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        cgroupfs.write(f"{self._directory}/cgroup.event_control", f"{self.fd} {self._file}")

    def register(self, poller: select.poll) -> None:
        """Have poll(2) wait for it."""
        if self.fd >= 0:
            poller.register(self.fd, select.POLLPRI if self._version == 2 else select.POLLIN)

    def killed(self) -> int:
        """How often it happened since the last call."""
        if self.fd < 0:
            return 0
        if self._version == 2:
            before, self._count = self._count, self._kills()
            return max(0, self._count - before)
        try:
            count = os.eventfd_read(self.fd)
        except BlockingIOError:
            return 0
        return 0 if self.gone() else count

    def _kills(self) -> int:
        try:
            lines = os.pread(self._file, 4096, 0).decode().split("\n")
        except OSError as error:
            if error.errno not in cgroupfs.GONE:
                raise errors.failed(f"read {self._directory}/memory.events", error) from None
            return self._count  # the cgroup was removed between the waking and the reading
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)

    def gone(self) -> bool:
        """Whether the cgroup was removed."""
        return bool(self._directory) and not os.path.exists(self._directory)

    def close(self) -> None:
        """Stop watching."""
        for fd in {self.fd, self._file} - {-1}:
            os.close(fd)
        self.fd = self._file = -1

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def running(id: str, status: str) -> None:
    """Raises errors.WrongState unless a container of this status has processes."""
    if status in ("stopped", "creating"):
        raise errors.WrongState(f"container with id {id} is not running")
