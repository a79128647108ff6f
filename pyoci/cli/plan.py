"""pyoci plan: what create and start would do with a bundle, without doing it."""

from __future__ import annotations

from pyoci import cli, container, json
from pyoci.cli import common, options
from pyoci.cli.options import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyoci.plan import Plan
    from pyoci.plan.cgroup import CgroupPlan

ARGS = ("[BUNDLE]",)
OPTIONS = (
    Option("json", "print JSON"),
    Option("id", "the container's id, for its cgroup and its hooks (default: ID)", "ID"),
    options.CONFIG,
    options.NO_PIVOT,
    options.NO_NEW_KEYRING,
    options.PRESERVE_FDS,
)
HELP = """\
BUNDLE is a directory with a config.json (default: the current directory).  Nothing is made or changed.
First comes what pyoci does from outside, then, numbered, what happens from the first namespace to the
execution of the program; on the right the place in config.json that asked for it.
"""
WIDTH = 79  # the column before the pointers


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Print the plan."""
    plan = container.make_plan(
        opts.args[0] if opts.args else ".",
        id=opts.text("id") or "ID",
        config_path=opts.text("config") or None,
        preserve_fds=opts.number("preserve-fds"),
        no_pivot=opts.flag("no-pivot"),
        no_new_keyring=opts.flag("no-new-keyring"),
        cgroup_manager=common.manager(given),
    )
    cli.write(json.dumps(as_dict(plan), indent=2) + "\n" if opts.flag("json") else describe(plan))
    return 0


def describe(plan: Plan) -> str:
    """The plan for reading."""
    lines = ["on the host:", *(f"  {entry}" for entry in host_part(plan)), "", "in the container:"]
    lines += [entry(f"{number:3} {step.describe()}", step.where) for number, step in enumerate(plan.ops, 1)]
    lines += [f"warning: {warning}" for warning in plan.warnings]
    return "\n".join(lines) + "\n"


def entry(text: str, where: str) -> str:
    """One line: what, and on the right where it was asked for."""
    return f"{text:{WIDTH - 1}} {where}" if where else text


def host_part(plan: Plan) -> Iterator[str]:
    """What pyoci itself does, in its order."""
    yield f"root file system {plan.rootfs}"
    for index, name in enumerate(plan.fds):
        yield f"open descriptor {index}: {name}"
    for name, lines in (("uid_map", plan.uid_map), ("gid_map", plan.gid_map)):
        for line in lines.splitlines():
            yield entry(f"{name} {line}", "/linux/uidMappings" if name == "uid_map" else "/linux/gidMappings")
    if plan.cgroup:
        yield from cgroup_part(plan.cgroup)
    if plan.terminal:
        size = f", {plan.console_size[0]} rows, {plan.console_size[1]} columns" if plan.console_size else ""
        yield entry(f"take the master of the terminal{size}", "/process/terminal")
    for kind, hooks in plan.hooks.items():
        for index, hook in enumerate(hooks):
            yield entry(f"hook {kind}: {' '.join(hook.get('args') or [hook['path']])}", f"/hooks/{kind}/{index}")


def cgroup_part(plan: CgroupPlan) -> Iterator[str]:
    """The cgroup: its directories, and the values of its files."""
    optional = ", if permitted" if plan.optional else ""
    for directory in dict.fromkeys(plan.dirs.values()):
        yield entry(f"make cgroup v{plan.version} {directory}{optional}", "/linux/cgroupsPath")
    for write in plan.writes:
        yield entry(str(write), write.where)
    if plan.program:
        for rule in plan.devices:
            yield entry(f"device rule: {rule}", rule.where)


def as_dict(plan: Plan) -> dict[str, Any]:
    """The plan for programs."""
    return {
        "host": {
            "rootfs": plan.rootfs,
            "fds": plan.fds,
            "namespaces": plan.namespaces,
            "uidMap": plan.uid_map.splitlines(),
            "gidMap": plan.gid_map.splitlines(),
            "cgroup": cgroup_dict(plan.cgroup) if plan.cgroup else None,
            "terminal": plan.terminal,
            "consoleSize": plan.console_size,
            "hooks": plan.hooks,
        },
        "ops": [step.as_dict() for step in plan.ops],
        "warnings": plan.warnings,
    }


def cgroup_dict(plan: CgroupPlan) -> dict[str, Any]:
    """The cgroup, as in CgroupPlan."""
    return {
        "version": plan.version,
        "path": plan.path,
        "dirs": plan.dirs,
        "optional": plan.optional,
        "writes": [{"file": w.file, "value": w.value, "where": w.where} for w in plan.writes],
        "devices": [str(rule) for rule in plan.devices],
    }
