"""mounts add, mounts remove: other mounts in a container that runs (crun's verb)."""

from __future__ import annotations

import json
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
    return [line.split()[4] for line in Path(f"/proc/{box.pid}/mountinfo").read_text().splitlines()]


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
