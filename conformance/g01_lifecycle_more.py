"""G1, second part: what fails and what is left then, what is ignored, what is there by default."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from conformance import machine
from conformance.box import Box, Skip, holds, mountinfo, same
from conformance.g01_lifecycle import raw
from conformance.runner import check


@check("L17")
def hook_pid(box: Box) -> None:
    """Pid of a hook's state: the runtime's view outside, the container's view inside."""
    files = {kind: box.dir / kind for kind in ("prestart", "createRuntime", "createContainer", "poststart")}
    for kind, file in files.items():
        box.shell_hook(kind, f"cat >{file}")
    box.bind("/mnt", box.dir)
    box.shell_hook("startContainer", "cat >/mnt/startContainer")
    pid = box.up()
    found = {kind: json.loads((box.dir / kind).read_text())["pid"] for kind in (*files, "startContainer")}
    wanted = {"prestart": pid, "createRuntime": pid, "createContainer": 1, "poststart": pid, "startContainer": 1}
    same(found, wanted, "pid in the state of each hook")


def destroyed(box: Box, verb: str, result: Any) -> None:
    """The verb failed, the container is gone, the poststop hook ran."""
    holds(result.code != 0, f"`{verb}` succeeded")
    holds(machine.until(lambda: box.rt("state", box.id).code != 0, 2), "the container was not destroyed")
    holds((box.dir / "poststop").exists(), "poststop hooks did not run")


@check("L18")
def create_hook_fails(box: Box) -> None:
    """A failing prestart, createRuntime or createContainer hook fails create, and poststop runs."""
    for kind in ("prestart", "createRuntime", "createContainer"):
        box.config.pop("hooks", None)
        (box.dir / "poststop").unlink(missing_ok=True)
        box.shell_hook(kind, "exit 1")
        box.shell_hook("poststop", f"echo x >{box.dir}/poststop")
        box.write()
        destroyed(box, f"create with a failing {kind} hook", box.try_create())


@check("L18")
def start_hook_fails(box: Box) -> None:
    """A failing startContainer hook fails start, and poststop runs."""
    box.bind("/mnt", box.dir)
    box.script("echo ran >/mnt/ran")
    box.shell_hook("startContainer", "exit 1")
    box.shell_hook("poststop", f"echo x >{box.dir}/poststop")
    box.create()
    destroyed(box, "start with a failing startContainer hook", box.rt("start", box.id))
    holds(not (box.dir / "ran").exists(), "the program ran")


@check("L19")
def poststart_fails(box: Box) -> None:
    """A failing poststart hook fails start, stops the container, and poststop runs."""
    box.process["args"] = ["sleep", "100"]
    box.shell_hook("poststart", "exit 1")
    box.shell_hook("poststop", f"echo x >{box.dir}/poststop")
    box.create()
    pid = box.pid
    result = box.rt("start", box.id)
    destroyed(box, "start with a failing poststart hook", result)
    machine.wait_for(pid, 2)
    holds(not Path(f"/proc/{pid}").exists(), "the program still runs")


@check("L20")
def poststop_fails(box: Box) -> None:
    """A failing poststop hook is a warning: the next hook runs and delete succeeds."""
    box.shell_hook("poststop", "exit 1")
    box.shell_hook("poststop", f"echo x >{box.dir}/second")
    box.create()
    box.finish()
    said = box.delete().err
    holds((box.dir / "second").exists(), "the second hook did not run")
    holds(box.rt("state", box.id).code != 0, "the container is still there")
    holds(said.strip(), "there was no warning")


BREAKS = {
    "a mount source that is missing": lambda b: b.bind("/mnt", "/nosuch"),
    "a program that is missing": lambda b: b.process.update(args=["/nosuch"]),
    "a hook that fails": lambda b: b.shell_hook("createRuntime", "exit 1"),
    "a late hook that fails": lambda b: b.shell_hook("createContainer", "exit 1"),
    "a cgroup value out of range": lambda b: b.resources.update(cpu={"cpus": "4000"}),
    "a working directory that is a file": lambda b: b.process.update(cwd="/etc/passwd"),
}


@check("L21")
def error_leaves_nothing(box: Box) -> None:
    """After a create that failed, cgroups, mounts, processes and state are as before."""
    box.resources["pids"] = {"limit": 10}
    before = (machine.mounts(), machine.children(), machine.cgroups(box.id))
    for what, change in BREAKS.items():
        box.alone(change, what)
        machine.until(lambda: machine.children() == before[1], 2)
        after = (machine.mounts(), machine.children(), machine.cgroups(box.id))
        for name, old, new in zip(("mounts", "processes", "cgroups"), before, after, strict=True):
            same(new, old, f"{name} after {what}")
        left = [p.name for p in box.state_root.rglob("*") if box.id in p.name] if box.state_root.exists() else []
        same(left, [], f"files of its state after {what}")


