"""mounts add, mounts remove: other mounts in a container that runs (crun's verb)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import Box, Result, mounts, pyoci_only

pytestmark = pyoci_only("has no such verb")


def change(box: Box, what: str, value: Any, check: bool = True) -> Result:
    file = box.bundle / "mounts.json"
    file.write_text(json.dumps(value))
    return box.rt("mounts", what, box.id, str(file), check=check)


def inside(box: Box) -> list[str]:
    """The mount points in the container."""
    return [line.split()[4] for line in mountinfo(box)]


def mountinfo(box: Box) -> list[str]:
    return Path(f"/proc/{box.pid}/mountinfo").read_text().splitlines()


def bind(source: Path | str, destination: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": "bind", "source": str(source), "options": ["bind", *options]}


@pytest.mark.parametrize("userns", [False, True])
def test_add_and_remove(box: Box, userns: bool) -> None:
    data = box.bundle / "data"
    data.mkdir()
    (data / "file").write_text("from the host")
    (box.rootfs / "mnt").mkdir()
    if userns:
        box.userns()
    box.up()
    host, before = mounts(), inside(box)
    change(box, "add", [bind(data, "/mnt", "ro"), {"destination": "/mnt", "type": "tmpfs", "options": ["size=1m"]}])
    assert box.exec("ls", "/mnt").out == ""
    change(box, "remove", [{"destination": "/mnt"}])
    assert box.exec("cat", "/mnt/file").out == "from the host"
    assert box.exec("touch", "/mnt/file", check=False).code != 0
    assert mounts() == host
    change(box, "remove", {"mounts": [bind(data, "/mnt")]})
    assert inside(box) == before


def test_a_relative_source_is_in_the_bundle(box: Box) -> None:
    (box.bundle / "data").mkdir()
    (box.bundle / "data" / "file").write_text("x")
    box.up()
    change(box, "add", [bind("data", "/new/place")])
    assert box.exec("cat", "/new/place/file").out == "x"


def test_a_destination_stays_in_the_container(box: Box, workshop: Path) -> None:
    """SECURITY 1: a link of the rootfs to a directory of the host."""
    outside = workshop / "outside"
    outside.mkdir(exist_ok=True)
    (box.rootfs / "link").symlink_to(outside)
    box.up()
    host = mounts()
    change(box, "add", [{"destination": "/link", "type": "tmpfs"}])
    assert mounts() == host
    assert str(outside) in inside(box)
    outside.rmdir()


@pytest.mark.parametrize(
    ("what", "value", "words"),
    [
        ("add", [{"destination": "/x", "type": "proc"}], "cannot be mounted later"),
        ("add", [{"destination": "/proc/self", "type": "tmpfs"}], "cannot be mounted on"),
        ("add", [{"destination": "/x"}], "neither a type"),
        ("add", [bind("/no/such", "/x")], "/no/such"),
        ("add", {"mounts": 5}, "not a list of mounts"),
        ("add", [{"type": "tmpfs"}], "not a list of mounts"),
        ("add", {"destination": "/x", "type": "tmpfs"}, "hint: a JSON list"),
        ("remove", [{"destination": "/etc"}], "nothing is mounted there"),
        ("remove", [{"destination": "/none"}], "no such file or directory"),
        ("change", [], "mounts cannot"),
    ],
)
def test_errors(box: Box, what: str, value: Any, words: str) -> None:
    box.up()
    before = inside(box)
    error = change(box, what, value, check=False)
    assert words in error.error
    assert "config.json" not in error.error
    assert inside(box) == before


def test_of_a_stopped_container(box: Box) -> None:
    box.create()
    box.finish()
    assert "container not running" in change(box, "add", [], check=False).error


@pytest.mark.parametrize("place", ["/proc/keys", "/dev/shm", "/sys/firmware", "/proc", "/secret", "/conf", "/"])
def test_remove_is_not_led_to_other_mounts(box: Box, place: str) -> None:
    """By a symlink of the image: what masks a path stays, and so do the mounts of config.json and the root."""
    protect(box, "/secret", "/conf")
    os.symlink(place, box.rootfs / "data")
    box.up()
    before = inside(box)
    refused = change(box, "remove", [{"destination": "/data"}], check=False)
    assert refused.code == 1
    assert "symlink" in refused.error or "the root itself" in refused.error
    assert inside(box) == before
    change(box, "remove", [{"destination": "/dev/shm"}])
    assert "/dev/shm" not in inside(box)


def protect(box: Box, masked: str, readonly: str) -> None:
    for path in (masked, readonly):
        (box.rootfs / path[1:]).mkdir(parents=True)
        (box.rootfs / path[1:] / "key").write_text("key")
    box.linux["maskedPaths"] = ["/proc/keys", "/sys/firmware", masked]
    box.linux["readonlyPaths"] = [readonly]


@pytest.mark.parametrize("link", ["/secret", "/conf", "/proc", "/dev/shm", "/other/data", "/c"])
def test_remove_finds_what_was_added(box: Box, link: str) -> None:
    """The container puts something else in its place: another mount, a mask, a path that has become read-only."""
    protect(box, "/secret", "/conf")
    data = box.bundle / "data"
    data.mkdir()
    box.bind("/c", data)
    box.up()
    change(box, "add", [bind(data, "/a/data"), bind(data, "/other/data")])
    before = inside(box)
    box.exec("sh", "-c", f"mv /a /b; mkdir /a; ln -s {link} /a/data")
    refused = change(box, "remove", [{"destination": "/a/data"}], check=False)
    assert "another mount is there than the one that was added" in refused.error
    assert len(inside(box)) == len(before)
    box.exec("sh", "-c", "rm -r /a; mv /b /a")
    change(box, "remove", [{"destination": "/a/data"}, {"destination": "/other/data"}])
    assert inside(box) == [place for place in before if not place.endswith("/data")]


def test_remove_is_not_given_a_namesake(box: Box) -> None:
    """A directory on the way may be renamed: a mount on /vol/data and what covers /conf/data have one name."""
    protect(box, "/secret", "/conf/data")
    data = box.bundle / "data"
    data.mkdir()
    box.bind("/vol/data", data)
    box.up()
    before = inside(box)
    box.exec("sh", "-c", "mv /vol /old; mv /conf /vol")
    refused = change(box, "remove", [{"destination": "/vol/data"}], check=False)
    assert "/conf/data in readonlyPaths" in refused.error
    assert len(inside(box)) == len(before)


def test_a_link_that_was_there(box: Box) -> None:
    """What was added by way of a link goes by it."""
    for name in ("run", "var"):
        (box.rootfs / name).mkdir(exist_ok=True)
    os.symlink("/run", box.rootfs / "var/run")
    box.up()
    before = inside(box)
    for _ in range(2):
        change(box, "add", [{"destination": "/var/run/data", "type": "tmpfs"}])
    assert inside(box)[-2:] == ["/run/data"] * 2
    for _ in range(2):
        change(box, "remove", [{"destination": "/var/run/data"}])
    assert inside(box) == before
    assert "nothing is mounted" in change(box, "remove", [{"destination": "/run/data"}], check=False).error


def test_of_a_list_that_fails_none_stays(box: Box) -> None:
    data = box.bundle / "data"
    (data / "sub").mkdir(parents=True)
    file = box.bundle / "file"
    file.touch()
    os.symlink("/proc", box.rootfs / "lproc")
    box.up()
    before = inside(box)
    wanted = [
        bind(data, "/one"),
        bind(file, "/two"),
        {"destination": "/one/sub", "type": "tmpfs"},
        bind(data, "/lproc"),
    ]
    failed = change(box, "add", wanted, check=False)
    assert failed.code == 1
    assert "/mounts/3 of the mounts" in failed.error
    assert inside(box) == before
    state = json.loads((box.root / box.id / "state.json").read_text())
    assert not state.get("added")


@pytest.mark.parametrize(
    "mount",
    [bind("@", "/dev", "ro"), bind("@", "/m", "ro"), {"destination": "/m", "type": "tmpfs", "options": ["ro"]},
     {"destination": "/m", "type": "tmpfs", "options": ["ro", "tmpcopyup", "X-mount.mode=0711"]},
     {"destination": "/dev", "type": "tmpfs", "options": ["ro"]}],
)  # fmt: skip
def test_read_only_from_the_first_moment(box: Box, mount: dict[str, Any]) -> None:
    """A process of the container that is waiting for it cannot write into it, nor keep it from becoming so."""
    data = box.bundle / "data"
    data.mkdir()
    (data / "top").write_text("host\n")
    mount = {**mount, "source": str(data)} if mount["type"] == "bind" else mount
    place = mount["destination"]
    (box.rootfs / "m").mkdir()
    box.script(f"while [ ! -e /stop ]; do echo written 2>/dev/null >>{place}/top; done")
    box.caps("CAP_DAC_OVERRIDE")
    box.up()
    for _ in range(20):
        change(box, "add", [mount])
        assert "ro" in mountinfo(box)[-1].split()[5].split(",")
        assert "source" in mount or "tmpcopyup" in mount["options"] or box.exec("ls", place).out == ""
        change(box, "remove", [{"destination": place}])
    (box.rootfs / "stop").touch()
    assert (data / "top").read_text() == "host\n"


def test_no_part_of_a_mount(box: Box) -> None:
    """X-mount.subdir would show the whole for a moment."""
    box.up()
    refused = change(box, "add", [bind(box.bundle, "/m", "X-mount.subdir=rootfs")], check=False)
    assert "X-mount.subdir" in refused.error
    assert "/mounts/0/options" in refused.error
