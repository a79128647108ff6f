"""G3, second part: mounts with rules of their own, masked and read-only paths, /dev."""

from __future__ import annotations

import os
from pathlib import Path

from conformance import machine
from conformance.box import Box, Skip, holds, mountinfo, same
from conformance.g03_mounts import check_propagation, seen, tree
from conformance.runner import check


def maps(inside: int, outside: int) -> dict[str, list[dict[str, int]]]:
    """The mappings of a mount."""
    entry = [{"containerID": inside, "hostID": outside, "size": 1}]
    return {"uidMappings": entry, "gidMappings": entry}


def mappable(box: Box) -> Path:
    """A directory with another mount in sub, both of a file system whose owners can be mapped.  Raises Skip."""
    if machine.idmaps(box.dir):
        top = box.dir / "tree"
        (top / "sub").mkdir(parents=True)
        for path in (top, top / "sub"):
            machine.mount(path, path, flags=machine.MS_BIND)
        return top
    top = tree(box)
    if not machine.idmaps(top):
        raise Skip("this kernel maps the owners of neither tmpfs nor what is below /tmp")
    return top


@check("M12")
def idmap(box: Box) -> None:
    """idmap maps the owners of one mount, ridmap those of the tree; by the mount's own mappings."""
    top = mappable(box)
    for name in ("f", "sub/f"):
        (top / name).touch()
    box.bind("/m/one", top, "rbind", "idmap", **maps(0, 1000))
    box.bind("/m/all", top, "rbind", "ridmap", **maps(0, 1000))
    out = box.sh("for f in one/f one/sub/f all/f all/sub/f; do stat -c %u:%g /m/$f; done")
    same(out.split(), ["1000:1000", "0:0", "1000:1000", "1000:1000"], "owners")


@check("M12")
def idmap_of_container(box: Box) -> None:
    """Without mappings of its own the mount has the container's."""
    top = mappable(box)
    (top / "f").touch()
    (box.rootfs / "m").mkdir()
    box.userns()
    box.bind("/m", top, "idmap")
    same(box.sh("stat -c %u:%g /m/f"), "0:0\n", "owner of root's file")


@check("M12")
def idmap_errors(box: Box) -> None:
    """No mappings at all, or one of the two, is an error."""
    top = tree(box)
    box.alone(lambda b: b.bind("/m", top, "idmap"), "idmap without mappings")
    one = [{"containerID": 0, "hostID": 1000, "size": 1}]
    box.alone(lambda b: b.bind("/m", top, "idmap", uidMappings=one), "idmap with uidMappings alone")


@check("M13")
def mandatory_locks(box: Box) -> None:
    """mand and nomand are taken."""
    box.mount("/m/mand", "tmpfs", "t", "mand")
    box.mount("/m/nomand", "tmpfs", "t", "nomand")
    holds({"/m/mand", "/m/nomand"} <= set(seen(box)), "not mounted")


@check("M14")
def tmpcopyup(box: Box) -> None:
    """A tmpfs with tmpcopyup begins with what was there, and changes stay in it."""
    (box.rootfs / "etc/deep").mkdir()
    (box.rootfs / "etc/deep/file").write_text("walnut\n")
    os.chown(box.rootfs / "etc/deep/file", 7, 8)
    box.mount("/etc", "tmpfs", "t", "tmpcopyup")
    out = box.sh("cat /etc/deep/file; stat -c %u:%g /etc/deep/file; echo x >/etc/new")
    same(out, "walnut\n7:8\n", "what is in the tmpfs")
    holds(not (box.rootfs / "etc/new").exists(), "a change went to the root file system")


@check("M15")
def data(box: Box) -> None:
    """Unknown options are data of the file system, joined by commas; its refusal is an error."""
    box.mount("/m", "tmpfs", "t", "size=64k", "mode=700", "nr_inodes=50")
    found = seen(box)["/m"].data
    holds({"size=64k", "mode=700", "nr_inodes=50"} <= found, f"data of the tmpfs: {','.join(sorted(found))}")
    box.config["mounts"][-1]["options"] = ["nosuchoption=1"]
    box.refused("an option that tmpfs does not know")


