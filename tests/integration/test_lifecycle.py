"""Lifecycle (runtime.md): create, start, state, kill, delete, list."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import (
    PREFIX,
    Box,
    ConsoleSocket,
    cgroups,
    proc_status,
    pyoci_only,
    remove_cgroups,
    until,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable

BAD_IDS = ["", "a/b", "../a", "..", ".", "a b", "a\nb", "/a", "ä", "a:b", "a" * 1025, "$(a)"]


def wait_for_file(path: Path) -> None:
    until(path.exists, f"{path}")


# -- create ---------------------------------------------------------------------------------


def test_whole_life(box: Box) -> None:
    """L04 L09 L12 L15: created, running, stopped, deleted; the program runs between start and its end."""
    box.script("echo ran > /ran; read line; exit 7")
    read, write = os.pipe()
    box.create(stdin=read)
    os.close(read)
    assert box.status == "created"
    assert not (box.rootfs / "ran").exists()
    pid = box.pid
    box.start()
    assert box.status == "running"
    assert box.pid == pid
    wait_for_file(box.rootfs / "ran")
    os.close(write)
    assert wait_for(pid) == 7
    assert box.status == "stopped"
    box.delete()
    assert box.entries() == set()
    assert (box.rootfs / "ran").read_text() == "ran\n"


def test_created_container_is_complete_but_for_the_program(box: Box) -> None:
    """L04: at the end of create everything of the config but process.args is in place."""
    box.config["hostname"] = "early"
    box.mount("/mnt", "tmpfs", "tmpfs")
    box.args("sleep", "100")
    box.create()
    pid = box.pid
    assert " /mnt " in Path(f"/proc/{pid}/mountinfo").read_text()
    assert os.readlink(f"/proc/{pid}/ns/uts") != os.readlink("/proc/self/ns/uts")
    assert cgroups(box.id), "init is in no cgroup of its own"
    assert all(str(pid) in Path(name, "cgroup.procs").read_text().split() for name in cgroups(box.id))
    assert os.readlink(f"/proc/{pid}/root") == "/"
    assert proc_status(pid, "NSpid").split()[1:] == ["1"]
    assert "sleep" not in Path(f"/proc/{pid}/cmdline").read_text()
    assert box.logs() == ""


def test_created_process_waits_for_start_in_its_container(box: Box) -> None:
    """L04: the program runs in the very process that create made, a child of the caller (a subreaper)."""
    box.up()
    pid = box.pid
    assert Path(f"/proc/{pid}/cmdline").read_text() == "sleep\x00100\x00"
    assert int(proc_status(pid, "PPid")) == os.getpid()


@pytest.mark.parametrize("ident", BAD_IDS)
def test_create_refuses_a_bad_id(box: Box, ident: str) -> None:
    """L03: an invalid id is an error and nothing is created."""
    box.id = ident
    result = box.create(check=False)
    assert result.code == 1
    assert result.error
    assert box.entries() == set()


@pytest.mark.parametrize("suffix", ["A_b.c-d", "+plus", "0", "x" * 200])
def test_create_takes_odd_but_valid_ids(box: Box, suffix: str) -> None:
    """L03"""
    box.id = PREFIX + suffix
    box.linux["cgroupsPath"] = f"/{box.id}"
    box.create()
    assert box.state()["id"] == box.id
    assert box.finish() == 0


def test_create_without_id(box: Box) -> None:
    """L03"""
    box.write()
    assert box.rt("create", "--bundle", str(box.bundle), check=False).code == 1
    assert box.entries() == set()


def test_create_without_bundle(box: Box) -> None:
    """L03: no config.json where the bundle should be."""
    result = box.rt("create", box.id, check=False, cwd=box.rootfs)
    assert result.code == 1
    assert "config.json" in result.error
    result = box.rt("create", "--bundle", "/no/such/bundle", box.id, check=False)
    assert result.code == 1
    assert "no such file or directory" in result.error
    assert box.entries() == set()


@pytest.mark.parametrize("spelling", ["--bundle {}", "--bundle={}", "-bundle {}", "-bundle={}", "-b {}", "-b={}"])
def test_bundle_option_spellings(box: Box, spelling: str) -> None:
    """ENGINE-CONTRACT 2.1: --opt v, --opt=v, Go's single dash."""
    box.args("echo", "hello")
    box.write()
    assert box.rt("run", *spelling.format(box.bundle).split(), box.id).out == "hello\n"


