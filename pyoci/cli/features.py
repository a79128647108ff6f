"""pyoci features."""

from __future__ import annotations

import pyoci
from pyoci import cli, container_features, json
from pyoci.cli import options, version

ARGS = ()
OPTIONS = ()
HELP = """\
What pyoci can do on this machine is printed as the JSON of the OCI runtime specification (features.md).
"""


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Print the document."""
    document = container_features.document()
    document["annotations"].update({"pyoci.version": pyoci.__version__, "pyoci.commit": version.commit()})
    cli.write(json.dumps(document, indent=2) + "\n")
    return 0
