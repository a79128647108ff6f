"""G7, first part: where the container is, memory and processors; cgroups of whichever version the machine has."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from conformance import machine
from conformance.box import Box, Result, Skip, holds, same
from conformance.g04_namespaces import give_to, own_runtime
from conformance.runner import check

V2 = "this machine has cgroup v1"
V1 = "this machine has cgroup v2"


def own(pid: int, controller: str) -> str:
    """The cgroup of a process, of a v1 controller or of v2."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(",") or (machine.unified() and not names):
            return path
    return ""


def applied(box: Box, resources: dict[str, Any], files: dict[tuple[str, str], str]) -> None:
    """A container with these resources has these values in its files: (controller, file) -> value.

    Raises Skip when the kernel takes no such value from anybody.
    """
    for (controller, file), value in files.items():
        why = machine.takes(controller, file, value)
        if why:
            box.resources.update(resources)
            box.skip_or_plan(why, *([] if "controller" in why else [file]))
    box.resources.update(resources)
    box.create()
    for (controller, file), value in files.items():
        found = box.cgroup_file(controller, file)
        same(" ".join(found.split()), value, file)
    box.rt("delete", "--force", box.id)


def v1v2(v1: dict[tuple[str, str], str], v2: dict[str, str]) -> dict[tuple[str, str], str]:
    """The files of this machine's version."""
    return {(file.partition(".")[0], file): value for file, value in v2.items()} if machine.unified() else v1


@check("C01")
def path(box: Box) -> None:
    """An absolute cgroupsPath is below the mount point, made when it is missing, the same each time."""
    box.linux["cgroupsPath"] = f"/{box.id}/deep/er"
    try:
        for _ in range(2):
            pid = box.up()
            same(own(pid, "pids"), box.linux["cgroupsPath"], "cgroup of the program")
            box.end()
            box.delete()
    finally:
        machine.clean(f"/{box.id}/", machine.mounts(), machine.children())


@check("C01")
def path_invalid(box: Box) -> None:
    """A path that leads out of the hierarchy is an error, or stays in it."""
    box.linux["cgroupsPath"] = f"/../../{box.id}-escape"
    box.process["args"] = ["sleep", "100"]
    box.write()
    if box.try_create().code == 0:
        found = own(box.pid, "pids")
        holds(".." not in found and found.startswith("/"), f"the program is in {found}")


@check("C02")
def frozen(box: Box) -> None:
    """A cgroup that is frozen is an error, not a container that hangs."""
    directory = box.cgroup_dir("freezer") if not machine.unified() else box.cgroup_dir("pids")
    directory.mkdir()
    name, value = ("cgroup.freeze", "1") if machine.unified() else ("freezer.state", "FROZEN")
    (directory / name).write_text(value)
    box.write()
    holds(box.try_create(timeout=5).code != 0, "`create` in a frozen cgroup succeeded")


@check("C02")
def not_empty(box: Box) -> None:
    """A cgroup with a process in it is an error."""
    other = box.another()
    other.linux["cgroupsPath"] = box.linux["cgroupsPath"]
    other.up()
    box.write()
    if box.try_create().code == 0:
        raise Skip("the runtime does not look whether a cgroup has processes: it MAY")


@check("C03")
def driver_cgroupfs(box: Box) -> None:
    """The driver cgroupfs."""
    same(own(box.up(), "pids"), box.linux["cgroupsPath"], "cgroup of the program")


def with_systemd(box: Box) -> str:
    """Let systemd make the cgroup; returns the name of its unit.  Raises Skip where it does not run."""
    if not Path("/run/systemd/system").exists():
        raise Skip("systemd does not run here")
    box.options = ["--systemd-cgroup"]
    box.linux["cgroupsPath"] = f"system.slice:cf:{box.id}"
    return f"cf-{box.id}.scope"


def below(found: str, unit: str) -> None:
    """The program is in the unit's cgroup, or in one of the runtime's below it."""
    holds(found == unit or found.startswith(f"{unit}/"), f"cgroup of the program: {found}, not {unit}")


@check("C03")
def driver_systemd(box: Box) -> None:
    """The driver systemd: a scope in the slice that cgroupsPath names."""
    unit = with_systemd(box)
    below(own(box.up(), "pids"), f"/system.slice/{unit}")


