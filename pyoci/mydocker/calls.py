"""The system calls that Python's os has not: mount, openat2 and kin, by ctypes.

Only what storage needs.  Every function raises OSError with the path it was about.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import threading

MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x4000, 0x40000
MNT_DETACH, UMOUNT_NOFOLLOW = 0x2, 0x8
CLONE_FS, CLONE_NEWNS, CLONE_NEWUSER = 0x200, 0x20000, 0x10000000
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_IN_ROOT = 0x02, 0x04, 0x10
_OPENAT2 = 437  # the same on every architecture, as all system calls since 5.1

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_AT_FDCWD, _AT_EMPTY_PATH, _OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = -100, 0x1000, 1, 4
_MOUNT_ATTR_IDMAP = 0x100000

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc["syscall"]  # without the types of the other
_syscall.restype = ctypes.c_long
# ctypes would pass int: mount's flags are unsigned long, syscall's arguments are long
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.syscall.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_long]
_libc.syscall.restype = ctypes.c_long


def _check(result: int, path: str | bytes = "") -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path or None)
    return result


def open_in_root(root: int, path: bytes, flags: int, resolve: int = 0) -> int:
    """openat2(2): open `path` below the directory `root` as if that were "/"; symlinks and .. do not leave it.

    resolve: RESOLVE_NO_SYMLINKS, where a symlink would be an error (ELOOP)
    Gives a descriptor, close-on-exec.  ValueError when there is a NUL in the path.
    """
    if b"\0" in path:
        raise ValueError("a NUL in a path")
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve)
    return _check(_libc.syscall(_OPENAT2, root, path or b".", how, len(how)), path)


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "", *, directory: str = "/") -> None:
    """mount(2), with `directory` as the working directory, so that the names in `data` can be short.

    The working directory of the process stays what it is: this happens in a thread that has one of its own.
    """
    failed: list[OSError] = []

    def call() -> None:
        try:
            unshare(CLONE_FS)
            os.chdir(directory)
            words = [os.fsencode(word) for word in (source, target, fstype)]
            _check(_libc.mount(*words, flags, os.fsencode(data) or None), target)
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def umount(target: str) -> None:
    """umount2(2), lazily, following no symlink at the end."""
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH | UMOUNT_NOFOLLOW), target)


def user_namespace(lines: str) -> int:
    """A descriptor of a new user namespace with these ids (user_namespaces(7)), of users and groups alike."""
    ready, going = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            os.close(going[1])
            unshare(CLONE_NEWUSER)
            os.write(ready[1], b"u")
            os.read(going[0], 1)  # ends with the parent's work, or with the parent
        finally:
            os._exit(0)
    os.close(ready[1])
    os.close(going[0])
    try:
        if not os.read(ready[0], 1):
            raise OSError(errno.EPERM, "there can be no new user namespace", "user namespace")
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{child}/{name}", "w", encoding="ascii") as file:
                file.write(lines)
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready[0])
        os.close(going[1])
        os.waitpid(child, 0)


def mount_mapped(source: str, target: str, userns: int) -> None:
    """Mount a directory at another, with the ids of a user namespace (mount_setattr(2), Linux 5.12)."""
    fd = _call(_OPEN_TREE, source, _AT_FDCWD, os.fsencode(source), _OPEN_TREE_CLONE | os.O_CLOEXEC)
    try:
        attributes = struct.pack("=QQQQ", _MOUNT_ATTR_IDMAP, 0, 0, userns)
        _call(_MOUNT_SETATTR, source, fd, b"", _AT_EMPTY_PATH, attributes, len(attributes))
        _call(_MOVE_MOUNT, target, fd, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.close(fd)


def _call(number: int, path: str, *args: int | bytes) -> int:
    """syscall(2), with arguments as wide as a register."""
    words = [ctypes.c_long(word) if isinstance(word, int) else ctypes.c_char_p(word) for word in args]
    return _check(_syscall(ctypes.c_long(number), *words), path)


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(flags))


def join(fd: int, flags: int) -> None:
    """setns(2) on a pidfd: the namespaces of that process, of the kinds that the flags name."""
    _check(_libc.setns(fd, flags))


def sync_file_system(fd: int) -> None:
    """syncfs(2): everything of the file system that the descriptor is on."""
    _check(_libc.syncfs(fd))
