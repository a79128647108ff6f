"""JSON records, one file each, and locks.

A record is replaced as a whole: written beside, synced, renamed.  Who reads needs no lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile

from pyoci.mydocker import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Self

_LIMIT = 16 << 20  # bytes; no record of ours comes near


class Broken(errors.Error):
    """The record is there and cannot be understood."""


def parse(text: bytes, what: str) -> Any:
    """JSON as strictly as it is written: no duplicate keys, no NaN, bounded depth.  Raises Broken."""
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Broken(f"{what} is no valid JSON: {reason}") from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def parse_object(text: bytes, what: str) -> dict[str, Any]:
    """parse(), of an object.  Raises Broken."""
    found = parse(text, what)
    if not isinstance(found, dict):
        raise Broken(f"{what} is no JSON object")
    return found


def read(path: str) -> dict[str, Any]:
    """The record in a file.  Raises FileNotFoundError, Broken."""
    try:
        with open(path, "rb") as file:
            text = file.read(_LIMIT + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Broken(f"cannot read {path}: {error.strerror}") from None
    if len(text) > _LIMIT:
        raise Broken(f"{path} is larger than {_LIMIT} bytes")
    return parse_object(text, path)


def write(path: str, record: dict[str, Any], mode: int = 0o600) -> None:
    """Replace the record in a file; after this it survives a power cut.  Raises errors.StorageError."""
    directory, name = os.path.split(path)
    temporary = ""
    try:
        fd, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=directory)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            os.fchmod(fd, mode)
            json.dump(record, file, indent=1, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(fd)
        os.rename(temporary, path)
        sync_directory(directory)
    except OSError as error:
        if temporary:
            remove(temporary)
        raise errors.StorageError(f"cannot write {path}: {error.strerror}") from None


def sync_directory(path: str) -> None:
    """Make a rename in this directory survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove(path: str) -> None:
    """Unlink; no error when it is not there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def scan(directory: str, problems: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name without .json, record) of every record in a directory; what is broken goes to `problems`."""
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return
    for name in names:
        if name.startswith(".") or not name.endswith(".json"):
            continue
        try:
            yield name.removesuffix(".json"), read(f"{directory}/{name}")
        except FileNotFoundError:
            continue  # removed meanwhile
        except Broken as error:
            problems.append(str(error))


class Lock:
    """flock(2) on a file of its own, held in a with block; released by the kernel when the process ends.

    shared: any number of holders, or one that is not
    wait:   False: raises Busy in place of waiting
    """

    class Busy(errors.Error):
        """Somebody else holds it."""

    def __init__(self, path: str, *, shared: bool = False, wait: bool = True) -> None:
        self.path = path
        self.operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
        self.fd = -1

    def __enter__(self) -> Self:
        try:
            self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise errors.StorageError(f"cannot open the lock {self.path}: {error.strerror}") from None
        try:
            fcntl.flock(self.fd, self.operation)
        except BlockingIOError:
            os.close(self.fd)
            raise self.Busy(f"{self.path} is held by another command") from None
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
