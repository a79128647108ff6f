"""linux.netDevices: network devices of the host that become the container's (rows X01 to X06).

The kernel moves a device, then renames it; on the way it closes it and drops its addresses.  Those are given back from
inside: by netdev_inside.py, started by nsexec in the container's network namespace and nothing else of the container.
See rtnetlink(7).
"""

from __future__ import annotations

import errno
import sys

from pyoci import cold, errors, json, kernel
from pyoci.host import child, nsexec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

WHERE = "/linux/netDevices"
TIMEOUT = 30.0  # seconds
_GLOBAL = 0  # RT_SCOPE_UNIVERSE
_PERMANENT = 0x80  # IFA_F_PERMANENT
_UP = 1  # IFF_UP
_INSIDE = f"{kernel.dirname(kernel.abspath(__file__))}/netdev_inside.py"


class Moved:
    """One device that is in the container now.

    host, name: what it was called, and is there.  addresses: its permanent global ones.  up: whether it was up.
    """

    __slots__ = ("addresses", "host", "name", "up")

    def __init__(self, host: str, name: str, addresses: list[dict[str, Any]], up: bool) -> None:
        self.host = host
        self.name = name
        self.addresses = addresses
        self.up = up


def move(devices: Mapping[str, str], pid: int, moved: list[Moved]) -> None:
    """Move devices (name on the host -> name in the container, perhaps with %d) to the network namespace of process
    pid, set up, with their permanent global addresses; note them in moved.

    Raises errors.SetupError; what was moved until then is for back().
    """
    with cold.load("pyroute2").IPRoute() as route:
        for host, name in devices.items():
            where = f"{WHERE}/{host}"
            try:
                device = _look(route, host)
                _take(route, device, name, pid, moved)
            except Exception as error:  # pyroute2 has errors of its own, and OSError
                raise _failed(f"move network device {host} to the container as {name}", error, where) from None
            _inside(pid, {"name": device.name, "addresses": device.addresses}, where)


def _look(route: Any, host: str) -> Moved:
    found = route.link_lookup(ifname=host)
    if not found:
        raise OSError(errno.ENODEV, "no such device")
    addresses = [address_of(message) for message in route.get_addr(index=found[0]) if _kept(message)]
    return Moved(host, host, addresses, bool(route.get_links(found[0])[0]["flags"] & _UP))


def _take(route: Any, device: Moved, name: str, pid: int, moved: list[Moved]) -> None:
    before = _names(pid)
    if name in before:  # the kernel would find out after the move
        raise OSError(errno.EEXIST, "file exists")
    fd = kernel.open(f"/proc/{pid}/ns/net", kernel.O_RDONLY | kernel.O_CLOEXEC)
    try:
        route.link("set", index=route.link_lookup(ifname=device.host)[0], net_ns_fd=fd, ifname=name)
    finally:
        kernel.close(fd)
        new = _names(pid) - before
        if new:
            device.name = new.pop()
            moved.append(device)


def _kept(message: Any) -> bool:
    """Row X04."""
    flags = message.get_attr("IFA_FLAGS") or message["flags"]
    return message["scope"] == _GLOBAL and bool(flags & _PERMANENT)


def address_of(message: Any) -> dict[str, Any]:
    """What route.addr("add") needs to make an address again."""
    made = {"family": message["family"], "prefixlen": message["prefixlen"]}
    for key in ("address", "local", "broadcast"):
        value = message.get_attr(f"IFA_{key.upper()}")
        if value is not None:
            made[key] = value
    return made


def _names(pid: int) -> set[str]:
    """The network devices that process pid sees: proc(5)."""
    fd = kernel.open(f"/proc/{pid}/net/dev", kernel.O_RDONLY | kernel.O_CLOEXEC)
    try:
        data = kernel.read_all(fd)
    finally:
        kernel.close(fd)
    lines = data.decode("utf-8", "surrogateescape").splitlines()[2:]
    return {line.rpartition(":")[0].strip() for line in lines}


def back(moved: list[Moved], pid: int) -> None:
    """After a failure: give the host its devices back as they were (row L21).  Raises errors.SetupError."""
    with cold.load("pyroute2").IPRoute() as route:
        while moved:
            device = moved.pop()
            _inside(pid, {"name": device.name, "back": device.host, "pid": kernel.getpid()}, WHERE)
            try:
                settle(route, device.host, device.addresses, device.up)
            except Exception as error:
                raise _failed(f"take network device {device.host} back", error, WHERE) from None


def settle(route: Any, name: str, addresses: list[dict[str, Any]], up: bool) -> None:
    """Give a device addresses and set it up (row X05).  Raises what pyroute2 raises."""
    index = route.link_lookup(ifname=name)[0]
    for address in addresses:
        route.addr("add", index=index, **address)
    if up:
        route.link("set", index=index, state="up")


def _inside(pid: int, request: dict[str, Any], where: str) -> None:
    """Have netdev_inside.py do something in the network namespace of process pid."""
    args = ["nsexec", "join", f"net=/proc/{pid}/ns/net", "--", sys.executable, "-I", "-S", _INSIDE]
    executable = f"/proc/self/fd/{nsexec.binary()}"
    try:
        result = child.run(executable, args, {}, stdin=json.dumps(request).encode(), timeout=TIMEOUT)
    except OSError as error:
        raise _failed(f"start a helper for network device {request['name']}", error, where) from None
    if result.status or result.killed:
        raise errors.SetupError(
            f"set up network device {request['name']} in the container: {result.why()}", where=where
        )


def _failed(what: str, error: Exception, where: str) -> errors.SetupError:
    number = getattr(error, "code", 0) or getattr(error, "errno", 0) or 0
    text = errors.errno_text(number) if number else str(error)
    hint = {
        errno.EPERM: "it takes CAP_NET_ADMIN over both network namespaces",
        errno.EEXIST: "the container's network namespace has a device of that name",
        errno.EINVAL: "this kind of device cannot be moved, or not under that name",
    }.get(number, "")
    return errors.SetupError(f"{what}: {text}", errno=number, where=where, hint=hint)
