"""pyoci version, pyoci --version: in the form that dockerd reads ("NAME version X", "commit: X", "spec: X")."""

from __future__ import annotations

import pyoci
from pyoci import cli
from pyoci.cli import options

ARGS = ()
OPTIONS = ()
HELP = ""
SPEC = "1.3.0"


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Print it."""
    cli.write(f"pyoci version {pyoci.__version__}\ncommit: {commit()}\nspec: {SPEC}\n")
    return 0


def commit() -> str:
    """The commit this was built from: the build writes pyoci/_commit.py, a checkout has none."""
    try:
        module = __import__("pyoci._commit", fromlist=["COMMIT"])
    except ImportError:
        return "unknown"
    return str(module.COMMIT)
