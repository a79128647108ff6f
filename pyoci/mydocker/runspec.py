"""What run and create were asked for (runoptions.py), and the record it makes of a container together with its image.

`config` of the record is docker inspect's Config; `host` is everything else, with a value for each key (HOST).
"""

from __future__ import annotations

import os
import re

from pyoci.mydocker import defaults, errors, idmap, mounts, numbers, options, ports, restart, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyoci.mydocker.images import Image

_LEAST_MEMORY = 6 << 20  # bytes; docker's
_HOSTNAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?)*")
_ULIMITS = frozenset(
    "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split()
)


# -- reading them -----------------------------------------------------------------------------


def make(given: dict[str, Any], image: Image, reference: str, command: Sequence[str], detached: bool) -> dict[str, Any]:
    """The record of a new container, but for its id and name.  Raises errors.UsageError."""
    host = make_host(given)
    config = _config(given, image, reference, command, detached)
    if not (config["Entrypoint"] or config["Cmd"]):
        raise errors.UsageError("No command specified: the image has none either")
    networks = _networks(given, host)
    host["ports"] += _exposed(given, image)
    if host["ports"] and not networks and host["network"] != "none":
        raise errors.UsageError(f"conflicting options: ports cannot be published with --network {host['network']}")
    return {
        "image": reference,
        "image_id": image.id,
        "config": config,
        "host": host,
        "networks": networks,
        "mounts": _mounts(given, image),
        "anonymous": [],
    }


def make_host(given: dict[str, Any]) -> dict[str, Any]:
    """The `host` part."""
    security = _security(given["security_opt"])
    sizes = {name: options.size(given[name]) if given[name] else 0 for name in ("memory", "memory_reservation")}
    if sizes["memory"] and sizes["memory"] < _LEAST_MEMORY:
        raise errors.UsageError("Minimum memory limit allowed is 6MB")
    userns = _userns(given)
    if given["rm"] and given["restart"] != "no":
        raise errors.UsageError("conflicting options: cannot specify both --restart and --rm")
    cpus = given["cpus"] or 0.0
    if cpus and not 0.01 <= cpus <= (os.cpu_count() or 1):
        raise errors.UsageError(f"range of CPUs is from 0.01 to {os.cpu_count()}.00, as there are only so many")
    return {
        "auto_remove": given["rm"],
        "privileged": given["privileged"],
        "read_only": given["read_only"],
        "init": given["init"],
        "cap_add": list(given["cap_add"]),
        "cap_drop": list(given["cap_drop"]),
        "devices": list(given["device"]),
        "ulimits": dict(map(_ulimit, given["ulimit"])),
        "sysctls": options.key_values(given["sysctl"], "sysctl"),
        "shm_size": options.size(given["shm_size"]) if given["shm_size"] else defaults.SHM_SIZE,
        "group_add": list(given["group_add"]),
        "add_host": list(map(_add_host, given["add_host"])),
        "dns": list(map(_address, given["dns"])),
        "dns_search": list(map(_word, given["dns_search"])),
        "dns_option": list(map(_word, given["dns_option"])),
        "ports": [port for text in given["publish"] for port in ports.parse(text)],
        "network": _mode(given["network"][0] if given["network"] else "bridge", "network"),
        "pid": _mode(given["pid"] or "private", "pid"),
        "ipc": _mode(given["ipc"] or "private", "ipc"),
        "uts": _mode(given["uts"] or "private", "uts"),
        "userns": userns,
        **sizes,
        "memory_swap": _swap(given["memory_swap"], sizes["memory"]),
        "cpus": cpus,
        "cpu_shares": given["cpu_shares"] or 0,
        "cpuset_cpus": given["cpuset_cpus"] or "",
        "cpuset_mems": given["cpuset_mems"] or "",
        "pids_limit": given["pids_limit"] or 0,
        "oom_score_adj": given["oom_score_adj"] or 0,
        "restart": restart.parse(given["restart"]),
        "log_driver": given["log_driver"],
        **_log(given["log_opt"]),
        **security,
    }


def _userns(given: dict[str, Any]) -> dict[str, int] | None:
    """--userns, which goes with nothing that belongs to another user namespace: docker's refusals."""
    found = idmap.parse(given["userns"])
    if found is None:
        return None
    if given["privileged"]:
        raise errors.UsageError("privileged mode is incompatible with user namespaces", hint="--userns=host")
    joined = [("network", name) for name in given["network"]] + [(name, given[name] or "") for name in ("pid", "ipc")]
    for name, mode in joined:
        if mode == "host" or mode.startswith("container:"):
            raise errors.UsageError(
                f"cannot share the {name} namespace of others when user namespaces are enabled", hint="--userns=host"
            )
    return found


