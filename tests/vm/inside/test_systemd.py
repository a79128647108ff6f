"""The systemd driver, asked of the machine's systemd. C03 C19 C23 C24 C25 C26."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import PROJECT, until
from tests.vm.inside.tools import CGROUPS, MIB, cgroup_of, check_devices, read, shown, systemctl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.harness import Box

SLICE = "pyocivm.slice/pyocivm-a.slice"


def unit(box: Box) -> str:
    return f"it-{box.id}.scope"


def gone(name: str) -> bool:
    return shown(name, "LoadState", "ActiveState")["ActiveState"] == "inactive"


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """No scope, and no slice of ours when nothing is in it."""
    yield
    left = systemctl("list-units", "--all", "--plain", "--no-legend", "it-*.scope", "pyoci-it*.scope").out
    assert not left


def test_life_of_a_scope(scoped: Box) -> None:
    """C03: init is in the scope when create returns; slices are made; nothing stays."""
    scoped.up()
    directory = CGROUPS / SLICE / unit(scoped)
    assert cgroup_of(scoped.pid) == directory
    facts = shown(unit(scoped), "ActiveState", "Slice", "Delegate", "ControlGroup", "CollectMode")
    assert facts == {
        "ActiveState": "active",
        "Slice": "pyocivm-a.slice",
        "Delegate": "yes",
        "ControlGroup": f"/{SLICE}/{unit(scoped)}",
        "CollectMode": "inactive-or-failed",
    }
    assert scoped.exec("cat", "/proc/self/cgroup").out.strip().endswith(unit(scoped))
    scoped.kill("KILL")
    until(lambda: scoped.status == "stopped", "stopped")
    scoped.delete()
    assert not directory.exists()
    assert gone(unit(scoped))


def test_default_place(scoped: Box) -> None:
    del scoped.linux["cgroupsPath"]
    scoped.create()
    assert cgroup_of(scoped.pid) == CGROUPS / "system.slice" / f"pyoci-{scoped.id}.scope"
    scoped.delete("--force")
    assert gone(f"pyoci-{scoped.id}.scope")


def test_run_in_the_foreground(scoped: Box) -> None:
    """The container's cgroup namespace begins at its scope."""
    scoped.namespace("cgroup")
    assert scoped.output("cat", "/proc/self/cgroup") == "0::/\n"


def test_resources_are_properties_and_files(scoped: Box) -> None:
    """systemd knows what it has a property for; the file has the exact value."""
    scoped.linux["resources"].update(
        memory={"limit": 64 * MIB, "swap": 80 * MIB, "reservation": 32 * MIB},
        cpu={"shares": 2048, "quota": 33333, "period": 100000, "cpus": "0-1", "mems": "0"},
        pids={"limit": 77},
        hugepageLimits=[{"pageSize": "2MB", "limit": 4 * MIB}],
        unified={"memory.high": str(60 * MIB)},
    )
    scoped.create()
    names = ("MemoryMax", "MemorySwapMax", "MemoryLow", "CPUQuotaPerSecUSec", "TasksMax", "AllowedCPUs")
    assert shown(unit(scoped), *names) == {
        "MemoryMax": str(64 * MIB),
        "MemorySwapMax": str(16 * MIB),
        "MemoryLow": str(32 * MIB),
        "CPUQuotaPerSecUSec": "340ms",
        "TasksMax": "77",
        "AllowedCPUs": "0-1",
    }
    directory = cgroup_of(scoped.pid)
    weight = read(directory, "cpu.weight")
    files = {
        "memory.max": str(64 * MIB),
        "memory.swap.max": str(16 * MIB),
        "memory.low": str(32 * MIB),
        "memory.high": str(60 * MIB),
        "cpu.max": "33333 100000",
        "cpuset.cpus": "0-1",
        "cpuset.mems": "0",
        "pids.max": "77",
        "hugetlb.2MB.max": str(4 * MIB),
        "hugetlb.2MB.rsvd.max": str(4 * MIB),
    }
    assert {name: read(directory, name) for name in files} == files
    reload(scoped)
    # systemd writes again what it knows, and nothing else has changed
    kept = {name: text for name, text in files.items() if name != "cpu.max"}
    assert {name: read(directory, name) for name in kept} == kept
    assert read(directory, "cpu.weight") == weight == shown(unit(scoped), "CPUWeight")["CPUWeight"]


