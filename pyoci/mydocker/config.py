"""container.json -> config.json: docker's options and defaults in the words of the runtime-spec.  Pure but for
the look at the machine that `Place` was made from.
"""

from __future__ import annotations

import os
import stat

from pyoci.mydocker import defaults, delegation, errors, idmap, mounts, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.mydocker.users import User

_PERIOD = 100_000  # microseconds, of --cpus
_NAMESPACES = {"pid": "pid", "ipc": "ipc", "uts": "uts"}  # option -> type in config.json


class Place:
    """What is known when a container starts.

    rootfs: the mounted root; directory: of hosts, resolv.conf, hostname; user: whom it runs as
    joins: {"network" | "pid" | "ipc" | "uts": path of a namespace to join}
    shm: directory that is its /dev/shm, "" for a new one
    swap: whether the kernel limits swap; init: path of an init program of the host, for --init
    rootless: whether the caller is root of a user namespace only
    controllers: those that such a caller has
    """

    def __init__(self, rootfs: str, directory: str, user: User) -> None:
        self.rootfs = rootfs
        self.directory = directory
        self.user = user
        self.joins: dict[str, str] = {}
        self.swap = True
        self.init = ""
        self.shm = ""
        self.rootless = False
        self.controllers: frozenset[str] = frozenset()


def make(record: dict[str, Any], place: Place) -> dict[str, Any]:
    """config.json of a container.  Raises errors.UsageError."""
    host = record["host"]
    capabilities = capability_list(host)
    made: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": _process(record, place, capabilities),
        "root": {"path": place.rootfs, "readonly": host["read_only"]},
        "mounts": _mounts(record, place),
        "linux": _linux(record, place, capabilities),
        "annotations": {"org.opencontainers.image.stopSignal": record["config"].get("StopSignal") or "SIGTERM"},
    }
    if host["uts"] != "host" and "uts" not in place.joins:
        made["hostname"] = record["config"]["Hostname"]
    return made


# -- process ----------------------------------------------------------------------------------


def capability_list(host: dict[str, Any]) -> list[str]:
    """Defaults, --cap-add, --cap-drop, --privileged.  Raises errors.UsageError for an unknown name."""
    if host["privileged"]:
        return list(defaults.ALL_CAPABILITIES)
    added, dropped = (_capabilities(host[key]) for key in ("cap_add", "cap_drop"))
    base = defaults.ALL_CAPABILITIES if "ALL" in added else () if "ALL" in dropped else defaults.CAPABILITIES
    left = [name for name in base if name not in dropped]
    return left + [name for name in sorted(added) if name != "ALL" and name not in left]


def _capabilities(names: list[str]) -> set[str]:
    found = set()
    for name in names:
        upper = name.upper()
        if upper != "ALL":
            upper = f"CAP_{upper.removeprefix('CAP_')}"
            if upper not in defaults.ALL_CAPABILITIES:
                raise errors.UsageError(f"invalid capability {name!r}")
        found.add(upper)
    return found


def _process(record: dict[str, Any], place: Place, capabilities: list[str]) -> dict[str, Any]:
    host, config = record["host"], record["config"]
    args = [*(config["Entrypoint"] or ()), *(config["Cmd"] or ())]
    made: dict[str, Any] = {
        "terminal": config["Tty"],
        "user": user_object(place.user),
        "args": ["/sbin/docker-init", "--", *args] if host["init"] else args,
        "env": environment(config, place.user),
        "cwd": config["WorkingDir"] or "/",
        "capabilities": capability_sets(capabilities, place.user.uid),
        "noNewPrivileges": host["no_new_privileges"],
        "oomScoreAdj": host["oom_score_adj"],
    }
    if place.rootless:
        del made["oomScoreAdj"]
    if host["ulimits"]:
        made["rlimits"] = [
            {"type": f"RLIMIT_{name.upper()}", "soft": soft, "hard": hard}
            for name, (soft, hard) in sorted(host["ulimits"].items())
        ]
    if host["apparmor"] and host["apparmor"] != "unconfined":
        made["apparmorProfile"] = host["apparmor"]
    return made