def _swap(text: str | None, memory: int) -> int:
    if text is None:
        return 0
    if text == "-1":
        return -1
    size = options.size(text)
    if not memory or size < memory:
        raise errors.UsageError("Minimum memoryswap limit should be larger than memory limit, and needs one (-m)")
    return size


def _mode(text: str, what: str) -> str:
    kind, colon, name = text.partition(":")
    if colon and (kind != "container" or not name or what == "uts"):
        raise errors.UsageError(f"--{what} {text!r}: container:NAME is meant")
    allowed = {"pid": ("host", "private"), "uts": ("host", "private"), "ipc": ("host", "private", "none", "shareable")}
    if not colon and what in allowed and kind not in allowed[what]:
        raise errors.UsageError(f"--{what}: invalid {what.upper()} mode: {text}")
    return "bridge" if (what, text) == ("network", "default") else text


def _security(texts: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"no_new_privileges": False, "seccomp": None, "apparmor": ""}
    for text in texts:
        key, _, value = text.replace(":", "=", 1).partition("=") if "=" not in text else text.partition("=")
        if key == "no-new-privileges":
            found["no_new_privileges"] = value.lower() in ("", "true", "1")
        elif key == "seccomp" and value:
            found["seccomp"] = value if value == "unconfined" else seccomp.load(value)
        elif key == "apparmor" and value:
            found["apparmor"] = value
        elif (key, value) != ("label", "disable"):
            raise errors.UsageError(f"invalid --security-opt: {text!r}")
    return found


def _ulimit(text: str) -> tuple[str, tuple[int, int]]:
    name, _, value = text.partition("=")
    soft, _, hard = value.partition(":")
    if name not in _ULIMITS:
        raise errors.UsageError(f"invalid ulimit argument: {text}")
    try:
        low, high = int(soft), int(hard or soft)
    except ValueError:
        raise errors.UsageError(f"invalid ulimit argument: {text}", hint="NAME=SOFT[:HARD]") from None
    low, high = (n if n >= 0 else (1 << 64) - 1 for n in (low, high))
    if low > high:
        raise errors.UsageError(f"ulimit soft limit must be less than or equal to hard limit: {low} > {high}")
    return name, (low, high)


def _add_host(text: str) -> str:
    import ipaddress

    name, _, address = text.partition(":") if ":" in text else text.partition("=")
    try:
        ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        raise errors.UsageError(f"bad format for add-host: {text!r}", hint="NAME:ADDRESS") from None
    if not _HOSTNAME.fullmatch(name):
        raise errors.UsageError(f"bad format for add-host: {name!r} is no host name")
    return f"{name}:{address.strip('[]')}"


def _address(text: str) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise errors.UsageError(f"{text!r} is no IP address") from None


def _word(text: str) -> str:
    if not text.isprintable() or not text or " " in text:
        raise errors.UsageError(f"{text!r} is no word of resolv.conf")
    return text


def _log(texts: Sequence[str]) -> dict[str, Any]:
    found = {"log_size": defaults.LOG_SIZE, "log_files": defaults.LOG_FILES}
    for key, value in options.key_values(texts, "log-opt").items():
        if key == "max-size":
            found["log_size"] = 0 if value == "-1" else options.size(value)
        elif key == "max-file" and (number := numbers.decimal(value)):
            found["log_files"] = number
        else:
            raise errors.UsageError(f"unknown log opt {key}={value!r} for json-file log driver")
    return found


# -- with the image ---------------------------------------------------------------------------


