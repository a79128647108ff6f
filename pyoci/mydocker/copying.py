"""cp: files between the host and a container, whose side is hostile and may change meanwhile.

Both sides are walked by descriptors: a directory is opened without following a link in its place, and a path of the
container is resolved as the container would, below its root.
"""

from __future__ import annotations

import contextlib
import os
import stat

from pyoci.mydocker import errors, idmap, images, inroot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyoci.mydocker.containers import Container
    from pyoci.mydocker.idmap import Ids

    Owners = Callable[[os.stat_result], tuple[int, int]]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20
_DEEPEST = 200  # each takes two descriptors, of 1024 that are usual, and two of Python's 1000 frames


@contextlib.contextmanager
def root_of(container: Container) -> Iterator[tuple[int, Ids | None]]:
    """A descriptor of a container's root, as it sees it when it runs, else mounted for the time being; and its ids."""
    while True:
        fd = container.open_root()
        if fd >= 0:
            try:
                yield fd, idmap.of(container.host)
            finally:
                os.close(fd)
            return
        with container.lock():
            if container.state().alive:  # started meanwhile: the mount is not ours to remove
                continue
            store = images.Store(container.paths)
            fd = inroot.open_directory(store.mount_again(container.id))
            try:
                yield fd, None
            finally:
                os.close(fd)
                store.unmount(container.id)
            return


