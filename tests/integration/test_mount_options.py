"""Mount options beyond the ordinary ones: M10-M12, M14, M16, M22, and how binds follow links."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.harness import MS_PRIVATE, Box, kernel_version, mount, pyoci_only, umount
from tests.integration.test_mounts import mounts_inside, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

ATTRIBUTES = ("ro", "nosuid", "nodev", "noexec", "nosymfollow", "nodiratime", "noatime")
pytestmark = pyoci_only("1.1 has none of these options")


@pytest.fixture
def tree(box: Box) -> Iterator[Path]:
    """A tmpfs with a file of 0, one of 1000, and another tmpfs on /sub that has them too."""
    directory = box.bundle / "tree"
    directory.mkdir()
    mount("tmpfs", directory, "tmpfs")
    mount("none", directory, flags=MS_PRIVATE)
    (directory / "sub").mkdir()
    mount("tmpfs", directory / "sub", "tmpfs")
    for place in (directory, directory / "sub"):
        for uid in (0, 1000):
            (place / f"of{uid}").write_text("x")
            os.chown(place / f"of{uid}", uid, uid)
    yield directory
    umount(directory)


# -- recursive ------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ATTRIBUTES)
def test_recursive_attribute(box: Box, tree: Path, word: str) -> None:
    """M10 M11: on the mount and on those below it; the plain word on the topmost only."""
    box.mount("/r", "bind", tree, "rbind", f"r{word}")
    box.mount("/p", "bind", tree, "rbind", word)
    inside = mounts_inside(box)
    assert word in inside["/r"].options
    assert word in inside["/r/sub"].options
    assert word in inside["/p"].options
    assert word not in inside["/p/sub"].options


def test_recursive_attribute_taken_back(box: Box, tree: Path) -> None:
    """M10: rrw and its kin, also on what the host has mounted so."""
    mount("none", tree / "sub", flags=0x20 | 0x1000 | 1 | 2)  # remount, bind, ro, nosuid
    box.mount("/m", "bind", tree, "rbind", "rrw", "rsuid")
    assert not {"ro", "nosuid"} & mounts_inside(box)["/m/sub"].options


def test_recursive_words_of_mount8(box: Box, tree: Path) -> None:
    """M16: ro=recursive."""
    box.mount("/m", "bind", tree, "rbind", "ro=recursive")
    assert "ro" in mounts_inside(box)["/m/sub"].options


# -- mapped ids -----------------------------------------------------------------------------


def owners(box: Box, *files: str) -> list[str]:
    return box.sh("stat -c %u:%g " + " ".join(files)).split()


def mapping(host: int) -> dict[str, Any]:
    entries = [{"containerID": 0, "hostID": host, "size": 65536}]
    return {"uidMappings": entries, "gidMappings": entries}


def idmapped(box: Box, source: Path, option: str, **maps: Any) -> None:
    entry = {"destination": "/m", "type": "bind", "source": str(source), "options": ["rbind", option], **maps}
    box.config["mounts"].append(entry)


tmpfs_is_mapped = pytest.mark.skipif(
    kernel_version() < (6, 3), reason="the ids of a tmpfs can be mapped since Linux 6.3"
)
FILES = ("/m/of0", "/m/of1000", "/m/sub/of1000")


@tmpfs_is_mapped
def test_idmap(box: Box, tree: Path) -> None:
    """M12: the mount's own maps, on the topmost mount; the files on disk stay as they are."""
    idmapped(box, tree, "idmap", **mapping(5000))
    assert owners(box, *FILES) == ["5000:5000", "6000:6000", "1000:1000"]
    assert (tree / "of0").stat().st_uid == 0


@tmpfs_is_mapped
def test_ridmap(box: Box, tree: Path) -> None:
    """M12: the whole tree; what root makes through it belongs to the id that is mapped back."""
    idmapped(box, tree, "ridmap", **mapping(0))
    box.config["mounts"][-1]["uidMappings"] = [{"containerID": 700, "hostID": 0, "size": 1}]
    for place in (tree, tree / "sub"):
        os.chown(place, 700, 0)
    box.sh("touch /m/new /m/sub/new")
    assert (tree / "new").stat().st_uid == 700
    assert (tree / "sub/new").stat().st_uid == 700