def test_bundle_is_the_working_directory(box: Box) -> None:
    """The bundle defaults to the current directory; a relative one is relative to it; state says the absolute path."""
    box.write()
    for options in ([], ["--bundle", "."], ["--bundle", f"../{box.bundle.name}/"]):
        with box.stdout.open("wb") as out:
            box.rt("create", *options, box.id, cwd=box.bundle, stdout=out, stderr=out)
        assert box.state()["bundle"] == str(box.bundle)
        box.delete("--force")


def test_an_id_is_unique(box: Box) -> None:
    """L03: a second create with the id of a container fails, and the first never notices."""
    box.script("echo one")
    box.create()
    before = box.state()
    result = box.rt("create", "--bundle", str(box.bundle), box.id, check=False)
    assert result.code == 1
    assert "container with given ID already exists" in result.error
    assert box.state() == before
    assert box.finish() == 0
    assert box.logs() == "one\n"


@pyoci_only("looks for the id without a lock: two of four may win")
def test_an_id_is_unique_in_a_race(box: Box) -> None:
    """L03: of four creates at once one wins, the others say why not, and nothing of theirs stays."""
    box.write()
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    errors = [box.bundle / f"err{n}" for n in range(4)]
    racers = []
    for path in errors:
        with path.open("wb") as err:
            racers.append(box.popen("create", "--bundle", str(box.bundle), box.id, stderr=err, **quiet))
    codes = [racer.wait(20) for racer in racers]
    assert sorted(codes) == [0, 1, 1, 1]
    assert all("already exists" in path.read_text() for path, code in zip(errors, codes, strict=True) if code)
    assert box.finish() == 0


def test_id_is_free_after_delete(box: Box) -> None:
    """L13"""
    for _ in range(2):
        box.create()
        assert box.finish() == 0
        box.delete()


def test_create_applies_the_config_of_its_time(box: Box) -> None:
    """L07: later edits of config.json change nothing."""
    box.script("echo $WHICH; hostname")
    box.process["env"].append("WHICH=old")
    box.create()
    box.process["env"][-1] = "WHICH=new"
    box.config["hostname"] = "new"
    box.args("false")
    box.write()
    assert box.finish() == 0
    assert box.logs() == "old\nbox\n"


@pyoci_only("exec reads config.json of the bundle again")
def test_exec_applies_the_config_of_create(box: Box) -> None:
    """L07 P21: also when config.json was edited since, or is gone."""
    box.process["env"].append("WHICH=old")
    box.up()
    box.process["env"][-1] = "WHICH=new"
    box.write()
    assert box.exec("sh", "-c", "echo $WHICH").out == "old\n"
    (box.bundle / "config.json").unlink()
    assert box.exec("sh", "-c", "echo $WHICH").out == "old\n"


@pyoci_only("wants process at create")
def test_process_may_be_absent_at_create(box: Box) -> None:
    """L05: create works, start says what is missing, the container stays created."""
    del box.config["process"]
    box.create()
    assert box.status == "created"
    result = box.start(check=False)
    assert result.code == 1
    assert "process" in result.error
    assert box.status == "created"


def test_pid_file(box: Box) -> None:
    """ENGINE-CONTRACT 2.2: digits only, no newline; there when create returns."""
    file = box.bundle / "pid"
    box.create("--pid-file", str(file))
    assert file.read_text() == str(box.pid)
    assert [f.name for f in box.bundle.iterdir() if "pid" in f.name] == ["pid"]


