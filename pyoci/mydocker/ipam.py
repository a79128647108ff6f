"""Addresses: which subnet a network gets, which address a container.  Pure; the caller holds the lock."""

from __future__ import annotations

import ipaddress

from pyoci.mydocker import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

Network = ipaddress.IPv4Network
# docker's address pools: sixteens first, then smaller ones
_POOLS = (
    *(f"172.{n}.0.0/16" for n in range(17, 32)),
    *(f"192.168.{n}.0/20" for n in range(0, 256, 16)),
    *(f"10.{n}.0.0/16" for n in range(88, 256)),
)
_SMALLEST = 31  # bits; RFC 3021: a /31 has two addresses, the gateway's and one more


def parse_subnet(text: str) -> Network:
    """--subnet.  Raises errors.UsageError."""
    if ":" in text:
        raise errors.UsageError(f"invalid subnet {text!r}: IPv6 is not supported: networks and ports are IPv4")
    try:
        subnet = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise errors.UsageError(f"invalid subnet {text!r}: {error}") from None
    if subnet.prefixlen > _SMALLEST or "/" not in text:
        raise errors.UsageError(f"invalid subnet {text!r}: no room for a gateway and a container")
    return subnet


def choose_subnet(taken: Iterable[Network]) -> Network:
    """The first of the pools that overlaps nothing.  Raises errors.Conflict."""
    others = [*taken]
    for text in _POOLS:
        subnet = ipaddress.IPv4Network(text)
        if not any(subnet.overlaps(other) for other in others):
            return subnet
    raise errors.Conflict("no free range of addresses is left", hint="remove a network, or choose one with --subnet")


def gateway(subnet: Network, wanted: str | None = None) -> str:
    """The bridge's own address: the one asked for, or the first.  Raises errors.UsageError."""
    if wanted is None:
        return str(subnet.network_address if subnet.prefixlen == _SMALLEST else subnet.network_address + 1)
    return _inside(subnet, wanted, "gateway")


def choose_address(subnet: Network, used: Collection[str], wanted: str | None = None, within: str | None = None) -> str:
    """A free address of the subnet, the lowest; or the one asked for.

    used: taken ones, the gateway's too; within: --ip-range.  Raises errors.Conflict, errors.UsageError.
    """
    if wanted is not None:
        address = _inside(subnet, wanted, "address")
        if address in used:
            raise errors.Conflict(f"address {address} is already in use")
        return address
    pool = parse_subnet(within) if within else subnet
    first, last = int(pool.network_address), int(pool.broadcast_address)
    if subnet.prefixlen < _SMALLEST:  # neither the network's own address nor the broadcast one
        first = max(first, int(subnet.network_address) + 1)
        last = min(last, int(subnet.broadcast_address) - 1)
    taken = {int(ipaddress.IPv4Address(address)) for address in used}
    for number in range(first, last + 1):  # ends after len(used) + 1 steps at the latest
        if number not in taken:
            return str(ipaddress.IPv4Address(number))
    raise errors.Conflict(f"no address is left in {pool}")


def _inside(subnet: Network, text: str, what: str) -> str:
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        raise errors.UsageError(f"invalid {what} {text!r}") from None
    edges = (subnet.network_address, subnet.broadcast_address) if subnet.prefixlen < _SMALLEST else ()
    if address not in subnet or address in edges:
        raise errors.UsageError(f"{what} {text} is no address for a host in {subnet}")
    return str(address)


def mac_of(address: str) -> str:
    """docker's: 02:42 and the four bytes of the IPv4 address, so that it is unique where the address is."""
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x42, *ipaddress.IPv4Address(address).packed))
