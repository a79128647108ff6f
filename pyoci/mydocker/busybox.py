"""The image that needs no registry: this machine's static busybox, under a name that says so.

It is `localhost/busybox-static`; the name `busybox` means it as long as no image of that name was pulled or loaded.
"""

from __future__ import annotations

import datetime
import io
import os
import re
import struct
import subprocess
import tarfile

from pyoci.mydocker import errors, streams
from pyoci.mydocker.reference import InvalidReference, Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.mydocker.images import Image, Store

NAME = "localhost/busybox-static"
_PROGRAM = "/bin/busybox"
_DIRECTORIES = (("bin", 0o755), ("etc", 0o755), ("home", 0o755), ("root", 0o700), ("tmp", 0o1777), ("usr", 0o755))
_MORE = (
    ("usr/sbin", 0o755),
    ("usr/bin", 0o755),
    ("sbin", 0o755),
    ("var", 0o755),
    ("var/tmp", 0o1777),
    ("var/www", 0o755),
)
_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
_FILES = {"etc/passwd": _PASSWD, "etc/group": "root:x:0:\ndaemon:x:1:\ntty:x:5:\nnogroup:x:65534:\n"}
_PT_INTERP = 3


def is_meant(text: str) -> bool:
    """Whether a name is `busybox` with no tag, or its own name; and this machine has one."""
    try:
        found = Reference.parse(text)
    except InvalidReference:
        return False
    names = (f"docker.io/library/busybox:{found.tag}", f"{NAME}:{found.tag}")
    return found.full() in names and found.tag == "latest" and is_static(_PROGRAM)


def make(store: Store) -> Image:
    """The image, made and named.  Raises errors.StorageError."""
    listed = subprocess.run([_PROGRAM, "--list"], capture_output=True, text=True, check=False)
    applets = [name for name in listed.stdout.split() if re.fullmatch(r"[\w\[.+-]+", name) and name != "busybox"]
    if not applets:
        raise errors.StorageError(f"{_PROGRAM} does not list what it can do")
    made = int(os.stat(_PROGRAM).st_mtime)
    with store.using():
        layer, diff_id = _layer(store, sorted(applets), made)
        created = datetime.datetime.fromtimestamp(made, datetime.UTC).isoformat().replace("+00:00", "Z")
        config = {
            "created": created,
            "os": "linux",
            "architecture": _architecture(),
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Cmd": ["sh"],
                "Labels": {"org.opencontainers.image.title": f"busybox-static of this machine, made of {_PROGRAM}"},
            },
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created": created, "created_by": f"mydocker: {_PROGRAM} of this machine"}],
        }
        digest = store.write_image(config, [layer])
        names = [Reference.parse(NAME), Reference.parse(f"{NAME}:{_version()}")]
        return store.add(digest, names)


def _version() -> str:
    shown = subprocess.run([_PROGRAM], capture_output=True, text=True, check=False).stdout
    found = re.match(r"BusyBox v([0-9]+(?:\.[0-9]+)*)", shown)
    return found[1] if found else "unknown"


def _architecture() -> str:
    from pyoci.mydocker import transfer

    return transfer.own_platform().split("/")[1]


def _layer(store: Store, applets: list[str], made: int) -> tuple[dict[str, object], str]:
    with store.blobs.create() as blob:
        outside = streams.HashingWriter(blob.file)
        with streams.compressor(outside) as packed:
            inside = streams.HashingWriter(packed)
            _write_tar(inside, applets, made)
        blob.finish(outside.digest)
    kind = "application/vnd.oci.image.layer.v1.tar+gzip"
    return {"mediaType": kind, "digest": outside.digest, "size": outside.count}, inside.digest


def _write_tar(target: streams.Writable, applets: list[str], made: int) -> None:
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]

        def member(name: str, kind: bytes, mode: int, data: bytes = b"", link: str = "") -> None:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.size, entry.linkname, entry.mtime = kind, mode, len(data), link, made
            tar.addfile(entry, io.BytesIO(data))

        for name, mode in _DIRECTORIES + _MORE:
            member(name, tarfile.DIRTYPE, mode)
        with open(_PROGRAM, "rb") as file:
            member("bin/busybox", tarfile.REGTYPE, 0o755, file.read())
        for applet in applets:
            member(f"bin/{applet}", tarfile.LNKTYPE, 0o755, link="bin/busybox")
        for name, text in _FILES.items():
            member(name, tarfile.REGTYPE, 0o644, text.encode())


def is_static(path: str) -> bool:
    """Whether a file is an ELF program that names no interpreter (a container has no libc for it)."""
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    if head[:4] != b"\x7fELF" or len(head) < 64:
        return False
    order = "<" if head[5] == 1 else ">"
    if head[4] == 2:
        (start,), (size, count) = struct.unpack_from(f"{order}Q", head, 32), struct.unpack_from(f"{order}HH", head, 54)
    else:
        (start,), (size, count) = struct.unpack_from(f"{order}I", head, 28), struct.unpack_from(f"{order}HH", head, 42)
    offsets = [start + number * size for number in range(count)]
    kinds = [struct.unpack_from(f"{order}I", head, offset)[0] for offset in offsets if offset + 4 <= len(head)]
    return _PT_INTERP not in kinds
