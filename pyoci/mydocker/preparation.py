"""What a container needs before the runtime makes it: config.json, and the files that it names."""

from __future__ import annotations

import os
import sys

from pyoci.mydocker import config, containers, delegation, errors, hostfiles, idmap, inroot, rootless, slirp, users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.mydocker.containers import Container

_INITS = ("/usr/bin/tini-static", "/usr/bin/catatonit", "/usr/libexec/podman/catatonit", "/usr/bin/docker-init")
_SWAP_FILES = ("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", "/sys/fs/cgroup/cgroup.controllers")


def make_config(container: Container, rootfs: str) -> dict[str, Any]:
    """config.json of a container whose root is mounted at rootfs, and the files it names.  Raises errors.Error."""
    record, host = container.record, container.host
    root = inroot.open_directory(rootfs)
    try:
        user = users.resolve(root, container.config["User"], tuple(host["group_add"]))
    finally:
        os.close(root)
    _check_ids(host, user)
    place = config.Place(rootfs, container.directory, user)
    place.joins = _joins(container)
    place.shm = _shm(container)
    place.swap = bool(host["memory_swap"]) or _limits_swap()
    place.rootless = rootless.active()
    if place.rootless:
        place.controllers, why = delegation.controllers()
        _, missing = delegation.choose(config.limits(host, place.swap), place.controllers)
        if missing:
            sys.stderr.write(f"mydocker: warning: limits of {', '.join(missing)} are not applied: {why}\n")
    if host["init"]:
        place.init = _init_program()
    own_network = host["network"] != "host" and "network" not in place.joins
    _write_files(container, own_network)
    if "network" in place.joins:  # the names of that network are that container's
        place.directory = containers.find(container.paths, host["network"].partition(":")[2]).directory
    return config.make(record, place)


def _check_ids(host: dict[str, Any], user: users.User) -> None:
    """A container of --userns has so many ids and no more."""
    ids = idmap.of(host)
    highest = max(user.uid, user.gid, *user.groups)
    if ids and highest >= ids.size:
        raise errors.UsageError(
            f"the user or group {highest} is not among the {ids.size} ids of the container",
            hint=f"--userns=auto:size={highest + 1}",
        )


def _write_files(container: Container, own_network: bool) -> None:
    directory, host = container.directory, container.host
    name = container.config["Hostname"]
    hostfiles.write(f"{directory}/hostname", f"{name}\n")
    own_name = [("127.0.1.1", [name])] if own_network else []
    hostfiles.write(f"{directory}/hosts", hostfiles.hosts(host, own_name, as_host=host["network"] == "host"))
    if rootless.active() and own_network and not host["dns"]:
        host = {**host, "dns": [slirp.DNS]}
    hostfiles.write(f"{directory}/resolv.conf", hostfiles.resolv(host, own_network))
    if ids := idmap.of(host):  # they are its root's
        for file in ("hostname", "hosts", "resolv.conf"):
            os.chown(f"{directory}/{file}", ids.start, ids.start)


def _joins(container: Container) -> dict[str, str]:
    """--network, --pid and --ipc container:NAME."""
    found = {}
    for option, kind, file in (("network", "network", "net"), ("pid", "pid", "pid"), ("ipc", "ipc", "ipc")):
        mode, _, name = container.host[option].partition(":")
        if mode == "container" and name:
            other = containers.find(container.paths, name)
            pid = other.state().pid
            if not pid:
                raise errors.Conflict(f"cannot join {option} of a non running container: {other.id}", code=125)
            if kind == "ipc" and other.host["ipc"] != "shareable":
                raise errors.Conflict(
                    f"can not join IPC of container {other.id}: non-shareable IPC",
                    hint="run that container with --ipc shareable",
                    code=125,
                )
            found[kind] = f"/proc/{pid}/ns/{file}"
    return found


def _shm(container: Container) -> str:
    """The directory that containers with one ipc namespace share as /dev/shm; "" for one of its own."""
    mode, _, name = container.host["ipc"].partition(":")
    owner = containers.find(container.paths, name) if mode == "container" else container
    return f"{owner.run}/shm" if mode in ("container", "shareable") else ""


def _limits_swap() -> bool:
    return any(map(os.path.exists, _SWAP_FILES))


def _init_program() -> str:
    for path in _INITS:
        if os.access(path, os.X_OK):
            return path
    raise errors.Error("--init needs a small init program, and there is none", hint="install tini", code=125)
