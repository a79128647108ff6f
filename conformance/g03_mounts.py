"""G3, first part: the root file system and the options of mounts (config.md, config-linux.md)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from conformance import machine
from conformance.box import Box, Mount, holds, mountinfo, same
from conformance.runner import check

if TYPE_CHECKING:
    from collections.abc import Iterable


def seen(box: Box) -> dict[str, Mount]:
    """The mounts as the program sees them."""
    return mountinfo(box.output("cat", "/proc/self/mountinfo"))


def tree(box: Box, name: str = "tree", flags: int = 0, propagation: int = machine.MS_PRIVATE) -> Path:
    """A tmpfs on the host with another one in its directory sub; both have flags."""
    top = box.dir / name
    top.mkdir()
    machine.mount("top", top, "tmpfs")
    (top / "sub").mkdir()
    machine.mount("sub", top / "sub", "tmpfs")
    for path in (top, top / "sub") if flags else ():
        machine.mount("none", path, flags=machine.MS_REMOUNT | machine.MS_BIND | flags)
    machine.mount("none", top, flags=propagation | machine.MS_REC)
    return top


@check("M01")
def root_path(box: Box) -> None:
    """root.path relative to the bundle or absolute; it must be there and a directory."""
    same(box.output("cat", "/etc/group").split("\n")[0], "root:x:0:", "with a relative path")
    box.config["root"]["path"] = str(box.rootfs)
    same(box.output("cat", "/etc/group").split("\n")[0], "root:x:0:", "with an absolute path")
    box.alone(lambda b: b.config.pop("root"), "no root")
    box.alone(lambda b: b.config["root"].update(path="nosuch"), "a root that is not there")
    box.alone(lambda b: b.config.update(root={"path": "config.json"}), "a root that is a file")


@check("M02")
def root_readonly(box: Box) -> None:
    """root.readonly makes / read-only, and only then."""
    for value, wanted in ((True, "ro\n"), (False, "rw\n")):
        box.config["root"]["readonly"] = value
        same(box.sh("touch /x 2>/dev/null && echo rw || echo ro"), wanted, f"with readonly {value}")
    holds("/mnt" not in seen(box), "a mount nobody asked for")


@check("M03")
def order(box: Box) -> None:
    """Mounts are made in the listed order."""
    box.mount("/mnt", "tmpfs", "first")
    box.mount("/mnt/in", "tmpfs", "second")
    box.mount("/tmp/in", "tmpfs", "third")
    box.mount("/tmp", "tmpfs", "fourth")
    out = box.sh("test -d /mnt/in && echo seen; test -d /tmp/in || echo hidden")
    same(out.split(), ["seen", "hidden"], "what is mounted over what")


@check("M04")
def relative_destination(box: Box) -> None:
    """A relative destination is one of /."""
    box.mount("mnt/a", "tmpfs", "t")
    holds("/mnt/a" in seen(box), "nothing is mounted on /mnt/a")


@check("M04")
def confined(box: Box) -> None:
    """A destination whose links lead out of the root stays in it."""
    outside = box.dir / "outside"
    outside.mkdir()
    (box.rootfs / "link").symlink_to(outside)
    (box.rootfs / "up").symlink_to("../" * 20 + str(outside).lstrip("/"))
    before = machine.mounts()
    box.mount("/link", "tmpfs", "one")
    box.mount("/up/deep", "tmpfs", "two")
    box.process["args"] = ["cat", "/proc/self/mountinfo"]
    result = box.try_run()
    same(list(outside.iterdir()), [], "made outside of the root")
    same(machine.mounts(), before, "mounts of the host")
    sources = {mount.source for mount in mountinfo(result.out).values()}
    holds(result.code != 0 or sources >= {"one", "two"}, "the mounts are neither there nor refused")


@check("M05")
def bind_sources(box: Box) -> None:
    """The source of a bind mount is absolute, or relative to the bundle; bind or rbind makes it one."""
    (box.bundle / "data").mkdir()
    (box.bundle / "data/file").write_text("walnut")
    box.bind("/mnt/a", box.bundle / "data")
    box.bind("/mnt/b", "data")
    box.mount("/mnt/c", "none", "data", "rbind")
    box.config["mounts"].append({"destination": "/mnt/d", "source": "data", "options": ["bind"]})
    same(box.sh("cat /mnt/a/file /mnt/b/file /mnt/c/file /mnt/d/file"), "walnut" * 4, "what is mounted")


# option -> (words that must be there, words that must not), of the mount and of its file system
PLAIN = {
    "ro": ("ro", "rw"),
    "rw": ("rw", "ro"),
    "nosuid": ("nosuid", ""),
    "suid": ("", "nosuid"),
    "nodev": ("nodev", ""),
    "dev": ("", "nodev"),
    "noexec": ("noexec", ""),
    "exec": ("", "noexec"),
    "noatime": ("noatime", "relatime"),
    "atime": ("", "noatime"),
    "nodiratime": ("nodiratime", ""),
    "diratime": ("", "nodiratime"),
    "relatime": ("relatime", "noatime"),
    "norelatime": ("", "noatime"),
    "strictatime": ("", "relatime noatime"),
    "nostrictatime": ("relatime", ""),
    "sync": ("/sync", ""),
    "async": ("", "/sync"),
    "dirsync": ("/dirsync", ""),
    "defaults": ("rw", "nosuid nodev noexec noatime"),
}


def wrong(
    options: Iterable[str], found: dict[str, Mount], table: dict[str, tuple[str, str]], suffix: str = ""
) -> list[str]:
    """The options whose mount under /m is not as the table says."""
    bad = []
    for option in options:
        mount = found.get(f"/m/{option}{suffix}")
        there = mount.options | {"/" + word for word in mount.data} if mount else set()
        must, must_not = (set(words.split()) for words in table[option])
        if mount is None or not must <= there or must_not & there:
            bad.append(f"{option}: {','.join(sorted(mount.options | mount.data)) if mount else 'not mounted'}")
    return bad


@check("M06")
def plain_options(box: Box) -> None:
    """Each classic option has its effect on a new mount."""
    for option in PLAIN:
        box.mount(f"/m/{option}", "tmpfs", "t", option)
    same(wrong(PLAIN, seen(box), PLAIN), [], "options without their effect")


@check("M06")
def bind_options(box: Box) -> None:
    """bind, rbind and remount, with the options of the mount."""
    top = tree(box)
    (top / "file").touch()
    table = {name: PLAIN[name] for name in ("ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime")}
    for option in table:
        box.bind(f"/m/{option}", top, option)
    box.bind("/m/bind", top)
    box.bind("/m/rbind", top, "rbind")
    box.mount("/m/remount", "tmpfs", "t")
    box.mount("/m/remount", "tmpfs", "t", "remount", "ro")
    text = box.output("cat", "/proc/self/mountinfo")
    found = mountinfo(text)
    same(text.count(" /m/remount "), 1, "mounts at /m/remount")
    same(wrong(table, found, table), [], "options of bind mounts without their effect")
    holds("/m/bind/sub" not in found, "bind took a mount below with it")
    holds("/m/rbind/sub" in found, "rbind left a mount below behind")
    holds("ro" in found["/m/remount"].options | found["/m/remount"].data, "remount did not make it read-only")


@check("M07")
def quiet_options(box: Box) -> None:
    """iversion, lazytime, silent and their opposites are taken, not handed to the file system as data."""
    for option in "iversion noiversion lazytime nolazytime loud silent".split():
        box.mount(f"/m/{option}", "tmpfs", "t", option)
    found = seen(box)
    holds("lazytime" in found["/m/lazytime"].data, "lazytime has no effect")
    holds("lazytime" not in found["/m/nolazytime"].data, "nolazytime has no effect")


PROPAGATION = {"private": "", "shared": "shared:", "slave": "master:", "unbindable": "unbindable"}


def check_propagation(found: dict[str, Mount], point: str, kind: str) -> None:
    """The mount at point propagates as kind says."""
    wanted = PROPAGATION[kind]
    fields = " ".join(found[point].fields)
    holds(fields.startswith(wanted) if wanted else not fields, f"{point} as {kind}: {fields or 'private'}")


@check("M08")
def propagation(box: Box) -> None:
    """private, shared, slave, unbindable, for the mount alone or the tree."""
    top = tree(box, propagation=machine.MS_SHARED)
    for kind in PROPAGATION:
        box.bind(f"/m/{kind}", top, "rbind", kind)
        box.bind(f"/m/r{kind}", top, "rbind", f"r{kind}")
    found = seen(box)
    for kind in PROPAGATION:
        check_propagation(found, f"/m/{kind}", kind)
        check_propagation(found, f"/m/r{kind}", kind)
        check_propagation(found, f"/m/r{kind}/sub", kind)


@check("M09")
def nosymfollow(box: Box) -> None:
    """nosymfollow: links in the mount are not followed; symfollow: they are."""
    for option in ("nosymfollow", "symfollow"):
        box.mount(f"/m/{option}", "tmpfs", "t", option)
    out = box.sh(
        "for d in nosymfollow symfollow; do ln -s /etc/group /m/$d/l; cat /m/$d/l >/dev/null 2>&1; echo $?; done"
    )
    same(out.split(), ["1", "0"], "exit codes of cat through a link")


RECURSIVE = {"r" + name: PLAIN[name] for name in "ro nosuid nodev noexec noatime nodiratime relatime".split()}
RECURSIVE["rstrictatime"] = ("", "relatime noatime")
BACK = {"r" + name: PLAIN[name] for name in "rw suid dev exec atime diratime".split()}


@check("M10")
def recursive_options(box: Box) -> None:
    """Recursive options reach the mounts below."""
    top = tree(box)
    for option in RECURSIVE:
        box.bind(f"/m/{option}", top, "rbind", option)
    found = seen(box)
    same(wrong(RECURSIVE, found, RECURSIVE) + wrong(RECURSIVE, found, RECURSIVE, "/sub"), [], "without effect")


@check("M10")
def recursive_options_back(box: Box) -> None:
    """And so do their opposites."""
    flags = machine.MS_RDONLY | machine.MS_NOSUID | machine.MS_NODEV | machine.MS_NOEXEC | 1024 | 2048
    top = tree(box, flags=flags)
    for option in (*BACK, "rnorelatime", "rnostrictatime"):
        box.bind(f"/m/{option}", top, "rbind", option)
    found = seen(box)
    same(wrong(BACK, found, BACK) + wrong(BACK, found, BACK, "/sub"), [], "without effect")


@check("M11")
def recursive_nosymfollow(box: Box) -> None:
    """rnosymfollow and rsymfollow reach the mounts below."""
    top = tree(box)
    os.symlink("/etc/group", top / "sub/l")
    for option in ("rnosymfollow", "rsymfollow"):
        box.bind(f"/m/{option}", top, "rbind", option)
    out = box.sh("for d in rnosymfollow rsymfollow; do cat /m/$d/sub/l >/dev/null 2>&1; echo $?; done")
    same(out.split(), ["1", "0"], "exit codes of cat through a link")
