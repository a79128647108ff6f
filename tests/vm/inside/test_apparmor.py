"""AppArmor: profiles that are loaded into this kernel, seen and felt from inside. S-LSM rows of group 9."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.harness import Box

PROFILE = """
profile {name} flags=(attach_disconnected,mediate_deleted) {{
  file,
  capability,
  network,
  mount,
  umount,
  signal,
  ptrace,
  unix,
  deny /etc/{name} rwklx,
}}
"""


@pytest.fixture(scope="module", autouse=True)
def profiles() -> Iterator[None]:
    """Two profiles, each of which shuts one file."""
    text = "".join([PROFILE.format(name=name) for name in ("pyoci-one", "pyoci-two")])
    subprocess.run(["apparmor_parser", "--replace", "--skip-cache"], input=text, text=True, check=True)
    yield
    subprocess.run(["apparmor_parser", "--remove"], input=text, text=True, check=True)


@pytest.fixture
def confined(box: Box) -> Box:
    for name in ("pyoci-one", "pyoci-two"):
        (box.rootfs / "etc" / name).write_text("secret\n")
    box.process["apparmorProfile"] = "pyoci-one"
    return box


LOOK = "cat /proc/self/attr/apparmor/current; cat /etc/pyoci-one /etc/pyoci-two 2>/dev/null; true"


def test_init_is_confined(confined: Box) -> None:
    assert confined.sh(LOOK) == "pyoci-one (enforce)\nsecret\n"
    assert "secret" in confined.sh("cat /etc/pyoci-two; ! cat /etc/pyoci-one 2>/dev/null")


def test_exec_is_confined(confined: Box) -> None:
    """As init, or as the options say."""
    confined.up()
    assert confined.exec("sh", "-c", LOOK).out == "pyoci-one (enforce)\nsecret\n"
    look = ("cat", "/proc/self/attr/apparmor/current")
    shown = confined.rt("exec", "--apparmor", "pyoci-two", confined.id, *look)
    assert shown.out == "pyoci-two (enforce)\n"
    process = {**confined.process, "args": list(look), "apparmorProfile": "unconfined"}
    assert confined.exec_json(process).out == "unconfined\n"


def test_confined_with_fewer_rights(confined: Box) -> None:
    """The label is taken on also without capabilities, and with no_new_privileges."""
    confined.process["user"] = {"uid": 1000, "gid": 1000}
    confined.caps()
    confined.process["noNewPrivileges"] = True
    assert confined.sh(LOOK).startswith("pyoci-one (enforce)\n")


def test_unknown_profile(confined: Box) -> None:
    confined.process["apparmorProfile"] = "pyoci-none"
    result = confined.run(check=False)
    assert result.code != 0
    assert "pyoci-none" in result.error
    assert "/process/apparmorProfile" in result.error
    assert not confined.entries()


def test_unknown_profile_of_exec(confined: Box) -> None:
    confined.up()
    result = confined.rt("exec", "--apparmor", "pyoci-none", confined.id, "true", check=False)
    assert result.code != 0
    assert "pyoci-none" in result.error
