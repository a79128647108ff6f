"""The store of images: the one object the commands and the containers talk to (docs/MYDOCKER.md)."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re

from pyoci.mydocker import busybox, content, errors, layers, overlay, records, streams, tarball, tree
from pyoci.mydocker.image import MANIFESTS, OCI_CONFIG, OCI_LAYER, Image, Manifest, diff_ids
from pyoci.mydocker.reference import InvalidReference, Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pyoci.mydocker.idmap import Ids
    from pyoci.mydocker.image import Descriptor
    from pyoci.mydocker.paths import Paths
    from pyoci.mydocker.streams import Writable
    from pyoci.mydocker.tarread import Limits
    from pyoci.mydocker.transfer import Progress

__all__ = ["Image", "Store", "now"]

_ID_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")


class Store:
    """Images, their layers, and the root file systems of containers.

    problems: list of str, the records that could not be read; grows with each call
    warnings: list of str, what of a layer could not be kept
    """

    def __init__(self, paths: Paths, limits: Limits | None = None) -> None:
        self.paths = paths
        self.blobs = content.Blobs(paths)
        self.layers = layers.Layers(paths, limits)
        self.overlays = overlay.Overlays(paths, self.layers)
        self.problems: list[str] = []
        self.warnings = self.layers.warnings

    def using(self, *, wait: bool = True) -> records.Lock:
        """Held while content is added or put to use: nobody sweeps meanwhile."""
        return records.Lock(self.paths.content_lock, shared=True, wait=wait)

    # -- looking ------------------------------------------------------------------------------

    def images(self) -> list[Image]:
        """Every image that can be read, the newest first."""
        names = self._names()
        found = []
        for hexes, record in records.scan(self.paths.images, self.problems):
            try:
                found.append(self._image(record, names.get(f"sha256:{hexes}", [])))
            except (errors.Error, OSError) as error:
                self.problems.append(f"the image {hexes[:12]} cannot be read: {error}")
        return sorted(found, key=lambda image: image.created, reverse=True)

    def _names(self) -> dict[str, list[Reference]]:
        """Image id -> its references."""
        found: dict[str, list[Reference]] = {}
        for name, record in records.scan(self.paths.refs, self.problems):
            try:
                found.setdefault(str(record["image"]), []).append(Reference.parse(str(record["ref"])))
            except (KeyError, InvalidReference) as error:
                self.problems.append(f"the reference {name[:12]} cannot be read: {error}")
        return found

    def _image(self, record: Mapping[str, Any], names: Sequence[Reference]) -> Image:
        digest = str(record.get("manifest"))
        manifest = Manifest(self.blobs.document(digest), digest)
        image = Image(manifest, digest, self.blobs.document(manifest.config.digest))
        image.tags = tuple(sorted(str(name) for name in names if name.tag))
        image.digests = tuple(sorted(str(name) for name in names if not name.tag))
        image.size = sum(self.layers.size(diff_id) for diff_id in image.layers)
        return image

    def resolve(self, text: str) -> Image:
        """The image of a tag, a digest, an id or the beginning of one.  Raises errors.NotFound, errors.Conflict."""
        identity = self._find(text)
        try:
            record = records.read(self._record(identity))
        except FileNotFoundError:
            raise errors.NotFound(f"no such image: {text}") from None
        return self._image(record, self._names().get(identity, []))

    def _find(self, text: str) -> str:
        """The id that a text means; a name goes before an id."""
        name = self._named(text)
        if name:
            return str(records.read(self._ref(name)).get("image"))
        found = _ID_PREFIX.fullmatch(text)
        if found:
            matches = [entry for entry in os.listdir(self.paths.images) if entry.startswith(found[1])]
            if len(matches) > 1:
                raise errors.Conflict(f"{text} is the beginning of {len(matches)} ids", hint="write more of it")
            if matches:
                return f"sha256:{matches[0].removesuffix('.json')}"
        raise errors.NotFound(f"no such image: {text}", hint=f"mydocker pull {text}")

    def _named(self, text: str) -> Reference | None:
        """The reference that a text is, if there is an image of that name."""
        try:
            names = [Reference.parse(text)]
        except InvalidReference:
            return None
        if busybox.is_meant(text):
            names.append(Reference.parse(busybox.NAME))
        return next((name for name in names if os.path.exists(self._ref(name))), None)

    def _record(self, identity: str) -> str:
        return f"{self.paths.images}/{identity.removeprefix('sha256:')}.json"

    def _ref(self, reference: Reference) -> str:
        if reference.digest:
            reference = reference.at(reference.digest)
        return f"{self.paths.refs}/{hashlib.sha256(reference.full().encode()).hexdigest()}.json"

    # -- coming in ----------------------------------------------------------------------------

    def ensure(
        self, text: str, policy: str = "missing", *, platform: str = "", progress: Progress | None = None
    ) -> Image:
        """What `run` needs: the image, pulled if it must be or if the one here is for another platform.

        policy: always, missing or never (run --pull).
        The name `busybox` is made of the host's busybox when no registry has been asked for it.
        """
        if policy != "always":
            try:
                image = self.resolve(text)
                if f"{image.platform}/".startswith(f"{platform}/") or not platform:
                    return image
                raise errors.NotFound(f"the image {text} is for {image.platform} and not for {platform}")
            except errors.NotFound:
                if policy == "never":
                    raise
        if policy != "always" and busybox.is_meant(text) and not platform:
            return busybox.make(self)
        return self.pull(text, platform=platform, progress=progress)

    def pull(self, text: str, *, platform: str = "", progress: Progress | None = None) -> Image:
        """Fetch an image from its registry; what is here is not fetched again.  platform: "linux/arm64/v8" or ours."""
        from pyoci.mydocker import transfer

        return transfer.pull(self, Reference.parse(text), platform, progress)

    def add(self, digest: str, names: Sequence[Reference]) -> Image:
        """An image whose blobs are here: check it, unpack its layers, write it down.  The caller holds using().

        digest: of the manifest.  Raises errors.Hostile, errors.StorageError, content.Missing.
        """
        manifest = Manifest(self.blobs.document(digest), digest)
        image = Image(manifest, digest, self.blobs.document(manifest.config.digest))
        for number, blob in enumerate(image.blobs):
            self.unpack(blob, image.layers[: number + 1])
        with records.Lock(self.paths.records_lock):
            records.write(self._record(image.id), {"id": image.id, "manifest": digest, "added": now()})
            for name in names:
                self.name(name, image.id)
        return self.resolve(image.id)

    def unpack(self, blob: Descriptor, diff_ids: Sequence[str]) -> None:
        """One layer, unless it is there.  diff_ids: its own after those below it, base first."""
        *below, own = diff_ids
        if not self.layers.fits(own, below):
            with self.blobs.open(blob.digest) as file:
                self.layers.unpack(file, own, below)

    def name(self, name: Reference, identity: str) -> None:
        """Let a reference mean an image.  The caller holds the lock of the records."""
        if name.digest:
            name = name.at(name.digest)
        records.write(self._ref(name), {"ref": name.full(), "image": identity})

    def tag(self, text: str, name: str) -> None:
        """One more name for an image.  Raises errors.NotFound, InvalidReference."""
        target = Reference.parse(name)
        if target.digest:
            raise InvalidReference(f"{name!r} has a digest, which cannot be given")
        image = self.resolve(text)
        with records.Lock(self.paths.records_lock):
            self.name(target, image.id)

    # -- going away ---------------------------------------------------------------------------

    def remove(self, text: str, *, force: bool = False, in_use: Mapping[str, Sequence[str]] | None = None) -> list[str]:
        """Take a name away, and with the last one the image; gives what was done, as docker prints it.

        in_use: image id -> names of containers.  Raises errors.NotFound, errors.Conflict.
        """
        with records.Lock(self.paths.records_lock):
            image = self.resolve(text)
            name = self._named(text)
            users = (in_use or {}).get(image.id, ())
            if not name and len({tag.rpartition(":")[0] for tag in image.tags}) > 1 and not force:
                raise errors.Conflict(f"the image {text} has several names: {', '.join(image.tags)}", hint="--force")
            gone = [str(name)] if name else list(image.tags)
            last = not set(image.tags) - set(gone)
            if users and last and not force:
                raise errors.Conflict(
                    f"the image {text} is used by the container {users[0]}", hint="remove it, or --force"
                )
            done = [f"Untagged: {name}" for name in gone]
            if last:
                gone += image.digests
                done += [f"Untagged: {name}" for name in image.digests if name not in done]
            for text_gone in gone:
                records.remove(self._ref(Reference.parse(text_gone)))
            if last and not users:
                records.remove(self._record(image.id))
                done.append(f"Deleted: {image.id}")
        self.sweep(wait=False)
        return list(dict.fromkeys(done))

    def sweep(self, *, wait: bool = True) -> int:
        """Remove blobs and layers that no image and no container needs; gives the bytes.

        wait: for commands that are adding some; else they are left to the next sweep.  Nothing is removed
        while there is a record that cannot be read: it may need anything.
        """
        try:
            with records.Lock(self.paths.content_lock, wait=wait):
                return self._sweep()
        except records.Lock.Busy:
            return 0

    def _sweep(self) -> int:
        before = len(self.problems)
        keep, keep_layers = set[str](), set[str]()
        for image in self.images():
            keep |= {image.digest, image.id, *(blob.digest for blob in image.blobs)}
            keep_layers |= set(image.layers)
        for container in self.overlays.containers():
            try:
                record = self.overlays.record(container)
            except errors.NotFound:
                continue  # being made, or being removed
            except records.Broken as error:
                self.problems.append(str(error))
                continue
            keep_layers |= set(record["layers"])
            keep |= self._blobs_of(str(record.get("manifest")))
        if len(self.problems) > before:
            return 0
        freed = self.layers.sweep(keep_layers)
        for digest in set(self.blobs.digests()) - keep:
            freed += self.blobs.size(digest)
            records.remove(self.blobs.path(digest))
        return freed

    def _blobs_of(self, digest: str) -> set[str]:
        """What a container's image is made of, though the image has been removed: commit needs it."""
        try:
            manifest = Manifest(self.blobs.document(digest), digest)
        except (errors.Error, OSError):
            return set()
        return {digest, manifest.config.digest, *(layer.digest for layer in manifest.layers)}

    # -- containers ---------------------------------------------------------------------------

    def mount(self, image: Image, container_id: str) -> str:
        """The root file system of a container, made and mounted; gives its path."""
        with self.using():
            return self.overlays.create(container_id, image)

    def mount_again(self, container_id: str, ids: Ids | None = None) -> str:
        """The same from its record: after a reboot, or when the image's name is gone.  ids: of --userns."""
        with self.using():
            return self.overlays.again(container_id, ids)

    def unmount(self, container_id: str) -> None:
        """No error when it is not mounted."""
        self.overlays.unmount(container_id)

    def remove_rootfs(self, container_id: str) -> None:
        """Unmount, and remove what the container changed; no error when nothing is there."""
        self.overlays.remove(container_id)

    def rootfs_size(self, container_id: str) -> int:
        """Bytes that the container has written."""
        return tree.size(self.overlays.upper(container_id))

    def diff(self, container_id: str) -> list[tuple[str, str]]:
        """What the container changed: ("A" | "C" | "D", "/path")."""
        from pyoci.mydocker import changes

        return changes.of(self.overlays.upper(container_id), self.overlays.lower(container_id))

    def export(self, container_id: str, target: Writable, ids: Ids | None = None) -> None:
        """The container's file system as it sees it, as a tar.  It is mounted for that when it is not.

        ids: of --userns.
        """
        mounted = self.overlays.mounted(container_id)
        path = self.mount_again(container_id)
        try:
            mapped = self.overlays.mapped(container_id)
            tarball.Packer(target, layer=False, ids=ids if mapped else None).pack(path)
        finally:
            if not mounted:
                self.unmount(container_id)

    def commit(
        self,
        container_id: str,
        config: Mapping[str, Any],
        *,
        ref: str = "",
        author: str = "",
        message: str = "",
    ) -> Image:
        """The container's image with what it changed on top.

        config: the new image's `config` (Env, Cmd ...), whole
        """
        names = [Reference.parse(ref)] if ref else []
        with self.using():
            digest = str(self.overlays.record(container_id).get("manifest"))
            base = Manifest(self.blobs.document(digest), digest)
            document = self.blobs.document(base.config.digest)
            layer, diff_id = self._pack(self.overlays.upper(container_id))
            step = {"created": now(), "created_by": "mydocker commit", "comment": message, "author": author}
            document.update(config=dict(config), created=step["created"])
            document["author"] = author or document.get("author", "")
            document["history"] = [
                *Image(base, digest, document).history,
                {key: text for key, text in step.items() if text},
            ]
            document["rootfs"] = {"type": "layers", "diff_ids": [*diff_ids(document), diff_id]}
            below = [_descriptor(old.media_type, old.digest, old.size) for old in base.layers]
            return self.add(self.write_image(document, [*below, layer]), names)

    def _pack(self, upper: str) -> tuple[dict[str, Any], str]:
        """A directory as a layer's blob; gives its descriptor and its diff id."""
        with self.blobs.create() as blob:
            outside = streams.HashingWriter(blob.file)
            with streams.compressor(outside) as packed:
                inside = streams.HashingWriter(packed)
                packer = tarball.Packer(inside, layer=True)
                packer.pack(upper)
            self.warnings += packer.warnings
            blob.finish(outside.digest)
        return _descriptor(OCI_LAYER, outside.digest, outside.count), inside.digest

    def write_image(self, config: Mapping[str, Any], blobs: Sequence[Mapping[str, Any]]) -> str:
        """Config and manifest of a new image as blobs; gives the manifest's digest.  blobs: layers' descriptors."""
        text = json.dumps(config, sort_keys=True).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFESTS[0],
            "config": _descriptor(OCI_CONFIG, self.blobs.add(text), len(text)),
            "layers": list(blobs),
        }
        return self.blobs.add(json.dumps(manifest, sort_keys=True).encode())


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}


def now() -> str:
    """RFC 3339, UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
