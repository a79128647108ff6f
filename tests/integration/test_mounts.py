"""Root and mounts (config.md, config-linux.md): M01-M08, M13-M15, M18-M20, M23, M24, L28."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.integration.harness import (
    MS_BIND,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    Box,
    kernel_version,
    mount,
    mounts,
    pyoci_only,
    umount,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class Mount(NamedTuple):
    """A line of mountinfo: proc(5)."""

    options: set[str]
    propagation: str  # "" private, "shared", "master" or "unbindable"
    fstype: str
    source: str
    super_options: set[str]


def parse(mountinfo: str) -> dict[str, Mount]:
    """The mounts by mount point; of several on one point the last, which is on top."""
    found = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        fstype, source, super_options = right.split(" ", 2)
        kinds = " ".join(field.partition(":")[0] for field in fields[6:])
        found[fields[4]] = Mount(set(fields[5].split(",")), kinds, fstype, source, set(super_options.split(",")))
    return found


def mounts_inside(box: Box) -> dict[str, Mount]:
    return parse(box.output("cat", "/proc/self/mountinfo"))


@pytest.fixture
def volume(box: Box) -> Path:
    """A directory of the host with a file in it."""
    directory = box.bundle / "volume"
    directory.mkdir()
    (directory / "file").write_text("from the host\n")
    return directory


@pytest.fixture
def tree(volume: Path) -> Iterator[Path]:
    """A volume that is a mount of its own with another mount below it, shared with nobody."""
    mount("tmpfs", volume, "tmpfs")
    mount("none", volume, flags=MS_PRIVATE)
    (volume / "sub").mkdir()
    mount("tmpfs", volume / "sub", "tmpfs")
    mount("none", volume / "sub", flags=MS_PRIVATE)
    yield volume
    umount(volume)


# -- root -----------------------------------------------------------------------------------


def test_root_path_is_relative_to_the_bundle(box: Box) -> None:
    """M01"""
    assert box.sh("ls -d /bin/busybox") == "/bin/busybox\n"


def test_root_path_may_be_absolute(box: Box) -> None:
    """M01"""
    box.config["root"]["path"] = str(box.rootfs)
    assert box.sh("ls -d /bin/busybox") == "/bin/busybox\n"


def test_root_must_be_a_directory(box: Box) -> None:
    """M01 L06"""
    for path, why in (("nosuch", "nosuch"), ("config.json", "not a directory")):
        box.config["root"]["path"] = path
        result = box.create(check=False)
        assert result.code == 1
        assert why in result.error
        assert box.entries() == set()


def test_root_is_required(box: Box) -> None:
    """M01"""
    del box.config["root"]
    assert box.create(check=False).code == 1


def test_root_is_the_only_way_up(box: Box) -> None:
    """M01: pivot_root, nothing of the host is mounted inside."""
    inside = mounts_inside(box)
    assert set(inside) >= {"/", "/proc", "/dev", "/sys", "/dev/pts", "/dev/shm", "/dev/mqueue"}
    assert not [point for point in inside if str(box.bundle) in point]
    assert box.sh("ls -id / /.. | awk '{print $1}' | uniq | wc -l") == "1\n"


def test_readonly_root(box: Box) -> None:
    """M02: the root, not what is mounted on it."""
    box.config["root"]["readonly"] = True
    shown = box.sh("touch /x 2>&1; touch /dev/shm/x && echo ok; grep ' / / ' /proc/self/mountinfo || true")
    assert shown.splitlines()[:2] == ["touch: /x: Read-only file system", "ok"]
    assert "ro" in mounts_inside(box)["/"].options
    assert not (box.rootfs / "x").exists()


def test_readonly_root_with_new_mount_points(box: Box) -> None:
    """M02 M03: mount points are made before the root becomes read-only."""
    box.config["root"]["readonly"] = True
    box.mount("/made/for/you", "tmpfs", "tmpfs")
    assert box.sh("touch /made/for/you/x && echo ok") == "ok\n"


@pyoci_only("1.1 warns and goes on")
def test_no_pivot(box: Box) -> None:
    """--no-pivot: MS_MOVE and chroot, the same from inside."""
    box.args("ls", "/bin/busybox", "/proc/self/status")
    assert box.run("--no-pivot").out == "/bin/busybox\n/proc/self/status\n"


# -- mounts ---------------------------------------------------------------------------------


def test_mounts_in_order(box: Box, volume: Path) -> None:
    """M03: a later mount covers an earlier one."""
    box.mount("/mnt", "tmpfs", "tmpfs", "size=1m")
    box.bind("/mnt/inner", volume)
    box.mount("/over", "tmpfs", "tmpfs", "size=1m")
    box.mount("/over", "tmpfs", "tmpfs", "size=2m")
    inside = mounts_inside(box)
    assert "size=2048k" in inside["/over"].super_options
    assert box.sh("cat /mnt/inner/file; ls /mnt") == "from the host\ninner\n"


def test_relative_destination(box: Box, volume: Path) -> None:
    """M04: relative to /."""
    box.bind("some/where", volume)
    assert box.sh("cat /some/where/file") == "from the host\n"


@pytest.mark.parametrize("link", ["/abs", "../../../../../rel", "/proc/1/root/tmp/abs"])
def test_destination_through_a_symlink_stays_inside(box: Box, volume: Path, link: str) -> None:
    """M04 SECURITY 1: an absolute or climbing symlink of the rootfs lands in the rootfs, dangling or not."""
    os.symlink(link, box.rootfs / "link")
    box.bind("/link/target", volume)
    result = box.create(check=False)
    for outside in ("/abs", "/rel", "/tmp/abs"):
        assert not os.path.exists(outside)
    if "proc" not in link:
        assert result.code == 0, result.err
        assert box.exec("cat", "/link/target/file").out == "from the host\n"


def test_destination_climbs(box: Box, volume: Path) -> None:
    """M04: ".." ends at the root of the container."""
    box.bind("/../../../climbed", volume)
    assert box.sh("cat /climbed/file") == "from the host\n"
    assert not os.path.exists("/climbed")


def test_bind_a_directory(box: Box, volume: Path) -> None:
    """M05: writable by default."""
    box.bind("/v", volume)
    assert box.sh("cat /v/file; echo back > /v/new") == "from the host\n"
    assert (volume / "new").read_text() == "back\n"


def test_bind_a_file(box: Box, volume: Path) -> None:
    """M05: the mount point is made as a file."""
    box.bind("/etc/deep/file", volume / "file")
    assert box.sh("cat /etc/deep/file") == "from the host\n"


def test_bind_source_is_relative_to_the_bundle(box: Box, volume: Path) -> None:
    """M05"""
    box.bind("/v", "volume")
    box.write()
    assert box.rt("run", "--bundle", str(box.bundle), box.id, cwd="/").code == 0
    assert box.sh("cat /v/file") == "from the host\n"


def test_bind_source_that_is_not_there(box: Box) -> None:
    """M05 L06"""
    box.bind("/v", "/no/such/source")
    result = box.create(check=False)
    assert result.code == 1
    assert "/no/such/source" in result.error
    assert "no such file or directory" in result.error
    assert box.entries() == set()


def test_bind_is_by_option_not_by_type(box: Box, volume: Path) -> None:
    """M05: any type with bind or rbind is a bind mount."""
    box.mount("/v", "none", volume, "rbind")
    assert box.sh("cat /v/file") == "from the host\n"


def test_bind_of_one_mount_and_of_a_tree(box: Box, tree: Path) -> None:
    """M05 M06: bind takes the mount, rbind what is under it as well."""
    box.mount("/one", "bind", tree, "bind")
    box.mount("/tree", "bind", tree, "rbind")
    inside = mounts_inside(box)
    assert "/one/sub" not in inside
    assert "/tree/sub" in inside


def test_readonly_bind_concerns_only_the_top(box: Box, tree: Path) -> None:
    """M06: ro is not recursive."""
    box.mount("/v", "bind", tree, "rbind", "ro")
    shown = box.sh("touch /v/x 2>&1; touch /v/sub/x && echo ok")
    assert shown == "touch: /v/x: Read-only file system\nok\n"


OPTIONS = [
    (["ro"], {"ro"}, set()),
    (["rw"], {"rw"}, {"ro"}),
    (["nosuid", "nodev", "noexec"], {"nosuid", "nodev", "noexec"}, set()),
    (["nosuid", "suid", "nodev", "dev", "noexec", "exec", "ro", "rw"], {"rw"}, {"nosuid", "nodev", "noexec", "ro"}),
    (["noatime"], {"noatime"}, {"relatime"}),
    (["noatime", "atime"], {"relatime"}, {"noatime"}),
    (["relatime"], {"relatime"}, {"noatime"}),
    (["strictatime"], set(), {"relatime", "noatime"}),
    (["nodiratime"], {"nodiratime"}, set()),
    (["nodiratime", "diratime"], set(), {"nodiratime"}),
    (["async"], {"rw", "relatime"}, {"ro"}),
    (["norelatime", "nostrictatime", "loud", "nomand"], {"rw"}, {"ro"}),
]


@pytest.mark.parametrize(("options", "has", "lacks"), OPTIONS, ids=lambda value: ",".join(sorted(value)) or "-")
@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_options_of_a_mount(
    box: Box, volume: Path, kind: str, options: list[str], has: set[str], lacks: set[str]
) -> None:
    """M06 M07 M13: flags, in order, on a new file system and on a bind."""
    if kind == "bind":
        box.bind("/m", volume, *options)
    else:
        box.mount("/m", "tmpfs", "tmpfs", *options)
    options_inside = mounts_inside(box)["/m"].options
    assert has <= options_inside
    assert not lacks & options_inside


@pyoci_only("1.1 passes it on, and tmpfs does not know it")
def test_defaults(box: Box) -> None:
    """M06: defaults changes nothing."""
    box.mount("/m", "tmpfs", "tmpfs", "nosuid", "defaults", "size=1m")
    mounted = mounts_inside(box)["/m"]
    assert "nosuid" in mounted.options
    assert "size=1024k" in mounted.super_options


def test_options_of_a_file_system(box: Box) -> None:
    """M06 M07: sync, dirsync, lazytime belong to the superblock."""
    box.mount("/s", "tmpfs", "tmpfs", "sync", "dirsync")
    box.mount("/l", "tmpfs", "tmpfs", "lazytime")
    inside = mounts_inside(box)
    assert {"sync", "dirsync"} <= inside["/s"].super_options
    assert "lazytime" in inside["/l"].super_options


def test_remount(box: Box, volume: Path) -> None:
    """M06: an earlier mount again, with other options."""
    box.bind("/v", volume)
    box.bind("/v", volume, "remount", "ro")
    box.mount("/t", "tmpfs", "tmpfs", "size=1m")
    box.mount("/t", "tmpfs", "tmpfs", "remount", "size=3m", "nosuid")
    inside = mounts_inside(box)
    assert "ro" in inside["/v"].options
    assert "size=3072k" in inside["/t"].super_options


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ("private", ""),
        ("rprivate", ""),
        ("shared", "shared"),
        ("rshared", "shared"),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
    ],
)
def test_propagation_of_a_mount(box: Box, volume: Path, option: str, shown: str) -> None:
    """M08"""
    box.bind("/v", volume, option)
    assert mounts_inside(box)["/v"].propagation == shown


@pytest.fixture
def shared(volume: Path) -> Iterator[Path]:
    """A volume of the host that is a shared mount."""
    mount(str(volume), volume, flags=MS_BIND)
    mount("none", volume, flags=MS_SHARED)
    (volume / "sub").mkdir()
    yield volume
    for path in (volume / "sub", volume):
        if str(path) in mounts():
            umount(path)


@pytest.mark.parametrize(("option", "arrives"), [("rslave", True), ("rshared", True), ("rprivate", False)])
def test_mounts_of_the_host_propagate(box: Box, shared: Path, option: str, arrives: bool) -> None:
    """M08 M18: what the host mounts later arrives in a slave or shared bind."""
    box.linux["rootfsPropagation"] = "rshared" if option == "rshared" else "rslave"
    box.mount("/v", "bind", shared, "rbind", option)
    box.up()
    mount("tmpfs", shared / "sub", "tmpfs")
    (shared / "sub/late").touch()
    assert (box.exec("ls", "/v/sub").out == "late\n") == arrives


def test_mounts_of_the_container_propagate(box: Box, shared: Path) -> None:
    """M08: what a container mounts in a shared bind arrives on the host."""
    box.linux["rootfsPropagation"] = "rshared"
    box.mount("/v", "bind", shared, "rbind", "rshared")
    box.caps("CAP_SYS_ADMIN")
    box.script("mount -t tmpfs none /v/sub && touch /v/sub/inner; sleep 100")
    box.up()
    until((shared / "sub/inner").exists, "the mount of the container")


@pyoci_only("1.1 shares them, if not asked for less")
@pytest.mark.parametrize("option", ["rbind", "slave", "rshared"])
def test_mounts_of_a_user_namespace_stay_there(box: Box, shared: Path, option: str) -> None:
    """M08: the source is opened on the host, and the copy is still no peer of what was copied."""
    mount("tmpfs", shared / "sub", "tmpfs")
    for place in (box.rootfs / "v", shared / "made", shared / "sub/made"):
        place.mkdir()
    box.userns()
    box.caps("CAP_SYS_ADMIN")
    box.mount("/v", "bind", shared, "rbind", option)
    box.script("mount -t tmpfs none /v/made && mount -t tmpfs none /v/sub/made && echo mounted; sleep 100")
    before = mounts()
    box.up()
    until(lambda: box.logs() == "mounted\n", "the mounts of the container")
    assert mounts() == before


@pyoci_only("has no such verb")
@pytest.mark.parametrize("option", ["rbind", "rshared"])
def test_mounts_in_what_was_added_stay_there(box: Box, shared: Path, option: str) -> None:
    """M08: what `mounts add` copies out of the host's mount namespace is no peer of it either."""
    (box.rootfs / "v").mkdir()
    box.caps("CAP_SYS_ADMIN")
    box.up()
    file = box.bundle / "mounts.json"
    entry = {"destination": "/v", "type": "bind", "source": str(shared), "options": ["rbind", option]}
    file.write_text(json.dumps([entry]))
    before = mounts()
    box.rt("mounts", "add", box.id, str(file))
    assert box.exec("sh", "-c", "mount -t tmpfs none /v/sub && grep -c ' /v/sub ' /proc/mounts").out == "1\n"
    assert mounts() == before


