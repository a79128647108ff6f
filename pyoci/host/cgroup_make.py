"""Make a container's cgroup as the plan says: fitness, directories, settings.

In this order, so that a SIGKILL in between leaves what `delete --force` can clean: check (changes nothing, fills
in plan.record), state.json with that record, create, cgroup.attach.
"""

from __future__ import annotations

import errno

from pyoci import errors, kernel
from pyoci.host import cgroup, cgroupfs
from pyoci.plan import cgroup as plan_cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.plan.cgroup import CgroupPlan, Write

DELEGATE = "/sys/kernel/cgroup/delegate"
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_RIGHT = "run as root, have a cgroup delegated to this user, or leave the cgroup settings out"
OWN_GROUP = "move them into a cgroup of their own, or give a linux.cgroupsPath that is not below them"
NOT_ENABLED = "have it delegated (a user's: by Delegate= of user@.service), or leave the setting out"
ELSEWHERE = "give a linux.cgroupsPath that is not below a threaded cgroup, or leave the setting out"
# What there is below a threaded cgroup: controllers that count threads, and files that every cgroup has.
THREADED = ("cpu", "cpuset", "pids", "perf_event", "cgroup")
# Values that depend on each other are refused until the other one is there (limit and memsw, quota and period).
ORDER = (errno.EINVAL, errno.EBUSY)


def check(plan: CgroupPlan) -> None:
    """See whether the cgroup is fit for a new container, and note in plan.record["keep"] what is there already.

    A cgroup with processes, or frozen, is refused (the spec lets a runtime choose; runc 1.2 refuses both): its
    processes would be counted, signalled and killed as the container's.  Raises errors.SetupError.
    """
    record = plan.record
    record["keep"] = [directory for _, directory in plan_cgroup.unique(record) if kernel.exists(directory)]
    for directory in record["keep"]:
        members = cgroup.pids({**record, "dirs": {"": directory}})
        if members:
            raise _unfit(f"cgroup {directory} is not empty: {len(members)} processes, the first is {members[0]}")
    if record["keep"] and cgroupfs.frozen(record):
        raise _unfit(f"cgroup {cgroup.tree(record)} is frozen")
    if record["keep"] and plan.floor:
        from pyoci.host import cgroup_values

        cgroup_values.check_memory(record, plan.floor, f"{plan_cgroup.RESOURCES_WHERE}/memory/limit")


def _unfit(problem: str) -> errors.SetupError:
    return errors.SetupError(problem, where=plan_cgroup.PATH_WHERE, hint="give each container a cgroup of its own")


def create(plan: CgroupPlan) -> None:
    """Make the directories and write the settings; the processes come later, by cgroup.attach.

    With plan.optional, hierarchies in which nothing may be made are left out, and plan.record tells so: save it again.
    Raises errors.SetupError; what was made until then is for cgroup_remove.destroy(plan.record).
    """
    for controller, directory in plan_cgroup.unique(plan.record):
        try:
            _make(plan, directory)
            if "cpuset" in (controller, *_shared(plan, directory)) and plan.version == 1:
                _inherit_cpuset(directory, plan.tops[directory])
        except OSError as error:
            if not plan.optional or error.errno not in (*REFUSED, errno.ENOENT):
                hint = NO_RIGHT if error.errno in REFUSED else ""
                raise errors.failed(f"make cgroup {directory}", error, plan_cgroup.PATH_WHERE, hint) from None
            _leave_out(plan, directory)
    if plan.dirs and _is_stopped(plan.record):  # init would enter it and never run
        raise _unfit(f"cgroup {cgroup.tree(plan.record)} is below one that is frozen")
    if plan.program and plan.dirs:
        from pyoci.host import bpf  # ctypes: only where v2 needs it

        bpf.attach_device_program(plan.dirs[""], plan.program)
    apply([write for write in plan.writes if not write.late])