@tmpfs_is_mapped
def test_mappings_without_an_option(box: Box, tree: Path) -> None:
    """M12: mappings alone are idmap."""
    idmapped(box, tree, "rw", **mapping(5000))
    assert owners(box, *FILES) == ["5000:5000", "6000:6000", "1000:1000"]


@tmpfs_is_mapped
def test_idmap_by_the_maps_of_the_container(box: Box, tree: Path) -> None:
    """M12 N06: in a user namespace, files of host ids appear as their own."""
    box.userns()
    (box.rootfs / "m").mkdir()
    idmapped(box, tree, "ridmap")
    assert owners(box, *FILES) == ["0:0", "1000:1000", "1000:1000"]


def test_idmap_in_a_joined_user_namespace(boxes: Any) -> None:
    """M12 N09: the maps are those of the namespace."""
    first, second = boxes(), boxes()
    (second.bundle / "v").mkdir()
    (second.bundle / "v/file").write_text("x")
    first.userns()
    first.up()
    second.namespace("user", f"/proc/{first.pid}/ns/user")
    os.chmod(second.bundle, 0o711)
    (second.rootfs / "m").mkdir()
    idmapped(second, second.bundle / "v", "idmap")
    assert owners(second, "/m/file") == ["0:0"]


@tmpfs_is_mapped
def test_idmap_of_a_new_file_system(box: Box) -> None:
    """M12: not only binds; what 7 makes is 0's in the file system."""
    entry = {"destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": ["idmap", "mode=1777"]}
    box.config["mounts"].append({**entry, **mapping(7)})
    assert owners(box, "/m") == ["7:7"]


@pytest.mark.parametrize(
    "entry",
    [
        {"type": "bind", "source": "/proc/sys", "options": ["rbind", "idmap"]},
        {"type": "mqueue", "source": "mqueue", "options": ["idmap"]},
    ],
    ids=["bind", "new"],
)
def test_idmap_of_what_cannot_be_mapped(box: Box, entry: dict[str, Any]) -> None:
    """M12 L06: the kernel's no, in words."""
    box.config["mounts"].append({"destination": "/m", **entry, **mapping(7)})
    result = box.create(check=False)
    assert result.code == 1
    assert entry["source"] in result.error
    assert "cannot be mapped" in result.error
    assert box.entries() == set()


def test_idmap_without_maps(box: Box, tree: Path) -> None:
    """M12: an error."""
    idmapped(box, tree, "idmap")
    result = box.create(check=False)
    assert result.code == 1
    assert "mappings" in result.error


@tmpfs_is_mapped
def test_x_mount_idmap(box: Box, tree: Path) -> None:
    """M16 M12: mount(8)'s way to say it."""
    box.mount("/m", "bind", tree, "bind", "X-mount.idmap=u:0:5:1 g:0:6:1")
    assert owners(box, "/m/of0") == ["5:6"]


# -- mount(8) -------------------------------------------------------------------------------


def test_nofail(box: Box) -> None:
    """M16: no such source is no error, and nothing is mounted; other faults still are."""
    box.bind("/a", box.bundle / "nosuch", "nofail")
    box.mount("/b", "ext4", "/dev/nosuch", "nofail")
    inside = mounts_inside(box)
    assert not {"/a", "/b"} & set(inside)
    box.mount("/c", "frobfs", "none", "nofail")
    assert box.create(check=False).code == 1


def test_nofail_in_a_user_namespace(box: Box) -> None:
    """M16: where the sources are opened beforehand."""
    box.userns()
    box.bind("/a", box.bundle / "nosuch", "nofail")
    assert box.sh("ls -d /a 2>/dev/null || echo none") == "none\n"


def test_x_mount_mkdir(box: Box) -> None:
    """M16: the mode of the mount point; in the rootfs it can be seen."""
    box.mount("/made/here", "tmpfs", "tmpfs", "X-mount.mkdir=0710")
    box.run()
    assert (box.rootfs / "made").stat().st_mode & 0o7777 == 0o710


