"""Networks of real containers, inside a network namespace of the test's own."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from pyoci.mydocker import ipam, nft, ports
from pyoci.mydocker.errors import Conflict, UsageError
from tests.mydocker.conftest import TIMEOUT
from tests.mydocker.real import Docker

if TYPE_CHECKING:
    pass

SERVER = ["busybox", "sh", "-c", "mkdir -p /www && hostname > /www/index.html && exec httpd -f -p 80 -h /www"]


# -- pure -------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [8, 16, 24, 29, 30, 31])
def test_every_size_of_subnet(length: int) -> None:
    subnet = ipam.parse_subnet(f"10.0.0.0/{length}")
    gateway = ipam.gateway(subnet)
    used = {gateway}
    room = min(2 ** (32 - length) - (3 if length < 31 else 1), 300)
    for _ in range(room):
        address = ipam.choose_address(subnet, used)
        assert address not in used
        used.add(address)
    assert "10.0.0.0" not in used or length == 31
    if length >= 24:
        with pytest.raises(Conflict, match="no address is left"):
            ipam.choose_address(subnet, used)
        freed = sorted(used - {gateway})[0]
        assert ipam.choose_address(subnet, used - {freed}) == freed


def test_addresses_that_cannot_be() -> None:
    subnet = ipam.parse_subnet("10.0.0.0/24")
    for text in ("10.0.1.1", "10.0.0.0", "10.0.0.255", "x", "::1"):
        with pytest.raises(UsageError):
            ipam.choose_address(subnet, (), text)
    with pytest.raises(Conflict):
        ipam.choose_address(subnet, {"10.0.0.7"}, "10.0.0.7")
    for text in ("10.0.0.1/24", "10.0.0.0/32", "10.0.0.0", "fe80::/64", "x"):
        with pytest.raises(UsageError):
            ipam.parse_subnet(text)
    first = ipam.choose_subnet(())
    assert not ipam.choose_subnet([first]).overlaps(first)


def test_port_spellings() -> None:
    def short(text: str) -> list[tuple[str, int, int, str]]:
        return [(p["host_ip"], p["host_port"], p["container_port"], p["proto"]) for p in ports.parse(text)]

    assert short("80") == [("", 0, 80, "tcp")]
    assert short("8080:80") == [("", 8080, 80, "tcp")]
    assert short("127.0.0.1:8080:80/udp") == [("127.0.0.1", 8080, 80, "udp")]
    assert short("127.0.0.1::80") == [("127.0.0.1", 0, 80, "tcp")]
    assert short("8000-8002:80-82") == [("", 8000 + n, 80 + n, "tcp") for n in range(3)]
    for text in (
        "",
        "x",
        "0:80",
        "65536:1",
        "1:2:3:4",
        "80/icmp",
        "8000-8002:80-81",
        "9-8:9-8",
        "1.2.3:1:1",
        "\uff11:1",
    ):
        with pytest.raises(UsageError):
            ports.parse(text)


def test_the_table_of_no_network_is_none() -> None:
    assert nft.table("x", []) == "add table ip x\ndelete table ip x\n"


# -- real -------------------------------------------------------------------------------------


def test_published_port(docker: Docker) -> None:
    docker.out("run", "-d", "--name", "web", "--hostname", "walnut", "-p", "8080:80", *SERVER)
    assert docker.get("http://127.0.0.1:8080/") == "walnut"
    docker.inside("ip", "addr", "add", "10.200.0.1/32", "dev", "lo")
    assert docker.get("http://10.200.0.1:8080/") == "walnut"
    address = docker.inspect("web")["NetworkSettings"]["IPAddress"]
    gateway = docker.inspect("web")["NetworkSettings"]["Gateway"]
    assert docker.get(f"http://{address}/") == "walnut"
    assert docker.out("exec", "web", "wget", "-qO-", f"http://{gateway}:8080/") == "walnut"  # its own port, from inside
    assert docker.out("port", "web") == "80/tcp -> 0.0.0.0:8080"
    assert "0.0.0.0:8080->80/tcp" in docker.out("ps")
    taken = docker("run", "-d", "--name", "second", "-p", "8080:80", *SERVER)
    assert taken.code == 125
    assert "port is already allocated" in taken.err
    docker.out("stop", "-t", "0", "web")
    assert docker.inside("nft", "list", "tables") == ""
    docker.out("start", "web")
    assert docker.get("http://127.0.0.1:8080/") == "walnut"


def test_ports_by_address_range_and_chance(docker: Docker) -> None:
    options = ["-p", "127.0.0.1:9000:80", "-p", "9001-9002:81-82", "-p", "83/udp"]
    docker.out("run", "-d", "--name", "web", *options, *SERVER)
    shown = dict(line.split(" -> ") for line in docker.out("port", "web").splitlines())
    assert shown["80/tcp"] == "127.0.0.1:9000"
    assert (shown["81/tcp"], shown["82/tcp"]) == ("0.0.0.0:9001", "0.0.0.0:9002")
    assert int(shown["83/udp"].rpartition(":")[2]) >= 1024
    assert docker.out("port", "web", "80") == "127.0.0.1:9000"
    assert docker("port", "web", "99").code == 1
    assert docker.get("http://127.0.0.1:9000/")
    docker.inside("ip", "addr", "add", "10.200.0.1/32", "dev", "lo")
    assert docker.inside("curl", "-s", "--max-time", "1", "http://10.200.0.1:9000/", check=False) == ""


def test_a_port_of_the_host_is_taken(docker: Docker) -> None:
    enter = ["nsenter", f"--net=/proc/{docker.holder.pid}/ns/net"]
    server = subprocess.Popen(
        [*enter, "python3", "-c", "import socket; s = socket.create_server(('', 7070)); print(flush=True); s.accept()"],
        stdout=subprocess.PIPE,
    )
    assert server.stdout
    server.stdout.readline()
    result = docker("run", "--rm", "-p", "7070:80", "busybox", "true")
    server.kill()
    server.wait()
    server.stdout.close()
    assert result.code == 125
    assert "port is already allocated" in result.err


def test_networks(docker: Docker) -> None:
    """The book's chapter 6: two networks; names within one, nothing between them."""
    docker.out("network", "create", "--driver", "bridge", "--subnet", "10.77.1.0/24", "one")
    docker.out("network", "create", "two")
    docker.out("run", "-d", "--name", "web", "-net", "one", *SERVER)
    docker.out("run", "-d", "--name", "far", "--network", "two", *SERVER)
    far = docker.inspect("far")["NetworkSettings"]["Networks"]["two"]["IPAddress"]
    assert docker.inspect("web")["NetworkSettings"]["Networks"]["one"]["IPAddress"] == "10.77.1.2"
    fetch = ["timeout", "2", "wget", "-qO-"]
    docker.out("run", "-d", "--name", "client", "--network", "one", "--network-alias", "me", "busybox", "sleep", "600")
    docker.until(lambda: docker("exec", "client", *fetch, "http://web/").code == 0, "the server")
    assert "me" in docker.out("exec", "web", "cat", "/etc/hosts")
    assert docker("exec", "client", *fetch, "http://far/").code != 0
    assert docker("exec", "client", *fetch, f"http://{far}/").code != 0
    docker.out("network", "connect", "two", "client")
    docker.until(lambda: docker("exec", "client", *fetch, "http://far/").code == 0, "the other network")
    assert len(docker.inspect("client")["NetworkSettings"]["Networks"]) == 2
    docker.out("network", "disconnect", "one", "client")
    assert docker("exec", "client", *fetch, "http://web/").code != 0
    assert "web" not in docker.out("exec", "client", "cat", "/etc/hosts")
    shown = docker.out("network", "list")
    assert [line.split()[1] for line in shown.splitlines()[1:]] == ["bridge", "host", "none", "one", "two"]
    assert docker("network", "remove", "one").code == 1
    members = json.loads(docker.out("network", "inspect", "one"))[0]["Containers"]
    assert [member["Name"] for member in members.values()] == ["web"]
    docker.out("rm", "-f", "web", "far", "client")
    assert docker.out("network", "remove", "one", "two") == "one\ntwo"
    assert docker("network", "create", "bridge").code == 1
    assert docker("network", "create", "../../etc").code == 125
    for options in (["--ipv6"], ["--subnet", "fd00::/64"]):
        refused = docker("network", "create", *options, "six")
        assert refused.code != 0
        assert "IPv6 is not supported" in refused.err
    assert docker("run", "--rm", "--network", "no-such", "busybox", "true").code == 125


