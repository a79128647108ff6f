"""Namespaces on paper: rows N01 to N09, P19, P20, Z01."""

from __future__ import annotations

from typing import Any

import pytest

from pyoci import errors, linux, plan, spec_cross
from pyoci.plan import ops, sysctl
from pyoci.plan.options import Target
from tests import golden
from tests.unit.planning import config, find, index, make, names, namespaces, one, refused, user_namespace

MAPPING = [{"containerID": 0, "hostID": 1000, "size": 1}]


def test_n01_n03_all_eight_new() -> None:
    made = make(linux=user_namespace("cgroup", "time"))
    created = [op.num("namespaces") for op in find(made, "unshare")]
    kinds = linux.NAMESPACES
    rest = sum(kinds[k] for k in ("pid", "network", "ipc", "uts", "mount", "time"))
    assert created == [kinds["mount"], kinds["user"], rest, kinds["cgroup"]]
    assert made.namespaces == dict.fromkeys(kinds, "")
    assert not find(made, "join")


def test_n03_absent_types_are_inherited() -> None:
    made = make(linux={"namespaces": []}, options=golden.options(cgroup_manager="disabled"))
    assert not {"unshare", "join", "fork"} & set(names(made))


@pytest.mark.parametrize(("kind", "forks"), [(k, k in ("pid", "time")) for k in linux.NAMESPACES if k != "user"])
def test_n02_join(kind: str, forks: bool) -> None:
    disabled = golden.options(cgroup_manager="disabled")
    made = make(linux={"namespaces": [{"type": kind, "path": "/run/ns"}]}, options=disabled)
    op = one(made, "join")
    assert (op.num("kind"), op.string("path"), op.where) == (linux.NAMESPACES[kind], b"/run/ns", "/linux/namespaces/0")
    assert made.fds[op.num("fd")] == f"ns:{kind}:/run/ns"
    assert ("fork" in names(made)) == forks


def test_n02_joins_are_one_group_that_ends_with_the_user_namespace() -> None:
    paths = {kind: f"/ns/{kind}" for kind in linux.NAMESPACES}
    made = make(linux={"namespaces": [{"type": kind, "path": path} for kind, path in paths.items()]})
    first = index(made, "join")
    joined = [op.string("path").decode() for op in made.ops[first : first + 8]]
    assert joined[-2:] == ["/ns/mount", "/ns/user"]
    assert sorted(joined) == sorted(paths.values())
    assert names(made)[first + 8 :][:2] == ["setids", "fork"]


def test_n04_duplicates() -> None:
    refused(config(linux={"namespaces": namespaces("pid")}), "/linux/namespaces/5/type")
    refused(config(linux={"namespaces": [{"type": "x"}]}), "/linux/namespaces/0/type")


def test_n05_several_mappings() -> None:
    mappings = [*MAPPING, {"containerID": 1, "hostID": 100000, "size": 65535}]
    made = make(linux=user_namespace() | {"uidMappings": mappings})
    assert made.uid_map == "0 1000 1\n1 100000 65535\n"
    assert made.gid_map == "0 100000 65536\n"
    begin = index(made, "sync")
    assert names(made)[begin - 1 : begin + 4] == ["unshare", "sync", "setids", "unshare", "fork"]
    assert made.ops[begin].num("sync") == ops.SYNC_MAPS


def test_n05_root_of_the_namespace_only_where_there_is_one() -> None:
    mappings = [{"containerID": 5, "hostID": 5, "size": 1}]
    linux_part = user_namespace() | {"uidMappings": mappings}
    made = make(linux=linux_part, process={"user": {"uid": 5, "gid": 0}})
    op = find(made, "setids")[0]
    assert (op.num("uid"), op.num("gid"), op.num("flags")) == (ops.UNCHANGED, 0, 0)


