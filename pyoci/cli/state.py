"""pyoci state."""

from __future__ import annotations

from pyoci import cli, json
from pyoci.cli import common, options

ARGS = ("CONTAINER-ID",)
OPTIONS = ()
HELP = """\
The state is printed as the JSON of the OCI runtime specification.
"""


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Print the state."""
    state = common.find(given, opts.args[0]).state()
    cli.write(json.dumps(state, indent=2) + "\n")
    return 0
