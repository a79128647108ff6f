"""Mounts on paper: rows M03 to M17, M23, M24."""

from __future__ import annotations

from typing import Any

import pytest

from pyoci import errors, linux, plan
from pyoci.plan import criu, mountopts, ops
from pyoci.plan.options import Options, Target
from tests import golden
from tests.unit.planning import config, find, index, make, names, namespaces, on, one, refused, user_namespace

ATIME = linux.MOUNT_ATTR__ATIME
V1 = {"cpu": "/cg/cpu,cpuacct", "cpuacct": "/cg/cpu,cpuacct", "devices": "/cg/devices", "name=systemd": "/cg/systemd"}


def tmpfs(*options: str) -> ops.Op:
    """The op of a tmpfs with these options."""
    return planned({"destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": list(options)})[0]


def bind(*options: str, source: str = "/src", dest: str = "/m") -> ops.Op:
    return planned({"destination": dest, "source": source, "options": ["bind", *options]}, dest)[0]


def planned(mount: dict[str, Any], dest: str = "/m") -> list[ops.Op]:
    return on(make(mounts=[mount]), dest)


def opened(made: plan.Plan) -> list[ops.Op]:
    """The `tree` ops of /s: the devices of the host have some as well."""
    return [item for item in find(made, "tree") if item.string("source") == b"/s"]


NEW_FLAGS = {
    "ro": None,  # put off: see test_m24_read_only_tmpfs
    "rw": 0,
    "nosuid": linux.MS_NOSUID,
    "suid": 0,
    "nodev": linux.MS_NODEV,
    "dev": 0,
    "noexec": linux.MS_NOEXEC,
    "exec": 0,
    "noatime": linux.MS_NOATIME,
    "atime": linux.MS_RELATIME,
    "nodiratime": linux.MS_NODIRATIME,
    "diratime": 0,
    "relatime": linux.MS_RELATIME,
    "norelatime": 0,
    "strictatime": linux.MS_STRICTATIME,
    "nostrictatime": linux.MS_RELATIME,
    "sync": linux.MS_SYNCHRONOUS,
    "async": 0,
    "dirsync": linux.MS_DIRSYNC,
    "defaults": 0,
    "iversion": linux.MS_I_VERSION,
    "noiversion": 0,
    "lazytime": linux.MS_LAZYTIME,
    "nolazytime": 0,
    "silent": linux.MS_SILENT,
    "loud": 0,
    "mand": linux.MS_MANDLOCK,
    "nomand": 0,
    "nosymfollow": linux.MS_NOSYMFOLLOW,
    "symfollow": 0,
}


@pytest.mark.parametrize(("option", "flags"), [(o, f) for o, f in NEW_FLAGS.items() if f is not None])
def test_m06_m07_m09_m13_option_of_a_new_file_system(option: str, flags: int) -> None:
    op = tmpfs(option)
    assert op.name == "mount"
    assert op.num("flags") == flags
    assert op.string("data") == b""


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (["ro", "rw"], 0),
        (["nosuid", "suid", "nosuid"], linux.MS_NOSUID),
        (["noatime", "strictatime"], linux.MS_STRICTATIME),
        (["strictatime", "relatime"], linux.MS_RELATIME),
        (["sync", "async", "lazytime"], linux.MS_LAZYTIME),
        (["nosuid", "noexec", "nodev"], linux.MS_NOSUID | linux.MS_NOEXEC | linux.MS_NODEV),
    ],
)
def test_m06_the_later_option_wins(options: list[str], flags: int) -> None:
    assert tmpfs(*options).num("flags") == flags


