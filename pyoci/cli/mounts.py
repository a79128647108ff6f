"""pyoci mounts add, pyoci mounts remove: as in crun."""

from __future__ import annotations

from pyoci import bundle, errors, json
from pyoci.cli import common, options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ARGS = ("add|remove", "CONTAINER-ID", "FILE")
OPTIONS = ()
HELP = """\
FILE (- for stdin) holds mounts as in config.json: a list, or an object with `mounts`.  To remove only their
destinations count, the last of the list is the first to go: the topmost of those that were added there, or
one of config.json, named by a path without symlinks.  Of a list that cannot be added whole, nothing is.  What
mounts of types proc and cgroup show would not be the container's: they cannot be added.
"""


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Change the mounts."""
    what, id, path = opts.args
    container = common.find(given, id)
    mounts = read(path)
    if what == "add":
        container.mount(mounts)
    elif what == "remove":
        container.unmount([mount["destination"] for mount in mounts])
    else:
        raise errors.UsageError(f'mounts cannot "{what}"', hint="add or remove")
    common.report(container)
    return 0


def read(path: str) -> list[dict[str, Any]]:
    """The mounts of a file.  Raises errors.InvalidConfig."""
    value = json.loads(bundle.read(path), path)
    found = value.get("mounts") if isinstance(value, dict) else value
    if not isinstance(found, list) or not all(
        isinstance(mount, dict) and isinstance(mount.get("destination"), str) and mount["destination"]
        for mount in found
    ):
        raise errors.InvalidConfig(
            f"{path}: not a list of mounts with destinations",
            hint="a JSON list in [ ], as `mounts` of the specification",
        )
    return found
