"""update: C26, C08, and what engines send (ENGINE-CONTRACT 2.2)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.harness import Box, pyoci_only, wait_for

MIB = 1 << 20
V1 = Path("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists() or not Path("/sys/fs/cgroup/cgroup.procs").exists()
# setting -> (controller, file) on v1, file on v2
FILES = {
    "limit": (("memory", "memory.limit_in_bytes"), "memory.max"),
    "swap": (("memory", "memory.memsw.limit_in_bytes"), "memory.swap.max"),
    "soft": (("memory", "memory.soft_limit_in_bytes"), "memory.low"),
    "quota": (("cpu", "cpu.cfs_quota_us"), "cpu.max"),
    "shares": (("cpu", "cpu.shares"), "cpu.weight"),
    "pids": (("pids", "pids.max"), "pids.max"),
    "cpus": (("cpuset", "cpuset.cpus"), "cpuset.cpus"),
}


def value(box: Box, setting: str) -> str:
    """What the kernel says."""
    (controller, file), unified = FILES[setting]
    if V1:
        return Path("/sys/fs/cgroup", controller, box.id, file).read_text().strip()
    return Path("/sys/fs/cgroup", box.id, unified).read_text().strip()


def memory_and_swap(box: Box) -> tuple[int, int]:
    """limit, and limit of memory and swap together."""
    limit, swap = int(value(box, "limit")), int(value(box, "swap"))
    return limit, swap if V1 else limit + swap


def send(box: Box, resources: object, check: bool = True) -> str:
    """As containerd does: JSON on stdin.  Returns the error."""
    file = box.bundle / "resources.json"
    file.write_text(resources if isinstance(resources, str) else json.dumps(resources))
    with file.open() as stdin:
        return box.rt("update", "--resources", "-", box.id, stdin=stdin, check=check).error


def test_memory_up_and_down(box: Box) -> None:
    """limit and swap hold each other: in any direction both get there."""
    box.up()
    for size in (64, 256, 32, 512):
        send(box, {"memory": {"limit": size * MIB, "swap": 2 * size * MIB}})
        assert memory_and_swap(box) == (size * MIB, 2 * size * MIB)


def test_flags(box: Box) -> None:
    box.up()
    box.rt("update", "--memory", "64m", "--memory-swap", str(128 * MIB), "--pids-limit", "55", box.id)
    assert memory_and_swap(box) == (64 * MIB, 128 * MIB)
    assert value(box, "pids") == "55"
    box.rt("update", "--cpu-quota", "50000", "--cpu-period=100000", "--cpuset-cpus", "0", box.id)
    assert value(box, "quota").split()[0] == "50000"
    assert value(box, "cpus") == "0"
    box.rt("update", "--cpu-quota", "-1", "--memory-swap", "-1", "--memory", "-1", box.id)
    assert value(box, "quota").split()[0] in ("-1", "max")
    assert value(box, "limit") in ("max", "9223372036854771712")


@pytest.mark.parametrize("option", [["--resources=FILE"], ["-r", "FILE"], ["--resources", "FILE"]])
def test_a_file_and_other_options_do_not_count(box: Box, option: list[str]) -> None:
    box.up()
    file = box.bundle / "resources.json"
    file.write_text('{"pids": {"limit": 33}}')
    box.rt("update", *[word.replace("FILE", str(file)) for word in option], "--pids-limit", "44", box.id)
    assert value(box, "pids") == "33"


def test_dockers_zeros_leave_everything_alone(box: Box) -> None:
    box.linux["resources"].update(
        memory={"limit": 64 * MIB, "swap": 128 * MIB, "reservation": 32 * MIB},
        cpu={"shares": 512, "quota": 50000, "period": 100000},
        pids={"limit": 22},
    )
    box.up()
    before = [value(box, setting) for setting in FILES]
    zeros = {
        "memory": {"limit": 0, "reservation": 0, "kernel": 0},
        "cpu": {"shares": 0, "quota": 0, "period": 0},
        "pids": {"limit": 0},
        "blockIO": {"weight": 0},
    }
    send(box, zeros)
    assert [value(box, setting) for setting in FILES] == before
    send(box, {**zeros, "cpu": {"shares": 333, "quota": 0, "period": 0}})
    assert value(box, "quota").split()[0] == "50000"
    if V1:
        assert value(box, "shares") == "333"


@pyoci_only("1.1 leaves what came before the one that was refused")
def test_a_failure_puts_back_what_was(box: Box) -> None:
    box.linux["resources"].update(memory={"limit": 64 * MIB, "swap": 64 * MIB}, pids={"limit": 22})
    box.up()
    before = [value(box, setting) for setting in FILES]
    error = send(box, {"memory": {"limit": 32 * MIB}, "pids": {"limit": 33}, "cpu": {"cpus": "4000"}}, check=False)
    assert "cpuset.cpus" in error
    assert "/cpu/cpus" in error
    assert "config.json" not in error
    assert [value(box, setting) for setting in FILES] == before


@pyoci_only("takes no notice of devices")
def test_devices_are_replaced(box: Box) -> None:
    box.linux["resources"]["devices"].append({"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rwm"})
    box.linux["devices"] = [{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666}]
    box.up()
    assert box.exec("sh", "-c", "exec 3>/dev/kmsg", check=False).code == 0
    send(box, {"devices": [{"allow": False, "access": "rwm"}]})
    assert box.exec("sh", "-c", "exec 3>/dev/kmsg", check=False).code != 0
    assert box.exec("sh", "-c", "exec 3>/dev/null && exec 3</dev/zero").code == 0


KMSG = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rwm"}
v1_only = pytest.mark.skipif(not V1, reason="cgroup v2 has another form of device rules")


@v1_only
@pytest.mark.parametrize("more", [[], [KMSG], [{"allow": True, "access": "rwm"}]])
def test_devices_of_a_cgroup_with_others_below(box: Box, more: list[dict[str, object]]) -> None:
    """Containerd's CRI sends the whole linux.resources with each update."""
    box.linux["resources"]["devices"] += more
    box.up()
    child = Path("/sys/fs/cgroup/devices", box.id, "child")
    child.mkdir()
    try:
        send(box, {"memory": {"limit": 64 * MIB}, "devices": box.linux["resources"]["devices"]})
    finally:
        child.rmdir()
    assert value(box, "limit") == str(64 * MIB)