def user_object(user: User) -> dict[str, Any]:
    """process.user."""
    groups = {"additionalGids": user.groups} if user.groups else {}
    return {"uid": user.uid, "gid": user.gid, **groups}


def capability_sets(names: list[str], uid: int) -> dict[str, list[str]]:
    """process.capabilities.  Nothing is inheritable or ambient; who is not root has the bounding set only."""
    if uid:
        return {"bounding": names, "effective": [], "permitted": []}
    return dict.fromkeys(("bounding", "effective", "permitted"), names)


def environment(config: dict[str, Any], user: User) -> list[str]:
    """Env with what docker adds: nothing of the host's enters."""
    given = {entry.partition("=")[0] for entry in config["Env"]}
    first = [defaults.PATH] if "PATH" not in given else []
    first += [f"HOSTNAME={config['Hostname']}"] if "HOSTNAME" not in given else []
    first += ["TERM=xterm"] if config["Tty"] and "TERM" not in given else []
    last = [f"HOME={user.home}"] if "HOME" not in given else []
    return [*first, *config["Env"], *last]


# -- mounts -----------------------------------------------------------------------------------


def _mounts(record: dict[str, Any], place: Place) -> list[dict[str, Any]]:
    host = record["host"]
    made = []
    for destination, kind, source, options in defaults.MOUNTS:
        words = options.split()
        if host["privileged"] and destination.startswith("/sys"):
            words = [word for word in words if word != "ro"]
        if place.rootless and destination == "/dev/pts":
            words = [word for word in words if word != "gid=5"]
        if destination == "/sys" and (place.rootless and host["network"] == "host"):
            made.append(_bind("/sys", "/sys", "ro"))
            continue
        made.append({"destination": destination, "type": kind, "source": source, "options": words})
    made.append(_shm(host, place))
    asked = {mount["destination"] for mount in record["mounts"]}
    for name in ("resolv.conf", "hostname", "hosts"):
        if f"/etc/{name}" not in asked:
            made.append(_bind(f"/etc/{name}", f"{place.directory}/{name}", "rw"))
    if host["init"]:
        made.append(_bind("/sbin/docker-init", place.init, "ro"))
    # shallow ones first, so that none covers one that was asked for below it
    wanted = sorted(record["mounts"], key=lambda mount: mount["destination"].count("/"))
    return [entry for entry in made if entry["destination"] not in asked] + [
        mounts.oci(mount, mapped=bool(host.get("userns"))) for mount in wanted
    ]


def _bind(destination: str, source: str, mode: str) -> dict[str, Any]:
    return {"destination": destination, "type": "bind", "source": source, "options": ["rbind", "rprivate", mode]}