BIND_ATTRIBUTES = {
    "ro": (linux.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, linux.MOUNT_ATTR_RDONLY),
    "nosuid": (linux.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, linux.MOUNT_ATTR_NOSUID),
    "nodev": (linux.MOUNT_ATTR_NODEV, 0),
    "dev": (0, linux.MOUNT_ATTR_NODEV),
    "noexec": (linux.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, linux.MOUNT_ATTR_NOEXEC),
    "noatime": (linux.MOUNT_ATTR_NOATIME, ATIME),
    "strictatime": (linux.MOUNT_ATTR_STRICTATIME, ATIME),
    "relatime": (0, ATIME),
    "atime": (0, ATIME),
    "nostrictatime": (0, ATIME),
    "nodiratime": (linux.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, linux.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (linux.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, linux.MOUNT_ATTR_NOSYMFOLLOW),
    "norelatime": (0, 0),
}


@pytest.mark.parametrize(("option", "bits"), BIND_ATTRIBUTES.items())
def test_m06_option_of_a_bind_mount(option: str, bits: tuple[int, int]) -> None:
    op = bind(option)
    assert op.name == "bind"
    assert (op.num("attr_set"), op.num("attr_clr")) == bits
    assert (op.num("rec_set"), op.num("rec_clr")) == (0, 0)


@pytest.mark.parametrize(("option", "bits"), BIND_ATTRIBUTES.items())
def test_m10_m11_recursive_option(option: str, bits: tuple[int, int]) -> None:
    op = bind("r" + option)
    assert (op.num("rec_set"), op.num("rec_clr")) == bits
    assert (op.num("attr_set"), op.num("attr_clr")) == (0, 0)


def test_m10_recursive_option_of_a_new_file_system() -> None:
    """It has nothing under it yet."""
    assert tmpfs("rnosuid", "rnoatime").num("flags") == linux.MS_NOSUID | linux.MS_NOATIME
    assert tmpfs("nosuid", "rsuid").num("flags") == 0


@pytest.mark.parametrize(("word", "bits"), linux.PROPAGATION.items())
def test_m08_propagation(word: str, bits: int) -> None:
    assert tmpfs(word).num("propagation") == bits
    assert bind(word).num("propagation") == bits


def test_m03_order() -> None:
    mounts = [{"destination": f"/m{i}", "type": "tmpfs"} for i in (3, 1, 2)]
    made = make(mounts=mounts)
    assert [op.string("dest") for op in find(made, "mount")] == [b"/m3", b"/m1", b"/m2"]
    assert [op.where for op in find(made, "mount")] == ["/mounts/0", "/mounts/1", "/mounts/2"]


@pytest.mark.parametrize(
    ("path", "clean"),
    [("m", "/m"), ("./a//b/", "/a/b"), ("/a/../m", "/m"), ("../../m", "/m"), ("/a/./b", "/a/b"), ("//m", "/m")],
)
def test_m04_destination(path: str, clean: str) -> None:
    assert planned({"destination": path, "type": "tmpfs"}, clean)


@pytest.mark.parametrize(
    ("mount", "flags"),
    [
        ({"options": ["bind"]}, 0),
        ({"options": ["rbind"]}, ops.BIND_RECURSIVE),
        ({"options": ["rbind", "bind"]}, ops.BIND_RECURSIVE),
        ({"options": ["bind", "rbind"]}, ops.BIND_RECURSIVE),
        ({"type": "none", "options": ["rbind"]}, ops.BIND_RECURSIVE),
        ({"type": "ext4", "options": ["bind"]}, 0),
        ({"type": "bind"}, 0),
    ],
)
def test_m05_bind_is_what_the_options_say(mount: dict[str, Any], flags: int) -> None:
    (op,) = planned({"destination": "/m", "source": "/src"} | mount)
    assert op.name == "bind"
    assert op.num("flags") == flags
    assert op.num("slot") == -1
    assert op.string("source") == b"/src"


def test_m05_neither_type_nor_bind() -> None:
    refused(config(mounts=[{"destination": "/m", "source": "/src"}]), "/mounts/0")


def test_m05_bind_without_source() -> None:
    refused(config(mounts=[{"destination": "/m", "options": ["bind"]}]), "/mounts/0")


def test_m06_remount() -> None:
    (op,) = planned({"destination": "/m", "type": "tmpfs", "options": ["remount", "ro", "size=1m", "sync", "rslave"]})
    assert op.name == "remount"
    assert op.num("attr_set") == linux.MOUNT_ATTR_RDONLY
    assert op.num("sb") == 1
    assert op.num("sb_flags") == linux.MS_RDONLY | linux.MS_SYNCHRONOUS
    assert op.num("propagation") == linux.MS_SLAVE | linux.MS_REC
    assert op.string("data") == b"size=1m"


def test_m06_remount_of_a_bind_leaves_the_file_system_alone() -> None:
    (op,) = planned({"destination": "/m", "options": ["remount", "bind", "ro", "noatime"]})
    assert (op.name, op.num("sb"), op.num("sb_flags")) == ("remount", 0, 0)
    assert op.num("attr_set") == linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NOATIME


def test_m14_tmpcopyup() -> None:
    everything = ops.COPY_CONTENT | ops.COPY_OWNER | ops.COPY_MODE
    assert tmpfs("tmpcopyup").num("copyup") == everything
    assert tmpfs("tmpcopyup", "mode=700").num("copyup") == ops.COPY_CONTENT | ops.COPY_OWNER
    assert tmpfs("tmpcopyup", "uid=1").num("copyup") == ops.COPY_CONTENT | ops.COPY_MODE
    assert tmpfs("size=1m").num("copyup") == ops.COPY_MODE
    assert tmpfs("size=1m", "mode=1777").num("copyup") == 0
    assert planned({"destination": "/m", "type": "ramfs"})[0].num("copyup") == 0
    refused(config(mounts=[{"destination": "/m", "type": "ramfs", "options": ["tmpcopyup"]}]), "/mounts/0/options")


def test_m15_unknown_options_are_data() -> None:
    op = tmpfs("size=65536k", "nosuid", "mode=755", "huge=never")
    assert op.string("data") == b"size=65536k,mode=755,huge=never"
    assert op.num("flags") == linux.MS_NOSUID


def test_m15_data_of_a_bind_mount_is_a_warning() -> None:
    made = make(mounts=[{"destination": "/m", "source": "/s", "options": ["bind", "size=1"]}])
    assert made.warnings == ["/mounts/0/options: size=1: no effect on a bind mount"]


@pytest.mark.parametrize("word", ["auto", "noauto", "_netdev", "nouser", "x-systemd.a", "X-foo", "comment=a"])
def test_m16_words_of_mount8_stay_here(word: str) -> None:
    op = tmpfs(word)
    assert (op.string("data"), op.num("flags")) == (b"", 0)


def test_m16_user_options_imply_others() -> None:
    strict = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    assert tmpfs("user").num("flags") == strict
    assert tmpfs("users", "exec").num("flags") == strict & ~linux.MS_NOEXEC
    assert tmpfs("owner").num("flags") == linux.MS_NOSUID | linux.MS_NODEV


def test_m16_layers_of_an_attribute() -> None:
    op = bind("ro=recursive", "nosuid=vfs")
    assert (op.num("attr_set"), op.num("rec_set")) == (linux.MOUNT_ATTR_NOSUID, linux.MOUNT_ATTR_RDONLY)


def test_m16_nofail() -> None:
    assert bind("nofail").num("flags") == ops.BIND_OPTIONAL
    (op,) = planned({"destination": "/m", "type": "ext4", "source": "/dev/none", "options": ["nofail"]})
    assert (op.num("optional"), op.string("data")) == (1, b"")
    made = make(mounts=[{"destination": "/m", "source": "/s", "options": ["rbind", "nofail"]}], linux=user_namespace())
    assert opened(made)[0].num("flags") == ops.BIND_OPTIONAL | ops.BIND_RECURSIVE


def test_m16_x_mount() -> None:
    options = ["bind", "X-mount.mkdir=0711", "X-mount.owner=7", "X-mount.mode=0750", "X-mount.subdir=a/b"]
    made = make(mounts=[{"destination": "/m", "source": "/s", "options": options}])
    at = index(made, "mkdir")
    assert names(made)[at : at + 4] == ["mkdir", "bind", "subdir", "own"]
    assert one(made, "mkdir").num("mode") == 0o711
    assert one(made, "subdir").string("subdir") == b"a/b"
    assert one(made, "own").nums == [7, ops.UNCHANGED, 0o750]
    assert one(make(mounts=[{"destination": "/m", "type": "tmpfs", "options": ["X-mount.mkdir"]}]), "mkdir")


@pytest.mark.parametrize(
    "word",
    ["X-mount.mkdir=9", "X-mount.owner=", "X-mount.owner=a:b", "X-mount.owner=4294967295", "X-mount.group=-1",
     "X-mount.mode=", "X-mount.subdir=a/../..", "X-mount.subdir=/", "X-mount.idmap=0:0", "X-mount.idmap=x:0:0:1",
     *[f"X-mount.{name}{n}" for name in ("owner=", "group=", "idmap=0:0:") for n in ("\u00b2", "\u0663", "9" * 5000)]],
)  # fmt: skip
def test_m16_x_mount_that_means_nothing(word: str) -> None:
    with pytest.raises(errors.InvalidConfig, match="X-mount"):
        bind(word)


def test_m16_x_mount_names() -> None:
    mounts = [{"destination": "/m", "type": "tmpfs", "options": ["X-mount.owner=walnut", "X-mount.group=nuts"]}]
    ids = {("owner", "walnut"): 7, ("group", "nuts"): 8}
    made = make(mounts=mounts, options=Options("id", "/b", names=lambda kind, name: ids[kind, name]))
    assert one(made, "own").nums == [7, 8, ops.UNCHANGED]
    refused(config(mounts=mounts), "/mounts/0/options")


@pytest.mark.parametrize("word", ["owner=1", "subdir=x"])
def test_m16_a_cgroup_mount_has_no_root_of_its_own(word: str) -> None:
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "options": [f"X-mount.{word}"]}
    refused(config(mounts=[mount]), "/mounts/0/options")