@check("C03")
def driver_systemd_user(box: Box) -> None:
    """The driver systemd for an ordinary user: a scope in the user's own manager."""
    managers = [path.parts[3] for path in Path("/run/user").glob("*/systemd/private") if path.parts[3] != "0"]
    if not managers:
        raise Skip("no ordinary user has a systemd here")
    uid = int(min(managers))
    own_runtime(box, uid)
    box.userns(uid, 1)
    box.options = ["--systemd-cgroup"]
    box.linux["cgroupsPath"] = f"user.slice:cf:{box.id}"
    box.process.update(args=["sleep", "1000"], capabilities={})
    box.write()
    give_to(box, uid)
    home = f"/run/user/{uid}"
    env = {"PATH": os.environ["PATH"], "HOME": str(box.dir), "XDG_RUNTIME_DIR": home}
    env["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={home}/bus"
    user: dict[str, Any] = {"user": uid, "group": uid, "extra_groups": [], "env": env}
    try:
        done = box.try_create(**user)
        same(done.code, 0, f"exit code of create as user {uid} ({done.err.strip()[-300:]})")
        shown = box.rt("state", box.id, **user)
        found = own(int(json.loads(shown.out)["pid"]), "pids")
        below(found, f"/user.slice/user-{uid}.slice/user@{uid}.service/user.slice/cf-{box.id}.scope")
    finally:
        box.rt("delete", "--force", box.id, **user)


@check("C04")
def delegation(box: Box) -> None:
    """A cgroup namespace and a writable cgroup mount give v2 files to the container's root; v1 files never."""
    box.userns()
    box.namespace("cgroup")
    box.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "rw")
    box.create()
    directory = box.cgroup_dir("pids")
    owners = {name: (directory / name).stat().st_uid for name in (".", "cgroup.procs")}
    if not machine.unified():
        same(set(owners.values()), {0}, "owners of the v1 cgroup")
        return
    delegate = Path("/sys/kernel/cgroup/delegate")
    names = delegate.read_text().split() if delegate.exists() else ["cgroup.procs", "cgroup.subtree_control"]
    for name in (".", *names):
        if (directory / name).exists():
            same((directory / name).stat().st_uid, 100000, f"owner of {name}")
    same((directory / "pids.max").stat().st_uid, 0, "owner of pids.max")


@check("C05")
def memory(box: Box) -> None:
    """memory.limit and reservation."""
    mib = 1 << 20
    applied(
        box,
        {"memory": {"limit": 64 * mib, "reservation": 32 * mib}},
        v1v2(
            {
                ("memory", "memory.limit_in_bytes"): str(64 * mib),
                ("memory", "memory.soft_limit_in_bytes"): str(32 * mib),
            },
            {"memory.max": str(64 * mib), "memory.low": str(32 * mib)},
        ),
    )


@check("C05")
def swap(box: Box) -> None:
    """memory.swap, which is the sum of both."""
    mib = 1 << 20
    name = "memory.swap.max" if machine.unified() else "memory.memsw.limit_in_bytes"
    top = box.cgroup_dir("memory").parent
    if not any(top.glob(f"*/{name}")):
        raise Skip(f"the kernel has no {name}")
    box.resources["memory"] = {"limit": 64 * mib, "swap": 96 * mib}
    box.create()
    same(box.cgroup_file("memory", name), str((32 if machine.unified() else 96) * mib), name)


@check("C06")
def kernel_memory(box: Box) -> None:
    """memory.kernel and kernelTCP (v1)."""
    if machine.unified():
        raise Skip(V1)
    mib = 1 << 20
    applied(box, {"memory": {"kernelTCP": 16 * mib}}, {("memory", "memory.kmem.tcp.limit_in_bytes"): str(16 * mib)})


@check("C06")
def kernel_memory_limit(box: Box) -> None:
    """memory.kernel, where the kernel still has it."""
    if machine.unified():
        raise Skip(V1)
    mib = 1 << 20
    applied(box, {"memory": {"kernel": 32 * mib}}, {("memory", "memory.kmem.limit_in_bytes"): str(32 * mib)})


@check("C07")
def swappiness(box: Box) -> None:
    """memory.swappiness and useHierarchy (v1)."""
    if machine.unified():
        raise Skip(V1)
    settings = {"memory": {"swappiness": 33, "useHierarchy": True}}
    applied(box, settings, {("memory", "memory.swappiness"): "33", ("memory", "memory.use_hierarchy"): "1"})


