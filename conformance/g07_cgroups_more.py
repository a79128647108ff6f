"""G7, second part: the other controllers, devices, and what is done to cgroups while the container runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from conformance import machine
from conformance.box import Box, Skip, holds, same
from conformance.g07_cgroups import V1, V2, applied, update, v1v2, with_systemd
from conformance.runner import check


def weight_file() -> tuple[str, str]:
    """The controller and the file for weights: on v2 that of BFQ if it is there, else the kernel's own."""
    if not machine.unified():
        return "blkio", "blkio.bfq.weight"
    return "io", "io.weight" if machine.takes("io", "io.bfq.weight", "200") else "io.bfq.weight"


@check("C14")
def weight(box: Box) -> None:
    """blockIO.weight."""
    controller, file = weight_file()
    why = machine.takes(controller, file, "200")
    if why:
        raise Skip(why)
    box.resources["blockIO"] = {"weight": 200}
    box.create()
    found = box.cgroup_file(controller, file).split()[-1]
    if file == "io.weight":  # of 1 to 10000 in place of 10 to 1000
        holds(100 < int(found) < 10000, f"{file}: {found}")
    else:
        same(found, "200", file)


@check("C14")
def weight_device(box: Box) -> None:
    """blockIO.weightDevice."""
    controller, file = weight_file()
    file = file if machine.unified() else "blkio.bfq.weight_device"
    device = disk()
    why = machine.takes(controller, file, f"{device} 300")
    major, minor = map(int, device.split(":"))
    box.resources["blockIO"] = {"weightDevice": [{"major": major, "minor": minor, "weight": 300}]}
    if why:
        reason = (
            "there is no bfq, and io.cost.qos is off" if file == "io.weight" else "the device's scheduler is not bfq"
        )
        box.skip_or_plan(
            f"{why} ({reason})", f"{'bfq.weight' if machine.unified() else 'weight_device'} to {device} 300"
        )
    box.create()
    found = box.cgroup_file(controller, file)
    holds(any(line.split()[0] == device for line in found.splitlines()), f"{file}: {found!r}")
    if file != "io.weight":
        holds(f"{device} 300" in found, f"{file}: {found!r}")


def disk() -> str:
    """The numbers of a block device, a loop device rather than a disk."""
    for name in sorted(os.listdir("/sys/block"), key=lambda name: not name.startswith("loop")):
        return Path("/sys/block", name, "dev").read_text().strip()
    raise Skip("there is no block device")


@check("C15")
def leaf_weight(box: Box) -> None:
    """blockIO.leafWeight (v1, kernels with CFQ)."""
    if machine.unified():
        raise Skip(V1)
    files = {("blkio", "blkio.leaf_weight"): "200"}
    why = machine.takes("blkio", "blkio.leaf_weight", "200")
    if not why:
        applied(box, {"blockIO": {"leafWeight": 200}}, files)
        return
    box.resources["blockIO"] = {"leafWeight": 200}
    box.skip_or_plan(why, "blkio.leaf_weight to 200")


@check("C16")
def throttle(box: Box) -> None:
    """blockIO throttling, bytes and operations, reading and writing."""
    device = disk()
    major, minor = map(int, device.split(":"))
    kinds = {"ReadBps": "read_bps", "WriteBps": "write_bps", "ReadIOPS": "read_iops", "WriteIOPS": "write_iops"}
    rates = {f"throttle{kind}Device": [{"major": major, "minor": minor, "rate": 1 << 20}] for kind in kinds}
    if machine.unified():
        applied(box, {"blockIO": rates}, {("io", "io.max"): " ".join([device, *(f"{k}={1 << 20}" for k in
                ("rbps", "wbps", "riops", "wiops"))])})  # fmt: skip
        return
    files = {("blkio", f"blkio.throttle.{name}_device"): f"{device} {1 << 20}" for name in kinds.values()}
    applied(box, {"blockIO": rates}, files)


@check("C17")
def huge_pages(box: Box) -> None:
    """hugepageLimits: the file for reservations and the one for page faults."""
    two = str(4 << 20)
    files = v1v2(
        {("hugetlb", "hugetlb.2MB.rsvd.limit_in_bytes"): two, ("hugetlb", "hugetlb.2MB.limit_in_bytes"): two},
        {"hugetlb.2MB.rsvd.max": two, "hugetlb.2MB.max": two},
    )
    applied(box, {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]}, files)


