"""The other end of the bench's library loop: a life of a container for each byte read, a byte back for each.

python3 -I -S library.py BUNDLE ROOT
"""

from __future__ import annotations

import os
import sys

sys.path.append(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

import pyoci


def life(bundle: str, root: str, null: int) -> None:
    """create, start, wait, delete."""
    container = pyoci.Container.create("bench-library", bundle=bundle, root=root, stdin=null, stdout=null, stderr=null)
    container.start()
    container.wait()
    container.delete()
    container.close()


def main() -> None:
    bundle, root = sys.argv[1:]
    null = os.open("/dev/null", os.O_RDWR)
    while os.read(0, 1):
        life(bundle, root, null)
        os.write(1, b".")


main()
