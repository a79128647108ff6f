"""Tars and images to test with."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyoci.mydocker.images import Image, Store


def member(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A file, or what `type` says; every field of a TarInfo may be given."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o755 if fields.get("type") == tarfile.DIRTYPE else 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def directory(name: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.DIRTYPE, **fields)


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.SYMTYPE, linkname=target)


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.LNKTYPE, linkname=target)


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """As it is: names are not looked at."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as file:
        for info, data in members:
            file.addfile(info, io.BytesIO(data))
    return out.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def config_of(layers: Iterable[bytes], **config: Any) -> dict[str, Any]:
    """An image's config for uncompressed layers."""
    return {
        "created": "2020-01-02T03:04:05.123456789Z",
        "os": "linux",
        "architecture": "amd64",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
    }


def blobs_of(layers: Sequence[bytes], suffix: str = "+gzip", **config: Any) -> tuple[bytes, dict[str, bytes]]:
    """A manifest, and every blob it needs."""
    packed = [gzip.compress(layer, mtime=0) if suffix == "+gzip" else layer for layer in layers]
    text = json.dumps(config_of(layers, **config)).encode()
    kind = f"application/vnd.oci.image.layer.v1.tar{suffix}"
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest(text),
            "size": len(text),
        },
        "layers": [{"mediaType": kind, "digest": digest(data), "size": len(data)} for data in packed],
    }
    return json.dumps(manifest).encode(), {digest(data): data for data in [text, *packed]}


def add(store: Store, layers: Sequence[bytes], name: str = "", **config: Any) -> Image:
    """An image of uncompressed tars, put straight into the store."""
    from pyoci.mydocker.reference import Reference

    manifest, blobs = blobs_of(layers, **config)
    with store.using():
        for data in blobs.values():
            store.blobs.add(data)
        return store.add(store.blobs.add(manifest), [Reference.parse(name)] if name else [])
