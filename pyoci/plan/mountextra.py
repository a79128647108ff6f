"""What few mounts ask for: mapped ids (row M12), mount(8)'s X-mount options (row M16), SELinux labels (row M21)."""

from __future__ import annotations

from pyoci import errors, json
from pyoci.plan import mountopts, ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.plan.draft import Draft

# crun's annotation, and which options of a file system it may name (mount(8), "context")
_CONTEXT = "run.oci.mount_context_type"
_CONTEXTS = ("context", "fscontext", "defcontext", "rootcontext")
# SELinux labels their files by itself
_UNLABELLED = frozenset(("proc", "sysfs", "mqueue", "cgroup", "cgroup2"))

# who sees them on a mount that is not there (nofail) would change the root file system
_ON_ROOT = ("subdir", "owner", "group", "mode")


def idmap(draft: Draft, wanted: mountopts.Wanted, mount: dict[str, Any], where: str) -> int:
    """The idmap number of the mount's op, 0 when the ids are not to be mapped.

    The maps are the mount's own, else those of the container's user namespace, else there is an error.
    Mappings without the option count as "idmap", as with runc.  Raises InvalidConfig.
    """
    if "idmap" in wanted.extra:
        name = _from_words(wanted.extra["idmap"], where)
    elif mount.get("uidMappings") or mount.get("gidMappings"):
        name = _name(mount.get("uidMappings"), mount.get("gidMappings"))
    elif not wanted.idmap:
        return 0
    elif draft.namespaces.get("user"):
        name = f"ns:user:{draft.namespaces['user']}"
    elif draft.linux.get("uidMappings"):
        name = _name(draft.linux["uidMappings"], draft.linux.get("gidMappings"))
    else:
        raise errors.InvalidConfig(
            "the ids of a mount cannot be mapped without mappings",
            where=f"{where}/options",
            hint="give the mount uidMappings and gidMappings, or the container a user namespace",
        )
    return draft.descriptor(name) + 1


def _name(uids: list[dict[str, Any]] | None, gids: list[dict[str, Any]] | None) -> str:
    return f"idmap:{_lines(uids)}:{_lines(gids)}"


def _lines(mappings: list[dict[str, Any]] | None) -> str:
    return ",".join([f"{m['containerID']} {m['hostID']} {m['size']}" for m in mappings or ()])


def _from_words(text: str, where: str) -> str:
    """X-mount.idmap: a user namespace file, or words TYPE:ID-MOUNT:ID-HOST:RANGE, TYPE b (both), u or g."""
    if text.startswith("/"):
        return f"ns:user:{text}"
    maps: dict[str, list[str]] = {"u": [], "g": []}
    for word in text.split():
        kind, *numbers = word.split(":") if word[:1].isalpha() else ("b", *word.split(":"))
        if kind not in ("b", "u", "g") or len(numbers) != 3 or any(json.decimal(n) is None for n in numbers):
            maps = {}
            break
        for key in "ug" if kind == "b" else kind:
            maps[key].append(" ".join(numbers))
    if not any(maps.values()):
        raise errors.InvalidConfig(f"X-mount.idmap cannot be {text!r}", where=f"{where}/options")
    return f"idmap:{','.join(maps['u'])}:{','.join(maps['g'])}"


def before(wanted: mountopts.Wanted, dest: str, where: str) -> list[ops.Op]:
    """What comes before the mount: its directory with a mode of its own."""
    if "mkdir" not in wanted.extra:
        return []
    mode = mountopts.octal(wanted.extra["mkdir"] or "755")
    return [ops.op("mkdir", dest, mode=mode or 0, where=where)]


def after(draft: Draft, wanted: mountopts.Wanted, dest: str, where: str, kind: str) -> list[ops.Op]:
    """What is said of it besides: a part of it shown instead, and the owner and mode of its root."""
    asked = [name for name in _ON_ROOT if name in wanted.extra]
    if asked and kind in ("cgroup", "cgroup2"):  # which may be many mounts
        raise errors.InvalidConfig(f"X-mount.{asked[0]} is nothing for a cgroup mount", where=f"{where}/options")
    if asked and wanted.nofail:
        raise errors.InvalidConfig(f"X-mount.{asked[0]} cannot be combined with nofail", where=f"{where}/options")
    steps = []
    if "subdir" in wanted.extra:
        steps.append(ops.op("subdir", dest, wanted.extra["subdir"], where=where))
    if any(name != "subdir" for name in asked):
        mode = mountopts.octal(wanted.extra.get("mode", ""))
        steps.append(
            ops.op(
                "own",
                dest,
                uid=_owner(draft, "owner", wanted, where),
                gid=_owner(draft, "group", wanted, where),
                mode=ops.UNCHANGED if mode is None else mode,
                where=where,
            )
        )
    return steps


def _owner(draft: Draft, kind: str, wanted: mountopts.Wanted, where: str) -> int:
    """An id, or the id of a name.  mount(8) looks a name up in the system that it mounts for: here the container's."""
    given = wanted.extra.get(kind)
    if given is None:
        return ops.UNCHANGED
    number = json.decimal(given)  # mountopts has seen that no number is too large
    if number is not None:
        return number
    if draft.options.names is None:
        raise errors.InvalidConfig(
            f"X-mount.{kind}={given}: a name cannot be looked up here", where=f"{where}/options", hint="give its number"
        )
    try:
        return draft.options.names(kind, given)
    except errors.Error as error:
        raise errors.InvalidConfig(
            f"X-mount.{kind}: {error.message}", where=f"{where}/options", hint=error.hint
        ) from None


def label(draft: Draft, kind: str) -> list[str]:
    """The option that labels a new file system (row M21).  Raises InvalidConfig, SetupError."""
    wanted = draft.linux["mountLabel"]
    if not draft.facts.selinux:
        raise errors.SetupError(
            "this host has no SELinux: the label of the mounts cannot be applied",
            where="/linux/mountLabel",
            hint="leave it out, or boot with it",
        )
    option = (draft.config.get("annotations") or {}).get(_CONTEXT) or "context"
    if option not in _CONTEXTS:
        raise errors.InvalidConfig(f"{option!r} is none of {', '.join(_CONTEXTS)}", where=f"/annotations/{_CONTEXT}")
    if '"' in wanted:
        raise errors.InvalidConfig(f"a label with a quote: {wanted}", where="/linux/mountLabel")
    return [] if kind in _UNLABELLED else [f'{option}="{wanted}"']
