"""The systemd driver's decisions: scopes, slices, properties; no systemd is asked here. C03 C25."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyoci import errors
from pyoci.plan import cgroup, gvariant, make, systemd, verbs
from pyoci.plan.facts import Facts
from pyoci.plan.options import Options

USER_ROOT = "/user.slice/user-7.slice/user@7.service"


def facts(**more: Any) -> Facts:
    return Facts(
        cgroup_mode="unified",
        cgroup_unified="/cg",
        cgroup_own={"": "/system.slice/x.service"},
        cgroup_controllers=("cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"),
        **more,
    )


def plan(path: str | None = "a-b.slice:p:c", resources: dict[str, Any] | None = None, **more: Any) -> cgroup.CgroupPlan:
    linux: dict[str, Any] = {"resources": resources or {}}
    if path is not None:
        linux["cgroupsPath"] = path
    config = {"linux": linux, "annotations": more.pop("annotations", {})}
    made = cgroup.make(config, facts(**more), Options("c1", "/b", cgroup_manager="systemd"))
    assert made
    assert made.unit
    return made


def properties(**more: Any) -> dict[str, Any]:
    unit = plan(**more).unit
    assert unit
    return unit.properties


# -- where --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "below", "unit"),
    [
        ("system.slice:docker:0123ab", "/system.slice", "docker-0123ab.scope"),
        ("a-b-c.slice:p:c", "/a.slice/a-b.slice/a-b-c.slice", "p-c.scope"),
        ("-.slice:p:c", "", "p-c.scope"),
        ("machine.slice::c", "/machine.slice", "c.scope"),
        (":p:c", "/system.slice", "p-c.scope"),
        (None, "/system.slice", "pyoci-c1.scope"),
    ],
)
def test_scope_in_its_slice(path: str | None, below: str, unit: str) -> None:
    made = plan(path)
    assert made.unit
    assert made.unit.name == unit
    assert made.path == f"{below}/{unit}"
    assert made.dirs == {"": f"/cg{below}/{unit}"}
    assert not made.unit.user
    assert "systemd" not in made.record  # systemd has made nothing yet
    assert not made.optional


@pytest.mark.parametrize("who", [{"euid": 7}, {"userns": True}], ids=["euid", "userns"])
def test_without_root_rights_the_users_systemd_is_asked(who: dict[str, Any]) -> None:
    made = plan(None, systemd_root=USER_ROOT, **who)
    assert made.path == f"{USER_ROOT}/user.slice/pyoci-c1.scope"
    assert made.unit
    assert made.unit.user


@pytest.mark.parametrize("mode", ["legacy", "hybrid"])
def test_an_ordinary_user_on_v1(mode: str) -> None:
    """Nothing can be delegated there."""
    v1 = Facts(cgroup_mode=mode, euid=7)
    with pytest.raises(errors.InvalidConfig, match="no cgroups on cgroup v1"):
        systemd.make({"linux": {}}, v1, "c1")


@pytest.mark.parametrize(
    "path",
    [
        *("/a/b", "a:b", "a.slice:b:c:d", "a:p:c", "-a.slice:p:c", "a--b.slice:p:c", "a/b.slice:p:c", ".slice:p:c"),
        *("a.slice:p:", "a.slice:p:b.slice", "a.slice:p/..:c", f"a.slice:p:{'c' * 250}", "../x.slice:p:c"),
    ],
)
def test_what_is_no_unit_is_refused(path: str) -> None:
    with pytest.raises(errors.InvalidConfig) as caught:
        plan(path)
    assert caught.value.where == "/linux/cgroupsPath"


def test_init_enters_no_cgroup_that_is_not_there_yet() -> None:
    """systemd moves it, when it has been forked."""
    config = {
        "root": {"path": "/r"},
        "linux": {"cgroupsPath": "a.slice:p:c", "namespaces": [{"type": "pid"}, {"type": "mount"}]},
    }
    names = [op.name for op in make(config, facts(), Options("c1", "/b", cgroup_manager="systemd")).ops]
    assert "enter" not in names
    assert "fork" in names


def test_delete_is_left_to_python() -> None:
    """The scope is systemd's to end."""
    scope = {**plan().record, "systemd": {"unit": "x.scope", "user": False}}
    record = {"pid": 1, "start": 1, "process": True, "hooks": {}, "cgroup": scope}
    document = {"ociVersion": "1.0.0", "id": "c1", "status": "stopped", "pid": 0}
    made = [op.num("verb") for op in verbs.make(record, document, ()) if op.name == "verb"]
    assert verbs.VERBS["delete"] not in made
    assert verbs.VERBS["kill"] in made


# -- properties -----------------------------------------------------------------------------------


