"""A layer's tar, unpacked into an empty directory of its own.  Everything in it may have been written to hurt.

tarread.py reads it.  A path is walked by openat2(2) below the
directory's descriptor, as if that were "/", so that neither .. nor a symlink of the same layer leads out; the
last component is never followed.  What an overlay mount reads as its own (trusted.overlay.*) is dropped.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tarfile

from pyoci.mydocker import calls, copyup, errors, streams, tarread, tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pyoci.mydocker.streams import Readable

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_RESERVED = b".wh..wh."  # aufs' own
_XATTR = "SCHILY.xattr."
_ZEROS = bytes(streams.CHUNK)
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE)


class Unpacker:
    """Unpacks one tar below one directory.

    root:     int, descriptor of the empty directory; stays the caller's
    userns:   bool, in the user namespace of an ordinary user: xattrs of overlay are user.*, no devices
    below:    sequence of str, directories of the layers below, top first: a hard link may be to a file of theirs
    warnings: list of str, what could not be kept
    borrowed: bool, whether there was such a link
    """

    def __init__(self, root: int, limits: tarread.Limits, *, userns: bool = False, below: Sequence[str] = ()) -> None:
        self.root = root
        self.limits = limits
        self.below = below
        self.borrowed = False
        self.userns = userns
        self.opaque = "user.overlay.opaque" if userns else "trusted.overlay.opaque"
        self.warnings: list[str] = []
        self._parent_path: bytes | None = None
        self._parent_fd = -1
        self._times: list[tuple[bytes, float]] = []
        self._unmapped = 0  # members whose owner there is no id for

    # -- the whole ----------------------------------------------------------------------------

    def unpack(self, stream: Readable) -> None:
        """Every member, in order.  Raises errors.Hostile, errors.StorageError; the directory is then half full."""
        try:
            for tar, member in tarread.members(stream, self.limits.entries):
                self._member(tar, member)
            self._set_times()
            if self._unmapped:
                self.warnings.append(f"{self._unmapped} files belong to root now: there is no id here for their owners")
        finally:
            self._forget_parent()

    def _member(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """One member, with its name in every error."""
        try:
            self._place(tar, member)
        except OSError as error:
            kind = errors.StorageError if error.errno in _DISK else errors.Hostile
            raise kind(f"cannot unpack {member.name[:200]!r}: {error.strerror}") from None
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            raise errors.Hostile(f"cannot unpack {member.name[:200]!r}: {error}") from None

    def _place(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = tarread.split(member.name, self.limits.depth)
        if not parts:
            if not member.isdir():
                raise ValueError("the root can only be a directory")
            self._finish_directory(
                os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.root), member, b"."
            )
            return
        if any(part.startswith(_WHITEOUT) for part in parts[:-1]):
            raise ValueError("something below a whiteout")
        parent, name = self._parent(parts[:-1]), parts[-1]
        if name.startswith(_WHITEOUT):
            self._whiteout(parent, name)
        elif member.isdir():
            self._directory(parent, name, member, b"/".join(parts))
        else:
            self._clear(parent, name)
            self._other(tar, member, parent, name)

    def _other(self, tar: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: bytes) -> None:
        """What is no directory and no whiteout; nothing of that name is there."""
        if member.isreg():
            self._file(tar, member, parent, name)
        elif member.issym():
            os.symlink(tarread.encode(member.linkname), name, dir_fd=parent)
            self._own(parent, name, member)
        elif member.islnk():
            self._hard_link(member, parent, name)
        elif member.ischr() or member.isblk() or member.isfifo():
            self._node(member, parent, name)
        else:
            raise ValueError(f"a member of the type {member.type!r}")

    # -- directories --------------------------------------------------------------------------

    def _parent(self, parts: list[bytes]) -> int:
        """The descriptor of a directory below the root, made where it is missing; ours until the next call.

        The last one is kept. It cannot be replaced meanwhile: a member that does so has another parent.
        """
        path = b"/".join(parts)
        if path != self._parent_path:
            self._forget_parent()
            self._parent_fd = self._open_parent(parts)
            self._parent_path = path
        return self._parent_fd

    def _open_parent(self, parts: list[bytes]) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY
        try:
            fd = calls.open_in_root(self.root, b"/".join(parts), flags)
        except FileNotFoundError:
            fd = self._make_parents(parts)
        self._check_depth(fd)
        return fd

    def _make_parents(self, parts: list[bytes]) -> int:
        """Each from the root: a symlink on the way may lead elsewhere in it."""
        flags = os.O_RDONLY | os.O_DIRECTORY
        fd = calls.open_in_root(self.root, b"", flags)
        for number, part in enumerate(parts, 1):
            path = b"/".join(parts[:number])
            try:
                try:
                    below = calls.open_in_root(self.root, path, flags)
                except FileNotFoundError:
                    os.mkdir(part, 0o755, dir_fd=fd)
                    below = calls.open_in_root(self.root, path, flags)
            finally:
                os.close(fd)
            fd = below
        return fd

    def _check_depth(self, fd: int) -> None:
        """Symlinks in a path make it deeper than it looks; what is too deep could not be removed again."""
        below = os.readlink(f"/proc/self/fd/{fd}")[len(os.readlink(f"/proc/self/fd/{self.root}")) :]
        if below.count("/") > self.limits.depth or len(below) > tarread.PATH_MAX:
            os.close(fd)
            raise ValueError(f"deeper than {self.limits.depth} directories")

    def _forget_parent(self) -> None:
        if self._parent_fd >= 0:
            os.close(self._parent_fd)
        self._parent_fd, self._parent_path = -1, None

    def _directory(self, parent: int, name: bytes, member: tarfile.TarInfo, path: bytes) -> None:
        found = tree.look(parent, name)
        hidden = found is not None and _is_whiteout(found)
        if found is not None and not stat.S_ISDIR(found.st_mode):
            os.unlink(name, dir_fd=parent)
            found = None
        if found is None:
            os.mkdir(name, 0o700, dir_fd=parent)
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        if hidden:  # removed, then made anew: nothing of the layers below shows in it
            os.setxattr(fd, self.opaque, b"y")
        self._finish_directory(fd, member, path)

    def _finish_directory(self, fd: int, member: tarfile.TarInfo, path: bytes) -> None:
        try:
            self._attributes(fd, member)
        finally:
            os.close(fd)
        self._times.append((path, member.mtime))

    def _set_times(self) -> None:
        """At the end, because making a file in a directory changes its time."""
        for path, mtime in reversed(self._times):
            try:
                fd = calls.open_in_root(self.root, path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            except OSError:
                continue  # replaced by a later member
            try:
                os.utime(fd, ns=tarread.nanoseconds(mtime))
            finally:
                os.close(fd)

    # -- whiteouts ----------------------------------------------------------------------------

    def _whiteout(self, parent: int, name: bytes) -> None:
        """`.wh.NAME` hides NAME of the layers below, `.wh..wh..opq` everything of the directory there."""
        if name == _OPAQUE:
            os.setxattr(parent, self.opaque, b"y")
            return
        if name.startswith(_RESERVED):
            return
        hidden = name.removeprefix(_WHITEOUT)
        if hidden in (b"", b".", b".."):
            raise ValueError("a whiteout of no name")
        found = tree.look(parent, hidden)
        if found is None:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent)
        elif stat.S_ISDIR(found.st_mode):  # what this layer brings stays
            fd = os.open(hidden, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                os.setxattr(fd, self.opaque, b"y")
            finally:
                os.close(fd)

    def _clear(self, parent: int, name: bytes) -> None:
        """A later member of a name replaces the earlier."""
        found = tree.look(parent, name)
        if found is not None and stat.S_ISDIR(found.st_mode):
            shutil.rmtree(name, dir_fd=parent)
        elif found is not None:
            os.unlink(name, dir_fd=parent)

    # -- files --------------------------------------------------------------------------------

    def _file(self, tar: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            self._content(tar, member, fd)
            self._attributes(fd, member)
            os.utime(fd, ns=tarread.nanoseconds(member.mtime))
        finally:
            os.close(fd)

    def _content(self, tar: tarfile.TarFile, member: tarfile.TarInfo, fd: int) -> None:
        """The data, from the stream; runs of zeros and what the tar calls sparse become holes."""
        if not 0 <= member.size <= self.limits.size:
            raise ValueError(f"a file of {member.size} bytes")
        source: Any = tar.fileobj
        source.seek(member.offset_data)
        end = 0
        sparse: Any = member.sparse  # what the stubs say of it is wrong: pairs of offset and size
        for offset, size in sparse or [(0, member.size)]:
            if not end <= offset <= offset + size <= member.size:
                raise ValueError("its map of holes is wrong")
            end = offset + size
            _copy(source, fd, offset, size)
        os.ftruncate(fd, member.size)

    def _hard_link(self, member: tarfile.TarInfo, parent: int, name: bytes) -> None:
        """To something of the same layer, which is looked up under the root as well, or of a layer below."""
        parts = self._linked(member)
        if self._link(parts, parent, name):
            return
        if copyup.copy_up(self.root, self.below, parts):
            self.borrowed = True
            if self._link(parts, parent, name):
                return
        raise ValueError(f"a hard link to {member.linkname[:200]!r}, which is no file of this layer or of one below")

    def _linked(self, member: tarfile.TarInfo) -> list[bytes]:
        """The path that a hard link names."""
        parts = tarread.split(member.linkname, self.limits.depth)
        if not parts:
            raise ValueError("a hard link to the root")
        return parts

    def _link(self, parts: list[bytes], parent: int, name: bytes) -> bool:
        """Link to a file that is there; False when there is none."""
        try:
            above = calls.open_in_root(self.root, b"/".join(parts[:-1]), os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return False
        try:
            found = tree.look(above, parts[-1])
            if found is None or _is_whiteout(found) or stat.S_ISDIR(found.st_mode):
                return False
            os.link(parts[-1], name, src_dir_fd=above, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(above)
        return True

    def _node(self, member: tarfile.TarInfo, parent: int, name: bytes) -> None:
        kind = stat.S_IFIFO if member.isfifo() else stat.S_IFCHR if member.ischr() else stat.S_IFBLK
        major, minor = (0, 0) if member.isfifo() else (member.devmajor, member.devminor)
        if kind == stat.S_IFCHR and major == 0 and minor == 0:
            raise ValueError("the device 0:0 is a whiteout")
        if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
            raise ValueError(f"the device {major}:{minor}")
        if self.userns and kind != stat.S_IFIFO:
            self.warnings.append(f"left out the device {member.name[:200]!r}: an ordinary user cannot make it")
            return
        os.mknod(name, kind, os.makedev(major, minor), dir_fd=parent)
        self._own(parent, name, member)
        os.chmod(_beside(parent, name), member.mode & 0o7777)

    # -- attributes ---------------------------------------------------------------------------

    def _own(self, parent: int, name: bytes, member: tarfile.TarInfo) -> None:
        """Owner and time of what cannot be opened."""
        self._chown(lambda: os.chown(name, *self._owner(member), dir_fd=parent, follow_symlinks=False))
        os.utime(name, ns=tarread.nanoseconds(member.mtime), dir_fd=parent, follow_symlinks=False)

    def _owner(self, member: tarfile.TarInfo) -> tuple[int, int]:
        return tarread.owner(member)

    def _chown(self, change: Callable[[], None]) -> None:
        """In a user namespace an owner may have no id; there are more ids for who is in /etc/subuid."""
        try:
            change()
        except OSError as error:
            if not self.userns or error.errno != errno.EINVAL:
                raise
            self._unmapped += 1

    def _attributes(self, fd: int, member: tarfile.TarInfo) -> None:
        """Owner, then mode (chown clears set-uid), then xattrs (chown clears capabilities)."""
        self._chown(lambda: os.fchown(fd, *self._owner(member)))
        os.fchmod(fd, member.mode & 0o7777)
        for key, value in member.pax_headers.items():
            if not key.startswith(_XATTR):
                continue
            name = key.removeprefix(_XATTR)
            if not tarread.is_kept(name):
                continue
            try:
                os.setxattr(fd, name, tarread.encode(value))
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EPERM):
                    raise
                self.warnings.append(f"left out the attribute {name} of {member.name[:200]!r}: {error.strerror}")


def _is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _beside(parent: int, name: bytes) -> bytes:
    """A path for calls that take no directory; the node was made by us a moment ago."""
    return b"/proc/self/fd/%d/%s" % (parent, name)


def _copy(source: Readable, fd: int, offset: int, size: int) -> None:
    """size bytes of the stream to an offset of a file."""
    while size:
        data = source.read(min(size, streams.CHUNK))
        if not data:
            raise EOFError("unexpected end of data")
        if data != _ZEROS[: len(data)]:
            written = 0
            while written < len(data):
                written += os.pwrite(fd, data[written:] if written else data, offset + written)
        offset += len(data)
        size -= len(data)
