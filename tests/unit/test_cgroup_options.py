"""The options of the host's cgroup v2 around somebody who changes them; tests/vm has the real ones, and criu."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyoci.host import cgroup_options
from pyoci.host import state as states


def mount_by(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """In place of mount(8)."""
    monkeypatch.setattr(cgroup_options, "MOUNT", ("sh", "-c", script, "sh"))


@pytest.fixture(autouse=True)
def runtime_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """In place of /run/pyoci."""
    directory = f"{tmp_path}/run/pyoci"
    monkeypatch.setattr(states, "default_root", lambda: directory)
    return directory


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


def test_of_two_at_once_both_put_back_what_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The second begins when the first one's criu has taken them away, and ends last."""
    said = tmp_path / "said"
    mount_by(monkeypatch, f'echo "$2" >>{said}')
    found(monkeypatch, "nsdelegate", "", "", "favordynmods", "favordynmods")
    warnings: list[str] = []
    first, second = cgroup_options.kept(warnings), cgroup_options.kept(warnings)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert said.read_text() == "nsdelegate\nnsdelegate\n"
    with cgroup_options.kept(warnings):  # nobody else is at it: what is there now counts
        pass
    assert said.read_text() == "nsdelegate\nnsdelegate\n"
    assert warnings == []


def test_without_a_place_for_the_note(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runtime_directory: str) -> None:
    said = tmp_path / "said"
    mount_by(monkeypatch, f'echo "$2" >>{said}')
    (tmp_path / "run").write_text("a file")
    found(monkeypatch, "nsdelegate", "")
    with cgroup_options.kept([]):
        pass
    assert said.read_text() == "nsdelegate\n"
    assert not Path(runtime_directory).exists()


def test_the_note_is_ours_alone(monkeypatch: pytest.MonkeyPatch, runtime_directory: str) -> None:
    found(monkeypatch, "nsdelegate", "nsdelegate")
    with cgroup_options.kept([]):
        note = Path(runtime_directory, cgroup_options.NOTE)
        assert note.read_text() == "nsdelegate"
        assert (note.stat().st_mode & 0o777, note.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_machine_without_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup_options, "MOUNT", ("/no/such/program",))
    assert "No such file" in cgroup_options.put("nsdelegate")


def test_those_of_this_machine() -> None:
    """Without the flags of the file system; "" where there is no cgroup v2."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        shown = [line.split()[-1] for line in file if " - cgroup2 " in line]
    assert cgroup_options.current() == (shown[0].removeprefix("rw").removeprefix(",") if shown else "")
