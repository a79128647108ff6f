"""A directory as a tar: what a container changed as a layer, or its whole file system as it is seen."""

from __future__ import annotations

import os
import stat
import tarfile

from pyoci.mydocker import errors, streams, tarread, tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.mydocker.idmap import Ids
    from pyoci.mydocker.streams import Writable
    from pyoci.mydocker.tree import Entry

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


class Packer:
    """Writes the tar of one directory.

    layer:    bool, it is an overlay's upper: whiteouts are written as the image-spec has them
    ids:      whose ids the files have; they are written as the container sees them
    warnings: list of str, what was left out
    """

    def __init__(self, target: Writable, *, layer: bool, ids: Ids | None = None) -> None:
        self.layer = layer
        self.ids = ids
        self.warnings: list[str] = []
        self._links: dict[tuple[int, int], str] = {}
        self._tar = tarfile.open(  # type: ignore[call-overload]
            fileobj=target, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
        )

    def pack(self, path: str) -> None:
        """All of a directory.  Raises errors.StorageError."""
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.pack_open(root)
        finally:
            os.close(root)

    def pack_open(self, root: int) -> None:
        """pack(), of a directory by its descriptor, which stays the caller's."""
        for entry in tree.walk(root):
            self._kept_on(entry)
        self._tar.close()

    def pack_entry(self, parent: int, name: bytes) -> None:
        """One name of a directory, and all below it when it is a directory too.  Raises FileNotFoundError."""
        entry = tree.Entry(name, parent, name, os.stat(name, dir_fd=parent, follow_symlinks=False))
        if entry.is_directory:
            self.pack_as(entry.open(), name)
            return
        self._kept_on(entry)
        self._tar.close()

    def pack_as(self, root: int, name: bytes) -> None:
        """A directory by its descriptor, which is closed, and all below it, their names below `name`."""
        try:
            self._kept_on(tree.Entry(name, root, b".", os.fstat(root)))
            for entry in tree.walk(root):
                self._kept_on(tree.Entry(name + b"/" + entry.path, entry.parent, entry.name, entry.stat))
        finally:
            os.close(root)
        self._tar.close()

    def _kept_on(self, entry: Entry) -> None:
        """One entry, unless it has vanished: a running container goes on."""
        try:
            self._add(entry)
        except FileNotFoundError:
            return
        except OSError as error:
            raise errors.StorageError(f"cannot read {os.fsdecode(entry.path[:200])!r}: {error.strerror}") from None
        self._tar.members.clear()

    def _add(self, entry: Entry) -> None:
        member = _member(entry)
        if self.ids:
            member.uid, member.gid = self.ids.inside(member.uid), self.ids.inside(member.gid)
        mode = entry.stat.st_mode
        if self.layer and entry.is_whiteout:
            self._mark(f"{os.path.dirname(member.name)}/{_WHITEOUT}{os.path.basename(member.name)}".lstrip("/"))
        elif self.layer and entry.name.startswith(b".wh."):
            self.warnings.append(f"left out {member.name!r}: in a layer this name would remove a file")
        elif stat.S_ISDIR(mode):
            member.type = tarfile.DIRTYPE
            _with_xattrs(entry, member)
            self._tar.addfile(member)
            if self.layer and entry.is_opaque():
                self._mark(f"{member.name}/{_OPAQUE}")
        elif stat.S_ISREG(mode):
            self._file(entry, member)
        elif stat.S_ISSOCK(mode):
            pass  # belongs to the process that listens
        else:
            self._special(entry, member)

    def _mark(self, name: str) -> None:
        self._tar.addfile(tarfile.TarInfo(name))

    def _file(self, entry: Entry, member: tarfile.TarInfo) -> None:
        key = (entry.stat.st_dev, entry.stat.st_ino)
        if entry.stat.st_nlink > 1 and key in self._links:
            member.type, member.linkname = tarfile.LNKTYPE, self._links[key]
            self._tar.addfile(member)
            return
        fd = entry.open()
        try:
            member.size = os.fstat(fd).st_size
            _with_xattrs(entry, member)
            self._tar.addfile(member, _Exactly(fd, member.size))
        finally:
            os.close(fd)
        self._links[key] = member.name

    def _special(self, entry: Entry, member: tarfile.TarInfo) -> None:
        """Symlinks, devices and fifos."""
        mode = entry.stat.st_mode
        if stat.S_ISLNK(mode):
            member.type = tarfile.SYMTYPE
            member.linkname = _text(os.fsencode(os.readlink(entry.name, dir_fd=entry.parent)))
        elif stat.S_ISFIFO(mode):
            member.type = tarfile.FIFOTYPE
        else:
            member.type = tarfile.CHRTYPE if stat.S_ISCHR(mode) else tarfile.BLKTYPE
            member.devmajor, member.devminor = os.major(entry.stat.st_rdev), os.minor(entry.stat.st_rdev)
        self._tar.addfile(member)


class _Exactly:
    """A file that has as many bytes as the header says, though a running container changes it."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.left = size

    def read(self, size: int = -1) -> bytes:
        wanted = self.left if size < 0 else min(size, self.left)
        data = os.read(self.fd, min(wanted, streams.CHUNK)) or bytes(min(wanted, streams.CHUNK))
        while len(data) < wanted:
            data += os.read(self.fd, wanted - len(data)) or bytes(wanted - len(data))
        self.left -= len(data)
        return data


def _member(entry: Entry) -> tarfile.TarInfo:
    """Name, owner, mode and time; whole seconds, as other tools write layers."""
    member = tarfile.TarInfo(_text(entry.path))
    member.mode = stat.S_IMODE(entry.stat.st_mode)
    member.uid, member.gid = entry.stat.st_uid, entry.stat.st_gid
    member.mtime = int(entry.stat.st_mtime)
    return member


def _with_xattrs(entry: Entry, member: tarfile.TarInfo) -> None:
    fd = entry.open()
    try:
        for name in os.listxattr(fd):
            if tarread.is_kept(name):
                member.pax_headers[f"SCHILY.xattr.{name}"] = _text(os.getxattr(fd, name))  # type: ignore[index]
    except OSError:
        pass  # a file system without
    finally:
        os.close(fd)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
