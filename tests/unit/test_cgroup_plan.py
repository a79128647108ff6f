"""The cgroup part of a plan: which directories, which values, in which order; no cgroup is touched here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyoci import errors
from pyoci.host import cgroup_make
from pyoci.host import facts as host_facts
from pyoci.plan import cgroup, cgroup_v2
from pyoci.plan.facts import Facts
from pyoci.plan.options import Options

V1 = "cpuset cpu cpuacct blkio memory devices freezer net_cls net_prio hugetlb pids rdma name=systemd".split()
ALL_V2 = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma")


def legacy(*missing: str, own: str = "/", **more: Any) -> Facts:
    names = [name for name in V1 if name not in missing]
    mounts = {name: f"/cg/{name.removeprefix('name=')}" for name in names}
    if "cpu" in mounts:
        mounts["cpu"] = mounts["cpuacct"] = "/cg/cpu,cpuacct"
    return Facts(cgroup_mode="legacy", cgroup_mounts=mounts, cgroup_own=dict.fromkeys(names, own), **more)


def unified(own: str = "/", **more: Any) -> Facts:
    more.setdefault("cgroup_controllers", ALL_V2)
    return Facts(cgroup_mode="unified", cgroup_unified="/cg", cgroup_own={"": own}, **more)


def make(resources: dict[str, Any], facts: Facts, path: str = "/p/c") -> cgroup.CgroupPlan:
    plan = cgroup.make({"linux": {"cgroupsPath": path, "resources": resources}}, facts, Options("c1", "/b"))
    assert plan is not None
    return plan


def values(resources: dict[str, Any], facts: Facts) -> list[tuple[str, str]]:
    """(file name, value) of the writes that are not device rules."""
    writes = make(resources, facts).writes
    return [(w.file.rpartition("/")[2], w.value) for w in writes if "/devices." not in w.file]


def where_of(resources: dict[str, Any], facts: Facts, kind: type[errors.Error] = errors.SetupError) -> str:
    with pytest.raises(kind) as caught:
        make(resources, facts)
    return caught.value.where.removeprefix("/linux/resources")


# -- where it is (C01) ------------------------------------------------------------------------


def test_absolute_path_is_below_every_mount() -> None:
    """C01"""
    plan = make({}, legacy(own="/somewhere"), "/a//./b/")
    assert plan.path == "/a/b"
    assert plan.dirs["memory"] == "/cg/memory/a/b"
    assert plan.dirs["name=systemd"] == "/cg/systemd/a/b"
    assert make({}, unified(own="/somewhere"), "/a/b").dirs == {"": "/cg/a/b"}


def test_relative_path_is_below_the_own_cgroup_on_v1_and_beside_it_on_v2() -> None:
    """C01, as runc"""
    assert make({}, legacy(own="/user/me"), "a").dirs["memory"] == "/cg/memory/user/me/a"
    assert make({}, unified(own="/user/me"), "a").dirs == {"": "/cg/user/a"}
    assert make({}, unified(own="/"), "a").dirs == {"": "/cg/a"}


def test_no_path_is_the_id_as_relative_path() -> None:
    plan = cgroup.make({"linux": {}}, legacy(own="/me"), Options("c1", "/b"))
    assert plan is not None and plan.dirs["pids"] == "/cg/pids/me/c1"


def test_nested_runtime_sees_only_its_part() -> None:
    """Inside a container without a cgroup namespace the mount shows the container's cgroup, /proc the host's path."""
    facts = legacy(own="/docker/x/inner", cgroup_roots=dict.fromkeys(V1, "/docker/x"))
    assert make({}, facts, "a").dirs["pids"] == "/cg/pids/inner/a"
    outside = legacy(own="/../..", cgroup_roots=dict.fromkeys(V1, "/docker/x"))
    assert make({}, outside, "a").dirs["pids"] == "/cg/pids/a"
    above = legacy(own="/../../x")
    assert make({}, above, "a").dirs["pids"] == "/cg/pids/a"


@pytest.mark.parametrize("path", ["/a/../b", "..", "/a\0b", "/a\nb", "/", ".", "//", "a/..", "/a\x1b[m", "/a" * 1537])
def test_bad_paths(path: str) -> None:
    """C01, SECURITY 7"""
    with pytest.raises(errors.InvalidConfig) as caught:
        make({}, legacy(), path)
    assert caught.value.where == "/linux/cgroupsPath"


def test_comounted_controllers_are_one_directory() -> None:
    plan = make({"cpu": {"shares": 2}}, legacy())
    assert plan.dirs["cpu"] == plan.dirs["cpuacct"] == "/cg/cpu,cpuacct/p/c"
    directories = [directory for _, directory in cgroup.unique(plan.record)]
    assert len(directories) == len(set(directories)) == len(V1) - 1
    assert "/cg/cpu,cpuacct/p/c/tasks" in cgroup.entries(plan.record)


def test_hybrid_joins_the_v2_tree_too() -> None:
    plan = make({}, legacy(cgroup_unified="/cg/unified"))
    assert plan.version == 1
    assert plan.dirs[""] == "/cg/unified/p/c"
    assert "/cg/unified/p/c" in cgroup.entries(plan.record)
    assert plan.record["mount"] == "/cg/unified"


def test_other_named_hierarchies_are_left_alone() -> None:
    facts = legacy()
    facts.cgroup_mounts["name=mine"] = "/cg/mine"
    assert "name=mine" not in make({}, facts).dirs


def test_record_is_json() -> None:
    plan = make({"memory": {"limit": 1}}, legacy())
    assert json.loads(json.dumps(plan.record)) == plan.record


# -- whether there is one ----------------------------------------------------------------------


def test_disabled() -> None:
    options = Options("c1", "/b", cgroup_manager="disabled")
    assert (
        cgroup.make({"linux": {"cgroupsPath": "/a", "resources": {"memory": {"limit": 1}}}}, legacy(), options) is None
    )


def test_unknown_manager() -> None:
    with pytest.raises(errors.SetupError, match="cgroup manager other is not available"):
        cgroup.make({}, legacy(), Options("c1", "/b", cgroup_manager="other"))


@pytest.mark.parametrize(
    ("linux", "facts", "optional"),
    [
        ({}, legacy(), True),
        ({"resources": {"memory": {"limit": 0}, "blockIO": {"weight": 0}}}, legacy(), True),
        ({"resources": {"devices": [{"allow": False}]}}, legacy(), False),
        ({"resources": {"devices": [{"allow": False}]}}, legacy(userns=True), True),
        ({"resources": {"devices": [{"allow": False}]}}, legacy(euid=1000), True),
        ({"resources": {"pids": {"limit": 5}}}, legacy(userns=True), False),
        ({"cgroupsPath": "/a"}, legacy(userns=True), False),
    ],
)
def test_optional_when_nothing_is_asked(linux: dict[str, Any], facts: Facts, optional: bool) -> None:
    """ENGINE-CONTRACT 2.2, SECURITY 22"""
    plan = cgroup.make({"linux": linux}, facts, Options("c1", "/b"))
    assert plan is not None and plan.optional is optional


@pytest.mark.parametrize("rootless", [True, False])
def test_rootless_decides_whatever_is_asked(rootless: bool) -> None:
    """--rootless true: rights that are missing are no error, as with runc."""
    for linux in ({}, {"cgroupsPath": "/x", "resources": {"pids": {"limit": 5}}}):
        plan = cgroup.make({"linux": linux}, legacy(), Options("ID", "/b", rootless=rootless))
        assert plan is not None and plan.optional is rootless


def test_no_cgroups_at_all() -> None:
    """SECURITY 22: nothing asked, nothing made; something asked, an error that says so."""
    assert cgroup.make({"linux": {}}, Facts(), Options("c1", "/b")) is None
    for linux in (
        {"cgroupsPath": "/a"},
        {"resources": {"pids": {"limit": 5}}},
        {"resources": {"devices": [{"allow": False}]}},
    ):
        with pytest.raises(errors.SetupError) as caught:
            cgroup.make({"linux": linux}, Facts(), Options("c1", "/b"))
        assert caught.value.hint


def test_no_device_filter_in_a_user_namespace() -> None:
    assert not make({"devices": [{"allow": False}]}, legacy(userns=True)).writes
    assert make({}, unified(userns=True)).program == b""


def test_devices_need_their_controller() -> None:
    """L06: rules that cannot be applied are an error"""
    assert where_of({"devices": [{"allow": False}]}, legacy("devices")) == "/devices"


def test_device_rules_come_in_order() -> None:
    """D05, D06"""
    plan = make({}, legacy())
    assert [str(w) for w in plan.writes][:2] == [
        "set devices.deny to a in /cg/devices/p/c",
        "set devices.allow to c *:* m in /cg/devices/p/c",
    ]
    assert make({}, unified()).program


# -- v1 values ---------------------------------------------------------------------------------


def test_v1_values() -> None:
    """C05 C06 C07 C09 C10 C11 C12 C13 C19: file names, and the order of those that depend on each other"""
    resources = {
        "memory": {
            "limit": 1000,
            "swap": 2000,
            "reservation": 500,
            "kernel": 7,
            "kernelTCP": 8,
            "swappiness": 0,
            "disableOOMKiller": True,
            "useHierarchy": True,
        },
        "cpu": {
            "shares": 512,
            "quota": -1,
            "period": 1000,
            "burst": 0,
            "realtimeRuntime": 5,
            "realtimePeriod": 6,
            "cpus": "0-1",
            "mems": "0",
            "idle": 1,
        },
        "pids": {"limit": 44},
    }
    assert values(resources, legacy()) == [
        ("memory.limit_in_bytes", "1000"),
        ("memory.memsw.limit_in_bytes", "2000"),
        ("memory.kmem.limit_in_bytes", "7"),
        ("memory.kmem.tcp.limit_in_bytes", "8"),
        ("memory.soft_limit_in_bytes", "500"),
        ("memory.swappiness", "0"),
        ("memory.use_hierarchy", "1"),
        ("memory.oom_control", "1"),
        ("cpu.shares", "512"),
        ("cpu.rt_period_us", "6"),
        ("cpu.rt_runtime_us", "5"),
        ("cpu.cfs_period_us", "1000"),
        ("cpu.cfs_quota_us", "-1"),
        ("cpu.cfs_burst_us", "0"),
        ("cpu.idle", "1"),
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
        ("pids.max", "44"),
    ]


@pytest.mark.parametrize(("limit", "text"), [(0, "0"), (-1, "max"), (7, "7")])
def test_pids_limit(limit: int, text: str) -> None:
    """C19: 0 is a limit, -1 is none"""
    assert values({"pids": {"limit": limit}}, legacy()) == [("pids.max", text)]
    assert values({"pids": {"limit": limit}}, unified()) == [("pids.max", text)]


def test_unlimited_memory_takes_swap_along() -> None:
    wanted = [("memory.limit_in_bytes", "-1"), ("memory.memsw.limit_in_bytes", "-1")]
    assert values({"memory": {"limit": -1}}, legacy()) == wanted
    assert values({"memory": {"limit": -1}}, unified()) == [("memory.max", "max"), ("memory.swap.max", "max")]


def test_zero_leaves_alone() -> None:
    """Engines send 0 for "not set"."""
    resources = {
        "memory": {"limit": 0, "swap": 0, "reservation": 0, "kernel": 0, "disableOOMKiller": False},
        "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "realtimeRuntime": 0},
        "blockIO": {"weight": 0, "leafWeight": 0},
        "network": {"classID": 0},
    }
    assert values(resources, legacy()) == []
    assert values(resources, unified()) == []


def test_block_io() -> None:
    """C14 C15 C16"""
    block = {
        "weight": 500,
        "leafWeight": 10,
        "weightDevice": [{"major": 8, "minor": 0, "weight": 1000, "leafWeight": 20}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 300}],
    }
    assert values({"blockIO": block}, legacy()) == [
        ("blkio.leaf_weight", "10"),
        ("blkio.weight", "500"),
        ("blkio.weight_device", "8:0 1000"),
        ("blkio.leaf_weight_device", "8:0 20"),
        ("blkio.throttle.read_bps_device", "8:0 600"),
        ("blkio.throttle.write_iops_device", "8:16 300"),
    ]
    weight = next(w for w in make({"blockIO": block}, legacy()).writes if w.file.endswith("blkio.weight"))
    assert weight.other is not None and weight.other.file.endswith("blkio.bfq.weight")
    del block["leafWeight"], block["weightDevice"][0]["leafWeight"]  # type: ignore[index]
    assert values({"blockIO": block}, unified()) == [
        ("io.bfq.weight", "500"),
        ("io.bfq.weight", "8:0 1000"),
        ("io.max", "8:0 rbps=600"),
        ("io.max", "8:16 wiops=300"),
    ]
    weights = [w.other.value for w in make({"blockIO": block}, unified()).writes if w.other]
    assert weights == ["default 4950", "8:0 10000"]


def test_hugepages_reservation_first() -> None:
    """C17"""
    limits = {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}
    assert values(limits, legacy()) == [
        ("hugetlb.2MB.rsvd.limit_in_bytes", "0"),
        ("hugetlb.2MB.limit_in_bytes", "0"),
    ]
    assert values(limits, unified()) == [("hugetlb.2MB.rsvd.max", "0"), ("hugetlb.2MB.max", "0")]


@pytest.mark.parametrize("size", ["", "MB", "2", "../2MB", "2MB/x", "2TB", "-2MB", "²MB"])
def test_hugepage_size_is_a_size(size: str) -> None:
    """SECURITY 7: it becomes part of a file name"""
    limits = {"hugepageLimits": [{"pageSize": size, "limit": 0}]}
    for facts in (legacy(), unified()):
        assert where_of(limits, facts, errors.InvalidConfig) == "/hugepageLimits/0/pageSize"


def test_network_and_rdma() -> None:
    """C18 C20"""
    resources: dict[str, Any] = {
        "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
        "rdma": {"mlx5_0": {"hcaHandles": 2, "hcaObjects": 0}, "m/1": {"hcaObjects": 3}},
    }
    assert values(resources, legacy()) == [
        ("net_cls.classid", "1048577"),
        ("net_prio.ifpriomap", "eth0 500"),
        ("rdma.max", "mlx5_0 hca_handle=2 hca_object=0"),
        ("rdma.max", "m/1 hca_object=3"),
    ]
    assert make(resources, legacy()).writes[3].where == "/linux/resources/rdma/m~11"
    assert where_of({"rdma": {"m": {}}}, legacy(), errors.InvalidConfig) == "/rdma"


def test_burst_above_quota() -> None:
    """C10"""
    for facts in (legacy(), unified()):
        assert where_of({"cpu": {"quota": 1000, "burst": 1001}}, facts, errors.InvalidConfig) == "/cpu/burst"
        assert values({"cpu": {"quota": 1000, "burst": 1000}}, facts)


@pytest.mark.parametrize(
    ("resources", "controller", "where"),
    [
        ({"memory": {"limit": 1}}, "memory", "/memory/limit"),
        ({"cpu": {"cpus": "0"}}, "cpuset", "/cpu/cpus"),
        ({"pids": {"limit": 1}}, "pids", "/pids/limit"),
        ({"rdma": {"m": {"hcaObjects": 1}}}, "rdma", "/rdma/m"),
        ({"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}, "hugetlb", "/hugepageLimits/0"),
    ],
)
def test_missing_controller(resources: dict[str, Any], controller: str, where: str) -> None:
    """L06, C21"""
    assert where_of(resources, legacy(controller)) == where
    assert where_of(resources, unified(cgroup_controllers=tuple(c for c in ALL_V2 if c != controller))) == where


def test_unified_is_not_for_v1() -> None:
    """C22 the other way round"""
    assert where_of({"unified": {"memory.max": "1"}}, legacy()) == "/unified"


# -- v2 values ---------------------------------------------------------------------------------


def test_v2_values() -> None:
    """C05 C09 C12 C13 converted"""
    resources = {
        "memory": {"limit": 1000, "swap": 3000, "reservation": 500},
        "cpu": {"shares": 1024, "quota": 50000, "burst": 10, "idle": 0, "cpus": "0", "mems": "0"},
    }
    assert values(resources, unified()) == [
        ("memory.max", "1000"),
        ("memory.swap.max", "2000"),
        ("memory.low", "500"),
        ("cpu.weight", "100"),
        ("cpu.max", "50000 100000"),
        ("cpu.max.burst", "10"),
        ("cpu.idle", "0"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
    ]
    assert values({"cpu": {"quota": -1, "period": 5000}}, unified()) == [("cpu.max", "max 5000")]


@pytest.mark.parametrize(("shares", "weight"), [(1, 1), (2, 1), (1024, 100), (262144, 10000), (1 << 40, 10000)])
def test_cpu_weight(shares: int, weight: int) -> None:
    """C09"""
    assert cgroup_v2.cpu_weight(shares) == weight


@pytest.mark.parametrize("memory", [{"swap": 100}, {"limit": 200, "swap": 100}, {"limit": -1, "swap": 100}])
def test_swap_that_says_nothing(memory: dict[str, int]) -> None:
    """C05, C22"""
    assert where_of({"memory": memory}, unified(), errors.InvalidConfig) == "/memory/swap"


def test_swap_equal_to_limit_is_no_swap() -> None:
    assert ("memory.swap.max", "0") in values({"memory": {"limit": 100, "swap": 100}}, unified())
    assert values({"memory": {"limit": 100, "swap": -1}}, unified())[1] == ("memory.swap.max", "max")


@pytest.mark.parametrize(("swap", "refused"), [(-1, False), (100, False), (101, True)])
def test_no_swap_accounting(tmp_path: Path, swap: int, refused: bool) -> None:
    """C05: without the file, no limit and no swap need nothing; only an amount of it cannot be had."""
    (tmp_path / "memory.max").touch()
    writes = cgroup_v2.settings(str(tmp_path), {"memory": {"limit": 100, "swap": swap}}, ALL_V2, "")
    if refused:
        with pytest.raises(errors.SetupError, match=r"set memory\.swap\.max to 1 .*no such file"):
            cgroup_make.apply(writes)
    else:
        cgroup_make.apply(writes)
    assert (tmp_path / "memory.max").read_text() == "100"


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("memory", "kernel", 1),
        ("memory", "kernelTCP", 1),
        ("memory", "swappiness", 0),
        ("memory", "disableOOMKiller", True),
        ("memory", "useHierarchy", False),
        ("cpu", "realtimeRuntime", 1),
        ("cpu", "realtimePeriod", 1),
        ("blockIO", "leafWeight", 10),
        ("network", "classID", 1),
        ("network", "priorities", [{"name": "eth0", "priority": 1}]),
    ],
)
def test_v1_only_settings_on_v2(section: str, name: str, value: Any) -> None:
    """C22"""
    assert where_of({section: {name: value}}, unified()) == f"/{section}/{name}"
    device = {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 10}]}}
    assert where_of(device, unified()) == "/blockIO/weightDevice/0/leafWeight"


def test_unified() -> None:
    """C21: written as they are, last, one write a line"""
    resources = {"memory": {"limit": 5}, "unified": {"memory.max": "7", "io.max": "8:0 rbps=1\n8:1 rbps=2"}}
    assert values(resources, unified()) == [
        ("memory.max", "5"),
        ("memory.max", "7"),
        ("io.max", "8:0 rbps=1"),
        ("io.max", "8:1 rbps=2"),
    ]
    assert values({"unified": {"cgroup.max.depth": "3"}}, unified()) == [("cgroup.max.depth", "3")]
    assert where_of({"unified": {"misc.max": "x"}}, unified()) == "/unified/misc.max"


@pytest.mark.parametrize(
    ("key", "value"), [("cgroup.freeze", "1\n"), ("cgroup.kill", "1"), ("cgroup.procs", "0"), ("cgroup.threads", "0")]
)
def test_what_no_container_can_begin_with(key: str, value: str) -> None:
    """Frozen, init would be waited for without end; process 0 is the runtime, which would end with the container."""
    assert where_of({"unified": {key: value}}, unified(), errors.InvalidConfig) == f"/unified/{key}"
    assert values({"unified": {"cgroup.freeze": "0"}}, unified()) == [("cgroup.freeze", "0")]


@pytest.mark.parametrize("key", ["../x.y", "memory", ".", "memory.", ""])
def test_unified_key_is_a_file_name(key: str) -> None:
    """C21, SECURITY 7"""
    assert where_of({"unified": {key: "1"}}, unified(), errors.InvalidConfig).startswith("/unified/")


def test_engine_configs_have_a_cgroup(engine_configs: list[dict[str, Any]]) -> None:
    for config in engine_configs:
        for facts in (legacy(), unified(), legacy(userns=True), unified(userns=True)):
            assert cgroup.make(config, facts, Options("c1", "/b")) is not None


@pytest.fixture
def engine_configs() -> list[dict[str, Any]]:
    shared = Path(__file__).resolve().parents[3] / "shared" / "engine-configs"
    found = [json.loads(path.read_text()) for path in sorted(shared.glob("*.config.json"))]
    return found or pytest.skip("no engine configs beside this checkout")


# -- the facts -----------------------------------------------------------------------------------

MOUNTINFO = rb"""22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs rw
31 30 0:29 / /tmp/again rw - cgroup cgroup rw,memory
32 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 /docker\040x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
34 30 0:29 / /later rw - cgroup cgroup rw,memory
35 30 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
36 30 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
"""
OWN = b"3:memory:/docker/x\n2:cpu,cpuacct:/\n1:name=systemd:/a:b\n0::/s\n"


def test_hybrid_facts() -> None:
    facts = Facts(cgroup_own=host_facts.parse_own(OWN))
    host_facts.parse_mounts(facts, MOUNTINFO)
    assert facts.cgroup_own == {"memory": "/docker/x", "cpu": "/", "cpuacct": "/", "name=systemd": "/a:b", "": "/s"}
    assert facts.cgroup_mode == "hybrid"
    assert facts.cgroup_mounts == {
        "memory": "/sys/fs/cgroup/memory",
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "name=systemd": "/sys/fs/cgroup/systemd",
    }
    assert facts.cgroup_roots["memory"] == "/docker x"
    assert (facts.cgroup_unified, facts.cgroup_options) == ("/sys/fs/cgroup/unified", "nsdelegate,memory_recursiveprot")


@pytest.mark.parametrize(
    ("lines", "mode"),
    [
        (b"", "none"),
        (b"1 1 0:1 / /sys/fs/cgroup rw - cgroup2 c rw", "unified"),
        (b"1 1 0:1 / /mnt rw - cgroup2 c rw", "unified"),
        (b"1 1 0:1 / /x rw - cgroup c rw,memory", "legacy"),
        (b"1 1 0:1 / /sys/fs/cgroup rw - cgroup2 c rw\n1 1 0:1 / /n rw - cgroup c rw,memory", "unified"),
        (b"1 1 0:1 / /u rw - cgroup2 c rw\n1 1 0:1 / /s rw - cgroup c rw,name=systemd", "unified"),
    ],
)
def test_modes(lines: bytes, mode: str) -> None:
    facts = Facts(cgroup_own={"memory": "/", "name=systemd": "/", "": "/"})
    host_facts.parse_mounts(facts, lines)
    assert facts.cgroup_mode == mode


def test_facts_of_this_machine() -> None:
    facts = host_facts.read()
    assert facts.last_cap >= 37
    assert 0 <= facts.umask <= 0o777
    assert set(facts.cgroup_own) >= set(facts.cgroup_mounts)


# -- delegation ------------------------------------------------------------------------------

MAPS = [{"containerID": 0, "hostID": 5000, "size": 10}, {"containerID": 100, "hostID": 70000, "size": 10}]
VIEW = {"destination": "/sys/fs/cgroup", "type": "cgroup"}


def owner(facts: Facts | None = None, uid: int = 0, mounts: Any = (VIEW,), spaces: Any = ("cgroup", "user")) -> int:
    linux = {"cgroupsPath": "/p/c", "namespaces": [{"type": kind} for kind in spaces], "uidMappings": MAPS}
    config = {"linux": linux, "mounts": list(mounts), "process": {"user": {"uid": uid, "gid": 0}}}
    plan = cgroup.make(config, facts or unified(), Options("c1", "/b"))
    assert plan is not None
    return plan.owner


@pytest.mark.parametrize(("uid", "host"), [(0, 5000), (9, 5009), (105, 70005), (50, -1)])
def test_c04_the_owner_is_the_host_uid_of_the_user(uid: int, host: int) -> None:
    assert owner(uid=uid) == host


def test_c04_without_a_user_namespace_it_is_the_user() -> None:
    assert owner(uid=7, spaces=("cgroup",)) == 7


def test_c04_not_on_v1() -> None:
    assert owner(legacy()) == -1


def test_c04_not_without_a_cgroup_namespace() -> None:
    assert owner(spaces=("user",)) == -1


@pytest.mark.parametrize(
    ("mounts", "given"),
    [
        ([], False),
        ([{**VIEW, "options": ["ro"]}], False),
        ([{**VIEW, "options": ["rw", "nosuid", "rro"]}], False),
        ([{**VIEW, "options": ["ro", "rw"]}], True),
        ([{**VIEW, "type": "cgroup2"}], True),
        ([{**VIEW, "type": "bind", "options": ["bind"], "source": "/sys/fs/cgroup"}], False),
    ],
)
def test_c04_only_with_a_cgroup_file_system_to_write_to(mounts: list[dict[str, Any]], given: bool) -> None:
    assert (owner(mounts=mounts) == 5000) is given


@pytest.mark.parametrize(("memory", "floor"), [({"limit": 5}, 0), ({"limit": -1}, 0), ({}, 0)])
def test_c08_nothing_to_check(memory: dict[str, Any], floor: int) -> None:
    assert make({"memory": memory}, unified()).floor == floor
    assert make({"memory": memory | {"checkBeforeUpdate": True}}, unified()).floor == max(memory.get("limit", 0), 0)
