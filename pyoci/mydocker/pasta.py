"""The network of an ordinary user's container by pasta (passt), where there is no slirp4netns: the same addresses."""

from __future__ import annotations

import os
import subprocess

from pyoci.mydocker import errors, monitor, ports, processes, records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.mydocker.containers import Container

_SAID = 2000  # characters of its words that are shown


def start(container: Container, pid: int, program: str, addresses: dict[str, str]) -> None:
    """Let pasta serve the network namespace of pid.  Raises errors.Error with its own words.

    It goes into the background by itself when everything is set up, and ends with the namespace.
    """
    chosen = ports.choose(container.host["ports"], ())
    for port in chosen:
        if port["proto"] == "sctp":
            raise errors.Error(f"cannot publish {ports.text(port)}: pasta has tcp and udp only", code=125)
    pid_file = f"{container.run}/pasta.pid"
    command = [program, "--quiet", "--pid", pid_file, "--ipv4-only", "--config-net", "--netns-only"]
    command += ["--ns-ifname", "tap0", "--address", addresses["own"], "--netmask", "24"]
    command += ["--gateway", addresses["gateway"], "--dns-forward", addresses["dns"], "--no-map-gw"]
    command += [*_forwards(chosen), "--tcp-ns", "none", "--udp-ns", "none", "--netns"]
    namespace = os.open(
        f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC
    )  # pasta itself may not: it drops rights first
    try:
        done = subprocess.run(
            [*command, f"/proc/self/fd/{namespace}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=monitor.environment(),
            pass_fds=[namespace],
            check=False,
        )
    finally:
        os.close(namespace)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[-_SAID:]
        raise errors.Error(f"pasta could not set the network up: {said}", code=125)
    with open(pid_file, encoding="ascii") as file:
        own = int(file.read())
    os.unlink(pid_file)
    record = {"pid": own, "start": processes.start_time(own), "ports": chosen}
    records.write(f"{container.run}/slirp.json", record)


def _forwards(chosen: list[dict[str, Any]]) -> list[str]:
    """The options for published ports; what is not named is not forwarded."""
    found = []
    for option, proto in (("--tcp-ports", "tcp"), ("--udp-ports", "udp")):
        wanted = [port for port in chosen if port["proto"] == proto]
        for port in wanted:
            address = f"{port['host_ip']}/" if port["host_ip"] else ""
            found += [option, f"{address}{port['host_port']}:{port['container_port']}"]
        if not wanted:
            found += [option, "none"]
    return found
