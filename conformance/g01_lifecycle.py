"""G1, first part: config.json, the verbs and the states (runtime.md, bundle.md, glossary.md)."""

from __future__ import annotations

import copy
import json
import os
import signal
from pathlib import Path
from typing import Any

from conformance import machine
from conformance.box import Box, Skip, holds, mountinfo, same
from conformance.runner import check

STATUSES = ("creating", "created", "running", "stopped")


def raw(box: Box, data: bytes) -> None:
    """Put these bytes where config.json belongs."""
    (box.bundle / "config.json").write_bytes(data)


def check_state(state: dict[str, Any], where: str) -> None:
    """The rules of state-schema.json."""
    for name, kind in (("ociVersion", str), ("id", str), ("status", str), ("bundle", str)):
        holds(type(state.get(name)) is kind, f"{where}: {name} is {state.get(name)!r}")
    holds(
        "pid" not in state or (type(state["pid"]) is int and state["pid"] >= 0), f"{where}: pid is {state.get('pid')!r}"
    )
    notes = state.get("annotations") or {}
    holds(
        isinstance(notes, dict) and all(type(v) is str for v in notes.values()), f"{where}: annotations are {notes!r}"
    )


@check("L01")
def exact_name(box: Box) -> None:
    """Config.json under another name does not count."""
    box.write()
    os.rename(box.bundle / "config.json", box.bundle / "Config.json")
    box.refuses("a bundle without config.json", box.try_create())


@check("L01")
def utf8(box: Box) -> None:
    """Bytes that are not UTF-8 are refused."""
    box.config["annotations"] = {"x": "HERE"}
    raw(box, json.dumps(box.config).encode().replace(b"HERE", b"\xff\xfe"))
    box.refuses("config.json with invalid UTF-8", box.try_create())


@check("L01")
def duplicates(box: Box) -> None:
    """An object name that is there twice is refused."""
    text = json.dumps(box.config)
    raw(box, text.replace('"hostname": "box"', '"hostname": "box", "hostname": "other"').encode())
    box.refuses("a duplicate object name", box.try_create())


@check("L02")
def version_missing(box: Box) -> None:
    """ociVersion must be there, as SemVer."""
    for value in (None, "", "1.0", "x", "01.0.0"):
        if value is None:
            box.config.pop("ociVersion")
        else:
            box.config["ociVersion"] = value
        box.refused(f"ociVersion {value!r}")


@check("L02")
def version_later(box: Box) -> None:
    """Later 1.x are accepted."""
    for value in ("1.0.0", "1.3.0", "1.99.0"):
        box.config["ociVersion"] = value
        same(box.output("echo", "x"), "x\n", f"with ociVersion {value}")


@check("L03")
def create_arguments(box: Box) -> None:
    """Create without id or bundle is an error."""
    box.write()
    holds(box.rt("create", "--bundle", str(box.bundle)).code != 0, "create without id succeeded")
    empty = box.dir / "empty"
    empty.mkdir()
    holds(box.rt("create", box.id, cwd=empty).code != 0, "create without bundle succeeded")
    holds(box.rt("create", "--bundle", str(box.dir / "none"), box.id).code != 0, "create of no bundle succeeded")
    holds(box.rt("state", box.id).code != 0, "a failed create left a container")


@check("L03")
def invalid_id(box: Box) -> None:
    """An id that is a path is refused and nothing is made."""
    box.write()
    for ident in ("../evil", "a/b", ""):
        holds(box.rt("create", "--bundle", str(box.bundle), ident).code != 0, f"create with id {ident!r} succeeded")
    holds(not (box.dir / "evil").exists(), "../evil was made beside the state")


@check("L03")
def duplicate_id(box: Box) -> None:
    """An id in use is refused, its container stays."""
    pid = box.up()
    holds(box.try_create().code != 0, "create with an id in use succeeded")
    same((box.status, box.pid), ("running", pid), "the first container")


