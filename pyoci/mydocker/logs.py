"""Reading a container's output back: the files that logwriter.py writes, the oldest first, and what comes."""

from __future__ import annotations

import ctypes
import datetime
import fcntl
import glob
import json
import os
import re
import select
import time

from pyoci.mydocker import errors, logwriter, numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_IN_MODIFY, _IN_CLOSE_WRITE, _IN_MOVED_TO, _IN_CREATE = 0x2, 0x8, 0x80, 0x100
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")
_LOOK = 1.0  # seconds between looks at whether the container still runs
DRAIN = 5.0  # seconds the writer of an ended container is given
_MAX_LINE = 1 << 20


class Entry:
    """A line, or a part of one: text with its newline, stream "stdout" or "stderr", time as text and in seconds."""

    __slots__ = ("seconds", "stream", "text", "time")

    def __init__(self, line: bytes) -> None:
        """Raises ValueError for what is no entry: the disk was full in the middle of it."""
        found = json.loads(line)
        if not isinstance(found, dict) or not isinstance(found.get("log"), str):
            raise ValueError("no entry")
        self.text: str = found["log"]
        self.stream = str(found.get("stream"))
        self.time = str(found.get("time"))
        self.seconds = _seconds(self.time)


def _seconds(text: str) -> float:
    text = re.sub(r"(\.\d{6})\d+", r"\1", text)
    moment = datetime.datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.astimezone()).timestamp()


def when(text: str) -> float:
    """--since, --until: a time (RFC 3339, a date, seconds since 1970), or how long ago ("10m", "1h30m").

    Raises errors.UsageError.
    """
    found = _DURATION.fullmatch(text)
    if text and found:
        hours, minutes, seconds = (float(part or 0) for part in found.groups())
        return time.time() - hours * 3600 - minutes * 60 - seconds
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return _seconds(text)
    except ValueError:
        raise errors.UsageError(
            f"{text!r} is no time", hint="2026-01-31T12:00:00Z, 1700000000 or 10m", code=1
        ) from None


class Log:
    """The output of one container.  directory: where logwriter.py writes it."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.fd = -1  # the file that is followed; held open, so that its inode number is given to no other

    def close(self) -> None:
        """Follow no longer."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    # -- what is there --------------------------------------------------------------------------

    def entries(self, tail: int | None = None) -> Iterator[Entry]:
        """What is there now; tail: only the last so many lines."""
        files = self._open_all()
        try:
            if tail is None:
                for fd in files:
                    yield from _parse(_lines(fd))
            else:
                yield from _last(files, tail)
        finally:
            self.close()
            self.fd = files.pop() if files else -1
            for fd in files:
                os.close(fd)

    def _open_all(self) -> list[int]:
        """Every file, the oldest first; the writer renames none meanwhile."""
        if not os.path.isdir(self.directory):
            return []
        with self._unchanging():
            return [self._open(number) for number in sorted(self._numbers(), reverse=True)]

    def _open(self, number: int) -> int:
        return os.open(logwriter.path_of(self.directory, number), os.O_RDONLY | os.O_CLOEXEC)

    def _numbers(self) -> list[int]:
        """Of the files there are: 0 is written to, the highest is the oldest."""
        return [_number(path) for path in glob.glob(logwriter.path_of(self.directory, 0) + "*")]

    def _unchanging(self) -> _Shared:
        return _Shared(f"{self.directory}/lock")

    # -- what comes -----------------------------------------------------------------------------

    def follow(self, running: Callable[[], bool]) -> Iterator[Entry]:
        """What is written after entries() was read to its end, across rotations, until the container has ended."""
        watch = _Watch(self.directory)
        try:
            ended = False
            while True:
                yield from _parse(self._new_lines())
                if ended:
                    return
                ended = not running() and self.drained(DRAIN)  # and then once more
                if not ended:
                    watch.wait(_LOOK)
        finally:
            watch.close()
            self.close()

    def _new_lines(self) -> Iterator[bytes]:
        """Whole lines since the last call; the files in between when there was more than one rotation."""
        while True:
            with self._unchanging():
                written_to = self._place() == 0  # asked before reading: any other is never written to again
            if self.fd >= 0:
                yield from _lines(self.fd)
            if written_to or not self._step():
                return

    def _place(self) -> int | None:
        """The number of the file that is followed; None: there is none, or it was rotated away altogether."""
        if self.fd < 0:
            return None
        places = {os.stat(logwriter.path_of(self.directory, number)).st_ino: number for number in self._numbers()}
        return places.get(os.fstat(self.fd).st_ino)

    def _step(self) -> bool:
        """On to the file after the one that was read to its end, or the oldest that is left; False: there is none."""
        with self._unchanging():
            place = self._place()
            following = max(self._numbers(), default=None) if place is None else place - 1
            if following is None:
                return False
            fd = self._open(following)
        self.close()
        self.fd = fd
        return True

    def drained(self, timeout: float) -> bool:
        """Whether nobody writes any more; waits up to timeout seconds for that."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                fd = os.open(f"{self.directory}/writer", os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                return True
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return True
            finally:
                os.close(fd)
            time.sleep(0.02)


class _Shared:
    """The shared side of the writer's lock."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> None:
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.fd, fcntl.LOCK_SH)

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


class _Watch:
    """inotify(7) on a directory: something was written or renamed."""

    def __init__(self, directory: str) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self.fd >= 0:
            mask = _IN_MODIFY | _IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_CREATE
            libc.inotify_add_watch(self.fd, os.fsencode(directory), mask)

    def wait(self, timeout: float) -> None:
        """Until something happens, timeout seconds at the most."""
        if self.fd < 0:
            time.sleep(timeout / 5)
        elif select.select([self.fd], [], [], timeout)[0]:
            os.read(self.fd, 64 << 10)

    def close(self) -> None:
        """Stop looking."""
        if self.fd >= 0:
            os.close(self.fd)


def _number(path: str) -> int:
    return numbers.decimal(path.rpartition(".")[2]) or 0


def _lines(fd: int) -> Iterator[bytes]:
    """Whole lines from where the descriptor stands; what is not whole yet is left."""
    rest = b""
    while chunk := os.read(fd, 64 << 10):
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()[-_MAX_LINE:]
        for line in lines:
            yield line + b"\n"
    os.lseek(fd, -len(rest), os.SEEK_CUR)


def _parse(lines: Iterator[bytes]) -> Iterator[Entry]:
    for line in lines:
        try:
            yield Entry(line)
        except ValueError:
            continue


def _last(files: list[int], tail: int) -> Iterator[Entry]:
    """The last lines; the parts of one that was cut count once."""
    from collections import deque

    kept: deque[list[Entry]] = deque(maxlen=tail)
    open_lines: dict[str, list[Entry]] = {}
    for fd in files:
        for entry in _parse(_lines(fd)):
            if entry.stream in open_lines:
                open_lines[entry.stream].append(entry)
            else:
                open_lines[entry.stream] = [entry]
                kept.append(open_lines[entry.stream])
            if entry.text.endswith("\n"):
                del open_lines[entry.stream]
    for parts in kept:
        yield from parts
