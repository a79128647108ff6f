"""The network of an ordinary user's container: slirp4netns, else pasta, when it is installed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys

from pyoci.mydocker import errors, monitor, pasta, ports, processes, records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.mydocker.containers import Container

DNS = "10.0.2.3"
ADDRESS = "10.0.2.100"
_GATEWAY = "10.0.2.2"
_PROGRAMS = "/usr/bin:/bin:/usr/local/bin"
_SOCKET = "slirp.sock"
_SAID = 2000  # bytes of its words that are shown
_PATIENCE = 10.0  # seconds for its answers


def start(container: Container, pid: int) -> None:
    """Give the network namespace of pid a way out.  Without slirp4netns and pasta it has none, which is said, unless
    ports were to be published: that is an error.
    """
    program = shutil.which("slirp4netns", path=_PROGRAMS)
    if program:
        _slirp(container, pid, program)
    elif program := shutil.which("pasta", path=_PROGRAMS):
        pasta.start(container, pid, program, {"own": ADDRESS, "gateway": _GATEWAY, "dns": DNS})
    elif container.host["ports"]:
        raise errors.Error(
            "an ordinary user publishes ports by slirp4netns or pasta", hint="install slirp4netns or passt", code=125
        )
    else:
        sys.stderr.write(
            "mydocker: warning: no slirp4netns and no pasta, so the container has no network but its own loopback\n"
        )


def _slirp(container: Container, pid: int, program: str) -> None:
    ready, writing = os.pipe()
    said = os.open(f"{container.run}/slirp.log", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    command = [program, "--configure", "--mtu=65520", "--disable-host-loopback", "-a", _SOCKET, "-r", str(writing)]
    command += ["--netns-type=path", f"/proc/{pid}/ns/net"]  # we are in its user namespace already
    try:
        process = subprocess.Popen(
            [*command, "tap0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            pass_fds=[writing],
            env=monitor.environment(),
            cwd=container.run,  # a socket's address has 107 bytes only
            start_new_session=True,
        )
    finally:
        os.close(writing)
    record = {"pid": process.pid, "start": processes.start_time(process.pid), "ports": []}
    records.write(f"{container.run}/slirp.json", record)
    with os.fdopen(ready, "rb") as file, os.fdopen(said, "rb") as log:
        if file.read(1) != b"1":
            log.seek(0)  # where it stands is where slirp4netns writes
            reason = " ".join(log.read(_SAID).decode("utf-8", "replace").split())
            raise errors.Error(f"slirp4netns could not set the network up: {reason}", code=125)
    chosen = ports.choose(container.host["ports"], ())
    for port in chosen:
        _forward(container.run, port)
    records.write(f"{container.run}/slirp.json", {**record, "ports": chosen})


def _forward(directory: str, port: dict[str, Any]) -> None:
    arguments = {
        "proto": port["proto"],
        "host_addr": port["host_ip"] or "0.0.0.0",
        "host_port": port["host_port"],
        "guest_addr": ADDRESS,
        "guest_port": port["container_port"],
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE)
        fd = os.open(directory, os.O_PATH | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{fd}/{_SOCKET}")
        finally:
            os.close(fd)
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