@pytest.mark.parametrize("key", ["uidMappings", "gidMappings"])
def test_n05_mappings_and_namespace_belong_together(key: str) -> None:
    refused(config(linux={key: MAPPING}), f"/linux/{key}")
    refused(config(linux=user_namespace() | {key: []}), f"/linux/{key}")


@pytest.mark.parametrize(
    ("user", "where"),
    [
        ({"uid": 65536, "gid": 0}, "uid"),
        ({"uid": 0, "gid": 65536}, "gid"),
        ({"uid": 0, "gid": 0, "additionalGids": [1, 70000]}, "additionalGids/1"),
    ],
)
def test_n05_ids_of_the_process_are_mapped(user: dict[str, Any], where: str) -> None:
    refused(config(linux=user_namespace(), process={"user": user}), f"/process/user/{where}")


def test_n07_time_offsets() -> None:
    offsets = {"monotonic": {"secs": 5}, "boottime": {"secs": -7, "nanosecs": 9}}
    made = make(linux={"namespaces": namespaces("time"), "timeOffsets": offsets})
    assert one(made, "timens").string("offsets") == b"monotonic 5 0\nboottime -7 9\n"
    assert index(made, "unshare") < index(made, "timens") < index(made, "fork")


@pytest.mark.parametrize("more", [{}, {"time": "/proc/1/ns/time"}])
def test_n07_offsets_need_a_new_time_namespace(more: dict[str, str]) -> None:
    given = config(linux={"namespaces": namespaces(**more), "timeOffsets": {"boottime": {"secs": 1}}})
    refused(given, "/linux/timeOffsets")


def test_n08_rootless_without_user_namespace() -> None:
    error = refused(config(), "/linux/namespaces", golden.facts(euid=1000))
    assert "--rootless" in error.hint


def test_n08_rootless_in_a_user_namespace_of_the_engine() -> None:
    assert make(facts=golden.facts(userns=True)).uid_map == ""


def test_n09_a_joined_user_namespace_has_its_maps() -> None:
    given = {"namespaces": namespaces(user="/proc/7/ns/user"), "uidMappings": MAPPING, "gidMappings": MAPPING}
    made = make(linux=given, process={"user": {"uid": 77, "gid": 77}})
    assert (made.uid_map, made.gid_map) == ("", "")
    assert not [op for op in find(made, "sync") if op.num("sync") == ops.SYNC_MAPS]
    op = find(made, "setids")[0]
    assert (op.num("uid"), op.num("gid")) == (0, 0)


def test_c04_the_cgroup_namespace_is_made_in_the_cgroup() -> None:
    made = make(linux={"namespaces": namespaces("cgroup")})
    steps = [op.describe() for op in made.ops]
    assert steps.index("create namespaces: cgroup") == names(made).index("fork") + 1
    assert names(made)[0] == "enter"


def test_a_joined_cgroup_namespace_is_not_made() -> None:
    made = make(linux={"namespaces": namespaces(cgroup="/proc/7/ns/cgroup")})
    assert len(find(made, "unshare")) == 1


@pytest.mark.parametrize("key", ["hostname", "domainname"])
def test_p19_p20_names(key: str) -> None:
    made = make(config(**{key: "box"}))
    assert one(made, key).string("name") == b"box"
    given = config(linux={"namespaces": namespaces(without="uts")}, **{key: "box"})
    assert "uts" in refused(given, f"/{key}").hint
    assert key not in names(make(config(**{key: ""})))


# -- sysctl ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ("kernel.msgmax", "kernel/msgmax"),
    ],
)
def test_z01_separators(key: str, path: str) -> None:
    made = make(linux={"sysctl": {key: "1"}})
    op = one(made, "sysctl")
    assert (op.string("path"), op.string("value")) == (path.encode(), b"1")


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("net.core.somaxconn", "network"),
        ("kernel.shmmax", "ipc"),
        ("kernel.sem", "ipc"),
        ("kernel/msgmnb", "ipc"),
        ("fs.mqueue.msg_max", "ipc"),
        ("kernel.shm_next_id", "ipc"),
        ("kernel.hostname", "uts"),
        ("kernel.domainname", "uts"),
    ],
)
def test_z01_needs_its_namespace(key: str, kind: str) -> None:
    assert one(make(linux={"sysctl": {key: "1"}}), "sysctl")
    given = config(linux={"sysctl": {key: "1"}, "namespaces": namespaces(without=kind)})
    error = refused(given, "/linux/sysctl/" + key.replace("/", "~1"))
    assert kind in error.message