def test_mand(box: Box) -> None:
    """M13: mand is a flag, whether the kernel still has it or not."""
    box.mount("/m", "tmpfs", "tmpfs", "mand", "nomand")
    assert "/m" in mounts_inside(box)


def test_tmpcopyup(box: Box) -> None:
    """M14: the tmpfs starts with what the image had there; modes, links and owners kept."""
    source = box.rootfs / "data"
    (source / "dir").mkdir(parents=True)
    (source / "dir/file").write_text("copied\n")
    (source / "dir/file").chmod(0o604)
    os.chown(source / "dir/file", 1000, 1000)
    os.symlink("dir/file", source / "link")
    box.mount("/data", "tmpfs", "tmpfs", "tmpcopyup", "size=1m")
    shown = box.sh("cat /data/link; stat -c '%a %u:%g' /data/dir/file; echo new > /data/new; readlink /data/link")
    assert shown == "copied\n604 1000:1000\ndir/file\n"
    assert mounts_inside(box)["/data"].fstype == "tmpfs"
    assert not (source / "new").exists()


def test_tmpcopyup_of_nothing(box: Box) -> None:
    """M14: where the image has nothing it is a tmpfs like any other, for everyone to write (podman --tmpfs)."""
    box.mount("/fresh", "tmpfs", "tmpfs", "tmpcopyup")
    assert box.sh("stat -c %a /fresh") == "1777\n"


