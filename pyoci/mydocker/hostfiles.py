"""hosts, resolv.conf and hostname of a container: files of ours, bound over its own."""

from __future__ import annotations

import ipaddress
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
_RESOLV = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")  # the second: what systemd-resolved itself asks
_FALLBACK = ("8.8.8.8", "8.8.4.4")


def hosts(host: dict[str, Any], peers: Iterable[tuple[str, Iterable[str]]], *, as_host: bool = False) -> str:
    """The text of /etc/hosts.  peers: address and names, the container itself first; as_host: begin with the host's."""
    lines = [_host_hosts() if as_host else _HOSTS]
    for entry in host["add_host"]:
        name, _, address = entry.partition(":")
        lines.append(f"{address}\t{name}\n")
    lines += [f"{address}\t{' '.join(names)}\n" for address, names in peers]
    return "".join(lines)


def _host_hosts() -> str:
    try:
        with open("/etc/hosts", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n") + "\n"
    except OSError:
        return _HOSTS


def resolv(host: dict[str, Any], own_network: bool) -> str:
    """The text of /etc/resolv.conf: --dns, or the host's servers as far as the container can reach them."""
    servers, others = _host_resolv(own_network)
    servers = host["dns"] or servers or [*_FALLBACK]
    if host["dns_search"]:
        others = [line for line in others if not line.startswith(("search", "domain"))]
        others.append("search " + " ".join(host["dns_search"]))
    if host["dns_option"]:
        others.append("options " + " ".join(host["dns_option"]))
    return "".join(f"{line}\n" for line in [*(f"nameserver {server}" for server in servers), *others])


def _host_resolv(own_network: bool) -> tuple[list[str], list[str]]:
    servers: list[str] = []
    others: list[str] = []
    for path in _RESOLV:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                lines = file.read().splitlines()
        except OSError:
            continue
        others = [line for line in lines if line.split(maxsplit=1)[:1] in (["search"], ["domain"], ["options"])]
        servers = [line.split()[1] for line in lines if line.startswith("nameserver") and len(line.split()) > 1]
        if own_network:  # 127.0.0.53 there is the container's own
            servers = [server for server in servers if not _loopback(server)]
        if servers:
            break
    return servers, others


def _loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text.partition("%")[0]).is_loopback
    except ValueError:
        return True


def write(path: str, text: str) -> None:
    """Replace what the file holds, not the file: it is mounted in the container."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        os.fchmod(fd, 0o644)
        file.write(text)
        file.flush()
        os.ftruncate(fd, file.tell())  # last, so that no reader finds it empty
