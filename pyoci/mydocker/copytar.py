"""cp with - : files of a container as a tar, and a tar into a directory of a container, which may run meanwhile.

The tar is as hostile as a layer's, and the container as hostile as the tar: every path is walked below the container's
root, and what is there is changed by descriptors only.
"""

from __future__ import annotations

import os
import stat
import sys

from pyoci.mydocker import errors, rootless, streams, tarball, tarread, tree, untar

TYPE_CHECKING = False
if TYPE_CHECKING:
    import io
    import tarfile

    from pyoci.mydocker.copying import Side
    from pyoci.mydocker.idmap import Ids


def pack(source: Side, target: streams.Writable, *, follow: bool) -> None:
    """A file or directory as a tar whose names begin with its own; SOURCE/. gives ./  Raises errors.Error."""
    contents = source.text.endswith("/.")
    path = source.followed() if follow or contents else source.text
    packer = tarball.Packer(target, layer=False, ids=source.ids)
    if contents or not path.strip("/"):
        packer.pack_as(source.directory_of(path), b".")
        return
    parent, name = source.parent(path)
    try:
        packer.pack_entry(parent, os.fsencode(name))
    except FileNotFoundError:
        raise errors.NotFound(f"{source.text}: no such file or directory") from None
    finally:
        os.close(parent)


def unpack(file: io.BufferedReader, target: Side) -> None:
    """A tar, compressed or not, into a directory that is there.  Raises errors.Error."""
    fd = target.directory_of(target.text)
    try:
        parts = os.fsencode(os.readlink(f"/proc/self/fd/{fd}"))
        root = os.fsencode(os.readlink(f"/proc/self/fd/{target.root}"))
    finally:
        os.close(fd)
    into = [part for part in parts[len(root) :].split(b"/") if part]
    extractor = Extractor(target.root, into, target.ids)
    stream = streams.HashingReader(streams.decompressed(file), "the archive", tarread.Limits().size)
    extractor.unpack(stream)
    stream.drain()  # so that who writes it is not killed by a closed pipe
    for warning in extractor.warnings:
        sys.stderr.write(f"mydocker: warning: {warning}\n")


class Extractor(untar.Unpacker):
    """Unpacks below a directory of a tree in which other things are.  into: the directory's path, from the root."""

    def __init__(self, root: int, into: list[bytes], ids: Ids | None) -> None:
        super().__init__(root, tarread.Limits(), userns=rootless.active())
        self.into = into
        self.ids = ids

    def _place(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """No name means anything but itself, and nothing becomes of another kind, as with docker."""
        parts = tarread.split(member.name, self.limits.depth)
        if not parts:  # the directory stays as it is
            return
        parent, name = self._parent([*self.into, *parts[:-1]]), parts[-1]
        found = tree.look(parent, name)
        there = found is not None and stat.S_ISDIR(found.st_mode)
        if member.isdir():
            if found and not there:
                raise ValueError("cannot overwrite non-directory with directory")
            self._directory(parent, name, member, b"/".join([*self.into, *parts]))
        elif there:
            raise ValueError("cannot overwrite directory with non-directory")
        elif member.ischr() or member.isblk() or member.isfifo():
            self.warnings.append(f"left out {member.name[:200]!r}: devices and pipes are not copied")
        else:
            self._clear(parent, name)
            self._other(tar, member, parent, name)

    def _owner(self, member: tarfile.TarInfo) -> tuple[int, int]:
        uid, gid = super()._owner(member)
        return (self.ids.outside(uid), self.ids.outside(gid)) if self.ids else (uid, gid)

    def _linked(self, member: tarfile.TarInfo) -> list[bytes]:
        return [*self.into, *super()._linked(member)]
