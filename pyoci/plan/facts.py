"""What the plan needs to know of the machine: a record, so that a plan can be made and tested anywhere."""

from __future__ import annotations


class Facts:
    """The host as the runtime sees it; host.facts.read() fills it, tests write their own.

    euid:               int, effective user id of the runtime, in its own user namespace
    umask:              int, file mode creation mask the runtime was called with
    userns:             bool, the runtime is in a user namespace that is not the initial one
    last_cap:           int, number of the last capability the kernel knows
    apparmor, selinux:  bool, the security module is there and on
    arch:               str, as uname(2) names the machine ("x86_64")
    cgroup_mode:        str, "unified" (v2 only), "hybrid" (v1, v2 mounted without controllers), "legacy" (v1), "none"
    cgroup_mounts:      dict, v1 controller or "name=NAME" -> absolute mount point; co-mounted ones share theirs
    cgroup_unified:     str, absolute mount point of cgroup v2, or ""
    cgroup_options:     str, the options of cgroup v2 with commas ("nsdelegate,memory_recursiveprot"): the host's, not a
                        mount's, since any mount of it in the first cgroup namespace sets them; "" for none
    cgroup_roots:       dict, controller ("" for v2) -> the cgroup that its mount point shows (mountinfo's root field):
                        "/" on a host, the container's cgroup when pyoci runs inside one without a cgroup namespace
    cgroup_own:         dict, controller ("" for v2) -> path of the runtime's own cgroup (/proc/self/cgroup)
    cgroup_controllers: tuple of str, the controllers v2 offers at its mount point; () unless unified
    systemd_root:       str, the cgroup below which the systemd that is asked for scopes keeps them: "" for that of the
                        system, "/user.slice/.../user@1000.service" for a user's
    """

    __slots__ = (
        "apparmor",
        "arch",
        "cgroup_controllers",
        "cgroup_mode",
        "cgroup_mounts",
        "cgroup_options",
        "cgroup_own",
        "cgroup_roots",
        "cgroup_unified",
        "euid",
        "last_cap",
        "selinux",
        "systemd_root",
        "umask",
        "userns",
    )

    def __init__(
        self,
        *,
        euid: int = 0,
        umask: int = 0o022,
        userns: bool = False,
        last_cap: int = 40,
        arch: str = "x86_64",
        apparmor: bool = False,
        selinux: bool = False,
        cgroup_mode: str = "none",
        cgroup_mounts: dict[str, str] | None = None,
        cgroup_unified: str = "",
        cgroup_options: str = "",
        cgroup_roots: dict[str, str] | None = None,
        cgroup_own: dict[str, str] | None = None,
        cgroup_controllers: tuple[str, ...] = (),
        systemd_root: str = "",
    ) -> None:
        self.euid = euid
        self.umask = umask
        self.userns = userns
        self.last_cap = last_cap
        self.arch = arch
        self.apparmor = apparmor
        self.selinux = selinux
        self.cgroup_mode = cgroup_mode
        self.cgroup_mounts = cgroup_mounts or {}
        self.cgroup_unified = cgroup_unified
        self.cgroup_options = cgroup_options
        self.cgroup_roots = cgroup_roots or {}
        self.cgroup_own = cgroup_own or {}
        self.cgroup_controllers = cgroup_controllers
        self.systemd_root = systemd_root