@check("C07")
def oom_killer(box: Box) -> None:
    """memory.disableOOMKiller (v1)."""
    if machine.unified():
        raise Skip(V1)
    why = machine.takes("memory", "memory.oom_control", "1")
    if why:
        raise Skip(why)
    box.resources["memory"] = {"disableOOMKiller": True}
    box.create()
    holds("oom_kill_disable 1" in box.cgroup_file("memory", "memory.oom_control"), "the OOM killer is on")


def update(box: Box, resources: dict[str, Any]) -> Result:
    """`update --resources FILE`."""
    file = box.dir / "resources.json"
    file.write_text(json.dumps(resources))
    return box.rt("update", "--resources", str(file), box.id)


@check("C08")
def check_before_update(box: Box) -> None:
    """A limit below what is in use is rejected, and nothing is changed."""
    mib = 1 << 20
    box.resources["memory"] = {"limit": 200 * mib}
    box.process["args"] = ["probe", "eat", "60"]
    box.up()
    holds(machine.until(lambda: "eaten" in box.logs()), "the program could not take its memory")
    result = update(box, {"memory": {"limit": 8 * mib, "checkBeforeUpdate": True}})
    holds(result.code != 0, "`update` below what is in use succeeded")
    name = "memory.max" if machine.unified() else "memory.limit_in_bytes"
    same(box.cgroup_file("memory", name), str(200 * mib), name)
    same(box.status, "running", "status")
    ok = update(box, {"memory": {"limit": 150 * mib, "checkBeforeUpdate": True}})
    same(ok.code, 0, f"exit code of an `update` to enough ({ok.err.strip()[-200:]})")
    same(box.cgroup_file("memory", name), str(150 * mib), name)


@check("C09")
def cpu(box: Box) -> None:
    """cpu.shares, quota and period."""
    applied(
        box,
        {"cpu": {"shares": 512, "quota": 50000, "period": 200000}},
        v1v2(
            {
                ("cpu", "cpu.shares"): "512",
                ("cpu", "cpu.cfs_quota_us"): "50000",
                ("cpu", "cpu.cfs_period_us"): "200000",
            },
            {"cpu.max": "50000 200000"},
        ),
    )


@check("C09")
def cpu_weight(box: Box) -> None:
    """On v2 shares become a weight: half of the default less than its 100, four times as many more."""
    if not machine.unified():
        raise Skip(V2)
    weights = []
    for shares in (512, 4096):
        box.resources["cpu"] = {"shares": shares}
        box.create()
        weights.append(int(box.cgroup_file("cpu", "cpu.weight")))
        box.rt("delete", "--force", box.id)
    holds(1 < weights[0] < 100 < weights[1] < 10000, f"weights of 512 and 4096 shares: {weights}")


@check("C10")
def burst(box: Box) -> None:
    """cpu.burst up to the quota; more is an error."""
    file = ("cpu", "cpu.max.burst" if machine.unified() else "cpu.cfs_burst_us")
    if not (why := machine.takes(*file, "0")):
        box.resources["cpu"] = {"quota": 50000, "period": 100000, "burst": 30000}
        box.create()
        same(box.cgroup_file(*file), "30000", file[1])
        box.rt("delete", "--force", box.id)
    box.resources["cpu"] = {"quota": 50000, "period": 100000, "burst": 60000}
    box.refused("a burst above the quota")
    if why:
        raise Skip(why)


@check("C11")
def real_time(box: Box) -> None:
    """cpu.realtimeRuntime and realtimePeriod."""
    if machine.unified():
        raise Skip(V1)
    files = {("cpu", "cpu.rt_runtime_us"): "2000", ("cpu", "cpu.rt_period_us"): "500000"}
    applied(box, {"cpu": {"realtimeRuntime": 2000, "realtimePeriod": 500000}}, files)


@check("C12")
def cpuset(box: Box) -> None:
    """cpu.cpus and mems."""
    last = str(max(machine.cpus()))
    box.resources["cpu"] = {"cpus": last, "mems": "0"}
    box.process["args"] = ["sleep", "100"]
    pid = box.up()
    same((box.cgroup_file("cpuset", "cpuset.cpus"), box.cgroup_file("cpuset", "cpuset.mems")), (last, "0"), "cpuset")
    same(os.sched_getaffinity(pid), {int(last)}, "processors of the program")


@check("C13")
def idle(box: Box) -> None:
    """cpu.idle."""
    applied(box, {"cpu": {"idle": 1}}, {("cpu", "cpu.idle"): "1"})
