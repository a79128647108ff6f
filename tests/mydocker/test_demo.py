"""`make web` shows what it promises, and leaves nothing behind."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.integration import harness
from tests.mydocker.conftest import MAIN, TIMEOUT
from tests.mydocker.real import Docker

if TYPE_CHECKING:
    from pathlib import Path

    from pyoci.mydocker import paths

# The order of what a newcomer sees.
STORY = (
    r"^\$ mydocker run --name builder ",
    r"^\$ mydocker commit ",
    r"^\$ mydocker images",
    r"^webserver ",
    r"^\$ mydocker run -d --name web -p 8080:80 -m 64m webserver",
    r"^hello from a container",
    r"^\$ mydocker ps",
    r"0\.0\.0\.0:8080->80/tcp",
    r"^\$ mydocker stats ",
    r"64MiB",
    r"^\$ mydocker exec web ps",
    r"httpd",
    r"^\$ mydocker stop ",
    r"Exited \(",
    r"^\$ mydocker rm web",
)


def test_story(places: paths.Paths, tmp_path: Path) -> None:
    if not (harness.PROJECT / "build" / "mydocker").exists():
        pytest.skip("build/mydocker is not built")
    docker = Docker(places)  # for its network namespace
    # the launcher takes the system's interpreter, which may not have our packages: this one has
    command = tmp_path / "mydocker"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {MAIN} "$@"\n')
    command.chmod(0o755)
    script = (harness.PROJECT / "bundles" / "run-web").read_text().replace("$PWD/build:$PATH", f"{tmp_path}:$PATH")
    demo = tmp_path / "bundles" / "run-web"
    demo.parent.mkdir()
    demo.write_text(script)
    try:
        enter = ["nsenter", f"--net=/proc/{docker.holder.pid}/ns/net"]
        done = subprocess.run(
            [*enter, "sh", str(demo)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT
        )
        devices = docker.inside("ip", "-br", "link").splitlines()
    finally:
        docker.close()
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    assert len(devices) == 1, devices
    position = 0
    for pattern in STORY:
        found = re.compile(pattern, re.MULTILINE).search(done.stdout, position)
        assert found, f"{pattern} is missing after:\n{text[:position]}\n-- in --\n{text[position:]}"
        position = found.end()
