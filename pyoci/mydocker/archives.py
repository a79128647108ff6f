"""Images as files: what `docker save` writes, old and new, and OCI layouts; and root file systems as tars.

What is written is both at once, as docker writes it since version 25: an OCI layout with a manifest.json beside.
"""

from __future__ import annotations

import io
import json
import os
import posixpath
import tarfile

from pyoci.mydocker import content, errors, image, images, records, reference, streams, tarread, transfer
from pyoci.mydocker.reference import InvalidReference, Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pyoci.mydocker.image import Descriptor, Image
    from pyoci.mydocker.images import Store
    from pyoci.mydocker.streams import Readable, Writable

_ENTRIES = 100_000  # files of an archive
_DOCUMENTS = ("index.json", "manifest.json", "oci-layout", "repositories")
_NESTED = 4  # indexes in indexes
_BLOBS = "blobs/sha256/"
_NAME = "io.containerd.image.name"
_REF = "org.opencontainers.image.ref.name"


class _Contents:
    """What was found in an archive.

    documents: name -> bytes, the few whose names mean something
    blobs:     name -> (digest, size), everything else, in the store already
    links:     name -> name; old archives have a layer once and links to it
    """

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        self.blobs: dict[str, tuple[str, int]] = {}
        self.links: dict[str, str] = {}

    def blob(self, name: object) -> tuple[str, int]:
        """Digest and size of a file.  Raises errors.Hostile."""
        found = posixpath.normpath(name) if isinstance(name, str) else ""
        for _ in range(_NESTED):
            if found in self.blobs:
                return self.blobs[found]
            found = self.links.get(found, "")
        raise errors.Hostile(f"the archive has no {str(name)[:120]!r}")


def load(store: Store, file: io.BufferedReader) -> list[Image]:
    """Every image of an archive.  Raises errors.Hostile, errors.StorageError."""
    with store.using():
        return _images(store, _read(store, file))


def load_directory(store: Store, path: str) -> list[Image]:
    """Every image of an OCI layout that lies unpacked.  Raises as load()."""
    with store.using():
        found = _Contents()
        for name in _DOCUMENTS:
            if os.path.isfile(f"{path}/{name}"):
                with open(f"{path}/{name}", "rb") as file:
                    found.documents[name] = file.read(content.DOCUMENT_LIMIT)
        blobs = f"{path}/{_BLOBS}"
        for entry in sorted(os.listdir(blobs)) if os.path.isdir(blobs) else []:
            if reference.is_digest(f"sha256:{entry}"):
                with open(f"{blobs}{entry}", "rb") as file:
                    _take(store, found, _BLOBS + entry, file)
        return _images(store, found)


def _read(store: Store, file: io.BufferedReader) -> _Contents:
    """One pass over the tar, in whatever order it is."""
    found = _Contents()
    limited = streams.HashingReader(streams.decompressed(file), "the archive", store.layers.limits.size)
    try:
        for tar, member in tarread.members(limited, _ENTRIES):
            _member(store, found, tar, member)
    except (tarfile.TarError, EOFError) as error:
        raise errors.Hostile(f"the archive is damaged: {error}") from None
    return found