def test_pid_file_is_relative_to_the_caller(box: Box) -> None:
    """Not to the bundle."""
    box.create("--pid-file=init.pid", cwd=box.root.parent)
    assert (box.root.parent / "init.pid").read_text() == str(box.pid)


# -- start ----------------------------------------------------------------------------------


def test_start_needs_an_id(box: Box) -> None:
    """L08"""
    assert box.rt("start", check=False).code == 1


def test_start_of_an_unknown_id(box: Box) -> None:
    """L08"""
    result = box.start(check=False)
    assert (result.code, result.out) == (1, "")
    assert "container does not exist" in result.error


def test_start_twice(box: Box) -> None:
    """L08: starting a running container is an error and changes nothing."""
    box.up()
    before = box.state()
    result = box.start(check=False)
    assert result.code == 1
    assert "running" in result.error
    assert box.state() == before


def test_start_of_a_stopped_container(box: Box) -> None:
    """L08"""
    box.create()
    assert box.finish() == 0
    result = box.start(check=False)
    assert result.code == 1
    assert "stopped" in result.error
    assert box.status == "stopped"


def test_start_after_init_was_killed(box: Box) -> None:
    """L08: the init of a created container that died makes a stopped container."""
    box.create()
    pid = box.pid
    os.kill(pid, 9)
    wait_for(pid)
    assert box.status == "stopped"
    assert box.start(check=False).code == 1


def test_state_after_start_is_never_created(boxes: Callable[[], Box]) -> None:
    """ENGINE-CONTRACT 2.2: at once running or stopped."""
    for argv in (["true"], ["sleep", "100"]):
        box = boxes()
        box.args(*argv)
        box.create()
        box.start()
        assert box.status in ("running", "stopped")


def test_verbs_are_silent(box: Box) -> None:
    """ENGINE-CONTRACT 2.2: create, start, kill and delete print nothing on success."""
    box.args("sleep", "100")
    assert box.create() == (0, "", "")
    assert box.start() == (0, "", "")
    assert box.kill("KILL") == (0, "", "")
    until(lambda: box.status == "stopped", "stopped")
    assert box.delete() == (0, "", "")


# -- state ----------------------------------------------------------------------------------


def test_state(box: Box) -> None:
    """L14 L15: the fields of the spec, with the types of state-schema.json, and those engines read."""
    box.config["annotations"] = {"com.example.key": "value", "empty": ""}
    box.create()
    state = box.state()
    assert state["ociVersion"].startswith("1.")
    assert state["id"] == box.id
    assert state["status"] == "created"
    assert Path(f"/proc/{state['pid']}").exists()
    assert state["bundle"] == str(box.bundle)
    assert state["rootfs"] == str(box.rootfs)
    assert state["annotations"] == {"com.example.key": "value", "empty": ""}
    created = datetime.fromisoformat(state["created"])  # RFC 3339, with a zone
    assert created.tzinfo is not None
    assert abs((datetime.now(created.tzinfo) - created).total_seconds()) < 60
    assert box.finish() == 0
    state = box.state()
    assert (state["status"], state["pid"]) == ("stopped", 0)


def test_state_without_and_with_unknown_id(box: Box) -> None:
    """L14"""
    assert box.rt("state", check=False).code != 0
    result = box.rt("state", box.id, check=False)
    assert (result.code, result.out) == (1, "")
    assert "container does not exist" in result.error