def test_internal_network(docker: Docker) -> None:
    docker.out("network", "create", "--internal", "--subnet", "10.78.0.0/24", "closed")
    routes = docker.out("run", "--rm", "--network", "closed", "busybox", "ip", "route")
    assert "default" not in routes
    assert "10.78.0.0/24" in routes


def test_no_address_twice_and_none_leaked(docker: Docker) -> None:
    docker.out("network", "create", "--subnet", "10.79.0.0/28", "small")  # 13 for containers
    run = ["run", "-d", "--network", "small"]
    sleep = ["busybox", "sleep", "600"]
    racing = [docker.popen(*run, "--name", f"c{n}", *sleep, stdout=subprocess.DEVNULL) for n in range(5)]
    assert [process.wait(TIMEOUT) for process in racing] == [0] * 5
    names = [f"c{n}" for n in range(5)]
    found = [docker.inspect(name)["NetworkSettings"]["Networks"]["small"]["IPAddress"] for name in names]
    assert sorted(found) == [f"10.79.0.{n}" for n in range(2, 7)]
    docker.out("rm", "-f", *names)
    for _ in range(3):
        assert "10.79.0.2/28" in docker.out("run", "--rm", "--network", "small", "busybox", "ip", "addr")
    told = ["busybox", "sh", "-c", "hostname -i || cat /etc/hosts"]
    assert docker.out("run", "--rm", "--network", "small", "--ip", "10.79.0.9", *told) == "10.79.0.9"


