"""pull and push: only what is missing on the other side, several layers at once, from where it broke off."""

from __future__ import annotations

import concurrent.futures
import http.client
import os

from pyoci.mydocker import content, errors, records
from pyoci.mydocker.image import INDEXES, MANIFESTS, Descriptor, Image, Manifest, diff_ids
from pyoci.mydocker.registry import Registry
from pyoci.mydocker.streams import CHUNK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO, Protocol

    from pyoci.mydocker.images import Store
    from pyoci.mydocker.reference import Reference

    class Progress(Protocol):
        """Who shows what is going on.  Called from several threads."""

        def update(self, digest: str, what: str, done: int = 0, total: int = 0) -> None:
            """what: as docker says it ("Downloading", "Pull complete" ...); done, total: bytes."""


_AT_ONCE = 3
_TRIES = 5  # in a row without a byte more
_MACHINES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm/v7",
    "armv6l": "arm/v6",
    "i686": "386",
    "i386": "386",
}
_BLOCK = 1 << 16


class Quiet:
    """No progress."""

    def update(self, digest: str, what: str, done: int = 0, total: int = 0) -> None:
        """Nothing."""


def own_platform() -> str:
    """ "linux/amd64", as images name it."""
    machine = os.uname().machine
    return f"linux/{_MACHINES.get(machine, machine)}"


def pull(store: Store, reference: Reference, platform: str, progress: Progress | None) -> Image:
    """Fetch what is missing and write the image down.

    Raises errors.RegistryError, errors.Hostile, errors.StorageError; what has arrived stays for the next try.
    """
    shown = progress or Quiet()
    registry = Registry(reference)
    data, kind = registry.manifest(reference.version)
    top = content.digest_of(data)
    if kind in INDEXES:
        data, kind = _choose(registry, data, platform or own_platform())
    if kind not in MANIFESTS:
        raise errors.Hostile(f"{reference} is no image but {kind[:80]!r}")
    manifest = Manifest(records.parse_object(data, f"the manifest of {reference}"), str(reference))
    with store.using():
        _fetch(store, registry, manifest.config, Quiet())
        wanted = diff_ids(store.blobs.document(manifest.config.digest))
        if len(wanted) != len(manifest.layers):
            raise errors.Hostile(f"{reference} has {len(manifest.layers)} layers, its config {len(wanted)}")
        _fetch_layers(store, registry, manifest.layers, wanted, shown)
        names = [reference.at(top)]
        if reference.tag and not reference.digest:
            names.append(reference)
        return store.add(store.blobs.add(data), names)


def _choose(registry: Registry, data: bytes, platform: str) -> tuple[bytes, str]:
    """The manifest for a platform out of an index."""
    document = records.parse_object(data, f"the index of {registry.path}")
    entries = document.get("manifests")
    if not isinstance(entries, list):
        raise errors.Hostile(f"the index of {registry.path} has no manifests")
    found = [Descriptor(entry, f"an entry in the index of {registry.path}") for entry in entries]
    chosen = choose(found, platform)
    if chosen is None:
        offered = ", ".join(sorted({_platform_of(entry) for entry in found}))[:300]
        raise errors.NotFound(f"{registry.path} is not there for {platform}, but for {offered}", hint="--platform")
    return registry.manifest(chosen.digest)


def choose(entries: Sequence[Descriptor], platform: str) -> Descriptor | None:
    """The entry of an index for a platform: the variant when one is asked for, else the first of the architecture."""
    for entry in entries:
        said = _platform_of(entry)
        if said == platform or (platform.count("/") == 1 and said.startswith(f"{platform}/")):
            return entry
    if platform == "linux/arm64/v8":  # the one variant that many leave out
        return choose(entries, "linux/arm64")
    return None


def _platform_of(entry: Descriptor) -> str:
    parts = [entry.platform.get(key) for key in ("os", "architecture", "variant")]
    return "/".join(part for part in parts if isinstance(part, str) and part)


