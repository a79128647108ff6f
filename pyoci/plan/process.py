"""The process: one road for init and for exec (rows P01 to P21).

The order matters: capabilities are needed for the steps before they are dropped, the change of ids
clears them, and seccomp is last, because the profile need not allow what nsexec still has to do.
"""

from __future__ import annotations

from pyoci import errors, linux
from pyoci.plan import namespaces, ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.plan.draft import Draft

# linux.capabilities sets in the order in which one limits the next
_SETS = ("bounding", "permitted", "inheritable", "effective", "ambient")
# what plan.attributes is loaded for
_PLACEMENT = ("scheduler", "ioPriority", "execCPUAffinity")
_LABELS = ("apparmorProfile", "selinuxLabel")


def early(draft: Draft, process: dict[str, Any], joining: bool = False) -> list[ops.Op]:
    """What needs the rights of the host: the out-of-memory score (row P12), scheduling, higher limits.

    joining: the process is one of `exec`.
    """
    value = process.get("oomScoreAdj")
    steps = [] if value is None else [ops.op("oom_score_adj", value=value, where="/process/oomScoreAdj")]
    if _any(process, _PLACEMENT):
        from pyoci.plan import attributes

        steps += attributes.early(process, joining)
    if "user" in draft.namespaces and draft.facts.euid == 0 and not draft.facts.userns:
        # in the user namespace CAP_SYS_RESOURCE is only that of the namespace, which raises no limit
        steps += _rlimits(process, early=1)
    return steps


def in_cgroup(process: dict[str, Any]) -> list[ops.Op]:
    """For exec, when the process has entered the cgroup: row P16."""
    if not process.get("execCPUAffinity"):
        return []
    from pyoci.plan import attributes

    return attributes.final_affinity(process)


def scheduler(process: dict[str, Any]) -> ops.Op | None:
    """What the host side has to do to the finished process, since fork(2) would not hand it on (row P13)."""
    if not process.get("scheduler"):
        return None
    from pyoci.plan import attributes

    return attributes.late_scheduler(process)


def _any(values: dict[str, Any], keys: tuple[str, ...]) -> bool:
    return any(values.get(key) for key in keys)


def session(process: dict[str, Any]) -> list[ops.Op]:
    """A session without a controlling terminal, or with the one that console() made."""
    steps = [ops.op("setsid")]
    if process.get("terminal"):
        steps.append(ops.op("ctty", where="/process/terminal"))
    return steps


def keyring(draft: Draft, process: dict[str, Any]) -> list[ops.Op]:
    """A session keyring of the container's own."""
    if draft.options.no_new_keyring:
        return []
    steps = []
    if process.get("selinuxLabel"):
        from pyoci.plan import attributes

        steps = attributes.key_label(draft, process)
    return [*steps, ops.op("keyring", f"_ses.{draft.options.id}")]


def user_of(process: dict[str, Any]) -> dict[str, Any]:
    """Its user: root, as with runc, when it does not say."""
    return process.get("user") or {"uid": 0, "gid": 0}


def console(process: dict[str, Any], *, bind: bool) -> list[ops.Op]:
    """Rows P01, P02: a pty on stdio; bind: also on /dev/console (init only).  Without one the streams are the caller's,
    except for the null device of the host."""
    if not process.get("terminal"):
        return [ops.op("streams")]
    height, width = console_size(process) or (0, 0)
    uid = user_of(process)["uid"]
    return [ops.op("console", height=height, width=width, uid=uid, bind=bind, where="/process/terminal")]


def console_size(process: dict[str, Any]) -> tuple[int, int] | None:
    """(rows, columns) asked for, or None.  Without a terminal it does not count."""
    size = process.get("consoleSize")
    return (size["height"], size["width"]) if size and process.get("terminal") else None


def working_directory(process: dict[str, Any]) -> list[ops.Op]:
    """A cwd that is not there is made, as every runtime does; while the root can still be written to."""
    if process["cwd"] == "/":
        return []
    return [ops.op("mkdir", process["cwd"], mode=0o755, flags=ops.MKDIR_OPTIONAL, where="/process/cwd")]


