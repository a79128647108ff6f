"""Which cgroup the container gets, what is written there, and in which order.  Pure.

Where it is (runc's rules, checked against runc 1.1 and written down here because the spec leaves them open):
  cgroupsPath absolute   below the mount point of every hierarchy, whatever cgroup pyoci itself is in
  cgroupsPath relative   v1: below pyoci's own cgroup of each hierarchy; v2: beside it (below its parent), because
                         a v2 cgroup with processes cannot hand controllers to children
  cgroupsPath absent     as the relative path ID
On a v1 machine that also has v2 mounted (hybrid), the container joins the v2 tree as well: systemd follows
processes there, and cgroup.kill works.

Sources: config-linux.md "Control groups", cgroups(7), the kernel's cgroup-v1 and cgroup-v2 documents.
"""

from __future__ import annotations

from pyoci import errors
from pyoci.plan import devfilter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.plan.facts import Facts
    from pyoci.plan.options import Options
    from pyoci.plan.systemd import Unit

PATH_WHERE = "/linux/cgroupsPath"
LONGEST = 3072  # characters of a cgroup path: a path the kernel takes, with the mount point before and a file behind it
RESOURCES_WHERE = "/linux/resources"
NO_CGROUPS = "mount the cgroup file systems, or run with --cgroup-manager disabled"
V1_NAMED = "name=systemd"  # the one hierarchy without controllers that everybody joins


class Write:
    """One value for one cgroup file.

    file:     str, absolute path
    value:    str, written with one write(2)
    where:    str, JSON pointer of the setting
    other:    Write | None, what to do when the file does not exist (another name of the same knob)
    needless: bool, a missing file is no error: without it the kernel does what was asked anyway
    late:     bool, not before init is in: what keeps processes from being born here would keep it out, too
    """

    __slots__ = ("file", "late", "needless", "other", "value", "where")

    def __init__(
        self,
        file: str,
        value: str,
        where: str,
        other: Write | None = None,
        needless: bool = False,
        late: bool = False,
    ) -> None:
        self.file = file
        self.value = value
        self.where = where
        self.other = other
        self.needless = needless
        self.late = late

    def __str__(self) -> str:
        directory, _, name = self.file.rpartition("/")
        return f"set {name} to {errors.value(self.value)} in {directory}"


class CgroupPlan:
    """What host.cgroup does for one container.

    version:  1 or 2
    path:     str, the cgroup as asked for, "/..." below the mount points or relative to the runtime's own
    dirs:     dict, controller -> absolute directory; v1: co-mounted controllers share one, "" is the v2 tree
              of a hybrid machine; v2: only ""
    tops:     dict, directory -> its mount point, above which nothing is made
    enable:   tuple of str, v2 controllers to switch on from the mount point down
    writes:   list of Write, in order, before a process is in the cgroup (but for those that are late)
    devices:  list of devfilter.Rule, for reading; v1: the writes hold them
    program:  bytes, v2: the device program, b"" for none
    floor:    int, a memory limit that must not be below what the cgroup uses already; 0: nobody asks
    owner:    int, uid of the host that may manage the cgroup from now on, -1: nobody else
    optional: bool, nothing of it was asked for: no right to make it is no error
    unit:     systemd.Unit or None, the scope that systemd makes for it; then init enters when it is there already
    record:   dict, JSON-able facts for state.json, all that host.cgroup needs later: version and dirs as here,
              mount (of v2, or ""), keep: list of the directories that were there before create and stay,
              systemd: {"unit": name, "user": bool}, once systemd has made the scope
    """

    __slots__ = (
        "devices",
        "dirs",
        "enable",
        "floor",
        "optional",
        "owner",
        "path",
        "program",
        "record",
        "tops",
        "unit",
        "version",
        "writes",
    )

    def __init__(self, version: int, path: str, dirs: dict[str, str], tops: dict[str, str]) -> None:
        self.version = version
        self.path = path
        self.dirs = dirs
        self.tops = tops
        self.enable: tuple[str, ...] = ()
        self.writes: list[Write] = []
        self.devices: list[devfilter.Rule] = []
        self.program = b""
        self.optional = False
        self.floor = 0
        self.owner = -1
        self.unit: Unit | None = None
        self.record: dict[str, Any] = {
            "version": version,
            "dirs": dirs,
            "keep": [],
            "mount": tops.get(dirs.get("", ""), ""),
        }


def make(config: dict[str, Any], facts: Facts, options: Options) -> CgroupPlan | None:
    """The cgroup of this container; None when it is to have none of its own.

    Raises errors.InvalidConfig for values that mean nothing, errors.SetupError for what this machine cannot do.
    """
    if options.cgroup_manager == "disabled":
        return None
    if options.cgroup_manager not in ("cgroupfs", "systemd"):
        raise errors.SetupError(f"cgroup manager {options.cgroup_manager} is not available", hint="use cgroupfs")
    linux = config.get("linux") or {}
    unit = None
    if options.cgroup_manager == "systemd":
        from pyoci.plan import systemd

        unit = systemd.make(config, facts, options.id)
        path = systemd.cgroup_path(unit, facts.systemd_root)
    else:
        path = clean_path(linux.get("cgroupsPath") or options.id)
    resources = linux.get("resources") or {}
    version = 2 if facts.cgroup_mode == "unified" else 1
    plan = CgroupPlan(version, path, *_dirs(path, facts))
    if unit:
        plan.unit = unit
    plan.enable = facts.cgroup_controllers
    plan.writes = settings(plan.record, resources, facts.cgroup_controllers)
    if unit:
        systemd.describe(unit, config, plan.writes, version)
    asked = bool(unit or linux.get("cgroupsPath") or plan.writes)
    # Device control belongs to the initial user namespace; in another one the kernel itself keeps devices shut.
    if not facts.userns and facts.euid == 0:
        asked = bool(resources.get("devices")) or asked
        _devices(plan, resources, asked)
    memory = resources.get("memory") or {}
    if memory.get("checkBeforeUpdate"):
        plan.floor = max(memory.get("limit") or 0, 0)
    if version == 2:
        from pyoci.plan import cgroup_v2, delegation

        cgroup_v2.check_begin(resources, RESOURCES_WHERE)
        plan.owner = delegation.owner(config)
    plan.optional = not asked if options.rootless is None else options.rootless
    if facts.cgroup_mode == "none":
        if asked:
            raise errors.SetupError("no cgroup file system is mounted", where="/linux", hint=NO_CGROUPS)
        return None
    return plan