def test_z01_of_a_user_namespace() -> None:
    assert one(make(linux=user_namespace() | {"sysctl": {"user.max_user_namespaces": "1"}}), "sysctl")
    refused(config(linux={"sysctl": {"user.max_user_namespaces": "1"}}), "/linux/sysctl/user.max_user_namespaces")


def test_z01_the_checks_of_plan_and_spec_agree() -> None:
    keys = [key + "x" if key.endswith("/") else key for key in sysctl._OWNER]
    assert {key: spec_cross.sysctl_namespace(key) for key in keys} == {key: sysctl.owner(key) for key in keys}
    for key in ("kernel/panic", "vm/swappiness", "net", "user", "kernel/shmmax2"):
        assert (spec_cross.sysctl_namespace(key), sysctl.owner(key)) == ("", None)


@pytest.mark.parametrize("key", ["vm.swappiness", "kernel.panic", "fs.file-max", "kernel.shmmax2", "net", "kernel"])
def test_z01_the_hosts_are_refused(key: str) -> None:
    refused(config(linux={"sysctl": {key: "1"}}), f"/linux/sysctl/{key}")


@pytest.mark.parametrize(
    "key", ["net/../kernel/panic", "net..x", "net/./x", "/net/x", "net.", "", "net.a./.b", "net//x"]
)
def test_z01_no_way_out(key: str) -> None:
    with pytest.raises(errors.InvalidConfig):
        sysctl.path_of(key, "")


def test_z01_hostname_twice() -> None:
    refused(config(linux={"sysctl": {"kernel.hostname": "a"}}, hostname="b"), "/linux/sysctl/kernel.hostname")


def test_z01_after_the_hosts_hooks() -> None:
    """docker's prestart hook moves eth0 in; net.ipv4.conf.eth0.* is there only then."""
    made = make(linux={"sysctl": {"net.a": "1"}}, hooks={"prestart": [{"path": "/bin/true"}]})
    (sync,) = [op for op in find(made, "sync") if op.num("sync") == ops.SYNC_HOOKS]
    assert made.ops.index(sync) < index(made, "sysctl")


# -- network devices -------------------------------------------------------------------------


def test_x01_x03_network_devices() -> None:
    wanted: dict[str, Any] = {"eth1": {}, "eth2": {"name": "up0"}, "eth3": {"name": "in%d"}}
    hooks = {"createRuntime": [{"path": "/h"}]}
    made = make(linux={"netDevices": wanted, "sysctl": {"net.ipv4.conf.up0.forwarding": "1"}}, hooks=hooks)
    assert made.net_devices == {"eth1": "eth1", "eth2": "up0", "eth3": "in%d"}
    syncs = [op.num("sync") for op in find(made, "sync")]
    assert syncs == [ops.SYNC_DEVICES, ops.SYNC_HOOKS]
    assert index(made, "sync") < index(made, "sysctl")
    assert "wait for the host: network devices" in [op.describe() for op in made.ops]


def test_x01_a_network_namespace_is_needed() -> None:
    refused(
        config(linux={"netDevices": {"eth1": {}}, "namespaces": namespaces(without="network")}), "/linux/netDevices"
    )


def test_x06_exec_moves_nothing() -> None:
    given = config(linux={"netDevices": {"eth1": {}}})
    made = plan.make_exec(given["process"], given, Target(7, {}), golden.facts(), golden.options())
    assert (made.net_devices, find(made, "sync")) == ({}, [])