def test_x_mount_subdir(box: Box, tree: Path) -> None:
    """M16: only a part of the file system, found inside it whatever links it has."""
    (tree / "dir").mkdir()
    (tree / "dir/inner").write_text("inner\n")
    os.symlink("/../../dir", tree / "link")
    box.bind("/m", tree, "X-mount.subdir=link", "ro")
    shown = box.sh("cat /m/inner; ls /m; grep -c ' /m ' /proc/self/mountinfo")
    assert shown == "inner\ninner\n1\n"
    assert "ro" in mounts_inside(box)["/m"].options


def test_x_mount_subdir_that_is_not_there(box: Box) -> None:
    """M16 L06 L21"""
    box.mount("/m", "tmpfs", "tmpfs", "X-mount.subdir=nosuch")
    result = box.create(check=False)
    assert result.code == 1
    assert "nosuch: no such file or directory" in result.error


def test_x_mount_owner(box: Box) -> None:
    """M16: owner, group and mode of the root of the mount."""
    box.mount("/m", "tmpfs", "tmpfs", "X-mount.owner=12", "X-mount.group=13", "X-mount.mode=2750")
    assert box.sh("stat -c '%u:%g %a' /m") == "12:13 2750\n"


def test_x_mount_owner_by_name(box: Box) -> None:
    """M16: a name is the image's, as mount(8) takes those of the system it mounts for."""
    box.mount("/m", "tmpfs", "tmpfs", "X-mount.owner=walnut", "X-mount.group=nuts")
    (box.rootfs / "etc/group").write_text("root:x:0:\nnuts:x:1234:\n")
    assert box.sh("stat -c '%u:%g' /m") == "1000:1234\n"
    (box.rootfs / "etc/passwd").unlink()
    os.symlink("/proc/self/environ", box.rootfs / "etc/passwd")  # the image's, so empty: never the host's
    result = box.create(check=False)
    assert result.code == 1
    assert "X-mount.owner: unable to find user walnut" in result.error
    assert "/mounts/6/options" in result.error


# -- links ----------------------------------------------------------------------------------


@pytest.fixture
def links(box: Box) -> Path:
    """A directory of the host with a file and a link to it."""
    directory = box.bundle / "links"
    directory.mkdir()
    (directory / "file").write_text("file\n")
    os.symlink("file", directory / "link")
    return directory


@pytest.mark.parametrize("user", [False, True])
def test_source_not_followed(box: Box, links: Path, user: bool) -> None:
    """src-nofollow: the link itself is bound, onto a link that is not followed either."""
    if user:
        box.userns()
    os.symlink("/etc/passwd", box.rootfs / "there")
    box.bind("/there", links / "link", "src-nofollow", "dest-nofollow")
    assert box.sh("readlink /there") == "file\n"
    assert os.readlink(box.rootfs / "there") == "/etc/passwd"


def test_destination_not_followed(box: Box, links: Path) -> None:
    """dest-nofollow: a link in the rootfs is covered, not what it points to."""
    os.symlink("/etc/passwd", box.rootfs / "there")
    box.bind("/there", links / "file", "dest-nofollow")
    assert box.sh("cat /there; head -c 4 /etc/passwd") == "file\nroot"


@pytest.mark.parametrize("user", [False, True])
def test_copy_symlink(box: Box, links: Path, user: bool) -> None:
    """copy-symlink: a source that is a link is made again; anything else is bound."""
    if user:
        box.userns()
        os.chmod(links, 0o755)
        for path in (box.rootfs, box.rootfs / "etc"):
            os.chown(path, 100000, 100000)
    box.bind("/etc/link", links / "link", "copy-symlink")
    box.bind("/etc/passwd", links / "file", "copy-symlink")
    assert box.sh("readlink /etc/link; cat /etc/passwd") == "file\nfile\n"
    assert os.readlink(box.rootfs / "etc/link") == "file"


def test_copy_symlink_onto_another_file(box: Box, links: Path) -> None:
    """L06: what is there and is not that link stays, and is an error."""
    box.bind("/etc/passwd", links / "link", "copy-symlink")
    result = box.create(check=False)
    assert result.code == 1
    assert "file exists" in result.error
    assert "root:" in (box.rootfs / "etc/passwd").read_text()


# -- tmpfs ----------------------------------------------------------------------------------


