"""pyoci ps: the processes of a container, as the ps program shows them, or their ids."""

from __future__ import annotations

from pyoci import cli, errors, json
from pyoci.cli import common, options
from pyoci.cli.options import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

ARGS = ("CONTAINER-ID", "[PS-OPTIONS]", "...")
OPTIONS = (Option("format", "table (default) or json", "FORMAT", short="f", choices=("table", "json")),)
HELP = """\
The table is that of the ps program, called with PS-OPTIONS (default: -ef), with the lines of other
processes left out; PS-OPTIONS have to leave the column PID in.  JSON is a list of process ids.  The
ids are those on the host.
"""
DEFAULT = ("-ef",)
PATH = "/usr/local/bin:/usr/bin:/bin"  # engines call us without one


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Print the processes."""
    pids = common.find(given, opts.args[0]).pids()
    if opts.text("format") == "json":
        cli.write(json.dumps(pids) + "\n")
    else:
        cli.write(select(call(opts.args[1:] or DEFAULT), pids))
    return 0


def call(arguments: Sequence[str]) -> str:
    """What the ps program prints.  Raises errors.SetupError."""
    import os
    import shutil
    import subprocess

    program = shutil.which("ps", path=os.environ.get("PATH") or PATH)
    if program is None:
        raise errors.SetupError("ps: executable file not found in $PATH", hint="install procps, or use --format json")
    done = subprocess.run([program, *arguments], capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
        raise errors.SetupError(f"ps {' '.join(arguments)}: {said[-1] if said else f'exit status {done.returncode}'}")
    return done.stdout.decode("utf-8", "backslashreplace")


def select(table: str, pids: Collection[int]) -> str:
    """The header of a table of ps, and the lines of these processes.  Raises errors.SetupError without a PID column."""
    header, *lines = table.splitlines() or [""]
    columns = header.split()
    if "PID" not in columns:
        raise errors.SetupError("the output of ps has no column PID", hint="add it to the options of ps: -o pid,comm")
    index = columns.index("PID")
    wanted = {str(pid) for pid in pids}
    kept = [line for line in lines if line.split()[index : index + 1] and line.split()[index] in wanted]
    return "\n".join([header, *kept]) + "\n"
