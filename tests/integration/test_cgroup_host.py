"""Real cgroups: made, joined, limited, frozen, signalled, removed.

v1 runs where v1 is mounted.  v2 runs where v2 is, also on a hybrid machine: its tree has no controllers there,
but freezing, killing, events and the device program are the same.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyoci import errors
from pyoci.host import cgroup, cgroup_make, cgroup_remove, cgroupfs
from pyoci.host import facts as host_facts
from pyoci.plan import cgroup as plan_cgroup
from pyoci.plan.options import Options
from tests.integration.harness import PREFIX, PROJECT, need_reachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyoci.plan.cgroup import CgroupPlan
    from pyoci.plan.facts import Facts

    Maker = Callable[..., CgroupPlan]

pytestmark = pytest.mark.pyoci_only("it has no Python API")
NAME = f"{PREFIX}host"


def facts_of(version: int) -> Facts:
    facts = host_facts.read()
    if version == 2 and facts.cgroup_mode == "hybrid":
        facts.cgroup_mode = "unified"
        facts.cgroup_controllers = tuple(cgroupfs.read(f"{facts.cgroup_unified}/cgroup.controllers").decode().split())
    if facts.cgroup_mode != ("unified" if version == 2 else "hybrid"):
        pytest.skip(f"cgroup mode is {facts.cgroup_mode}: no cgroup v{version} here")
    return facts


def need(version: int, *controllers: str) -> None:
    facts = facts_of(version)
    there = facts.cgroup_mounts if version == 1 else facts.cgroup_controllers
    for controller in controllers:
        if controller not in there:
            pytest.skip(f"cgroup v{version} has no controller {controller} on this machine (it has {' '.join(there)})")


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def version(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    facts_of(number)
    return number


@pytest.fixture
def handed_down() -> Iterator[None]:
    """What the top of the v2 tree hands down is the machine's: on a hybrid one other runtimes mount it as v1."""
    file = f"{host_facts.read().cgroup_unified}/cgroup.subtree_control"
    before = cgroupfs.read(file).split() if os.path.exists(file) else []
    yield
    for name in cgroupfs.read(file).split() if os.path.exists(file) else []:
        if name not in before:
            cgroupfs.write(file, f"-{name.decode()}")


@pytest.fixture
def make(handed_down: None) -> Iterator[Maker]:
    """Plan, check and create a cgroup /NAME/LEAF; destroyed with its parent after the test."""
    plans: list[CgroupPlan] = []

    def maker(version: int, resources: dict[str, Any] | None = None, leaf: str = "leaf") -> CgroupPlan:
        plan = planned(version, resources, leaf)
        cgroup_make.check(plan)
        plans.append(plan)
        cgroup_make.create(plan)
        cgroup_make.apply_late(plan)
        return plan

    yield maker
    for plan in plans:
        cgroup_remove.destroy(plan.record)
    for top in {top for plan in plans for top in plan.tops.values()}:
        for fd, name in cgroupfs.walk(f"{top}/{NAME}"):
            cgroupfs.rmdir(name, fd)
        cgroupfs.rmdir(f"{top}/{NAME}")


def planned(version: int, resources: dict[str, Any] | None = None, leaf: str = "leaf") -> CgroupPlan:
    config = {"linux": {"cgroupsPath": f"/{NAME}/{leaf}", "resources": resources or {}}}
    plan = plan_cgroup.make(config, facts_of(version), Options("c", "/b"))
    assert plan is not None
    return plan


