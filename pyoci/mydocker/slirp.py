"""The network of an ordinary user's container: slirp4netns, when it is installed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys

from pyoci.mydocker import errors, monitor, ports, processes, records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.mydocker.containers import Container

DNS = "10.0.2.3"
ADDRESS = "10.0.2.100"
_PATIENCE = 10.0  # seconds for its answers


def start(container: Container, pid: int) -> None:
    """Give the network namespace of pid a way out.  Without slirp4netns it has none, which is said, unless ports
    were to be published: that is an error.
    """
    program = shutil.which("slirp4netns", path="/usr/bin:/bin:/usr/local/bin")
    if program is None:
        if container.host["ports"]:
            raise errors.Error("an ordinary user publishes ports by slirp4netns", hint="install slirp4netns", code=125)
        sys.stderr.write("mydocker: warning: no slirp4netns, so the container has no network but its own loopback\n")
        return
    ready, writing = os.pipe()
    api = f"{container.run}/slirp.sock"
    command = [program, "--configure", "--mtu=65520", "--disable-host-loopback", "-a", api, "-r", str(writing)]
    try:
        process = subprocess.Popen(
            [*command, str(pid), "tap0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[writing],
            env=monitor.environment(),
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(writing)
    record = {"pid": process.pid, "start": processes.start_time(process.pid), "ports": []}
    records.write(f"{container.run}/slirp.json", record)
    with os.fdopen(ready, "rb") as file:
        if file.read(1) != b"1":
            raise errors.Error("slirp4netns could not set the network up", code=125)
    chosen = ports.choose(container.host["ports"], ())
    for port in chosen:
        _forward(api, port)
    records.write(f"{container.run}/slirp.json", {**record, "ports": chosen})


def _forward(api: str, port: dict[str, Any]) -> None:
    arguments = {
        "proto": port["proto"],
        "host_addr": port["host_ip"] or "0.0.0.0",
        "host_port": port["host_port"],
        "guest_addr": ADDRESS,
        "guest_port": port["container_port"],
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE)
        connection.connect(api)
        connection.sendall(json.dumps({"execute": "add_hostfwd", "arguments": arguments}).encode())
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(4096)
    if b'"error"' in answer:
        raise errors.Error(f"cannot publish {ports.text(port)}: {answer.decode('utf-8', 'replace')}", code=125)


def published(container: Container) -> list[dict[str, Any]]:
    """The ports of a running container."""
    try:
        found: list[dict[str, Any]] = records.read(f"{container.run}/slirp.json")["ports"]
    except (FileNotFoundError, records.Broken, KeyError):
        return []
    return found


def stop(container: Container) -> None:
    """End it; no error when there is none."""
    try:
        record = records.read(f"{container.run}/slirp.json")
        processes.kill(record["pid"], record["start"])
    except (FileNotFoundError, records.Broken, KeyError):
        return
    records.remove(f"{container.run}/slirp.json")