@v1_only
@pyoci_only("takes no notice of devices")
def test_other_devices_for_a_cgroup_with_others_below(box: Box) -> None:
    box.linux["resources"]["devices"].append(KMSG)
    box.up()
    rules = Path("/sys/fs/cgroup/devices", box.id, "devices.list")
    before = sorted(rules.read_text().splitlines())
    child = rules.with_name("child")
    child.mkdir()
    wanted = [{"allow": False, "access": "rwm"}, KMSG | {"minor": 12}]
    try:
        assert "cpuset.cpus" in send(box, {"devices": wanted, "cpu": {"cpus": "4000"}}, check=False)
        assert sorted(rules.read_text().splitlines()) == before
        send(box, {"devices": wanted})
        after = sorted(rules.read_text().splitlines())
        error = send(box, {"devices": [{"allow": True, "access": "rwm"}]}, check=False)
        assert "others below" in error
        assert "/devices" in error
    finally:
        child.rmdir()
    assert after == sorted({*before, "c 1:12 rwm"} - {"c 1:11 rwm"})
    assert sorted(rules.read_text().splitlines()) == after


@v1_only
@pyoci_only("takes no notice of devices")
def test_what_stays_allowed_is_so_all_the_time(box: Box) -> None:
    box.linux["devices"] = [{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666}]
    both = [{"allow": False, "access": "rwm"}, KMSG]
    box.linux["resources"]["devices"] = both
    loop = "while [ ! -e /tmp/end ]; do : 3>>/dev/kmsg 4</dev/zero || echo denied; done; echo ended"
    box.args("sh", "-c", loop)
    box.create()
    pid = box.pid
    box.start()
    for minor in range(12, 42):
        send(box, {"devices": [*both, KMSG | {"minor": minor}]})
    (box.rootfs / "tmp/end").touch()
    wait_for(pid)
    assert box.logs() == "ended\n", box.stderr.read_text()


@pyoci_only("1.1 does not know it")
def test_check_before_update(box: Box) -> None:
    """C08"""
    box.mount("/data", "tmpfs", "tmpfs")
    box.script("head -c 8000000 /dev/zero > /data/file; echo done; sleep 100")
    box.up()
    box.exec("sh", "-c", "while ! [ $(stat -c %s /data/file) = 8000000 ]; do usleep 1000; done")
    before = value(box, "limit")
    error = send(box, {"memory": {"limit": 4 * MIB, "checkBeforeUpdate": True}}, check=False)
    assert "more than the new limit" in error
    assert value(box, "limit") == before
    send(box, {"memory": {"limit": 64 * MIB, "checkBeforeUpdate": True}})
    assert value(box, "limit") == str(64 * MIB)


@pytest.mark.parametrize("resources", ["[]", "{", '{"memory": {"limit": "5"}}', '{"pids": {"limit": true}}'])
def test_what_is_no_resources_object(box: Box, resources: str) -> None:
    box.up()
    assert send(box, resources, check=False) != ""


def test_update_of_other_states(box: Box) -> None:
    assert "does not exist" in box.rt("update", "--pids-limit", "5", box.id, check=False).error
    box.create()
    box.rt("update", "--pids-limit", "66", box.id)
    assert value(box, "pids") == "66"
    box.rt("pause", box.id)
    box.rt("update", "--pids-limit", "77", box.id)
    assert value(box, "pids") == "77"
    assert box.status == "created"
    box.rt("resume", box.id)
    box.finish()
    assert "container not running" in box.rt("update", "--pids-limit", "5", box.id, check=False).error


@pyoci_only("prints no such error")
def test_what_this_machine_cannot_do(box: Box) -> None:
    box.up()
    if not Path("/sys/fs/resctrl/schemata").exists():
        assert "RDT" in box.rt("update", "--l3-cache-schema", "L3:0=f", box.id, check=False).error
    if V1:
        assert "memory.high cannot be set" in box.rt("update", "--memory-high", "64m", box.id, check=False).error