@check("L04")
def create_applies(box: Box) -> None:
    """After create everything is set up and the program has not run."""
    host = box.dir / "host"
    host.mkdir()
    box.bind("/mnt", host)
    box.resources["pids"] = {"limit": 77}
    box.script("echo ran >/mnt/ran; hostname")
    box.create()
    same(box.status, "created", "status after create")
    pid = box.pid
    holds("/mnt" in mountinfo(Path(f"/proc/{pid}/mountinfo").read_text()), "/mnt is not mounted after create")
    holds(os.readlink(f"/proc/{pid}/ns/uts") != os.readlink("/proc/self/ns/uts"), "no namespace after create")
    same(box.cgroup_file("pids", "pids.max"), "77", "pids.max after create")
    holds(not (host / "ran").exists(), "the program ran before start")
    same(box.finish(), 0, "exit code")
    holds((host / "ran").exists(), "the program did not run after start")
    same(box.logs(), "box\n", "hostname")


@check("L05")
def no_process(box: Box) -> None:
    """Without process create succeeds and start is an error."""
    box.config.pop("process")
    box.create()
    holds(box.rt("start", box.id).code != 0, "start without process succeeded")


@check("L06")
def cannot_apply(box: Box) -> None:
    """What cannot be applied is an error, and there is no container."""
    box.alone(lambda b: b.bind("/mnt", "/nosuch/source"), "a bind mount of what is not there")
    box.alone(lambda b: b.mount("/mnt", "nosuchfs", "x"), "a file system type that is not there")
    box.alone(lambda b: b.namespace("network", "/nosuch/netns"), "a namespace path that is not there")
    box.alone(lambda b: b.linux.update(sysctl={"net.no.such": "1"}), "a sysctl that is not there")


@check("L07")
def later_edits(box: Box) -> None:
    """Edits of config.json after create change nothing."""
    box.process["args"] = ["echo", "old"]
    box.create()
    other = copy.deepcopy(box.config)
    other["process"]["args"] = ["echo", "new"]
    raw(box, json.dumps(other).encode())
    box.finish()
    same(box.logs(), "old\n", "output")


@check("L08")
def start_twice(box: Box) -> None:
    """Start of what is not created is an error without effect."""
    pid = box.up()
    holds(box.rt("start", box.id).code != 0, "start of a running container succeeded")
    same((box.status, box.pid), ("running", pid), "after the second start")
    box.end()
    holds(box.rt("start", box.id).code != 0, "start of a stopped container succeeded")
    same(box.status, "stopped", "after start of a stopped container")


@check("L08")
def start_arguments(box: Box) -> None:
    """Start without id, or of no container, is an error."""
    holds(box.rt("start").code != 0, "start without id succeeded")
    holds(box.rt("start", box.id).code != 0, "start of no container succeeded")


@check("L09")
def start_order(box: Box) -> None:
    """startContainer hooks, then the program, then poststart hooks before start returns."""
    host = box.dir / "host"
    host.mkdir()
    box.bind("/mnt", host)
    box.shell_hook("startContainer", "echo startContainer >>/mnt/log")
    box.script("echo program >>/mnt/log; exec sleep 100")
    log = host / "log"
    box.shell_hook(
        "poststart", f"n=0; while ! grep -q program {log} && [ $n -lt 300 ]; do n=$((n+1)); sleep 0.01; done; "
        f"echo poststart >>{log}"
    )  # fmt: skip
    box.create()
    holds(not log.exists(), "a startContainer hook ran at create")
    box.start()
    same(log.read_text().split(), ["startContainer", "program", "poststart"], "order when start returned")


@check("L10")
def kill_sends(box: Box) -> None:
    """Kill sends the signal that was given."""
    box.script("trap 'echo got USR1; exit 3' USR1; echo ready; while :; do sleep 0.05; done")
    pid = box.up()
    holds(machine.until(lambda: "ready" in box.logs()), "the program does not run")
    box.kill("USR1")
    same(machine.wait_for(pid, 5), 3, "exit code")
    same(box.logs(), "ready\ngot USR1\n", "output")


@check("L10")
def kill_numbers(box: Box) -> None:
    """Kill takes a number, and a name with SIG."""
    for word in ("9", "SIGKILL"):
        pid = box.up()
        box.kill(word)
        same(machine.wait_for(pid, 5), -signal.SIGKILL, f"how kill {word} ended the program")
        box.delete()


@check("L10")
def kill_created(box: Box) -> None:
    """Kill reaches a container that is created and not started."""
    box.create()
    pid = box.pid
    box.kill("KILL")
    same(machine.wait_for(pid, 5), -signal.SIGKILL, "how kill ended the created container")
    holds(machine.until(lambda: box.status == "stopped"), "it is not stopped")