@check("C18")
def network_class(box: Box) -> None:
    """network.classID (v1)."""
    if machine.unified():
        raise Skip(V1)
    applied(box, {"network": {"classID": 0x100001}}, {("net_cls", "net_cls.classid"): str(0x100001)})


@check("C18")
def network_priorities(box: Box) -> None:
    """network.priorities (v1)."""
    if machine.unified():
        raise Skip(V1)
    why = machine.takes("net_prio", "net_prio.ifpriomap", "lo 5")
    if why:
        raise Skip(why)
    box.resources["network"] = {"priorities": [{"name": "lo", "priority": 5}]}
    box.create()
    holds("lo 5" in box.cgroup_file("net_prio", "net_prio.ifpriomap").splitlines(), "net_prio.ifpriomap")


@check("C19")
def pids(box: Box) -> None:
    """pids.limit: a number, -1 for all, 0 for none beside the first."""
    for limit, wanted in ((50, "50"), (-1, "max"), (0, "0")):
        box.resources["pids"] = {"limit": limit}
        box.create()
        same(box.cgroup_file("pids", "pids.max"), wanted, f"pids.max with {limit}")
        same(box.finish(), 0, "exit code")
        box.delete()


@check("C20")
def rdma(box: Box) -> None:
    """rdma: an entry without handles and objects is an error."""
    box.resources["rdma"] = {"mlx5_0": {}}
    box.refused("an rdma entry with neither hcaHandles nor hcaObjects")


@check("C20")
def rdma_limits(box: Box) -> None:
    """rdma: handles and objects are written."""
    box.resources["rdma"] = {"mlx5_0": {"hcaHandles": 3, "hcaObjects": 2000}}
    if machine.controller("rdma") is None:
        box.refused("an rdma limit without the controller for it")
        raise Skip("this kernel has no rdma controller")
    box.refused("an rdma limit of a device that is not there")
    box.skip_or_plan("there is no RDMA device", "rdma.max to mlx5_0 hca_handle=3 hca_object=2000")


@check("C21")
def unified_settings(box: Box) -> None:
    """unified: any key is written, with its controller switched on."""
    if not machine.unified():
        raise Skip(V2)
    box.resources["unified"] = {"memory.high": str(64 << 20), "pids.max": "44"}
    box.create()
    same(box.cgroup_file("memory", "memory.high"), str(64 << 20), "memory.high")
    same(box.cgroup_file("pids", "pids.max"), "44", "pids.max")


@check("C21")
def unified_missing(box: Box) -> None:
    """unified: a controller that is not there is an error."""
    box.resources["unified"] = {"nosuch.max": "1"}
    box.refused("a file of a controller that is not there")


@check("C22")
def no_conversion(box: Box) -> None:
    """A v1 setting that v2 cannot express is an error."""
    if not machine.unified():
        raise Skip(V2)
    mib = 1 << 20
    settings: dict[str, dict[str, Any]] = {
        "memory.swappiness": {"memory": {"swappiness": 20}},
        "memory.kernelTCP": {"memory": {"kernelTCP": mib}},
        "memory.disableOOMKiller": {"memory": {"disableOOMKiller": True}},
        "cpu.realtimeRuntime": {"cpu": {"realtimeRuntime": 1000}},
        "blockIO.leafWeight": {"blockIO": {"leafWeight": 200}},
        "network.classID": {"network": {"classID": 1}},
        "network.priorities": {"network": {"priorities": [{"name": "lo", "priority": 5}]}},
    }
    for what, value in settings.items():
        box.alone(lambda b, value=value: b.resources.update(value), what)  # type: ignore[misc]


@check("C23")
def devices_v2(box: Box) -> None:
    """On v2 a program of the kernel keeps the devices, and an update replaces it."""
    if not machine.unified():
        raise Skip(V2)
    box.linux["devices"] = [{"path": "/host", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666}]
    box.up()
    script = "(: >/host) 2>/dev/null && echo open || echo refused"
    same(box.exec("sh", "-c", script).out, "refused\n", "before")
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rwm"}]
    same(update(box, {"devices": rules}).code, 0, "exit code of update")
    same(box.exec("sh", "-c", script).out, "open\n", "after")