def _is_stopped(record: dict[str, Any]) -> bool:
    """Whether a cgroup is frozen, by itself or by one above it."""
    if record["version"] == 1:
        return cgroupfs.frozen(record)  # the kernel does not tell the two apart
    try:
        return b"frozen 1" in cgroupfs.read(f"{record['dirs']['']}/cgroup.events")
    except OSError:  # the root of the tree has no such file
        return False


def delegate(directory: str, uid: int, listed: str = DELEGATE) -> None:
    """Give a v2 cgroup to a user of the host: the directory, and the files that the kernel lists (row C04).

    Raises errors.SetupError.
    """
    from pyoci.plan import delegation

    try:
        names = cgroupfs.read(listed).decode().split()
    except OSError:  # before Linux 4.15
        names = list(delegation.FILES)
    try:
        kernel.chown(directory, uid, -1)
        for name in names:
            try:
                kernel.chown(f"{directory}/{name}", uid, -1)
            except FileNotFoundError:  # of a controller that is not enabled here
                continue
    except OSError as error:
        raise errors.failed(f"give cgroup {directory} to uid {uid}", error, hint=NO_RIGHT) from None


def apply_late(plan: CgroupPlan) -> None:
    """What had to wait for init to be in the cgroup: limits that it could not be born under, and the cgroup's owner,
    since root of another user namespace owns the cgroup then, but not those above it, and may not enter.

    Raises errors.SetupError.
    """
    apply([write for write in plan.writes if write.late])
    if plan.owner > 0 and "" in plan.dirs:
        delegate(plan.dirs[""], plan.owner)


def _shared(plan: CgroupPlan, directory: str) -> list[str]:
    return [name for name, other in plan.dirs.items() if other == directory]


def _leave_out(plan: CgroupPlan, directory: str) -> None:
    for name in _shared(plan, directory):
        del plan.dirs[name]  # plan.record holds the same dict
    plan.writes = [write for write in plan.writes if not write.file.startswith(directory + "/")]


def _make(plan: CgroupPlan, directory: str) -> None:
    top = plan.tops[directory]
    names = directory[len(top) + 1 :].split("/")
    parents = [f"{top}/{'/'.join(names[:depth])}" if depth else top for depth in range(len(names))]
    for parent in parents[1:]:
        if not kernel.isdir(parent):
            _mkdir(parent)
    unified = directory == plan.dirs.get("")
    for parent in parents if unified else ():
        _join_threads(plan, parent)
        if plan.version == 2:
            _enable(plan, parent)
    if directory not in plan.record["keep"] and not _mkdir(directory) and not plan.unit:
        # Somebody made it since check(): it and what is still to come are theirs, not ours to kill and remove
        order = [other for _, other in plan_cgroup.unique(plan.record)]
        for other in order[order.index(directory) :]:
            _leave_out(plan, other)
        raise _unfit(f"cgroup {directory} is being used by somebody else")
    if unified:
        _join_threads(plan, directory)


def _mkdir(directory: str) -> bool:
    try:
        kernel.mkdir(directory, 0o755)
    except FileExistsError:
        return False
    return True


def _kind(directory: str) -> str:
    """The type of a v2 cgroup: "domain", "domain threaded", "domain invalid", "threaded"; "" for the root."""
    try:
        return cgroupfs.read(f"{directory}/cgroup.type").decode().strip()
    except FileNotFoundError:
        return ""


def _join_threads(plan: CgroupPlan, directory: str) -> None:
    """Make a v2 cgroup threaded when those above it leave no other way: before that it takes no process (as runc).

    Raises errors.SetupError when the container is to have what there is not for threads, OSError.
    """
    kind = _kind(directory)
    if kind not in ("domain invalid", "threaded"):
        return
    for write in plan.writes:
        group, _, name = write.file.rpartition("/")
        if group == plan.dirs[""] and name.partition(".")[0] not in THREADED:
            raise errors.SetupError(
                f"{write}: cgroup {directory} is of type {kind!r}", where=write.where, hint=ELSEWHERE
            )
    if kind == "domain invalid":
        cgroupfs.write(f"{directory}/cgroup.type", "threaded")


