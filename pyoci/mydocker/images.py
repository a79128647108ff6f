"""The store of images: the one object the commands and the containers talk to (docs/MYDOCKER.md)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.mydocker.paths import Paths


class Store:
    """Images, their layers, and the root file systems of containers.

    problems: list of str, the records that could not be read; grows with each call
    """

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.problems: list[str] = []
