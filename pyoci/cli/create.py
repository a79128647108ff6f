"""pyoci create."""

from __future__ import annotations

from pyoci.cli import common, options

ARGS = ("CONTAINER-ID",)
OPTIONS = (*options.CREATE, options.NO_SUBREAPER)  # which create never is; crun takes it
HELP = """\
Everything that config.json asks for is applied, but the program does not run yet: `pyoci start`
runs it.  The program gets the descriptors 0, 1 and 2 of this command; with process.terminal set,
the terminal is handed to --console-socket.  Without root rights, a user namespace is added where
config.json asks for none.
"""


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Create the container."""
    common.report(common.make(given, opts))
    return 0