def _enable(plan: CgroupPlan, parent: str) -> None:
    """Hand controllers to the children of a v2 cgroup.

    All at once, or one by one: which of them are missing shows when a setting needs one (its file is not there).
    Not below a cgroup with processes: it could only hand out those controllers that count threads, and would become
    a threaded domain by that, in whose children no process can be.  Raises errors.SetupError, OSError.
    """
    file, kind = f"{parent}/cgroup.subtree_control", _kind(parent)
    enabled = cgroupfs.read(file).decode().split()
    missing = [name for name in plan.enable if name not in enabled and ("threaded" not in kind or name in THREADED)]
    if missing and kind == "domain" and (members := cgroupfs.read(f"{parent}/cgroup.procs").split()):
        _do_without(plan, missing, f"cgroup {parent} has {len(members)} processes, the first is {int(members[0])}")
        return
    texts = [f"+{name}" for name in missing]
    for text in [" ".join(texts), *texts] if texts else []:
        try:
            cgroupfs.write(file, text)
        except OSError:
            continue
        if text == " ".join(texts):
            break


def _do_without(plan: CgroupPlan, controllers: list[str], problem: str) -> None:
    for write in plan.writes:
        if write.file.rpartition("/")[2].partition(".")[0] in controllers and not write.needless:
            message = f"{write}: {problem}, and hands out no controllers as long as it has any"
            raise errors.SetupError(message, where=write.where, hint=OWN_GROUP)


def _inherit_cpuset(directory: str, top: str) -> None:
    """On v1 a new cpuset has no cpus and no memory, and takes no process until it has: copy them down."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        _inherit(directory, top, name)


def _inherit(directory: str, top: str, name: str) -> str:
    value = cgroupfs.read(f"{directory}/{name}").decode().strip()
    if not value and directory != top:
        value = _inherit(directory.rpartition("/")[0], top, name)
        cgroupfs.write(f"{directory}/{name}", value)
    return value


# -- settings --------------------------------------------------------------------------------


def apply(writes: list[Write], *, undo: bool = False) -> None:
    """Write values in order; `update` uses this too.

    What the kernel refuses because of another value is tried again after the others, until a round brings nothing.
    What it refuses for another reason ends it, but not an undo, of which as much is done as can be.
    Raises errors.SetupError for the first one that stays refused.
    """
    pending, failure = writes, None
    while pending:
        later: list[Write] = []
        failure = None
        for write in pending:
            try:
                _apply_one(write)
            except OSError as error:
                refused = _refused(write, error)
                if error.errno not in ORDER and not undo:
                    raise refused from None
                failure = failure or refused
                later.append(write)
        if failure and len(later) == len(pending):
            raise failure
        pending = later


def _apply_one(write: Write) -> None:
    try:
        cgroupfs.write(write.file, write.value)
    except OSError as error:
        # EOPNOTSUPP: bfq is there, but not the scheduler of this disk
        if write.other and error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
            _apply_one(write.other)
        elif error.errno != errno.ENOENT or not write.needless:
            raise


def _refused(write: Write, error: OSError) -> errors.SetupError:
    """The error in words.  Of a missing controller not the kernel's, which speak of a file: podman takes those to be
    about the container's program."""
    directory, _, name = write.file.rpartition("/")
    controller = name.partition(".")[0]
    if error.errno == errno.ENOENT and not _has(directory, controller):
        problem = f"{write}: the controller {controller} is not enabled there"
        return errors.SetupError(problem, errno=error.errno, where=write.where, hint=NOT_ENABLED)
    return errors.failed(str(write), error, write.where, _hint(write, error))


def _has(directory: str, controller: str) -> bool:
    """Whether a v2 cgroup has a controller.  With version 1 it has what it is of."""
    try:
        return controller in ("cgroup", *cgroupfs.read(f"{directory}/cgroup.controllers").decode().split())
    except OSError:
        return True


def _hint(write: Write, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "this kernel has no such setting, or its controller is not enabled in the parent cgroup"
    if error.errno in REFUSED:
        return NO_RIGHT
    if error.errno == errno.EBUSY:
        return "the cgroup already uses more than that"
    return ""
