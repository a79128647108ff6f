"""SECURITY 16: a hook is a program of the host: nothing of the container decides how it runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import Box, children, flavour, until

if TYPE_CHECKING:
    from tests.security.conftest import Outside

KINDS = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
IN_CONTAINER = ("startContainer",)


@pytest.mark.parametrize("kind", KINDS)
def test_environment(box: Box, kind: str) -> None:
    """A LD_PRELOAD of the image reaches no hook."""
    box.process["env"] += ["LD_PRELOAD=/evil.so", "BASH_ENV=/evil", "OF_THE_IMAGE=1"]
    seen = box.rootfs / "tmp/seen"
    where = "/tmp/seen" if kind in IN_CONTAINER else str(seen)
    box.hook(kind, "/bin/sh", "sh", "-c", f"cat /proc/self/environ > {where}", env=["A=b"])
    box.args("true")
    box.run()
    box.rt("delete", "--force", box.id, check=False)
    assert "A=b" in seen.read_text()
    assert "evil" not in seen.read_text()
    assert "OF_THE_IMAGE" not in seen.read_text()


@pytest.mark.parametrize("kind", KINDS[:3])
def test_no_shell(box: Box, outside: Outside, kind: str) -> None:
    """The path is a path."""
    for path in ("/bin/true; touch /tmp/x", "/bin/sh -c true", "$(id)"):
        box.config["hooks"] = {}
        box.hook(kind, path)
        assert box.create(check=False).code == 1
        assert box.entries() == set()


@pytest.mark.parametrize("kind", KINDS[:4])
def test_timeout_ends_the_group(box: Box, kind: str) -> None:
    """Also what the hook left in the background: neither a pid namespace nor a cgroup ends it here."""
    box.no_namespace("pid")
    box.hook(kind, "/bin/sh", "sh", "-c", "sleep 77 & sleep 77", timeout=1)
    box.write()
    start = time.monotonic()
    no_cgroup = ["--cgroup-manager", "disabled"] if flavour() == "pyoci" else []
    result = box.rt(*no_cgroup, "run", "--bundle", str(box.bundle), box.id, check=False)
    assert result.code != 0
    assert kind in result.error
    assert time.monotonic() - start < 15
    until(lambda: not children(), "the end of what the hook started")
    box.rt("delete", "--force", box.id, check=False)


def test_hook_of_the_container_is_in_the_container(box: Box, outside: Outside) -> None:
    """startContainer is a program of the image: it sees the container and nothing else."""
    box.hook(
        "startContainer",
        "/bin/sh",
        "sh",
        "-c",
        f"ls {outside.directory} > /tmp/seen 2>&1; ls /proc/self/fd >> /tmp/seen",
    )
    box.run()
    shown = (box.rootfs / "tmp/seen").read_text()
    assert "secret" not in shown
    assert shown.split()[-4:-1] == ["0", "1", "2"]