def reload(box: Box) -> None:
    """Have systemd write everything again: a quota of 33333 is a whole percent afterwards."""
    directory = cgroup_of(box.pid)
    assert read(directory, "cpu.max") == "33333 100000"
    assert systemctl("daemon-reload").code == 0
    until(lambda: read(directory, "cpu.max") == "34000 100000", "the values as systemd knows them")


SETTINGS: list[tuple[dict[str, object], dict[str, str]]] = [
    (
        {
            "cpu": {"idle": 1},
            "pids": {"limit": 5},
            "blockIO": {"weight": 500},
            "unified": {"cpu.max": "33333 100000", "cpuset.cpus": "1", "cpuset.mems": "0-1", "memory.swap.max": "0"},
        },
        {
            "cpu.idle": "1",
            "cpu.weight": "0",
            "io.weight": "default 4950",
            "cpuset.cpus": "1",
            "cpuset.mems": "0-1",
            "memory.swap.max": "0",
            "pids.max": "5",
        },
    ),
    (
        {
            "cpu": {"quota": 33333},
            "unified": {
                "cpu.weight": "77",
                "io.weight": "default 300",
                "memory.high": "1G",
                "memory.low": "4M",
                "memory.min": "2048k",
                "memory.max": "2g",
                "pids.max": "max",
            },
        },
        {
            "cpu.idle": "0",
            "cpu.weight": "77",
            "io.weight": "default 300",
            "memory.high": str(1 << 30),
            "memory.low": str(4 * MIB),
            "memory.min": str(2 * MIB),
            "memory.max": str(2 << 30),
            "pids.max": "max",
        },
    ),
]


@pytest.mark.parametrize(("resources", "files"), SETTINGS, ids=["idle", "weights"])
def test_settings_stay(scoped: Box, resources: dict[str, object], files: dict[str, str]) -> None:
    """C21 C26: neither an update of another value nor a reload changes them; the update leaves them exact, too."""
    scoped.linux["resources"].update(resources)
    scoped.create()
    directory = cgroup_of(scoped.pid)
    exact = {**files, "cpu.max": "33333 100000"}
    assert {name: read(directory, name) for name in exact} == exact
    scoped.rt("update", "--memory-reservation", str(3 * MIB), scoped.id)
    exact["memory.low"] = files["memory.low"] = str(3 * MIB)
    assert {name: read(directory, name) for name in exact} == exact
    reload(scoped)
    assert {name: read(directory, name) for name in files} == files


def test_update_keeps_what_systemd_has_no_word_for(scoped: Box) -> None:
    """C21 C26: docs/ARCHITECTURE.md has what a reload makes of them."""
    scoped.linux["resources"]["pids"] = {"limit": 0}
    files = {"memory.oom.group": "1", "cpu.max.burst": "1000", "io.max": "254:0 rbps=max wbps=max riops=max wiops=8"}
    scoped.linux["resources"]["unified"] = {"cpu.max": "33333 100000", **files}
    scoped.create()
    files.update({"pids.max": "0", "cpu.max": "33333 100000"})
    directory = cgroup_of(scoped.pid)
    scoped.rt("update", "--memory", str(64 * MIB), scoped.id)
    assert {name: read(directory, name) for name in files} == files
    reload(scoped)
    files.update({"pids.max": "1", "cpu.max": "34000 100000"})
    del files["memory.oom.group"]  # systemd 253 is the first to write it
    assert {name: read(directory, name) for name in files} == files


def test_idle_comes_and_goes(scoped: Box) -> None:
    """C13 C26"""
    scoped.linux["resources"]["cpu"] = {"shares": 2048, "quota": 33333}
    scoped.create()
    directory = cgroup_of(scoped.pid)
    for idle, weight in (("1", "0"), ("0", "100")):
        scoped.rt("update", "--cpu-idle", idle, scoped.id)
        assert (read(directory, "cpu.idle"), read(directory, "cpu.weight")) == (idle, weight)
        scoped.rt("update", "--pids-limit", "9", scoped.id)
        assert (read(directory, "cpu.idle"), read(directory, "cpu.weight")) == (idle, weight)
        reload(scoped)
        assert (read(directory, "cpu.idle"), read(directory, "cpu.weight")) == (idle, weight)
        scoped.rt("update", "--cpu-quota", "33333", "--cpu-period", "100000", scoped.id)