@check("L22")
def warnings_go_on(box: Box) -> None:
    """A warning does not change what happens."""
    box.process["capabilities"]["bounding"] = [*box.process["capabilities"]["bounding"], "CAP_NO_SUCH"]
    same(box.output("echo", "x"), "x\n", "output with an unknown capability")


@check("L23")
def unknown_properties(box: Box) -> None:
    """Unknown properties are ignored, wherever they are."""
    for place in (box.config, box.process, box.linux, box.config["root"], box.config["mounts"][0], box.resources):
        place["x-unknown"] = {"a": [1, None]}
    same(box.output("echo", "x"), "x\n", "output")


INVALID = {
    "a uid that is a string": lambda b: b.process["user"].update(uid="0"),
    "an unknown type of namespace": lambda b: b.linux["namespaces"].append({"type": "nosuch"}),
    "a root.path that is a number": lambda b: b.config["root"].update(path=1),
    "mounts that are no array": lambda b: b.config.update(mounts="x"),
    "an unknown rootfsPropagation": lambda b: b.linux.update(rootfsPropagation="nosuch"),
    "an unknown seccomp action": lambda b: b.linux.update(seccomp={"defaultAction": "SCMP_ACT_NOSUCH"}),
    "a device of an unknown type": lambda b: b.linux.update(devices=[{"path": "/x", "type": "z"}]),
    "JSON that ends early": None,
}


@check("L24")
def invalid_values(box: Box) -> None:
    """Invalid values are errors."""
    for what, change in INVALID.items():
        if change:
            box.alone(change, what)
    raw(box, json.dumps(box.config).encode()[:-5])
    box.refuses("JSON that ends early", box.try_create())


@check("L25")
def only_stdio(box: Box) -> None:
    """Only 0, 1 and 2 are open in the program, whatever the runtime was called with."""
    box.process["args"] = ["probe", "fds"]
    with open("/etc/passwd", "rb") as file:
        os.set_inheritable(file.fileno(), True)
        high = os.dup2(file.fileno(), 57)
        try:
            out = box.run(pass_fds=(file.fileno(), high)).out
        finally:
            os.close(high)
    same(sorted(int(line.split()[0]) for line in out.splitlines()), [0, 1, 2], f"descriptors: {out!r}")


@check("L26")
def extra_fds(box: Box) -> None:
    """--preserve-fds passes descriptors on."""
    if not box.suite.knows("run", "preserve-fds"):
        raise Skip("the runtime has no --preserve-fds")
    box.script("cat <&3")
    box.write()
    (box.dir / "given").write_text("walnut")
    argv = [*box.suite.runtime, "--root", str(box.state_root), "run", "--preserve-fds", "1"]
    argv += ["--bundle", str(box.bundle), box.id]
    words = " ".join(f"'{word}'" for word in argv)
    box.made.append(box.id)
    done = subprocess.run(
        ["sh", "-c", f"{words} 3<{box.dir}/given"], capture_output=True, text=True, timeout=machine.TIMEOUT, check=False
    )
    same(done.stdout, "walnut", f"what descriptor 3 holds ({done.stderr[-200:]})")


@check("L27")
def dev_links(box: Box) -> None:
    """/dev/fd, stdin, stdout, stderr are links into /proc/self/fd."""
    out = box.sh("for f in fd stdin stdout stderr; do readlink /dev/$f; done").split()
    same(out, ["/proc/self/fd", *(f"/proc/self/fd/{n}" for n in range(3))], "links")


@check("L28")
def file_systems(box: Box) -> None:
    """/proc, /sys, /dev/pts and /dev/shm are there."""
    found = mountinfo(box.output("cat", "/proc/self/mountinfo"))
    kinds = {
        point: found[point].fstype if point in found else "missing"
        for point in ("/proc", "/sys", "/dev/pts", "/dev/shm")
    }
    same(kinds, {"/proc": "proc", "/sys": "sysfs", "/dev/pts": "devpts", "/dev/shm": "tmpfs"}, "file systems")


@check("L29")
def validated_first(box: Box) -> None:
    """A fault in config.json is found before anything is done: not even a hook runs."""
    box.shell_hook("prestart", f"echo x >{box.dir}/ran")
    box.shell_hook("createRuntime", f"echo x >{box.dir}/ran")
    box.alone(lambda b: b.process.update(cwd="tmp"), "a relative cwd")
    box.alone(lambda b: b.process.update(rlimits=[{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]), "an unknown limit")
    holds(not (box.dir / "ran").exists(), "a hook ran before the config was found invalid")