@pytest.fixture
def program() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a program in a cgroup, and in another one of another hierarchy; killed and reaped after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(plan: CgroupPlan, *argv: str, also: CgroupPlan | None = None) -> subprocess.Popen[bytes]:
        # The shell waits until it is in the cgroup, so that all that it does is counted there
        child = subprocess.Popen(
            ["sh", "-c", 'read x; exec "$@"', "sh", *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        started.append(child)
        for joined in filter(None, (plan, also)):
            cgroup.attach(joined.record, child.pid)
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.flush()
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


def value(plan: CgroupPlan, controller: str, file: str) -> str:
    return cgroupfs.read(f"{plan.dirs[controller]}/{file}").decode().strip()


def ended(child: subprocess.Popen[bytes], timeout: float = 5) -> bool:
    poller = select.poll()
    fd = os.pidfd_open(child.pid)
    poller.register(fd, select.POLLIN)
    try:
        return bool(poller.poll(timeout * 1000))
    finally:
        os.close(fd)


# -- values ------------------------------------------------------------------------------------


def test_v1_values_arrive(make: Maker) -> None:
    """C05 C07 C09 C10 C11 C12 C13 C16 C19: the kernel shows what was asked"""
    need(1, "memory", "cpu", "cpuset", "pids", "blkio")
    resources = {
        "memory": {"limit": 64 << 20, "swap": 128 << 20, "reservation": 32 << 20, "swappiness": 10},
        "cpu": {"shares": 512, "quota": 50000, "period": 200000, "burst": 1000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 0},
    }
    plan = make(1, resources)
    shown = {
        ("memory", "memory.limit_in_bytes"): str(64 << 20),
        ("memory", "memory.memsw.limit_in_bytes"): str(128 << 20),
        ("memory", "memory.soft_limit_in_bytes"): str(32 << 20),
        ("memory", "memory.swappiness"): "10",
        ("cpu", "cpu.shares"): "512",
        ("cpu", "cpu.cfs_quota_us"): "50000",
        ("cpu", "cpu.cfs_period_us"): "200000",
        ("cpu", "cpu.cfs_burst_us"): "1000",
        ("cpuset", "cpuset.cpus"): "0",
        ("cpuset", "cpuset.mems"): "0",
        ("pids", "pids.max"): "0",
    }
    assert {key: value(plan, *key) for key in shown} == shown


def test_v1_idle_and_oom(make: Maker) -> None:
    """C07 C13"""
    need(1, "memory", "cpu")
    plan = make(1, {"cpu": {"idle": 1, "shares": 100}, "memory": {"disableOOMKiller": True}})
    assert value(plan, "cpu", "cpu.idle") == "1"
    assert "oom_kill_disable 1" in value(plan, "memory", "memory.oom_control")


def test_v1_limits_change_in_any_direction(make: Maker) -> None:
    """C05, C26: limit and memsw, shares and idle depend on each other; the order is found"""
    need(1, "memory", "cpu")
    plan = make(1, {"memory": {"limit": 64 << 20, "swap": 64 << 20}, "cpu": {"idle": 1}})
    for limit in (128 << 20, 32 << 20, -1, 16 << 20):
        resources = {"memory": {"limit": limit, "swap": limit}, "cpu": {"shares": 99, "idle": int(limit < 0)}}
        cgroup_make.apply(plan_cgroup.settings(plan.record, resources, ()))
        if limit > 0:
            assert value(plan, "memory", "memory.memsw.limit_in_bytes") == str(limit)
        assert value(plan, "cpu", "cpu.idle") == str(int(limit < 0))


def test_v1_devices_list(make: Maker) -> None:
    """D05 D06"""
    need(1, "devices")
    plan = make(1, {"devices": [{"allow": False}, {"allow": True, "type": "b", "major": 8, "access": "r"}]})
    lines = value(plan, "devices", "devices.list").splitlines()
    assert "a *:* rwm" not in lines
    assert {"b 8:* rm", "c 1:3 rwm", "c 136:* rwm", "c *:* m", "b *:* m"} <= set(lines)
    everything = make(1, {"devices": [{"allow": False}, {"allow": True}]}, "everything")
    assert value(everything, "devices", "devices.list") == "a *:* rwm"


def test_refused_value_says_what_where_and_why(make: Maker) -> None:
    """L06, L21"""
    need(1, "cpuset")
    with pytest.raises(errors.SetupError) as caught:
        make(1, {"cpu": {"cpus": "9999"}})
    assert str(caught.value).startswith("set cpuset.cpus to 9999 in /")
    assert caught.value.where == "/linux/resources/cpu/cpus"


def test_missing_file_says_so(make: Maker) -> None:
    """L06 C15"""
    need(1, "blkio")
    with pytest.raises(errors.SetupError, match=r"leaf_weight.*no such file") as caught:
        make(1, {"blockIO": {"leafWeight": 10}})
    assert caught.value.hint


def test_cpuset_is_copied_down(make: Maker, program: Any) -> None:
    """C12: a new v1 cpuset takes no process until its parents and it have cpus and memory"""
    need(1, "cpuset")
    plan = make(1)
    assert value(plan, "cpuset", "cpuset.cpus") and value(plan, "cpuset", "cpuset.mems")
    assert program(plan, "sleep", "60").pid in cgroup.pids(plan.record)


# -- fitness -----------------------------------------------------------------------------------


def test_used_cgroup_is_refused_and_untouched(version: int, make: Maker, program: Any) -> None:
    """C02"""
    child = program(make(version), "sleep", "60")
    again = planned(version)
    with pytest.raises(errors.SetupError, match="not empty") as caught:
        cgroup_make.check(again)
    assert caught.value.where == "/linux/cgroupsPath"
    assert not ended(child, 0)


def test_used_below_is_refused(version: int, make: Maker, program: Any) -> None:
    """C02"""
    program(make(version, leaf="leaf/below"), "sleep", "60")
    with pytest.raises(errors.SetupError, match="not empty"):
        cgroup_make.check(planned(version))


def test_frozen_cgroup_is_refused(version: int, make: Maker) -> None:
    """C02"""
    plan = make(version)
    cgroup.freeze(plan.record)
    with pytest.raises(errors.SetupError, match="frozen"):
        cgroup_make.check(planned(version))
    cgroup.thaw(plan.record)


def test_existing_cgroup_is_used_and_stays(version: int, make: Maker, program: Any) -> None:
    """L12: what create did not make, delete does not remove; what the container made below goes"""
    plan = make(version)
    second = planned(version)
    cgroup_make.check(second)
    cgroup_make.create(second)
    assert second.record["keep"]
    directory = cgroup.tree(second.record)
    os.mkdir(f"{directory}/made")
    child = program(second, "sleep", "60")
    cgroup_remove.destroy(second.record)
    assert ended(child)
    assert os.path.isdir(directory) and not os.path.exists(f"{directory}/made")
    cgroup_remove.destroy(plan.record)
    assert not os.path.exists(directory)


def test_race_for_a_new_cgroup(version: int, make: Maker, program: Any) -> None:
    """Two creates of one path: the later is refused, and its clean-up leaves the first alone."""
    second = planned(version)
    cgroup_make.check(second)
    child = program(make(version), "sleep", "60")
    with pytest.raises(errors.SetupError, match="somebody else"):
        cgroup_make.create(second)
    cgroup_remove.destroy(second.record)
    assert not ended(child, 0.05)


# -- join, signal, freeze ------------------------------------------------------------------------


def test_attach_and_pids(version: int, make: Maker, program: Any) -> None:
    """C01 C24: in every hierarchy, and found again in cgroups below"""
    plan = make(version)
    child = program(plan, "sleep", "60")
    with open(f"/proc/{child.pid}/cgroup", encoding="utf-8") as file:
        shown = dict(line.strip().split(":", 2)[1:] for line in file)
    for controllers, path in shown.items():
        for name in controllers.split(","):
            assert (path == f"/{NAME}/leaf") == (name in plan.dirs)
    directory = cgroup.tree(plan.record)
    os.makedirs(f"{directory}/x/y")
    cgroupfs.write(f"{directory}/x/y/cgroup.procs", str(child.pid))
    assert cgroup.pids(plan.record) == [child.pid]


def test_freeze_and_thaw(version: int, make: Maker, program: Any) -> None:
    """C24"""
    plan = make(version)
    child = program(plan, "yes")
    assert not cgroupfs.frozen(plan.record)
    cgroup.freeze(plan.record)
    assert cgroupfs.frozen(plan.record)
    before = cpu_time(child.pid)
    time.sleep(0.05)
    assert cpu_time(child.pid) == before
    cgroup.thaw(plan.record)
    assert not cgroupfs.frozen(plan.record)
    os.read(child.stdout.fileno(), 65536)


def cpu_time(pid: int) -> bytes:
    return cgroupfs.read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[11]


def test_freeze_without_a_cgroup() -> None:
    with pytest.raises(errors.SetupError):
        cgroup.freeze({"version": 2, "dirs": {}, "keep": [], "mount": ""})


def test_signal_everybody(version: int, make: Maker, program: Any) -> None:
    """L10 C24"""
    plan = make(version)
    children = [program(plan, "sleep", "60") for _ in range(5)]
    cgroup.kill(plan.record, signal.SIGTERM)
    assert [child.wait(5) for child in children] == [-signal.SIGTERM] * 5
    assert not cgroupfs.frozen(plan.record)


def test_kill_frozen(version: int, make: Maker, program: Any) -> None:
    plan = make(version)
    child = program(plan, "sleep", "60")
    cgroup.freeze(plan.record)
    cgroup.kill(plan.record, signal.SIGTERM)
    assert cgroupfs.frozen(plan.record)
    assert version == 2 or not ended(child, 0.05)
    cgroup.kill(plan.record, signal.SIGKILL)
    assert ended(child)


BOMB = """
import os, sys
os.write(1, b"x")
while True:
    try:
        if os.fork() and os.getpid() % 2:
            os._exit(0)
    except OSError:
        pass
"""


@pytest.mark.parametrize("cgroup_kill", [True, False], ids=["as is", "without cgroup.kill"])
def test_fork_bomb_ends(
    version: int, make: Maker, program: Any, cgroup_kill: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C24: whoever forks meanwhile is caught too"""
    guarded = 2 if version == 2 and "pids" in facts_of(2).cgroup_controllers else 1  # a hybrid machine has it on v1
    need(guarded, "pids")
    if not cgroup_kill:
        monkeypatch.setattr(cgroup, "_kill_all", lambda top: False)
    guard = make(guarded, {"pids": {"limit": 200}}, "guard")
    plan = guard if guarded == version else make(version)
    child = program(guard, sys.executable, "-I", "-S", "-c", BOMB, also=None if plan is guard else plan)
    os.read(child.stdout.fileno(), 1)
    time.sleep(0.1)
    cgroup_remove.destroy(plan.record)
    assert cgroup.pids(plan.record) == []
    child.stdout.read()


# -- removal -------------------------------------------------------------------------------------


def test_destroy_removes_what_the_container_made(version: int, make: Maker, program: Any) -> None:
    """L12"""
    plan = make(version)
    child = program(plan, "sleep", "60")
    for _, directory in plan_cgroup.unique(plan.record):
        os.makedirs(f"{directory}/a/b")
        os.makedirs(f"{directory}/c")
    cgroupfs.write(f"{cgroup.tree(plan.record)}/a/b/cgroup.procs", str(child.pid))
    cgroup_remove.destroy(plan.record)
    assert ended(child)
    assert not any(os.path.exists(directory) for _, directory in plan_cgroup.unique(plan.record))
    assert all(os.path.isdir(f"{top}/{NAME}") for top in plan.tops.values())  # the parent stays
    cgroup_remove.destroy(plan.record)  # gone already


def test_deeper_than_a_path(make: Maker) -> None:
    """A container with a writable cgroup mount can nest deeper than PATH_MAX and than Python recurses."""
    need(1, "freezer")
    plan = make(1)
    fd = os.open(plan.dirs["freezer"], os.O_RDONLY)
    for _ in range(2500):
        os.mkdir("nn", dir_fd=fd)
        deeper = os.open("nn", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    child = subprocess.Popen(["sleep", "60"])
    procs = os.open("cgroup.procs", os.O_WRONLY, dir_fd=fd)
    os.write(procs, str(child.pid).encode())
    os.close(procs)
    os.close(fd)
    assert cgroup.pids(plan.record) == [child.pid]
    cgroup_remove.destroy(plan.record)
    assert child.wait(5) == -signal.SIGKILL
    assert not os.path.exists(plan.dirs["freezer"])


def test_destroy_of_nothing() -> None:
    cgroup_remove.destroy({"version": 1, "dirs": {"pids": "/sys/fs/cgroup/pids/no-such"}, "keep": [], "mount": ""})
    cgroup_remove.destroy({"version": 2, "dirs": {}, "keep": [], "mount": ""})


def test_optional_cgroup_without_the_right(version: int) -> None:
    """ENGINE-CONTRACT 2.2, SECURITY 22: nothing asked, nothing made, no error; asked for, an error"""
    need_reachable(sys.executable)
    script = f"""
import os, sys
sys.path.insert(0, {str(PROJECT)!r})
os.setgid(65534); os.setuid(65534)
from pyoci import errors
from pyoci.host import cgroup, cgroup_make, cgroup_remove, cgroupfs, facts
from pyoci.plan import cgroup as plan_cgroup
from pyoci.plan.options import Options
machine = facts.read()
machine.cgroup_mode = {facts_of(version).cgroup_mode!r}
for linux in ({{}}, {{"cgroupsPath": "/it-unprivileged"}}):
    plan = plan_cgroup.make({{"linux": linux}}, machine, Options("it-unprivileged", "/b"))
    try:
        cgroup_make.check(plan)
        cgroup_make.create(plan)
        cgroup.attach(plan.record, os.getpid())
        print(plan.record["dirs"], cgroup.pids(plan.record), cgroupfs.frozen(plan.record))
        cgroup.kill(plan.record, 9)
        cgroup_remove.destroy(plan.record)
    except errors.SetupError as error:
        print(error.message, error.hint != "")
"""
    result = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    nothing, asked = result.stdout.splitlines()
    assert nothing == "{} [] False"
    assert asked.startswith("make cgroup /") and asked.endswith("permission denied True")


def test_read_only_cgroups(version: int) -> None:
    """SECURITY 22: as without the right; and cleaning up after the error finds nothing to remove"""
    mounts = facts_of(version).cgroup_mounts.values() if version == 1 else ()
    points = sorted({facts_of(version).cgroup_unified, *mounts} - {""})
    remounts = "".join(f"mount -o remount,bind,ro {point} && " for point in points)
    script = f"""
import sys
sys.path.insert(0, {os.getcwd()!r})
from pyoci import errors
from pyoci.host import cgroup_make, cgroup_remove, facts
from pyoci.plan import cgroup as plan_cgroup
from pyoci.plan.options import Options
machine = facts.read()
machine.cgroup_mode = {facts_of(version).cgroup_mode!r}
for linux in ({{}}, {{"resources": {{"devices": [{{"allow": False}}]}}}}):
    plan = plan_cgroup.make({{"linux": linux}}, machine, Options("it-read-only", "/b"))
    cgroup_make.check(plan)
    try:
        cgroup_make.create(plan)
        print(plan.record["dirs"])
    except errors.SetupError as error:
        print(error.message)
        cgroup_remove.destroy(plan.record)
"""
    command = ["unshare", "-m", "--propagation", "private", "sh", "-c", f'{remounts}exec "$@"', "sh"]
    run = subprocess.run([*command, sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    nothing, asked = run.stdout.splitlines()
    assert nothing == "{}"
    assert asked.endswith("read-only file system")


# -- v2 ------------------------------------------------------------------------------------------


def test_v2_device_program_rules(make: Maker, program: Any) -> None:
    """C23 D05 D06: the kernel takes the program and asks it"""
    plan = make(2, {"devices": [{"allow": False}]})
    child = program(plan, "sh", "-c", "cat /dev/null && cat /dev/kmsg < /dev/kmsg; echo status $?")
    assert b"status 0" not in child.communicate()[0]
    allowed = make(2, {"devices": [{"allow": False}, {"allow": True, "access": "rwm"}]}, "allowed")
    child = program(allowed, "sh", "-c", "exec 3< /dev/kmsg; echo status $?")
    assert b"status 0" in child.communicate()[0]


def test_v2_device_program_is_replaced(make: Maker) -> None:
    """C23: one program at any time"""
    from pyoci.host import bpf
    from pyoci.plan import devfilter, devprogram

    plan = make(2)
    fd = os.open(plan.dirs[""], os.O_RDONLY)
    try:
        first = bpf.attached(fd)
        bpf.attach_device_program(plan.dirs[""], devprogram.program(devfilter.rules([{"allow": True}])))
        second = bpf.attached(fd)
    finally:
        os.close(fd)
    assert len(first) == len(second) == 1
    assert first != second


KNOCK = """
import os
os.write(1, b"x")
while True:
    try:
        os.open("/dev/kmsg", os.O_RDONLY)
        break
    except PermissionError:
        pass
"""


def test_v2_a_device_stays_shut_while_the_rules_change(make: Maker, program: Any) -> None:
    """C23: in one step: whoever tries all the time finds no moment without a program."""
    from pyoci.host import bpf
    from pyoci.plan import devfilter, devprogram

    plan = make(2)
    child = program(plan, sys.executable, "-I", "-S", "-c", KNOCK)
    assert os.read(child.stdout.fileno(), 1) == b"x"
    for minor in range(200):
        rule = {"allow": True, "type": "c", "major": 7, "minor": minor, "access": "r"}
        bpf.attach_device_program(plan.dirs[""], devprogram.program(devfilter.rules([rule])))
    assert not ended(child, 0)


def test_v2_refused_program_is_an_error(make: Maker) -> None:
    from pyoci.host import bpf

    plan = make(2)
    with pytest.raises(errors.SetupError, match="device filter") as caught:
        bpf.attach_device_program(plan.dirs[""], b"\x95" + bytes(7))  # exit without a result
    assert caught.value.hint


def test_v2_values(make: Maker) -> None:
    """C05 C09 C19 C21"""
    need(2, "memory", "cpu", "pids")
    plan = make(2, {"memory": {"limit": 64 << 20, "swap": 64 << 20}, "cpu": {"shares": 1024}, "pids": {"limit": 0}})
    assert value(plan, "", "memory.max") == str(64 << 20)
    assert value(plan, "", "memory.swap.max") == "0"
    assert value(plan, "", "cpu.weight") == "100"
    assert value(plan, "", "pids.max") == "0"


def test_v2_controllers_are_handed_down(make: Maker) -> None:
    """C21"""
    facts = facts_of(2)
    if not facts.cgroup_controllers:
        pytest.skip("the v2 tree of this machine has no controllers")
    plan = make(2)
    assert value(plan, "", "cgroup.controllers").split() == list(facts.cgroup_controllers)


def test_v2_exec_joins_inits_cgroup(make: Maker, program: Any) -> None:
    """C24: a container that moved its processes below cannot have new ones above"""
    facts = facts_of(2)
    if not facts.cgroup_controllers:
        pytest.skip("the v2 tree of this machine has no controllers")
    plan = make(2)
    init = program(plan, "sleep", "60")
    os.mkdir(f"{plan.dirs['']}/init")
    cgroupfs.write(f"{plan.dirs['']}/init/cgroup.procs", str(init.pid))
    cgroupfs.write(f"{plan.dirs['']}/cgroup.subtree_control", f"+{facts.cgroup_controllers[0]}")
    child = subprocess.Popen(["sleep", "60"])
    with pytest.raises(errors.SetupError):
        cgroup.attach(plan.record, child.pid)
    cgroup.attach(plan.record, child.pid, init.pid)
    assert cgroup.pids(plan.record) == sorted([init.pid, child.pid])
    child.kill()
    child.wait()


def make_threads() -> None:
    """A threaded cgroup below /NAME, which makes invalid domains of all the others there."""
    directory = f"{facts_of(2).cgroup_unified}/{NAME}/threads"
    os.makedirs(directory)
    cgroupfs.write(f"{directory}/cgroup.type", "threaded")


@pytest.mark.parametrize("leaf", ["leaf", "between/leaf", "threads/leaf"])
def test_v2_below_threads(make: Maker, program: Any, leaf: str) -> None:
    """C02 C24: threaded itself, it takes processes; they are found, stopped and killed as in any other."""
    make_threads()
    plan = make(2, leaf=leaf)
    assert value(plan, "", "cgroup.type") == "threaded"
    script = "import threading, time; threading.Thread(target=time.sleep, args=[60]).start(); time.sleep(60)"
    child = program(plan, sys.executable, "-I", "-S", "-c", script)
    assert cgroup.pids(plan.record) == [child.pid]
    cgroup.freeze(plan.record)
    assert b"frozen 1" in cgroupfs.read(f"{plan.dirs['']}/cgroup.events")
    cgroup.thaw(plan.record)
    with pytest.raises(errors.SetupError, match="not empty: 1 processes"):
        cgroup_make.check(planned(2, leaf=leaf))
    cgroup_remove.destroy(plan.record)
    assert ended(child)
    assert not os.path.exists(plan.dirs[""])


def domain_controller() -> str:
    """A controller of the v2 tree that does not count threads."""
    names = [name for name in facts_of(2).cgroup_controllers if name not in cgroup_make.THREADED]
    if not names:
        pytest.skip("the v2 tree of this machine has no such controllers")
    return names[0]


def test_v2_limit_below_threads(make: Maker) -> None:
    """C02: what threads cannot have is an error that says where and why."""
    file = f"{domain_controller()}.max"
    make_threads()
    directory = planned(2).dirs[""]
    with pytest.raises(errors.SetupError) as caught:
        make(2, {"unified": {file: "1"}})
    assert caught.value.message == f"set {file} to 1 in {directory}: cgroup {directory} is of type 'domain invalid'"
    assert caught.value.where == f"/linux/resources/unified/{file}"
    assert "threaded" in caught.value.hint


def test_v2_limit_below_processes(make: Maker, program: Any) -> None:
    """C02: a cgroup with processes hands out no controllers: it is named."""
    file = f"{domain_controller()}.max"
    parent = make(2, leaf="parent")
    child = program(parent, "sleep", "60")
    with pytest.raises(errors.SetupError) as caught:
        make(2, {"unified": {file: "1"}}, "parent/leaf")
    words = f"cgroup {parent.dirs['']} has 1 processes, the first is {child.pid}, and hands out no controllers"
    assert words in caught.value.message
    assert (caught.value.where, caught.value.hint != "") == (f"/linux/resources/unified/{file}", True)
    plan = make(2, leaf="parent/leaf")
    assert value(plan, "", "cgroup.type") == "domain"


def test_v2_ownership(make: Maker) -> None:
    """C04: the directory and the files that the kernel lists, nothing else."""
    plan = planned(2)
    plan.owner = 4711
    made = make(2)
    directory = made.dirs[""]
    cgroup_make.delegate(directory, plan.owner)
    listed = Path("/sys/kernel/cgroup/delegate").read_text().split()
    theirs = {name for name in os.listdir(directory) if os.stat(f"{directory}/{name}").st_uid == 4711}
    assert theirs == set(listed) & set(os.listdir(directory))
    assert "cgroup.procs" in theirs
    assert os.stat(directory).st_uid == 4711


def test_v2_ownership_on_an_old_kernel(make: Maker) -> None:
    """C04: without /sys/kernel/cgroup/delegate the three files of the spec."""
    directory = make(2).dirs[""]
    cgroup_make.delegate(directory, 4712, "/no/such/file")
    theirs = {name for name in os.listdir(directory) if os.stat(f"{directory}/{name}").st_uid == 4712}
    assert theirs == {"cgroup.procs", "cgroup.subtree_control", "cgroup.threads"}


def test_v2_ownership_is_part_of_create(make: Maker) -> None:
    """C04"""
    plan = planned(2)
    plan.owner = 4713
    cgroup_make.check(plan)
    cgroup_make.create(plan)
    cgroup_make.apply_late(plan)
    try:
        assert os.stat(plan.dirs[""]).st_uid == 4713
    finally:
        cgroup_remove.destroy(plan.record)
        make(2, leaf="other")  # whose fixture removes the parent


@pytest.mark.parametrize("low", [True, False])
def test_check_before_update_of_a_cgroup_that_is_there(version: int, make: Maker, program: Any, low: bool) -> None:
    """C08: what is charged to it already may be more than the limit."""
    need(version, "memory")
    first = make(version)
    controller, file = ("memory", "memory.usage_in_bytes") if version == 1 else ("", "memory.current")
    child = program(first, "sh", "-c", f"head -c 8000000 /dev/zero > /dev/shm/{NAME}; echo; exec sleep 60")
    child.stdout.readline()
    child.kill()
    child.wait()
    try:
        if int(value(first, controller, file)) < 4000000:
            pytest.skip("what the program wrote is not charged to its cgroup any more")
        limit = 1000000 if low else 64000000
        plan = planned(version, {"memory": {"limit": limit, "checkBeforeUpdate": True}})
        if low:
            with pytest.raises(errors.SetupError, match="more than the new limit of 1000000") as caught:
                cgroup_make.check(plan)
            assert caught.value.where == "/linux/resources/memory/limit"
        else:
            cgroup_make.check(plan)
    finally:
        os.unlink(f"/dev/shm/{NAME}")
