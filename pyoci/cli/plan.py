"""pyoci plan: what create and start would do with a bundle, without doing it."""

from __future__ import annotations

from pyoci import cli, container_plan, json
from pyoci.cli import common, options
from pyoci.cli.options import Option
from pyoci.plan import text

ARGS = ("[BUNDLE]",)
OPTIONS = (
    Option("json", "print JSON"),
    Option("id", "the container's id, for its cgroup and its hooks (default: ID)", "ID"),
    options.CONFIG,
    options.NO_PIVOT,
    options.NO_NEW_KEYRING,
    options.PRESERVE_FDS,
    Option("assume", "plan as on a host with it: apparmor or selinux, or both with a comma", "NAME"),
)
HELP = """\
BUNDLE is a directory with a config.json (default: the current directory).  Nothing is made or changed.
First comes what pyoci does on the host, then, numbered, what happens from the first namespace to the
execution of the program; on the right the place in config.json that asked for it.
"""


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Print the plan."""
    plan = container_plan.make_plan(
        opts.args[0] if opts.args else ".",
        id=opts.text("id") or "ID",
        config_path=opts.text("config") or None,
        preserve_fds=opts.number("preserve-fds"),
        no_pivot=opts.flag("no-pivot"),
        no_new_keyring=opts.flag("no-new-keyring"),
        cgroup_manager=common.manager(given),
        assume=opts.text("assume").split(",") if opts.text("assume") else (),
    )
    cli.write(json.dumps(text.as_dict(plan), indent=2) + "\n" if opts.flag("json") else text.render(plan))
    return 0