@check("C24")
def freeze(box: Box) -> None:
    """pause stops every process, resume lets them go on."""
    box.script("while :; do sleep 0.01; echo x; done")
    box.up()
    holds(machine.until(box.logs), "the program does not run")
    same(box.rt("pause", box.id).code, 0, "exit code of pause")
    controller, name, wanted = (
        ("pids", "cgroup.freeze", "1") if machine.unified() else ("freezer", "freezer.state", "FROZEN")
    )
    machine.until(lambda: box.cgroup_file(controller, name) == wanted)
    same(box.cgroup_file(controller, name), wanted, name)
    frozen_at = len(box.logs())
    same(machine.until(lambda: len(box.logs()) != frozen_at, 0.2), False, "the program goes on")
    same(box.rt("resume", box.id).code, 0, "exit code of resume")
    holds(machine.until(lambda: len(box.logs()) != frozen_at), "the program does not go on")


@check("C24")
def kill_everything(box: Box) -> None:
    """delete --force ends every process of the cgroup, though no pid namespace does."""
    box.no_namespace("pid")
    box.config["mounts"] = [m for m in box.config["mounts"] if m["type"] != "proc"]
    box.bind("/proc", "/proc", "rbind")
    box.linux.update(maskedPaths=[], readonlyPaths=[])
    box.script("setsid sleep 1000 & echo $!; exec sleep 1000")
    first = box.up()
    holds(machine.until(box.logs), "the program does not run")
    second = int(box.logs())
    same(box.rt("delete", "--force", box.id).code, 0, "exit code of delete --force")
    for pid in (first, second):
        machine.wait_for(pid, 5)
    holds(machine.until(lambda: not Path(f"/proc/{second}").exists()), "a process survived delete --force")


@check("C24")
def exec_in_subcgroup(box: Box) -> None:
    """exec --cgroup puts the process below the container's cgroup."""
    if not box.suite.knows("exec", "--cgroup"):
        raise Skip("the runtime has no exec --cgroup")
    box.up()
    for directory in machine.cgroups(box.id):
        (directory / "below").mkdir()
        for name in ("cpuset.cpus", "cpuset.mems"):  # v1 takes no process without them
            if (directory / name).exists() and not machine.unified():
                (directory / "below" / name).write_text((directory / name).read_text())
    out = box.exec_options(["--cgroup", "below"], "cat", "/proc/self/cgroup").out
    holds(any(line.endswith("/below") for line in out.splitlines()), f"cgroups of the process: {out!r}")


@check("C25")
def systemd_properties(box: Box) -> None:
    """Properties of the unit by annotation."""
    unit = with_systemd(box)
    names = ("CollectMode", "TimeoutStopUSec")
    values = ("'inactive-or-failed'", "uint64 123000000")
    box.config["annotations"] = {f"org.systemd.property.{n}": value for n, value in zip(names, values, strict=True)}
    box.up()
    shown = subprocess.run(
        ["systemctl", "show", "-p", ",".join(names), unit],
        capture_output=True,
        text=True,
        timeout=machine.TIMEOUT,
        check=False,
    )
    wanted = ["CollectMode=inactive-or-failed", "TimeoutStopUSec=2min 3s"]
    same(sorted(shown.stdout.split("\n"))[-2:], wanted, f"properties of {unit}")


@check("C26")
def updates(box: Box) -> None:
    """Several resources in one update, of which 0 means unchanged."""
    mib = 1 << 20
    box.resources.update(memory={"limit": 64 * mib}, pids={"limit": 50}, cpu={"shares": 512})
    box.up()
    result = update(box, {"memory": {"limit": 128 * mib}, "pids": {"limit": 60}, "cpu": {"shares": 0}})
    same(result.code, 0, f"exit code of update ({result.err.strip()[-200:]})")
    name = "memory.max" if machine.unified() else "memory.limit_in_bytes"
    same(box.cgroup_file("memory", name), str(128 * mib), name)
    same(box.cgroup_file("pids", "pids.max"), "60", "pids.max")
    if not machine.unified():
        same(box.cgroup_file("cpu", "cpu.shares"), "512", "cpu.shares, which was 0 in the update")