def send(box: Box, resources: object) -> str:
    """Have other resources set; the error."""
    file = box.bundle / "resources.json"
    file.write_text(json.dumps(resources))
    return box.rt("update", "--resources", str(file), box.id, check=False).error


def test_a_failed_update_is_unknown_to_systemd(scoped: Box) -> None:
    """C26: it would apply at the next reload what the kernel has refused."""
    scoped.linux["resources"].update(
        memory={"limit": 64 * MIB, "swap": 64 * MIB}, pids={"limit": 22}, cpu={"quota": 33333, "idle": 1}
    )
    scoped.create()
    directory = cgroup_of(scoped.pid)
    names = ("memory.max", "memory.swap.max", "pids.max", "cpu.idle", "cpu.max", "cpu.weight", "cpuset.cpus")
    before = {name: read(directory, name) for name in names}
    known = ("MemoryMax", "MemorySwapMax", "TasksMax", "CPUWeight", "CPUQuotaPerSecUSec", "AllowedCPUs")
    told = shown(unit(scoped), *known)
    refused = {"memory": {"limit": 32 * MIB}, "pids": {"limit": 33}, "cpu": {"cpus": "4000", "idle": 0, "shares": 512}}
    assert "/cpu/cpus" in send(scoped, refused)
    assert {name: read(directory, name) for name in names} == before
    assert shown(unit(scoped), *known) == told
    reload(scoped)
    before["cpu.max"] = "34000 100000"
    assert {name: read(directory, name) for name in names} == before


def test_a_limit_below_what_is_used(scoped: Box) -> None:
    """C08: refused before systemd is told."""
    scoped.mount("/data", "tmpfs", "tmpfs")
    scoped.script("head -c 8000000 /dev/zero > /data/file; echo done; exec sleep 1000")
    scoped.up()
    until(lambda: "done" in scoped.logs(), "the file")
    limits = shown(unit(scoped), "MemoryMax"), read(cgroup_of(scoped.pid), "memory.max")
    error = send(scoped, {"memory": {"limit": 4 * MIB, "checkBeforeUpdate": True}})
    assert "more than the new limit" in error
    assert (shown(unit(scoped), "MemoryMax"), read(cgroup_of(scoped.pid), "memory.max")) == limits
    assert not send(scoped, {"memory": {"limit": 64 * MIB, "checkBeforeUpdate": True}})
    assert shown(unit(scoped), "MemoryMax")["MemoryMax"] == read(cgroup_of(scoped.pid), "memory.max") == str(64 * MIB)


def test_update_tells_systemd_too(scoped: Box) -> None:
    """C26: what update sets survives systemd writing what it knows."""
    scoped.linux["resources"]["memory"] = {"limit": 64 * MIB}
    scoped.create()
    scoped.rt("update", "--memory", str(32 * MIB), "--pids-limit", "9", scoped.id)
    assert shown(unit(scoped), "MemoryMax", "TasksMax") == {"MemoryMax": str(32 * MIB), "TasksMax": "9"}
    systemctl("daemon-reload")
    directory = cgroup_of(scoped.pid)
    assert (read(directory, "memory.max"), read(directory, "pids.max")) == (str(32 * MIB), "9")


@pytest.mark.parametrize("limit", [0, 1])
def test_limits_under_which_nothing_can_be_forked(scoped: Box, limit: int) -> None:
    """C19: init is there before the limit is."""
    scoped.linux["resources"]["pids"] = {"limit": limit}
    scoped.create()
    assert read(cgroup_of(scoped.pid), "pids.max") == str(limit)


def test_devices_stay_shut(scoped: Box) -> None:
    """C23: our filter is there beside systemd's."""
    check_devices(scoped)


