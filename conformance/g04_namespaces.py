"""G4: namespaces, user namespaces, time."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from conformance import machine
from conformance.box import Box, Result, Skip, fail, holds, same
from conformance.runner import check

FILES = {
    "pid": "pid",
    "network": "net",
    "mount": "mnt",
    "ipc": "ipc",
    "uts": "uts",
    "user": "user",
    "cgroup": "cgroup",
    "time": "time",
}


def inside(box: Box) -> dict[str, str]:
    """Type -> the namespace the program is in."""
    out = box.sh("for n in " + " ".join(FILES.values()) + "; do readlink /proc/self/ns/$n; done").split()
    return dict(zip(FILES, out, strict=True))


def ours(kind: str, pid: int | str = "self") -> str:
    """The namespace of a process of the host."""
    return os.readlink(f"/proc/{pid}/ns/{FILES[kind]}")


@check("N01", "N03")
def new_namespaces(box: Box) -> None:
    """Each of the eight types makes a new namespace."""
    box.userns()
    for kind in FILES:
        box.namespace(kind)
    found = inside(box)
    same([kind for kind in FILES if found[kind] == ours(kind)], [], "types that are still the caller's")


@check("N03")
def inherited(box: Box) -> None:
    """A type that is not listed is the caller's."""
    box.config.pop("hostname")
    box.config["mounts"] = [m for m in box.config["mounts"] if m["destination"] != "/sys"]
    box.linux["namespaces"] = [{"type": "mount"}, {"type": "pid"}]
    found = inside(box)
    for kind in ("network", "ipc", "uts", "user", "cgroup"):
        same(found[kind], ours(kind), kind)


@check("N02")
def joined(box: Box) -> None:
    """A path joins that namespace, of each type."""
    holder = box.another()
    for kind in ("network", "ipc", "uts", "pid", "cgroup"):
        holder.namespace(kind)
    pid = holder.up()
    box.config.pop("hostname")
    for kind in ("network", "ipc", "uts", "pid", "cgroup"):
        box.namespace(kind, f"/proc/{pid}/ns/{FILES[kind]}")
    found = inside(box)
    for kind in ("network", "ipc", "uts", "pid", "cgroup"):
        same(found[kind], ours(kind, pid), kind)


@check("N02")
def joined_time(box: Box) -> None:
    """A time namespace too."""
    holder = box.another()
    holder.namespace("time")
    holder.linux["timeOffsets"] = {"boottime": {"secs": 1000}}
    pid = holder.up()
    box.namespace("time", f"/proc/{pid}/ns/time")
    same(inside(box)["time"], ours("time", pid), "time")