def make(draft: Draft, process: dict[str, Any]) -> list[ops.Op]:
    """From the finished root to the point where only execve is left; then come ready, fifo, hooks, and last()."""
    bounding, caps = _capabilities(draft, process)
    user = user_of(process)
    umask = user.get("umask")
    steps = []
    if _any(process, _LABELS) or _any(draft.linux, ("personality", "memoryPolicy")):
        from pyoci.plan import attributes

        steps = attributes.of_container(draft) + attributes.labels(draft, process)
    steps += _rlimits(process)
    # Row P18: unset means the caller's.  nsexec itself runs with 0.
    steps.append(ops.op("umask", umask=draft.facts.umask if umask is None else umask, where="/process/user/umask"))
    steps.append(bounding)
    if user["uid"]:
        # Row P03: twice, since root may enter what the user may not (docker run -u 1000 -w /root), and the
        # user what root may not (a network file system)
        steps.append(ops.op("cwd", process["cwd"], flags=ops.CWD_TRY, where="/process/cwd"))
    steps.append(_ids(draft, process))
    steps.append(ops.op("cwd", process["cwd"], where="/process/cwd"))
    steps.append(caps)
    if process.get("noNewPrivileges"):
        steps.append(ops.op("no_new_privs", where="/process/noNewPrivileges"))
    env = _environment(draft, process)
    if not any(variable.startswith("HOME=") for variable in env):
        steps.append(ops.op("home", uid=user["uid"]))
    steps.append(ops.op("lookup", _args(process)[0], _variable(env, "PATH"), where="/process/args/0"))
    return steps


def last(draft: Draft, process: dict[str, Any]) -> list[ops.Op]:
    """execve, for which seccomp() made the way: nothing may come between them."""
    args = _args(process)
    env = _environment(draft, process)
    preserve = draft.options.preserve_fds
    return [ops.op("exec", *args, *env, argc=len(args), envc=len(env), preserve=preserve, where="/process/args")]


def _environment(draft: Draft, process: dict[str, Any]) -> list[str]:
    env: list[str] = process.get("env") or []
    return env + draft.options.env


def _args(process: dict[str, Any]) -> list[str]:
    args: list[str] = process.get("args") or []
    if not args or not args[0]:
        raise errors.InvalidConfig("there is no program to execute", where="/process/args")
    return args


def _variable(env: list[str], name: str) -> str:
    """The value of a variable, "" when it is not set: then the program is not found, as with runc."""
    for variable in env:
        if variable.startswith(name + "="):
            return variable[len(name) + 1 :]
    return ""


def _rlimits(process: dict[str, Any], early: int = 0) -> list[ops.Op]:
    """Rows P06, P07.  early: see the op."""
    steps = []
    seen = set()
    for index, limit in enumerate(process.get("rlimits") or ()):
        where = f"/process/rlimits/{index}"
        name = limit["type"]
        if name not in linux.RLIMITS:
            raise errors.InvalidConfig(f"unknown resource limit {name!r}", where=f"{where}/type")
        if name in seen:
            raise errors.InvalidConfig(f"duplicate resource limit {name}", where=f"{where}/type")
        seen.add(name)
        soft, hard = _signed(limit["soft"]), _signed(limit["hard"])
        number = linux.RLIMITS[name]
        steps.append(ops.op("rlimit", name, resource=number, soft=soft, hard=hard, early=early, where=where))
    return steps


def _signed(value: int) -> int:
    """A u64 as the i64 of the same bits: RLIM_INFINITY becomes -1."""
    return value - (1 << 64) if value >> 63 else value


# crun's annotation (podman run --group-add keep-groups): the groups of the caller stay
_KEEP_GROUPS = "run.oci.keep_original_groups"


def _ids(draft: Draft, process: dict[str, Any]) -> ops.Op:
    """Row P17."""
    user = user_of(process)
    groups: list[int] = user.get("additionalGids") or []
    _check_mapped(draft, user, groups)
    flags = ops.KEEPCAPS
    if (draft.config.get("annotations") or {}).get(_KEEP_GROUPS) == "1":
        if groups:
            draft.warnings.append(f"/process/user/additionalGids: left out, as {_KEEP_GROUPS} is set")
            groups = []
    elif not _setgroups_denied(draft):
        flags |= ops.SETGROUPS
    elif groups:
        raise errors.InvalidConfig(
            "additional groups cannot be set without root rights",
            where="/process/user/additionalGids",
            hint="map a range of ids with newgidmap (/etc/subgid), or leave additionalGids out",
        )
    # host root with uid 0 may use stdio whoever owns it
    if user["uid"] or draft.limited:
        flags |= ops.CHOWN_STDIO
    packed = b"".join([group.to_bytes(4, "little") for group in groups])
    return ops.op("setids", packed, uid=user["uid"], gid=user["gid"], flags=flags, where="/process/user")


