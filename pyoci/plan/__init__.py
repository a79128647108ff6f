"""The plan: everything that is going to happen, decided before anything does.

Plan = f(config, facts, options): pure.  The host side does the host's part of it (maps, cgroup,
hooks, state), libexec/nsexec the ops, in their order.
"""

from __future__ import annotations

from pyoci import errors, linux
from pyoci.plan import cgroup, devices, hooks, mounts, namespaces, ops, process, rootfs, sysctl
from pyoci.plan.draft import Draft, clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.plan.cgroup import CgroupPlan
    from pyoci.plan.facts import Facts
    from pyoci.plan.options import Options, Target
    from pyoci.plan.rdt import Rdt


class Plan:
    """What make() and make_exec() decide.

    ops:          list of ops.Op, what nsexec does
    fds:          list of str, descriptors the host opens; an op's fd is an index: "fifo", "ns:TYPE:PATH",
                  "append:file:PATH" (output of hooks),
                  "gate" (the full pipe that a profile with a listener waits at),
                  "idmap:UID_MAP:GID_MAP" for a user namespace with these maps (lines "ID HOST SIZE", joined by ",")
    uid_map:      str, lines for /proc/PID/uid_map ("containerID hostID size\\n"), "" for none
    gid_map:      str, the same for gid_map
    cgroup:       cgroup.CgroupPlan or None
    terminal:     bool, a console op sends a pty master
    console_size: (rows, columns) or None
    warnings:     list of str, what is not as asked, and no error
    hooks:        dict, config["hooks"] or {}; of an exec plan {}, hooks belong to the container's life
    scheduler:    ops.Op or None, for the finished process when nobody can inherit it; the host side does it
    net_devices:  dict, name of a network device on the host -> its name in the container, perhaps with %d
    rdt:          rdt.Rdt or None, the class of service of resctrl
    rootfs:       str, absolute path of the root file system
    namespaces:   dict, namespace type -> path to join, "" for a new one
    """

    __slots__ = (
        "cgroup",
        "console_size",
        "fds",
        "gid_map",
        "hooks",
        "namespaces",
        "net_devices",
        "ops",
        "rdt",
        "rootfs",
        "scheduler",
        "terminal",
        "uid_map",
        "warnings",
    )

    def __init__(
        self, draft: Draft, steps: list[ops.Op], process_config: dict[str, Any], hooks_config: dict[str, Any]
    ) -> None:
        self.ops = steps
        self.fds = draft.fds
        self.uid_map = namespaces.maps(draft, "uidMappings")
        self.gid_map = namespaces.maps(draft, "gidMappings")
        self.cgroup: CgroupPlan | None = draft.cgroup
        self.terminal = bool(process_config.get("terminal"))
        self.console_size = process.console_size(process_config)
        self.warnings = draft.warnings
        self.hooks = hooks_config
        self.net_devices: dict[str, str] = {}
        self.rdt: Rdt | None = None
        self.scheduler = process.scheduler(process_config)
        self.rootfs: str = draft.config["root"]["path"]
        self.namespaces = draft.namespaces


def make(config: dict[str, Any], facts: Facts, options: Options) -> Plan:
    """The plan of a container: everything up to waiting for `start`, and what comes after it.

    config: validated (spec.validate), its paths absolute (bundle.load).
    Raises errors.InvalidConfig for what the schema cannot say: a sysctl of the host, a mount over /proc,
    an id that is not mapped.
    """
    draft = Draft(config, facts, options, namespaces.table(config))
    _check_sizes(draft)
    draft.cgroup = cgroup.make(config, facts, options)
    program = config.get("process") or {}
    entering = namespaces.enter(draft)
    root = _root(draft, program)  # fills draft.trees: sources are opened while we are still on the host
    if draft.locking and draft.namespaces.get("mount") == "":
        entering = [*namespaces.gather(draft), *entering, ops.op("take")]
    steps = [*process.early(draft, program), *draft.trees, *entering, *process.keyring(draft, program), *root]
    made = Plan(draft, steps + _program(draft, program), program, config.get("hooks") or {})
    made.net_devices = namespaces.devices(draft)
    if draft.linux.get("intelRdt") is not None:
        from pyoci.plan import rdt

        made.rdt = rdt.make(draft.linux["intelRdt"], options.id)
    return made


