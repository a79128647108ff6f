"""pyoci restore: a container from a checkpoint, by the criu program."""

from __future__ import annotations

from pyoci import container as containers
from pyoci.cli import checkpoint, common, options
from pyoci.cli import run as run_verb
from pyoci.cli.options import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

ARGS = ("CONTAINER-ID",)
OPTIONS = (
    *checkpoint.SHARED,
    Option("parent-path", "accepted; the checkpoint knows its parent", "DIR"),
    Option("tcp-close", "come back with TCP connections closed"),
    options.BUNDLE,
    options.CONFIG,
    options.CONSOLE_SOCKET,
    options.PID_FILE,
    options.PIDFD_SOCKET,
    options.NO_PIVOT,
    options.NO_NEW_KEYRING,
    options.DETACH,
    options.NO_SUBREAPER,
    Option("keep", "do not delete the container when it has ended"),
    Option("lsm-profile", "LSM profile to come back with", "TYPE:NAME"),
    Option("lsm-mount-context", "LSM context of its mounts to come back with", "CONTEXT"),
)
HELP = """\
The container is made anew from the bundle, and its processes go on where `pyoci checkpoint` stopped them, with
the stdin, stdout and stderr, or the terminal, of now.
"""


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Restore it."""
    if opts.flag("detach"):
        common.report(restore(given, opts))
        return 0
    return run_verb.foreground(opts, lambda console: restore(given, opts, console))


def restore(
    given: options.Parsed, opts: options.Parsed, console: Callable[[int], None] | None = None
) -> containers.Container:
    """The container, running.  console: takes the master of its pty, if one stays to."""
    return containers.Container.restore(
        opts.args[0],
        checkpoint.wanted(opts),
        criu=given.text("criu"),
        console=console,
        **common.places(given, opts),
    )
