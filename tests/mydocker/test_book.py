"""The walk of the book (chapters 3 to 6), as a reader types it: its own spellings, on a terminal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pexpect

from tests.mydocker.real import Docker

if TYPE_CHECKING:
    from pathlib import Path


PROMPT = r"[#$] "


def type_in(child: pexpect.spawn[str], line: str) -> str:
    child.sendline(line)
    child.expect(r"\r\n(.*)" + PROMPT)
    return str(child.match[1] if child.match else "")


def leave(child: pexpect.spawn[str]) -> None:
    child.sendline("exit")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_the_walk(docker: Docker, tmp_path: Path) -> None:
    chapter_3(docker)
    chapter_4(docker, tmp_path)
    chapter_5(docker)
    chapter_6(docker)


def chapter_3(docker: Docker) -> None:
    """A container with a terminal, its own pid namespace and limits."""
    child = docker.spawn("run", "-ti", "/bin/sh")
    child.expect(PROMPT)
    assert re.search(r"\b1 root .*sh", type_in(child, "ps"))
    leave(child)
    child = docker.spawn("run", "-ti", "-m", "100m", "-cpuset", "0", "-cpushare", "512", "busybox", "sh")
    child.expect(PROMPT)
    shown = docker.inspect(docker.out("ps", "-q"))["HostConfig"]
    assert (shown["Memory"], shown["CpusetCpus"], shown["CpuShares"]) == (100 << 20, "0", 512)
    leave(child)
    docker.out("rm", *docker.out("ps", "-aq").split())


def chapter_4(docker: Docker, tmp_path: Path) -> None:
    """An image below, a volume beside, and a new image of what has changed."""
    volume = tmp_path / "containerVolumes"
    child = docker.spawn("run", "-ti", "-name", "writer", "-v", f"{volume}:/containerVolumes", "busybox", "sh")
    child.expect(PROMPT)
    type_in(child, 'echo "hello from the container" > /containerVolumes/test.txt; echo new > /etc/new')
    leave(child)
    assert (volume / "test.txt").read_text() == "hello from the container\n"
    docker.out("commit", "writer", "image-of-mine")
    assert "image-of-mine" in docker.out("images")
    assert docker.out("run", "--rm", "image-of-mine", "cat", "/etc/new") == "new"
    assert docker("run", "--rm", "image-of-mine", "cat", "/containerVolumes/test.txt").code == 1
    docker.out("rm", "writer")


def chapter_5(docker: Docker) -> None:
    """In the background: ps, logs, exec, stop, rm; one container of one image does not see the other's files."""
    docker.out("run", "-d", "-name", "bird", "-e", "bird=123", "-e", "luck=bird", "busybox", "top", "-b")
    docker.out("run", "-d", "--name", "container2", "busybox", "sh", "-c", "echo i am here; sleep 600")
    shown = docker.out("ps")
    assert {"bird", "container2"} <= set(shown.split())
    docker.until(lambda: "PID" in docker.logs("bird"), "the output of top")
    docker.until(lambda: docker.logs("container2") == "i am here", "the log")
    child = docker.spawn("exec", "-ti", "bird", "sh")
    child.expect(PROMPT)
    assert "bird=123" in type_in(child, "env | grep bird")
    type_in(child, "echo mine > /only-here")
    leave(child)
    assert docker("exec", "container2", "cat", "/only-here").code == 1
    docker.out("stop", "-t", "0", "bird")
    assert re.search(r"Exited \(\d+\).*bird", docker.out("ps", "-a"))
    assert docker("exec", "bird", "sh").code == 1
    docker.out("rm", "bird")
    assert "bird" not in docker.out("ps", "-a")
    docker.out("commit", "container2", "image2")
    docker.out("rm", "-f", "container2")


def chapter_6(docker: Docker) -> None:
    """A network of one's own, and a port of the host."""
    docker.out("network", "create", "--driver", "bridge", "--subnet", "192.168.10.0/24", "testbridge")
    assert "testbridge" in docker.out("network", "list")
    server = "mkdir /www; echo from the container > /www/index.html; httpd -f -p 80 -h /www"
    docker.out("run", "-d", "-name", "web", "-net", "testbridge", "-p", "8080:80", "busybox", "sh", "-c", server)
    assert docker.get("http://127.0.0.1:8080/") == "from the container"
    child = docker.spawn("run", "-ti", "-name", "other", "-net", "testbridge", "busybox", "sh")
    child.expect(PROMPT)
    assert "192.168.10.3" in type_in(child, "ifconfig")
    assert "0% packet loss" in type_in(child, "ping -c 1 192.168.10.2")
    assert "from the container" in type_in(child, "wget -qO- http://web/")
    leave(child)
    docker.out("rm", "-f", "web", "other")
    docker.out("network", "remove", "testbridge")
    assert "testbridge" not in docker.out("network", "list")