@pytest.mark.parametrize("count", [2, 40])
def test_overlay_with_long_paths(box: Box, volume: Path, count: int) -> None:
    """fsconfig(2) takes no string over 255 bytes; podman's image mounts have longer ones. A colon is escaped."""
    if count > 12 and kernel_version() < (6, 5):
        pytest.skip("more layers take lowerdir+ of Linux 6.5")
    top = volume / ("long" * 40)
    names = ["a:b", *(f"layer{number}" for number in range(1, count))]
    for name in names:
        (top / name).mkdir(parents=True)
        (top / name / name).write_text("there\n")
    lower = ":".join(str(top / name).replace(":", "\\:") for name in names)
    upper, work = top / ("d" * 100) / "upper:dir", top / ("d" * 100) / "work"
    upper.mkdir(parents=True)
    work.mkdir()
    box.mount("/o", "overlay", "overlay", f"lowerdir={lower}", f"upperdir={upper}", f"workdir={work}")
    assert box.sh("ls /o | wc -l; echo new >/o/new; cat /o/a:b").split() == [str(count), "there"]
    assert (upper / "new").read_text() == "new\n"


def test_unknown_options_are_data(box: Box) -> None:
    """M15: comma joined, for the file system."""
    box.mount("/m", "tmpfs", "tmpfs", "size=1m", "nosuid", "mode=711", "nr_inodes=77")
    mounted = mounts_inside(box)["/m"]
    assert {"size=1024k", "mode=711", "nr_inodes=77"} <= mounted.super_options
    assert "nosuid" in mounted.options


