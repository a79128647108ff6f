"""Who uses an image or a volume: the containers, asked for by those who remove."""

from __future__ import annotations

from pyoci.mydocker import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.mydocker.paths import Paths


def images(paths: Paths) -> dict[str, list[str]]:
    """Image id -> names of containers."""
    found: dict[str, list[str]] = {}
    for container in containers.list(paths):
        found.setdefault(container.image_id, []).append(container.name)
    return found


def volumes(paths: Paths) -> dict[str, list[str]]:
    """Volume -> names of containers."""
    found: dict[str, list[str]] = {}
    for container in containers.list(paths):
        for volume in container.volumes:
            found.setdefault(volume, []).append(container.name)
    return found


def unknown(paths: Paths) -> list[str]:
    """Ids of containers whose records cannot be read: they may use anything."""
    return [container.id for container in containers.list(paths) if container.problem]