def test_m16_nofail_may_not_change_the_root() -> None:
    options = ["bind", "nofail", "X-mount.owner=1"]
    refused(config(mounts=[{"destination": "/m", "source": "/s", "options": options}]), "/mounts/0/options")


LOOKS = {
    "src-nofollow": ops.BIND_SOURCE_NOFOLLOW,
    "dest-nofollow": ops.BIND_DEST_NOFOLLOW,
    "copy-symlink": ops.BIND_COPY_SYMLINK,
}


@pytest.mark.parametrize("word", LOOKS)
def test_links_of_a_bind_mount(word: str) -> None:
    assert bind(word).num("flags") == LOOKS[word]
    made = make(mounts=[{"destination": "/m", "source": "/s", "options": ["bind", word]}], linux=user_namespace())
    assert opened(made)[0].num("flags") == LOOKS[word]
    refused(config(mounts=[{"destination": "/m", "type": "tmpfs", "options": [word]}]), "/mounts/0/options")


# -- mapped ids ------------------------------------------------------------------------------

MAPPING = [{"containerID": 0, "hostID": 7, "size": 10}, {"containerID": 20, "hostID": 30, "size": 1}]
IDMAP = "idmap:0 7 10,20 30 1:0 7 10,20 30 1"


def mapped_bind(*options: str, **more: Any) -> dict[str, Any]:
    return {"destination": "/m", "source": "/s", "options": ["rbind", *options], **more}