def test_data_the_file_system_does_not_know(box: Box) -> None:
    """M15 L06"""
    box.mount("/m", "tmpfs", "tmpfs", "frobnicate=1")
    result = box.create(check=False)
    assert result.code == 1
    assert "/m" in result.error
    assert "invalid argument" in result.error
    assert box.entries() == set()


def test_unknown_file_system(box: Box) -> None:
    """L06"""
    box.mount("/m", "frobfs", "none")
    result = box.create(check=False)
    assert result.code == 1
    assert "no such device" in result.error
    assert box.entries() == set()


@pyoci_only("its bind of the rootfs is private whatever is asked")
@pytest.mark.parametrize(
    ("value", "shown"), [("shared", "shared"), ("private", ""), ("unbindable", "unbindable"), ("rprivate", "")]
)
def test_rootfs_propagation(box: Box, value: str, shown: str) -> None:
    """M18"""
    box.linux["rootfsPropagation"] = value
    assert mounts_inside(box)["/"].propagation == shown


def test_rootfs_propagation_slave(box: Box) -> None:
    """M18: slave is the default; with a private parent there is no master to show."""
    box.linux["rootfsPropagation"] = "slave"
    assert mounts_inside(box)["/"].propagation in ("", "master")


@pytest.mark.parametrize("value", ["frob", "SHARED"])
def test_unknown_rootfs_propagation(box: Box, value: str) -> None:
    """M18 L24"""
    box.linux["rootfsPropagation"] = value
    assert box.create(check=False).code == 1