def _check_sizes(draft: Draft) -> None:
    """Refuse what no plan can hold before millions of operations are made of it."""
    lists = {"/mounts": draft.config.get("mounts")}
    for name in ("devices", "maskedPaths", "readonlyPaths", "sysctl"):
        lists[f"/linux/{name}"] = draft.linux.get(name)
    for where, entries in lists.items():
        if entries and len(entries) > ops.MAX_OPS:
            message = f"{len(entries)} entries are more than the {ops.MAX_OPS} operations that a plan can have"
            raise errors.InvalidConfig(message, where=where)


def _root(draft: Draft, program: dict[str, Any]) -> list[ops.Op]:
    """The container's root and system, up to and including the change of root."""
    steps = rootfs.begin(draft)
    steps += mounts.make(draft)
    steps += devices.make(draft)
    steps += rootfs.restrict(draft)
    if program:
        steps += process.console(program, bind=True)
    steps += process.session(program)
    steps += _names(draft)
    if draft.linux.get("netDevices"):
        steps.append(ops.op("sync", sync=ops.SYNC_DEVICES, where="/linux/netDevices"))
    if hooks.on_host(draft.config.get("hooks") or {}):
        steps.append(ops.op("sync", sync=ops.SYNC_HOOKS, where="/hooks"))
    # after the hooks: net.ipv4.conf.eth0.* exists when docker's prestart hook has moved eth0 in
    steps += sysctl.make(draft)
    steps += hooks.make(draft, "createContainer")
    if program:
        steps += process.working_directory(program)
    return steps + rootfs.finish(draft)


def _program(draft: Draft, program: dict[str, Any]) -> list[ops.Op]:
    """The process, the point where create ends and start begins, and execve.

    Row L05: without a process there is a container that waits, and `start` refuses it.
    """
    draft.fds.append("fifo")
    fifo = ops.op("fifo", fd=len(draft.fds) - 1)
    if not program:
        return [ops.op("ready"), fifo]
    steps = [*process.make(draft, program), ops.op("ready")]
    last = [*hooks.make(draft, "startContainer"), *process.last(draft, program)]
    profile = process.seccomp(draft)
    if profile is None:
        return [*steps, fifo, *last]
    if profile.num("flags") & ops.SECCOMP_LISTENER:
        # row S06: create hands the listener over, before it returns; the hooks are subject to the profile then
        profile.nums[1] = draft.descriptor("gate") + 1
        return [*steps, profile, fifo, *last]
    return [*steps, fifo, *last[:-1], profile, last[-1]]


def _names(draft: Draft) -> list[ops.Op]:
    """Rows P19, P20."""
    steps = []
    for key in ("hostname", "domainname"):
        name = draft.config.get(key)
        if name:
            if "uts" not in draft.namespaces:
                raise errors.InvalidConfig(
                    f"{key} needs the container's own uts namespace",
                    where=f"/{key}",
                    hint='add {"type": "uts"} to linux.namespaces',
                )
            steps.append(ops.op(key, name, where=f"/{key}"))
    return steps


def make_exec(
    process_config: dict[str, Any], config: dict[str, Any], target: Target, facts: Facts, options: Options
) -> Plan:
    """The plan of one more process in a running container.

    process_config: complete: what the command line leaves out comes from config["process"] (row P21).
    config: the one frozen at create.  Raises errors.InvalidConfig.
    """
    draft = Draft(config, facts, options, dict(target.namespaces))
    entering = namespaces.cgroups(target.cgroup) if target.cgroup else []
    steps = process.early(draft, process_config, joining=True)
    steps += [*entering, *namespaces.fork({}, entering), *process.in_cgroup(process_config)]
    steps += namespaces.join(draft, target.namespaces)
    steps += namespaces.become_root(draft)
    steps += process.keyring(draft, process_config)
    steps.append(ops.op("root_here"))
    steps += process.console(process_config, bind=False)
    steps += process.make(draft, process_config)
    # SECURITY 10: until here we are in the runtime's pid namespace, out of reach of the container's processes;
    # what comes into theirs has their rights and nothing of the host
    steps += namespaces.fork(target.namespaces, [], shed=True)
    steps += process.session(process_config)
    profile = process.seccomp(draft)
    if profile and profile.num("flags") & ops.SECCOMP_LISTENER:
        profile.nums[1] = draft.descriptor("gate") + 1
    steps += [profile] if profile else []
    return Plan(draft, steps + process.last(draft, process_config), process_config, {})


