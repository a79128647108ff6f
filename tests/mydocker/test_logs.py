"""The log that is followed while it is rotated: whatever the pace of the two, nothing twice, nothing out of order."""

from __future__ import annotations

import tempfile

from hypothesis import given
from hypothesis import strategies as st

from pyoci.mydocker.logs import Log
from pyoci.mydocker.logwriter import Writer

CONMON = b"2026-01-31T12:00:00.000000000+00:00 stdout F line %04d"


@given(st.lists(st.integers(1, 40), max_size=12), st.integers(1, 9), st.integers(200, 900))
def test_followed_across_rotations(batches: list[int], files: int, size: int) -> None:
    """A file that was rotated away gives its inode number to the next one: on most file systems at once."""
    with tempfile.TemporaryDirectory() as directory:
        writer, log = Writer(directory, size, files), Log(directory)
        assert list(log.entries()) == []
        written, seen, length = 0, [], 0
        for batch in batches:
            for number in range(written, written + batch):
                line = writer.line(CONMON % number)
                length = len(line)
                writer.write(line)
            written += batch
            seen += [int(line.partition(b"line ")[2][:4]) for line in log._new_lines()]
            assert seen[-1] == written - 1, "up to the last line"
        log.close()
        assert seen == sorted(set(seen)), "no line twice, none out of order"
        if max(batches, default=0) * length <= (files - 2) * (size - length):
            assert seen == list(range(written)), "a reader that keeps up misses none"
