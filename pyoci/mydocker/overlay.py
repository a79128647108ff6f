"""A container's root file system: its image's layers below, one directory of its own above (overlayfs)."""

from __future__ import annotations

import errno
import os
import re
import stat

from pyoci.mydocker import calls, errors, layers, records, rootless, tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyoci.mydocker.idmap import Ids
    from pyoci.mydocker.image import Image
    from pyoci.mydocker.layers import Layers
    from pyoci.mydocker.paths import Paths

_ID = re.compile(r"[0-9a-f]{64}")
# `upper` must be a layer that can be read without the kernel's help: no renames by reference, no
# files without data, no index.
_OPTIONS = "redirect_dir=off,metacopy=off,index=off"
# In a user namespace the kernel sees to the first two by itself, and wants them not to be named.
_USERNS_OPTIONS = "userxattr,index=off"


class Overlays:
    """ROOT/overlay."""

    def __init__(self, paths: Paths, store: Layers) -> None:
        self.directory = paths.overlay
        self.layers = store

    def path(self, container: str) -> str:
        """The directory of a container.  Raises errors.UsageError for what is no id: it is part of a path."""
        if not _ID.fullmatch(container):
            raise errors.UsageError(f"{container[:80]!r} is no id of a container")
        return f"{self.directory}/{container}"

    def upper(self, container: str) -> str:
        """The directory with what the container changed."""
        return f"{self.path(container)}/upper"

    def merged(self, container: str) -> str:
        """The mount point."""
        return f"{self.path(container)}/merged"

    def create(self, container: str, image: Image) -> str:
        """Mount an image's layers for a container; again: what is there, mounted.  Gives the mount point."""
        path = self.path(container)
        if not os.path.exists(f"{path}/mount.json"):
            for directory, mode in ((path, 0o711), (f"{path}/upper", 0o755), (f"{path}/work", 0o700)):
                os.makedirs(directory, exist_ok=True)
                os.chmod(directory, mode)
            self._copy_root(image.layers, f"{path}/upper")
            os.makedirs(f"{path}/merged", exist_ok=True)
            records.write(
                f"{path}/mount.json", {"image": image.id, "manifest": image.digest, "layers": list(image.layers)}
            )
        return self.again(container)

    def _copy_root(self, diff_ids: Sequence[str], upper: str) -> None:
        """The root directory's own mode and owner: upper's would be seen in place of the image's."""
        if diff_ids:
            found = os.stat(self.layers.path(diff_ids[-1]))
            os.chown(upper, found.st_uid, found.st_gid)
            os.chmod(upper, stat.S_IMODE(found.st_mode))

    def again(self, container: str, ids: Ids | None = None) -> str:
        """Mount from the record, unless it is mounted.  Raises errors.NotFound, errors.StorageError.

        ids: those that are seen there in place of what is on disk.
        """
        merged = self.merged(container)
        if not self.mounted(container):
            self._mount(container, self.record(container)["layers"], ids)
        return merged

    def _mount(self, container: str, diff_ids: Sequence[str], ids: Ids | None) -> None:
        path = self.path(container)
        # The same layer twice is its upper place alone: all it brings is on top there.
        names = [f"{self.layers.name(diff_id)}/diff" for diff_id in dict.fromkeys(reversed(diff_ids))]
        for diff_id in diff_ids:
            self.layers.path(diff_id)
        if not names:  # overlayfs wants one: `import` of nothing, `FROM scratch`
            os.makedirs(f"{self.layers.directory}/{layers.EMPTY}", 0o755, exist_ok=True)
            names = [layers.EMPTY]
        directory, above = self.layers.directory, os.path.relpath(path, self.layers.directory)
        if ids:
            directory, above = self._map(path, ids), "c"
            names = [f"l/{name}" for name in names]
        data = f"lowerdir={':'.join(names)},upperdir={above}/upper,workdir={above}/work,"
        data += _USERNS_OPTIONS if rootless.active() else _OPTIONS
        try:
            calls.mount("overlay", f"{path}/merged", "overlay", 0, data, directory=directory)
        except OSError as error:
            raise errors.StorageError(
                f"cannot mount the root file system of {container[:12]}: {error.strerror}", hint=_hint(error.errno)
            ) from None

    def _map(self, path: str, ids: Ids) -> str:
        """A directory with `l`, the layers, and `c`, the container's own directory, as they are with these ids."""
        directory = f"{path}/ids"
        try:
            userns = ids.namespace()
            try:
                for name, source in (("l", self.layers.directory), ("c", path)):
                    os.makedirs(f"{directory}/{name}", 0o700, exist_ok=True)
                    calls.mount_mapped(source, f"{directory}/{name}", userns)
            finally:
                os.close(userns)
        except OSError as error:
            raise errors.StorageError(
                f"cannot map the ids of {error.filename}: {error.strerror}",
                hint="--userns=auto needs Linux 5.19 and a file system that can (ext4, xfs, btrfs)",
            ) from None
        return directory

    def mapped(self, container: str) -> bool:
        """Whether merged shows other ids than there are on disk."""
        return os.path.realpath(f"{self.path(container)}/ids/c") in tree.mounts_below(self.path(container))

    def record(self, container: str) -> dict[str, list[str]]:
        """mount.json.  Raises errors.NotFound, records.Broken."""
        path = f"{self.path(container)}/mount.json"
        try:
            found = records.read(path)
        except FileNotFoundError:
            raise errors.NotFound(f"the container {container[:12]} has no root file system") from None
        entries = found.get("layers")
        if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
            raise records.Broken(f"{path} has no layers")
        return found

    def mounted(self, container: str) -> bool:
        """Whether merged is a mount point."""
        return os.path.realpath(self.merged(container)) in tree.mounts_below(self.path(container))

    def unmount(self, container: str) -> None:
        """Whatever is mounted in the container's directory, the last first; no error when nothing is."""
        for point in tree.mounts_below(self.path(container)):
            try:
                calls.umount(point)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOENT):  # another command was faster
                    raise errors.StorageError(f"cannot unmount {point}: {error.strerror}") from None

    def remove(self, container: str) -> None:
        """Unmount, and remove what the container changed; no error when nothing is there."""
        self.unmount(container)
        path = self.path(container)
        if os.path.exists(path):
            tree.remove(path)

    def containers(self) -> Iterator[str]:
        """The ids of those that have a root file system."""
        for name in sorted(os.listdir(self.directory)):
            if _ID.fullmatch(name):
                yield name

    def lower(self, container: str) -> list[str]:
        """The directories below upper, top first."""
        diff_ids = self.record(container)["layers"]
        return [self.layers.path(diff_id) for diff_id in dict.fromkeys(reversed(diff_ids))]


def _hint(number: int | None) -> str:
    """What usually is the matter."""
    if number == errno.EINVAL:
        return "overlayfs needs a file system that can be its upper layer (ext4, xfs, btrfs, tmpfs): see --root"
    if number == errno.EPERM:
        return "mounting takes root, or a user namespace"
    if number == errno.ENODEV:
        return "the kernel has no overlayfs: modprobe overlay"
    return ""
