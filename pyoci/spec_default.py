"""The config that `pyoci spec` writes: what `runc spec` writes, so that either runs it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
MASKED = (
    "/proc/acpi /proc/asound /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/timer_stats "
    "/proc/sched_debug /sys/firmware /proc/scsi"
)
READONLY = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger"


def make(version: str, rootless: bool, uid: int, gid: int, unified: bool) -> dict[str, Any]:
    """See pyoci.spec.default."""
    return {
        "ociVersion": version,
        "process": _process(),
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "runc",
        "mounts": _mounts(rootless),
        "linux": _linux(rootless, uid, gid, unified),
    }


def _process() -> dict[str, Any]:
    return {
        "terminal": True,
        "user": {"uid": 0, "gid": 0},
        "args": ["sh"],
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": {name: list(CAPABILITIES) for name in ("bounding", "effective", "permitted", "ambient")},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    }


def _mount(destination: str, kind: str, source: str, options: str = "") -> dict[str, Any]:
    mount: dict[str, Any] = {"destination": destination, "type": kind, "source": source}
    if options:
        mount["options"] = options.split()
    return mount


def _mounts(rootless: bool) -> list[dict[str, Any]]:
    tty = "" if rootless else " gid=5"  # a group that only the host's root can give away
    if rootless:  # sysfs can be mounted by who owns the network namespace
        sysfs = _mount("/sys", "none", "/sys", "rbind nosuid noexec nodev ro")
    else:
        sysfs = _mount("/sys", "sysfs", "sysfs", "nosuid noexec nodev ro")
    return [
        _mount("/proc", "proc", "proc"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid strictatime mode=755 size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", "nosuid noexec newinstance ptmxmode=0666 mode=0620" + tty),
        _mount("/dev/shm", "tmpfs", "shm", "nosuid noexec nodev mode=1777 size=65536k"),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev"),
        sysfs,
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid noexec nodev relatime ro"),
    ]


def _linux(rootless: bool, uid: int, gid: int, unified: bool) -> dict[str, Any]:
    linux: dict[str, Any] = {}
    if rootless:
        linux["uidMappings"] = [{"containerID": 0, "hostID": uid, "size": 1}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": gid, "size": 1}]
    else:
        linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    types = ["pid", *([] if rootless else ["network"]), "ipc", "uts", "mount"]
    types += ["cgroup"] * unified + ["user"] * rootless
    linux["namespaces"] = [{"type": name} for name in types]
    linux["maskedPaths"] = MASKED.split()
    linux["readonlyPaths"] = READONLY.split()
    return linux