def _fetch_layers(
    store: Store, registry: Registry, blobs: Sequence[Descriptor], wanted: Sequence[str], progress: Progress
) -> None:
    """Download side by side, unpack one after the other, base first."""
    missing = [blob for blob in blobs if not store.blobs.has(blob.digest)]
    for blob in blobs:
        progress.update(blob.digest, "Pulling fs layer" if blob in missing else "Already exists")
    pool = concurrent.futures.ThreadPoolExecutor(_AT_ONCE)
    try:
        # a layer that is there twice is fetched once
        unique = {blob.digest: blob for blob in missing}
        running = {digest: pool.submit(_fetch, store, registry, blob, progress) for digest, blob in unique.items()}
        for number, blob in enumerate(blobs):
            if blob.digest in running:
                running[blob.digest].result()
                progress.update(blob.digest, "Extracting")
            store.unpack(blob, wanted[: number + 1])
            if blob.digest in running:
                progress.update(blob.digest, "Pull complete")
    finally:
        # Who presses Ctrl-C does not wait for a registry that says nothing; cli.main ends the process.
        pool.shutdown(wait=False, cancel_futures=True)


def _fetch(store: Store, registry: Registry, blob: Descriptor, progress: Progress) -> None:
    """One blob, from where an earlier try ended."""
    if store.blobs.has(blob.digest):
        return
    with store.blobs.receive(blob.digest) as incoming:
        tries = 0
        while not incoming.done:
            before = incoming.size
            try:
                _download(registry, blob, incoming, progress)
                progress.update(blob.digest, "Verifying Checksum")
                incoming.finish()
            except (http.client.HTTPException, OSError) as error:  # broke off: once more from here
                tries = 0 if incoming.size > before else tries + 1
                if tries >= _TRIES:
                    raise errors.RegistryError(f"{registry.host} breaks off in {blob.digest}: {error}") from None
    progress.update(blob.digest, "Download complete", blob.size, blob.size)


def _download(registry: Registry, blob: Descriptor, incoming: content.Incoming, progress: Progress) -> None:
    """What is missing of a blob, and never more than its manifest says."""
    if incoming.size > blob.size:
        incoming.restart()
    if incoming.size == blob.size and blob.size:
        return
    answer, start = registry.blob(blob.digest, incoming.size)
    with answer:
        if start != incoming.size:
            incoming.restart()
        while data := answer.read(_BLOCK):
            incoming.write(data)
            if incoming.size > blob.size:
                incoming.restart()
                raise errors.Hostile(f"{registry.host} sends more for {blob.digest} than its {blob.size} bytes")
            progress.update(blob.digest, "Downloading", incoming.size, blob.size)
    if incoming.size < blob.size:
        raise http.client.IncompleteRead(b"", blob.size - incoming.size)


def push(store: Store, image: Image, reference: Reference, progress: Progress | None) -> str:
    """Send an image; gives the digest of its manifest.  Raises errors.RegistryError."""
    shown = progress or Quiet()
    registry = Registry(reference, push=True)
    with store.using():
        text = store.blobs.text(image.digest)
        manifest = Manifest(records.parse_object(text, image.digest), image.digest)
        for blob in dict.fromkeys([*manifest.layers, manifest.config]):
            _send(store, registry, blob, shown if blob is not manifest.config else Quiet())
        document = records.parse_object(text, image.digest)
        registry.put_manifest(reference.tag or image.digest, text, document.get("mediaType", MANIFESTS[0]))
        with records.Lock(store.paths.records_lock):
            store.name(reference.at(image.digest), image.id)
    return image.digest


def _send(store: Store, registry: Registry, blob: Descriptor, progress: Progress) -> None:
    if registry.has_blob(blob.digest):
        progress.update(blob.digest, "Layer already exists")
        return
    size = store.blobs.size(blob.digest)
    with store.blobs.open(blob.digest) as file:
        registry.upload(blob.digest, size, _Watched(file, blob.digest, size, progress))  # type: ignore[arg-type]
    progress.update(blob.digest, "Pushed", size, size)


class _Watched:
    """A file that tells how far it has been read."""

    def __init__(self, file: IO[bytes], digest: str, size: int, progress: Progress) -> None:
        self.file = file
        self.digest = digest
        self.size = size
        self.progress = progress
        self.done = 0

    def read(self, size: int = -1) -> bytes:
        """As the file."""
        data = self.file.read(CHUNK if size < 0 else size)
        self.done += len(data)
        self.progress.update(self.digest, "Pushing", self.done, self.size)
        return data

    def seek(self, position: int) -> None:
        """As the file: the upload begins again."""
        self.done = self.file.seek(position)
