"""Named volumes: directories that outlive containers."""

from __future__ import annotations

import os
import re
import stat
import threading

from pyoci.mydocker import calls, errors, images, records, rootless, streams, tarball, tarread, tree, untar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    from pyoci.mydocker.paths import Paths

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")


class Volume:
    """One volume: name, path (of what is in it), created (RFC 3339), labels, anonymous (made for one container)."""

    __slots__ = ("anonymous", "created", "labels", "name", "path")

    def __init__(self, name: str, path: str, record: Mapping[str, Any]) -> None:
        self.name = name
        self.path = path
        self.created = str(record.get("created", ""))
        labels = record.get("labels")
        self.labels: dict[str, str] = labels if isinstance(labels, dict) else {}
        self.anonymous = record.get("anonymous") is True


def copy(source: int, target: int) -> None:
    """One directory into another, empty one, by descriptors: packed and unpacked as a layer would be."""
    found = os.fstat(source)
    os.fchown(target, found.st_uid, found.st_gid)
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    reading, writing = os.pipe()
    failed: list[Exception] = []

    def pack() -> None:
        try:
            with open(writing, "wb") as file:
                tarball.Packer(file, layer=False).pack_open(source)
        except (errors.Error, OSError) as error:
            failed.append(error)

    thread = threading.Thread(target=pack)
    thread.start()
    try:
        with open(reading, "rb") as file:
            untar.Unpacker(target, tarread.Limits(), userns=rootless.active()).unpack(file)
            while file.read(streams.CHUNK):
                pass  # what pads the end
    finally:
        thread.join()
    if failed:
        raise failed[0]


class Volumes:
    """ROOT/volumes.

    problems: list of str, volumes whose records cannot be read
    """

    def __init__(self, paths: Paths) -> None:
        self.directory = paths.volumes
        self.lock = paths.records_lock
        self.problems: list[str] = []

    def ensure(self, name: str, labels: Mapping[str, str] | None = None, *, anonymous: bool = False) -> str:
        """The directory of a volume, made when there is none.  Raises errors.UsageError for what is no name."""
        path = self._path(name)
        with records.Lock(self.lock):
            if not os.path.exists(f"{path}/volume.json"):
                os.makedirs(f"{path}/_data", 0o755, exist_ok=True)
                os.chmod(path, 0o711)
                os.chmod(f"{path}/_data", 0o755)
                record = {"created": images.now(), "labels": dict(labels or {}), "anonymous": anonymous}
                records.write(f"{path}/volume.json", record)
        return f"{path}/_data"

    def fill(self, name: str, rootfs: str, inside: str) -> None:
        """Copy what an image has where a volume goes, into the volume, if that is empty (docker's rule for volumes).

        rootfs: the mounted root file system; inside: path in it, hostile.  Raises errors.Hostile, errors.StorageError.
        """
        data = f"{self._path(name)}/_data"
        with records.Lock(self.lock):
            if os.listdir(data):
                return
            root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                source = calls.open_in_root(root, os.fsencode(inside), os.O_RDONLY | os.O_DIRECTORY)
            except (FileNotFoundError, NotADirectoryError):
                return
            finally:
                os.close(root)
            target = os.open(data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                copy(source, target)
            except BaseException:
                tree.clear(target)
                raise
            finally:
                os.close(source)
                os.close(target)

    def create(self, name: str = "", labels: Mapping[str, str] | None = None) -> str:
        """`volume create`: gives the name; an empty one becomes 64 hex digits.  A volume that is there stays."""
        chosen = name or os.urandom(32).hex()
        self.ensure(chosen, labels, anonymous=not name)
        return chosen

    def inspect(self, name: str) -> Volume:
        """Raises errors.NotFound, records.Broken."""
        path = self._path(name)
        try:
            return Volume(name, f"{path}/_data", records.read(f"{path}/volume.json"))
        except FileNotFoundError:
            raise errors.NotFound(f"no such volume: {name}") from None

    def list(self) -> list[Volume]:
        """Every volume whose record can be read, by name."""
        found = []
        for name in sorted(os.listdir(self.directory)):
            if not _NAME.fullmatch(name):
                continue
            try:
                found.append(self.inspect(name))
            except errors.NotFound:
                continue  # being made, or being removed
            except records.Broken as error:
                self.problems.append(str(error))
        return found

    def remove(self, name: str, *, force: bool = False, in_use: Collection[str] = ()) -> None:
        """The volume and all in it.  in_use: names of the containers that have it.

        force: no error when there is none.  Raises errors.NotFound, errors.Conflict, errors.StorageError.
        """
        path = self._path(name)
        with records.Lock(self.lock):
            if not os.path.isdir(path):
                if force:
                    return
                raise errors.NotFound(f"no such volume: {name}")
            if in_use:
                raise errors.Conflict(f"the volume {name} is used by {', '.join(sorted(in_use))}")
            for point in tree.mounts_below(path):
                raise errors.Conflict(f"the volume {name} is in use: {point} is mounted")
            records.remove(f"{path}/volume.json")
            tree.remove(path)

    def _path(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise errors.UsageError(
                f"{name[:80]!r} is no name of a volume", hint="letters, digits, _ . - (a host path begins with /)"
            )
        return f"{self.directory}/{name}"
