"""Unpacked layers, by their diff id (the digest of the tar): shared by every image that has them.

Not by the chain id that the image-spec has for snapshots: a layer is unpacked alone, so what lies below it makes no
difference to what is on disk; but for one with hard links to files of layers below, which says so in its record.
"""

from __future__ import annotations

import os
import tempfile

from pyoci.mydocker import calls, errors, records, rootless, streams, tree, untar
from pyoci.mydocker.tarread import Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    import io
    from collections.abc import Sequence
    from typing import Any

    from pyoci.mydocker.paths import Paths

EMPTY = "empty"  # the directory below an image without layers
_NAME = 24  # hex digits: all names have to fit in one page for mount(2); has() looks at the whole diff id
MOST = 120  # layers of one image: as many as that page holds


class Layers:
    """ROOT/layers."""

    def __init__(self, paths: Paths, limits: Limits | None = None) -> None:
        self.directory = paths.layers
        self.limits = limits or Limits()
        self.warnings: list[str] = []

    def name(self, diff_id: str) -> str:
        """The directory of a layer, relative to `directory`."""
        return diff_id.removeprefix("sha256:")[:_NAME]

    def has(self, diff_id: str) -> bool:
        """Whether it is there, whole."""
        return self._record(diff_id) is not None

    def _record(self, diff_id: str) -> dict[str, Any] | None:
        try:
            found = records.read(f"{self.directory}/{self.name(diff_id)}/layer.json")
        except (FileNotFoundError, records.Broken):
            return None
        return found if found.get("diff_id") == diff_id else None

    def size(self, diff_id: str) -> int:
        """Bytes of its tar, as unpacked.  0 for a layer that is not there."""
        found = (self._record(diff_id) or {}).get("size")
        return found if isinstance(found, int) else 0

    def fits(self, diff_id: str, below: Sequence[str]) -> bool:
        """Whether it is there, for an image with these layers below it (diff ids, base first).

        A layer that has files of those below in it is good for no others: an image could lend its own files to
        another one's layer.  Raises errors.Conflict for that.
        """
        found = self._record(diff_id)
        if found is None:
            return False
        if "below" in found and found["below"] != [*below]:
            raise errors.Conflict(
                f"the layer {diff_id[:19]} is here with files of other layers than this image has below it",
                hint="remove the image that it belongs to",
            )
        return True

    def unpack(self, file: io.BufferedReader, diff_id: str, below: Sequence[str] = ()) -> None:
        """Unpack a layer from its blob, unless it is there.  Raises errors.Hostile, errors.StorageError.

        below: diff ids of the layers below it, base first.
        Two commands may do so at the same time: the second finds the first one's when it is done.
        """
        if self.fits(diff_id, below):
            return
        temporary = tempfile.mkdtemp(prefix=".tmp-", dir=self.directory)
        try:
            size, borrowed = self._fill(f"{temporary}/diff", file, diff_id, below)
            record = {"diff_id": diff_id, "size": size, **({"below": [*below]} if borrowed else {})}
            records.write(f"{temporary}/layer.json", record)
            _sync_file_system(temporary)
            self._publish(temporary, diff_id, below)
        finally:
            tree.remove(temporary)

    def _fill(self, directory: str, file: io.BufferedReader, diff_id: str, below: Sequence[str]) -> tuple[int, bool]:
        """Bytes of its tar, and whether files of the layers below are in it."""
        if streams.compression(file.peek(6)) == "+":
            raise errors.Hostile("the layer is compressed as no layer may be", hint="gzip, zstd or not at all")
        os.mkdir(directory, 0o755)
        os.chmod(directory, 0o755)
        reader = streams.HashingReader(streams.decompressed(file), "the layer", self.limits.size)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            lower = [self.path(other) for other in reversed(below)]
            unpacker = untar.Unpacker(fd, self.limits, userns=rootless.active(), below=lower)
            unpacker.unpack(reader)
        finally:
            os.close(fd)
        reader.drain()
        if reader.digest != diff_id:
            raise errors.Hostile(f"the layer's tar has the digest {reader.digest}, the image says {diff_id}")
        self.warnings += unpacker.warnings
        return reader.count, unpacker.borrowed

    def _publish(self, temporary: str, diff_id: str, below: Sequence[str]) -> None:
        target = f"{self.directory}/{self.name(diff_id)}"
        try:
            os.rename(temporary, target)
        except OSError:
            if not self.fits(diff_id, below):  # what is there without its record is no layer
                raise
        records.sync_directory(self.directory)

    def path(self, diff_id: str) -> str:
        """The directory with the files.  Raises errors.NotFound."""
        if not self.has(diff_id):
            raise errors.NotFound(f"the layer {diff_id} is missing", hint="pull or load the image again")
        return f"{self.directory}/{self.name(diff_id)}/diff"

    def sweep(self, keep: set[str]) -> int:
        """Remove every layer that is not in `keep` (diff ids); gives the bytes.  The caller holds the content lock."""
        names = {self.name(diff_id) for diff_id in keep}
        freed = 0
        for name in os.listdir(self.directory):
            if name in names or name == EMPTY:
                continue
            path = f"{self.directory}/{name}"
            try:
                found = records.read(f"{path}/layer.json").get("size", 0)
                freed += found if isinstance(found, int) else 0
            except (FileNotFoundError, NotADirectoryError, records.Broken):
                pass
            # not under its name while it is half removed
            doomed = path if name.startswith(".tmp-") else f"{self.directory}/.tmp-{os.getpid()}-{name}"
            os.rename(path, doomed)
            tree.remove(doomed)
        return freed


def _sync_file_system(path: str) -> None:
    """Thousands of files at once: one flush for all, before the directory gets its name."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        calls.sync_file_system(fd)
    finally:
        os.close(fd)