class Side:
    """A path on one side.

    root: a descriptor for the container's, -1 for the host's; text: as it was given
    ids:  those that the files have in a container of --userns
    """

    def __init__(self, root: int, text: str, ids: Ids | None = None) -> None:
        self.root = root
        self.text = text
        self.ids = ids

    def inside(self, id: int) -> int:
        """An id of this side's files as the container sees it."""
        return self.ids.inside(id) if self.ids else id

    def outside(self, id: int) -> int:
        """The other way round."""
        return self.ids.outside(id) if self.ids else id

    def open(self, path: str, flags: int) -> int:
        """Raises OSError."""
        if self.root < 0:
            return os.open(path, flags | os.O_CLOEXEC)
        return inroot.open(self.root, path, flags)

    def parent(self, path: str) -> tuple[int, str]:
        """A descriptor of the directory that `path` lies in, and its last name.  Raises errors.NotFound."""
        head, _, name = path.rstrip("/").rpartition("/")
        if name in ("", ".", ".."):
            raise errors.UsageError(f"{self.text}: names no file", code=1)
        try:
            return self.open(
                head or ("/" if path.startswith("/") or self.root >= 0 else "."), os.O_RDONLY | os.O_DIRECTORY
            ), name
        except OSError as error:
            raise errors.NotFound(f"{self.text}: {error.strerror}") from None

    def directory_of(self, path: str) -> int:
        """The same, for one that has to be there.  Raises errors.Error."""
        found = self.directory(path)
        if found >= 0:
            return found
        try:
            os.close(self.open(path, os.O_PATH))
        except OSError as error:
            raise errors.NotFound(f"{self.text}: {error.strerror}") from None
        raise errors.UsageError(f"{self.text} is not a directory", code=1)

    def followed(self) -> str:
        """The path that the text leads to, links followed to the end.  Raises errors.NotFound."""
        try:
            fd = self.open(self.text, os.O_PATH)
        except OSError as error:
            raise errors.NotFound(f"{self.text}: {error.strerror}") from None
        try:
            found = os.readlink(f"/proc/self/fd/{fd}")
            root = os.readlink(f"/proc/self/fd/{self.root}") if self.root >= 0 else ""
        finally:
            os.close(fd)
        return found if root in ("", "/") else found.removeprefix(root)

    def directory(self, path: str) -> int:
        """A descriptor of a directory, links followed; -1 when it is none, or not there."""
        try:
            return self.open(path or ".", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return -1


def copy(source: Side, target: Side, *, owner: bool, follow: bool) -> None:
    """As docker cp: into a directory that is there, as the name that is not; SOURCE/. is what is in it.

    owner: keep owners (-a); follow: SOURCE itself may be a link (-L).  Raises errors.Error.
    """
    own = _owners(source, target, owner)
    contents = source.text.endswith("/.") or source.text in (".", "/")
    into = target.directory(target.text)
    try:
        if contents:
            _copy_contents(source, target, into, own)
            return
        parent, name = source.parent(source.text)
        if follow:
            os.close(parent)
            parent, name = source.parent(source.followed())
        try:
            if into >= 0:
                _entry(parent, name, into, name, own, 0)
            elif target.text.endswith("/"):
                raise errors.NotFound(f"{target.text}: no such directory")
            else:
                onto, new = target.parent(target.text)
                try:
                    _entry(parent, name, onto, new, own, 0)
                finally:
                    os.close(onto)
        finally:
            os.close(parent)
    except OSError as error:
        raise errors.Error(f"cannot copy {source.text}: {error.strerror}") from None
    finally:
        if into >= 0:
            os.close(into)


def _owners(source: Side, target: Side, keep: bool) -> Owners | None:
    """Whose what is made is to be; None: whoever makes it."""
    if keep:
        return lambda info: (target.outside(source.inside(info.st_uid)), target.outside(source.inside(info.st_gid)))
    return (lambda _info: (target.outside(0), target.outside(0))) if target.ids else None


def _copy_contents(source: Side, target: Side, into: int, own: Owners | None) -> None:
    found = source.directory(source.text)
    if found < 0:
        raise errors.NotFound(f"{source.text}: no such directory")
    made = -1
    try:
        if into < 0:
            onto, new = target.parent(target.text)
            try:
                os.mkdir(new, 0o755, dir_fd=onto)
                into = made = os.open(new, _DIRECTORY, dir_fd=onto)
            finally:
                os.close(onto)
        for name in os.listdir(found):
            _entry(found, name, into, name, own, 1)
    finally:
        os.close(found)
        if made >= 0:
            os.close(made)


def _entry(parent: int, name: str, onto: int, new: str, own: Owners | None, depth: int) -> None:
    """One file, link or directory with all below it."""
    if depth > _DEEPEST:
        raise errors.Hostile(f"directories are nested more than {_DEEPEST} deep")
    kind = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    if stat.S_ISDIR(kind):
        _directory(parent, name, onto, new, own, depth)
    elif stat.S_ISREG(kind):
        _file(parent, name, onto, new, own)
    elif stat.S_ISLNK(kind):
        _link(parent, name, onto, new, own)
    elif depth == 0:
        raise errors.UsageError(f"{name} is no file, link or directory", code=1)
    # below a directory devices, sockets and pipes are left out: they are not data


def _finish(made: int, info: os.stat_result, own: Owners | None) -> None:
    """Owner, mode and times, of what was made and nothing that has come in its place; the mode after the owner."""
    if own:
        os.fchown(made, *own(info))
    os.fchmod(made, stat.S_IMODE(info.st_mode) & 0o1777)  # set-id bits are for owners that were not kept
    os.utime(made, ns=(info.st_atime_ns, info.st_mtime_ns))


def _directory(parent: int, name: str, onto: int, new: str, own: Owners | None, depth: int) -> None:
    found = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        try:
            os.mkdir(new, 0o700, dir_fd=onto)
        except FileExistsError:
            pass
        made = os.open(new, _DIRECTORY, dir_fd=onto)
        try:
            for below in os.listdir(found):
                _entry(found, below, made, below, own, depth + 1)
            _finish(made, os.fstat(found), own)
        finally:
            os.close(made)
    finally:
        os.close(found)


def _link(parent: int, name: str, onto: int, new: str, own: Owners | None) -> None:
    info, target = os.stat(name, dir_fd=parent, follow_symlinks=False), os.readlink(name, dir_fd=parent)
    _clear(onto, new)
    os.symlink(target, new, dir_fd=onto)
    if not own:
        return
    made = os.open(new, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=onto)
    try:
        if stat.S_ISLNK(os.fstat(made).st_mode):  # and not exchanged meanwhile
            os.chown(f"/proc/self/fd/{made}", *own(info))  # the link itself
    finally:
        os.close(made)


def _file(parent: int, name: str, onto: int, new: str, own: Owners | None) -> None:
    reading = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    try:
        info = os.fstat(reading)
        if not stat.S_ISREG(info.st_mode):  # exchanged meanwhile
            return
        _clear(onto, new)
        writing = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=onto)
        try:
            while data := os.read(reading, _CHUNK):
                while data:
                    data = data[os.write(writing, data) :]
            _finish(writing, info, own)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _clear(onto: int, new: str) -> None:
    """Nothing in the way; a directory is."""
    try:
        os.unlink(new, dir_fd=onto)
    except FileNotFoundError:
        return