def test_list(boxes: Callable[[], Box]) -> None:
    """list, list --quiet and list --format json show all containers."""
    first, second = boxes(), boxes()
    assert first.rt("list", "--quiet").out == ""
    assert json.loads(first.rt("list", "--format", "json").out) in (None, [])
    first.up()
    second.create()
    assert sorted(first.rt("list", "-q").out.split()) == [first.id, second.id]
    listed = {entry["id"]: entry for entry in json.loads(first.rt("list", "-f", "json").out)}
    assert listed[first.id]["status"] == "running"
    assert listed[second.id]["pid"] == second.pid
    assert listed[first.id]["owner"] == "root"
    lines = first.rt("list").out.splitlines()
    assert lines[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert lines[1].split()[:4] == [first.id, str(first.pid), "running", str(first.bundle)]


# -- kill -----------------------------------------------------------------------------------

TRAPS = 'for s in TERM HUP USR1 INT; do trap "echo $s; exit 3" $s; done; echo ready; while :; do sleep 0.01; done'


@pytest.mark.parametrize(
    ("words", "name"),
    [([], "TERM"), (["15"], "TERM"), (["HUP"], "HUP"), (["SIGUSR1"], "USR1"), (["sigint"], "INT"), (["int"], "INT")],
)
def test_kill_sends_the_signal(box: Box, words: list[str], name: str) -> None:
    """L10: by number, by name with and without SIG, SIGTERM when none is given."""
    box.script(TRAPS)
    box.create()
    pid = box.pid
    box.start()
    until(lambda: "ready" in box.logs(), "traps set")
    box.kill(*words)
    assert wait_for(pid) == 3
    assert box.logs() == f"ready\n{name}\n"


def test_kill_a_created_container(box: Box) -> None:
    """L10"""
    box.create()
    pid = box.pid
    box.kill("KILL")
    assert wait_for(pid) == -9
    assert box.status == "stopped"


@pytest.mark.parametrize("word", ["FROB", "SIG", "0x9", "65", "-1"])
def test_kill_refuses_what_is_no_signal(box: Box, word: str) -> None:
    """L24"""
    box.up()
    assert box.kill(word, check=False).code == 1
    assert box.status == "running"


def test_kill_of_a_stopped_container(box: Box) -> None:
    """L10, with the text the containerd shim looks for."""
    box.create()
    assert box.finish() == 0
    result = box.kill(check=False)
    assert result.code == 1
    assert "container not running" in result.error


def test_kill_without_and_with_unknown_id(box: Box) -> None:
    """L10"""
    assert box.rt("kill", check=False).code == 1
    result = box.kill("KILL", check=False)
    assert result.code == 1
    assert "container does not exist" in result.error


def test_kill_all(box: Box) -> None:
    """ENGINE-CONTRACT 2.1: kill --all reaches every process, also without a pid namespace."""
    box.no_namespace("pid")
    box.script("sleep 100 & sleep 100 & echo started; wait")
    box.create()
    pid = box.pid
    box.start()
    until(lambda: "started" in box.logs(), "the children")
    box.rt("kill", "--all", box.id, "9")
    assert wait_for(pid) == -9
    until(lambda: not any(Path(name, "cgroup.procs").read_text() for name in cgroups(box.id)), "an empty cgroup")
    box.rt("kill", "--all", box.id, "9", check=False)
    box.delete()


def test_a_session_that_outlives_its_leader(box: Box) -> None:
    """Without a pid namespace others may: the pid of init, which has been reaped, is still their session's number."""
    box.no_namespace("pid")
    box.script("sleep 100 & echo started")
    box.create()
    pid = box.pid
    box.start()
    assert wait_for(pid) == 0
    assert box.status == "stopped"
    assert box.kill(check=False).code == 1
    box.delete("--force")


@pyoci_only("1.1.5 does not know it")
def test_kill_default_is_the_stop_signal_of_the_image(box: Box) -> None:
    """A02"""
    box.config["annotations"] = {"org.opencontainers.image.stopSignal": "SIGUSR1"}
    box.script(TRAPS)
    box.create()
    pid = box.pid
    box.start()
    until(lambda: "ready" in box.logs(), "traps set")
    box.kill()
    assert wait_for(pid) == 3
    assert "USR1" in box.logs()


# -- delete ---------------------------------------------------------------------------------


def test_delete_refuses_a_running_container(box: Box) -> None:
    """L11: an error without effect."""
    box.up()
    before = box.state()
    result = box.delete(check=False)
    assert result.code == 1
    assert "not stopped" in result.error
    assert box.state() == before
    assert box.exec("echo", "alive").out == "alive\n"


def test_delete_a_created_container(box: Box) -> None:
    """containerd relies on it: created is killed and deleted."""
    box.create()
    pid = box.pid
    box.delete()
    assert box.entries() == set()
    assert wait_for(pid) == -9


def test_delete_force(box: Box) -> None:
    """delete --force kills first, in any state."""
    box.up()
    pid = box.pid
    assert box.delete("--force") == (0, "", "")
    assert wait_for(pid) == -9
    assert box.entries() == set()


def test_delete_force_without_pid_namespace(box: Box) -> None:
    """L12: with the host's pid namespace the cgroup is what finds the other processes."""
    box.no_namespace("pid")
    box.script("sleep 100 & sleep 100 & echo started; wait")
    box.up()
    until(lambda: "started" in box.logs(), "the children")
    box.delete("--force")


def test_delete_of_an_unknown_id(box: Box) -> None:
    """ENGINE-CONTRACT 2.3: an error that says so; with --force success without a word."""
    result = box.delete(check=False)
    assert result.code == 1
    assert "container does not exist" in result.error
    assert box.delete("--force") == (0, "", "")
    assert box.delete("-f") == (0, "", "")
    assert box.rt("delete", check=False).code != 0


def test_delete_removes_only_what_create_made(box: Box) -> None:
    """L12: the bundle, its rootfs and the parent cgroup stay."""
    parent = f"{box.id}-parent"
    box.linux["cgroupsPath"] = f"/{parent}/child"
    box.create()
    mine = cgroups(f"{parent}/child")
    assert mine
    box.delete("--force")
    assert not cgroups(f"{parent}/child")
    remove_cgroups(parent)
    assert (box.rootfs / "bin/busybox").exists()
    assert (box.bundle / "config.json").exists()


def test_delete_leaves_other_containers_alone(boxes: Callable[[], Box]) -> None:
    """L12"""
    first, second = boxes(), boxes()
    first.up()
    second.up()
    before = second.state()
    first.delete("--force")
    assert second.state() == before
    assert second.exec("echo", "alive").out == "alive\n"


@pyoci_only("the modes follow the umask, not stated")
def test_state_directory_is_private(box: Box) -> None:
    """SECURITY 19: 0700, files 0600, whatever the umask."""
    old = os.umask(0)
    try:
        box.create()
    finally:
        os.umask(old)
    entry = box.root / box.id
    assert entry.stat().st_mode & 0o7777 == 0o700
    assert {f.name: oct(f.stat().st_mode & 0o7777) for f in entry.iterdir() if f.stat().st_mode & 0o77} == {}


@pyoci_only("came with 1.2")
def test_pidfd_socket(box: Box, console: ConsoleSocket) -> None:
    box.args("sh", "-c", "exit 7")
    box.create("--pidfd-socket", str(console.path))
    pidfd = console.receive()
    pid = box.pid
    assert f"Pid:\t{pid}\n" in Path(f"/proc/self/fdinfo/{pidfd}").read_text()
    os.close(pidfd)
    assert box.finish() == 7


@pyoci_only("came with 1.2")
def test_a_pidfd_socket_that_is_not_there(box: Box) -> None:
    box.args("true")
    assert "pidfd socket" in box.create("--pidfd-socket", "/no/such", check=False).error
    assert box.entries() == set()


@pyoci_only("has no --config")
def test_config_of_a_file_and_of_stdin(box: Box) -> None:
    box.script("cat /proc/self/comm")
    box.write()
    config = box.bundle / "config.json"
    other = box.bundle / "other.json"
    config.rename(other)
    assert box.rt("run", "--bundle", str(box.bundle), "--config", str(other), box.id).out == "cat\n"
    with other.open() as stdin:
        assert box.rt("run", "--bundle", str(box.bundle), "--config", "-", box.id, stdin=stdin).out == "cat\n"
