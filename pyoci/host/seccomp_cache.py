"""Compiled seccomp profiles, kept: an engine gives every container the same one.

One file per profile, named after a digest of the profile, the machine and the compiler's version.
An entry is used only when it belongs to the runtime's user, nobody else can write or read it, and what is in it
says that it is whole and made from this very profile; so nothing is gained by moving, linking or
cutting entries, even in a directory that another user owns.  Anything else is compiled again.
"""

from __future__ import annotations

import stat
import struct

from pyoci import kernel
from pyoci.plan import seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAGIC = b"pyoci\0s1"
HEADER = struct.Struct("<8s32sIII")  # magic, key, SECCOMP_FILTER_FLAG_*, listener, size of the code
DIGEST = 32  # bytes, at the end, over all before
MAX_ENTRY = 256 << 10  # bytes; a program has at most 32 KiB, the rest is warnings
MAX_ENTRIES = 64


def compiled(profile: dict[str, Any], arch: str, directory: str) -> seccomp.Program:
    """As pyoci.plan.seccomp.compile, from directory (absolute; made with mode 0700 if its parent exists) where
    it can be.

    A cache that cannot be read or written is no error.  Raises InvalidConfig as compile does.
    """
    key = _digest(repr((seccomp.VERSION, arch, profile)).encode("utf-8", "surrogatepass"))
    path = f"{directory}/{key.hex()}"
    program = _load(path, key)
    if program is None:
        program = seccomp.compile(profile, arch)
        _store(directory, path, _encode(program, key))
    return program


def _digest(data: bytes) -> bytes:
    try:
        from _blake2 import blake2b  # hashlib takes a millisecond and OpenSSL
    except ImportError:  # an interpreter built without its own
        from hashlib import blake2b
    return blake2b(data, digest_size=DIGEST).digest()


def _load(path: str, key: bytes) -> seccomp.Program | None:
    try:
        fd = kernel.open(path, kernel.O_RDONLY | kernel.O_CLOEXEC | kernel.O_NOFOLLOW | kernel.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = kernel.fstat(fd)
        private = stat.S_ISREG(status.st_mode) and not status.st_mode & 0o077 and status.st_uid == kernel.geteuid()
        return _decode(kernel.read(fd, MAX_ENTRY), key) if private else None
    except OSError:
        return None
    finally:
        kernel.close(fd)


def _encode(program: seccomp.Program, key: bytes) -> bytes:
    header = HEADER.pack(MAGIC, key, program.flags, program.listener, len(program.code))
    data = header + program.code + "\0".join(program.warnings).encode("utf-8", "surrogatepass")
    return data + _digest(data)


def _decode(data: bytes, key: bytes) -> seccomp.Program | None:
    body = data[:-DIGEST]
    if len(body) < HEADER.size or _digest(body) != data[-DIGEST:]:
        return None
    magic, made_from, flags, listener, size = HEADER.unpack_from(body)
    if magic != MAGIC or made_from != key:
        return None
    end = HEADER.size + size
    warnings = body[end:].decode("utf-8", "surrogatepass")
    return seccomp.Program(body[HEADER.size : end], flags, bool(listener), warnings.split("\0") if warnings else [])


def _store(directory: str, path: str, data: bytes) -> None:
    if len(data) > MAX_ENTRY:
        return
    temporary = f"{path}.{kernel.getpid()}"
    try:
        _make_room(directory)
        fd = kernel.open(
            temporary, kernel.O_WRONLY | kernel.O_CREAT | kernel.O_EXCL | kernel.O_NOFOLLOW | kernel.O_CLOEXEC, 0o600
        )
    except OSError:
        return
    try:
        # Not synced: an entry that a crash cut short fails its digest.
        kernel.write(fd, data)
        kernel.rename(temporary, path)
    except OSError:
        _discard(temporary)
    finally:
        kernel.close(fd)


def _discard(path: str) -> None:
    try:
        kernel.unlink(path)
    except OSError:
        pass


def _make_room(directory: str) -> None:
    """Make the directory, or empty it when profiles that nobody uses any more (or a crash) have filled it."""
    try:
        kernel.mkdir(directory, 0o700)
    except FileExistsError:
        names = kernel.listdir(directory)
        if len(names) >= MAX_ENTRIES:
            for name in names:
                kernel.unlink(f"{directory}/{name}")