@check("N02")
def joined_mount(box: Box) -> None:
    """A mount namespace too: that of a process, which is then rooted in the container as well, and not of the host."""
    before = machine.mounts()
    shell = "echo ready; exec sleep 1000"
    holder = subprocess.Popen(["unshare", "--mount", "sh", "-c", shell], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout
        same(holder.stdout.readline(), "ready\n", "what the process with the mount namespace says")
        space = os.readlink(f"/proc/{holder.pid}/ns/mnt")
        box.namespace("mount", f"/proc/{holder.pid}/ns/mnt")
        same(box.sh("readlink /proc/self/ns/mnt; cat /etc/group | head -n 1").split(), [space, "root:x:0:"], "inside")
        same(machine.mounts(), before, "mounts of the host")
    finally:
        holder.kill()
        holder.wait()


@check("N02")
def wrong_paths(box: Box) -> None:
    """A relative path, or a namespace of another type, is an error."""
    box.alone(lambda b: b.namespace("network", "proc/self/ns/net"), "a relative path")
    box.alone(lambda b: b.namespace("network", "/proc/self/ns/ipc"), "a namespace of another type")
    box.alone(lambda b: b.namespace("network", "/etc/passwd"), "a file that is no namespace")


@check("N04")
def twice(box: Box) -> None:
    """A type that is there twice is an error."""
    box.linux["namespaces"].append({"type": "pid"})
    box.refused("two pid namespaces")


@check("N05")
def mappings(box: Box) -> None:
    """Several entries of each map."""
    wanted = [(0, 100000, 10), (10, 200000, 5), (1000, 1000, 1)]
    box.userns()
    for key in ("uidMappings", "gidMappings"):
        box.linux[key] = [{"containerID": c, "hostID": h, "size": s} for c, h, s in wanted]
    out = box.output("cat", "/proc/self/uid_map", "/proc/self/gid_map")
    same([tuple(map(int, line.split())) for line in out.splitlines()], wanted * 2, "maps")


@check("N06")
def no_chown(box: Box) -> None:
    """The owners in the root file system stay as they were."""

    def owners() -> dict[str, tuple[int, int]]:
        return {str(p): (p.lstat().st_uid, p.lstat().st_gid) for p in (box.rootfs, *box.rootfs.rglob("*"))}

    before = owners()
    box.userns()
    same(box.output("id", "-u"), "0\n", "uid inside")
    after = owners()
    same({path: after[path] for path in before if after.get(path) != before[path]}, {}, "changed owners")


@check("N07")
def time_offsets(box: Box) -> None:
    """The clocks of a new time namespace are shifted."""
    box.namespace("time")
    box.linux["timeOffsets"] = {"boottime": {"secs": 86400 * 1000, "nanosecs": 5}, "monotonic": {"secs": 172800}}
    out = box.sh("cat /proc/self/timens_offsets; cat /proc/uptime")
    same(" ".join(out.split()[:6]), "monotonic 172800 0 boottime 86400000 5", "offsets")
    holds(float(out.split()[6]) > 86400 * 1000, "the clock is not shifted")


def give_to(box: Box, uid: int) -> None:
    """Bundle and state belong to that user."""
    os.chown(box.dir, uid, uid)
    for path in (box.bundle, *box.bundle.rglob("*")):
        if path.name not in ("busybox", "probe"):  # hard links that all bundles share
            os.lchown(path, uid, uid)


def unprivileged(box: Box, *verb: str) -> Result:
    """The runtime as user 1000, root of a user namespace of its own, as engines call it without root."""
    give_to(box, 1000)
    env = {"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(box.dir), "HOME": str(box.dir)}
    argv = ["unshare", "--user", "--map-root-user", "--mount", "--", *box.suite.runtime]
    done = subprocess.run(
        [*argv, "--root", str(box.state_root), *verb],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=machine.TIMEOUT, env=env,
        user=1000, group=1000, extra_groups=[], check=False,
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


def own_runtime(box: Box, uid: int = 1000) -> None:
    """The user must be able to reach the runtime: a checkout in root's home would not do."""
    path = Path(box.suite.runtime[0])
    if path.is_absolute():
        try:
            subprocess.run([*box.suite.runtime, "--version"], user=uid, group=uid, capture_output=True, check=True)
        except PermissionError:
            raise Skip(f"user {uid} cannot reach {path}") from None
        except subprocess.CalledProcessError as error:
            fail(f"--version as user {uid} exits with {error.returncode}")


@check("N08")
def rootless(box: Box) -> None:
    """Without root, in a user namespace of the caller's and none in the config."""
    own_runtime(box)
    box.linux.pop("cgroupsPath")
    box.linux.pop("resources")
    box.process["capabilities"] = {}
    box.script("id -u; cat /proc/self/uid_map")
    box.write()
    out = unprivileged(box, "run", "--bundle", str(box.bundle), box.id)
    same((out.code, out.out.split()), (0, ["0", "0", "1000", "1"]), f"exit code and output ({out.err.strip()[-300:]})")


@check("N09")
def joined_user(box: Box) -> None:
    """A user namespace joined by path, with another one that belongs to it."""
    holder = box.another()
    holder.userns()
    pid = holder.up()
    for kind in ("user", "network", "ipc"):
        box.namespace(kind, f"/proc/{pid}/ns/{FILES[kind]}")
    out = box.sh("cat /proc/self/uid_map; id -u; readlink /proc/self/ns/user; readlink /proc/self/ns/net").split()
    same(out, ["0", "100000", "65536", "0", ours("user", pid), ours("network", pid)], "map, uid, namespaces")


@check("N09")
def joined_user_with_mappings(box: Box) -> None:
    """Mappings beside a path say what is there already: they do no harm."""
    holder = box.another()
    holder.userns()
    pid = holder.up()
    box.userns()
    box.namespace("user", f"/proc/{pid}/ns/user")
    same(box.sh("readlink /proc/self/ns/user"), ours("user", pid) + "\n", "user namespace")