def _member(store: Store, found: _Contents, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    """One file: a name is a key here and never a path."""
    name = posixpath.normpath(member.name)
    if member.issym() or member.islnk():
        base = posixpath.dirname(name) if member.issym() else ""
        found.links[name] = posixpath.normpath(posixpath.join(base, member.linkname))
        return
    source = tar.extractfile(member) if member.isreg() else None
    if source is None:
        return
    if name in _DOCUMENTS:
        if member.size > content.DOCUMENT_LIMIT:
            raise errors.Hostile(f"{name} in the archive is larger than {content.DOCUMENT_LIMIT} bytes")
        found.documents[name] = source.read()
    else:
        _take(store, found, name, source)


def _take(store: Store, found: _Contents, name: str, source: Readable) -> None:
    """A file as a blob; where its name is a digest it must be its own."""
    said = "sha256:" + name.removeprefix(_BLOBS) if name.startswith(_BLOBS) else ""
    digest = said if reference.is_digest(said) else ""
    found.blobs[name] = store.blobs.add_stream(source, name[:120], store.layers.limits.size, digest)


def _images(store: Store, found: _Contents) -> list[Image]:
    if "index.json" in found.documents:
        return _oci(store, found)
    if "manifest.json" in found.documents:
        return _docker(store, found)
    raise errors.Hostile("this is no archive of images", hint="a root file system is taken in by `mydocker import`")


def _oci(store: Store, found: _Contents) -> list[Image]:
    """An OCI layout (image-spec, image-layout.md)."""
    index = records.parse_object(found.documents["index.json"], "index.json")
    done: dict[str, Image] = {}
    for entry in _list(index.get("manifests"), "the manifests of index.json"):
        digest = _manifest_of(store, image.Descriptor(entry, "an entry of index.json"), 0)
        added = store.add(digest, _names(entry.get("annotations")))
        done[added.id] = added
    return list(done.values())


def _manifest_of(store: Store, entry: Descriptor, depth: int) -> str:
    """The digest of the manifest for this machine, through indexes where there are some."""
    if entry.media_type not in image.INDEXES:
        return entry.digest
    if depth >= _NESTED:
        raise errors.Hostile("the archive has too many indexes in each other")
    entries = _list(store.blobs.document(entry.digest).get("manifests"), f"the manifests of {entry.digest}")
    chosen = transfer.choose(
        [image.Descriptor(below, f"an entry of {entry.digest}") for below in entries], transfer.own_platform()
    )
    if chosen is None:
        raise errors.NotFound(f"the archive has no image for {transfer.own_platform()}")
    return _manifest_of(store, chosen, depth + 1)


def _names(annotations: object) -> list[Reference]:
    """What an entry of an index is called; a mere tag is no name."""
    found = annotations if isinstance(annotations, dict) else {}
    for key in (_NAME, _REF):
        text = found.get(key)
        if isinstance(text, str) and (key == _NAME or set(text) & set("/:@")):
            return [_tag(text)]
    return []


def _tag(text: object) -> Reference:
    try:
        return Reference.parse(text if isinstance(text, str) else "").tagged()
    except InvalidReference as error:
        raise errors.Hostile(f"the archive names an image {str(text)[:80]!r}: {error.message}") from None


def _docker(store: Store, found: _Contents) -> list[Image]:
    """manifest.json of docker's own archives."""
    done = []
    for entry in _list(records.parse(found.documents["manifest.json"], "manifest.json"), "manifest.json"):
        if not isinstance(entry, dict):
            raise errors.Hostile("an entry of manifest.json is no object")
        config, size = found.blob(entry.get("Config"))
        layers = [found.blob(name) for name in _list(entry.get("Layers"), "the layers in manifest.json")]
        manifest = {
            "schemaVersion": 2,
            "mediaType": image.MANIFESTS[0],
            "config": {"mediaType": image.OCI_CONFIG, "digest": config, "size": size},
            "layers": [_layer(store, digest, size) for digest, size in layers],
        }
        digest = store.blobs.add(json.dumps(manifest, sort_keys=True).encode())
        done.append(store.add(digest, [_tag(name) for name in entry.get("RepoTags") or []]))
    return done


def _layer(store: Store, digest: str, size: int) -> dict[str, Any]:
    """The descriptor of a layer, whose compression its first bytes say."""
    with store.blobs.open(digest) as file:
        suffix = streams.compression(file.peek(6))
    if suffix not in ("", "+gzip", "+zstd"):
        raise errors.Hostile(f"the layer {digest} is compressed as no layer may be")
    return {"mediaType": f"application/vnd.oci.image.layer.v1.tar{suffix}", "digest": digest, "size": size}


def _list(found: object, what: str) -> list[Any]:
    if not isinstance(found, list):
        raise errors.Hostile(f"{what} is no array")
    return found


# -- out --------------------------------------------------------------------------------------


def save(store: Store, chosen: Sequence[tuple[Image, Sequence[str]]], target: Writable) -> None:
    """Images, each with the names it is to have, as one archive.  Raises errors.StorageError, content.Missing."""
    with store.using(), tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
        index, manifest, written = [], [], set[str]()
        for found, names in chosen:
            digests = [found.digest, found.id, *(blob.digest for blob in found.blobs)]
            for digest in digests:
                if digest not in written:
                    written.add(digest)
                    _add_blob(store, tar, digest)
            index += _index_entries(store, found, names)
            layers = [_BLOBS + blob.digest.removeprefix("sha256:") for blob in found.blobs]
            config = _BLOBS + found.id.removeprefix("sha256:")
            manifest.append({"Config": config, "RepoTags": list(names) or None, "Layers": layers})
        _add_text(tar, "index.json", {"schemaVersion": 2, "mediaType": image.INDEXES[0], "manifests": index})
        _add_text(tar, "manifest.json", manifest)
        _add_text(tar, "oci-layout", {"imageLayoutVersion": "1.0.0"})


def _index_entries(store: Store, found: Image, names: Sequence[str]) -> list[dict[str, Any]]:
    document = store.blobs.document(found.digest)
    entry = {
        "mediaType": document.get("mediaType", image.MANIFESTS[0]),
        "digest": found.digest,
        "size": store.blobs.size(found.digest),
    }
    if not names:
        return [entry]
    parsed = [Reference.parse(name) for name in names]
    return [{**entry, "annotations": {_NAME: name.full(), _REF: name.tag}} for name in parsed]


def _add_blob(store: Store, tar: tarfile.TarFile, digest: str) -> None:
    member = tarfile.TarInfo(_BLOBS + digest.removeprefix("sha256:"))
    member.size, member.mode = store.blobs.size(digest), 0o644
    with store.blobs.open(digest) as file:
        tar.addfile(member, file)


def _add_text(tar: tarfile.TarFile, name: str, document: object) -> None:
    data = json.dumps(document).encode()
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    tar.addfile(member, io.BytesIO(data))


# -- a root file system -----------------------------------------------------------------------


def take_rootfs(
    store: Store, file: io.BufferedReader, name: str, config: Mapping[str, Any], message: str = ""
) -> Image:
    """`import`: a tar of a root file system, compressed or not, as an image of one layer.

    config: the image's `config` member.  Raises errors.Hostile, errors.StorageError, InvalidReference.
    """
    names = [Reference.parse(name)] if name else []
    with store.using():
        inside = streams.HashingReader(streams.decompressed(file), "the tar", store.layers.limits.size)
        with store.blobs.create() as blob:
            outside = streams.HashingWriter(blob.file)
            with streams.compressor(outside) as packed:
                while data := inside.read(streams.CHUNK):
                    packed.write(data)
            blob.finish(outside.digest)
        created = images.now()
        document = {
            "created": created,
            "os": "linux",
            "architecture": transfer.own_platform().split("/")[1],
            "config": dict(config),
            "rootfs": {"type": "layers", "diff_ids": [inside.digest]},
            "history": [{"created": created, "created_by": "mydocker import", "comment": message}],
        }
        layer = {"mediaType": image.OCI_LAYER, "digest": outside.digest, "size": outside.count}
        return store.add(store.write_image(document, [layer]), names)