@pytest.mark.parametrize(("option", "flag"), [("idmap", 0), ("ridmap", ops.TREE_IDMAP_ALL), ("defaults", 0)])
def test_m12_mappings_of_the_mount(option: str, flag: int) -> None:
    made = make(mounts=[mapped_bind(option, uidMappings=MAPPING, gidMappings=MAPPING)])
    tree = one(made, "tree")
    assert made.fds == [IDMAP, "fifo"]
    assert tree.num("idmap") == 1
    assert tree.num("flags") == ops.BIND_RECURSIVE | flag
    assert one(made, "bind").num("slot") == tree.num("slot")
    assert one(made, "fifo").num("fd") == 1
    assert index(made, "tree") < index(made, "unshare")


def test_m12_mappings_of_the_container() -> None:
    made = make(mounts=[mapped_bind("idmap"), mapped_bind("ridmap") | {"destination": "/n"}], linux=user_namespace())
    assert made.fds == ["idmap:0 100000 65536:0 100000 65536", "fifo"]
    assert [tree.num("idmap") for tree in opened(made)] == [1, 1]


def test_m12_user_namespace_of_another_container() -> None:
    joined = {"namespaces": namespaces(user="/proc/7/ns/user")}
    made = make(mounts=[mapped_bind("idmap")], linux=joined)
    assert made.fds[opened(made)[0].num("idmap") - 1] == "ns:user:/proc/7/ns/user"
    assert made.fds.count("ns:user:/proc/7/ns/user") == 1


