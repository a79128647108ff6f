"""Network devices of the host that become the container's (config-linux.md, netDevices): X01-X06."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.harness import Box, pyoci_only

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pyoci_only("1.1 does not know netDevices")


def ip(*args: str) -> str:
    return subprocess.run(["ip", *args], capture_output=True, text=True, check=True).stdout


def devices() -> set[str]:
    return {link["ifname"] for link in json.loads(ip("-j", "link"))}


def addresses(text: str) -> set[str]:
    """What `ip -j addr` shows: the global ones, with their prefix."""
    found = json.loads(text)[0]["addr_info"]
    return {f"{a['local']}/{a['prefixlen']}" for a in found if a["scope"] == "global"}


class Pair:
    """A veth pair of the test: `name` goes to the container, `peer` stays, and takes both along when it goes."""

    def __init__(self, number: int = 0) -> None:
        self.name, self.peer = f"pyv{os.getpid() % 100000}{number}", f"pyp{os.getpid() % 100000}{number}"
        made = subprocess.run(
            ["ip", "link", "add", self.name, "type", "veth", "peer", self.peer],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            pytest.skip(f"no veth devices here: {made.stderr.strip()}")

    def close(self) -> None:
        subprocess.run(["ip", "link", "del", self.peer], capture_output=True, check=False)


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def inside(box: Box, *args: str) -> str:
    """The host's ip(8) in the container's network namespace."""
    return subprocess.run(
        ["nsenter", f"--net=/proc/{box.pid}/ns/net", "ip", *args], capture_output=True, text=True, check=True
    ).stdout


def state(box: Box, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(inside(box, "-j", "link", "show", name))[0]
    return found


def test_moved_renamed_up_with_its_addresses(box: Box, pair: Pair) -> None:
    """X01 X04 X05: permanent global addresses of both families, nothing temporary or of the link."""
    ip("addr", "add", "192.0.2.7/24", "brd", "+", "dev", pair.name)
    ip("addr", "add", "192.0.2.9/24", "valid_lft", "900", "preferred_lft", "900", "dev", pair.name)
    ip("addr", "add", "169.254.7.7/16", "scope", "link", "dev", pair.name)
    ip("-6", "addr", "add", "2001:db8::7/64", "nodad", "dev", pair.name)
    box.linux["netDevices"] = {pair.name: {"name": "uplink"}}
    box.up()
    assert pair.name not in devices()
    assert "UP" in state(box, "uplink")["flags"]
    assert addresses(inside(box, "-j", "addr", "show", "uplink")) == {"192.0.2.7/24", "2001:db8::7/64"}
    assert '"broadcast":"192.0.2.255"' in inside(box, "-j", "addr", "show", "uplink").replace('": "', '":"')


def test_name_stays(box: Box, pair: Pair) -> None:
    """X01: without a name it keeps its own; a device that was down is up."""
    box.linux["netDevices"] = {pair.name: {}}
    box.up()
    assert "UP" in state(box, pair.name)["flags"]


def test_template(box: Box) -> None:
    """X03: the kernel picks the number."""
    pairs = [Pair(1), Pair(2)]
    try:
        for number, pair in enumerate(pairs):
            ip("addr", "add", f"192.0.2.{number}/32", "dev", pair.name)
        box.linux["netDevices"] = {pair.name: {"name": "net%d"} for pair in pairs}
        box.up()
        for number in range(2):
            assert addresses(inside(box, "-j", "addr", "show", f"net{number}")) == {f"192.0.2.{number}/32"}
    finally:
        for pair in pairs:
            pair.close()


def test_in_a_user_namespace(box: Box, pair: Pair) -> None:
    """X01 X05"""
    box.userns()
    ip("addr", "add", "192.0.2.7/24", "dev", pair.name)
    box.linux["netDevices"] = {pair.name: {"name": "eth0"}}
    box.up()
    assert addresses(inside(box, "-j", "addr", "show", "eth0")) == {"192.0.2.7/24"}


def test_name_that_is_taken(box: Box, pair: Pair) -> None:
    """X02 L21: an error; the device is where and what it was."""
    ip("addr", "add", "192.0.2.7/24", "dev", pair.name)
    ip("link", "set", pair.name, "up")
    box.linux["netDevices"] = {pair.name: {"name": "lo"}}
    result = box.create(check=False)
    assert result.code == 1
    assert "file exists" in result.error
    assert f"/linux/netDevices/{pair.name}" in result.error
    assert box.entries() == set()
    assert addresses(ip("-j", "addr", "show", pair.name)) == {"192.0.2.7/24"}


def test_no_such_device(box: Box) -> None:
    """X01 L06"""
    box.linux["netDevices"] = {"pynone": {}}
    result = box.create(check=False)
    assert result.code == 1
    assert "pynone" in result.error
    assert "no such device" in result.error
    assert box.entries() == set()


def test_given_back_after_a_failure(box: Box, pair: Pair) -> None:
    """L21: what fails later in create does not take the host's device away."""
    ip("addr", "add", "192.0.2.7/24", "dev", pair.name)
    ip("link", "set", pair.name, "up")
    box.linux["netDevices"] = {pair.name: {"name": "uplink"}}
    box.hook("createRuntime", "/bin/sh", "sh", "-c", "exit 3")
    assert box.create(check=False).code == 1
    shown = ip("-j", "addr", "show", pair.name)
    assert addresses(shown) == {"192.0.2.7/24"}
    assert "UP" in json.loads(shown)[0]["flags"]


def test_hooks_and_sysctls_see_it(box: Box, pair: Pair) -> None:
    """X01: it is there before the hooks run and sysctls are set."""
    box.linux["netDevices"] = {pair.name: {"name": "uplink"}}
    box.linux["sysctl"] = {"net.ipv4.conf.uplink.forwarding": "1"}
    seen = box.bundle / "seen"
    script = f'pid=$(sed "s/.*\\"pid\\": *\\([0-9]*\\).*/\\1/"); cat /proc/$pid/net/dev > {seen}'
    box.hook("createRuntime", "/bin/sh", "sh", "-c", script, env=["PATH=/bin:/usr/bin"])
    assert box.output("cat", "/proc/sys/net/ipv4/conf/uplink/forwarding") == "1\n"
    assert "uplink" in seen.read_text()


def test_joined_network_namespace(boxes: Any, pair: Pair) -> None:
    """X01: also into the namespace of another container; it stays there when this one goes (X06)."""
    first, second = boxes(), boxes()
    first.up()
    second.namespace("network", f"/proc/{first.pid}/ns/net")
    second.linux["netDevices"] = {pair.name: {"name": "extra"}}
    second.up()
    second.delete("--force")
    assert state(first, "extra")["ifname"] == "extra"
    assert pair.name not in devices()


def test_nsexec_join() -> None:
    """The helper's door: wrong words and files are errors, the namespace is another one."""
    from tests.integration.harness import PROJECT

    def join(*args: str) -> tuple[int, str]:
        done = subprocess.run([PROJECT / "build/nsexec", "join", *args], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    assert join("net=/proc/self/ns/net", "uts=/proc/self/ns/uts", "--", "/bin/echo", "ok") == (0, "ok\n")
    for bad in ("nat=/proc/self/ns/net", "net", "=x", "net=/nosuch", "net=/proc/self/ns/uts", "net=/etc/passwd"):
        code, said = join(bad, "--", "/bin/true")
        assert code == 2, bad
        assert bad in said
    assert join("net=/proc/self/ns/net")[0] == 2
    assert join("--")[0] == 2
    assert join("--", "/nosuch")[0] == 127
