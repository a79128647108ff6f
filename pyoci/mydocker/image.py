"""One image: what its manifest and its config say, checked.  Both come from strangers."""

from __future__ import annotations

from pyoci.mydocker import errors, layers, reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_LAYERS = (
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
)
_BLOB_LIMIT = 64 << 30


class Descriptor:
    """What a manifest says of a blob: media_type, digest (checked to be one), size in bytes."""

    __slots__ = ("digest", "media_type", "platform", "size")

    def __init__(self, found: object, what: str) -> None:
        """Raises errors.Hostile."""
        document = _object(found, what)
        self.digest = _text(document.get("digest"), f"{what}'s digest")
        if not reference.is_digest(self.digest):
            raise errors.Hostile(f"{what} has the digest {self.digest[:80]!r}", hint="only sha256 is supported")
        size = document.get("size")
        if type(size) is not int or not 0 <= size <= _BLOB_LIMIT:
            raise errors.Hostile(f"{what} has the size {str(size)[:40]}")
        self.size: int = size
        self.media_type = _text(document.get("mediaType", ""), f"{what}'s media type")
        self.platform = _object(document.get("platform") or {}, f"{what}'s platform")


class Manifest:
    """An image manifest: config and layers, base first.

    annotations: dict of str to str
    """

    def __init__(self, document: Mapping[str, Any], what: str) -> None:
        """Raises errors.Hostile for what is none."""
        if document.get("schemaVersion") != 2:
            raise errors.Hostile(
                f"{what} is no image manifest of schema version 2", hint="images that old must be pushed anew"
            )
        self.config = Descriptor(document.get("config"), f"the config in {what}")
        entries = _list(document.get("layers"), f"the layers in {what}")
        if len(entries) > layers.MOST:
            raise errors.Hostile(f"{what} has {len(entries)} layers; {layers.MOST} can be mounted")
        self.layers = [Descriptor(entry, f"layer {number} in {what}") for number, entry in enumerate(entries)]
        for layer in self.layers:
            if layer.media_type not in _LAYERS:
                raise errors.Hostile(f"{what} has a layer of the type {layer.media_type[:80]!r}")


class Process:
    """What an image says about running it; None never stands for empty.

    env:         list of str, "NAME=value"; an entry without a value is left out, not looked up on the host
    entrypoint:  list of str
    cmd:         list of str
    cwd:         str, "" for none given
    user:        str, "" for none given
    volumes:     list of str, paths
    ports:       list of str, "80/tcp"
    labels:      dict of str to str
    stop_signal: str, "" for none given
    """

    def __init__(self, config: object) -> None:
        """config: the `config` member of an image's config.  Raises errors.Hostile for wrong types."""
        found = _object({} if config is None else config, "the image's config")
        self.env = [entry for entry in _texts(found, "Env") if "=" in entry[1:]]
        self.entrypoint = _texts(found, "Entrypoint")
        self.cmd = _texts(found, "Cmd")
        self.cwd = _text(found.get("WorkingDir") or "", "WorkingDir")
        self.user = _text(found.get("User") or "", "User")
        self.volumes = sorted(_object(found.get("Volumes") or {}, "Volumes"))
        self.ports = sorted(_object(found.get("ExposedPorts") or {}, "ExposedPorts"))
        labels = _object(found.get("Labels") or {}, "Labels")
        self.labels = {key: _text(value, f"the label {key[:80]!r}") for key, value in labels.items()}
        self.stop_signal = _text(found.get("StopSignal") or "", "StopSignal")


class Image:
    """An image that is there, whole.

    id:      str, digest of the config
    digest:  str, digest of the manifest
    config:  dict, the image-spec's config
    process: Process
    layers:  tuple of str, diff ids, base first
    blobs:   tuple of Descriptor, the layers as they came
    tags:    tuple of str, as a person writes them
    digests: tuple of str, "repository@sha256:..."
    created: str, RFC 3339, "" when it does not say
    size:    int, bytes of its layers, unpacked
    """

    def __init__(self, manifest: Manifest, digest: str, config: Mapping[str, Any]) -> None:
        """Raises errors.Hostile when they do not fit together."""
        self.id = manifest.config.digest
        self.digest = digest
        self.config = dict(config)
        self.process = Process(config.get("config"))
        self.layers = diff_ids(config)
        self.blobs = tuple(manifest.layers)
        if len(self.layers) != len(self.blobs):
            raise errors.Hostile(f"the manifest has {len(self.blobs)} layers, the config {len(self.layers)}")
        self.tags: tuple[str, ...] = ()
        self.digests: tuple[str, ...] = ()
        self.created = _text(config.get("created") or "", "created")
        self.architecture = _text(config.get("architecture") or "", "architecture")
        self.os = _text(config.get("os") or "", "os")
        self.author = _text(config.get("author") or "", "author")
        self.size = 0

    @property
    def platform(self) -> str:
        """ "linux/arm64/v8": os, architecture and variant, as far as the config says."""
        variant = _text(self.config.get("variant") or "", "variant")
        return "/".join(part for part in (self.os, self.architecture, variant) if part)

    @property
    def history(self) -> list[dict[str, Any]]:
        """The steps, oldest first; as many with a layer as there are layers, made up when they do not match."""
        steps = _list(self.config.get("history") or [], "history")
        found = [_object(step, "a step of the history") for step in steps]
        if sum(not step.get("empty_layer") for step in found) == len(self.layers):
            return found
        return [{"created": self.created} for _ in self.layers]


def diff_ids(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The digests of the layers' tars.  Raises errors.Hostile."""
    rootfs = _object(config.get("rootfs"), "the image's rootfs")
    if rootfs.get("type") != "layers":
        raise errors.Hostile("the image's rootfs is not of the type layers")
    found = tuple(_text(entry, "a diff id") for entry in _list(rootfs.get("diff_ids"), "diff_ids"))
    for entry in found:
        if not reference.is_digest(entry):
            raise errors.Hostile(f"{entry[:80]!r} is no diff id")
    return found


def _object(found: object, what: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise errors.Hostile(f"{what} is not an object")
    return found


def _list(found: object, what: str) -> list[Any]:
    if not isinstance(found, list):
        raise errors.Hostile(f"{what} is not an array")
    return found


def _text(found: object, what: str) -> str:
    """A NUL would end a string early wherever it goes next."""
    if not isinstance(found, str) or "\0" in found:
        raise errors.Hostile(f"{what} is not a string without NUL")
    return found


def _texts(found: Mapping[str, Any], key: str) -> list[str]:
    return [_text(entry, f"an entry of {key}") for entry in _list(found.get(key) or [], key)]