def test_m12_no_mappings() -> None:
    refused(config(mounts=[mapped_bind("idmap")]), "/mounts/0/options")


def test_m12_of_a_new_file_system() -> None:
    mount = {"destination": "/m", "type": "tmpfs", "uidMappings": MAPPING, "gidMappings": MAPPING}
    made = make(mounts=[mount | {"options": ["idmap", "size=1m"]}])
    assert one(made, "mount").num("idmap") == 1
    assert one(made, "mount").string("data") == b"size=1m"
    refused(config(mounts=[mount | {"type": "cgroup", "destination": "/c"}]), "/mounts/0")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("0:7:10 20:30:1", IDMAP),
        ("u:0:1:2 g:3:4:5", "idmap:0 1 2:3 4 5"),
        ("b:0:1:2", "idmap:0 1 2:0 1 2"),
        ("/proc/9/ns/user", "ns:user:/proc/9/ns/user"),
    ],
)
def test_m16_m12_idmap_of_mount8(words: str, name: str) -> None:
    made = make(mounts=[mapped_bind(f"X-mount.idmap={words}")])
    assert made.fds == [name, "fifo"]


def test_m12_more_maps_than_nsexec_takes_descriptors() -> None:
    def mapping(number: int) -> list[dict[str, int]]:
        return [{"containerID": 0, "hostID": number, "size": 1}]

    mounts = [mapped_bind(uidMappings=mapping(n), gidMappings=mapping(n)) for n in range(ops.MAX_FDS)]
    with pytest.raises(errors.InvalidConfig, match="descriptors"):
        make(mounts=mounts)
    assert len(make(mounts=mounts[:-1]).fds) == ops.MAX_FDS


def test_source_of_a_file_system_defaults_to_its_type() -> None:
    (op,) = planned({"destination": "/m", "type": "tmpfs"})
    assert op.string("source") == b"tmpfs"


def test_every_option_of_features_is_understood() -> None:
    for word in mountopts.NAMES:
        assert mountopts.parse([word], "").data == []


# -- cgroup mounts ---------------------------------------------------------------------------


def cgroup_plan(mode: str, *more: str, options: list[str] | None = None, **linux_changes: Any) -> plan.Plan:
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "options": options or ["ro", "nosuid"]}
    changes = {"namespaces": namespaces(*more), "cgroupsPath": "/a/b"} | linux_changes
    if mode == "unified":
        return make(mounts=[mount], linux=changes)
    own = dict.fromkeys(V1, "/")
    facts = golden.facts(cgroup_mode="legacy", cgroup_mounts=V1, cgroup_unified="", cgroup_own=own)
    return make(mounts=[mount], linux=changes, facts=facts)


def test_m17_v1_without_namespace_binds_the_own_cgroup() -> None:
    made = cgroup_plan("legacy")
    view = on(made, "/sys/fs/cgroup")
    assert [op.name for op in view] == ["mount", "seal"]
    assert view[0].string("type") == b"tmpfs"
    assert not view[0].num("flags") & linux.MS_RDONLY
    binds = {op.string("dest"): op.string("source") for op in find(made, "bind")}
    assert binds == {
        b"/sys/fs/cgroup/cpu,cpuacct": b"/cg/cpu,cpuacct/a/b",
        b"/sys/fs/cgroup/devices": b"/cg/devices/a/b",
        b"/sys/fs/cgroup/systemd": b"/cg/systemd/a/b",
    }
    assert all(op.num("attr_set") & linux.MOUNT_ATTR_RDONLY for op in find(made, "bind"))
    links = {op.string("path"): op.string("target") for op in find(made, "symlink") if op.where}
    assert links == {b"/sys/fs/cgroup/cpu": b"cpu,cpuacct", b"/sys/fs/cgroup/cpuacct": b"cpu,cpuacct"}


