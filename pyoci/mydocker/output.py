"""Where export and save write: a file that is there whole or not at all, or stdout unless a person would see it."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile

from pyoci.mydocker import errors, records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO


@contextlib.contextmanager
def binary(target: str | None) -> Iterator[IO[bytes]]:
    """target: a path, or None for stdout.  Raises errors.UsageError for a terminal."""
    if target is None:
        if sys.stdout.isatty():
            raise errors.UsageError("refusing to write an archive to a terminal", hint="-o FILE, or a redirection")
        with open(1, "wb", closefd=False) as file:
            yield file
        return
    if os.path.exists(target) and not os.path.isfile(target):  # /dev/null, a fifo
        with open(target, "wb") as file:
            yield file
        return
    fd, temporary = tempfile.mkstemp(prefix=".mydocker-", dir=os.path.dirname(os.path.abspath(target)))
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
        os.rename(temporary, target)
    finally:
        records.remove(temporary)
