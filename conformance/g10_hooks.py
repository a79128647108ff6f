"""G10: hooks."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from conformance import machine
from conformance.box import Box, has, holds, same
from conformance.g01_lifecycle import check_state
from conformance.runner import check

OUTSIDE = ("prestart", "createRuntime", "poststart", "poststop")  # in the namespaces of the runtime
INSIDE = ("createContainer", "startContainer")  # in those of the container


def log_hooks(box: Box) -> Path:
    """Two hooks of each kind that write their name and their mount namespace down; startContainer has it at /mnt."""
    log = box.dir / "log"
    log.touch()
    box.bind("/mnt", box.dir)
    for kind in (*OUTSIDE, *INSIDE):
        target = "/mnt/log" if kind == "startContainer" else log
        for number in (1, 2):
            box.shell_hook(kind, f"echo {kind}{number} $(readlink /proc/self/ns/mnt) >>{target}")
    return log


@check("H01")
def order_and_place(box: Box) -> None:
    """Six lists, each in order, at the right point and in the right mount namespace."""
    log = log_hooks(box)
    box.script("echo program $(readlink /proc/self/ns/mnt) >>/mnt/log")
    box.create()
    created = [line.split()[0] for line in log.read_text().splitlines()]
    wanted = [f"{kind}{n}" for kind in ("prestart", "createRuntime", "createContainer") for n in (1, 2)]
    same(created, wanted, "hooks at create")
    box.finish()
    holds(machine.until(lambda: "poststart2" in log.read_text(), 2), "poststart hooks did not run")
    after = [line.split()[0] for line in log.read_text().splitlines()][len(wanted) :]
    same(after[:2], ["startContainer1", "startContainer2"], "first at start")
    same(sorted(after[2:]), ["poststart1", "poststart2", "program"], "then")
    holds("poststop1" not in log.read_text(), "poststop ran before delete")
    box.delete()
    lines = [line.split() for line in log.read_text().splitlines()]
    same([line[0] for line in lines[-2:]], ["poststop1", "poststop2"], "at delete")
    spaces = {line[0]: line[1] for line in lines}
    ours = os.readlink("/proc/self/ns/mnt")
    for kind in OUTSIDE:
        same(spaces[f"{kind}1"], ours, f"mount namespace of {kind}")
    for kind in INSIDE:
        same(spaces[f"{kind}1"], spaces["program"], f"mount namespace of {kind}")


@check("H02")
def state_on_stdin(box: Box) -> None:
    """Each hook reads the state, with the status of its moment."""
    box.bind("/mnt", box.dir)
    box.config["annotations"] = {"org.example.key": "value"}
    for kind in (*OUTSIDE, *INSIDE):
        box.shell_hook(kind, f"cat >{'/mnt' if kind == 'startContainer' else box.dir}/{kind}.json")
    box.create()
    box.finish()
    box.delete()
    wanted = {
        "prestart": "creating",
        "createRuntime": "creating",
        "createContainer": "creating",
        "startContainer": "created",
        "poststart": "running",
        "poststop": "stopped",
    }
    states = {kind: json.loads((box.dir / f"{kind}.json").read_text()) for kind in wanted}
    for kind, state in states.items():
        check_state(state, kind)
        same((state["id"], state["bundle"]), (box.id, str(box.bundle)), f"id and bundle for {kind}")
        same((state.get("annotations") or {}).get("org.example.key"), "value", f"the annotation for {kind}")
    same({kind: state["status"] for kind, state in states.items()}, wanted, "status")


@check("H03")
def relative(box: Box) -> None:
    """A relative path is an error."""
    for kind in ("prestart", "poststop"):
        box.config["hooks"] = {kind: [{"path": "bin/true"}]}
        box.refused(f"a {kind} hook with a relative path")


@check("H04")
def timeout_values(box: Box) -> None:
    """A timeout of 0, or below, is an error."""
    for value in (0, -1):
        box.config["hooks"] = {"createRuntime": [{"path": "/bin/true", "timeout": value}]}
        box.refused(f"a timeout of {value}")


@check("H04")
def timeout_ends(box: Box) -> None:
    """After its timeout a hook is ended and create fails."""
    box.shell_hook("createRuntime", "exec sleep 600", timeout=1)
    began = time.monotonic()
    box.refused("a hook that sleeps for ten minutes, with a timeout of 1 s")
    holds(time.monotonic() - began < 15 * machine.SLOW, "create waited for the hook")


@check("H05")
def arguments(box: Box) -> None:
    """args is the whole argv, env the whole environment."""
    probe = box.suite.template / "probe"
    out = box.dir / "argv"
    box.hook("createRuntime", probe, "another name", "argv", str(out), "a b", "", env=["A=b c", "B="])
    box.create(env={**os.environ, "CALLER_SECRET": "1"})
    wanted = ["arg another name", "arg argv", f"arg {out}", "arg a b", "arg ", "env A=b c", "env B="]
    same(out.read_text().splitlines(), wanted, "what the hook got")


@check("H06")
def output_kept(box: Box) -> None:
    """What a failing hook says reaches the user."""
    box.shell_hook("createRuntime", "echo walnut-on-stderr >&2; exit 3")
    has(box.refused("a hook that fails"), "walnut-on-stderr", "what create says")