def _config(
    given: dict[str, Any], image: Image, reference: str, command: Sequence[str], detached: bool
) -> dict[str, Any]:
    process = image.process
    entrypoint, cmd = list(process.entrypoint or ()), list(process.cmd or ())
    if given["entrypoint"] is not None:
        entrypoint, cmd = [given["entrypoint"]] if given["entrypoint"] else [], []
    if given["workdir"] is not None and not given["workdir"].startswith("/"):
        raise errors.UsageError(
            f"the working directory '{given['workdir']}' is invalid, it needs to be an absolute path"
        )
    if given["hostname"] is not None and (not _HOSTNAME.fullmatch(given["hostname"]) or len(given["hostname"]) > 63):
        raise errors.UsageError(f"invalid hostname format: {given['hostname']}")
    labels = {**(process.labels or {})}
    for path in given["label_file"]:
        labels |= options.key_values([line for line in _lines(path) if line], "label")
    cwd = given["workdir"] or process.cwd or "/"
    attached = _attached(given, detached)
    return {
        "Hostname": given["hostname"] or "",
        "User": given["user"] if given["user"] is not None else (process.user or ""),
        "Env": _environment(process.env or (), given),
        "Cmd": list(command) or cmd,
        "Entrypoint": entrypoint,
        "Image": reference,
        "WorkingDir": cwd if cwd.startswith("/") else f"/{cwd}",
        "Labels": labels | options.key_values(given["label"], "label"),
        **attached,
        "Tty": given["tty"],
        "OpenStdin": given["interactive"],
        "StdinOnce": given["interactive"] and attached["AttachStdin"],
        "StopSignal": given["stop_signal"] or process.stop_signal or "SIGTERM",
        "StopTimeout": given["stop_timeout"] if given["stop_timeout"] is not None else defaults.STOP_TIMEOUT,
        "ExposedPorts": {port if "/" in port else f"{port}/tcp": {} for port in (*process.ports, *given["expose"])},
        "Volumes": {path: {} for path in process.volumes},
    }


def _attached(given: dict[str, Any], detached: bool) -> dict[str, bool]:
    """-a, or what docker attaches without it."""
    streams = {text.lower() for text in given["attach"]}
    if wrong := streams - {"stdin", "stdout", "stderr"}:
        raise errors.UsageError(f"invalid argument {wrong.pop()!r} for -a: valid streams are STDIN, STDOUT and STDERR")
    if detached and streams:
        raise errors.UsageError("Conflicting options: -a and -d")
    if not streams and not detached:
        streams = {"stdout", "stderr", *(["stdin"] if given["interactive"] else [])}
    return {f"Attach{name.capitalize()}": name in streams for name in ("stdin", "stdout", "stderr")}


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return [line.strip() for line in file if not line.lstrip().startswith("#")]
    except OSError as error:
        raise errors.UsageError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise errors.UsageError(f"cannot read {path}: it is no UTF-8") from None


def lines_of(paths: Sequence[str]) -> list[str]:
    """--env-file: what is no comment.  Raises errors.UsageError."""
    return [line for path in paths for line in _lines(path) if line]


def _environment(base: Sequence[str], given: dict[str, Any]) -> list[str]:
    """The image's, where a name without a value means nothing; then --env-file and -e, where it means ours."""
    found = dict(entry.split("=", 1) for entry in base if "=" in entry)
    for entry in (*lines_of(given["env_file"]), *given["env"]):
        name, equals, value = entry.partition("=")
        if not name or name != name.strip() or "\0" in entry:
            raise errors.UsageError(f"invalid environment variable: {entry}")
        if equals:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
        else:
            found.pop(name, None)
    return [f"{name}={value}" for name, value in found.items()]


def _networks(given: dict[str, Any], host: dict[str, Any]) -> dict[str, Any]:
    names = [_mode(name, "network") for name in given["network"]] or ["bridge"]
    special = [name for name in names if name in ("host", "none") or ":" in name]
    if special:
        if len(names) > 1:
            raise errors.UsageError(f"conflicting options: --network {special[0]} and another network")
        if given["hostname"] and ":" in special[0]:
            raise errors.UsageError("conflicting options: hostname and the network mode")
        return {}
    aliases = check_aliases(given["network_alias"])
    return {name: {"ip": given["ip"] if n == 0 else None, "aliases": aliases} for n, name in enumerate(names)}


def check_aliases(names: Sequence[str]) -> list[str]:
    """Names for hosts files.  Raises errors.UsageError."""
    for name in names:
        if not _HOSTNAME.fullmatch(name):
            raise errors.UsageError(f"invalid network alias {name!r}")
    return list(names)


def _exposed(given: dict[str, Any], image: Image) -> list[dict[str, Any]]:
    if not given["publish_all"]:
        return []
    return [port for text in sorted({*(image.process.ports or ()), *given["expose"]}) for port in ports.parse(text)]


def _mounts(given: dict[str, Any], image: Image) -> list[dict[str, Any]]:
    asked = [
        *map(mounts.mount, given["mount"]),
        *map(mounts.volume, given["volume"]),
        *map(mounts.tmpfs, given["tmpfs"]),
    ]
    destinations = [mount["destination"] for mount in asked]
    for destination in destinations:
        if destinations.count(destination) > 1:
            raise errors.UsageError(f"Duplicate mount point: {destination}")
    for path in image.process.volumes or ():
        mount = mounts.volume(path)
        if mount["destination"] not in destinations:
            asked.append(mount)
    return asked