# -- masked and read-only paths -------------------------------------------------------------


def test_masked_paths(box: Box) -> None:
    """M19: a file reads empty, a directory is empty and read-only, what is missing does not matter."""
    (box.rootfs / "secret").mkdir()
    (box.rootfs / "secret/key").write_text("key")
    (box.rootfs / "etc/token").write_text("token")
    box.linux["maskedPaths"] = ["/secret", "/etc/token", "/no/such/path", "/proc/kcore"]
    box.caps("CAP_DAC_OVERRIDE")
    shown = box.sh("ls -A /secret; cat /etc/token; touch /secret/x 2>&1; head -c 4 /proc/kcore; echo end")
    assert shown == "touch: /secret/x: Read-only file system\nend\n"


def test_masked_path_through_a_symlink_stays_inside(box: Box) -> None:
    """M19 SECURITY 1"""
    os.symlink("/etc", box.rootfs / "link")
    (box.rootfs / "etc/hostname").write_text("inside")
    before = Path("/etc/passwd").read_text()
    box.linux["maskedPaths"] = ["/link/hostname"]
    assert box.sh("cat /etc/hostname; echo end") == "end\n"
    assert Path("/etc/passwd").read_text() == before


def test_readonly_paths(box: Box, volume: Path) -> None:
    """M20: the other flags of the mount stay; what is missing does not matter."""
    box.bind("/v", volume, "nosuid", "nodev", "noexec")
    box.linux["readonlyPaths"] = ["/v", "/etc", "/no/such/path", "/proc/sys"]
    box.script("touch /v/x 2>&1; touch /etc/x 2>&1; echo 1 2>&1 > /proc/sys/kernel/shmmni; cat /proc/self/mountinfo")
    lines = box.run().out.splitlines(keepends=True)
    assert "".join(lines[:2]) == "touch: /v/x: Read-only file system\ntouch: /etc/x: Read-only file system\n"
    inside = parse("".join(line for line in lines if " - " in line))
    assert {"ro", "nosuid", "nodev", "noexec"} <= inside["/v"].options
    assert {"ro", "nosuid", "nodev", "noexec"} - inside["/proc/sys"].options <= {"nosuid", "nodev", "noexec"}


@pytest.mark.parametrize("key", ["maskedPaths", "readonlyPaths"])
@pyoci_only("takes them as relative to /")
def test_masked_and_readonly_paths_are_absolute(box: Box, key: str) -> None:
    """M19 M20"""
    box.linux[key] = ["etc/passwd"]
    assert box.create(check=False).code == 1


# -- proc, sys, dev -------------------------------------------------------------------------


@pytest.mark.parametrize("destination", ["/proc/self", "/proc/sys", "/proc/kcore"])
def test_nothing_is_mounted_under_proc(box: Box, volume: Path, destination: str) -> None:
    """M23 SECURITY 4"""
    box.bind(destination, volume)
    result = box.create(check=False)
    assert result.code == 1
    assert "proc" in result.error
    assert box.entries() == set()


