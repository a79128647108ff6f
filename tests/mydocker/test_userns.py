"""--userns=auto: ids of the host that no other container has, and that nothing on disk shows."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from pyoci.mydocker import errors, idmap
from tests.integration import harness
from tests.mydocker.layers import member, tar
from tests.mydocker.real import Docker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("subids")

START, ALL = 3_000_000, 3 * 65536
WEB = ["busybox", "sh", "-c", "mkdir /www; echo inside > /www/index.html; exec httpd -f -p 80 -h /www"]


@pytest.fixture
def subids(isolated: None, tmp_path: Path) -> Iterator[Path]:
    """/etc/subuid and /etc/subgid, for this test."""
    file = tmp_path / "subids"
    file.write_text(f"mydocker:{START}:{ALL}\n")
    mounted = []
    for name in ("/etc/subuid", "/etc/subgid"):
        if not os.path.exists(name):
            pytest.skip(f"there is no {name}")
        harness.mount(str(file), name, flags=harness.MS_BIND)
        mounted.append(name)
    yield file
    for name in mounted:
        harness.umount(name)


def owner(docker: Docker, name: str) -> int:
    pid = docker.state(name)["Pid"]
    return os.stat(f"/proc/{pid}").st_uid


def test_each_has_ids_of_its_own(docker: Docker) -> None:
    """The program is root inside and nobody outside; files, ports, volumes and limits are as with any other."""
    docker.out("run", "-d", "--name", "one", "--userns", "auto", "-v", "data:/data", "-p", "8080:80", "-m", "32m", *WEB)
    docker.out("run", "-d", "--name", "two", "--userns=private", "-v", "data:/data", "busybox", "sleep", "600")
    assert (owner(docker, "one"), owner(docker, "two")) == (START, START + 65536)
    assert docker.get("http://127.0.0.1:8080/") == "inside"
    docker.out("exec", "one", "sh", "-c", "echo shared > /data/f; chown 5:6 /data/f; echo line >> /etc/hosts")
    assert docker.out("exec", "two", "sh", "-c", "cat /data/f; stat -c %u:%g /data/f; id -u") == "shared\n5:6\n0"
    assert docker.inspect("one")["HostConfig"]["UsernsMode"] == "auto:size=65536"
    docker.out("rm", "-f", "one")
    docker.out("run", "-d", "--name", "three", "--userns", "auto", "busybox", "sleep", "600")
    assert owner(docker, "three") == START, "what is free again is given again"


def test_nothing_on_disk_shows_it(docker: Docker, tmp_path: Path) -> None:
    """diff, cp, export, commit and the next start: the ids of the image, not those of the host."""
    docker.out("run", "-d", "--name", "box", "--userns", "auto", "--network", "none", "busybox", "sleep", "600")
    docker.out("exec", "box", "sh", "-c", "echo x > /made; chown 7:8 /made")
    file = tmp_path / "file"
    file.write_text("from the host")
    os.chown(file, 9, 9)
    docker.out("cp", str(file), "box:/plain")
    docker.out("cp", "-a", str(file), "box:/kept")
    docker.bytes("cp", "-", "box:/tmp", input=tar(member("tarred", b"x", uid=11, gid=12)))
    wanted = {"made": (7, 8), "plain": (0, 0), "kept": (9, 9), "tmp/tarred": (11, 12)}
    listing = [f"{uid}:{gid}" for uid, gid in wanted.values()]
    assert docker.out("exec", "box", "stat", "-c", "%u:%g", *(f"/{name}" for name in wanted)).split() == listing
    assert set(docker.out("diff", "box").splitlines()) >= {f"A /{name}" for name in wanted}

    def exported() -> dict[str, tuple[int, int]]:
        with tarfile.open(fileobj=io.BytesIO(docker.bytes("export", "box"))) as found:
            return {name: (found.getmember(name).uid, found.getmember(name).gid) for name in wanted}

    assert exported() == wanted
    with tarfile.open(fileobj=io.BytesIO(docker.bytes("cp", "box:/made", "-"))) as found:
        assert found.getmember("made").uid == 7
    docker.out("cp", "-a", "box:/kept", str(tmp_path / "back"))
    assert (tmp_path / "back").stat().st_uid == 9
    docker.out("commit", "box", "made-of-it")
    docker.out("restart", "-t", "0", "box")
    docker.out("stop", "-t", "0", "box")
    assert exported() == wanted
    stat = ["stat", "-c", "%u:%g", *(f"/{name}" for name in wanted)]
    assert docker.out("run", "--rm", "--network", "none", "made-of-it", *stat).split() == listing


def test_what_does_not_go_together(docker: Docker) -> None:
    run = ["run", "--rm", "--userns", "auto"]
    for options in (["--privileged"], ["--network", "host"], ["--pid", "host"], ["--ipc", "container:x"]):
        result = docker(*run, *options, "busybox", "true")
        assert result.code == 125
        assert "user namespaces" in result.err
    for mode in ("keep-id", "auto:size=0", "auto:size=x", "nomap"):
        assert docker("run", "--rm", f"--userns={mode}", "busybox", "true").code == 125
    beyond = docker("run", "--rm", "--userns=auto:size=100", "-u", "100", "busybox", "true")
    assert beyond.code == 125
    assert "--userns=auto:size=101" in beyond.err
    full = docker("run", "--rm", f"--userns=auto:size={ALL + 1}", "busybox", "true")
    assert full.code == 125
    assert "/etc/subuid" in full.err
    assert docker.out("ps", "-aq") == ""


def test_ranges(subids: Path) -> None:
    """The lowest that is free, within what both files give; mydocker's own lines before podman's."""
    hosts = [{"userns": {"start": START + n * 100, "size": 100}} for n in (0, 2)]
    assert idmap.choose(100, hosts) == {"start": START + 100, "size": 100}
    assert idmap.choose(101, [*hosts, {}, {"userns": None}]) == {"start": START + 300, "size": 101}
    subids.write_text("containers:5000:10\nother:1:99999\n")
    assert idmap.choose(10, []) == {"start": 5000, "size": 10}
    subids.write_text("")
    with pytest.raises(errors.Error, match="no range"):
        idmap.choose(1, [])