@check("L10")
def kill_errors(box: Box) -> None:
    """Kill of what is stopped or not there, or without id, is an error."""
    box.up()
    box.end()
    holds(box.rt("kill", box.id, "KILL").code != 0, "kill of a stopped container succeeded")
    holds(box.rt("kill").code != 0, "kill without id succeeded")
    holds(box.rt("kill", box.id + "x", "KILL").code != 0, "kill of no container succeeded")


@check("L11")
def delete_running(box: Box) -> None:
    """Delete of a running container is an error without effect."""
    pid = box.up()
    holds(box.rt("delete", box.id).code != 0, "delete of a running container succeeded")
    same((box.status, box.pid), ("running", pid), "after the refused delete")


@check("L11")
def delete_unknown(box: Box) -> None:
    """Delete without id, or of no container, is an error."""
    holds(box.rt("delete").code != 0, "delete without id succeeded")
    holds(box.rt("delete", box.id).code != 0, "delete of no container succeeded")


@check("L12")
def delete_removes(box: Box) -> None:
    """Delete removes state and cgroups, and nothing that create did not make."""
    file = box.dir / "host"
    file.write_text("mine")
    box.bind("/mnt/file", file)
    before = machine.mounts()
    box.up()
    holds(machine.cgroups(box.id), "there is no cgroup while it runs")
    box.end()
    box.delete()
    same(machine.cgroups(box.id), set(), "cgroups after delete")
    holds(box.rt("state", box.id).code != 0, "there is state after delete")
    same(machine.mounts(), before, "mounts after delete")
    same(file.read_text(), "mine", "the source of a bind mount")
    holds((box.rootfs / "bin/busybox").exists() and (box.bundle / "config.json").exists(), "the bundle is gone")


@check("L12")
def delete_keeps(box: Box) -> None:
    """A cgroup that was there before create stays."""
    directory = box.cgroup_dir("pids")
    directory.mkdir()
    box.run()
    holds(directory.is_dir(), "delete removed a cgroup that create had not made")


@check("L13")
def reuse(box: Box) -> None:
    """An id can be used again after delete."""
    for word in ("one", "two"):
        box.process["args"] = ["echo", word]
        box.create()
        box.finish()
        same(box.logs(), word + "\n", "output")
        box.delete()


@check("L14")
def state_arguments(box: Box) -> None:
    """State without id, or of no container, is an error."""
    holds(box.rt("state").code != 0, "state without id succeeded")
    holds(box.rt("state", box.id).code != 0, "state of no container succeeded")


@check("L14")
def state_schema(box: Box) -> None:
    """What state prints is as state-schema.json asks."""
    box.create()
    check_state(box.state(), "created")
    box.finish()
    check_state(box.state(), "stopped")


@check("L15")
def state_fields(box: Box) -> None:
    """ociVersion, id, status, pid, bundle, annotations hold what they should in each status."""
    box.config["annotations"] = {"org.example.key": "value"}
    box.process["args"] = ["sleep", "100"]
    box.write()
    same(box.try_create(bundle=Path(os.path.relpath(box.bundle))).code, 0, "exit code of create with a relative bundle")
    state = box.state()
    same((state["id"], state["status"]), (box.id, "created"), "after create")
    same(state["bundle"], str(box.bundle), "bundle")
    same((state.get("annotations") or {}).get("org.example.key"), "value", "the annotation")
    holds(state["ociVersion"].startswith("1."), f"ociVersion is {state['ociVersion']}")
    spaces = os.readlink(f"/proc/{state['pid']}/ns/uts")
    holds(spaces != os.readlink("/proc/self/ns/uts"), "pid is not that of the container")
    box.start()
    same((box.status, box.pid), ("running", state["pid"]), "after start")
    box.end()


@check("L16")
def extra_states(box: Box) -> None:
    """A paused container is "paused", every other status is the spec's."""
    if not box.suite.knows("pause"):
        raise Skip("the runtime has no pause: it has no state beside the spec's")
    box.up()
    same(box.rt("pause", box.id).code, 0, "exit code of pause")
    same(box.status, "paused", "status after pause")
    same(box.rt("resume", box.id).code, 0, "exit code of resume")
    holds(box.status in STATUSES, f"status after resume is {box.status}")
    same(box.status, "running", "status after resume")