@check("M16")
def options_of_mount8(box: Box) -> None:
    """Options that mount(8) keeps for itself do not reach the kernel: nofail, _netdev, x-anything, noauto, comment=."""
    for number, option in enumerate(("nofail", "_netdev", "x-systemd.automount", "noauto", "auto", "comment=x")):
        box.mount(f"/m/{number}", "tmpfs", "t", option)
    same(sum(point.startswith("/m/") for point in seen(box)), 6, "mounts")


@check("M16")
def options_of_mount8_with_effect(box: Box) -> None:
    """X-mount.mkdir and X-mount.mode do what mount(8) does; nofail takes a missing source."""
    box.mount("/m/a", "tmpfs", "t", "X-mount.mkdir=0711", "X-mount.mode=0750")
    box.bind("/m/gone", "/nosuch/source", "nofail")
    same(box.sh("stat -c %a /m/a; test -e /m/gone/x || echo end"), "750\nend\n", "mode of the mount")


def cgroup_view(box: Box) -> None:
    """The container sees its own limits at /sys/fs/cgroup."""
    box.resources["pids"] = {"limit": 123}
    box.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro")
    if machine.unified():  # the tree that /proc/self/cgroup speaks of
        same(box.sh("cat /sys/fs/cgroup/$(cut -d: -f3 /proc/self/cgroup)/pids.max"), "123\n", "pids.max")
    else:
        same(box.output("cat", "/sys/fs/cgroup/pids/pids.max"), "123\n", "pids.max")


@check("M17")
def cgroup_mount(box: Box) -> None:
    """Type cgroup shows the container its cgroup, without a cgroup namespace."""
    cgroup_view(box)


@check("M17")
def cgroup_mount_in_namespace(box: Box) -> None:
    """And with one, in which it is the root."""
    box.namespace("cgroup")
    cgroup_view(box)
    lines = box.output("cat", "/proc/self/cgroup").splitlines()
    same({line.split(":")[2] for line in lines if "pids" in line or machine.unified()}, {"/"}, "its own cgroup")


@check("M17")
def cgroup_links(box: Box) -> None:
    """On v1 every hierarchy has its directory, and controllers that share one are links to it."""
    if machine.unified():
        raise Skip("this machine has cgroup v2")
    shared = [path.name for path in machine.CGROUPS.iterdir() if path.is_symlink()]
    box.mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro")
    found = set(box.output("ls", "/sys/fs/cgroup").split())
    wanted = {name.removeprefix("name=") for name in machine.mounted_controllers() - {"xattr"}}
    same(wanted - found, set(), "controllers without a directory")
    out = box.sh("".join(f"readlink /sys/fs/cgroup/{name}; " for name in shared) + "true").split()
    same(out, [str(Path(os.readlink(machine.CGROUPS / name))) for name in shared], "where the links lead")


@check("M17")
def cgroup2_mount(box: Box) -> None:
    """Type cgroup2."""
    box.namespace("cgroup")
    box.mount("/mnt", "cgroup2", "cgroup2", "ro")
    same(seen(box)["/mnt"].fstype, "cgroup2", "type")


@check("M18")
def root_propagation(box: Box) -> None:
    """rootfsPropagation is that of / in the container."""
    machine.mount(box.dir, box.dir, flags=machine.MS_BIND)
    for kind in ("shared", "slave", "private", "unbindable"):
        machine.mount("none", box.dir, flags=machine.MS_SHARED)
        box.linux["rootfsPropagation"] = kind
        check_propagation(seen(box), "/", kind)
    box.linux["rootfsPropagation"] = "nosuch"
    box.refused("an unknown propagation")