def test_a_killed_container_gives_its_address_back(docker: Docker) -> None:
    """Monitor and container die together: nobody cleans up, until the next command."""
    docker.out("network", "create", "--subnet", "10.80.0.0/30", "tiny")  # one address
    docker.out("run", "-d", "--name", "first", "--network", "tiny", "-p", "8080:80", "busybox", "sleep", "600")
    pid = docker.state("first")["Pid"]
    docker.inside("kill", "-9", str(docker.conmon("first")), str(pid))
    docker.until(lambda: docker.status("first") == "exited", "the end")
    docker.out("run", "-d", "--name", "second", "--network", "tiny", "-p", "8080:80", *SERVER)
    assert docker.inspect("second")["NetworkSettings"]["Networks"]["tiny"]["IPAddress"] == "10.80.0.2"
    assert docker.get("http://127.0.0.1:8080/")


def test_none_host_and_anothers(docker: Docker) -> None:
    links = ["busybox", "ip", "-o", "link"]
    assert len(docker.out("run", "--rm", "--network", "none", *links).splitlines()) == 1
    own = docker.inside("readlink", "/proc/self/ns/net").rstrip()
    assert docker.out("run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net") == own
    docker.out("run", "-d", "--name", "web", *SERVER)
    beside = ["run", "--rm", "--network", "container:web", "busybox", "wget", "-qO-", "http://127.0.0.1/"]
    docker.until(lambda: docker(*beside).code == 0, "the server next door")
    assert "web" in docker.out("run", "--rm", "--network", "container:web", "busybox", "cat", "/etc/hosts").split()
    assert docker("run", "--rm", "--network", "host", "-p", "80:80", "busybox", "true").code == 125
    assert docker("run", "--rm", "--network-alias", "a\n10.0.0.1 bank", "busybox", "true").code == 125
