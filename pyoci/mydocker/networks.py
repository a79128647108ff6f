"""Networks of containers: their addresses, bridges, published ports and names.

A network is one record with its endpoints in it, so that an address is taken and given back in one write.  Everything
that changes a network holds one lock, and first lets go of endpoints whose container has ended: what a killed command
left is gone with the next one.  Bridges and the nftables table are there while a container uses them.
"""

from __future__ import annotations

import builtins
import hashlib
import ipaddress
import os
import re
import secrets

from pyoci.mydocker import bridge, clock, containers, errors, hostfiles, ipam, nft, ports, processes, records, rootless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from pyoci.mydocker.paths import Paths

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
DEFAULT = "bridge"
SPECIAL = ("host", "none")


class Wanted:
    """What `network create` was asked for; None is "choose one"."""

    def __init__(self) -> None:
        self.subnet: str | None = None
        self.gateway: str | None = None
        self.ip_range: str | None = None
        self.internal = False
        self.labels: dict[str, str] = {}


class Networks:
    """The networks of one store.  problems: texts of the records that could not be read."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.problems: list[str] = []
        own = hashlib.sha256(os.fsencode(paths.root)).hexdigest()[:8]
        self.table = "mydocker" if paths.root == "/var/lib/mydocker" else f"mydocker-{own}"

    # -- looking --------------------------------------------------------------------------------

    def list(self) -> list[dict[str, Any]]:
        """Every network by name, `bridge`, `host` and `none` too; endpoints of ended containers left out."""
        found = {name: _special(name) for name in SPECIAL}
        for name, record in records.scan(self.paths.networks, self.problems):
            found[name] = {**record, "endpoints": _living(record)}
        if DEFAULT not in found:
            found[DEFAULT] = {**_special(DEFAULT), "driver": "bridge"}
        return [found[name] for name in sorted(found)]

    def find(self, text: str) -> dict[str, Any]:
        """By name or beginning of the id.  Raises errors.NotFound, errors.Conflict."""
        everything = self.list()
        for network in everything:
            if text in (network["name"], network["id"]):
                return network
        fitting = [network for network in everything if text and network["id"].startswith(text)]
        if len(fitting) > 1:
            raise errors.Conflict(f"network {text} is ambiguous: several ids begin with it")
        if not fitting:
            raise errors.NotFound(f"network {text} not found")
        return fitting[0]

    def of(self, container_id: str) -> dict[str, dict[str, Any]]:
        """{network: endpoint} of a running container, in the order of its interfaces."""
        found = [(net, net["endpoints"][container_id]) for net in self.list() if container_id in net["endpoints"]]
        found.sort(key=lambda pair: str(pair[1]["interface"]))
        return {
            net["name"]: {**endpoint, "gateway": net["gateway"], "subnet": net["subnet"], "network_id": net["id"]}
            for net, endpoint in found
        }

    # -- networks -------------------------------------------------------------------------------

    def create(self, name: str, wanted: Wanted) -> dict[str, Any]:
        """Write a network down; its bridge comes with its first container.  Raises errors.Error."""
        if not _NAME.fullmatch(name):
            raise errors.UsageError(f"{name!r} is no network name: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
        if name in (DEFAULT, *SPECIAL):
            raise errors.Conflict(f"operation is not permitted on predefined {name} network")
        if rootless.active():
            raise errors.Error(
                "networks of one's own need root; an ordinary user has `bridge`, by slirp4netns or pasta"
            )
        return self._create(name, wanted)

    def _create(self, name: str, wanted: Wanted) -> dict[str, Any]:
        with self._lock():
            everything = self._load()
            if name in everything:
                raise errors.Conflict(f"network with name {name} already exists")
            others = [ipaddress.IPv4Network(net["subnet"]) for net in everything.values()]
            if wanted.subnet is None:
                chosen = ipam.choose_subnet([*others, *bridge.subnets_in_use()])
            else:
                chosen = ipam.parse_subnet(wanted.subnet)
                if any(chosen.overlaps(other) for other in others):
                    raise errors.Conflict("Pool overlaps with other one on this address space", hint="see network ls")
            if wanted.ip_range is not None and not ipam.parse_subnet(wanted.ip_range).subnet_of(chosen):
                raise errors.UsageError(f"--ip-range {wanted.ip_range} is not within {chosen}")
            id = secrets.token_hex(32)
            record = {
                **_special(name),
                "id": id,
                "driver": "bridge",
                "created": clock.now(),
                "subnet": str(chosen),
                "gateway": ipam.gateway(chosen, wanted.gateway),
                "ip_range": wanted.ip_range,
                "internal": wanted.internal,
                "labels": wanted.labels,
                "device": "mydocker0" if (name, self.table) == (DEFAULT, "mydocker") else f"md-{id[:12]}",
            }
            self._save(record)
        return record

    def remove(self, text: str) -> str:
        """Remove a network that nobody uses; gives its name.  Raises errors.Conflict."""
        name: str = self.find(text)["name"]
        if name in (DEFAULT, *SPECIAL):
            raise errors.Conflict(f"{name} is a pre-defined network and cannot be removed")
        with self._lock():
            everything = self._load()
            if name not in everything:
                raise errors.NotFound(f"network {text} not found")
            if everything[name]["endpoints"]:
                raise errors.Conflict(f"error while removing network: network {name} has active endpoints")
            bridge.remove(everything[name]["device"])
            records.remove(self._path(name))
        return name

    # -- containers -----------------------------------------------------------------------------

    def connect(
        self,
        container: containers.Container,
        pid: int,
        name: str,
        *,
        ip: str | None = None,
        aliases: Iterable[str] = (),
        wanted_ports: Iterable[dict[str, Any]] = (),
    ) -> dict[str, Any]:
        """Give a container whose init is pid an interface in a network.  Raises errors.Error; then nothing is left."""
        if name == DEFAULT and not os.path.exists(self._path(name)):
            self._create_default()
        with self._lock():
            everything = self._load()
            if name not in everything:
                raise errors.NotFound(f"network {name} not found")
            network = everything[name]
            if container.id in network["endpoints"]:
                raise errors.Conflict(f"container {container.name} is already connected to network {name}")
            before = [net for net in everything.values() if container.id in net["endpoints"]]
            endpoint = self._endpoint(network, container, pid, ip, aliases)
            endpoint["interface"] = _free_interface([net["endpoints"][container.id] for net in before])
            endpoint["ports"] = ports.choose(wanted_ports, _published(everything.values()))
            network["endpoints"][container.id] = endpoint
            self._save(network)
            try:
                bridge.ensure(network)
                bridge.plug(network, endpoint, default_route=all(net["internal"] for net in before))
                self._settle(everything, [network])
            except BaseException:
                network["endpoints"].pop(container.id, None)
                self._settle(everything, [network])
                raise
        return endpoint

    def disconnect(self, container_id: str, name: str | None = None) -> None:
        """Take a container out of a network, or of all; no error when it is in none."""
        with self._lock():
            everything = self._load()
            changed = [
                net for net in everything.values() if container_id in net["endpoints"] and name in (None, net["name"])
            ]
            for network in changed:
                bridge.remove(network["endpoints"].pop(container_id)["veth"])
            self._settle(everything, changed)
            self._write_hosts(everything, [container_id])

    def settle(self) -> None:
        """Let go of everything that belongs to containers that have ended."""
        if not os.path.isdir(self.paths.networks):
            return
        with self._lock():
            self._settle(self._load(), [])

    # -- inside ---------------------------------------------------------------------------------

    def _lock(self) -> records.Lock:
        return records.Lock(f"{self.paths.networks}/.lock")

    def _path(self, name: str) -> str:
        return f"{self.paths.networks}/{name}.json"

    def _save(self, network: dict[str, Any]) -> None:
        records.write(self._path(network["name"]), {key: network[key] for key in network if key != "stale"})

    def _create_default(self) -> None:
        try:
            self._create(DEFAULT, Wanted())
        except errors.Conflict:  # by another command, meanwhile
            pass

    def _load(self) -> dict[str, dict[str, Any]]:
        """Every bridge network by name; endpoints of ended containers are let go.  The caller holds the lock."""
        found = dict(records.scan(self.paths.networks, self.problems))
        for network in found.values():
            living = _living(network)
            if living != network["endpoints"]:
                for id in network["endpoints"].keys() - living.keys():
                    bridge.remove(network["endpoints"][id]["veth"])
                network["endpoints"] = living
                network["stale"] = True  # rules and bridge are to be looked at; not kept
        return found

    def _settle(self, everything: dict[str, dict[str, Any]], changed: builtins.list[dict[str, Any]]) -> None:
        """Write what has changed, and let rules, bridges and hosts files follow."""
        stale = [net for net in everything.values() if net.pop("stale", False)]
        touched = changed + [net for net in stale if net not in changed]
        if not touched:
            return
        for network in touched:
            self._save(network)
        self._apply(everything)
        for network in touched:
            if not network["endpoints"]:
                bridge.remove(network["device"])
        self._write_hosts(everything, {id for net in touched for id in net["endpoints"]})

    def _apply(self, everything: dict[str, dict[str, Any]]) -> None:
        used = [
            {
                "device": net["device"],
                "subnet": net["subnet"],
                "internal": net["internal"],
                "ports": [
                    {**port, "ip": endpoint["ip"]}
                    for endpoint in net["endpoints"].values()
                    for port in endpoint["ports"]
                ],
            }
            for net in everything.values()
            if net["endpoints"]
        ]
        nft.apply(nft.table(self.table, used))

    def _endpoint(
        self,
        network: dict[str, Any],
        container: containers.Container,
        pid: int,
        ip: str | None,
        aliases: Iterable[str],
    ) -> dict[str, Any]:
        used = {network["gateway"], *(endpoint["ip"] for endpoint in network["endpoints"].values())}
        subnet = ipaddress.IPv4Network(network["subnet"])
        address = ipam.choose_address(subnet, used, ip, network["ip_range"])
        hostname = container.config.get("Hostname", "")
        names = dict.fromkeys([hostname, container.name, container.id[:12], *aliases])
        return {
            "name": container.name,
            "ip": address,
            "prefix": subnet.prefixlen,
            "mac": ipam.mac_of(address),
            "veth": f"mdv{container.id[:6]}{network['id'][:6]}",
            "names": [name for name in names if name],
            "pid": pid,
            "start": processes.start_time(pid),
        }

    def _write_hosts(self, everything: dict[str, dict[str, Any]], ids: Iterable[str]) -> None:
        """The hosts files of these containers: their own names, then their neighbours'."""
        for id in ids:
            peers: list[tuple[str, list[str]]] = []
            mine = [net for net in everything.values() if id in net["endpoints"]]
            for network in mine:
                peers.append((network["endpoints"][id]["ip"], network["endpoints"][id]["names"]))
            for network in mine:
                others = ((other, end) for other, end in network["endpoints"].items() if other != id)
                peers += [(end["ip"], [*end["names"], f"{end['name']}.{network['name']}"]) for _, end in others]
            try:
                container = containers.load(self.paths, id)
            except errors.NotFound:
                continue
            if container.host:
                hostfiles.write(f"{container.directory}/hosts", hostfiles.hosts(container.host, peers))


def _special(name: str) -> dict[str, Any]:
    """A network without a bridge: its name is its id, so that nothing has to be kept of it."""
    return {
        "id": hashlib.sha256(name.encode()).hexdigest(),
        "name": name,
        "driver": "null" if name == "none" else name,
        "created": "",
        "subnet": "",
        "gateway": "",
        "ip_range": None,
        "internal": False,
        "labels": {},
        "device": "",
        "endpoints": {},
    }


def _living(network: dict[str, Any]) -> dict[str, Any]:
    endpoints = network.get("endpoints") or {}
    return {id: end for id, end in endpoints.items() if processes.alive(end["pid"], end["start"])}


def _published(networks: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for network in networks:
        for endpoint in network["endpoints"].values():
            yield from endpoint["ports"]


def _free_interface(endpoints: list[dict[str, Any]]) -> str:
    taken = {endpoint["interface"] for endpoint in endpoints}
    number = 0
    while f"eth{number}" in taken:
        number += 1
    return f"eth{number}"
