"""Bridges, veth pairs and addresses, by pyroute2.  The kernel removes a veth pair with the container's namespace."""

from __future__ import annotations

import ipaddress

from pyoci.mydocker import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


def _route() -> Any:
    from pyroute2 import IPRoute

    return IPRoute()


def _fail(what: str, error: Exception) -> errors.Error:
    return errors.Error(f"{what}: {error.args[1] if len(error.args) > 1 else error}", code=125)


def _index(ip: Any, device: str) -> int:
    found = ip.link_lookup(ifname=device)
    return int(found[0]) if found else 0


def subnets_in_use() -> Iterator[ipaddress.IPv4Network]:
    """What the host has addresses in and routes to, the default route not counted."""
    with _route() as ip:
        for message in [*ip.get_addr(family=2), *ip.get_routes(family=2)]:
            address = message.get_attr("IFA_ADDRESS") or message.get_attr("RTA_DST")
            length = message.get("prefixlen", message.get("dst_len", 0))
            if address and length:
                yield ipaddress.IPv4Network(f"{address}/{length}", strict=False)


def ensure(network: dict[str, Any]) -> None:
    """Make the bridge of a network, unless it is there; let the host forward.  Raises errors.Error."""
    device = network["device"]
    length = ipaddress.IPv4Network(network["subnet"]).prefixlen
    try:
        with _route() as ip:
            if not _index(ip, device):
                ip.link("add", ifname=device, kind="bridge")
            index = _index(ip, device)
            present = {message.get_attr("IFA_ADDRESS") for message in ip.get_addr(index=index, family=2)}
            if network["gateway"] not in present:
                ip.addr("add", index=index, address=network["gateway"], prefixlen=length)
            ip.link("set", index=index, state="up")
    except Exception as error:  # pyroute2 has a class of its own
        raise _fail(f"cannot make the bridge {device}", error) from None
    _sysctl("net/ipv4/ip_forward", "1")
    _sysctl(f"net/ipv4/conf/{device}/route_localnet", "1")


def _sysctl(name: str, value: str) -> None:
    try:
        with open(f"/proc/sys/{name}", encoding="ascii") as file:
            if file.read().strip() == value:  # often it is, and cannot be written (in a container)
                return
        with open(f"/proc/sys/{name}", "w", encoding="ascii") as file:
            file.write(value)
    except OSError as error:
        raise errors.Error(f"cannot set {name.replace('/', '.')}={value}: {error.strerror}", code=125) from None


def remove(device: str) -> None:
    """Remove a device; no error when it is not there."""
    with _route() as ip:
        index = _index(ip, device)
        if index:
            try:
                ip.link("del", index=index)
            except Exception as error:
                if _index(ip, device):
                    raise _fail(f"cannot remove {device}", error) from None


def plug(network: dict[str, Any], endpoint: dict[str, Any], default_route: bool) -> None:
    """A veth pair from the bridge into the network namespace of endpoint["pid"].  Raises errors.Error."""
    remove(endpoint["veth"])
    try:
        with _route() as ip:
            peer = {"ifname": endpoint["interface"], "net_ns_pid": endpoint["pid"], "address": endpoint["mac"]}
            ip.link("add", ifname=endpoint["veth"], kind="veth", peer=peer)
            index = _index(ip, endpoint["veth"])
            ip.link("set", index=index, master=_index(ip, network["device"]), state="up")
            ip.brport("set", index=index, mode=1)  # hairpin: to its own published port
        _inside(network, endpoint, default_route)
    except Exception as error:
        remove(endpoint["veth"])
        raise _fail(f"cannot connect the container to {network['name']}", error) from None


def _inside(network: dict[str, Any], endpoint: dict[str, Any], default_route: bool) -> None:
    from pyroute2 import NetNS

    length = ipaddress.IPv4Network(network["subnet"]).prefixlen
    # Only netlink sockets are opened there: no file of the container is touched.
    with NetNS(f"/proc/{endpoint['pid']}/ns/net", flags=0) as ns:
        index = _index(ns, endpoint["interface"])
        ns.addr("add", index=index, address=endpoint["ip"], prefixlen=length)
        ns.link("set", index=index, state="up")
        if default_route and not network["internal"]:
            ns.route("add", dst="0.0.0.0/0", gateway=network["gateway"])
