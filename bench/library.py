"""The other end of the bench's library loop: a life of a container for each byte read, a byte back for each.

python3 -I -S library.py BUNDLE ROOT
"""

from __future__ import annotations

import os
import struct
import sys
import time

sys.path.append(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

import pyoci


def life(bundle: str, root: str, null: int) -> list[int]:
    """create, start, wait, delete; how long each took in microseconds."""
    began = time.perf_counter_ns()
    container = pyoci.Container.create("bench-library", bundle=bundle, root=root, stdin=null, stdout=null, stderr=null)
    created = time.perf_counter_ns()
    container.start()
    started = time.perf_counter_ns()
    container.wait()
    ended = time.perf_counter_ns()
    container.delete()
    container.close()
    deleted = time.perf_counter_ns()
    return [
        (created - began) // 1000,
        (started - created) // 1000,
        (ended - started) // 1000,
        (deleted - ended) // 1000,
    ]


def main() -> None:
    bundle, root = sys.argv[1:]
    null = os.open("/dev/null", os.O_RDWR)
    while os.read(0, 1):
        os.write(1, struct.pack("<4I", *life(bundle, root, null)))


main()
