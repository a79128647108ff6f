"""pause, resume, ps, and the verbs that take several containers: L10, L11, L16, C24."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.harness import Box, pyoci_only, until, wait_for

Boxes = Callable[[], Box]


# -- pause and resume -----------------------------------------------------------------------


def test_pause_and_resume(box: Box) -> None:
    """C24, L16"""
    box.script("i=0; while :; do i=$((i+1)); echo $i > /tmp/count; done")
    box.up()
    count = box.rootfs / "tmp" / "count"
    until(count.exists, "the script")
    box.rt("pause", box.id)
    assert box.status == "paused"
    seen = count.read_text()
    assert Path(f"/proc/{box.pid}/stat").read_text().rpartition(")")[2].split()[0] in "DSR"
    box.rt("resume", box.id)
    assert box.status == "running"
    until(lambda: count.read_text() not in ("", seen), "the script to go on")


def test_pause_twice_and_resume_twice(box: Box) -> None:
    box.up()
    box.rt("pause", box.id)
    assert "container not running" in box.rt("pause", box.id, check=False).error
    box.rt("resume", box.id)
    assert "container not paused" in box.rt("resume", box.id, check=False).error


def test_pause_of_a_stopped_container(box: Box) -> None:
    box.create()
    box.finish()
    assert "container not running" in box.rt("pause", box.id, check=False).error
    assert "container not paused" in box.rt("resume", box.id, check=False).error


def test_pause_and_resume_of_a_created_container(box: Box) -> None:
    box.create()
    box.rt("pause", box.id)
    box.rt("resume", box.id)
    assert box.finish() == 0


def test_start_of_a_paused_container(box: Box) -> None:
    """It would wait for `resume`, which waits for it."""
    box.create()
    box.rt("pause", box.id)
    assert "cannot start a paused container" in box.start(check=False).error
    assert "cannot exec in a paused container" in box.exec("true", check=False).error
    box.rt("resume", box.id)
    assert box.finish() == 0


@pyoci_only("1.1 lets it sleep until somebody resumes it")
def test_kill_of_a_paused_container(box: Box) -> None:
    box.up()
    pid = box.pid
    box.rt("pause", box.id)
    box.kill("KILL")
    assert wait_for(pid) == -9


def test_delete_of_a_paused_container(box: Box) -> None:
    box.up()
    box.rt("pause", box.id)
    box.delete("--force")
    assert box.entries() == set()


@pytest.mark.parametrize("verb", ["pause", "resume", "ps"])
def test_of_no_container(box: Box, verb: str) -> None:
    assert "does not exist" in box.rt(verb, box.id, check=False).error


# -- ps -------------------------------------------------------------------------------------


def test_ps(box: Box) -> None:
    box.script("sleep 101 & sleep 102; true")
    box.up()
    # a child of the shell is a shell too until it has become its program
    until(lambda: box.rt("ps", box.id, "-o", "pid,comm").out.count("sleep") == 2, "both programs")
    pids = json.loads(box.rt("ps", "-f", "json", box.id).out)
    assert len(json.loads(box.rt("ps", "--format", "json", box.id).out)) == 3
    assert box.pid in pids
    header, *lines = box.rt("ps", box.id).out.splitlines()
    assert header.split()[:3] == ["UID", "PID", "PPID"]
    assert sorted(int(line.split()[1]) for line in lines) == sorted(pids)
    assert {" ".join(line.split()[-2:]) for line in lines} >= {"sleep 101", "sleep 102"}


def test_ps_options(box: Box) -> None:
    box.up()
    assert box.rt("ps", box.id, "-o", "pid,comm").out.splitlines()[1].split() == [str(box.pid), "sleep"]
    assert "PID" in box.rt("ps", box.id, "-o", "comm", check=False).error
    assert box.rt("ps", box.id, "--no-such-option", check=False).code == 1


@pyoci_only("1.1 prints null")
def test_ps_of_a_stopped_container(box: Box) -> None:
    box.create()
    box.finish()
    assert json.loads(box.rt("ps", "-f", "json", box.id).out) == []
    assert len(box.rt("ps", box.id).out.splitlines()) == 1


@pyoci_only("has no --cgroup-manager")
def test_ps_without_a_cgroup(box: Box) -> None:
    box.script("sleep 101 & sleep 102; true")
    box.write()
    box.rt("--cgroup-manager", "disabled", "create", "--bundle", str(box.bundle), box.id, stdout=None, stderr=None)
    box.start()
    until(lambda: len(json.loads(box.rt("ps", "--format", "json", box.id).out)) == 3, "three processes")
    assert box.pid in json.loads(box.rt("ps", "--format", "json", box.id).out)
    assert "no cgroup" in box.rt("pause", box.id, check=False).error


# -- several containers ---------------------------------------------------------------------


def ended(box: Box) -> Box:
    box.create()
    box.finish()
    return box


@pyoci_only("crun's")
def test_kill_regex(boxes: Boxes) -> None:
    one, two, three = boxes(), boxes(), boxes()
    for box in (one, two, three):
        box.up()
    pids = [box.pid for box in (one, two, three)]
    one.rt("kill", "--regex", "[-][01]$", "KILL")
    assert [wait_for(pid) for pid in pids[:2]] == [-9, -9]
    assert three.status == "running"
    assert one.rt("kill", "--regex", "no such id", "KILL").out == ""
    assert "invalid regular expression" in one.rt("kill", "--regex", "(", check=False).error


@pyoci_only("takes one id")
def test_delete_several(boxes: Boxes) -> None:
    one, two, three = ended(boxes()), boxes(), ended(boxes())
    two.up()
    failed = one.rt("delete", one.id, two.id, three.id, check=False)
    assert failed.code == 1
    assert "not stopped" in failed.error
    assert two.id in failed.error
    assert one.entries() == {two.id}
    one.rt("delete", "--force", "no-such", two.id)
    assert one.entries() == set()


@pyoci_only("crun's")
def test_delete_regex(boxes: Boxes) -> None:
    one, two = ended(boxes()), ended(boxes())
    one.rt("delete", "--regex", f"{one.id[-3:]}$")
    assert one.entries() == {two.id}
    assert one.rt("delete", "--regex", "^.*$").out == ""
    assert one.entries() == set()


@pyoci_only("has no such option")
def test_delete_all_stopped(boxes: Boxes) -> None:
    one, two, three = ended(boxes()), boxes(), ended(boxes())
    two.up()
    one.rt("delete", "--all-stopped")
    assert one.entries() == {two.id}
    assert three.rt("delete", "--all-stopped").out == ""


@pyoci_only("prints its usage")
def test_delete_of_nothing(box: Box) -> None:
    assert "delete needs a container id" in box.rt("delete", check=False).error
