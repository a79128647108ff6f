"""The process that writes a container's log: conmon's lines in, docker's json-file out, rotated by size.

    python3 -I -S logwriter.py DIRECTORY MAX_SIZE MAX_FILES ALIVE    (bytes, 0 is unlimited; lines on stdin)

A process of its own because conmon throws away what it rotates, and it lasts as long as the container: so it
imports nothing of ours and nothing large.  It ends with its input.  While it lives it holds DIRECTORY/writer, by the
descriptor ALIVE of who started it, and DIRECTORY/lock while it renames files, so that a reader never sees half of that.
"""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import sys

_NAME = "json.log"
_CHUNK = 64 << 10


def path_of(directory: str, number: int) -> str:
    """The file that holds the output: 0 is the current one, 1 the one before it ..."""
    return f"{directory}/{_NAME}.{number}" if number else f"{directory}/{_NAME}"


class Writer:
    """The current file and what went into it."""

    def __init__(self, directory: str, max_size: int, max_files: int) -> None:
        self.directory = directory
        self.max_size = max_size
        self.max_files = max(1, max_files)
        # a character may be cut by conmon's reads: its parts come together again per stream
        decoder = codecs.getincrementaldecoder("utf-8")
        self.decoders = {"stdout": decoder("replace"), "stderr": decoder("replace")}
        self._open(os.O_APPEND)

    def _open(self, flag: int) -> None:
        path = path_of(self.directory, 0)
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | flag, 0o640)
        self.size = os.fstat(self.fd).st_size

    def line(self, raw: bytes) -> bytes:
        """One line of conmon's, `TIME STREAM F|P TEXT`, as docker has it; P is a line that goes on."""
        time, _, rest = raw.partition(b" ")
        stream, _, rest = rest.partition(b" ")
        tag, _, text = rest.partition(b" ")
        name = stream.decode("ascii", "replace")
        decoder = self.decoders.get(name)
        if decoder is None:
            return b""
        whole = tag == b"F"
        log = decoder.decode(text, whole) + ("\n" if whole else "")
        entry = {"log": log, "stream": name, "time": time.decode("ascii", "replace")}
        return json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    def write(self, data: bytes) -> None:
        """Append whole lines; into the next file when this one is full."""
        if self.max_size and self.size and self.size + len(data) > self.max_size:
            self._rotate()
        self.size += len(data)
        while data:
            data = data[os.write(self.fd, data) :]

    def _rotate(self) -> None:
        lock = os.open(f"{self.directory}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.close(self.fd)
            for number in range(self.max_files - 2, -1, -1):
                try:
                    os.rename(path_of(self.directory, number), path_of(self.directory, number + 1))
                except FileNotFoundError:
                    continue
            if self.max_files == 1:
                os.unlink(path_of(self.directory, 0))
            self._open(os.O_TRUNC)
        finally:
            os.close(lock)


def claim(directory: str) -> int:
    """Hold DIRECTORY/writer from now on, for a writer that inherits the descriptor; if an earlier one still has
    something to write, that does."""
    alive = os.open(f"{directory}/writer", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # the new one waits for it
        pass
    return alive


def main(directory: str, max_size: int, max_files: int, alive: int) -> None:
    """Until the end of stdin."""
    fcntl.flock(alive, fcntl.LOCK_EX)
    writer = Writer(directory, max_size, max_files)
    rest = b""
    while chunk := os.read(0, _CHUNK):
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        for raw in lines:
            try:
                writer.write(writer.line(raw))
            except OSError:  # a full disk: the container goes on, without its log
                continue


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