def _setgroups_denied(draft: Draft) -> bool:
    """The kernel lets an unprivileged user map just himself, and then denies setgroups(2) (user_namespaces(7))."""
    mappings: list[dict[str, Any]] = draft.linux.get("gidMappings") or []
    return draft.facts.euid != 0 and len(mappings) == 1 and mappings[0]["size"] == 1


def _check_mapped(draft: Draft, user: dict[str, Any], groups: list[int]) -> None:
    if draft.namespaces.get("user") != "":
        return
    wanted = [("uid", "uidMappings", "/process/user/uid", user["uid"])]
    wanted.append(("gid", "gidMappings", "/process/user/gid", user["gid"]))
    for index, group in enumerate(groups):
        wanted.append(("gid", "gidMappings", f"/process/user/additionalGids/{index}", group))
    for name, key, where, number in wanted:
        if not namespaces.mapped(draft.linux.get(key), number):
            raise errors.InvalidConfig(
                f"{name} {number} is not mapped in the user namespace", where=where, hint=f"add it to linux.{key}"
            )


def _capabilities(draft: Draft, process: dict[str, Any]) -> tuple[ops.Op, ops.Op]:
    """The bounding and the caps op.  No capabilities in the config means none, as with runc; what cannot be
    granted is left out with a warning (row P10)."""
    where = "/process/capabilities"
    given = process.get("capabilities") or {}
    masks = {name: _mask(draft, given.get(name) or (), f"{where}/{name}") for name in _SETS}
    beyond = masks["effective"] & ~masks["permitted"]
    if beyond:
        from pyoci.plan import wording

        words = wording.describe_caps(beyond)
        draft.warnings.append(f"{where}/effective: {words}: not in the permitted set, left out")
        masks["effective"] &= masks["permitted"]
    # buildah asks for all of its set as ambient, with nothing inheritable: without a word, as with runc
    masks["ambient"] &= masks["permitted"] & masks["inheritable"]
    bounding = ops.op("bounding", caps=masks.pop("bounding"), where=f"{where}/bounding")
    return bounding, ops.op("caps", where=where, **masks)


def _mask(draft: Draft, names: list[str] | tuple[str, ...], where: str) -> int:
    mask = 0
    for name in names:
        bit = linux.CAPABILITY_BIT.get(name)
        if bit is None:
            draft.warnings.append(f"{where}: unknown capability {name}, left out")
        elif bit > draft.facts.last_cap:
            draft.warnings.append(f"{where}: this kernel has no {name}, left out")
        else:
            mask |= 1 << bit
    return mask


# crun's annotations: unknown system calls are an error; the filter itself, in base64
_FAIL_UNKNOWN = "run.oci.seccomp_fail_unknown_syscall"
_FILTER = "run.oci.seccomp_bpf_data"


def seccomp(draft: Draft) -> ops.Op | None:
    """The op that loads the profile, None when there is none.  Its flags tell whether it has a listener."""
    profile = draft.linux.get("seccomp")
    annotations = draft.config.get("annotations") or {}
    if _FILTER not in annotations and not profile:
        return None
    if draft.options.seccomp is not None and _FILTER not in annotations:
        program = draft.options.seccomp(profile or {})
    else:
        from pyoci.plan import seccomp as compiler

        raw = annotations.get(_FILTER)
        program = compiler.compile(profile or {}, draft.facts.arch) if raw is None else compiler.raw(raw, _FILTER)
    if annotations.get(_FAIL_UNKNOWN) == "1":
        for warning in program.warnings:
            raise errors.InvalidConfig(f"{warning} (and {_FAIL_UNKNOWN} is set)", where="/linux/seccomp")
    draft.warnings += program.warnings
    return ops.op("seccomp", program.code, flags=program.flags, where="/linux/seccomp")
