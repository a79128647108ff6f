"""The options of the host's cgroup v2 around somebody who changes them; tests/vm has the real ones, and criu."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyoci.host import cgroup_options

if TYPE_CHECKING:
    from pathlib import Path


def mount_by(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """In place of mount(8)."""
    monkeypatch.setattr(cgroup_options, "MOUNT", ("sh", "-c", script, "sh"))


def found(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    """The options, as they are from call to call."""
    rest = iter(options)
    monkeypatch.setattr(cgroup_options, "current", lambda: next(rest))


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("nsdelegate,memory_recursiveprot", "", "-o nsdelegate,memory_recursiveprot cgroup2 /sys"),
        ("", "nsdelegate", "cgroup2 /sys"),
        ("nsdelegate", "nsdelegate", ""),
        ("", "", ""),
    ],
)
def test_they_are_put_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, before: str, after: str, words: str
) -> None:
    """Those that were, also after an error, and only when they have changed."""
    said = tmp_path / "said"
    mount_by(monkeypatch, f'echo "$@" >{said}')
    found(monkeypatch, before, after)
    warnings: list[str] = []
    with pytest.raises(KeyError), cgroup_options.kept(warnings):
        raise KeyError
    assert warnings == []
    assert (said.read_text().strip() if said.exists() else "") == words


@pytest.mark.parametrize(("script", "why"), [("echo mount: no >&2; exit 32", "mount: no"), ("exit 3", "exit status 3")])
def test_what_is_refused_is_told(monkeypatch: pytest.MonkeyPatch, script: str, why: str) -> None:
    mount_by(monkeypatch, script)
    found(monkeypatch, "nsdelegate", "")
    warnings: list[str] = []
    with cgroup_options.kept(warnings):
        pass
    assert warnings == [f"the options of the host's cgroup v2 were nsdelegate and are none now: {why}"]


def test_a_machine_without_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup_options, "MOUNT", ("/no/such/program",))
    assert "No such file" in cgroup_options.put("nsdelegate")


def test_those_of_this_machine() -> None:
    """Without the flags of the file system; "" where there is no cgroup v2."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        shown = [line.split()[-1] for line in file if " - cgroup2 " in line]
    assert cgroup_options.current() == (shown[0].removeprefix("rw").removeprefix(",") if shown else "")