@pytest.mark.parametrize(("manager", "bound"), [("cgroupfs", 3), ("systemd", 0)])
def test_m17_v1_mount_points_of_a_restore(manager: str, bound: int) -> None:
    """What systemd has not made yet cannot be bound; other binds are for the mount points of the root."""
    mounts = [
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"]},
        {"destination": "/new/place", "type": "bind", "source": "/src", "options": ["rbind"]},
    ]
    own = dict.fromkeys(V1, "/")
    facts = golden.facts(cgroup_mode="legacy", cgroup_mounts=V1, cgroup_unified="", cgroup_own=own)
    path = "a.slice:p:c" if manager == "systemd" else "/a/b"
    changes = {"namespaces": namespaces(), "cgroupsPath": path}
    made = make(mounts=mounts, linux=changes, facts=facts, options=Options("c1", "/b", cgroup_manager=manager))
    dests = [step.string("dest") for step in criu.mount_points(made) if step.name == "bind"]
    assert b"/new/place" in dests
    assert len([dest for dest in dests if dest.startswith(b"/sys/fs/cgroup/")]) == bound


def test_m17_v1_read_write() -> None:
    made = cgroup_plan("legacy", options=["nosuid"])
    assert [op.name for op in on(made, "/sys/fs/cgroup")] == ["mount"]
    assert not any(op.num("attr_set") & linux.MOUNT_ATTR_RDONLY for op in find(made, "bind"))


def test_m17_v1_with_namespace_mounts_the_hierarchies() -> None:
    made = cgroup_plan("legacy", "cgroup")
    data = {op.string("dest"): op.string("data") for op in find(made, "mount") if op.string("type") == b"cgroup"}
    assert data == {
        b"/sys/fs/cgroup/cpu,cpuacct": b"cpu,cpuacct",
        b"/sys/fs/cgroup/devices": b"devices",
        b"/sys/fs/cgroup/systemd": b"name=systemd",
    }
    assert not find(made, "bind")


def test_m17_v2_mounts_cgroup2() -> None:
    (op,) = on(cgroup_plan("unified", "cgroup"), "/sys/fs/cgroup")
    assert (op.name, op.string("type")) == ("mount", b"cgroup2")
    assert op.num("flags") == linux.MS_RDONLY | linux.MS_NOSUID


def test_m17_v2_without_cgroup_namespace_binds() -> None:
    """A mount in the host's cgroup namespace sets the options of the host's own mount (nsdelegate)."""
    for changes in ({}, user_namespace()):
        (op,) = on(cgroup_plan("unified", **changes), "/sys/fs/cgroup")
        assert (op.name, op.string("source")) == ("bind", b"/sys/fs/cgroup")
    (op,) = on(cgroup_plan("unified", **user_namespace("cgroup")), "/sys/fs/cgroup")
    assert op.name == "mount"


@pytest.mark.parametrize(
    ("path", "options", "data"),
    [
        (None, ["nosuid"], b""),  # in a new one they are the kernel's to leave alone
        ("/proc/1/ns/cgroup", ["nosuid"], b"nsdelegate,favordynmods"),
        ("/proc/1/ns/cgroup", ["memory_localevents"], b"memory_localevents,nsdelegate,favordynmods"),
    ],
)
def test_m17_v2_in_a_joined_namespace_has_the_options_of_the_host(
    path: str | None, options: list[str], data: bytes
) -> None:
    """It may be the host's, and the mount would take from all what it does not name."""
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "options": options}
    joined = {"type": "cgroup"} if path is None else {"type": "cgroup", "path": path}
    facts = golden.facts(cgroup_options="nsdelegate,favordynmods")
    made = make(mounts=[mount], linux={"namespaces": [*namespaces(), joined]}, facts=facts)
    (op,) = on(made, "/sys/fs/cgroup")
    assert (op.name, op.string("data")) == ("mount", data)


def test_m17_a_cgroup_directory_gets_no_tree_op() -> None:
    """It does not exist yet when trees are opened."""
    made = cgroup_plan("legacy", **user_namespace())
    assert not [op for op in find(made, "tree") if op.string("source").startswith(b"/cg")]


