"""The systemd driver where systemd keeps cgroup v1, as older distributions do. C03 C19 C23 C24 C25 C26."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import until
from tests.vm.inside.tools import CGROUPS, MIB, check_devices, shown, systemctl

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.harness import Box
    from tests.vm.inside.tools import User

SLICE = "pyocivm.slice/pyocivm-a.slice"


def unit(box: Box) -> str:
    return f"it-{box.id}.scope"


def places(pid: int) -> dict[str, str]:
    """Hierarchy -> cgroup, as the kernel lists them."""
    lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    return {name: path for _, names, path in lines for name in names.split(",")}


def read(box: Box, controller: str, name: str) -> str:
    return (CGROUPS / controller / SLICE / unit(box) / name).read_text().strip()


def left(box: Box) -> list[Path]:
    return [*CGROUPS.glob(f"*/{SLICE}/{unit(box)}")]


def test_the_machine() -> None:
    kinds = {line.split(" - ")[1].split()[0] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    assert "cgroup" in kinds
    assert (CGROUPS / "memory").is_dir()
    assert Path("/proc/1/comm").read_text() == "systemd\n"


def test_life_of_a_scope(scoped: Box) -> None:
    """C03: init is in the scope in every hierarchy, systemd's own too; nothing stays in any of them."""
    scoped.up()
    found = places(scoped.pid)
    wanted = f"/{SLICE}/{unit(scoped)}"
    for name in ("name=systemd", "memory", "pids", "cpu", "cpuset", "devices", "freezer"):
        assert found[name] == wanted, name
    assert shown(unit(scoped), "ActiveState", "Slice", "Delegate") == {
        "ActiveState": "active",
        "Slice": "pyocivm-a.slice",
        "Delegate": "yes",
    }
    lines = scoped.exec("cat", "/proc/self/cgroup").out.splitlines()
    assert any(line.endswith(f":memory:{wanted}") for line in lines)
    scoped.kill("KILL")
    until(lambda: scoped.status == "stopped", "stopped")
    scoped.delete()
    assert not left(scoped)
    assert shown(unit(scoped), "ActiveState") == {"ActiveState": "inactive"}


def test_resources_are_properties_and_files(scoped: Box) -> None:
    """systemd knows what it has a property for, and writing it again changes nothing."""
    scoped.linux["resources"].update(
        memory={"limit": 64 * MIB, "swap": 64 * MIB},
        cpu={"shares": 2048, "quota": 33333, "period": 100000, "cpus": "0-1", "mems": "0"},
        pids={"limit": 77},
        hugepageLimits=[{"pageSize": "2MB", "limit": 4 * MIB}],
    )
    scoped.up()
    names = ("MemoryLimit", "CPUShares", "CPUQuotaPerSecUSec", "TasksMax")
    assert shown(unit(scoped), *names) == {
        "MemoryLimit": str(64 * MIB),
        "CPUShares": "2048",
        "CPUQuotaPerSecUSec": "340ms",
        "TasksMax": "77",
    }
    files = {
        ("memory", "memory.limit_in_bytes"): str(64 * MIB),
        ("memory", "memory.memsw.limit_in_bytes"): str(64 * MIB),
        ("cpu", "cpu.shares"): "2048",
        ("cpu", "cpu.cfs_period_us"): "100000",
        ("cpu", "cpu.cfs_quota_us"): "33333",
        ("cpuset", "cpuset.cpus"): "0-1",
        ("pids", "pids.max"): "77",
        ("hugetlb", "hugetlb.2MB.limit_in_bytes"): str(4 * MIB),
    }
    assert {key: read(scoped, *key) for key in files} == files
    assert systemctl("daemon-reload").code == 0
    kept = {key: text for key, text in files.items() if key[1] != "cpu.cfs_quota_us"}  # whole percents
    assert {key: read(scoped, *key) for key in kept} == kept


def test_update_tells_systemd_too(scoped: Box) -> None:
    """C26: what update sets survives systemd writing what it knows."""
    scoped.linux["resources"]["memory"] = {"limit": 64 * MIB}
    scoped.up()
    scoped.rt("update", "--memory", str(32 * MIB), "--cpu-share", "512", "--pids-limit", "9", scoped.id)
    assert shown(unit(scoped), "MemoryLimit", "CPUShares", "TasksMax") == {
        "MemoryLimit": str(32 * MIB),
        "CPUShares": "512",
        "TasksMax": "9",
    }
    systemctl("daemon-reload")
    found = [read(scoped, *key) for key in (("memory", "memory.limit_in_bytes"), ("cpu", "cpu.shares"))]
    assert found == [str(32 * MIB), "512"]
    assert read(scoped, "pids", "pids.max") == "9"


def test_update_leaves_the_others_exact(scoped: Box) -> None:
    """C26: what systemd writes again is put right; what it was told of stays over a reload."""
    scoped.linux["resources"].update(
        memory={"limit": 64 * MIB, "swap": 64 * MIB}, cpu={"shares": 300, "quota": 33333, "cpus": "1"}
    )
    scoped.up()
    scoped.rt("update", "--pids-limit", "9", scoped.id)
    files = {
        ("memory", "memory.limit_in_bytes"): str(64 * MIB),
        ("memory", "memory.memsw.limit_in_bytes"): str(64 * MIB),
        ("cpu", "cpu.shares"): "300",
        ("cpu", "cpu.cfs_quota_us"): "33333",
        ("cpuset", "cpuset.cpus"): "1",
        ("pids", "pids.max"): "9",
    }
    assert {key: read(scoped, *key) for key in files} == files
    assert systemctl("daemon-reload").code == 0
    files["cpu", "cpu.cfs_quota_us"] = "34000"  # whole percents
    until(lambda: read(scoped, "cpu", "cpu.cfs_quota_us") == "34000", "the values as systemd knows them")
    assert {key: read(scoped, *key) for key in files} == files


