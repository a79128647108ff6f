"""The one nftables table of a store: made from what is to hold, replaced as a whole in one transaction.

table() is pure.  See nft(8); the hooks and priorities are those of netfilter's NAT and filter.
"""

from __future__ import annotations

import shutil
import subprocess

from pyoci.mydocker import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def table(name: str, networks: Sequence[dict[str, Any]]) -> str:
    """What nft -f reads.  networks: device, subnet, internal, ports (entries of ports.py with `ip`)."""
    replace = f"add table ip {name}\ndelete table ip {name}\n"
    if not networks:
        return replace
    chains = [_guard(networks), _dnat(networks), _masquerade(networks), _forward(networks)]
    return f"{replace}table ip {name} {{\n{''.join(chains)}}}\n"


def _guard(networks: Sequence[dict[str, Any]]) -> str:
    # route_localnet lets the host reach a container by 127.0.0.1; nobody else may use it to reach 127.0.0.1
    rules = [f'iifname "{net["device"]}" ip daddr 127.0.0.0/8 drop' for net in networks]
    return _chain("guard", "type filter hook prerouting priority raw; policy accept;", rules)


def _dnat(networks: Sequence[dict[str, Any]]) -> str:
    rules = []
    for net in networks:
        for port in net["ports"]:
            address = f"ip daddr {port['host_ip']} " if port["host_ip"] else ""
            target = f"{port['ip']}:{port['container_port']}"
            rules.append(
                (port["host_ip"] == "", f"{address}{port['proto']} dport {port['host_port']} dnat to {target}")
            )
    jump = ["fib daddr type local jump ports"]
    return (
        _chain("ports", "", [rule for _, rule in sorted(rules)])  # those with an address before those without
        + _chain("prerouting", "type nat hook prerouting priority dstnat; policy accept;", jump)
        + _chain("output", "type nat hook output priority -100; policy accept;", jump)
    )


def _masquerade(networks: Sequence[dict[str, Any]]) -> str:
    rules = []
    for net in networks:
        device, subnet = net["device"], net["subnet"]
        if not net["internal"]:
            rules.append(f'ip saddr {subnet} oifname != "{device}" masquerade')
        # a published port asked for from 127.0.0.1, and by a container of the same network
        rules.append(f'ip saddr 127.0.0.0/8 oifname "{device}" masquerade')
        rules.append(f'ip saddr {subnet} oifname "{device}" ct status dnat masquerade')
    return _chain("postrouting", "type nat hook postrouting priority srcnat; policy accept;", rules)


def _forward(networks: Sequence[dict[str, Any]]) -> str:
    """Into a network come answers and what a published port brings; so networks are apart from each other."""
    rules = []
    for net in networks:
        inward = f'iifname != "{net["device"]}" oifname "{net["device"]}"'
        rules.append(f"{inward} ct state established,related accept")
        rules.append(f"{inward} ct status dnat accept" if not net["internal"] else "")
        rules.append(f"{inward} drop")
        if net["internal"]:
            rules.append(f'iifname "{net["device"]}" oifname != "{net["device"]}" drop')
    return _chain("forward", "type filter hook forward priority filter; policy accept;", [r for r in rules if r])


def _chain(name: str, head: str, rules: Sequence[str]) -> str:
    lines = [head] if head else []
    return f"\tchain {name} {{\n" + "".join(f"\t\t{line}\n" for line in [*lines, *rules]) + "\t}\n"


def apply(text: str) -> None:
    """Let the kernel take it, all or nothing.  Raises errors.Error."""
    program = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        raise errors.Error("published ports and NAT need nft", hint="install nftables")
    done = subprocess.run([program, "-f", "-"], input=text, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise errors.Error(f"nft: {' '.join(done.stderr.split())[:500]}")