def test_tmpfs_takes_over_the_mode(box: Box) -> None:
    """M14: of the directory it covers, unless one is given."""
    for name in ("a", "b"):
        (box.rootfs / name).mkdir()
        (box.rootfs / name).chmod(0o751)
    box.mount("/a", "tmpfs", "tmpfs")
    box.mount("/b", "tmpfs", "tmpfs", "mode=1700")
    assert box.sh("stat -c %a /a /b") == "751\n1700\n"


def test_tmpcopyup_keeps_what_a_copy_keeps(box: Box) -> None:
    """M14: times, extended attributes, owner and mode of the directory itself; options win."""
    source = box.rootfs / "data"
    source.mkdir()
    os.chown(source, 5, 6)
    source.chmod(0o755)
    (source / "file").write_text("x")
    os.setxattr(source / "file", "trusted.pyoci", b"kept")
    os.utime(source / "file", (1000, 2000))
    box.mount("/data", "tmpfs", "tmpfs", "tmpcopyup", "ro")
    box.mount("/data2", "bind", source, "bind")
    box.args("sleep", "100")
    assert box.sh("stat -c '%u:%g %a' /data; stat -c %Y /data/file; touch /data/x 2>&1; true").splitlines()[:3] == [
        "5:6 755",
        "2000",
        "touch: /data/x: Read-only file system",
    ]
    box.args("sleep", "100")
    box.up()
    assert os.getxattr(f"/proc/{box.pid}/root/data/file", "trusted.pyoci") == b"kept"


# -- locked flags ---------------------------------------------------------------------------


LOCKED = ("nosuid", "nodev", "noexec", "noatime")


def nested(box: Box, *options: str, check: bool = True) -> str:
    """The mounts seen by a container that root of a user namespace runs, with /m bound from a mount of the host
    that has all LOCKED flags."""
    source = box.bundle / "locked"
    source.mkdir()
    mount("tmpfs", source, "tmpfs", flags=2 | 4 | 8 | 1024)
    mount("none", source, flags=MS_PRIVATE)
    os.chmod(box.bundle, 0o755)
    for part in ("network", "cgroup"):
        box.no_namespace(part)
    del box.linux["cgroupsPath"]
    box.config["mounts"] = [m for m in box.config["mounts"] if m["type"] not in ("sysfs", "devpts", "cgroup")]
    box.linux["resources"] = {}
    box.mount("/m", "bind", source, "bind", *options)
    box.args("cat", "/proc/self/mountinfo")
    box.write()
    command = ["unshare", "--user", "--map-root-user", "--mount"]
    command += box.argv("run", "--bundle", str(box.bundle), box.id)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    finally:
        umount(source)
    assert (done.returncode == 0) == check, done.stderr
    return done.stdout if check else done.stderr


@pytest.mark.parametrize("option", ["rw", "ro", "rro", "defaults"])
def test_locked_flags_are_kept(box: Box, option: str) -> None:
    """M22: in a user namespace a bind of a mount of the host keeps its flags, whatever else is asked."""
    options = parse(nested(box, option))["/m"].options
    assert set(LOCKED) <= options
    assert ("ro" in options) == (option in ("ro", "rro"))


def test_locked_flags_are_kept_by_a_remount(box: Box) -> None:
    """M22 M06"""
    box.config["mounts"].append({"destination": "/m", "options": ["remount", "bind", "ro"]})
    last = box.config["mounts"].pop()
    append = box.mount

    def mount_twice(*args: Any) -> None:
        append(*args)
        box.config["mounts"].append(last)

    box.mount = mount_twice  # type: ignore[method-assign]
    assert set(LOCKED) | {"ro"} <= parse(nested(box))["/m"].options


@pytest.mark.parametrize("option", ["suid", "exec", "dev", "strictatime"])
def test_locked_flags_cannot_be_taken_away(box: Box, option: str) -> None:
    """M22 L06: an error that says why."""
    assert "stay as they are" in nested(box, option, check=False)


def test_remount_changes_only_what_is_asked(box: Box) -> None:
    """M06: the flags of the mount stay when the file system changes."""
    box.mount("/m", "tmpfs", "tmpfs", "nosuid", "noexec", "size=1m")
    box.mount("/m", "tmpfs", "tmpfs", "remount", "size=2m", "nodev")
    mounted = mounts_inside(box)["/m"]
    assert {"nosuid", "noexec", "nodev", "rw"} <= mounted.options
    assert "size=2048k" in mounted.super_options
