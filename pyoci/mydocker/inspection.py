"""A container in words: ps's columns and docker inspect's document."""

from __future__ import annotations

import shlex
import time

from pyoci.mydocker import clock, monitor, networks, ports, rootless, show, slirp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.mydocker.containers import Container
    from pyoci.mydocker.observed import State

_NEVER = "0001-01-01T00:00:00Z"  # how docker writes no time


def status(state: State) -> str:
    """ "Up 5 minutes (Paused)", "Exited (0) 2 hours ago": ps's STATUS."""
    if state.alive:
        up = f"Up {show.duration(time.time() - clock.seconds(state.started))}"
        return f"{up} (Paused)" if state.status == "paused" else up
    if state.status in ("exited", "restarting"):
        word = "Exited" if state.status == "exited" else "Restarting"
        return f"{word} ({state.exit_code}) {show.age(state.finished or '')}"
    return state.status.capitalize()


def published(container: Container, endpoints: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The ports of a running container, as they were given to it."""
    if rootless.active():
        return slirp.published(container)
    if endpoints is None:
        endpoints = networks.Networks(container.paths).of(container.id)
    return [port for endpoint in endpoints.values() for port in endpoint["ports"]]


def command(container: Container) -> str:
    """What it runs, as a person would type it."""
    return shlex.join([*(container.config.get("Entrypoint") or ()), *(container.config.get("Cmd") or ())])


def row(container: Container, state: State, truncate: bool = True) -> dict[str, Any]:
    """What ps shows, by docker's names for templates."""
    line = command(container)
    if truncate and len(line) > 20:
        line = f"{line[:19]}…"
    record = container.record
    entries = published(container) if state.alive else []
    names = {f"{entry['container_port']}/{entry['proto']}" for entry in entries}
    exposed = [port for port in container.config.get("ExposedPorts") or () if port not in names] if state.alive else []
    return {
        "ID": container.id[:12] if truncate else container.id,
        "Image": record.get("image", ""),
        "Command": f'"{line}"',
        "CreatedAt": record.get("created", ""),
        "RunningFor": show.age(str(record.get("created", ""))),
        "Status": status(state),
        "State": state.status,
        "Ports": ", ".join([*ports.texts(entries), *exposed]),
        "Names": container.name,
        "Labels": ",".join(f"{key}={value}" for key, value in sorted((container.config.get("Labels") or {}).items())),
        "Mounts": ",".join(mount["name"] or mount["source"] for mount in record.get("mounts") or ()),
        "Networks": ",".join(record.get("networks") or [container.host.get("network", "")]),
    }


def document(container: Container) -> dict[str, Any]:
    """docker inspect's document, as far as there is something behind it."""
    state = container.state()
    record, host = container.record, container.host
    if container.problem:
        return {"Id": container.id, "Name": "", "State": {"Status": state.status, "Error": container.problem}}
    endpoints = networks.Networks(container.paths).of(container.id) if state.alive else {}
    args = [*(container.config["Entrypoint"] or ()), *(container.config["Cmd"] or ())]
    return {
        "Id": container.id,
        "Created": record["created"],
        "Path": args[0] if args else "",
        "Args": args[1:],
        "State": _state(state),
        "Image": container.image_id,
        "ResolvConfPath": f"{container.directory}/resolv.conf",
        "HostnamePath": f"{container.directory}/hostname",
        "HostsPath": f"{container.directory}/hosts",
        "LogPath": f"{monitor.log_directory(container)}/json.log",
        "Name": f"/{container.name}",
        "RestartCount": state.restarts,
        "Driver": "overlay",
        "Platform": "linux",
        "HostConfig": _host(host, record),
        "GraphDriver": {"Name": "overlay", "Data": {"MergedDir": f"{container.paths.overlay}/{container.id}/merged"}},
        "Mounts": [_mount(mount) for mount in record["mounts"]],
        "Config": container.config,
        "NetworkSettings": _network(container, endpoints, state.alive),
    }


def _state(state: State) -> dict[str, Any]:
    return {
        "Status": state.status,
        "Running": state.alive,
        "Paused": state.status == "paused",
        "Restarting": state.status == "restarting",
        "OOMKilled": state.oom,
        "Dead": state.status == "dead",
        "Pid": state.pid,
        "ExitCode": 0 if state.alive else state.exit_code,
        "Error": state.error,
        "StartedAt": state.started or _NEVER,
        "FinishedAt": state.finished or _NEVER,
    }


def _host(host: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    security = ["no-new-privileges"] if host["no_new_privileges"] else []
    if host["seccomp"] == "unconfined" or host["privileged"]:
        security.append("seccomp=unconfined")
    return {
        "Binds": [
            f"{mount['name'] or mount['source']}:{mount['destination']}:{'ro' if mount['ro'] else 'rw'}"
            for mount in record["mounts"]
            if mount["type"] != "tmpfs"
        ],
        "LogConfig": {
            "Type": host["log_driver"],
            "Config": {"max-size": str(host["log_size"]), "max-file": str(host["log_files"])},
        },
        "NetworkMode": host["network"],
        "PortBindings": _bindings(host["ports"]),
        "RestartPolicy": {"Name": host["restart"]["name"], "MaximumRetryCount": host["restart"]["max"]},
        "AutoRemove": host["auto_remove"],
        "CapAdd": host["cap_add"],
        "CapDrop": host["cap_drop"],
        "Dns": host["dns"],
        "DnsOptions": host["dns_option"],
        "DnsSearch": host["dns_search"],
        "ExtraHosts": host["add_host"],
        "GroupAdd": host["group_add"],
        "IpcMode": host["ipc"],
        "PidMode": "" if host["pid"] == "private" else host["pid"],
        "UsernsMode": f"auto:size={host['userns']['size']}" if host.get("userns") else "",
        "UTSMode": "" if host["uts"] == "private" else host["uts"],
        "OomScoreAdj": host["oom_score_adj"],
        "Privileged": host["privileged"],
        "ReadonlyRootfs": host["read_only"],
        "SecurityOpt": security,
        "ShmSize": host["shm_size"],
        "Sysctls": host["sysctls"],
        "CpuShares": host["cpu_shares"],
        "Memory": host["memory"],
        "MemoryReservation": host["memory_reservation"],
        "MemorySwap": host["memory_swap"] or 2 * host["memory"],
        "NanoCpus": round(host["cpus"] * 1_000_000_000),
        "CpusetCpus": host["cpuset_cpus"],
        "CpusetMems": host["cpuset_mems"],
        "Devices": host["devices"],
        "PidsLimit": host["pids_limit"],
        "Ulimits": [{"Name": n, "Soft": s, "Hard": h} for n, (s, h) in sorted(host["ulimits"].items())],
        "Init": host["init"],
    }


def _bindings(entries: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for port in entries:
        binding = {"HostIp": port["host_ip"] or "0.0.0.0", "HostPort": str(port["host_port"] or "")}
        found.setdefault(f"{port['container_port']}/{port['proto']}", []).append(binding)
    return found


def _mount(mount: dict[str, Any]) -> dict[str, Any]:
    name = {"Name": mount["name"]} if mount["name"] else {}
    return {
        "Type": mount["type"],
        **name,
        "Source": mount["source"],
        "Destination": mount["destination"],
        "Mode": ",".join(mount["options"]),
        "RW": not mount["ro"],
    }


def _network(container: Container, endpoints: dict[str, Any], alive: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"Ports": _bindings(published(container, endpoints)) if alive else {}}
    first: dict[str, Any] = next(iter(endpoints.values()), {})
    found |= _endpoint(first)
    found["Networks"] = {
        name: {"Aliases": end["names"], "NetworkID": end["network_id"], **_endpoint(end)}
        for name, end in endpoints.items()
    }
    for name in container.record["networks"]:
        found["Networks"].setdefault(name, {"Aliases": [], "NetworkID": "", **_endpoint({})})
    return found


def _endpoint(end: dict[str, Any]) -> dict[str, Any]:
    return {
        "Gateway": end.get("gateway", ""),
        "IPAddress": end.get("ip", ""),
        "IPPrefixLen": end.get("prefix", 0),
        "MacAddress": end.get("mac", ""),
    }