def test_lxcfs_files_are_the_exception(box: Box, volume: Path) -> None:
    """M23"""
    box.bind("/proc/meminfo", volume / "file")
    assert box.sh("cat /proc/meminfo") == "from the host\n"


def test_proc_of_the_rootfs_may_not_be_a_symlink(box: Box) -> None:
    """M23 SECURITY 4, CVE-2019-19921"""
    (box.rootfs / "proc").rmdir()
    os.symlink("/tmp", box.rootfs / "proc")
    result = box.create(check=False)
    assert result.code == 1
    assert box.entries() == set()


def test_default_file_systems(box: Box) -> None:
    """L28: of the right kind, with the options of the config."""
    inside = mounts_inside(box)
    kinds = {point: inside[point].fstype for point in ("/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")}
    assert kinds == {
        "/proc": "proc",
        "/sys": "sysfs",
        "/dev": "tmpfs",
        "/dev/pts": "devpts",
        "/dev/shm": "tmpfs",
        "/dev/mqueue": "mqueue",
    }
    assert "ro" in inside["/sys"].options
    assert {"nosuid", "noexec", "nodev"} <= inside["/dev/shm"].options
    assert "size=65536k" in inside["/dev"].super_options
    assert {"gid=5", "mode=620", "ptmxmode=666"} <= inside["/dev/pts"].super_options


def test_proc_shows_only_the_container(box: Box) -> None:
    """L28: proc of the new pid namespace."""
    assert box.sh("ls -d /proc/[0-9]* | wc -l") in ("2\n", "3\n", "4\n")


def test_readonly_dev(box: Box) -> None:
    """M24: ro of /dev takes effect after the devices were made."""
    dev = next(entry for entry in box.config["mounts"] if entry["destination"] == "/dev")
    dev["options"].append("ro")
    shown = box.sh("touch /dev/x 2>&1; test -c /dev/null && touch /dev/shm/x && echo ok")
    assert shown == "touch: /dev/x: Read-only file system\nok\n"


CGROUP = ("nosuid", "noexec", "nodev", "relatime", "ro")


def test_cgroup_mount(box: Box) -> None:
    """M17: on a v1 or hybrid host a directory for each controller, on v2 the unified tree."""
    box.mount("/sys/fs/cgroup", "cgroup", "cgroup", *CGROUP)
    inside = mounts_inside(box)
    mounted = inside["/sys/fs/cgroup"]
    if mounted.fstype == "cgroup2":
        assert "ro" in mounted.options
        return
    assert mounted.fstype == "tmpfs"
    assert {"ro", "nosuid", "nodev", "noexec"} <= inside["/sys/fs/cgroup/memory"].options
    assert inside["/sys/fs/cgroup/memory"].fstype == "cgroup"
    shown = box.sh("cat /sys/fs/cgroup/memory/cgroup.procs; ! mkdir /sys/fs/cgroup/memory/x 2>&1")
    assert shown.startswith("1\n"), "the root of the mount is not the container's own cgroup"


def test_cgroup_mount_in_a_cgroup_namespace(box: Box) -> None:
    """M17 N01"""
    box.namespace("cgroup")
    box.mount("/sys/fs/cgroup", "cgroup", "cgroup", *CGROUP)
    root = "/sys/fs/cgroup/memory" if "/sys/fs/cgroup/memory" in mounts_inside(box) else "/sys/fs/cgroup"
    assert "1" in box.sh(f"cat {root}/cgroup.procs").split()


def test_mounts_of_the_host_stay(box: Box, tree: Path) -> None:
    """L12 L21: neither a bind nor propagation changes what the host has; the leftovers check compares them."""
    box.mount("/v", "bind", tree, "rbind", "rslave")
    box.up()
    box.exec("ls", "/v/sub")
    box.delete("--force")
    assert os.path.ismount(tree / "sub")
    flags = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(tree) in line]
    assert not any("shared:" in line or "master:" in line for line in flags)


def test_private_root_of_the_caller_stays_private(box: Box) -> None:
    """M18: shared rootfsPropagation does not make the host's mounts shared."""
    box.linux["rootfsPropagation"] = "rshared"
    box.up()
    assert "shared:" not in Path("/proc/self/mountinfo").read_text()
    assert MS_REC