@pytest.mark.parametrize("mode", ["unified", "legacy"])
def test_m17_the_cgroup_comes_before_its_mount(mode: str) -> None:
    made = cgroup_plan(mode, "cgroup")
    enters = [i for i, op in enumerate(made.ops) if op.name == "enter"]
    unshares = [i for i, op in enumerate(made.ops) if op.name == "unshare"]
    mount = next(i for i, op in enumerate(made.ops) if op.name == "mount")
    assert enters[-1] < names(made).index("fork") < unshares[-1] < mount
    assert made.ops[unshares[-1]].num("namespaces") == linux.NAMESPACES["cgroup"]


def test_m17_disabled_cgroups_show_the_own_one() -> None:
    own = {"memory": "/caller"}
    facts = golden.facts(cgroup_mode="legacy", cgroup_mounts={"memory": "/cg/memory"}, cgroup_own=own)
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup"}
    made = make(mounts=[mount], facts=facts, options=golden.options(cgroup_manager="disabled"))
    assert one(made, "bind").string("source") == b"/cg/memory/caller"
    assert not find(made, "sync")


def test_m17_n08_rootless_shows_the_own_one() -> None:
    facts = golden.facts(userns=True, cgroup_mode="legacy", cgroup_mounts=V1, cgroup_own=dict.fromkeys(V1, "/me"))
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup"}
    made = make(mounts=[mount], facts=facts)
    assert {op.string("source") for op in find(made, "bind") if op.where} == {
        f"{top}/me".encode() for top in V1.values()
    }


# -- /proc and read-only ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "mount",
    [
        {"destination": "/proc", "type": "tmpfs"},
        {"destination": "/proc", "type": "sysfs"},
        {"destination": "/proc", "source": "/vol", "options": ["bind"]},
        {"destination": "/proc/self", "type": "proc"},
        {"destination": "/proc/sys/kernel", "source": "/vol", "options": ["rbind"]},
        {"destination": "proc/../proc/acpi", "type": "tmpfs"},
        {"destination": "/proc/cpuinfo/x", "source": "/vol", "options": ["bind"]},
        {"destination": "/", "source": "/vol", "options": ["bind"]},
    ],
)
def test_m23_refused(mount: dict[str, Any]) -> None:
    refused(config(mounts=[mount]), "/mounts/0/destination")