def _shm(host: dict[str, Any], place: Place) -> dict[str, Any]:
    if host["ipc"] == "host":
        return _bind("/dev/shm", "/dev/shm", "rw")
    if place.shm:
        return _bind("/dev/shm", place.shm, "rw")
    options = ["nosuid", "noexec", "nodev", "mode=1777", f"size={host['shm_size']}"]
    return {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": options}


# -- linux ------------------------------------------------------------------------------------


def _linux(record: dict[str, Any], place: Place, capabilities: list[str]) -> dict[str, Any]:
    host = record["host"]
    made: dict[str, Any] = {
        "namespaces": _namespaces(host, place),
        "resources": _resources(host, place),
        "devices": [device for device, _ in _devices(host)],
    }
    if not place.rootless:
        made["cgroupsPath"] = f"/mydocker/{record['id']}"
    elif len(made["resources"]) > 1:
        made["cgroupsPath"] = delegation.cgroup_path(record["id"])
    if ids := idmap.of(host):
        made["namespaces"].append({"type": "user"})
        made |= {"uidMappings": ids.oci(), "gidMappings": ids.oci()}
    sysctl = _sysctls(host, place)
    if sysctl:
        made["sysctl"] = sysctl
    if not host["privileged"]:
        made["maskedPaths"] = list(defaults.MASKED)
        made["readonlyPaths"] = list(defaults.READONLY)
        if host["seccomp"] != "unconfined":
            profile = host["seccomp"] or seccomp.default()
            made["seccomp"] = seccomp.resolve(profile, capabilities)
    return made


def _namespaces(host: dict[str, Any], place: Place) -> list[dict[str, str]]:
    made = [{"type": "mount"}]
    for option, kind in (*_NAMESPACES.items(), ("network", "network")):
        if kind in place.joins:
            made.append({"type": kind, "path": place.joins[kind]})
        elif host[option] != "host":
            made.append({"type": kind})
    return made


def _sysctls(host: dict[str, Any], place: Place) -> dict[str, str]:
    own_network = host["network"] != "host" and "network" not in place.joins
    made = dict(defaults.SYSCTLS) if own_network and not place.rootless else {}
    if made and (ids := idmap.of(host)):  # every group that there is
        made["net.ipv4.ping_group_range"] = f"0 {ids.size - 1}"
    for name, value in host["sysctls"].items():
        if name.startswith("net.") and not own_network:
            raise errors.UsageError(f"sysctl '{name}' not allowed: the container has no network of its own")
        if not name.startswith(defaults.NAMESPACED_SYSCTLS) and name not in defaults.IPC_SYSCTLS:
            raise errors.UsageError(f"sysctl '{name}' is not whitelisted: it is not the container's own")
        made[name] = value
    return made


def _resources(host: dict[str, Any], place: Place) -> dict[str, Any]:
    made: dict[str, Any] = {"devices": _device_rules(host)}
    wanted = limits(host, place.swap)
    return {**made, **(delegation.choose(wanted, place.controllers)[0] if place.rootless else wanted)}


def limits(host: dict[str, Any], swap: bool) -> dict[str, Any]:
    """linux.resources of -m, --cpus and so on; what was not asked for is left out."""
    made: dict[str, Any] = {}
    memory: dict[str, Any] = {}
    if host["memory"]:
        memory["limit"] = host["memory"]
        if swap:
            memory["swap"] = host["memory_swap"] or 2 * host["memory"]
    if host["memory_reservation"]:
        memory["reservation"] = host["memory_reservation"]
    cpu: dict[str, Any] = {}
    if host["cpus"]:
        cpu |= {"period": _PERIOD, "quota": round(host["cpus"] * _PERIOD)}
    if host["cpu_shares"]:
        cpu["shares"] = host["cpu_shares"]
    for key, name in (("cpuset_cpus", "cpus"), ("cpuset_mems", "mems")):
        if host[key]:
            cpu[name] = host[key]
    if memory:
        made["memory"] = memory
    if cpu:
        made["cpu"] = cpu
    if host["pids_limit"]:
        made["pids"] = {"limit": host["pids_limit"]}
    return made


def _device_rules(host: dict[str, Any]) -> list[dict[str, Any]]:
    if host["privileged"]:
        return [{"allow": True, "access": "rwm"}]
    made: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    for kind, major, minor, access in defaults.DEVICES:
        rule: dict[str, Any] = {"allow": True, "type": kind, "access": access}
        made.append(rule | {key: n for key, n in (("major", major), ("minor", minor)) if n is not None})
    for device, access in _devices(host):
        number = {"major": device["major"], "minor": device["minor"]}
        made.append({"allow": True, "type": device["type"], **number, "access": access})
    return made


def _devices(host: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """--device HOST[:CONTAINER[:rwm]]: the node as it is on the host.  Raises errors.UsageError."""
    found = []
    for text in host["devices"]:
        source, _, rest = text.partition(":")
        destination, _, access = rest.partition(":")
        if destination and not destination.startswith("/"):
            destination, access = "", destination
        access = access or "rwm"
        try:
            info = os.stat(source)
        except OSError as error:
            raise errors.UsageError(f"error gathering device information: {source}: {error.strerror}") from None
        if not (stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode)) or set(access) - set("rwm"):
            raise errors.UsageError(f"invalid device specification {text!r}: HOST[:CONTAINER[:rwm]]")
        device = {
            "path": destination or source,
            "type": "c" if stat.S_ISCHR(info.st_mode) else "b",
            "major": os.major(info.st_rdev),
            "minor": os.minor(info.st_rdev),
            "fileMode": stat.S_IMODE(info.st_mode),
            "uid": info.st_uid,
            "gid": info.st_gid,
        }
        found.append((device, access))
    return found
