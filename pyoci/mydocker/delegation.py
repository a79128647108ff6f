"""Limits of an ordinary user's containers: by the user's systemd, as far as it has cgroup controllers of its own."""

from __future__ import annotations

import os

from pyoci.mydocker import rootless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CGROUPS = "/sys/fs/cgroup"
# which controller each key of linux.resources needs; cpu's own keys that need another one
_NEEDS = {"memory": "memory", "cpu": "cpu", "pids": "pids"}
_CPUSET = ("cpus", "mems")


def controllers() -> tuple[frozenset[str], str]:
    """Those that the caller's systemd hands down, and why there are no more: words for a warning."""
    uid = os.environ[rootless.UID_VARIABLE]
    if not os.path.exists(f"{_CGROUPS}/cgroup.controllers"):
        return frozenset(), "with cgroup v1 an ordinary user has none"
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"
    try:
        with open(f"{_CGROUPS}/user.slice/user-{uid}.slice/user@{uid}.service/cgroup.controllers", "rb") as file:
            found = frozenset(file.read().decode("ascii").split())
    except OSError:
        found = frozenset()
    if not found or not os.path.exists(f"{runtime}/bus"):
        return frozenset(), "that takes a systemd session of the user (a login, or loginctl enable-linger)"
    return found, "systemd gives users no more (systemctl edit user@.service: [Service] Delegate=yes)"


def choose(limits: dict[str, Any], there: frozenset[str]) -> tuple[dict[str, Any], list[str]]:
    """What of linux.resources can be applied with these controllers, and the names of those that are missing."""
    made: dict[str, Any] = {}
    missing = set()
    for key, wanted in limits.items():
        kept = {}
        for name, value in wanted.items():
            needed = "cpuset" if key == "cpu" and name in _CPUSET else _NEEDS[key]
            if needed in there:
                kept[name] = value
            else:
                missing.add(needed)
        if kept:
            made[key] = kept
    return made, sorted(missing)


def cgroup_path(id: str) -> str:
    """cgroupsPath of a scope of the user's systemd."""
    return f"user.slice:mydocker:{id}"


def by_systemd(config: dict[str, Any]) -> bool:
    """Whether a config.json asks for that."""
    return ":" in config["linux"].get("cgroupsPath", "")
