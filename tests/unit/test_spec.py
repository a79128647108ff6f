"""pyoci.spec: what is refused, where, and in which words; the configs of real engines pass."""

from __future__ import annotations

import copy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyoci import errors, json, spec, spec_words

ENGINES = Path(__file__).resolve().parents[3] / "shared" / "engine-configs"
CONFIGS = sorted(ENGINES.glob("*.config.json"))
needs_engines = pytest.mark.skipif(not CONFIGS, reason="the configs of real engines are not beside the repository")
ABSENT = object()


def changed(config: dict[str, Any], pointer: str, value: Any) -> dict[str, Any]:
    """A copy of config with the place set to value (objects on the way are made), or removed."""
    config = copy.deepcopy(config)
    *parents, last = pointer[1:].split("/")
    place: Any = config
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
    key: Any = int(last) if isinstance(place, list) else last.replace("~1", "/").replace("~0", "~")
    if value is ABSENT:
        del place[key]
    else:
        place[key] = value
    return config


def faults(pointer: str, value: Any) -> dict[str, errors.Fault]:
    return {fault.where: fault for fault in spec.check(changed(spec.default(), pointer, value))}


# -- what passes -----------------------------------------------------------------------------


@needs_engines
def test_real_configs() -> None:
    """Every config.json of the engines is valid."""
    found = {path.name: spec.check(json.loads(path.read_bytes())) for path in CONFIGS}
    assert {name: list_ for name, list_ in found.items() if list_} == {}
    assert len(found) > 90


@needs_engines
def test_real_processes_and_updates() -> None:
    """P21, C26: process.json of exec, resources of update."""
    for path in ENGINES.glob("*.process.json"):
        assert spec.check_process(json.loads(path.read_bytes())) == [], path
    for path in ENGINES.glob("*.update-resources.jsonl"):
        for line in path.read_bytes().splitlines():
            assert spec.check_resources(json.loads(line)) == [], path


@pytest.mark.parametrize("rootless", [False, True])
def test_default_is_what_runc_writes(tmp_path: Path, rootless: bool) -> None:
    runc = shutil.which("runc")
    if not runc:
        pytest.skip("no runc to compare with")
    subprocess.run([runc, "spec", *["--rootless"][: int(rootless)]], cwd=tmp_path, check=True)
    written = json.loads((tmp_path / "config.json").read_bytes())
    made = spec.default(rootless)
    assert made["ociVersion"] == spec.VERSION
    assert {**written, "ociVersion": spec.VERSION} == made