def clean_path(path: str) -> str:
    """cgroupsPath without "." and doubled slashes.  Raises errors.InvalidConfig for what is no path of a cgroup."""
    if not path.isprintable():
        raise errors.InvalidConfig(f"cgroup path {path!r} has a control character", where=PATH_WHERE)
    if len(path) > LONGEST:
        raise errors.InvalidConfig(f"cgroup path of {len(path)} characters is too long", where=PATH_WHERE)
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise errors.InvalidConfig(f"cgroup path {path!r} has a '..'", where=PATH_WHERE)
    if not parts:
        raise errors.InvalidConfig(f"cgroup path {path!r} names the root of the hierarchy", where=PATH_WHERE)
    return ("/" if path.startswith("/") else "") + "/".join(parts)


def settings(
    record: dict[str, Any], resources: dict[str, Any], controllers: tuple[str, ...], where: str = RESOURCES_WHERE
) -> list[Write]:
    """linux.resources (without devices) as writes, for the cgroup of this record.

    controllers: those that v2 offers.  where: JSON pointer of resources ("" for `update`, whose file is the object).
    Raises errors.InvalidConfig and errors.SetupError.
    """
    if record["version"] == 2:
        from pyoci.plan import cgroup_v2

        return cgroup_v2.settings(record["dirs"].get("", ""), resources, controllers, where)
    from pyoci.plan import cgroup_v1

    return cgroup_v1.settings(record["dirs"], resources, where)


def entries(record: dict[str, Any]) -> list[str]:
    """The paths of `enter` ops: `tasks` of every v1 directory, and the v2 directory.

    A process with one thread that moves itself takes no lock, where every move from outside waits for an RCU
    grace period (host.cgroup.attach).  Not for a plan that is optional: its directories may not be there.
    """
    return [f"{directory}/tasks" if name else directory for name, directory in unique(record)]


def freezer(record: dict[str, Any]) -> str:
    """The file that freezes the cgroup of a record and tells whether it is frozen; "" when there is none."""
    dirs = record["dirs"]
    if record["version"] == 2:
        return f"{dirs['']}/cgroup.freeze" if "" in dirs else ""
    return f"{dirs['freezer']}/freezer.state" if "freezer" in dirs else ""


def unique(record: dict[str, Any]) -> list[tuple[str, str]]:
    """(first controller, directory) of every directory of a record: co-mounted controllers once."""
    first: dict[str, str] = {}
    for name, directory in record["dirs"].items():
        first.setdefault(directory, name)
    return [(name, directory) for directory, name in first.items()]


def _dirs(path: str, facts: Facts) -> tuple[dict[str, str], dict[str, str]]:
    mounts = {} if facts.cgroup_mode == "unified" else dict(facts.cgroup_mounts)
    if facts.cgroup_unified:
        mounts[""] = facts.cgroup_unified
    dirs, tops = {}, {}
    for name, mount in mounts.items():
        if "=" in name and name != V1_NAMED:
            continue
        own = "" if path.startswith("/") else _own(name, facts)
        dirs[name] = f"{mount}{own}/{path.lstrip('/')}"
        tops[dirs[name]] = mount
    return dirs, tops


def _own(controller: str, facts: Facts) -> str:
    """The runtime's own cgroup, below the mount point: "" or "/a/b"."""
    root = facts.cgroup_roots.get(controller, "/").rstrip("/")
    own = facts.cgroup_own.get(controller, "/").rstrip("/")
    if own != root and not own.startswith(root + "/"):
        return ""  # it is outside of what the mount shows (a namespace made elsewhere): begin at the top
    own = own[len(root) :]
    if ".." in own.split("/"):
        return ""
    return own.rpartition("/")[0] if facts.cgroup_mode == "unified" else own


def _devices(plan: CgroupPlan, resources: dict[str, Any], asked: bool) -> None:
    plan.devices = devfilter.rules(resources.get("devices"))
    if plan.version == 2:
        from pyoci.plan import devprogram

        plan.program = devprogram.program(plan.devices)
        return
    directory = plan.dirs.get("devices")
    if directory:
        plan.writes += [Write(f"{directory}/{f}", text, where) for f, text, where in devfilter.lines(plan.devices)]
    elif asked and plan.dirs:
        raise missing_controller("devices", "/linux/resources/devices")


def missing_controller(controller: str, where: str) -> errors.SetupError:
    """The error for a setting whose controller this machine does not have, or does not hand out."""
    return errors.SetupError(
        f"the cgroup controller {controller} is not available",
        where=where,
        hint="mount it or enable it in the parent cgroup (cgroup.subtree_control), or leave the setting out",
    )


def unsupported(name: str, where: str) -> errors.SetupError:
    """The error for a setting that only the other cgroup version knows."""
    return errors.SetupError(f"{name} cannot be set on this cgroup version", where=where, hint="leave the setting out")