def test_annotations_are_properties(scoped: Box) -> None:
    """C25"""
    scoped.config["annotations"] = {
        "org.systemd.property.TimeoutStopSec": "uint64 11",
        "org.systemd.property.Description": "'a box'",
        "org.systemd.property.Documentation": "['man:box(1)']",
    }
    scoped.create()
    assert shown(unit(scoped), "TimeoutStopUSec", "Description", "Documentation") == {
        "TimeoutStopUSec": "11s",
        "Description": "a box",
        "Documentation": '"man:box(1)"',
    }


@pytest.mark.parametrize(
    ("annotation", "text", "said"),
    [
        ("NoSuchThing", "true", "Cannot set property NoSuchThing, or unknown property"),
        ("TasksMax", "'many'", "Unexpected message contents"),
    ],
)
def test_what_systemd_refuses_is_an_error_with_its_text(scoped: Box, annotation: str, text: str, said: str) -> None:
    scoped.config["annotations"] = {f"org.systemd.property.{annotation}": text}
    result = scoped.create(check=False)
    assert result.code == 1
    assert "systemd refuses StartTransientUnit" in result.error
    assert said in result.error
    assert gone(unit(scoped))
    assert not scoped.entries()


def test_a_scope_of_that_name_is_not_taken_over(scoped: Box) -> None:
    name = unit(scoped)
    other = subprocess.Popen(["systemd-run", "--scope", "--quiet", f"--unit={name}", "sleep", "1000"])
    try:
        until(lambda: shown(name, "ActiveState")["ActiveState"] == "active", "the other scope")
        result = scoped.create(check=False)
        assert result.code == 1
        assert "already" in result.error
        assert other.poll() is None
        assert shown(name, "ActiveState")["ActiveState"] == "active"
    finally:
        other.kill()
        other.wait()
    until(lambda: gone(name), "the end of the other scope")


def test_systemd_executes_itself(scoped: Box) -> None:
    """As at an upgrade: what asks meanwhile waits for it; the container stays as it is."""
    scoped.up()
    directory = cgroup_of(scoped.pid)
    for limit in range(20, 24):
        reexec = subprocess.Popen(["systemctl", "daemon-reexec"])
        scoped.rt("update", "--pids-limit", str(limit), scoped.id)
        reexec.wait()
        assert (read(directory, "pids.max"), shown(unit(scoped), "TasksMax")) == (str(limit), {"TasksMax": str(limit)})
    assert cgroup_of(scoped.pid) == directory


def test_a_scope_that_failed_gives_its_name(scoped: Box) -> None:
    """systemd keeps what another runtime started without CollectMode, and has failed, until somebody has seen it."""
    name = unit(scoped)
    run = ("systemd-run", "--scope", "--quiet", f"--unit={name}", "--property=RuntimeMaxSec=1", "sleep", "1000")
    subprocess.run(run, check=False)
    until(lambda: shown(name, "ActiveState")["ActiveState"] == "failed", "a failed scope")
    scoped.up()
    assert cgroup_of(scoped.pid).name == name


def test_a_failed_create_leaves_no_scope(scoped: Box) -> None:
    scoped.args("/no/such/program")
    assert scoped.create(check=False).code != 0
    assert gone(unit(scoped))
    assert not (CGROUPS / SLICE / unit(scoped)).exists()


