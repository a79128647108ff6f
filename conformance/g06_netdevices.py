"""G6: network devices that are moved into the container.  The host here is our own network namespace."""

from __future__ import annotations

import shutil
import subprocess

from conformance.box import Box, Skip, has, holds, same
from conformance.runner import check


def ip(*args: str) -> str:
    """Run ip(8) in our network namespace."""
    return subprocess.run(["ip", *args], check=True, capture_output=True, text=True).stdout


def device(box: Box, name: str = "cf0") -> str:
    """One end of a new veth pair, with an address, down."""
    if not shutil.which("ip"):
        raise Skip("there is no ip program (iproute2) to make a device with")
    try:
        ip("link", "add", name, "type", "veth", "peer", "name", f"{name}p")
    except subprocess.CalledProcessError as error:
        raise Skip(f"this kernel makes no veth devices: {error.stderr.strip()}") from None
    ip("address", "add", "10.77.0.5/24", "dev", name)
    ip("address", "add", "fd77::5/64", "dev", name, "nodad")
    box.config["mounts"] = [m for m in box.config["mounts"] if m["destination"] != "/sys"]
    box.mount("/sys", "sysfs", "sysfs", "ro")
    return name


def gone(name: str = "cf0") -> None:
    """Remove the pair, wherever its other end is."""
    subprocess.run(["ip", "link", "delete", f"{name}p"], capture_output=True, check=False)


@check("X01")
def moved(box: Box) -> None:
    """The device is in the container under its new name, and no longer outside."""
    name = device(box)
    try:
        box.linux["netDevices"] = {name: {"name": "walnut0"}}
        box.up()
        has(box.exec("ls", "/sys/class/net").out, "walnut0", "devices inside")
        holds(f"{name}@" not in ip("link"), "the device is still outside")
    finally:
        gone()


@check("X01")
def missing(box: Box) -> None:
    """A device that is not there is an error."""
    box.linux["netDevices"] = {"nosuch0": {}}
    box.refused("a device that is not there")


@check("X02")
def name_taken(box: Box) -> None:
    """A name that is taken in the container is an error, and the device stays outside."""
    name = device(box)
    try:
        box.linux["netDevices"] = {name: {"name": "lo"}}
        box.refused("a device that should be called lo")
        has(ip("link"), f"{name}@", "devices outside afterwards")
    finally:
        gone()


@check("X03")
def template(box: Box) -> None:
    """%d in the name: the kernel picks the number."""
    name = device(box)
    try:
        box.linux["netDevices"] = {name: {"name": "wal%d"}}
        has(box.output("ls", "/sys/class/net"), "wal0", "devices inside")
    finally:
        gone()


@check("X04")
def addresses(box: Box) -> None:
    """The permanent global addresses come along."""
    name = device(box)
    try:
        box.linux["netDevices"] = {name: {"name": "walnut0"}}
        out = box.output("ip", "address", "show", "walnut0")
        has(out, "10.77.0.5/24", "addresses")
        has(out, "fd77::5/64", "addresses")
    finally:
        gone()


@check("X05")
def up(box: Box) -> None:
    """The device is set up after the move."""
    name = device(box)
    try:
        box.linux["netDevices"] = {name: {}}
        same("UP" in box.output("ip", "link", "show", name).partition(">")[0], True, "the device is up")
    finally:
        gone()


@check("X06")
def not_moved_back(box: Box) -> None:
    """After delete the device is where it was moved to."""
    name = device(box)
    try:
        holder = box.another()
        pid = holder.up()
        box.namespace("network", f"/proc/{pid}/ns/net")
        box.linux["netDevices"] = {name: {"name": "walnut0"}}
        box.run()
        has(holder.exec("ip", "link").out, "walnut0", "devices of the namespace that was joined")
        holds(f"{name}@" not in ip("link"), "the device was moved back")
    finally:
        gone()
