"""-p: published ports.  Parsing is pure; whether a port is free is asked by binding it for a moment."""

from __future__ import annotations

import ipaddress
import socket

from pyoci.mydocker import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

PROTOCOLS = ("tcp", "udp", "sctp")
_EPHEMERAL = "/proc/sys/net/ipv4/ip_local_port_range"


def parse(text: str) -> list[dict[str, Any]]:
    """[[IP:]HOSTPORT[-END]:]PORT[-END][/PROTOCOL] -> one entry per port; host_port 0 is "any free one".

    Each entry: host_ip "" or an IPv4 address, host_port, container_port, proto.  Raises errors.UsageError.
    """
    body, slash, proto = text.partition("/")
    proto = proto.lower() if slash else "tcp"
    if proto not in PROTOCOLS:
        raise errors.UsageError(f"invalid port {text!r}: the protocol is tcp, udp or sctp")
    if body.startswith("["):
        raise errors.UsageError(f"cannot publish {text!r}: IPv6 is not supported: networks and ports are IPv4")
    parts = body.split(":")
    if len(parts) > 3:
        raise errors.UsageError(f"invalid port {text!r}", hint="write [[IP:]HOSTPORT:]PORT[/PROTOCOL]")
    host_ip = _address(parts[0], text) if len(parts) == 3 else ""
    inside = _range(parts[-1], text)
    outside_text = parts[-2] if len(parts) > 1 else ""
    outside = _range(outside_text, text) if outside_text else [0] * len(inside)
    if len(outside) != len(inside):
        if len(inside) == 1:  # docker: the first free one of the range; the choice is made at start
            return [_entry(host_ip, outside[0], inside[0], proto, outside[-1])]
        raise errors.UsageError(f"invalid port {text!r}: the ranges differ in length")
    return [_entry(host_ip, out, port, proto, out) for out, port in zip(outside, inside, strict=True)]


def _entry(host_ip: str, host_port: int, container_port: int, proto: str, last: int) -> dict[str, Any]:
    found = {"host_ip": host_ip, "host_port": host_port, "container_port": container_port, "proto": proto}
    return {**found, "host_port_end": last} if last != host_port else found


def _address(text: str, whole: str) -> str:
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        raise errors.UsageError(f"invalid port {whole!r}: {text!r} is no IPv4 address") from None
    return "" if address.is_unspecified else str(address)


def _range(text: str, whole: str) -> list[int]:
    first, dash, last = text.partition("-")
    numbers = [first, last] if dash else [first, first]
    if not all(n.isascii() and n.isdigit() and len(n) < 6 and 1 <= int(n) <= 65535 for n in numbers):
        raise errors.UsageError(f"invalid port {whole!r}: ports are 1 to 65535")
    if int(numbers[0]) > int(numbers[1]):
        raise errors.UsageError(f"invalid port {whole!r}: the range runs backwards")
    return list(range(int(numbers[0]), int(numbers[1]) + 1))


def choose(wanted: Iterable[dict[str, Any]], taken: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries with a host port each, in conflict neither with `taken`, nor with each other, nor with the host.

    Raises errors.Conflict in docker's words.
    """
    used = [*taken]
    chosen = []
    for entry in wanted:
        port = _free(entry, used)
        made = {**entry, "host_port": port}
        made.pop("host_port_end", None)
        used.append(made)
        chosen.append(made)
    return chosen


def _free(entry: dict[str, Any], used: list[dict[str, Any]]) -> int:
    if entry["host_port"]:
        candidates: Iterable[int] = range(entry["host_port"], entry.get("host_port_end", entry["host_port"]) + 1)
    else:
        candidates = _ephemeral()
    last = 0
    for port in candidates:
        last = port
        if not any(_clash(entry, port, other) for other in used) and _bindable(entry, port):
            return port
    where = entry["host_ip"] or "0.0.0.0"
    raise errors.Conflict(f"Bind for {where}:{last} failed: port is already allocated")


def _clash(entry: dict[str, Any], port: int, other: dict[str, Any]) -> bool:
    if (port, entry["proto"]) != (other["host_port"], other["proto"]):
        return False
    return not entry["host_ip"] or not other["host_ip"] or entry["host_ip"] == other["host_ip"]


def _ephemeral() -> range:
    try:
        with open(_EPHEMERAL, encoding="ascii") as file:
            first, last = map(int, file.read().split())
    except (OSError, ValueError):
        first, last = 32768, 60999
    return range(first, last + 1)


def _bindable(entry: dict[str, Any], port: int) -> bool:
    """Whether no program of the host has it; the port itself is not held, netfilter takes it before any socket."""
    if entry["proto"] == "sctp":
        return True
    kind = socket.SOCK_STREAM if entry["proto"] == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM:  # what lingers in TIME_WAIT holds nobody up
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((entry["host_ip"] or "0.0.0.0", port))
        except OSError:
            return False
    return True


def text(entry: dict[str, Any]) -> str:
    """0.0.0.0:8080->80/tcp, as ps shows it."""
    return f"{entry['host_ip'] or '0.0.0.0'}:{entry['host_port']}->{entry['container_port']}/{entry['proto']}"


def texts(entries: Iterable[dict[str, Any]]) -> list[str]:
    """The same of many, ports that follow each other in one: 0.0.0.0:8080-8082->80-82/tcp."""
    runs: list[list[dict[str, Any]]] = []
    for entry in sorted(
        entries, key=lambda one: (one["proto"], one["host_ip"], one["container_port"], one["host_port"])
    ):
        last = runs[-1][-1] if runs else None
        if last and _follows(last, entry):
            runs[-1].append(entry)
        else:
            runs.append([entry])
    return [text(run[0]) if len(run) == 1 else _range_text(run[0], run[-1]) for run in runs]


def _follows(one: dict[str, Any], other: dict[str, Any]) -> bool:
    same = (one["proto"], one["host_ip"]) == (other["proto"], other["host_ip"])
    return same and all(other[key] == one[key] + 1 for key in ("host_port", "container_port"))


def _range_text(first: dict[str, Any], last: dict[str, Any]) -> str:
    outside = f"{first['host_ip'] or '0.0.0.0'}:{first['host_port']}-{last['host_port']}"
    return f"{outside}->{first['container_port']}-{last['container_port']}/{first['proto']}"