@pytest.mark.parametrize("limit", [0, 1])
def test_limits_under_which_nothing_can_be_forked(scoped: Box, limit: int) -> None:
    """C19: init is there before the limit is."""
    scoped.linux["resources"]["pids"] = {"limit": limit}
    scoped.create()
    assert read(scoped, "pids", "pids.max") == str(limit)


def test_devices_stay_shut(scoped: Box) -> None:
    """C23: by the list of the cgroup."""
    check_devices(scoped)


def test_pause_kill_and_what_the_container_made_below(scoped: Box) -> None:
    """C24: its own cgroups are frozen, killed and removed with it."""
    scoped.namespace("cgroup")
    scoped.mount("/sys/fs/cgroup", "cgroup", "cgroup", "rw")
    scoped.script("cd /sys/fs/cgroup/memory; mkdir sub && echo $$ >sub/cgroup.procs && echo done; exec sleep 1000")
    scoped.up()
    until(lambda: "done" in scoped.logs(), "its own cgroup")
    scoped.rt("pause", scoped.id)
    assert scoped.status == "paused"
    assert read(scoped, "freezer", "freezer.state") == "FROZEN"
    scoped.rt("resume", scoped.id)
    scoped.delete("--force")
    assert not left(scoped)


def test_scope_ended_by_systemd(scoped: Box) -> None:
    """`systemctl kill` ends the container; delete finds what is left, and is content."""
    scoped.up()
    assert systemctl("kill", "--signal=KILL", unit(scoped)).code == 0
    until(lambda: scoped.status == "stopped", "stopped")
    scoped.delete()
    assert not left(scoped)


def test_annotations_are_properties(scoped: Box) -> None:
    """C25"""
    scoped.config["annotations"] = {"org.systemd.property.TimeoutStopSec": "uint64 11"}
    scoped.create()
    assert shown(unit(scoped), "TimeoutStopUSec") == {"TimeoutStopUSec": "11s"}


def test_a_failed_create_leaves_no_scope(scoped: Box) -> None:
    scoped.args("/no/such/program")
    assert scoped.create(check=False).code != 0
    assert shown(unit(scoped), "ActiveState") == {"ActiveState": "inactive"}
    assert not left(scoped)


def test_stats(scoped: Box) -> None:
    """What `events --stats` counts is what the scope's files say."""
    scoped.linux["resources"]["memory"] = {"limit": 64 * MIB}
    scoped.up()
    said = scoped.rt("events", "--stats", scoped.id).out
    assert f'"limit":{64 * MIB}' in said.replace(" ", "")


def test_the_other_driver_beside_it(box: Box) -> None:
    """cgroupfs makes its cgroups where systemd looks after its own, and removes them."""
    box.linux["cgroupsPath"] = f"/pyoci-vm/{box.id}"
    box.linux["resources"]["memory"] = {"limit": 64 * MIB}
    box.up()
    directory = CGROUPS / f"memory/pyoci-vm/{box.id}"
    assert (directory / "memory.limit_in_bytes").read_text().strip() == str(64 * MIB)
    systemctl("daemon-reload")
    assert places(box.pid)["memory"] == f"/pyoci-vm/{box.id}"
    box.delete("--force")
    assert not [*CGROUPS.glob(f"*/pyoci-vm/{box.id}")]


def test_an_ordinary_user_has_no_limits_here(user: Callable[..., User]) -> None:
    """v1 cannot be delegated: that is said, and a container without limits runs."""
    someone = user()
    done = someone.run("echo ran")
    assert (done.code, done.out) == (0, "ran\n"), done.err
    done = someone.run("echo ran", "--systemd-cgroup")
    assert done.code == 1
    assert "systemd gives an ordinary user no cgroups on cgroup v1" in done.err
    someone.linux["resources"] = {"memory": {"limit": 64 * MIB}}
    done = someone.run("echo ran")
    assert done.code == 1
    assert "permission denied" in done.err.lower()


def test_podman(scoped: Box, workshop: Path) -> None:
    """podman asks for systemd by itself."""
    archive = workshop / "box.tar"
    subprocess.run(["tar", "-C", str(scoped.rootfs), "-cf", str(archive), "."], check=True)

    def podman(*args: str) -> str:
        words = ["podman", "--runtime=/pyoci/build/pyoci", "--storage-driver=vfs", "--cgroup-manager=systemd", *args]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    podman("import", str(archive), "box")
    podman("run", "-d", "--name=one", "--net=none", "--memory=64m", "box", "sleep", "1000")
    try:
        found = places(int(podman("inspect", "--format={{.State.Pid}}", "one")))["memory"]
        assert found.startswith("/machine.slice/libpod-")
        assert (CGROUPS / f"memory{found}/memory.limit_in_bytes").read_text().strip() == str(64 * MIB)
    finally:
        podman("rm", "--force", "--time=0", "one")
    assert not (CGROUPS / f"memory{found}").exists()