def test_default_rootless_maps_the_user() -> None:
    config = spec.default(rootless=True, uid=1000, gid=100)
    assert config["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 1000, "size": 1}]
    assert config["linux"]["gidMappings"] == [{"containerID": 0, "hostID": 100, "size": 1}]
    assert spec.check(config) == []


VALID = [
    ("/process", ABSENT),  # L05
    ("/unknown", {"anything": None}),  # L23
    ("/linux/unknown", [1.5]),
    ("/ociVersion", "1.99.7-rc.1+build.5"),  # L02
    ("/mounts/0/destination", "relative"),  # M04
    ("/process/capabilities/bounding", ["CAP_OF_TOMORROW"]),  # P10
    ("/process/args", ["sh", "-c", "two\nlines"]),
    ("/process/env", ["A=", "B=x=y", "C=two\nlines"]),
    ("/process/consoleSize", {"height": 0, "width": 200}),
    ("/process/user", {"uid": 0xFFFFFFFE, "gid": 0, "umask": 0o777, "additionalGids": []}),
    ("/process/rlimits", [{"type": "RLIMIT_CPU", "soft": 0, "hard": 2**64 - 1}]),
    ("/process/scheduler", {"policy": "SCHED_FIFO", "priority": 99, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
    ("/process/scheduler", {"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "period": 2}),
    ("/process/ioPriority", {"class": "IOPRIO_CLASS_IDLE"}),
    ("/process/execCPUAffinity", {"initial": "0-3, 7", "final": ""}),
    ("/linux/resources/pids", {"limit": 0}),  # C19
    ("/linux/resources/blockIO", {"weight": 0}),
    ("/linux/resources/cpu", {"quota": 1000, "burst": 1000, "cpus": "0-3,8", "idle": 1}),
    ("/linux/resources/unified", {"io.max": "8:0 rbps=1\n8:16 rbps=1", "memory.high": "max"}),
    ("/linux/resources/rdma", {"mlx5_1": {"hcaHandles": 3}}),
    ("/linux/resources/hugepageLimits", [{"pageSize": "2MB", "limit": 0}]),
    ("/linux/cgroupsPath", "system.slice:docker:0123"),
    ("/linux/cgroupsPath", "/kube.slice/a\\x2db/..c"),
    ("/linux/rootfsPropagation", "rslave"),
    ("/linux/netDevices", {"eth0": {}, "eth1": {"name": "veth%d"}}),
    ("/linux/intelRdt", {"closID": "/", "schemata": ["L3:0=ff"], "enableMonitoring": True}),
    ("/linux/memoryPolicy", {"mode": "MPOL_BIND", "nodes": "0-1,3", "flags": ["MPOL_F_STATIC_NODES"]}),
    ("/linux/memoryPolicy", {"mode": "MPOL_LOCAL"}),
    ("/linux/personality", {"domain": "LINUX32", "flags": []}),
    ("/linux/sysctl", {"net.ipv4.ip_forward": "1", "net/ipv4/conf/eth0.100/forwarding": "1", "kernel.sem": "1 2"}),
    ("/linux/sysctl", {"kernel.domainname": "x"}),
    ("/linux/devices", [{"type": "p", "path": "/dev/x"}, {"type": "b", "path": "/x", "major": 0, "minor": 1048575}]),
    ("/linux/seccomp", {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38}),
    ("/hooks", {"prestart": [{"path": "/bin/x", "args": [], "timeout": 1}], "poststop": []}),
    ("/annotations", {"a": "", "org.opencontainers.image.stopSignal": "SIGINT"}),  # A01
]


@pytest.mark.parametrize(("pointer", "value"), VALID)
def test_valid(pointer: str, value: Any) -> None:
    assert faults(pointer, value) == {}


# -- what does not ---------------------------------------------------------------------------

INVALID = [
    # place, value, where the fault is ("": the same place), words of the message
    ("/ociVersion", ABSENT, "", "is required"),  # L02
    *[("/ociVersion", v, "", "SemVer") for v in ("", "1", "1.0", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.0-01", "v1.0.0")],
    *[("/ociVersion", v, "", "SemVer") for v in (f"1.{'9' * 5000}.0", f"1.0.{'9' * 21}", "1.\u00b2.0")],
    ("/ociVersion", "2.0.0", "", "only versions 1.x"),
    ("/ociVersion", "1.0.0\n", "", "SemVer"),
    ("/ociVersion", 1.0, "", "must be a string"),
    ("/root", ABSENT, "", "is required"),  # M01
    ("/root/path", ABSENT, "", "is required"),
    ("/root/path", "", "", "must not be empty"),
    ("/root/readonly", 1, "", "true or false, not an integer"),
    ("/hostname", "x" * 65, "", "64 bytes"),
    ("/hostname", "é" * 33, "", "64 bytes"),
    ("/hostname", "a\nb", "", "control characters"),
    ("/hostname", None, "", "not null"),
    ("/process/cwd", ABSENT, "", "is required"),  # P03
    ("/process/cwd", "tmp", "", "absolute"),
    ("/process/cwd", "/a\0b", "", "NUL"),
    ("/process/args", ABSENT, "", "is required"),  # P05
    ("/process/args", [], "", "at least one"),
    ("/process/args/0", "a\0", "", "NUL"),
    ("/process/args/0", 1, "", "args[0] must be a string, not an integer"),
    ("/process/args", "sh", "", "an array, not a string"),
    ("/process/env/0", "PATH", "", "NAME=value"),
    ("/process/env/0", "=x", "", "NAME=value"),
    ("/process/env/0", "A\nB=x", "", "control"),
    ("/process/env/0", "A=\0", "", "NUL"),
    ("/process/terminal", "true", "", "true or false"),
    ("/process/consoleSize", {"height": 65536, "width": 1}, "/process/consoleSize/height", "65535"),  # P02
    ("/process/user/uid", ABSENT, "", "is required"),  # P17
    ("/process/user/uid", True, "", "not true"),
    ("/process/user/uid", 1.0, "", "not a number with a fraction"),
    ("/process/user/uid", "0", "", "not a string"),
    ("/process/user/uid", -1, "", "0..4294967294"),
    ("/process/user/uid", 2**32 - 1, "", "0..4294967294"),  # -1 to the kernel
    ("/process/user/umask", 0o1000, "", "0..511"),
    ("/process/user/additionalGids", [0, -1], "/process/user/additionalGids/1", "0..4294967294"),
    ("/process/user/additionalGids", [0] * 65537, "", "at most 65536"),
    ("/process/rlimits/0/type", "RLIMIT_FOO", "", "none of its 16 values"),  # P06
    ("/process/rlimits/0/soft", 1025, "", "above the hard limit, 1024"),
    ("/process/rlimits/0/hard", 2**64, "", "must be in 0..18446744073709551615"),
    ("/process/rlimits/0/hard", 10**100, "", "not a number that large"),
    ("/process/rlimits", [{"type": "RLIMIT_AS", "soft": 0, "hard": 0}] * 2, "/process/rlimits/1/type", "twice"),  # P07
    ("/process/capabilities", ["CAP_KILL"], "", "an object, not an array"),
    ("/process/capabilities/ambient", [None], "/process/capabilities/ambient/0", "not null"),
    ("/process/oomScoreAdj", 1001, "", "-1000..1000"),
    ("/process/scheduler", {"policy": "SCHED_FAST"}, "/process/scheduler/policy", "must be one of SCHED_OTHER"),  # P13
    ("/process/scheduler", {"policy": "SCHED_OTHER", "priority": 1}, "/process/scheduler/priority", "not SCHED_OTHER"),
    ("/process/scheduler", {"policy": "SCHED_FIFO", "period": 1}, "/process/scheduler/period", "SCHED_DEADLINE"),
    ("/process/ioPriority", {"class": "IOPRIO_CLASS_RT", "priority": 8}, "/process/ioPriority/priority", "0..7"),
    ("/process/execCPUAffinity", {"final": "3-1"}, "/process/execCPUAffinity/final", "like 0-3,7"),
    ("/process/execCPUAffinity", {"initial": "0,"}, "/process/execCPUAffinity/initial", "like 0-3,7"),
    ("/mounts/1/destination", ABSENT, "", "is required"),
    ("/mounts/1/options", "ro", "", "an array, not a string"),
    ("/mounts/1/options/0", "a\nb", "", "newline"),
    ("/mounts/1/uidMappings", [], "/mounts/1/gidMappings", "together with uidMappings"),  # M12
    ("/mounts/1/options", ["ridmap"], "/mounts/1", "no mappings"),
    ("/mounts/0", {"destination": "/x", "options": ["bind"]}, "/mounts/0/source", "of a bind mount"),  # M05
    ("/hooks", {"poststop": [{"path": "x"}]}, "/hooks/poststop/0/path", "absolute"),  # H03
    ("/hooks", {"poststop": [{"path": "/x", "timeout": 0}]}, "/hooks/poststop/0/timeout", "in 1..2147483647"),  # H04
    ("/hooks", {"poststop": [{"path": "/x", "env": ["A"]}]}, "/hooks/poststop/0/env/0", "NAME=value"),
    ("/annotations", {"": "x"}, "/annotations/", "empty name"),  # A01
    ("/annotations", {"a/b~": 1}, "/annotations/a~1b~0", "a string, not an integer"),
    ("/linux/namespaces", [{"type": "net"}], "/linux/namespaces/0/type", "must be one of"),
    ("/linux/namespaces/1", {"type": "pid"}, "/linux/namespaces/1/type", "twice"),  # N04
    ("/linux/namespaces/1/path", "proc/1/ns/net", "", "absolute"),  # N02
    ("/linux/namespaces/1/path", "", "", "must not be empty"),
    ("/linux/namespaces/3", ABSENT, "/hostname", "needs a uts namespace"),  # P19
    ("/linux/namespaces/4", ABSENT, "/linux/maskedPaths", "needs a mount namespace"),
    ("/linux/uidMappings", [{"containerID": 0, "hostID": 0, "size": 1}], "", "needs a user namespace"),
    ("/linux/uidMappings", [{"containerID": 0, "hostID": 0, "size": 0}], "/linux/uidMappings/0/size", "in 1.."),
    (
        "/linux/uidMappings",
        [{"containerID": 1, "hostID": 0, "size": 2**32 - 1}],
        "/linux/uidMappings/0/size",
        "above 4294967295",
    ),
    (
        "/linux/gidMappings",
        [{"containerID": 5, "hostID": 0, "size": 2}, {"containerID": 0, "hostID": 9, "size": 6}],
        "/linux/gidMappings/0/containerID",
        "overlaps",
    ),
    ("/linux/gidMappings", [{"containerID": 5, "hostID": 0, "size": 1}] * 341, "", "at most 340"),
    ("/linux/timeOffsets", {"boottime": {"secs": 1}}, "", "needs a time namespace"),  # N07
    ("/linux/timeOffsets", {"realtime": {"secs": 1}}, "/linux/timeOffsets/realtime", "boottime, monotonic"),
    ("/linux/timeOffsets", {"boottime": {"nanosecs": 10**9}}, "/linux/timeOffsets/boottime/nanosecs", "0..999999999"),
    ("/linux/devices", [{"type": "c", "path": "/x", "major": 1}], "/linux/devices/0/minor", "is required"),  # D01
    ("/linux/devices", [{"type": "p", "path": "x"}], "/linux/devices/0/path", "absolute"),
    ("/linux/devices", [{"type": "c", "path": "/x", "major": 4096, "minor": 0}], "/linux/devices/0/major", "0..4095"),
    ("/linux/netDevices", {"eth0": {"name": "a/b"}}, "/linux/netDevices/eth0/name", "network interface"),
    ("/linux/netDevices", {"x" * 16: {}}, "/linux/netDevices/" + "x" * 16, "network interface"),
    ("/linux/netDevices", {"a": {"name": "b"}, "b": {}}, "/linux/netDevices/b/name", "twice"),  # X02
    *[("/linux/cgroupsPath", v, "", "must") for v in ("/..", "/a/../b", "a\nb", "a b", "$(id)", "a\0", "é")],  # C01
    ("/linux/resources/devices/0/allow", ABSENT, "", "is required"),
    ("/linux/resources/devices/0/access", "rx", "", "r, w, m"),
    ("/linux/resources/devices/0/access", "", "", "r, w, m"),
    ("/linux/resources/devices/0/type", "p", "", "must be one of a, c, b"),
    ("/linux/resources/memory", {"limit": -2}, "/linux/resources/memory/limit", "-1.."),
    ("/linux/resources/memory", {"limit": 2**63}, "/linux/resources/memory/limit", "-1.."),
    ("/linux/resources/memory", {"swappiness": 101}, "/linux/resources/memory/swappiness", "0..100"),
    ("/linux/resources/cpu", {"quota": 9, "burst": 10}, "/linux/resources/cpu/burst", "above the quota, 9"),  # C10
    ("/linux/resources/cpu", {"burst": 10}, "/linux/resources/cpu/burst", "cpu.quota above 0"),
    ("/linux/resources/cpu", {"quota": -1, "burst": 1}, "/linux/resources/cpu/burst", "above the quota, -1"),
    ("/linux/resources/blockIO", {"weight": 9}, "/linux/resources/blockIO/weight", "10..1000"),
    ("/linux/resources", {"hugepageLimits": [{"pageSize": "2 MB", "limit": 0}]},
     "/linux/resources/hugepageLimits/0/pageSize", "2MB"),
    ("/linux/resources/rdma", {"mlx5_1": {}}, "/linux/resources/rdma/mlx5_1", "hcaHandles, hcaObjects"),  # C20
    ("/linux/resources/unified", {"../x.y": ""}, "/linux/resources/unified/..~1x.y", "cgroup file"),  # C21
    ("/linux/resources/unified", {"memory": ""}, "/linux/resources/unified/memory", "cgroup file"),
    ("/linux/resources/pids", {"limit": -2}, "/linux/resources/pids/limit", "-1.."),
    ("/linux/intelRdt", {"closID": "../x"}, "/linux/intelRdt/closID", "name of a directory"),  # Z05
    ("/linux/memoryPolicy", {"mode": "MPOL_BIND"}, "/linux/memoryPolicy/nodes", "required with MPOL_BIND"),  # Z04
    ("/linux/memoryPolicy", {"mode": "MPOL_LOCAL", "nodes": "0"}, "/linux/memoryPolicy/nodes", "not be set with"),
    (
        "/linux/memoryPolicy",
        {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]},
        "/linux/memoryPolicy/flags",
        "both",
    ),
    ("/linux/personality", {"domain": "LINUX", "flags": ["X"]}, "/linux/personality/flags", "must be empty"),  # Z03
    ("/linux/sysctl", {"net..x": "1"}, "/linux/sysctl/net..x", "name of a sysctl"),  # Z01
    ("/linux/sysctl", {"net/../kernel/x": "1"}, "/linux/sysctl/net~1..~1kernel~1x", "name of a sysctl"),
    ("/linux/sysctl", {"net.x": "1\n"}, "/linux/sysctl/net.x", "control"),
    ("/linux/sysctl", {"kernel.core_pattern": "|x"}, "/linux/sysctl/kernel.core_pattern", "not in a namespace"),
    ("/linux/sysctl", {"kernel/hostname": "x"}, "/linux/sysctl/kernel~1hostname", "set by hostname"),
    ("/linux/maskedPaths", ["proc"], "/linux/maskedPaths/0", "absolute"),  # M19
    ("/linux/rootfsPropagation", "slaves", "", "must be one of"),  # M18
    ("/linux/mountLabel", "a\nb", "", "control"),
]  # fmt: skip


@pytest.mark.parametrize(("pointer", "value", "where", "words"), INVALID)
def test_invalid(pointer: str, value: Any, where: str, words: str) -> None:
    """L24: one fault, at the place, that says what is wrong."""
    found = faults(pointer, value)
    place = where or pointer
    assert place in found
    assert words in found[place].message
    assert all(fault.message.isprintable() and len(fault.message) < 300 for fault in found.values())


NOTIFY = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}
SECCOMP = [
    ({}, "/defaultAction"),  # S01
    ({"defaultAction": "SCMP_ACT_NO"}, "/defaultAction"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}, "/defaultErrnoRet"),  # S02
    ({"defaultAction": "SCMP_ACT_KILL", "syscalls": [{"names": ["x"], "action": "SCMP_ACT_LOG", "errnoRet": 1}]},
     "/syscalls/0/errnoRet"),  # S02
    ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 65536}, "/defaultErrnoRet"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86", "x86"]}, "/architectures/1"),  # S03
    ({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NEW_LISTENER"]}, "/flags/0"),  # S04
    ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_LOG"}]}, "/syscalls/0/names"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["x"], "action": "SCMP_ACT_LOG", "args":
        [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]}, "/syscalls/0/args/0/index"),  # S05
    (NOTIFY, "/listenerPath"),  # S06
    ({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}, "/listenerMetadata"),  # S07
    ({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/x"}, "/defaultAction"),  # S08
    ({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x", "syscalls":
        [{"names": ["write"], "action": "SCMP_ACT_NOTIFY"}]}, "/syscalls/0/names"),  # S08
]  # fmt: skip


@pytest.mark.parametrize(("profile", "where"), SECCOMP)
def test_invalid_seccomp(profile: Any, where: str) -> None:
    """S01-S08."""
    assert where in [fault.where for fault in spec.check_seccomp(profile)]
    assert "/linux/seccomp" + where in faults("/linux/seccomp", profile)


def test_notify_with_a_listener() -> None:
    """S06."""
    assert spec.check_seccomp({**NOTIFY, "listenerPath": "/run/agent", "listenerMetadata": "x"}) == []


@pytest.mark.parametrize("value", [None, [], "x", 1, True])
def test_not_an_object(value: Any) -> None:
    assert [fault.where for fault in spec.check(value)] == [""]
    assert [fault.where for fault in spec.check_process(value)] == [""]


@pytest.mark.parametrize(
    ("pointer", "value", "where", "hint"),
    [
        ("/process/rlimits/0/type", "rlimit_nofiles", "", "did you mean RLIMIT_NOFILE?"),
        ("/linux/namespaces/1/type", "networks", "", "did you mean network?"),
        ("/process/cwd", "tmp", "", "write /tmp"),
        ("/process/user/uid", "10", "", "write 10 without quotes"),
        ("/process/user/uid", 3.0, "", "write 3"),
        ("/process/user/uid", None, "", "leave it out"),
        ("/process/env/0", "A", "", "write A= for an empty value"),
        ("/mounts/1", {"destnation": "/x"}, "/mounts/1/destination", "'destnation' is not known"),
    ],
)
def test_hints(pointer: str, value: Any, where: str, hint: str) -> None:
    assert hint.replace("A=", "NAME=") in faults(pointer, value)[where or pointer].hint


def test_netdevices_need_a_namespace() -> None:
    config = changed(spec.default(), "/linux/netDevices", {"eth9": {}})
    config["linux"]["namespaces"].pop(1)
    assert [fault.where for fault in spec.check(config)] == ["/linux/netDevices"]


def test_offsets_of_a_joined_time_namespace() -> None:
    """N07."""
    config = changed(spec.default(), "/linux/timeOffsets", {"monotonic": {"secs": -5}})
    config["linux"]["namespaces"].append({"type": "time"})
    assert spec.check(config) == []
    config["linux"]["namespaces"][-1]["path"] = "/proc/1/ns/time"
    assert [fault.where for fault in spec.check(config)] == ["/linux/timeOffsets"]


def test_idmap_with_the_mappings_of_the_container() -> None:
    """M12."""
    config = changed(spec.default(rootless=True), "/mounts/1/options", ["idmap"])
    assert spec.check(config) == []


def test_all_faults_at_once_and_the_config_unchanged() -> None:
    config = changed(changed(spec.default(), "/hostname", 1), "/process/cwd", "x")
    before = copy.deepcopy(config)
    assert [fault.where for fault in spec.check(config)] == ["/process/cwd", "/hostname"]
    assert config == before


def test_validate_raises_the_first_and_keeps_all() -> None:
    with pytest.raises(errors.InvalidConfig) as caught:
        spec.validate({"process": {}})
    assert caught.value.where == caught.value.faults[0].where == "/process/cwd"
    assert len(caught.value.faults) == 4
    assert "cwd is required (and 3 more faults" in str(caught.value)
    spec.validate(spec.default())
    with pytest.raises(errors.InvalidConfig):
        spec.validate_process({})


def test_a_hostile_config_has_bounded_faults() -> None:
    """SECURITY.md class 17."""
    config = changed(spec.default(), "/mounts", [0] * 1_000_000)
    assert len(spec.check(config)) == 100
    config = changed(spec.default(), "/annotations", dict.fromkeys(map(str, range(100_000)), 0))
    assert len(spec.check(config)) == 100


def test_pointer() -> None:
    assert spec.pointer("linux", "sysctl", "a/b~c", 3) == "/linux/sysctl/a~1b~0c/3"
    assert spec.pointer() == ""


# -- ids -------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["a", "0", "_a-b.c+d", "...", "a" * 1024, "-x"])
def test_good_id(id: str) -> None:
    spec.check_id(id)


@pytest.mark.parametrize("id", ["", ".", "..", "a/b", "../x", "a b", "a\n", "a\0", "é", "$(id)", "a:b", "a" * 1025])
def test_bad_id(id: str) -> None:
    """L03."""
    with pytest.raises(errors.InvalidConfig) as caught:
        spec.check_id(id)
    assert str(caught.value).isprintable()


# -- anything --------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
PLACES = [row[0] for row in (*VALID, *INVALID)]


@given(st.sampled_from(PLACES), JSON)
def test_anything_anywhere_is_an_answer(pointer: str, value: Any) -> None:
    """Never a traceback, whatever stands where."""
    for fault in spec.check(changed(spec.default(), pointer, value)):
        assert fault.where.startswith("/")
        assert fault.message.isprintable()


@pytest.mark.parametrize(
    ("word", "known", "wanted"),
    [
        ("NOFILE", ("RLIMIT_NOFILE", "RLIMIT_NPROC"), "RLIMIT_NOFILE"),
        ("net", ("network", "mount"), "network"),
        ("mnt", ("network", "mount"), "mount"),
        ("EQ", ("SCMP_CMP_MASKED_EQ", "SCMP_CMP_EQ"), "SCMP_CMP_EQ"),
        ("SCMP_ACT_ALOW", ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG"), "SCMP_ACT_ALLOW"),
        ("x", ("x86", "network"), ""),
        ("zebra", ("network", "mount"), ""),
    ],
)
def test_what_was_meant(word: str, known: tuple[str, ...], wanted: str) -> None:
    assert spec_words.closest(word, known) == wanted


def test_rules_between_parts_are_asked_though_others_are_wrong() -> None:
    """L24 L29: every fault at once, each at its own place."""
    config = spec.default()
    linux = config["linux"]
    at = len(linux["namespaces"])
    linux["namespaces"] += [{"type": "nosuch"}, {"type": "user", "path": "rel"}, {}, {"type": "pid"}]
    linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "defaultErrnoRet": 1,
        "listenerMetadata": "m",
        "flags": ["nosuch"],
        "syscalls": [{"names": []}, {"names": ["write"], "action": "SCMP_ACT_NOTIFY", "args": [{"index": 9}]}],
    }
    linux["resources"] = {"cpu": {"burst": 5, "quota": 4, "idle": 9}}
    config["process"]["rlimits"] = [{"type": "nosuch"}, *({"type": "RLIMIT_AS", "soft": 1, "hard": 1} for _ in "ab")]
    config["mounts"] += [{"destination": 5}, {"destination": "/m", "options": ["idmap"], "type": "tmpfs"}]
    last = len(config["mounts"]) - 1
    found = [fault.where for fault in spec.check(config)]
    assert len(found) == len(set(found))
    assert {
        f"/linux/namespaces/{at + 3}/type",
        "/linux/seccomp/defaultErrnoRet",
        "/linux/seccomp/listenerMetadata",
        "/linux/seccomp/syscalls/1/names",
        "/linux/resources/cpu/burst",
        "/process/rlimits/2/type",
        f"/mounts/{last}",
    } <= set(found)
