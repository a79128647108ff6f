"""`make web` and the README show what they promise, and leave nothing behind."""

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
        done = subprocess.run(
            [*docker.enter, "sh", str(demo)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT
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


def test_readme(places: paths.Paths, tmp_path: Path) -> None:
    """Every line of the README's mydocker, typed along on a fresh machine without a registry."""
    command = tmp_path / "mydocker"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {MAIN} --root {places.root} "$@"\n')
    command.chmod(0o755)
    docker = Docker(places)
    part = (harness.PROJECT / "README.md").read_text().split("## Use it: mydocker")[1].split("\n## ")[0]
    typed = [line for block in part.split("```")[1::2] for line in block.strip().splitlines()]
    done = []
    try:
        for line in typed:
            if "registry.example" in line or " -it " in line:  # no registry, no terminal
                continue
            words = line.replace("sudo ", "")
            script = f"export PATH={tmp_path}:$PATH; cd {tmp_path}; {words}"
            run = [*docker.enter, "timeout", str(TIMEOUT), "sh", "-c", script]
            if words.startswith("curl"):  # the server listens a moment after run has returned
                harness.until(lambda run=run: _out(run) == "hello\n", line, TIMEOUT)  # type: ignore[misc]
            else:
                result = subprocess.run(run, stdin=subprocess.DEVNULL, capture_output=True, text=True)
                assert result.returncode == 0, f"{line}: {result.stderr}"
            done.append(words.split()[:2])
        assert docker.out("ps", "-aq", "-f", "name=web") == ""
    finally:
        left = docker.close()
    assert ["mydocker", "stats"] in done
    assert len(done) > 10
    assert not left, f"left behind: {left}"


def _out(command: list[str]) -> str:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
