"""mydocker info."""

from __future__ import annotations

import os
import shutil

import pyoci
from pyoci.mydocker import cli, containers, images, options, rootless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PROGRAMS = ("conmon", "nft", "iptables", "slirp4netns", "pasta", "newuidmap")


@options.command("info")
@options.option("-f", "--format", "template", default="", help="json, or text with {{.Images}} and so on")
def command(template: str) -> None:
    """Show what this installation is and what it can do."""
    found = _facts()
    if template:
        from pyoci.mydocker import show

        show.rows([found], {}, template)
        return
    for key, value in found.items():
        print(f"{key}: {value}")


def _facts() -> dict[str, Any]:
    paths = cli.paths()
    states = [container.status for container in containers.list(paths)]
    return {
        "Containers": len(states),
        "ContainersRunning": states.count("running"),
        "ContainersPaused": states.count("paused"),
        "ContainersStopped": len(states) - states.count("running") - states.count("paused"),
        "Images": len(images.Store(paths).images()),
        "ServerVersion": pyoci.__version__,
        "Driver": "overlay",
        "CgroupVersion": 2 if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else 1,
        "Runtime": "pyoci",
        "KernelVersion": os.uname().release,
        "Architecture": os.uname().machine,
        "NCPU": os.cpu_count(),
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "DockerRootDir": paths.root,
        "RunDir": paths.run,
        "Rootless": rootless.active(),
        "Missing": " ".join(name for name in _PROGRAMS if not shutil.which(name)) or "nothing",
    }