@pytest.mark.parametrize(
    "mount",
    [
        {"destination": "/proc", "type": "proc"},
        {"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]},
        {"destination": "/procfs", "type": "tmpfs"},
        {"destination": "/proc2/x", "type": "tmpfs"},
        {"destination": "/x/proc", "type": "tmpfs"},
        {"destination": "/proc", "options": ["remount", "bind", "ro"]},
    ],
)
def test_m23_allowed(mount: dict[str, Any]) -> None:
    assert make(mounts=[mount])


@pytest.mark.parametrize("name", ["cpuinfo", "meminfo", "stat", "uptime", "loadavg", "swaps", "diskstats", "slabinfo"])
def test_m23_files_of_lxcfs(name: str) -> None:
    assert bind(source=f"/var/lib/lxcfs/proc/{name}", dest=f"/proc/{name}").num("flags") == ops.BIND_OVER_PROC


def test_m24_read_only_tmpfs() -> None:
    """Mount points of later mounts are made in it: read-only comes last, before the root changes."""
    inner = {"destination": "/m/inner", "type": "tmpfs"}
    made = make(mounts=[{"destination": "/m", "type": "tmpfs", "options": ["ro", "nosuid"]}, inner])
    first, last = on(made, "/m")
    assert first.num("flags") == linux.MS_NOSUID
    assert (last.name, last.num("slot") + 1) == ("seal", first.num("keep"))
    assert made.ops.index(last) > made.ops.index(on(made, "/m/inner")[0])
    assert made.ops.index(last) < index(made, "pivot")


@pytest.mark.parametrize(
    "mount",
    [
        {"destination": "/dev", "type": "devtmpfs", "options": ["ro"]},
        {"destination": "/dev/", "type": "tmpfs", "options": ["rro"]},
        {"destination": "dev", "source": "/dev", "options": ["rbind", "ro"]},
    ],
)
def test_m24_dev_is_writable_until_the_devices_are_made(mount: dict[str, Any]) -> None:
    made = make(mounts=[mount], process={"terminal": True})
    first, last = on(made, "/dev")
    assert not (first.nums[0] if first.name == "mount" else first.num("attr_set")) & 1
    assert (last.name, last.num("slot") + 1) == ("seal", first.num("keep"))
    position = made.ops.index(last)
    before = [i for i, name in enumerate(names(made)) if name in ("mknod", "symlink", "console", "mask")]
    assert all(i < position for i in before)


def test_other_read_only_mounts_are_so_at_once() -> None:
    (op,) = planned({"destination": "/m", "type": "sysfs", "options": ["ro"]})
    assert op.num("flags") == linux.MS_RDONLY


# -- sources ---------------------------------------------------------------------------------


def test_sources_are_opened_with_the_rights_of_the_host() -> None:
    """Host root in a new user namespace may not search the host's directories any more."""
    mounts = [
        {"destination": f"/m{i}", "source": f"/s{i}", "options": [kind]} for i, kind in enumerate(("bind", "rbind"))
    ]
    made = make(mounts=mounts, linux=user_namespace())
    trees = [op for op in find(made, "tree") if op.where]
    assert [(op.num("slot"), op.num("flags"), op.string("source")) for op in trees] == [(0, 0, b"/s0"), (1, 1, b"/s1")]
    assert [op.num("slot") for op in find(made, "bind") if op.where] == [0, 1]
    assert max(i for i, op in enumerate(made.ops) if op.name == "tree") < index(made, "unshare")


def test_a_joined_user_namespace_takes_the_rights_as_well() -> None:
    mounts = [{"destination": "/m", "source": "/s", "options": ["bind"]}]
    made = make(mounts=mounts, linux={"namespaces": namespaces(user="/proc/7/ns/user")})
    assert max(i for i, op in enumerate(made.ops) if op.name == "tree") < index(made, "join")


def test_sources_are_locked_by_the_copy_of_their_mount_namespace() -> None:
    mounts = [{"destination": "/m", "source": "/s", "options": ["rbind", "ro", "rshared"]}]
    made = make(mounts=mounts, linux=user_namespace())
    assert index(made, "tree") < index(made, "unshare") < index(made, "gather")
    assert index(made, "fork") < index(made, "take") < index(made, "bind")
    assert one(made, "gather").string("path") == b"/run/pyoci/container"
    assert opened(made)[0].num("attr_set") == linux.MOUNT_ATTR_RDONLY
    (bound,) = on(made, "/m")
    assert (bound.num("attr_set"), bound.num("propagation")) == (0, linux.MS_SHARED | linux.MS_REC)
    assert not find(make(mounts=mounts), "gather")


@pytest.mark.parametrize("user", [True, False])
def test_sources_of_later_are_locked_as_well(user: bool) -> None:
    mounts = [{"destination": "/m", "source": "/s", "options": ["rbind"]}]
    kinds = ("network", "mount", *(("user",) if user else ()))
    target = Target(7, {kind: f"/proc/7/ns/{kind}" for kind in kinds})
    made = plan.make_mounts(mounts, config(), target, golden.facts(), golden.options())
    locked = [
        "tree",
        "unshare",
        "propagation",
        "gather",
        "join",
        "join",
        "setids",
        "unshare",
        "take",
        "join",
        "root_here",
        "bind",
    ]
    assert names(made) == (locked if user else ["tree", "join", "join", "root_here", "bind"])


@pytest.mark.parametrize("facts", [{"userns": True}, {"euid": 1000}])
def test_n08_rootless_has_no_such_rights(facts: dict[str, Any]) -> None:
    mounts = [{"destination": "/m", "source": "/s", "options": ["bind"]}]
    made = make(mounts=mounts, linux=user_namespace(), facts=golden.facts(**facts))
    assert not find(made, "tree")
    assert all(op.num("slot") == -1 for op in find(made, "bind"))
