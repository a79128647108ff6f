"""Every kind of failure of a hook at every point, and what is left then: L18-L20, H04, H06; annotations (A01)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.harness import Box, pyoci_only, wait_for
from tests.integration.test_hooks import HOST, INSIDE, ORDER, Log

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pyoci_only("1.1 leaves what these tests ask for to the user")

# the kind of failure -> what the error must say
KINDS = {
    "status": ("exit status 7", "the reason"),
    "signal": ("signal 9",),
    "timeout": ("timed out",),
    "absent": ("no such file or directory",),
    "forbidden": ("permission denied",),
    "no-program": ("exec format error",),
}


@pytest.fixture
def log(box: Box) -> Log:
    return Log(box)


def add(log: Log, point: str, kind: str) -> None:
    """A hook at point that fails in that way."""
    if kind in ("absent", "forbidden", "no-program"):
        file = log.box.rootfs / f"bin/{kind}"
        if kind != "absent":
            file.write_text("no program\n")
            file.chmod(0o755 if kind == "no-program" else 0o644)
        log.box.hook(point, f"/bin/{kind}" if point == "startContainer" else str(file))
    elif kind == "timeout":
        log.hook(point, "sleep 100 & sleep 100", timeout=1)
    else:
        log.hook(point, {"status": "echo first; echo the reason >&2; exit 7", "signal": "kill -9 $$"}[kind])


def reach(log: Log, point: str) -> tuple[int, str]:
    """Go on until that point is behind: exit status and error of the command that runs its hooks."""
    box = log.box
    if point in ("prestart", "createRuntime", "createContainer"):
        result = box.create(check=False)
        return result.code, result.error
    box.create()
    if point in ("startContainer", "poststart"):
        pid = box.pid
        result = box.start(check=False)
        wait_for(pid)
        return result.code, result.error
    box.finish()
    result = box.delete(check=False)
    return result.code, result.err


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("point", ORDER)
def test_failure(log: Log, point: str, kind: str) -> None:
    """L18 L19 L20: the error (for poststop a warning) names the hook and the reason; the hooks after it do not run
    (poststop's do); poststop runs; nothing is left: state, cgroup, process, mount, descriptor (the fixture looks)."""
    log.note(*ORDER[: ORDER.index(point)])
    add(log, point, kind)
    log.hook(point, "echo after >> order")
    log.note(*(later for later in ORDER[ORDER.index(point) + 1 :] if later != "poststop"))
    if point != "poststop":
        log.note("poststop")
    log.box.script("sleep 100" if point == "poststart" else "echo program >> /log/order")
    code, said = reach(log, point)
    assert code == (0 if point == "poststop" else 1)
    assert "hook" in said
    for words in KINDS[kind]:
        assert words in said
    assert log.box.entries() == set()
    done = log.order()
    assert ("program" in done) == (point == "poststop")
    assert ("after" in done) == (point == "poststop")
    before = [p for p in ORDER[: ORDER.index(point)] if p not in ("startContainer", "poststart")]
    assert done[: len(before)] == before
    assert not {p for p in ORDER[ORDER.index(point) + 1 :] if p != "poststop"} & set(done)
    if point != "poststop":
        assert done[-1] == "poststop"


@pytest.mark.parametrize("point", ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"])
def test_failure_in_run(log: Log, point: str) -> None:
    """L18 L19: the same for `run`, which fails."""
    log.hook(point, "echo the reason >&2; exit 7")
    log.note("poststop")
    log.box.args("sleep", "100")
    result = log.box.run(check=False)
    assert result.code != 0
    assert "the reason" in result.err
    assert log.box.entries() == set()
    assert log.order() == ["poststop"]


@pytest.mark.parametrize("point", ["prestart", "createRuntime", "createContainer"])
def test_the_id_can_be_used_again(log: Log, point: str) -> None:
    """L13 L21: as if it had never been tried."""
    log.hook(point, "exit 7")
    assert log.box.create(check=False).code == 1
    del log.box.config["hooks"]
    assert log.box.sh("echo again") == "again\n"


@pytest.mark.parametrize("point", ORDER)
def test_within_its_time(log: Log, point: str) -> None:
    """H04: a timeout that is not reached changes nothing."""
    log.hook(point, "echo done >> order", timeout=30)
    log.box.run()
    assert log.order() == ["done"]


def test_every_poststop_failure_is_a_warning(log: Log) -> None:
    """L20: all of them are told."""
    for number in (3, 4):
        log.hook("poststop", f"exit {number}")
    log.box.create()
    log.box.finish()
    said = log.box.delete().err
    assert "exit status 3" in said
    assert "exit status 4" in said
    assert log.box.entries() == set()


# -- annotations ----------------------------------------------------------------------------


def with_output(log: Log, **names: str) -> tuple[Path, Path]:
    """Files for stdout and stderr of the hooks."""
    out, err = log.directory / "hooks.out", log.directory / "hooks.err"
    log.box.config["annotations"] = {"run.oci.hooks.stdout": str(out), "run.oci.hooks.stderr": str(err), **names}
    return out, err


def test_output_goes_to_files(log: Log) -> None:
    """A01 H06: of the hooks of every point, one after the other."""
    out, err = with_output(log)
    for point in ORDER:
        log.hook(point, f"echo out-{point}; echo err-{point} >&2")
    box = log.box
    box.args("sleep", "100")
    box.create()
    box.start()
    box.delete("--force")
    assert out.read_text().split() == [f"out-{point}" for point in ORDER]
    assert err.read_text().split() == [f"err-{point}" for point in ORDER]


@pytest.mark.parametrize("point", ["createRuntime", "createContainer", "startContainer"])
def test_output_of_a_failure_is_in_the_file(log: Log, point: str) -> None:
    """A01: the error says how it ended; what it said is where it was asked for."""
    _, err = with_output(log)
    log.hook(point, "echo the reason >&2; exit 7")
    code, said = reach(log, point)
    assert code == 1
    assert "exit status 7" in said
    assert err.read_text() == "the reason\n"


def test_output_file_that_cannot_be(log: Log) -> None:
    """A01 L06"""
    log.box.config["annotations"] = {"run.oci.hooks.stdout": "/no/such/directory/file"}
    log.note(*INSIDE)
    result = log.box.create(check=False)
    assert result.code == 1
    assert "/no/such/directory/file for the output of hooks: no such file or directory" in result.error
    assert log.box.entries() == set()
    assert log.order() == []


@pytest.mark.parametrize("keep", [True, False])
def test_groups_of_the_caller(box: Box, keep: bool) -> None:
    """A01 P17: run.oci.keep_original_groups."""
    if keep:
        box.config["annotations"] = {"run.oci.keep_original_groups": "1"}
    shown: dict[str, Any] = {}
    box.args("cat", "/proc/self/status")
    box.write()
    result = box.rt("run", "--bundle", str(box.bundle), box.id, extra_groups=[4711, 4712])
    for line in result.out.splitlines():
        key, _, value = line.partition(":")
        shown[key] = value.split()
    assert shown["Groups"] == (["4711", "4712"] if keep else [])
    assert os.getgroups() != [4711, 4712]


def test_all_points_are_here() -> None:
    assert set(HOST) | set(INSIDE) == set(ORDER)