def test_what_is_written_is_told() -> None:
    made = properties(resources={"memory": {"limit": 1 << 20}, "cpu": {"shares": 1024}})
    assert (made["MemoryMax"], made["CPUWeight"], made["Delegate"]) == (("t", 1 << 20), ("t", 100), ("b", True))


def test_values_are_written_into_the_files_as_well() -> None:
    """What systemd rounds or does not know."""
    writes = {w.file: w.value for w in plan(resources={"cpu": {"quota": 33333}, "pids": {"limit": 0}}).writes}
    assert writes["/cg/a.slice/a-b.slice/p-c.scope/cpu.max"] == "33333 100000"
    assert writes["/cg/a.slice/a-b.slice/p-c.scope/pids.max"] == "0"


# -- annotations (C25) ----------------------------------------------------------------------------


def annotated(name: str, text: str) -> dict[str, Any]:
    return systemd.annotated({"org.systemd.property." + name: text, "other": "x"})


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("TimeoutStopUSec", "uint64 5", {"TimeoutStopUSec": ("t", 5)}),
        ("TimeoutStopSec", "1.5", {"TimeoutStopUSec": ("t", 1500000)}),
        ("TimeoutStopSec", "uint64 3", {"TimeoutStopUSec": ("t", 3000000)}),
        ("CollectMode", "'inactive'", {"CollectMode": ("s", "inactive")}),
        ("Requires", "['a.service', 'b.service']", {"Requires": ("as", ["a.service", "b.service"])}),
        ("DeviceAllow", "@a(ss) []", {"DeviceAllow": ("a(ss)", [])}),
    ],
)
def test_annotation(name: str, text: str, expected: dict[str, Any]) -> None:
    assert annotated(name, text) == expected


def test_annotations_win() -> None:
    annotations = {"org.systemd.property.CollectMode": "'inactive'", "org.systemd.property.TasksMax": "uint64 7"}
    made = properties(annotations=annotations, resources={"pids": {"limit": 5}})
    assert (made["CollectMode"], made["TasksMax"]) == (("s", "inactive"), ("t", 7))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *[("X", text) for text in ("", "text", "uint64 -1", "[]", "1 2", "'a", "byte 256", "@zz 1", "\\", "<", "()")],
        *[(name, "true") for name in ("", "lower", "A b", "PIDs", "Slice", "Delegate", "Ä", "A/B")],
        ("TimeoutStopSec", "'x'"),
        ("TimeoutStopSec", "-1"),
        *[("X", text) for text in ("9" * 5000, "double 0x" + "f" * 300, "double " + "9" * 5000)],
    ],
)
def test_annotation_that_means_nothing_is_refused(name: str, text: str) -> None:
    with pytest.raises(errors.InvalidConfig) as caught:
        annotated(name, text)
    assert caught.value.where.startswith("/annotations/org.systemd.property.")


@pytest.mark.parametrize(
    ("text", "signature", "value"),
    [
        ("true", "b", True),
        ("-7", "i", -7),
        ("0x1F", "i", 31),
        ("017", "i", 15),
        ("1e3", "d", 1000.0),
        ("double 1", "d", 1.0),
        ("byte 255", "y", 255),
        ("int64 -9223372036854775808", "x", -(2**63)),
        (r"'it\'s \u00e4\n'", "s", "it's ä\n"),
        ('"x"', "s", "x"),
        ("objectpath '/a'", "o", "/a"),
        ("b'ab'", "ay", b"ab\0"),
        ("[byte 1, 2]", "ay", b"\1\2"),
        ("@at [1, 2]", "at", [1, 2]),
        ("('a', uint32 1)", "(su)", ("a", 1)),
        ("@(sa{sv}) ('a', {})", "(sa{sv})", ("a", {})),
        ("{'a': <1>, 'b': <'c'>}", "a{sv}", {"a": ("i", 1), "b": ("s", "c")}),
        ("<<true>>", "v", ("v", ("b", True))),
    ],
)
def test_gvariant(text: str, signature: str, value: Any) -> None:
    assert gvariant.parse(text) == (signature, value)


@given(st.text(alphabet="@<>(){}[]'\"\\,: abstuv01.-xint64 ", max_size=40) | st.text(max_size=20))
def test_gvariant_never_falls_over(text: str) -> None:
    try:
        signature, _ = gvariant.parse(text)
    except ValueError:
        return
    assert len(gvariant.split(signature)) == 1


def test_gvariant_nests_to_a_bound() -> None:
    with pytest.raises(ValueError, match="nested"):
        gvariant.parse("[" * 5000 + "1" + "]" * 5000)
    with pytest.raises(ValueError, match="type"):
        gvariant.parse("@" + "a" * 5000 + "s []")