@pytest.mark.parametrize("step", ["forked", "scope", "cgroup", "ready"])
def test_killed_create(scoped: Box, step: str) -> None:
    """SECURITY 19: `delete --force` is enough, whenever the runtime was killed."""
    scoped.write()
    program = (
        "import os, signal\nfrom pyoci import container_create\nfrom pyoci.container import Container\n"
        f"container_create.after_step = lambda name: name == {step!r} and os.kill(os.getpid(), signal.SIGKILL)\n"
        f"places = {{'bundle': {str(scoped.bundle)!r}, 'root': {str(scoped.root)!r}}}\n"
        f"Container.create({scoped.id!r}, **places, cgroup_manager='systemd')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    scoped.delete("--force")
    assert gone(unit(scoped))


def test_pause_kill_and_what_the_container_made_below(scoped: Box) -> None:
    """C24: the scope is the container's: its own cgroups are frozen, killed and removed with it."""
    scoped.namespace("cgroup")
    scoped.mount("/sys/fs/cgroup", "cgroup", "cgroup", "rw")
    scoped.script("mkdir /sys/fs/cgroup/sub && echo $$ >/sys/fs/cgroup/sub/cgroup.procs && exec sleep 1000")
    scoped.up()
    directory = CGROUPS / SLICE / unit(scoped)
    until(lambda: cgroup_of(scoped.pid) == directory / "sub", "init in its own cgroup")
    scoped.rt("pause", scoped.id)
    assert "frozen 1" in read(directory, "cgroup.events")
    assert scoped.status == "paused"
    scoped.rt("resume", scoped.id)
    scoped.delete("--force")
    assert not directory.exists()
    assert gone(unit(scoped))


def test_scope_ended_by_systemd(scoped: Box) -> None:
    """`systemctl stop` ends the container; delete finds nothing left and is content."""
    scoped.up()
    assert systemctl("kill", "--signal=KILL", unit(scoped)).code == 0
    until(lambda: scoped.status == "stopped", "stopped")
    until(lambda: gone(unit(scoped)), "the end of the scope")
    scoped.delete()


def test_two_containers_in_one_slice(scoped: Box, boxes: Callable[[], Box]) -> None:
    other = boxes()
    other.linux["cgroupsPath"] = f"pyocivm-a.slice:it:{other.id}"
    scoped.create()
    other.write()
    other.rt("--systemd-cgroup", "create", "--bundle", str(other.bundle), other.id, stdout=None, stderr=None)
    assert cgroup_of(other.pid).parent == cgroup_of(scoped.pid).parent
    other.delete("--force")
    assert cgroup_of(scoped.pid).exists()


def test_the_plan_says_what_systemd_is_asked(scoped: Box) -> None:
    scoped.write()
    text = scoped.rt("plan", str(scoped.bundle)).out
    assert "have systemd start it-" in text
    assert f"make cgroup {CGROUPS}/{SLICE}/it-" in text


NOWHERE = {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nowhere"}


def test_no_bus(scoped: Box) -> None:
    """Where no bus listens systemd itself is asked, over its own socket."""
    scoped.write()
    argv = ("--bundle", str(scoped.bundle), scoped.id)
    scoped.rt("create", *argv, env=NOWHERE, stdout=None, stderr=None)
    assert cgroup_of(scoped.pid) == CGROUPS / SLICE / unit(scoped)
    scoped.rt("update", "--memory", str(64 * MIB), scoped.id, env=NOWHERE)
    assert shown(unit(scoped), "MemoryMax") == {"MemoryMax": str(64 * MIB)}
    done = scoped.rt("delete", "--force", scoped.id, env=NOWHERE)
    assert not done.err
    assert gone(unit(scoped))


@pytest.fixture
def unreachable() -> Iterator[None]:
    """systemd's own socket is out of the way."""
    os.rename("/run/systemd/private", "/run/systemd/private.away")
    yield
    os.rename("/run/systemd/private.away", "/run/systemd/private")


def test_no_systemd(scoped: Box, unreachable: None) -> None:
    """Clear words where nobody listens."""
    scoped.write()
    result = scoped.rt("create", "--bundle", str(scoped.bundle), scoped.id, check=False, env=NOWHERE)
    assert result.code == 1
    assert "no connection to systemd over the bus unix:path=/nowhere: no such file or directory" in result.err
    assert "leave out --systemd-cgroup" in result.err


def test_delete_where_nobody_listens(scoped: Box, request: pytest.FixtureRequest) -> None:
    """The container goes, which is all that its scope was for, and who deletes it is told."""
    scoped.up()
    request.getfixturevalue("unreachable")
    result = scoped.rt("delete", "--force", scoped.id, env=NOWHERE)
    assert f"{unit(scoped)} may still be there: no connection to systemd" in result.err
    assert not scoped.entries()
    assert not (CGROUPS / SLICE / unit(scoped)).exists()


def test_a_path_that_is_none_of_systemds(scoped: Box) -> None:
    scoped.linux["cgroupsPath"] = "/a/b"
    result = scoped.create(check=False)
    assert "SLICE:PREFIX:NAME" in result.error