@check("M19")
def masked_paths(box: Box) -> None:
    """Masked files read as empty or not at all, masked directories are empty; missing ones are no error."""
    (box.rootfs / "etc/dir").mkdir()
    (box.rootfs / "etc/dir/file").touch()
    (box.rootfs / "etc/secret").write_text("secret")
    box.linux["maskedPaths"] = ["/etc/secret", "/etc/dir", "/nosuch"]
    same(box.sh("cat /etc/secret 2>/dev/null; ls -A /etc/dir 2>/dev/null; echo end"), "end\n", "what can be read")
    box.linux["maskedPaths"] = ["etc/secret"]
    box.refused("a relative path")


@check("M20")
def readonly_paths(box: Box) -> None:
    """Paths become read-only and keep their other flags; missing ones are no error."""
    box.mount("/m", "tmpfs", "t", "nosuid", "nodev", "noexec", "noatime")
    box.mount("/m/d", "tmpfs", "t", "nosuid", "nodev", "noexec", "noatime")
    box.linux["readonlyPaths"] = ["/m/d", "/etc/group", "/nosuch"]
    out = box.sh("cat /proc/self/mountinfo; echo x >/m/ok; echo x 2>/dev/null >/m/d/f || echo X ro; "
                 "echo 2>/dev/null >>/etc/group || echo X ro")  # fmt: skip
    same(out.count("X ro"), 2, "paths that cannot be written")
    found = mountinfo("\n".join(line for line in out.splitlines() if " - " in line))["/m/d"].options
    holds({"ro", "nosuid", "nodev", "noexec", "noatime"} <= found, f"flags: {','.join(sorted(found))}")
    box.linux["readonlyPaths"] = ["m/d"]
    box.refused("a relative path")


@check("M21")
def mount_label(box: Box) -> None:
    """Mounts have the SELinux context."""
    label = box.linux["mountLabel"] = "system_u:object_r:container_file_t:s0:c1,c2"
    if not machine.lsm("selinux"):
        box.skip_or_plan("this kernel runs without SELinux", f'context=\\"{label}\\"', assume="selinux")
    holds(any(label in word for word in seen(box)["/dev/shm"].data), "no context in the options of /dev/shm")


@check("M22")
def locked_flags(box: Box) -> None:
    """In a user namespace a bind mount that becomes read-only keeps the flags of its source."""
    source = box.dir / "source"
    source.mkdir()
    machine.mount("t", source, "tmpfs", flags=machine.MS_NOSUID | machine.MS_NODEV | machine.MS_NOEXEC | 1024)
    box.userns()
    box.bind("/mnt", source, "ro")
    found = seen(box)["/mnt"].options
    holds({"ro", "nosuid", "nodev", "noexec", "noatime"} <= found, f"flags: {','.join(sorted(found))}")


@check("M23")
def over_proc(box: Box) -> None:
    """Nothing may be mounted in /proc, except the files of lxcfs."""
    file = box.dir / "meminfo"
    file.write_text("walnut")
    box.alone(lambda b: b.mount("/proc/sys", "tmpfs", "t"), "a tmpfs on /proc/sys")
    box.alone(lambda b: b.bind("/proc/self/attr", box.dir), "a bind mount on /proc/self/attr")
    box.bind("/proc/meminfo", file)
    same(box.output("cat", "/proc/meminfo"), "walnut", "/proc/meminfo")


@check("M23")
def proc_by_link(box: Box) -> None:
    """Not by way of a link either."""
    (box.rootfs / "way").symlink_to("/proc")
    box.mount("/way/sys", "tmpfs", "t")
    box.refused("a tmpfs on /way/sys, where /way is /proc")


@check("M24")
def dev(box: Box) -> None:
    """A read-only /dev has its devices, and nothing more can be made; /dev/mqueue works."""
    box.config["mounts"][1]["options"].append("ro")
    box.mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev")
    out = box.sh(
        "test -c /dev/null && echo null; echo x >/dev/null && echo written; touch /dev/x 2>/dev/null || echo ro"
    )
    same(out.split(), ["null", "written", "ro"], "/dev")
    same(seen(box)["/dev/mqueue"].fstype, "mqueue", "type of /dev/mqueue")
