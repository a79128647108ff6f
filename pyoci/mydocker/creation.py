"""Making a container: its record, its root file system, its volumes; starting it is another matter (lifecycle.py)."""

from __future__ import annotations

import os
import secrets

from pyoci.mydocker import containers, errors, images, lifecycle, networks, volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.mydocker.images import Image
    from pyoci.mydocker.paths import Paths


def create(paths: Paths, record: dict[str, Any], name: str | None, image: Image) -> containers.Container:
    """A new container: its record, then its root file system and volumes.  Raises errors.Error."""
    known = networks.Networks(paths)
    for network in record["networks"]:
        known.find(network)
    container = containers.create(paths, record, name)
    try:
        with container.lock():
            if not record["config"]["Hostname"]:
                record["config"]["Hostname"] = os.uname().nodename if _hosts_name(record) else container.id[:12]
            _make_sources(paths, record)
            container.record |= record
            container.save()
            _fill_volumes(paths, record, images.Store(paths).mount(image, container.id))
            images.Store(paths).unmount(container.id)
    except BaseException:
        lifecycle.discard(container)
        raise
    return container


def _fill_volumes(paths: Paths, record: dict[str, Any], rootfs: str) -> None:
    """An empty volume begins with what the image has there, unless `nocopy` says otherwise."""
    for mount in record["mounts"]:
        if mount["type"] == "volume" and not mount.get("nocopy"):
            volumes.Volumes(paths).fill(mount["name"], rootfs, mount["destination"])


def _hosts_name(record: dict[str, Any]) -> bool:
    return "host" in (record["host"]["network"], record["host"]["uts"])


def _make_sources(paths: Paths, record: dict[str, Any]) -> None:
    """Volumes, and host directories that -v makes."""
    for mount in record["mounts"]:
        if mount["type"] == "volume":
            if not mount["name"]:
                mount["name"] = secrets.token_hex(32)
                record["anonymous"].append(mount["name"])
            mount["source"] = volumes.Volumes(paths).ensure(mount["name"])
        elif mount["type"] == "bind" and not os.path.exists(mount["source"]):
            if not mount["made"]:
                raise errors.UsageError(f"invalid mount config: bind source path does not exist: {mount['source']}")
            os.makedirs(mount["source"], exist_ok=True)