# what shows the namespaces of whoever mounts it, and we stay out of the container's pid namespace (SECURITY 10)
_NOT_LATER = ("proc", "cgroup", "cgroup2")


def _entered(target: Target) -> dict[str, str]:
    """What is joined to change mounts: not what only a child would be in."""
    return {kind: path for kind, path in target.namespaces.items() if kind not in ("pid", "time")}


def make_mounts(
    wanted: list[dict[str, Any]], config: dict[str, Any], target: Target, facts: Facts, options: Options
) -> Plan:
    """The plan of more mounts in a running container.  Its processes see each as soon as it is attached, so there is
    nothing to be done to it afterwards.

    wanted: as config["mounts"].  Raises errors.InvalidConfig.
    """
    spaces = _entered(target)
    draft = Draft({**config, "mounts": wanted}, facts, options, spaces)
    draft.apart = True
    for index, mount in enumerate(wanted):
        if mount.get("type") in _NOT_LATER and not mounts.is_bind(mount):
            kind = mount["type"]
            raise errors.InvalidConfig(f"type {kind} cannot be mounted later", where=f"/mounts/{index}/type")
        if any(option.startswith("X-mount.subdir=") for option in mount.get("options") or ()):
            raise errors.InvalidConfig(
                "X-mount.subdir shows all of the mount for a moment, which a running container would see",
                where=f"/mounts/{index}/options",
                hint="give that directory as the source of a bind mount",
            )
    steps = mounts.make(draft)
    if draft.locking:
        # through a mount namespace that is the user namespace's, since joining the container's locks nothing
        mount = {"mount": spaces.pop("mount")}
        entering = [*namespaces.gather(draft), *namespaces.join(draft, spaces), *namespaces.become_root(draft)]
        entering += [ops.op("unshare", namespaces=linux.NAMESPACES["mount"]), ops.op("take")]
        entering += namespaces.join(draft, mount)
    else:
        entering = [*namespaces.join(draft, spaces), *namespaces.become_root(draft)]
    return Plan(draft, [*draft.trees, *entering, ops.op("root_here"), *steps], {}, {})


def make_unmounts(
    wanted: list[tuple[str, int]], config: dict[str, Any], target: Target, facts: Facts, options: Options
) -> Plan:
    """The plan of taking mounts of a running container away, the last of the list first.

    wanted: destinations, and the number that the mount has to have; 0: one of config.json's, found by that very path.
    Raises errors.InvalidConfig.
    """
    spaces = _entered(target)
    draft = Draft(config, facts, options, spaces)
    steps = []
    for index, (destination, number) in enumerate(wanted):
        where = f"/mounts/{index}/destination"
        path = clean(destination)
        if path == "/":
            raise errors.InvalidConfig("the root file system is no mount to be removed", where=where)
        if not number:
            _check_namesakes(draft, path, where)
        steps.append(ops.op("umount", path, mount=number, where=where))
    steps.reverse()
    entering = [*namespaces.join(draft, spaces), *namespaces.become_root(draft)]
    return Plan(draft, [*entering, ops.op("root_here"), *steps], {}, {})


def _check_namesakes(draft: Draft, path: str, where: str) -> None:
    """Refuse a path that the container can give to a masked or read-only one, which would be uncovered: it may rename
    the directories on the way, but not what something is mounted on."""
    name = path.rpartition("/")[2]
    for kind in ("maskedPaths", "readonlyPaths"):
        for other in map(clean, draft.linux.get(kind) or ()):
            if other != path and other.rpartition("/")[2] == name:
                raise errors.InvalidConfig(
                    f"{path} has the last name of {other} in {kind}, and may be that by now", where=where
                )
